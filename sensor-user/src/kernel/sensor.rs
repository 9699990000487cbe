//! Loading: programs into the kernel, maps at the size that the configuration asks for.

use std::{io, mem::size_of, os::fd::AsFd as _, ptr};

use aya::{
    Ebpf, EbpfError, EbpfLoader, Pod,
    maps::{MapData, MapError, PerCpuHashMap},
    programs::{ProgramError, SchedClassifier, Xdp},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_ARRAY};
use sensor_common::layout::{
    CoarseKey, Control, Counters, DeviceKey, DeviceState, Geometry, HALVES, LAYOUT_VERSION,
    MIN_SLOTS, Quotas,
};

use super::{
    hash::{HalfHash, PodCoarseKey, PodCounters, PodDeviceKey, PodDeviceState},
    object::with_constants,
    state_memory::StateMemory,
    table::{Capacity, Table},
};
use crate::model::Mac;

/// Program names, as `bpftool prog show` lists them.
pub(super) const INGRESS_PROGRAM: &str = "labgate_ingress";
pub(super) const EGRESS_PROGRAM: &str = "labgate_egress";

/// How frames lie in memory where a program at native XDP sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpBuffers {
    /// Each in one buffer: the kernel attaches the program only where that is so, and refuses a
    /// greater MTU while it is attached.
    One,
    /// They may go on in fragments, as jumbo frames do; a little slower.
    Fragments,
}

impl XdpBuffers {
    const fn program(self) -> &'static str {
        match self {
            Self::One => "labgate_xdp",
            Self::Fragments => "labgate_frags",
        }
    }
}

/// Name of the state map.
const STATE: &str = "labgate_state";

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
        self.device_macs.saturating_add(SPARE_DEVICES)
    }

    fn geometry(&self, cpus: u32) -> Geometry {
        Geometry { cpus, slots: self.flow_slots_per_cpu }
    }

    /// Who may hold how much. Five eighths of the table go to whoever comes first, and all quotas
    /// together are a quarter. So at least an eighth stays free, and a key within its device's quota
    /// finds a slot while others flood theirs.
    fn quotas(&self, cpus: u32) -> Quotas {
        let share = |total: u32| {
            let devices = self.device_macs.max(1);
            let device = (total / 16 * 3 / devices).max(16);
            let pool = total / 16;
            (device, (pool / 4).max(16), pool)
        };
        let (device_slots, stranger_slots, pool_slots) = share(self.flow_slots_per_cpu);
        // The coarse level is one map for all CPUs and both halves.
        let (device_coarse, stranger_coarse, pool_coarse) =
            share(self.coarse_entries / (cpus * HALVES));
        Quotas {
            free_slots: self.flow_slots_per_cpu / 8 * 5,
            device_slots,
            stranger_slots,
            pool_slots,
            free_coarse: self.coarse_entries / (cpus * HALVES) / 2,
            device_coarse,
            stranger_coarse,
            pool_coarse,
        }
    }
}

/// MAC addresses that the configuration may gain while the sensor runs.
pub(super) const SPARE_DEVICES: u32 = 256;

/// Slots where the configuration names none, if the machine has not too many CPUs for that.
const DEFAULT_SLOTS: u32 = 65_536;

/// CPUs that may ever be online: the table has a stripe for each. One where the kernel won't say.
pub fn possible_cpus() -> usize {
    nr_cpus().unwrap_or(1)
}

/// Why the programs can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refuses a map or the object.
    #[error("the kernel refuses LabGate's maps: {}", root_cause(.0))]
    Object(#[from] EbpfError),
    /// The verifier refuses a program.
    #[error("the kernel refuses program {program}: {}", root_cause(.error))]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        error: ProgramError,
    },
    /// A map is not what it should be.
    #[error("map {map}: {error}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What is wrong.
        error: MapError,
    },
    /// A map can't be mapped into memory.
    #[error("can't map {map} into memory: {error}")]
    Memory {
        /// Its name.
        map: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// More slots than the programs can address.
    #[error(
        "`flow_slots_per_cpu: {slots}` is too large for {cpus} CPUs: write at most {most} (all \
         tables together have to stay below 512 MiB)"
    )]
    TooLarge {
        /// What was asked for.
        slots: u32,
        /// CPUs that may come online.
        cpus: usize,
        /// The largest number that fits; 0 where none does.
        most: u32,
    },
    /// A system call failed.
    #[error("can't {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

/// The last error of a chain: the one that names the cause.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if ptr::addr_eq(cause, error) { error.to_string() } else { format!("{error}: {cause}") }
}

