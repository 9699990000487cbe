//! The short way: frames as most are.

use super::{
    ETHERNET_HEADER, Frame, Link, Octets as _, Origin, Parsed, VLAN_TAG,
    ip::{IP_TCP, IP_UDP, IPV4_HEADER, IPV6_HEADER, TCP_HEADER, TCP_RST},
    link::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN},
};
use crate::layout::{Class, Direction};

const UDP_HEADER: usize = 8;

/// From here on a frame's headers up to the ports, IPv4 without options.
const IPV4_PORTS: usize = ETHERNET_HEADER + IPV4_HEADER;
/// The same of IPv6 without extension headers.
const IPV6_PORTS: usize = ETHERNET_HEADER + IPV6_HEADER;

/// Offset of the octet that has the data offset in a TCP header, before the one with the flags, and its lowest
/// value: five words, in the high half.
const TCP_DATA_OFFSET: usize = 12;
const TCP_DATA_OFFSET_MIN: u8 = 0x50;

/// EtherType, then version and IHL: IPv4 without options.
const IPV4_START: [u8; 4] = {
    let [a, b] = ETHERTYPE_IPV4.to_be_bytes();
    [a, b, 0x45, 0]
};
const IPV4_START_MASK: [u8; 4] = [0xff, 0xff, 0xff, 0];

/// Flags and fragment offset, TTL, protocol. Don't Fragment and the TTL say nothing here.
const IPV4_WHOLE_MASK: [u8; 4] = [0x3f, 0xff, 0, 0xff];
const IPV4_WHOLE_TCP: [u8; 4] = [0, 0, 0, IP_TCP];
const IPV4_WHOLE_UDP: [u8; 4] = [0, 0, 0, IP_UDP];

/// EtherType, then the version.
const IPV6_START: [u8; 4] = {
    let [a, b] = ETHERTYPE_IPV6.to_be_bytes();
    [a, b, 0x60, 0]
};
const IPV6_START_MASK: [u8; 4] = [0xff, 0xff, 0xf0, 0];

/// What [`parse`](super::parse) says of a frame as most are: TCP or UDP in IPv4 without options,
/// right behind the Ethernet header, not fragmented, whole and sound; no reset that the device received. `None`
/// for all others.
///
/// Constant offsets, and comparisons of several fields at once: a third of the instructions of
/// `parse`. The link is asked for when all else is settled, so that it takes no register meanwhile.
#[inline(always)]
pub fn parse_plain_ipv4<F: Frame>(
    frame: &F,
    direction: Direction,
    link: impl FnOnce() -> Link,
) -> Option<Parsed> {
    ipv4(frame, 0, direction, |octets| Origin::of(octets, direction, link()))
}

/// As [`parse_plain_ipv4`], of IPv6 without extension headers. Two functions, because the families
/// share no value that a register could keep.
#[inline(always)]
pub fn parse_plain_ipv6<F: Frame>(
    frame: &F,
    direction: Direction,
    link: impl FnOnce() -> Link,
) -> Option<Parsed> {
    ipv6(frame, 0, direction, |octets| Origin::of(octets, direction, link()))
}

/// As both, behind one VLAN tag, where none was taken out of the frame.
#[inline(always)]
pub fn parse_plain_tagged<F: Frame>(frame: &F, direction: Direction, link: Link) -> Option<Parsed> {
    let ethernet = frame.octets::<{ ETHERNET_HEADER + VLAN_TAG }>(0)?;
    if ethernet.u16(12) != ETHERTYPE_VLAN.to_be() || link.vlan_tci.is_some() {
        return None;
    }
    let vlan_tci = Some(u16::from_be(ethernet.u16(ETHERNET_HEADER)));
    let origin = |_| Origin::of(ethernet, direction, Link { vlan_tci, ..link });
    ipv4(frame, VLAN_TAG, direction, origin).or_else(|| ipv6(frame, VLAN_TAG, direction, origin))
}

