//! The parser against frames of every kind that it names.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

mod frames;

use frames::*;
use sensor_common::{
    layout::{Class, Direction, NonIp, Reason},
    parse::{
        Captured, Link, MAX_EXTENSION_HEADERS, MAX_MPLS_LABELS, MAX_PRIORITY_TAGS, MAX_VLAN_TAGS,
        Parsed, parse, parse_plain_ipv4, parse_plain_ipv6, parse_plain_tagged,
    },
};

fn upload(frame: &[u8]) -> Parsed {
    parse_as(frame, Direction::Tx)
}

fn parse_as(frame: &[u8], direction: Direction) -> Parsed {
    let link = Link { ifindex: 7, ..Link::default() };
    let frame = Captured { octets: frame, wire_len: frame.len() };
    let parsed = parse(&frame, direction, link);
    for plain in [
        parse_plain_ipv4(&frame, direction, || link),
        parse_plain_ipv6(&frame, direction, || link),
        parse_plain_tagged(&frame, direction, link),
    ] {
        assert!(plain.is_none_or(|plain| plain == parsed), "{plain:?} is not {parsed:?}");
    }
    parsed
}

/// Class, protocol, port, payload, VLAN of an upload whose device must be right.
fn summary(frame: &[u8]) -> (Class, u8, u16, u32, Option<u16>) {
    let parsed = upload(frame);
    let key = parsed.key;
    assert_eq!(key.mac(), DEVICE);
    assert_eq!(key.direction(), Direction::Tx);
    assert_eq!(key.ifindex(), 7);
    match key.class() {
        Class::Ipv4 => assert_eq!(key.ipv4(), FAR_V4),
        Class::Ipv6 => assert_eq!(key.ipv6(), FAR_V6),
        Class::NonIp | Class::Unparsed => assert_eq!(key.addr, [0; 2]),
    }
    (key.class(), key.protocol(), key.port(), parsed.payload, key.vlan())
}

fn unparsed(frame: &[u8]) -> Reason {
    let (class, number, ..) = summary(frame);
    assert_eq!(class, Class::Unparsed, "{frame:02x?}");
    let all = [
        Reason::Runt,
        Reason::VlanTruncated,
        Reason::VlanDepth,
        Reason::PppoeTruncated,
        Reason::Ipv4Truncated,
        Reason::Ipv4Version,
        Reason::Ipv4HeaderLength,
        Reason::Ipv4TotalLength,
        Reason::Ipv6Truncated,
        Reason::Ipv6Version,
    ];
    *all.iter().find(|reason| **reason as u8 == number).unwrap()
}

#[test]
fn tcp_over_ipv4() {
    let parsed = upload(&ethernet(ETH_IPV4, &ipv4(6, &tcp(8, b"hello"))));
    assert_eq!((parsed.payload, parsed.headers), (5, 14 + 20 + 32));
    assert_eq!(
        summary(&ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")))),
        (Class::Ipv4, 6, 443, 5, None)
    );
}

#[test]
fn udp_over_ipv6() {
    assert_eq!(
        summary(&ethernet(ETH_IPV6, &ipv6(17, &udp(b"abc")))),
        (Class::Ipv6, 17, 53, 3, None)
    );
}

#[test]
fn a_download_belongs_to_its_receiver_and_comes_from_the_source() {
    let frame = turned(ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b""))));
    let key = parse_as(&frame, Direction::Rx).key;
    assert_eq!((key.mac(), key.ipv4(), key.port()), (DEVICE, NEAR_V4, 40000));
    let frame = turned(ethernet(ETH_IPV6, &ipv6(17, &udp(b""))));
    let key = parse_as(&frame, Direction::Rx).key;
    assert_eq!((key.mac(), key.ipv6(), key.port()), (DEVICE, NEAR_V6, 40000));
    assert_eq!(key.direction(), Direction::Rx);
}

#[test]
fn padding_counts_as_neither_payload_nor_port() {
    let mut frame = ethernet(ETH_IPV4, &ipv4(17, &udp(b"ab")));
    frame.resize(60, 0xff);
    assert_eq!(summary(&frame), (Class::Ipv4, 17, 53, 2, None));
    let mut frame = ethernet(ETH_IPV4, &ipv4(17, b""));
    frame.resize(60, 0xff);
    assert_eq!(summary(&frame), (Class::Ipv4, 17, 0, 0, None));
}

