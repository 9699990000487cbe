//! The audit: what the ledger says of a period.
//!
//! A period is half-open: what begins at its end belongs to the next one, so that the sums of any partition are those of
//! the whole. What is in the tables belongs to it by the beginning of its minute (or hour, where minutes are no longer
//! kept), what is not yet folded by the end of its epoch.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rusqlite::{Connection, Row};
use sensor_common::report::{
    Audit, AuditedInterface, Balance, Coverage, Event, Gap, REPORT_VERSION,
};

use super::{LedgerError, file, int, pending::NANOS, proof, restore, uint};
use crate::{
    model::{EpochBooks, InterfaceCounters},
    state::rfc3339,
};

/// Why an interface is not watched of which nothing else is known.
const UNKNOWN: &str = "not_yet";
/// Why nobody knows whether it was: no epoch was committed since.
const NO_EPOCH: &str = "no_epoch";
/// A link may show so many packets that no program saw, and a hundredth of all, before it is said: what a driver counts and
/// drops before the hooks.
const UNSEEN: u64 = 1000;

/// What a ledger says of the time from `since` until before `until`, Unix time in nanoseconds.
///
/// # Errors
///
/// When the file can't be read.
pub fn audit(path: &Path, since: u64, until: u64) -> Result<Audit, LedgerError> {
    let mut connection = file::open_to_read(path)?;
    // One moment for everything.
    let connection = connection.transaction()?;
    let period = Period { since, until };
    let known = Known::read(&connection)?;

    let mut sums = Sums::default();
    period.folded(&connection, &mut sums)?;
    period.recorded(&connection, &mut sums)?;
    let Sums { first, epochs, open_epochs, books, events, mut interfaces } = sums;
    // Before its first epoch the ledger knows nothing, and after its last one neither.
    let from = since.max(first.or(known.first).unwrap_or(since));
    let to = until.min(known.last).max(from.min(until));
    for name in period.to_be_watched(&connection)? {
        interfaces.entry(name).or_default();
    }
    let passed = interfaces
        .values()
        .fold(0_u64, |sum, one| sum.saturating_add(one.rx_packets).saturating_add(one.tx_packets));
    let unseen = passed.saturating_sub(books.seen.packets);
    let mut audited = Vec::new();
    for (name, counters) in interfaces {
        let spans = period.spans(&connection, &name)?;
        let window = (if since == 0 { earliest(&spans, from) } else { since }, until);
        let (coverage, gaps) = watched(&spans, window, known.last);
        audited.push(AuditedInterface {
            name,
            rx_packets: counters.rx_packets,
            rx_bytes: counters.rx_bytes,
            tx_packets: counters.tx_packets,
            tx_bytes: counters.tx_bytes,
            dropped: counters.dropped,
            coverage,
            gaps,
        });
    }
    let is_whole = !proof::LOSSES.iter().any(|loss| events.contains_key(*loss));
    // What was counted before this file began may be in one that was damaged.
    let begins_before = known.first.is_none_or(|first| since < first);
    let set_aside = if begins_before { file::all_set_aside(path) } else { Vec::new() };
    Ok(Audit {
        version: REPORT_VERSION,
        ledger: path.display().to_string(),
        from: rfc3339(from),
        until: rfc3339(to),
        epochs,
        open_epochs,
        closed: books.closed() && open_epochs == 0 && is_whole && set_aside.is_empty(),
        unseen_packets: if unseen > UNSEEN + passed / 100 { unseen } else { 0 },
        set_aside,
        balance: balance(&books),
        interfaces: audited,
        events: events.into_iter().map(|(event, count)| Event { event, count }).collect(),
    })
}

/// Between which epochs a ledger knows anything, Unix time in nanoseconds.
struct Known {
    first: Option<u64>,
    /// 0 without one.
    last: u64,
}

impl Known {
    fn read(connection: &Connection) -> Result<Self, LedgerError> {
        let number =
            |sql| connection.query_row(sql, [], |row| Ok(row.get::<_, Option<i64>>(0)?.map(uint)));
        let minute =
            number("SELECT min(start) FROM balance")?.map(|start| start.saturating_mul(NANOS));
        let record = restore::records(connection)?.0.iter().map(|record| record.ended).min();
        Ok(Self {
            first: minute.into_iter().chain(record).min(),
            last: number("SELECT max(ended) FROM flow_table")?.unwrap_or(0),
        })
    }
}

