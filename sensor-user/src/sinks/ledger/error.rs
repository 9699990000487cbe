//! Why the ledger can't be read or written.

use std::{io, path::PathBuf};

use rusqlite::{Error, ErrorCode, ffi};

/// What keeps the ledger from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No space left on its file system.
    Full,
    /// It may not be written.
    ReadOnly,
    /// It holds what SQLite did not write there.
    Damaged,
    /// Another process holds its lock.
    Busy,
    /// A commit has not come to its end in time.
    Slow,
    /// Anything else.
    Failed,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::ReadOnly, Self::Damaged, Self::Busy, Self::Slow, Self::Failed];

    /// The word in metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Damaged => "damaged",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::Failed => "failed",
        }
    }
}

/// Why the ledger can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file or its directory can't be made or opened.
    #[error("can't open the ledger {path}: {error}; name another file at `ledger`, or `off`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file of a copy can't be made.
    #[error("can't make {path}: {error}")]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is a file of that name already.
    #[error("{0} is there already; name a file that is not")]
    Exists(PathBuf),
    /// Another program's file.
    #[error("it is an SQLite database of another program")]
    NotOurs,
    /// A file of a later version.
    #[error("its schema is version {0}, of a newer LabGate; use that one, or name another file")]
    Newer(i32),
    /// Another process writes it, or looks at it at this moment.
    #[error(
        "another process has it open: a sensor that runs, a replay or a purge; let that end first"
    )]
    InUse,
    /// A sensor has counted into it.
    #[error(
        "it is a sensor's, which may have counted the same packets; name a new file, or one that has captures alone"
    )]
    OfSensor,
    /// A replay has counted into it.
    #[error(
        "it has captures, whose packets would be taken for the sensor's; name another file at `ledger`"
    )]
    OfCaptures,
    /// Whoever asked had no more patience.
    #[error("the answer took too long; ask for a shorter period, or for one device")]
    Stopped,
    /// What SQLite says.
    #[error("{}", said(.0))]
    Sqlite(#[source] Error),
    /// A record is not what was written.
    #[error("a record can't be decoded: {0}")]
    Record(#[from] postcard::Error),
}

impl From<Error> for LedgerError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::Stopped,
            _ => Self::Sqlite(error),
        }
    }
}

impl LedgerError {
    /// Whether time may mend it, so that a sensor begins without the file and takes it up later: a disk that is full,
    /// a lock, a file system that is not there yet. What somebody has to decide is no such thing.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Open { error, .. } => error.kind() != io::ErrorKind::IsADirectory,
            Self::Sqlite(_) => self.trouble() != Trouble::Damaged,
            _ => false,
        }
    }

    /// What kind of trouble it is.
    pub fn trouble(&self) -> Trouble {
        let code = match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            Self::Record(_) | Self::NotOurs => return Trouble::Damaged,
            Self::InUse => return Trouble::Busy,
            Self::Open { .. }
            | Self::Copy { .. }
            | Self::Exists(_)
            | Self::Newer(_)
            | Self::Stopped
            | Self::OfSensor
            | Self::OfCaptures => {
                return Trouble::Failed;
            }
        };
        match code {
            Some(ErrorCode::DiskFull) => Trouble::Full,
            Some(ErrorCode::SystemIoFailure) if matches!(self, Self::Sqlite(error) if lacks_room(error)) => {
                Trouble::Full
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Trouble::ReadOnly
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy,
            _ => Trouble::Failed,
        }
    }
}

/// Whether SQLite had no room for the memory that it shares with readers, which lies in a file, too.
fn lacks_room(error: &Error) -> bool {
    let codes = [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP];
    matches!(error, Error::SqliteFailure(error, _) if codes.contains(&error.extended_code))
}

/// What SQLite says, in words where it has a number only.
fn said(error: &Error) -> String {
    if lacks_room(error) {
        "no room for its shared memory (-shm): the file system is full".to_owned()
    } else {
        error.to_string()
    }
}
