//! Growing old: minutes become hours, addresses become prefixes, and hours end; the sums of flows and of the
//! balance never change.
//!
//! What is stamped with a time before the ledger was begun was stamped by a clock that was wrong, and does not grow old.
//!
//! It is done in small steps, each a transaction of its own, between two commits: a step is one device's hour, a look at some
//! flows, or a day of one of them. What is left undone is done next time. So a commit waits no longer than one step takes,
//! however large the file is.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    Ledger, LedgerError,
    columns::{SUMS, adding},
    int, uint,
};
use crate::config::Retention;

/// Seconds.
const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
const NANOS: u64 = 1_000_000_000;
/// Flows that one step looks at.
const FLOWS: u32 = 10_000;
/// Rows of minutes that one step adds up, unless one minute has more.
const ROWS: u32 = 20_000;
/// Pages given back to the file system in one step.
const PAGES: u32 = 1000;

impl Ledger {
    /// Does what is due at Unix time `now` in nanoseconds, for about as long as `patience`; says whether there is
    /// more to do.
    ///
    /// # Errors
    ///
    /// When it can't be written; what was done stays done.
    pub fn grow_old(
        &mut self,
        retention: &Retention,
        now: u64,
        patience: Duration,
    ) -> Result<bool, LedgerError> {
        let until = Instant::now() + patience;
        let now = now / NANOS;
        while self.step(retention, now)? {
            if Instant::now() >= until {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Does one thing that is due, if anything is.
    fn step(&mut self, retention: &Retention, now: u64) -> Result<bool, LedgerError> {
        let before = |age: Duration| now.saturating_sub(age.as_secs());
        let (minutes, addresses, hours) =
            (before(retention.minutes), before(retention.addresses), before(retention.hours));
        if self.minutes_to_hours(minutes)?
            || self.balance_to_hours(minutes)?
            || self.addresses_to_prefixes(addresses)?
            || self.end_hours(hours)?
        {
            return Ok(true);
        }
        let size = size(&self.connection)?;
        if size.used <= retention.size {
            return self.shrink(size);
        }
        // Too large: the oldest day goes first, whatever its age.
        let today = now.saturating_sub(DAY);
        if let Some(oldest) = oldest(&self.connection, "minute")?.filter(|oldest| *oldest < today)
            && self.minutes_to_hours((oldest + DAY).min(today))?
        {
            return Ok(true);
        }
        // Also while there are minutes of the hour that is under way.
        if let Some(oldest) = oldest(&self.connection, "hour")?.filter(|oldest| *oldest < today) {
            let next = (oldest + DAY).min(today);
            if self.addresses_to_prefixes(next)? || self.end_hours(next)? {
                return Ok(true);
            }
        }
        self.shrink(size)
    }

    /// Adds a device's oldest hour of minutes up, if it ended before.
    fn minutes_to_hours(&mut self, before: u64) -> Result<bool, LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: Option<(i64, i64)> = transaction
            .prepare_cached(
                "SELECT id, oldest FROM (SELECT device.id AS id, (SELECT min(start) FROM minute
                 WHERE minute.device = device.id AND start >= ?2) AS oldest FROM device)
                 WHERE oldest < ?1 LIMIT 1",
            )?
            .query_row([int(before / HOUR * HOUR), int(self.born)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((device, oldest)) = found else { return Ok(false) };
        let hour = oldest.div_euclid(int(HOUR)) * int(HOUR);
        // Of a device that has very many rows, some of the hour's minutes.
        let busy: Option<i64> = transaction
            .prepare_cached(
                "SELECT start FROM minute WHERE device = ?1 AND start >= ?2 AND start < ?3
                 ORDER BY start LIMIT 1 OFFSET ?4",
            )?
            .query_row([device, oldest, hour + int(HOUR), ROWS.into()], |row| row.get(0))
            .optional()?;
        let until = busy.map_or(hour + int(HOUR), |start| start.max(oldest + 60));
        let bounds = [device, oldest, until, hour];
        let sums = SUMS.map(|sum| format!("sum({sum})")).join(", ");
        let adds = adding(&SUMS);
        transaction.execute(
            &format!(
                "INSERT INTO hour SELECT device, ?4, flow, {sums}, min((start - ?4) * 1000 + first),
                 max((start - ?4) * 1000 + last) FROM minute
                 WHERE device = ?1 AND start >= ?2 AND start < ?3 GROUP BY flow
                 ON CONFLICT DO UPDATE SET {adds}, first = min(first, excluded.first),
                 last = max(last, excluded.last)"
            ),
            bounds,
        )?;
        transaction.execute(
            "DELETE FROM minute WHERE device = ?1 AND start >= ?2 AND start < ?3",
            [device, oldest, until],
        )?;
        transaction.commit()?;
        Ok(true)
    }

    /// The same for what is no device's.
    fn balance_to_hours(&mut self, before: u64) -> Result<bool, LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let oldest: Option<i64> = transaction.query_row(
            "SELECT min(start) FROM balance WHERE length = 60 AND start < ?1 AND start >= ?2",
            [int(before / HOUR * HOUR), int(self.born)],
            |row| row.get(0),
        )?;
        let Some(oldest) = oldest else { return Ok(false) };
        let hour = oldest.div_euclid(int(HOUR)) * int(HOUR);
        let bounds = [hour, hour + int(HOUR)];
        for (table, key, columns) in [
            ("balance", "", &BALANCE[..]),
            ("event", "event,", &["count"]),
            ("interface", "name,", &INTERFACE[..]),
        ] {
            let sums: Vec<_> = columns.iter().map(|column| format!("sum({column})")).collect();
            let adds: Vec<_> = columns
                .iter()
                .map(|column| format!("{column} = {column} + excluded.{column}"))
                .collect();
            let group = key.trim_end_matches(',');
            let group = if group.is_empty() { "length" } else { group };
            transaction.execute(
                &format!(
                    "INSERT INTO {table} SELECT ?1, 3600, {key} {} FROM {table}
                     WHERE length = 60 AND start >= ?1 AND start < ?2 GROUP BY {group}
                     ON CONFLICT DO UPDATE SET {}",
                    sums.join(", "),
                    adds.join(", ")
                ),
                bounds,
            )?;
            transaction.execute(
                &format!("DELETE FROM {table} WHERE length = 60 AND start >= ?1 AND start < ?2"),
                bounds,
            )?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Adds flows that were last used before up by prefix: looks through some of them, or moves some rows of one that is
    /// due. One pass through all of them is made for each hour that passes.
    fn addresses_to_prefixes(&mut self, before: u64) -> Result<bool, LedgerError> {
        if let Some(flow) = self.aging.due.pop() {
            return self.address_to_prefix(flow, before).map(|()| true);
        }
        if before < self.aging.passed.saturating_add(HOUR) {
            return Ok(false);
        }
        let flows: Vec<(i64, bool, u64)> = self
            .connection
            .prepare_cached(
                "SELECT id, detailed, last_seen FROM flow WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?
            .query_map([self.aging.at, FLOWS.into()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2).map(uint)?))
            })?
            .collect::<Result<_, _>>()?;
        let Some((last, ..)) = flows.last() else {
            (self.aging.at, self.aging.passed) = (0, before);
            return Ok(false);
        };
        self.aging.at = *last;
        let times = self.born.saturating_mul(NANOS)..before.saturating_mul(NANOS);
        let due = flows.iter().filter(|(_, detailed, seen)| *detailed && times.contains(seen));
        self.aging.due = due.map(|(flow, ..)| Due { flow: *flow, from: None }).collect();
        Ok(true)
    }

    /// Gives rows of a flow to the one of its prefix, those of a day at most, and in the end its sums.
    fn address_to_prefix(&mut self, due: Due, before: u64) -> Result<(), LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known: Option<(i64, u64, u64)> = transaction
            .prepare_cached(
                "SELECT device, first_seen, last_seen FROM flow WHERE id = ?1 AND detailed",
            )?
            .query_row([due.flow], |row| {
                Ok((row.get(0)?, row.get(1).map(uint)?, row.get(2).map(uint)?))
            })
            .optional()?;
        // It may have been used, or purged, since it was found.
        let Some((device, first, last)) =
            known.filter(|(.., last)| *last < before.saturating_mul(NANOS))
        else {
            return Ok(());
        };
        // Its rows lie between its first packet and its last, by the beginning of their hours.
        let (first, last) = (first / NANOS / HOUR * HOUR, last / NANOS);
        let from = due.from.unwrap_or_else(|| first.saturating_sub(HOUR));
        let until = from.saturating_add(DAY);
        let (adds, columns) = (adding(&SUMS), SUMS.join(", "));
        // The sums go with the last of the rows; until then the prefix has none of them.
        let sums = if until > last { columns.clone() } else { SUMS.map(|_| "0").join(", ") };
        let folded: i64 = transaction
            .prepare_cached(&format!(
                "INSERT INTO flow (device, place, protocol, detailed, address, port, vlan, {columns},
                 first_seen, last_seen)
                 SELECT device, place, protocol, 0, '', 0, -1, {sums}, first_seen, last_seen
                 FROM flow WHERE id = ?1
                 ON CONFLICT (device, place, protocol, detailed, address, port, vlan) DO UPDATE
                 SET {adds}, first_seen = min(first_seen, excluded.first_seen),
                 last_seen = max(last_seen, excluded.last_seen) RETURNING id"
            ))?
            .query_row([due.flow], |row| row.get(0))?;
        let bounds = [device, due.flow, int(from), int(until)];
        for table in ["minute", "hour"] {
            transaction
                .prepare_cached(&format!(
                    "INSERT INTO {table} SELECT device, start, ?5, {columns}, first, last FROM {table}
                     WHERE device = ?1 AND flow = ?2 AND start >= ?3 AND start < ?4
                     ON CONFLICT DO UPDATE SET {adds}, first = min(first, excluded.first),
                     last = max(last, excluded.last)"
                ))?
                .execute([bounds[0], bounds[1], bounds[2], bounds[3], folded])?;
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM {table}
                     WHERE device = ?1 AND flow = ?2 AND start >= ?3 AND start < ?4"
                ))?
                .execute(bounds)?;
        }
        if until > last {
            transaction.prepare_cached("DELETE FROM flow WHERE id = ?1")?.execute([due.flow])?;
        }
        transaction.commit()?;
        if until <= last {
            self.aging.due.push(Due { from: Some(until), ..due });
        }
        Ok(())
    }

    /// Removes a device's oldest hours; their sums stay with the flows.
    fn end_hours(&mut self, before: u64) -> Result<bool, LedgerError> {
        let removed = self.connection.execute(
            "DELETE FROM hour WHERE (device, start) = (SELECT id, oldest FROM (
             SELECT device.id AS id, (SELECT min(start) FROM hour
             WHERE hour.device = device.id AND start >= ?2) AS oldest
             FROM device) WHERE oldest < ?1 LIMIT 1)",
            [int(before / HOUR * HOUR), int(self.born)],
        )?;
        Ok(removed > 0)
    }

    /// Gives pages that are free back to the file system, if they are many.
    fn shrink(&mut self, size: Size) -> Result<bool, LedgerError> {
        if size.free < size.used / 4 + u64::from(PAGES) * size.page {
            return Ok(false);
        }
        // Each step of the statement frees one page.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut freed = vacuum.query([])?;
        while freed.next()?.is_some() {}
        drop(freed);
        drop(vacuum);
        Ok(size.free > self::size(&self.connection)?.free)
    }
}

