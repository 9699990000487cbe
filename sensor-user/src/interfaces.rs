//! The interfaces that the configuration names, and the links that there are: kept in agreement while
//! links come, change and go.
//!
//! Whenever something changes, what should be is compared with what is, and what is missing is done. That needs
//! no history. So it does not matter which events came, in which order, or whether one got lost.

mod entry;
mod witness;

use std::{
    collections::BTreeMap,
    mem,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use self::entry::Entry;
use crate::{
    clock::ClockStep,
    config::{InterfaceConfig, TcAttach, WhenMissing},
    host::{Host, Link},
    kernel::{AttachError, InterfaceError, SeenPackets, Sensor, Standing},
    model::{InterfaceCounters, LinkReading},
    state::{Coverage, End},
};

/// What the configuration says of interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which, and how.
    pub interfaces: Vec<InterfaceConfig>,
    /// How TC programs are attached.
    pub tc: TcAttach,
}

/// The links have changed.
#[derive(Debug)]
pub struct LinkNews {
    /// As they are now.
    pub links: Host,
    /// The kernel was asked right after this.
    pub asked: Instant,
    /// Those that were deleted since the last news, as they were at their end.
    pub gone: Vec<Link>,
}

/// All interfaces that are or were to be watched.
pub struct Interfaces {
    wanted: Wanted,
    links: Host,
    /// When the kernel was asked for them.
    asked: Instant,
    /// By name in the configuration.
    entries: BTreeMap<String, Entry>,
    former: Former,
}

/// What an earlier process knew of the interfaces.
#[derive(Debug, Clone, Default)]
pub struct Former {
    /// What they had counted while they were watched.
    pub counted: Vec<InterfaceCounters>,
    /// The links, as they were read last; of this boot.
    pub links: Vec<LinkReading>,
    /// When spans began that had not ended, by interface; of this boot.
    pub spans: Vec<(String, u64)>,
}

impl Former {
    /// Those of the links of which nothing was known.
    pub fn lacks(&self, mut links: Vec<LinkReading>) -> Vec<LinkReading> {
        let is_known = |link: &LinkReading, known: &LinkReading| {
            (known.ifindex, &known.counters.name) == (link.ifindex, &link.counters.name)
        };
        links.retain(|link| !self.links.iter().any(|known| is_known(link, known)));
        links
    }
}

/// Why an interface is not watched.
#[derive(Debug, thiserror::Error)]
enum Unwatched {
    #[error("interface {0} does not exist")]
    Missing(String),
    #[error("its frames pass {0} as well, which is watched, and would count twice")]
    Covered(String),
    #[error(transparent)]
    Refused(AttachError),
}

impl Unwatched {
    fn into_error(self, interface: String) -> AttachError {
        match self {
            Self::Missing(name) => InterfaceError::Missing(name).into(),
            Self::Covered(other) => AttachError::Covered { interface, other },
            Self::Refused(error) => error,
        }
    }
}

impl Interfaces {
    /// Attaches to everything that the configuration names, and goes on where an earlier process' links do.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or an interface is missing that is not to be waited for; nothing stays
    /// attached then.
    pub fn attach(
        sensor: &mut Sensor,
        wanted: Wanted,
        LinkNews { links, asked, .. }: LinkNews,
        former: Former,
    ) -> Result<Self, AttachError> {
        let mut interfaces = Self {
            wanted: Wanted { interfaces: Vec::new(), tc: wanted.tc },
            links,
            asked,
            entries: BTreeMap::new(),
            former,
        };
        if let Err(error) = interfaces.exchange(sensor, wanted) {
            // What was taken over is the next one's to take over.
            interfaces.leave();
            return Err(error);
        }
        // From here on there is nothing to go on from.
        interfaces.former = Former::default();
        sensor.keep_links(interfaces.entries.values().filter_map(Entry::pins).flatten());
        Ok(interfaces)
    }

