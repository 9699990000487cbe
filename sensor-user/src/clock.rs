//! Clocks: the wall clock may step, the kernel's boot-time clock never does.
//!
//! Lengths and ages are measured by the boot-time clock; the wall clock says when something was, and nothing is deleted
//! because of it before it has shown that it can be believed.

/// A difference between the two clocks that has changed by more than this is a step: slewing, as NTP does it, takes an hour for
/// it.
pub const STEP: u64 = 1_000_000_000;
/// The wall clock is believed where it differs no more than this from what was expected.
const TOLERANCE: u64 = 60 * 60 * 1_000_000_000;
/// A clock that was ahead by less than this is believed when it is set right.
const CORRECTION: u64 = 48 * TOLERANCE;
/// And else once it has gone on without a step for so long.
const PROBATION: u64 = 24 * TOLERANCE;

/// One moment by both clocks, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Unix time.
    pub wall: u64,
    /// `CLOCK_BOOTTIME`.
    pub boot: u64,
}

impl Moment {
    /// By how much the wall clock is before the other one, in nanoseconds.
    pub fn offset(self) -> i128 {
        i128::from(self.wall) - i128::from(self.boot)
    }
}

/// The wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// What it would show now.
    pub from: u64,
    /// What it shows.
    pub to: u64,
}

impl ClockStep {
    /// Whether what was stamped lately now lies in the future.
    pub const fn is_back(self) -> bool {
        self.to < self.from
    }

    /// A time that is to keep its age.
    pub fn shift(self, time: u64) -> u64 {
        if self.is_back() {
            time.saturating_sub(self.from - self.to)
        } else {
            time.saturating_add(self.to - self.from)
        }
    }
}

/// Finds steps of the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepFinder {
    last: Option<Moment>,
}

impl StepFinder {
    /// Takes note of a moment; the step since the one before, if there was one.
    pub fn pass(&mut self, now: Moment) -> Option<ClockStep> {
        let last = self.last.replace(now)?;
        let change = now.offset() - last.offset();
        let from = last.wall.saturating_add(now.boot.saturating_sub(last.boot));
        (change.unsigned_abs() > u128::from(STEP)).then_some(ClockStep { from, to: now.wall })
    }
}

/// The time that may be acted upon: as the wall clock has it, unless that contradicts what was known before.
///
/// A clock that is ahead of it is followed after a day without a step; one that is behind deletes nothing anyway.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrustedClock {
    /// The last moment that was believed.
    anchor: Option<Moment>,
    /// Since when the wall clock says otherwise, and has not been set again.
    doubted: Option<Moment>,
}

impl TrustedClock {
    /// Goes on from a time that was believed before the process began; `now` is when that is.
    pub const fn since(believed: u64, now: Moment) -> Self {
        Self { anchor: Some(Moment { wall: believed, boot: now.boot }), doubted: None }
    }

    /// Takes note of a moment, and says which Unix time may be acted upon.
    pub fn pass(&mut self, now: Moment) -> u64 {
        let Some(anchor) = self.anchor else {
            self.anchor = Some(now);
            return now.wall;
        };
        let expected = anchor.wall.saturating_add(now.boot.saturating_sub(anchor.boot));
        if now.wall.abs_diff(expected) <= TOLERANCE {
            (self.anchor, self.doubted) = (Some(now), None);
            return now.wall;
        }
        if now.wall < expected {
            self.doubted = None;
            if expected - now.wall > CORRECTION {
                return expected;
            }
            self.anchor = Some(now);
            return now.wall;
        }
        let doubted = *self.doubted.get_or_insert(now);
        if (now.offset() - doubted.offset()).unsigned_abs() > u128::from(STEP) {
            self.doubted = Some(now);
        } else if now.boot.saturating_sub(doubted.boot) >= PROBATION {
            (self.anchor, self.doubted) = (Some(now), None);
            return now.wall;
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;
    const YEAR: u64 = 365 * 24 * HOUR;

    const fn at(wall: u64, boot: u64) -> Moment {
        Moment { wall, boot }
    }

    #[test]
    fn a_step_is_found_and_slewing_is_none() {
        let mut finder = StepFinder::default();
        assert_eq!(finder.pass(at(YEAR, 0)), None);
        // A minute's stall, and half a second of slewing.
        assert_eq!(finder.pass(at(YEAR + 60 * SECOND + SECOND / 2, 60 * SECOND)), None);
        let ahead = finder.pass(at(4 * YEAR, 61 * SECOND)).unwrap();
        assert_eq!((ahead.from, ahead.to), (YEAR + 61 * SECOND + SECOND / 2, 4 * YEAR));
        assert!(!ahead.is_back());
        assert_eq!(finder.pass(at(4 * YEAR + SECOND, 62 * SECOND)), None, "told once");
        let back = finder.pass(at(YEAR + 63 * SECOND, 63 * SECOND)).unwrap();
        assert_eq!((back.from, back.to), (4 * YEAR + 2 * SECOND, YEAR + 63 * SECOND));
        assert!(back.is_back());
        // What was stamped ten seconds before is ten seconds old after it.
        assert_eq!(back.shift(back.from - 10 * SECOND), back.to - 10 * SECOND);
        assert_eq!(ahead.shift(ahead.from - 10 * SECOND), ahead.to - 10 * SECOND);
        assert_eq!(back.shift(5), 0);
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_before_it_has_held() {
        let start = 56 * YEAR;
        let mut clock = TrustedClock::since(start, at(start, 0));
        assert_eq!(clock.pass(at(start + SECOND, SECOND)), start + SECOND);
        // Three years ahead for an hour.
        for minute in 1..60 {
            let passed = SECOND + minute * 60 * SECOND;
            assert_eq!(clock.pass(at(start + 3 * YEAR + passed, passed)), start + passed);
        }
        assert_eq!(clock.pass(at(start + HOUR, HOUR)), start + HOUR);
        // Set right by an hour and a half.
        let mut corrected = clock;
        assert_eq!(corrected.pass(at(start, 3 * HOUR / 2)), start);
        assert_eq!(corrected.pass(at(start + SECOND, 3 * HOUR / 2 + SECOND)), start + SECOND);
        // In 1970 the time that was known goes on.
        assert_eq!(clock.pass(at(SECOND, 2 * HOUR)), start + 2 * HOUR);
        // Switched off for two months: believed after a day, unless it is set meanwhile.
        let mut clock = TrustedClock::since(start, at(start + YEAR / 6, 0));
        let on = |hour: u64| at(start + YEAR / 6 + hour * HOUR, hour * HOUR);
        assert_eq!(clock.pass(on(0)), start);
        assert_eq!(clock.pass(on(23)), start + 23 * HOUR);
        assert_eq!(clock.pass(at(start + 9 * YEAR, 24 * HOUR)), start + 24 * HOUR, "set");
        assert_eq!(clock.pass(on(25)), start + 25 * HOUR, "and set back");
        assert_eq!(clock.pass(on(48)), start + 48 * HOUR);
        assert_eq!(clock.pass(on(49)), on(49).wall);
        assert_eq!(clock.pass(on(50)), on(50).wall);
    }
}
