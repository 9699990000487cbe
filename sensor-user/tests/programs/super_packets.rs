//! Super-packets: what they become on the wire is what counts.

use labgate::model::{Direction, Tally};
use sensor_common::{
    parse::{Captured, Link, inner_headers, parse},
    skbuff::Skbuff,
};

use crate::{
    bed::{Bed, SMALL, Skb},
    frames::*,
};

const PAYLOAD: usize = 3000;

fn tally(direction: Direction, skb: Skb) -> Tally {
    let mut bed = Bed::new(SMALL);
    let frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, &[0; PAYLOAD])));
    assert_eq!(frame.len(), 3054);
    bed.tc(direction, &frame, skb);
    let raw = bed.drain();
    assert_eq!(raw.flows.len(), 1);
    raw.flows[0].1.tally
}

#[test]
fn at_egress_the_qdisc_has_counted_the_headers() {
    if !xtask::require_root("at_egress_the_qdisc_has_counted_the_headers") {
        return;
    }
    let skb = Skb { wire_len: 3054 + 2 * 54, gso_segs: 3, gso_size: 1000 };
    let expected = Tally { packets: 3, bytes: 3054 + 2 * 54, payload: 3000 };
    assert_eq!(tally(Direction::Rx, skb), expected);
}

#[test]
fn at_ingress_each_segment_has_headers_of_its_own() {
    if !xtask::require_root("at_ingress_each_segment_has_headers_of_its_own") {
        return;
    }
    // There `wire_len` says nothing.
    let skb = Skb { wire_len: 3054, gso_segs: 3, gso_size: 1000 };
    let expected = Tally { packets: 3, bytes: 3054 + 2 * 54, payload: 3000 };
    assert_eq!(tally(Direction::Tx, skb), expected);
}

#[test]
fn without_a_segment_count_the_size_tells() {
    if !xtask::require_root("without_a_segment_count_the_size_tells") {
        return;
    }
    // 3000 octets in segments of 1100: three.
    let skb = Skb { wire_len: 3054, gso_segs: 0, gso_size: 1100 };
    let expected = Tally { packets: 3, bytes: 3054 + 2 * 54, payload: 3000 };
    assert_eq!(tally(Direction::Tx, skb), expected);
}

#[test]
fn one_packet_is_one_packet() {
    if !xtask::require_root("one_packet_is_one_packet") {
        return;
    }
    let skb = Skb { wire_len: 3054, ..Skb::default() };
    for direction in [Direction::Tx, Direction::Rx] {
        let expected = Tally { packets: 1, bytes: 3054, payload: 3000 };
        assert_eq!(tally(direction, skb), expected);
    }
}

/// What the segments of a tunnel count as is tested on the host; the programs agree.
#[test]
fn kernel_and_host_agree_on_tunnels() {
    if !xtask::require_root("kernel_and_host_agree_on_tunnels") {
        return;
    }
    let tcp = tcp(8, &[0; PAYLOAD]);
    let bridged = ethernet(0x8100, &vlan(9, ETH_IPV4, &ipv4(6, &tcp)));
    let vxlan = udp(&[&[8, 0, 0, 0, 0, 0, 42, 0][..], &bridged].concat());
    let geneve = udp(&[&[1, 0, 0x86, 0xdd, 0, 0, 42, 0, 0, 0, 0, 0][..], &ipv6(6, &tcp)].concat());
    let gre = [&[0xa0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 0][..], &bridged].concat();
    let mut bed = Bed::new(SMALL);
    for (frame, is_tunnel) in [
        (ethernet(ETH_IPV4, &ipv4(17, &vxlan)), true),
        (ethernet(ETH_IPV6, &ipv6(17, &vxlan)), true),
        (ethernet(ETH_IPV4, &ipv4(17, &geneve)), true),
        (ethernet(ETH_IPV4, &ipv4(47, &gre)), true),
        (ethernet(ETH_IPV4, &ipv4(4, &ipv4(6, &tcp))), true),
        (ethernet(ETH_IPV4, &ipv4(41, &ipv6(6, &tcp))), true),
        (ethernet(ETH_IPV6, &ipv6(60, &extension(41, 1, &ipv6(6, &tcp)))), true),
        (ethernet(ETH_IPV4, &ipv4(4, &ipv4(17, &vxlan))), true),
        (ethernet(ETH_IPV4, &ipv4(17, &udp(&[7; PAYLOAD]))), false),
    ] {
        let len = u32::try_from(frame.len()).unwrap();
        let captured = Captured { octets: &frame, wire_len: frame.len() };
        let skb = Skb { wire_len: len, gso_segs: 3, gso_size: 1000 };
        for direction in [Direction::Tx, Direction::Rx] {
            let parsed = parse(&captured, direction, Link { ifindex: 1, ..Link::default() });
            let headers = parsed.headers as usize;
            let inner = inner_headers(&captured, parsed.key.protocol(), headers);
            assert_eq!(inner.is_some(), is_tunnel, "{frame:02x?}");
            let inner = u32::try_from(inner.unwrap_or(0)).unwrap();
            let skbuff = Skbuff { len, wire_len: len, gso_segs: 3, gso_size: 1000, tagged: false };
            let expected = skbuff.tally(direction, &parsed, inner);
            bed.tc(direction, &frame, skb);
            let raw = bed.drain_at_rest();
            assert_eq!(raw.flows.len(), 1);
            assert_eq!(raw.flows[0].1.tally, expected, "{direction:?}, {frame:02x?}");
        }
    }
}
