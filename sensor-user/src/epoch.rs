//! The epoch loop: drain, join, publish, clear, on a thread of its own.
//!
//! It blocks in the grace period, so it stays off the async threads.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    join::{Joiner, geo::GeoDb},
    kernel::{Attached, CountersError, DrainError, GracePeriod, Sensor, Table, interface_counters},
    model::InterfaceCounters,
    reload::Exchange,
    sinks::{EpochTimes, Sinks},
};

/// Everything that an epoch passes through, in this order.
pub struct Epochs {
    /// The programs, for their log.
    pub sensor: Sensor,
    /// Their maps.
    pub table: Table,
    /// The right to wait until no program writes a half any more.
    pub grace: GracePeriod,
    /// The interfaces' counters.
    pub witness: Witness,
    /// Devices and geo.
    pub joiner: Joiner,
    /// Where records go.
    pub sinks: Sinks,
}

impl Epochs {
    /// Runs epochs of the given length until nobody is left to order an exchange, then detaches and
    /// drains what is left.
    pub fn run(mut self, epoch: Duration, orders: &Receiver<Exchange>, attached: Vec<Attached>) {
        let mut epoch = epoch;
        let mut due = Instant::now() + epoch;
        loop {
            let until = due.saturating_duration_since(Instant::now());
            match orders.recv_timeout(until) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(Exchange { config, geo, done }) => {
                    // What was counted so far is judged by what held so far.
                    self.once();
                    let outcome = self.exchange(&config, geo);
                    if outcome.is_ok() {
                        epoch = config.epoch;
                    }
                    due = Instant::now() + epoch;
                    // Where nobody waits for it the sensor is stopping.
                    let _stopping = done.send(outcome);
                    continue;
                }
            }
            self.once();
            // After a stall the epochs go on from now instead of catching up in haste.
            due = (due + epoch).max(Instant::now());
        }
        drop(attached);
        // Both halves: one may still wait from an epoch that could not be read.
        self.once();
        self.once();
    }

    /// From here on this configuration holds, with these databases.
    fn exchange(&mut self, config: &Config, geo: GeoDb) -> Result<(), String> {
        // The one step that can fail comes first.
        self.table.reserve(&config.device_macs()).map_err(|error| error.to_string())?;
        self.sinks.exchange(config, &geo);
        self.joiner.exchange(&config.devices, geo);
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
        let interfaces = self.witness.since_attach();
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

/// The interfaces' own counters since the sensor attached.
pub struct Witness {
    names: Vec<String>,
    baseline: Vec<InterfaceCounters>,
    last: Vec<InterfaceCounters>,
}

impl Witness {
    /// Notes where the counters stand; to be called right before attaching.
    ///
    /// # Errors
    ///
    /// When an interface is not listed.
    pub fn new(names: Vec<String>) -> Result<Self, CountersError> {
        let baseline = read(&names)?;
        let last = baseline
            .iter()
            .map(|counters| InterfaceCounters {
                name: counters.name.clone(),
                ..InterfaceCounters::default()
            })
            .collect();
        Ok(Self { names, baseline, last })
    }

    fn since_attach(&mut self) -> Vec<InterfaceCounters> {
        match read(&self.names) {
            Ok(now) => {
                self.last =
                    now.iter().zip(&self.baseline).map(|(now, then)| since(now, then)).collect();
            }
            Err(error) => tracing::warn!(%error, "the interfaces' counters stay as they were"),
        }
        self.last.clone()
    }
}

fn read(names: &[String]) -> Result<Vec<InterfaceCounters>, CountersError> {
    interface_counters(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn since(now: &InterfaceCounters, then: &InterfaceCounters) -> InterfaceCounters {
    InterfaceCounters {
        name: now.name.clone(),
        rx_packets: now.rx_packets.saturating_sub(then.rx_packets),
        rx_bytes: now.rx_bytes.saturating_sub(then.rx_bytes),
        tx_packets: now.tx_packets.saturating_sub(then.tx_packets),
        tx_bytes: now.tx_bytes.saturating_sub(then.tx_bytes),
        dropped: now.dropped.saturating_sub(then.dropped),
    }
}
