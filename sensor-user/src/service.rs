//! What a service manager is told (sd_notify(3)); without one, nothing.
//!
//! The watchdog is fed by epochs and not by time: the daemon calls in only while it would also say
//! that it is ready. An epoch may last a minute, so what is told is whether epochs end as they
//! should, as often as the manager asks. Nothing here is on the epoch thread's way: a manager that
//! doesn't listen holds up no epoch.

use std::{
    env, mem,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

use crate::state::{Reloaded, Shared, State};

/// How often readiness is looked at until it is there.
const LOOK: Duration = Duration::from_millis(100);
/// Longest distance of two calls thereafter; they also bring the line that `systemctl status` shows.
const PACE: Duration = Duration::from_secs(10);

/// The manager keeps track of the sensor until [`stop`](Self::stop).
#[derive(Debug)]
pub struct Service(Option<Sender<()>>);

impl Service {
    /// Begins to tell the manager how the sensor is doing, if there is one.
    pub fn start(shared: &Arc<Shared>) -> Self {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let (stop, stopped) = channel();
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("service".to_owned());
        match thread.spawn(move || report(&shared, &stopped)) {
            Ok(_ends_with_its_sender) => Self(Some(stop)),
            Err(error) => {
                tracing::warn!(%error, "no thread to tell the service manager");
                Self(None)
            }
        }
    }

    /// Says that the sensor is about to end.
    pub fn stop(self) {
        drop(self.0);
        tell(&[NotifyState::Stopping, NotifyState::Status("reading what is left")]);
    }
}

/// Says that the configuration is being read anew, until the answer is dropped. A sensor that is
/// not ready says nothing: the end of a reload would pass for its readiness.
pub fn reloading(shared: &Shared) -> Option<Reloading> {
    shared.alive(Instant::now()).ok()?;
    let since = NotifyState::monotonic_usec_now().ok()?;
    tell(&[NotifyState::Reloading, since]);
    Some(Reloading(()))
}

/// Ends with its drop.
#[derive(Debug)]
pub struct Reloading(());

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

fn report(shared: &Shared, stopped: &Receiver<()>) {
    // Twice and more within the time after which the manager would lose patience.
    let pace = sd_notify::watchdog_enabled().map_or(PACE, |limit| PACE.min(limit / 3));
    let mut reporter = Reporter::default();
    loop {
        let (state, status) = reporter.look(shared, Instant::now());
        let told: Vec<_> = state.into_iter().chain([NotifyState::Status(&status)]).collect();
        tell(&told);
        let wait = if reporter.ready { pace } else { LOOK };
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Knows what was said.
#[derive(Debug, Default)]
struct Reporter {
    ready: bool,
}

impl Reporter {
    /// What is to be said at the time `now`, if anything, and the line for people.
    fn look(&mut self, shared: &Shared, now: Instant) -> (Option<NotifyState<'static>>, String) {
        match shared.alive(now) {
            Ok(()) if mem::replace(&mut self.ready, true) => {
                (Some(NotifyState::Watchdog), line(&shared.snapshot()))
            }
            Ok(()) => (Some(NotifyState::Ready), line(&shared.snapshot())),
            Err(why) => (None, why.to_string()),
        }
    }
}

/// One line for `systemctl status`.
fn line(state: &State) -> String {
    let places: Vec<_> = state
        .coverage()
        .iter()
        .filter(|interface| interface.configured)
        .map(|interface| match interface.current() {
            Some(span) => format!("{} ({}, {})", interface.name, span.ingress, span.egress),
            None => format!("{} (NOT WATCHED)", interface.name),
        })
        .collect();
    let (devices, alerts) = (state.devices().count(), state.alerts().count());
    let mut line =
        format!("counting on {}: {devices} devices, {alerts} alerts", places.join(" and "));
    if state.open_epochs() > 0 {
        line += ", books OPEN";
    }
    for what in Reloaded::ALL {
        if state.reloads(what).last_failed {
            line += &format!(", {} not reloaded (see the log)", what.name());
        }
    }
    line
}

/// A manager that can't be told is no reason not to count.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Setup, fixture};

    fn shared() -> Shared {
        let shared = Shared::new(State::new(Setup::default()), Duration::from_secs(60));
        shared.cover(vec![fixture::coverage("xdp", "")]);
        shared
    }

    #[test]
    fn the_watchdog_is_fed_by_epochs() {
        let (shared, mut reporter) = (shared(), Reporter::default());
        let mut look = |seconds| {
            let now = Instant::now() + Duration::from_secs(seconds);
            let (state, line) = reporter.look(&shared, now);
            (state.map(|state| state.to_string()).unwrap_or_default(), line)
        };
        assert_eq!(look(0).0, "", "attached is not ready");

        shared.update(|_| {});
        let line = "counting on lan0 (xdp, tcx): 0 devices, 0 alerts".to_owned();
        assert_eq!(look(0), ("READY=1".to_owned(), line));
        assert_eq!(look(59).0, "WATCHDOG=1", "between two epochs of a minute");

        let (state, line) = look(400);
        assert_eq!(state, "", "no epoch for 400 s, no call");
        assert!(line.contains("400 s ago"), "{line}");
        shared.update(|_| {});
        assert_eq!(look(0).0, "WATCHDOG=1", "back");
    }

    #[test]
    fn a_reload_that_failed_is_on_the_line() {
        let shared = shared();
        shared.change(|state| state.reloaded(Reloaded::Configuration, false, 1));
        assert!(line(&shared.snapshot()).ends_with(", configuration not reloaded (see the log)"));
    }

    #[test]
    fn a_reload_does_not_stand_for_readiness() {
        let shared = shared();
        assert!(reloading(&shared).is_none());
        shared.update(|_| {});
        assert!(reloading(&shared).is_some());
    }
}
