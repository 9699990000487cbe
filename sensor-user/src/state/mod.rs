//! Everything counted since the ledger began, or the sensor started, in bounded memory: what every sink shows.
//!
//! [`State`] is a plain value that one thread changes, once per epoch; [`Shared`] lets others read
//! it meanwhile. Bounds fold detail, never counts: the sum over the rows of a device, over its
//! countries and operators, and over its prefixes is the same number, whatever comes in. (Where its
//! metrics had no room or have expired, they are part of the pool's.)

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

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use self::series::grow;
pub use self::{
    budget::Budget,
    coverage::{Coverage, End, LinkState, Span},
    device::{Contact, DeviceState, Traffic},
    keeping::Keeping,
    query::{AlertQuery, DestinationQuery, DeviceQuery, DeviceRef},
    reloads::{Attempts, Reloaded},
    report::{Detail, rfc3339},
    rows::FoldedRows,
    saved::{SavedDevice, SavedState},
    series::{Expirations, Folded, Label, Series},
    shared::{NotReady, Shared},
    timings::{StageTime, Timings},
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
        Country, DeviceId, DeviceInfo, DeviceKind, EpochBooks, EpochRecord, Flow,
        InterfaceCounters, TableUse, Tally, Whereabouts,
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

/// Which rule of the policy was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A packet was exchanged with a country outside the group's `allowed_countries`.
    CountryNotAllowed,
    /// A packet was exchanged with a watched prefix.
    WatchedPrefix,
    /// A packet was exchanged with a network of a watched operator.
    WatchedOperator,
}

impl Rule {
    /// Every rule there is.
    pub const ALL: [Self; 3] =
        [Self::CountryNotAllowed, Self::WatchedPrefix, Self::WatchedOperator];

    /// Its name in logs, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CountryNotAllowed => "country_not_allowed",
            Self::WatchedPrefix => "watched_prefix",
            Self::WatchedOperator => "watched_operator",
        }
    }

    /// `critical`, `warning` or `info`.
    pub const fn severity(self) -> &'static str {
        match self {
            Self::CountryNotAllowed => "critical",
            Self::WatchedPrefix | Self::WatchedOperator => "warning",
        }
    }
}

/// A breach of the policy, raised once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The rule that was broken.
    pub rule: Rule,
    /// Which device.
    pub device_id: DeviceId,
    /// Its name.
    pub device: Arc<str>,
    /// The country of the first packet.
    pub country: Country,
    /// The watched prefix, else the far prefix of the first packet.
    pub prefix: Option<IpNet>,
    /// The autonomous system of the first packet; 0 for none.
    pub asn: u32,
    /// Its name; empty where unknown.
    pub operator: Arc<str>,
    /// Time of the first packet, Unix time in nanoseconds.
    pub since: u64,
    /// End of the epoch of the last packet, Unix time in nanoseconds.
    pub last_seen: u64,
    /// Packets of the breach in the epoch that raised it, both directions.
    pub packets: u64,
    /// Bytes of the breach in the epoch that raised it, both directions.
    pub bytes: u64,
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
    alerts: Vec<Alert>,
    /// Places of the alerts that have a series.
    alert_series: Vec<usize>,
    tables: Vec<TableUse>,
    /// The metrics of the pool, and of devices that have none of their own.
    others: Series,
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

    /// Adds one epoch. `devices` is the inventory's whole list, so that configured devices show
    /// before their first packet.
    pub fn apply(&mut self, record: &EpochRecord, devices: &[DeviceInfo]) {
        for info in devices {
            let device = self
                .devices
                .entry(info.id)
                .and_modify(|device| device.update_info(info, &mut self.pool, &mut self.budget))
                .or_insert_with(|| DeviceState::new(info.clone()));
            if info.kind == DeviceKind::Configured {
                device.series_mut(record.ended, &mut self.budget);
            }
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

    /// Adds alerts, each of which the caller raises only once.
    pub fn raise(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts {
            if self.budget.take(budget::OF_BREACH, false) {
                self.alert_series.push(self.alerts.len());
            }
            self.alerts.push(alert);
        }
    }

    /// Notes that alerts, by their places in [`alerts`](Self::alerts), have occurred again in an epoch
    /// that ended at Unix time `ended` in nanoseconds.
    pub fn renew(&mut self, again: impl IntoIterator<Item = usize>, ended: u64) {
        for place in again {
            if let Some(alert) = self.alerts.get_mut(place) {
                alert.last_seen = alert.last_seen.max(ended);
            }
        }
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
        for alert in &mut self.alerts {
            alert.since = alert.since.min(limit);
            alert.last_seen = alert.last_seen.min(limit);
        }
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

    /// Every alert raised, oldest first.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// Those that have a series in the metrics.
    pub fn exported_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alert_series.iter().map(|place| &self.alerts[*place])
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
    }
}
