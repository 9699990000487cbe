//! What super-packets count as, against the frames that they become.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod frames;

use frames::*;
use sensor_common::{
    layout::{Direction, Tally},
    parse::{Captured, Link, inner_headers, may_be_tunnel, parse},
    skbuff::Skbuff,
};

/// Octets of payload that a segment carries, and how many segments there are; the last is shorter.
const SIZE: usize = 1200;
const SEGMENTS: usize = 4;
const LAST: usize = 7;

fn as_counted(frame: &[u8], direction: Direction, skb: Skbuff) -> Tally {
    let captured = Captured { octets: frame, wire_len: frame.len() };
    let parsed = parse(&captured, direction, Link::default());
    let at = parsed.headers as usize;
    let tunnel = may_be_tunnel(&parsed.key)
        .then(|| inner_headers(&captured, parsed.key.protocol(), at))
        .flatten();
    skb.tally(direction, &parsed, u32::try_from(tunnel.unwrap_or(0)).unwrap())
}

/// A transfer of which `wrap` makes frames: all of it in one super-packet counts as its segments do one by one.
fn same(what: &str, wrap: impl Fn(&[u8]) -> Vec<u8>) {
    let (tcp_payload, last) = (vec![7; (SEGMENTS - 1) * SIZE + LAST], vec![7; LAST]);
    let super_packet = wrap(&tcp(8, &tcp_payload));
    let len = u32::try_from(super_packet.len()).unwrap();
    let tunnel_blind = len; // What `wire_len` says where nobody has added headers.
    let size = u32::try_from(SIZE).unwrap();
    let skb = Skbuff { len, wire_len: tunnel_blind, gso_segs: 4, gso_size: size, tagged: false };
    let uncounted = Skbuff { gso_segs: 0, ..skb };
    for direction in [Direction::Tx, Direction::Rx] {
        let mut expected = Tally::default();
        for part in [&tcp_payload[..SIZE], &tcp_payload[..SIZE], &tcp_payload[..SIZE], &last[..]] {
            let frame = wrap(&tcp(8, part));
            let len = u32::try_from(frame.len()).unwrap();
            let skb = Skbuff { len, wire_len: len, ..Skbuff::default() };
            expected.add(&as_counted(&frame, direction, skb));
        }
        assert_eq!(as_counted(&super_packet, direction, skb), expected, "{what}, {direction:?}");
        assert_eq!(as_counted(&super_packet, direction, uncounted), expected, "{what}, uncounted");
    }
}

fn vxlan(inner: &[u8]) -> Vec<u8> {
    udp(&[&[0x08, 0, 0, 0, 0, 0, 42, 0][..], inner].concat())
}

fn geneve(options: usize, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let [high, low] = ethertype.to_be_bytes();
    let header = [u8::try_from(options).unwrap(), 0, high, low, 0, 0, 42, 0];
    udp(&[&header[..], &vec![0; options * 4], inner].concat())
}

fn gre(flags: u16, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let fields = 4 * usize::try_from(flags.count_ones()).unwrap();
    [&flags.to_be_bytes()[..], &ethertype.to_be_bytes(), &vec![0; fields], inner].concat()
}

#[test]
fn segments_have_the_inner_headers_of_a_tunnel_too() {
    let bridged = |payload: &[u8]| ethernet(ETH_IPV4, &ipv4(6, payload));
    let v4 = |protocol, payload: &[u8]| ethernet(ETH_IPV4, &ipv4(protocol, payload));
    let v6 = |protocol, payload: &[u8]| ethernet(ETH_IPV6, &ipv6(protocol, payload));

    same("VXLAN", |tcp| v4(17, &vxlan(&bridged(tcp))));
    same("VXLAN over IPv6", |tcp| v6(17, &vxlan(&bridged(tcp))));
    same("IPv6 in VXLAN", |tcp| v4(17, &vxlan(&ethernet(ETH_IPV6, &ipv6(6, tcp)))));
    same("VLAN in VXLAN", |tcp| {
        v4(17, &vxlan(&ethernet(0x8100, &vlan(9, ETH_IPV4, &ipv4(6, tcp)))))
    });
    let group = |tcp: &[u8]| udp(&[&[0x88, 0, 8, 0, 0, 0, 42, 0][..], &bridged(tcp)].concat());
    same("VXLAN with a group policy", |tcp| v4(17, &group(tcp)));
    let generic = |tcp: &[u8]| udp(&[&[0x0c, 0, 0, 2, 0, 0, 42, 0][..], &ipv6(6, tcp)].concat());
    same("VXLAN-GPE", |tcp| v4(17, &generic(tcp)));
    for options in [0, 3, 63] {
        same("Geneve", |tcp| v4(17, &geneve(options, 0x6558, &bridged(tcp))));
        same("IP in Geneve", |tcp| v6(17, &geneve(options, ETH_IPV4, &ipv4(6, tcp))));
    }
    same("GUE", |tcp| v4(17, &udp(&[&[0, 4, 0, 0][..], &ipv4(6, tcp)].concat())));
    same("FOU", |tcp| v4(17, &udp(&ipv6(6, tcp))));

    for flags in [0, 0x8000, 0x2000, 0x1000, 0xb000] {
        same("GRE", |tcp| v4(47, &gre(flags, ETH_IPV4, &ipv4(6, tcp))));
        same("GRE over IPv6", |tcp| v6(47, &gre(flags, ETH_IPV6, &ipv6(6, tcp))));
        same("Ethernet in GRE", |tcp| v4(47, &gre(flags, 0x6558, &bridged(tcp))));
    }
    same("MPLS in GRE", |tcp| v4(47, &gre(0, 0x8847, &mpls(2, &ipv4(6, tcp)))));
    same("MPLS in IP", |tcp| v4(137, &mpls(2, &ipv4(6, tcp))));
    same("IPIP", |tcp| v4(4, &ipv4(6, tcp)));
    same("6in4", |tcp| v4(41, &ipv6(6, tcp)));
    same("4in6", |tcp| v6(4, &ipv4(6, tcp)));
    same("6in6 behind an option", |tcp| v6(60, &extension(41, 1, &ipv6(6, tcp))));
    same("options and extension headers inside", |tcp| v4(4, &ipv4_with(6, 0, &[1; 8], tcp)));
    same("a tunnel in a tunnel", |tcp| v4(4, &ipv4(17, &vxlan(&bridged(tcp)))));
    same("a tagged tunnel", |tcp| ethernet(0x8100, &vlan(5, ETH_IPV4, &ipv4(4, &ipv4(6, tcp)))));
}

