//! Loading: programs into the kernel, maps at the size that the configuration asks for.

use std::{io, mem::size_of, ptr};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapData, MapError, PerCpuHashMap},
    programs::{ProgramError, SchedClassifier, Xdp},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use sensor_common::layout::{
    CoarseKey, Control, Counters, DeviceKey, DeviceState, FlowSlot, HALVES, LAYOUT_VERSION, Quotas,
    Totals,
};

use super::{
    hash::{HalfHash, PodCoarseKey, PodCounters, PodDeviceKey, PodDeviceState},
    map_memory::MapMemory,
    table::Table,
};
use crate::model::Mac;

/// The programs' object file, built from `sensor-ebpf` by the build script.
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sensor-ebpf"));

/// Program names, as `bpftool prog show` lists them.
pub(super) const XDP_PROGRAM: &str = "labgate_xdp";
pub(super) const INGRESS_PROGRAM: &str = "labgate_ingress";
pub(super) const EGRESS_PROGRAM: &str = "labgate_egress";

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
    /// Kernel memory of all maps in bytes, on a machine with so many possible CPUs.
    pub fn memory(&self, cpus: usize) -> u64 {
        let (cpus, halves) = (cpus as u64, u64::from(HALVES));
        let flows =
            halves * cpus * u64::from(self.flow_slots_per_cpu) * size_of::<FlowSlot>() as u64;
        let totals = halves * cpus * size_of::<Totals>() as u64;
        // A preallocated per-CPU hash: key, element header and bucket, and a value for each CPU.
        let hash = |entries: u64, key: usize, value: usize| {
            entries * (key as u64 + 64 + cpus * value as u64)
        };
        flows
            + totals
            + hash(self.coarse_entries.into(), size_of::<CoarseKey>(), size_of::<Counters>())
            + hash(
                halves * (u64::from(self.device_macs) + u64::from(self.unknown_devices)),
                size_of::<DeviceKey>(),
                size_of::<DeviceState>(),
            )
    }

    /// Who may hold how much. All quotas together are half of the table; a quarter of it goes to
    /// whoever comes first. So at least a quarter stays free, and a key within its device's quota
    /// finds a slot near its hash while others flood theirs.
    fn quotas(&self, cpus: u32) -> Quotas {
        let share = |total: u32| {
            let devices = self.device_macs.max(1);
            let device = (total / 4).min(total / 8 * 3 / devices).max(16);
            let pool = total / 8;
            (device, (pool / 4).max(16), pool)
        };
        let (device_slots, stranger_slots, pool_slots) = share(self.flow_slots_per_cpu);
        // The coarse level is one map for all CPUs and both halves.
        let (device_coarse, stranger_coarse, pool_coarse) =
            share(self.coarse_entries / (cpus * HALVES));
        Quotas {
            free_slots: self.flow_slots_per_cpu / 4,
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
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX / HALVES);
        let stripes = HALVES * cpus;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", stripes * sizes.flow_slots_per_cpu)
            .map_max_entries("TOTALS", stripes)
            .map_max_entries("COARSE", sizes.coarse_entries)
            .map_max_entries("DEVICES", (HALVES * sizes.device_macs).max(1))
            .map_max_entries("STRANGERS", (HALVES * sizes.unknown_devices).max(1))
            .load(PROGRAMS)?;
        let table = table(&mut ebpf, cpus, sizes, devices)?;
        let log = EbpfLogger::init(&mut ebpf).ok();
        let mut sensor = Self { ebpf, log };
        for name in [INGRESS_PROGRAM, EGRESS_PROGRAM] {
            sensor.classifier(name)?.load().map_err(refused(name))?;
        }
        sensor.xdp()?.load().map_err(refused(XDP_PROGRAM))?;
        Ok((sensor, table))
    }

    /// Hands what the programs had to say to the log.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// The program at native XDP.
    ///
    /// # Errors
    ///
    /// When the object lacks it, which no built object does.
    pub fn xdp(&mut self) -> Result<&mut Xdp, LoadError> {
        let program = self.ebpf.program_mut(XDP_PROGRAM);
        match program.map(TryInto::try_into) {
            Some(Ok(program)) => Ok(program),
            _ => Err(missing(XDP_PROGRAM)),
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

fn table(ebpf: &mut Ebpf, cpus: u32, sizes: &Sizes, devices: &[Mac]) -> Result<Table, LoadError> {
    let control: MapMemory<Control> = memory(ebpf, "CONTROL", 1)?;
    let [seed @ .., a, b] = random()?;
    let settled = Control {
        epoch: 0,
        cpus,
        slot_bits: sizes.flow_slots_per_cpu.ilog2(),
        layout_version: LAYOUT_VERSION,
        seed: seed.map(|word| word | 1),
        table_id: [a, b],
        quotas: sizes.quotas(cpus),
    };
    control.write(0, settled);
    let stripes = (HALVES * cpus) as usize;
    let totals: MapMemory<Totals> = memory(ebpf, "TOTALS", stripes)?;
    let flows: MapMemory<FlowSlot> =
        memory(ebpf, "FLOWS", stripes * sizes.flow_slots_per_cpu as usize)?;
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
    Ok(Table::new(control, totals, flows, coarse, known, strangers))
}

fn memory<T: Copy>(
    ebpf: &Ebpf,
    map: &'static str,
    entries: usize,
) -> Result<MapMemory<T>, LoadError> {
    let data = match ebpf.map(map) {
        Some(aya::maps::Map::Array(data)) => data,
        _ => return Err(no_map(map)),
    };
    MapMemory::new(data.fd(), entries).map_err(|error| LoadError::Memory { map, error })
}

fn hash<K: aya::Pod, V: aya::Pod>(
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
