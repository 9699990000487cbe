//! Between the epoch thread and the ledger: what was handed over and is not yet safe.

use std::{
    collections::BTreeMap,
    fs, mem,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Answer, Commit, Ledger, Snapshot, Trouble, Writer};
use crate::config::Retention;
use crate::state::{Alert, Coverage, Keeping, Shared};

/// A commit that takes longer than this is trouble.
const SLOW: Duration = Duration::from_secs(3);
/// What was committed is folded at the latest so long after, even if nothing follows.
const IDLE: Duration = Duration::from_secs(90);
/// When the sensor stops, the ledger gets so long for the last epochs.
const LAST: Duration = Duration::from_secs(10);

/// Keeps epochs, one at a time.
#[derive(Debug)]
pub struct Keeper {
    writer: Writer,
    asked: Asked,
    /// To be asked for next.
    held: Option<Box<Commit>>,
    wants_fold: bool,
    committed: Option<Instant>,
    /// End of the epoch that was handed over last, Unix time in nanoseconds.
    ended: u64,
    /// Since the last commit, by their place.
    alerts: BTreeMap<usize, Alert>,
    coverage: Option<(Vec<Coverage>, String)>,
    keeping: Keeping,
    changed: bool,
}

/// What the ledger is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Commit,
    Fold,
    Cover,
}

impl Keeper {
    /// Keeps epochs in this ledger.
    ///
    /// # Errors
    ///
    /// When the system has no thread for it.
    pub fn new(ledger: Ledger) -> std::io::Result<Self> {
        let keeping = Keeping { path: ledger.path().to_owned(), ..Keeping::default() };
        Ok(Self {
            writer: Writer::start(ledger)?,
            asked: Asked::Nothing,
            held: None,
            wants_fold: false,
            committed: None,
            ended: 0,
            alerts: BTreeMap::new(),
            coverage: None,
            keeping,
            changed: true,
        })
    }

    /// Keeps what it has for as long as this from here on.
    pub fn retain(&self, retention: Retention) {
        self.writer.retain(retention);
    }

    /// Notes alerts that are new or have occurred again.
    pub fn note(&mut self, alerts: impl IntoIterator<Item = (usize, Alert)>) {
        self.alerts.extend(alerts);
    }

    /// Notes where and how the sensor watches.
    pub fn cover(&mut self, coverage: Vec<Coverage>, boot: &str) {
        self.coverage = Some((coverage, boot.to_owned()));
    }

    /// Hands over an epoch, which may be cleared once [`settle`](Self::settle) says so.
    pub fn keep(&mut self, mut commit: Box<Commit>) {
        debug_assert!(self.held.is_none(), "one at a time");
        commit.alerts = mem::take(&mut self.alerts).into_iter().collect();
        if let Some((coverage, _)) = self.coverage.take() {
            commit.coverage = coverage;
        }
        self.ended = commit.record.ended;
        self.held = Some(commit);
    }

    /// Whether everything that was handed over is in the ledger; waits for it no longer than `patience`.
    pub fn settle(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            if self.asked != Asked::Nothing {
                let Some(answer) =
                    self.writer.answer(until.saturating_duration_since(Instant::now()))
                else {
                    if self.writer.waiting().is_some_and(|waiting| waiting > SLOW) {
                        self.trouble(Trouble::Slow, "it has not answered for seconds");
                    }
                    return self.asked != Asked::Commit && self.held.is_none();
                };
                if !self.take(answer) {
                    return self.held.is_none();
                }
            } else if let Some(commit) = self.held.take() {
                self.asked = Asked::Commit;
                self.writer.commit(commit);
            } else {
                return true;
            }
        }
    }

    /// Lets the ledger tidy up, where it has nothing to do and the state is exactly what was committed. A
    /// coverage that no epoch took along is written by itself.
    pub fn tidy(&mut self, snapshot: impl FnOnce() -> Snapshot) {
        if self.asked != Asked::Nothing && !self.settle(Duration::ZERO) {
            return;
        }
        if self.asked != Asked::Nothing {
            return;
        }
        let idle = self.committed.is_some_and(|committed| committed.elapsed() > IDLE);
        if self.wants_fold || idle {
            self.asked = Asked::Fold;
            self.writer.fold(snapshot());
        } else if let Some((coverage, boot)) = self.coverage.take() {
            self.asked = Asked::Cover;
            self.writer.cover(coverage, boot);
        }
    }

    /// Lets every reader see how the ledger is doing.
    pub fn publish(&mut self, shared: &Shared) {
        if mem::take(&mut self.changed) {
            self.keeping.size = size(&self.keeping.path);
            shared.keep(self.keeping.clone());
        }
    }

    /// Commits and folds what is left, for as long as that is worth waiting for, and says whether all of it is
    /// in the ledger.
    pub fn stop(mut self, snapshot: impl FnOnce() -> Snapshot) -> bool {
        let settled = self.settle(LAST) && self.asked == Asked::Nothing;
        if settled && self.committed.is_some() {
            self.asked = Asked::Fold;
            self.writer.fold(snapshot());
            self.settle(LAST);
        }
        if let Some((coverage, boot)) =
            self.coverage.take().filter(|_| self.asked == Asked::Nothing)
        {
            self.asked = Asked::Cover;
            self.writer.cover(coverage, boot);
            self.settle(LAST);
        }
        // One that hangs in a system call is left to the end of the process.
        if self.asked == Asked::Nothing {
            self.writer.stop();
        }
        settled
    }

    /// Takes an answer, and says whether to go on.
    fn take(&mut self, answer: Answer) -> bool {
        let asked = mem::replace(&mut self.asked, Asked::Nothing);
        let Answer { commit, outcome, wants_fold, took } = answer;
        self.changed = true;
        match outcome {
            Ok(()) => {
                self.wants_fold = wants_fold;
                if let Some((kind, _)) = self.keeping.trouble.take() {
                    let path = self.keeping.path.display();
                    tracing::info!(%path, kind, "the ledger is written again; nothing was lost");
                }
                match asked {
                    Asked::Commit => {
                        self.keeping.commits += 1;
                        self.keeping.last = self.ended;
                        self.committed = Some(Instant::now());
                    }
                    Asked::Fold => self.committed = None,
                    Asked::Cover | Asked::Nothing => {}
                }
                tracing::debug!(?asked, ?took, "the ledger was written");
                true
            }
            Err(error) => {
                let trouble = error.trouble();
                *self.keeping.failures.entry(trouble.name()).or_default() += 1;
                self.trouble(trouble, &error.to_string());
                self.held = commit;
                false
            }
        }
    }

    fn trouble(&mut self, trouble: Trouble, message: &str) {
        let before = self.keeping.trouble.as_ref().map(|(kind, _)| *kind);
        if before != Some(trouble.name()) {
            let (path, kind) = (self.keeping.path.display(), trouble.name());
            tracing::error!(
                %path,
                kind,
                error = message,
                "the ledger can't be written; counting goes on, and what it lacks is kept in the kernel"
            );
        }
        self.keeping.trouble = Some((trouble.name(), message.to_owned()));
        self.changed = true;
    }
}

fn size(path: &std::path::Path) -> u64 {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        fs::metadata(PathBuf::from(name)).map_or(0, |file| file.len())
    };
    with("") + with("-wal")
}
