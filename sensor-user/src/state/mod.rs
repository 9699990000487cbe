//! Everything counted since the ledger began, or the sensor started, in bounded memory: what every sink shows.
//!
//! [`State`] is a plain value that one thread changes, once per epoch; [`Shared`] lets others read
//! it meanwhile. Bounds fold detail, never counts: the sum over the rows of a device, over its
//! countries and operators, and over its prefixes is the same number, whatever comes in. (Where its
//! metrics had no room or have expired, they are part of the pool's.)

mod alerts;
mod budget;
mod coverage;
mod device;
#[cfg(test)]
pub(crate) mod fixture;
mod keeping;
mod labels;
mod places;
mod query;
mod reloads;
mod report;
mod rows;
mod saved;
mod series;
mod shared;
#[cfg(test)]
mod tests;
mod timings;
mod who;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use self::{alerts::Alerts, series::grow};
pub use self::{
    alerts::{Alert, Breach, Rule, What},
    budget::Budget,
    coverage::{Coverage, End, LinkState, Span},
    device::{Contact, DeviceState, Traffic},
    keeping::Keeping,
    query::{AlertQuery, DestinationQuery, DeviceQuery},
    reloads::{Attempts, Reloaded},
    report::{Detail, rfc3339},
    rows::FoldedRows,
    saved::{SavedDevice, SavedState},
    series::{Expirations, Folded, Label, Series},
    shared::{NotReady, Shared},
    timings::{StageTime, Timings},
    who::{DeviceRef, OperatorRef},
};
pub(crate) use self::{
    places::{PlaceId, Places},
    rows::{Entry, FarEnd, Held, Row, RowKey, Rows},
    saved::SavedRow,
};
use crate::{
    clock::ClockStep,
    config,
    join::geo,
    model::{
        DeviceId, DeviceInfo, DeviceKind, EpochBooks, EpochRecord, Flow, InterfaceCounters,
        TableUse, Tally, Whereabouts,
    },
};

/// Some 25 MB, full and folded rows together.
const POOLED_DESTINATIONS: usize = 65_536;

/// How much detail is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows with their far address; as many again may be kept without.
    pub destinations_per_device: usize,
    /// The same for all devices together that the configuration does not name.
    pub pooled_destinations: usize,
    /// Prefixes with counters of their own; as many again if they are watched.
    pub prefixes_per_device: usize,
    /// Series of the metrics, all together.
    pub series: usize,
    /// Time without a packet after which a label set is given up; `None` for never.
    pub series_expiration: Option<Duration>,
    /// Unknown devices that the inventory tells apart; not enforced here.
    pub unknown_devices: usize,
}

impl Default for Limits {
    fn default() -> Self {
        config::Limits::default().into()
    }
}

impl From<config::Limits> for Limits {
    fn from(limits: config::Limits) -> Self {
        Self {
            destinations_per_device: limits.destinations_per_device as usize,
            pooled_destinations: POOLED_DESTINATIONS,
            prefixes_per_device: limits.prefixes_per_device as usize,
            series: limits.series as usize,
            series_expiration: limits.series_expiration,
            unknown_devices: limits.unknown_devices as usize,
        }
    }
}

/// What is known when the sensor starts; a reload changes it as a whole.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Bounds.
    pub limits: Limits,
    /// The geo databases in use.
    pub databases: Vec<geo::Status>,
    /// From this age on they are stale.
    pub max_age: Duration,
    /// Networks with a name of their own.
    pub networks: Vec<geo::NamedNetwork>,
    /// The attribution that their licences ask for.
    pub attribution: String,
    /// What the bench allows.
    pub policy: config::Policy,
}

impl Setup {
    /// By a configuration and the databases that it names.
    pub fn new(config: &config::Config, geo: &geo::GeoDb) -> Self {
        Self {
            limits: config.limits.into(),
            databases: geo.databases().into(),
            max_age: config.databases.max_age,
            networks: geo.named().to_vec(),
            attribution: geo.attribution(),
            policy: config.policy.clone(),
        }
    }
}

