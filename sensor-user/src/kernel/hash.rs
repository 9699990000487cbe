//! The hash maps' keys and values as aya wants them, and the few operations on them.

use aya::{
    Pod,
    maps::{Map, MapData, MapError, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use aya_obj::generated::{BPF_ANY, BPF_NOEXIST};
use sensor_common::layout::{CoarseKey, Counters, DeviceKey, DeviceState};

macro_rules! pod {
    ($($wrapper:ident($inner:ty)),+ $(,)?) => {$(
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[repr(transparent)]
        pub(super) struct $wrapper(pub(super) $inner);

        // SAFETY: integers only, without padding (asserted in `sensor_common::layout`).
        unsafe impl Pod for $wrapper {}
    )+};
}

pod!(
    PodCoarseKey(CoarseKey),
    PodCounters(Counters),
    PodDeviceKey(DeviceKey),
    PodDeviceState(DeviceState),
);

/// A key that names the half it belongs to.
pub(super) trait Halved {
    fn half(&self) -> u32;
}

impl Halved for PodCoarseKey {
    fn half(&self) -> u32 {
        self.0.half()
    }
}

impl Halved for PodDeviceKey {
    fn half(&self) -> u32 {
        self.0.half()
    }
}

/// A per-CPU hash whose keys name the half they belong to.
pub(super) struct HalfHash<K: Pod, V: Pod> {
    map: PerCpuHashMap<MapData, K, V>,
}

impl<K: Pod + Halved, V: Pod + Default> HalfHash<K, V> {
    /// Of a map that the loader made.
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { map: map.try_into()? })
    }

    /// Of an earlier process' map.
    pub(super) fn open(map: MapData) -> Result<Self, MapError> {
        Self::new(Map::PerCpuHashMap(map))
    }

    /// All entries of a half, each with the values of all CPUs.
    pub(super) fn read(&self, half: u32) -> Result<Vec<(K, PerCpuValues<V>)>, MapError> {
        let mut entries = Vec::new();
        for key in self.keys(half)? {
            entries.push((key, self.map.get(&key, 0)?));
        }
        Ok(entries)
    }

    /// Removes all entries of a half, and says how many there were.
    pub(super) fn remove_half(&mut self, half: u32) -> Result<usize, MapError> {
        let keys = self.keys(half)?;
        for key in &keys {
            self.map.remove(key)?;
        }
        Ok(keys.len())
    }

    /// Sets all CPUs' values of a key to zero, entering it where it is missing.
    pub(super) fn zero(&mut self, key: K) -> Result<(), MapError> {
        self.set_zero(key, BPF_ANY)
    }

    /// Enters a key where it is missing.
    pub(super) fn enter(&mut self, key: K) -> Result<(), MapError> {
        match self.set_zero(key, BPF_NOEXIST) {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn set_zero(&mut self, key: K, flags: u32) -> Result<(), MapError> {
        let cpus = nr_cpus().map_err(|(_what, error)| MapError::IoError(error))?;
        let zeros = PerCpuValues::try_from(vec![V::default(); cpus]).map_err(MapError::IoError)?;
        self.map.insert(key, zeros, flags.into())
    }

    /// Sets all values of a half to zero, and says how many keys it has.
    pub(super) fn zero_half(&mut self, half: u32) -> Result<usize, MapError> {
        let keys = self.keys(half)?;
        for key in &keys {
            self.zero(*key)?;
        }
        Ok(keys.len())
    }

    /// The keys of a half. Programs enter keys of the other half meanwhile, which disturbs no walk:
    /// only the removal of the key it stands at would, and nobody else removes.
    fn keys(&self, half: u32) -> Result<Vec<K>, MapError> {
        let mut keys = Vec::new();
        for key in self.map.keys() {
            let key = key?;
            if key.half() == half {
                keys.push(key);
            }
        }
        Ok(keys)
    }
}
