//! What the kernel counted in one epoch, as it lay in the maps.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    time::Duration,
};

use sensor_common::layout::{Counters, Direction, FlowKey, Tally, Totals};

use crate::model::{Mac, TableUse};

/// What the kernel counted in one epoch, as it lay in the maps.
#[derive(Debug, Clone, Default)]
pub struct RawEpoch {
    /// Number of the epoch.
    pub epoch: u32,
    /// When it was flipped away, Unix time in nanoseconds.
    pub ended: u64,
    /// The same moment by the kernel's boot-time clock, in nanoseconds.
    pub boot: u64,
    /// How long the grace period took.
    pub waited: Duration,
    /// Flows with their full key; a key may appear once per CPU.
    pub flows: Vec<(FlowKey, Counters)>,
    /// Flows of the coarse level, widened: network address, no port, VLAN or interface.
    pub coarse: Vec<(FlowKey, Counters)>,
    /// Per device and direction: what found no place in either.
    pub overflow: Vec<(Mac, [Tally; 2])>,
    /// All CPUs' totals added up.
    pub totals: Totals,
    /// How full the maps were.
    pub tables: Vec<TableUse>,
}

impl RawEpoch {
    /// Whether nothing was counted.
    pub fn is_quiet(&self) -> bool {
        self.totals == Totals::default()
    }

    /// How many packets the programs saw, by interface.
    pub fn seen_packets(&self) -> SeenPackets {
        let mut seen = SeenPackets::default();
        for (key, counters) in &self.flows {
            let by_direction = seen.by_interface.entry(key.ifindex()).or_default();
            let sum = &mut by_direction[key.direction() as usize];
            *sum = sum.saturating_add(counters.tally.packets);
        }
        for direction in [Direction::Tx, Direction::Rx].map(|direction| direction as usize) {
            let known = seen.by_interface.values().map(|seen| seen[direction]).sum();
            seen.anywhere[direction] = self.totals.seen[direction].packets.saturating_sub(known);
        }
        seen
    }

    /// What has been added to the same epoch since an earlier look at it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            flows: grown(&self.flows, &earlier.flows),
            coarse: grown(&self.coarse, &earlier.coarse),
            overflow: grown(&self.overflow, &earlier.overflow),
            totals: totals_since(&self.totals, &earlier.totals),
            ..self.clone()
        }
    }
}

/// How many packets the programs saw, by the interface's index and by direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenPackets {
    by_interface: HashMap<u32, [u64; 2]>,
    /// Those that were counted without their interface, as the coarser levels do.
    anywhere: [u64; 2],
}

impl SeenPackets {
    /// At most so many on an interface, sent by the devices and received by them: what may be its own is.
    pub fn of(&self, ifindex: u32) -> [u64; 2] {
        let own = self.by_interface.get(&ifindex).copied().unwrap_or_default();
        [0, 1].map(|direction| own[direction].saturating_add(self.anywhere[direction]))
    }
}

/// Something that is counted and only ever grows within an epoch.
trait Grown {
    fn grow(&mut self, other: &Self);
    fn shrink(&mut self, other: &Self);
    fn is_none(&self) -> bool;
}

impl Grown for Tally {
    fn grow(&mut self, other: &Self) {
        self.add(other);
    }

    fn shrink(&mut self, other: &Self) {
        self.packets = self.packets.saturating_sub(other.packets);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.payload = self.payload.saturating_sub(other.payload);
    }

    fn is_none(&self) -> bool {
        // A look may have found a packet whose bytes were still to be added.
        *self == Self::default()
    }
}

impl Grown for Counters {
    fn grow(&mut self, other: &Self) {
        self.tally.grow(&other.tally);
        self.first_seen = self.first_seen.min(other.first_seen);
    }

    fn shrink(&mut self, other: &Self) {
        self.tally.shrink(&other.tally);
    }

    fn is_none(&self) -> bool {
        self.tally.is_none()
    }
}

impl Grown for [Tally; 2] {
    fn grow(&mut self, other: &Self) {
        self[0].grow(&other[0]);
        self[1].grow(&other[1]);
    }

    fn shrink(&mut self, other: &Self) {
        self[0].shrink(&other[0]);
        self[1].shrink(&other[1]);
    }

    fn is_none(&self) -> bool {
        self.iter().all(Grown::is_none)
    }
}

/// Each key once, with what it has now and had not then.
fn grown<K: Copy + Eq + Hash, V: Copy + Grown>(now: &[(K, V)], then: &[(K, V)]) -> Vec<(K, V)> {
    let mut sums = HashMap::<K, V>::with_capacity(now.len());
    for (key, value) in now {
        match sums.entry(*key) {
            Entry::Occupied(mut sum) => sum.get_mut().grow(value),
            Entry::Vacant(new) => drop(new.insert(*value)),
        }
    }
    for (key, value) in then {
        if let Some(sum) = sums.get_mut(key) {
            sum.shrink(value);
        }
    }
    sums.retain(|_, value| !value.is_none());
    sums.into_iter().collect()
}

fn totals_since(now: &Totals, then: &Totals) -> Totals {
    let mut grown = *now;
    grown.seen.shrink(&then.seen);
    grown.pool.shrink(&then.pool);
    for (now, then) in grown.outcomes.iter_mut().zip(then.outcomes) {
        *now = now.saturating_sub(then);
    }
    grown
}
