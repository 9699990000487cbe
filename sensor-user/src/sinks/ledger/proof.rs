//! The proof that nothing was lost on the way into a ledger: what the file holds equals what the state counted.
//!
//! At each fold the state's sums are those of the epochs that the file holds, to the byte, but for what was counted into an
//! earlier file (set aside since, or without this proof). A difference is an event of the minute in which it was found,
//! which no audit passes over; so is an epoch whose number is missing between two that were committed.

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::{LedgerError, int, uint};
use crate::model::{EpochBooks, Tally};

/// Event: epochs of a flow table that had packets and are in no ledger.
pub(super) const EPOCHS_MISSING: &str = "ledger_epochs_missing";
/// Event: packets that the state counted and the ledger does not hold.
pub(super) const PACKETS_MISSING: &str = "ledger_packets_missing";
/// Event: packets that the ledger holds and the state did not count.
pub(super) const PACKETS_TWICE: &str = "ledger_packets_twice";
/// Event: the same of bytes alone, where the packets agree.
pub(super) const BYTES_DIFFER: &str = "ledger_bytes_differ";
/// All of them: with one of these no balance is closed.
pub(super) const LOSSES: [&str; 4] = [EPOCHS_MISSING, PACKETS_MISSING, PACKETS_TWICE, BYTES_DIFFER];

/// Facts: what the state had counted before this file began.
const BEFORE: [&str; 2] = ["packets_before", "bytes_before"];

/// What a file should hold, and does.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Counted before the file began; unknown until the first fold.
    before: Option<Tally>,
    /// Held by it: folded, and committed since.
    held: Tally,
    /// The difference that is known, packets and bytes.
    known: (i128, i128),
}

impl Proof {
    /// Of a file as it lies there. `saved` is what the state had counted as of the last fold.
    pub(super) fn read(
        connection: &Connection,
        saved: Option<&EpochBooks>,
    ) -> Result<Self, LedgerError> {
        let before = BEFORE.map(|fact| {
            connection
                .prepare("SELECT value FROM fact WHERE name = ?1 AND typeof(value) = 'integer'")?
                .query_row([fact], |row| row.get::<_, i64>(0).map(uint))
                .optional()
        });
        let [packets, bytes] = before;
        let before = packets?.zip(bytes?).map(|(packets, bytes)| tally(packets, bytes));
        let mut proof = Self { before, held: folded(connection)?, known: (0, 0) };
        proof.known = saved.map_or((0, 0), |saved| proof.difference(saved));
        Ok(proof)
    }

    /// Of a file that was begun while the state had counted much already.
    pub(super) fn begun_later(connection: &Connection) -> Result<Self, LedgerError> {
        for fact in BEFORE {
            connection.execute("DELETE FROM fact WHERE name = ?1", [fact])?;
        }
        Ok(Self::default())
    }

    /// An epoch was committed.
    pub(super) fn count(&mut self, books: &EpochBooks) {
        self.held.add(&books.seen);
    }

    /// What the state has counted and the file does not hold.
    fn difference(&self, state: &EpochBooks) -> (i128, i128) {
        let Some(before) = self.before else { return (0, 0) };
        let lacks = |state: u64, before: u64, held: u64| {
            i128::from(state) - i128::from(before) - i128::from(held)
        };
        (
            lacks(state.seen.packets, before.packets, self.held.packets),
            lacks(state.seen.bytes, before.bytes, self.held.bytes),
        )
    }

    /// Compares with a state that has counted exactly what was committed, in the transaction of its fold. Returns what it
    /// will know once that is committed.
    pub(super) fn fold(
        &self,
        transaction: &Transaction<'_>,
        state: &EpochBooks,
        minute: u64,
    ) -> Result<Self, LedgerError> {
        let before = match self.before {
            Some(before) => before,
            None => {
                let before = tally(
                    state.seen.packets.saturating_sub(self.held.packets),
                    state.seen.bytes.saturating_sub(self.held.bytes),
                );
                for (fact, value) in BEFORE.into_iter().zip([before.packets, before.bytes]) {
                    transaction.execute(
                        "INSERT OR REPLACE INTO fact VALUES (?1, ?2)",
                        (fact, int(value)),
                    )?;
                }
                before
            }
        };
        let mut proof = Self { before: Some(before), held: self.held, known: self.known };
        let now = proof.difference(state);
        let (packets, bytes) = (now.0 - self.known.0, now.1 - self.known.1);
        let event = match (packets, bytes) {
            (0, 0) => return Ok(proof),
            (0, bytes) => (BYTES_DIFFER, bytes),
            (packets, _) if packets > 0 => (PACKETS_MISSING, packets),
            (packets, _) => (PACKETS_TWICE, packets),
        };
        tracing::error!(packets, bytes, "the ledger does not hold what was counted");
        let count = u64::try_from(event.1.unsigned_abs()).unwrap_or(u64::MAX);
        super::fold::write_event(transaction, minute, event.0, count)?;
        proof.known = now;
        Ok(proof)
    }
}

/// Packets and bytes of all balances.
fn folded(connection: &Connection) -> Result<Tally, LedgerError> {
    let mut query = connection.prepare("SELECT seen_packets, seen_bytes FROM balance")?;
    let mut rows = query.query([])?;
    let mut sum = Tally::default();
    while let Some(row) = rows.next()? {
        sum.packets = sum.packets.saturating_add(uint(row.get(0)?));
        sum.bytes = sum.bytes.saturating_add(uint(row.get(1)?));
    }
    Ok(sum)
}

/// What is wrong with a file whose state, as of the last fold, had counted this.
pub(super) fn check(
    connection: &Connection,
    saved: &EpochBooks,
) -> Result<Option<String>, LedgerError> {
    let proof = Proof::read(connection, None)?;
    let (packets, bytes) = proof.difference(saved);
    Ok(((packets, bytes) != (0, 0)).then(|| {
        format!(
            "the sensor had counted {packets} packets and {bytes} bytes more than the balance holds"
        )
    }))
}

const fn tally(packets: u64, bytes: u64) -> Tally {
    Tally { packets, bytes, payload: 0 }
}
