//! One writer, and nobody else's business.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_extension(format!("db{suffix}"))
}

#[test]
fn a_ledger_has_one_writer() {
    let config = config();
    let (dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    sensor.epoch(1, &config);
    sensor.fold();
    let link = dir.path().join("link.db");
    symlink(&path, &link).unwrap();
    let roundabout = dir.path().join("state/../state/ledger.db");
    for name in [&path, &link, &roundabout] {
        for opened in [Ledger::open(name).map(drop), Ledger::open_for_captures(name).map(drop)] {
            assert!(matches!(opened, Err(LedgerError::InUse)), "{opened:?}");
        }
        let purged = purge(name, "redmi").unwrap_err();
        assert!(matches!(purged, PurgeError::Ledger(LedgerError::InUse)), "{purged}");
        // Readers are no writers.
        audit(name, 0, u64::MAX).unwrap();
        assert_eq!(check(name).unwrap(), Vec::<String>::new());
    }
    let copy = dir.path().join("copy.db");
    backup(&path, &copy).unwrap();
    purge(&copy, "redmi").expect("a copy is another ledger");
    drop(sensor);
    purge(&link, "redmi").unwrap();
    assert!(!beside(&path, ".lock").exists());
    drop(Ledger::open(&link).unwrap());
}

/// A name that is no ledger's stays so.
#[test]
fn what_is_not_there_is_not_purged() {
    let (dir, path) = file();
    assert!(purge(&path, "redmi").is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn all_of_a_ledger_is_its_owners_alone() {
    let config = config();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/ledger.db");
    let all = |path: &Path| ["", "-wal", "-shm", ".lock"].map(|suffix| mode(&beside(path, suffix)));
    let mut sensor = Sensor::start(&path, &config);
    sensor.epoch(1, &config);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(all(&path), [0o600; 4]);
    let copy = dir.path().join("copy.db");
    backup(&path, &copy).unwrap();
    assert_eq!(mode(&copy), 0o600);
    let error = backup(&path, &copy).unwrap_err().to_string();
    assert!(error.ends_with("copy.db is there already; name a file that is not"), "{error}");
    // As an earlier version left them after a kill.
    std::mem::forget(sensor);
    let [old, wal, shm] = ["", "-wal", "-shm"].map(|suffix| {
        let from = beside(&path, suffix);
        let to = beside(&dir.path().join("old.db"), suffix);
        fs::copy(&from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
        to
    });
    let (ledger, ..) = Ledger::open(&old).unwrap();
    assert_eq!([&old, &wal, &shm].map(|path| mode(path)), [0o600; 3]);
    drop(ledger);
}