/// What is added up.
#[derive(Default)]
struct Sums {
    /// When the first of it began, in nanoseconds.
    first: Option<u64>,
    epochs: u64,
    open_epochs: u64,
    books: EpochBooks,
    events: BTreeMap<String, u64>,
    interfaces: BTreeMap<String, InterfaceCounters>,
}

/// A half-open time in nanoseconds.
struct Period {
    since: u64,
    until: u64,
}

/// A time during which an interface was watched, as the ledger has it.
struct Span {
    from: u64,
    to: Option<u64>,
    link: String,
    ingress: String,
    egress: String,
    fallback_reason: String,
    reason: String,
}

impl Period {
    /// Adds what is in the tables.
    fn folded(&self, connection: &Connection, sums: &mut Sums) -> Result<(), LedgerError> {
        // By the second, rounded up: what begins within the one that is cut is not of the first part.
        let bounds = [self.since, self.until].map(|nanos| int(nanos.div_ceil(NANOS)));
        let mut query = connection
            .prepare("SELECT * FROM balance WHERE start >= ?1 AND start < ?2 ORDER BY start")?;
        let mut rows = query.query(bounds)?;
        while let Some(row) = rows.next()? {
            let start = number(row, "start")?.saturating_mul(NANOS);
            sums.first = sums.first.or(Some(start));
            add(&mut sums.epochs, number(row, "epochs")?);
            add(&mut sums.open_epochs, number(row, "open_epochs")?);
            for (tally, level) in [
                (&mut sums.books.seen, "seen"),
                (&mut sums.books.attributed, "attributed"),
                (&mut sums.books.coarse, "coarse"),
                (&mut sums.books.overflow, "overflow"),
                (&mut sums.books.unparsed, "unparsed"),
            ] {
                add(&mut tally.packets, number(row, &format!("{level}_packets"))?);
                add(&mut tally.bytes, number(row, &format!("{level}_bytes"))?);
            }
        }
        let mut query = connection.prepare(
            "SELECT event, sum(count) AS count FROM event WHERE start >= ?1 AND start < ?2 GROUP BY event",
        )?;
        let mut rows = query.query(bounds)?;
        while let Some(row) = rows.next()? {
            add(sums.events.entry(row.get("event")?).or_default(), number(row, "count")?);
        }
        let mut query =
            connection.prepare("SELECT * FROM interface WHERE start >= ?1 AND start < ?2")?;
        let mut rows = query.query(bounds)?;
        while let Some(row) = rows.next()? {
            let name: String = row.get("name")?;
            sums.interfaces.entry(name).or_default().add(&InterfaceCounters {
                name: String::new(),
                rx_packets: number(row, "rx_packets")?,
                rx_bytes: number(row, "rx_bytes")?,
                tx_packets: number(row, "tx_packets")?,
                tx_bytes: number(row, "tx_bytes")?,
                dropped: number(row, "dropped")?,
            });
        }
        Ok(())
    }

    /// Adds what is committed and not yet folded.
    fn recorded(&self, connection: &Connection, sums: &mut Sums) -> Result<(), LedgerError> {
        let mut before: BTreeMap<String, InterfaceCounters> =
            restore::interfaces(connection)?.into_iter().map(|i| (i.name.clone(), i)).collect();
        for record in restore::records(connection)?.0 {
            let is_within = (self.since..self.until).contains(&record.ended);
            for now in &record.interfaces {
                let then = before.insert(now.name.clone(), now.clone()).unwrap_or_default();
                if is_within {
                    sums.interfaces.entry(now.name.clone()).or_default().add(&now.since(&then));
                }
            }
            if !is_within {
                continue;
            }
            let first = sums.first.get_or_insert(record.ended);
            *first = record.ended.min(*first);
            sums.epochs += 1;
            sums.open_epochs += u64::from(!record.books.closed());
            sums.books.add(&record.books);
            for (event, count) in record.events {
                add(sums.events.entry(event).or_default(), count);
            }
        }
        Ok(())
    }

