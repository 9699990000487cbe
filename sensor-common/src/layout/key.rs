//! Keys: whose packet it is, and what is at the far end.

use core::mem::{align_of, size_of};

/// Sent by the device, or received by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// Sent by the device: upload, seen at the interface's ingress.
    Tx = 0,
    /// Received by the device: download, seen at the interface's egress.
    Rx = 1,
}

/// What a key says about the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// No IP: the protocol is a [`NonIp`], there is no address.
    NonIp = 0,
    /// IPv4; the address is the first four octets.
    Ipv4 = 1,
    /// IPv6.
    Ipv6 = 2,
    /// Malformed or truncated: the protocol is a [`Reason`], there is no address.
    Unparsed = 3,
}

/// Frames without IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum NonIp {
    /// Any other EtherType or LLC frame.
    Other = 0,
    /// ARP (RFC 826), EtherType 0x0806.
    Arp = 1,
    /// LLDP (IEEE 802.1AB), EtherType 0x88cc.
    Lldp = 2,
    /// EAPOL (IEEE 802.1X), EtherType 0x888e.
    Eapol = 3,
}

impl NonIp {
    /// The label of the common JSON form.
    pub const fn name(number: u8) -> &'static str {
        match number {
            1 => "arp",
            2 => "lldp",
            3 => "eapol",
            _ => "other",
        }
    }
}

/// Why a frame could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Shorter than an Ethernet header; it has no device either.
    Runt = 0,
    /// A VLAN tag is cut off.
    VlanTruncated = 1,
    /// More VLAN tags than [`MAX_VLAN_TAGS`](crate::parse::MAX_VLAN_TAGS).
    VlanDepth = 2,
    /// The PPPoE session header is cut off.
    PppoeTruncated = 3,
    /// The fixed IPv4 header is cut off.
    Ipv4Truncated = 4,
    /// EtherType IPv4, but another version number.
    Ipv4Version = 5,
    /// IHL below five words.
    Ipv4HeaderLength = 6,
    /// Total length below the header's.
    Ipv4TotalLength = 7,
    /// The fixed IPv6 header is cut off.
    Ipv6Truncated = 8,
    /// EtherType IPv6, but another version number.
    Ipv6Version = 9,
}

impl Reason {
    /// The reason in words, as labels and reports have it.
    pub const fn name(number: u8) -> &'static str {
        match number {
            0 => "runt",
            1 => "vlan_truncated",
            2 => "vlan_depth",
            3 => "pppoe_truncated",
            4 => "ipv4_truncated",
            5 => "ipv4_version",
            6 => "ipv4_header_length",
            7 => "ipv4_total_length",
            8 => "ipv6_truncated",
            9 => "ipv6_version",
            _ => "unknown",
        }
    }
}

/// Key of a flow: 32 bytes, compared and hashed as four words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Octets 0..6: the device's MAC address; 6..8: outermost VLAN ID with [`VLAN_TAGGED`], 0 for
    /// an untagged frame.
    pub mac_vlan: u64,
    /// The far IP address, order of the wire; zero without one.
    pub addr: [u64; 2],
    /// Bits 0..16 the far port (order of the wire), 16..24 the protocol, 24..32 the flags, 32..64 the
    /// interface index.
    /// Never zero in a key, so that zero marks a free slot.
    pub rest: u64,
}

/// Set beside a VLAN ID, so that VLAN 0 (priority tag) differs from no tag.
pub const VLAN_TAGGED: u16 = 0x1000;

/// Mask of the MAC address in [`FlowKey::mac_vlan`].
pub const MAC_MASK: u64 = 0x0000_ffff_ffff_ffff;

const FLAG_DIRECTION: u8 = 0x01;
const CLASS_SHIFT: u8 = 1;
const CLASS_MASK: u8 = 0x03;
const FLAG_REJECTED: u8 = 0x08;
const FLAG_ROUTED: u8 = 0x10;
/// In every key; keeps [`FlowKey::rest`] from being zero.
const FLAG_VALID: u8 = 0x80;

/// Mark of a packet that the gateway made in the far end's name to reject another one: a TCP reset, or an ICMP
/// message that the destination is unreachable.
pub const MARK_REJECTED: u64 = (FLAG_REJECTED as u64) << 24;

/// Mark of an IPv6 packet with a routing header that has segments left: its destination sends it on to
/// another one.
pub const MARK_ROUTED: u64 = (FLAG_ROUTED as u64) << 24;

impl FlowKey {
    /// The same key with marks.
    #[inline(always)]
    pub const fn marked(self, marks: u64) -> Self {
        Self { rest: self.rest | marks, ..self }
    }

    /// Whether it has [`MARK_REJECTED`].
    pub const fn is_rejected(&self) -> bool {
        self.rest & MARK_REJECTED != 0
    }

    /// Whether it has [`MARK_ROUTED`].
    pub const fn is_routed(&self) -> bool {
        self.rest & MARK_ROUTED != 0
    }

