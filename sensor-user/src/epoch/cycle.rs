//! One epoch after the other: drained, joined, shown, kept, cleared.
//!
//! A half is cleared when its epoch is in the ledger and not before. While the ledger can't be written the half stays
//! as it is, the programs go on in the other one, and what they count there is shown from looks at it in
//! between: so metrics and alerts go on, and nothing is counted or raised twice afterwards.
//!
//! The state is exactly what was committed when no epoch is held and nothing was shown from a look. Only then is it saved:
//! what was merely shown is still in the kernel, and will be counted from there.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::{Absent, Opening};
use crate::{
    clock::{ClockStep, Moment, StepFinder, TrustedClock},
    faults::{self, Point, Safeguard},
    interfaces::Former,
    join::Joiner,
    kernel::{DrainError, GracePeriod, RawEpoch, SeenPackets, Table},
    model::{CLOCK_STEP, EpochRecord, InterfaceCounters, LinkReading},
    resume::Beginning,
    sinks::{
        EpochTimes, Sinks,
        ledger::{
            Commit, Identity, Keeper, Ledger, LedgerError, Port, SavedClock, Snapshot, Wants,
            Writer,
        },
    },
    state::{Coverage, rfc3339},
};

/// How long an epoch waits for the ledger at most, before it goes on without.
const PATIENCE: Duration = Duration::from_millis(500);
/// When the sensor stops, the ledger gets so long for the last epochs.
const LAST: Duration = Duration::from_secs(10);

/// A flow table: two halves, one of which is written while the other is read.
pub trait Halves {
    /// Random, made with the table: no other has the same.
    fn id(&self) -> [u64; 2];
    /// Ends the epoch and reads its half, which stays as it is until it is cleared.
    ///
    /// # Errors
    ///
    /// When it can't be read; nothing is lost, and the next call reads it.
    fn drain(&mut self, grace: GracePeriod) -> Result<RawEpoch, DrainError>;
    /// What was counted so far in the half that is being written, up to a packet or two.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    fn peek(&self) -> Result<RawEpoch, DrainError>;
    /// Empties the half that was read; does nothing where none was.
    ///
    /// # Errors
    ///
    /// When it can't be written; the next call goes on with it.
    fn clear(&mut self) -> Result<(), DrainError>;
    /// Whether an earlier process has flipped an epoch away that it may not have cleared; which one.
    fn left_behind(&self) -> Option<u32>;
    /// That epoch is in the ledger, so that what is left of it is cleared and not counted again.
    fn was_committed(&mut self);
    /// Gives it up, for good; it is empty.
    fn remove(self);
}

impl Halves for Table {
    fn id(&self) -> [u64; 2] {
        Self::id(self)
    }

    fn drain(&mut self, grace: GracePeriod) -> Result<RawEpoch, DrainError> {
        Self::drain(self, grace)
    }

    fn peek(&self) -> Result<RawEpoch, DrainError> {
        Self::peek(self)
    }

    fn clear(&mut self) -> Result<(), DrainError> {
        Self::clear(self)
    }

    fn left_behind(&self) -> Option<u32> {
        Self::left_behind(self)
    }

    fn was_committed(&mut self) {
        Self::was_committed(self);
    }

    fn remove(self) {
        Self::remove(self);
    }
}

/// What an earlier process committed and did not clear is not counted again.
///
/// # Errors
///
/// When the ledger can't be read.
pub fn skip_committed<T: Halves>(
    ledger: &Ledger,
    table: &mut T,
    boot: &str,
) -> Result<(), LedgerError> {
    let Some(epoch) = table.left_behind() else { return Ok(()) };
    let identity = Identity { boot: boot.to_owned(), table: table.id(), epoch: epoch.into() };
    if ledger.is_committed(&identity)? {
        table.was_committed();
    }
    Ok(())
}

/// The interfaces' own counters, which are independent of what the programs count.
pub trait Readings {
    /// What each interface has counted while it was watched.
    fn counters(&mut self) -> Vec<InterfaceCounters>;
    /// The links' counters of the same moment, from which an heir of the sensor goes on.
    fn links(&self) -> Vec<LinkReading>;
    /// The clock was set; where and how the sensor watches by the new time.
    fn clock_stepped(&mut self, step: ClockStep) -> Vec<Coverage>;
    /// Compares the counters as of the last reading with what the programs saw since the one before; where and how the
    /// sensor watches, if that says something new of it.
    fn judge(&mut self, seen: &SeenPackets) -> Option<Vec<Coverage>>;
    /// An earlier process counted and watched before; where and how the sensor watches since then.
    fn go_on(&mut self, former: &Former) -> Vec<Coverage>;
}

