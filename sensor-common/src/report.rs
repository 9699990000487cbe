//! The common JSON form: one definition for `labgate status`, `labgate replay`, the API and the demo.
//!
//! `tx` is what the device sent, `rx` what it received. Bytes are whole frames: from the Ethernet
//! header to the end, padding as received, no FCS, VLAN tags included. Times are RFC 3339 in UTC
//! with milliseconds.

mod answers;
mod encryption;
mod replay;

use serde::{Deserialize, Serialize};

pub use self::{
    answers::{
        AlertList, BooksAnswer, DestinationList, DestinationRow, DeviceList, DeviceSummary,
        ErrorAnswer, ErrorCode, ErrorDetail, Period, Total,
    },
    encryption::{ENCRYPTED, UNENCRYPTED, encryption},
    replay::{Capture, Replay},
};

/// Version of this form; it grows with every change that a reader could notice.
pub const REPORT_VERSION: u32 = 4;

/// What the sensor has counted since its ledger began; without one, since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// When this state was taken (end of the last committed epoch).
    pub time: String,
    /// Every device that was seen or is configured, by name.
    pub devices: Vec<Device>,
    /// Every alert raised since then, oldest first.
    pub alerts: Vec<Alert>,
    /// The balance of everything that passed the hooks.
    pub books: Books,
    /// Where the sensor watches, how, and since when.
    pub interfaces: Vec<Interface>,
    /// The geo databases in use.
    pub databases: Vec<Database>,
    /// The attribution that the licence of the geo data asks for.
    pub attribution: String,
    /// Where the counts come from; only where captures were replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub replay: Option<Replay>,
}

/// One device: one or several MAC addresses under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Device {
    /// Name from the configuration or given to it since; an unknown device is called by the vendor and the end of
    /// its MAC address. No two devices share one.
    pub name: String,
    /// The MAC address, lower-case hex with colons; several are separated by a comma.
    pub mac: String,
    /// Vendor by OUI; empty where unknown or where the MAC address is locally administered.
    pub vendor: String,
    /// True where a MAC address is locally administered, as phones' random addresses are.
    pub random_mac: bool,
    /// Group from the configuration; empty for an unknown device.
    pub group: String,
    /// IP addresses that it has on the LAN now, 16 at most. By its own word, as the host names: shown and never
    /// used as identity.
    pub addresses: Vec<String>,
    /// Host names that it gave by DHCP, 8 at most; printable ASCII, anything else as `\x1b`, cut after 64
    /// characters.
    pub host_names: Vec<String>,
    /// Where its packets went to and came from.
    pub destinations: Vec<Destination>,
}

/// One far end of a device's traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Destination {
    /// ISO 3166 alpha-2; `ZZ` without an entry, and where the address could not be kept; lower-case class for a special-purpose range;
    /// empty for frames without an IP address.
    pub country: String,
    /// Autonomous system number, 0 for none.
    pub asn: u32,
    /// Name of the autonomous system, empty for none.
    pub operator: String,
    /// A named network, or the most specific of the watched, country and operator networks, in CIDR
    /// form; empty for frames without an IP address.
    pub prefix: String,
    /// Name of the network by the configuration; empty for none.
    pub network: String,
    /// `tcp`, `udp`, `icmp`, ...; the number where IANA's keyword is not known here; `arp`, `lldp`,
    /// `eapol` or `other` for non-IP frames; `unparsed:<reason>` for malformed ones; `rejected:<protocol>` for what
    /// the gateway's firewall sent in the far end's name; `routed:<protocol>` for IPv6 packets with a routing header
    /// that has segments left.
    pub protocol: String,
    /// Port of the far end in host order, 0 for none.
    pub port: u16,
    /// `encrypted` or `unencrypted`, by what the port is registered for, and no packet was looked at for it; empty
    /// where the port doesn't tell.
    pub encryption: String,
    /// The far address in full; only with address detail, and not on rows that fold several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub address: Option<String>,
    /// Outermost VLAN ID, 0 for untagged; only with address detail, as the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub vlan: Option<u16>,
    /// Whether anything came back from there. Packets are counted before the firewall: one that was sent and not
    /// answered may have been blocked here (a rejection of its own is a row of its own, which is no answer), or
    /// nobody was there.
    pub answered: bool,
    /// Packets the device sent.
    pub tx_packets: u64,
    /// Bytes the device sent.
    pub tx_bytes: u64,
    /// Packets the device received.
    pub rx_packets: u64,
    /// Bytes the device received.
    pub rx_bytes: u64,
    /// First packet, to the kernel's clock.
    pub first_seen: String,
    /// Last packet, to the epoch.
    pub last_seen: String,
}

