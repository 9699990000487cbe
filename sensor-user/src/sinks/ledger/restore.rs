//! Reading back what the sensor goes on from.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, types::FromSql};

use super::{
    Ledger, LedgerError,
    fold::{self, STATE},
    proof::Proof,
    record::{self, Databases, Record},
    uint,
};
use crate::{
    join::devices::vendor_of,
    model::{
        Attribution, Country, DeviceId, DeviceInfo, DeviceKind, Direction, EpochRecord, Flow,
        InterfaceCounters, Level, LinkReading, Mac, Protocol, Tally, event_name,
    },
    state::{Alert, Contact, FarEnd, Row, Rule, SavedDevice, SavedRow, SavedState, Traffic},
};

/// What a ledger holds of an earlier process.
#[derive(Debug, Default)]
pub struct Restored {
    /// Everything but the devices, as of the last fold.
    pub state: Option<SavedState>,
    /// End of the last epoch, Unix time in nanoseconds; 0 without one.
    pub ended: u64,
    /// The devices, oldest first.
    pub devices: Vec<KnownDevice>,
    pub(super) alerts: Vec<KnownAlert>,
    /// Links as they were watched last, with the boot in which that was.
    pub links: Vec<(LinkReading, String)>,
    /// When spans began that had not ended, by interface, with the boot in which that was.
    pub spans: Vec<(String, u64, String)>,
    epochs: Vec<Record>,
    pub(super) folded_interfaces: Vec<InterfaceCounters>,
    pub(super) recorded: usize,
    pub(super) proof: Proof,
    trusted: Option<u64>,
    pub(super) born: u64,
    /// The boot in which something was folded last, with the difference of its clocks in nanoseconds.
    pub clock: Option<(String, i128)>,
}

/// A device of the ledger.
#[derive(Debug)]
pub struct KnownDevice {
    /// Its number in the ledger.
    pub id: i64,
    /// What it was called.
    pub name: Arc<str>,
    /// Its MAC addresses.
    pub macs: Vec<Mac>,
    /// Its group.
    pub group: Arc<str>,
    /// What kind of entry it was; `None` of those that were purged: they are nobody, and what they sent and received is
    /// still part of the sums.
    pub kind: Option<DeviceKind>,
    /// Last packet, Unix time in nanoseconds; 0 for none.
    pub last_seen: u64,
    /// Its label sets.
    pub saved: Option<SavedDevice>,
}

impl KnownDevice {
    /// The device as it was last known, under its number here.
    pub(crate) fn info(&self) -> DeviceInfo {
        DeviceInfo {
            id: DeviceId::of_ledger(self.id),
            name: Arc::clone(&self.name),
            macs: self.macs.clone(),
            vendor: vendor_of(&self.macs),
            group: Arc::clone(&self.group),
            kind: self.kind.unwrap_or(DeviceKind::Pool),
            part_of: None,
        }
    }
}

impl DeviceId {
    /// A device's number in a ledger, where nothing else is told apart.
    pub(super) fn of_ledger(id: i64) -> Self {
        Self(u32::try_from(id).unwrap_or(u32::MAX))
    }
}

#[derive(Debug)]
pub(super) struct KnownAlert {
    pub(super) id: i64,
    device: i64,
    rule: Rule,
    country: Country,
    prefix: String,
    asn: u32,
    operator: String,
    since: u64,
    last_seen: u64,
    packets: u64,
    bytes: u64,
}

