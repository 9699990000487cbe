//! The same over frames that nobody thought of: every encapsulation that the parser knows, in any
//! order that may be sent, then cut, padded and damaged.

use std::cell::RefCell;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    bed::{Bed, SMALL},
    frames::*,
    parity::agree,
};

const VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const MPLS: [u16; 2] = [0x8847, 0x8848];
const PPPOE: u16 = 0x8864;

/// Transport, the extension headers of IPv6, and what is neither.
const PROTOCOLS: [u8; 18] =
    [6, 17, 1, 58, 132, 33, 136, 47, 50, 59, 0, 43, 44, 51, 60, 135, 139, 140];

/// What an IP header carries: its protocol number, and octets.
fn transport() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let octets = || vec(any::<u8>(), 0..40);
    prop_oneof![
        (5_u8..=15, octets()).prop_map(|(words, payload)| (6, tcp(words, &payload))),
        octets().prop_map(|payload| (17, udp(&payload))),
        (prop::sample::select(&PROTOCOLS[..]), octets()),
        (any::<u8>(), octets()),
    ]
}

/// EtherType and octets of an IPv4 packet.
fn packet_v4() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let fragment =
        prop_oneof![3 => Just(0), 1 => Just(0x4000), 1 => Just(0x2000), 1 => any::<u16>()];
    let options = prop_oneof![3 => Just(0), 1 => 0_usize..=10].prop_map(|words| vec![1; 4 * words]);
    (transport(), fragment, options).prop_map(|((protocol, payload), fragment, options)| {
        (ETH_IPV4, ipv4_with(protocol, fragment, &options, &payload))
    })
}

/// EtherType and octets of an IPv6 packet, with up to ten extension headers.
fn packet_v6() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let header = (prop::sample::select(&PROTOCOLS[10..]), 1_u8..4, any::<u16>());
    (transport(), vec(header, 0..=10)).prop_map(|((protocol, payload), headers)| {
        let (next, chain) = headers.into_iter().fold((protocol, payload), wrapped);
        (ETH_IPV6, ipv6(next, &chain))
    })
}

/// An extension header before what there is.
fn wrapped((next, payload): (u8, Vec<u8>), (kind, units, field): (u8, u8, u16)) -> (u8, Vec<u8>) {
    let wrapped = match kind {
        // Mostly a first fragment: others hide what follows.
        44 if field % 4 == 0 => fragment(next, field >> 3, field & 1 == 1, &payload),
        44 => fragment(next, 0, true, &payload),
        // In units of four octets, minus two.
        51 => {
            let mut header = extension(next, units, &payload);
            header[1] = 2 * units - 2;
            header
        }
        _ => extension(next, units, &payload),
    };
    (kind, wrapped)
}

/// EtherType and octets of anything that is not IP.
fn no_ip() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let known = prop::sample::select(&[0x0806_u16, 0x88cc, 0x888e, 0x8863, 0x0600][..]);
    (prop_oneof![known, any::<u16>()], vec(any::<u8>(), 0..60))
}

/// Between the Ethernet header's addresses and the IP header.
fn encapsulated() -> impl Strategy<Value = Vec<u8>> {
    let inner = prop_oneof![4 => packet_v4(), 4 => packet_v6(), 1 => no_ip()];
    let labels = prop_oneof![2 => Just(0_usize), 1 => 1_usize..=10];
    let pppoe = prop_oneof![2 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let snap = prop_oneof![2 => Just(false), 1 => Just(true)];
    let tags = vec((prop::sample::select(&VLAN[..]), any::<u16>()), 0..=10);
    (inner, labels, pppoe, snap, tags).prop_map(
        |((ethertype, inner), labels, pppoe, snap, tags)| {
            let mut layer = (ethertype, inner);
            if labels > 0 {
                layer = (MPLS[labels % 2], mpls(labels, &layer.1));
            }
            if let Some(is_compressed) = pppoe {
                layer = (PPPOE, in_pppoe(layer, is_compressed));
            }
            if snap {
                let inner = crate::frames::snap(layer.0, &layer.1);
                layer = (u16::try_from(inner.len()).unwrap(), inner);
            }
            for (tpid, tci) in tags {
                layer = (tpid, vlan(tci, layer.0, &layer.1));
            }
            ethernet(layer.0, &layer.1)
        },
    )
}

fn in_pppoe((ethertype, inner): (u16, Vec<u8>), is_compressed: bool) -> Vec<u8> {
    let number = match ethertype {
        ETH_IPV4 => 0x0021,
        ETH_IPV6 => 0x0057,
        0x8847 | 0x8848 => 0x0281,
        other => other,
    };
    let mut session = pppoe(number, &inner);
    if is_compressed && session[6] == 0 {
        session.remove(6);
        session[5] = session[5].wrapping_sub(1);
    }
    session
}

/// Cut or padded, and with some octets behind the addresses changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop_oneof![2 => vec(any::<(prop::sample::Index, u8)>(), 0..1), 1 => vec(any::<(prop::sample::Index, u8)>(), 1..5)];
    let end = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let padding = prop_oneof![2 => Just(0_usize), 1 => 0_usize..60];
    (encapsulated(), changes, end, padding).prop_map(|(mut frame, changes, end, padding)| {
        for (at, octet) in changes {
            let at = 12 + at.index(frame.len() - 12);
            frame[at] = octet;
        }
        if let Some(end) = end {
            frame.truncate(14 + end.index(frame.len() - 13));
        }
        let len = frame.len();
        frame.resize(len + padding, 0xa5);
        frame
    })
}

/// `PROPTEST_CASES` sets another number of frames.
#[test]
fn kernel_and_host_agree_on_generated_frames() {
    if !xtask::require_root("kernel_and_host_agree_on_generated_frames") {
        return;
    }
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases.max(4096);
    let bed = RefCell::new(Bed::new(SMALL));
    let mut runner = TestRunner::new(Config { cases, ..config });
    let outcome = runner.run(&damaged(), |frame| {
        agree(&mut bed.borrow_mut(), &frame);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
