//! Replay: captures instead of interfaces. What counts their packets makes the epochs that a sensor's
//! kernel side makes; from the join on everything is as it is live.

mod archive;
pub mod capture;
mod clock;
mod engine;
mod host;
mod kernel;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sensor_common::{parse::Captured, report};

pub use self::engine::EngineError;
use self::{
    archive::{Archive, Standing},
    capture::{Capture, Fault, Record},
    clock::Clock,
    engine::Engine,
    host::Host,
    kernel::Kernel,
};
use crate::{
    config::Config,
    join::{Joiner, devices::Inventory, geo::GeoDb},
    kernel::RawEpoch,
    model::{Direction, EpochRecord, InterfaceCounters, Mac},
    sinks::{EpochTimes, Sinks, ledger::LedgerError},
    state::{Detail, Setup, Shared, State, rfc3339},
};

/// What counts the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// The sensor's parser, in user space: fast, and without any privileges.
    Host,
    /// The sensor's programs, which the kernel runs over each packet; attached to nothing. As root.
    Kernel,
}

/// Why captures can't be replayed, or not to their end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// What counts fails.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nothing can be written into the ledger.
    #[error("can't use the ledger {path}: {error}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: LedgerError,
    },
    /// Nothing more can.
    #[error(
        "can't write the ledger {path}: {error}; what was written before is whole, and the same replay goes on from there"
    )]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: LedgerError,
    },
}

/// Captures on their way into a state.
pub struct Replay {
    kind: EngineKind,
    engine: Box<dyn Engine>,
    /// MAC addresses of the configured devices: the only ones that receive.
    devices: HashSet<[u8; 6]>,
    clock: Clock,
    epoch: u32,
    epoch_length: Duration,
    joiner: Joiner,
    sinks: Sinks,
    shared: Arc<Shared>,
    archive: Option<Archive>,
    /// By the captures themselves: the independent witness that a sensor has in its interfaces.
    captures: Vec<InterfaceCounters>,
    /// Which of them is being read.
    current: usize,
    reports: Vec<report::Capture>,
}

impl Replay {
    /// Replays by a configuration and the databases that it names.
    ///
    /// # Errors
    ///
    /// When the engine can't be had.
    pub fn new(
        config: &Config,
        setup: Setup,
        geo: GeoDb,
        kind: EngineKind,
    ) -> Result<Self, EngineError> {
        let inventory = Inventory::new(&config.devices, config.limits.unknown_devices);
        Ok(Self::with(
            config,
            State::new(setup),
            Joiner::new(inventory, geo),
            (kind, engine(kind)?),
        ))
    }

    /// The same, into a ledger: one that is not there yet, or that has captures alone. What it has already is not
    /// counted again, and the report is of everything that it has.
    ///
    /// # Errors
    ///
    /// When the engine or the ledger can't be had.
    pub fn into_ledger(
        config: &Config,
        setup: Setup,
        geo: GeoDb,
        kind: EngineKind,
        ledger: &Path,
    ) -> Result<Self, ReplayError> {
        let engine = engine(kind)?;
        let mut state = State::new(setup);
        let (archive, inventory) = Archive::open(ledger, config, &mut state)?;
        let captures = archive.captures();
        let replay = Self::with(config, state, Joiner::new(inventory, geo), (kind, engine));
        Ok(Self { archive: Some(archive), captures, ..replay })
    }

    fn with(
        config: &Config,
        state: State,
        joiner: Joiner,
        (kind, engine): (EngineKind, Box<dyn Engine>),
    ) -> Self {
        let shared = Arc::new(Shared::new(state, config.epoch));
        Self {
            kind,
            engine,
            devices: config.device_macs().into_iter().map(|Mac(mac)| mac).collect(),
            clock: Clock::new(config.epoch),
            epoch: 0,
            epoch_length: config.epoch,
            joiner,
            sinks: Sinks::new(Arc::clone(&shared), config.policy.clone()),
            shared,
            archive: None,
            captures: Vec::new(),
            current: 0,
            reports: Vec::new(),
        }
    }

    /// Counts the packets of a capture; `name` is for the report. A fault of the capture does not
    /// make what was counted before undone.
    ///
    /// # Errors
    ///
    /// When the engine or the ledger fails.
    pub fn add(
        &mut self,
        name: &str,
        capture: Result<Capture, Fault>,
    ) -> Result<Option<Fault>, ReplayError> {
        let known = self.captures.iter().position(|capture| capture.name == name);
        self.current = known.unwrap_or_else(|| {
            self.captures.push(InterfaceCounters { name: name.to_owned(), ..Default::default() });
            self.captures.len() - 1
        });
        if let Some(archive) = &mut self.archive {
            archive.begin();
        }
        let mut report = report::Capture { file: name.to_owned(), ..Default::default() };
        // Times of another capture say nothing of this one's.
        self.clock = Clock::new(self.epoch_length);
        let fault = match capture {
            Ok(mut capture) => self.count(&mut capture, &mut report)?,
            Err(fault) => Some(fault),
        };
        report.problem = fault.as_ref().map(ToString::to_string).unwrap_or_default();
        self.reports.push(report);
        Ok(fault)
    }

