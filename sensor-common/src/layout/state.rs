//! The state: where everything lies, and what daemon and programs have to agree on.

use core::mem::{offset_of, size_of};

use super::{FlowSlot, HALVES, Totals};

/// Neighbouring slots in which a key may sit: an aligned group, so that probing stays in it.
pub const PROBES: u32 = 8;

/// Groups in which a key may sit, each only where all before it are full.
pub const GROUPS: u32 = 4;

/// Fewest slots of a stripe; also keeps the group of [`PROBES`] inside it, and stripes whole lines.
pub const MIN_SLOTS: u32 = 1024;

/// What the daemon and the programs agree on. The daemon writes all of it before it loads the
/// programs, and later only the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Control {
    /// Current epoch; its lowest bit is the half that is being written.
    pub epoch: u32,
    /// [`LAYOUT_VERSION`](super::LAYOUT_VERSION) of the programs that write this state.
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
    /// Always 0.
    pub reserved: [u64; 4],
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
    /// [`Control::seed`] of [`FlowKey::mac_vlan`](super::FlowKey::mac_vlan).
    SeedMac = 1,
    /// Of the first word of [`FlowKey::addr`](super::FlowKey::addr).
    SeedAddr0 = 2,
    /// Of the second.
    SeedAddr1 = 3,
    /// Of [`FlowKey::rest`](super::FlowKey::rest).
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
    assert!(size_of::<Control>() == 128 && offset_of!(Control, quotas) == 64);
    // Slots are cache lines: every part before them is a whole number of lines.
    assert!(STRIPES_AT.is_multiple_of(64) && SLOTS_AT.is_multiple_of(64));
    assert!(Geometry { cpus: 1, slots: MIN_SLOTS }.stripe_bytes().is_multiple_of(64));
};