#[test]
fn ip_options_are_skipped() {
    let frame = ethernet(ETH_IPV4, &ipv4_with(6, 0, &[1; 40], &tcp(5, b"xyz")));
    assert_eq!(summary(&frame), (Class::Ipv4, 6, 443, 3, None));
}

#[test]
fn other_transports() {
    let ports = [0x9c, 0x40, 0, 53, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    let summary_of = |protocol| summary(&ethernet(ETH_IPV4, &ipv4(protocol, &ports)));
    assert_eq!(summary_of(132), (Class::Ipv4, 132, 53, 3, None), "SCTP");
    assert_eq!(summary_of(136), (Class::Ipv4, 136, 53, 7, None), "UDP-Lite");
    assert_eq!(summary_of(1), (Class::Ipv4, 1, 0, 7, None), "ICMP");
    assert_eq!(summary_of(47), (Class::Ipv4, 47, 0, 15, None), "GRE");
    // Extension headers are IPv6's alone.
    assert_eq!(summary_of(0), (Class::Ipv4, 0, 0, 15, None), "protocol 0 over IPv4");
}

#[test]
fn vlan_tags_to_the_named_depth() {
    for (tpid, what) in [(0x8100, "802.1Q"), (0x88a8, "802.1ad"), (0x9100, "QinQ"), (0x9200, "")] {
        let frame = ethernet(tpid, &vlan(0x6064, ETH_IPV4, &ipv4(17, &udp(b"a"))));
        assert_eq!(summary(&frame), (Class::Ipv4, 17, 53, 1, Some(100)), "{what}");
    }
    for depth in 1..=MAX_VLAN_TAGS {
        assert_eq!(summary(&tagged(depth)), (Class::Ipv6, 17, 53, 0, Some(1)), "{depth} tags");
    }
    assert_eq!(unparsed(&tagged(MAX_VLAN_TAGS + 1)), Reason::VlanDepth);
    // The priority tag is a tag.
    let frame = ethernet(0x8100, &vlan(0xe000, ETH_IPV4, &ipv4(17, &udp(b""))));
    assert_eq!(summary(&frame).4, Some(0));
}

/// Linux strips any number of priority tags, so a frame behind them gets where it wants to.
#[test]
fn priority_tags_hide_nothing() {
    let stack = |ids: &[u16], tpid: u16| {
        let mut inner = ipv4(17, &udp(b"ab"));
        let mut ethertype = ETH_IPV4;
        for id in ids.iter().rev() {
            inner = vlan(*id, ethertype, &inner);
            ethertype = tpid;
        }
        ethernet(ethertype, &inner)
    };
    for depth in [1, 8, 9, 12, 300, 2000, MAX_PRIORITY_TAGS] {
        for tpid in [0x8100, 0x88a8] {
            // With and without a priority in them.
            let frame = stack(&vec![if depth % 2 == 0 { 0xe000 } else { 0 }; depth], tpid);
            assert_eq!(summary(&frame), (Class::Ipv4, 17, 53, 2, Some(0)), "{depth} tags");
        }
    }
    // Among others, which alone count against the limit for them.
    let mut mixed = vec![0; 40];
    for id in 1..=MAX_VLAN_TAGS {
        mixed[id * 4] = u16::try_from(id).unwrap();
    }
    assert_eq!(summary(&stack(&mixed, 0x8100)), (Class::Ipv4, 17, 53, 2, Some(0)));
    mixed[39] = 9;
    assert_eq!(unparsed(&stack(&mixed, 0x8100)), Reason::VlanDepth);
    // Linux knows this TPID in no frame that it forwards.
    assert_eq!(unparsed(&stack(&[0; 9], 0x9100)), Reason::VlanDepth);
    let beyond = stack(&vec![0; MAX_PRIORITY_TAGS + 1], 0x8100);
    assert_eq!(unparsed(&beyond), Reason::VlanDepth);
    let twelve = stack(&[0; 12], 0x8100);
    assert_eq!(unparsed(&twelve[..14 + 11 * 4 + 3]), Reason::VlanTruncated);
    assert_eq!(unparsed(&twelve[..14 + 12 * 4 + 19]), Reason::Ipv4Truncated);
}

/// A stack of tags, outermost 1.
fn tagged(depth: usize) -> Vec<u8> {
    let mut inner = ipv6(17, &udp(b""));
    let mut ethertype = ETH_IPV6;
    for id in (1..=depth).rev() {
        inner = vlan(u16::try_from(id).unwrap(), ethertype, &inner);
        ethertype = 0x8100;
    }
    ethernet(ethertype, &inner)
}

#[test]
fn a_tag_beside_the_frame_is_the_outermost() {
    let frame = ethernet(0x8100, &vlan(200, ETH_IPV4, &ipv4(17, &udp(b""))));
    let link = Link { ifindex: 1, vlan_tci: Some(0x6000 | 100), ..Link::default() };
    let captured = Captured { octets: &frame, wire_len: frame.len() };
    let key = parse(&captured, Direction::Tx, link).key;
    assert_eq!((key.vlan(), key.port()), (Some(100), 53));
}

#[test]
fn pppoe_sessions() {
    let v4 = pppoe(0x0021, &ipv4(6, &tcp(5, b"x")));
    assert_eq!(summary(&ethernet(0x8864, &v4)), (Class::Ipv4, 6, 443, 1, None));
    let v6 = pppoe(0x0057, &ipv6(17, &udp(b"xy")));
    let over_qinq = ethernet(0x88a8, &vlan(10, 0x8100, &vlan(20, 0x8864, &v6)));
    assert_eq!(summary(&over_qinq), (Class::Ipv6, 17, 53, 2, Some(10)));
    let lcp = pppoe(0xc021, &[9, 0, 0, 4]);
    let other = NonIp::Other as u8;
    assert_eq!(summary(&ethernet(0x8864, &lcp)), (Class::NonIp, other, 0, 0, None));
    assert_eq!(unparsed(&ethernet(0x8864, &[0x11, 0, 0, 1])), Reason::PppoeTruncated);
}

#[test]
fn a_ppp_protocol_number_may_be_one_octet() {
    for (number, inner, expected) in [
        (0x21, ipv4(6, &tcp(5, b"x")), (Class::Ipv4, 6, 443, 1, None)),
        (0x57, ipv6(17, &udp(b"xy")), (Class::Ipv6, 17, 53, 2, None)),
    ] {
        let mut session = pppoe(number, &inner);
        assert_eq!(session.remove(6), 0);
        session[5] -= 1;
        assert_eq!(summary(&ethernet(0x8864, &session)), expected);
    }
}

#[test]
fn mpls_labels_to_the_named_depth() {
    let (v4, v6) = (ipv4(6, &tcp(5, b"x")), ipv6(17, &udp(b"xy")));
    for labels in 1..=MAX_MPLS_LABELS {
        let expected = (Class::Ipv4, 6, 443, 1, None);
        assert_eq!(summary(&ethernet(0x8847, &mpls(labels, &v4))), expected, "{labels} labels");
        let expected = (Class::Ipv6, 17, 53, 2, None);
        assert_eq!(summary(&ethernet(0x8848, &mpls(labels, &v6))), expected, "{labels} labels");
    }
    let in_vlan = ethernet(0x8100, &vlan(30, 0x8847, &mpls(2, &v6)));
    assert_eq!(summary(&in_vlan), (Class::Ipv6, 17, 53, 2, Some(30)));
    let in_pppoe = ethernet(0x8864, &pppoe(0x0281, &mpls(1, &v4)));
    assert_eq!(summary(&in_pppoe), (Class::Ipv4, 6, 443, 1, None));

    let other = (Class::NonIp, NonIp::Other as u8, 0, 0, None);
    assert_eq!(summary(&ethernet(0x8847, &mpls(MAX_MPLS_LABELS + 1, &v4))), other);
    let pseudowire = [&[0; 4], &ethernet(ETH_IPV4, &v4)[..]].concat();
    assert_eq!(summary(&ethernet(0x8847, &mpls(1, &pseudowire))), other);
    // A stack that is cut off; a second look may find more.
    for len in 0..=8 {
        let frame = ethernet(0x8847, &mpls(2, &v4)[..len]);
        assert_eq!((summary(&frame), upload(&frame).cut), (other, true), "{len} octets");
    }
    assert_eq!(unparsed(&ethernet(0x8847, &mpls(2, &v4)[..8 + 19])), Reason::Ipv4Truncated);
}

#[test]
fn snap_and_other_llc() {
    let inner = snap(ETH_IPV4, &ipv4(17, &udp(b"q")));
    let frame = ethernet(u16::try_from(inner.len()).unwrap(), &inner);
    assert_eq!(summary(&frame), (Class::Ipv4, 17, 53, 1, None));
    let inner = snap(0x0806, &[0; 28]);
    let frame = ethernet(0x8100, &vlan(3, u16::try_from(inner.len()).unwrap(), &inner));
    assert_eq!(summary(&frame), (Class::NonIp, NonIp::Arp as u8, 0, 0, Some(3)));
    let spanning_tree = ethernet(38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(summary(&spanning_tree).1, NonIp::Other as u8);
    // The OUI of bridge tunnels (IEEE 802.1H).
    let mut inner = snap(ETH_IPV6, &ipv6(17, &udp(b"q")));
    inner[5] = 0xf8;
    let frame = ethernet(u16::try_from(inner.len()).unwrap(), &inner);
    assert_eq!(summary(&frame), (Class::Ipv6, 17, 53, 1, None));
    let foreign_oui = ethernet(38, &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x08, 0x00, 0x45, 0]);
    assert_eq!(summary(&foreign_oui).0, Class::NonIp);
}

#[test]
fn what_lies_behind_an_outer_length_is_padding() {
    let v4 = ipv4_with(6, 0, &[], &tcp(5, &[7; 10]));
    let v6 = ipv6(6, &tcp(5, &[7; 10]));
    // 802.3 says how much follows its length, PPPoE how much follows its header.
    let in_snap = |ethertype, inner: &[u8], len: usize| {
        ethernet(u16::try_from(8 + len).unwrap(), &snap(ethertype, inner))
    };
    let in_pppoe = |ppp, inner: &[u8], len: usize| {
        let mut session = pppoe(ppp, inner);
        session[4..6].copy_from_slice(&u16::try_from(2 + len).unwrap().to_be_bytes());
        ethernet(0x8864, &session)
    };
    for (frame, payload) in [
        (in_snap(ETH_IPV4, &v4, v4.len()), 10),
        (in_snap(ETH_IPV4, &v4, v4.len() - 3), 7),
        (in_pppoe(0x21, &v4, v4.len() - 3), 7),
        (in_pppoe(0x21, &v4, v4.len() + 3), 10),
        (in_pppoe(0x21, &v4, 20 + 20), 0),
    ] {
        assert_eq!(summary(&frame), (Class::Ipv4, 6, 443, payload, None), "{frame:02x?}");
    }
    assert_eq!(summary(&in_pppoe(0x57, &v6, 40)), (Class::Ipv6, 6, 0, 0, None));
    assert_eq!(unparsed(&in_snap(ETH_IPV4, &v4, 19)), Reason::Ipv4Truncated);
    assert_eq!(unparsed(&in_snap(ETH_IPV6, &v6, 39)), Reason::Ipv6Truncated);
    assert_eq!(unparsed(&in_pppoe(0x21, &v4, 19)), Reason::Ipv4Truncated);
    assert_eq!(unparsed(&in_pppoe(0x57, &v6, 39)), Reason::Ipv6Truncated);
    let labelled = in_pppoe(0x281, &mpls(1, &v4), 4 + 19);
    assert_eq!(unparsed(&labelled), Reason::Ipv4Truncated);
}

#[test]
fn frames_without_ip() {
    for (ethertype, kind) in [
        (0x0806, NonIp::Arp),
        (0x88cc, NonIp::Lldp),
        (0x888e, NonIp::Eapol),
        (0x8863, NonIp::Other),
        (0x0600, NonIp::Other),
        (0xffff, NonIp::Other),
    ] {
        let expected = (Class::NonIp, kind as u8, 0, 0, None);
        assert_eq!(summary(&ethernet(ethertype, &[0; 46])), expected, "{ethertype:#06x}");
        // Nothing behind the header is needed.
        assert_eq!(summary(&ethernet(ethertype, &[])), expected, "{ethertype:#06x}, cut");
    }
}

#[test]
fn ipv4_fragments() {
    // The first fragment has the ports.
    let first = ethernet(ETH_IPV4, &ipv4_with(17, 0x2000, &[], &udp(&[0; 16])));
    assert_eq!(summary(&first), (Class::Ipv4, 17, 53, 16, None));
    // A later one has none, and all behind the IP header is payload.
    let later = ethernet(ETH_IPV4, &ipv4_with(17, 0x0003, &[], &udp(&[0; 16])));
    assert_eq!(summary(&later), (Class::Ipv4, 17, 0, 24, None));
}

#[test]
fn ipv6_extension_headers() {
    let chain = extension(43, 1, &extension(60, 3, &extension(6, 2, &tcp(5, b"abcd"))));
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(0, &chain))), (Class::Ipv6, 6, 443, 4, None));
    // AH: length in units of four octets, minus two.
    let mut authentication = vec![17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    authentication.resize((4 + 2) * 4, 0);
    authentication.extend(udp(b"z"));
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(51, &authentication))).1, 17);
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(51, &authentication))).3, 1);
    // No next header.
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(59, &[0; 4]))), (Class::Ipv6, 59, 0, 4, None));
}

