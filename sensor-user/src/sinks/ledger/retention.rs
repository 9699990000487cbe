//! Growing old: minutes become hours, addresses become prefixes, and hours end; the sums of flows and of the
//! balance never change.
//!
//! What is stamped with a time before the ledger was begun was stamped by a clock that was wrong, and does not grow old.
//!
//! It is done in small steps, each a transaction of its own, between two commits: a step is one device's hour, or some of
//! its flows. What is left undone is done next time.

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
/// Flows of one step.
const FLOWS: u32 = 500;
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
        let oldest = |table: &str| -> Result<Option<u64>, LedgerError> {
            let sql = format!(
                "SELECT min(oldest) FROM (SELECT (SELECT min(start) FROM {table}
                 WHERE {table}.device = device.id) AS oldest FROM device)"
            );
            Ok(self.connection.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0))?.map(uint))
        };
        let today = now.saturating_sub(DAY);
        if let Some(oldest) = oldest("minute")?.filter(|oldest| *oldest < today) {
            return self.minutes_to_hours((oldest + DAY).min(today));
        }
        if let Some(oldest) = oldest("hour")?.filter(|oldest| *oldest < today) {
            let next = (oldest + DAY).min(today);
            return Ok(self.addresses_to_prefixes(next)? || self.end_hours(next)?);
        }
        Ok(false)
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
        let bounds = [device, hour, hour + int(HOUR)];
        let sums = SUMS.map(|sum| format!("sum({sum})")).join(", ");
        let adds = adding(&SUMS);
        transaction.execute(
            &format!(
                "INSERT INTO hour SELECT device, ?2, flow, {sums}, min((start - ?2) * 1000 + first),
                 max((start - ?2) * 1000 + last) FROM minute
                 WHERE device = ?1 AND start >= ?2 AND start < ?3 GROUP BY flow
                 ON CONFLICT DO UPDATE SET {adds}, first = min(first, excluded.first),
                 last = max(last, excluded.last)"
            ),
            bounds,
        )?;
        transaction.execute(
            "DELETE FROM minute WHERE device = ?1 AND start >= ?2 AND start < ?3",
            bounds,
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

    /// Adds flows that were last used before up by prefix.
    fn addresses_to_prefixes(&mut self, before: u64) -> Result<bool, LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let born = int(self.born.saturating_mul(NANOS));
        let flows: Vec<(i64, i64)> = transaction
            .prepare_cached(
                "SELECT id, device FROM flow
                 WHERE detailed AND last_seen < ?1 AND last_seen >= ?3 LIMIT ?2",
            )?
            .query_map([int(before.saturating_mul(NANOS)), FLOWS.into(), born], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        if flows.is_empty() {
            return Ok(false);
        }
        let adds = adding(&SUMS);
        let columns = SUMS.join(", ");
        for (flow, device) in flows {
            let folded: i64 = transaction
                .prepare_cached(&format!(
                    "INSERT INTO flow (device, place, protocol, detailed, address, port, vlan, {columns},
                     first_seen, last_seen)
                     SELECT device, place, protocol, 0, '', 0, -1, {columns}, first_seen, last_seen
                     FROM flow WHERE id = ?1
                     ON CONFLICT (device, place, protocol, detailed, address, port, vlan) DO UPDATE
                     SET {adds}, first_seen = min(first_seen, excluded.first_seen),
                     last_seen = max(last_seen, excluded.last_seen) RETURNING id"
                ))?
                .query_row([flow], |row| row.get(0))?;
            for table in ["minute", "hour"] {
                transaction
                    .prepare_cached(&format!(
                        "INSERT INTO {table} SELECT device, start, ?3, {columns}, first, last FROM {table}
                         WHERE device = ?1 AND start >= (SELECT first_seen / 1000000000 - 7200 FROM flow WHERE id = ?2)
                         AND flow = ?2
                         ON CONFLICT DO UPDATE SET {adds}, first = min(first, excluded.first),
                         last = max(last, excluded.last)"
                    ))?
                    .execute([device, flow, folded])?;
                transaction
                    .prepare_cached(&format!(
                        "DELETE FROM {table} WHERE device = ?1 AND start >=
                         (SELECT first_seen / 1000000000 - 7200 FROM flow WHERE id = ?2) AND flow = ?2"
                    ))?
                    .execute([device, flow])?;
            }
            transaction.prepare_cached("DELETE FROM flow WHERE id = ?1")?.execute([flow])?;
        }
        transaction.commit()?;
        Ok(true)
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
        self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        Ok(true)
    }
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
