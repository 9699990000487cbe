//! Captures of each kind, whole and hostile.

use std::io::{self, Cursor, Write as _};

use super::*;
use crate::replay::tests::{captures, frames};

use captures::{ETHERNET, NULL, Order, PcapNg, RAW, SLL, SLL2, TIME, USB, gzipped};
use frames::{DEVICE, ETH_IPV4, ethernet, ipv4, snap, tcp, udp};

const SECOND: u64 = 1_000_000_000;
const ORDERS: [Order; 2] = [Order::Little, Order::Big];

/// Octets as a file.
type Compress = fn(&[u8]) -> Vec<u8>;
/// Each format, and how octets become a file of it.
const COMPRESSIONS: [(&str, Compress); 4] =
    [("gzip", gzipped), ("zstd", zstd), ("xz", xz), ("lz4", lz4)];

fn zstd(octets: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(octets, CompressionLevel::Fastest)
}

fn xz(octets: &[u8]) -> Vec<u8> {
    let mut writer =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    writer.write_all(octets).unwrap();
    writer.finish().unwrap()
}

fn lz4(octets: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

/// Octets, length on the wire and time of a frame.
type Seen = (Vec<u8>, usize, Option<u64>);

/// All frames, and why there are no more.
fn read(octets: impl Into<Vec<u8>>) -> (Vec<Seen>, Option<Fault>) {
    read_from(Box::new(Cursor::new(octets.into())))
}

fn read_from(reader: Box<dyn Read>) -> (Vec<Seen>, Option<Fault>) {
    let mut seen = Vec::new();
    let mut capture = match Capture::new(reader) {
        Ok(capture) => capture,
        Err(fault) => return (seen, Some(fault)),
    };
    loop {
        match capture.read() {
            Ok(Some(Record { octets, wire_len, time, .. })) => {
                seen.push((octets.to_vec(), wire_len, time));
            }
            Ok(None) => return (seen, capture.doubts()),
            Err(fault) => return (seen, Some(fault)),
        }
    }
}

/// The frames of a sound capture.
fn frames_of(octets: impl Into<Vec<u8>>) -> Vec<Seen> {
    let (seen, fault) = read(octets);
    assert!(fault.is_none(), "{fault:?}");
    seen
}

/// The frames before a fault, and what is said of it.
fn faulty(octets: impl Into<Vec<u8>>) -> (usize, String) {
    let (seen, fault) = read(octets);
    (seen.len(), fault.unwrap().to_string())
}

fn frame() -> Vec<u8> {
    ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")))
}

fn other() -> Vec<u8> {
    ethernet(ETH_IPV4, &ipv4(17, &udp(b"a longer one")))
}

#[test]
fn pcap_in_both_byte_orders_and_resolutions() {
    let start = u64::from(TIME) * SECOND;
    for order in ORDERS {
        let capture = captures::Pcap::new(order, ETHERNET).frame(5, &frame()).frame(7, &other());
        let expected = |resolution: u64| {
            [
                (frame(), frame().len(), Some(start + 5 * resolution)),
                (other(), other().len(), Some(start + 7 * resolution)),
            ]
        };
        assert_eq!(frames_of(capture.octets), expected(1000), "{order:?}");
        let capture = captures::Pcap::nanos(order, ETHERNET).frame(5, &frame()).frame(7, &other());
        assert_eq!(frames_of(capture.octets), expected(1), "{order:?}");
    }
    assert_eq!(frames_of(captures::Pcap::new(Order::Little, ETHERNET).octets), []);
}

#[test]
fn a_frame_check_sequence_is_not_counted_where_the_capture_says_that_it_is_there() {
    const FCS: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];
    let with_fcs = [frame(), FCS.to_vec()].concat();
    let expected = |capture: Vec<u8>, len: usize| {
        let (octets, wire_len, _) = frames_of(capture).remove(0);
        assert_eq!((octets.len(), wire_len), (len, len));
        assert_eq!(octets, with_fcs[..len]);
    };
    let without = frame().len();
    for order in ORDERS {
        for (network, len) in
            [(0x2400_0001, without), (0x0400_0001, without + 4), (0x2000_0001, without + 4)]
        {
            expected(captures::Pcap::new(order, network).frame(0, &with_fcs).octets, len);
        }
        // Cut before it.
        let capture = captures::Pcap::new(order, 0x2400_0001).cut(TIME, 0, &frame()[..20], 1518);
        let (octets, wire_len, _) = frames_of(capture.octets).remove(0);
        assert_eq!((octets.len(), wire_len), (20, 1514));
        let capture = captures::Pcap::new(order, 0xf400_0001).cut(TIME, 0, &[1; 9], 9);
        assert_eq!(frames_of(capture.octets), [(vec![], 0, Some(u64::from(TIME) * SECOND))]);

        // In octets and, as the draft has it, in bits.
        for (fcs_len, len) in [(0, without + 4), (4, without), (32, without)] {
            let ng = PcapNg::new(order).interface(ETHERNET, 0, &[(13, &[fcs_len])]);
            expected(ng.frame(0, 1, &with_fcs).octets, len);
            let ng = PcapNg::new(order).interface(ETHERNET, 0, &[(13, &[fcs_len])]);
            expected(ng.simple(&with_fcs, u32::try_from(with_fcs.len()).unwrap()).octets, len);
        }
        for (flags, len) in [(4 << 5, without), (0, without + 4), (2 << 5, without + 2)] {
            let ng = PcapNg::new(order).interface(ETHERNET, 0, &[]);
            expected(ng.flagged(0, &with_fcs, flags).octets, len);
        }
    }
}

