//! The table: flip, wait, read, clear.
//!
//! The order is what makes the counts exact. Programs write the half that the epoch's lowest bit
//! names. [`Table::drain`] moves them to the other half, waits with [`GracePeriod::wait`] until none
//! is left in the old one, and only then reads it. When the records are safe, [`Table::clear`]
//! empties it.

use std::{
    io,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aya::maps::MapError;
use sensor_common::layout::{Counters, DeviceKey, HALVES, Outcome, Tally, Totals};

use super::{
    grace::{GraceError, GracePeriod},
    hash::{HalfHash, PodCoarseKey, PodCounters, PodDeviceKey, PodDeviceState},
    pins,
    raw::RawEpoch,
    sizes::SPARE_DEVICES,
    state_memory::StateMemory,
};
use crate::{
    clock::Moment,
    faults::{self, Point, Safeguard},
    model::{Mac, TableUse},
};

/// Why an epoch can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// No grace period, so nothing may be read.
    #[error(transparent)]
    Grace(#[from] GraceError),
    /// A hash map can't be walked.
    #[error("can't read the coarse level or the device table: {0}")]
    Map(#[from] MapError),
    /// The clocks can't be read.
    #[error("can't read the clock: {0}")]
    Clock(#[source] io::Error),
}

/// Why devices can't be given entries of their own.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// All are taken.
    #[error(
        "more than {SPARE_DEVICES} MAC addresses were added to `devices` since the sensor started; \
         restart it"
    )]
    Full,
    /// The map can't be written.
    #[error("can't write the device table: {0}")]
    Map(#[source] MapError),
}

/// How much the hash maps hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Entries of the coarse level, both halves together.
    pub(super) coarse: u32,
    /// Devices that can be configured.
    pub(super) known: u32,
    /// Unknown ones.
    pub(super) strangers: u32,
}

/// How far the half that is not being written has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Empty.
    Cleared,
    /// Flipped away, not yet read.
    Flipped(u32),
    /// Read and handed out, not yet cleared. `quiet`: nothing was counted; `coarse`: the coarse level
    /// has entries.
    Read { epoch: u32, quiet: bool, coarse: bool },
}

/// The maps of a loaded sensor.
pub struct Table {
    phase: Phase,
    state: StateMemory,
    coarse: HalfHash<PodCoarseKey, PodCounters>,
    known: HalfHash<PodDeviceKey, PodDeviceState>,
    strangers: HalfHash<PodDeviceKey, PodDeviceState>,
    capacity: Capacity,
    /// Known and unknown devices that the half had entries for which was cleared last. They are counted
    /// there, because reading an epoch does not walk them.
    devices: [usize; 2],
    /// Where its maps are pinned.
    pins: Option<PathBuf>,
}

impl Table {
    pub(super) fn new(
        state: StateMemory,
        coarse: HalfHash<PodCoarseKey, PodCounters>,
        known: HalfHash<PodDeviceKey, PodDeviceState>,
        strangers: HalfHash<PodDeviceKey, PodDeviceState>,
        capacity: Capacity,
    ) -> Self {
        Self {
            phase: Phase::Cleared,
            state,
            coarse,
            known,
            strangers,
            capacity,
            devices: [0; 2],
            pins: None,
        }
    }

    /// Notes where its maps are pinned.
    pub(super) fn pinned_at(&mut self, directory: PathBuf) {
        self.pins = Some(directory);
    }

    /// Goes on with what an earlier process left: the half that is not being written is as that one left it.
    pub(super) fn taken_over(&mut self) {
        // In its first epoch nothing was flipped away: an epoch before that one would be after all others.
        if let Some(before) = self.epoch().checked_sub(1) {
            self.phase = Phase::Flipped(before);
        }
    }

    /// Whether an earlier process has flipped an epoch away that it may not have cleared; which one.
    pub fn left_behind(&self) -> Option<u32> {
        match self.phase {
            Phase::Flipped(epoch) => Some(epoch),
            Phase::Cleared | Phase::Read { .. } => None,
        }
    }

    /// That epoch is in the ledger, so that what is left of it is cleared and not counted again.
    pub fn was_committed(&mut self) {
        if let Phase::Flipped(epoch) = self.phase {
            self.phase = Phase::Read { epoch, quiet: false, coarse: true };
        }
    }

    /// Gives it up, for good; it is empty.
    pub fn remove(self) {
        if let Some(pins) = &self.pins {
            pins::remove_table(pins);
        }
    }

