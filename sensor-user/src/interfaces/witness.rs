//! The interface's own counters as a witness: whether the programs see the packets that it counts.
//!
//! That a program is listed at its hook does not say that packets come to it. The driver counts by itself; where it
//! goes on counting and the programs see next to nothing, nobody may call the interface watched.

use crate::{clock::ClockStep, model::InterfaceCounters};

/// So many epochs in a row in which the interface counted and the programs fell behind. One or two are no sign:
/// what came between reading the table and the counters is in one of the two, and some cards update their counters
/// once in two seconds.
const EPOCHS: u32 = 10;
/// And so many packets that they did not see in these epochs together: more than what stray packets come to that no
/// hook shows (sent past the queueing disciplines, say), and what one idle phone causes in a minute or so.
const PACKETS: u64 = 50;
/// The programs are behind where they saw less than one in so many of the packets that the interface counted. A few
/// packets in a hundred may pass no hook for a good reason, and cards differ in what they count.
const SHARE: u64 = 2;

/// What the counters say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The programs see what the interface counts, or nothing speaks against that.
    Seen,
    /// They don't.
    Unseen {
        /// Since when, Unix time in nanoseconds.
        since: u64,
        /// In a sentence.
        reason: String,
    },
}

/// The counters of one interface beside what the programs saw of it.
#[derive(Debug)]
pub(super) struct Witness {
    /// What it had counted at the last epoch.
    counted: InterfaceCounters,
    ingress: Side,
    egress: Side,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    /// Epochs in a row in which the programs fell behind, but for those in which nothing moved.
    behind: u32,
    /// What the interface counted in them.
    counted: u64,
    /// What the programs saw of that.
    seen: u64,
    /// The last epoch before them, Unix time in nanoseconds.
    since: u64,
    is_unseen: bool,
}

impl Witness {
    /// From here on, at Unix time `now` in nanoseconds, with what the interface has counted so far.
    pub(super) fn new(counted: &InterfaceCounters, now: u64) -> Self {
        let side = || Side { since: now, ..Side::default() };
        Self { counted: counted.clone(), ingress: side(), egress: side() }
    }

    /// The clock was set.
    pub(super) fn clock_stepped(&mut self, step: ClockStep) {
        for side in [&mut self.ingress, &mut self.egress] {
            side.since = step.shift(side.since);
        }
    }

    /// An epoch ended at Unix time `now` in nanoseconds. `counted` is what the interface has counted so far,
    /// `seen` the packets that the programs saw in this epoch at ingress and at egress.
    pub(super) fn judge(
        &mut self,
        counted: &InterfaceCounters,
        seen: [u64; 2],
        now: u64,
    ) -> Verdict {
        let grown = counted.since(&self.counted);
        self.counted.clone_from(counted);
        // What the network stack drops before TC is counted as received as well.
        self.ingress.epoch(grown.rx_packets.saturating_sub(grown.dropped), seen[0], now);
        self.egress.epoch(grown.tx_packets, seen[1], now);
        let sides = [("received", &self.ingress), ("sent", &self.egress)];
        let Some((word, side)) = sides.into_iter().find(|(_, side)| side.is_unseen) else {
            return Verdict::Seen;
        };
        let Side { counted, seen, since, .. } = *side;
        let reason = format!(
            "its own counters say that it {word} {counted} packets, of which the programs saw {seen}: something \
             takes them past the hooks (`bpftool net`, `tc filter` and `nft list flowtables` list what may)"
        );
        Verdict::Unseen { since, reason }
    }
}

