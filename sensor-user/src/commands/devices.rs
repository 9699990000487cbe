//! `labgate devices`: the devices with their totals.

use anyhow::{Error, Result};
use jiff::Timestamp;
use sensor_common::report::{DeviceList, DeviceSummary};

use super::{
    period::{self, Source},
    query::{given, notes},
    rows::{Column, Style, amount, csv, number, table, text},
    terminal::{print, printable_json},
};
use crate::{
    cli::{DeviceArgs, Format},
    sinks::http::parameters::device_query,
    state::DeviceQuery,
};

/// ANSI's red.
const RED: u8 = 31;

/// A device as a table shows it: with its last packet by the clock on the wall.
struct Shown {
    device: DeviceSummary,
    last_seen: String,
    /// Of the last line.
    is_sum: bool,
}

const TABLE: [Column<Shown>; 11] = [
    text("device", |row: &Shown| row.device.name.clone()).cut_to(10),
    text("mac", |row: &Shown| row.device.mac.clone()).cut_to(17).rank(2),
    text("vendor", |row: &Shown| {
        let DeviceSummary { random_mac, vendor, .. } = &row.device;
        if *random_mac { "(random MAC)".to_owned() } else { vendor.clone() }
    })
    .cut_to(8)
    .rank(4),
    text("group", |row: &Shown| row.device.group.clone()).cut_to(6).rank(5),
    text("address", |row: &Shown| first(&row.device.addresses)).cut_to(9).rank(1),
    text("host name", |row: &Shown| first(&row.device.host_names)).cut_to(9).rank(3),
    text("countries", |row: &Shown| row.device.countries.join(" ")).cut_to(9),
    number("alerts", |row: &Shown| row.device.alerts.to_string()),
    number("sent", |row: &Shown| amount(row.device.tx_bytes)),
    number("received", |row: &Shown| amount(row.device.rx_bytes)),
    text("last seen", |row: &Shown| match (&*row.last_seen, row.is_sum) {
        ("", false) => "never".to_owned(),
        (seen, _) => seen.to_owned(),
    }),
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

/// Asks the running sensor, or the ledger, for the devices and prints them.
///
/// # Errors
///
/// When neither can be had, or the sensor refuses.
pub fn devices(args: &DeviceArgs) -> Result<()> {
    let mut query = given([
        ("device", args.device.as_ref()),
        ("group", args.group.as_ref()),
        ("country", args.country.as_ref()),
    ]);
    query.extend(period::parameters(&args.period)?);
    let source = period::source(args.ledger.as_deref(), &args.sensor, "/api/v1/devices", &query)?;
    let (text, list) = match source {
        Source::Sensor(answer) => (answer.text, answer.value),
        Source::Ledger(path, known) => {
            let query = device_query(&query).map_err(Error::msg)?;
            let device = known.resolved(query.device.as_ref());
            let period =
                known.period(&path, query.period, device.as_ref(), query.group.as_deref())?;
            let list = period.device_list(&DeviceQuery { device, ..query });
            (serde_json::to_string(&list)?, list)
        }
    };
    let DeviceList { devices: rows, attribution, .. } = &list;
    let zone = period::zone(&args.period);
    print(|out| match args.format {
        Format::Table => {
            let now = Timestamp::now();
            let shown = |device: &DeviceSummary| Shown {
                device: device.clone(),
                last_seen: device
                    .last_seen
                    .as_ref()
                    .map_or_else(String::new, |at| zone.shown(at, now)),
                is_sum: false,
            };
            let shown: Vec<_> = rows.iter().map(shown).collect();
            let alerting = |row: &Shown| (row.device.alerts > 0).then_some(RED);
            table(out, Style::of_output(), &TABLE, &shown, Some(&sums(rows)), alerting)?;
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
    notes(args.format, rows.len(), rows.len() as u64, attribution);
    Ok(())
}

/// The last line.
fn sums(devices: &[DeviceSummary]) -> Shown {
    let mut sum = DeviceSummary { name: "total".to_owned(), ..DeviceSummary::default() };
    for device in devices {
        sum.alerts = sum.alerts.saturating_add(device.alerts);
        sum.tx_bytes = sum.tx_bytes.saturating_add(device.tx_bytes);
        sum.rx_bytes = sum.rx_bytes.saturating_add(device.rx_bytes);
    }
    Shown { device: sum, last_seen: String::new(), is_sum: true }
}