    /// Watches these interfaces from here on.
    ///
    /// # Errors
    ///
    /// When one that is new, or is to be watched in another way, can't be; all is as before then.
    pub fn exchange(&mut self, sensor: &mut Sensor, wanted: Wanted) -> Result<(), AttachError> {
        let old = mem::replace(&mut self.wanted, wanted);
        let mut outcomes = self.settle(sensor);
        let refused =
            self.wanted.interfaces.iter().zip(&outcomes).position(|(interface, outcome)| {
                let before = old.interfaces.iter().find(|before| before.name == interface.name);
                let is_new = before != Some(interface) || old.tc != self.wanted.tc;
                match outcome {
                    Ok(()) => false,
                    // One that went away under way is waited for.
                    Err(Unwatched::Missing(_)) => {
                        before.is_none() && interface.when_missing == WhenMissing::Fail
                    }
                    Err(Unwatched::Covered(_) | Unwatched::Refused(_)) => is_new,
                }
            });
        let refusal = refused.and_then(|at| {
            let interface = self.wanted.interfaces[at].name.clone();
            Some(outcomes.swap_remove(at).err()?.into_error(interface))
        });
        let Some(refusal) = refusal else {
            self.announce(&outcomes);
            return Ok(());
        };
        self.wanted = old;
        let outcomes = self.settle(sensor);
        self.announce(&outcomes);
        Err(refusal)
    }

    /// Takes note of changed links, and does what they ask for.
    pub fn follow(&mut self, sensor: &mut Sensor, news: LinkNews) {
        (self.links, self.asked) = (news.links, news.asked);
        let now = unix_nanos();
        for link in &news.gone {
            for entry in self.entries.values_mut() {
                if entry.link == Some(link.index) {
                    entry.end(now, End::Gone, Some(&link.counters));
                    entry.link = None;
                }
            }
        }
        let outcomes = self.settle(sensor);
        self.announce(&outcomes);
    }

    /// Ends everything; what has been counted stays in the tables.
    pub fn detach(&mut self) {
        let now = unix_nanos();
        for entry in self.entries.values_mut() {
            entry.end(now, End::Stopped, None);
        }
    }

    /// Lets the programs go on counting when the process ends.
    pub fn leave(&mut self) {
        for entry in self.entries.values_mut() {
            entry.leave();
        }
    }

    /// Goes on where an earlier process' links do, of which nothing was known when they were attached.
    pub fn go_on(&mut self, former: &Former) {
        for entry in self.entries.values_mut() {
            entry.go_on(former);
        }
    }

    /// The clock was set: spans go on by the new time.
    pub fn clock_stepped(&mut self, step: ClockStep) {
        for entry in self.entries.values_mut() {
            entry.clock_stepped(step);
        }
    }

    /// The counters of the links that are watched, as of the last call of [`counters`](Self::counters).
    pub fn links(&self) -> Vec<LinkReading> {
        self.entries.values().filter_map(Entry::reading).collect()
    }

