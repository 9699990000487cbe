//! What was counted in a period, as a state that holds nothing else: so it is asked and shown as the live one is.

use std::{collections::HashMap, path::Path};

use rusqlite::Connection;

use super::{
    KnownDevice, LedgerError, Patience, file, int,
    pending::{MINUTE, NANOS},
    restore,
};
use crate::{
    join::geo,
    model::{DeviceId, DeviceInfo},
    state::{Contact, DeviceRef, Limits, Row, SavedRow, Setup, State, Traffic},
};

const NANOS_OF_MILLI: i64 = 1_000_000;

/// What a ledger says of the minutes that begin in a period, Unix time in nanoseconds; where the minutes are no
/// longer kept, of its hours. The clock's minute is that of the end of the epoch. Where one device is asked for, what is
/// in there of others is not complete.
///
/// # Errors
///
/// When the file can't be read, or the patience is over.
pub fn period(
    path: &Path,
    (from, until): (u64, u64),
    device: Option<&DeviceRef>,
    setup: Setup,
    patience: &Patience,
) -> Result<State, LedgerError> {
    let mut connection = file::open_to_read(path)?;
    patience.hold(&mut connection)?;
    patience.check()?;
    // One moment for everything.
    let connection = connection.transaction()?;
    // What is not of the period takes no row from what is.
    let limits = Limits {
        destinations_per_device: usize::MAX,
        pooled_destinations: usize::MAX,
        ..setup.limits
    };
    let attribution = attribution(&connection)?;
    let mut state = State::new(Setup { limits, attribution, ..setup });
    let restored = restore::read(&connection)?;
    let infos = infos(&restored.devices);
    let is_asked = |info: &DeviceInfo| device.is_none_or(|device| device.is(info));
    for (id, info) in infos.iter().filter(|(_, info)| is_asked(info)) {
        patience.check()?;
        let rows = rows(&connection, *id, from, until)?;
        state.restore_device(info, None, rows.into_iter());
    }
    for (record, _) in
        restored.epochs(|id| infos.get(&id).map_or(DeviceId::of_ledger(id), |info| info.id))?
    {
        patience.check()?;
        if (from..until).contains(&(record.ended / NANOS / MINUTE * MINUTE * NANOS)) {
            let devices: Vec<_> = infos.values().cloned().collect();
            state.apply(&record, &devices);
        }
    }
    state.set_end(until.min(restored.ended));
    Ok(state)
}

/// The devices by their numbers. Several that have become one, by name and addresses, are the first of them.
fn infos(known: &[KnownDevice]) -> HashMap<i64, DeviceInfo> {
    let mut first = HashMap::new();
    let info = |device: &KnownDevice| {
        let own = device.info();
        let id = *first.entry((own.name.clone(), own.macs.clone())).or_insert(own.id);
        (device.id, DeviceInfo { id, ..own })
    };
    known.iter().map(info).collect()
}

/// What the licences of the databases that the ledger's rows were attributed with ask for.
fn attribution(connection: &Connection) -> Result<String, LedgerError> {
    let mut query =
        connection.prepare("SELECT kind, source FROM geo_database ORDER BY role, id")?;
    let databases: Vec<(String, String)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(geo::attribution(databases.iter().map(|(kind, source)| (&**kind, &**source))))
}

/// A device's rows in a period.
fn rows(
    connection: &Connection,
    device: i64,
    from: u64,
    until: u64,
) -> Result<Vec<SavedRow>, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT flow.protocol, flow.detailed, flow.address, flow.port, flow.vlan, flow.place,
         place.country, place.asn, place.operator, place.prefix, place.network, sums.*
         FROM (SELECT flow AS number, sum(tx_packets) AS tx_packets, sum(tx_bytes) AS tx_bytes,
               sum(tx_payload) AS tx_payload, sum(rx_packets) AS rx_packets,
               sum(rx_bytes) AS rx_bytes, sum(rx_payload) AS rx_payload,
               min(start * 1000 + first) AS first, max(start * 1000 + last) AS last
               FROM (SELECT * FROM minute WHERE device = ?1 AND start >= ?2 AND start < ?3
                     UNION ALL
                     SELECT * FROM hour WHERE device = ?1 AND start >= ?2 AND start < ?3)
               GROUP BY flow) AS sums
         JOIN flow ON flow.id = sums.number JOIN place ON place.id = flow.place",
    )?;
    let seconds = |nanos: u64| int(nanos.div_ceil(NANOS));
    let mut rows = query.query([device, seconds(from), seconds(until)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let nanos = |column| {
            row.get::<_, i64>(column)
                .map(|millis| super::uint(millis.saturating_mul(NANOS_OF_MILLI)))
        };
        let traffic: Traffic = restore::traffic(row)?;
        let contact = Contact { first: nanos("first")?, last: nanos("last")? };
        found.push(SavedRow {
            attribution: restore::attribution(row)?,
            protocol: restore::protocol(row)?,
            far: restore::far(row)?,
            row: Row { traffic, contact },
        });
    }
    Ok(found)
}
