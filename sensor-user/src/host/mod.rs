//! This machine's network, as far as a configuration depends on it: interfaces and how they are
//! stacked, addresses, the way out, neighbours, leases, what the drivers can do.
//!
//! What the kernel says is read here and taken apart by functions that do no I/O. Names that come
//! from other programs' files, and so from the devices, are cleaned before anyone sees them.

mod features;
mod follow;
mod leases;
mod link;
mod neighbours;
mod netlink;
mod stacking;
mod tc;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::LinkMessage,
    neighbour::NeighbourMessage,
    route::{RouteAttribute, RouteMessage, RouteType},
};

pub use self::{
    features::{Driver, XdpSupport, driver},
    follow::{LinkFollower, LinksError},
    leases::{Lease, leases},
    link::{Kind, Link, XdpMode, XdpSlot},
    neighbours::{Doubt, Neighbour, neighbours},
    stacking::{Overlap, overlaps, refuse_overlaps},
    tc::{FilterProgram, TcFilter, TcHook, filters, ingress_qdisc, remove_bpf_filter},
};
use crate::model::Mac;

/// What this network namespace has.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its interfaces.
    pub links: Vec<Link>,
    /// Addresses with the networks they are in, by interface index.
    pub addresses: Vec<(u32, IpNet)>,
    /// Indexes of the interfaces that a default route leaves by.
    pub ways_out: Vec<u32>,
    /// Who was heard of lately.
    pub neighbours: Vec<Neighbour>,
}

impl Host {
    /// Looks at the network namespace of the calling thread. Takes no privileges.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer, or in a way that makes no sense.
    pub fn look() -> io::Result<Self> {
        let mut host = Self::interfaces()?;
        netlink::list(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
            if let RouteNetlinkMessage::NewAddress(address) = message {
                host.addresses.extend(address_of(&address));
            }
        })?;
        netlink::list(RouteNetlinkMessage::GetRoute(RouteMessage::default()), |message| {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                host.ways_out.extend(ways_out(&route));
            }
        })?;
        netlink::list(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), |message| {
            if let RouteNetlinkMessage::NewNeighbour(neighbour) = message {
                host.neighbours.extend(Neighbour::of(&neighbour));
            }
        })?;
        Ok(host)
    }

    /// Looks at the interfaces only.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look).
    pub fn interfaces() -> io::Result<Self> {
        let mut links = Vec::new();
        netlink::list(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                links.extend(Link::of(&link));
            }
        })?;
        let wireless = features::wireless();
        for link in links.iter_mut().filter(|link| wireless.contains(&link.index)) {
            link.kind = Kind::Wireless;
        }
        Ok(Self { links, ..Self::default() })
    }

    /// The interface of a name, which may be an alternative one.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.is_called(name))
    }

    /// The interface of an index.
    pub fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The interfaces that have this one as their master: ports of a bridge, members of a bond.
    pub fn ports(&self, master: &Link) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.master == Some(master.index))
    }

    /// The addresses of an interface.
    pub fn addresses(&self, link: &Link) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().filter(|(index, _)| *index == link.index).map(|(_, net)| *net)
    }

    /// Whether a default route leaves by this interface.
    pub fn is_way_out(&self, link: &Link) -> bool {
        self.ways_out.contains(&link.index)
    }
}

/// Who holds the XDP slot of an interface of the calling thread's network namespace.
///
/// # Errors
///
/// When the kernel does not answer, as for an interface that is gone.
pub fn xdp_slot(ifindex: u32) -> io::Result<Option<XdpSlot>> {
    let mut question = LinkMessage::default();
    question.header.index = ifindex;
    let answers = netlink::one(RouteNetlinkMessage::GetLink(question))?;
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Link::of(link)?.xdp,
        _ => None,
    }))
}

/// Interface and address; of the two that a point-to-point link has, the local one.
fn address_of(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    let net = IpNet::new(found?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

/// The interfaces that a default route leaves by; none for other routes.
fn ways_out(message: &RouteMessage) -> Vec<u32> {
    let header = &message.header;
    if header.destination_prefix_length != 0 || header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut indexes = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => indexes.push(*index),
            RouteAttribute::MultiPath(hops) => {
                indexes.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    indexes
}

/// A device's MAC address; `None` for groups, for nobody, and for other kinds of addresses.
fn mac_of(octets: &[u8]) -> Option<Mac> {
    let mac = Mac(octets.try_into().ok()?);
    (!mac.is_group() && mac != Mac([0; 6])).then_some(mac)
}

/// Whether an address is of the kind that LANs behind a router have (RFC 1918, RFC 4193).
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::is_private(&v4),
        IpAddr::V6(v6) => Ipv6Addr::is_unique_local(&v6),
    }
}

#[cfg(test)]
pub(crate) mod tests;
