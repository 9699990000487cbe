//! Captures through both engines: one report.

use std::io::Cursor;

use labgate::{
    config::{self, Config},
    reload::open_geo,
    replay::{EngineKind, Replay, capture::Capture},
    state::{Detail, Setup},
};
use sensor_common::report::{Replay as Replayed, Report};

use crate::{
    captures::{ETHERNET, Order, Pcap, SLL, SLL2, TIME},
    frames::*,
    samples,
};

const CONFIG: &str = "
interfaces: [lan0]
devices:
  - {name: redmi, mac: '64:09:80:12:34:56', group: phones}
policy:
  groups:
    phones: {allowed_countries: [IN]}
limits:
  unknown_devices: 65536
  destinations_per_device: 1000000
";

/// What becomes of captures, apart from what is said of the engine.
fn replayed(config: &Config, kind: EngineKind, captures: &[Vec<u8>]) -> (Report, Replayed) {
    let geo = open_geo(config).unwrap();
    let setup = Setup::new(config, &geo);
    let mut replay = Replay::new(config, setup, geo, kind).unwrap();
    for octets in captures {
        let capture = Capture::new(Box::new(Cursor::new(octets.clone())));
        replay.add("capture", capture).unwrap();
    }
    let mut report = replay.report(Detail::Address);
    let replayed = report.replay.take().unwrap();
    (report, replayed)
}

/// As [`both`], of captures that nothing is wrong with.
fn sound(captures: &[Vec<u8>]) -> (Report, u64) {
    let (report, replayed) = both(captures);
    assert!(replayed.captures.iter().all(|capture| capture.problem.is_empty()), "{replayed:?}");
    (report, replayed.host_packets)
}

/// The report of both engines, and what the kernel's says of itself.
fn both(captures: &[Vec<u8>]) -> (Report, Replayed) {
    let config = config::parse(CONFIG, "replay.yaml").unwrap();
    let (host, by_host) = replayed(&config, EngineKind::Host, captures);
    let (kernel, by_kernel) = replayed(&config, EngineKind::Kernel, captures);
    assert_eq!(host, kernel);
    assert_eq!(by_host.captures, by_kernel.captures);
    assert_eq!((&*by_host.engine, &*by_kernel.engine), ("host", "kernel"));
    assert!(host.books.closed);
    (host, by_kernel)
}

/// Whatever is wrong with them: both read what comes before, and say the same.
#[test]
fn both_engines_make_the_same_report_of_the_fuzzing_corpus() {
    if !xtask::require_root("both_engines_make_the_same_report_of_the_fuzzing_corpus") {
        return;
    }
    let corpus = xtask::fuzz::corpus::read(include_str!("../../fuzz/corpus/replay.txt")).unwrap();
    let captures: Vec<_> = corpus.into_iter().flat_map(|group| group.inputs).collect();
    let (report, replayed) = both(&captures);
    assert!(report.books.seen_packets > 40 && report.books.unparsed_packets > 0);
    assert!(replayed.captures.iter().any(|capture| !capture.problem.is_empty()));
}

#[test]
fn both_engines_make_the_same_report() {
    if !xtask::require_root("both_engines_make_the_same_report") {
        return;
    }
    // Up, down, and as if captured on all interfaces; in many epochs.
    let mut captures = [ETHERNET, ETHERNET, SLL, SLL2].map(|link| Pcap::new(Order::Little, link));
    for (number, frame) in (0_u32..).zip(samples::all()) {
        let wire_len = u32::try_from(frame.len()).unwrap();
        let (time, fraction) = (TIME + number / 500, number % 500);
        let protocol = &frame[12..14];
        let sll = [&[0, 0, 0, 1, 0, 6][..], &DEVICE, &[0, 0], protocol, &frame[14..]].concat();
        let sll2 = [protocol, &[0; 7], &[1, 0, 6], &DEVICE, &[0, 0], &frame[14..]].concat();
        let records = [
            (frame.clone(), wire_len),
            (turned(frame.clone()), wire_len),
            (sll, wire_len + 2),
            (sll2, wire_len + 6),
        ];
        let mut records = records.into_iter();
        captures = captures.map(|capture| {
            let (octets, wire_len) = records.next().unwrap();
            capture.cut(time, fraction, &octets, wire_len)
        });
    }
    let (report, left) = sound(&captures.map(|capture| capture.octets));
    assert!(report.books.seen_packets > 20_000 && report.books.unparsed_packets > 100);
    let redmi = report.devices.iter().find(|device| device.name == "redmi").unwrap();
    assert!(redmi.destinations.iter().any(|row| row.rx_packets > 0 && row.tx_packets > 0));
    assert!(!report.alerts.is_empty());
    assert!(left < report.books.seen_packets / 4, "{left} packets were left to the host");
}