/// A breach of the bench's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Alert {
    /// `country_not_allowed`, `watched_prefix`, `watched_operator` or `not_judged`.
    pub rule: String,
    /// Name of the device.
    pub device: String,
    /// The country that was touched.
    pub country: String,
    /// `critical`, `warning` or `info`.
    pub severity: String,
    /// First packet of the breach.
    pub since: String,
    /// Last packet of it, to the epoch.
    pub last_seen: String,
    /// Far prefix of the first packet.
    pub prefix: String,
    /// Autonomous system of the first packet; 0 for none.
    pub asn: u32,
    /// Its name; empty where unknown.
    pub operator: String,
}

/// The balance. `seen` is counted at the programs' entry, all else where it went; with the books
/// closed, `seen = attributed + coarse + overflow + unparsed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Books {
    /// Packets that entered the programs.
    pub seen_packets: u64,
    /// Bytes that entered the programs.
    pub seen_bytes: u64,
    /// Packets counted in the flow table, with their full key.
    pub attributed_packets: u64,
    /// Packets counted under the coarser key (/24 or /48, no port).
    pub coarse_packets: u64,
    /// Packets counted for their device alone, or in the total of unknown devices.
    pub overflow_packets: u64,
    /// Malformed or truncated frames.
    pub unparsed_packets: u64,
    /// Packets on the interfaces' own counters, both directions, since the sensor attached.
    pub interface_packets: u64,
    /// Bytes on the interfaces' own counters, both directions, as the driver counts them.
    pub interface_bytes: u64,
    /// True when every epoch so far balanced.
    pub closed: bool,
}

/// A geo database in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Database {
    /// `country` or `operators`.
    pub role: String,
    /// Its own name for its type.
    pub kind: String,
    /// When it was built.
    pub build_time: String,
    /// Whether it is older than the configuration wants it.
    pub stale: bool,
    /// The file it was read from, or `built-in`.
    pub source: String,
    /// SHA-256 of the file, decompressed where it is a built-in one, in lower-case hex.
    pub sha256: String,
}

/// An interface that the configuration names, or did since the sensor started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Interface {
    /// Its name in the configuration.
    pub name: String,
    /// Whether the configuration still names it.
    pub configured: bool,
    /// Whether it is watched now.
    pub watched: bool,
    /// How ingress is counted: `xdp` or `tc`; empty where it is not watched.
    pub ingress: String,
    /// How egress is counted: `tcx` or `clsact`; empty where it is not watched.
    pub egress: String,
    /// Why ingress is not native XDP although it was wanted; empty otherwise.
    pub fallback_reason: String,
    /// Why it is not watched; empty where it is, or is not configured.
    pub reason: String,
    /// Name of the link behind it, which another one where it was renamed; empty where there is none.
    pub link: String,
    /// Whether that link is switched on.
    pub up: bool,
    /// Largest packet on that link in bytes, without the Ethernet header; 0 where there is none.
    pub mtu: u32,
    /// For how long it was watched, in milliseconds.
    pub covered_milliseconds: u64,
    /// When it was watched, oldest first.
    pub coverage: Vec<Coverage>,
    /// How many earlier times of that are no longer listed.
    pub earlier_coverage: u64,
}