impl KnownAlert {
    /// The alert, of what its device is now.
    pub(super) fn alert(&self, device: impl Fn(i64) -> DeviceId) -> Alert {
        Alert {
            rule: self.rule,
            device: device(self.device),
            country: self.country,
            prefix: self.prefix.parse().ok(),
            asn: self.asn,
            operator: self.operator.as_str().into(),
            since: self.since,
            last_seen: self.last_seen,
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}

impl Restored {
    /// The Unix time in nanoseconds that was believed last: nothing in it is later, unless by a clock that was wrong.
    pub fn trusted(&self) -> Option<u64> {
        self.trusted.or((self.ended > 0).then_some(self.ended))
    }

    /// Takes no time for later than this, Unix time in nanoseconds.
    pub fn distrust_after(&mut self, limit: u64) {
        self.ended = self.ended.min(limit);
        for device in &mut self.devices {
            device.last_seen = device.last_seen.min(limit);
        }
    }

    /// The alerts that were raised, in the order of their places. `device` says what a device of the ledger
    /// is now.
    pub fn alerts(&self, device: impl Fn(i64) -> DeviceId) -> Vec<Alert> {
        self.alerts.iter().map(|known| known.alert(&device)).collect()
    }

    /// The epochs after the last fold, oldest first, as the join made them but for what was folded.
    ///
    /// # Errors
    ///
    /// Where a record holds what no record does.
    pub(crate) fn epochs(
        &self,
        device: impl Fn(i64) -> DeviceId,
    ) -> Result<Vec<(EpochRecord, Databases)>, LedgerError> {
        self.epochs.iter().map(|record| Ok((epoch(record, &device)?, record.databases))).collect()
    }
}

impl Ledger {
    /// The rows of a device as of the last fold, the last ones in use first.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub(crate) fn rows_of(&self, device: i64) -> Result<Vec<SavedRow>, LedgerError> {
        rows_of(&self.connection, device)
    }
}

pub(super) fn read(connection: &Connection) -> Result<Restored, LedgerError> {
    let state = state(connection)?;
    let (epochs, recorded) = records(connection)?;
    let ended = last_end(connection)?;
    let mut devices = devices(connection)?;
    let places: HashMap<i64, usize> =
        devices.iter().enumerate().map(|(place, device)| (device.id, place)).collect();
    for record in &epochs {
        for row in &record.rows {
            if let Some(device) = places.get(&row.device).and_then(|at| devices.get_mut(*at)) {
                device.last_seen = device.last_seen.max(record.ended);
            }
        }
    }
    Ok(Restored {
        proof: Proof::read(connection, state.as_ref().map(SavedState::books))?,
        trusted: fact(connection, fold::TRUSTED)?.map(uint),
        born: fact(connection, fold::BORN)?.map_or(0, uint),
        clock: fact::<String>(connection, fold::CLOCK)?.and_then(|clock| {
            let (boot, offset) = clock.split_once(' ')?;
            Some((boot.to_owned(), offset.parse().ok()?))
        }),
        ended,
        state,
        devices,
        alerts: alerts(connection)?,
        links: links(connection)?,
        spans: spans(connection)?,
        epochs,
        folded_interfaces: interfaces(connection)?,
        recorded,
    })
}

/// A fact about the file; nothing where it is of another type.
fn fact<T: FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, LedgerError> {
    let found = connection
        .prepare("SELECT value FROM fact WHERE name = ?1")?
        .query_row([name], |row| Ok(row.get::<_, T>(0).ok()))
        .optional()?;
    Ok(found.flatten())
}

/// Everything of the state but the devices, as of the last fold.
pub(super) fn state(connection: &Connection) -> Result<Option<SavedState>, LedgerError> {
    let state: Option<Vec<u8>> = connection
        .prepare("SELECT value FROM fact WHERE name = ?1")?
        .query_row([STATE], |row| row.get(0))
        .optional()?;
    Ok(state.as_deref().map(fold::decode).transpose()?.flatten())
}

/// The devices without what they did: who they are.
pub(super) fn known_devices(connection: &Connection) -> Result<Vec<KnownDevice>, LedgerError> {
    let mut query =
        connection.prepare("SELECT id, name, macs, device_group, kind FROM device ORDER BY id")?;
    let mut rows = query.query([])?;
    let mut devices = Vec::new();
    while let Some(row) = rows.next()? {
        devices.push(known(row)?);
    }
    Ok(devices)
}

/// A device of a row, as far as every reader wants it.
fn known(row: &rusqlite::Row<'_>) -> Result<KnownDevice, LedgerError> {
    let macs: String = row.get("macs")?;
    let kind: String = row.get("kind")?;
    Ok(KnownDevice {
        id: row.get("id")?,
        name: row.get("name")?,
        macs: macs.split(',').filter_map(|mac| mac.parse().ok()).collect(),
        group: row.get("device_group")?,
        kind: DeviceKind::from_name(&kind),
        last_seen: 0,
        saved: None,
    })
}

/// End of the last epoch, Unix time in nanoseconds; 0 without one.
pub(super) fn last_end(connection: &Connection) -> Result<u64, LedgerError> {
    Ok(connection.query_row("SELECT coalesce(max(ended), 0) FROM flow_table", [], |row| {
        row.get(0).map(uint)
    })?)
}

fn devices(connection: &Connection) -> Result<Vec<KnownDevice>, LedgerError> {
    let mut query = connection.prepare(
        "SELECT id, name, macs, device_group, kind, metrics,
         (SELECT max(last_seen) FROM flow WHERE flow.device = device.id)
         FROM device ORDER BY id",
    )?;
    let mut rows = query.query([])?;
    let mut devices = Vec::new();
    while let Some(row) = rows.next()? {
        let saved: Option<Vec<u8>> = row.get("metrics")?;
        devices.push(KnownDevice {
            last_seen: row.get::<_, Option<i64>>(6)?.map_or(0, uint),
            saved: saved.as_deref().map(fold::decode).transpose()?.flatten(),
            ..known(row)?
        });
    }
    Ok(devices)
}

pub(super) fn alerts(connection: &Connection) -> Result<Vec<KnownAlert>, LedgerError> {
    let mut query = connection.prepare("SELECT * FROM alert ORDER BY id")?;
    let mut rows = query.query([])?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        let rule: String = row.get("rule")?;
        let country: String = row.get("country")?;
        let number = |column| row.get::<_, i64>(column).map(uint);
        alerts.push(KnownAlert {
            id: row.get("id")?,
            device: row.get("device")?,
            rule: Rule::ALL
                .into_iter()
                .find(|known| known.name() == rule)
                .unwrap_or(Rule::CountryNotAllowed),
            country: Country::from_label(&country).unwrap_or(Country::NoEntry),
            prefix: row.get("prefix")?,
            asn: row.get("asn")?,
            operator: row.get("operator")?,
            since: number("since")?,
            last_seen: number("last_seen")?,
            packets: number("packets")?,
            bytes: number("bytes")?,
        });
    }
    Ok(alerts)
}