#[test]
fn ipv6_fragments() {
    let first = fragment(17, 0, true, &udp(&[0; 8]));
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(44, &first))), (Class::Ipv6, 17, 53, 8, None));
    let later = fragment(17, 5, false, &udp(&[0; 8]));
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(44, &later))), (Class::Ipv6, 17, 0, 16, None));
    // What follows in a later fragment is data, even where its number is an extension header's.
    let later = fragment(60, 5, true, &[6, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(summary(&ethernet(ETH_IPV6, &ipv6(44, &later))), (Class::Ipv6, 60, 0, 8, None));
}

#[test]
fn extension_headers_to_the_named_depth() {
    let chain = |headers: usize| {
        let mut inner = udp(b"");
        let mut next = 17;
        for _ in 0..headers {
            inner = extension(next, 1, &inner);
            next = 60;
        }
        ethernet(ETH_IPV6, &ipv6(next, &inner))
    };
    assert_eq!(summary(&chain(MAX_EXTENSION_HEADERS)).1, 17);
    // Beyond it the address still counts.
    let beyond = summary(&chain(MAX_EXTENSION_HEADERS + 1));
    assert_eq!((beyond.0, beyond.1, beyond.2), (Class::Ipv6, 60, 0));
}

#[test]
fn truncated_and_malformed_frames_have_a_reason_and_a_device() {
    let v4 = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"")));
    let v6 = ethernet(ETH_IPV6, &ipv6(6, &tcp(5, b"")));
    assert_eq!(unparsed(&v4[..14 + 19]), Reason::Ipv4Truncated);
    assert_eq!(unparsed(&v6[..14 + 39]), Reason::Ipv6Truncated);
    assert_eq!(unparsed(&ethernet(0x8100, &[0, 1])), Reason::VlanTruncated);
    let with = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        frame
    };
    assert_eq!(unparsed(&with(&v4, 14, 0x65)), Reason::Ipv4Version);
    assert_eq!(unparsed(&with(&v4, 14, 0x44)), Reason::Ipv4HeaderLength);
    assert_eq!(unparsed(&with(&v4, 17, 19)), Reason::Ipv4TotalLength);
    assert_eq!(unparsed(&with(&v6, 14, 0x45)), Reason::Ipv6Version);
    let runt = upload(&v4[..13]);
    assert_eq!((runt.key.class(), runt.key.protocol()), (Class::Unparsed, Reason::Runt as u8));
    assert_eq!(runt.key.mac(), [0; 6]);
}