/// A time during which an interface was watched in one way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Coverage {
    /// When it began.
    pub from: String,
    /// When it ended; empty while it lasts.
    pub to: String,
    /// Name of the link at the beginning.
    pub link: String,
    /// How ingress was counted: `xdp` or `tc`.
    pub ingress: String,
    /// How egress was counted: `tcx` or `clsact`.
    pub egress: String,
    /// Why ingress was not native XDP although it was wanted; empty otherwise.
    pub fallback_reason: String,
    /// Why it ended: `gone` (the link was deleted or went away), `renamed` (another link has the name now),
    /// `detached` (somebody took the programs off), `preceded` (another program came before them), `unseen` (they did not
    /// see what the interface counted), `covered` (another watched interface shows the same
    /// frames), `changed` (the configuration wants another way), `removed` (from the configuration),
    /// `stopped` (the sensor); empty while it lasts.
    pub end: String,
}

/// What passed the hooks in a period, where it went, and when nobody looked: `labgate audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Version of this form.
    pub version: u32,
    /// The ledger's file.
    pub ledger: String,
    /// Beginning of the period; of the ledger's first epoch, where it has none before.
    pub from: String,
    /// Its end, or that of the last epoch that is committed.
    pub until: String,
    /// Epochs with packets, and those of them whose books did not balance.
    pub epochs: u64,
    /// Epochs whose books did not balance.
    pub open_epochs: u64,
    /// Whether every packet that was seen is counted once and kept: the balance is closed in each epoch, no epoch is
    /// missing, what the ledger holds is what the sensor counted, and no damaged ledger has a part of the period.
    pub closed: bool,
    /// Packets that the interfaces counted and no program saw, where they are more than a thousand and a hundredth of
    /// all; else 0. Segmentation offload hides some: a super-packet is one to an interface.
    pub unseen_packets: u64,
    /// Damaged ledgers that lie beside this one and may have a part of the period.
    pub set_aside: Vec<String>,
    /// Where the packets went.
    pub balance: Balance,
    /// The interfaces' own counters, and when each was watched.
    pub interfaces: Vec<AuditedInterface>,
    /// Events off the main path: why detail was lost, and what could not be parsed.
    pub events: Vec<Event>,
}

/// Packets and bytes by the detail they were counted with; with the books closed, `seen` is the sum of the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Packets that entered the programs.
    pub seen_packets: u64,
    /// Their bytes.
    pub seen_bytes: u64,
    /// Packets counted with their full key.
    pub attributed_packets: u64,
    /// Their bytes.
    pub attributed_bytes: u64,
    /// Packets counted by /24 or /48, without port.
    pub coarse_packets: u64,
    /// Their bytes.
    pub coarse_bytes: u64,
    /// Packets counted for their device alone, or for unknown devices together.
    pub overflow_packets: u64,
    /// Their bytes.
    pub overflow_bytes: u64,
    /// Malformed or truncated frames.
    pub unparsed_packets: u64,
    /// Their bytes.
    pub unparsed_bytes: u64,
    /// Whether `seen` is the sum of the rest.
    pub closed: bool,
}

/// One interface in an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedInterface {
    /// Its name in the configuration.
    pub name: String,
    /// Packets received by the interface: sent by the devices.
    pub rx_packets: u64,
    /// Their bytes as its driver counts them: often without the Ethernet header.
    pub rx_bytes: u64,
    /// Packets sent by the interface; super-packets may count as one.
    pub tx_packets: u64,
    /// Their bytes as its driver counts them.
    pub tx_bytes: u64,
    /// Packets that it dropped.
    pub dropped: u64,
    /// When it was watched in the period, oldest first.
    pub coverage: Vec<Coverage>,
    /// When it was not, or nobody knows.
    pub gaps: Vec<Gap>,
}

/// A time during which an interface was not watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its beginning.
    pub from: String,
    /// Its end; empty where it goes on.
    pub to: String,
    /// Why watching ended: as in [`Coverage::end`], or `lost`, where the sensor or the machine ended without a word;
    /// then the gap begins with the last epoch that is known. `not_yet` before it was watched for the first time,
    /// `missing` where it never could be, `no_epoch` where nothing was committed since, so that nobody knows whether
    /// nothing passed or nobody looked.
    pub reason: String,
}

/// How often something happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub event: String,
    /// How often.
    pub count: u64,
}
