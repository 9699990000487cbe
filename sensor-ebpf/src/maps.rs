//! What the programs write. Sizes marked "set at load" come from the daemon's configuration.

use aya_ebpf::{btf_maps::PerCpuHashMap, macros::btf_map};
use sensor_common::layout::{CoarseKey, Counters, DeviceKey, DeviceState};

/// A [`Constant`](sensor_common::layout::Constant): one instruction that loads it, in which the daemon
/// puts its value. Read from a map it would take a second load and a register for the map.
macro_rules! constant {
    ($name:ident) => {{
        let value: u64;
        // SAFETY: loads a number.
        unsafe {
            core::arch::asm!(
                "{value} = {placeholder} ll",
                value = out(reg) value,
                placeholder = const sensor_common::layout::Constant::$name.placeholder(),
                options(pure, nomem, nostack),
            );
        }
        value
    }};
}
pub(crate) use constant;

/// The state: control block, totals, flow table. All of it is one value of one map, which a program
/// addresses as it would a variable: three maps with a look-up each took some fifty instructions more
/// for each packet.
#[inline(always)]
pub(crate) fn state() -> *mut u8 {
    constant!(State) as *mut u8
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
