//! What was counted in a period, as a state that holds nothing else: so it is asked and shown as the live one is.

use std::{collections::HashMap, ops::Range, path::Path};

use rusqlite::{Connection, OptionalExtension as _, params};
use sensor_common::report;

use super::{
    KnownDevice, LedgerError, Patience, file, int,
    pending::{MINUTE, NANOS},
    restore, uint,
};
use crate::{
    join::geo,
    model::{DeviceId, DeviceInfo},
    state::{
        Contact, DestinationQuery, DeviceQuery, DeviceRef, Limits, Row, SavedRow, Setup, State,
        Traffic, rfc3339,
    },
};

const NANOS_OF_MILLI: u64 = 1_000_000;
const MILLIS: u64 = 1000;
/// Seconds.
const HOUR: u64 = 60 * MINUTE;
/// The tables with sums for a far end, and how many seconds each sum is of.
const TABLES: [(&str, u64); 2] = [("minute", MINUTE), ("hour", HOUR)];

/// What a ledger says of a period.
///
/// What it still has epoch by epoch is in the period in which the epoch ended. Of minutes and hours it has sums,
/// which are never split: each is in the period in which its last packet was. So adjacent periods add up to the
/// whole, and [`report::Period`] says what crosses their bounds.
#[derive(Debug)]
pub struct Period {
    from: u64,
    until: u64,
    /// What was counted in it.
    state: State,
    /// Of that the sums that began before it.
    earlier: State,
    /// Sums that ended after it, and began before that; they are not counted.
    later: State,
    /// The period, with the minutes or hours whose sums it cuts.
    whole: Range<u64>,
    kept_from: String,
    /// Whether the ledger has the device that is asked for.
    is_known: bool,
}

/// What a ledger says of a period from a moment until right before another, Unix time in nanoseconds. Where one
/// device is asked for, what is in there of others is not complete.
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
) -> Result<Period, LedgerError> {
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
    let setup = Setup { limits, attribution, ..setup };
    let infos = infos(&restore::known_devices(&connection)?);
    let mut period = Period {
        from,
        until,
        state: State::new(setup.clone()),
        earlier: State::new(setup.clone()),
        later: State::new(setup),
        whole: from..until,
        kept_from: String::new(),
        is_known: false,
    };
    let is_asked = |info: &DeviceInfo| device.is_none_or(|device| device.is(info));
    period.is_known = infos.values().any(is_asked);
    for (id, info) in infos.iter().filter(|(_, info)| is_asked(info)) {
        patience.check()?;
        period.add_sums(&connection, *id, info)?;
    }
    patience.check()?;
    let id_of = |id| infos.get(&id).map_or(DeviceId::of_ledger(id), |info| info.id);
    period.add_records(&connection, id_of, &infos.values().cloned().collect::<Vec<_>>())?;
    let alerts = restore::alerts(&connection)?;
    let alerts = alerts.iter().map(|alert| alert.alert(id_of));
    period
        .state
        .restore_alerts(alerts.filter(|alert| (from..until).contains(&alert.since)).collect());
    period.kept_from = kept_from(&connection, from, infos.keys())?.map(rfc3339).unwrap_or_default();
    period.state.set_end(until.min(restore::last_end(&connection)?));
    Ok(period)
}

impl Period {
    /// Calls the devices as a sensor does now.
    #[must_use]
    pub fn known_as_in(mut self, now: &State) -> Self {
        for state in [&mut self.state, &mut self.earlier, &mut self.later] {
            state.know_as_in(now);
        }
        self
    }

    /// Whether the ledger has the device that was asked for, at any time.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether one of its devices is in this group.
    pub fn has_group(&self, group: &str) -> bool {
        self.state.has_group(group)
    }

