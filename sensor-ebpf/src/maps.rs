//! What the programs write. Sizes marked "set at load" come from the daemon's configuration.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, PerCpuHashMap},
    macros::btf_map,
};
use sensor_common::layout::{CoarseKey, Counters, DeviceKey, DeviceState, Settings};

/// The state: control block, totals, flow table. All of it is one value, so that a program looks up
/// once, before anything else, and then only adds offsets: a look-up for each part took half as many
/// instructions again. The daemon makes this map with its real size, which the verifier then knows;
/// the type here is a place holder.
#[btf_map]
pub(crate) static STATE: Array<[u64; 8], 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Read-only to the programs, so the verifier knows the values: an index that was masked with one of
/// them is within bounds. Set at load; to be read with [`setting`].
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings =
    Settings { seed: [1; 4], slot_mask: 0, stripes: 0, stripe_bytes: 0, list_at: 0 };

/// A field of [`SETTINGS`], whose initial value the compiler would take for the final one.
#[inline(always)]
pub(crate) fn setting(field: &'static u64) -> u64 {
    // SAFETY: it is a reference.
    unsafe { ptr::read_volatile(field) }
}

/// The coarse level, for packets whose group of slots is full. Never an LRU map: it evicts live
/// counters silently. The size is set at load.
#[btf_map]
pub(crate) static COARSE: PerCpuHashMap<CoarseKey, Counters, 1024> = PerCpuHashMap::new();

/// Configured devices, entered by the daemon before the programs are attached. The size is set at
/// load.
#[btf_map]
pub(crate) static DEVICES: PerCpuHashMap<DeviceKey, DeviceState, 64> = PerCpuHashMap::new();

/// Unknown devices, entered by the programs; apart from the configured ones, so that a flood of
/// source addresses takes no configured device's place. The size is set at load.
#[btf_map]
pub(crate) static STRANGERS: PerCpuHashMap<DeviceKey, DeviceState, 64> = PerCpuHashMap::new();
