//! Loading: programs into the kernel, maps at the size that the configuration asks for.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd as _,
    panic,
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
    thread,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader, Pod,
    maps::{MapData, MapError},
    programs::{Program, ProgramError, ProgramInfo, SchedClassifier, Xdp},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_ARRAY};
use sensor_common::layout::{Control, DeviceKey, Geometry, HALVES, LAYOUT_VERSION};

use super::{
    hash::{HalfHash, Halved, PodDeviceKey, PodDeviceState},
    object::with_constants,
    pinned::{self, PinnedTable},
    pins::{self, Pins},
    sizes::Sizes,
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

const PROGRAMS: [&str; 4] =
    [INGRESS_PROGRAM, EGRESS_PROGRAM, XdpBuffers::One.program(), XdpBuffers::Fragments.program()];

/// Name of the state map.
const STATE: &str = "labgate_state";

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
    /// Where links are pinned, if they are.
    pins: Option<Arc<Pins>>,
}

/// What there is once the programs are loaded with maps that outlive the process.
pub struct Resumed {
    /// The programs.
    pub sensor: Sensor,
    /// The table that they write.
    pub table: Table,
    /// Tables of another shape, which programs of an earlier process write until these here are attached.
    pub behind: Vec<Table>,
    /// Why what was counted in others is lost.
    pub discarded: Vec<String>,
}

