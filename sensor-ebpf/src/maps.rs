//! The maps. Sizes marked "set at load" come from the daemon's configuration.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, PerCpuHashMap},
    macros::btf_map,
};
use sensor_common::layout::{
    CoarseKey, Control, Counters, DeviceKey, DeviceState, FlowSlot, HALVES, MIN_SLOTS, Totals,
};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const HALVES_USIZE: usize = HALVES as usize;

/// The flow table: half x CPU x slot. The size is set at load.
#[btf_map]
pub(crate) static FLOWS: Array<FlowSlot, { HALVES_USIZE * MIN_SLOTS as usize }, MMAPABLE> =
    Array::new();

/// Totals: half x CPU. The size is set at load.
#[btf_map]
pub(crate) static TOTALS: Array<Totals, HALVES_USIZE, MMAPABLE> = Array::new();

/// Which epoch it is, and all that the daemon settles before it loads the programs. An array:
/// `.bss` and `.rodata` can be neither mapped nor pinned.
#[btf_map]
pub(crate) static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();

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
