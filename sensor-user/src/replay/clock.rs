//! Epochs by the captures' own time.

use std::time::Duration;

/// Packets after which an epoch ends in any case, so that its flows have a bounded place in memory.
const MAX_PACKETS: u32 = 1 << 18;

/// Which packets are of one epoch.
#[derive(Debug)]
pub(super) struct Clock {
    length: u64,
    /// Time of the epoch's first packet, Unix time in nanoseconds.
    start: u64,
    /// Of its latest one.
    latest: u64,
    packets: u32,
}

impl Clock {
    pub(super) fn new(length: Duration) -> Self {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self { length, start: 0, latest: 0, packets: 0 }
    }

    /// Whether a packet begins another epoch: it is later than this one, or so much earlier that the
    /// times of this one would say nothing of it. Packets that came by different ways may well be a
    /// little out of order.
    pub(super) const fn ends(&self, time: u64) -> bool {
        self.packets > 0
            && (self.packets == MAX_PACKETS
                || time >= self.start.saturating_add(self.length)
                || time < self.start.saturating_sub(self.length))
    }

    /// Notes a packet of this epoch.
    pub(super) fn note(&mut self, time: u64) {
        if self.packets == 0 {
            (self.start, self.latest) = (time, time);
        }
        self.latest = self.latest.max(time);
        self.packets += 1;
    }

    /// The time of the latest packet; a packet that has no time of its own has this one.
    pub(super) const fn latest(&self) -> u64 {
        self.latest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// The next packet begins an epoch.
    pub(super) const fn restart(&mut self) {
        self.packets = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Numbers of packets of the epochs that packets at such times make.
    fn epochs(times: &[u64]) -> Vec<u32> {
        let mut clock = Clock::new(Duration::from_secs(1));
        let mut epochs = Vec::new();
        for time in times {
            if clock.ends(*time) {
                epochs.push(clock.packets);
                clock.restart();
            }
            clock.note(*time);
        }
        epochs.push(clock.packets);
        epochs
    }

    #[test]
    fn time_cuts_epochs() {
        let start = 1000 * SECOND;
        let half = SECOND / 2;
        assert_eq!(epochs(&[start, start + half, start + SECOND, start + SECOND + 1]), [2, 2]);
        // An hour without packets is no epochs.
        assert_eq!(epochs(&[start, start + 3600 * SECOND]), [1, 1]);
        // A little out of order, and another time altogether.
        assert_eq!(epochs(&[start, start - half, start + half]), [3]);
        assert_eq!(epochs(&[start, start - 2 * SECOND, start]), [1, 1, 1]);
        // One packet from the far future is an epoch by itself.
        assert_eq!(epochs(&[start, u64::MAX, start, start]), [1, 1, 2]);
        assert_eq!(epochs(&[0, 0]), [2]);
    }

    #[test]
    fn an_epoch_has_a_bounded_number_of_packets() {
        let times = vec![SECOND; MAX_PACKETS as usize + 1];
        assert_eq!(epochs(&times), [MAX_PACKETS, 1]);
    }
}
