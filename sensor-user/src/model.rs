//! What flows from the join to the sinks: one [`EpochRecord`] per epoch.
//!
//! Nothing here knows the kernel, HTTP, Prometheus or SQL.

mod labels;

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use sensor_common::layout::NonIp;
pub use sensor_common::layout::{Direction, Tally};
use serde::{Deserialize, Serialize};

pub use self::labels::{CLOCK_STEP, event_name};

/// A device's index in the [`Inventory`](crate::join::devices::Inventory), stable while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u32);

/// Where a far address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Country {
    /// ISO 3166 alpha-2 code, two ASCII capitals.
    Iso([u8; 2]),
    /// Class of a special-purpose range, lower case: `private`, `multicast`, ...
    Special(&'static str),
    /// The database has no entry: `ZZ`.
    NoEntry,
    /// The frame carries no IP address, or it was counted without one: empty.
    NoAddress,
}

impl Country {
    /// The label as DESIGN and the common JSON form have it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Iso(code) => std::str::from_utf8(code).unwrap_or("ZZ"),
            Self::Special(class) => class,
            Self::NoEntry => "ZZ",
            Self::NoAddress => "",
        }
    }

    /// True where the policy has a say: a real country, or an address that no database knows.
    pub fn is_territorial(&self) -> bool {
        matches!(self, Self::Iso(_) | Self::NoEntry)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the join found out about a far address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribution {
    /// Country or class of the special-purpose range.
    pub country: Country,
    /// Autonomous system number, 0 for none.
    pub asn: u32,
    /// Name of the autonomous system, empty for none.
    pub operator: Arc<str>,
    /// The most specific of the watched, country and operator networks, or a named one; `None` without an
    /// address.
    pub prefix: Option<IpNet>,
    /// Name of the network by the configuration, empty for none.
    pub network: Arc<str>,
    /// True where the address lies in a network that the policy watches.
    pub watched: bool,
}

impl Attribution {
    /// One of which nothing but the country is known.
    pub fn country_alone(country: Country) -> Self {
        Self {
            country,
            asn: 0,
            operator: Arc::from(""),
            prefix: None,
            network: Arc::from(""),
            watched: false,
        }
    }
}

/// How much detail the kernel could keep for a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Full key, in the flow table.
    Flow,
    /// /24 or /48 and no port, in the coarse map.
    Coarse,
    /// Device and direction only.
    Overflow,
}

/// What a frame carried, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// IP protocol number (IANA "Assigned Internet Protocol Numbers").
    Ip(u8),
    /// A frame without IP: `arp`, `lldp`, `eapol` or `other`.
    NonIp(&'static str),
    /// A malformed or truncated frame, with the reason.
    Unparsed(&'static str),
    /// Unknown: the packet was counted for its device alone.
    Unknown,
    /// As [`Protocol::Ip`], of a packet that the gateway made in the far end's name to reject another one.
    Rejected(u8),
    /// As [`Protocol::Ip`], of an IPv6 packet that its destination sends on to another one, by a routing header.
    Routed(u8),
}

impl Protocol {
    /// Whether a frame of this kind may carry anything to anywhere: its address could not be read, or it has none
    /// and its kind is not known.
    pub fn is_opaque(&self) -> bool {
        match self {
            Self::Unparsed(_) => true,
            Self::NonIp(kind) => *kind == NonIp::name(NonIp::Other as u8),
            Self::Ip(_) | Self::Unknown | Self::Rejected(_) | Self::Routed(_) => false,
        }
    }
}

/// The form of the common JSON form: IANA's keyword in lower case, else the number; what is special about it
/// before a colon.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyword = match self {
            Self::Ip(0) => "hopopt",
            Self::Ip(1) => "icmp",
            Self::Ip(2) => "igmp",
            Self::Ip(4) => "ipv4",
            Self::Ip(6) => "tcp",
            Self::Ip(17) => "udp",
            Self::Ip(33) => "dccp",
            Self::Ip(41) => "ipv6",
            Self::Ip(43) => "ipv6-route",
            Self::Ip(44) => "ipv6-frag",
            Self::Ip(46) => "rsvp",
            Self::Ip(47) => "gre",
            Self::Ip(50) => "esp",
            Self::Ip(51) => "ah",
            Self::Ip(58) => "ipv6-icmp",
            Self::Ip(59) => "ipv6-nonxt",
            Self::Ip(60) => "ipv6-opts",
            Self::Ip(89) => "ospfigp",
            Self::Ip(103) => "pim",
            Self::Ip(108) => "ipcomp",
            Self::Ip(112) => "vrrp",
            Self::Ip(115) => "l2tp",
            Self::Ip(132) => "sctp",
            Self::Ip(135) => "mobility",
            Self::Ip(136) => "udplite",
            Self::Ip(number) => return write!(f, "{number}"),
            Self::NonIp(name) => name,
            Self::Unparsed(reason) => return write!(f, "unparsed:{reason}"),
            Self::Rejected(number) => return write!(f, "rejected:{}", Self::Ip(*number)),
            Self::Routed(number) => return write!(f, "routed:{}", Self::Ip(*number)),
            Self::Unknown => "unknown",
        };
        f.write_str(keyword)
    }
}