    /// Composes [`FlowKey::rest`]. `port` is as it lies in the packet, 0 for none.
    #[inline(always)]
    pub const fn rest(
        port: u16,
        protocol: u8,
        class: Class,
        direction: Direction,
        ifindex: u32,
    ) -> u64 {
        let flags = FLAG_VALID | (class as u8) << CLASS_SHIFT | direction as u8;
        port as u64 | (protocol as u64) << 16 | (flags as u64) << 24 | (ifindex as u64) << 32
    }

    /// The device's MAC address.
    pub const fn mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.mac_vlan.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Outermost VLAN ID, `None` for an untagged frame.
    pub const fn vlan(&self) -> Option<u16> {
        let vlan = (self.mac_vlan >> 48) as u16;
        if vlan & VLAN_TAGGED == 0 { None } else { Some(vlan & 0x0fff) }
    }

    /// Far IPv4 address in octets.
    pub const fn ipv4(&self) -> [u8; 4] {
        (self.addr[0] as u32).to_le_bytes()
    }

    /// Far IPv6 address in octets.
    pub const fn ipv6(&self) -> [u8; 16] {
        (self.addr[0] as u128 | (self.addr[1] as u128) << 64).to_le_bytes()
    }

    /// Far port in host order, 0 for none.
    pub const fn port(&self) -> u16 {
        u16::from_be(self.rest as u16)
    }

    /// IP protocol number, [`NonIp`] or [`Reason`], by [`FlowKey::class`].
    pub const fn protocol(&self) -> u8 {
        (self.rest >> 16) as u8
    }

    /// What the address and protocol mean.
    pub const fn class(&self) -> Class {
        Class::from_flags((self.rest >> 24) as u8)
    }

    /// Sent or received by the device.
    pub const fn direction(&self) -> Direction {
        Direction::from_flags((self.rest >> 24) as u8)
    }

    /// Index of the interface where the frame was seen.
    pub const fn ifindex(&self) -> u32 {
        (self.rest >> 32) as u32
    }

    /// The coarser key of this one.
    #[inline(always)]
    pub const fn coarse(&self, half: u32) -> CoarseKey {
        let network = match self.class() {
            Class::Ipv4 => self.addr[0] & 0x00ff_ffff,
            Class::Ipv6 => self.addr[0] & MAC_MASK,
            Class::NonIp | Class::Unparsed => 0,
        };
        let protocol_and_flags = (self.rest >> 16) & 0xffff;
        CoarseKey {
            mac_half: self.mac_vlan & MAC_MASK | (half as u64) << 48,
            network: network | protocol_and_flags << 48,
        }
    }
}

impl Class {
    const fn from_flags(flags: u8) -> Self {
        match flags >> CLASS_SHIFT & CLASS_MASK {
            1 => Self::Ipv4,
            2 => Self::Ipv6,
            3 => Self::Unparsed,
            _ => Self::NonIp,
        }
    }
}

impl Direction {
    const fn from_flags(flags: u8) -> Self {
        if flags & FLAG_DIRECTION == 0 { Self::Tx } else { Self::Rx }
    }
}

/// Key of the coarse level: device, /24 or /48, protocol, direction; no port, VLAN or interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct CoarseKey {
    /// Octets 0..6: the device's MAC address; 6..8: the half.
    pub mac_half: u64,
    /// Octets 0..6: the far /24 (three octets) or /48; 6: the protocol; 7: the flags of the
    /// [`FlowKey`].
    pub network: u64,
}

impl CoarseKey {
    /// The half that it belongs to.
    pub const fn half(&self) -> u32 {
        (self.mac_half >> 48) as u32
    }

    /// This key in the form of a flow's, with the network's first address, no port, VLAN or
    /// interface.
    pub const fn widen(&self) -> FlowKey {
        FlowKey {
            mac_vlan: self.mac_half & MAC_MASK,
            addr: [self.network & MAC_MASK, 0],
            rest: (self.network >> 48) << 16,
        }
    }
}

/// Key of a device's entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DeviceKey {
    /// Octets 0..6: the MAC address; 6..8: the half.
    pub mac_half: u64,
}

impl DeviceKey {
    /// Entry of a MAC address (order of the wire) in a half.
    pub const fn new(mac: [u8; 6], half: u32) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self { mac_half: u64::from_le_bytes([a, b, c, d, e, f, half as u8, 0]) }
    }

    /// The MAC address.
    pub const fn mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.mac_half.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// The half that it belongs to.
    pub const fn half(&self) -> u32 {
        (self.mac_half >> 48) as u32
    }
}

const _: () = {
    assert!(size_of::<FlowKey>() == 32 && align_of::<FlowKey>() == 8);
    assert!(size_of::<CoarseKey>() == 16);
    assert!(size_of::<DeviceKey>() == 8);
};
