//! IP, its extension headers, and the transport header behind them.

use super::{Cut, Frame, MAX_EXTENSION_HEADERS, Octets as _, Origin, Parsed};
use crate::layout::{Class, MARK_REJECTED, MARK_ROUTED, Reason};

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const EXTENSION_HEADER: usize = 8;

const IP_HOP_BY_HOP: u8 = 0;
const IP_ICMP: u8 = 1;
pub(super) const IP_IPV4: u8 = 4;
pub(super) const IP_TCP: u8 = 6;
pub(super) const IP_UDP: u8 = 17;
const IP_DCCP: u8 = 33;
pub(super) const IP_IPV6: u8 = 41;
const IP_ROUTING: u8 = 43;
const IP_FRAGMENT: u8 = 44;
pub(super) const IP_GRE: u8 = 47;
const IP_AUTHENTICATION: u8 = 51;
const IP_ICMPV6: u8 = 58;
const IP_DESTINATION_OPTIONS: u8 = 60;
const IP_SCTP: u8 = 132;
const IP_MOBILITY: u8 = 135;
const IP_UDP_LITE: u8 = 136;
pub(super) const IP_MPLS: u8 = 137;
const IP_HIP: u8 = 139;
const IP_SHIM6: u8 = 140;

pub(super) const TCP_HEADER: usize = 20;
pub(super) const TCP_RST: u8 = 0x04;
/// Destination unreachable (RFC 792, RFC 4443).
const ICMP_UNREACHABLE: u8 = 3;
const ICMPV6_UNREACHABLE: u8 = 1;

/// Hop-by-hop header with the option for jumbo payloads (RFC 2675), TCP behind it: next header, length, option
/// and its length. Linux puts it into IPv6 super-packets above 64 KiB, and takes it out of their segments.
const JUMBO_HEADER: [u8; 4] = [IP_TCP, 0, 0xc2, 4];

/// A packet whose IP header is sound.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    class: Class,
    /// The far address.
    addr: [u64; 2],
    upper: Upper,
    marks: u64,
    /// See [`Parsed::jumbo`].
    jumbo: u32,
}

/// What lies behind the IP header.
#[derive(Clone, Copy)]
struct Upper {
    protocol: u8,
    at: usize,
    /// Octets from `at` on by the IP length, or [`REST_OF_FRAME`].
    len: usize,
    /// Not a later fragment.
    first: bool,
}

/// The IP header gives no length: more than any frame has.
const REST_OF_FRAME: usize = 1 << 30;

/// IPv4 (RFC 791) from `at`.
#[inline(always)]
pub(super) fn ipv4<F: Frame>(frame: &F, origin: Origin, at: usize) -> Result<Packet, Reason> {
    let header = frame.octets::<IPV4_HEADER>(at).ok_or(Reason::Ipv4Truncated)?;
    let version_ihl = header.u8(0);
    if version_ihl >> 4 != 4 {
        return Err(Reason::Ipv4Version);
    }
    let header_len = (version_ihl & 0x0f) as usize * 4;
    if header_len < IPV4_HEADER {
        return Err(Reason::Ipv4HeaderLength);
    }
    let total_len = u16::from_be(header.u16(2)) as usize;
    // Zero is how super-packets above 64 KiB say that the frame's own length counts.
    if total_len != 0 && total_len < header_len {
        return Err(Reason::Ipv4TotalLength);
    }
    let payload_at = at + header_len;
    let len = if total_len == 0 { REST_OF_FRAME } else { total_len - header_len };
    let addr = [header.u32(origin.far(12, 16)) as u64, 0];
    let first = u16::from_be(header.u16(6)) & 0x1fff == 0;
    let upper = Upper { protocol: header.u8(9), at: payload_at, len, first };
    Ok(Packet { class: Class::Ipv4, addr, upper, marks: 0, jumbo: 0 })
}

/// The fixed IPv6 header (RFC 8200) from `at`.
#[inline(always)]
pub(super) fn ipv6<F: Frame>(frame: &F, origin: Origin, at: usize) -> Result<Packet, Reason> {
    let header = frame.octets::<IPV6_HEADER>(at).ok_or(Reason::Ipv6Truncated)?;
    if header.u8(0) >> 4 != 6 {
        return Err(Reason::Ipv6Version);
    }
    let far = origin.far(8, 24);
    let addr = [header.u64(far), header.u64(far + 8)];
    let payload_at = at + IPV6_HEADER;
    let payload_len = u16::from_be(header.u16(4)) as usize;
    // Zero: a jumbogram (RFC 2675) or a super-packet above 64 KiB.
    let len = if payload_len == 0 { REST_OF_FRAME } else { payload_len };
    let upper = Upper { protocol: header.u8(6), at: payload_at, len, first: true };
    Ok(Packet { class: Class::Ipv6, addr, upper, marks: 0, jumbo: 0 })
}

#[inline(always)]
pub(super) const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        IP_HOP_BY_HOP
            | IP_ROUTING
            | IP_FRAGMENT
            | IP_AUTHENTICATION
            | IP_DESTINATION_OPTIONS
            | IP_MOBILITY
            | IP_HIP
            | IP_SHIM6
    )
}