#[test]
fn a_sound_ip_header_is_enough() {
    let frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")));
    for len in 14 + 20..14 + 20 + 20 {
        let parsed = upload(&frame[..len]);
        assert_eq!((parsed.key.class(), parsed.key.ipv4()), (Class::Ipv4, FAR_V4));
        assert_eq!((parsed.key.protocol(), parsed.payload), (6, 0));
    }
    let chain = ethernet(ETH_IPV6, &ipv6(0, &extension(6, 2, &tcp(5, b""))));
    let parsed = upload(&chain[..14 + 40 + 3]);
    assert_eq!((parsed.key.class(), parsed.key.ipv6(), parsed.cut), (Class::Ipv6, FAR_V6, true));
}

#[test]
fn a_length_of_zero_means_the_frame_s_own() {
    let mut frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")));
    frame[16..18].copy_from_slice(&[0, 0]);
    assert_eq!(summary(&frame), (Class::Ipv4, 6, 443, 5, None));
    let mut frame = ethernet(ETH_IPV6, &ipv6(6, &tcp(5, b"hello")));
    frame[18..20].copy_from_slice(&[0, 0]);
    assert_eq!(summary(&frame), (Class::Ipv6, 6, 443, 5, None));
}

#[test]
fn a_snap_length_cuts_octets_but_not_the_count() {
    let frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, &[7; 1000])));
    let captured = Captured { octets: &frame[..64], wire_len: frame.len() };
    let parsed = parse(&captured, Direction::Tx, Link::default());
    assert_eq!((parsed.key.port(), parsed.payload, parsed.cut), (443, 1000, false));
}