impl From<(Sensor, Table)> for Resumed {
    fn from((sensor, table): (Sensor, Table)) -> Self {
        Self { sensor, table, behind: Vec::new(), discarded: Vec::new() }
    }
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
        let control = control(sizes, u32::try_from(cpus).unwrap_or(u32::MAX))?;
        let state = create_state(control.geometry)?;
        let memory = map_state(&state, control.geometry)?;
        memory.write_control(control);
        Self::with_state(sizes, devices, &control, &state, memory, None)
    }

    /// The same with maps that outlive the process. A table of an earlier one is taken over where it has the
    /// right shape, with what it holds.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and when maps can't be pinned.
    pub fn resume(sizes: &Sizes, devices: &[Mac], pins: Pins) -> Result<Resumed, LoadError> {
        let cpus = nr_cpus().map_err(|(what, error)| LoadError::System { what, error })?;
        sizes.check(cpus)?;
        let (mut behind, mut discarded) = (Vec::new(), Vec::new());
        let mut loaded = None;
        for directory in pins.tables() {
            match PinnedTable::open(&directory) {
                Ok(table) if loaded.is_none() && table.suits(sizes) => {
                    loaded = Some(Self::take_over(sizes, devices, table)?);
                }
                Ok(table) => match table.into_table() {
                    Ok(table) => behind.push(table),
                    Err(reason) => discarded.push(reason),
                },
                Err(reason) => {
                    pins::remove_table(&directory);
                    discarded.push(reason);
                }
            }
        }
        let (mut sensor, table) = match loaded {
            Some(loaded) => loaded,
            None => Self::begin(sizes, devices, &pins)?,
        };
        sensor.pins = Some(Arc::new(pins));
        Ok(Resumed { sensor, table, behind, discarded })
    }

    /// Loads the programs for a table of an earlier process.
    fn take_over(
        sizes: &Sizes,
        devices: &[Mac],
        table: PinnedTable,
    ) -> Result<(Self, Table), LoadError> {
        let PinnedTable { directory, control, state, .. } = table;
        let control = Control { quotas: sizes.quotas(control.geometry.cpus), ..control };
        let memory = map_state(&state, control.geometry)?;
        memory.write_quotas(control.quotas);
        let (sensor, mut table) =
            Self::with_state(sizes, devices, &control, &state, memory, Some(&directory))?;
        table.taken_over();
        Ok((sensor, table))
    }

    /// Makes a table that outlives the process.
    fn begin(sizes: &Sizes, devices: &[Mac], pins: &Pins) -> Result<(Self, Table), LoadError> {
        let cpus = nr_cpus().map_err(|(what, error)| LoadError::System { what, error })?;
        let control = control(sizes, u32::try_from(cpus).unwrap_or(u32::MAX))?;
        let state = create_state(control.geometry)?;
        let memory = map_state(&state, control.geometry)?;
        memory.write_control(control);
        let failed = |error| LoadError::System { what: "pin a table", error };
        let directory = pins.new_table(control.table_id).map_err(failed)?;
        let pinned = state.pin(directory.join(pinned::STATE));
        pinned.map_err(|error| failed(io::Error::other(error)))?;
        Self::with_state(sizes, devices, &control, &state, memory, Some(&directory))
    }

    /// Loads the programs that write this state.
    fn with_state(
        sizes: &Sizes,
        devices: &[Mac],
        control: &Control,
        state: &MapData,
        memory: StateMemory,
        directory: Option<&Path>,
    ) -> Result<(Self, Table), LoadError> {
        let capacity = sizes.capacity();
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("COARSE", capacity.coarse)
            .map_max_entries("DEVICES", HALVES * capacity.known)
            .map_max_entries("STRANGERS", HALVES * capacity.strangers);
        if let Some(directory) = directory {
            loader
                .map_pin_path("COARSE", directory.join(pinned::COARSE))
                .map_pin_path("DEVICES", directory.join(pinned::DEVICES))
                .map_pin_path("STRANGERS", directory.join(pinned::STRANGERS));
        }
        let mut ebpf = loader.load(&with_constants(control, state.fd().as_fd()))?;
        let mut table = table(&mut ebpf, memory, devices, capacity)?;
        if let Some(directory) = directory {
            table.pinned_at(directory.to_owned());
        }
        let log = EbpfLogger::init(&mut ebpf).ok();
        load_programs(&mut ebpf)?;
        Ok((Self { ebpf, log, pins: None }, table))
    }

    /// Where links are pinned, if they are.
    pub(super) const fn pins(&self) -> Option<&Arc<Pins>> {
        self.pins.as_ref()
    }

    /// Detaches what an earlier process attached, but for these.
    pub fn keep_links(&self, keep: impl Iterator<Item = PathBuf>) {
        if let Some(pins) = &self.pins {
            pins.keep_links(&keep.collect::<Vec<_>>());
        }
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

/// Has the kernel verify all programs, side by side: each keeps one CPU busy for tenths of a second.
fn load_programs(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let mut programs: HashMap<_, _> = ebpf.programs_mut().collect();
    thread::scope(|scope| {
        let threads = PROGRAMS.map(|name| {
            let program = programs.remove(name);
            scope.spawn(move || {
                let program = program.ok_or_else(|| missing(name))?;
                match program {
                    Program::Xdp(program) => program.load(),
                    Program::SchedClassifier(program) => program.load(),
                    _ => return Err(missing(name)),
                }
                .map_err(refused(name))?;
                took(name, program.info());
                Ok(())
            })
        });
        let mut threads = threads.into_iter();
        threads.try_for_each(|thread| thread.join().unwrap_or_else(|why| panic::resume_unwind(why)))
    })
}

/// Tells how much there was to verify, which kernels do from 5.16 on; at a million it ends.
fn took(program: &'static str, info: Result<ProgramInfo, ProgramError>) {
    let verified_instructions = info.ok().and_then(|info| info.verified_instruction_count());
    tracing::debug!(program, verified_instructions, "the kernel took a program");
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

fn map_state(state: &MapData, geometry: Geometry) -> Result<StateMemory, LoadError> {
    StateMemory::new(state.fd(), geometry).map_err(|error| LoadError::Memory { map: STATE, error })
}

fn table(
    ebpf: &mut Ebpf,
    state: StateMemory,
    devices: &[Mac],
    capacity: Capacity,
) -> Result<Table, LoadError> {
    let coarse = hash(ebpf, "COARSE")?;
    let mut known = hash::<PodDeviceKey, PodDeviceState>(ebpf, "DEVICES")?;
    for mac in devices {
        for half in 0..HALVES {
            known
                .enter(PodDeviceKey(DeviceKey::new(mac.0, half)))
                .map_err(|error| LoadError::Map { map: "DEVICES", error })?;
        }
    }
    Ok(Table::new(state, coarse, known, hash(ebpf, "STRANGERS")?, capacity))
}

fn hash<K: Pod + Halved, V: Pod + Default>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<HalfHash<K, V>, LoadError> {
    let data = ebpf.take_map(map).ok_or_else(|| no_map(map))?;
    HalfHash::new(data).map_err(|error| LoadError::Map { map, error })
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
