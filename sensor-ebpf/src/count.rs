//! Counting: one cache line per key, and never a packet lost from the books.
//!
//! Where the flow table has no place for a key the packet falls through three coarser levels:
//! coarse key, its device's overflow, the total of unknown devices.
//!
//! No increment here is atomic. Everything is per CPU, both hooks run with bottom halves disabled,
//! so nothing else writes on this CPU meanwhile; the daemon reads and clears a half only after a
//! grace period has ended all programs that could still write it.

use core::{arch::asm, mem::transmute};

use aya_ebpf::{EbpfContext, bindings::BPF_NOEXIST, helpers::bpf_ktime_get_boot_ns};
use aya_log_ebpf::warn;
use sensor_common::layout::{
    Class, Control, Counters, DeviceKey, DeviceState, Direction, FlowKey, FlowSlot, GROUPS,
    Geometry, MAC_MASK, Outcome, PROBES, Quotas, SLOTS_AT, STRIPES_AT, Tally, Totals,
};

use crate::maps::{COARSE, DEVICES, STRANGERS, constant, state};

/// This CPU's part of the half that is being written.
#[derive(Clone, Copy)]
pub(crate) struct Stripe {
    /// The state's first octet, as far along as the stripe is from the first one: so the offsets of all
    /// parts are constants.
    base: *mut u8,
    half: usize,
}

impl Stripe {
    /// To be called first of all: to the compiler it makes a call, over which few values survive in
    /// registers (the kernel puts two instructions there).
    #[inline(always)]
    pub(crate) fn current() -> Option<Self> {
        // SAFETY: the daemon writes it as one aligned word.
        let half = unsafe { (&raw const (*control()).epoch).read_volatile() } as usize & 1;
        let stripe = Geometry::stripe(cpu(), half as u64);
        if stripe >= constant!(Stripes) {
            return None;
        }
        let offset = times_constant(stripe, constant!(StripeBytes));
        Some(Self { base: state().wrapping_add(offset as usize), half })
    }

    /// A part of it. The verifier proves that it lies in the state.
    #[inline(always)]
    fn part<T>(self, offset: usize) -> &'static mut T {
        // SAFETY: this CPU's own, and the reference does not outlive the program.
        unsafe { &mut *self.base.wrapping_add(STRIPES_AT as usize + offset).cast() }
    }

    #[inline(always)]
    fn totals(self) -> &'static mut Totals {
        self.part(0)
    }

    #[inline(always)]
    fn slot(self, place: Place) -> &'static mut FlowSlot {
        self.part(SLOTS_AT as usize + place.0)
    }

    /// Enters a slot in the list of taken ones, which the daemon reads.
    #[inline(always)]
    fn list(self, number: u64, place: Place) {
        // No more slots are taken than there are: the mask is for the verifier.
        let number = Place::masked(number * SLOT_BYTES).0 / SLOT_BYTES as usize;
        let slot = place.0 / SLOT_BYTES as usize;
        *self.part(constant!(ListAt) as usize + number * size_of::<u32>()) = slot as u32;
    }
}

const SLOT_BYTES: u64 = size_of::<FlowSlot>() as u64;

/// Where a slot begins, in bytes from the first one.
#[derive(Clone, Copy)]
struct Place(usize);

impl Place {
    #[inline(always)]
    fn masked(word: u64) -> Self {
        Self((word & constant!(SlotMask)) as usize)
    }

    /// From the bits of a product that are mixed best, the upper ones.
    #[inline(always)]
    fn of(product: u64) -> Self {
        Self::masked(product >> 36)
    }

    /// The place of a neighbour in the aligned group of [`PROBES`] slots: XOR stays in it, whatever this
    /// place is.
    #[inline(always)]
    fn neighbour(self, probe: u64) -> Self {
        // The mask is for the verifier.
        Self::masked(self.0 as u64 ^ (probe * SLOT_BYTES))
    }

    /// The place in whose group to look when this one's is full. With five eighths of the table taken one
    /// group in seven is, and all of [`GROUPS`] for hardly any key; with three quarters taken they are
    /// for one key in 200.
    #[inline(always)]
    fn next_group(self) -> Self {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        Self::of((self.0 as u64 / SLOT_BYTES + 1).wrapping_mul(ODD))
    }
}

/// The control block is the state's head.
#[inline(always)]
fn control() -> *const Control {
    state().cast()
}

/// A product, as one instruction with the constant as its source: Linux 6.1's verifier knows a bound of no
/// other, and the compiler puts the operands in either order.
#[inline(always)]
fn times_constant(value: u64, constant: u64) -> u64 {
    let mut product = value;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!(
            "{product} *= {constant}",
            product = inout(reg) product,
            constant = in(reg) constant,
            options(pure, nomem, nostack),
        );
    }
    product
}

/// Number of this CPU. The helper's result is a whole word; its declared type would cost two
/// instructions.
#[inline(always)]
fn cpu() -> u64 {
    const BPF_GET_SMP_PROCESSOR_ID: usize = 8;
    // SAFETY: the helper of that number takes nothing and returns a register.
    unsafe { transmute::<usize, unsafe extern "C" fn() -> u64>(BPF_GET_SMP_PROCESSOR_ID)() }
}

