//! Link types (the registry of tcpdump.org), and how frames of some become Ethernet frames.

/// What the frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkType {
    Ethernet,
    /// Linux cooked, which all interfaces at once are captured in.
    Cooked(Cooked),
    /// Not read.
    Other(u32),
}

/// Where a cooked header has what an Ethernet header needs. Numbers are in the order of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cooked {
    len: usize,
    /// `ARPHRD_*` of the interface.
    hardware: usize,
    /// Length of the sender's address, in as many octets.
    sender_len: (usize, usize),
    /// The sender's address, for which there are eight octets.
    sender: usize,
    protocol: usize,
}

/// LINKTYPE_LINUX_SLL.
const SLL: Cooked = Cooked { len: 16, hardware: 2, sender_len: (4, 2), sender: 6, protocol: 14 };
/// LINKTYPE_LINUX_SLL2.
const SLL2: Cooked = Cooked { len: 20, hardware: 8, sender_len: (11, 1), sender: 12, protocol: 0 };

/// Interfaces whose protocol is no EtherType, from `linux/if_arp.h`: frame relay, radiotap, netlink.
const NO_ETHERTYPE: [u16; 3] = [770, 803, 824];
/// Reserved (IEEE 802); nothing is known of what follows.
const UNKNOWN_ETHERTYPE: [u8; 2] = [0xff, 0xff];
/// Smaller numbers tell frames of 802.3 apart, whose length the cooked header does not give: the largest,
/// which the end of the frame bounds.
const ETHERTYPE_MIN: u16 = 0x0600;
const LONGEST: [u8; 2] = (ETHERTYPE_MIN - 1).to_be_bytes();

const MAC: usize = 6;
const ETHERNET_HEADER: usize = 14;

/// Names of some link types that are not read.
const NAMES: [(u32, &str); 29] = [
    (0, "NULL"),
    (6, "IEEE802_5"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (12, "RAW"),
    (14, "RAW"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (101, "RAW"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (107, "FRELAY"),
    (108, "LOOP"),
    (117, "PFLOG"),
    (119, "IEEE802_11_PRISM"),
    (127, "IEEE802_11_RADIOTAP"),
    (163, "IEEE802_11_AVS"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (195, "IEEE802_15_4_WITHFCS"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (220, "USB_LINUX_MMAPPED"),
    (228, "IPV4"),
    (229, "IPV6"),
    (230, "IEEE802_15_4_NOFCS"),
    (239, "NFLOG"),
    (249, "USBPCAP"),
    (253, "NETLINK"),
];

impl LinkType {
    pub(super) const fn new(number: u32) -> Self {
        match number {
            1 => Self::Ethernet,
            113 => Self::Cooked(SLL),
            276 => Self::Cooked(SLL2),
            number => Self::Other(number),
        }
    }

    /// Name and number of one that is not read.
    pub(super) fn unread(self) -> Option<String> {
        let Self::Other(number) = self else { return None };
        let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        Some(name.map_or_else(|| number.to_string(), |name| format!("{name} ({number})")))
    }

    /// The frame with an Ethernet header.
    ///
    /// A cooked header tells the sender and no receiver: that one's address is zero, as is a sender's that
    /// is no MAC address. It is longer, too; what it has more counts as padding behind the frame, so that the
    /// length stays the one of the capture.
    pub(super) fn to_ethernet(self, octets: &mut [u8]) -> &[u8] {
        let Self::Cooked(cooked) = self else { return octets };
        let Some(header) = octets.get_mut(..cooked.len) else { return &[] };
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let protocol = match number(cooked.protocol) {
            _ if NO_ETHERTYPE.contains(&number(cooked.hardware)) => UNKNOWN_ETHERTYPE,
            length if length < ETHERTYPE_MIN => LONGEST,
            ethertype => ethertype.to_be_bytes(),
        };
        let start = cooked.len - ETHERNET_HEADER;
        let (at, octets_of_len) = cooked.sender_len;
        let len = header[at..at + octets_of_len].iter();
        if len.fold(0, |len, octet| len << 8 | usize::from(*octet)) != MAC {
            header[cooked.sender..cooked.sender + MAC].fill(0);
        }
        header.copy_within(cooked.sender..cooked.sender + MAC, start + MAC);
        header[start..start + MAC].fill(0);
        header[start + 2 * MAC..].copy_from_slice(&protocol);
        &octets[start..]
    }
}
