//! The live view: devices, where their data goes, alerts. Plain lines where there is no terminal.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};

use anyhow::Result;
use sensor_common::report::{Destination, Report, UNENCRYPTED};

use crate::stack::Notified;

/// Home, and clear what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Notifications that stay in view.
const NOTIFICATIONS: usize = 12;

/// Where progress is shown.
pub(super) struct View {
    out: Box<dyn Write>,
    terminal: bool,
    head: Vec<String>,
    now: String,
    shown: BTreeSet<String>,
    /// The last notifications, by what tells them apart.
    notified: VecDeque<String>,
}

/// What a destination's traffic is summed by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    country: &'a str,
    operator: &'a str,
    prefix: &'a str,
}

#[derive(Default)]
struct Sum {
    over: BTreeSet<String>,
    tx_bytes: u64,
    rx_bytes: u64,
}

impl View {
    /// On standard output, or on standard error to keep standard output free.
    pub(super) fn new(on_stderr: bool) -> Self {
        let terminal =
            if on_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let out: Box<dyn Write> =
            if on_stderr { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        Self {
            out,
            terminal,
            head: Vec::new(),
            now: String::new(),
            shown: BTreeSet::new(),
            notified: VecDeque::new(),
        }
    }

    /// Shown to nobody.
    pub(super) fn silent() -> Self {
        let out: Box<dyn Write> = Box::new(io::sink());
        Self { out, terminal: false, ..Self::new(true) }
    }

    /// Says something that stays true, on top of the view.
    pub(super) fn head(&mut self, text: &str) -> Result<()> {
        self.head.push(text.to_owned());
        self.line(text)
    }

    /// Says what goes on at the moment.
    pub(super) fn now(&mut self, text: &str) -> Result<()> {
        text.clone_into(&mut self.now);
        if self.terminal { Ok(()) } else { self.line(text) }
    }

    /// Prints a line or more.
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Shows an alert of a notification, unless it has been shown as it is: a notification names all of its
    /// group.
    pub(super) fn notified(&mut self, alert: &Notified) -> Result<()> {
        let Notified { status, starts_at, .. } = alert;
        if !self.shown.insert(format!("{} {status} {starts_at}", alert.fingerprint)) {
            return Ok(());
        }
        let (name, text) = (alert.label("alertname"), alert.annotations.get("description"));
        let text = text.map_or("", String::as_str);
        let line = printable(&format!("NOTIFIED {status}: {name}: {text}"));
        self.notified.push_back(line.clone());
        if self.notified.len() > NOTIFICATIONS {
            self.notified.pop_front();
        }
        if self.terminal { Ok(()) } else { self.line(&line) }
    }

    /// Shows the state: the whole of it on a terminal, else each place and alert once.
    pub(super) fn refresh(&mut self, report: &Report) -> Result<()> {
        if self.terminal {
            return self.summary(report);
        }
        let places = report.devices.iter().flat_map(|device| {
            places(&device.destinations).into_keys().map(|place| {
                let Place { country, operator, prefix } = place;
                printable(&format!("  {} <-> {country} {operator} {prefix}", device.name))
            })
        });
        let lines: Vec<_> = places.chain(alert_lines(report)).collect();
        for line in lines {
            if self.shown.insert(line.clone()) {
                self.line(&line)?;
            }
        }
        Ok(())
    }

    /// Shows the state in full; on a terminal, in place of what it showed before.
    pub(super) fn summary(&mut self, report: &Report) -> Result<()> {
        let before = if self.terminal {
            format!("{CLEAR}{}\n{}\n", self.head.join("\n"), self.now)
        } else {
            String::new()
        };
        let notified: String = self.notified.iter().flat_map(|line| ["\n", line]).collect();
        self.line(&format!("{before}\n{}\n{}{notified}", devices(report), alerts(report)))
    }
}

/// Sums rows by place. Frames without IP and special-purpose ranges are left out: they go nowhere.
fn places(rows: &[Destination]) -> BTreeMap<Place<'_>, Sum> {
    let mut sums = BTreeMap::<_, Sum>::new();
    for row in rows.iter().filter(|row| row.country.starts_with(|c: char| c.is_ascii_uppercase())) {
        let place = Place { country: &row.country, operator: &row.operator, prefix: &row.prefix };
        let sum = sums.entry(place).or_default();
        let clear = if row.encryption == UNENCRYPTED { " unencrypted" } else { "" };
        let over = match row.port {
            0 => row.protocol.clone(),
            port => format!("{}/{port}{clear}", row.protocol),
        };
        sum.over.insert(over);
        sum.tx_bytes += row.tx_bytes;
        sum.rx_bytes += row.rx_bytes;
    }
    sums
}

fn devices(report: &Report) -> String {
    let mut text = format!(
        "{:<12} {:<18} {:<2} {:<26} {:<20} {:>9} {:>9}  {}\n",
        "device", "vendor", "", "operator", "prefix", "sent", "received", "over"
    );
    for device in &report.devices {
        let vendor = if device.random_mac { "(random MAC)" } else { &device.vendor };
        let mut who = (device.name.as_str(), vendor);
        for (place, sum) in places(&device.destinations) {
            let over: Vec<_> = sum.over.into_iter().collect();
            let line = format!(
                "{:<12} {:<18} {:<2} {:<26} {:<20} {:>9} {:>9}  {}",
                cut(who.0, 12),
                cut(who.1, 18),
                place.country,
                cut(place.operator, 26),
                place.prefix,
                size(sum.tx_bytes),
                size(sum.rx_bytes),
                over.join(", ")
            );
            // Writing to a String cannot fail.
            let _ok = writeln!(text, "{}", printable(&line));
            who = ("", "");
        }
    }
    text
}

fn alerts(report: &Report) -> String {
    alert_lines(report).fold("alerts\n".to_owned(), |text, line| text + &line + "\n")
}

fn alert_lines(report: &Report) -> impl Iterator<Item = String> {
    report.alerts.iter().map(|alert| {
        printable(&format!(
            "  ALERT {}: {} and {} {} since {} ({})",
            alert.rule, alert.device, alert.country, alert.prefix, alert.since, alert.severity
        ))
    })
}

/// Names come from packets and files; none may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn cut(text: &str, width: usize) -> &str {
    text.char_indices().nth(width).map_or(text, |(end, _)| &text[..end])
}

/// Bytes in decimal units (kB = 1000 B).
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_steers_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a?[2Jb?c");
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("Телеком", 3), "Тел");
        assert_eq!(cut("ab", 3), "ab");
    }

    #[test]
    fn sums_by_place_and_leaves_local_traffic_out() {
        let row = |country: &str, port, tx_bytes| Destination {
            country: country.to_owned(),
            protocol: "tcp".to_owned(),
            port,
            encryption: sensor_common::report::encryption("tcp", port).to_owned(),
            tx_bytes,
            ..Destination::default()
        };
        let rows = [row("CN", 80, 7), row("CN", 443, 1), row("private", 53, 9), row("", 0, 9)];
        let sums = places(&rows);
        assert_eq!(sums.len(), 1);
        let sum = sums.values().next().expect("one place");
        assert_eq!(sum.tx_bytes, 8);
        let over: Vec<_> = sum.over.iter().map(String::as_str).collect();
        assert_eq!(over, ["tcp/443", "tcp/80 unencrypted"]);
    }
}
