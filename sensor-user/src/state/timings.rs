//! Where the epoch thread's time goes.

use std::time::Duration;

/// One stage of the epoch, over all epochs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTime {
    /// The last epoch's.
    pub last: Duration,
    /// Of all epochs together.
    pub sum: Duration,
    /// Epochs in the sum.
    pub count: u64,
}

impl StageTime {
    /// Adds one epoch's.
    pub fn add(&mut self, took: Duration) {
        self.last = took;
        self.sum = self.sum.saturating_add(took);
        self.count += 1;
    }
}

/// The stages of an epoch, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Flipping the halves and waiting until no program writes the old one.
    pub flip: StageTime,
    /// Reading and clearing the old half.
    pub drain: StageTime,
    /// Attributing its rows.
    pub join: StageTime,
    /// Applying them to the state and judging them by the policy.
    pub apply: StageTime,
}

impl Timings {
    /// The stages with their names.
    pub const fn stages(&self) -> [(&'static str, &StageTime); 4] {
        [("flip", &self.flip), ("drain", &self.drain), ("join", &self.join), ("apply", &self.apply)]
    }
}
