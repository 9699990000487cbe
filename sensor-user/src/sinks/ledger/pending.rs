//! What is committed and not yet folded, as rows in bounded number.
//!
//! The bounds are those of the state, but for each minute anew: a device that scans a network for an hour
//! has its first destinations of each minute in full, and the rest summed up.

use std::collections::{BTreeMap, HashMap};

use super::record::{Databases, Record, RecordRow};
use crate::{
    model::{DeviceId, EpochBooks, EpochRecord, InterfaceCounters},
    state::{Contact, Entry, Held, Limits, PlaceId, Places, Row, RowKey, Rows, Traffic},
};

/// Seconds.
pub(super) const MINUTE: u64 = 60;
/// Nanoseconds of a second.
pub(super) const NANOS: u64 = 1_000_000_000;

/// Minutes that have something to be folded, with the databases in use then.
#[derive(Debug, Default)]
pub(super) struct Pending {
    minutes: BTreeMap<(u64, Databases), Minute>,
    /// That of the last epoch, which need not be the latest: clocks are set back, and captures come in any order.
    last: (u64, Databases),
    /// The interfaces' counters as of the last epoch.
    interfaces: BTreeMap<String, InterfaceCounters>,
}

/// One minute's sums.
#[derive(Debug, Default)]
pub(super) struct Minute {
    devices: HashMap<i64, Rows<usize>>,
    pool: Held,
    pub(super) places: Places,
    cells: Vec<Cell>,
    pub(super) balance: Balance,
    pub(super) events: BTreeMap<String, u64>,
    /// What they have counted in it.
    pub(super) interfaces: BTreeMap<String, InterfaceCounters>,
}

/// The books of some epochs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Balance {
    pub(super) epochs: u64,
    pub(super) open: u64,
    pub(super) books: EpochBooks,
}

/// One row of a minute.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) device: i64,
    pub(super) key: RowKey,
    /// What is committed and not yet folded.
    pub(super) sum: Option<Row>,
    /// What is being committed.
    epoch: Option<Row>,
}

/// An epoch that is being committed.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) record: Record,
    minute: (u64, Databases),
    touched: Vec<usize>,
}

/// Whose row it is: its number in the ledger, and whether the configuration names it.
pub(super) type Owner = (i64, bool);

impl Pending {
    /// Nothing, with the interfaces' counters as they were when the file was written last.
    pub(super) fn new(interfaces: impl IntoIterator<Item = InterfaceCounters>) -> Self {
        let interfaces = interfaces.into_iter().map(|i| (i.name.clone(), i)).collect();
        Self { interfaces, ..Self::default() }
    }

    /// The record for an epoch. It counts once it was accepted.
    pub(super) fn draft(
        &mut self,
        epoch: &EpochRecord,
        databases: Databases,
        limits: &Limits,
        owner: impl Fn(DeviceId) -> Owner,
    ) -> Draft {
        let at = (epoch.ended / NANOS / MINUTE * MINUTE, databases);
        let minute = self.minutes.entry(at).or_default();
        let mut touched = Vec::new();
        for flow in epoch.flows.iter().filter(|flow| flow.tally.packets > 0) {
            let contact = Contact { first: flow.first_seen.min(epoch.ended), last: epoch.ended };
            let cell = minute.cell(&Entry::of(flow), owner(flow.device), limits);
            let row = minute.cells[cell].epoch.get_or_insert_with(|| {
                touched.push(cell);
                Row { traffic: Traffic::default(), contact }
            });
            row.traffic.add(flow.direction, &flow.tally);
            row.contact.merge(&contact);
        }
        let events = epoch.outcomes.iter().filter(|(_, count)| *count > 0);
        let mut record = Record {
            ended: epoch.ended,
            books: epoch.books,
            events: events.map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            interfaces: epoch.interfaces.clone(),
            databases,
            ..Record::default()
        };
        minute.describe(&touched, &mut record);
        Draft { record, minute: at, touched }
    }