impl Side {
    fn epoch(&mut self, counted: u64, seen: u64, now: u64) {
        if seen.saturating_mul(SHARE) < counted {
            self.behind = self.behind.saturating_add(1);
            self.counted = self.counted.saturating_add(counted);
            self.seen = self.seen.saturating_add(seen);
            self.is_unseen |=
                self.behind >= EPOCHS && self.counted.saturating_sub(self.seen) >= PACKETS;
        } else if seen > 0 {
            *self = Self { since: now, ..Self::default() };
        } else if self.behind == 0 {
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// An interface whose epochs last a second.
    struct Interface {
        counted: InterfaceCounters,
        witness: Witness,
        epoch: u64,
    }

    impl Interface {
        fn new() -> Self {
            let counted = InterfaceCounters::default();
            Self { witness: Witness::new(&counted, 0), counted, epoch: 0 }
        }

        /// Packets counted and seen at ingress, then at egress.
        fn epoch(&mut self, ingress: (u64, u64), egress: (u64, u64)) -> Verdict {
            self.epoch += 1;
            self.counted.rx_packets += ingress.0;
            self.counted.tx_packets += egress.0;
            self.witness.judge(&self.counted, [ingress.1, egress.1], self.epoch * SECOND)
        }

        /// The epoch at whose end it is called unseen, and since when; with that many epochs alike.
        fn unseen(
            &mut self,
            epochs: u64,
            ingress: (u64, u64),
            egress: (u64, u64),
        ) -> Option<[u64; 2]> {
            (0..epochs).find_map(|_| match self.epoch(ingress, egress) {
                Verdict::Seen => None,
                Verdict::Unseen { since, .. } => Some([self.epoch, since / SECOND]),
            })
        }
    }

    #[test]
    fn packets_that_no_program_sees_are_noticed_in_either_direction() {
        for (ingress, egress) in [((5, 0), (0, 0)), ((0, 0), (5, 0)), ((5, 0), (9, 9))] {
            let mut interface = Interface::new();
            assert_eq!(interface.unseen(100, (7, 7), (7, 7)), None);
            assert_eq!(interface.unseen(9, ingress, egress), None, "{ingress:?} {egress:?}");
            assert_eq!(interface.unseen(1, ingress, egress), Some([110, 100]));
        }
    }

    #[test]
    fn a_few_packets_take_longer_and_idle_epochs_count_for_nothing() {
        let mut interface = Interface::new();
        for _ in 0..49 {
            assert_eq!(interface.unseen(1, (1, 0), (0, 0)), None);
            assert_eq!(interface.unseen(3, (0, 0), (0, 0)), None);
        }
        assert_eq!(interface.unseen(1, (1, 0), (0, 0)), Some([197, 0]));
    }

    #[test]
    fn the_reason_gives_both_numbers() {
        let mut interface = Interface::new();
        assert_eq!(interface.unseen(9, (0, 0), (1000, 100)), None);
        let Verdict::Unseen { reason, .. } = interface.epoch((0, 0), (1000, 100)) else { panic!() };
        assert!(
            reason.contains("it sent 10000 packets, of which the programs saw 1000"),
            "{reason}"
        );
    }

    #[test]
    fn one_that_sees_again_is_called_seen_at_once() {
        let mut interface = Interface::new();
        assert!(interface.unseen(10, (100, 0), (0, 0)).is_some());
        assert!(interface.unseen(1, (0, 0), (3, 3)).is_some(), "that says nothing of ingress");
        assert_eq!(interface.unseen(20, (1, 1), (0, 0)), None);
    }

    /// A card whose counters come two seconds late, with epochs of 200 ms.
    #[test]
    fn late_counters_are_no_sign() {
        let mut interface = Interface::new();
        for _ in 0..50 {
            assert_eq!(interface.unseen(9, (0, 1000), (0, 1000)), None);
            assert_eq!(interface.unseen(1, (10_000, 1000), (10_000, 1000)), None);
        }
        // The last ones come when nothing moves any more.
        assert_eq!(interface.unseen(2, (10_000, 0), (10_000, 0)), None);
        assert_eq!(interface.unseen(100, (0, 0), (0, 0)), None);
    }

    #[test]
    fn what_is_between_two_readings_and_stray_packets_are_no_sign() {
        let mut interface = Interface::new();
        for _ in 0..50 {
            assert_eq!(interface.unseen(1, (20_000, 0), (0, 0)), None);
            assert_eq!(interface.unseen(1, (1000, 21_000), (0, 0)), None);
        }
        // Super-packets: the programs count what they become.
        assert_eq!(interface.unseen(50, (10, 300), (10, 300)), None);
        // A third of what is sent passes no hook.
        assert_eq!(interface.unseen(200, (0, 0), (90, 60)), None);
    }

    #[test]
    fn what_was_dropped_before_the_hooks_is_not_missed() {
        let mut interface = Interface::new();
        for _ in 0..50 {
            interface.counted.dropped += 90;
            assert_eq!(interface.unseen(1, (100, 10), (0, 0)), None);
        }
    }
}
