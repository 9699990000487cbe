//! `labgate query`: where the data goes, by filters.

use anyhow::{Error, Result};
use jiff::Timestamp;
use sensor_common::report::{Destination, DestinationList, DestinationRow, Total, UNENCRYPTED};

use super::{
    period::{self, Source},
    rows::{Column, Style, amount, csv, number, table, text},
    terminal::{print, printable, printable_json, tell},
};
use crate::{
    cli::{Format, QueryArgs},
    sinks::http::parameters::destination_query,
    state::DestinationQuery,
};

/// ANSI's yellow.
const YELLOW: u8 = 33;

/// A row as a table shows it: with its last packet by the clock on the wall.
struct Shown {
    device: String,
    far: Destination,
    last_seen: String,
}

const TABLE: [Column<Shown>; 9] = [
    text("device", |row: &Shown| row.device.clone()).cut_to(8),
    text("country", |row: &Shown| row.far.country.clone()),
    text("operator", |row: &Shown| match row.far.asn {
        0 => String::new(),
        asn => format!("AS{asn} {}", row.far.operator),
    })
    .cut_to(10),
    text("destination", |row: &Shown| {
        let far = &row.far;
        let end = far.address.as_ref().unwrap_or(&far.prefix);
        match far.vlan {
            None | Some(0) => end.clone(),
            Some(vlan) => format!("{end} vlan {vlan}"),
        }
    })
    .cut_to(13),
    text("over", |row: &Shown| {
        let hint = if row.far.encryption == UNENCRYPTED { " unencrypted" } else { "" };
        match row.far.port {
            0 => row.far.protocol.clone(),
            port => format!("{}/{port}{hint}", row.far.protocol),
        }
    })
    .cut_to(9),
    number("sent", |row: &Shown| amount(row.far.tx_bytes)),
    number("received", |row: &Shown| amount(row.far.rx_bytes)),
    number("packets", |row: &Shown| {
        row.far.tx_packets.saturating_add(row.far.rx_packets).to_string()
    })
    .rank(2),
    text("last seen", |row: &Shown| row.last_seen.clone()).rank(1),
];

const CSV: [Column<DestinationRow>; 21] = [
    text("device", |row| row.device.clone()),
    text("country", |row| row.destination.country.clone()),
    number("asn", |row| row.destination.asn.to_string()),
    text("operator", |row| row.destination.operator.clone()),
    text("prefix", |row| row.destination.prefix.clone()),
    text("protocol", |row| row.destination.protocol.clone()),
    number("port", |row| row.destination.port.to_string()),
    text("address", |row| row.destination.address.clone().unwrap_or_default()),
    number("vlan", |row| row.destination.vlan.map(|vlan| vlan.to_string()).unwrap_or_default()),
    number("tx_packets", |row| row.destination.tx_packets.to_string()),
    number("tx_bytes", |row| row.destination.tx_bytes.to_string()),
    number("rx_packets", |row| row.destination.rx_packets.to_string()),
    number("rx_bytes", |row| row.destination.rx_bytes.to_string()),
    text("first_seen", |row| row.destination.first_seen.clone()),
    text("last_seen", |row| row.destination.last_seen.clone()),
    text("mac", |row| row.mac.clone()),
    text("group", |row| row.group.clone()),
    text("host_names", |row| row.host_names.join(" ")),
    text("network", |row| row.destination.network.clone()),
    text("answered", |row| row.destination.answered.to_string()),
    text("encryption", |row| row.destination.encryption.clone()),
];