/// One joined row of an epoch.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Whose traffic it is.
    pub device: DeviceId,
    /// Sent by the device, or received.
    pub direction: Direction,
    /// How much of the key the kernel could keep.
    pub level: Level,
    /// Far address in full (network address of the /24 or /48 at [`Level::Coarse`]).
    pub address: Option<IpAddr>,
    /// What the join found.
    pub attribution: Attribution,
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the far end, host order; 0 for none.
    pub port: u16,
    /// Outermost VLAN ID; `None` for untagged.
    pub vlan: Option<u16>,
    /// Packets, bytes and payload bytes of this epoch.
    pub tally: Tally,
    /// First packet, Unix time in nanoseconds.
    pub first_seen: u64,
}

/// The books of one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochBooks {
    /// Counted at the programs' entry.
    pub seen: Tally,
    /// Counted with the full key.
    pub attributed: Tally,
    /// Counted under the coarser key.
    pub coarse: Tally,
    /// Counted for the device alone or in the total of unknown devices.
    pub overflow: Tally,
    /// Malformed or truncated.
    pub unparsed: Tally,
}

impl EpochBooks {
    /// Adds another epoch's.
    pub const fn add(&mut self, other: &Self) {
        self.seen.add(&other.seen);
        self.attributed.add(&other.attributed);
        self.coarse.add(&other.coarse);
        self.overflow.add(&other.overflow);
        self.unparsed.add(&other.unparsed);
    }

    /// The identity seen = attributed + coarse + overflow + unparsed, in packets and bytes.
    pub fn closed(&self) -> bool {
        let parts = [&self.attributed, &self.coarse, &self.overflow, &self.unparsed];
        // In 128 bits: a damaged file may say anything.
        let sum = |what: fn(&Tally) -> u64| parts.iter().map(|t| u128::from(what(t))).sum::<u128>();
        u128::from(self.seen.packets) == sum(|t| t.packets)
            && u128::from(self.seen.bytes) == sum(|t| t.bytes)
    }
}

/// Counters of one watched interface, as its driver keeps them, since the sensor attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCounters {
    /// Interface name.
    pub name: String,
    /// Packets received by the interface.
    pub rx_packets: u64,
    /// Bytes received by the interface, as the driver counts them.
    pub rx_bytes: u64,
    /// Packets sent by the interface.
    pub tx_packets: u64,
    /// Bytes sent by the interface.
    pub tx_bytes: u64,
    /// Packets dropped on receive and transmit.
    pub dropped: u64,
}

/// The counters of a link that is watched, since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkReading {
    /// Index of the link.
    pub ifindex: u32,
    /// Its counters, under the interface's name in the configuration.
    pub counters: InterfaceCounters,
}

impl InterfaceCounters {
    /// Adds other counters of the same interface, which may come from a damaged file.
    pub const fn add(&mut self, more: &Self) {
        self.rx_packets = self.rx_packets.saturating_add(more.rx_packets);
        self.rx_bytes = self.rx_bytes.saturating_add(more.rx_bytes);
        self.tx_packets = self.tx_packets.saturating_add(more.tx_packets);
        self.tx_bytes = self.tx_bytes.saturating_add(more.tx_bytes);
        self.dropped = self.dropped.saturating_add(more.dropped);
    }

