//! Tables of an earlier process.

use std::path::{Path, PathBuf};

use aya::{
    maps::{MapData, MapType},
    util::nr_cpus,
};
use aya_obj::generated::BPF_F_MMAPABLE;
use sensor_common::layout::{
    CoarseKey, Control, Counters, DeviceKey, DeviceState, HALVES, LAYOUT_VERSION,
};

use super::{
    hash::HalfHash,
    sizes::Sizes,
    state_memory::StateMemory,
    table::{Capacity, Table},
};

/// Files of a table's directory.
pub(super) const STATE: &str = "state";
pub(super) const COARSE: &str = "coarse";
pub(super) const DEVICES: &str = "devices";
pub(super) const STRANGERS: &str = "strangers";

/// A table whose maps are what this program would make, but for their sizes.
pub(super) struct PinnedTable {
    pub(super) directory: PathBuf,
    pub(super) control: Control,
    pub(super) state: MapData,
    memory: StateMemory,
    coarse: MapData,
    devices: MapData,
    strangers: MapData,
    capacity: Capacity,
}

impl PinnedTable {
    /// Opens what is pinned there.
    ///
    /// # Errors
    ///
    /// Why it can't be read: in words, for the log.
    pub(super) fn open(directory: &Path) -> Result<Self, String> {
        let state = open(directory, STATE)?;
        let info = state.info().map_err(|error| format!("{STATE}: {error}"))?;
        let is_ours = info.map_type().is_ok_and(|kind| kind == MapType::Array)
            && (info.key_size(), info.max_entries()) == (4, 1)
            && info.map_flags() == BPF_F_MMAPABLE
            && info.value_size() as usize >= size_of::<Control>();
        if !is_ours {
            return Err(format!("{STATE} is no map of LabGate's"));
        }
        let memory = StateMemory::open(state.fd(), info.value_size())
            .map_err(|error| format!("{STATE} can't be mapped into memory: {error}"))?;
        let control = memory.control();
        if control.layout_version != LAYOUT_VERSION {
            let version = control.layout_version;
            return Err(format!(
                "its layout has version {version}, this LabGate's {LAYOUT_VERSION}"
            ));
        }
        let cpus = nr_cpus().map_err(|(what, error)| format!("{what}: {error}"))?;
        let same_size = control.geometry.state_bytes() == u64::from(info.value_size());
        if !same_size || control.geometry.cpus as usize != cpus {
            return Err(format!("{STATE} was made for another machine"));
        }
        let (coarse, entries) = hash::<CoarseKey, Counters>(directory, COARSE)?;
        let (devices, known) = hash::<DeviceKey, DeviceState>(directory, DEVICES)?;
        let (strangers, unknown) = hash::<DeviceKey, DeviceState>(directory, STRANGERS)?;
        let capacity =
            Capacity { coarse: entries, known: known / HALVES, strangers: unknown / HALVES };
        let directory = directory.to_owned();
        Ok(Self { directory, control, state, memory, coarse, devices, strangers, capacity })
    }

    /// Whether a new table would have the same shape.
    pub(super) fn suits(&self, sizes: &Sizes) -> bool {
        self.control.geometry == sizes.geometry(self.control.geometry.cpus)
            && self.capacity == sizes.capacity()
    }

    /// To be read; the programs that write it are others'.
    pub(super) fn into_table(self) -> Result<Table, String> {
        let words = |error: aya::maps::MapError| error.to_string();
        let known = HalfHash::open(self.devices).map_err(words)?;
        let strangers = HalfHash::open(self.strangers).map_err(words)?;
        let coarse = HalfHash::open(self.coarse).map_err(words)?;
        let mut table = Table::new(self.memory, coarse, known, strangers, self.capacity);
        table.pinned_at(self.directory);
        table.taken_over();
        Ok(table)
    }
}

fn open(directory: &Path, name: &str) -> Result<MapData, String> {
    MapData::from_pin(directory.join(name)).map_err(|error| format!("{name}: {error}"))
}

/// A per-CPU hash, and how many entries it has.
fn hash<K, V>(directory: &Path, name: &str) -> Result<(MapData, u32), String> {
    let map = open(directory, name)?;
    let info = map.info().map_err(|error| format!("{name}: {error}"))?;
    let is_ours = info.map_type().is_ok_and(|kind| kind == MapType::PerCpuHash)
        && info.key_size() as usize == size_of::<K>()
        && info.value_size() as usize == size_of::<V>()
        && info.map_flags() == 0;
    if is_ours {
        Ok((map, info.max_entries()))
    } else {
        Err(format!("{name} is no map of LabGate's"))
    }
}
