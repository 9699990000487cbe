//! A lock that is a file: only who may write its directory can take it, and it outlives no process.
//!
//! It is one of `flock(2)`, which belongs to this one opening of the file. SQLite's own locks (`fcntl(2)`) end when the process
//! closes any descriptor of the locked file, so this is never a file that SQLite knows.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use crate::files::{PRIVATE_FILE, make_private, require_regular};

/// Somebody who gives the lock up removes the file, maybe after we opened it: then it is opened again.
const ATTEMPTS: usize = 100;

/// Held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process has it")]
    Held,
    /// The file can't be made, opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LockFile {
    /// Takes the lock, or says at once that another process has it. The file is the owner's of the directory, also where
    /// root makes it, and nobody else may open it.
    ///
    /// # Errors
    ///
    /// When it is held, or the file can't be had.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        for _ in 0..ATTEMPTS {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(PRIVATE_FILE).custom_flags(flags);
            let file = options.open(path)?;
            require_regular(file.metadata()?.file_type())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            if is_at(&file, path)? {
                make_private(&file)?;
                give_to_owner_of_directory(&file, path)?;
                return Ok(Self { file, path: path.to_owned() });
            }
        }
        Err(LockError::Held)
    }

    /// Whether some process has the lock, as far as the kernel shows locks (proc_locks(5)); takes nothing.
    pub fn is_held(path: &Path) -> bool {
        let Ok(metadata) = fs::symlink_metadata(path) else { return false };
        let inode = format!(":{}", metadata.ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.any(|word| word == "FLOCK") && words.any(|word| word.ends_with(&inode))
        })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While the lock is held nobody else can have taken this file for theirs.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            // It is worth nothing, and the next one does without its removal.
            let _left = fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The service's user must be able to take what root has left.
fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let owner = fs::metadata(directory.unwrap_or(Path::new(".")))?;
    let own = file.metadata()?;
    if geteuid().is_root() && (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(!LockFile::is_held(&path));
        let lock = LockFile::take(&path).unwrap();
        assert!(matches!(LockFile::take(&path), Err(LockError::Held)));
        assert!(LockFile::is_held(&path));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(lock);
        assert!(!path.exists());
        // What a killed process leaves is no lock, and what everybody may open no longer is.
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!LockFile::is_held(&path));
        let _lock = LockFile::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_replaced_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = LockFile::take(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = LockFile::take(&path).unwrap();
        drop(first);
        assert!(matches!(LockFile::take(&path), Err(LockError::Held)));
        drop(second);
    }

    #[test]
    fn no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [path, target] = ["lock", "target"].map(|name| directory.path().join(name));
        symlink(&target, &path).unwrap();
        assert!(matches!(LockFile::take(&path), Err(LockError::Io(_))));
        assert!(!target.exists());
    }
}
