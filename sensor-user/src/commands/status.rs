//! `labgate status`: the API's answer, as JSON or as a table.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use sensor_common::report::{Destination, REPORT_VERSION, Report};

use crate::{
    cli::{Detail, StatusArgs},
    config,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// In bytes; some 2 million destinations with address detail.
const MAX_ANSWER: u64 = 1 << 30;

/// Asks the running sensor and prints what it says.
///
/// # Errors
///
/// When no sensor answers, or one of another version.
pub fn status(args: &StatusArgs) -> Result<()> {
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", config::load(&args.config.config)?.listen),
    };
    let detail = match args.detail {
        Detail::Prefix => "prefix",
        Detail::Address => "address",
    };
    let text = get(&format!("{base}/api/v1/status?detail={detail}"))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{base} answers in a form that is not labgate's"))?;
    if report.version != REPORT_VERSION {
        bail!(
            "{base} speaks version {} of the report form, this labgate version {REPORT_VERSION}; \
             use the same release for both",
            report.version
        );
    }
    let mut out = io::stdout().lock();
    let printed = if args.json {
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"))
    } else {
        table(&mut out, &report)
    };
    match printed {
        // `labgate status | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("can't print"),
    }
}

fn get(url: &str) -> Result<String> {
    // No proxy: the sensor is this machine's own.
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None);
    let mut response = match ureq::Agent::from(config.build()).get(url).call() {
        Err(ureq::Error::StatusCode(code)) => bail!("{url} answers {code}; is that a labgate?"),
        answer => answer
            .with_context(|| format!("no sensor answers at {url}; is `labgate run` running?"))?,
    };
    let body = response.body_mut().with_config().limit(MAX_ANSWER);
    body.read_to_string().with_context(|| format!("the answer of {url} is cut off"))
}

/// One block per device, one line per destination.
fn table(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for device in &report.devices {
        let random = if device.random_mac { ", random MAC" } else { "" };
        let vendor = if device.vendor.is_empty() { "unknown vendor" } else { &device.vendor };
        writeln!(out, "{} ({}, {vendor}{random})", device.name, device.mac)?;
        for destination in &device.destinations {
            writeln!(out, "  {}", line(destination))?;
        }
    }
    for alert in &report.alerts {
        let (severity, rule) = (&alert.severity, &alert.rule);
        let (device, country, since) = (&alert.device, &alert.country, &alert.since);
        writeln!(out, "ALERT {severity}: {rule}: {device} and {country} since {since}")?;
    }
    let books = &report.books;
    let state = if books.closed { "closed" } else { "OPEN" };
    writeln!(
        out,
        "books {state}: {} packets seen = {} attributed + {} coarse + {} overflow + {} unparsed",
        books.seen_packets,
        books.attributed_packets,
        books.coarse_packets,
        books.overflow_packets,
        books.unparsed_packets,
    )?;
    writeln!(out, "{}", report.attribution)
}

fn line(row: &Destination) -> String {
    let port = if row.port == 0 { String::new() } else { format!("/{}", row.port) };
    let far = row.address.as_deref().unwrap_or(&row.prefix);
    let operator =
        if row.asn == 0 { String::new() } else { format!("  AS{} {}", row.asn, row.operator) };
    format!(
        "{:<14} {far:<24} {:<12} tx {:>8} pkt {:>12} B  rx {:>8} pkt {:>12} B{operator}",
        row.country,
        format!("{}{port}", row.protocol),
        row.tx_packets,
        row.tx_bytes,
        row.rx_packets,
        row.rx_bytes,
    )
}
