//! What outlives the process: maps and links, as files of the BPF file system.
//!
//! ```text
//! /sys/fs/bpf/labgate/net-4026531840     one directory for each network namespace, by its inode number
//!     table-0f3c...                      one for each table, by its random number
//!         state coarse devices strangers
//!     link-3-xdp link-3-egress           by the interface's index
//! ```

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::namespaces;

/// Where it is mounted, as systemd and the kernel's documentation have it.
const BPFFS: &str = "/sys/fs/bpf";
/// Where the pins are unless the command line says otherwise.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/labgate";
/// The network namespace of this thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";
const DIRECTORY: &str = "net-";
const TABLE: &str = "table-";
const LINK: &str = "link-";

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// Another sensor holds the lock.
    #[error("another labgate runs in this network namespace; stop it first")]
    Running,
    /// There is no BPF file system, or it may not be written.
    #[error("{path}: {error}")]
    Unavailable {
        /// What was tried.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// The directory of this network namespace, locked for this process.
#[derive(Debug)]
pub struct Pins {
    directory: PathBuf,
    /// Held until the process ends, however it ends.
    _lock: File,
}

/// A hook of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Xdp,
    Ingress,
    Egress,
}

impl Pins {
    /// Makes and locks the directory of this network namespace below `base`.
    ///
    /// # Errors
    ///
    /// When another sensor has it, or there is no BPF file system to be written.
    pub fn open(base: &Path) -> Result<Self, PinsError> {
        let unavailable = |path: &Path| {
            let path = path.to_owned();
            move |error| PinsError::Unavailable { path, error }
        };
        mount_bpffs(base).map_err(unavailable(base))?;
        let namespace = fs::metadata(NAMESPACE).map_err(unavailable(Path::new(NAMESPACE)))?.ino();
        let directory = base.join(format!("{DIRECTORY}{namespace}"));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(base).map_err(unavailable(base))?;
        // One at a time: a new namespace may have the number of one whose directory is being swept.
        let everyone = File::open(base).map_err(unavailable(base))?;
        everyone.lock().map_err(unavailable(base))?;
        builder.create(&directory).map_err(unavailable(&directory))?;
        let filesystem = statfs(&directory).map_err(io::Error::from);
        if filesystem.map_err(unavailable(&directory))?.filesystem_type() != BPF_FS_MAGIC {
            let error = io::Error::other("no BPF file system is mounted there");
            return Err(PinsError::Unavailable { path: directory, error });
        }
        let lock = File::open(&directory).map_err(unavailable(&directory))?;
        match lock.try_lock() {
            Ok(()) => {
                sweep(base, &directory);
                Ok(Self { directory, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(PinsError::Running),
            Err(TryLockError::Error(error)) => {
                Err(PinsError::Unavailable { path: directory, error })
            }
        }
    }

    /// The directories of the tables that there are.
    pub(super) fn tables(&self) -> Vec<PathBuf> {
        self.entries(TABLE)
    }

    /// The directory of a table, made now.
    pub(super) fn new_table(&self, id: [u64; 2]) -> io::Result<PathBuf> {
        let directory = self.directory.join(format!("{TABLE}{:016x}{:016x}", id[0], id[1]));
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(directory)
    }

    /// Where a link is pinned.
    pub(super) fn link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        let hook = match hook {
            Hook::Xdp => "xdp",
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        };
        self.directory.join(format!("{LINK}{ifindex}-{hook}"))
    }

    /// Detaches programs from all hooks but these.
    pub(super) fn keep_links(&self, keep: &[PathBuf]) {
        for link in self.entries(LINK).iter().filter(|link| !keep.contains(link)) {
            remove(link);
        }
    }

    /// Detaches everything and gives up the tables, with what they hold; says how many links there were.
    pub fn remove_all(&self) -> usize {
        let links = self.entries(LINK);
        for link in &links {
            remove(link);
        }
        for table in self.tables() {
            remove_table(&table);
        }
        links.len()
    }

    fn entries(&self, prefix: &str) -> Vec<PathBuf> {
        entries(&self.directory, prefix)
    }
}

fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_ours = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let mut found: Vec<_> = names.filter(is_ours).collect();
    found.sort();
    found
}

/// Removes the directories of namespaces that nobody can enter any more: what was counted there can't be
/// read by a sensor, and another namespace may get the number.
fn sweep(base: &Path, own: &Path) {
    let others = entries(base, DIRECTORY).into_iter().filter(|directory| directory != own);
    let others: Vec<_> = others.collect();
    // Looked at afterwards: one that begins meanwhile is among them.
    let Some(enterable) = (!others.is_empty()).then(namespaces::enterable).flatten() else {
        return;
    };
    for directory in others {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(DIRECTORY).and_then(|number| number.parse().ok());
        if number.is_some_and(|number| !enterable.contains(&number)) {
            match remove_namespace(&directory) {
                Ok(true) => tracing::warn!(
                    pins = %directory.display(),
                    "removed the tables of a network namespace that is gone; what they still held is lost"
                ),
                // Whoever made the namespace has cleared up.
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(pins = %directory.display(), %error, "can't remove old pins");
                }
            }
        }
    }
}

/// Removes what a sensor pinned in a network namespace; says whether there was anything.
fn remove_namespace(directory: &Path) -> io::Result<bool> {
    for table in entries(directory, TABLE) {
        remove_table(&table);
    }
    for link in entries(directory, LINK) {
        remove(&link);
    }
    was_there(fs::remove_dir(directory))
}

/// Removes a pin; what nobody else holds ends with it.
pub(super) fn remove(pin: &Path) {
    if let Err(error) = was_there(fs::remove_file(pin)) {
        tracing::error!(pin = %pin.display(), %error, "can't remove a pin");
    }
}

/// Removes a table's directory.
pub(super) fn remove_table(directory: &Path) {
    if let Ok(entries) = fs::read_dir(directory) {
        for entry in entries.flatten() {
            remove(&entry.path());
        }
    }
    if let Err(error) = was_there(fs::remove_dir(directory)) {
        tracing::error!(table = %directory.display(), %error, "can't remove a table's pins");
    }
}

/// What somebody else has removed is gone as well.
fn was_there(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Systemd mounts it, other init systems may not.
fn mount_bpffs(base: &Path) -> io::Result<()> {
    if !base.starts_with(BPFFS) || statfs(BPFFS)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    Ok(mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_removed_is_no_error() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("net-1");
        fs::create_dir_all(directory.join("table-1")).unwrap();
        assert!(remove_namespace(&directory).unwrap());
        assert!(!remove_namespace(&directory).unwrap());
    }
}
