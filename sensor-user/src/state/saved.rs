//! What outlasts the sensor of a state: sums, and which label sets the metrics have.
//!
//! Rows are not in here: the ledger has them in tables of its own. A state that was saved after one epoch
//! and applies those after it is the state that was lost.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Alert, DeviceState, Entry, Expirations, FarEnd, FoldedRows, Row, Series, State, Traffic, budget,
};
use crate::model::{
    Attribution, DeviceId, DeviceInfo, DeviceKind, EpochBooks, InterfaceCounters, Protocol,
    event_name,
};

/// Everything but the devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedState {
    books: EpochBooks,
    open_epochs: u64,
    ended: u64,
    since: u64,
    outcomes: Vec<(String, u64)>,
    interfaces: Vec<InterfaceCounters>,
    operators: BTreeMap<u32, String>,
    others: Series,
    pooled: Traffic,
    expirations: Expirations,
    looked: u64,
}

/// One device's label sets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedDevice {
    folded: FoldedRows,
    series: Option<Box<Series>>,
}

/// One of a device's rows.
#[derive(Debug, Clone)]
pub(crate) struct SavedRow {
    pub(crate) attribution: Attribution,
    pub(crate) protocol: Protocol,
    pub(crate) far: Option<FarEnd>,
    pub(crate) row: Row,
}

impl SavedState {
    /// The sums of all epochs' books.
    pub const fn books(&self) -> &EpochBooks {
        &self.books
    }
}

impl State {
    /// Everything but the devices.
    pub fn save(&self) -> SavedState {
        let outcomes = self.outcomes.iter().map(|(name, count)| ((*name).to_owned(), *count));
        let operators = self.operators.iter().map(|(asn, name)| (*asn, name.to_string()));
        SavedState {
            books: self.books,
            open_epochs: self.open_epochs,
            ended: self.ended,
            since: self.since,
            outcomes: outcomes.collect(),
            interfaces: self.interfaces.clone(),
            operators: operators.collect(),
            others: self.others.clone(),
            pooled: self.pooled,
            expirations: self.expirations,
            looked: self.looked,
        }
    }

    /// The devices that have changed since this was last asked for, or all of them.
    pub fn save_devices(&mut self, all: bool) -> Vec<(DeviceId, SavedDevice)> {
        let saved =
            self.devices.iter_mut().filter_map(|(id, device)| Some((*id, device.save(all)?)));
        saved.collect()
    }

    /// Goes on from what was saved.
    pub fn restore(&mut self, saved: SavedState) {
        self.books = saved.books;
        self.open_epochs = saved.open_epochs;
        self.ended = saved.ended;
        self.since = saved.since;
        for (outcome, count) in saved.outcomes {
            if let Some(name) = event_name(&outcome) {
                self.outcomes.insert(name, count);
            }
        }
        self.interfaces = saved.interfaces;
        self.budget.move_to(saved.operators.len() * budget::OF_INFO, false);
        self.operators =
            saved.operators.into_iter().map(|(asn, name)| (asn, Arc::from(name))).collect();
        saved.others.claim_pool(&mut self.budget);
        self.others = saved.others;
        self.pooled = saved.pooled;
        self.expirations = saved.expirations;
        self.looked = saved.looked;
    }

    /// Goes on with a device. One that is no longer told apart is restored as the pool, which takes over
    /// what was counted for it.
    pub(crate) fn restore_device(
        &mut self,
        info: &DeviceInfo,
        saved: Option<SavedDevice>,
        rows: impl Iterator<Item = SavedRow>,
    ) {
        let device = self.devices.entry(info.id).or_insert_with(|| DeviceState::new(info.clone()));
        for row in rows {
            device.restore_row(&row, &self.setup.limits, &mut self.pool, &mut self.places);
        }
        let Some(SavedDevice { folded, series }) = saved else { return };
        device.restore_folded(&folded);
        let Some(mut series) = series else { return };
        if info.kind == DeviceKind::Pool || device.series().is_some() {
            series.claim(&mut self.budget);
            self.others.absorb(&series, self.ended, &mut self.budget);
        } else {
            series.adopt(device.is_pooled(), &mut self.budget);
            device.restore_series(series);
        }
    }

    /// Sets the end of what is in here, Unix time in nanoseconds.
    pub(crate) const fn set_end(&mut self, ended: u64) {
        self.ended = ended;
    }

    /// Goes on with the alerts that were raised, oldest first.
    pub fn restore_alerts(&mut self, alerts: Vec<Alert>) {
        self.raise(alerts);
        self.alerts.join(&mut self.budget);
    }
}

impl DeviceState {
    fn save(&mut self, anyway: bool) -> Option<SavedDevice> {
        let folded = *self.folded();
        (self.take_changed() || anyway)
            .then(|| SavedDevice { folded, series: self.series().cloned().map(Box::new) })
    }
}

impl SavedRow {
    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry { attribution: &self.attribution, protocol: self.protocol, far: self.far, packets: 0 }
    }

    pub(crate) const fn traffic(&self) -> &Traffic {
        &self.row.traffic
    }
}
