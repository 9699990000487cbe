//! One parser, proven one: kernel and host agree frame by frame.

use labgate::model::{Direction, Tally};
use sensor_common::{
    layout::FlowKey,
    parse::{Captured, Link, parse},
};

use crate::{
    bed::{Bed, SMALL, Skb, takes_tc},
    samples,
};

/// What the kernel has counted for one run of a program.
fn counted(bed: &mut Bed) -> (FlowKey, Tally) {
    let raw = bed.drain_at_rest();
    assert_eq!((raw.flows.len(), raw.coarse.len(), raw.overflow.len()), (1, 0, 0));
    let (key, counters) = raw.flows[0];
    (key, counters.tally)
}

/// Runs every program over a frame and compares key, lengths and payload with what the parser says in
/// user space; the number of runs.
pub(crate) fn agree(bed: &mut Bed, frame: &[u8]) -> usize {
    let host = |direction| {
        // test_run presents the frames on the loopback interface.
        // That never came in by an interface.
        let from_here = direction == Direction::Rx;
        let link = Link { ifindex: 1, vlan_tci: None, from_here };
        let parsed = parse(&Captured { octets: frame, wire_len: frame.len() }, direction, link);
        let (bytes, payload) = (frame.len() as u64, parsed.payload.into());
        (parsed.key, Tally { packets: 1, bytes, payload })
    };
    assert_eq!(bed.xdp(frame), 2);
    assert_eq!(counted(bed), host(Direction::Tx), "labgate_xdp, {frame:02x?}");
    assert_eq!(bed.xdp_frags(frame), 2);
    assert_eq!(counted(bed), host(Direction::Tx), "labgate_frags, {frame:02x?}");
    if !takes_tc(frame) {
        return 2;
    }
    let skb = Skb { wire_len: u32::try_from(frame.len()).unwrap(), ..Skb::default() };
    for direction in [Direction::Tx, Direction::Rx] {
        assert_eq!(bed.tc(direction, frame, skb), -1);
        assert_eq!(counted(bed), host(direction), "at TC, {direction:?}, {frame:02x?}");
    }
    4
}

#[test]
fn kernel_and_host_agree() {
    if !xtask::require_root("kernel_and_host_agree") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let samples = samples::all();
    let runs: usize = samples.iter().map(|frame| agree(&mut bed, frame)).sum();
    assert!(runs > 3 * samples.len(), "{runs} runs over {} frames", samples.len());
}

/// What fuzzing found to take ways of its own through the parser.
#[test]
fn kernel_and_host_agree_on_the_fuzzing_corpus() {
    if !xtask::require_root("kernel_and_host_agree_on_the_fuzzing_corpus") {
        return;
    }
    let mut bed = Bed::new(SMALL);
    let corpus = xtask::fuzz::corpus::read(include_str!("../../fuzz/corpus/frame.txt")).unwrap();
    let (mut frames, mut runs) = (0, 0);
    for mut frame in corpus.into_iter().flat_map(|group| group.inputs) {
        // What test_run takes.
        frame.truncate(3520);
        if frame.len() < 14 {
            continue;
        }
        runs += agree(&mut bed, &frame);
        frames += 1;
    }
    assert!(frames > 40 && runs > 3 * frames, "{runs} runs over {frames} frames");
}
