//! How long a question to the ledger may take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::LedgerError;

/// Steps of SQLite's virtual machine between two looks at the time; some 10,000 take a tenth of a millisecond.
const STEPS: i32 = 10_000;

/// Ends with the time, or when nobody waits for the answer any more.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    until: Option<Instant>,
    gone: Arc<AtomicBool>,
}

/// Whoever waits for the answer; dropped, the question ends.
#[derive(Debug)]
pub struct Asker(Arc<AtomicBool>);

impl Patience {
    /// For so long, and while the second part is there.
    pub fn of(time: Duration) -> (Self, Asker) {
        let gone = Arc::new(AtomicBool::new(false));
        (Self { until: Some(Instant::now() + time), gone: Arc::clone(&gone) }, Asker(gone))
    }

    /// Has SQLite end what it does on this connection.
    pub(super) fn hold(&self, connection: &mut Connection) -> Result<(), LedgerError> {
        let patience = self.clone();
        Ok(connection.progress_handler(STEPS, Some(move || patience.is_over()))?)
    }

    /// Ends what is done between two queries.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        if self.is_over() { Err(LedgerError::Stopped) } else { Ok(()) }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
