//! Breaches of the policy, each kept once.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use ipnet::IpNet;

use super::{Budget, State, budget::OF_BREACH};
use crate::{
    join::devices::Inventory,
    model::{Country, DeviceId, DeviceKind},
};

/// Which rule of the policy was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A packet was exchanged with a country outside the group's `allowed_countries`.
    CountryNotAllowed,
    /// A packet was exchanged with a watched prefix.
    WatchedPrefix,
    /// A packet was exchanged with a network of a watched operator.
    WatchedOperator,
    /// A frame was sent that nobody can judge: its far address could not be read, or it has none and is of an
    /// unknown kind.
    NotJudged,
}

impl Rule {
    /// Every rule there is.
    pub const ALL: [Self; 4] =
        [Self::CountryNotAllowed, Self::WatchedPrefix, Self::WatchedOperator, Self::NotJudged];

    /// Its name in logs, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CountryNotAllowed => "country_not_allowed",
            Self::WatchedPrefix => "watched_prefix",
            Self::WatchedOperator => "watched_operator",
            Self::NotJudged => "not_judged",
        }
    }

    /// `critical`, `warning` or `info`.
    pub const fn severity(self) -> &'static str {
        match self {
            Self::CountryNotAllowed => "critical",
            Self::WatchedPrefix | Self::WatchedOperator | Self::NotJudged => "warning",
        }
    }
}

/// What is raised only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Breach {
    /// Whose it is.
    pub device: DeviceId,
    /// What was touched.
    pub what: What,
}

/// What a breach touched, as far as it is told apart from others of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A country.
    Country(Country),
    /// A watched prefix.
    Prefix(Option<IpNet>),
    /// A watched operator, by its AS number.
    Operator(u32),
    /// Nobody knows what.
    Unjudged,
}

impl What {
    /// The rule that it broke.
    pub const fn rule(self) -> Rule {
        match self {
            Self::Country(_) => Rule::CountryNotAllowed,
            Self::Prefix(_) => Rule::WatchedPrefix,
            Self::Operator(_) => Rule::WatchedOperator,
            Self::Unjudged => Rule::NotJudged,
        }
    }
}

/// A breach of the policy, raised once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The rule that was broken.
    pub rule: Rule,
    /// Which device; what it is called is looked up when it is shown.
    pub device: DeviceId,
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

impl Alert {
    /// Which breach it tells of.
    pub const fn breach(&self) -> Breach {
        let what = match self.rule {
            Rule::CountryNotAllowed => What::Country(self.country),
            Rule::WatchedPrefix => What::Prefix(self.prefix),
            Rule::WatchedOperator => What::Operator(self.asn),
            Rule::NotJudged => What::Unjudged,
        };
        Breach { device: self.device, what }
    }
}

/// All that were raised, in their order: an alert's place here is what others know it by.
#[derive(Debug, Clone, Default)]
pub(super) struct Alerts {
    list: Vec<Raised>,
    /// What devices that nobody named have in common in the metrics: their pool's breaches, and those of the ones for
    /// whom there was no room.
    shared: BTreeMap<What, Alert>,
}

#[derive(Debug, Clone)]
struct Raised {
    alert: Alert,
    series: BreachSeries,
    /// Whether an earlier alert tells of the same breach, since two devices are one.
    is_joined: bool,
}

/// Where the metrics tell of a breach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreachSeries {
    /// In series of its own, which a named device always has: there are only so many countries, and only so many
    /// prefixes and operators that the configuration watches.
    Named,
    /// In series of its own, of the part of all series that devices without a name have together.
    Unnamed,
    /// In series that it shares with others.
    Shared,
}

impl BreachSeries {
    fn new(kind: DeviceKind, budget: &mut Budget) -> Self {
        match kind {
            DeviceKind::Configured => {
                budget.move_to(OF_BREACH, false);
                Self::Named
            }
            DeviceKind::Unknown | DeviceKind::Group if budget.take(OF_BREACH, true) => {
                Self::Unnamed
            }
            DeviceKind::Unknown | DeviceKind::Group | DeviceKind::Pool => Self::Shared,
        }
    }

    fn release(self, budget: &mut Budget) {
        match self {
            Self::Named => budget.release(OF_BREACH, false),
            Self::Unnamed => budget.release(OF_BREACH, true),
            Self::Shared => {}
        }
    }
}

impl Alerts {
    fn raise(&mut self, alert: Alert, kind: DeviceKind, budget: &mut Budget) {
        let series = BreachSeries::new(kind, budget);
        if series == BreachSeries::Shared {
            self.share(&alert, budget);
        }
        self.list.push(Raised { alert, series, is_joined: false });
    }

    fn share(&mut self, alert: &Alert, budget: &mut Budget) {
        let shared = self.shared.entry(alert.breach().what).or_insert_with(|| {
            // Of these there are only so many, too.
            budget.move_to(OF_BREACH, true);
            alert.clone()
        });
        shared.since = shared.since.min(alert.since);
        shared.last_seen = shared.last_seen.max(alert.last_seen);
    }

    fn renew(&mut self, place: usize, ended: u64) {
        let Some(Raised { alert, series, .. }) = self.list.get_mut(place) else { return };
        alert.last_seen = alert.last_seen.max(ended);
        if *series == BreachSeries::Shared
            && let Some(shared) = self.shared.get_mut(&alert.breach().what)
        {
            shared.last_seen = shared.last_seen.max(ended);
        }
    }