    /// The interfaces as they are, for every reader.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.entries.values().map(|entry| entry.coverage.clone()).collect()
    }

    /// The interfaces' own counters while they were watched.
    pub fn counters(&mut self) -> Vec<InterfaceCounters> {
        self.entries.values_mut().map(|entry| entry.counters(&self.links)).collect()
    }

    /// Compares what the interfaces have counted since the last call with what the programs saw of it. Says whether
    /// one is watched now that was not, or the other way round.
    pub fn judge(&mut self, seen: &SeenPackets) -> bool {
        let now = unix_nanos();
        let mut changed = false;
        for entry in self.entries.values_mut() {
            changed |= entry.judge(&self.links, seen, now);
        }
        changed
    }

    /// Compares and does what is missing; what came of it for each wanted interface.
    fn settle(&mut self, sensor: &mut Sensor) -> Vec<Result<(), Unwatched>> {
        for interface in &self.wanted.interfaces {
            let counted = self.former.counted.iter().find(|former| former.name == interface.name);
            self.entries
                .entry(interface.name.clone())
                .or_insert_with(|| Entry::new(interface, counted));
        }
        let targets = self.targets();
        self.release(sensor, &targets);

        let attach = |(interface, target): (&InterfaceConfig, Result<u32, Unwatched>)| {
            let missing = || Unwatched::Missing(interface.name.clone());
            let link = self.links.by_index(target?).ok_or_else(missing)?;
            let entry = self.entries.get_mut(&interface.name).ok_or_else(missing)?;
            entry.attach(sensor, link, interface, self.wanted.tc, &self.former)
        };
        let outcomes = self.wanted.interfaces.iter().zip(targets).map(attach).collect();
        for entry in self.entries.values_mut() {
            entry.describe(&self.links);
        }
        // What was named by a configuration that did not come to hold.
        self.entries.retain(|_, entry| {
            entry.coverage.configured || entry.coverage.spans().next().is_some()
        });
        outcomes
    }

    /// Says in the log what has become of the wanted interfaces.
    fn announce(&mut self, outcomes: &[Result<(), Unwatched>]) {
        for (interface, outcome) in self.wanted.interfaces.iter().zip(outcomes) {
            if let Some(entry) = self.entries.get_mut(&interface.name) {
                entry.announce(outcome);
            }
        }
    }

    /// Which link each wanted interface is, or why none.
    fn targets(&self) -> Vec<Result<u32, Unwatched>> {
        let links: Vec<_> = self
            .wanted
            .interfaces
            .iter()
            .map(|interface| {
                let by_name = self.links.link(&interface.name).map(|link| link.index);
                // One that was renamed is the same link, as long as no other has the name.
                by_name.or_else(|| {
                    let last = self.entries.get(&interface.name)?.link?;
                    self.links.by_index(last).map(|link| link.index)
                })
            })
            .collect();
        let is_covered = |at: usize, index: u32| {
            links.iter().enumerate().find_map(|(other, link)| {
                let link = (*link).filter(|_| other != at)?;
                let counts = if link == index {
                    other < at
                } else {
                    self.links.counting(index, link) == Some(link)
                };
                counts.then(|| self.wanted.interfaces[other].name.clone())
            })
        };
        let target = |(at, interface): (usize, &InterfaceConfig)| {
            let index = links[at].ok_or_else(|| Unwatched::Missing(interface.name.clone()))?;
            is_covered(at, index).map_or(Ok(index), |other| Err(Unwatched::Covered(other)))
        };
        self.wanted.interfaces.iter().enumerate().map(target).collect()
    }

    /// Detaches from what is not to be watched, or not in this way.
    fn release(&mut self, sensor: &mut Sensor, targets: &[Result<u32, Unwatched>]) {
        let (tc, now) = (self.wanted.tc, unix_nanos());
        for (name, entry) in &mut self.entries {
            let wanted = self.wanted.interfaces.iter().zip(targets);
            let wanted = wanted.clone().find(|(interface, _)| interface.name == *name);
            entry.coverage.configured = wanted.is_some();
            let Some(watch) = &mut entry.watch else { continue };
            let link = self.links.by_index(watch.attached.ifindex);
            let why = match (wanted, link) {
                (None, _) => Some(End::Removed),
                (_, None) => Some(End::Gone),
                (Some((_, Err(Unwatched::Covered(_)))), _) => Some(End::Covered),
                (Some((_, target)), Some(link)) if !matches!(target, Ok(index) if *index == link.index) => {
                    Some(End::Renamed)
                }
                (Some((interface, _)), _) if !watch.suits(interface, tc) => Some(End::Changed),
                (_, Some(_)) if self.asked < watch.placed => None,
                (_, Some(link)) => match watch.attached.standing(sensor, link) {
                    Standing::Listed => {
                        watch.confirmed = now;
                        None
                    }
                    Standing::Missing => Some(End::Detached),
                    Standing::Preceded(other) => {
                        tracing::warn!(
                            interface = &**name,
                            by = other,
                            "another program came before ours"
                        );
                        Some(End::Preceded)
                    }
                },
            };
            if let Some(why) = why {
                // Since when it was so nobody knows: what is not known to be watched is a gap.
                let is_found_late = matches!(why, End::Detached | End::Preceded);
                let end = if is_found_late { watch.confirmed } else { now };
                entry.end(end, why, None);
            }
        }
    }
}

fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
