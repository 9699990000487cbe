//! How much room the tables have, and who may have how much of it.

use sensor_common::layout::{
    CoarseKey, Counters, DeviceKey, DeviceState, Geometry, HALVES, MIN_SLOTS, Quotas,
};

use super::{sensor::LoadError, table::Capacity};
use crate::faults::{self, Safeguard};

/// How large the maps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Slots of the flow table, per CPU and half; a power of two, at least
    /// [`MIN_SLOTS`](sensor_common::layout::MIN_SLOTS).
    pub flow_slots_per_cpu: u32,
    /// Entries of the coarse level, for all CPUs and both halves.
    pub coarse_entries: u32,
    /// Devices that the configuration names, by MAC address.
    pub device_macs: u32,
    /// Unknown MAC addresses that are told apart.
    pub unknown_devices: u32,
}

impl Sizes {
    /// Slots of the flow table where the configuration names none.
    pub fn default_slots(cpus: usize) -> u32 {
        let most = u32::try_from(cpus).ok().and_then(Geometry::max_slots);
        most.unwrap_or(MIN_SLOTS).min(DEFAULT_SLOTS)
    }

    /// Says whether the programs can address tables of that size for so many CPUs.
    ///
    /// # Errors
    ///
    /// [`LoadError::TooLarge`].
    pub fn check(&self, cpus: usize) -> Result<(), LoadError> {
        let most = u32::try_from(cpus).ok().and_then(Geometry::max_slots).unwrap_or(0);
        if self.flow_slots_per_cpu <= most {
            Ok(())
        } else {
            Err(LoadError::TooLarge { slots: self.flow_slots_per_cpu, cpus, most })
        }
    }

    /// Kernel memory of all maps in bytes, on a machine with so many possible CPUs.
    pub fn memory(&self, cpus: usize) -> u64 {
        let geometry = self.geometry(u32::try_from(cpus).unwrap_or(u32::MAX));
        let (cpus, halves) = (cpus as u64, u64::from(HALVES));
        // A preallocated per-CPU hash: key, element header and bucket, and a value for each CPU.
        let hash = |entries: u64, key: usize, value: usize| {
            entries * (key as u64 + 64 + cpus * value as u64)
        };
        geometry.state_bytes()
            + hash(self.coarse_entries.into(), size_of::<CoarseKey>(), size_of::<Counters>())
            + hash(
                halves * (u64::from(self.device_entries()) + u64::from(self.unknown_devices)),
                size_of::<DeviceKey>(),
                size_of::<DeviceState>(),
            )
    }

    /// Entries for configured devices.
    fn device_entries(&self) -> u32 {
        // In large steps: with one device more the table of before still has the right shape.
        self.device_macs.saturating_add(SPARE_DEVICES).next_multiple_of(SPARE_DEVICES)
    }

    /// Entries of the maps.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            coarse: self.coarse_entries,
            known: self.device_entries(),
            strangers: self.unknown_devices.max(1),
        }
    }

    pub(super) fn geometry(&self, cpus: u32) -> Geometry {
        Geometry { cpus, slots: self.flow_slots_per_cpu }
    }

    /// Who may hold how much. Five eighths of the table go to whoever comes first, and all quotas
    /// together are a quarter. So at least an eighth stays free, and a key within its device's quota
    /// finds a slot while others flood theirs.
    pub(super) fn quotas(&self, cpus: u32) -> Quotas {
        let share = |total: u32| {
            let devices = self.device_macs.max(1);
            let device = (total / 16 * 3 / devices).max(16);
            let pool = total / 16;
            (device, (pool / 4).max(16), pool)
        };
        let (device_slots, stranger_slots, pool_slots) = share(self.flow_slots_per_cpu);
        // The coarse level is one map for all CPUs and both halves.
        let coarse = self.coarse_entries / (cpus * HALVES);
        let (device_coarse, stranger_coarse, pool_coarse) = share(coarse);
        let quotas = Quotas {
            free_slots: self.flow_slots_per_cpu / 8 * 5,
            device_slots,
            stranger_slots,
            pool_slots,
            free_coarse: coarse / 2,
            device_coarse,
            stranger_coarse,
            pool_coarse,
        };
        if faults::without(Safeguard::Coarse) {
            return Quotas { free_coarse: 0, device_coarse: 0, stranger_coarse: 0, ..quotas };
        }
        if faults::without(Safeguard::Quotas) {
            return Quotas { free_slots: u32::MAX, free_coarse: u32::MAX, ..quotas };
        }
        quotas
    }
}

/// MAC addresses that the configuration may gain while the sensor runs.
pub(super) const SPARE_DEVICES: u32 = 256;

/// Slots where the configuration names none, if the machine has not too many CPUs for that.
const DEFAULT_SLOTS: u32 = 65_536;
