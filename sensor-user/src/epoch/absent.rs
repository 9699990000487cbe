//! A ledger that can't be opened: counting begins without it, and it is taken up as soon as it can be.
//!
//! Until then nothing is flipped. What is counted stays in the tables, where it is shown from looks; nobody knows which
//! half an earlier process has committed. Taken up, the ledger says so, inventory and state begin again from it as after a
//! restart, and the tables are read for good. So nothing is lost, and nothing counts twice.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::{Config, DeviceConfig, Retention},
    kernel,
    resume::{Beginning, begin},
    sinks::ledger::{Ledger, LedgerError, Opened, Writer},
    state::{Keeping, State},
};

/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(5);

/// What becomes a ledger with the other end `P` in time.
pub trait Opening<P> {
    /// The ledger, and what to begin with again, if it could be opened meanwhile. `state` is what is shown so far.
    fn poll(&mut self, state: &State) -> Option<Box<(Beginning, State)>>;
    /// Puts the ledger to the other end.
    ///
    /// # Errors
    ///
    /// When the system has no thread.
    fn serve(&self, ledger: Ledger) -> std::io::Result<P>;
    /// How it is doing.
    fn keeping(&self) -> Keeping;
    /// How long the ledger is to keep what.
    fn retention(&self) -> Retention;
    /// Another configuration holds.
    fn exchange(&mut self, config: &Config);
    /// These are the named devices.
    fn name(&mut self, devices: &[DeviceConfig]);
}

/// The file that the configuration names.
pub struct Absent {
    path: PathBuf,
    config: Config,
    boot: String,
    keeping: Keeping,
    /// Under way, on a thread of its own: a file system may hang.
    attempt: Option<Receiver<Result<Opened, LedgerError>>>,
    again: Instant,
}

impl Absent {
    /// A file that could not be opened for this reason.
    pub fn new(path: PathBuf, config: Config, boot: String, error: &LedgerError) -> Self {
        let keeping = Keeping { path: path.clone(), ..Keeping::default() };
        let again = Instant::now() + AGAIN;
        let mut absent = Self { path, config, boot, keeping, attempt: None, again };
        absent.failed(error);
        absent
    }

    fn failed(&mut self, error: &LedgerError) {
        let (kind, message) = (error.trouble().name(), error.to_string());
        *self.keeping.failures.entry(kind).or_default() += 1;
        if self.keeping.trouble.as_ref().map(|(kind, _)| *kind) != Some(kind) {
            let path = self.path.display();
            tracing::error!(
                %path,
                kind,
                error = message,
                "the ledger can't be opened; counting begins without it, and it is taken up when it can be"
            );
        }
        self.keeping.trouble = Some((kind, message));
        self.again = Instant::now() + AGAIN;
    }

    fn attempt(&mut self) -> Option<Result<Opened, LedgerError>> {
        let Some(attempt) = &self.attempt else {
            if Instant::now() >= self.again {
                let (done, attempt) = sync_channel(1);
                let path = self.path.clone();
                let open = move || drop(done.send(Ledger::open(&path)));
                self.again = Instant::now() + AGAIN;
                // Without a thread there is another attempt.
                self.attempt = thread::Builder::new()
                    .name("ledger-open".to_owned())
                    .spawn(open)
                    .ok()
                    .map(|_| attempt);
            }
            return None;
        };
        let outcome = match attempt.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
            Ok(outcome) => Some(outcome),
        };
        self.attempt = None;
        outcome
    }
}

impl Opening<Writer> for Absent {
    fn poll(&mut self, state: &State) -> Option<Box<(Beginning, State)>> {
        let now = kernel::now().ok()?;
        let begun = self.attempt()?.and_then(|opened| {
            let mut state = state.begun_again();
            let beginning = begin(opened, &self.config, &mut state, &self.boot, now)?;
            Ok(Box::new((beginning, state)))
        });
        match begun {
            Ok(begun) => {
                let path = self.path.display();
                tracing::info!(%path, "the ledger is taken up; nothing was lost");
                Some(begun)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn serve(&self, ledger: Ledger) -> std::io::Result<Writer> {
        Writer::start(ledger)
    }

    fn keeping(&self) -> Keeping {
        self.keeping.clone()
    }

    fn retention(&self) -> Retention {
        self.config.retention
    }

    fn exchange(&mut self, config: &Config) {
        // Another file is for the next start, as ever.
        self.config = config.clone();
    }

    fn name(&mut self, devices: &[DeviceConfig]) {
        self.config.devices = devices.to_vec();
    }
}
