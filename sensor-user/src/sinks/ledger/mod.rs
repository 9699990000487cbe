//! The ledger: an SQLite file that holds everything that was counted, each epoch exactly once.
//!
//! An epoch is committed as one record, together with its identity, in one transaction; then the kernel's
//! half may be cleared. Once in a minute the records are folded into tables, again in one transaction that
//! also removes them. So a commit costs the same however large the file has become, a minute's rows are
//! written once, and an idle epoch writes nothing.
//!
//! ```text
//! Commit -> Pending (bounded rows of the minutes under way) -> record -> epoch
//! once a minute: Pending -> flow, minute, balance, ...; the state's sums -> fact, device; epoch emptied
//! ```

mod audit;
mod captures;
mod care;
mod columns;
mod commit;
mod error;
mod file;
mod fold;
mod keeper;
mod open;
mod patience;
mod pending;
mod period;
mod proof;
mod record;
mod restore;
mod retention;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    audit::audit,
    captures::KnownCapture,
    care::{PurgeError, backup, check, purge},
    commit::{Commit, Identity, Ledger},
    error::{LedgerError, Trouble},
    fold::{SavedClock, Snapshot},
    keeper::Keeper,
    open::Opened,
    patience::{Asker, Patience},
    period::{Period, period},
    restore::{KnownDevice, Restored},
    writer::{Answer, Port, Request, Servant, Wants, Writer},
};

/// As SQLite has integers. Nothing that is counted here reaches 2^63.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back from SQLite; a negative number is none of ours.
fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
