//! The state between the epoch thread, which writes it, and everyone who reads it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Coverage, Keeping, State};

/// Epochs without news after which the sensor no longer counts as ready.
const STALE_EPOCHS: u32 = 5;
/// Time that even the shortest epochs are given.
const STALE_SLACK: Duration = Duration::from_secs(1);

/// Why the sensor is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Still attaching, or within the first epoch.
    #[error("the sensor has not finished its first epoch yet")]
    NoEpoch,
    /// An interface of the configuration is not watched.
    #[error("not watched: {0}")]
    Unwatched(String),
    /// The ledger can't be written.
    #[error(
        "the ledger can't be written ({0}); counting goes on, and what it lacks is kept in the kernel"
    )]
    Ledger(String),
    /// The epoch thread hangs or has ended.
    #[error("the last epoch ended {} s ago, although an epoch lasts {} s", .age.as_secs_f64().round(), .epoch.as_secs_f64())]
    Stale {
        /// Since the last epoch was published.
        age: Duration,
        /// How long an epoch is meant to be.
        epoch: Duration,
    },
}

/// The current [`State`], for one writer and any number of readers.
///
/// A reader takes a reference to the state as it is and gives the lock back at once, so that
/// rendering a large report never holds up an epoch. The writer changes the state in place; only
/// while a reader still holds it does the writer go on with a copy.
#[derive(Debug)]
pub struct Shared {
    current: Mutex<Arc<State>>,
    /// Of its own, so that readiness never waits for an epoch being applied.
    published: Mutex<Option<Instant>>,
    epoch: Mutex<Duration>,
    /// Interfaces that should be watched and are not, with the reason.
    unwatched: Mutex<Option<String>>,
    /// Why the ledger can't be written.
    unwritable: Mutex<Option<String>>,
}

impl Shared {
    /// Shares a state that is to be updated every `epoch`.
    pub fn new(state: State, epoch: Duration) -> Self {
        Self {
            current: Mutex::new(Arc::new(state)),
            published: Mutex::new(None),
            epoch: Mutex::new(epoch),
            unwatched: Mutex::new(None),
            unwritable: Mutex::new(None),
        }
    }

    /// The state as it is now. Waits while an epoch is being applied: not for async threads.
    pub fn snapshot(&self) -> Arc<State> {
        Arc::clone(&lock(&self.current))
    }

    /// Changes the state between epochs.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.with(change);
    }

    /// The same, for something that comes of it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(Arc::make_mut(&mut lock(&self.current)))
    }

    /// From here on epochs are to come in at this distance.
    pub fn set_epoch(&self, epoch: Duration) {
        *lock(&self.epoch) = epoch;
    }

    /// Notes where and how the sensor watches.
    pub fn cover(&self, coverage: Vec<Coverage>) {
        let unwatched: Vec<String> = coverage
            .iter()
            .filter(|interface| interface.configured && interface.current().is_none())
            .map(|interface| format!("{} ({})", interface.name, interface.reason))
            .collect();
        *lock(&self.unwatched) = (!unwatched.is_empty()).then(|| unwatched.join(", "));
        self.change(|state| state.cover(coverage));
    }

    /// Notes how the ledger is doing.
    pub fn keep(&self, keeping: Keeping) {
        let trouble = keeping.trouble.as_ref().map(|(kind, said)| format!("{kind}: {said}"));
        *lock(&self.unwritable) = trouble;
        self.change(|state| state.keep(keeping));
    }

    /// Changes the state and marks an epoch as published.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        self.change(change);
        *lock(&self.published) = Some(Instant::now());
    }

    /// Whether every configured interface is watched, the ledger can be written, and epochs come in as they should, at the time `now`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ready(&self, now: Instant) -> Result<(), NotReady> {
        self.alive(now)?;
        if let Some(which) = lock(&self.unwatched).clone() {
            return Err(NotReady::Unwatched(which));
        }
        lock(&self.unwritable).clone().map_or(Ok(()), |why| Err(NotReady::Ledger(why)))
    }

    /// Whether epochs come in as they should, at the time `now`: what a restart could mend.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn alive(&self, now: Instant) -> Result<(), NotReady> {
        let published = lock(&self.published).ok_or(NotReady::NoEpoch)?;
        let age = now.saturating_duration_since(published);
        let epoch = *lock(&self.epoch);
        if age > epoch.saturating_mul(STALE_EPOCHS).saturating_add(STALE_SLACK) {
            return Err(NotReady::Stale { age, epoch });
        }
        Ok(())
    }
}

/// A panic elsewhere does not stop the counting: what is there is still the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
