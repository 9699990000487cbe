//! Values: what is counted for a key, a device and a CPU.

use core::mem::{align_of, offset_of, size_of};

use super::FlowKey;

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "report", derive(serde::Serialize, serde::Deserialize))]
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
    /// Always 0.
    pub reserved: [u64; 2],
}

const _: () = {
    assert!(size_of::<Counters>() == 32);
    assert!(size_of::<FlowSlot>() == 64 && align_of::<FlowSlot>() == 64);
    assert!(offset_of!(FlowSlot, counters) == 32);
    assert!(size_of::<DeviceState>() == 56);
    assert!(size_of::<Totals>() == 192 && offset_of!(Totals, outcomes) == 112);
};