#[test]
fn a_snap_length_anywhere_changes_nothing_between_the_engines() {
    if !xtask::require_root("a_snap_length_anywhere_changes_nothing_between_the_engines") {
        return;
    }
    let chain = extension(43, 1, &extension(60, 3, &extension(6, 2, &tcp(5, &[0; 1300]))));
    let frames = [
        ethernet(ETH_IPV4, &ipv4(6, &tcp(8, &[0; 1400]))),
        ethernet(ETH_IPV6, &ipv6(0, &chain)),
        ethernet(0x8100, &vlan(7, ETH_IPV4, &ipv4_with(17, 0, &[1; 8], &udp(&[0; 200])))),
        ethernet(0x8847, &mpls(3, &ipv4(17, &udp(&[0; 100])))),
        ethernet(0x0806, &[0; 46]),
    ];
    let mut capture = Pcap::new(Order::Little, ETHERNET);
    let mut cut = 0;
    for frame in frames.iter().chain(&frames.clone().map(turned)) {
        for len in 0..frame.len().min(200) {
            let wire_len = u32::try_from(frame.len()).unwrap();
            capture = capture.cut(TIME, cut, &frame[..len], wire_len);
            cut += 1;
        }
    }
    let (report, left) = sound(&[capture.octets]);
    assert_eq!(report.books.seen_packets, u64::from(cut));
    // Those that are cut behind their headers are shown to the kernel.
    assert!((100..700).contains(&left), "{left} of {cut} packets were left to the host");
}

#[test]
fn frames_that_the_kernel_can_not_be_shown_are_counted_all_the_same() {
    if !xtask::require_root("frames_that_the_kernel_can_not_be_shown_are_counted_all_the_same") {
        return;
    }
    let up = |len: usize| ethernet(ETH_IPV4, &ipv4(17, &udp(&vec![0; len - 42])));
    let mut capture = Pcap::new(Order::Little, ETHERNET)
        // Without a header, longer than one buffer, than the longest.
        .frame(0, &up(60)[..13])
        .frame(1, &up(3520))
        .frame(2, &up(3521))
        .frame(3, &up(65_000))
        .cut(TIME, 4, &up(60), 73_152)
        .cut(TIME, 5, &up(60), 73_153)
        .cut(TIME, 6, &up(60), u32::MAX)
        // At TC hooks there are narrower bounds.
        .frame(7, &turned(up(3712)))
        .frame(8, &turned(up(3713)))
        .frame(9, &turned(ethernet(ETH_IPV4, &[])))
        .frame(10, &turned(ethernet(ETH_IPV6, &[0; 39])))
        .frame(11, &turned(ethernet(0x0806, &[])))
        .frame(12, &turned(ethernet(0x0806, &[0])));
    // More than the tables are read after.
    for n in 0..10_000_u32 {
        let mut frame = up(60);
        frame[32..34].copy_from_slice(&n.to_be_bytes()[2..]);
        frame[9..12].copy_from_slice(&(n / 3).to_be_bytes()[1..]);
        capture = capture.frame(100 + n, &frame);
    }
    let (report, left) = sound(&[capture.octets]);
    assert_eq!(left, 7);
    assert_eq!((report.books.coarse_packets, report.books.overflow_packets), (0, 0));
    assert_eq!(report.books.seen_packets, 10_013);
}
