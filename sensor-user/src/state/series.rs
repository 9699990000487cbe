//! What the metrics of one device tell apart: label sets in bounded number, given up when idle.
//!
//! # Why a label set expires as it does
//!
//! Three things have to hold at once: no counter goes back, the sum over a family's series is what the
//! books say at each scrape, and `sum(increase(...))` counts no packet twice. So when a label set is given
//! up its count has to go on in another series. Not in `other`: that counter would jump by everything that
//! was counted, and counted as an increase, when the label set was in use. It goes into a series of its
//! own that never changes. Prometheus sees it born with its value, and the first sample of a series is no
//! increase; it stays constant, which is none either. When more expires, that series ends and one under
//! a new name takes over its count, so that this is no increase again. The name is the time of the expiry:
//! a restarted sensor gives no name twice, as it would by counting.
//!
//! A label set that comes back begins at 0. To Prometheus that is a counter's reset, after which the value
//! is what has been added. (It can't see the reset where the first new sample is above the last old one. The
//! expiry is long beside the time between two scrapes for this reason too.)
//!
//! # Since when a counter counts
//!
//! Whoever sees a counter for the first time can't tell whether it is new, was restored after a restart or has got another
//! name. So each comes with the time at which it began, which is at or after the end of the epoch before: what began after
//! the epoch that a scrape saw last is new to it, by the sensor's own clock. After a kill the first packets of an epoch that
//! was shown and not kept are read again with their times, and the counters begin when they did before.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    budget::{Budget, OF_CONTACT, OF_DEVICE, OF_LABEL_SET, OF_PREFIX},
    device::{Contact, Traffic},
};
use crate::{
    clock::ClockStep,
    model::{Attribution, Country, Flow},
};

/// Most pairs of country and operator with counters of their own, per device. A phone in use
/// reaches some hundred.
const LABEL_SETS_PER_DEVICE: usize = 1024;

/// So long ago began what began at a time that turned out to be in the future, in nanoseconds: it was told of before, and is
/// to nobody new.
const NO_NEWS: u64 = 3600 * 1_000_000_000;

/// A label's value: one thing, or what many were summed up as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label<T> {
    /// A thing of its own.
    Of(T),
    /// What found no room.
    Other,
    /// What expired until then, Unix time in nanoseconds.
    Expired(u64),
}

impl<T: fmt::Display> fmt::Display for Label<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(thing) => thing.fmt(f),
            Self::Other => f.write_str("other"),
            Self::Expired(when) => write!(f, "expired {}", super::rfc3339(*when)),
        }
    }
}

/// Packets whose label went beyond a bound. They are counted, with less detail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Counted under the operator `other`.
    pub operator: u64,
    /// Counted under the country `other`.
    pub country: u64,
    /// Counted under the prefix `other`.
    pub prefix: u64,
    /// Counted for the pool of devices.
    pub device: u64,
}

impl Folded {
    /// Kinds in the metrics: these, and the two that a device's rows have.
    pub(super) const KINDS: usize = 6;
}

/// How often something expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expirations {
    /// Pairs of country and operator.
    pub label_sets: u64,
    /// Prefixes.
    pub prefixes: u64,
    /// Devices.
    pub devices: u64,
}

/// A count, and when it was at 0 and when idle.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Counted {
    traffic: Traffic,
    /// When it began to count; 0 before its first packet.
    created: u64,
    /// End of the epoch of the last packet.
    last: u64,
}

impl Counted {
    fn add(&mut self, flow: &Flow, when: &When) {
        // Of the packets of one epoch the first counts, whichever flow comes first.
        let is_new = self.created == 0;
        if is_new || (when.created..=when.ended).contains(&self.created) {
            self.created = when.created;
        }
        self.last = when.ended;
        self.traffic.add(flow.direction, &flow.tally);
    }
}

/// When a flow was counted, Unix time in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    /// First packet, not before the end of the epoch before.
    pub(super) created: u64,
    /// End of the epoch.
    pub(super) ended: u64,
}

/// What expired, and when something did last.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Expired {
    traffic: Traffic,
    when: u64,
}

impl Expired {
    fn add(&mut self, traffic: &Traffic, when: u64) {
        self.traffic.merge(traffic);
        self.when = when;
    }
}

