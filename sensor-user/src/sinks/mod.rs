//! What leaves the sensor: metrics, alerts, the API. One [`EpochRecord`] goes in per epoch.

pub mod alerts;
pub mod http;
pub mod ledger;
pub mod metrics;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    alerts::Judgement,
    ledger::{SavedClock, Snapshot},
};
use crate::{
    config::{Config, Policy},
    join::geo::{self, GeoDb},
    model::{DeviceInfo, EpochRecord},
    state::{Alert, Coverage, Limits, Setup, Shared, State, rfc3339},
};

/// How long the stages before the sinks took in one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpochTimes {
    /// Flipping the halves and waiting until no program writes the old one.
    pub flip: Duration,
    /// Reading and clearing the old half.
    pub drain: Duration,
    /// Attributing its rows.
    pub join: Duration,
}

/// The sinks, as the epoch thread sees them.
#[derive(Debug)]
pub struct Sinks {
    alerts: alerts::Engine,
    shared: Arc<Shared>,
    /// Databases of which the log knows that they are stale.
    stale: Vec<geo::Role>,
}

impl Sinks {
    /// Sinks that publish to `shared` and judge by `policy`.
    pub fn new(shared: Arc<Shared>, policy: Policy) -> Self {
        let mut alerts = alerts::Engine::new(policy);
        alerts.restore(shared.snapshot().all_alerts());
        Self { alerts, shared, stale: Vec::new() }
    }

    /// From here on this configuration holds, with these databases.
    pub fn exchange(&mut self, config: &Config, geo: &GeoDb) {
        self.alerts.set_policy(config.policy.clone());
        self.shared.set_epoch(config.epoch);
        let setup = Setup::new(config, geo);
        self.shared.change(|state| state.set_setup(setup));
        self.stale.clear();
    }

    /// From here on these are the devices, the inventory's whole list: every reader sees what they are called now.
    pub fn list(&mut self, devices: &[DeviceInfo]) {
        self.alerts.list(devices);
        self.shared.change(|state| state.list(devices, state.ended()));
    }

    /// Begins again with a state that was restored.
    pub fn begin_again(&mut self, state: State) {
        self.alerts.begin_again(state.all_alerts());
        self.shared.with(|shown| *shown = state);
    }

    /// Lets every reader see where and how the sensor watches.
    pub fn cover(&self, coverage: Vec<Coverage>) {
        self.shared.cover(coverage);
    }

    /// The state between the epoch thread and its readers.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The databases in use, and the bounds.
    pub fn attributed_by(&self) -> (Vec<geo::Status>, Limits) {
        let state = self.shared.snapshot();
        (state.setup().databases.clone(), state.setup().limits)
    }

    /// The state's sums as they are now, with the devices that have changed or all of them.
    pub fn snapshot(&self, all_devices: bool) -> Snapshot {
        self.shared.with(|state| Snapshot {
            state: state.save(),
            devices: state.save_devices(all_devices),
            links: Vec::new(),
            boot: String::new(),
            clock: SavedClock::default(),
        })
    }

    /// Takes one epoch: judges it, logs what is new, and lets every reader see it. `devices` is
    /// the inventory's whole list. Returns the alerts that are new or have occurred again, by their
    /// place among all.
    pub fn publish(
        &mut self,
        record: &EpochRecord,
        devices: &[DeviceInfo],
        times: EpochTimes,
    ) -> Vec<(usize, Alert)> {
        let began = Instant::now();
        self.alerts.list(devices);
        let Judgement { new, again } = self.alerts.judge(record, devices);
        for alert in &new {
            let name = devices.get(alert.device.0 as usize).map_or("", |info| &info.name);
            alerts::log(alert, name);
        }
        let mut alerts = Vec::new();
        self.shared.update(|state| {
            state.apply(record, devices);
            state.renew(again.iter().copied(), record.ended);
            let first = state.all_alerts().len();
            state.raise(new);
            let places = again.into_iter().chain(first..state.all_alerts().len());
            alerts.extend(places.filter_map(|place| Some((place, state.alert(place)?.clone()))));
            let timings = state.timings_mut();
            timings.flip.add(times.flip);
            timings.drain.add(times.drain);
            timings.join.add(times.join);
            timings.apply.add(began.elapsed());
        });
        self.warn_of_stale_databases();
        alerts
    }

    /// Says once of each database that it has become too old.
    fn warn_of_stale_databases(&mut self) {
        for (database, stale) in self.shared.snapshot().databases() {
            if stale && !self.stale.contains(&database.role) {
                let built = rfc3339(database.build_time.saturating_mul(1_000_000_000));
                let (role, source) = (database.role, &database.source);
                tracing::warn!(
                    %role,
                    source,
                    built,
                    "a geo database is stale: addresses change hands; put a newer one there, or a greater \
                     `max_age` under `databases`"
                );
                self.stale.push(database.role);
            }
        }
    }
}
