//! Keys and values of the kernel maps: the contract between the programs and the daemon.
//!
//! Nearly everything lies in one map, the *state*: one value, mapped into the daemon's memory, that
//! the programs address without any lookup. It holds the [`Control`] block and, for each CPU and
//! half, a *stripe*: [`Totals`], then the slots of the flow table, then the list of the slots that
//! are taken, in the order in which they were. [`Geometry`] says where each part lies.
//!
//! A change of any size, offset or meaning of what was released is a new [`LAYOUT_VERSION`].
//!
//! Words are little-endian, as is every machine that these programs are built for; octets that
//! come from a packet (MAC and IP addresses) lie in memory in the order of the wire.

use core::mem::{align_of, offset_of, size_of};

#[cfg(target_endian = "big")]
compile_error!("the key layout is defined for little-endian machines");

/// Version of everything in this module; the daemon refuses programs of another one.
pub const LAYOUT_VERSION: u32 = 1;

/// Halves of everything that counts: one is written while the other is read.
pub const HALVES: u32 = 2;

/// Neighbouring slots in which a key may sit: an aligned group, so that probing stays in it.
pub const PROBES: u32 = 8;

/// Groups in which a key may sit, each only where all before it are full.
pub const GROUPS: u32 = 4;

/// Fewest slots of a stripe; also keeps the group of [`PROBES`] inside it, and stripes whole lines.
pub const MIN_SLOTS: u32 = 1024;

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
/// In every key; keeps [`FlowKey::rest`] from being zero.
const FLAG_VALID: u8 = 0x80;

impl FlowKey {
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

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tally {
    /// Packets; each segment of a super-packet is one.
    pub packets: u64,
    /// Whole frames, Ethernet header to end, no FCS, VLAN tags included.
    pub bytes: u64,
    /// Octets after the L4 header by the IP length; of a later fragment, after the IP header.
    pub payload: u64,
}

impl Tally {
    /// Adds another tally to this one.
    #[inline(always)]
    pub const fn add(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.payload = self.payload.wrapping_add(other.payload);
    }
}

/// What is counted for a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Packets, bytes, payload.
    pub tally: Tally,
    /// First packet, nanoseconds of the kernel's boot-time clock.
    pub first_seen: u64,
}

/// One slot of the flow table: exactly one cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct FlowSlot {
    /// All zero in a free slot.
    pub key: FlowKey,
    /// What was counted.
    pub counters: Counters,
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

/// A device's entry in one half, per CPU: what it has claimed, and what found no place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DeviceState {
    /// Slots of the flow table that the device holds.
    pub slots: u32,
    /// Entries of the coarse level that the device holds.
    pub coarse: u32,
    /// Packets that found a place in neither, by [`Direction`].
    pub overflow: [Tally; 2],
}

/// Events off the main path, counted per CPU and half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// A free slot was claimed: first packet of a key in this epoch. Also the length of the stripe's
    /// list of taken slots.
    Claim = 0,
    /// A packet went to the coarse level because its group of slots is full.
    TableFull = 1,
    /// A packet went to the coarse level because its device holds its quota of slots.
    SlotQuota = 2,
    /// A packet went to its device's overflow: the coarse level is full, or its quota of it is.
    CoarseFull = 3,
    /// A packet went to the total of unknown devices: no device entry was free.
    PoolFull = 4,
    /// Headers lay outside the linear part and were read by copy.
    SlowRead = 5,
    /// An entry was added to the coarse level.
    CoarseClaim = 6,
}

/// Number of [`Outcome`]s, with room to grow within the layout.
pub const OUTCOMES: usize = 8;

impl Outcome {
    /// Outcomes with the label that metrics and log lines use.
    pub const ALL: [(Self, &str); 7] = [
        (Self::Claim, "claim"),
        (Self::TableFull, "table_full"),
        (Self::SlotQuota, "slot_quota"),
        (Self::CoarseFull, "coarse_full"),
        (Self::PoolFull, "pool_full"),
        (Self::SlowRead, "slow_read"),
        (Self::CoarseClaim, "coarse_claim"),
    ];
}

/// Totals of one CPU in one half: the head of a stripe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Totals {
    /// Packets and bytes that entered the programs, by [`Direction`]; payload is left 0.
    pub seen: [Tally; 2],
    /// Slots of the flow table held by unknown devices together.
    pub pool_slots: u64,
    /// Entries of the coarse level held by unknown devices together.
    pub pool_coarse: u64,
    /// Packets of unknown devices that have no entry, by [`Direction`].
    pub pool: [Tally; 2],
    /// By [`Outcome`].
    pub outcomes: [u64; OUTCOMES],
}

/// What the daemon and the programs agree on. The daemon writes all of it before it loads the
/// programs, and later only the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Control {
    /// Current epoch; its lowest bit is the half that is being written.
    pub epoch: u32,
    /// [`LAYOUT_VERSION`] of the programs that write this state.
    pub layout_version: u32,
    /// How large the state is.
    pub geometry: Geometry,
    /// Secret multipliers of the slot hash, odd, one for each word of a key, so that nobody can aim
    /// packets at one group of slots.
    pub seed: [u64; 4],
    /// Random, made with the state, so that a new one never looks like an old one.
    pub table_id: [u64; 2],
    /// Who may hold how much.
    pub quotas: Quotas,
}

/// How large the state is, and where its parts lie. Offsets are in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Geometry {
    /// CPUs that have stripes.
    pub cpus: u32,
    /// Slots of a stripe: a power of two, at least [`MIN_SLOTS`].
    pub slots: u32,
}

/// Most bytes of state: what the kernel's verifier lets a program address in one value
/// (`BPF_MAX_VAR_OFF`, 1 << 29, exclusive).
pub const MAX_STATE_BYTES: u64 = (1 << 29) - 1;

