//! `labgate status`: the API's answer, as JSON or as a table.

use std::io::{self, Write};

use anyhow::Result;
use sensor_common::report::{Destination, Report};

use super::{
    client::Client,
    terminal::{print, printable, printable_json},
};
use crate::cli::StatusArgs;

/// Asks the running sensor and prints what it says.
///
/// # Errors
///
/// When no sensor answers, or one of another version.
pub fn status(args: &StatusArgs) -> Result<()> {
    let query = [("detail", args.detail.name().to_owned())];
    let answer = Client::new(&args.sensor)?.get::<Report>("/api/v1/status", &query)?;
    print(|out| {
        if args.json {
            writeln!(out, "{}", printable_json(&answer.text))
        } else {
            table(out, &answer.value)
        }
    })
}

/// One block per device, one line per destination.
pub(super) fn table(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let mut line = |text: String| writeln!(out, "{}", printable(&text));
    for device in &report.devices {
        let random = if device.random_mac { ", random MAC" } else { "" };
        let vendor = if device.vendor.is_empty() { "unknown vendor" } else { &device.vendor };
        line(format!("{} ({}, {vendor}{random})", device.name, device.mac))?;
        let now: Vec<_> = device.host_names.iter().chain(&device.addresses).map(|s| &**s).collect();
        if !now.is_empty() {
            line(format!("  at {}", now.join(", ")))?;
        }
        for destination in &device.destinations {
            line(format!("  {}", destination_line(destination)))?;
        }
    }
    for alert in &report.alerts {
        let (severity, rule) = (&alert.severity, &alert.rule);
        let (device, country, prefix) = (&alert.device, &alert.country, &alert.prefix);
        let far = format!("{country} {prefix}{}", operator(alert.asn, &alert.operator));
        let (since, last) = (&alert.since, &alert.last_seen);
        line(format!("ALERT {severity}: {rule}: {device} and {far} since {since}, last {last}"))?;
    }
    let books = &report.books;
    let state = if books.closed { "closed" } else { "OPEN" };
    line(format!(
        "books {state}: {} packets seen = {} attributed + {} coarse + {} overflow + {} unparsed",
        books.seen_packets,
        books.attributed_packets,
        books.coarse_packets,
        books.overflow_packets,
        books.unparsed_packets,
    ))?;
    line(report.attribution.clone())
}

fn destination_line(row: &Destination) -> String {
    let port = if row.port == 0 { String::new() } else { format!("/{}", row.port) };
    let far = row.address.as_deref().unwrap_or(&row.prefix);
    format!(
        "{:<14} {far:<24} {:<12} tx {:>8} pkt {:>12} B  rx {:>8} pkt {:>12} B{}",
        row.country,
        format!("{}{port}", row.protocol),
        row.tx_packets,
        row.tx_bytes,
        row.rx_packets,
        row.rx_bytes,
        operator(row.asn, &row.operator),
    )
}

fn operator(asn: u32, name: &str) -> String {
    if asn == 0 { String::new() } else { format!("  AS{asn} {name}") }
}
