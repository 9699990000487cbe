//! The file: read whole or not at all, written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
    },
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use super::Adopted;
use crate::files::{PRIVATE_DIRECTORY, require_regular};

/// In the state directory.
const NAME: &str = "devices.json";
/// A larger file is none of ours.
const MAX_BYTES: u64 = 4 << 20;
/// Of a new file: the sensor may run as another user than who adopts.
const MODE: u32 = 0o644;
/// How long to wait for another command that changes the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Why the file can't be read or changed; it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("can't read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{path} is damaged and is left as it is: {reason}; mend it, or move it away to begin anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses.
    #[error("can't write {path}: {error}; make `state_dir` a directory that you may write to")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Its owner can't be kept, and another one might not be able to read it.
    #[error(
        "can't write {path}: only root and user {owner}, who owns it, may; run this as one of them"
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// User ID of who owns it, or its directory.
        owner: u32,
    },
    /// Another command holds the lock.
    #[error("{directory} is locked by another labgate command; try again when it is done")]
    Locked {
        /// The state directory.
        directory: PathBuf,
    },
    /// The change itself was refused.
    #[error("{0}")]
    Refused(String),
}

/// Where adopted devices outlast the sensor.
#[derive(Debug, Clone)]
pub struct StateFile {
    directory: PathBuf,
    path: PathBuf,
}

impl StateFile {
    /// The file of a state directory. Neither has to exist.
    pub fn of(state_dir: &Path) -> Self {
        Self { directory: state_dir.to_owned(), path: state_dir.join(NAME) }
    }

    /// The file itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it; nothing where there is none.
    ///
    /// # Errors
    ///
    /// When it can't be read, or is not wholly understood.
    pub fn read(&self) -> Result<Adopted, FileError> {
        let bytes = match self.bytes() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Adopted::default()),
            bytes => {
                bytes.map_err(|error| FileError::Unreadable { path: self.path.clone(), error })?
            }
        };
        let damaged = |reason| FileError::Damaged { path: self.path.clone(), reason };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(damaged(format!("it is larger than {MAX_BYTES} bytes")));
        }
        Adopted::parse(&bytes).map_err(damaged)
    }

    /// One byte more than allowed, so that a file that is too large is seen as such.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        // Root may read here what another user has put there: no link, and no pipe to wait for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        require_regular(file.metadata()?.file_type())?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Changes what stands in it, one command at a time.
    ///
    /// # Errors
    ///
    /// When it can't be read or written, or `change` refuses; it is as before then.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Adopted) -> Result<T, String>,
    ) -> Result<T, FileError> {
        let unwritable = |error| FileError::Unwritable { path: self.path.clone(), error };
        match DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(unwritable(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        let directory = options.open(&self.directory).map_err(unwritable)?;
        self.lock(&directory)?;
        let mut adopted = self.read()?;
        let outcome = change(&mut adopted).map_err(FileError::Refused)?;
        self.write(&adopted, &directory)?;
        Ok(outcome)
    }

    /// Held until the directory is closed. The file can't bear the lock: it is replaced.
    fn lock(&self, directory: &File) -> Result<(), FileError> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_RETRY),
                Err(TryLockError::WouldBlock) => {
                    return Err(FileError::Locked { directory: self.directory.clone() });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(FileError::Unwritable { path: self.path.clone(), error });
                }
            }
        }
    }

    /// Puts a new file in the place of the old one. Whoever could read the old one can read the new
    /// one; a first one belongs to whom the directory belongs to.
    fn write(&self, adopted: &Adopted, directory: &File) -> Result<(), FileError> {
        let unwritable = |error| FileError::Unwritable { path: self.path.clone(), error };
        let json = adopted.to_json().map_err(|error| unwritable(error.into()))?;
        let (like, mode) = match fs::symlink_metadata(&self.path) {
            Ok(old) => {
                let mode = old.mode() & 0o777;
                (old, mode)
            }
            Err(_none) => (directory.metadata().map_err(unwritable)?, MODE),
        };
        let written = tempfile::Builder::new()
            .prefix(".devices-")
            .tempfile_in(&self.directory)
            .and_then(|mut new| new.write_all(&json).map(|()| new));
        let new = written.map_err(unwritable)?;
        let own = new.as_file().metadata().map_err(unwritable)?;
        let owner = like.uid();
        if (own.uid(), own.gid()) != (owner, like.gid()) {
            fchown(new.as_file(), Some(owner), Some(like.gid()))
                .map_err(|_not_root| FileError::NotOurs { path: self.path.clone(), owner })?;
        }
        let settle = || {
            new.as_file().set_permissions(Permissions::from_mode(mode))?;
            new.as_file().sync_all()
        };
        settle().map_err(unwritable)?;
        new.persist(&self.path).map_err(|error| unwritable(error.error))?;
        // The rename itself has to reach the disk, too.
        directory.sync_all().map_err(unwritable)
    }
}