impl Geometry {
    /// Stripes: one for each half of each CPU.
    pub const fn stripes(self) -> u32 {
        self.cpus * HALVES
    }

    /// Number of a CPU's stripe in a half. A CPU's stripes are neighbours, so that the programs
    /// find theirs without knowing how many CPUs there are.
    #[inline(always)]
    pub const fn stripe(cpu: u64, half: u64) -> u64 {
        cpu * HALVES as u64 + half
    }

    /// Length of a stripe.
    pub const fn stripe_bytes(self) -> u64 {
        self.list_at() + self.slots as u64 * size_of::<u32>() as u64
    }

    /// Where the list of taken slots begins in a stripe; the slots themselves begin at
    /// [`SLOTS_AT`].
    pub const fn list_at(self) -> u64 {
        SLOTS_AT + self.slots as u64 * size_of::<FlowSlot>() as u64
    }

    /// Length of the state: the control block and all stripes.
    pub const fn state_bytes(self) -> u64 {
        STRIPES_AT + self.stripes() as u64 * self.stripe_bytes()
    }

    /// Most slots of a stripe for so many CPUs: the largest power of two whose state is no longer
    /// than [`MAX_STATE_BYTES`], or `None` where not even [`MIN_SLOTS`] fit.
    pub const fn max_slots(cpus: u32) -> Option<u32> {
        let mut geometry = Self { cpus, slots: 1 << 31 };
        while geometry.slots >= MIN_SLOTS {
            if geometry.state_bytes() <= MAX_STATE_BYTES {
                return Some(geometry.slots);
            }
            geometry.slots /= 2;
        }
        None
    }
}

/// Where the first stripe begins in the state.
pub const STRIPES_AT: u64 = size_of::<Control>() as u64;

/// Where the slots begin in a stripe, behind its [`Totals`].
pub const SLOTS_AT: u64 = size_of::<Totals>() as u64;

/// What the programs have as constants in their code, and only the daemon knows. The verifier checks
/// their reach against these: an offset that was masked with one of them is within bounds.
///
/// In the object a [placeholder](Constant::placeholder) stands for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Constant {
    /// The address of the state.
    State = 0,
    /// [`Control::seed`] of [`FlowKey::mac_vlan`].
    SeedMac = 1,
    /// Of the first word of [`FlowKey::addr`].
    SeedAddr0 = 2,
    /// Of the second.
    SeedAddr1 = 3,
    /// Of [`FlowKey::rest`].
    SeedRest = 4,
    /// Slots of a stripe minus one, in bytes.
    SlotMask = 5,
    /// [`Geometry::stripes`].
    Stripes = 6,
    /// [`Geometry::stripe_bytes`].
    StripeBytes = 7,
    /// [`Geometry::list_at`].
    ListAt = 8,
}

impl Constant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::State,
        Self::SeedMac,
        Self::SeedAddr0,
        Self::SeedAddr1,
        Self::SeedRest,
        Self::SlotMask,
        Self::Stripes,
        Self::StripeBytes,
        Self::ListAt,
    ];

    /// What stands for it in the object: a number that nothing else has.
    pub const fn placeholder(self) -> u64 {
        0x1abe_6a7e_57a7_e000 | self as u64
    }

    /// Its value for programs that write the state with this control block; `None` of the address, which
    /// the kernel gives.
    pub const fn value(self, control: &Control) -> Option<u64> {
        let Control { seed: [mac, addr0, addr1, rest], geometry, .. } = *control;
        Some(match self {
            Self::State => return None,
            Self::SeedMac => mac,
            Self::SeedAddr0 => addr0,
            Self::SeedAddr1 => addr1,
            Self::SeedRest => rest,
            Self::SlotMask => (geometry.slots as u64 - 1) * size_of::<FlowSlot>() as u64,
            Self::Stripes => geometry.stripes() as u64,
            Self::StripeBytes => geometry.stripe_bytes(),
            Self::ListAt => geometry.list_at(),
        })
    }
}

/// What devices may hold, per CPU and half. While less than the `free` part is taken nobody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Quotas {
    /// Slots that go to whoever comes first.
    pub free_slots: u32,
    /// Slots that a configured device may hold.
    pub device_slots: u32,
    /// Slots that one unknown device may hold.
    pub stranger_slots: u32,
    /// Slots that all unknown devices together may hold.
    pub pool_slots: u32,
    /// Coarse entries that go to whoever comes first.
    pub free_coarse: u32,
    /// Coarse entries that a configured device may add.
    pub device_coarse: u32,
    /// Coarse entries that one unknown device may add.
    pub stranger_coarse: u32,
    /// Coarse entries that all unknown devices together may add.
    pub pool_coarse: u32,
}

const _: () = {
    assert!(size_of::<FlowKey>() == 32 && align_of::<FlowKey>() == 8);
    assert!(size_of::<Counters>() == 32);
    assert!(size_of::<FlowSlot>() == 64 && align_of::<FlowSlot>() == 64);
    assert!(offset_of!(FlowSlot, counters) == 32);
    assert!(size_of::<CoarseKey>() == 16);
    assert!(size_of::<DeviceKey>() == 8);
    assert!(size_of::<DeviceState>() == 56);
    assert!(size_of::<Totals>() == 192 && offset_of!(Totals, outcomes) == 112);
    assert!(size_of::<Control>() == 128 && offset_of!(Control, quotas) == 64);
    // Slots are cache lines: every part before them is a whole number of lines.
    assert!(STRIPES_AT.is_multiple_of(64) && SLOTS_AT.is_multiple_of(64));
    assert!(Geometry { cpus: 1, slots: MIN_SLOTS }.stripe_bytes().is_multiple_of(64));
};

#[cfg(test)]
mod tests;
