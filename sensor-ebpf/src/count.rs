//! Counting: one cache line per key, and never a packet lost from the books.
//!
//! Where the flow table has no place for a key the packet falls through three coarser levels:
//! coarse key, its device's overflow, the total of unknown devices.
//!
//! No increment here is atomic. Everything is per CPU, both hooks run with bottom halves disabled,
//! so nothing else writes on this CPU meanwhile; the daemon reads and clears a half only after a
//! grace period has ended all programs that could still write it.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
};
use aya_log_ebpf::warn;
use sensor_common::layout::{
    Control, Counters, DeviceKey, DeviceState, Direction, FlowKey, FlowSlot, MAC_MASK, Outcome,
    PROBES, Quotas, Tally, Totals,
};

use crate::maps::{COARSE, CONTROL, DEVICES, FLOWS, STRANGERS, TOTALS};

/// This CPU's part of the half that is being written.
#[derive(Clone, Copy)]
struct Stripe {
    control: &'static Control,
    index: u32,
}

impl Stripe {
    #[inline(always)]
    fn current() -> Option<Self> {
        // SAFETY: the daemon changes nothing in it but the epoch, which is one aligned word.
        let (control, epoch) = unsafe {
            let control = CONTROL.get_ptr(0)?;
            (&*control, (&raw const (*control).epoch).read_volatile())
        };
        // SAFETY: no argument, no precondition.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        Some(Self { control, index: (epoch & 1) * control.cpus + cpu })
    }

    #[inline(always)]
    fn half(self) -> u32 {
        (self.index >= self.control.cpus) as u32
    }

    #[inline(always)]
    fn totals(self) -> Option<&'static mut Totals> {
        // SAFETY: this CPU's own entry, and the reference does not outlive the program.
        TOTALS.get_ptr_mut(self.index).map(|totals| unsafe { &mut *totals })
    }

    #[inline(always)]
    fn slot(self, index: u32) -> Option<&'static mut FlowSlot> {
        let slot = FLOWS.get_ptr_mut((self.index << self.control.slot_bits) + index);
        // SAFETY: as in `totals`.
        slot.map(|slot| unsafe { &mut *slot })
    }
}

/// Adds a packet (or a super-packet's segments) to its key.
#[inline(always)]
pub(crate) fn count<C: EbpfContext>(ctx: &C, key: FlowKey, direction: Direction, tally: &Tally) {
    let Some(stripe) = Stripe::current() else { return };
    let Some(totals) = stripe.totals() else { return };
    let seen = &mut totals.seen[direction as usize];
    seen.packets += tally.packets;
    seen.bytes += tally.bytes;

    let first = hash(&key, stripe.control);
    let Some(slot) = stripe.slot(first) else { return };
    if slot.key == key {
        slot.counters.tally.add(tally);
    } else {
        settle(ctx, &key, tally, stripe.index, first);
    }
}

/// Notes that headers had to be copied out of a packet.
#[inline(always)]
pub(crate) fn slow_read() {
    if let Some(totals) = Stripe::current().and_then(Stripe::totals) {
        totals.outcomes[Outcome::SlowRead as usize] += 1;
    }
}

/// Four multiplications that do not wait for each other, and one that mixes their sum: addresses of
/// one network would else come to lie in few groups. Without the seed nobody can choose keys that
/// collide.
#[inline(always)]
fn hash(key: &FlowKey, control: &Control) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = &control.seed;
    let sum = key
        .mac_vlan
        .wrapping_mul(seed[0])
        .wrapping_add(key.addr[0].wrapping_mul(seed[1]))
        .wrapping_add(key.addr[1].wrapping_mul(seed[2]))
        .wrapping_add(key.rest.wrapping_mul(seed[3]));
    let mixed = (sum ^ (sum >> 32)).wrapping_mul(ODD);
    (mixed >> (64 - control.slot_bits)) as u32
}

/// Where a key goes whose first group is full: with three eighths of the table taken that is one
/// key in a hundred, and both its groups are full for one in ten thousand.
#[inline(always)]
fn second_group(first: u32, control: &Control) -> u32 {
    const ODD: u32 = 0x9e37_79b1;
    first.wrapping_add(1).wrapping_mul(ODD) >> (32 - control.slot_bits)
}