/// Asks the running sensor, or the ledger, for destinations and prints them.
///
/// # Errors
///
/// When neither can be had, or the sensor refuses.
pub fn query(args: &QueryArgs) -> Result<()> {
    let detail = args.detail.name().to_owned();
    let mut query = given([
        ("device", args.device.as_ref()),
        ("group", args.group.as_ref()),
        ("country", args.country.as_ref()),
        ("asn", args.asn.as_ref()),
        ("operator", args.operator.as_ref()),
        ("protocol", args.protocol.as_ref()),
        ("port", args.port.map(|port| port.to_string()).as_ref()),
        ("prefix", args.prefix.as_ref()),
        ("detail", Some(&detail)),
        ("limit", Some(&args.limit)),
    ]);
    query.extend(period::parameters(&args.period)?);
    let source =
        period::source(args.ledger.as_deref(), &args.sensor, "/api/v1/destinations", &query)?;
    let (text, list) = match source {
        Source::Sensor(answer) => (answer.text, answer.value),
        Source::Ledger(path, known) => {
            let query = destination_query(&query).map_err(Error::msg)?;
            let device = known.resolved(query.device.as_ref());
            let period =
                known.period(&path, query.period, device.as_ref(), query.group.as_deref())?;
            let list = period.destination_list(&DestinationQuery { device, ..query });
            (serde_json::to_string(&list)?, list)
        }
    };
    let DestinationList { destinations: rows, possible, matched, attribution, .. } = &list;
    let zone = period::zone(&args.period);
    print(|out| match args.format {
        Format::Table => {
            let now = Timestamp::now();
            let shown = |row: &DestinationRow| Shown {
                device: row.device.clone(),
                far: row.destination.clone(),
                last_seen: zone.shown(&row.destination.last_seen, now),
            };
            let rows: Vec<_> = rows.iter().map(shown).collect();
            let sums = sums(&list.total);
            let plain = |row: &Shown| (row.far.encryption == UNENCRYPTED).then_some(YELLOW);
            if !rows.is_empty() || possible.is_empty() {
                table(out, Style::of_output(), &TABLE, &rows, Some(&sums), plain)?;
            }
            if !possible.is_empty() {
                let possible: Vec<_> = possible.iter().map(shown).collect();
                writeln!(out, "may be among these, which were counted with less detail:")?;
                table(out, Style::of_output(), &TABLE, &possible, None, plain)?;
            }
            match &list.period {
                Some(period) => writeln!(out, "{}", period::line(period, &zone)),
                None => writeln!(out, "times   {}", zone.name()),
            }
        }
        Format::Csv => csv(out, &CSV, rows),
        Format::Json => writeln!(out, "{}", printable_json(&text)),
    })?;
    if let Some(period) = list.period.as_ref().filter(|_| args.format != Format::Json) {
        period::notes(period, &zone);
    }
    if !possible.is_empty() {
        let packets =
            |row: &DestinationRow| row.destination.tx_packets + row.destination.rx_packets;
        let packets: u64 = possible.iter().map(packets).sum();
        tell!(
            "labgate: {packets} packets beyond the limit of destinations were counted with less detail than this asks \
             for, and may belong to it; see `limits.destinations_per_device`"
        );
        if *matched == 0 {
            return Ok(());
        }
    }
    notes(args.format, rows.len(), *matched, attribution);
    Ok(())
}

/// The last line: of everything that matches.
fn sums(total: &Total) -> Shown {
    let far = Destination {
        tx_bytes: total.tx_bytes,
        rx_bytes: total.rx_bytes,
        tx_packets: total.tx_packets,
        rx_packets: total.rx_packets,
        ..Destination::default()
    };
    Shown { device: "total".to_owned(), far, last_seen: String::new() }
}

/// The parameters that were given.
pub(super) fn given<const N: usize>(
    typed: [(&'static str, Option<&String>); N],
) -> Vec<(&'static str, String)> {
    typed.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))).collect()
}

/// What does not belong among the rows; JSON has it inside.
pub(super) fn notes(format: Format, rows: usize, matched: u64, attribution: &str) {
    if format == Format::Json {
        return;
    }
    if matched == 0 {
        tell!("labgate: nothing matches");
    }
    if (rows as u64) < matched {
        tell!("labgate: {rows} of {matched} rows, those with the most bytes; see --limit");
    }
    if !attribution.is_empty() {
        tell!("{}", printable(attribution));
    }
}