/// The loaded programs.
pub struct Sensor {
    ebpf: Ebpf,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Sensor {
    /// Loads the programs and makes their maps, empty, with an entry for each configured device.
    ///
    /// # Errors
    ///
    /// When the kernel refuses maps or programs.
    pub fn load(sizes: &Sizes, devices: &[Mac]) -> Result<(Self, Table), LoadError> {
        let cpus = nr_cpus().map_err(|(what, error)| LoadError::System { what, error })?;
        sizes.check(cpus)?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let control = control(sizes, cpus)?;
        let state = create_state(control.geometry)?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("COARSE", sizes.coarse_entries)
            .map_max_entries("DEVICES", HALVES * sizes.device_entries())
            .map_max_entries("STRANGERS", (HALVES * sizes.unknown_devices).max(1))
            .load(&with_constants(&control, state.fd().as_fd()))?;
        let memory = StateMemory::new(state.fd(), control.geometry)
            .map_err(|error| LoadError::Memory { map: STATE, error })?;
        memory.write_control(control);
        let table = table(&mut ebpf, memory, devices, sizes)?;
        let log = EbpfLogger::init(&mut ebpf).ok();
        let mut sensor = Self { ebpf, log };
        for name in [INGRESS_PROGRAM, EGRESS_PROGRAM] {
            sensor.classifier(name)?.load().map_err(refused(name))?;
        }
        for buffers in [XdpBuffers::One, XdpBuffers::Fragments] {
            sensor.xdp(buffers)?.load().map_err(refused(buffers.program()))?;
        }
        Ok((sensor, table))
    }

    /// Hands what the programs had to say to the log.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// A program at native XDP.
    ///
    /// # Errors
    ///
    /// When the object lacks it, which no built object does.
    pub fn xdp(&mut self, buffers: XdpBuffers) -> Result<&mut Xdp, LoadError> {
        let name = buffers.program();
        let program = self.ebpf.program_mut(name);
        match program.map(TryInto::try_into) {
            Some(Ok(program)) => Ok(program),
            _ => Err(missing(name)),
        }
    }

    /// A program at a TC hook.
    ///
    /// # Errors
    ///
    /// When the object lacks it, which no built object does.
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, LoadError> {
        let program = self.ebpf.program_mut(name);
        match program.map(TryInto::try_into) {
            Some(Ok(program)) => Ok(program),
            _ => Err(missing(name)),
        }
    }
}

fn refused(program: &'static str) -> impl Fn(ProgramError) -> LoadError {
    move |error| LoadError::Program { program, error }
}

fn missing(program: &'static str) -> LoadError {
    let error = ProgramError::InvalidName { name: program.to_owned() };
    LoadError::Program { program, error }
}

/// Everything that is settled before the programs are loaded.
fn control(sizes: &Sizes, cpus: u32) -> Result<Control, LoadError> {
    let [seed @ .., a, b] = random()?;
    Ok(Control {
        epoch: 0,
        layout_version: LAYOUT_VERSION,
        geometry: sizes.geometry(cpus),
        seed: seed.map(|word| word | 1),
        table_id: [a, b],
        quotas: sizes.quotas(cpus),
        reserved: [0; 4],
    })
}

/// Makes the state map: one entry that is the whole state.
fn create_state(geometry: Geometry) -> Result<MapData, LoadError> {
    const KEY_SIZE: u32 = 4;
    let map_error = |error| LoadError::Map { map: STATE, error };
    let size = u32::try_from(geometry.state_bytes()).unwrap_or(u32::MAX);
    let map_type = BPF_MAP_TYPE_ARRAY as u32;
    let array = aya_obj::Map::new_from_params(map_type, KEY_SIZE, size, 1, BPF_F_MMAPABLE);
    MapData::create(array, STATE, None).map_err(map_error)
}

fn table(
    ebpf: &mut Ebpf,
    state: StateMemory,
    devices: &[Mac],
    sizes: &Sizes,
) -> Result<Table, LoadError> {
    let coarse =
        HalfHash::<PodCoarseKey, PodCounters>::new(hash(ebpf, "COARSE")?, |key| key.0.half());
    let half_of = |key: &PodDeviceKey| key.0.half();
    let mut known = HalfHash::<PodDeviceKey, PodDeviceState>::new(hash(ebpf, "DEVICES")?, half_of);
    for mac in devices {
        for half in 0..HALVES {
            known
                .zero(PodDeviceKey(DeviceKey::new(mac.0, half)))
                .map_err(|error| LoadError::Map { map: "DEVICES", error })?;
        }
    }
    let strangers = HalfHash::new(hash(ebpf, "STRANGERS")?, half_of);
    let capacity = Capacity {
        coarse: sizes.coarse_entries,
        known: sizes.device_entries(),
        strangers: sizes.unknown_devices,
    };
    Ok(Table::new(state, coarse, known, strangers, capacity))
}

fn hash<K: Pod, V: Pod>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<PerCpuHashMap<MapData, K, V>, LoadError> {
    let data = ebpf.take_map(map).ok_or_else(|| no_map(map))?;
    data.try_into().map_err(|error| LoadError::Map { map, error })
}

fn no_map(map: &'static str) -> LoadError {
    LoadError::Map { map, error: MapError::InvalidName { name: map.to_owned() } }
}

/// Random words: four for the slot hash, two for the table's identity.
fn random() -> Result<[u64; 6], LoadError> {
    let mut octets = [0_u8; 48];
    // SAFETY: writes at most the given length into our array.
    let got = unsafe { libc::getrandom(octets.as_mut_ptr().cast(), octets.len(), 0) };
    if usize::try_from(got) != Ok(octets.len()) {
        let error = io::Error::last_os_error();
        return Err(LoadError::System { what: "get random numbers", error });
    }
    let word = |index: usize| {
        octets[index * 8..][..8].iter().fold(0, |word, octet| word << 8 | u64::from(*octet))
    };
    Ok([0, 1, 2, 3, 4, 5].map(word))
}