    /// The epoch is committed.
    pub(super) fn accept(&mut self, draft: &Draft) {
        let Some(minute) = self.minutes.get_mut(&draft.minute) else { return };
        self.last = draft.minute;
        for cell in &draft.touched {
            minute.cells[*cell].accept();
        }
        minute.balance.epochs += 1;
        minute.balance.open += u64::from(!draft.record.books.closed());
        minute.balance.books.add(&draft.record.books);
        for (event, count) in &draft.record.events {
            let sum = minute.events.entry(event.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        for now in &draft.record.interfaces {
            let then = self.interfaces.insert(now.name.clone(), now.clone()).unwrap_or_default();
            let grown = now.since(&then);
            minute.interfaces.entry(now.name.clone()).or_default().add(&grown);
        }
    }

    /// The epoch is not committed.
    pub(super) fn reject(&mut self, draft: &Draft) {
        if let Some(minute) = self.minutes.get_mut(&draft.minute) {
            for cell in &draft.touched {
                minute.cells[*cell].epoch = None;
            }
        }
    }

    /// Takes an epoch that was committed before this process began.
    pub(super) fn replay(
        &mut self,
        epoch: &EpochRecord,
        databases: Databases,
        limits: &Limits,
        owner: impl Fn(DeviceId) -> Owner,
    ) {
        let draft = self.draft(epoch, databases, limits, owner);
        self.accept(&draft);
    }

    /// The interfaces' counters as of the last epoch.
    pub(super) fn interfaces(&self) -> Vec<InterfaceCounters> {
        self.interfaces.values().cloned().collect()
    }

    pub(super) fn minutes(&self) -> impl Iterator<Item = (u64, Databases, &Minute)> {
        self.minutes.iter().map(|((start, databases), minute)| (*start, *databases, minute))
    }

    /// Start of the minute of the last epoch, Unix time in seconds.
    pub(super) const fn last_minute(&self) -> u64 {
        self.last.0
    }

    /// Everything was folded. The last minute goes on: its bounds hold until it is over.
    pub(super) fn folded(&mut self) {
        let last = self.last;
        self.minutes.retain(|at, _| *at == last);
        self.minutes.values_mut().for_each(Minute::reset);
    }
}

impl Minute {
    /// Place of the cell where an entry counts.
    fn cell(&mut self, entry: &Entry<'_>, (device, configured): Owner, limits: &Limits) -> usize {
        let Self { devices, pool, places, cells, .. } = self;
        let pool = (!configured).then_some(pool);
        let new = |key| {
            cells.push(Cell { device, key, sum: None, epoch: None });
            cells.len() - 1
        };
        *devices.entry(device).or_default().of(entry, limits, pool, places, new)
    }

    /// Rows that have something to be folded.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Cell, &Row)> {
        self.cells.iter().filter_map(|cell| Some((cell, cell.sum.as_ref()?)))
    }

    /// Writes the touched cells into a record.
    fn describe(&self, touched: &[usize], record: &mut Record) {
        let mut places = HashMap::<PlaceId, u32>::new();
        let mut protocols = HashMap::new();
        record.rows.reserve_exact(touched.len());
        for cell in touched {
            let Cell { device, key, epoch: Some(row), .. } = &self.cells[*cell] else { continue };
            let place = *places.entry(key.place).or_insert_with(|| {
                record.places.push(self.places.get(key.place).into());
                u32::try_from(record.places.len() - 1).unwrap_or(u32::MAX)
            });
            let protocol = *protocols.entry(key.protocol).or_insert_with(|| {
                record.protocols.push(key.protocol.to_string());
                u16::try_from(record.protocols.len() - 1).unwrap_or(u16::MAX)
            });
            record.rows.push(RecordRow {
                device: *device,
                place,
                protocol,
                far: key.far.map(|far| (far.address, far.port, far.vlan)),
                traffic: row.traffic,
                first: row.contact.first,
            });
        }
    }

    fn reset(&mut self) {
        for cell in &mut self.cells {
            cell.sum = None;
        }
        self.balance = Balance::default();
        self.events.clear();
        self.interfaces.clear();
    }
}

impl Cell {
    fn accept(&mut self) {
        let Some(row) = self.epoch.take() else { return };
        match &mut self.sum {
            Some(sum) => {
                sum.traffic.merge(&row.traffic);
                sum.contact.merge(&row.contact);
            }
            None => self.sum = Some(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixture;

    /// Else each epoch of an earlier time would be folded by itself.
    #[test]
    fn after_a_fold_the_minute_of_the_last_epoch_goes_on() {
        let mut pending = Pending::new([]);
        let mut minutes = |second: u64| {
            let mut record = fixture::record(1, Vec::new());
            record.ended = (1000 * MINUTE + second) * NANOS;
            let owner = |_| (1, true);
            let draft = pending.draft(&record, Databases::default(), &Limits::default(), owner);
            pending.accept(&draft);
            let minutes = pending.minutes().count();
            if minutes > 1 {
                pending.folded();
            }
            minutes
        };
        // Forth, and after the clock was set back.
        let counts = [0, 600, 601, 0, 1, 2].map(&mut minutes);
        assert_eq!(counts, [1, 2, 1, 2, 1, 1]);
    }
}