    /// Gives devices entries of their own, as far as they have none. Those of devices that are no longer
    /// configured stay: they may have counts.
    ///
    /// # Errors
    ///
    /// When there is no room for them.
    pub fn reserve(&mut self, devices: &[Mac]) -> Result<(), ReserveError> {
        for mac in devices {
            for half in 0..HALVES {
                match self.known.enter(PodDeviceKey(DeviceKey::new(mac.0, half))) {
                    Ok(()) => {}
                    Err(MapError::SyscallError(error))
                        if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
                    {
                        return Err(ReserveError::Full);
                    }
                    Err(error) => return Err(ReserveError::Map(error)),
                }
            }
        }
        Ok(())
    }

    /// Random, made with the table: no other has the same.
    pub fn id(&self) -> [u64; 2] {
        self.state.control().table_id
    }

    /// What the programs have counted so far in the epoch that they write, up to a packet or two: they
    /// go on meanwhile. To be shown, never to be kept.
    ///
    /// # Errors
    ///
    /// When a map can't be read.
    pub fn peek(&self) -> Result<RawEpoch, DrainError> {
        let clocks = Clocks::now().map_err(DrainError::Clock)?;
        self.read(self.epoch(), &clocks)
    }

    /// The epoch that the programs write now.
    pub fn epoch(&self) -> u32 {
        self.state.epoch().load(Ordering::Acquire)
    }

    /// Ends the epoch: moves the programs to the other half, waits until none is left in the old
    /// one, and reads it. It stays as it is until [`Table::clear`].
    ///
    /// After an error it may be called again: what was flipped away is then read, and what was
    /// handed out is cleared first and not handed out twice.
    ///
    /// # Errors
    ///
    /// When the grace period can't be had or a map can't be read or written; nothing is lost.
    pub fn drain(&mut self, grace: GracePeriod) -> Result<RawEpoch, DrainError> {
        let epoch = self.flip()?;
        faults::pass(Point::Flipped);
        let clocks = Clocks::now().map_err(DrainError::Clock)?;
        let began = Instant::now();
        if !faults::without(Safeguard::Barrier) {
            grace.wait()?;
        }
        let waited = began.elapsed();
        faults::pass(Point::Waited);
        Ok(RawEpoch { waited, ..self.hand_out(epoch, &clocks)? })
    }

