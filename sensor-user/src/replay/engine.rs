//! What counts the packets of a capture.

use std::{collections::HashMap, io};

use foldhash::fast::RandomState;
use sensor_common::{
    layout::{Counters, Direction, FlowKey, Tally, Totals},
    parse::Captured,
};

use crate::kernel::{DrainError, LoadError, PrivilegeError, RawEpoch, RunError};

/// Why there is no counting.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// This process may not load programs, or the kernel is too old for them.
    #[error("the engine `kernel` can't be had: {0}; `--engine host` counts the same")]
    Privileges(PrivilegeError),
    /// The programs can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program can't be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The clock by which programs note times can't be read.
    #[error("can't read the boot-time clock: {0}")]
    Clock(#[from] io::Error),
    /// What was counted can't be read.
    #[error(transparent)]
    Drain(#[from] DrainError),
}

/// Counts packets, and hands out what it has counted.
pub(super) trait Engine {
    /// Counts a frame that was sent at `time` (Unix time in nanoseconds).
    fn count(
        &mut self,
        frame: &Captured<'_>,
        direction: Direction,
        time: u64,
    ) -> Result<(), EngineError>;

    /// What was counted since the last call, in the form of a sensor's epoch.
    fn drain(&mut self) -> Result<RawEpoch, EngineError>;

    /// Packets that were counted in another way than this engine's.
    fn left_to_host(&self) -> u64;
}

/// What one epoch has counted so far, by its full keys.
#[derive(Debug, Default)]
pub(super) struct Counted {
    flows: HashMap<FlowKey, Counters, RandomState>,
    pub(super) totals: Totals,
}

impl Counted {
    /// Notes that packets came in.
    pub(super) fn see(&mut self, direction: Direction, seen: &Tally) {
        self.totals.seen[direction as usize].add(seen);
    }

    /// Adds packets to their key; the first ones say when it was first seen.
    pub(super) fn add(&mut self, key: FlowKey, tally: &Tally, first_seen: u64) {
        let new = || Counters { tally: Tally::default(), first_seen };
        self.flows.entry(key).or_insert_with(new).tally.add(tally);
    }

    /// Everything, and begins anew.
    pub(super) fn take(&mut self) -> RawEpoch {
        RawEpoch {
            flows: self.flows.drain().collect(),
            totals: std::mem::take(&mut self.totals),
            ..RawEpoch::default()
        }
    }
}
