//! Ledgers of captures: who may write one, and what of a capture is in it.
//!
//! A capture takes the place of a flow table. What is random there is made of its first packet here; the number of the
//! epoch is that of its packets so far; and instead of the boot there are the words `capture` and the SHA-256 of these
//! packets, in lower-case hex.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{Identity, Ledger, LedgerError, Restored, Trouble, file, uint};
use crate::model::InterfaceCounters;

/// Stands before the digest.
const CAPTURE: &str = "capture ";

/// What of a capture is in a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCapture {
    /// So many packets from its beginning on.
    pub packets: u64,
    /// Their digest.
    pub digest: String,
}

impl Identity {
    /// Of a capture up to a packet.
    pub fn of_capture(table: [u64; 2], KnownCapture { packets, digest }: &KnownCapture) -> Self {
        Self { boot: format!("{CAPTURE}{digest}"), table, epoch: *packets }
    }
}

impl Ledger {
    /// Opens a file for captures, making it where it is missing, and reads what it has. A damaged one stays as it is.
    /// Nobody else can open it from here on.
    ///
    /// # Errors
    ///
    /// When the file can't be opened or made, is none of ours, in use, or a sensor's.
    pub fn open_for_captures(path: &Path) -> Result<(Self, Restored), LedgerError> {
        let mut lock = Some(file::lock(path)?);
        let opened = file::open(path).and_then(|mut connection| {
            take(&mut connection)?;
            if holds(&connection, Kind::Sensor)? {
                return Err(LedgerError::OfSensor);
            }
            Self::with(path, connection, &mut lock)
        });
        opened.map_err(|error| match error.trouble() {
            Trouble::Busy => LedgerError::InUse,
            _ => error,
        })
    }

    /// What it has of a capture, by the number that was made of its first packet.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub fn capture(&self, table: [u64; 2]) -> Result<Option<KnownCapture>, LedgerError> {
        let id = Identity { table, ..Identity::default() }.table_octets();
        let mut query =
            self.connection.prepare_cached("SELECT epoch, boot FROM flow_table WHERE id = ?1")?;
        let known = query.query_row([id], |row| {
            let boot: String = row.get(1)?;
            let digest = boot.strip_prefix(CAPTURE).unwrap_or_default().to_owned();
            Ok(KnownCapture { packets: row.get(0).map(uint)?, digest })
        });
        Ok(known.optional()?)
    }

    /// The interfaces' own counters as of the last epoch.
    pub fn interfaces(&self) -> Vec<InterfaceCounters> {
        self.pending.interfaces()
    }
}

/// Who has counted into a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sensor,
    Captures,
}

/// Whether a ledger has something that was counted in this way.
pub(super) fn holds(connection: &Connection, kind: Kind) -> Result<bool, LedgerError> {
    let query = "SELECT EXISTS (SELECT 1 FROM flow_table WHERE (boot GLOB ?1) = ?2)";
    let parameters = (format!("{CAPTURE}*"), kind == Kind::Captures);
    Ok(connection.query_row(query, parameters, |row| row.get(0))?)
}

/// Keeps others from opening the file, until it is closed. SQLite holds a lock for as long as a file is open, so there is
/// none to be had while a sensor runs.
fn take(connection: &mut Connection) -> Result<(), LedgerError> {
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // That takes the lock.
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?.commit()?)
}
