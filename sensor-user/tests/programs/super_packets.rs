//! Super-packets: what they become on the wire is what counts.

use labgate::model::{Direction, Tally};

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
