//! One parser, proven one: kernel and host agree frame by frame.

use std::collections::HashMap;

use labgate::{
    kernel::Sizes,
    model::{Direction, Tally},
};
use sensor_common::{
    layout::FlowKey,
    parse::{Captured, Link, parse},
};

use crate::{
    bed::{Bed, SMALL, Skb, takes_tc},
    frames::*,
};

fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![
        ethernet(ETH_IPV4, &ipv4(6, &tcp(8, b"hello"))),
        ethernet(ETH_IPV4, &ipv4_with(6, 0, &[1; 40], &tcp(5, b"hello"))),
        ethernet(ETH_IPV4, &ipv4_with(17, 0x2000, &[], &udp(b"first"))),
        ethernet(ETH_IPV4, &ipv4_with(17, 0x0010, &[], &udp(b"later"))),
        ethernet(ETH_IPV4, &ipv4(1, &[8, 0, 0, 0, 0, 0, 0, 0, 1])),
        ethernet(ETH_IPV6, &ipv6(17, &udp(b"abc"))),
        ethernet(
            ETH_IPV6,
            &ipv6(0, &extension(43, 1, &extension(60, 3, &extension(6, 2, &tcp(5, b"x"))))),
        ),
        ethernet(ETH_IPV6, &ipv6(44, &fragment(17, 0, true, &udp(&[0; 8])))),
        ethernet(ETH_IPV6, &ipv6(44, &fragment(17, 9, false, &udp(&[0; 8])))),
        ethernet(0x8864, &pppoe(0x21, &ipv4(6, &tcp(5, b"x")))),
        ethernet(0x88a8, &vlan(10, 0x8100, &vlan(20, 0x8864, &pppoe(0x57, &ipv6(17, &udp(b"q")))))),
        ethernet(0x0806, &[0; 46]),
        ethernet(0x88cc, &[0; 46]),
        ethernet(0x888e, &[0; 46]),
        ethernet(38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0]),
        ethernet(40, &snap(ETH_IPV4, &ipv4(17, &udp(b"q")))),
    ];
    let mut tags = ipv4(17, &udp(b""));
    let mut ethertype = ETH_IPV4;
    for id in 1..=9 {
        tags = vlan(id, ethertype, &tags);
        ethertype = 0x8100;
        samples.push(ethernet(ethertype, &tags));
    }
    let mut chain = udp(b"");
    let mut next = 17;
    for _ in 0..9 {
        chain = extension(next, 1, &chain);
        next = 60;
        samples.push(ethernet(ETH_IPV6, &ipv6(next, &chain)));
    }
    // Each also cut at every length that test_run takes, and with octets changed.
    let whole = samples.clone();
    for frame in &whole {
        for len in 14..frame.len().min(90) {
            samples.push(frame[..len].to_vec());
        }
    }
    let mut state = 0x1234_5678_9abc_def1_u64;
    for round in 0..4000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut frame = whole[round % whole.len()].clone();
        for pair in state.to_le_bytes().chunks(2).take(1 + round % 4) {
            let at = 12 + usize::from(pair[0]) % (frame.len() - 12);
            frame[at] = pair[1];
        }
        samples.push(frame);
    }
    samples
}

/// Frames to a batch; each batch costs a grace period, and no batch may fill a device's quota.
const BATCH: usize = 500;

#[test]
fn kernel_and_host_agree() {
    if !xtask::require_root("kernel_and_host_agree") {
        return;
    }
    let sizes = Sizes { flow_slots_per_cpu: 65_536, unknown_devices: 1024, ..SMALL };
    let mut bed = Bed::new(sizes);
    for batch in samples().chunks(BATCH) {
        let mut expected: HashMap<FlowKey, Tally> = HashMap::new();
        for frame in batch {
            for direction in [Direction::Tx, Direction::Rx] {
                match direction {
                    Direction::Tx => assert_eq!(bed.xdp(frame), 2),
                    Direction::Rx if !takes_tc(frame) => continue,
                    Direction::Rx => {
                        let wire_len = u32::try_from(frame.len()).unwrap();
                        let skb = Skb { wire_len, ..Skb::default() };
                        assert_eq!(bed.tc(Direction::Rx, frame, skb), -1);
                    }
                }
                // test_run presents the frames on the loopback interface.
                let link = Link { ifindex: 1, vlan_tci: None };
                let captured = Captured { octets: frame, wire_len: frame.len() };
                let host = parse(&captured, direction, link);
                let bytes = frame.len() as u64;
                let tally = Tally { packets: 1, bytes, payload: host.payload.into() };
                expected.entry(host.key).or_default().add(&tally);
            }
        }
        let raw = bed.drain();
        let mut counted: HashMap<FlowKey, Tally> = HashMap::new();
        for (key, counters) in &raw.flows {
            counted.entry(*key).or_default().add(&counters.tally);
        }
        assert_eq!((raw.coarse.len(), raw.overflow.len()), (0, 0));
        for (key, tally) in &expected {
            assert_eq!(counted.get(key), Some(tally), "{key:?}");
        }
        assert_eq!(counted.len(), expected.len());
    }
}
