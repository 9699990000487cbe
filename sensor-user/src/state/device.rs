//! What one device has sent and received, by destination.

use std::{cmp::Reverse, mem};

use serde::{Deserialize, Serialize};

use super::{Budget, Entry, FoldedRows, Held, Limits, Places, Row, RowKey, Rows, SavedRow, Series};
use crate::clock::ClockStep;
use crate::model::{DeviceInfo, DeviceKind, Direction, Flow, Tally};

/// Time without a packet after which a destination gives way to new ones, in nanoseconds.
const IDLE: u64 = 24 * 3600 * 1_000_000_000;
/// How often in that time a device that is full is looked through.
const LOOKS: u64 = 24;

/// Both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Sent by the device.
    pub tx: Tally,
    /// Received by the device.
    pub rx: Tally,
}

impl Traffic {
    pub(crate) fn add(&mut self, direction: Direction, tally: &Tally) {
        match direction {
            Direction::Tx => self.tx.add(tally),
            Direction::Rx => self.rx.add(tally),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.tx.add(&other.tx);
        self.rx.add(&other.rx);
    }
}

/// First and last packet, Unix time in nanoseconds; the last one to the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Time of the first packet.
    pub first: u64,
    /// End of the epoch of the last packet.
    pub last: u64,
}

impl Contact {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// Takes neither for later than this.
    pub(super) fn distrust_after(&mut self, limit: u64) {
        (self.first, self.last) = (self.first.min(limit), self.last.min(limit));
    }
}

/// One device's part of the [`State`](super::State).
#[derive(Debug, Clone)]
pub struct DeviceState {
    info: DeviceInfo,
    rows: Rows<Row>,
    /// What the metrics tell apart; nothing where there was no room for the device, or it was idle.
    series: Option<Box<Series>>,
    /// Its series have just expired.
    resting: bool,
    /// Since it was last saved.
    changed: bool,
    /// When idle rows had to give way, Unix time in nanoseconds.
    gave_way: u64,
}

impl DeviceState {
    pub(super) fn new(info: DeviceInfo) -> Self {
        Self {
            info,
            rows: Rows::default(),
            series: None,
            resting: false,
            changed: false,
            gave_way: 0,
        }
    }

    /// Who it is.
    pub const fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// What went beyond the bounds.
    pub const fn folded(&self) -> &FoldedRows {
        self.rows.folded()
    }

    /// What the metrics tell apart; `None` where its packets are counted for the pool there.
    pub fn series(&self) -> Option<&Series> {
        self.series.as_deref()
    }

