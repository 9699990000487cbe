//! One interface.

use std::fmt;

use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, Prop,
    XdpAttached,
};

use super::mac_of;
use crate::model::{InterfaceCounters, Mac};

/// An interface, as RTM_NEWLINK describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in this network namespace, not used again unless somebody asks for that.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Further names (`ip link property add altname`).
    pub alternative_names: Vec<String>,
    /// What it is.
    pub kind: Kind,
    /// Whether its packets begin with an Ethernet header.
    pub ethernet: bool,
    /// Its own MAC address.
    pub mac: Option<Mac>,
    /// Longest packet, without the Ethernet header, in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether something answers at the other end.
    pub carrier: bool,
    /// Index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Index of the interface that carries its frames, where it is one on top of another.
    pub carried_by: Option<u32>,
    /// Who holds its XDP slot.
    pub xdp: Option<XdpSlot>,
    /// What it has counted.
    pub counters: InterfaceCounters,
}

/// What an interface is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kind {
    /// A network card, or what a virtual machine takes for one.
    #[default]
    Card,
    /// A wireless card.
    Wireless,
    /// The loopback interface.
    Loopback,
    /// A bridge; its ports have it as their master.
    Bridge,
    /// A bond, or a team; likewise.
    Bond,
    /// One end of a virtual cable.
    Veth,
    /// A VLAN of another interface.
    Vlan,
    /// Another one on top of an interface: `macvlan`, `dsa` and the like.
    Stacked(String),
    /// Any other, by the kernel's name for its kind: `wireguard`, `tun`, ...
    Other(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Card => "Ethernet card",
            Self::Wireless => "wireless card",
            Self::Loopback => "loopback",
            Self::Bridge => "bridge",
            Self::Bond => "bond",
            Self::Veth => "veth",
            Self::Vlan => "VLAN",
            Self::Stacked(kind) | Self::Other(kind) => kind,
        })
    }
}

/// What is at an interface's XDP slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpSlot {
    /// In which mode.
    pub mode: XdpMode,
    /// The kernel's number of the program; 0 where it names none, as with several at once.
    pub program: u32,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// In the card.
    Offloaded,
    /// In several places at once.
    Several,
}

impl XdpMode {
    /// As messages name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
            Self::Several => "several modes",
        }
    }

    /// As `ip link set` names it.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Native | Self::Several => "xdpdrv",
            Self::Generic => "xdpgeneric",
            Self::Offloaded => "xdpoffload",
        }
    }
}

impl Link {
    /// Takes the kernel's description apart; `None` for one without a name, which no kernel gives.
    pub(super) fn of(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        let ethernet = matches!(header.link_layer_type, LinkLayerType::Ether);
        let loopback = matches!(header.link_layer_type, LinkLayerType::Loopback);
        let mut link = Self {
            index: header.index,
            kind: if loopback { Kind::Loopback } else { Kind::Card },
            ethernet: ethernet || loopback,
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            ..Self::default()
        };
        if !link.ethernet {
            link.kind = Kind::Other("not Ethernet".to_owned());
        }
        let (mut below, mut below_is_elsewhere) = (None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::PropList(properties) => {
                    link.alternative_names.extend(properties.iter().filter_map(alternative_name));
                }
                LinkAttribute::Address(octets) => link.mac = mac_of(octets),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Link(index) => below = Some(*index),
                // Its index is one of another namespace.
                LinkAttribute::LinkNetNsId(_) => below_is_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(kind).unwrap_or(link.kind);
                }
                LinkAttribute::Xdp(parts) => link.xdp = slot(parts),
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
        let stacked = matches!(link.kind, Kind::Vlan | Kind::Stacked(_));
        link.carried_by = below.filter(|_| stacked && !below_is_elsewhere);
        (!link.name.is_empty()).then_some(link)
    }

    /// Whether it has this name, be it an alternative one.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }

    /// Number of the program in the driver.
    pub fn native_program(&self) -> Option<u32> {
        let in_driver = |slot: &XdpSlot| matches!(slot.mode, XdpMode::Native | XdpMode::Several);
        self.xdp.filter(in_driver).map(|slot| slot.program)
    }
}

fn alternative_name(property: &Prop) -> Option<String> {
    match property {
        Prop::AltIfName(name) => Some(name.clone()),
        _ => None,
    }
}

fn kind(info: &LinkInfo) -> Option<Kind> {
    let LinkInfo::Kind(kind) = info else { return None };
    Some(match kind {
        InfoKind::Bridge => Kind::Bridge,
        InfoKind::Bond | InfoKind::Team => Kind::Bond,
        InfoKind::Veth => Kind::Veth,
        InfoKind::Vlan => Kind::Vlan,
        InfoKind::MacVlan
        | InfoKind::MacVtap
        | InfoKind::IpVlan
        | InfoKind::IpVtap
        | InfoKind::MacSec
        | InfoKind::Dsa
        | InfoKind::RmNet => Kind::Stacked(kind.to_string()),
        other => Kind::Other(other.to_string()),
    })
}

fn slot(parts: &[LinkXdp]) -> Option<XdpSlot> {
    let (mut mode, mut program) = (None, 0);
    for part in parts {
        match part {
            LinkXdp::Attached(attached) => {
                mode = match attached {
                    XdpAttached::Driver => Some(XdpMode::Native),
                    XdpAttached::SocketBuffer => Some(XdpMode::Generic),
                    XdpAttached::Hardware => Some(XdpMode::Offloaded),
                    XdpAttached::Multiple => Some(XdpMode::Several),
                    _ => None,
                };
            }
            LinkXdp::ProgId(id) => program = *id,
            // With several at once: the one in the driver is in our way.
            LinkXdp::DrvProgId(id) if program == 0 => program = *id,
            _ => {}
        }
    }
    mode.map(|mode| XdpSlot { mode, program })
}
