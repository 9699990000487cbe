//! The epoch loop: drain, join, publish, keep, clear, on a thread of its own.
//!
//! It blocks in the grace period, so it stays off the async threads.
//!
//! A half is cleared when its epoch is in the ledger and not before. While the ledger can't be written the half stays
//! as it is, the programs go on in the other one, and what they count there is shown from looks at it in
//! between: so metrics and alerts go on, and nothing is counted or raised twice afterwards.

use std::{
    mem,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use crate::{
    config::{Config, DeviceConfig},
    faults::{self, Point, Safeguard},
    interfaces::{Interfaces, LinkNews},
    join::{Joiner, geo::GeoDb},
    kernel::{DrainError, GracePeriod, RawEpoch, Sensor, Table},
    model::{EpochRecord, Mac},
    reload::Exchange,
    sinks::{
        EpochTimes, Sinks,
        ledger::{Commit, Identity, Keeper},
    },
};

/// A table of an earlier process is empty after so many.
const DRAINS_OF_OLD: usize = 4;
/// How long an epoch waits for the ledger at most, before it goes on without.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the epoch thread is to do between two epochs.
#[derive(Debug)]
pub enum Order {
    /// Another configuration holds from then on.
    Exchange(Box<Exchange>),
    /// These are the named devices from then on.
    Devices(Vec<DeviceConfig>, SyncSender<Result<(), String>>),
    /// Links have come, changed or gone.
    Links(LinkNews),
    /// When there are no more orders, the programs are to stay attached.
    Leave,
}

/// Everything that an epoch passes through, in this order.
pub struct Epochs {
    /// The programs, for their log.
    pub sensor: Sensor,
    /// Their maps.
    pub table: Table,
    /// The right to wait until no program writes a half any more.
    pub grace: GracePeriod,
    /// What is attached, and the links' own counters.
    pub interfaces: Interfaces,
    /// Devices and geo.
    pub joiner: Joiner,
    /// Where records go.
    pub sinks: Sinks,
    /// Where they stay; nothing where the configuration wants no ledger.
    pub keeper: Option<Keeper>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The table that the programs write, and others of an earlier process before it: `table` is one of those
    /// until it is empty.
    pub next: Vec<Table>,
    /// How far the loop is.
    pub progress: Progress,
}

/// What one epoch leaves to the next.
#[derive(Debug, Default)]
pub struct Progress {
    /// What was shown of the epoch that is being written.
    shown: Option<RawEpoch>,
    /// Whether an epoch was read that is not yet in the ledger.
    is_held: bool,
    /// Whether the half before was empty.
    was_quiet: bool,
}

impl Epochs {
    /// Runs epochs of the given length until nobody is left to give orders, then detaches and drains what
    /// is left.
    pub fn run(mut self, epoch: Duration, orders: &Receiver<Order>) {
        let mut epoch = epoch;
        let mut leaves = false;
        self.cover();
        // What an earlier process left comes first, as long as the ledger takes it.
        for _ in 0..DRAINS_OF_OLD * (self.next.len() + 1) {
            let is_behind = !self.next.is_empty() || self.table.left_behind().is_some();
            if is_behind && !self.progress.is_held {
                self.once();
            }
        }
        let mut due = Instant::now() + epoch;
        loop {
            let until = due.saturating_duration_since(Instant::now());
            match orders.recv_timeout(until) {
                Err(RecvTimeoutError::Timeout) => {
                    self.once();
                    // After a stall the epochs go on from now instead of catching up in haste.
                    due = (due + epoch).max(Instant::now());
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(Order::Links(news)) => {
                    self.interfaces.follow(&mut self.sensor, news);
                    self.cover();
                }
                Ok(Order::Leave) => leaves = true,
                Ok(Order::Devices(devices, done)) => {
                    self.once();
                    // Where nobody waits for it the sensor is stopping.
                    let _stopping = done.send(self.name(&devices));
                }
                Ok(Order::Exchange(exchange)) => {
                    let Exchange { config, geo, done } = *exchange;
                    // What was counted so far is judged by what held so far.
                    self.once();
                    let outcome = self.exchange(&config, geo);
                    if outcome.is_ok() {
                        epoch = config.epoch;
                    }
                    due = Instant::now() + epoch;
                    // Where nobody waits for it the sensor is stopping.
                    let _stopping = done.send(outcome);
                }
            }
        }
        if leaves {
            self.interfaces.leave();
        } else {
            self.interfaces.detach();
        }
        self.cover();
        // Both halves: one may still wait from an epoch that could not be read.
        self.once();
        self.once();
        let Self { sinks, keeper, .. } = self;
        if let Some(keeper) = keeper
            && !keeper.stop(|| sinks.snapshot())
        {
            tracing::error!("the last epochs could not be written to the ledger");
        }
    }

    /// Lets every reader see where and how the sensor watches.
    fn cover(&mut self) {
        let coverage = self.interfaces.coverage();
        if let Some(keeper) = &mut self.keeper {
            keeper.cover(coverage.clone(), &self.boot);
        }
        self.sinks.cover(coverage);
    }

    /// The table that the programs write.
    fn written(&mut self) -> &mut Table {
        self.next.first_mut().unwrap_or(&mut self.table)
    }

    /// From here on this configuration holds, with these databases; what can fail comes first.
    fn exchange(&mut self, config: &Config, geo: GeoDb) -> Result<(), String> {
        self.written().reserve(&config.device_macs()).map_err(|error| error.to_string())?;
        let exchanged = self.interfaces.exchange(&mut self.sensor, config.wanted());
        self.cover();
        exchanged.map_err(|error| error.to_string())?;
        self.sinks.exchange(config, &geo);
        if let Some(keeper) = &self.keeper {
            keeper.retain(config.retention);
        }
        self.joiner.exchange(&config.devices, geo);
        Ok(())
    }

    /// From here on these devices have names and entries of their own.
    fn name(&mut self, devices: &[DeviceConfig]) -> Result<(), String> {
        let macs: Vec<Mac> = devices.iter().flat_map(|device| device.macs.clone()).collect();
        self.written().reserve(&macs).map_err(|error| error.to_string())?;
        self.joiner.configure(devices);
        Ok(())
    }

    /// One epoch. An error costs its punctuality, not its packets: they stay in the maps.
    fn once(&mut self) {
        if let Err(error) = self.epoch() {
            tracing::error!(%error, "this epoch could not be read; it is tried again with the next");
        }
        self.sensor.flush_log();
    }

    fn epoch(&mut self) -> Result<(), DrainError> {
        if self.progress.is_held {
            let kept = self.keeper.as_mut().is_none_or(|keeper| keeper.settle(Duration::ZERO));
            if !kept {
                let looked = self.look();
                self.publish_keeping();
                return looked;
            }
            self.progress.is_held = false;
        }
        self.table.clear()?;

        let began = Instant::now();
        let raw = self.table.drain(self.grace)?;
        let drained = Instant::now();
        let interfaces = self.interfaces.counters();
        let shown = self.progress.shown.take();
        let record = self.joiner.join(&raw, interfaces);
        // An idle epoch costs next to nothing.
        let links = if raw.is_quiet() { Vec::new() } else { self.interfaces.links() };
        let record = EpochRecord { links, ..record };
        let joined = Instant::now();
        if record.open {
            tracing::error!(epoch = record.epoch, books = ?record.books, "the books do not balance");
        }
        let times = EpochTimes {
            flip: raw.waited,
            drain: drained - began - raw.waited,
            join: joined - drained,
        };
        // What of it was shown before is not shown again.
        let rest = shown.as_ref().map(|shown| {
            let rest = self.joiner.join(&raw.since(shown), record.interfaces.clone());
            EpochRecord { open: record.open, ..rest }
        });
        self.show(rest.as_ref().unwrap_or(&record), times);
        if faults::without(Safeguard::Order) {
            self.table.clear()?;
        }
        faults::pass(Point::Read);
        if raw.is_quiet() || self.keep(record) {
            faults::pass(Point::Committed);
            self.table.clear()?;
            if !self.next.is_empty() {
                self.go_on(raw.is_quiet());
            }
            if shown.is_none()
                && let Some(keeper) = &mut self.keeper
            {
                keeper.tidy(|| self.sinks.snapshot());
            }
        } else {
            self.progress.is_held = true;
        }
        self.publish_keeping();
        Ok(())
    }

    /// Turns from the table of an earlier process, once both its halves are empty, to the next.
    fn go_on(&mut self, is_quiet: bool) {
        let both = mem::replace(&mut self.progress.was_quiet, is_quiet) && is_quiet;
        if both && let Some(next) = self.next.pop() {
            self.progress.was_quiet = false;
            mem::replace(&mut self.table, next).remove();
        }
    }

    /// Shows what is being counted, while the half before it waits for the ledger.
    fn look(&mut self) -> Result<(), DrainError> {
        let began = Instant::now();
        let raw = self.table.peek()?;
        let drained = Instant::now();
        let interfaces = self.interfaces.counters();
        let new = self.progress.shown.as_ref().map(|shown| raw.since(shown));
        let record = self.joiner.join(new.as_ref().unwrap_or(&raw), interfaces);
        let record = EpochRecord { open: false, ..record };
        let times =
            EpochTimes { flip: Duration::ZERO, drain: drained - began, join: drained.elapsed() };
        self.show(&record, times);
        self.progress.shown = Some(raw);
        Ok(())
    }

    fn show(&mut self, record: &EpochRecord, times: EpochTimes) {
        let alerts = self.sinks.publish(record, self.joiner.inventory().devices(), times);
        if let Some(keeper) = &mut self.keeper {
            keeper.note(alerts);
        }
    }

    /// Whether an epoch is in the ledger; if not it will be.
    fn keep(&mut self, record: EpochRecord) -> bool {
        let Some(keeper) = &mut self.keeper else { return true };
        let (table, epoch) = (self.table.id(), record.epoch.into());
        let identity = Identity { boot: self.boot.clone(), table, epoch };
        let known = self.joiner.inventory().devices();
        keeper.keep(Box::new(Commit::new(identity, record, known, self.sinks.attributed_by())));
        keeper.settle(PATIENCE)
    }

    fn publish_keeping(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.publish(self.sinks.shared());
        }
    }
}
