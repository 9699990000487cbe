//! The ledger on a thread of its own: a slow disk holds up a commit, and neither epochs nor metrics.
//!
//! [`Port`] is the way there and back, as the epoch thread sees it; [`Servant`] does what is asked. Between them lies a
//! thread in a sensor, and whatever a test wants: delay, failure, death.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Commit, Ledger, LedgerError, Snapshot, Trouble};
use crate::{config::Retention, state::Coverage};

/// Between two looks for what has grown old.
const CARE: Duration = Duration::from_secs(60);
/// Nothing asked for within this time, there is time for that.
const REST: Duration = Duration::from_millis(20);
/// For so long at a time.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the ledger can be asked for. One thing at a time: the next only after the answer.
#[derive(Debug)]
pub enum Request {
    /// To commit an epoch.
    Commit(Box<Commit>),
    /// To fold what was committed. The snapshot is of the last commit exactly.
    Fold(Box<Snapshot>),
    /// To note where and how the sensor watches, in the boot of this id.
    Cover(Vec<Coverage>, String),
}

/// What has become of a request.
#[derive(Debug)]
pub struct Answer {
    /// What was asked for, where it was refused and has to be asked for again. A fold is asked for anew, with a newer
    /// snapshot.
    pub refused: Option<Request>,
    /// Whether it is in the ledger, and else why not.
    pub outcome: Result<(), LedgerError>,
    /// What the ledger would like next.
    pub wants: Wants,
    /// How long it took.
    pub took: Duration,
}

/// What the ledger would like, when there is time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// A fold.
    pub fold: bool,
    /// The next snapshot with all devices, changed or not: it has none of them.
    pub all_devices: bool,
}

/// The way to the ledger and back.
pub trait Port {
    /// Asks for something; the answer to what was asked for before has to be there.
    fn ask(&mut self, request: Request);
    /// The answer, if it comes within this time.
    fn answer(&mut self, patience: Duration) -> Option<Answer>;
    /// Keeps what it has for as long as this from here on; that is not answered.
    fn retain(&mut self, retention: Retention);
    /// The time, on a clock that never goes back.
    fn now(&self) -> Instant;
    /// Ends the ledger, after everything that was asked for.
    fn close(self);
}

/// A ledger with a thread of its own.
#[derive(Debug)]
pub struct Writer {
    orders: Sender<Order>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Do(Request),
    Retain(Retention),
}

impl Writer {
    /// Writes to `ledger` from here on.
    ///
    /// # Errors
    ///
    /// When the system has no thread.
    pub fn start(ledger: Ledger) -> std::io::Result<Self> {
        let (orders, ordered) = channel();
        let (answer, answers) = channel();
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || run(Servant::new(ledger), &ordered, &answer))?;
        Ok(Self { orders, answers, thread })
    }
}

impl Port for Writer {
    fn ask(&mut self, request: Request) {
        // Where the thread has ended no answer comes, which is noticed.
        let _ended = self.orders.send(Order::Do(request));
    }

    fn answer(&mut self, patience: Duration) -> Option<Answer> {
        // Where the thread has panicked the log says where. What it had is lost to it, not to the kernel.
        self.answers.recv_timeout(patience).ok()
    }

    fn retain(&mut self, retention: Retention) {
        // Where the thread has ended there is nothing to keep.
        let _ended = self.orders.send(Order::Retain(retention));
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn close(self) {
        let Self { orders, thread, .. } = self;
        drop(orders);
        if thread.join().is_err() {
            tracing::error!("the ledger's thread ended with a panic; see the messages above");
        }
    }
}

fn run(mut servant: Servant, orders: &Receiver<Order>, answers: &Sender<Answer>) {
    let mut due = Instant::now() + CARE;
    loop {
        let rest = REST.max(due.saturating_duration_since(Instant::now()));
        match orders.recv_timeout(rest) {
            Ok(Order::Do(request)) => {
                if answers.send(servant.serve(request)).is_err() {
                    return;
                }
            }
            Ok(Order::Retain(retention)) => servant.retain(retention),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let more = servant.care(PATIENCE);
                due = Instant::now() + if more { REST } else { CARE };
            }
        }
    }
}

/// Does what is asked of a ledger.
#[derive(Debug)]
pub struct Servant {
    ledger: Ledger,
    retention: Retention,
    /// A Unix time in nanoseconds that was believed, and when that was.
    trusted: Option<(u64, Instant)>,
    /// The file is a new one, in which the devices' label sets are not.
    lacks_devices: bool,
}

impl Servant {
    /// For this ledger.
    pub fn new(ledger: Ledger) -> Self {
        let trusted = ledger.trusted.map(|trusted| (trusted, Instant::now()));
        Self { ledger, retention: Retention::default(), trusted, lacks_devices: false }
    }

    /// Lets the file have so many pages at most, and waits for nobody's lock.
    #[cfg(test)]
    pub(crate) fn cramp(&self, pages: u32) {
        let connection = &self.ledger.connection;
        connection.pragma_update(None, "max_page_count", pages).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
    }

    /// Does it.
    pub fn serve(&mut self, request: Request) -> Answer {
        let began = Instant::now();
        let (refused, outcome) = match request {
            Request::Commit(commit) => {
                let outcome = self.ledger.commit(&commit);
                (outcome.is_err().then_some(Request::Commit(commit)), outcome)
            }
            Request::Fold(snapshot) => {
                let outcome = self.ledger.fold(&snapshot);
                if outcome.is_ok() {
                    self.lacks_devices = false;
                    self.trusted = self.ledger.trusted.map(|trusted| (trusted, Instant::now()));
                }
                (None, outcome)
            }
            Request::Cover(coverage, boot) => {
                let outcome = self.ledger.cover(&coverage, &boot);
                (outcome.is_err().then_some(Request::Cover(coverage, boot)), outcome)
            }
        };
        if let Err(error) = &outcome
            && error.trouble() == Trouble::Damaged
        {
            self.ledger.begin_anew();
            self.lacks_devices = true;
        }
        let wants = Wants { fold: self.ledger.wants_fold(), all_devices: self.lacks_devices };
        Answer { refused, outcome, wants, took: began.elapsed() }
    }

    /// Keeps what it has for as long as this from here on.
    pub fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Does what has become due with time, for about as long as `patience`; says whether there is more. The time is the
    /// one that is believed, and goes on without the wall clock until the next fold.
    pub fn care(&mut self, patience: Duration) -> bool {
        let Some((trusted, since)) = self.trusted else { return false };
        let now = trusted.saturating_add(nanos(since.elapsed()));
        let more = self.ledger.grow_old(&self.retention, now, patience);
        if let Err(error) = &more {
            // What keeps it from being written is said where epochs are.
            tracing::debug!(%error, "the ledger can't grow old");
        }
        more.unwrap_or(false)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Now, Unix time in nanoseconds.
pub(super) fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
