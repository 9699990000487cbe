//! Committing: one epoch, one transaction.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{
    LedgerError, int,
    pending::{Owner, Pending},
    proof::{EPOCHS_MISSING, Proof},
    record::Databases,
    retention::Aging,
    uint,
    writer::unix_nanos,
};
use crate::{
    faults::{self, Safeguard},
    join::{devices::Inventory, geo},
    lock::LockFile,
    model::{DeviceId, DeviceInfo, DeviceKind, EpochRecord, LinkReading},
    state::{Alert, Coverage, Limits, Span},
};

/// Records beyond this are folded before the minute is over.
const MAX_RECORDS: usize = 16 << 20;

/// Which epoch it is: no other has the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Random, made with the kernel's table.
    pub table: [u64; 2],
    /// The table's number of the epoch.
    pub epoch: u64,
}

impl Identity {
    /// The table's number as the ledger has it.
    pub(super) fn table_octets(&self) -> [u8; 16] {
        let [a, b] = self.table.map(u64::to_be_bytes);
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&a);
        octets[8..].copy_from_slice(&b);
        octets
    }
}

/// What is committed together.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Which epoch it is.
    pub identity: Identity,
    /// How many epochs of the table passed without a packet since the last one that was committed; `None` where nobody
    /// knows, as with the first one of a process.
    pub quiet: Option<u64>,
    /// What it brought.
    pub record: EpochRecord,
    /// The devices in it.
    pub devices: Vec<DeviceInfo>,
    /// Alerts that are new or have occurred again, by their place among all.
    pub alerts: Vec<(usize, Alert)>,
    /// Where and how the sensor watched; empty where that has not changed.
    pub coverage: Vec<Coverage>,
    /// The databases that it was attributed with.
    pub databases: Vec<geo::Status>,
    /// How much detail is kept.
    pub limits: Limits,
}

impl Commit {
    /// An epoch, with those of the `known` devices that are in it.
    pub fn new(
        identity: Identity,
        record: EpochRecord,
        known: &[DeviceInfo],
        (databases, limits): (Vec<geo::Status>, Limits),
    ) -> Self {
        let mut ids: Vec<DeviceId> = record.flows.iter().map(|flow| flow.device).collect();
        ids.sort_unstable();
        ids.dedup();
        let devices = ids.iter().filter_map(|id| known.get(id.0 as usize).cloned()).collect();
        let (alerts, coverage) = (Vec::new(), Vec::new());
        let quiet = None;
        Self { identity, quiet, record, devices, alerts, coverage, databases, limits }
    }
}

impl Commit {
    /// The devices that something in it belongs to.
    fn device_ids(&self) -> impl Iterator<Item = DeviceId> {
        let flows = self.record.flows.iter().map(|flow| flow.device);
        flows.chain(self.alerts.iter().map(|(_, alert)| alert.device))
    }

    /// Takes along devices about which something else is known than before, whether or not they are in the epoch.
    #[must_use]
    pub fn with_changed(mut self, changed: Vec<DeviceInfo>) -> Self {
        self.devices.retain(|info| changed.iter().all(|other| other.id != info.id));
        self.devices.extend(changed);
        self
    }
}

/// The ledger, open to be written by this process alone.
#[derive(Debug)]
pub struct Ledger {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) pending: Pending,
    /// What the ledger calls devices, and what it knows of them.
    pub(super) devices: HashMap<DeviceId, (i64, DeviceInfo)>,
    /// Numbers of alerts by their place.
    pub(super) alerts: HashMap<usize, i64>,
    /// Octets of records that are not yet folded.
    pub(super) recorded: usize,
    pub(super) unsaved: HashMap<DeviceId, Vec<u8>>,
    /// The Unix time in nanoseconds that was believed when something was folded last.
    pub(super) trusted: Option<u64>,
    /// When the file was begun, Unix time in seconds; 0 where that is not known.
    pub(super) born: u64,
    pub(super) aging: Aging,
    /// What is in it against what was counted.
    pub(super) proof: Proof,
    /// Given up after the connection is closed.
    pub(super) _lock: LockFile,
}