/// Everything that an epoch passes through, in this order.
pub struct Cycle<T = Table, P = Writer, O = Absent> {
    /// The maps that are drained: those of an earlier process until they are empty, then those that the programs write.
    pub table: T,
    /// Those that come after, the last one first: the first is the one that the programs write.
    pub next: Vec<T>,
    /// The right to wait until no program writes a half any more.
    pub grace: GracePeriod,
    /// Devices and geo.
    pub joiner: Joiner,
    /// Where records go.
    pub sinks: Sinks,
    /// Where they stay; nothing where the configuration wants no ledger.
    pub keeper: Option<Keeper<P>>,
    /// One that could not be opened yet.
    pub absent: Option<O>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// How far it is.
    pub progress: Progress,
}

/// What one epoch leaves to the next.
#[derive(Debug, Default)]
pub struct Progress {
    /// What was shown of epochs that are still being written, by table.
    shown: Vec<([u64; 2], RawEpoch)>,
    /// Whether an epoch was read that is not yet in the ledger.
    is_held: bool,
    /// Whether the half before was empty.
    was_quiet: bool,
    /// Empty epochs since the last one of this table that was handed to the ledger; nothing before the first.
    quiet: Option<u64>,
    steps: StepFinder,
    /// By which the ledger grows old.
    trusted: TrustedClock,
    /// The last epoch's end, and what could be believed of it.
    clock: SavedClock,
}

impl Progress {
    /// At the beginning, with a clock that goes on from what was believed before.
    pub fn new(trusted: TrustedClock) -> Self {
        Self { trusted, ..Self::default() }
    }
}

impl<T: Halves, P: Port, O: Opening<P>> Cycle<T, P, O> {
    /// The table that the programs write.
    pub fn written(&mut self) -> &mut T {
        self.next.first_mut().unwrap_or(&mut self.table)
    }

    /// Whether there is something of an earlier process that the ledger would take now.
    pub fn is_behind(&self) -> bool {
        !self.progress.is_held
            && self.absent.is_none()
            && (!self.next.is_empty() || self.table.left_behind().is_some())
    }

    /// Lets every reader see where and how the sensor watches.
    pub fn cover(&mut self, coverage: Vec<Coverage>) {
        if let Some(keeper) = &mut self.keeper {
            keeper.cover(coverage.clone(), &self.boot);
        }
        self.sinks.cover(coverage);
    }

    /// One epoch. An error costs its punctuality, not its packets: they stay in the maps.
    pub fn once(&mut self, readings: &mut impl Readings) {
        if let Err(error) = self.epoch(readings) {
            tracing::error!(%error, "this epoch could not be read; it is tried again with the next");
        }
    }

    fn epoch(&mut self, readings: &mut impl Readings) -> Result<(), DrainError> {
        if !self.take_up(readings) {
            return self.look(readings);
        }
        if self.progress.is_held {
            let kept = self.keeper.as_mut().is_none_or(|keeper| keeper.settle(Duration::ZERO));
            if !kept {
                let looked = self.look(readings);
                self.publish_keeping();
                return looked;
            }
            self.progress.is_held = false;
        }
        self.table.clear()?;

        let began = Instant::now();
        let raw = self.table.drain(self.grace)?;
        let drained = Instant::now();
        let stepped = self.tell_time(&raw, readings);
        let interfaces = readings.counters();
        let mut record = self.joiner.join(&raw, interfaces);
        if stepped {
            record.outcomes.push((CLOCK_STEP, 1));
        }
        // An idle epoch costs next to nothing; but what a silent device is called now has to be kept.
        let is_idle = raw.is_quiet() && !self.joiner.inventory().has_changed();
        let links = if is_idle { Vec::new() } else { readings.links() };
        let record = EpochRecord { links, ..record };
        let joined = Instant::now();
        if record.open {
            tracing::error!(epoch = record.epoch, books = ?record.books, "the books do not balance");
        }
        let times = EpochTimes {
            flip: raw.waited,
            drain: drained - began - raw.waited,
            join: joined - drained,
        };
        // What of it was shown before is not shown again.
        let news = self.take_shown(&raw).map(|shown| raw.since(&shown));
        self.judge(news.as_ref().unwrap_or(&raw), readings);
        let rest = news.map(|news| {
            let rest = self.joiner.join(&news, record.interfaces.clone());
            EpochRecord { open: record.open, ..rest }
        });
        self.show(rest.as_ref().unwrap_or(&record), times);
        if faults::without(Safeguard::Order) {
            self.table.clear()?;
        }
        faults::pass(Point::Read);
        if is_idle {
            self.progress.quiet = self.progress.quiet.map(|quiet| quiet + 1);
        }
        if is_idle || self.keep(record) {
            faults::pass(Point::Committed);
            self.table.clear()?;
            if !self.next.is_empty() {
                self.go_on(raw.is_quiet());
            }
            if self.is_exact()
                && let Some(keeper) = &mut self.keeper
            {
                keeper.tidy(|wants| {
                    snapshot(&self.sinks, readings, &self.boot, self.progress.clock, wants)
                });
            }
        } else {
            self.progress.is_held = true;
        }
        self.publish_keeping();
        Ok(())
    }