#[test]
fn old_versions_have_the_length_on_the_wire_first() {
    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    let whole = u32::try_from(frame().len()).unwrap();
    for order in ORDERS {
        for (minor, fields) in [
            (2, [whole, 40]),
            // Some programs wrote the number of this version and meant the next.
            (3, [whole, 40]),
            (3, [40, whole]),
            (4, [40, whole]),
        ] {
            let mut capture = captures::Pcap::with_version(order, MICROSECONDS, minor, ETHERNET)
                .cut(TIME, 0, &frame()[..40], whole)
                .octets;
            for (at, field) in [(32, fields[0]), (36, fields[1])] {
                let octets =
                    if order == Order::Big { field.to_be_bytes() } else { field.to_le_bytes() };
                capture[at..at + 4].copy_from_slice(&octets);
            }
            let (octets, wire_len, _) = frames_of(capture).remove(0);
            assert_eq!((&octets[..], wire_len), (&frame()[..40], frame().len()), "2.{minor}");
        }
    }
}

#[test]
fn records_of_linux_s_first_ring_buffers_are_longer() {
    for order in ORDERS {
        let mut capture =
            captures::Pcap::with_version(order, 0xa1b2_cd34, 4, ETHERNET).frame(5, &frame()).octets;
        // Interface, protocol, type.
        capture.splice(40..40, [0, 0, 0, 2, 8, 0, 0, 0]);
        let time = Some(u64::from(TIME) * SECOND + 5000);
        assert_eq!(frames_of(capture), [(frame(), frame().len(), time)], "{order:?}");
    }
}

#[test]
fn what_was_captured_was_on_the_wire_whatever_the_capture_says() {
    for wire_len in [0, 1, 20] {
        let capture = captures::Pcap::new(Order::Little, ETHERNET)
            .cut(TIME, 0, &frame(), wire_len)
            .frame(1, &frame());
        let (seen, fault) = read(capture.octets);
        let lengths: Vec<_> = seen.iter().map(|(octets, len, _)| (octets.len(), *len)).collect();
        assert_eq!(lengths, [(59, 59), (59, 59)]);
        let said = fault.unwrap().to_string();
        assert!(said.starts_with("says of 1 packets that less was on the wire"), "{said}");
    }
}

#[test]
fn times_that_no_ledger_holds_are_no_times() {
    let offset = |seconds: i64| seconds.to_le_bytes();
    let capture = PcapNg::new(Order::Little)
        .interface(ETHERNET, 0, &[])
        .interface(ETHERNET, 0, &[(14, &offset(-1_000_000))])
        .interface(ETHERNET, 0, &[(14, &offset(9_223_372_036))])
        .frame(0, 5, &frame())
        .frame(1, 5, &frame())
        .frame(2, 0, &frame())
        .frame(2, 900_000, &frame())
        .frame(0, u64::MAX, &frame());
    let (seen, fault) = read(capture.octets);
    let times: Vec<_> = seen.into_iter().map(|(_, _, time)| time).collect();
    assert_eq!(times, [Some(5000), None, Some(9_223_372_036 * SECOND), None, None]);
    let said = fault.unwrap().to_string();
    assert!(said.starts_with("has 3 packets with times before 1970 or after 2262"), "{said}");
}

