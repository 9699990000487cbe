//! One interface of the configuration: what is attached for it, and what is known of it.

use std::{mem, path::PathBuf, time::Instant};

use super::{
    Former, Unwatched, unix_nanos,
    witness::{Verdict, Witness},
};
use crate::{
    clock::ClockStep,
    config::{InterfaceConfig, TcAttach},
    host::{Host, Link},
    kernel::{
        AttachError, Attached, IngressMode, InterfaceError, SeenPackets, Sensor, interface_counters,
    },
    model::{InterfaceCounters, LinkReading},
    state::{Coverage, End, LinkState, Span},
};

/// An interface, as it was and is watched.
pub(super) struct Entry {
    pub(super) coverage: Coverage,
    pub(super) watch: Option<Watch>,
    /// Index of the link that was attached to last, which stays the same one through a change of its name.
    pub(super) link: Option<u32>,
    /// Of all earlier attachments together.
    counted: InterfaceCounters,
}

/// An attachment.
pub(super) struct Watch {
    pub(super) attached: Attached,
    config: InterfaceConfig,
    tc: TcAttach,
    /// When its programs took their places; what was read of links before says nothing of them.
    pub(super) placed: Instant,
    /// When it was last known that they are there, Unix time in nanoseconds.
    pub(super) confirmed: u64,
    /// What the interface's own counters say of the programs.
    witness: Witness,
    /// Why the programs don't see the interface's packets, although they are there; empty while they do.
    unseen: String,
    /// Whether the log knows.
    announced: bool,
    /// The link's counters right before.
    baseline: InterfaceCounters,
    /// And what they have counted since.
    since: InterfaceCounters,
}

impl Entry {
    pub(super) fn new(interface: &InterfaceConfig, former: Option<&InterfaceCounters>) -> Self {
        let counted = former.cloned().unwrap_or_default();
        let counted = InterfaceCounters { name: interface.name.clone(), ..counted };
        Self { coverage: Coverage::new(&interface.name), watch: None, link: None, counted }
    }

    /// Attaches to a link, unless that is done.
    pub(super) fn attach(
        &mut self,
        sensor: &mut Sensor,
        link: &Link,
        config: &InterfaceConfig,
        tc: TcAttach,
        former: &Former,
    ) -> Result<(), Unwatched> {
        if self.watch.is_some() {
            return Ok(());
        }
        let missing = || Unwatched::Missing(config.name.clone());
        let mut baseline = interface_counters(&link.name).map_err(|_gone| missing())?;
        let attached = Attached::new(sensor, link, config, tc).map_err(|error| match error {
            AttachError::Interface(InterfaceError::Missing(_)) => missing(),
            error => Unwatched::Refused(error),
        })?;
        let placed = unix_nanos();
        let (mut from, mut since) = (placed, InterfaceCounters::default());
        if attached.taken_over {
            // Nothing was missed meanwhile, by the links' counters neither.
            let is_same = |last: &&LinkReading| {
                (last.ifindex, &last.counters.name) == (link.index, &config.name)
            };
            if let Some(last) = former.links.iter().find(is_same) {
                since = baseline.since(&last.counters);
                baseline.clone_from(&last.counters);
            }
            if let Some((_, began)) = former.spans.iter().find(|(name, _)| *name == config.name) {
                from = *began;
            }
        }
        self.coverage.begin(span(&attached, &link.name, from));
        self.link = Some(link.index);
        self.watch = Some(Watch {
            attached,
            config: config.clone(),
            tc,
            placed: Instant::now(),
            confirmed: placed,
            witness: Witness::new(&since, placed),
            unseen: String::new(),
            announced: false,
            baseline,
            since,
        });
        Ok(())
    }

