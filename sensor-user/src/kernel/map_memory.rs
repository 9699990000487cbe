//! An mmapable BPF array as memory.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
};

use memmap2::{MmapOptions, MmapRaw};

/// All entries of a BPF array that was made with `BPF_F_MMAPABLE`.
///
/// The kernel's programs write the same memory, so entries are read and written whole and
/// volatile, never borrowed. Tearing is excluded by the protocol, not here: an entry is touched
/// only after the grace period that ends its writers.
pub(super) struct MapMemory<T> {
    memory: MmapRaw,
    entries: usize,
    entry: PhantomData<T>,
}

impl<T: Copy> MapMemory<T> {
    /// Maps `entries` entries of the array behind `map`.
    ///
    /// `T` must be the array's value type: plain words, a multiple of eight octets long.
    pub(super) fn new(map: &impl AsFd, entries: usize) -> io::Result<Self> {
        let len = entries * size_of::<T>();
        let memory = MmapOptions::new().len(len).map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self { memory, entries, entry: PhantomData })
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Where an entry lies.
    ///
    /// # Panics
    ///
    /// Beyond the last entry.
    pub(super) fn entry(&self, index: usize) -> *mut T {
        assert!(index < self.entries, "entry {index} of {}", self.entries);
        // SAFETY: within the mapping, as just checked.
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) }
    }

    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: mapped, aligned (entries start on a page), and valid for any octets.
        unsafe { ptr::read_volatile(self.entry(index)) }
    }

    pub(super) fn write(&self, index: usize, value: T) {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(self.entry(index), value) }
    }
}