/// The way off the main path: the key is not in its first slot. It may be in a neighbouring one or,
/// where that group is full, in its second group; or it takes a slot that is free there, if its
/// device's quota has room; else the coarser levels get it.
#[inline(never)]
fn settle<C: EbpfContext>(ctx: &C, key: &FlowKey, tally: &Tally, index: u32, first: u32) {
    // The stripe of the first look, even where the epoch has moved on since.
    let Some(stripe) = Stripe::current().map(|now| Stripe { index, ..now }) else { return };
    let mut free = None;
    let second = second_group(first, stripe.control);
    let mut probe = 0;
    while probe < 2 * PROBES {
        // An aligned group of neighbours: XOR stays in it, whatever its first slot is.
        let group = if probe < PROBES { first } else { second };
        let Some(slot) = stripe.slot(group ^ (probe % PROBES)) else { return };
        if slot.key == *key {
            return slot.counters.tally.add(tally);
        }
        if slot.key.rest == 0 {
            // Slots are freed all at once, so the key is nowhere behind a free one.
            free = Some(slot);
            break;
        }
        probe += 1;
    }

    let Some(totals) = stripe.totals() else { return };
    let Some(mut device) = Device::of(key, stripe) else {
        totals.pool[key.direction() as usize].add(tally);
        return event(ctx, key, totals, Outcome::PoolFull);
    };
    // SAFETY: no argument, no precondition.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    match free {
        Some(slot) if device.claims_slot(&stripe.control.quotas, totals) => {
            slot.counters = Counters { tally: *tally, first_seen: now };
            slot.key = *key;
            return;
        }
        Some(_) => event(ctx, key, totals, Outcome::SlotQuota),
        None => event(ctx, key, totals, Outcome::TableFull),
    }

    let coarse_key = key.coarse(stripe.half());
    let mut entry = COARSE.get_ptr_mut(coarse_key);
    if entry.is_none() && device.claims_coarse(&stripe.control.quotas, totals) {
        // Another CPU may enter it at the same moment; the look-up then finds that entry.
        let _full_or_there = COARSE.insert(coarse_key, Counters::default(), BPF_NOEXIST as u64);
        entry = COARSE.get_ptr_mut(coarse_key);
    }
    if let Some(entry) = entry {
        // SAFETY: this CPU's value of an entry that is only removed after a grace period.
        let entry = unsafe { &mut *entry };
        if entry.tally.packets == 0 {
            entry.first_seen = now;
        }
        return entry.tally.add(tally);
    }
    device.state.overflow[key.direction() as usize].add(tally);
    event(ctx, key, totals, Outcome::CoarseFull);
}

/// Counts an event off the main path, and tells the daemon's log of the first one on this CPU in
/// this epoch.
#[inline(always)]
fn event<C: EbpfContext>(ctx: &C, key: &FlowKey, totals: &mut Totals, outcome: Outcome) {
    let count = &mut totals.outcomes[outcome as usize];
    *count += 1;
    if *count == 1 {
        log(ctx, key, outcome as u32);
    }
}

#[inline(never)]
fn log<C: EbpfContext>(ctx: &C, key: &FlowKey, outcome: u32) {
    warn!(
        ctx,
        "device {:mac} is counted with less detail, reason {} (1 group of slots full, 2 quota of \
         slots, 3 coarse level full, 4 device table full)",
        key.mac(),
        outcome
    );
}

/// A device's entry in this half.
struct Device {
    state: &'static mut DeviceState,
    /// Not configured: it shares the pool's limits.
    stranger: bool,
}

impl Device {
    /// The entry of the key's device; an unknown one is entered, unless the pool is full.
    #[inline(always)]
    fn of(key: &FlowKey, stripe: Stripe) -> Option<Self> {
        let key = DeviceKey { mac_half: key.mac_vlan & MAC_MASK | (stripe.half() as u64) << 48 };
        let (state, stranger) = if let Some(state) = DEVICES.get_ptr_mut(key) {
            (state, false)
        } else if let Some(state) = STRANGERS.get_ptr_mut(key) {
            (state, true)
        } else {
            // Another CPU may enter it at the same moment; the look-up then finds that entry.
            let _full_or_there = STRANGERS.insert(key, DeviceState::default(), BPF_NOEXIST as u64);
            (STRANGERS.get_ptr_mut(key)?, true)
        };
        // SAFETY: this CPU's value of an entry that is only removed after a grace period.
        Some(Self { state: unsafe { &mut *state }, stranger })
    }

    /// Whether it may have one slot more; if so, that is noted.
    #[inline(always)]
    fn claims_slot(&mut self, quotas: &Quotas, totals: &mut Totals) -> bool {
        let within = if self.stranger {
            self.state.slots < quotas.stranger_slots && totals.pool_slots < quotas.pool_slots as u64
        } else {
            self.state.slots < quotas.device_slots
        };
        if !within && totals.outcomes[Outcome::Claim as usize] >= quotas.free_slots as u64 {
            return false;
        }
        totals.pool_slots += self.stranger as u64;
        self.state.slots += 1;
        totals.outcomes[Outcome::Claim as usize] += 1;
        true
    }

    /// The same for an entry of the coarse level.
    #[inline(always)]
    fn claims_coarse(&mut self, quotas: &Quotas, totals: &mut Totals) -> bool {
        let within = if self.stranger {
            self.state.coarse < quotas.stranger_coarse
                && totals.pool_coarse < quotas.pool_coarse as u64
        } else {
            self.state.coarse < quotas.device_coarse
        };
        if !within && totals.outcomes[Outcome::CoarseClaim as usize] >= quotas.free_coarse as u64 {
            return false;
        }
        totals.pool_coarse += self.stranger as u64;
        self.state.coarse += 1;
        totals.outcomes[Outcome::CoarseClaim as usize] += 1;
        true
    }
}