fn links(connection: &Connection) -> Result<Vec<(LinkReading, String)>, LedgerError> {
    let mut query = connection.prepare("SELECT * FROM link")?;
    let links = query.query_map([], |row| {
        let number = |column| row.get::<_, i64>(column).map(uint);
        let counters = InterfaceCounters {
            name: row.get("interface")?,
            rx_packets: number("rx_packets")?,
            rx_bytes: number("rx_bytes")?,
            tx_packets: number("tx_packets")?,
            tx_bytes: number("tx_bytes")?,
            dropped: number("dropped")?,
        };
        Ok((LinkReading { ifindex: row.get("ifindex")?, counters }, row.get("boot")?))
    })?;
    Ok(links.collect::<Result<_, _>>()?)
}

fn spans(connection: &Connection) -> Result<Vec<(String, u64, String)>, LedgerError> {
    let mut query =
        connection.prepare("SELECT interface, began, boot FROM coverage WHERE ended IS NULL")?;
    let spans = query
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1).map(uint)?, row.get(2)?)))?;
    Ok(spans.collect::<Result<_, _>>()?)
}

pub(super) fn interfaces(connection: &Connection) -> Result<Vec<InterfaceCounters>, LedgerError> {
    let mut query = connection.prepare(
        "SELECT name, sum(rx_packets), sum(rx_bytes), sum(tx_packets), sum(tx_bytes), sum(dropped)
         FROM interface GROUP BY name",
    )?;
    let counters = query.query_map([], |row| {
        let number = |column| row.get::<_, i64>(column).map(uint);
        Ok(InterfaceCounters {
            name: row.get(0)?,
            rx_packets: number(1)?,
            rx_bytes: number(2)?,
            tx_packets: number(3)?,
            tx_bytes: number(4)?,
            dropped: number(5)?,
        })
    })?;
    Ok(counters.collect::<Result<_, _>>()?)
}

/// The records in their order, and their octets.
pub(super) fn records(connection: &Connection) -> Result<(Vec<Record>, usize), LedgerError> {
    let mut query = connection.prepare("SELECT record FROM epoch ORDER BY sequence")?;
    let mut rows = query.query([])?;
    let (mut records, mut octets) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let record: Vec<u8> = row.get(0)?;
        octets += record.len();
        records.push(Record::decode(&record)?);
    }
    Ok((records, octets))
}

