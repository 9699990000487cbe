//! Folding: what was committed record by record becomes rows of the tables, and the records go.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::{
    Ledger, LedgerError,
    columns::{SUMS, adding},
    commit::{enter_pool, write_links},
    int,
    pending::{Balance, Cell, MINUTE, Minute, NANOS},
    record::Databases,
};
use crate::{
    clock::Moment,
    model::{Attribution, DeviceId, InterfaceCounters, LinkReading},
    state::{PlaceId, Row, SavedDevice, SavedState, Traffic},
};

/// Name of the fact that holds a [`SavedState`].
pub(super) const STATE: &str = "state";

const NANOS_OF_MILLI: i64 = 1_000_000;
const MILLIS: i64 = 1000;
/// A time may lie so far beyond what is believed, in nanoseconds: an hour.
const SLACK: u64 = 3600 * NANOS;

/// The state's sums, exactly as of the last epoch that was committed.
#[derive(Debug)]
pub struct Snapshot {
    /// Everything but the devices.
    pub state: SavedState,
    /// The devices that have changed since the last snapshot.
    pub devices: Vec<(DeviceId, SavedDevice)>,
    /// The counters of the links that are watched, at the moment of the interfaces' counters in the state.
    pub links: Vec<LinkReading>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The clocks at the end of the last epoch.
    pub clock: SavedClock,
}

/// What a ledger knows of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedClock {
    /// Unix time in nanoseconds that may be acted upon.
    pub trusted: u64,
    /// What they showed.
    pub now: Moment,
}

impl Default for SavedClock {
    fn default() -> Self {
        Self { trusted: 0, now: Moment { wall: 0, boot: 0 } }
    }
}

impl Ledger {
    /// Folds everything that was committed.
    ///
    /// # Errors
    ///
    /// When it can't be written: then nothing is lost, and the next attempt folds all of it.
    pub fn fold(&mut self, snapshot: &Snapshot) -> Result<(), LedgerError> {
        for (id, device) in &snapshot.devices {
            self.unsaved.insert(*id, encode(device)?);
        }
        let state = encode(&snapshot.state)?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_first = is_empty(&transaction, "balance")? && self.born == 0;
        let mut owners = Owners::read(&transaction)?;
        // Unless captures of all times are folded, which no clock has.
        let believed = match snapshot.clock.trusted {
            0 => u64::MAX,
            trusted => trusted.max(snapshot.clock.now.wall).saturating_add(SLACK),
        };
        for (start, databases, minute) in self.pending.minutes() {
            write_minute(&transaction, start, databases, minute, &mut owners, believed)?;
        }
        let proof =
            self.proof.fold(&transaction, snapshot.state.books(), self.pending.last_minute())?;
        write_links(&transaction, &snapshot.links, &snapshot.boot)?;
        write_clock(&transaction, &snapshot.clock, &snapshot.boot, is_first)?;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)")?
            .execute(params![STATE, state])?;
        for (id, saved) in &self.unsaved {
            if let Some((number, _)) = self.devices.get(id) {
                transaction
                    .prepare_cached("UPDATE device SET metrics = ?2 WHERE id = ?1")?
                    .execute(params![number, saved])?;
            }
        }
        transaction.execute("DELETE FROM epoch", [])?;
        transaction.commit()?;
        self.proof = proof;
        if snapshot.clock.trusted > 0 {
            self.trusted = Some(snapshot.clock.trusted);
            if is_first {
                self.born = snapshot.clock.trusted / NANOS / MINUTE * MINUTE;
            }
        }
        self.folded();
        Ok(())
    }
}

/// Facts: the time that may be acted upon, and the boot with the difference of its clocks, in nanoseconds.
pub(super) const TRUSTED: &str = "trusted_time";
pub(super) const CLOCK: &str = "clock";
/// Fact: when the file was begun, Unix time in seconds, by the time that may be acted upon.
pub(super) const BORN: &str = "born";

fn is_empty(connection: &Connection, table: &str) -> Result<bool, LedgerError> {
    let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {table})");
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

fn write_clock(
    transaction: &Transaction<'_>,
    clock: &SavedClock,
    boot: &str,
    is_first: bool,
) -> Result<(), LedgerError> {
    if clock.trusted == 0 {
        return Ok(());
    }
    let mut write =
        transaction.prepare_cached("INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)")?;
    write.execute(params![TRUSTED, int(clock.trusted)])?;
    if is_first {
        write.execute(params![BORN, int(clock.trusted / NANOS / MINUTE * MINUTE)])?;
    }
    write.execute(params![CLOCK, format!("{boot} {}", clock.now.offset())])?;
    Ok(())
}