/// One device's label sets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Series {
    pooled: bool,
    /// End of the epoch of the last packet.
    last: u64,
    label_sets: HashMap<(Country, u32), Counted>,
    /// By country: operators beyond the bound.
    other_operators: HashMap<Country, Counted>,
    /// By country: operators that expired. `None`: of countries that had no room.
    expired_operators: HashMap<Option<Country>, Expired>,
    /// Countries for which there was no room.
    other_countries: Counted,
    contacts: BTreeMap<Country, Contact>,
    prefixes: HashMap<IpNet, Counted>,
    other_prefixes: Counted,
    expired_prefixes: Option<Expired>,
    no_prefix: Counted,
    folded: Folded,
    /// What expired at the last look.
    resting_label_sets: HashSet<(Country, u32)>,
    resting_prefixes: HashSet<IpNet>,
}

impl Series {
    /// Those of the pool, which the budget has set aside.
    pub(super) fn pool() -> Self {
        Self { pooled: true, ..Self::default() }
    }

    /// Those of a device, if there is room for the least it needs.
    pub(super) fn new(pooled: bool, now: u64, budget: &mut Budget) -> Option<Self> {
        budget.take(OF_DEVICE, pooled).then(|| Self { pooled, last: now, ..Self::default() })
    }

    /// What a device takes of the budget.
    fn held(&self) -> usize {
        OF_DEVICE + self.labels()
    }

    /// What its labels take, beyond what every device has.
    fn labels(&self) -> usize {
        // That without a country is among what every device has.
        let expired = self.expired_operators.keys().flatten().count();
        (self.label_sets.len() + self.other_operators.len() + expired) * OF_LABEL_SET
            + self.prefixes.len() * OF_PREFIX
            + self.contacts.len() * OF_CONTACT
    }

    /// Traffic by country and operator; no country for those that had no room.
    pub fn label_sets(&self) -> impl Iterator<Item = (Option<Country>, Label<u32>, &Traffic)> {
        let live = self.live().map(|(country, label, counted)| (country, label, &counted.traffic));
        let expired = self
            .expired_operators
            .iter()
            .map(|(country, expired)| (*country, Label::Expired(expired.when), &expired.traffic));
        live.chain(expired)
    }

    /// When the counters of each of these began to count, Unix time in nanoseconds; not of those that expired.
    pub fn label_sets_created(&self) -> impl Iterator<Item = (Option<Country>, Label<u32>, u64)> {
        self.live().map(|(country, label, counted)| (country, label, counted.created))
    }

    fn live(&self) -> impl Iterator<Item = (Option<Country>, Label<u32>, &Counted)> {
        let own = self
            .label_sets
            .iter()
            .map(|((country, asn), counted)| (Some(*country), Label::Of(*asn), counted));
        let other = self
            .other_operators
            .iter()
            .map(|(country, counted)| (Some(*country), Label::Other, counted));
        let rest = &self.other_countries;
        let rest = (rest.created > 0).then_some((None, Label::Other, rest));
        own.chain(other).chain(rest)
    }

    /// First and last contact by country or class of special range.
    pub fn contacts(&self) -> impl Iterator<Item = (Country, &Contact)> {
        self.contacts.iter().map(|(country, contact)| (*country, contact))
    }

    /// Traffic by prefix.
    pub fn prefixes(&self) -> impl Iterator<Item = (Label<IpNet>, &Traffic)> {
        let live = self.live_prefixes().map(|(label, counted)| (label, &counted.traffic));
        let expired = self
            .expired_prefixes
            .iter()
            .map(|expired| (Label::Expired(expired.when), &expired.traffic));
        live.chain(expired)
    }

    /// When the counters of each of these began to count, Unix time in nanoseconds, 0 before their first packet; not of
    /// those that expired.
    pub fn prefixes_created(&self) -> impl Iterator<Item = (Label<IpNet>, u64)> {
        self.live_prefixes().map(|(label, counted)| (label, counted.created))
    }

    fn live_prefixes(&self) -> impl Iterator<Item = (Label<IpNet>, &Counted)> {
        let own = self.prefixes.iter().map(|(net, counted)| (Label::Of(*net), counted));
        own.chain([(Label::Other, &self.other_prefixes)])
    }

