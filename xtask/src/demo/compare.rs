//! The sensor's numbers against the captures', and what else a good run must show.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use anyhow::{Context as _, Result};
use sensor_common::report::Report;

use crate::bench::plan::DEVICES;

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) device: String,
    /// Sent by the device (`tx`), or received.
    pub(super) tx: bool,
    /// The far address; `None` for frames without IP.
    pub(super) address: Option<IpAddr>,
}

/// Packets, and bytes of whole frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

pub(super) type Counts = BTreeMap<Key, Tally>;

/// The alerts that the scenario must raise: rule, device, country.
const ALERTS: [(&str, &str, &str); 6] = [
    ("country_not_allowed", "iphone", "DE"),
    ("country_not_allowed", "iphone", "US"),
    ("country_not_allowed", "redmi-1s", "CN"),
    ("country_not_allowed", "redmi-note", "CN"),
    ("country_not_allowed", "smart-plug", "CN"),
    ("watched_prefix", "redmi-note", "CN"),
];

/// The same counts from the sensor's report with address detail.
pub(super) fn reported(report: &Report) -> Result<Counts> {
    let mut counts = Counts::new();
    for device in report.devices.iter().filter(|device| !is_group(&device.mac)) {
        for row in &device.destinations {
            let address = row.address.as_deref().filter(|text| !text.is_empty());
            let address: Option<IpAddr> = address
                .map(str::parse)
                .transpose()
                .with_context(|| format!("{} has a row with a bad address", device.name))?;
            for (tx, packets, bytes) in
                [(true, row.tx_packets, row.tx_bytes), (false, row.rx_packets, row.rx_bytes)]
            {
                if packets != 0 || bytes != 0 {
                    let key = Key { device: device.name.clone(), tx, address };
                    let tally = counts.entry(key).or_default();
                    tally.packets += packets;
                    tally.bytes += bytes;
                }
            }
        }
    }
    Ok(counts)
}

/// True for multicast and broadcast: frames of the gateway that are for no single device.
fn is_group(mac: &str) -> bool {
    mac.get(..2).and_then(|octet| u8::from_str_radix(octet, 16).ok()).is_some_and(|o| o & 1 == 1)
}

/// A table of what both counted for each device, and of every row in which they differ; and
/// whether they are equal.
pub(super) fn table(captured: &Counts, sensor: &Counts) -> (String, bool) {
    let mut text = String::new();
    let mut line = |device: &str, tx: bool, far: &str, capture: Tally, sensor: Tally| {
        let direction = if tx { "tx" } else { "rx" };
        let mark = if capture == sensor { "=" } else { "DIFFERS" };
        // Writing to a String cannot fail.
        let _ok = writeln!(
            text,
            "{device:<12} {direction} {far:<24} {:>9} {:>11} {:>9} {:>11}  {mark}",
            capture.packets, capture.bytes, sensor.packets, sensor.bytes
        );
    };
    for spec in &DEVICES {
        for tx in [true, false] {
            let total = |counts: &Counts| {
                let rows = counts.iter().filter(|(key, _)| key.device == spec.name && key.tx == tx);
                rows.fold(Tally::default(), |sum, (_, tally)| Tally {
                    packets: sum.packets + tally.packets,
                    bytes: sum.bytes + tally.bytes,
                })
            };
            line(spec.name, tx, "all", total(captured), total(sensor));
        }
    }
    let keys: BTreeSet<_> = captured.keys().chain(sensor.keys()).collect();
    let mut equal = true;
    for key in &keys {
        let tally = |counts: &Counts| counts.get(key).copied().unwrap_or_default();
        if tally(captured) != tally(sensor) {
            equal = false;
            let far = key.address.map_or("(no IP)".to_owned(), |address| address.to_string());
            line(&key.device, key.tx, &far, tally(captured), tally(sensor));
        }
    }
    let head = format!(
        "{:<15} {:<24} {:>21} {:>21}\n{:<15} {:<24} {:>9} {:>11} {:>9} {:>11}\n",
        "",
        "",
        "captured",
        "sensor",
        "device",
        "far address",
        "packets",
        "bytes",
        "packets",
        "bytes"
    );
    (head + &text, equal)
}

