//! The files that the configuration names: whether a sensor could use them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::Findings;
use crate::config::Config;

/// Looks at the ledger's place and at the lease files.
pub(super) fn report(config: &Config, findings: &mut Findings) {
    if let Some(ledger) = &config.ledger
        && let Err(reason) = ledger_place(ledger)
    {
        findings.problem(format!("the ledger can't be {}: {reason}", ledger.display()));
    }
    for file in &config.leases {
        if let Err(reason) = lease_file(file) {
            findings.warning(format!(
                "no host names would come from the leases in {}: {reason}",
                file.display()
            ));
        }
    }
}

/// A regular file, or a place where one can be made with the directories that lack.
fn ledger_place(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(file) if file.is_dir() => {
            return Err("it is a directory; name a file in it".to_owned());
        }
        Ok(file) if !file.is_file() => return Err("it is no regular file".to_owned()),
        Ok(_) => return usable(path, AccessFlags::R_OK | AccessFlags::W_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
    }
    let there = existing_directory(path);
    match fs::metadata(&there) {
        Ok(directory) if directory.is_dir() => {
            usable(&there, AccessFlags::W_OK | AccessFlags::X_OK)
        }
        Ok(_) => Err(format!("{} is no directory", there.display())),
        Err(error) => Err(format!("{}: {error}", there.display())),
    }
}

/// The nearest one above a file that is there.
fn existing_directory(path: &Path) -> PathBuf {
    let mut above = path
        .ancestors()
        .skip(1)
        .map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    above.find(|above| above.symlink_metadata().is_ok()).unwrap_or(Path::new(".")).into()
}

fn usable(path: &Path, how: AccessFlags) -> Result<(), String> {
    access(path, how).map_err(|error| format!("{}: {}", path.display(), error.desc()))
}

fn lease_file(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(file) if file.is_file() => usable(path, AccessFlags::R_OK),
        Ok(_) => Err("it is no regular file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_a_file_or_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        assert_eq!(ledger_place(&path("file")), Ok(()));
        assert_eq!(ledger_place(&path("new")), Ok(()));
        assert_eq!(ledger_place(&path("a/b/new")), Ok(()));
        assert!(ledger_place(directory.path()).unwrap_err().contains("it is a directory"));
        assert!(ledger_place(&path("file/new")).is_err());
        assert!(ledger_place(Path::new("/dev/null")).unwrap_err().contains("no regular file"));
        assert!(
            ledger_place(Path::new("/proc/labgate/ledger.db")).is_err()
                || access("/proc", AccessFlags::W_OK).is_ok()
        );
    }

    #[test]
    fn a_lease_file_is_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dnsmasq.leases");
        assert!(lease_file(&file).is_err());
        fs::write(&file, "").unwrap();
        assert_eq!(lease_file(&file), Ok(()));
        assert!(lease_file(directory.path()).unwrap_err().contains("no regular file"));
    }
}