/// How far the look for addresses that grow old has come.
#[derive(Debug, Default)]
pub(super) struct Aging {
    /// The flow that was looked at last.
    at: i64,
    /// Before which time the last pass has left nothing, Unix time in seconds.
    passed: u64,
    /// Found in this pass.
    due: Vec<Due>,
}

/// A flow whose address is to go.
#[derive(Debug, Clone, Copy)]
struct Due {
    flow: i64,
    /// Rows from then on are still its own, Unix time in seconds; from its first packet on where nothing was moved yet.
    from: Option<u64>,
}

const BALANCE: [&str; 12] = [
    "epochs",
    "open_epochs",
    "seen_packets",
    "seen_bytes",
    "attributed_packets",
    "attributed_bytes",
    "coarse_packets",
    "coarse_bytes",
    "overflow_packets",
    "overflow_bytes",
    "unparsed_packets",
    "unparsed_bytes",
];
const INTERFACE: [&str; 5] = ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "dropped"];

/// The oldest row of a table that has one for each device, Unix time in seconds.
fn oldest(connection: &Connection, table: &str) -> Result<Option<u64>, LedgerError> {
    let sql = format!(
        "SELECT min(oldest) FROM (SELECT (SELECT min(start) FROM {table}
         WHERE {table}.device = device.id) AS oldest FROM device)"
    );
    Ok(connection.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0))?.map(uint))
}

/// Bytes.
#[derive(Clone, Copy)]
struct Size {
    page: u64,
    used: u64,
    free: u64,
}

fn size(connection: &Connection) -> Result<Size, LedgerError> {
    let pragma =
        |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0).map(uint));
    let (page, pages, free) =
        (pragma("page_size")?, pragma("page_count")?, pragma("freelist_count")?);
    Ok(Size { page, used: page * pages.saturating_sub(free), free: page * free })
}
