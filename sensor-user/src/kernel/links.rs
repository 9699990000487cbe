//! The links of this network namespace, as they come, change and go.
//!
//! An event only says that something has changed; what there is, the dump says that follows it. So
//! nothing hangs on the order of events, and one that gets lost costs no more than time.

use std::{
    io,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{
            InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
            Prop, XdpAttached,
        },
    },
    proto::sys::SocketAddr,
};
use tokio::time::timeout;

use crate::model::InterfaceCounters;

/// Without an event the links are looked at this often: a program can be taken off a link without
/// one.
const LOOK: Duration = Duration::from_secs(5);

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index, never used twice while the namespace lives unless somebody asks for that.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Further names (`ip link property add altname`).
    pub alternative_names: Vec<String>,
    /// Whether it is switched on.
    pub up: bool,
    /// Largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether its packets begin with an Ethernet header.
    pub ethernet: bool,
    /// Index of the bridge or bond that it is a port of.
    pub controller: Option<u32>,
    /// Index of the link that carries its frames, where it is a VLAN or the like on top of that.
    pub carried_by: Option<u32>,
    /// Number of the program that holds its native XDP slot.
    pub xdp_program: Option<u32>,
    /// What it has counted.
    pub counters: InterfaceCounters,
}

/// All links at one time.
#[derive(Debug, Clone)]
pub struct Links {
    /// They.
    pub all: Vec<Link>,
    /// The kernel was asked right after this.
    pub asked: Instant,
}

impl Links {
    /// The link with an index.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.all.iter().find(|link| link.index == index)
    }

    /// The link with a name, which may be an alternative one.
    pub fn find(&self, name: &str) -> Option<&Link> {
        let is_named = |link: &&Link| {
            link.name == name || link.alternative_names.iter().any(|other| other == name)
        };
        self.all.iter().find(is_named)
    }

    /// Where frames pass two links on their way, which of the two is to count them: a bridge or bond rather
    /// than its ports, a link rather than what lies on top of it.
    pub fn covering(&self, a: u32, b: u32) -> Option<u32> {
        self.last_hop(a, b)
            .map(|hop| hop.covering(a, b))
            .or_else(|| self.last_hop(b, a).map(|hop| hop.covering(b, a)))
    }

    /// How frames that enter at one link get to another, if they do.
    fn last_hop(&self, from: u32, to: u32) -> Option<Hop> {
        let mut reached = vec![from];
        let mut next = 0;
        while let Some(&at) = reached.get(next) {
            next += 1;
            let controller = self.get(at).and_then(|link| link.controller);
            let above = self.all.iter().filter(|link| link.carried_by == Some(at));
            let hops = controller
                .map(|index| (index, Hop::Controller))
                .into_iter()
                .chain(above.map(|link| (link.index, Hop::Upwards)));
            for (index, hop) in hops {
                if index == to {
                    return Some(hop);
                }
                if !reached.contains(&index) {
                    reached.push(index);
                }
            }
        }
        None
    }
}

#[derive(Debug, Clone, Copy)]
enum Hop {
    Controller,
    Upwards,
}

impl Hop {
    const fn covering(self, low: u32, high: u32) -> u32 {
        match self {
            Self::Controller => high,
            Self::Upwards => low,
        }
    }
}

/// Why there is no news of the links.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// The kernel gives no socket.
    #[error("can't ask the kernel about network interfaces: {0}")]
    Socket(#[from] io::Error),
    /// It refuses to list them.
    #[error("the kernel does not list the network interfaces: {0}")]
    Refused(#[from] rtnetlink::Error),
    /// It has closed the socket.
    #[error("the kernel says nothing more of network interfaces")]
    Ended,
}

/// Follows the links of the network namespace of the thread that opened it.
pub struct LinkFollower {
    handle: Handle,
    events: futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

impl LinkFollower {
    /// Opens it; nothing that happens from here on is missed. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, LinksError> {
        let (connection, handle, events) = new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        let events = events.map(|(message, _from): (_, SocketAddr)| message).boxed();
        Ok(Self { handle, events })
    }

    /// All links as they are.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn links(&mut self) -> Result<Links, LinksError> {
        list(&self.handle).await
    }

    /// Waits until something may have changed; returns the links that were deleted, as they were at
    /// their end.
    ///
    /// # Errors
    ///
    /// When there will be no more news.
    pub async fn change(&mut self) -> Result<Vec<Link>, LinksError> {
        let mut gone = Vec::new();
        match timeout(LOOK, self.events.next()).await {
            Err(_nothing_happened) => return Ok(gone),
            Ok(None) => return Err(LinksError::Ended),
            Ok(Some(first)) => gone.extend(deleted(first)),
        }
        // One dump for all that has happened so far.
        while let Ok(event) = timeout(Duration::ZERO, self.events.next()).await {
            gone.extend(deleted(event.ok_or(LinksError::Ended)?));
        }
        Ok(gone)
    }
}

