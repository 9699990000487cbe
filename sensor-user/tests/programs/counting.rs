//! One packet, one key, one half.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use labgate::model::Direction;
use sensor_common::layout::Class;

use crate::{
    bed::{Bed, SMALL, Skb, counted, seen, takes_tc},
    frames::*,
};

/// From `linux/bpf.h` and `linux/pkt_cls.h`.
const XDP_PASS: u32 = 2;
const TCX_NEXT: i32 = -1;

#[test]
fn every_verdict_is_to_pass_on() {
    if !xtask::require_root("every_verdict_is_to_pass_on") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let frames = [
        ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"x"))),
        ethernet(ETH_IPV6, &ipv6(17, &udp(b"x"))),
        ethernet(0x0806, &[0; 46]),
        ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"x"))[..19]),
        ethernet(0x8100, &[0]),
    ];
    let mut runs = 0;
    for frame in &frames {
        assert_eq!(bed.xdp(frame), XDP_PASS);
        assert_eq!(bed.xdp_frags(frame), XDP_PASS);
        runs += 2;
        for direction in [Direction::Tx, Direction::Rx] {
            if takes_tc(frame) {
                assert_eq!(bed.tc(direction, frame, Skb::default()), TCX_NEXT);
                runs += 1;
            }
        }
    }
    let raw = bed.drain();
    assert_eq!(seen(&raw).0, runs);
    assert_eq!(counted(&raw), seen(&raw));
}

#[test]
fn a_flow_is_counted_once_per_packet_with_its_bytes() {
    if !xtask::require_root("a_flow_is_counted_once_per_packet_with_its_bytes") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let before = SystemTime::now();
    let frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, &[0; 100])));
    bed.xdp_repeated(&frame, 1000);
    let raw = bed.drain();
    // test_run may move to another CPU, so a key may have two rows.
    let packets: u64 = raw.flows.iter().map(|(_, counters)| counters.tally.packets).sum();
    let payload: u64 = raw.flows.iter().map(|(_, counters)| counters.tally.payload).sum();
    assert_eq!((packets, payload), (1000, 100_000));
    assert_eq!(counted(&raw), (1000, 1000 * frame.len() as u64));
    assert_eq!(seen(&raw), counted(&raw));
    let (key, counters) = &raw.flows[0];
    assert_eq!((key.mac(), key.ipv4(), key.port()), (DEVICE, FAR_V4, 443));
    assert_eq!((key.class(), key.direction()), (Class::Ipv4, Direction::Tx));
    let first = UNIX_EPOCH + Duration::from_nanos(counters.first_seen);
    let slack = Duration::from_millis(5);
    assert!(first > before - slack && first < SystemTime::now() + slack, "{first:?}");
}

#[test]
fn an_epoch_starts_empty() {
    if !xtask::require_root("an_epoch_starts_empty") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let frame = ethernet(ETH_IPV4, &ipv4(17, &udp(b"")));
    for round in 1..=5 {
        bed.xdp_repeated(&frame, round);
        let raw = bed.drain();
        assert_eq!(raw.epoch, round - 1);
        assert_eq!(counted(&raw).0, u64::from(round));
        assert_eq!(seen(&raw).0, u64::from(round));
    }
    assert_eq!(seen(&bed.drain()).0, 0);
}

#[test]
fn what_was_handed_out_is_not_handed_out_again() {
    if !xtask::require_root("what_was_handed_out_is_not_handed_out_again") {
        return;
    }
    let sizes = SMALL;
    let mut bed = Bed::new(sizes);
    let frame = ethernet(ETH_IPV4, &ipv4(17, &udp(b"")));
    bed.xdp_repeated(&frame, 7);
    assert_eq!(counted(&bed.drain_without_clearing()).0, 7);
    bed.xdp_repeated(&frame, 2);
    assert_eq!(counted(&bed.drain()).0, 2);
    assert_eq!(counted(&bed.drain()).0, 0);
}

#[test]
fn jumbo_frames_in_fragments() {
    if !xtask::require_root("jumbo_frames_in_fragments") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let frame = ethernet(ETH_IPV6, &ipv6(17, &udp(&[0; 8900])));
    bed.xdp_frags(&frame);
    let raw = bed.drain();
    assert_eq!(counted(&raw), (1, frame.len() as u64));
    assert_eq!(raw.flows[0].1.tally.payload, 8900);
}
