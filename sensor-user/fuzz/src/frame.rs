//! The frame parser: any octets are a frame, also where a capture cut them.

use sensor_common::{
    layout::{Class, Direction, FlowKey, NonIp, Reason},
    parse::{
        Captured, ETHERNET_HEADER, Link, Parsed, VLAN_TAG, parse, parse_plain_ipv4,
        parse_plain_ipv6, parse_plain_tagged,
    },
};

/// Headers that the parser follows end well before; what is cut behind changes nothing.
const DEEPEST_CUT: usize = 256;
/// The tag of 802.1Q.
const VLAN: [u8; 2] = [0x81, 0x00];

/// Parses octets as a frame in both directions, with and without a tag beside it, whole and cut at each
/// place.
pub fn check(octets: &[u8]) {
    for direction in [Direction::Tx, Direction::Rx] {
        let whole = Captured { octets, wire_len: octets.len() };
        for vlan_tci in [None, Some(0xffff)] {
            let link = Link { ifindex: 7, vlan_tci, from_here: false };
            let parsed = parse_both_ways(&whole, direction, link);
            is_sound(octets, &parsed, direction, link);
            for len in 0..octets.len().min(DEEPEST_CUT) {
                let cut = Captured { octets: &octets[..len], wire_len: octets.len() };
                let found = parse_both_ways(&cut, direction, link);
                is_sound(cut.octets, &found, direction, link);
                assert!(
                    found.cut || found == parsed,
                    "the first {len} octets say {found:?}, all say {parsed:?}"
                );
            }
        }
        a_tag_may_lie_beside_the_frame(octets, direction);
    }
}

/// By the short ways, too, which must agree.
fn parse_both_ways(frame: &Captured<'_>, direction: Direction, link: Link) -> Parsed {
    let parsed = parse(frame, direction, link);
    for plain in [
        parse_plain_ipv4(frame, direction, || link),
        parse_plain_ipv6(frame, direction, || link),
        parse_plain_tagged(frame, direction, link),
    ] {
        assert!(plain.is_none_or(|plain| plain == parsed), "{plain:?} is not {parsed:?}");
    }
    parsed
}

/// Whether a key says what the octets say, and lengths lie within the frame.
fn is_sound(octets: &[u8], parsed: &Parsed, direction: Direction, link: Link) {
    let Parsed { key, payload, headers, .. } = parsed;
    assert_eq!((key.direction(), key.ifindex()), (direction, link.ifindex));
    let mac = match direction {
        Direction::Tx => octets.get(6..12),
        Direction::Rx => octets.get(..6),
    };
    // A runt has no device, and so no VLAN either.
    let is_runt = octets.len() < ETHERNET_HEADER;
    assert_eq!(key.mac(), mac.filter(|_| !is_runt).unwrap_or(&[0; 6]), "the device");
    if let Some(tci) = link.vlan_tci.filter(|_| !is_runt) {
        assert_eq!(key.vlan(), Some(tci & 0x0fff), "the tag beside the frame is the outermost");
    }
    let (number, has_address) = match key.class() {
        Class::NonIp => (key.protocol() <= NonIp::Eapol as u8, false),
        Class::Unparsed => (key.protocol() <= Reason::Ipv6Version as u8, false),
        Class::Ipv4 => (lies_in(octets, &key.ipv4()), true),
        Class::Ipv6 => (lies_in(octets, &key.ipv6()), true),
    };
    assert!(number, "neither a number nor an address of the frame: {key:?}");
    if !has_address {
        assert_eq!((key.addr, key.port(), *payload), ([0; 2], 0, 0), "{key:?}");
    }
    assert!(*headers as usize >= ETHERNET_HEADER);
    assert!(port_lies_in(octets, *key), "the port is none of the frame's: {key:?}");
}

fn port_lies_in(octets: &[u8], key: FlowKey) -> bool {
    key.port() == 0 || lies_in(octets, &key.port().to_be_bytes())
}

fn lies_in(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

/// At TC hooks the kernel has taken the outermost tag out of the frame; the key is the same.
fn a_tag_may_lie_beside_the_frame(octets: &[u8], direction: Direction) {
    let Some((addresses, rest)) = octets.split_at_checked(ETHERNET_HEADER - 2) else { return };
    let (Some(VLAN), Some(&[high, low])) = (
        rest.first_chunk::<2>().copied(),
        rest.get(2..VLAN_TAG).and_then(<[u8]>::first_chunk::<2>),
    ) else {
        return;
    };
    let untagged = [addresses, &rest[VLAN_TAG..]].concat();
    let parse = |octets: &[u8], vlan_tci| {
        let frame = Captured { octets, wire_len: octets.len() };
        parse(&frame, direction, Link { ifindex: 7, vlan_tci, from_here: false })
    };
    let tagged = parse(octets, None);
    let beside = parse(&untagged, Some(u16::from_be_bytes([high, low])));
    let is = |reason: Reason| {
        tagged.key.class() == Class::Unparsed && tagged.key.protocol() == reason as u8
    };
    // One tag fewer is in the frame; and of a frame that ends within the second EtherType no header is left.
    if is(Reason::VlanDepth) || is(Reason::VlanTruncated) {
        return;
    }
    assert_eq!((beside.key, beside.payload), (tagged.key, tagged.payload));
}
