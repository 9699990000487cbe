//! The audit: what the ledger says of a period.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, Row};
use sensor_common::report::{
    Audit, AuditedInterface, Balance, Coverage, Event, Gap, REPORT_VERSION,
};

use super::{
    LedgerError, file, int,
    pending::{MINUTE, NANOS},
    restore, uint,
};
use crate::{
    model::{EpochBooks, InterfaceCounters},
    state::rfc3339,
};

/// What a ledger says of the time from `since` to `until`, Unix time in nanoseconds; of minutes that begin in
/// it, and of hours where the minutes are no longer kept.
///
/// # Errors
///
/// When the file can't be read.
pub fn audit(path: &Path, since: u64, until: u64) -> Result<Audit, LedgerError> {
    let mut connection = file::open_to_read(path)?;
    // One moment for everything.
    let connection = connection.transaction()?;
    let from = since.div_ceil(NANOS * MINUTE) * MINUTE;
    let last: u64 =
        connection.query_row("SELECT coalesce(max(ended), 0) FROM flow_table", [], |row| {
            row.get(0).map(uint)
        })?;
    // Without an end it is everything, also what a clock that has been set back since took for later than now.
    let period = Period { from, until };

    let mut sums = Sums::default();
    period.folded(&connection, &mut sums)?;
    period.recorded(&connection, &mut sums)?;
    let Sums { first, epochs, open_epochs, books, events, interfaces } = sums;
    let mut audit = Audit {
        version: REPORT_VERSION,
        ledger: path.display().to_string(),
        from: rfc3339(first.unwrap_or_default().max(from * NANOS)),
        until: rfc3339(until.min(last)),
        epochs,
        open_epochs,
        balance: balance(&books),
        interfaces: Vec::new(),
        events: events.into_iter().map(|(event, count)| Event { event, count }).collect(),
    };
    for (name, counters) in interfaces {
        audit.interfaces.push(AuditedInterface {
            coverage: period.coverage(&connection, &name)?,
            name,
            rx_packets: counters.rx_packets,
            rx_bytes: counters.rx_bytes,
            tx_packets: counters.tx_packets,
            tx_bytes: counters.tx_bytes,
            dropped: counters.dropped,
            gaps: Vec::new(),
        });
    }
    for interface in &mut audit.interfaces {
        interface.gaps = gaps(&interface.coverage);
    }
    Ok(audit)
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

/// From a minute, in seconds, to a moment, in nanoseconds.
struct Period {
    from: u64,
    until: u64,
}

impl Period {
    /// Adds what is in the tables.
    fn folded(&self, connection: &Connection, sums: &mut Sums) -> Result<(), LedgerError> {
        let bounds = [int(self.from), int(self.until / NANOS)];
        let mut query = connection
            .prepare("SELECT * FROM balance WHERE start BETWEEN ?1 AND ?2 ORDER BY start")?;
        let mut rows = query.query(bounds)?;
        while let Some(row) = rows.next()? {
            sums.first = sums.first.or(Some(number(row, "start")? * NANOS));
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
            "SELECT event, sum(count) AS count FROM event WHERE start BETWEEN ?1 AND ?2 GROUP BY event",
        )?;
        let mut rows = query.query(bounds)?;
        while let Some(row) = rows.next()? {
            add(sums.events.entry(row.get("event")?).or_default(), number(row, "count")?);
        }
        let mut query =
            connection.prepare("SELECT * FROM interface WHERE start BETWEEN ?1 AND ?2")?;
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
            let is_within = (self.from * NANOS..=self.until).contains(&record.ended);
            for now in &record.interfaces {
                let then = before.insert(now.name.clone(), now.clone()).unwrap_or_default();
                if is_within {
                    sums.interfaces.entry(now.name.clone()).or_default().add(&now.since(&then));
                }
            }
            if !is_within {
                continue;
            }
            sums.first = sums.first.or(Some(record.ended));
            sums.epochs += 1;
            sums.open_epochs += u64::from(!record.books.closed());
            sums.books.add(&record.books);
            for (event, count) in record.events {
                add(sums.events.entry(event).or_default(), count);
            }
        }
        Ok(())
    }

    /// Spans that touch the period.
    fn coverage(&self, connection: &Connection, name: &str) -> Result<Vec<Coverage>, LedgerError> {
        let mut query = connection.prepare(
            "SELECT * FROM coverage WHERE interface = ?1 AND began <= ?2
             AND coalesce(ended, ?3) >= ?3 ORDER BY began",
        )?;
        let mut rows =
            query.query(rusqlite::params![name, int(self.until), int(self.from * NANOS)])?;
        let mut spans = Vec::new();
        while let Some(row) = rows.next()? {
            let ended: Option<i64> = row.get("ended")?;
            spans.push(Coverage {
                from: rfc3339(number(row, "began")?),
                to: ended.map(uint).map(rfc3339).unwrap_or_default(),
                link: row.get("link")?,
                ingress: row.get("ingress")?,
                egress: row.get("egress")?,
                fallback_reason: row.get("fallback_reason")?,
                end: row.get("reason")?,
            });
        }
        Ok(spans)
    }
}

/// The times between spans.
fn gaps(coverage: &[Coverage]) -> Vec<Gap> {
    let between = coverage.windows(2).filter_map(|pair| {
        let [before, after] = pair else { return None };
        // RFC 3339 in UTC with the same number of digits: in the order of time.
        (!before.to.is_empty() && before.to < after.from).then(|| Gap {
            from: before.to.clone(),
            to: after.from.clone(),
            reason: before.end.clone(),
        })
    });
    let last = coverage.last().filter(|span| !span.to.is_empty()).map(|span| Gap {
        from: span.to.clone(),
        to: String::new(),
        reason: span.end.clone(),
    });
    between.chain(last).collect()
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