    /// Traffic without an IP address, or counted without one.
    pub const fn no_prefix(&self) -> &Traffic {
        &self.no_prefix.traffic
    }

    /// When that began to count, Unix time in nanoseconds; 0 before its first packet.
    pub const fn no_prefix_created(&self) -> u64 {
        self.no_prefix.created
    }

    /// What went beyond the bounds.
    pub const fn folded(&self) -> &Folded {
        &self.folded
    }

    /// Whether nothing was counted yet.
    pub const fn is_empty(&self) -> bool {
        self.last == 0
    }

    pub(super) fn has_label_set(&self, country: Country, asn: u32) -> bool {
        self.label_sets.contains_key(&(country, asn))
    }

    /// Autonomous systems with a label set.
    pub(super) fn systems(&self) -> impl Iterator<Item = u32> {
        self.label_sets.keys().map(|(_, asn)| *asn)
    }

    /// Whether this prefix would get a label, as far as the device is concerned.
    pub(super) fn wants(&self, prefix: &IpNet, watched: bool, limit: usize) -> bool {
        // Watched ones have as many labels again: a busy device does not hide them in `other`.
        let limit = if watched { limit.saturating_mul(2) } else { limit };
        self.prefixes.len() < limit
            && !self.prefixes.contains_key(prefix)
            && !self.resting_prefixes.contains(prefix)
    }

    /// Gives a prefix its label, if there is room.
    pub(super) fn enter(&mut self, prefix: IpNet, now: u64, budget: &mut Budget) {
        if self.take(OF_PREFIX, budget) {
            self.prefixes.insert(prefix, Counted { last: now, ..Counted::default() });
        }
    }

    /// Adds a flow whose prefix has entered, if it could.
    pub(super) fn add(&mut self, flow: &Flow, contact: &Contact, when: &When, budget: &mut Budget) {
        self.last = self.last.max(contact.last);
        let Attribution { country, asn, prefix, .. } = flow.attribution;
        if country != Country::NoAddress {
            self.contact(country, contact, budget);
        }
        self.place(country, asn, flow, budget).add(flow, when);
        let counter = match prefix.map(|prefix| self.prefixes.get_mut(&prefix)) {
            None => &mut self.no_prefix,
            Some(Some(counted)) => counted,
            Some(None) => {
                grow(&mut self.folded.prefix, flow.tally.packets);
                &mut self.other_prefixes
            }
        };
        counter.add(flow, when);
    }

    /// Notes a flow of a device that has no series.
    pub(super) const fn count_folded_device(&mut self, packets: u64) {
        grow(&mut self.folded.device, packets);
    }

    fn contact(&mut self, country: Country, contact: &Contact, budget: &mut Budget) {
        if let Some(known) = self.contacts.get_mut(&country) {
            known.merge(contact);
        } else if self.take(OF_CONTACT, budget) {
            self.contacts.insert(country, *contact);
        }
    }

    /// Where a flow counts: operator and country, the country alone, or neither.
    fn place(
        &mut self,
        country: Country,
        asn: u32,
        flow: &Flow,
        budget: &mut Budget,
    ) -> &mut Counted {
        let key = (country, asn);
        let room = self.label_sets.len() < LABEL_SETS_PER_DEVICE
            && !self.resting_label_sets.contains(&key);
        if self.label_sets.contains_key(&key) || (room && self.take(OF_LABEL_SET, budget)) {
            return self.label_sets.entry(key).or_default();
        }
        grow(&mut self.folded.operator, flow.tally.packets);
        if self.other_operators.contains_key(&country) || self.take(OF_LABEL_SET, budget) {
            return self.other_operators.entry(country).or_default();
        }
        grow(&mut self.folded.country, flow.tally.packets);
        &mut self.other_countries
    }