/// The cumulative state.
#[derive(Debug, Clone, Default)]
pub struct State {
    setup: Arc<Setup>,
    devices: BTreeMap<DeviceId, DeviceState>,
    pool: Held,
    places: Places,
    operators: BTreeMap<u32, Arc<str>>,
    books: EpochBooks,
    epochs: u64,
    open_epochs: u64,
    ended: u64,
    /// Since when everything is counted, Unix time in nanoseconds; 0 before the first epoch.
    since: u64,
    outcomes: BTreeMap<&'static str, u64>,
    interfaces: Vec<InterfaceCounters>,
    coverage: Vec<Coverage>,
    alerts: Alerts,
    tables: Vec<TableUse>,
    /// The metrics of the pool, and of devices that have none of their own.
    others: Series,
    /// What was counted for the pool when it came, without what strangers had before they were no longer told apart.
    pooled: Traffic,
    budget: Budget,
    expirations: Expirations,
    /// When idle label sets were last looked for.
    looked: u64,
    timings: Timings,
    reloads: [Attempts; Reloaded::ALL.len()],
    whereabouts: Arc<HashMap<DeviceId, Whereabouts>>,
    /// Nothing where there is no ledger.
    keeping: Option<Keeping>,
}

impl State {
    /// An empty state.
    pub fn new(setup: Setup) -> Self {
        let budget = Budget::new(setup.limits.series, 0);
        Self { setup: Arc::new(setup), budget, others: Series::pool(), ..Self::default() }
    }

    /// Takes over who the devices are: the inventory's whole list, at Unix time `now` in nanoseconds. What was counted
    /// for one that has become part of another is that one's from here on.
    pub fn list(&mut self, devices: &[DeviceInfo], now: u64) {
        for info in devices.iter().filter(|info| info.part_of.is_none()) {
            let device =
                self.devices.entry(info.id).or_insert_with(|| DeviceState::new(info.clone()));
            if device.info().kind != info.kind {
                self.alerts.change_kind(info.id, info.kind, &mut self.budget);
            }
            device.update_info(info, &mut self.pool, &mut self.budget);
            if info.kind == DeviceKind::Configured {
                device.series_mut(now, &mut self.budget);
            }
        }
        for (part, whole) in devices.iter().filter_map(|info| Some((info.id, info.part_of?))) {
            self.join_devices(part, whole, now);
        }
    }

    /// A state that has counted nothing, of a sensor that goes on: what it is and does is as it was.
    pub fn begun_again(&self) -> Self {
        let mut again = Self::new((*self.setup).clone());
        (again.reloads, again.timings) = (self.reloads, self.timings);
        again.cover(self.coverage.clone());
        again
    }

    /// Adds one epoch. `devices` is the inventory's whole list, so that configured devices show
    /// before their first packet.
    pub fn apply(&mut self, record: &EpochRecord, devices: &[DeviceInfo]) {
        self.list(devices, record.ended);
        for device in self.devices.values_mut() {
            device.make_room(record.ended, &self.setup.limits, &mut self.pool, &mut self.places);
        }
        // Bytes alone are those of a packet that an earlier look has found.
        let flows = || record.flows.iter().filter(|flow| flow.tally != Tally::default());
        let limits = &self.setup.limits;
        for flow in flows() {
            let device = self
                .devices
                .entry(flow.device)
                .or_insert_with(|| DeviceState::new(unlisted(flow.device)));
            let contact = contact(flow, record.ended);
            device.add(flow, &contact, limits, &mut self.pool, &mut self.places);
            device.series_mut(record.ended, &mut self.budget);
        }
        self.enter_prefixes(flows(), record.ended);
        for flow in flows() {
            self.count(flow, &contact(flow, record.ended));
        }
        // After the flows: what has one in this epoch is not idle.
        self.expire(record.ended);

        self.books.add(&record.books);
        self.epochs += 1;
        grow(&mut self.open_epochs, record.open.into());
        // Also where the clock was set back: a time in the future would stay for as long.
        self.ended = record.ended;
        if self.since == 0 {
            self.since = record.ended;
        }
        for (outcome, count) in &record.outcomes {
            grow(self.outcomes.entry(outcome).or_default(), *count);
        }
        self.interfaces.clone_from(&record.interfaces);
        self.tables.clone_from(&record.tables);
    }

    /// The clock was set. What expires keeps its age; nothing is later than now, or than a time that is believed.
    pub fn clock_stepped(&mut self, step: ClockStep, trusted: u64) {
        self.looked = step.shift(self.looked);
        self.others.clock_stepped(step);
        self.devices.values_mut().for_each(|device| device.clock_stepped(step));
        if step.is_back() {
            self.distrust_after(step.to.max(trusted));
        }
    }

    /// Takes no time for later than this, Unix time in nanoseconds.
    pub fn distrust_after(&mut self, limit: u64) {
        self.ended = self.ended.min(limit);
        self.since = self.since.min(limit);
        self.looked = self.looked.min(limit);
        self.others.distrust_after(limit);
        self.devices.values_mut().for_each(|device| device.distrust_after(limit));
        self.alerts.distrust_after(limit);
    }

    /// Where the epoch thread's time goes, to be added to.
    pub const fn timings_mut(&mut self) -> &mut Timings {
        &mut self.timings
    }