impl Ledger {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an epoch of this table is in the ledger.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub fn is_committed(&self, identity: &Identity) -> Result<bool, LedgerError> {
        let last = last_epoch(&self.connection, identity)?;
        Ok(last.is_some_and(|last| identity.epoch <= last) && !faults::without(Safeguard::Identity))
    }

    /// Commits an epoch; one that is in the ledger already changes nothing.
    ///
    /// # Errors
    ///
    /// When it can't be written: then nothing of it is.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = last_epoch(&transaction, &commit.identity)?;
        let is_there = last.is_some_and(|last| commit.identity.epoch <= last);
        if is_there && !faults::without(Safeguard::Identity) {
            return Ok(());
        }
        let known = write_devices(&transaction, &self.devices, &commit.devices)?;
        let databases = write_databases(&transaction, &commit.databases)?;
        let of = |id: &DeviceId| known.get(id).or_else(|| self.devices.get(id));
        // What nobody can place is the pool's, and never a reason to keep nothing.
        let pool = if commit.device_ids().all(|id| of(&id).is_some()) {
            0
        } else {
            tracing::error!(
                epoch = commit.identity.epoch,
                "an epoch has a device that nobody listed; it is the pool's"
            );
            enter_pool(&transaction)?
        };
        let owner = |id| of(&id).map_or((pool, false), owner);
        let mut draft = self.pending.draft(&commit.record, databases, &commit.limits, owner);
        if let Some(missing) = missing_epochs(last, commit) {
            tracing::error!(
                missing,
                epoch = commit.identity.epoch,
                "epochs before this one are missing in the ledger"
            );
            draft.record.events.push((EPOCHS_MISSING.to_owned(), missing));
        }
        let written = draft.record.encode().and_then(|octets| {
            transaction
                .prepare_cached("INSERT INTO epoch (record) VALUES (?1)")?
                .execute([&octets])?;
            write_identity(&transaction, &commit.identity, commit.record.ended)?;
            let device = |id| owner(id).0;
            let alerts = write_alerts(&transaction, &self.alerts, &commit.alerts, device)?;
            write_coverage(&transaction, &commit.coverage, &commit.identity.boot)?;
            write_links(&transaction, &commit.record.links, &commit.identity.boot)?;
            transaction.commit()?;
            Ok((octets.len(), alerts))
        });
        match written {
            Ok((octets, alerts)) => {
                self.pending.accept(&draft);
                self.proof.count(&draft.record.books);
                self.devices.extend(known);
                self.alerts.extend(alerts);
                self.recorded += octets;
                Ok(())
            }
            Err(error) => {
                self.pending.reject(&draft);
                Err(error)
            }
        }
    }

    /// Whether there are epochs that are committed and not folded.
    pub const fn has_records(&self) -> bool {
        self.recorded > 0
    }

    /// Whether it is time to fold: the first epoch of another minute was committed, or much.
    pub fn wants_fold(&self) -> bool {
        self.recorded > MAX_RECORDS || self.pending.minutes().count() > 1
    }

    /// Notes where and how the sensor watched.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn cover(&mut self, coverage: &[Coverage], boot: &str) -> Result<(), LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write_coverage(&transaction, coverage, boot)?;
        Ok(transaction.commit()?)
    }

    /// A process begins. Ends the spans of an earlier one that do not go on: nobody knows when, so it counts as the end of the last
    /// epoch that is known. `goes_on` lists what is watched now, `reason` says why the others ended. `links` are those that
    /// nothing is known of yet: killed before its first epoch is committed, the sensor goes on from their counters.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn begin(
        &mut self,
        goes_on: &[Coverage],
        reason: &str,
        (links, boot): (&[LinkReading], &str),
    ) -> Result<(), LedgerError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let open: Vec<(String, i64)> = transaction
            .prepare("SELECT interface, began FROM coverage WHERE ended IS NULL")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (interface, began) in open {
            let is_same = |now: &Coverage| {
                *now.name == *interface && now.current().is_some_and(|span| int(span.from) == began)
            };
            if !goes_on.iter().any(is_same) {
                transaction.execute(
                    "UPDATE coverage SET reason = ?3, ended = max(began,
                     (SELECT coalesce(max(ended), 0) FROM flow_table))
                     WHERE interface = ?1 AND began = ?2",
                    params![interface, began, reason],
                )?;
            }
        }
        links.iter().try_for_each(|link| write_link(&transaction, link, boot))?;
        Ok(transaction.commit()?)
    }

    pub(super) fn folded(&mut self) {
        self.pending.folded();
        self.unsaved.clear();
        self.recorded = 0;
    }
}