    /// Gives up what had no packet since `before`, and says whether there was any.
    pub(super) fn expire(
        &mut self,
        before: u64,
        now: u64,
        budget: &mut Budget,
        expirations: &mut Expirations,
    ) -> bool {
        let idle: Vec<_> = self.label_sets.extract_if(|_, set| set.last < before).collect();
        grow(&mut expirations.label_sets, idle.len() as u64);
        self.resting_label_sets = idle.iter().map(|(key, _)| *key).collect();
        budget.release(idle.len() * OF_LABEL_SET, self.pooled);
        for ((country, _), set) in idle {
            self.expire_operator(Some(country), &set.traffic, now, budget);
        }
        let mut changed = !self.resting_label_sets.is_empty();
        let idle: Vec<_> = self.prefixes.extract_if(|_, prefix| prefix.last < before).collect();
        changed |= !idle.is_empty();
        grow(&mut expirations.prefixes, idle.len() as u64);
        self.resting_prefixes = idle.iter().map(|(prefix, _)| *prefix).collect();
        budget.release(idle.len() * OF_PREFIX, self.pooled);
        for (_, prefix) in idle {
            self.expired_prefixes.get_or_insert_default().add(&prefix.traffic, now);
        }
        changed
    }

    /// The clock was set: what expires keeps its age.
    pub(super) fn clock_stepped(&mut self, step: ClockStep) {
        if !self.is_empty() {
            self.last = step.shift(self.last).max(1);
        }
        let counted = self.label_sets.values_mut().chain(self.prefixes.values_mut());
        counted.for_each(|counted| counted.last = step.shift(counted.last));
    }

    /// Takes no time for later than this, Unix time in nanoseconds.
    pub(super) fn distrust_after(&mut self, limit: u64) {
        self.last = self.last.min(limit);
        let counted = self.label_sets.values_mut().chain(self.prefixes.values_mut());
        let others = self.other_operators.values_mut().chain([
            &mut self.other_countries,
            &mut self.other_prefixes,
            &mut self.no_prefix,
        ]);
        for counted in counted.chain(others) {
            counted.last = counted.last.min(limit);
            if counted.created > limit {
                counted.created = limit.saturating_sub(NO_NEWS).max(1);
            }
        }
        self.contacts.values_mut().for_each(|contact| contact.distrust_after(limit));
    }

    /// Whether the device as a whole had no packet since `before`.
    pub(super) const fn is_idle(&self, before: u64) -> bool {
        self.last < before
    }

    /// Takes over everything from a device that expired.
    pub(super) fn absorb(&mut self, device: &Self, now: u64, budget: &mut Budget) {
        budget.release(device.held(), device.pooled);
        for (country, _, traffic) in device.label_sets() {
            self.expire_operator(country, traffic, now, budget);
        }
        let prefixes = device.prefixes().map(|(_, traffic)| traffic).chain([device.no_prefix()]);
        let expired = self.expired_prefixes.get_or_insert_default();
        for traffic in prefixes {
            expired.add(traffic, now);
        }
        for (country, contact) in device.contacts() {
            self.contact(country, contact, budget);
        }
        self.last = self.last.max(device.last);
    }

    /// The series this takes were released a moment before.
    fn expire_operator(
        &mut self,
        country: Option<Country>,
        traffic: &Traffic,
        now: u64,
        budget: &mut Budget,
    ) {
        if country.is_some() && !self.expired_operators.contains_key(&country) {
            budget.move_to(OF_LABEL_SET, self.pooled);
        }
        self.expired_operators.entry(country).or_default().add(traffic, now);
    }

    /// The configuration has given the device a name, or has taken it away.
    pub(super) fn set_pooled(&mut self, pooled: bool, budget: &mut Budget) {
        budget.release(self.held(), self.pooled);
        budget.move_to(self.held(), pooled);
        self.pooled = pooled;
    }

    /// Takes a device's share, which it had before the sensor started; the limit may have become smaller since.
    pub(super) fn claim(&self, budget: &mut Budget) {
        budget.move_to(self.held(), self.pooled);
    }

    /// The same for a device that may have been given a name since, or lost it.
    pub(super) fn adopt(&mut self, pooled: bool, budget: &mut Budget) {
        self.pooled = pooled;
        self.claim(budget);
    }

    /// The same for those of the pool.
    pub(super) fn claim_pool(&self, budget: &mut Budget) {
        budget.move_to(self.labels(), self.pooled);
    }

    fn take(&self, series: usize, budget: &mut Budget) -> bool {
        budget.take(series, self.pooled)
    }
}

/// Adds to a count that may have been saved, and damaged since.
pub(super) const fn grow(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}