    /// Takes a ledger up that can be opened now; says whether there is none that can't.
    fn take_up(&mut self, readings: &mut impl Readings) -> bool {
        let Some(absent) = &mut self.absent else { return true };
        let shared = self.sinks.shared();
        let Some(begun) = absent.poll(&shared.snapshot()) else {
            shared.keep(absent.keeping());
            return false;
        };
        let (Beginning { inventory, mut ledger, former, trusted, spans_end }, state) = *begun;
        let tables = self.next.iter_mut().chain([&mut self.table]);
        let skip = |table| skip_committed(&ledger, table, &self.boot);
        if let Err(error) = { tables }.try_for_each(skip) {
            // It could be read a moment ago: the next attempt is as good.
            tracing::error!(%error, "the ledger can't be taken up");
            return false;
        }
        let coverage = readings.go_on(&former);
        let links = former.lacks(readings.links());
        if let Err(error) = ledger.begin(&coverage, spans_end, (&links, &self.boot)) {
            tracing::error!(%error, "the ledger can't be told what is watched now");
        }
        let (path, unfolded) = (ledger.path().to_owned(), ledger.has_records());
        let mut keeper = match absent.serve(ledger) {
            Ok(port) => Keeper::at(path, unfolded, port),
            Err(error) => {
                tracing::error!(%error, "the ledger's thread can't be started");
                return false;
            }
        };
        keeper.retain(absent.retention());
        self.keeper = Some(keeper);
        self.absent = None;
        self.joiner.begin_again(inventory);
        self.sinks.begin_again(state);
        self.progress = Progress { steps: self.progress.steps, ..Progress::new(trusted) };
        self.cover(coverage);
        true
    }

    /// Takes note of when an epoch ended; says whether the clock was set before.
    fn tell_time(&mut self, raw: &RawEpoch, readings: &mut impl Readings) -> bool {
        let now = Moment { wall: raw.ended, boot: raw.boot };
        let trusted = self.progress.trusted.pass(now);
        self.progress.clock = SavedClock { trusted, now };
        let Some(step) = self.progress.steps.pass(now) else { return false };
        let (before, after) = (rfc3339(step.from), rfc3339(step.to));
        tracing::warn!(before, after, "the clock was set");
        self.cover(readings.clock_stepped(step));
        self.sinks.shared().change(|state| state.clock_stepped(step, trusted));
        true
    }

    /// Whether the state is exactly what was committed.
    const fn is_exact(&self) -> bool {
        !self.progress.is_held && self.progress.shown.is_empty()
    }

    /// What was shown of an epoch that has ended now.
    fn take_shown(&mut self, raw: &RawEpoch) -> Option<RawEpoch> {
        let id = self.table.id();
        let shown = &mut self.progress.shown;
        let at = shown.iter().position(|(of, shown)| (*of, shown.epoch) == (id, raw.epoch))?;
        Some(shown.swap_remove(at).1)
    }

