//! The bench's directory for logs, captures and configuration, and what dead owners left.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;
use tempfile::TempDir;

const PREFIX: &str = "labgate-bench-";

/// Makes the directory, named after this process, and removes those whose process is dead.
pub(super) fn create() -> Result<TempDir> {
    let parent = std::env::temp_dir();
    sweep(&parent);
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .tempdir_in(&parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))
}

/// Removes the directories of owners that were killed. A failure leaves some files, nothing worse.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        // Metadata of the entry itself: a symbolic link is not ours.
        let ours =
            entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
        if ours && entry.file_name().to_str().and_then(owner).is_some_and(is_dead) {
            let _kept: std::io::Result<()> = fs::remove_dir_all(entry.path());
        }
    }
}

/// The process ID in a directory's name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_dead(pid: u32) -> bool {
    matches!(Path::new("/proc").join(pid.to_string()).try_exists(), Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_process_are_ours() {
        assert_eq!(owner("labgate-bench-4711-x7Yz"), Some(4711));
        assert_eq!(owner("labgate-bench-x-1"), None);
        assert_eq!(owner("labgate-4711-1"), None);
        assert_eq!(owner("labgate-bench-"), None);
    }

    #[test]
    fn sweeps_the_dead_and_spares_the_living() {
        let parent = tempfile::tempdir().expect("temp dir");
        let dead = {
            let mut child = std::process::Command::new("true").spawn().expect("true");
            child.wait().expect("true ends");
            parent.path().join(format!("{PREFIX}{}-abc", child.id()))
        };
        let live = parent.path().join(format!("{PREFIX}{}-abc", std::process::id()));
        let other = parent.path().join("somebody-else");
        for dir in [&dead, &live, &other] {
            fs::create_dir(dir).expect("mkdir");
            fs::write(dir.join("log"), "x").expect("write");
        }
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(live.join("log").exists());
        assert!(other.join("log").exists());
    }
}