/// Most frames go the short way; what it leaves, the long way takes.
#[test]
fn plain_frames_are_those_without_anything_special() {
    let plain = |frame: &[u8]| {
        let frame = Captured { octets: frame, wire_len: frame.len() };
        [
            parse_plain_ipv4(&frame, Direction::Rx, Link::default).is_some(),
            parse_plain_ipv6(&frame, Direction::Rx, Link::default).is_some(),
            parse_plain_tagged(&frame, Direction::Rx, Link::default()).is_some(),
        ]
    };
    let v4 = ipv4(17, &udp(&[0; 18]));
    let v6 = ipv6(6, &tcp(5, b"hello"));
    assert_eq!(plain(&ethernet(ETH_IPV4, &v4)), [true, false, false]);
    assert_eq!(plain(&ethernet(ETH_IPV6, &v6)), [false, true, false]);
    assert_eq!(plain(&ethernet(ETH_IPV6, &ipv6(17, &udp(b"")))), [false, true, false]);
    assert_eq!(plain(&ethernet(ETH_IPV4, &ipv4(6, &tcp(5, &[0; 1400])))), [true, false, false]);
    assert_eq!(plain(&ethernet(ETH_IPV4, &ipv4(6, &tcp(15, &[0; 40])))), [true, false, false]);
    let tagged = |inner: &[u8]| ethernet(0x8100, inner);
    assert_eq!(plain(&tagged(&vlan(5, ETH_IPV4, &v4))), [false, false, true]);
    assert_eq!(plain(&tagged(&vlan(5, ETH_IPV6, &v6))), [false, false, true]);
    let fragment = |flags: u8, offset: u8| {
        let mut packet = v4.clone();
        packet[6..8].copy_from_slice(&[flags, offset]);
        ethernet(ETH_IPV4, &packet)
    };
    // Don't Fragment is no fragment.
    assert_eq!(plain(&fragment(0x40, 0)), [true, false, false]);
    for other in [
        fragment(0x20, 0),
        fragment(0, 1),
        ethernet(ETH_IPV4, &v4[..v4.len() - 1]),
        ethernet(ETH_IPV4, &ipv4(17, &udp(b"hello"))),
        ethernet(ETH_IPV4, &ipv4(1, &[0; 64])),
        ethernet(ETH_IPV4, &ipv4(6, &tcp(4, &[0; 64]))),
        ethernet(ETH_IPV4, &ipv4_with(17, 0, &[1; 4], &udp(&[0; 32]))),
        ethernet(ETH_IPV6, &v6[..39]),
        ethernet(ETH_IPV6, &ipv6(0, &extension(6, 1, &tcp(5, b"hello")))),
        tagged(&vlan(5, 0x8100, &vlan(6, ETH_IPV4, &v4))),
        tagged(&vlan(5, ETH_IPV4, &v4[..v4.len() - 1])),
        ethernet(0x88a8, &vlan(5, ETH_IPV4, &v4)),
        ethernet(0x0806, &[0; 46]),
        ethernet(ETH_IPV4, &[])[..13].to_vec(),
    ] {
        assert_eq!(plain(&other), [false; 3], "{other:02x?}");
    }
    // The tag beside the data is the outer one.
    let frame = tagged(&vlan(5, ETH_IPV4, &v4));
    let frame = Captured { octets: &frame, wire_len: frame.len() };
    let link = Link { vlan_tci: Some(7), ..Link::default() };
    assert_eq!(parse_plain_tagged(&frame, Direction::Rx, link), None);
    assert_eq!(parse(&frame, Direction::Rx, link).key.vlan(), Some(7));
}