/// Of the forms in [`crate::state`] that a snapshot holds; it grows with every change.
const VERSION: u8 = 2;

fn encode(saved: &impl Serialize) -> Result<Vec<u8>, LedgerError> {
    Ok(postcard::to_extend(saved, vec![VERSION])?)
}

/// What [`encode`] made; nothing where another version did.
pub(super) fn decode<'a, T: Deserialize<'a>>(octets: &'a [u8]) -> Result<Option<T>, LedgerError> {
    match octets.split_first() {
        Some((&VERSION, rest)) => Ok(Some(postcard::from_bytes(rest)?)),
        _ => Ok(None),
    }
}

fn write_minute(
    transaction: &Transaction<'_>,
    start: u64,
    databases: Databases,
    minute: &Minute,
    owners: &mut Owners,
    believed: u64,
) -> Result<(), LedgerError> {
    let mut places = HashMap::<PlaceId, i64>::new();
    let mut rows: Vec<_> = minute.rows().collect();
    // Neighbours in the tables one after the other.
    rows.sort_unstable_by_key(|(cell, _)| cell.device);
    for (cell, row) in rows {
        let place = match places.get(&cell.key.place) {
            Some(place) => *place,
            None => {
                let attribution = minute.places.get(cell.key.place);
                let number = write_place(transaction, attribution, databases)?;
                *places.entry(cell.key.place).or_insert(number)
            }
        };
        let device = owners.of(cell.device, transaction)?;
        let flow = write_flow(transaction, device, cell, place, row, believed)?;
        write_row(transaction, device, start, flow, row)?;
    }
    write_balance(transaction, start, &minute.balance)?;
    for (event, count) in &minute.events {
        write_event(transaction, start, event, *count)?;
    }
    for (name, counters) in &minute.interfaces {
        write_interface(transaction, start, name, counters)?;
    }
    Ok(())
}

/// Adds to an event of a minute.
pub(super) fn write_event(
    transaction: &Transaction<'_>,
    start: u64,
    event: &str,
    count: u64,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached(
            "INSERT INTO event (start, length, event, count) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?
        .execute(params![int(start), int(MINUTE), event, int(count)])?;
    Ok(())
}

/// The devices that rows can belong to. A fold can't fail by what is in a record: what belongs to none is the pool's.
struct Owners {
    known: HashSet<i64>,
    pool: Option<i64>,
}

impl Owners {
    fn read(transaction: &Transaction<'_>) -> Result<Self, LedgerError> {
        let mut query = transaction.prepare_cached("SELECT id FROM device")?;
        let known = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self { known, pool: None })
    }

    fn of(&mut self, device: i64, transaction: &Transaction<'_>) -> Result<i64, LedgerError> {
        if self.known.contains(&device) {
            return Ok(device);
        }
        if let Some(pool) = self.pool {
            return Ok(pool);
        }
        tracing::error!(
            device,
            "the ledger lacks a device that was counted; its packets are the pool's"
        );
        let pool = enter_pool(transaction)?;
        Ok(*self.pool.insert(pool))
    }
}

fn write_place(
    transaction: &Transaction<'_>,
    attribution: &Attribution,
    databases: Databases,
) -> Result<i64, LedgerError> {
    let Attribution { country, asn, operator, prefix, network, .. } = attribution;
    let prefix = prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
    let parameters = params![
        country.as_str(),
        asn,
        &**operator,
        prefix,
        &**network,
        databases.country,
        databases.operators
    ];
    let known = transaction
        .prepare_cached(
            "SELECT id FROM place WHERE country = ?1 AND asn = ?2 AND operator = ?3
             AND prefix = ?4 AND network = ?5 AND country_database = ?6 AND operator_database = ?7",
        )?
        .query_row(parameters, |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    transaction
        .prepare_cached(
            "INSERT INTO place (country, asn, operator, prefix, network, country_database,
             operator_database) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(parameters)?;
    Ok(transaction.last_insert_rowid())
}

static WRITE_FLOW: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO flow (device, place, protocol, detailed, address, port, vlan, {sums}, first_seen,
         last_seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (device, place, protocol, detailed, address, port, vlan) DO UPDATE SET {adding},
         first_seen = min(first_seen, excluded.first_seen),
         -- What lies beyond all that is known was stamped by a clock that was wrong.
         last_seen = CASE WHEN last_seen > ?16 THEN excluded.last_seen
         ELSE max(last_seen, excluded.last_seen) END
         RETURNING id",
        sums = SUMS.join(", "),
        adding = adding(&SUMS)
    )
});

