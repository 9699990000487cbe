//! What is done to a file as a whole: copied, checked, or rid of a device.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::{LedgerError, columns::SUMS, file, proof, restore, schema};
use crate::files::PRIVATE_FILE;

/// Copies a ledger as it is at this moment; a sensor may be writing it. The copy is compact, and its owner's alone.
///
/// # Errors
///
/// When the ledger can't be read, or there is a file of the copy's name, or it can't be written.
pub fn backup(path: &Path, to: &Path) -> Result<(), LedgerError> {
    let connection = file::open_to_read(path)?;
    // SQLite writes into a file that is there and empty, whatever its mode.
    let made = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(to);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => LedgerError::Exists(to.to_owned()),
        _ => LedgerError::Copy { path: to.to_owned(), error },
    })?;
    let copied = connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]);
    if copied.is_err() {
        // It is ours, and worth nothing.
        let _left = fs::remove_file(to);
    }
    copied?;
    Ok(())
}

/// What is wrong with a ledger; nothing, if all is well: SQLite's own checks, and that packets add up to the same
/// number in every table that has all of them.
///
/// # Errors
///
/// When the file can't be read at all.
pub fn check(path: &Path) -> Result<Vec<String>, LedgerError> {
    let mut connection = file::open_to_read(path)?;
    let connection = connection.transaction()?;
    let mut faults: Vec<String> = connection
        .prepare("PRAGMA integrity_check(20)")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    faults.retain(|fault| fault != "ok");
    let orphans: i64 =
        connection
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
    if orphans > 0 {
        faults.push(format!("{orphans} rows belong to a device or place that is not there"));
    }
    for record in restore::records(&connection)?.0 {
        restore::epoch(&record, crate::model::DeviceId::of_ledger)?;
    }
    if let Some(saved) = restore::state(&connection)? {
        faults.extend(proof::check(&connection, saved.books())?);
    }
    for what in ["packets", "bytes"] {
        let sum = |sql: String| connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        let flows = sum(format!("SELECT coalesce(sum(tx_{what} + rx_{what}), 0) FROM flow"))?;
        let seen = sum(format!("SELECT coalesce(sum(seen_{what}), 0) FROM balance"))?;
        let levels = sum(format!(
            "SELECT coalesce(sum(attributed_{what} + coarse_{what} + overflow_{what} + unparsed_{what}), 0)
             FROM balance"
        ))?;
        if seen != levels {
            faults.push(format!("{seen} {what} were seen, and {levels} counted"));
        }
        if flows != seen {
            faults.push(format!("the flows have {flows} {what}, the balance {seen}"));
        }
    }
    Ok(faults)
}

/// Removes everything that tells what a device did, by its name or MAC address; what remains is how much all
/// that were purged sent and received together. Says how many devices there were of that name.
///
/// # Errors
///
/// When another process has the ledger open to write, a sensor has left epochs that are not folded, which may be of that device, or the file can't be written.
pub fn purge(path: &Path, device: &str) -> Result<usize, PurgeError> {
    // A slip of the pen makes no ledger.
    drop(file::open_to_read(path)?);
    let _lock = file::lock(path)?;
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(LedgerError::from)?;
    schema::version(&connection)?;
    let transaction = connection.transaction().map_err(LedgerError::from)?;
    let unfolded: i64 = transaction
        .query_row("SELECT count(*) FROM epoch", [], |row| row.get(0))
        .map_err(LedgerError::from)?;
    if unfolded > 0 {
        return Err(PurgeError::Unfolded);
    }
    let purged = purge_in(&transaction, device)?;
    transaction.commit().map_err(LedgerError::from)?;
    // What was removed is not to lie around in free pages.
    connection
        .execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        .map_err(LedgerError::from)?;
    Ok(purged)
}

/// Why a device can't be purged.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// There are records.
    #[error(
        "the sensor was killed before it had put its last epochs into the tables; start it once and stop it with \
         Ctrl-C or SIGTERM"
    )]
    Unfolded,
    /// The file.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn purge_in(connection: &Connection, device: &str) -> Result<usize, LedgerError> {
    let devices: Vec<i64> = connection
        .prepare(
            "SELECT id FROM device WHERE kind IN ('configured', 'unknown')
             AND (name = ?1 OR instr(',' || macs || ',', ',' || lower(?1) || ',') > 0)",
        )?
        .query_map([device], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if devices.is_empty() {
        return Ok(0);
    }
    let everyone = everyone_purged(connection)?;
    let theirs = |sum| {
        format!("{sum} = {sum} + (SELECT coalesce(sum({sum}), 0) FROM flow WHERE device = ?1)")
    };
    let moved = SUMS.map(theirs).join(", ");
    for device in &devices {
        connection
            .execute(&format!("UPDATE flow SET {moved} WHERE id = ?2"), [*device, everyone])?;
        for table in ["minute", "hour", "alert", "flow"] {
            connection.execute(&format!("DELETE FROM {table} WHERE device = ?1"), [device])?;
        }
        connection.execute("DELETE FROM device WHERE id = ?1", [device])?;
    }
    connection.execute("DELETE FROM place WHERE id NOT IN (SELECT place FROM flow)", [])?;
    Ok(devices.len())
}

/// The one flow of all devices that were purged, made where it is missing.
fn everyone_purged(connection: &Connection) -> Result<i64, LedgerError> {
    let known = "SELECT flow.id FROM flow JOIN device ON device.id = flow.device
                 WHERE device.kind = 'purged'";
    if let Some(id) = connection.query_row(known, [], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    connection.execute(
        "INSERT INTO device (name, macs, vendor, device_group, kind)
         VALUES ('(purged devices)', '', '', '', 'purged')",
        [],
    )?;
    let device = connection.last_insert_rowid();
    connection.execute("INSERT INTO place VALUES (NULL, 'ZZ', 0, '', '', '', 0, 0)", [])?;
    let place = connection.last_insert_rowid();
    connection.execute(
        "INSERT INTO flow VALUES (NULL, ?1, ?2, 'unknown', 0, '', 0, -1, 0, 0, 0, 0, 0, 0, 0, 0)",
        params![device, place],
    )?;
    Ok(connection.last_insert_rowid())
}
