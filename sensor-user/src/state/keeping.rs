//! How the ledger is doing.

use std::{collections::BTreeMap, path::PathBuf};

/// The ledger, as metrics and readiness show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// The file.
    pub path: PathBuf,
    /// Why it can't be written now: the kind of trouble, and what was said.
    pub trouble: Option<(&'static str, String)>,
    /// Epochs committed by this process.
    pub commits: u64,
    /// Attempts that failed, by the kind of trouble.
    pub failures: BTreeMap<&'static str, u64>,
    /// End of the last epoch that was committed, Unix time in nanoseconds; 0 for none.
    pub last: u64,
    /// Its size with its write-ahead log, in bytes.
    pub size: u64,
}
