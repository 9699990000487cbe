//! Link types (the registry of tcpdump.org), and how frames of some become Ethernet frames.

mod pktap;

use std::fmt;

use super::Way;

/// What the frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkType {
    Ethernet,
    /// Linux cooked, which all interfaces at once are captured in.
    Cooked(Cooked),
    /// An IP packet, as of tunnels, of phones' cellular interfaces and of VPN apps that capture.
    Raw,
    /// The protocol family of BSD, then an IP packet.
    Family,
    /// Apple's, which has a link type for each packet.
    Pktap,
    /// Not read.
    Other(u32),
}

/// Where a cooked header has what an Ethernet header needs. Numbers are in the order of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cooked {
    len: usize,
    /// `ARPHRD_*` of the interface.
    hardware: usize,
    /// The last octet of the packet's type: to whom it was sent.
    kind: usize,
    /// Length of the sender's address, in as many octets.
    sender_len: (usize, usize),
    /// The sender's address, for which there are eight octets.
    sender: usize,
    protocol: usize,
}

/// LINKTYPE_LINUX_SLL.
const SLL: Cooked =
    Cooked { len: 16, hardware: 2, kind: 1, sender_len: (4, 2), sender: 6, protocol: 14 };
/// LINKTYPE_LINUX_SLL2.
const SLL2: Cooked =
    Cooked { len: 20, hardware: 8, kind: 10, sender_len: (11, 1), sender: 12, protocol: 0 };
/// Types of packets, from `linux/if_packet.h`.
const TO_HOST: u8 = 0;
const OUTGOING: u8 = 4;

/// Interfaces whose protocol is no EtherType, from `linux/if_arp.h`: frame relay, radiotap, netlink.
const NO_ETHERTYPE: [u16; 3] = [770, 803, 824];
/// Reserved (IEEE 802); nothing is known of what follows.
const UNKNOWN_ETHERTYPE: [u8; 2] = [0xff, 0xff];
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Smaller numbers tell frames of 802.3 apart, whose length the cooked header does not give: the largest,
/// which the end of the frame bounds.
const ETHERTYPE_MIN: u16 = 0x0600;
const LONGEST: [u8; 2] = (ETHERTYPE_MIN - 1).to_be_bytes();

/// Families of IPv4 and of IPv6: everywhere, and on Linux, Windows, NetBSD and OpenBSD, FreeBSD, Darwin.
const FAMILY_IPV4: u32 = 2;
const FAMILIES_IPV6: [u32; 5] = [10, 23, 24, 28, 30];
/// Larger families are small ones in the other byte order: it is that of the machine that captured.
const FAMILY_MAX: u32 = 0xffff;
const FAMILY: usize = 4;

const MAC: usize = 6;
const ETHERNET_HEADER: usize = 14;

