//! The tables, their version, and how an older file becomes a newer one.
//!
//! The schema is open: what it means is written in docs/LEDGER.md, and any SQLite reads it. Times are Unix
//! seconds where a column is called `start`, else Unix nanoseconds. Sums are packets and bytes as in the
//! common JSON form; `tx` is what the device sent.

use rusqlite::Connection;

use super::LedgerError;

/// Tells our files from other SQLite databases: `LGat`.
pub(super) const APPLICATION: i32 = 0x4c47_6174;
/// Version of the tables; each has a step in [`STEPS`].
pub(super) const VERSION: i32 = 1;

/// From one version to the next; the first makes the tables.
const STEPS: [&str; 1] = [include_str!("schema/1.sql")];

/// Brings a file to this version, whole or not at all.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), LedgerError> {
    let transaction = connection.transaction()?;
    let version = version(&transaction)?;
    if version < VERSION {
        let from = usize::try_from(version).unwrap_or(0);
        for step in &STEPS[from..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(transaction.commit()?)
}

/// The version of a file of ours; 0 of an empty one.
///
/// # Errors
///
/// Where it is another program's, or a newer LabGate's.
pub(super) fn version(connection: &Connection) -> Result<i32, LedgerError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(0),
        (APPLICATION, 1..=VERSION, _) => Ok(version),
        (APPLICATION, newer, _) if newer > VERSION => Err(LedgerError::Newer(newer)),
        _ => Err(LedgerError::NotOurs),
    }
}
