//! Tunnels: the headers behind a super-packet's outer ones, which each of its segments has, too.

use super::{
    ETHERNET_HEADER, Frame, MAX_INNER_HEADERS, Octets, VLAN_TAG,
    ip::{
        EXTENSION_HEADER, IP_GRE, IP_IPV4, IP_IPV6, IP_MPLS, IP_TCP, IP_UDP, IPV6_HEADER,
        TCP_HEADER, is_extension, transport_header,
    },
    link::{
        ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST, MPLS_BOTTOM,
        MPLS_LABEL, is_vlan,
    },
};
use crate::layout::{Class, FlowKey};

/// What comes next: an EtherType, an IP protocol, or what lies behind a UDP header.
type Kind = u32;
const IP_PROTOCOL: Kind = 0x1_0000;
const BEHIND_UDP: Kind = 0x2_0000;
const NOTHING: Kind = 0;

const IPV4: Kind = ETHERTYPE_IPV4 as Kind;
const IPV6: Kind = ETHERTYPE_IPV6 as Kind;
/// An Ethernet frame (RFC 1701's registry of protocol types is that of EtherTypes).
const BRIDGING: Kind = 0x6558;

/// GRE (RFC 2784, RFC 2890): flags for fields of four octets each, and version.
const GRE_HEADER: usize = 4;
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;
/// All others, of which those that exist have other layouts.
const GRE_UNKNOWN: u16 = !(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE);

/// Headers of VXLAN and Geneve, without its options; and of GUE, without what it adds.
const UDP_TUNNEL_HEADER: usize = 8;
const GUE_HEADER: usize = 4;
/// VXLAN (RFC 7348): the flag for a valid network identifier; with generic protocol extension
/// (draft-ietf-nvo3-vxlan-gpe) the one for a next protocol, which is the fourth octet.
const VXLAN_VALID: u8 = 0x08;
const VXLAN_NEXT_PROTOCOL: u8 = 0x04;
const VXLAN_IPV4: u8 = 1;
const VXLAN_IPV6: u8 = 2;

/// Whether a packet of this key may be a tunnel's: it is worth a look with [`inner_headers`].
#[inline(always)]
pub const fn may_be_tunnel(key: &FlowKey) -> bool {
    matches!(key.class(), Class::Ipv4 | Class::Ipv6)
        && matches!(key.protocol(), IP_IPV4 | IP_IPV6 | IP_GRE | IP_UDP | IP_MPLS)
}

/// Octets from the start of the Ethernet header to the end of the innermost transport header of a
/// super-packet, where it is a tunnel's. `protocol` is the outer IP header's, and `at` is where the outer
/// transport header ends.
pub fn inner_headers<F: Frame>(frame: &F, protocol: u8, at: usize) -> Option<usize> {
    let mut headers = InnerHeaders::new(protocol, at, frame.wire_len());
    for _ in 0..MAX_INNER_HEADERS {
        if !headers.step(frame.octets::<{ InnerHeaders::OCTETS }>(headers.at())) {
            break;
        }
    }
    headers.end()
}

/// The headers of a tunnel and behind it, while they are followed one by one: in a loop of its own, as
/// [`TagStack`](super::TagStack).
///
/// Ports say little about UDP, where VXLAN, Geneve, GUE and FOU have several each or none. So the inner header
/// tells: its length is the super-packet's. Of a super-packet of UDP itself it would be the first datagram's.
#[derive(Debug, Clone, Copy)]
pub struct InnerHeaders {
    cursor: Cursor,
    frame_end: u32,
}

impl InnerHeaders {
    /// How many octets a step asks for. No header of a super-packet is nearer to its end, because it has a payload.
    pub const OCTETS: usize = TCP_HEADER;

    /// From `at` on, where the outer transport header ends; `protocol` is the outer IP header's, and `frame_end`
    /// where the super-packet ends.
    #[inline(always)]
    pub const fn new(protocol: u8, at: usize, frame_end: usize) -> Self {
        let kind = if protocol == IP_UDP { BEHIND_UDP } else { IP_PROTOCOL | protocol as Kind };
        let cursor = Cursor { kind, at: at as u32, found: 0 };
        Self { cursor, frame_end: frame_end as u32 }
    }

    /// Where the next header begins.
    #[inline(always)]
    pub const fn at(&self) -> usize {
        self.cursor.at as usize
    }

    /// End of the innermost transport header so far, if there is one.
    #[inline(always)]
    pub const fn end(&self) -> Option<usize> {
        if self.cursor.found == 0 { None } else { Some(self.cursor.found as usize) }
    }

    /// Takes the octets of a header, if they are there; says whether there may be one more.
    #[inline(always)]
    pub fn step<O: Octets>(&mut self, octets: Option<O>) -> bool {
        let Some(octets) = octets else { return false };
        self.cursor = self.cursor.step(octets, self.frame_end);
        self.cursor.kind != NOTHING
    }
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    kind: Kind,
    /// Where that begins.
    at: u32,
    /// See [`InnerHeaders::end`].
    found: u32,
}

impl Cursor {
    #[inline(always)]
    const fn end(self) -> Self {
        Self { kind: NOTHING, ..self }
    }