#[test]
fn packets_without_a_header_of_a_link_get_one() {
    let (v4, v6) = (ipv4(6, &tcp(5, b"hello")), [&[0x60][..], &[0; 39]].concat());
    let ethernet = |ethertype: [u8; 2], inner: &[u8]| [&[0; 12][..], &ethertype, inner].concat();
    let null = |family: [u8; 4], inner: &[u8]| [&family[..], inner].concat();
    let (ip4, ip6) = ([8, 0], [0x86, 0xdd]);
    for (link, packet, expected) in [
        (RAW, v4.clone(), ethernet(ip4, &v4)),
        (RAW, v6.clone(), ethernet(ip6, &v6)),
        (RAW, vec![0x10], ethernet([0xff; 2], &[0x10])),
        (RAW, vec![], ethernet([0xff; 2], &[])),
        (12, v4.clone(), ethernet(ip4, &v4)),
        (14, v4.clone(), ethernet(ip4, &v4)),
        (228, v4.clone(), ethernet(ip4, &v4)),
        (229, v6.clone(), ethernet(ip6, &v6)),
        (NULL, null([2, 0, 0, 0], &v4), ethernet(ip4, &v4)),
        (NULL, null([0, 0, 0, 2], &v4), ethernet(ip4, &v4)),
        (108, null([0, 0, 0, 2], &v4), ethernet(ip4, &v4)),
        (NULL, null([30, 0, 0, 0], &v6), ethernet(ip6, &v6)),
        (NULL, null([0, 0, 0, 24], &v6), ethernet(ip6, &v6)),
        (NULL, null([28, 0, 0, 0], &v6), ethernet(ip6, &v6)),
        (NULL, null([7, 0, 0, 0], &v4), ethernet([0xff; 2], &v4)),
        (NULL, vec![2, 0, 0], vec![]),
    ] {
        let capture = captures::Pcap::new(Order::Big, link).frame(0, &packet);
        let (octets, wire_len, _) = frames_of(capture.octets).remove(0);
        // Too short for its own header: as it was.
        let len = if expected.is_empty() { packet.len() } else { expected.len() };
        assert_eq!((octets, wire_len), (expected, len), "{link} {packet:02x?}");
    }
}