    /// Everything it sent and received.
    pub fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        for (_, row) in self.rows.iter() {
            total.merge(&row.traffic);
        }
        total
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.rows.iter()
    }

    /// Entries that only collect what has no device of its own show once they have something.
    pub(super) fn is_shown(&self) -> bool {
        match self.info.kind {
            DeviceKind::Configured | DeviceKind::Unknown => true,
            DeviceKind::Group | DeviceKind::Pool => !self.rows.is_empty(),
        }
    }

    /// Takes over what is known of the device. `pool` gets back, or has to hold, what it holds when it
    /// becomes a configured one or is one no longer.
    pub(super) fn update_info(&mut self, info: &DeviceInfo, pool: &mut Held, budget: &mut Budget) {
        if self.info == *info {
            return;
        }
        let was_pooled = self.is_pooled();
        self.info = info.clone();
        let is_pooled = self.is_pooled();
        match (was_pooled, is_pooled) {
            (true, false) => pool.release(self.rows.held()),
            (false, true) => pool.hold(self.rows.held()),
            _ => return,
        }
        if let Some(series) = &mut self.series {
            series.set_pooled(is_pooled, budget);
        }
    }

    /// Its series, if there is room for them.
    pub(super) fn series_mut(&mut self, now: u64, budget: &mut Budget) -> Option<&mut Series> {
        if self.series.is_none() && !self.resting && self.info.kind != DeviceKind::Pool {
            self.series = Series::new(self.is_pooled(), now, budget).map(Box::new);
        }
        self.series.as_deref_mut()
    }

    /// Its series, if it has them.
    pub(super) fn held_series_mut(&mut self) -> Option<&mut Series> {
        self.series.as_deref_mut()
    }

    /// The series of one that nobody named and that had no packet since `before`: they end here.
    pub(super) fn end_idle(&mut self, before: u64) -> Option<Series> {
        let ends = self.info.kind == DeviceKind::Unknown
            && self.series.as_ref().is_some_and(|series| series.is_idle(before));
        self.resting = ends;
        self.changed |= ends;
        if ends { self.series.take().map(|series| *series) } else { None }
    }

    /// Adds a flow to its row. `pool` is what all devices that the configuration does not name hold
    /// together: made-up MAC addresses cost no memory without end, and no configured device its detail.
    pub(super) fn add(
        &mut self,
        flow: &Flow,
        contact: &Contact,
        limits: &Limits,
        pool: &mut Held,
        places: &mut Places,
    ) {
        self.changed = true;
        let pool = self.is_pooled().then_some(pool);
        let new = |_| Row { traffic: Traffic::default(), contact: *contact };
        let row = self.rows.of(&Entry::of(flow), limits, pool, places, new);
        row.traffic.add(flow.direction, &flow.tally);
        row.contact.merge(contact);
    }

    /// The clock was set: what expires keeps its age.
    pub(super) fn clock_stepped(&mut self, step: ClockStep) {
        if let Some(series) = &mut self.series {
            series.clock_stepped(step);
            self.changed = true;
        }
    }

    /// Takes no time for later than this.
    pub(super) fn distrust_after(&mut self, limit: u64) {
        self.rows.values_mut().for_each(|row| row.contact.distrust_after(limit));
        if let Some(series) = &mut self.series {
            series.distrust_after(limit);
            self.changed = true;
        }
    }

    /// Where there is no room for new destinations, those that have been idle for a day give way to them.
    pub(super) fn make_room(
        &mut self,
        now: u64,
        limits: &Limits,
        pool: &mut Held,
        places: &mut Places,
    ) {
        let pool = self.is_pooled().then_some(pool);
        let is_due = now.abs_diff(self.gave_way) >= IDLE / LOOKS;
        if is_due && self.rows.is_full(limits, pool.as_deref()) {
            self.gave_way = now;
            self.changed = true;
            self.rows.give_way(now.saturating_sub(IDLE), limits, pool, places);
        }
    }

    /// Notes that something expired.
    pub(super) const fn note_change(&mut self) {
        self.changed = true;
    }

    /// Whether anything has changed since this was last asked.
    pub(super) const fn take_changed(&mut self) -> bool {
        mem::replace(&mut self.changed, false)
    }

    /// Goes on with a row from before the sensor started.
    pub(super) fn restore_row(
        &mut self,
        saved: &SavedRow,
        limits: &Limits,
        pool: &mut Held,
        places: &mut Places,
    ) {
        let pool = self.is_pooled().then_some(pool);
        let new = |_| Row { traffic: Traffic::default(), ..saved.row };
        let row = self.rows.of(&saved.entry(), limits, pool, places, new);
        row.traffic.merge(saved.traffic());
        row.contact.merge(&saved.row.contact);
    }

    /// How many rows it holds.
    pub(super) const fn held(&self) -> &Held {
        self.rows.held()
    }

    /// Takes over the rows of a device that is a part of it, the last ones in use first.
    pub(super) fn take_rows(
        &mut self,
        part: &Self,
        limits: &Limits,
        pool: &mut Held,
        places: &mut Places,
    ) {
        let mut rows: Vec<_> = part.rows.iter().collect();
        rows.sort_unstable_by_key(|(_, row)| Reverse(row.contact.last));
        for (key, row) in rows {
            let saved = SavedRow {
                attribution: places.get(key.place).clone(),
                protocol: key.protocol,
                far: key.far,
                row: *row,
            };
            self.restore_row(&saved, limits, pool, places);
        }
        self.rows.restore_folded(part.folded());
        self.changed = true;
    }

    /// Goes on counting what went beyond the bounds.
    pub(super) const fn restore_folded(&mut self, folded: &FoldedRows) {
        self.rows.restore_folded(folded);
    }

    /// Goes on with the series from before the sensor started.
    pub(super) fn restore_series(&mut self, series: Box<Series>) {
        self.series = Some(series);
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.info.kind != DeviceKind::Configured
    }
}