/// Hostile octets: the parser is total, stays inside, and never makes more of a frame than it has.
#[test]
fn any_octets_give_a_key() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let seeds = [
        ethernet(ETH_IPV4, &ipv4_with(6, 0, &[1; 8], &tcp(6, &[0; 32]))),
        ethernet(ETH_IPV6, &ipv6(0, &extension(44, 1, &fragment(6, 0, true, &tcp(5, &[0; 32]))))),
        ethernet(0x88a8, &vlan(1, 0x8864, &pppoe(0x21, &ipv4(17, &udp(&[0; 16]))))),
        ethernet(60, &snap(ETH_IPV6, &ipv6(51, &extension(17, 2, &udp(&[0; 8]))))),
        ethernet(0x8100, &vlan(1, 0x8847, &mpls(3, &ipv4(17, &udp(&[0; 16]))))),
        ethernet(0x8100, &vlan(1, ETH_IPV4, &ipv4(6, &tcp(5, &[0; 16])))),
        ethernet(0x8100, &vlan(1, ETH_IPV6, &ipv6(17, &udp(&[0; 16])))),
    ];
    for round in 0..200_000_usize {
        let mut frame = seeds[round % seeds.len()].clone();
        for _ in 0..1 + round % 4 {
            let [at, value, cut, ..] = random();
            let index = usize::from(at) % frame.len();
            frame[index] = value;
            if cut < 16 {
                frame.truncate(usize::from(cut) * 8);
                break;
            }
        }
        for direction in [Direction::Tx, Direction::Rx] {
            let parsed = parse_as(&frame, direction);
            assert_ne!(parsed.key.rest, 0);
            assert!(parsed.payload as usize <= frame.len());
            assert_eq!(parsed.key.direction(), direction);
        }
    }
}

