//! Between the epoch thread and the ledger: what was handed over and is not yet safe.
//!
//! The ledger does one thing at a time. An epoch that was handed over is [held](Keeper::keep) until the ledger can be asked
//! to commit it, is the ledger's while it is asked, and is held again where it was refused; nothing else touches it.
//! Only its own commit makes [`Keeper::settle`] say that it is safe.

use std::{
    collections::BTreeMap,
    fs, mem,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Answer, Commit, Ledger, Snapshot, Trouble, Writer,
    writer::{Port, Request, Wants},
};
use crate::config::Retention;
use crate::state::{Alert, Coverage, Keeping, Shared};

/// A request that takes longer than this is trouble.
const SLOW: Duration = Duration::from_secs(3);
/// What was committed is folded at the latest so long after, even if nothing follows.
const IDLE: Duration = Duration::from_secs(90);
/// What was refused is asked for again after so long, if no epoch waits for it.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps epochs, one at a time.
#[derive(Debug)]
pub struct Keeper<P = Writer> {
    port: P,
    /// What the ledger was asked for, and when.
    asked: Option<(Work, Instant)>,
    /// To be asked for next.
    held: Option<Box<Commit>>,
    wants: Wants,
    /// When something was committed that is not yet folded.
    committed: Option<Instant>,
    /// When something else than a commit was refused last.
    refused: Option<Instant>,
    /// What failed and has not succeeded since.
    failing: Vec<Work>,
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
enum Work {
    Commit,
    Fold,
    Cover,
}

impl Keeper {
    /// Keeps epochs in this ledger, on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system has no thread for it.
    pub fn new(ledger: Ledger) -> std::io::Result<Self> {
        let (path, unfolded) = (ledger.path().to_owned(), ledger.has_records());
        Ok(Self::at(path, unfolded, Writer::start(ledger)?))
    }
}

impl<P: Port> Keeper<P> {
    /// Keeps epochs in the ledger `path`, which is at the other end of `port` and may have epochs that are not folded.
    pub fn at(path: PathBuf, unfolded: bool, port: P) -> Self {
        let committed = unfolded.then(|| port.now());
        Self {
            port,
            asked: None,
            held: None,
            wants: Wants::default(),
            committed,
            refused: None,
            failing: Vec::new(),
            ended: 0,
            alerts: BTreeMap::new(),
            coverage: None,
            keeping: Keeping { path, ..Keeping::default() },
            changed: true,
        }
    }

    /// The time, as the ledger's waiting is measured.
    pub fn now(&self) -> Instant {
        self.port.now()
    }

    /// Keeps what it has for as long as this from here on.
    pub fn retain(&mut self, retention: Retention) {
        self.port.retain(retention);
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
        let until = self.now() + patience;
        loop {
            if let Some((work, since)) = self.asked {
                let left = until.saturating_duration_since(self.now());
                let Some(answer) = self.port.answer(left) else {
                    if self.now().saturating_duration_since(since) > SLOW {
                        self.trouble(work, Trouble::Slow, "it has not answered for seconds");
                    }
                    return work != Work::Commit && self.held.is_none();
                };
                self.asked = None;
                let is_done = self.take(work, answer);
                if work == Work::Commit && !is_done {
                    return false;
                }
            } else if let Some(commit) = self.held.take() {
                self.ask(Work::Commit, Request::Commit(commit));
            } else {
                return true;
            }
        }
    }

    /// Lets the ledger tidy up, where it has nothing to do. The state that `snapshot` takes has to be exactly what was
    /// committed. A coverage that no epoch took along is written by itself.
    pub fn tidy(&mut self, snapshot: impl FnOnce(Wants) -> Snapshot) {
        if !self.settle(Duration::ZERO) || self.asked.is_some() {
            return;
        }
        if self.refused.is_some_and(|at| self.now().saturating_duration_since(at) < AGAIN) {
            return;
        }
        let idle = self
            .committed
            .is_some_and(|committed| self.now().saturating_duration_since(committed) > IDLE);
        if self.wants.fold || idle {
            let snapshot = snapshot(self.wants);
            self.ask(Work::Fold, Request::Fold(Box::new(snapshot)));
        } else if let Some((coverage, boot)) = self.coverage.take() {
            self.ask(Work::Cover, Request::Cover(coverage, boot));
        }
    }

