//! The file: opened, made where it is missing, set aside where it is damaged.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags};

use super::{LedgerError, schema};

/// Of the directory of a new file.
const DIRECTORY_MODE: u32 = 0o755;
/// What is added to the name of a damaged file, before a number.
const SET_ASIDE: &str = ".damaged-";
/// For a query or a backup that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// The write-ahead log is cut back to this after a checkpoint.
const WAL_BYTES: i64 = 64 << 20;
/// Pages that are kept in memory, in KiB.
const CACHE_KIB: i64 = 2 << 10;

/// Opens a file to write, making it where it is missing.
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
        made.map_err(|error| unopened(path, error))?;
    }
    let opened = fs::OpenOptions::new().read(true).append(true).create(true).open(path);
    drop(opened.map_err(|error| unopened(path, error))?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    schema::version(&connection)?;
    // What was freed can be given back to the file system; only a new file takes this.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // After a power loss the last commits may be missing, whole ones; never part of one.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a file to read only.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, LedgerError> {
    // Without it SQLite's own error would not say why. The file is not opened for that: closed again it would take
    // SQLite's locks from this process, which may be the sensor (fcntl(2), `F_SETLK`).
    access(path, AccessFlags::R_OK).map_err(|error| unopened(path, error.into()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    match schema::version(&connection)? {
        0 => Err(LedgerError::NotOurs),
        _ => Ok(connection),
    }
}

/// Damaged files that were moved out of the way of this one.
pub(super) fn all_set_aside(path: &Path) -> Vec<String> {
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else {
        return Vec::new();
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let prefix = format!("{}{SET_ASIDE}", name.to_string_lossy());
    // What can't be listed can't be told.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort_unstable();
    found
}

/// Moves a damaged file and what belongs to it out of the way.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = (1..).map(|n| with(path, &format!("{SET_ASIDE}{n}"))).find(|path| !path.exists());
    let aside = free.unwrap_or_else(|| with(path, SET_ASIDE));
    for suffix in ["-wal", "-shm"] {
        match fs::rename(with(path, suffix), with(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn unopened(path: &Path, error: io::Error) -> LedgerError {
    LedgerError::Open { path: path.to_owned(), error }
}
