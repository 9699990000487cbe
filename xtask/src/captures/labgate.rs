//! What `labgate replay` counts.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use sensor_common::report::Report;

use super::Rows;

/// Counts the frames of a capture; those before a fault, where there is one.
pub(super) fn count(labgate: &Path, file: &Path, engine: &str) -> Result<Rows> {
    let mut command = Command::new(labgate);
    command.args(["replay", "--no-config", "--json", "--detail", "address", "--engine", engine]);
    let output = command.arg("--").arg(file).output().context("labgate didn't start")?;
    let mut rows = Rows::new();
    if output.stdout.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        // That it is no capture is a word about the file; anything else is none.
        let named = format!("labgate: {}", file.display());
        ensure!(said.starts_with(&named), "labgate failed: {said}");
        return Ok(rows);
    }
    let report: Report = serde_json::from_slice(&output.stdout).context("labgate's report")?;
    let books = &report.books;
    let agree = books.closed && books.seen_packets == books.interface_packets;
    ensure!(agree, "the books are not closed: {books:?}");
    for device in &report.devices {
        for row in &device.destinations {
            let address = row.address.as_deref().map(str::parse).transpose()?;
            let tally = rows.entry((device.mac.clone(), address)).or_default();
            tally.packets += row.tx_packets + row.rx_packets;
            tally.bytes += row.tx_bytes + row.rx_bytes;
        }
    }
    Ok(rows)
}