    /// A device is of another kind from here on.
    pub(super) fn change_kind(&mut self, device: DeviceId, kind: DeviceKind, budget: &mut Budget) {
        let of_it = |raised: &&mut Raised| raised.alert.device == device && !raised.is_joined;
        for raised in self.list.iter_mut().filter(of_it) {
            raised.series.release(budget);
            raised.series = match kind {
                DeviceKind::Configured => BreachSeries::new(kind, budget),
                // It has had series, and they go on.
                _ if raised.series == BreachSeries::Named => {
                    budget.move_to(OF_BREACH, true);
                    BreachSeries::Unnamed
                }
                _ => raised.series,
            };
        }
    }

    /// Takes no time for later than this, Unix time in nanoseconds.
    pub(super) fn distrust_after(&mut self, limit: u64) {
        let all = self.list.iter_mut().map(|raised| &mut raised.alert);
        for alert in all.chain(self.shared.values_mut()) {
            alert.since = alert.since.min(limit);
            alert.last_seen = alert.last_seen.min(limit);
        }
    }

    /// What was raised for devices that are one now is told by the first alert of each breach.
    pub(super) fn join(&mut self, budget: &mut Budget) {
        let mut first = HashMap::new();
        for place in 0..self.list.len() {
            let Raised { alert, series, is_joined } = &mut self.list[place];
            let earlier = *first.entry(alert.breach()).or_insert(place);
            if earlier == place || mem::replace(is_joined, true) {
                continue;
            }
            series.release(budget);
            let (since, last_seen) = (alert.since, alert.last_seen);
            let alert = &mut self.list[earlier].alert;
            alert.since = alert.since.min(since);
            alert.last_seen = alert.last_seen.max(last_seen);
        }
    }

    /// What was raised for one device is another's, which is of this kind.
    fn hand_over(
        &mut self,
        from: DeviceId,
        (to, kind): (DeviceId, DeviceKind),
        budget: &mut Budget,
    ) {
        self.change_kind(from, kind, budget);
        for raised in self.list.iter_mut().filter(|raised| raised.alert.device == from) {
            raised.alert.device = to;
        }
        self.join(budget);
    }
}

impl State {
    /// Adds alerts, each of which the caller raises only once.
    pub fn raise(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts {
            let kind = self.devices.get(&alert.device).map(|device| device.info().kind);
            self.alerts.raise(alert, kind.unwrap_or(DeviceKind::Pool), &mut self.budget);
        }
    }

    /// Notes that alerts, by their places in [`all_alerts`](Self::all_alerts), have occurred again in an epoch
    /// that ended at Unix time `ended` in nanoseconds.
    pub fn renew(&mut self, again: impl IntoIterator<Item = usize>, ended: u64) {
        again.into_iter().for_each(|place| self.alerts.renew(place, ended));
    }

    /// Every alert that was raised, in the order of their places. Where devices have become one, there may be several of
    /// one breach.
    pub fn all_alerts(&self) -> impl ExactSizeIterator<Item = &Alert> {
        self.alerts.list.iter().map(|raised| &raised.alert)
    }

    /// The alert of a place.
    pub fn alert(&self, place: usize) -> Option<&Alert> {
        self.alerts.list.get(place).map(|raised| &raised.alert)
    }

    /// The alerts, oldest first, each breach of a device once.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.list.iter().filter(|raised| !raised.is_joined).map(|raised| &raised.alert)
    }

    /// The breaches as the metrics tell of them, each with the name of its device: each named device's, and those of
    /// others as far as there is room. What has none counts for the pool, with the first and last packet of all.
    pub fn exported_alerts(&self) -> impl Iterator<Item = (&str, &Alert)> {
        let is_own = |raised: &&Raised| !raised.is_joined && raised.series != BreachSeries::Shared;
        let own = self.alerts.list.iter().filter(is_own).map(|raised| &raised.alert);
        let own = own.map(|alert| (self.name_of(alert.device), alert));
        own.chain(self.alerts.shared.values().map(|alert| (Inventory::POOL_NAME, alert)))
    }

    /// Alerts that the metrics do not tell apart.
    pub fn shared_alerts(&self) -> usize {
        let shared = |raised: &&Raised| !raised.is_joined && raised.series == BreachSeries::Shared;
        self.alerts.list.iter().filter(shared).count()
    }

    /// What a device is called now.
    pub fn name_of(&self, device: DeviceId) -> &str {
        self.devices.get(&device).map_or(Inventory::POOL_NAME, |device| &device.info().name)
    }

    /// Hands over to `whole` all that was counted and raised for `part`, at Unix time `now` in nanoseconds. In the
    /// metrics it is among what has expired: no counter of the whole jumps by it.
    pub(super) fn join_devices(&mut self, part: DeviceId, whole: DeviceId, now: u64) {
        let Some(kind) = self.devices.get(&whole).map(|device| device.info().kind) else { return };
        let Some(gone) = self.devices.remove(&part) else { return };
        if gone.is_pooled() {
            self.pool.release(gone.held());
        }
        if let Some(device) = self.devices.get_mut(&whole) {
            device.take_rows(&gone, &self.setup.limits, &mut self.pool, &mut self.places);
            if let Some(series) = gone.series() {
                let own = device.series_mut(now, &mut self.budget);
                own.unwrap_or(&mut self.others).absorb(series, now, &mut self.budget);
            }
        }
        self.alerts.hand_over(part, (whole, kind), &mut self.budget);
    }
}
