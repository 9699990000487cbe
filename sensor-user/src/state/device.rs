//! What one device has sent and received, by destination.

use std::{collections::HashMap, net::IpAddr};

use super::{Budget, Limits, PlaceId, Places, Series};
use crate::model::{Attribution, DeviceInfo, DeviceKind, Direction, Flow, Level, Protocol, Tally};

/// How many entries are held, of those that are bounded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// Rows with their far end.
    full_rows: usize,
    /// Rows without it.
    folded_rows: usize,
}

impl Held {
    fn hold(&mut self, other: &Self) {
        self.full_rows += other.full_rows;
        self.folded_rows += other.folded_rows;
    }

    fn release(&mut self, other: &Self) {
        self.full_rows -= other.full_rows;
        self.folded_rows -= other.folded_rows;
    }
}

/// Both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent by the device.
    pub tx: Tally,
    /// Received by the device.
    pub rx: Tally,
}

impl Traffic {
    pub(super) fn add(&mut self, direction: Direction, tally: &Tally) {
        match direction {
            Direction::Tx => self.tx.add(tally),
            Direction::Rx => self.rx.add(tally),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.tx.add(&other.tx);
        self.rx.add(&other.rx);
    }
}

/// First and last packet, Unix time in nanoseconds; the last one to the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Time of the first packet.
    pub first: u64,
    /// End of the epoch of the last packet.
    pub last: u64,
}

impl Contact {
    pub(super) fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// Packets whose detail went beyond a bound for the rows. They are counted, with less detail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FoldedRows {
    /// Kept without address, port and VLAN.
    pub address: u64,
    /// Kept with the country alone.
    pub place: u64,
}

/// What one row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) traffic: Traffic,
    pub(super) contact: Contact,
}

/// The part of a row's key that folds away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FarEnd {
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) vlan: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) place: PlaceId,
    pub(super) protocol: Protocol,
    pub(super) far: Option<FarEnd>,
}

/// One device's part of the [`State`](super::State).
#[derive(Debug, Clone)]
pub struct DeviceState {
    info: DeviceInfo,
    rows: HashMap<RowKey, Row>,
    held: Held,
    folded: FoldedRows,
    /// What the metrics tell apart; nothing where there was no room for the device, or it was idle.
    series: Option<Box<Series>>,
    /// Its series have just expired.
    resting: bool,
}

impl DeviceState {
    pub(super) fn new(info: DeviceInfo) -> Self {
        Self {
            info,
            rows: HashMap::new(),
            held: Held::default(),
            folded: FoldedRows::default(),
            series: None,
            resting: false,
        }
    }

    /// Who it is.
    pub const fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// What went beyond the bounds.
    pub const fn folded(&self) -> &FoldedRows {
        &self.folded
    }

    /// What the metrics tell apart; `None` where its packets are counted for the pool there.
    pub fn series(&self) -> Option<&Series> {
        self.series.as_deref()
    }

    /// Everything it sent and received.
    pub fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        for row in self.rows.values() {
            total.merge(&row.traffic);
        }
        total
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
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
            (true, false) => pool.release(&self.held),
            (false, true) => pool.hold(&self.held),
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
        let key = self.row_key(flow, limits, pool, places);
        let row =
            self.rows.entry(key).or_insert(Row { traffic: Traffic::default(), contact: *contact });
        row.traffic.add(flow.direction, &flow.tally);
        row.contact.merge(contact);
    }

    /// Finds the row of a flow: the one that has it, else the most detailed one that has room. A
    /// row never goes away, so that a flow stays where it was first counted.
    fn row_key(
        &mut self,
        flow: &Flow,
        limits: &Limits,
        pool: &mut Held,
        places: &mut Places,
    ) -> RowKey {
        let Attribution { country, .. } = flow.attribution;
        let known = places.find(&flow.attribution);
        let pooled = self.is_pooled();
        let room = |held: &mut usize, pool: &mut usize| {
            let (own, all) = (limits.destinations_per_device, limits.pooled_destinations);
            claim(held, own, pooled.then_some((pool, all)))
        };

        // The kernel's coarse and overflow levels come without a far end of their own.
        if flow.level == Level::Flow {
            let far = Some(FarEnd { address: flow.address, port: flow.port, vlan: flow.vlan });
            let key = |place| RowKey { place, protocol: flow.protocol, far };
            if let Some(key) = known.map(key).filter(|key| self.rows.contains_key(key)) {
                return key;
            }
            if room(&mut self.held.full_rows, &mut pool.full_rows) {
                return key(places.intern(&flow.attribution));
            }
            self.folded.address += flow.tally.packets;
        }

        let key = |place| RowKey { place, protocol: flow.protocol, far: None };
        if let Some(key) = known.map(key).filter(|key| self.rows.contains_key(key)) {
            return key;
        }
        if room(&mut self.held.folded_rows, &mut pool.folded_rows) {
            return key(places.intern(&flow.attribution));
        }

        // There are only so many countries, so this one needs no bound.
        self.folded.place += flow.tally.packets;
        let place = places.intern(&Attribution {
            country,
            asn: 0,
            operator: "".into(),
            prefix: None,
            network: "".into(),
            watched: false,
        });
        RowKey { place, protocol: Protocol::Unknown, far: None }
    }

    fn is_pooled(&self) -> bool {
        self.info.kind != DeviceKind::Configured
    }
}

/// Takes one more entry, if the device's own bound and the pool's, where it shares one, have room.
fn claim(held: &mut usize, limit: usize, pool: Option<(&mut usize, usize)>) -> bool {
    if *held >= limit {
        return false;
    }
    if let Some((pool, limit)) = pool {
        if *pool >= limit {
            return false;
        }
        *pool += 1;
    }
    *held += 1;
    true
}