/// Names of some link types that are not read.
const NAMES: [(u32, &str); 24] = [
    (6, "IEEE802_5"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (107, "FRELAY"),
    (117, "PFLOG"),
    (119, "IEEE802_11_PRISM"),
    (127, "IEEE802_11_RADIOTAP"),
    (163, "IEEE802_11_AVS"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (192, "PPI"),
    (195, "IEEE802_15_4_WITHFCS"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (220, "USB_LINUX_MMAPPED"),
    (230, "IEEE802_15_4_NOFCS"),
    (239, "NFLOG"),
    (249, "USBPCAP"),
    (253, "NETLINK"),
    (276, "LINUX_SLL2"),
];
/// Those that a Wi-Fi card in monitor mode captures.
const MONITOR: [u32; 5] = [105, 119, 127, 163, 192];

/// A frame with an Ethernet header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    pub(super) octets: &'a mut [u8],
    /// Octets on the wire, as if it were an Ethernet.
    pub(super) wire_len: usize,
    pub(super) way: Way,
}

impl LinkType {
    pub(super) const fn new(number: u32) -> Self {
        match number {
            // LOOP is NULL in the order of the network, which is one of the two that are understood.
            0 | 108 => Self::Family,
            1 => Self::Ethernet,
            // The numbers of BSD and OpenBSD, that of the registry, and those that say the version.
            12 | 14 | 101 | 228 | 229 => Self::Raw,
            113 => Self::Cooked(SLL),
            // What Darwin called it at first is everybody's to use; its header tells whether it is that.
            149 | 258 => Self::Pktap,
            276 => Self::Cooked(SLL2),
            number => Self::Other(number),
        }
    }

    /// Name and number of one that is not read.
    pub(super) fn unread(self) -> Option<Unread> {
        let Self::Other(number) = self else { return None };
        let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        let name = name.map_or_else(|| number.to_string(), |name| format!("{name} ({number})"));
        Some(Unread { name, is_monitor: MONITOR.contains(&number) })
    }

    /// The link type for a packet, which may have one of its own.
    pub(super) fn of_packet(self, octets: &[u8]) -> Self {
        if self == Self::Pktap { pktap::of_packet(octets) } else { self }
    }

    /// The frame with an Ethernet header, whose place is in `scratch` where it needs more room.
    ///
    /// A cooked header tells the sender and no receiver: that one's address is zero, as is a sender's that
    /// is no MAC address. It is longer, too; what it has more counts as padding behind the frame, so that the
    /// length stays the one of the capture. A packet without any header gets one, with its length, and addresses of zero.
    pub(super) fn to_ethernet<'a>(
        self,
        octets: &'a mut [u8],
        wire_len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Framed<'a> {
        match self {
            Self::Ethernet | Self::Other(_) => Framed { octets, wire_len, way: Way::Unknown },
            Self::Cooked(cooked) => cooked.to_ethernet(octets, wire_len),
            Self::Raw => with_header(version(octets), octets, wire_len, scratch),
            Self::Family => {
                let Some((family, packet)) = octets.split_first_chunk::<FAMILY>() else {
                    return Framed { octets: &mut [], wire_len, way: Way::Unknown };
                };
                let ethertype = ethertype(u32::from_be_bytes(*family));
                with_header(ethertype, packet, wire_len.saturating_sub(FAMILY), scratch)
            }
            Self::Pktap => pktap::to_ethernet(octets, wire_len, scratch),
        }
    }
}

/// A link type that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    name: String,
    /// Whether it is what a Wi-Fi card hears.
    is_monitor: bool,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Unread {
    /// Why, where that is not plain.
    pub(super) fn reason(&self) -> &'static str {
        if self.is_monitor {
            " What a Wi-Fi card hears in monitor mode is encrypted, repeated and full of gaps, so no count of it is \
             sound; capture on the access point's or the device's own interface"
        } else {
            ""
        }
    }
}

impl Cooked {
    fn to_ethernet(self, octets: &mut [u8], wire_len: usize) -> Framed<'_> {
        let Some(header) = octets.get_mut(..self.len) else {
            return Framed { octets: &mut [], wire_len, way: Way::Unknown };
        };
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let protocol = match number(self.protocol) {
            _ if NO_ETHERTYPE.contains(&number(self.hardware)) => UNKNOWN_ETHERTYPE,
            length if length < ETHERTYPE_MIN => LONGEST,
            ethertype => ethertype.to_be_bytes(),
        };
        let way = match header[self.kind] {
            TO_HOST => Way::In,
            OUTGOING => Way::Out,
            _ => Way::Unknown,
        };
        let start = self.len - ETHERNET_HEADER;
        let (at, octets_of_len) = self.sender_len;
        let len = header[at..at + octets_of_len].iter();
        if len.fold(0, |len, octet| len << 8 | usize::from(*octet)) != MAC {
            header[self.sender..self.sender + MAC].fill(0);
        }
        header.copy_within(self.sender..self.sender + MAC, start + MAC);
        header[start..start + MAC].fill(0);
        header[start + 2 * MAC..].copy_from_slice(&protocol);
        Framed { octets: &mut octets[start..], wire_len, way }
    }
}

/// The EtherType of a packet by its first four bits.
fn version(packet: &[u8]) -> [u8; 2] {
    match packet.first().map(|octet| octet >> 4) {
        Some(4) => ETHERTYPE_IPV4,
        Some(6) => ETHERTYPE_IPV6,
        _ => UNKNOWN_ETHERTYPE,
    }
}

/// The EtherType of a protocol family of BSD, in either byte order.
fn ethertype(family: u32) -> [u8; 2] {
    let family = if family > FAMILY_MAX { family.swap_bytes() } else { family };
    match family {
        FAMILY_IPV4 => ETHERTYPE_IPV4,
        family if FAMILIES_IPV6.contains(&family) => ETHERTYPE_IPV6,
        _ => UNKNOWN_ETHERTYPE,
    }
}

fn with_header<'a>(
    ethertype: [u8; 2],
    packet: &[u8],
    wire_len: usize,
    scratch: &'a mut Vec<u8>,
) -> Framed<'a> {
    scratch.clear();
    scratch.extend_from_slice(&[0; 2 * MAC]);
    scratch.extend_from_slice(&ethertype);
    scratch.extend_from_slice(packet);
    Framed { octets: scratch, wire_len: wire_len + ETHERNET_HEADER, way: Way::Unknown }
}
