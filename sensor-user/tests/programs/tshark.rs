//! Captures of every encapsulation, replayed by both engines and counted by tshark: one result for each sender and
//! destination.

use std::{fs, path::Path};

use xtask::captures::compare;

use crate::{
    captures::{ETHERNET, Order, Pcap, PcapNg, SLL, SLL2, TIME, gzipped},
    frames::*,
};

const LABGATE: &str = env!("CARGO_BIN_EXE_labgate");

/// Where frames are cut.
const SNAP_LENS: [usize; 7] = [14, 20, 30, 34, 54, 62, 80];

/// Frames as networks have them, of three senders; one packet has these IP options.
fn sent(options: &[u8]) -> Vec<Vec<u8>> {
    let v4 = |protocol, payload: &[u8]| (ETH_IPV4, ipv4(protocol, payload));
    let v6 = |next, payload: &[u8]| (ETH_IPV6, ipv6(next, payload));
    let mut layers = vec![
        v4(6, &tcp(8, b"hello")),
        (ETH_IPV4, ipv4_with(6, 0, options, &tcp(5, b"hello"))),
        // Fragments: a first one and a later one.
        (ETH_IPV4, ipv4_with(17, 0x2000, &[], &udp(b"first"))),
        (ETH_IPV4, ipv4_with(17, 0x0010, &[], &udp(b"later"))),
        v6(44, &fragment(17, 0, true, &udp(&[0; 8]))),
        v6(44, &fragment(17, 9, false, &udp(&[0; 8]))),
        // Extension headers.
        v6(0, &extension(43, 1, &extension(60, 3, &extension(6, 2, &tcp(5, b"x"))))),
        v6(17, &udp(b"abc")),
        v4(1, &[8, 0, 0, 0, 0, 0, 0, 0, 1]),
        // IP in IP: the outer header is the one.
        v4(41, &ipv6(17, &udp(b"q"))),
        (0x0806, vec![0; 46]),
        (0x88cc, vec![0; 46]),
    ];
    let inner = layers.clone();
    for (ethertype, payload) in &inner[..8] {
        let ppp = if *ethertype == ETH_IPV4 { 0x0021 } else { 0x0057 };
        let session = pppoe(ppp, payload);
        layers.push((0x8864, session.clone()));
        layers.push((0x88a8, vlan(10, 0x8100, &vlan(20, 0x8864, &session))));
        for labels in 1..=3 {
            layers.push((0x8847, mpls(labels, payload)));
        }
        let snap = snap(*ethertype, payload);
        layers.push((u16::try_from(snap.len()).unwrap(), snap));
        let one = vlan(30, *ethertype, payload);
        let two = vlan(0x6000, 0x8100, &one);
        layers.push((0x88a8, vlan(0, 0x8100, &two)));
        layers.extend([(0x8100, one), (0x88a8, two)]);
    }
    let frame = |(number, (ethertype, payload)): (usize, (u16, Vec<u8>))| {
        let mut frame = ethernet(ethertype, &payload);
        frame[11] = u8::try_from(number % 3).unwrap();
        frame
    };
    layers.into_iter().enumerate().map(frame).collect()
}

/// Writes captures of the same frames, and returns their number.
fn write(directory: &Path) -> u64 {
    let frames = sent(&[1; 40]);
    let mut whole = Pcap::new(Order::Big, ETHERNET);
    let mut cut = PcapNg::new(Order::Little).interface(ETHERNET, 0, &[]);
    let (mut sll, mut sll2) = (Pcap::nanos(Order::Little, SLL), Pcap::new(Order::Little, SLL2));
    for frame in &frames {
        let len = u32::try_from(frame.len()).unwrap();
        whole = whole.cut(TIME, 0, frame, len);
        let (sender, protocol) = (&frame[6..12], &frame[12..14]);
        // As the kernel cooks it: what is not an EtherType is 4, which is 802.2.
        let protocol =
            if u16::from_be_bytes([protocol[0], protocol[1]]) < 0x600 { &[0, 4] } else { protocol };
        let header = [&[0, 4, 0, 1, 0, 6][..], sender, &[0, 0], protocol].concat();
        sll = sll.cut(TIME, 0, &[&header, &frame[14..]].concat(), len + 2);
        let header = [protocol, &[0; 7], &[1, 4, 6], sender, &[0, 0]].concat();
        sll2 = sll2.cut(TIME, 0, &[&header, &frame[14..]].concat(), len + 6);
    }
    // With the addresses of an IP header, and without. Where options are cut off tshark shows no address; here it is in the
    // part of the header that all have.
    for frame in sent(&[]) {
        let len = u32::try_from(frame.len()).unwrap();
        for snap_len in SNAP_LENS {
            let octets = &frame[..frame.len().min(snap_len)];
            cut = cut.cut(0, u64::from(TIME) * 1_000_000, octets, len);
        }
    }
    let truncated = whole.octets[..whole.octets.len() - 3].to_vec();
    // IPv4's EtherType before IPv6, which tshark follows.
    let mixed = ethernet(ETH_IPV4, &ipv6(17, &udp(b"abc")));
    let mixed = Pcap::new(Order::Big, ETHERNET).frame(0, &mixed);
    for (name, octets) in [
        ("whole.pcap.gz", gzipped(&whole.octets)),
        ("truncated.pcap", truncated),
        ("cut.pcapng", cut.octets),
        ("sll.pcap", sll.octets),
        ("sll2.pcap", sll2.octets),
        ("mixed.pcap", mixed.octets),
        ("none.pcap", b"GIF89a".to_vec()),
    ] {
        fs::write(directory.join(name), octets).unwrap();
    }
    frames.len() as u64
}

#[test]
fn tshark_counts_the_same() {
    if !xtask::require_root("tshark_counts_the_same") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = write(directory.path());
    let path = |name: &&str| directory.path().join(name);
    let names = ["cut.pcapng", "sll.pcap", "sll2.pcap", "truncated.pcap", "whole.pcap.gz"];
    let files: Vec<_> = names.iter().chain(&["mixed.pcap", "none.pcap"]).map(path).collect();
    let outcome = compare(Path::new(LABGATE), &files, &["host", "kernel"]).unwrap();
    assert!(outcome.different.is_empty(), "{outcome}");
    assert_eq!(outcome.equal, names.iter().map(path).collect(), "{outcome}");
    let on_purpose: Vec<_> =
        outcome.on_purpose.iter().map(|found| (&found.file, found.engine)).collect();
    let mixed = path(&"mixed.pcap");
    assert_eq!(on_purpose, [(&mixed, "host"), (&mixed, "kernel")]);
    assert_eq!(outcome.unread, [path(&"none.pcap")].into());
    // Four captures of each, one of which lacks the last, the cuts, and the mixed one.
    assert_eq!(outcome.packets, frames * (4 + SNAP_LENS.len() as u64) - 1 + 1);
}
