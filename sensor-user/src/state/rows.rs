//! Rows of one device in bounded number: with their far end, without it, or with the country alone.

use std::{collections::HashMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Contact, Limits, PlaceId, Places, Traffic, series::grow};
use crate::model::{Attribution, Flow, Level, Protocol};

/// How many entries are held, of those that are bounded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    /// Rows with their far end.
    full_rows: usize,
    /// Rows without it.
    folded_rows: usize,
}

impl Held {
    pub(super) fn hold(&mut self, other: &Self) {
        self.full_rows += other.full_rows;
        self.folded_rows += other.folded_rows;
    }

    pub(super) fn release(&mut self, other: &Self) {
        self.full_rows -= other.full_rows;
        self.folded_rows -= other.folded_rows;
    }
}

/// Packets whose detail went beyond a bound for the rows. They are counted, with less detail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedRows {
    /// Kept without address, port and VLAN.
    pub address: u64,
    /// Kept with the country alone.
    pub place: u64,
}

/// What one row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) traffic: Traffic,
    pub(crate) contact: Contact,
}

/// The part of a row's key that folds away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FarEnd {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) vlan: Option<u16>,
}

impl FarEnd {
    /// Of a flow; the kernel's coarse and overflow levels come without one of their own.
    pub(crate) fn of(flow: &Flow) -> Option<Self> {
        let far = Self { address: flow.address, port: flow.port, vlan: flow.vlan };
        (flow.level == Level::Flow).then_some(far)
    }
}

/// What a device's rows are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowKey {
    pub(crate) place: PlaceId,
    pub(crate) protocol: Protocol,
    /// `None` where it was not kept.
    pub(crate) far: Option<FarEnd>,
}

/// What is to be counted somewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) attribution: &'a Attribution,
    pub(crate) protocol: Protocol,
    pub(crate) far: Option<FarEnd>,
    pub(crate) packets: u64,
}

impl<'a> Entry<'a> {
    pub(crate) fn of(flow: &'a Flow) -> Self {
        Self {
            attribution: &flow.attribution,
            protocol: flow.protocol,
            far: FarEnd::of(flow),
            packets: flow.tally.packets,
        }
    }
}

/// The rows, and how many of them there are.
#[derive(Debug, Clone)]
pub(crate) struct Rows<V> {
    rows: HashMap<RowKey, V>,
    held: Held,
    folded: FoldedRows,
}

impl<V> Default for Rows<V> {
    fn default() -> Self {
        Self { rows: HashMap::new(), held: Held::default(), folded: FoldedRows::default() }
    }
}

impl<V> Rows<V> {
    /// How many there are.
    pub(super) const fn held(&self) -> &Held {
        &self.held
    }

    /// What went beyond the bounds.
    pub(super) const fn folded(&self) -> &FoldedRows {
        &self.folded
    }

    pub(super) const fn restore_folded(&mut self, folded: &FoldedRows) {
        grow(&mut self.folded.address, folded.address);
        grow(&mut self.folded.place, folded.place);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RowKey, &V)> {
        self.rows.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows.values_mut()
    }

    /// The row where an entry counts, made by `new` where it is missing: the one that has it, else the most
    /// detailed one that has room. A row in use never goes away, so that a flow stays where it was first counted.
    /// `pool` is what the device shares with others, if it does.
    pub(crate) fn of(
        &mut self,
        entry: &Entry<'_>,
        limits: &Limits,
        pool: Option<&mut Held>,
        places: &mut Places,
        new: impl FnOnce(RowKey) -> V,
    ) -> &mut V {
        let key = self.key(entry, limits, pool, places);
        self.rows.entry(key).or_insert_with(|| new(key))
    }

    fn key(
        &mut self,
        entry: &Entry<'_>,
        limits: &Limits,
        mut pool: Option<&mut Held>,
        places: &mut Places,
    ) -> RowKey {
        let known = places.find(entry.attribution);
        let (own, all) = (limits.destinations_per_device, limits.pooled_destinations);
        let protocol = entry.protocol;

        if entry.far.is_some() {
            let key = |place| RowKey { place, protocol, far: entry.far };
            if let Some(key) = known.map(key).filter(|key| self.rows.contains_key(key)) {
                return key;
            }
            let pool = pool.as_mut().map(|pool| (&mut pool.full_rows, all));
            if claim(&mut self.held.full_rows, own, pool) {
                return key(places.intern(entry.attribution));
            }
            grow(&mut self.folded.address, entry.packets);
        }

        let key = |place| RowKey { place, protocol, far: None };
        if let Some(key) = known.map(key).filter(|key| self.rows.contains_key(key)) {
            return key;
        }
        let pool = pool.as_mut().map(|pool| (&mut pool.folded_rows, all));
        if claim(&mut self.held.folded_rows, own, pool) {
            return key(places.intern(entry.attribution));
        }

        // There are only so many countries, so this one needs no bound.
        grow(&mut self.folded.place, entry.packets);
        let place = places.intern(&Attribution::country_alone(entry.attribution.country));
        RowKey { place, protocol: Protocol::Unknown, far: None }
    }
}

impl Rows<Row> {
    /// Has rows that had no packet since `before` give way to others: they count without their far ends from here on.
    pub(super) fn give_way(
        &mut self,
        before: u64,
        limits: &Limits,
        mut pool: Option<&mut Held>,
        places: &mut Places,
    ) {
        let is_idle = |key: &RowKey, row: &mut Row| {
            key.far.is_some_and(|far| far.address.is_some()) && row.contact.last < before
        };
        let idle: Vec<_> = self.rows.extract_if(is_idle).collect();
        self.held.full_rows -= idle.len();
        if let Some(pool) = &mut pool {
            pool.full_rows -= idle.len();
        }
        for (key, row) in idle {
            let attribution = places.get(key.place).clone();
            let packets = row.traffic.tx.packets.saturating_add(row.traffic.rx.packets);
            let entry =
                Entry { attribution: &attribution, protocol: key.protocol, far: None, packets };
            let new = |_| Row { traffic: Traffic::default(), ..row };
            let sum = self.of(&entry, limits, pool.as_deref_mut(), places, new);
            sum.traffic.merge(&row.traffic);
            sum.contact.merge(&row.contact);
            grow(&mut self.folded.address, packets);
        }
    }

    /// Whether there is no room for another row with its far end.
    pub(super) fn is_full(&self, limits: &Limits, pool: Option<&Held>) -> bool {
        self.held.full_rows >= limits.destinations_per_device
            || pool.is_some_and(|pool| pool.full_rows >= limits.pooled_destinations)
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