    #[inline(always)]
    const fn behind(self, kind: Kind, len: usize) -> Self {
        Self { kind, at: self.at.wrapping_add(len as u32), ..self }
    }

    #[inline(always)]
    fn step<O: Octets>(self, octets: O, end: u32) -> Self {
        let (first, word) = (octets.u8(0), octets.u16(2));
        if self.kind == BEHIND_UDP {
            return self.udp_tunnel(octets);
        }
        if self.kind & IP_PROTOCOL != 0 {
            let protocol = self.kind as u8;
            return match protocol {
                IP_IPV4 => self.behind(IPV4, 0),
                IP_IPV6 => self.behind(IPV6, 0),
                IP_MPLS => self.behind(ETHERTYPE_MPLS as Kind, 0),
                IP_GRE => {
                    let flags = u16::from_be(octets.u16(0));
                    if flags & GRE_UNKNOWN != 0 {
                        return self.end();
                    }
                    let fields = (flags >> 15) + (flags >> 13 & 1) + (flags >> 12 & 1);
                    self.behind(u16::from_be(word) as Kind, GRE_HEADER + 4 * fields as usize)
                }
                // The IP header before it was found.
                IP_UDP => self.ends_behind(transport_header(IP_UDP), BEHIND_UDP),
                IP_TCP => {
                    let len = (octets.u8(12) >> 4) as usize * 4;
                    self.ends_behind(len, NOTHING)
                }
                _ if is_extension(protocol) => {
                    let len = EXTENSION_HEADER + 8 * octets.u8(1) as usize;
                    self.ends_behind(len, IP_PROTOCOL | first as Kind)
                }
                _ => self.ends_behind(transport_header(protocol), NOTHING),
            };
        }
        match self.kind {
            IPV4 => {
                let total_len = u16::from_be(word) as u32;
                // Zero is how super-packets above 64 KiB say that the frame's own length counts.
                if first >> 4 != 4 || (total_len != 0 && self.at.wrapping_add(total_len) != end) {
                    return self.end();
                }
                self.ends_behind((first & 0x0f) as usize * 4, IP_PROTOCOL | octets.u8(9) as Kind)
            }
            IPV6 => {
                let payload_len = u16::from_be(octets.u16(4)) as u32;
                let len = IPV6_HEADER as u32 + payload_len;
                let is_whole = payload_len == 0 || self.at.wrapping_add(len) == end;
                if first >> 4 != 6 || !is_whole {
                    return self.end();
                }
                self.ends_behind(IPV6_HEADER, IP_PROTOCOL | octets.u8(6) as Kind)
            }
            BRIDGING => self.behind(u16::from_be(octets.u16(12)) as Kind, ETHERNET_HEADER),
            kind if kind == ETHERTYPE_MPLS as Kind || kind == ETHERTYPE_MPLS_MULTICAST as Kind => {
                let is_last = octets.u8(2) & MPLS_BOTTOM != 0;
                let next = match octets.u8(MPLS_LABEL) >> 4 {
                    _ if !is_last => kind,
                    4 => IPV4,
                    6 => IPV6,
                    _ => NOTHING,
                };
                self.behind(next, MPLS_LABEL)
            }
            kind if is_vlan(kind as u16) => self.behind(u16::from_be(word) as Kind, VLAN_TAG),
            _ => self.end(),
        }
    }

    /// Behind a header that may be the last one.
    #[inline(always)]
    const fn ends_behind(self, len: usize, next: Kind) -> Self {
        let behind = self.behind(next, len);
        Self { found: behind.at, ..behind }
    }

    /// What may be one of Linux's tunnels in UDP.
    #[inline(always)]
    fn udp_tunnel<O: Octets>(self, octets: O) -> Self {
        let (first, second) = (octets.u8(0), octets.u8(1));
        let ethertype = u16::from_be(octets.u16(2)) as Kind;
        // FOU has no header of its own, nor has GUE's variant 1 (draft-ietf-intarea-gue, 3.1).
        match first >> 4 {
            4 => return self.behind(IPV4, 0),
            6 => return self.behind(IPV6, 0),
            _ => {}
        }
        // Two bits of version; then a length in words, of Geneve's options (RFC 8926) or what GUE adds.
        if first >> 6 == 0 {
            if matches!(ethertype, BRIDGING | IPV4 | IPV6) {
                return self.behind(ethertype, UDP_TUNNEL_HEADER + 4 * first as usize);
            }
            if matches!(second, IP_IPV4 | IP_IPV6) {
                let len = GUE_HEADER + 4 * (first & 0x1f) as usize;
                return self.behind(IP_PROTOCOL | second as Kind, len);
            }
        }
        let next = match octets.u8(3) {
            _ if first & VXLAN_VALID == 0 => NOTHING,
            VXLAN_IPV4 if first & VXLAN_NEXT_PROTOCOL != 0 => IPV4,
            VXLAN_IPV6 if first & VXLAN_NEXT_PROTOCOL != 0 => IPV6,
            _ => BRIDGING,
        };
        self.behind(next, UDP_TUNNEL_HEADER)
    }
}
