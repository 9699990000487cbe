//! `labgate query`: where the data goes, by filters.

use std::path::Path;

use anyhow::{Context as _, Result};
use sensor_common::report::{DestinationList, DestinationRow};

use super::{
    client::Client,
    rows::{Column, csv, number, table, text},
    terminal::{print, printable, printable_json, tell},
};
use crate::{
    cli::{Format, QueryArgs},
    sinks::{http::parameters::destination_query, ledger},
    state::Setup,
};

const TABLE: [Column<DestinationRow>; 10] = [
    text("device", |row| row.device.clone()),
    text("country", |row| row.destination.country.clone()),
    text("operator", |row| match row.destination.asn {
        0 => String::new(),
        asn => format!("AS{asn} {}", row.destination.operator),
    }),
    text("destination", |row| {
        let far = &row.destination;
        let end = far.address.as_ref().unwrap_or(&far.prefix);
        match far.vlan {
            None | Some(0) => end.clone(),
            Some(vlan) => format!("{end} vlan {vlan}"),
        }
    }),
    text("over", |row| match row.destination.port {
        0 => row.destination.protocol.clone(),
        port => format!("{}/{port}", row.destination.protocol),
    }),
    number("tx bytes", |row| row.destination.tx_bytes.to_string()),
    number("tx packets", |row| row.destination.tx_packets.to_string()),
    number("rx bytes", |row| row.destination.rx_bytes.to_string()),
    number("rx packets", |row| row.destination.rx_packets.to_string()),
    text("last seen", |row| row.destination.last_seen.clone()),
];

const CSV: [Column<DestinationRow>; 15] = [
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
];

/// Asks the running sensor for destinations and prints them.
///
/// # Errors
///
/// When no sensor answers, or it refuses.
pub fn query(args: &QueryArgs) -> Result<()> {
    let detail = args.detail.name().to_owned();
    let query = given([
        ("device", args.device.as_ref()),
        ("country", args.country.as_ref()),
        ("asn", args.asn.map(|asn| asn.to_string()).as_ref()),
        ("protocol", args.protocol.as_ref()),
        ("port", args.port.map(|port| port.to_string()).as_ref()),
        ("prefix", args.prefix.as_ref()),
        ("since", args.since.as_ref()),
        ("from", args.from.as_ref()),
        ("until", args.until.as_ref()),
        ("detail", Some(&detail)),
        ("limit", Some(&args.limit)),
    ]);
    let (text, list) = match &args.ledger {
        Some(path) => from_ledger(path, &query)?,
        None => {
            let client = Client::new(&args.sensor)?;
            let answer = client.get::<DestinationList>("/api/v1/destinations", &query)?;
            (answer.text, answer.value)
        }
    };
    let DestinationList { destinations: rows, possible, matched, attribution, .. } = &list;
    print(|out| match args.format {
        Format::Table if possible.is_empty() => table(out, &TABLE, rows),
        Format::Table => {
            if !rows.is_empty() {
                table(out, &TABLE, rows)?;
                writeln!(out)?;
            }
            writeln!(out, "may be among these, which were counted with less detail:")?;
            table(out, &TABLE, possible)
        }
        Format::Csv => csv(out, &CSV, rows),
        Format::Json => writeln!(out, "{}", printable_json(&text)),
    })?;
    if !possible.is_empty() {
        let packets =
            |row: &DestinationRow| row.destination.tx_packets + row.destination.rx_packets;
        let packets: u64 = possible.iter().map(packets).sum();
        eprintln!(
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

/// What a sensor would answer that had this ledger and no other memory.
fn from_ledger(path: &Path, typed: &[(&str, String)]) -> Result<(String, DestinationList)> {
    let query = destination_query(typed).map_err(anyhow::Error::msg)?;
    let period = query.period.unwrap_or((0, u64::MAX));
    let state = ledger::period(
        path,
        period,
        query.device.as_ref(),
        Setup::default(),
        &ledger::Patience::default(),
    )
    .with_context(|| format!("can't read the ledger {}", path.display()))?;
    let list = state.destination_list(&query);
    Ok((serde_json::to_string(&list)?, list))
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