/// What is wrong with the books and the alerts; empty when all is well.
pub(super) fn complaints(report: &Report) -> Vec<String> {
    let mut complaints = Vec::new();
    let books = &report.books;
    let parts = books.attributed_packets
        + books.coarse_packets
        + books.overflow_packets
        + books.unparsed_packets;
    if !books.closed || books.seen_packets != parts {
        complaints.push(format!(
            "the books are not closed: {} packets seen, {parts} accounted for",
            books.seen_packets
        ));
    }
    if books.seen_packets != books.interface_packets {
        complaints.push(format!(
            "the sensor saw {} packets, the interfaces count {}",
            books.seen_packets, books.interface_packets
        ));
    }
    let raised: Vec<_> = report
        .alerts
        .iter()
        .map(|alert| (alert.rule.as_str(), alert.device.as_str(), alert.country.as_str()))
        .collect();
    for (rule, device, country) in ALERTS.iter().filter(|alert| !raised.contains(alert)) {
        complaints.push(format!("no alert {rule} for {device} and {country}"));
    }
    for (index, alert) in raised.iter().enumerate() {
        let (rule, device, country) = alert;
        if !ALERTS.contains(alert) {
            complaints.push(format!("unexpected alert {rule} for {device} and {country}"));
        } else if raised[..index].contains(alert) {
            complaints.push(format!("alert {rule} for {device} and {country} was raised twice"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use sensor_common::report::{Alert, Books, Destination, Device, REPORT_VERSION};

    use super::*;

    fn good() -> Report {
        let alert = |(rule, device, country): (&str, &str, &str)| Alert {
            rule: rule.to_owned(),
            device: device.to_owned(),
            country: country.to_owned(),
            severity: "critical".to_owned(),
            since: String::new(),
            last_seen: String::new(),
            prefix: String::new(),
            asn: 0,
            operator: String::new(),
        };
        let row = |address: Option<&str>, tx_packets, rx_packets| Destination {
            address: address.map(str::to_owned),
            tx_packets,
            tx_bytes: tx_packets * 100,
            rx_packets,
            rx_bytes: rx_packets * 1000,
            ..Destination::default()
        };
        let device = |name: &str, mac: &str, destinations| Device {
            name: name.to_owned(),
            mac: mac.to_owned(),
            vendor: String::new(),
            random_mac: false,
            group: String::new(),
            addresses: Vec::new(),
            host_names: Vec::new(),
            destinations,
        };
        Report {
            version: REPORT_VERSION,
            time: String::new(),
            devices: vec![
                // Two ports of one far address are one row of the comparison.
                device(
                    "galaxy",
                    "8c:77:12:00:00:01",
                    vec![
                        row(Some("13.126.5.5"), 3, 2),
                        row(Some("13.126.5.5"), 1, 0),
                        row(None, 1, 1),
                    ],
                ),
                device("33:33:00:00:00:16", "33:33:00:00:00:16", vec![row(Some("ff02::16"), 0, 4)]),
            ],
            alerts: ALERTS.into_iter().map(alert).collect(),
            books: Books {
                seen_packets: 10,
                attributed_packets: 9,
                unparsed_packets: 1,
                interface_packets: 10,
                closed: true,
                ..Books::default()
            },
            interfaces: Vec::new(),
            databases: Vec::new(),
            attribution: String::new(),
            replay: None,
        }
    }

    #[test]
    fn equal_counts_are_equal() {
        let sensor = reported(&good()).expect("report");
        assert_eq!(sensor.len(), 4, "{sensor:?}");
        let (text, equal) = table(&sensor, &sensor.clone());
        assert!(equal && !text.contains("DIFFERS"), "{text}");
    }

    #[test]
    fn one_byte_or_one_missing_row_is_a_difference() {
        let captured = reported(&good()).expect("report");
        for change in [
            |counts: &mut Counts| counts.values_mut().next().expect("a row").bytes += 1,
            |counts: &mut Counts| drop(counts.pop_first()),
            |counts: &mut Counts| {
                let key = Key { device: "02:00:00:00:00:99".to_owned(), tx: true, address: None };
                counts.insert(key, Tally { packets: 1, bytes: 60 });
            },
        ] {
            let mut sensor = captured.clone();
            change(&mut sensor);
            let (text, equal) = table(&captured, &sensor);
            assert!(!equal && text.contains("DIFFERS"), "{text}");
        }
    }

    #[test]
    fn complains_about_books_and_alerts() {
        assert_eq!(complaints(&good()), Vec::<String>::new());
        type Damage = fn(&mut Report);
        let broken: [(&str, Damage); 6] = [
            ("not closed", |report| report.books.closed = false),
            ("not closed", |report| report.books.coarse_packets = 1),
            ("interfaces count", |report| report.books.interface_packets = 11),
            ("no alert", |report| drop(report.alerts.pop())),
            ("unexpected alert", |report| report.alerts[0].country = "IN".to_owned()),
            ("raised twice", |report| report.alerts.push(report.alerts[0].clone())),
        ];
        for (expected, breaks) in broken {
            let mut report = good();
            breaks(&mut report);
            let complaints = complaints(&report).join("\n");
            assert!(complaints.contains(expected), "{complaints}");
        }
    }
}
