//! The neighbour tables (ARP and IPv6 neighbour discovery) behind watched links.

use std::{collections::HashSet, io, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::{Host, mac_of, netlink};
use crate::model::Mac;

/// Most entries that are looked at together. The kernel keeps 1024 for each family unless told otherwise
/// (`gc_thresh3`), and anything on the LAN can fill them.
const MAX_ENTRIES: usize = 16_384;

/// Who answers for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface that it is behind.
    pub interface: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// Its IP address.
    pub address: IpAddr,
    /// How little is known of whether it is still so; the smallest is the best.
    pub doubt: Doubt,
}

/// First whether it has answered lately, then since when it has not, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// It has not answered lately.
    pub stale: bool,
    /// Since its last answer.
    pub ticks: u32,
}

/// The neighbours behind these links, and behind those that show the same frames: their VLANs, and the bridge
/// or bond that they belong to.
///
/// # Errors
///
/// When the kernel does not answer, or in a way that makes no sense.
pub fn neighbours(watched: &[String]) -> io::Result<Vec<Neighbour>> {
    let host = Host::interfaces()?;
    let watched: Vec<u32> =
        watched.iter().filter_map(|name| host.link(name)).map(|link| link.index).collect();
    let is_behind = |index: &u32| {
        watched.iter().any(|own| own == index || host.counting(*own, *index).is_some())
    };
    let behind: HashSet<u32> = host.links.iter().map(|link| link.index).filter(is_behind).collect();
    let mut found = Vec::new();
    netlink::list(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), |message| {
        let RouteNetlinkMessage::NewNeighbour(message) = message else { return };
        found.extend(Neighbour::of(&message).filter(|found| behind.contains(&found.interface)));
        if found.len() >= 2 * MAX_ENTRIES {
            keep_best(&mut found, MAX_ENTRIES);
        }
    })?;
    keep_best(&mut found, MAX_ENTRIES);
    Ok(found)
}

impl Neighbour {
    /// `None` for what has no unicast MAC address, or has not answered.
    pub(super) fn of(message: &NeighbourMessage) -> Option<Self> {
        let stale = match message.header.state {
            NeighbourState::Reachable | NeighbourState::Permanent => false,
            NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => true,
            _ => return None,
        };
        let (mut address, mut mac, mut ticks) = (None, None, u32::MAX);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    address = Some(IpAddr::from(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    address = Some(IpAddr::from(*v6));
                }
                NeighbourAttribute::LinkLayerAddress(octets) => mac = mac_of(octets),
                NeighbourAttribute::CacheInfo(info) => ticks = info.confirmed,
                _ => {}
            }
        }
        let interface = message.header.ifindex;
        Some(Self { interface, mac: mac?, address: address?, doubt: Doubt { stale, ticks } })
    }
}

fn keep_best(found: &mut Vec<Neighbour>, most: usize) {
    if found.len() > most {
        found.select_nth_unstable_by_key(most, |neighbour| neighbour.doubt);
        found.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netlink_packet_route::neighbour::NeighbourHeader;

    use super::*;

    fn message(state: NeighbourState, octets: &[u8]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader { ifindex: 1, state, ..NeighbourHeader::default() };
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(Ipv4Addr::new(10, 0, 0, 1))),
            NeighbourAttribute::LinkLayerAddress(octets.to_vec()),
        ];
        message
    }

    #[test]
    fn only_who_has_answered_is_a_neighbour() {
        let mac = [2, 0, 0, 0, 0, 1];
        let of = |state| Neighbour::of(&message(state, &mac)).map(|found| found.doubt.stale);
        assert_eq!(of(NeighbourState::Reachable), Some(false));
        assert_eq!(of(NeighbourState::Stale), Some(true));
        assert_eq!(of(NeighbourState::Incomplete), None);
        assert_eq!(of(NeighbourState::Failed), None);
        assert_eq!(of(NeighbourState::Noarp), None, "multicast and loopback");
        assert_eq!(Neighbour::of(&message(NeighbourState::Reachable, &mac[..5])), None);
        assert_eq!(Neighbour::of(&message(NeighbourState::Reachable, &[1; 6])), None);
        assert_eq!(Neighbour::of(&message(NeighbourState::Reachable, &[0; 6])), None, "nobody");
    }

    #[test]
    fn the_freshest_are_kept() {
        let entry = |last: u8, stale, ticks| Neighbour {
            interface: 1,
            mac: Mac([2, 0, 0, 0, 0, last]),
            address: Ipv4Addr::new(10, 0, 0, last).into(),
            doubt: Doubt { stale, ticks },
        };
        let mut found =
            vec![entry(1, true, 1), entry(2, false, 9), entry(3, true, 2), entry(4, false, 1)];
        keep_best(&mut found, 3);
        let mut kept: Vec<u8> = found.iter().map(|neighbour| neighbour.mac.0[5]).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2, 4]);
    }
}