    /// As [`Table::drain`], where no program runs meanwhile: none is attached, and all runs under
    /// BPF_PROG_TEST_RUN have returned. Times are left as they are: by the kernel's boot-time clock.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn drain_at_rest(&mut self) -> Result<RawEpoch, DrainError> {
        let epoch = self.flip()?;
        self.hand_out(epoch, &Clocks::BOOT)
    }

    /// Moves the programs to the other half, which is empty, unless that was done before.
    fn flip(&mut self) -> Result<u32, DrainError> {
        self.clear()?;
        Ok(match self.phase {
            Phase::Flipped(epoch) => epoch,
            Phase::Cleared | Phase::Read { .. } => {
                let epoch = self.state.epoch().fetch_add(1, Ordering::AcqRel);
                self.phase = Phase::Flipped(epoch);
                epoch
            }
        })
    }

    /// Reads a half that nobody writes any more, and notes that.
    fn hand_out(&mut self, epoch: u32, clocks: &Clocks) -> Result<RawEpoch, DrainError> {
        let raw = self.read(epoch, clocks)?;
        self.phase = Phase::Read { epoch, quiet: raw.is_quiet(), coarse: has_coarse(&raw.totals) };
        Ok(raw)
    }

    /// Reads the half of an epoch that was flipped away and whose grace period is over.
    fn read(&self, epoch: u32, clocks: &Clocks) -> Result<RawEpoch, DrainError> {
        let half = epoch % HALVES;
        let mut raw =
            RawEpoch { epoch, ended: clocks.unix, boot: clocks.boot, ..RawEpoch::default() };
        let mut slots = Vec::new();
        for stripe in self.state.half(half) {
            let totals = stripe.totals();
            slots.push(totals.outcomes[Outcome::Claim as usize]);
            add_totals(&mut raw.totals, &totals);
            raw.flows.extend(stripe.taken().map(|slot| (slot.key, clocks.to_unix(slot.counters))));
        }
        let coarse = if has_coarse(&raw.totals) { self.coarse.read(half)? } else { Vec::new() };
        raw.tables = self.tables(&slots, coarse.len());
        for (key, values) in coarse {
            for PodCounters(counters) in values.iter().filter(|value| value.0.tally.packets > 0) {
                raw.coarse.push((key.0.widen(), clocks.to_unix(*counters)));
            }
        }
        if raw.totals.outcomes[Outcome::CoarseFull as usize] > 0 {
            for devices in [&self.known, &self.strangers] {
                for (key, values) in devices.read(half)? {
                    let mut overflow = [Tally::default(); 2];
                    for PodDeviceState(state) in values.iter() {
                        overflow[0].add(&state.overflow[0]);
                        overflow[1].add(&state.overflow[1]);
                    }
                    if overflow.iter().any(|tally| tally.packets > 0) {
                        raw.overflow.push((Mac(key.0.mac()), overflow));
                    }
                }
            }
        }
        Ok(raw)
    }

    /// How full the tables were: `slots` are those taken by each CPU.
    fn tables(&self, slots: &[u64], coarse: usize) -> Vec<TableUse> {
        let capacity = u64::from(self.state.slots());
        let [known, strangers] = self.devices.map(|devices| devices as u64);
        [
            // A CPU can't use another's slots.
            ("flow_fullest_cpu", slots.iter().copied().max().unwrap_or(0), capacity),
            ("flow", slots.iter().sum(), capacity * slots.len() as u64),
            ("coarse", coarse as u64, self.capacity.coarse.into()),
            ("known_devices", known, self.capacity.known.into()),
            ("unknown_devices", strangers, self.capacity.strangers.into()),
        ]
        .map(|(table, entries, capacity)| TableUse { table, entries, capacity })
        .into()
    }

    /// Empties the half that was read, once its records are safe. Does nothing where none was.
    ///
    /// # Errors
    ///
    /// When a map can't be written; the next call goes on with it.
    pub fn clear(&mut self) -> Result<(), DrainError> {
        let Phase::Read { epoch, quiet, coarse } = self.phase else { return Ok(()) };
        if quiet {
            // Without a packet no unknown device was entered.
            self.devices[1] = 0;
            self.phase = Phase::Cleared;
            return Ok(());
        }
        let half = epoch % HALVES;
        if coarse {
            self.coarse.remove_half(half)?;
        }
        self.devices = [self.known.zero_half(half)?, self.strangers.remove_half(half)?];
        for stripe in self.state.half(half) {
            stripe.clear();
        }
        self.phase = Phase::Cleared;
        Ok(())
    }
}

/// Whether the coarse level has entries. If not it is not walked, which takes as long as the map is
/// large, however few its entries are.
fn has_coarse(totals: &Totals) -> bool {
    totals.outcomes[Outcome::CoarseClaim as usize] > 0
}

fn add_totals(sum: &mut Totals, cpu: &Totals) {
    for direction in 0..2 {
        sum.seen[direction].add(&cpu.seen[direction]);
        sum.pool[direction].add(&cpu.pool[direction]);
    }
    sum.pool_slots += cpu.pool_slots;
    sum.pool_coarse += cpu.pool_coarse;
    for (sum, cpu) in sum.outcomes.iter_mut().zip(cpu.outcomes) {
        *sum += cpu;
    }
}

/// The wall clock and the kernel's boot-time clock at one moment.
struct Clocks {
    unix: u64,
    boot: u64,
}

/// The kernel's boot-time clock, as programs read it, in nanoseconds.
///
/// # Errors
///
/// When the kernel has no such clock.
pub fn boot_time() -> io::Result<u64> {
    let mut boot = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut boot) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(boot.tv_sec.unsigned_abs() * 1_000_000_000 + boot.tv_nsec.unsigned_abs())
}

/// This moment by both clocks.
///
/// # Errors
///
/// When the kernel has no boot-time clock.
pub fn now() -> io::Result<Moment> {
    let Clocks { unix: wall, boot } = Clocks::now()?;
    Ok(Moment { wall, boot })
}

impl Clocks {
    /// Under which times stay as they are.
    const BOOT: Self = Self { unix: u64::MAX, boot: u64::MAX };

    fn now() -> io::Result<Self> {
        let boot = boot_time()?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix = unix.as_secs() * 1_000_000_000 + u64::from(unix.subsec_nanos());
        Ok(Self { unix: faults::unix_clock(unix), boot })
    }

    /// Moves the time of the first packet from the boot-time clock to Unix time.
    fn to_unix(&self, mut counters: Counters) -> Counters {
        let age = self.boot.saturating_sub(counters.first_seen);
        counters.first_seen = self.unix.saturating_sub(age);
        counters
    }
}