    /// Goes on where an earlier process did, whose programs were taken over.
    pub(super) fn go_on(&mut self, former: &Former) {
        let name = &*self.coverage.name;
        if let Some(counted) = former.counted.iter().find(|counted| counted.name == name) {
            self.counted.add(counted);
        }
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.attached.taken_over) else {
            return;
        };
        let is_same = |last: &&LinkReading| {
            (last.ifindex, &*last.counters.name) == (watch.attached.ifindex, name)
        };
        if let Some(last) = former.links.iter().find(is_same) {
            watch.since.add(&watch.baseline.since(&last.counters));
            watch.baseline.clone_from(&last.counters);
        }
        if let Some((_, began)) = former.spans.iter().find(|(of, _)| of == name) {
            self.coverage.began(*began);
        }
    }

    /// Says in the log what is attached, and why what should be is not; each once.
    pub(super) fn announce(&mut self, outcome: &Result<(), Unwatched>) {
        let interface = &*self.coverage.name;
        if let (Some(watch), Some(span)) = (&mut self.watch, self.coverage.current())
            && !mem::replace(&mut watch.announced, true)
        {
            let (ingress, egress) = (span.ingress, span.egress);
            tracing::info!(interface, link = &*span.link, ingress, egress, "attached");
            let reason = &*span.fallback_reason;
            if !reason.is_empty() {
                tracing::warn!(
                    interface,
                    reason,
                    "counting uploads at TC ingress, without native XDP"
                );
            }
        }
        let unseen = self.watch.as_ref().map(|watch| watch.unseen.clone());
        let reason = outcome.as_ref().err().map(ToString::to_string);
        let reason = reason.or(unseen).unwrap_or_default();
        if self.coverage.reason != reason {
            if !reason.is_empty() {
                tracing::warn!(interface, reason, "not watched");
            }
            self.coverage.reason = reason;
        }
    }

    /// Detaches. `at_end` is what the link had counted when it was deleted.
    pub(super) fn end(&mut self, now: u64, why: End, at_end: Option<&InterfaceCounters>) {
        let Some(mut watch) = self.watch.take() else { return };
        match (at_end, &self.coverage.link) {
            (Some(counters), _) => watch.count(counters),
            (None, Some(link)) if why != End::Gone => watch.read(&link.name),
            (None, _) => {}
        }
        self.counted.add(&watch.since);
        self.coverage.end(now, why);
        if !watch.announced {
            return;
        }
        let interface = &*self.coverage.name;
        match why {
            End::Removed | End::Changed | End::Stopped => {
                tracing::info!(interface, reason = why.name(), "detached");
            }
            End::Gone
            | End::Renamed
            | End::Detached
            | End::Preceded
            | End::Unseen
            | End::Covered
            | End::ClockStep => {
                tracing::warn!(interface, reason = why.name(), "no longer attached");
            }
        }
    }

    /// Compares what the interface has counted since the last call with what the programs saw of it; says whether
    /// the coverage has changed. The programs stay where they are: that is all there is to be done, and so it is
    /// seen when they see again.
    pub(super) fn judge(&mut self, links: &Host, seen: &SeenPackets, now: u64) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        let attached = &watch.attached;
        let link = links.by_index(attached.ifindex);
        // A program that comes before ours may drop, send back and redirect as it likes; that it is there is said.
        let is_behind_xdp =
            attached.ingress == IngressMode::Tc && link.is_none_or(|link| link.xdp.is_some());
        if is_behind_xdp {
            watch.witness = Witness::new(&watch.since, now);
        }
        let interface = &*self.coverage.name;
        match watch.witness.judge(&watch.since, seen.of(attached.ifindex), now) {
            Verdict::Seen if !watch.unseen.is_empty() => {
                tracing::info!(interface, "the programs see the interface's packets again");
                watch.unseen.clear();
                let link = link.map_or(interface, |link| &*link.name);
                let span = span(attached, link, now);
                self.coverage.begin(span);
                true
            }
            Verdict::Unseen { since, reason } if watch.unseen.is_empty() => {
                tracing::error!(interface, reason, "not watched");
                self.coverage.end(since, End::Unseen);
                self.coverage.reason.clone_from(&reason);
                watch.unseen = reason;
                true
            }
            Verdict::Seen | Verdict::Unseen { .. } => false,
        }
    }

    /// The clock was set: times that are kept go with it.
    pub(super) fn clock_stepped(&mut self, step: ClockStep) {
        self.coverage.clock_stepped(step);
        if let Some(watch) = &mut self.watch {
            watch.confirmed = step.shift(watch.confirmed);
            watch.witness.clock_stepped(step);
        }
    }

    /// Lets the programs go on when the process ends.
    pub(super) fn leave(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.attached.leave();
        }
    }

    /// Where its links are pinned, while it is watched.
    pub(super) fn pins(&self) -> Option<Vec<PathBuf>> {
        Some(self.watch.as_ref()?.attached.pins())
    }

    /// The counters of the link, while it is watched.
    pub(super) fn reading(&self) -> Option<LinkReading> {
        let watch = self.watch.as_ref()?;
        let mut counters =
            InterfaceCounters { name: self.coverage.name.to_string(), ..watch.baseline.clone() };
        counters.add(&watch.since);
        Some(LinkReading { ifindex: watch.attached.ifindex, counters })
    }

    /// Notes the link as it is now.
    pub(super) fn describe(&mut self, links: &Host) {
        let followed = self.link.and_then(|index| links.by_index(index));
        let by_name = links.link(&self.coverage.name);
        let link = by_name.or(followed).map(|link| LinkState {
            name: link.name.clone(),
            up: link.up,
            mtu: link.mtu,
        });
        if self.coverage.link == link {
            return;
        }
        let interface = &*self.coverage.name;
        match (&self.coverage.link, &link) {
            (Some(old), Some(new)) => {
                if old.name != new.name {
                    tracing::warn!(
                        interface,
                        link = new.name,
                        "the interface has another name now"
                    );
                }
                if old.up != new.up {
                    tracing::info!(interface, up = new.up, "the interface was switched");
                }
                if old.mtu != new.mtu {
                    tracing::info!(interface, mtu = new.mtu, "the interface has another MTU now");
                }
            }
            (Some(_), None) => tracing::warn!(interface, "the interface is gone"),
            (None, _) => {}
        }
        self.coverage.link = link;
    }

    pub(super) fn counters(&mut self, links: &Host) -> InterfaceCounters {
        let mut sum = self.counted.clone();
        if let Some(watch) = &mut self.watch {
            if let Some(link) = links.by_index(watch.attached.ifindex) {
                watch.read(&link.name);
            }
            sum.add(&watch.since);
        }
        sum
    }
}