/// What the gateway makes in a far end's name says nothing of that end.
#[test]
fn rejections_by_the_gateway_are_marked() {
    let reset = |flags: u8| {
        let mut segment = tcp(5, b"");
        segment[13] = flags;
        segment
    };
    let icmp = |kind: u8| vec![kind, 3, 0, 0, 0, 0, 0, 0];
    let v4 = |protocol, payload: &[u8]| ethernet(ETH_IPV4, &ipv4(protocol, payload));
    let v6 = |protocol, payload: &[u8]| ethernet(ETH_IPV6, &ipv6(protocol, payload));
    for (frame, rejects) in [
        (v4(6, &reset(0x04)), true),
        (v4(6, &reset(0x14)), true),
        (v6(6, &reset(0x14)), true),
        (ethernet(0x8100, &vlan(5, ETH_IPV4, &ipv4(6, &reset(0x14)))), true),
        (v4(6, &reset(0x12)), false),
        (v4(1, &icmp(3)), true),
        (v4(1, &icmp(0)), false),
        (v6(58, &icmp(1)), true),
        (v6(58, &icmp(3)), false),
        (v4(17, &udp(&[4; 30])), false),
    ] {
        let frame = Captured { octets: &frame, wire_len: frame.len() };
        for direction in [Direction::Tx, Direction::Rx] {
            let here = Link { from_here: true, ..Link::default() };
            assert_eq!(parse(&frame, direction, here).key.is_rejected(), rejects, "{frame:02x?}");
            let elsewhere = parse(&frame, direction, Link::default()).key;
            assert!(!elsewhere.is_rejected(), "{frame:02x?}");
        }
        // The short way does not ask who sent it, so it must not take what could be one.
        assert!(!rejects || parse_plain_ipv4(&frame, Direction::Rx, Link::default).is_none());
        assert!(!rejects || parse_plain_ipv6(&frame, Direction::Rx, Link::default).is_none());
        assert!(!rejects || parse_plain_tagged(&frame, Direction::Rx, Link::default()).is_none());
    }
}

/// The end that such a packet is addressed to sends it on to another one.
#[test]
fn packets_with_segments_left_are_marked() {
    let routed = |kind: u8, left: u8| {
        let mut header = extension(17, 3, &udp(b"ab"));
        header[2..4].copy_from_slice(&[kind, left]);
        header
    };
    let key = |next: u8, payload: &[u8]| upload(&ethernet(ETH_IPV6, &ipv6(next, payload))).key;
    for kind in [0, 2, 3, 4] {
        assert!(key(43, &routed(kind, 1)).is_routed(), "type {kind}");
        assert!(!key(43, &routed(kind, 0)).is_routed(), "type {kind}");
    }
    assert!(key(0, &extension(43, 1, &routed(4, 1))).is_routed());
    assert!(key(43, &[routed(4, 1)[..24].to_vec(), vec![0; 40]].concat()).is_routed());
    assert_eq!(key(43, &routed(4, 1)).port(), 53);
    assert!(!key(17, &udp(b"ab")).is_routed());
}