#[test]
fn pktap_says_the_link_type_of_each_packet_and_its_way() {
    let packet = |link: u32, flags: u32, link_header: u32, inner: &[u8]| {
        let mut header = vec![0_u8; 112];
        for (at, word) in [(0, 112), (4, 1), (8, link), (36, flags), (44, link_header)] {
            header[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
        [header, inner.to_vec()].concat()
    };
    let inner = ipv4(6, &tcp(5, b"hello"));
    let raw = [&[0; 12][..], &[8, 0], &inner].concat();
    for (packet, expected, way) in [
        (packet(1, 2, 14, &frame()), frame(), Way::Out),
        (packet(12, 1, 0, &inner), raw.clone(), Way::In),
        (packet(0, 0, 4, &[&[2, 0, 0, 0], &inner[..]].concat()), raw.clone(), Way::Unknown),
        // Darwin's tunnels.
        (packet(12, 2, 4, &[&[2, 0, 0, 0], &inner[..]].concat()), raw, Way::Out),
    ] {
        for link in [149, 258] {
            let file = captures::Pcap::new(Order::Little, link).frame(0, &packet).octets;
            let mut capture = Capture::new(Box::new(Cursor::new(file))).unwrap();
            let record = capture.read().unwrap().unwrap();
            assert_eq!((&*record.octets, record.wire_len), (&expected[..], expected.len()));
            assert_eq!(record.way, way);
        }
    }
    let mut long = packet(1, 2, 14, &frame());
    long[..4].copy_from_slice(&1000_u32.to_le_bytes());
    let file = captures::Pcap::new(Order::Little, 258)
        .frame(0, &packet(1, 2, 14, &frame()))
        .frame(1, &packet(127, 2, 14, &frame()))
        .frame(2, &packet(258, 2, 14, &packet(1, 2, 14, &frame())))
        .frame(3, &frame())
        .frame(4, &long);
    let (packets, said) = faulty(file.octets);
    assert_eq!(packets, 1);
    assert!(said.starts_with("has link type IEEE802_11_RADIOTAP (127); "), "{said}");
    assert!(said.contains("; 4 packets of such"), "{said}");
}

#[test]
fn a_snap_length_leaves_the_length_on_the_wire() {
    let capture = captures::Pcap::new(Order::Little, ETHERNET).cut(TIME, 0, &frame()[..20], 1514);
    let (octets, wire_len, _) = frames_of(capture.octets).remove(0);
    assert_eq!((&octets[..], wire_len), (&frame()[..20], 1514));
}

#[test]
fn pcapng_in_both_byte_orders() {
    for order in ORDERS {
        let capture = PcapNg::new(order)
            .interface(ETHERNET, 0, &[])
            .block(5, &[0; 12])
            .frame(0, 5_000_007, &frame())
            .block(0x8000_0001, &[1; 400])
            .old(0, 6_000_000, &other())
            .cut(0, 7_000_000, &frame()[..20], 1514)
            .simple(&frame(), 59)
            .section(if order == Order::Big { Order::Little } else { Order::Big })
            .interface(ETHERNET, 0, &[])
            .frame(0, 8_000_000, &other());
        let expected = [
            (frame(), frame().len(), Some(5_000_007_000)),
            (other(), other().len(), Some(6 * SECOND)),
            (frame()[..20].to_vec(), 1514, Some(7 * SECOND)),
            (frame(), frame().len(), None),
            (other(), other().len(), Some(8 * SECOND)),
        ];
        assert_eq!(frames_of(capture.octets), expected, "{order:?}");
    }
}

#[test]
fn each_interface_has_its_link_type_and_times() {
    const TSRESOL: u16 = 9;
    const TSOFFSET: u16 = 14;
    for order in ORDERS {
        let offset = 1_000_u64;
        let offset = match order {
            Order::Little => offset.to_le_bytes(),
            Order::Big => offset.to_be_bytes(),
        };
        let cooked =
            [&[0, 0, 0, 1, 0, 6][..], &DEVICE, &[0, 0, 8, 0], &ipv4(17, &udp(b""))].concat();
        let capture = PcapNg::new(order)
            .interface(ETHERNET, 0, &[(TSRESOL, &[9])])
            .interface(SLL, 0, &[(TSRESOL, &[3]), (TSOFFSET, &offset)])
            // In 1024ths of a second, and finer than any clock.
            .interface(ETHERNET, 0, &[(TSRESOL, &[0x80 | 10])])
            .interface(ETHERNET, 0, &[(TSRESOL, &[0x7f])])
            .frame(2, 2048 + 512, &frame())
            .frame(1, 1500, &cooked)
            .frame(3, u64::MAX, &frame())
            .frame(0, SECOND + 1, &frame());
        let (seen, times): (Vec<_>, Vec<_>) =
            frames_of(capture.octets).into_iter().map(|(octets, _, time)| (octets, time)).unzip();
        assert_eq!(
            times,
            [
                Some(2 * SECOND + SECOND / 2),
                Some(1001 * SECOND + SECOND / 2),
                Some(0),
                Some(SECOND + 1)
            ]
        );
        assert_eq!(seen[1][6..12], DEVICE);
    }
}

#[test]
fn a_section_knows_nothing_of_the_interfaces_before() {
    let capture = PcapNg::new(Order::Little)
        .interface(ETHERNET, 0, &[])
        .frame(0, 1, &frame())
        .section(Order::Little)
        .frame(0, 2, &frame());
    let (packets, said) = faulty(capture.octets);
    assert_eq!(packets, 1);
    assert!(
        said.ends_with("a packet of interface 0, which the section does not describe"),
        "{said}"
    );
}

#[test]
fn simple_packets_are_cut_at_the_interface_s_snap_length() {
    let capture =
        PcapNg::new(Order::Little).interface(ETHERNET, 21, &[]).simple(&frame()[..21], 1514);
    assert_eq!(frames_of(capture.octets), [(frame()[..21].to_vec(), 1514, None)]);
}

#[test]
fn cooked_frames_become_ethernet_frames_of_their_sender() {
    let inner = ipv4(6, &tcp(5, b"hello"));
    let zero = [&[0; 12][..], &[8, 0], &inner].concat();
    let sll = |hardware: u8, protocol: [u8; 2], inner: &[u8]| {
        [&[0, 4, 0, hardware, 0, 6][..], &DEVICE, &[0xee; 2], &protocol, inner].concat()
    };
    let sll2 = |protocol: [u8; 2], inner: &[u8]| {
        [&protocol[..], &[0, 0, 0, 0, 0, 3, 0, 1, 0, 6], &DEVICE, &[0xee; 2], inner].concat()
    };
    let ethernet =
        |ethertype: [u8; 2], inner: &[u8]| [&[0; 6][..], &DEVICE, &ethertype, inner].concat();
    let in_snap = snap(ETH_IPV4, &inner);
    for (link, cooked, expected) in [
        (SLL, sll(1, [8, 0], &inner), ethernet([8, 0], &inner)),
        (SLL2, sll2([8, 0], &inner), ethernet([8, 0], &inner)),
        // 802.3, whose length is not told.
        (SLL, sll(1, [0, 4], &in_snap), ethernet([5, 0xff], &in_snap)),
        // A sender without a MAC address.
        (SLL, [&[0, 4, 0, 1, 0, 4][..], &sll(1, [8, 0], &inner)[6..]].concat(), zero.clone()),
        (SLL, [&[0, 4, 0, 1, 4, 6][..], &sll(1, [8, 0], &inner)[6..]].concat(), zero.clone()),
        (SLL2, [&sll2([8, 0], &inner)[..11], &[8], &sll2([8, 0], &inner)[12..]].concat(), zero),
        // Netlink numbers its protocols by itself.
        (
            SLL,
            [&[0, 4, 3, 56, 0, 6][..], &sll(0, [8, 0], &inner)[6..]].concat(),
            ethernet([0xff; 2], &inner),
        ),
        (SLL, sll(1, [8, 0], b"")[..15].to_vec(), Vec::new()),
        (SLL2, sll2([8, 0], b"")[..19].to_vec(), Vec::new()),
    ] {
        let wire_len = cooked.len();
        let capture = captures::Pcap::new(Order::Big, link).frame(0, &cooked);
        let (octets, len, _) = frames_of(capture.octets).remove(0);
        assert_eq!((octets, len), (expected, wire_len));
    }
}

#[test]
fn link_types_that_are_not_read_are_named() {
    let (packets, said) = faulty(captures::Pcap::new(Order::Little, 105).frame(0, &frame()).octets);
    assert_eq!(packets, 0);
    assert!(said.starts_with("has link type IEEE802_11 (105); what is read is Ethernet"), "{said}");
    assert!(said.contains("monitor mode is encrypted"), "{said}");
    let (_, said) = faulty(captures::Pcap::new(Order::Little, 9999).octets);
    assert!(said.starts_with("has link type 9999;"), "{said}");

    // Those of other interfaces are read.
    let capture = PcapNg::new(Order::Little)
        .interface(USB, 0, &[(2, b"usb\x1b[2Jmon")])
        .interface(ETHERNET, 0, &[])
        .frame(0, 1, b"usb")
        .frame(1, 2, &frame())
        .frame(0, 3, b"usb");
    let (packets, said) = faulty(capture.octets);
    assert_eq!(packets, 1);
    assert!(
        said.starts_with(
            r#"has link type USB_LINUX_MMAPPED (220) on interface 0 ("usb\u{1b}[2Jmon");"#
        ),
        "{said}"
    );
    assert!(said.ends_with("; 2 packets of such interfaces were left out"), "{said}");
    // One without frames takes nothing away.
    let capture = PcapNg::new(Order::Little).interface(USB, 0, &[]).interface(ETHERNET, 0, &[]);
    assert_eq!(frames_of(capture.frame(1, 2, &frame()).octets).len(), 1);
}

#[test]
fn compression_is_seen_through() {
    let pcap = captures::Pcap::new(Order::Little, ETHERNET).frame(5, &frame()).octets;
    let pcapng = PcapNg::new(Order::Little).interface(ETHERNET, 0, &[]).frame(0, 1, &frame());
    for (name, compress) in COMPRESSIONS {
        assert_eq!(frames_of(compress(&pcap)), frames_of(pcap.clone()), "{name}");
        // In several parts, as pigz, pzstd and loggers write it; and filled up, as on tapes.
        let parts = [compress(&pcap[..30]), compress(&pcap[30..])].concat();
        assert_eq!(frames_of(parts.clone()), frames_of(pcap.clone()), "{name}");
        for zeros in [1, 4, 512, 200_000] {
            let filled = [parts.clone(), vec![0; zeros]].concat();
            assert_eq!(frames_of(filled), frames_of(pcap.clone()), "{name}, {zeros}");
        }
        assert_eq!(frames_of(compress(&pcapng.octets)).len(), 1);

        let (packets, said) = faulty(compress(&pcap[..pcap.len() - 1]));
        assert_eq!(packets, 0);
        assert!(said.ends_with("begins at byte 24 when decompressed"), "{name}: {said}");
        let compressed = compress(&pcap);
        for len in 6..compressed.len() {
            // The checksum at the end may be missing after all frames.
            let (packets, said) = faulty(&compressed[..len]);
            assert!(packets <= 1 && said.contains("cut off"), "{name}, {len}: {said}");
        }
        let (packets, said) = faulty([compress(&pcap), b"more".to_vec()].concat());
        assert_eq!(packets, 1);
        assert!(said.contains(&format!("behind what {name} compressed lies something")), "{said}");
    }
    // Frames that are passed over, as pzstd and the seekable format of zstd have them.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    let parts = [&skippable[..], &zstd(&pcap), &skippable, &skippable].concat();
    assert_eq!(frames_of(parts), frames_of(pcap.clone()));
    let mut damaged = zstd(&pcap);
    *damaged.last_mut().unwrap() ^= 1;
    let (packets, said) = faulty(damaged);
    assert!(packets <= 1 && said.contains("the checksum is wrong"), "{said}");
    assert_eq!(
        faulty(b"BZh91AY&SY".as_slice()).1,
        "is compressed or an archive (bzip2); unpack it first, or compress it by gzip, zstd, xz or lz4"
    );
}

/// Changed octets in compressed captures: an answer always.
#[test]
fn hostile_compression_ends() {
    let pcap = captures::Pcap::new(Order::Little, ETHERNET).frame(5, &frame()).frame(6, &other());
    for (name, compress) in COMPRESSIONS {
        let compressed = compress(&pcap.octets);
        for at in 0..compressed.len() {
            for value in [0, 1, 0x7f, 0xff, !compressed[at]] {
                let mut changed = compressed.clone();
                changed[at] = value;
                // Zeros are records without octets.
                assert!(read(changed).0.len() < 64, "{name}");
            }
        }
    }
}

#[test]
fn a_cut_off_end_is_told_with_its_place_and_all_before_is_read() {
    for order in ORDERS {
        let pcap = captures::Pcap::new(order, ETHERNET).frame(5, &frame());
        let first = pcap.octets.len();
        let pcap = pcap.frame(6, &frame()).octets;
        let pcapng = PcapNg::new(order).interface(ETHERNET, 0, &[]).frame(0, 1, &frame());
        let ng_first = pcapng.octets.len();
        let pcapng = pcapng.frame(0, 2, &frame()).octets;
        for (capture, first) in [(pcap, first), (pcapng, ng_first)] {
            for len in first + 1..capture.len() {
                let (packets, said) = faulty(&capture[..len]);
                assert_eq!(packets, 1, "{order:?}, {len} octets");
                let expected = format!(
                    "is cut off: its end is missing from the record on that begins at byte {first}"
                );
                assert_eq!(said, expected, "{order:?}, {len} octets");
            }
            assert_eq!(frames_of(&capture[..first]).len(), 1);
            // Within the header.
            for len in 1..24 {
                let (packets, said) = faulty(&capture[..len]);
                assert_eq!(packets, 0);
                assert!(said.contains("cut off") && said.ends_with("byte 0"), "{len}: {said}");
            }
        }
    }
}

#[test]
fn what_is_no_capture_is_not_read() {
    assert_eq!(faulty([]).1, "is empty; a capture has a header even without packets");
    let (_, said) = faulty(b"root:x:0:0".as_slice());
    assert!(said.starts_with("is no capture: it begins with the octets 72 6f 6f 74;"), "{said}");
    let (_, said) = faulty(gzipped(b"root:x:0:0"));
    assert!(said.starts_with("is no capture"), "{said}");
    let (_, said) = faulty(b"\x1f\x8b no gzip at all".as_slice());
    assert!(said.starts_with("can't be read from byte 0 when decompressed on: "), "{said}");
}

/// Nothing in a file makes us take more memory than a record may have.
#[test]
fn lengths_are_bounded_before_they_are_believed() {
    let at = |capture: &[u8], at: usize, value: u32| {
        let mut capture = capture.to_vec();
        capture[at..at + 4].copy_from_slice(&value.to_le_bytes());
        faulty(capture)
    };
    let pcap = captures::Pcap::new(Order::Little, ETHERNET).frame(5, &frame());
    let second = pcap.octets.len();
    let pcap = pcap.frame(6, &frame()).octets;
    for len in [MAX_FRAME + 1, 1 << 31, u32::MAX] {
        let (packets, said) = at(&pcap, second + 8, len);
        let expected = format!("is damaged at byte {second}: a frame of {len} octets");
        assert!(packets == 1 && said.starts_with(&expected), "{said}");
    }
    assert!(at(&pcap, second + 8, MAX_FRAME).1.contains("cut off"));

    let pcapng = PcapNg::new(Order::Little).interface(ETHERNET, 0, &[]).frame(0, 1, &frame());
    let second = pcapng.octets.len();
    let pcapng = pcapng.frame(0, 2, &frame()).octets;
    for (field, values, what) in [
        (4, &[0, 11][..], "a block of"),
        (4, &[12, 31], "a block of type 6 whose parts don't fit"),
        (4, &[(16 << 20) + 1, u32::MAX], "a block of"),
        (8, &[1, u32::MAX], "a packet of interface"),
        // Longer than the block, and so long that padding it overflows.
        (20, &[61, 70, 1 << 20, u32::MAX - 3, u32::MAX], "a block of type 6 whose parts don't fit"),
    ] {
        for value in values {
            let (packets, said) = at(&pcapng, second + field, *value);
            let expected = format!("is damaged at byte {second}: {what}");
            assert!(packets == 1 && said.starts_with(&expected), "{value}: {said}");
        }
    }
    // Other blocks are passed over, however long they say they are.
    let whole = PcapNg::new(Order::Little).interface(ETHERNET, 0, &[]).block(0x4242, &[0; 4]);
    let last = whole.octets.len() - 16;
    let (_, said) = at(&whole.octets, last + 4, u32::MAX);
    assert!(said.contains("cut off") && said.ends_with(&format!("byte {last}")), "{said}");
    // The length at the end is another one.
    let end = pcapng.len() - 4;
    assert!(at(&pcapng, end, 16).1.contains("whose parts don't fit"));
    // What is not known yet.
    assert!(at(&pcap, 4, 3).1.contains("byte 0: a header of version 3"));
    assert!(at(&pcapng, 12, 2).1.contains("byte 0: a section of version 2"));
    assert!(at(&pcapng, 8, 0x0102_0304).1.contains("byte 0: a section of byte order 0x1020304"));
}

/// Any octet of a capture changed to any other, and any end cut off: an answer always, and never a
/// frame too many.
#[test]
fn hostile_captures_end() {
    let pcap = captures::Pcap::new(Order::Little, ETHERNET).frame(5, &frame()).frame(6, &other());
    let cooked = captures::Pcap::nanos(Order::Big, SLL2).frame(5, &frame()).frame(6, &other());
    let pcapng = PcapNg::new(Order::Big)
        .interface(ETHERNET, 0, &[(2, b"eth0"), (9, &[6])])
        .frame(0, 1, &frame())
        .simple(&other(), 59)
        .old(0, 3, &frame());
    for capture in [pcap.octets, cooked.octets, pcapng.octets] {
        for at in 0..capture.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, !capture[at]] {
                let mut changed = capture.clone();
                changed[at] = value;
                assert!(read(changed).0.len() <= 3);
            }
        }
    }
}

#[test]
fn a_reader_may_give_little_at_a_time_and_fail() {
    /// Gives an octet at a time, then an error.
    struct Slow(Vec<u8>, usize);
    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(octet) = self.0.get(self.1) else { return Err(io::Error::other("unplugged")) };
            into[0] = *octet;
            self.1 += 1;
            Ok(1)
        }
    }
    let pcap = captures::Pcap::new(Order::Little, ETHERNET).frame(5, &frame()).octets;
    let end = pcap.len();
    let (seen, fault) = read_from(Box::new(Slow(pcap, 0)));
    assert_eq!(seen.len(), 1);
    assert_eq!(fault.unwrap().to_string(), format!("can't be read from byte {end} on: unplugged"));
}
