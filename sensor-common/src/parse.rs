//! The frame parser: from an Ethernet header to a flow's key.
//!
//! Written once over [`Frame`], a bounded read, so that the very same code runs in the kernel, in
//! host tests and over captures. It moves one cursor; each step asks for the octets it needs,
//! reads them, and says what comes next. Each limit is a named constant.
//!
//! A sound IP header is enough to attribute a packet: an unreadable transport header costs the
//! port, not the packet. Only what has no usable address is [`Reason`]ed away, and even that is
//! counted for its device.

mod frame;
mod ip;
mod link;
mod plain;
mod tunnel;

pub use frame::{Captured, Frame, Octets};
pub use link::TagStack;
pub use plain::{parse_plain_ipv4, parse_plain_ipv6, parse_plain_tagged};
pub use tunnel::{InnerHeaders, inner_headers, may_be_tunnel};

use self::{
    ip::{ipv4, ipv6},
    link::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Inner, encapsulation},
};
use crate::layout::{Class, Direction, FlowKey, MAC_MASK, NonIp, Reason, VLAN_TAGGED};

/// Most VLAN tags that are followed: single tags, QinQ, and deeper stacks of labs and carriers. Priority
/// tags (VLAN 0) do not count.
pub const MAX_VLAN_TAGS: usize = 8;

/// Most tags that are followed, priority tags included: more than any jumbo frame of Ethernet has. Linux knows
/// no limit; here it bounds the time that a packet may take, and offsets, which the verifier wants below 64 KiB.
pub const MAX_PRIORITY_TAGS: usize = 4096;

/// Most MPLS labels that are followed; networks use two to five.
pub const MAX_MPLS_LABELS: usize = 8;

/// Most IPv6 extension headers that are followed (RFC 8200 names each at most once, bar one).
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Most headers of a tunnel and behind it that are followed in a super-packet: of one with bridged IPv6 there are
/// five, and VLAN tags, MPLS labels and extension headers are one each.
pub const MAX_INNER_HEADERS: usize = 16;

/// Length of the Ethernet header in octets.
pub const ETHERNET_HEADER: usize = 14;
/// Length of a VLAN tag in octets.
pub const VLAN_TAG: usize = 4;

/// What is known about a frame besides its octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Index of the interface.
    pub ifindex: u32,
    /// VLAN tag control information that the NIC or the kernel took out of the frame; such a tag
    /// was the outermost.
    pub vlan_tci: Option<u16>,
    /// Whether the gateway itself made the packet, in whoever's name.
    pub from_here: bool,
}

/// What the parser found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Where to count the frame.
    pub key: FlowKey,
    /// Octets after the transport header by the IP length, at most what the frame has.
    pub payload: u32,
    /// Octets from the start of the Ethernet header to the end of the transport header: what each
    /// segment of a super-packet has of its own.
    pub headers: u32,
    /// Octets of the headers that no segment of a super-packet has on the wire: Linux's own mark of IPv6
    /// super-packets above 64 KiB. In a frame that is none they are headers as others.
    pub jumbo: u32,
    /// Some header could not be read; where not all of the frame was at hand, a second look with
    /// another [`Frame`] may find more.
    pub cut: bool,
}

/// Parses a frame. Total: whatever the octets are, there is a key to count them under.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, direction: Direction, link: Link) -> Parsed {
    let Some(ethernet) = frame.octets::<ETHERNET_HEADER>(0) else {
        return Origin { mac_vlan: 0, direction, link }.unparsed(Reason::Runt);
    };
    let mut origin = Origin::of(ethernet, direction, link);
    let ethertype = u16::from_be(ethernet.u16(12));
    let mut ip = Inner { ethertype, at: ETHERNET_HEADER, end: frame.wire_len() };
    if ethertype != ETHERTYPE_IPV4 && ethertype != ETHERTYPE_IPV6 {
        match encapsulation(frame, &mut origin, ip) {
            Ok(inner) => ip = inner,
            Err(parsed) => return parsed,
        }
    }
    if ip.ethertype == ETHERTYPE_IPV4 {
        match ipv4(frame, origin, ip.at) {
            Ok(packet) => packet.within(ip.end).transport(frame, origin),
            Err(reason) => origin.unparsed(reason),
        }
    } else {
        match ipv6(frame, origin, ip.at) {
            Ok(packet) => packet.within(ip.end).behind_extensions(frame, origin),
            Err(reason) => origin.unparsed(reason),
        }
    }
}

/// A header lies beyond what can be read.
struct Cut;

/// Whose frame it is, and whence.
#[derive(Clone, Copy)]
struct Origin {
    mac_vlan: u64,
    direction: Direction,
    link: Link,
}

impl Origin {
    /// The device is the sender of an upload and the receiver of a download.
    #[inline(always)]
    fn of<O: Octets>(ethernet: O, direction: Direction, link: Link) -> Self {
        // Two octets more than the MAC address are read with it, those before the source's.
        let mac = match direction {
            Direction::Tx => ethernet.u64(4) >> 16,
            Direction::Rx => ethernet.u64(0) & MAC_MASK,
        };
        let vlan = match link.vlan_tci {
            Some(tci) => (tci & 0x0fff) | VLAN_TAGGED,
            None => 0,
        };
        Self { mac_vlan: mac | (vlan as u64) << 48, direction, link }
    }

    #[inline(always)]
    fn key(self, class: Class, protocol: u8, port: u16, addr: [u64; 2]) -> FlowKey {
        let rest = FlowKey::rest(port, protocol, class, self.direction, self.link.ifindex);
        FlowKey { mac_vlan: self.mac_vlan, addr, rest }
    }

    #[inline(always)]
    fn unparsed(self, reason: Reason) -> Parsed {
        let key = self.key(Class::Unparsed, reason as u8, 0, [0; 2]);
        Parsed { key, payload: 0, headers: ETHERNET_HEADER as u32, jumbo: 0, cut: true }
    }

    #[inline(always)]
    fn non_ip(self, kind: NonIp, cut: bool) -> Parsed {
        let key = self.key(Class::NonIp, kind as u8, 0, [0; 2]);
        Parsed { key, payload: 0, headers: ETHERNET_HEADER as u32, jumbo: 0, cut }
    }

    /// The far address of an upload is the destination, of a download the source.
    #[inline(always)]
    const fn far(self, source: usize, destination: usize) -> usize {
        match self.direction {
            Direction::Tx => destination,
            Direction::Rx => source,
        }
    }
}