    /// Turns from the table of an earlier process, once both its halves are empty, to the next.
    fn go_on(&mut self, is_quiet: bool) {
        let both = mem::replace(&mut self.progress.was_quiet, is_quiet) && is_quiet;
        if both && let Some(next) = self.next.pop() {
            (self.progress.was_quiet, self.progress.quiet) = (false, None);
            mem::replace(&mut self.table, next).remove();
        }
    }

    /// Shows what is being counted, while the half before it waits for the ledger.
    fn look(&mut self, readings: &mut impl Readings) -> Result<(), DrainError> {
        for at in 0..=self.next.len() {
            let began = Instant::now();
            let table = if at == 0 { &self.table } else { &self.next[at - 1] };
            let (id, raw) = (table.id(), table.peek()?);
            let drained = Instant::now();
            self.tell_time(&raw, readings);
            let shown = &mut self.progress.shown;
            let before = shown.iter().position(|(of, then)| (*of, then.epoch) == (id, raw.epoch));
            let new = before.map(|at| raw.since(&shown.swap_remove(at).1));
            let record = self.joiner.join(new.as_ref().unwrap_or(&raw), readings.counters());
            self.judge(new.as_ref().unwrap_or(&raw), readings);
            let record = EpochRecord { open: false, ..record };
            let drain = drained - began;
            let times = EpochTimes { flip: Duration::ZERO, drain, join: drained.elapsed() };
            self.show(&record, times);
            self.progress.shown.push((id, raw));
        }
        Ok(())
    }

    /// Holds the interfaces' own counters, read a moment ago, against what the programs saw.
    fn judge(&mut self, raw: &RawEpoch, readings: &mut impl Readings) {
        // While an earlier process' table is read the programs write another one.
        if self.next.is_empty()
            && let Some(coverage) = readings.judge(&raw.seen_packets())
        {
            self.cover(coverage);
        }
    }

    fn show(&mut self, record: &EpochRecord, times: EpochTimes) {
        let alerts = self.sinks.publish(record, self.joiner.inventory().devices(), times);
        if let Some(keeper) = &mut self.keeper {
            keeper.note(alerts);
        }
    }

    /// Whether an epoch is in the ledger; if not it will be.
    fn keep(&mut self, record: EpochRecord) -> bool {
        let changed = self.joiner.take_changed();
        let Some(keeper) = &mut self.keeper else { return true };
        let (table, epoch) = (self.table.id(), record.epoch.into());
        let identity = Identity { boot: self.boot.clone(), table, epoch };
        let known = self.joiner.inventory().devices();
        let quiet = self.progress.quiet.replace(0);
        let commit = Commit::new(identity, record, known, self.sinks.attributed_by());
        keeper.keep(Box::new(Commit { quiet, ..commit.with_changed(changed) }));
        keeper.settle(PATIENCE)
    }

    fn publish_keeping(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.publish(self.sinks.shared());
        }
    }

    /// Drains both halves and ends the ledger. Says whether all that was counted is in it; what is not stays in the maps,
    /// where they are pinned.
    pub fn finish(mut self, readings: &mut impl Readings) -> bool {
        let now = |cycle: &Self| cycle.keeper.as_ref().map_or_else(Instant::now, Keeper::now);
        let until = now(&self) + LAST;
        let left = |cycle: &Self| until.saturating_duration_since(now(cycle));
        // Both halves: one may still wait from an epoch that could not be read.
        let mut halves = 2;
        while halves > 0 {
            self.once(readings);
            if !self.progress.is_held {
                halves -= 1;
                continue;
            }
            let left = left(&self);
            if !self.keeper.as_mut().is_none_or(|keeper| keeper.settle(left)) {
                break;
            }
        }
        let (patience, is_exact) = (left(&self).max(PATIENCE), self.is_exact());
        let Self { sinks, keeper, absent, boot, progress, .. } = self;
        let Some(keeper) = keeper else { return absent.is_none() };
        let snapshot =
            is_exact.then_some(|wants| snapshot(&sinks, readings, &boot, progress.clock, wants));
        keeper.stop(patience, snapshot) && is_exact
    }
}

/// The sums of the state, with the links' counters of the same moment.
fn snapshot(
    sinks: &Sinks,
    readings: &impl Readings,
    boot: &str,
    clock: SavedClock,
    wants: Wants,
) -> Snapshot {
    let (links, boot) = (readings.links(), boot.to_owned());
    Snapshot { links, boot, clock, ..sinks.snapshot(wants.all_devices) }
}