    /// Every interface that was watched at some time, unless the configuration had dropped it before the period.
    fn to_be_watched(&self, connection: &Connection) -> Result<BTreeSet<String>, LedgerError> {
        let mut names = connection.prepare("SELECT DISTINCT interface FROM coverage")?;
        let names = names.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let mut found = BTreeSet::new();
        for name in names {
            let spans = self.spans(connection, &name)?;
            let was_dropped = spans.last().is_some_and(|last| {
                last.reason == "removed" && last.to.is_some_and(|to| to <= self.since)
            });
            if !was_dropped && !spans.is_empty() {
                found.insert(name);
            }
        }
        Ok(found)
    }

    /// The spans of an interface that began before the end of the period.
    fn spans(&self, connection: &Connection, name: &str) -> Result<Vec<Span>, LedgerError> {
        let mut query = connection.prepare_cached(
            "SELECT * FROM coverage WHERE interface = ?1 AND began < ?2 ORDER BY began",
        )?;
        let mut rows = query.query(rusqlite::params![name, int(self.until)])?;
        let mut spans = Vec::new();
        while let Some(row) = rows.next()? {
            spans.push(Span {
                from: number(row, "began")?,
                to: row.get::<_, Option<i64>>("ended")?.map(uint),
                link: row.get("link")?,
                ingress: row.get("ingress")?,
                egress: row.get("egress")?,
                fallback_reason: row.get("fallback_reason")?,
                reason: row.get("reason")?,
            });
        }
        Ok(spans)
    }
}

/// When an interface was watched first; `otherwise` without a span.
fn earliest(spans: &[Span], otherwise: u64) -> u64 {
    spans.iter().map(|span| span.from).min().unwrap_or(otherwise).min(otherwise)
}

/// When an interface was watched in a time, and when it was not. A span that lasts is known up to the end of the `last`
/// epoch, and no further.
fn watched(spans: &[Span], (from, until): (u64, u64), last: u64) -> (Vec<Coverage>, Vec<Gap>) {
    let (mut coverage, mut gaps) = (Vec::new(), Vec::new());
    let gap = |from: u64, to: Option<u64>, reason: &str| Gap {
        from: rfc3339(from),
        to: to.map(rfc3339).unwrap_or_default(),
        reason: reason.to_owned(),
    };
    // Up to here something is said, and what holds from there on.
    let (mut at, mut why) = (from, UNKNOWN);
    for span in spans {
        let lasts_until = span.to.unwrap_or(last.max(span.from));
        if lasts_until > from || span.from >= from {
            if span.from > at {
                gaps.push(gap(at, Some(span.from.min(until)), why));
            }
            let (begin, end) = (span.from.max(at), lasts_until.min(until));
            if end > begin {
                let cut = lasts_until > until;
                coverage.push(Coverage {
                    from: rfc3339(begin),
                    to: rfc3339(end),
                    link: span.link.clone(),
                    ingress: span.ingress.clone(),
                    egress: span.egress.clone(),
                    fallback_reason: span.fallback_reason.clone(),
                    end: if cut { String::new() } else { span.reason.clone() },
                });
            }
            at = at.max(end);
        }
        why = if span.to.is_some() { &span.reason } else { NO_EPOCH };
    }
    if at < until {
        // A time without an end goes on until now.
        let is_open = until == u64::MAX;
        let lasts = spans.last().is_some_and(|span| span.to.is_none());
        if !(is_open && lasts) {
            gaps.push(gap(at, (!is_open).then_some(until), why));
        }
    }
    (coverage, gaps)
}

fn balance(books: &EpochBooks) -> Balance {
    Balance {
        seen_packets: books.seen.packets,
        seen_bytes: books.seen.bytes,
        attributed_packets: books.attributed.packets,
        attributed_bytes: books.attributed.bytes,
        coarse_packets: books.coarse.packets,
        coarse_bytes: books.coarse.bytes,
        overflow_packets: books.overflow.packets,
        overflow_bytes: books.overflow.bytes,
        unparsed_packets: books.unparsed.packets,
        unparsed_bytes: books.unparsed.bytes,
        closed: books.closed(),
    }
}

fn number(row: &Row<'_>, column: &str) -> Result<u64, LedgerError> {
    Ok(row.get::<_, i64>(column).map(uint)?)
}

/// Adds what a file says, which may be anything; what was counted comes nowhere near the end of the numbers.
const fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
