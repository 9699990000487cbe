//! The epoch thread: epochs of a given length, and what is to be done between two of them.
//!
//! It blocks in the grace period, so it stays off the async threads.

mod absent;
mod cycle;
#[cfg(test)]
mod model;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

pub use self::{
    absent::{Absent, Opening},
    cycle::{Cycle, Halves, Progress, Readings, skip_committed},
};
use crate::{
    clock::ClockStep,
    config::{Config, DeviceConfig},
    interfaces::{Former, Interfaces, LinkNews},
    join::geo::GeoDb,
    kernel::{SeenPackets, Sensor},
    model::{InterfaceCounters, LinkReading, Mac},
    reload::Exchange,
    state::Coverage,
};

/// A table of an earlier process is empty after so many.
const DRAINS_OF_OLD: usize = 4;

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

/// The epoch thread: interfaces, and what is counted at them.
pub struct Epochs {
    /// The programs, for their log.
    pub sensor: Sensor,
    /// What is attached, and the links' own counters.
    pub interfaces: Interfaces,
    /// What an epoch passes through.
    pub cycle: Cycle,
}

impl Epochs {
    /// Runs epochs of the given length until nobody is left to give orders, then detaches and drains what
    /// is left.
    pub fn run(mut self, epoch: Duration, orders: &Receiver<Order>) {
        let mut epoch = epoch;
        let mut leaves = false;
        self.cover();
        // What an earlier process left comes first, as long as the ledger takes it.
        for _ in 0..DRAINS_OF_OLD * (self.cycle.next.len() + 1) {
            if self.cycle.is_behind() {
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
        let Self { mut sensor, mut interfaces, cycle } = self;
        let is_kept = cycle.finish(&mut interfaces);
        sensor.flush_log();
        if !is_kept {
            tracing::error!(
                "the last epochs could not be written to the ledger; where the tables are pinned they wait there for the \
                 next start"
            );
        }
    }

    /// Lets every reader see where and how the sensor watches.
    fn cover(&mut self) {
        self.cycle.cover(self.interfaces.coverage());
    }

    /// From here on this configuration holds, with these databases; what can fail comes first.
    fn exchange(&mut self, config: &Config, geo: GeoDb) -> Result<(), String> {
        self.cycle.written().reserve(&config.device_macs()).map_err(|error| error.to_string())?;
        let exchanged = self.interfaces.exchange(&mut self.sensor, config.wanted());
        self.cover();
        exchanged.map_err(|error| error.to_string())?;
        let Cycle { sinks, keeper, joiner, absent, .. } = &mut self.cycle;
        if let Some(absent) = absent {
            Opening::exchange(absent, config);
        }
        sinks.exchange(config, &geo);
        if let Some(keeper) = keeper {
            keeper.retain(config.retention);
        }
        joiner.exchange(&config.devices, geo);
        sinks.list(joiner.inventory().devices());
        Ok(())
    }

    /// From here on these devices have names and entries of their own.
    fn name(&mut self, devices: &[DeviceConfig]) -> Result<(), String> {
        let macs: Vec<Mac> = devices.iter().flat_map(|device| device.macs.clone()).collect();
        self.cycle.written().reserve(&macs).map_err(|error| error.to_string())?;
        if let Some(absent) = &mut self.cycle.absent {
            Opening::name(absent, devices);
        }
        self.cycle.joiner.configure(devices);
        self.cycle.sinks.list(self.cycle.joiner.inventory().devices());
        Ok(())
    }

    /// One epoch.
    fn once(&mut self) {
        self.cycle.once(&mut self.interfaces);
        self.sensor.flush_log();
    }
}

impl Readings for Interfaces {
    fn counters(&mut self) -> Vec<InterfaceCounters> {
        Self::counters(self)
    }

    fn links(&self) -> Vec<LinkReading> {
        Self::links(self)
    }

    fn clock_stepped(&mut self, step: ClockStep) -> Vec<Coverage> {
        Self::clock_stepped(self, step);
        self.coverage()
    }

    fn judge(&mut self, seen: &SeenPackets) -> Option<Vec<Coverage>> {
        Self::judge(self, seen).then(|| self.coverage())
    }

    fn go_on(&mut self, former: &Former) -> Vec<Coverage> {
        Self::go_on(self, former);
        self.coverage()
    }
}
