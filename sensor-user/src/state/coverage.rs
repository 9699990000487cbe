//! From when to when, where and how the sensor watched.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::clock::ClockStep;

/// Spans kept for each interface; of older ones only their number and length is.
const MAX_SPANS: usize = 256;

/// A time during which an interface was watched in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// When the programs were attached, Unix time in nanoseconds.
    pub from: u64,
    /// When they no longer were, or the link was gone; `None` while it lasts.
    pub to: Option<u64>,
    /// Name of the link, which may have another one than the configuration says.
    pub link: Arc<str>,
    /// How uploads were counted: `xdp` or `tc`.
    pub ingress: &'static str,
    /// How downloads were counted: `tcx` or `clsact`.
    pub egress: &'static str,
    /// Why it was not native XDP although that was wanted; empty otherwise.
    pub fallback_reason: Arc<str>,
    /// Why it ended.
    pub end: Option<End>,
}

/// Why a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The link was deleted, or went to another network namespace.
    Gone,
    /// Another link has the name that the configuration watches.
    Renamed,
    /// Somebody else took the programs off.
    Detached,
    /// A program of somebody else came before ours, and may have ended the chain.
    Preceded,
    /// The interface counted packets that the programs did not see.
    Unseen,
    /// Another interface shows the same frames, since it became the bridge, bond or parent of this one.
    Covered,
    /// The configuration wants it watched in another way.
    Changed,
    /// The configuration no longer names it.
    Removed,
    /// The sensor stopped.
    Stopped,
    /// The clock was set; another span goes on by the new time.
    ClockStep,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Gone,
        Self::Renamed,
        Self::Detached,
        Self::Preceded,
        Self::Unseen,
        Self::Covered,
        Self::Changed,
        Self::Removed,
        Self::Stopped,
        Self::ClockStep,
    ];

    /// The word in reports, metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Renamed => "renamed",
            Self::Detached => "detached",
            Self::Preceded => "preceded",
            Self::Unseen => "unseen",
            Self::Covered => "covered",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Stopped => "stopped",
            Self::ClockStep => "clock_step",
        }
    }
}

/// The link behind an interface, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
}

/// An interface that the configuration names, or did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Whether the configuration still names it.
    pub configured: bool,
    /// The link of that name, where there is one.
    pub link: Option<LinkState>,
    /// Why it is not watched; empty while it is.
    pub reason: String,
    spans: VecDeque<Span>,
    forgotten: u64,
    /// Of the spans that have ended.
    covered: Duration,
    ends: [u64; End::ALL.len()],
}

impl Coverage {
    /// Nothing yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), configured: true, ..Self::default() }
    }

    /// A span begins.
    pub fn begin(&mut self, span: Span) {
        self.reason.clear();
        if self.spans.len() == MAX_SPANS {
            self.spans.pop_front();
            self.forgotten += 1;
        }
        self.spans.push_back(span);
    }

    /// The span that lasts began earlier than was known.
    pub fn began(&mut self, from: u64) {
        if let Some(span) = self.spans.back_mut().filter(|span| span.to.is_none()) {
            span.from = span.from.min(from);
        }
    }

    /// The span that lasts ends, at Unix time `now` in nanoseconds.
    pub fn end(&mut self, now: u64, why: End) {
        if let Some(span) = self.spans.back_mut().filter(|span| span.to.is_none()) {
            // The clock may have been set back.
            let to = now.max(span.from);
            span.to = Some(to);
            span.end = Some(why);
            self.covered += Duration::from_nanos(to - span.from);
            self.ends[why as usize] += 1;
        }
    }

    /// The clock was set: what was watched until now by the old time is watched on by the new one.
    pub fn clock_stepped(&mut self, step: ClockStep) {
        if let Some(span) = self.current().cloned() {
            self.end(step.from, End::ClockStep);
            self.begin(Span { from: step.to, ..span });
        }
    }

    /// The span that lasts: how it is watched now.
    pub fn current(&self) -> Option<&Span> {
        self.spans.back().filter(|span| span.to.is_none())
    }

    /// The latest spans, oldest first.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter()
    }

    /// How many earlier ones there were.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// For how long it was watched, until Unix time `now` in nanoseconds.
    pub fn covered(&self, now: u64) -> Duration {
        let lasting = self.current().map_or(0, |span| now.saturating_sub(span.from));
        self.covered + Duration::from_nanos(lasting)
    }

    /// How often spans ended, by reason.
    pub fn ends(&self) -> impl Iterator<Item = (End, u64)> {
        End::ALL.into_iter().map(|end| (end, self.ends[end as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64) -> Span {
        Span {
            from,
            to: None,
            link: "lan0".into(),
            ingress: "xdp",
            egress: "tcx",
            fallback_reason: "".into(),
            end: None,
        }
    }

    #[test]
    fn what_was_covered_is_the_sum_of_its_spans() {
        let mut coverage = Coverage::new("lan0");
        assert_eq!((coverage.covered(99), coverage.current()), (Duration::ZERO, None));
        coverage.begin(span(10));
        assert_eq!(coverage.covered(15), Duration::from_nanos(5));
        coverage.end(30, End::Gone);
        coverage.end(40, End::Stopped);
        assert_eq!((coverage.covered(99), coverage.current()), (Duration::from_nanos(20), None));
        coverage.begin(span(50));
        // A clock that was set back takes nothing away.
        coverage.end(45, End::Changed);
        coverage.begin(span(60));
        assert_eq!(coverage.covered(55), Duration::from_nanos(20));
        let ends: Vec<_> = coverage.ends().filter(|(_, count)| *count > 0).collect();
        assert_eq!(ends, [(End::Gone, 1), (End::Changed, 1)]);
    }

    #[test]
    fn a_clock_that_is_set_covers_no_time() {
        let mut coverage = Coverage::new("lan0");
        coverage.begin(span(10));
        coverage.clock_stepped(ClockStep { from: 30, to: 1_000_000 });
        assert_eq!(coverage.covered(1_000_005), Duration::from_nanos(25));
        coverage.clock_stepped(ClockStep { from: 1_000_010, to: 40 });
        assert_eq!(coverage.covered(45), Duration::from_nanos(35));
        let spans: Vec<_> = coverage.spans().map(|span| (span.from, span.to)).collect();
        assert_eq!(spans, [(10, Some(30)), (1_000_000, Some(1_000_010)), (40, None)]);
    }

    #[test]
    fn memory_is_bounded_and_nothing_of_the_sum_is_lost() {
        let mut coverage = Coverage::new("lan0");
        for at in 0..1000 {
            coverage.begin(span(2 * at));
            coverage.end(2 * at + 1, End::Gone);
        }
        assert_eq!(coverage.spans().count(), MAX_SPANS);
        assert_eq!(coverage.forgotten(), 1000 - MAX_SPANS as u64);
        assert_eq!(coverage.covered(0), Duration::from_nanos(1000));
        assert_eq!(coverage.spans().next().unwrap().from, 2 * (1000 - MAX_SPANS as u64));
    }
}