/// A span that begins.
fn span(attached: &Attached, link: &str, from: u64) -> Span {
    Span {
        from,
        to: None,
        link: link.into(),
        ingress: attached.ingress.as_str(),
        egress: attached.egress.as_str(),
        fallback_reason: attached.fallback_reason.as_str().into(),
        end: None,
    }
}

impl Watch {
    /// Reads the link's counters. Where it is just being deleted, the last ones come with the news of
    /// that.
    fn read(&mut self, link: &str) {
        if let Ok(counters) = interface_counters(link) {
            self.count(&counters);
        }
    }

    /// What was counted never becomes less, not even where a driver starts again from zero.
    fn count(&mut self, now: &InterfaceCounters) {
        let grow =
            |since: &mut u64, now: u64, then: u64| *since = (*since).max(now.saturating_sub(then));
        let (since, then) = (&mut self.since, &self.baseline);
        grow(&mut since.rx_packets, now.rx_packets, then.rx_packets);
        grow(&mut since.rx_bytes, now.rx_bytes, then.rx_bytes);
        grow(&mut since.tx_packets, now.tx_packets, then.tx_packets);
        grow(&mut since.tx_bytes, now.tx_bytes, then.tx_bytes);
        grow(&mut since.dropped, now.dropped, then.dropped);
    }

    /// Whether the configuration wants it attached as it is; a change of the rest asks for nothing.
    pub(super) fn suits(&self, config: &InterfaceConfig, tc: TcAttach) -> bool {
        let ways = |config: &InterfaceConfig| {
            (config.attach, config.when_xdp_is_taken, config.jumbo_frames)
        };
        self.tc == tc && ways(&self.config) == ways(config)
    }
}
