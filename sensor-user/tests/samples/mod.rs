//! Frames of every kind that the parser tells apart, and damaged ones.

use crate::frames::*;

/// A frame of each kind.
pub(crate) fn whole() -> Vec<Vec<u8>> {
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
    // Priority tags, of which there may be any number, and a tag among them.
    let mut tags = ipv6(17, &udp(b""));
    let mut ethertype = ETH_IPV6;
    for tag in 1..=40 {
        tags = vlan(if tag == 20 { 5 } else { 0 }, ethertype, &tags);
        ethertype = if tag % 3 == 0 { 0x88a8 } else { 0x8100 };
        if matches!(tag, 8 | 9 | 12 | 40) {
            samples.push(ethernet(ethertype, &tags));
        }
    }
    let mut chain = udp(b"");
    let mut next = 17;
    for _ in 0..9 {
        chain = extension(next, 1, &chain);
        next = 60;
        samples.push(ethernet(ETH_IPV6, &ipv6(next, &chain)));
    }
    samples
}

/// The same, also cut at every length that test_run takes, and with octets behind the addresses changed.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let whole = whole();
    let mut samples = whole.clone();
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
