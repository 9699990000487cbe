//! The file: opened, made where it is missing, set aside where it is damaged.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags};

use super::{LedgerError, schema};
use crate::{
    files::{self, PRIVATE_DIRECTORY, PRIVATE_FILE},
    lock::{LockError, LockFile},
};

/// What the lock's name ends with.
const LOCK: &str = ".lock";
/// What is added to the name of a damaged file, before a number.
const SET_ASIDE: &str = ".damaged-";
/// For a query or a backup that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// The write-ahead log is cut back to this after a checkpoint.
const WAL_BYTES: i64 = 64 << 20;
/// Pages that are kept in memory, in KiB.
const CACHE_KIB: i64 = 2 << 10;

/// The right to write a ledger: a lock on the file `.lock` beside it, by whatever name or link it was reached. SQLite's own
/// locks let two processes write in turn, and each would count what it does not know of.
///
/// Made before the file, which like all that belongs to it is its owner's alone.
pub(super) fn lock(path: &Path) -> Result<LockFile, LedgerError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(directory);
    made.map_err(|error| unopened(path, error))?;
    let resolved = resolve(path).map_err(|error| unopened(path, error))?;
    let taken = LockFile::take(&with_suffix(&resolved, LOCK)).map_err(|error| match error {
        LockError::Held => LedgerError::InUse,
        LockError::Io(error) => unopened(&with_suffix(path, LOCK), error),
    })?;
    for suffix in ["", "-wal", "-shm"] {
        let part = with_suffix(&resolved, suffix);
        match make_private(&part, suffix.is_empty()) {
            Ok(true) => {
                tracing::warn!("other users could read {}: no longer (mode 0600)", part.display());
            }
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unopened(&part, error)),
        }
    }
    Ok(taken)
}

/// Without links, whether or not the file is there.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.is_symlink() {
                return Err(io::Error::other("it is a symbolic link to nothing"));
            }
            let name = path.file_name().ok_or(error)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(fs::canonicalize(parent.unwrap_or(Path::new(".")))?.join(name))
        }
        resolved => resolved,
    }
}

/// Takes from others what they may do with a part of the ledger; the ledger itself is made where it is missing. Only with
/// the lock: nobody in this process has it open then (see [`open_to_read`]).
fn make_private(part: &Path, is_made: bool) -> io::Result<bool> {
    match fs::symlink_metadata(part) {
        Ok(there) => files::require_regular(there.file_type())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_made => {}
        Err(error) => return Err(error),
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(is_made).mode(PRIVATE_FILE).custom_flags(flags);
    let file = options.open(part)?;
    files::require_regular(file.metadata()?.file_type())?;
    match files::make_private(&file) {
        // Another user's, who lets us write it: theirs to say who else may.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        made => made,
    }
}

/// Opens a file to write, making it where it is missing, for whoever holds its [`lock`].
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    // SQLite's error would not say why it can't.
    let resolved = resolve(path).map_err(|error| unopened(path, error))?;
    if !resolved.exists() {
        make_private(&resolved, true).map_err(|error| unopened(path, error))?;
    }
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
    let kind = fs::metadata(path).map_err(|error| unopened(path, error))?.file_type();
    files::require_regular(kind).map_err(|error| unopened(path, error))?;
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
    let with = with_suffix;
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

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn unopened(path: &Path, error: io::Error) -> LedgerError {
    LedgerError::Open { path: path.to_owned(), error }
}
