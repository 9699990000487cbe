//! What one device has sent and received, by destination, by country and operator, by prefix.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Limits, PlaceId, Places};
use crate::model::{
    Attribution, Country, DeviceInfo, DeviceKind, Direction, Flow, Level, Protocol, Tally,
};

/// Most pairs of country and operator with counters of their own, per device. A phone in use
/// reaches some hundred.
const LABEL_SETS_PER_DEVICE: usize = 1024;
/// The same for all devices together that the configuration does not name.
const POOLED_LABEL_SETS: usize = 16 * LABEL_SETS_PER_DEVICE;

/// How many entries are held, of those that are bounded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// Rows with their far end.
    full_rows: usize,
    /// Rows without it.
    folded_rows: usize,
    label_sets: usize,
}

impl Held {
    fn hold(&mut self, other: &Self) {
        self.full_rows += other.full_rows;
        self.folded_rows += other.folded_rows;
        self.label_sets += other.label_sets;
    }

    fn release(&mut self, other: &Self) {
        self.full_rows -= other.full_rows;
        self.folded_rows -= other.folded_rows;
        self.label_sets -= other.label_sets;
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
    fn add(&mut self, direction: Direction, tally: &Tally) {
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

/// Packets whose detail went beyond a bound of the state. They are counted, with less detail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Kept without address, port and VLAN.
    pub address: u64,
    /// Kept with the country alone.
    pub place: u64,
    /// Counted under the operator `other` in the metrics.
    pub operator: u64,
    /// Counted under the prefix `other` in the metrics.
    pub prefix: u64,
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
    label_sets: HashMap<(Country, Option<u32>), Traffic>,
    contacts: BTreeMap<Country, Contact>,
    prefixes: HashMap<IpNet, Traffic>,
    other_prefixes: Traffic,
    no_prefix: Traffic,
    folded: Folded,
}

impl DeviceState {
    pub(super) fn new(info: DeviceInfo) -> Self {
        Self {
            info,
            rows: HashMap::new(),
            held: Held::default(),
            label_sets: HashMap::new(),
            contacts: BTreeMap::new(),
            prefixes: HashMap::new(),
            other_prefixes: Traffic::default(),
            no_prefix: Traffic::default(),
            folded: Folded::default(),
        }
    }

    /// Who it is.
    pub const fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Traffic by country and operator. `None` stands for the operators beyond the bound.
    pub fn label_sets(&self) -> impl Iterator<Item = (Country, Option<u32>, &Traffic)> {
        self.label_sets.iter().map(|((country, asn), traffic)| (*country, *asn, traffic))
    }

    /// First and last contact by country or class of special range.
    pub fn contacts(&self) -> impl Iterator<Item = (Country, &Contact)> {
        self.contacts.iter().map(|(country, contact)| (*country, contact))
    }

    /// Traffic by prefix, for those with counters of their own.
    pub fn prefixes(&self) -> impl Iterator<Item = (&IpNet, &Traffic)> {
        self.prefixes.iter()
    }

    /// Traffic with all other prefixes.
    pub const fn other_prefixes(&self) -> &Traffic {
        &self.other_prefixes
    }

    /// Traffic without an IP address, or counted without one.
    pub const fn no_prefix(&self) -> &Traffic {
        &self.no_prefix
    }

    /// What went beyond the bounds.
    pub const fn folded(&self) -> &Folded {
        &self.folded
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

    pub(super) fn has_label_set(&self, country: Country, asn: u32) -> bool {
        self.label_sets.contains_key(&(country, Some(asn)))
    }

    /// Takes over what is known of the device. `pool` gets back, or has to hold, what it holds when it
    /// becomes a configured one or is one no longer.
    pub(super) fn update_info(&mut self, info: &DeviceInfo, pool: &mut Held) {
        if self.info == *info {
            return;
        }
        let was_pooled = self.is_pooled();
        self.info = info.clone();
        match (was_pooled, self.is_pooled()) {
            (true, false) => pool.release(&self.held),
            (false, true) => pool.hold(&self.held),
            _ => {}
        }
    }

    /// Adds a flow of an epoch that ended at `ended`. `pool` is what all devices that the
    /// configuration does not name hold together: made-up MAC addresses cost no memory without end,
    /// and no configured device its detail.
    pub(super) fn add(
        &mut self,
        flow: &Flow,
        ended: u64,
        limits: &Limits,
        pool: &mut Held,
        places: &mut Places,
    ) {
        let contact = Contact { first: flow.first_seen.min(ended), last: ended };

        let key = self.row_key(flow, limits, pool, places);
        let row = self.rows.entry(key).or_insert(Row { traffic: Traffic::default(), contact });
        row.traffic.add(flow.direction, &flow.tally);
        row.contact.merge(&contact);

        if flow.attribution.country != Country::NoAddress {
            let entry = self.contacts.entry(flow.attribution.country).or_insert(contact);
            entry.merge(&contact);
        }
        self.label_set_mut(flow, pool).add(flow.direction, &flow.tally);
        self.prefix_mut(flow, limits.prefixes_per_device).add(flow.direction, &flow.tally);
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

    /// As with the rows, there are only so many countries.
    fn label_set_mut(&mut self, flow: &Flow, pool: &mut Held) -> &mut Traffic {
        let Attribution { country, asn, .. } = flow.attribution;
        let mut key = (country, Some(asn));
        if !self.label_sets.contains_key(&key) {
            let pool = self.is_pooled().then_some((&mut pool.label_sets, POOLED_LABEL_SETS));
            if !claim(&mut self.held.label_sets, LABEL_SETS_PER_DEVICE, pool) {
                self.folded.operator += flow.tally.packets;
                key = (country, None);
            }
        }
        self.label_sets.entry(key).or_default()
    }

    fn is_pooled(&self) -> bool {
        self.info.kind != DeviceKind::Configured
    }

    /// The first prefixes keep a label for good, so that no counter ever goes back. Watched ones
    /// have as many labels again: a busy device does not hide them in `other`.
    fn prefix_mut(&mut self, flow: &Flow, limit: usize) -> &mut Traffic {
        let Attribution { prefix, watched, .. } = flow.attribution;
        let Some(prefix) = prefix else { return &mut self.no_prefix };
        let limit = if watched { limit.saturating_mul(2) } else { limit };
        if self.prefixes.len() >= limit && !self.prefixes.contains_key(&prefix) {
            self.folded.prefix += flow.tally.packets;
            return &mut self.other_prefixes;
        }
        self.prefixes.entry(prefix).or_default()
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