#[test]
fn without_a_tunnel_the_transport_header_is_the_last() {
    let plain = |payload: &[u8]| ethernet(ETH_IPV6, &ipv6(6, &tcp(5, payload)));
    let frame = plain(&[7; 3000]);
    let len = u32::try_from(frame.len()).unwrap();
    let skb = Skbuff { len, wire_len: len, gso_segs: 3, gso_size: 1000, tagged: true };
    let bytes = u64::from(len) + 2 * (14 + 40 + 20) + 3 * 4;
    let expected = Tally { packets: 3, bytes, payload: 3000 };
    assert_eq!(as_counted(&frame, Direction::Tx, skb), expected);
    let at_egress = Skbuff { wire_len: u32::try_from(bytes).unwrap() - 12, ..skb };
    assert_eq!(as_counted(&frame, Direction::Rx, at_egress), expected);
}

/// Datagrams that a program sends many of at once (`UDP_SEGMENT`) may hold tunnels of its own: each datagram has
/// its inner headers already.
#[test]
fn a_super_packet_of_datagrams_is_no_tunnel_of_the_kernel() {
    let datagram = ipv4(6, &tcp(5, &[7; 960]));
    assert_eq!(datagram.len(), 1000);
    let vxlan_like = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &ethernet(ETH_IPV4, &datagram)].concat();
    for one in [datagram, vxlan_like] {
        let frame = ethernet(ETH_IPV4, &ipv4(17, &udp(&one.repeat(3))));
        let (len, size) = (u32::try_from(frame.len()).unwrap(), u32::try_from(one.len()).unwrap());
        let skb = Skbuff { len, wire_len: len, gso_segs: 3, gso_size: size, tagged: false };
        let expected = Tally {
            packets: 3,
            bytes: u64::from(len) + 2 * (14 + 20 + 8),
            payload: 3 * u64::from(size),
        };
        assert_eq!(as_counted(&frame, Direction::Tx, skb), expected);
    }
}

/// Linux puts a hop-by-hop header into IPv6 super-packets above 64 KiB, which never leaves the machine.
#[test]
fn the_jumbo_header_of_a_super_packet_is_on_no_wire() {
    let payload = 90_000_u32;
    let mut packet = ipv6(0, &[]);
    packet.extend([6, 0, 0xc2, 4]);
    packet.extend((payload + 20 + 8).to_be_bytes());
    packet.extend(tcp(5, &vec![7; 90_000]));
    let frame = ethernet(ETH_IPV6, &packet);
    let headers = 14 + 40 + 20;
    let len = headers + 8 + payload;
    assert_eq!(frame.len(), len as usize);
    let expected =
        Tally { packets: 90, bytes: u64::from(90 * headers + payload), payload: payload.into() };
    let wire_len = len + 89 * (headers + 8);
    let skb = Skbuff { len, wire_len, gso_segs: 90, gso_size: 1000, tagged: false };
    assert_eq!(as_counted(&frame, Direction::Tx, skb), expected);
    assert_eq!(as_counted(&frame, Direction::Rx, skb), expected);
    let uncounted = Skbuff { gso_segs: 0, ..skb };
    assert_eq!(as_counted(&frame, Direction::Tx, uncounted), expected);
    // A jumbogram that is one frame has it on the wire.
    let one = Skbuff { len, wire_len: len, ..Skbuff::default() };
    let whole = Tally { packets: 1, bytes: len.into(), payload: payload.into() };
    assert_eq!(as_counted(&frame, Direction::Rx, one), whole);
    // And so has another super-packet: the option is the sender's own there.
    let mut short = ipv6(0, &[]);
    short.extend([6, 0, 0xc2, 4, 0, 0, 0x20, 0]);
    short.extend(tcp(5, &[7; 3000]));
    let frame = ethernet(ETH_IPV6, &short);
    let len = headers + 8 + 3000;
    let skb = Skbuff { len, wire_len: len, gso_segs: 3, gso_size: 1000, tagged: false };
    let bytes = u64::from(3 * (headers + 8) + 3000);
    assert_eq!(as_counted(&frame, Direction::Tx, skb).bytes, bytes);
}