    /// What was counted in it.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The destinations, as [`State::destination_list`] has them.
    pub fn destination_list(&self, query: &DestinationQuery) -> report::DestinationList {
        let packets = |state: &State| {
            let total =
                state.destination_list(&DestinationQuery { limit: 0, ..query.clone() }).total;
            total.tx_packets.saturating_add(total.rx_packets)
        };
        let list = self.state.destination_list(query);
        let first = self
            .state
            .devices()
            .flat_map(|device| device.rows().map(|(_, row)| row.contact.first))
            .min();
        let period = self.report(first, packets(&self.earlier), packets(&self.later));
        report::DestinationList { period: Some(period), ..list }
    }

    /// The devices that were active in it, as [`State::device_list`] has them.
    pub fn device_list(&self, query: &DeviceQuery) -> report::DeviceList {
        let packets = |state: &State| {
            let devices = state.device_list(query).devices;
            devices.iter().fold(0_u64, |sum, device| {
                sum.saturating_add(device.tx_packets).saturating_add(device.rx_packets)
            })
        };
        let mut list = self.state.device_list(query);
        list.devices.retain(|device| device.first_seen.is_some());
        let first = self
            .state
            .devices()
            .flat_map(|device| device.rows().map(|(_, row)| row.contact.first))
            .min();
        let period = self.report(first, packets(&self.earlier), packets(&self.later));
        report::DeviceList { period: Some(period), ..list }
    }

    fn report(
        &self,
        first: Option<u64>,
        earlier_packets: u64,
        later_packets: u64,
    ) -> report::Period {
        let from = if self.from == 0 { first.unwrap_or_default() } else { self.from };
        let until = if self.until == u64::MAX { self.state.ended().max(from) } else { self.until };
        let exact = (earlier_packets, later_packets) == (0, 0);
        let whole = if exact { from..until } else { self.whole.clone() };
        report::Period {
            from: rfc3339(from),
            until: rfc3339(until),
            exact,
            whole_from: rfc3339(whole.start),
            whole_until: rfc3339(whole.end),
            earlier_packets,
            later_packets,
            kept_from: self.kept_from.clone(),
        }
    }

    /// Its bounds in ms, for the tables know no finer time.
    const fn millis(&self) -> Range<u64> {
        self.from.div_ceil(NANOS_OF_MILLI)..self.until.div_ceil(NANOS_OF_MILLI)
    }

    /// A device's sums of minutes and hours.
    fn add_sums(
        &mut self,
        connection: &Connection,
        id: i64,
        info: &DeviceInfo,
    ) -> Result<(), LedgerError> {
        let (mut counted, mut earlier, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for (table, length) in TABLES {
            let before = (earlier.len(), later.len());
            sums(
                connection,
                (table, length),
                id,
                &self.millis(),
                |crossing, row| match crossing {
                    Crossing::None => counted.push(row),
                    Crossing::Beginning => {
                        earlier.push(row.clone());
                        counted.push(row);
                    }
                    Crossing::End => later.push(row),
                },
            )?;
            let length = length * NANOS;
            let (from, until) = (self.from / length * length, self.until / length * length);
            let Range { start, end } = &mut self.whole;
            let crosses_end = later.len() > before.1;
            // What crosses the end may have begun before the beginning, where both cut the same one.
            if earlier.len() > before.0 || (crosses_end && from == until) {
                *start = (*start).min(from);
            }
            if crosses_end {
                *end = (*end).max(until.saturating_add(length));
            }
        }
        self.state.restore_device(info, None, counted.into_iter());
        self.earlier.restore_device(info, None, earlier.into_iter());
        self.later.restore_device(info, None, later.into_iter());
        Ok(())
    }

    /// The epochs that are not yet in the tables.
    fn add_records(
        &mut self,
        connection: &Connection,
        id_of: impl Fn(i64) -> DeviceId,
        devices: &[DeviceInfo],
    ) -> Result<(), LedgerError> {
        let millis = self.millis();
        for record in restore::records(connection)?.0 {
            if millis.contains(&(record.ended / NANOS_OF_MILLI)) {
                self.state.apply(&restore::epoch(&record, &id_of)?, devices);
            }
        }
        Ok(())
    }
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

/// When the first sum that is still there begins, in Unix time in nanoseconds, if there was traffic before it in the
/// period. The balance is kept for ever.
fn kept_from<'a>(
    connection: &Connection,
    from: u64,
    devices: impl Iterator<Item = &'a i64>,
) -> Result<Option<u64>, LedgerError> {
    let mut first = i64::MAX;
    for device in devices {
        for (table, _) in TABLES {
            let start: Option<i64> = connection
                .prepare_cached(&format!("SELECT min(start) FROM {table} WHERE device = ?1"))?
                .query_row([device], |row| row.get(0))?;
            first = start.map_or(first, |start| first.min(start));
        }
    }
    let earlier = connection
        .query_row(
            "SELECT 1 FROM balance WHERE start >= ?1 AND start + length <= ?2 AND seen_packets > 0 LIMIT 1",
            params![int(from / NANOS), first],
            |_| Ok(()),
        )
        .optional()?;
    Ok(earlier.filter(|()| first < i64::MAX).map(|()| uint(first).saturating_mul(NANOS)))
}

/// Which bound of a period lies inside a sum's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crossing {
    /// None.
    None,
    /// It began before the period, and ended in it.
    Beginning,
    /// It began before the end of the period, and ended after it.
    End,
}

