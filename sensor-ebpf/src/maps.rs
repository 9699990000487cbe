//! What the programs write. Sizes marked "set at load" come from the daemon's configuration.

use core::{arch::asm, ptr};

use aya_ebpf::{btf_maps::PerCpuHashMap, macros::btf_map};
use sensor_common::layout::{CoarseKey, Counters, DeviceKey, DeviceState, STATE_ADDRESS, Settings};

/// The state: control block, totals, flow table. All of it is one value of one map, which a program
/// addresses as it would a variable: three maps with a look-up each took some fifty instructions more
/// for each packet.
#[inline(always)]
pub(crate) fn state() -> *mut u8 {
    let state;
    // SAFETY: loads a constant, in whose place the daemon puts the address.
    unsafe {
        asm!(
            "{state} = {address} ll",
            state = out(reg) state,
            address = const STATE_ADDRESS,
            options(pure, nomem, nostack),
        );
    }
    state
}

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