    /// Lets every reader see how the ledger is doing.
    pub fn publish(&mut self, shared: &Shared) {
        if mem::take(&mut self.changed) {
            self.keeping.size = size(&self.keeping.path);
            shared.keep(self.keeping.clone());
        }
    }

    /// Ends the ledger, for which it may take as long as `patience`, and says whether all that was handed over is in
    /// it. With a snapshot, which has to be of exactly what was committed, that is folded, too; without one the records
    /// stay for the next start.
    pub fn stop(
        mut self,
        patience: Duration,
        snapshot: Option<impl FnOnce(Wants) -> Snapshot>,
    ) -> bool {
        let until = self.now() + patience;
        let left = |keeper: &Self| until.saturating_duration_since(keeper.now());
        let settled = self.settle(left(&self)) && self.rest(left(&self));
        if let Some(snapshot) = snapshot
            && settled
            && self.committed.is_some()
        {
            let snapshot = snapshot(self.wants);
            self.ask(Work::Fold, Request::Fold(Box::new(snapshot)));
            self.rest(left(&self));
        }
        if self.asked.is_none()
            && let Some((coverage, boot)) = self.coverage.take()
        {
            self.ask(Work::Cover, Request::Cover(coverage, boot));
            self.rest(left(&self));
        }
        // One that hangs in a system call is left to the end of the process.
        if self.asked.is_none() {
            self.port.close();
        }
        settled
    }

    /// Waits until the ledger has nothing to do, for no longer than `patience`; says whether it has.
    fn rest(&mut self, patience: Duration) -> bool {
        self.settle(patience) && {
            let until = self.now() + patience;
            while let Some((work, _)) = self.asked {
                let left = until.saturating_duration_since(self.now());
                let Some(answer) = self.port.answer(left) else { return false };
                self.asked = None;
                self.take(work, answer);
            }
            true
        }
    }

    fn ask(&mut self, work: Work, request: Request) {
        debug_assert!(self.asked.is_none(), "one at a time");
        self.asked = Some((work, self.now()));
        self.port.ask(request);
    }

    /// Takes the answer to `work`, and says whether that is done.
    fn take(&mut self, work: Work, answer: Answer) -> bool {
        let Answer { refused, outcome, wants, took } = answer;
        self.changed = true;
        self.wants = wants;
        match refused {
            Some(Request::Commit(commit)) => self.held = Some(commit),
            // Unless there is a newer one.
            Some(Request::Cover(coverage, boot)) => {
                self.coverage.get_or_insert((coverage, boot));
            }
            Some(Request::Fold(_)) | None => {}
        }
        if let Err(error) = outcome {
            let trouble = error.trouble();
            *self.keeping.failures.entry(trouble.name()).or_default() += 1;
            self.trouble(work, trouble, &error.to_string());
            if work != Work::Commit {
                self.refused = Some(self.now());
            }
            return false;
        }
        tracing::debug!(?work, ?took, "the ledger was written");
        self.failing.retain(|failing| *failing != work);
        if work != Work::Commit {
            self.refused = None;
        }
        match work {
            Work::Commit => {
                self.keeping.commits += 1;
                self.keeping.last = self.ended;
                self.committed = Some(self.now());
            }
            Work::Fold => self.committed = None,
            Work::Cover => {}
        }
        if self.failing.is_empty()
            && let Some((kind, _)) = self.keeping.trouble.take()
        {
            let path = self.keeping.path.display();
            tracing::info!(%path, kind, "the ledger is written again; nothing was lost");
        }
        true
    }

    fn trouble(&mut self, work: Work, trouble: Trouble, message: &str) {
        if !self.failing.contains(&work) {
            self.failing.push(work);
        }
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