/// Its number, and whether the configuration names it.
pub(super) fn owner((id, info): &(i64, DeviceInfo)) -> Owner {
    (*id, info.kind == DeviceKind::Configured)
}

/// How many epochs of its table there should be between the last one in the ledger and this one, and are not.
fn missing_epochs(last: Option<u64>, commit: &Commit) -> Option<u64> {
    let between = commit.identity.epoch.checked_sub(last?)?.checked_sub(1)?;
    between.checked_sub(commit.quiet?).filter(|missing| *missing > 0)
}

fn last_epoch(connection: &Connection, identity: &Identity) -> Result<Option<u64>, LedgerError> {
    let mut query = connection.prepare_cached("SELECT epoch FROM flow_table WHERE id = ?1")?;
    Ok(query.query_row([identity.table_octets()], |row| row.get(0).map(uint)).optional()?)
}

fn write_identity(
    transaction: &Transaction<'_>,
    identity: &Identity,
    ended: u64,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached(
            "INSERT INTO flow_table (id, boot, epoch, ended) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE
             SET boot = excluded.boot, epoch = excluded.epoch, ended = excluded.ended",
        )?
        .execute(params![
            identity.table_octets(),
            identity.boot,
            int(identity.epoch),
            int(ended)
        ])?;
    Ok(())
}

/// The pool's number, made where it is missing.
pub(super) fn enter_pool(transaction: &Transaction<'_>) -> Result<i64, LedgerError> {
    let pool = DeviceInfo {
        id: Inventory::POOL,
        name: Inventory::POOL_NAME.into(),
        macs: Vec::new(),
        vendor: "".into(),
        group: "".into(),
        kind: DeviceKind::Pool,
        part_of: None,
    };
    enter_device(transaction, &pool)
}

/// Enters devices that are new or have changed, and says what the ledger calls them.
fn write_devices(
    transaction: &Transaction<'_>,
    known: &HashMap<DeviceId, (i64, DeviceInfo)>,
    devices: &[DeviceInfo],
) -> Result<HashMap<DeviceId, (i64, DeviceInfo)>, LedgerError> {
    let mut written = HashMap::new();
    for info in devices {
        let id = match known.get(&info.id) {
            Some((_, known)) if known == info => continue,
            Some((id, _)) => {
                transaction
                    .prepare_cached(
                        "UPDATE device SET name = ?2, macs = ?3, vendor = ?4, device_group = ?5,
                         kind = ?6 WHERE id = ?1",
                    )?
                    .execute(params![
                        id,
                        &*info.name,
                        info.mac_list(),
                        &*info.vendor,
                        &*info.group,
                        info.kind.name()
                    ])?;
                *id
            }
            None => enter_device(transaction, info)?,
        };
        written.insert(info.id, (id, info.clone()));
    }
    Ok(written)
}