    /// Where the epoch thread's time goes.
    pub const fn timings(&self) -> &Timings {
        &self.timings
    }

    /// What is known of the configuration and the databases in use.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The geo databases in use, and which are stale as of the last epoch.
    pub fn databases(&self) -> impl Iterator<Item = (&geo::Status, bool)> {
        let now = Duration::from_nanos(self.ended);
        let max_age = self.setup.max_age;
        self.setup.databases.iter().map(move |status| {
            (status, now.saturating_sub(Duration::from_secs(status.build_time)) > max_age)
        })
    }

    /// Changes that. Bounds hold for what is new: nothing that has detail loses it.
    pub fn set_setup(&mut self, setup: Setup) {
        self.budget.change(setup.limits.series, self.coverage.len());
        self.setup = Arc::new(setup);
    }

    /// Notes an attempt to read something anew, at Unix time `now` in nanoseconds.
    pub const fn reloaded(&mut self, what: Reloaded, succeeded: bool, now: u64) {
        self.reloads[what as usize].add(succeeded, now);
    }

    /// Attempts to read something anew.
    pub const fn reloads(&self, what: Reloaded) -> &Attempts {
        &self.reloads[what as usize]
    }

    /// Every device that was seen or is configured, in the inventory's order.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceState> {
        self.devices.values().filter(|device| device.is_shown())
    }

    /// The metrics of the pool of devices, and of those that had no room there or were idle.
    pub const fn others(&self) -> &Series {
        &self.others
    }

    /// The entry of the pool, if the inventory has one.
    pub fn pool(&self) -> Option<&DeviceState> {
        self.devices.values().find(|device| device.info().kind == DeviceKind::Pool)
    }

    /// What devices sent and received while they shared the pool. It grows by packets alone: a restart moves what
    /// strangers had before into the pool, and not in here.
    pub const fn pooled(&self) -> &Traffic {
        &self.pooled
    }

    /// Series of the metrics, and how many there may be.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What was given up since the start.
    pub const fn expirations(&self) -> &Expirations {
        &self.expirations
    }

    /// How full the kernel's tables were in the last epoch.
    pub fn tables(&self) -> &[TableUse] {
        &self.tables
    }

    /// Names of the autonomous systems that have a label set.
    pub fn operators(&self) -> impl Iterator<Item = (u32, &str)> {
        self.operators.iter().map(|(asn, operator)| (*asn, &**operator))
    }

    /// The sums of all epochs' books.
    pub const fn books(&self) -> &EpochBooks {
        &self.books
    }

    /// Epochs applied.
    pub const fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Epochs whose books did not balance.
    pub const fn open_epochs(&self) -> u64 {
        self.open_epochs
    }

    /// End of the last epoch, Unix time in nanoseconds; 0 before the first.
    pub const fn ended(&self) -> u64 {
        self.ended
    }

    /// End of the first epoch that is counted here, Unix time in nanoseconds; 0 before it.
    pub const fn since(&self) -> u64 {
        self.since
    }

    /// Events of the kernel side since the start, by name.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.outcomes.iter().map(|(name, count)| (*name, *count))
    }

    /// Notes where and how the sensor watches.
    pub fn cover(&mut self, coverage: Vec<Coverage>) {
        self.budget.change(self.setup.limits.series, coverage.len());
        self.coverage = coverage;
    }

    /// Where and how the sensor watches, and did.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Notes how the ledger is doing.
    pub fn keep(&mut self, keeping: Keeping) {
        self.keeping = Some(keeping);
    }

    /// How the ledger is doing; nothing where there is none.
    pub const fn keeping(&self) -> Option<&Keeping> {
        self.keeping.as_ref()
    }

    /// Notes where the devices are on the LAN.
    pub fn locate(&mut self, whereabouts: HashMap<DeviceId, Whereabouts>) {
        self.whereabouts = Arc::new(whereabouts);
    }

    /// The interfaces' own counters, as of the last epoch.
    pub fn interfaces(&self) -> &[InterfaceCounters] {
        &self.interfaces
    }
}

/// First and last packet of a flow of an epoch that ended at `ended`.
fn contact(flow: &Flow, ended: u64) -> Contact {
    Contact { first: flow.first_seen.min(ended), last: ended }
}

/// Stands for a device that the inventory does not list, so that its packets are not lost.
fn unlisted(id: DeviceId) -> DeviceInfo {
    DeviceInfo {
        id,
        name: format!("device-{}", id.0).into(),
        macs: Vec::new(),
        vendor: "".into(),
        group: "".into(),
        kind: DeviceKind::Unknown,
        part_of: None,
    }
}