/// A device's sums in a table that a period in ms touches. A sum is one far end's in a minute or hour; those that
/// cross no bound are added up for each far end.
fn sums(
    connection: &Connection,
    (table, length): (&str, u64),
    device: i64,
    millis: &Range<u64>,
    mut each: impl FnMut(Crossing, SavedRow),
) -> Result<(), LedgerError> {
    // The bounds of `start` are for the index. A bound between two minutes cuts nothing, although the first epoch of
    // a minute began in the one before.
    let mut query = connection.prepare_cached(&format!(
        "SELECT flow.protocol, flow.detailed, flow.address, flow.port, flow.vlan, flow.place,
         place.country, place.asn, place.operator, place.prefix, place.network, sums.*
         FROM (SELECT flow AS number,
               CASE WHEN start * 1000 + last >= ?3 THEN 2
                    WHEN start * 1000 + first < ?2 AND start * 1000 < ?2 THEN 1 ELSE 0 END AS crossing,
               sum(tx_packets) AS tx_packets, sum(tx_bytes) AS tx_bytes,
               sum(tx_payload) AS tx_payload, sum(rx_packets) AS rx_packets,
               sum(rx_bytes) AS rx_bytes, sum(rx_payload) AS rx_payload,
               min(start * 1000 + first) AS first, max(start * 1000 + last) AS last
               FROM {table} WHERE device = ?1 AND start >= ?4 AND start < ?5
               AND start * 1000 + last >= ?2 AND start * 1000 + first < ?3
               GROUP BY flow, crossing) AS sums
         JOIN flow ON flow.id = sums.number JOIN place ON place.id = flow.place"
    ))?;
    let first_start = millis.start / MILLIS / length * length;
    let mut rows = query.query(params![
        device,
        int(millis.start),
        int(millis.end),
        int(first_start),
        int(millis.end.div_ceil(MILLIS)),
    ])?;
    while let Some(row) = rows.next()? {
        let nanos = |column| {
            row.get::<_, i64>(column).map(|millis| uint(millis).saturating_mul(NANOS_OF_MILLI))
        };
        let crossing = match row.get::<_, i64>("crossing")? {
            1 => Crossing::Beginning,
            2 => Crossing::End,
            _ => Crossing::None,
        };
        let traffic: Traffic = restore::traffic(row)?;
        let contact = Contact { first: nanos("first")?, last: nanos("last")? };
        let attribution = restore::attribution(row)?;
        let (protocol, far) = (restore::protocol(row)?, restore::far(row)?);
        each(crossing, SavedRow { attribution, protocol, far, row: Row { traffic, contact } });
    }
    Ok(())
}
