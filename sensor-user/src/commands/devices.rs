//! `labgate devices`: the devices with their totals.

use anyhow::Result;
use sensor_common::report::{DeviceList, DeviceSummary};

use super::{
    client::Client,
    query::{given, notes},
    rows::{Column, csv, number, table, text},
    terminal::{print, printable_json},
};
use crate::cli::{DeviceArgs, Format};

const TABLE: [Column<DeviceSummary>; 11] = [
    text("device", |row| row.name.clone()),
    text("mac", |row| row.mac.clone()),
    text(
        "vendor",
        |row| {
            if row.random_mac { "(random MAC)".to_owned() } else { row.vendor.clone() }
        },
    ),
    text("group", |row| row.group.clone()),
    text("address", |row| first(&row.addresses)),
    text("host name", |row| first(&row.host_names)),
    text("countries", |row| row.countries.join(" ")),
    number("alerts", |row| row.alerts.to_string()),
    number("tx bytes", |row| row.tx_bytes.to_string()),
    number("rx bytes", |row| row.rx_bytes.to_string()),
    text("last seen", |row| row.last_seen.clone().unwrap_or_else(|| "never".to_owned())),
];

const CSV: [Column<DeviceSummary>; 16] = [
    text("name", |row| row.name.clone()),
    text("mac", |row| row.mac.clone()),
    text("vendor", |row| row.vendor.clone()),
    text("random_mac", |row| row.random_mac.to_string()),
    text("group", |row| row.group.clone()),
    text("addresses", |row| row.addresses.join(" ")),
    text("host_names", |row| row.host_names.join(" ")),
    text("countries", |row| row.countries.join(" ")),
    number("destinations", |row| row.destinations.to_string()),
    number("alerts", |row| row.alerts.to_string()),
    number("tx_packets", |row| row.tx_packets.to_string()),
    number("tx_bytes", |row| row.tx_bytes.to_string()),
    number("rx_packets", |row| row.rx_packets.to_string()),
    number("rx_bytes", |row| row.rx_bytes.to_string()),
    text("first_seen", |row| row.first_seen.clone().unwrap_or_default()),
    text("last_seen", |row| row.last_seen.clone().unwrap_or_default()),
];

/// The first, and how many more there are.
fn first(values: &[String]) -> String {
    match values {
        [] => String::new(),
        [only] => only.clone(),
        [first, more @ ..] => format!("{first} +{}", more.len()),
    }
}

/// Asks the running sensor for its devices and prints them.
///
/// # Errors
///
/// When no sensor answers, or it refuses.
pub fn devices(args: &DeviceArgs) -> Result<()> {
    let query = given([
        ("device", args.device.as_ref()),
        ("group", args.group.as_ref()),
        ("country", args.country.as_ref()),
        ("since", args.since.as_ref()),
    ]);
    let answer = Client::new(&args.sensor)?.get::<DeviceList>("/api/v1/devices", &query)?;
    let rows = &answer.value.devices;
    print(|out| match args.format {
        Format::Table => table(out, &TABLE, rows),
        Format::Csv => csv(out, &CSV, rows),
        Format::Json => writeln!(out, "{}", printable_json(&answer.text)),
    })?;
    notes(args.format, rows.len(), rows.len() as u64, &answer.value.attribution);
    Ok(())
}
