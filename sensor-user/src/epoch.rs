//! The epoch loop: drain, join, publish, clear, on a thread of its own.
//!
//! It blocks in the grace period, so it stays off the async threads.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use crate::{
    config::{Config, DeviceConfig},
    interfaces::{Interfaces, LinkNews},
    join::{Joiner, geo::GeoDb},
    kernel::{DrainError, GracePeriod, Sensor, Table},
    model::Mac,
    reload::Exchange,
    sinks::{EpochTimes, Sinks},
};

/// What the epoch thread is to do between two epochs.
#[derive(Debug)]
pub enum Order {
    /// Another configuration holds from then on.
    Exchange(Box<Exchange>),
    /// These are the named devices from then on.
    Devices(Vec<DeviceConfig>, SyncSender<Result<(), String>>),
    /// Links have come, changed or gone.
    Links(LinkNews),
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
}

impl Epochs {
    /// Runs epochs of the given length until nobody is left to give orders, then detaches and drains what
    /// is left.
    pub fn run(mut self, epoch: Duration, orders: &Receiver<Order>) {
        let mut epoch = epoch;
        self.sinks.cover(self.interfaces.coverage());
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
                    self.sinks.cover(self.interfaces.coverage());
                }
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
        self.interfaces.detach();
        self.sinks.cover(self.interfaces.coverage());
        // Both halves: one may still wait from an epoch that could not be read.
        self.once();
        self.once();
    }

    /// From here on this configuration holds, with these databases; what can fail comes first.
    fn exchange(&mut self, config: &Config, geo: GeoDb) -> Result<(), String> {
        self.table.reserve(&config.device_macs()).map_err(|error| error.to_string())?;
        let exchanged = self.interfaces.exchange(&mut self.sensor, config.wanted());
        self.sinks.cover(self.interfaces.coverage());
        exchanged.map_err(|error| error.to_string())?;
        self.sinks.exchange(config, &geo);
        self.joiner.exchange(&config.devices, geo);
        Ok(())
    }

    /// From here on these devices have names and entries of their own.
    fn name(&mut self, devices: &[DeviceConfig]) -> Result<(), String> {
        let macs: Vec<Mac> = devices.iter().flat_map(|device| device.macs.clone()).collect();
        self.table.reserve(&macs).map_err(|error| error.to_string())?;
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
        let began = Instant::now();
        let raw = self.table.drain(self.grace)?;
        let drained = Instant::now();
        let interfaces = self.interfaces.counters();
        let record = self.joiner.join(&raw, interfaces);
        let joined = Instant::now();
        if !record.books.closed() {
            tracing::error!(epoch = record.epoch, books = ?record.books, "the books do not balance");
        }
        let times = EpochTimes {
            flip: raw.waited,
            drain: drained - began - raw.waited,
            join: joined - drained,
        };
        self.sinks.publish(&record, self.joiner.inventory().devices(), times);
        self.table.clear()
    }
}