/// Offsets are those of an untagged frame; `tag` more octets lie before the EtherType.
#[inline(always)]
fn ipv4<F: Frame>(
    frame: &F,
    tag: usize,
    direction: Direction,
    origin: impl FnOnce(F::Octets) -> Origin,
) -> Option<Parsed> {
    // With a TCP header; a shorter frame is one without Ethernet's padding, and takes the long way.
    let octets = frame.octets::<{ IPV4_PORTS + TCP_HEADER }>(tag)?;
    if octets.u32(12) & u32::from_ne_bytes(IPV4_START_MASK) != u32::from_ne_bytes(IPV4_START) {
        return None;
    }
    let end = ETHERNET_HEADER + u16::from_be(octets.u16(16)) as usize;
    if tag + end > frame.wire_len() {
        return None;
    }
    let whole = octets.u32(20) & u32::from_ne_bytes(IPV4_WHOLE_MASK);
    let (protocol, headers) = if whole == u32::from_ne_bytes(IPV4_WHOLE_UDP) {
        (IP_UDP, IPV4_PORTS + UDP_HEADER)
    } else if whole == u32::from_ne_bytes(IPV4_WHOLE_TCP) {
        (IP_TCP, IPV4_PORTS + tcp_header(octets.u16(IPV4_PORTS + TCP_DATA_OFFSET), direction)?)
    } else {
        return None;
    };
    if end < headers {
        return None;
    }
    let origin = origin(octets);
    let port = octets.u16(origin.far(IPV4_PORTS, IPV4_PORTS + 2));
    let addr = [octets.u32(origin.far(26, 30)) as u64, 0];
    Some(Parsed {
        key: origin.key(Class::Ipv4, protocol, port, addr),
        payload: (end - headers) as u32,
        headers: (tag + headers) as u32,
        jumbo: 0,
        cut: false,
    })
}

/// As [`ipv4`].
#[inline(always)]
fn ipv6<F: Frame>(
    frame: &F,
    tag: usize,
    direction: Direction,
    origin: impl FnOnce(F::Octets) -> Origin,
) -> Option<Parsed> {
    let octets = frame.octets::<{ IPV6_PORTS + UDP_HEADER }>(tag)?;
    if octets.u32(12) & u32::from_ne_bytes(IPV6_START_MASK) != u32::from_ne_bytes(IPV6_START) {
        return None;
    }
    let end = IPV6_PORTS + u16::from_be(octets.u16(18)) as usize;
    if tag + end > frame.wire_len() {
        return None;
    }
    let protocol = octets.u8(20);
    let headers = match protocol {
        IP_UDP => IPV6_PORTS + UDP_HEADER,
        IP_TCP => {
            let octets = frame.octets::<{ IPV6_PORTS + TCP_HEADER }>(tag)?;
            IPV6_PORTS + tcp_header(octets.u16(IPV6_PORTS + TCP_DATA_OFFSET), direction)?
        }
        _ => return None,
    };
    if end < headers {
        return None;
    }
    let origin = origin(octets);
    let port = octets.u16(origin.far(IPV6_PORTS, IPV6_PORTS + 2));
    let far = origin.far(22, 38);
    let addr = [octets.u64(far), octets.u64(far + 8)];
    Some(Parsed {
        key: origin.key(Class::Ipv6, protocol, port, addr),
        payload: (end - headers) as u32,
        headers: (tag + headers) as u32,
        jumbo: 0,
        cut: false,
    })
}

/// Length of a TCP header by the octets with its data offset and flags, if the one is sound. Of a download that
/// resets a connection the long way finds out who sent it.
#[inline(always)]
fn tcp_header(octets: u16, direction: Direction) -> Option<usize> {
    let [data_offset, flags] = octets.to_ne_bytes();
    if data_offset < TCP_DATA_OFFSET_MIN
        || (matches!(direction, Direction::Rx) && flags & TCP_RST != 0)
    {
        None
    } else {
        Some((data_offset >> 4) as usize * 4)
    }
}