/// A device that was not told apart for a while goes on as itself.
fn enter_device(transaction: &Transaction<'_>, info: &DeviceInfo) -> Result<i64, LedgerError> {
    let (macs, kind) = (info.mac_list(), info.kind.name());
    let known = transaction
        .prepare_cached("SELECT id FROM device WHERE macs = ?1 AND kind = ?2")?
        .query_row([&*macs, kind], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    transaction
        .prepare_cached(
            "INSERT INTO device (name, macs, vendor, device_group, kind)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute([&*info.name, &*macs, &*info.vendor, &*info.group, kind])?;
    Ok(transaction.last_insert_rowid())
}

fn write_databases(
    transaction: &Transaction<'_>,
    databases: &[geo::Status],
) -> Result<Databases, LedgerError> {
    let mut numbers = Databases::default();
    for status in databases {
        let role = status.role.to_string();
        transaction
            .prepare_cached(
                "INSERT INTO geo_database (role, kind, build_time, source, sha256)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (role, sha256) DO NOTHING",
            )?
            .execute(params![
                role,
                status.kind,
                int(status.build_time),
                status.source,
                status.sha256
            ])?;
        let number = transaction
            .prepare_cached("SELECT id FROM geo_database WHERE role = ?1 AND sha256 = ?2")?
            .query_row([&*role, &*status.sha256], |row| row.get(0))?;
        match status.role {
            geo::Role::Country => numbers.country = number,
            geo::Role::Operators => numbers.operators = number,
        }
    }
    Ok(numbers)
}

/// Writes alerts, and returns the numbers of those that are new.
fn write_alerts(
    transaction: &Transaction<'_>,
    numbers: &HashMap<usize, i64>,
    alerts: &[(usize, Alert)],
    device: impl Fn(DeviceId) -> i64,
) -> Result<HashMap<usize, i64>, LedgerError> {
    let mut new = HashMap::new();
    for (place, alert) in alerts {
        if let Some(number) = numbers.get(place) {
            transaction
                .prepare_cached("UPDATE alert SET last_seen = ?2 WHERE id = ?1")?
                .execute([*number, int(alert.last_seen)])?;
            continue;
        }
        transaction
            .prepare_cached(
                "INSERT INTO alert (rule, device, country, prefix, asn, operator, since, last_seen,
                 packets, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                alert.rule.name(),
                device(alert.device),
                alert.country.as_str(),
                alert.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
                alert.asn,
                &*alert.operator,
                int(alert.since),
                int(alert.last_seen),
                int(alert.packets),
                int(alert.bytes)
            ])?;
        new.insert(*place, transaction.last_insert_rowid());
    }
    Ok(new)
}

/// Replaces what is known of the links.
pub(super) fn write_links(
    transaction: &Transaction<'_>,
    links: &[LinkReading],
    boot: &str,
) -> Result<(), LedgerError> {
    transaction.prepare_cached("DELETE FROM link")?.execute([])?;
    links.iter().try_for_each(|link| write_link(transaction, link, boot))
}

fn write_link(
    transaction: &Transaction<'_>,
    LinkReading { ifindex, counters }: &LinkReading,
    boot: &str,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO link VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            counters.name,
            ifindex,
            boot,
            int(counters.rx_packets),
            int(counters.rx_bytes),
            int(counters.tx_packets),
            int(counters.tx_bytes),
            int(counters.dropped)
        ])?;
    Ok(())
}

/// Writes the spans as they are now known.
fn write_coverage(
    transaction: &Transaction<'_>,
    coverage: &[Coverage],
    boot: &str,
) -> Result<(), LedgerError> {
    for interface in coverage {
        if interface.configured && interface.spans().next().is_none() {
            // It should have been watched and never was.
            transaction
                .prepare_cached(
                    "INSERT INTO coverage SELECT ?1, ?2, ?2, 'missing', '', '', '', ?3, ?4
                     WHERE NOT EXISTS (SELECT 1 FROM coverage WHERE interface = ?1)",
                )?
                .execute(params![&*interface.name, int(unix_nanos()), interface.reason, boot])?;
        }
        for span in interface.spans() {
            let Span { from, to, link, ingress, egress, fallback_reason, end } = span;
            transaction
                .prepare_cached(
                    "INSERT INTO coverage (interface, began, ended, reason, link, ingress, egress,
                     fallback_reason, boot) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT (interface, began) DO UPDATE
                     SET ended = excluded.ended, reason = excluded.reason",
                )?
                .execute(params![
                    &*interface.name,
                    int(*from),
                    to.map(int),
                    end.map(crate::state::End::name).unwrap_or_default(),
                    &**link,
                    ingress,
                    egress,
                    &**fallback_reason,
                    boot
                ])?;
        }
    }
    Ok(())
}