/// The epoch of a record.
pub(super) fn epoch(
    record: &Record,
    device: impl Fn(i64) -> DeviceId,
) -> Result<EpochRecord, LedgerError> {
    let places: Vec<Attribution> = record.places.iter().map(Into::into).collect();
    let protocols: Vec<_> =
        record.protocols.iter().map(|label| record::protocol(label)).collect::<Result<_, _>>()?;
    let bad = || LedgerError::Record(postcard::Error::DeserializeBadEncoding);
    let mut flows = Vec::with_capacity(2 * record.rows.len());
    for row in &record.rows {
        let far = row.far();
        let flow = |direction, tally: Tally| {
            Some(Flow {
                device: device(row.device),
                direction,
                level: if far.is_some() { Level::Flow } else { Level::Coarse },
                address: far.and_then(|far| far.address),
                attribution: places.get(row.place as usize)?.clone(),
                protocol: *protocols.get(usize::from(row.protocol))?,
                port: far.map_or(0, |far| far.port),
                vlan: far.and_then(|far| far.vlan),
                tally,
                first_seen: row.first,
            })
        };
        for (direction, tally) in [(Direction::Tx, row.traffic.tx), (Direction::Rx, row.traffic.rx)]
        {
            if tally.packets > 0 {
                flows.push(flow(direction, tally).ok_or_else(bad)?);
            }
        }
    }
    let events = record.events.iter();
    Ok(EpochRecord {
        epoch: 0,
        ended: record.ended,
        flows,
        open: !record.books.closed(),
        books: record.books,
        outcomes: events.filter_map(|(name, count)| Some((event_name(name)?, *count))).collect(),
        tables: Vec::new(),
        interfaces: record.interfaces.clone(),
        links: Vec::new(),
    })
}

pub(super) fn rows_of(connection: &Connection, device: i64) -> Result<Vec<SavedRow>, LedgerError> {
    let mut places = HashMap::<i64, Attribution>::new();
    let mut query = connection.prepare_cached(
        "SELECT flow.*, country, asn, operator, prefix, network FROM flow
         JOIN place ON place.id = flow.place WHERE device = ?1 ORDER BY last_seen DESC",
    )?;
    let mut rows = query.query([device])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let place = row.get("place")?;
        let attribution = match places.get(&place) {
            Some(attribution) => attribution.clone(),
            None => places.entry(place).or_insert(attribution(row)?).clone(),
        };
        found.push(SavedRow {
            attribution,
            protocol: protocol(row)?,
            far: far(row)?,
            row: Row {
                traffic: traffic(row)?,
                contact: Contact {
                    first: uint(row.get("first_seen")?),
                    last: uint(row.get("last_seen")?),
                },
            },
        });
    }
    Ok(found)
}

pub(super) fn protocol(row: &rusqlite::Row<'_>) -> Result<Protocol, LedgerError> {
    record::protocol(&row.get::<_, String>("protocol")?)
}

pub(super) fn far(row: &rusqlite::Row<'_>) -> Result<Option<FarEnd>, LedgerError> {
    let vlan: i32 = row.get("vlan")?;
    let address: String = row.get("address")?;
    let port = row.get("port")?;
    let far = FarEnd { address: address.parse().ok(), port, vlan: u16::try_from(vlan).ok() };
    Ok(row.get::<_, bool>("detailed")?.then_some(far))
}

pub(super) fn attribution(row: &rusqlite::Row<'_>) -> Result<Attribution, LedgerError> {
    let country: String = row.get("country")?;
    let prefix: String = row.get("prefix")?;
    Ok(Attribution {
        country: Country::from_label(&country).unwrap_or(Country::NoEntry),
        asn: row.get("asn")?,
        operator: row.get("operator")?,
        prefix: prefix.parse().ok(),
        network: row.get("network")?,
        watched: false,
    })
}

pub(super) fn traffic(row: &rusqlite::Row<'_>) -> Result<Traffic, LedgerError> {
    let number = |column| row.get::<_, i64>(column).map(uint);
    Ok(Traffic {
        tx: Tally {
            packets: number("tx_packets")?,
            bytes: number("tx_bytes")?,
            payload: number("tx_payload")?,
        },
        rx: Tally {
            packets: number("rx_packets")?,
            bytes: number("rx_bytes")?,
            payload: number("rx_payload")?,
        },
    })
}
