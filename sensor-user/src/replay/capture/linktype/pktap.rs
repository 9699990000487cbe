//! PKTAP: what Darwin puts before each packet (LINKTYPE_PKTAP; `bsd/net/pktap.h` of its kernel), as `rvictl` does for
//! the packets of an iPhone. Numbers are little-endian.

use super::{Framed, LinkType, UNKNOWN_ETHERTYPE, Way, version};

/// Offsets: length of this header, type of the record, link type of the packet, flags, length of the link's header.
const LEN: usize = 0;
const KIND: usize = 4;
const LINK: usize = 8;
const FLAGS: usize = 36;
const LINK_HEADER: usize = 44;
/// Of the first version; later ones are longer.
const HEADER_MIN: usize = 108;

/// LINKTYPE_PKTAP.
const PKTAP: u32 = 258;
/// Behind the header there is a packet.
const PACKET: u32 = 1;
const FLAG_IN: u32 = 1;
const FLAG_OUT: u32 = 2;

/// The link type for a packet: of PKTAP, unless its own is not read, or this is no such header.
pub(super) fn of_packet(octets: &[u8]) -> LinkType {
    match Header::read(octets).map(|header| header.link) {
        None | Some(LinkType::Pktap) => LinkType::Other(PKTAP),
        Some(LinkType::Other(link)) => LinkType::Other(link),
        Some(_) => LinkType::Pktap,
    }
}

/// The packet with an Ethernet header.
pub(super) fn to_ethernet<'a>(
    octets: &'a mut [u8],
    wire_len: usize,
    scratch: &'a mut Vec<u8>,
) -> Framed<'a> {
    let Some(Header { len, link, way, link_header }) = Header::read(octets) else {
        return Framed { octets, wire_len, way: Way::Unknown };
    };
    let mut start = len;
    let is_ip =
        |at: usize| octets.get(at..).is_some_and(|packet| version(packet) != UNKNOWN_ETHERTYPE);
    // A tunnel's packet may have its protocol family before it although the link type says otherwise.
    if link == LinkType::Raw && !is_ip(start) && is_ip(start.saturating_add(link_header)) {
        start += link_header;
    }
    let framed = match link {
        LinkType::Pktap => Framed { octets, wire_len, way },
        link => link.to_ethernet(&mut octets[start..], wire_len.saturating_sub(start), scratch),
    };
    Framed { way, ..framed }
}

struct Header {
    len: usize,
    link: LinkType,
    way: Way,
    /// Length of the link's own header.
    link_header: usize,
}

impl Header {
    fn read(octets: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            octets[..HEADER_MIN][at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
        };
        if octets.len() < HEADER_MIN || word(KIND) != PACKET {
            return None;
        }
        let len = word(LEN) as usize;
        let way = match word(FLAGS) & (FLAG_IN | FLAG_OUT) {
            FLAG_IN => Way::In,
            FLAG_OUT => Way::Out,
            _ => Way::Unknown,
        };
        let link_header = word(LINK_HEADER) as usize;
        let header = Self { len, link: LinkType::new(word(LINK)), way, link_header };
        (HEADER_MIN..=octets.len()).contains(&len).then_some(header)
    }
}