static WRITE_MINUTE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO minute (device, start, flow, {sums}, first, last)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT DO UPDATE SET {adding}, first = min(first, excluded.first),
         last = max(last, excluded.last)",
        sums = SUMS.join(", "),
        adding = adding(&SUMS)
    )
});

/// Adds to the flow of a row, making it where it is missing, and returns its number.
fn write_flow(
    transaction: &Transaction<'_>,
    device: i64,
    cell: &Cell,
    place: i64,
    row: &Row,
    believed: u64,
) -> Result<i64, LedgerError> {
    let far = cell.key.far.as_ref();
    let address = far.and_then(|far| far.address).map(|address| address.to_string());
    let Traffic { tx, rx } = &row.traffic;
    let mut statement = transaction.prepare_cached(&WRITE_FLOW)?;
    let parameters = params![
        device,
        place,
        cell.key.protocol.to_string(),
        far.is_some(),
        address.unwrap_or_default(),
        far.map_or(0, |far| far.port),
        far.and_then(|far| far.vlan).map_or(-1, i32::from),
        int(tx.packets),
        int(tx.bytes),
        int(tx.payload),
        int(rx.packets),
        int(rx.bytes),
        int(rx.payload),
        int(row.contact.first),
        int(row.contact.last),
        int(believed),
    ];
    Ok(statement.query_row(parameters, |row| row.get(0))?)
}

fn write_row(
    transaction: &Transaction<'_>,
    device: i64,
    start: u64,
    flow: i64,
    row: &Row,
) -> Result<(), LedgerError> {
    let after = |nanos: u64| int(nanos) / NANOS_OF_MILLI - int(start) * MILLIS;
    let Traffic { tx, rx } = &row.traffic;
    transaction.prepare_cached(&WRITE_MINUTE)?.execute(params![
        device,
        int(start),
        flow,
        int(tx.packets),
        int(tx.bytes),
        int(tx.payload),
        int(rx.packets),
        int(rx.bytes),
        int(rx.payload),
        after(row.contact.first),
        after(row.contact.last)
    ])?;
    Ok(())
}

fn write_balance(
    transaction: &Transaction<'_>,
    start: u64,
    balance: &Balance,
) -> Result<(), LedgerError> {
    let books = &balance.books;
    transaction
        .prepare_cached(
            "INSERT INTO balance (start, length, epochs, open_epochs, seen_packets, seen_bytes,
             attributed_packets, attributed_bytes, coarse_packets, coarse_bytes, overflow_packets,
             overflow_bytes, unparsed_packets, unparsed_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT DO UPDATE SET
             epochs = epochs + excluded.epochs, open_epochs = open_epochs + excluded.open_epochs,
             seen_packets = seen_packets + excluded.seen_packets,
             seen_bytes = seen_bytes + excluded.seen_bytes,
             attributed_packets = attributed_packets + excluded.attributed_packets,
             attributed_bytes = attributed_bytes + excluded.attributed_bytes,
             coarse_packets = coarse_packets + excluded.coarse_packets,
             coarse_bytes = coarse_bytes + excluded.coarse_bytes,
             overflow_packets = overflow_packets + excluded.overflow_packets,
             overflow_bytes = overflow_bytes + excluded.overflow_bytes,
             unparsed_packets = unparsed_packets + excluded.unparsed_packets,
             unparsed_bytes = unparsed_bytes + excluded.unparsed_bytes",
        )?
        .execute(params![
            int(start),
            int(MINUTE),
            int(balance.epochs),
            int(balance.open),
            int(books.seen.packets),
            int(books.seen.bytes),
            int(books.attributed.packets),
            int(books.attributed.bytes),
            int(books.coarse.packets),
            int(books.coarse.bytes),
            int(books.overflow.packets),
            int(books.overflow.bytes),
            int(books.unparsed.packets),
            int(books.unparsed.bytes)
        ])?;
    Ok(())
}

fn write_interface(
    transaction: &Transaction<'_>,
    start: u64,
    name: &str,
    counters: &InterfaceCounters,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached(
            "INSERT INTO interface (start, length, name, rx_packets, rx_bytes, tx_packets, tx_bytes,
             dropped) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET rx_packets = rx_packets + excluded.rx_packets,
             rx_bytes = rx_bytes + excluded.rx_bytes, tx_packets = tx_packets + excluded.tx_packets,
             tx_bytes = tx_bytes + excluded.tx_bytes, dropped = dropped + excluded.dropped",
        )?
        .execute(params![
            int(start),
            int(MINUTE),
            name,
            int(counters.rx_packets),
            int(counters.rx_bytes),
            int(counters.tx_packets),
            int(counters.tx_bytes),
            int(counters.dropped)
        ])?;
    Ok(())
}
