//! The state map as memory.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
    sync::atomic::AtomicU32,
};

use memmap2::{MmapOptions, MmapRaw};
use sensor_common::layout::{
    Control, FlowSlot, Geometry, HALVES, Outcome, Quotas, SLOTS_AT, STRIPES_AT, Totals,
};

/// The state that the programs write.
///
/// They write the same memory, so everything is read and written whole and volatile, never borrowed.
/// Tearing is excluded by the protocol, not here: a half is touched only after the grace period that
/// ends its writers.
pub(super) struct StateMemory {
    memory: MmapRaw,
    geometry: Geometry,
}

impl StateMemory {
    /// Maps the state behind `map`, which must have been made with this geometry.
    pub(super) fn new(map: &impl AsFd, geometry: Geometry) -> io::Result<Self> {
        let len = usize::try_from(geometry.state_bytes()).map_err(io::Error::other)?;
        let memory = MmapOptions::new().len(len).map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self { memory, geometry })
    }

    /// Maps the state behind `map`, whose value has so many octets, with the geometry that its control block
    /// names; whether that is true is the caller's to check before anything else.
    pub(super) fn open(map: &impl AsFd, bytes: u32) -> io::Result<Self> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        let memory = MmapOptions::new().len(len).map_raw(map.as_fd().as_raw_fd())?;
        // SAFETY: mapped, as the value holds a control block, and aligned: it starts on a page.
        let control = unsafe { ptr::read_volatile(memory.as_mut_ptr().cast::<Control>()) };
        Ok(Self { memory, geometry: control.geometry })
    }

    /// Changes who may hold how much. Programs that run read it word by word.
    pub(super) fn write_quotas(&self, quotas: Quotas) {
        // SAFETY: as in `write_control`.
        unsafe { ptr::write_volatile(&raw mut (*self.at::<Control>(0)).quotas, quotas) }
    }

    pub(super) fn write_control(&self, control: Control) {
        // SAFETY: mapped and aligned: the state starts on a page.
        unsafe { ptr::write_volatile(self.at(0), control) }
    }

    pub(super) fn control(&self) -> Control {
        // SAFETY: as in `write_control`, and valid for any octets.
        unsafe { ptr::read_volatile(self.memory.as_mut_ptr().cast::<Control>()) }
    }

    /// The current epoch's number.
    pub(super) fn epoch(&self) -> &AtomicU32 {
        // SAFETY: aligned, mapped as long as `self`, and written only through this atomic; the
        // programs read it as one word.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.at::<Control>(0)).epoch) }
    }

    /// Slots of each stripe.
    pub(super) const fn slots(&self) -> u32 {
        self.geometry.slots
    }

    /// The stripes of a half, one for each CPU.
    pub(super) fn half(&self, half: u32) -> impl Iterator<Item = Stripe<'_>> {
        assert!(half < HALVES, "half {half}");
        let stripe_bytes = self.geometry.stripe_bytes();
        (0..u64::from(self.geometry.cpus)).map(move |cpu| {
            let number = Geometry::stripe(cpu, u64::from(half));
            Stripe { state: self, offset: STRIPES_AT + number * stripe_bytes }
        })
    }

    /// Where an object of the layout lies.
    ///
    /// # Panics
    ///
    /// Where it does not end within the state.
    fn at<T>(&self, offset: u64) -> *mut T {
        let end = offset + size_of::<T>() as u64;
        assert!(end <= self.geometry.state_bytes(), "offset {offset} of {:?}", self.geometry);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.memory.as_mut_ptr().wrapping_add(offset).cast()
    }
}

/// What one CPU wrote in one half.
pub(super) struct Stripe<'a> {
    state: &'a StateMemory,
    offset: u64,
}

impl Stripe<'_> {
    pub(super) fn totals(&self) -> Totals {
        // SAFETY: mapped and aligned (the layout asserts it), valid for any octets.
        unsafe { ptr::read_volatile(self.state.at(self.offset)) }
    }

    /// The slots that are taken, in the order in which they were.
    pub(super) fn taken(&self) -> impl Iterator<Item = FlowSlot> {
        // SAFETY: as in `totals`.
        let slots = self.taken_slots().map(|slot| unsafe { ptr::read_volatile(slot) });
        // One that is just being claimed has no key yet.
        slots.filter(|slot| slot.key.rest != 0)
    }

    /// Frees all slots, then forgets the totals, and with them the list: a clearing that was cut
    /// short can be done again.
    pub(super) fn clear(&self) {
        for slot in self.taken_slots() {
            // SAFETY: as in `totals`.
            unsafe { ptr::write_volatile(slot, FlowSlot::default()) };
        }
        // SAFETY: as in `totals`.
        unsafe { ptr::write_volatile(self.state.at(self.offset), Totals::default()) };
    }

    fn taken_slots(&self) -> impl Iterator<Item = *mut FlowSlot> {
        let Geometry { slots, .. } = self.state.geometry;
        let taken = self.totals().outcomes[Outcome::Claim as usize].min(slots.into());
        let list = self.offset + self.state.geometry.list_at();
        (0..taken).map(move |number| {
            let entry = self.state.at::<u32>(list + number * size_of::<u32>() as u64);
            // SAFETY: as in `totals`.
            let index = u64::from(unsafe { ptr::read_volatile(entry) });
            self.state.at(self.offset + SLOTS_AT + index * size_of::<FlowSlot>() as u64)
        })
    }
}