/// Moves `upper` behind the extension headers; past [`MAX_EXTENSION_HEADERS`], or where one is cut
/// off, it stays at that header, whose number then is the protocol.
#[inline(always)]
fn extension_headers<F: Frame>(frame: &F, upper: &mut Upper, marks: &mut u64) -> Result<(), Cut> {
    let mut headers = 0;
    while headers < MAX_EXTENSION_HEADERS && is_extension(upper.protocol) && upper.first {
        let Some(header) = frame.octets::<EXTENSION_HEADER>(upper.at) else { return Err(Cut) };
        let units = header.u8(1) as usize;
        // RFC 8200, 4.4: with segments left the packet goes on from its destination to another one.
        if upper.protocol == IP_ROUTING && header.u8(3) != 0 {
            *marks = MARK_ROUTED;
        }
        let len = match upper.protocol {
            IP_FRAGMENT => {
                upper.first = u16::from_be(header.u16(2)) & 0xfff8 == 0;
                EXTENSION_HEADER
            }
            // RFC 4302: in units of four octets, minus two.
            IP_AUTHENTICATION => (units + 2) * 4,
            // RFC 8200: in units of eight octets, the first not counted.
            _ => (units + 1) * 8,
        };
        upper.protocol = header.u8(0);
        upper.at = frame.opaque(upper.at + len);
        upper.len = frame.opaque(excess(upper.len, len));
        headers += 1;
    }
    *marks = frame.opaque(*marks as usize) as u64;
    Ok(())
}

impl Packet {
    /// Bounds the IP length by the end of what carries the packet.
    #[inline(always)]
    pub(super) fn within(mut self, end: usize) -> Self {
        self.upper.len = min(self.upper.len, excess(end, self.upper.at));
        self
    }

    /// As [`Packet::transport`], behind IPv6's extension headers.
    #[inline(always)]
    pub(super) fn behind_extensions<F: Frame>(mut self, frame: &F, origin: Origin) -> Parsed {
        if self.upper.protocol == IP_HOP_BY_HOP
            && let Some(header) = frame.octets::<EXTENSION_HEADER>(self.upper.at)
            && header.u32(0) == u32::from_ne_bytes(JUMBO_HEADER)
        {
            self.jumbo = EXTENSION_HEADER as u32;
        }
        self.jumbo = frame.opaque(self.jumbo as usize) as u32;
        let cut = extension_headers(frame, &mut self.upper, &mut self.marks).is_err();
        let mut parsed = self.transport(frame, origin);
        parsed.cut |= cut;
        parsed
    }

    /// Ports and the length of the transport header.
    #[inline(always)]
    pub(super) fn transport<F: Frame>(self, frame: &F, origin: Origin) -> Parsed {
        let Self { class, addr, upper, mut marks, jumbo } = self;
        let mut port = 0;
        let mut cut = false;
        let mut header_len = 0;
        if upper.first {
            let far_port = origin.far(0, 2);
            match upper.protocol {
                // Padding behind the IP packet is no header of it: the IP length decides first.
                IP_TCP => {
                    header_len = TCP_HEADER;
                    if upper.len < TCP_HEADER {
                    } else if let Some(tcp) = frame.octets::<TCP_HEADER>(upper.at) {
                        port = tcp.u16(far_port);
                        if origin.link.from_here && tcp.u8(13) & TCP_RST != 0 {
                            marks |= MARK_REJECTED;
                        }
                        let data_offset = (tcp.u8(12) >> 4) as usize * 4;
                        if data_offset > header_len {
                            header_len = data_offset;
                        }
                    } else {
                        cut = true;
                    }
                }
                IP_UDP | IP_UDP_LITE | IP_SCTP | IP_DCCP => {
                    header_len = transport_header(upper.protocol);
                    if upper.len < 4 {
                    } else if let Some(ports) = frame.octets::<4>(upper.at) {
                        port = ports.u16(far_port);
                    } else {
                        cut = true;
                    }
                }
                IP_ICMP | IP_ICMPV6 => {
                    header_len = transport_header(upper.protocol);
                    let unreachable = if upper.protocol == IP_ICMP {
                        ICMP_UNREACHABLE
                    } else {
                        ICMPV6_UNREACHABLE
                    };
                    if origin.link.from_here
                        && let Some(icmp) = frame.octets::<4>(upper.at)
                        && icmp.u8(0) == unreachable
                    {
                        marks |= MARK_REJECTED;
                    }
                }
                _ => {}
            }
        }
        Parsed {
            key: origin.key(class, upper.protocol, port, addr).marked(marks),
            payload: excess(upper.len, header_len) as u32,
            headers: (upper.at + header_len) as u32,
            jumbo,
            cut,
        }
    }
}

/// Length of a transport header that has always the same; 0 where none is known.
#[inline(always)]
pub(super) const fn transport_header(protocol: u8) -> usize {
    match protocol {
        IP_UDP | IP_UDP_LITE | IP_ICMP | IP_ICMPV6 => 8,
        IP_SCTP | IP_DCCP => 12,
        _ => 0,
    }
}

/// `a - b`, or 0 where that is negative. Both are lengths within a frame. (The compiler makes twice
/// the instructions of `saturating_sub` on the programs' target.)
#[inline(always)]
const fn excess(a: usize, b: usize) -> usize {
    let difference = a.cast_signed() - b.cast_signed();
    if difference > 0 { difference.cast_unsigned() } else { 0 }
}

#[inline(always)]
pub(super) const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}