/// Adds a packet (or a super-packet's segments) to its key.
#[inline(always)]
pub(crate) fn count<C: EbpfContext>(
    ctx: &C,
    stripe: Stripe,
    key: FlowKey,
    direction: Direction,
    tally: &Tally,
) {
    let seen = &mut stripe.totals().seen[direction as usize];
    seen.packets += tally.packets;
    seen.bytes += tally.bytes;

    let first = hash(&key);
    let slot = stripe.slot(first);
    if is_key(slot, &key) {
        slot.counters.tally.add(tally);
    } else {
        // A copy, so that only this way has to put them in memory.
        settle(ctx, &Packet { key, tally: *tally }, stripe, first);
    }
}

/// Notes that headers had to be copied out of a packet.
#[inline(always)]
pub(crate) fn slow_read(stripe: Stripe) {
    stripe.totals().outcomes[Outcome::SlowRead as usize] += 1;
}

/// Whether a slot has this key. Only IPv6 has something in the second word of the address, and the
/// family is in `rest`.
#[inline(always)]
fn is_key(slot: &FlowSlot, key: &FlowKey) -> bool {
    slot.key.mac_vlan == key.mac_vlan
        && slot.key.rest == key.rest
        && slot.key.addr[0] == key.addr[0]
        && (key.class() != Class::Ipv6 || slot.key.addr[1] == key.addr[1])
}

/// Multiplications that do not wait for each other, and a last one, of their sum's halves, that mixes
/// it: keys in rows, such as the addresses of one network, would else come to lie in few groups.
/// Without the seed nobody can choose keys that collide. The interface is left out: it takes three loads
/// and comes last, and hardly any keys differ in nothing else.
#[inline(always)]
fn hash(key: &FlowKey) -> Place {
    let mut sum = key
        .mac_vlan
        .wrapping_mul(constant!(SeedMac))
        .wrapping_add(key.addr[0].wrapping_mul(constant!(SeedAddr0)))
        .wrapping_add((key.rest & PORT_TO_FLAGS).wrapping_mul(constant!(SeedRest)));
    // IPv4 knows at compile time that it has none of this.
    if key.addr[1] != 0 {
        sum = sum.wrapping_add(key.addr[1].wrapping_mul(constant!(SeedAddr1)));
    }
    Place::of((sum >> 32).wrapping_mul(sum))
}

/// The part of [`FlowKey::rest`] that is hashed.
const PORT_TO_FLAGS: u64 = 0xffff_ffff;

/// What [`settle`] counts. Together, because a function takes five arguments.
struct Packet {
    key: FlowKey,
    tally: Tally,
}

/// The way off the main path: the key is not in its first slot. It may be in a neighbouring one or,
/// where that group is full, in another group; or it takes a slot that is free there, if its device's
/// quota has room; else the coarser levels get it.
#[inline(never)]
fn settle<C: EbpfContext>(ctx: &C, packet: &Packet, stripe: Stripe, first: Place) {
    let Packet { key, tally } = packet;
    let mut free = None;
    let mut group = first;
    let mut probe = 0;
    while probe < GROUPS * PROBES {
        let place = group.neighbour(probe as u64 % PROBES as u64);
        let slot = stripe.slot(place);
        if slot.key == *key {
            return slot.counters.tally.add(tally);
        }
        if slot.key.rest == 0 {
            // Slots are freed all at once, so the key is nowhere behind a free one.
            free = Some(place);
            break;
        }
        probe += 1;
        if probe % PROBES == 0 {
            group = group.next_group();
        }
    }

    let totals = stripe.totals();
    let Some(mut device) = Device::of(key, stripe) else {
        totals.pool[key.direction() as usize].add(tally);
        return event(ctx, key, totals, Outcome::PoolFull);
    };
    // SAFETY: the daemon writes quotas before it loads the programs, and never after.
    let quotas = unsafe { &(*control()).quotas };
    // SAFETY: no argument, no precondition.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    match free {
        Some(place) if device.claims_slot(quotas, totals) => {
            // Field by field: a whole slot would first be made on the stack, which does not have its
            // alignment.
            let slot = stripe.slot(place);
            slot.counters = Counters { tally: *tally, first_seen: now };
            slot.key = *key;
            stripe.list(totals.outcomes[Outcome::Claim as usize], place);
            totals.outcomes[Outcome::Claim as usize] += 1;
            return;
        }
        Some(_) => event(ctx, key, totals, Outcome::SlotQuota),
        None => event(ctx, key, totals, Outcome::TableFull),
    }

    let coarse_key = key.coarse(stripe.half as u32);
    let mut entry = COARSE.get_ptr_mut(coarse_key);
    if entry.is_none() && device.claims_coarse(quotas, totals) {
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
        "device {:mac} is counted with less detail, reason {} (1 groups of slots full, 2 quota of \
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
        let key = DeviceKey { mac_half: key.mac_vlan & MAC_MASK | (stripe.half as u64) << 48 };
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
