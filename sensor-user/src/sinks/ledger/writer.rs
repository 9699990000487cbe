//! The ledger on a thread of its own: a slow disk holds up a commit, and neither epochs nor metrics.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Commit, Ledger, LedgerError, Snapshot, Trouble};
use crate::{config::Retention, state::Coverage};

/// The ledger, as the epoch thread sees it. At most one thing is under way.
#[derive(Debug)]
pub struct Writer {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    /// Since when an answer is awaited.
    asked: Option<Instant>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Request {
    Commit(Box<Commit>),
    Fold(Box<Snapshot>),
    Cover(Vec<Coverage>, String),
    Retain(Retention),
}

/// Between two looks for what has grown old.
const CARE: Duration = Duration::from_secs(60);
/// Nothing asked for within this time, there is time for that.
const REST: Duration = Duration::from_millis(20);
/// For so long at a time.
const PATIENCE: Duration = Duration::from_millis(20);

/// What has become of a request.
#[derive(Debug)]
pub struct Answer {
    /// What was asked for, to be asked for again where it was refused; a fold remembers by itself.
    pub commit: Option<Box<Commit>>,
    /// Whether it is in the ledger, and else why not.
    pub outcome: Result<(), LedgerError>,
    /// Whether it is time to fold.
    pub wants_fold: bool,
    /// How long it took.
    pub took: Duration,
}

impl Writer {
    /// Writes to `ledger` from here on.
    ///
    /// # Errors
    ///
    /// When the system has no thread.
    pub fn start(ledger: Ledger) -> std::io::Result<Self> {
        let (requests, asked) = channel();
        let (answer, answers) = channel();
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || serve(ledger, &asked, &answer))?;
        Ok(Self { requests, answers, asked: None, thread })
    }

    /// Asks for a commit.
    pub fn commit(&mut self, commit: Box<Commit>) {
        self.ask(Request::Commit(commit));
    }

    /// Asks for a fold. The snapshot has to be of the last commit.
    pub fn fold(&mut self, snapshot: Snapshot) {
        self.ask(Request::Fold(Box::new(snapshot)));
    }

    /// Asks to note where and how the sensor watches.
    pub fn cover(&mut self, coverage: Vec<Coverage>, boot: String) {
        self.ask(Request::Cover(coverage, boot));
    }

    /// Keeps what it has for as long as this from here on; that is not answered.
    pub fn retain(&self, retention: Retention) {
        // Where the thread has ended there is nothing to keep.
        let _ended = self.requests.send(Request::Retain(retention));
    }

    fn ask(&mut self, request: Request) {
        debug_assert!(self.asked.is_none(), "one at a time");
        self.asked = Some(Instant::now());
        // Where the thread has ended the answer says so.
        let _ended = self.requests.send(request);
    }

    /// Whether an answer is awaited.
    pub const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Since when the ledger has not answered.
    pub fn waiting(&self) -> Option<Duration> {
        self.asked.map(|asked| asked.elapsed())
    }

    /// The answer, if it comes within this time.
    pub fn answer(&mut self, patience: Duration) -> Option<Answer> {
        self.asked?;
        let answer = match self.answers.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => return None,
            // It panicked, and the log says where. What it had is lost to it, not to the kernel.
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        self.asked = None;
        Some(answer)
    }

    /// Ends the thread, after what is under way.
    pub fn stop(self) {
        let Self { requests, thread, .. } = self;
        drop(requests);
        if thread.join().is_err() {
            tracing::error!("the ledger's thread ended with a panic; see the messages above");
        }
    }
}

fn serve(mut ledger: Ledger, requests: &Receiver<Request>, answers: &Sender<Answer>) {
    let mut retention = Retention::default();
    let mut due = Instant::now() + CARE;
    loop {
        let rest = REST.max(due.saturating_duration_since(Instant::now()));
        let request = match requests.recv_timeout(rest) {
            Ok(request) => request,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let more = ledger.grow_old(&retention, unix_nanos(), PATIENCE);
                if let Err(error) = &more {
                    // What keeps it from being written is said where epochs are.
                    tracing::debug!(%error, "the ledger can't grow old");
                }
                due = Instant::now() + if more.unwrap_or(false) { REST } else { CARE };
                continue;
            }
        };
        let began = Instant::now();
        let (commit, outcome) = match request {
            Request::Commit(commit) => {
                let outcome = ledger.commit(&commit);
                (outcome.is_err().then_some(commit), outcome)
            }
            Request::Fold(snapshot) => (None, ledger.fold(&snapshot)),
            Request::Cover(coverage, boot) => (None, ledger.cover(&coverage, &boot)),
            Request::Retain(wanted) => {
                retention = wanted;
                continue;
            }
        };
        if let Err(error) = &outcome
            && error.trouble() == Trouble::Damaged
        {
            ledger.begin_anew();
        }
        let answer =
            Answer { commit, outcome, wants_fold: ledger.wants_fold(), took: began.elapsed() };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
