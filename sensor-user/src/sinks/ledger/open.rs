//! Opening a ledger and going on from what it holds, and beginning another where it turns out to be damaged.

use std::{
    collections::HashMap,
    mem,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    Ledger, LedgerError, Restored, Trouble,
    captures::{Kind, holds},
    file,
    pending::Pending,
    proof::Proof,
    restore,
    retention::Aging,
};
use crate::{
    lock::LockFile,
    model::{DeviceId, DeviceInfo, DeviceKind},
    state::Limits,
};

/// A ledger that was opened, what it holds, and where a damaged one was put out of its way.
pub type Opened = (Ledger, Restored, Option<PathBuf>);

impl Ledger {
    /// Opens a file, making it where it is missing, and reads what the sensor goes on from. A damaged file
    /// is set aside, never deleted; where it then is comes last.
    ///
    /// # Errors
    ///
    /// When the file can't be opened or made, is another program's or version's, or has captures.
    pub fn open(path: &Path) -> Result<Opened, LedgerError> {
        let mut lock = Some(file::lock(path)?);
        let mut attempt = || {
            let connection = file::open(path)?;
            if holds(&connection, Kind::Captures)? {
                return Err(LedgerError::OfCaptures);
            }
            Self::with(path, connection, &mut lock)
        };
        match attempt() {
            Err(error)
                if error.trouble() == Trouble::Damaged
                    && !matches!(error, LedgerError::NotOurs) =>
            {
                let aside = file::set_aside(path)
                    .map_err(|error| LedgerError::Open { path: path.to_owned(), error })?;
                attempt().map(|(ledger, restored)| (ledger, restored, Some(aside)))
            }
            opened => opened.map(|(ledger, restored)| (ledger, restored, None)),
        }
    }

    /// Reads what an open file holds.
    pub(super) fn with(
        path: &Path,
        connection: Connection,
        lock: &mut Option<LockFile>,
    ) -> Result<(Self, Restored), LedgerError> {
        let mut restored = restore::read(&connection)?;
        let lock = lock.take().ok_or(LedgerError::InUse)?;
        let ledger = Self {
            path: path.to_owned(),
            connection,
            pending: Pending::new(restored.folded_interfaces.clone()),
            devices: HashMap::new(),
            alerts: restored.alerts.iter().map(|alert| alert.id).enumerate().collect(),
            recorded: restored.recorded,
            unsaved: HashMap::new(),
            trusted: restored.trusted(),
            born: restored.born,
            aging: Aging::default(),
            proof: mem::take(&mut restored.proof),
            _lock: lock,
        };
        Ok((ledger, restored))
    }

    /// Notes what the ledger calls a device that it knows from before.
    pub fn know(&mut self, id: i64, info: &DeviceInfo) {
        self.devices.insert(info.id, (id, info.clone()));
    }

    /// Sets the file aside, which is damaged, and goes on with a new one. What was counted so far is in the old
    /// one; the sums of the state are in both.
    pub(super) fn begin_anew(&mut self) {
        match self.exchange_file() {
            Ok(aside) => {
                let (path, aside) = (self.path.display(), aside.display());
                tracing::error!(%path, %aside, "the ledger is damaged; it was set aside, and a new one begun");
            }
            Err(error) => tracing::error!(%error, "the ledger is damaged and can't be set aside"),
        }
    }

    fn exchange_file(&mut self) -> Result<PathBuf, LedgerError> {
        let unopened = |error| LedgerError::Open { path: self.path.clone(), error };
        let aside = file::set_aside(&self.path).map_err(unopened)?;
        self.connection = file::open(&self.path)?;
        // The sums of the state go on, and are not in this one.
        self.proof = Proof::begun_later(&self.connection)?;
        // Committed there, and never to be folded here.
        self.pending = Pending::new(self.pending.interfaces());
        self.devices.clear();
        self.alerts.clear();
        self.recorded = 0;
        Ok(aside)
    }

    /// Goes on with epochs that were committed and not folded before this process began, under the numbers that the
    /// ledger gave their devices.
    pub(crate) fn replay(
        &mut self,
        restored: &Restored,
        limits: &Limits,
    ) -> Result<(), LedgerError> {
        let is_configured = |id| {
            let known = restored.devices.iter().find(|device| device.id == id);
            known.is_some_and(|device| device.kind == Some(DeviceKind::Configured))
        };
        for (epoch, databases) in restored.epochs(DeviceId::of_ledger)? {
            let owner = |id: DeviceId| (i64::from(id.0), is_configured(i64::from(id.0)));
            self.pending.replay(&epoch, databases, limits, owner);
            self.proof.count(&epoch.books);
        }
        Ok(())
    }
}