    /// What was counted since an earlier reading.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            name: self.name.clone(),
            rx_packets: self.rx_packets.saturating_sub(then.rx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(then.rx_bytes),
            tx_packets: self.tx_packets.saturating_sub(then.tx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(then.tx_bytes),
            dropped: self.dropped.saturating_sub(then.dropped),
        }
    }
}

/// How often the kernel side took a path off the main one, in one epoch.
pub type Outcomes = Vec<(&'static str, u64)>;

/// How full a table of the kernel side was in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableUse {
    /// Which one.
    pub table: &'static str,
    /// Entries taken.
    pub entries: u64,
    /// Entries there are.
    pub capacity: u64,
}

/// Everything one epoch brought, joined.
#[derive(Debug, Clone)]
pub struct EpochRecord {
    /// The kernel's epoch number.
    pub epoch: u32,
    /// When the epoch was flipped away, Unix time in nanoseconds.
    pub ended: u64,
    /// One row per key.
    pub flows: Vec<Flow>,
    /// The balance.
    pub books: EpochBooks,
    /// Whether that is a fault. Of a part of an epoch that was read while it went on it need not be closed.
    pub open: bool,
    /// Named events of the kernel side: slots claimed, spills, quota hits, unparsed by reason.
    pub outcomes: Outcomes,
    /// How full the tables were.
    pub tables: Vec<TableUse>,
    /// The interfaces' own counters, cumulative.
    pub interfaces: Vec<InterfaceCounters>,
    /// The counters of the links that are watched now, from which an heir of the sensor goes on.
    pub links: Vec<LinkReading>,
}

/// A MAC address (EUI-48), in the order of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Stands for no address in many programs, and is no station's although its block is assigned.
    pub const ZERO: Self = Self([0; 6]);

    /// The U/L bit (IEEE 802): set in the random addresses that phones use.
    pub const fn is_local(self) -> bool {
        self.0[0] & 0x02 != 0
    }

    /// The I/G bit: a multicast or broadcast address.
    pub const fn is_group(self) -> bool {
        self.0[0] & 0x01 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The form is not six pairs of hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no MAC address; write six pairs of hex digits, like 02:1a:2b:3c:4d:5e", .0.escape_debug())]
pub struct BadMac(String);

impl std::str::FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(64).collect());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_bad_digit| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
    }
}

/// What kind of entry a device is in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Named in the configuration.
    Configured,
    /// A MAC address that the configuration does not know.
    Unknown,
    /// Frames to a multicast or broadcast MAC address; they have no single receiver.
    Group,
    /// What could not be told apart: unknown devices beyond the bound.
    Pool,
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Configured, Self::Unknown, Self::Group, Self::Pool];

    /// The word in metrics and the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Unknown => "unknown",
            Self::Group => "multicast",
            Self::Pool => "pool",
        }
    }
}

/// A device as the sinks show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its [`DeviceId`] is its place in the inventory's list.
    pub id: DeviceId,
    /// Name from the configuration, else by vendor and MAC address; no two devices share one.
    pub name: Arc<str>,
    /// Its MAC addresses; empty for the pool, the broadcast address for all group addresses.
    pub macs: Vec<Mac>,
    /// Vendor by OUI of the first universally administered MAC address; empty where unknown.
    pub vendor: Arc<str>,
    /// Group from the configuration, empty for others.
    pub group: Arc<str>,
    /// What kind of entry it is.
    pub kind: DeviceKind,
    /// The device that it has become a part of, whose name and addresses stand here then: what was counted for it
    /// counts for that one.
    pub part_of: Option<DeviceId>,
}

impl DeviceInfo {
    /// True where one of its MAC addresses is locally administered (and no group address).
    pub fn random_mac(&self) -> bool {
        self.macs.iter().any(|mac| mac.is_local() && !mac.is_group())
    }

    /// Its MAC addresses in the common JSON form: separated by commas.
    pub fn mac_list(&self) -> String {
        let macs: Vec<_> = self.macs.iter().map(ToString::to_string).collect();
        macs.join(",")
    }
}

/// Where a device is on the LAN, by its own word and so no identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// IP addresses that it answers for or was given, each once.
    pub addresses: Vec<IpAddr>,
    /// Host names that it gave when it asked for one, printable, each once.
    pub host_names: Vec<Arc<str>>,
}
