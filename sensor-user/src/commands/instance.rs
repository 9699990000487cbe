//! One sensor per network namespace.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use crate::lock::{LockError, LockFile};

/// Where the locks lie, one for each network namespace; the service manager or root makes it.
const DIRECTORY: &str = "/run/labgate";
/// Others may see which locks there are, and take none.
const MODE: u32 = 0o755;
/// Who may write there.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The network namespace of this thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The lock.
#[derive(Debug)]
pub(super) struct Instance(#[expect(dead_code, reason = "held for its drop")] LockFile);

/// Why the lock can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstanceError {
    /// It is held.
    #[error("another labgate runs in this network namespace; stop it first")]
    Running,
    /// Something else.
    #[error(
        "can't take the lock of this network namespace, {path}: {error}; run this as root, or make {DIRECTORY} a directory \
         of this user (`RuntimeDirectory=labgate` in a unit)"
    )]
    Other {
        /// The lock.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
}

impl Instance {
    /// Takes the lock. Where this user may not take it in the common place, the one in the given directory counts: it
    /// keeps away a sensor of the same state.
    pub(super) fn lock(state_dir: Option<&Path>) -> Result<Self, InstanceError> {
        let common = in_directory(Path::new(DIRECTORY));
        match (take(&common), state_dir) {
            (Err(LockError::Io(error)), Some(state_dir)) if !geteuid().is_root() => {
                tracing::warn!(
                    %error,
                    "can't use {}: a sensor of another user in this network namespace is not noticed",
                    common.display()
                );
                let path = in_directory(state_dir);
                take(&path).map_err(|error| InstanceError::of(path, error))
            }
            (taken, _) => taken.map_err(|error| InstanceError::of(common, error)),
        }
        .map(Self)
    }

    /// Whether a sensor runs in this network namespace, as far as the kernel tells.
    pub(super) fn is_held() -> bool {
        LockFile::is_held(&in_directory(Path::new(DIRECTORY)))
    }
}

impl InstanceError {
    fn of(path: PathBuf, error: LockError) -> Self {
        match error {
            LockError::Held => Self::Running,
            LockError::Io(error) => Self::Other { path, error },
        }
    }
}

fn in_directory(directory: &Path) -> PathBuf {
    let namespace = fs::metadata(NAMESPACE).map_or(0, |namespace| namespace.ino());
    directory.join(format!("net-{namespace}.lock"))
}

/// Only root and this user may be able to take the lock, or to remove it.
fn take(path: &Path) -> Result<LockFile, LockError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(MODE).create(directory)?;
    let made = fs::symlink_metadata(directory)?;
    let is_trusted = geteuid().is_root() || made.uid() == geteuid().as_raw();
    if !made.is_dir() || !is_trusted || made.mode() & WRITABLE_BY_OTHERS != 0 {
        let path = directory.display();
        return Err(io::Error::other(format!(
            "{path} is no directory that only its owner may write"
        ))
        .into());
    }
    LockFile::take(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    };

    use super::*;

    #[test]
    fn a_lock_that_others_could_take_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("labgate");
        let path = in_directory(&locks);
        let lock = take(&path).unwrap();
        assert!(matches!(take(&path), Err(LockError::Held)));
        drop(lock);
        fs::set_permissions(&locks, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(take(&path), Err(LockError::Io(_))));
        fs::set_permissions(&locks, fs::Permissions::from_mode(0o755)).unwrap();
        let link = directory.path().join("link");
        symlink(&locks, &link).unwrap();
        assert!(matches!(take(&in_directory(&link)), Err(LockError::Io(_))));
    }

    /// Anybody can have a name in the abstract namespace.
    #[test]
    fn a_socket_is_no_lock() {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
        let address = SocketAddr::from_abstract_name("labgate").unwrap();
        let _socket = UnixListener::bind_addr(&address);
        let directory = tempfile::tempdir().unwrap();
        take(&in_directory(&directory.path().join("labgate"))).unwrap();
    }
}
