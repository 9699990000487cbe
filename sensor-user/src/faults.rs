//! Faults that campaigns ask for, to see that nothing is lost and that each safeguard is needed.
//!
//! `LABGATE_FAULTS` is a list, separated by commas, of
//!
//! - `kill=POINT:N`: the process is killed (SIGKILL) when it passes a point of the epoch for the Nth time:
//!   `flipped`, `waited`, `read`, `committed`;
//! - `without=SAFEGUARD`: `barrier` (a half is read without waiting for its writers), `order` (a half is cleared
//!   before its epoch is committed), `identity` (an epoch is committed whether or not it was before), `coarse`
//!   (what finds no slot is not counted by its network), `quotas` (whoever comes first takes all the slots);
//! - `clock=SECONDS`: the wall clock jumps to and fro by up to so much at each epoch.
//!
//! Without the variable nothing of this costs more than a look at a null pointer.

use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::sys::signal::{Signal, raise};

/// The environment variable.
const VARIABLE: &str = "LABGATE_FAULTS";

/// Where a process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The programs were moved to the other half; some may still write the old one.
    Flipped,
    /// None does any more.
    Waited,
    /// The half was read and is in no ledger.
    Read,
    /// It is, and the half is as it was.
    Committed,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// The grace period.
    Barrier,
    /// Commit before clear.
    Order,
    /// An epoch is committed once.
    Identity,
    /// The level below the flow table.
    Coarse,
    /// Each device's share of the tables.
    Quotas,
}

#[derive(Debug, Default)]
struct Faults {
    kill: Option<(Point, AtomicU64)>,
    without: Vec<Safeguard>,
    clock: u64,
    ticks: AtomicU64,
}

static FAULTS: OnceLock<Option<Faults>> = OnceLock::new();

fn faults() -> Option<&'static Faults> {
    FAULTS.get_or_init(|| env::var(VARIABLE).ok().map(|text| read(&text))).as_ref()
}

fn read(text: &str) -> Faults {
    let mut faults = Faults::default();
    for fault in text.split(',') {
        let known = match fault.split_once('=') {
            Some(("kill", point)) => {
                faults.kill = kill(point);
                faults.kill.is_some()
            }
            Some(("without", safeguard)) => {
                let known = match safeguard {
                    "barrier" => Some(Safeguard::Barrier),
                    "order" => Some(Safeguard::Order),
                    "identity" => Some(Safeguard::Identity),
                    "coarse" => Some(Safeguard::Coarse),
                    "quotas" => Some(Safeguard::Quotas),
                    _ => None,
                };
                faults.without.extend(known);
                known.is_some()
            }
            Some(("clock", seconds)) => {
                faults.clock = seconds.parse().unwrap_or(0);
                faults.clock > 0
            }
            _ => false,
        };
        if known {
            tracing::warn!(
                fault,
                "a fault is asked for by {VARIABLE}; this is no way to run a sensor"
            );
        } else {
            tracing::error!(fault, "{VARIABLE} asks for a fault that is not known");
        }
    }
    faults
}

fn kill(text: &str) -> Option<(Point, AtomicU64)> {
    let (point, count) = text.split_once(':')?;
    let point = match point {
        "flipped" => Point::Flipped,
        "waited" => Point::Waited,
        "read" => Point::Read,
        "committed" => Point::Committed,
        _ => return None,
    };
    Some((point, AtomicU64::new(count.parse().ok()?)))
}

/// Says at the start which faults are asked for.
pub fn announce() {
    faults();
}

/// The epoch passes a point.
pub fn pass(point: Point) {
    let Some((at, left)) = faults().and_then(|faults| faults.kill.as_ref()) else { return };
    if *at == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        // Nobody outlives this signal.
        let _dead = raise(Signal::SIGKILL);
    }
}

/// Whether a safeguard is left out.
pub fn without(safeguard: Safeguard) -> bool {
    faults().is_some_and(|faults| faults.without.contains(&safeguard))
}

/// The wall clock in nanoseconds of Unix time, as it is or as a fault has it.
pub fn unix_clock(nanos: u64) -> u64 {
    let Some(faults) = faults().filter(|faults| faults.clock > 0) else { return nanos };
    let tick = faults.ticks.fetch_add(1, Ordering::Relaxed);
    let jump = tick.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (2 * faults.clock * 1_000_000_000);
    (nanos + jump).saturating_sub(faults.clock * 1_000_000_000)
}