    /// Counts packets up to the end or a fault.
    fn count(
        &mut self,
        capture: &mut Capture,
        report: &mut report::Capture,
    ) -> Result<Option<Fault>, ReplayError> {
        let (mut from, mut to) = (u64::MAX, 0);
        let fault = loop {
            let Record { octets, wire_len, time, .. } = match capture.read() {
                Ok(Some(record)) => record,
                Ok(None) => break self.lacks().or_else(|| capture.doubts()),
                Err(fault) => break Some(fault),
            };
            let frame = Captured { octets, wire_len };
            let own_time = time;
            let time = time.unwrap_or(self.clock.latest());
            if self.clock.ends(time) {
                self.close()?;
            }
            let standing = match &mut self.archive {
                Some(archive) => archive.note(&frame, own_time)?,
                None => Standing::New,
            };
            self.clock.note(time);
            (from, to) = (from.min(time), to.max(time));
            match standing {
                Standing::New => {}
                Standing::Known => {
                    self.clock.restart();
                    report.known_packets += 1;
                    continue;
                }
                Standing::Other => {
                    self.clock.restart();
                    break Some(Fault::BeginsAlike(report.known_packets + 1));
                }
            }
            report.packets += 1;
            report.bytes += frame.wire_len as u64;
            let direction = self.direction(frame.octets);
            if let Some(witness) = self.captures.get_mut(self.current) {
                let (packets, bytes) = match direction {
                    Direction::Tx => (&mut witness.rx_packets, &mut witness.rx_bytes),
                    Direction::Rx => (&mut witness.tx_packets, &mut witness.tx_bytes),
                };
                *packets += 1;
                *bytes += frame.wire_len as u64;
            }
            self.engine.count(&frame, direction, time)?;
        };
        if from <= to {
            (report.from, report.to) = (rfc3339(from), rfc3339(to));
            self.close()?;
            let is_other = matches!(fault, Some(Fault::BeginsAlike(_)));
            let is_whole = |archive: &&mut Archive| !is_other && archive.lacks().is_none();
            if let Some(archive) = self.archive.as_mut().filter(is_whole) {
                archive.end(&report.file, (from, to), &self.sinks)?;
            }
        }
        Ok(fault)
    }

    /// That a capture ends before what the ledger has of one that begins as it does.
    fn lacks(&self) -> Option<Fault> {
        self.archive.as_ref()?.lacks().map(Fault::BeginsAlike)
    }

    /// A frame that a configured device receives from somebody else is a download; any other one is an
    /// upload of its sender.
    fn direction(&self, frame: &[u8]) -> Direction {
        let (receiver, sender) = (frame.first_chunk::<6>(), frame.get(6..12));
        let is_device = |mac: &[u8]| self.devices.contains(mac);
        match (receiver, sender) {
            (Some(receiver), Some(sender)) if is_device(receiver) && !is_device(sender) => {
                Direction::Rx
            }
            _ => Direction::Tx,
        }
    }

    /// Ends the epoch: joins, judges and adds up what it has counted.
    fn close(&mut self) -> Result<(), ReplayError> {
        if self.clock.is_empty() {
            return Ok(());
        }
        let ended = self.clock.latest();
        let raw = RawEpoch { epoch: self.epoch, ended, ..self.engine.drain()? };
        let record = self.joiner.join(&raw, self.captures.clone());
        let devices = self.joiner.inventory().devices();
        let alerts = self.sinks.publish(&record, devices, EpochTimes::default());
        if let Some(archive) = &mut self.archive {
            // The others' counts are as they were.
            let interfaces = vec![self.captures[self.current].clone()];
            archive.keep(EpochRecord { interfaces, ..record }, alerts, devices, &self.sinks)?;
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.clock.restart();
        Ok(())
    }

    /// Everything that was counted, in the common JSON form.
    pub fn report(&self, detail: Detail) -> report::Report {
        let replay = report::Replay {
            engine: self.kind.name().to_owned(),
            host_packets: self.engine.left_to_host(),
            captures: self.reports.clone(),
        };
        report::Report { replay: Some(replay), ..self.shared.snapshot().report(detail) }
    }
}

fn engine(kind: EngineKind) -> Result<Box<dyn Engine>, EngineError> {
    Ok(match kind {
        EngineKind::Host => Box::new(Host::default()),
        EngineKind::Kernel => Box::new(Kernel::new()?),
    })
}

impl EngineKind {
    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Kernel => "kernel",
        }
    }
}