/// All links as they are.
pub(super) async fn list(handle: &Handle) -> Result<Links, LinksError> {
    let asked = Instant::now();
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    Ok(Links { all: messages.into_iter().map(link).collect(), asked })
}

fn deleted(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Link> {
    match message.payload {
        // A bridge says so too, in a family of its own, of a port that leaves it.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
            if message.header.interface_family == AddressFamily::Unspec =>
        {
            Some(link(message))
        }
        _ => None,
    }
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        // The loopback interface has the header too, with zeroes.
        ethernet: matches!(
            message.header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Loopback
        ),
        ..Link::default()
    };
    let (mut below, mut is_stacked, mut is_elsewhere) = (None, false, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::PropList(properties) => {
                link.alternative_names.extend(properties.into_iter().filter_map(|p| match p {
                    Prop::AltIfName(name) => Some(name),
                    _ => None,
                }));
            }
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Link(index) => below = Some(index),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(info) => {
                is_stacked = info.iter().any(lies_on_another);
            }
            LinkAttribute::Xdp(xdp) => link.xdp_program = native_program(&xdp),
            LinkAttribute::Stats64(stats) => {
                link.counters = InterfaceCounters {
                    name: String::new(),
                    rx_packets: stats.rx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_packets: stats.tx_packets,
                    tx_bytes: stats.tx_bytes,
                    // As `/proc/net/dev` counts them.
                    dropped: stats.rx_dropped + stats.rx_missed_errors + stats.tx_dropped,
                };
            }
            _ => {}
        }
    }
    link.counters.name.clone_from(&link.name);
    // A veth and a tunnel name their other end by the same attribute.
    link.carried_by = below.filter(|_| is_stacked && !is_elsewhere);
    link
}

/// Whether a link of this kind sends and receives what another link carries for it.
fn lies_on_another(info: &LinkInfo) -> bool {
    use InfoKind::{Dsa, IpVlan, IpVtap, MacSec, MacVlan, MacVtap, RmNet, Vlan};
    matches!(
        info,
        LinkInfo::Kind(Vlan | MacVlan | MacVtap | IpVlan | IpVtap | MacSec | Dsa | RmNet)
    )
}

/// With a single program the kernel names it as `ProgId`, with several by their modes.
fn native_program(xdp: &[LinkXdp]) -> Option<u32> {
    let native = xdp.iter().find_map(|entry| match entry {
        LinkXdp::DrvProgId(id) => Some(*id),
        _ => None,
    });
    native.or_else(|| {
        let in_driver = xdp.contains(&LinkXdp::Attached(XdpAttached::Driver));
        let program = xdp.iter().find_map(|entry| match entry {
            LinkXdp::ProgId(id) => Some(*id),
            _ => None,
        });
        program.filter(|_| in_driver)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(index: u32, controller: Option<u32>, carried_by: Option<u32>) -> Link {
        Link { index, controller, carried_by, ..Link::default() }
    }

    fn links<const N: usize>(all: [Link; N]) -> Links {
        Links { all: all.into(), asked: Instant::now() }
    }

    #[test]
    fn the_one_that_sees_the_others_frames_is_found() {
        // eth1 and eth2 are ports of br3; vlan5 lies on eth4 and is a port of br3 too.
        let links = links([
            port(1, Some(3), None),
            port(2, Some(3), None),
            port(3, None, None),
            port(4, None, None),
            port(5, Some(3), Some(4)),
            port(6, None, Some(3)),
        ]);
        assert_eq!(links.covering(1, 3), Some(3));
        assert_eq!(links.covering(3, 2), Some(3));
        assert_eq!(links.covering(1, 2), None);
        assert_eq!(links.covering(4, 5), Some(4));
        assert_eq!(links.covering(5, 3), Some(3));
        // Frames pass both, so only one may count: the bridge at the end.
        assert_eq!(links.covering(4, 3), Some(3));
        assert_eq!(links.covering(6, 3), Some(3));
        assert_eq!(links.covering(6, 1), Some(1));
    }

    #[test]
    fn a_circle_ends() {
        let links = links([port(1, Some(2), None), port(2, Some(1), None)]);
        assert_eq!(links.covering(1, 7), None);
    }
}
