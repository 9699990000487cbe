//! `labgate audit` and `labgate ledger ...`: what works on the ledger's file, whether or not a sensor runs.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail, ensure};
use sensor_common::report::Audit;

use super::{period, terminal::print};
use crate::{
    cli::{AuditArgs, LedgerCommand, LedgerFile},
    config,
    sinks::ledger,
};

/// Prints the balance and the coverage of a period.
///
/// # Errors
///
/// When there is no ledger, or it can't be read.
pub fn audit(args: &AuditArgs) -> Result<()> {
    let path = file(&args.file)?;
    let (since, until) = period::bounds(&args.period)?;
    let audit = ledger::audit(&path, since, until)
        .with_context(|| format!("can't read the ledger {}", path.display()))?;
    print(|out| {
        if args.json {
            serde_json::to_writer_pretty(&mut *out, &audit)?;
            writeln!(out)
        } else {
            write(out, &audit)
        }
    })
}

/// Copies, checks or purges the ledger.
///
/// # Errors
///
/// When that can't be done, or something is wrong with it.
pub fn ledger(command: &LedgerCommand) -> Result<()> {
    match command {
        LedgerCommand::Backup { copy, file: args } => {
            let path = file(args)?;
            ledger::backup(&path, copy)
                .with_context(|| format!("can't copy {} to {}", path.display(), copy.display()))?;
            print(|out| writeln!(out, "{}", copy.display()))
        }
        LedgerCommand::Check(args) => {
            let path = file(args)?;
            let faults = ledger::check(&path)
                .with_context(|| format!("can't read the ledger {}", path.display()))?;
            ensure!(faults.is_empty(), "{}: {}", path.display(), faults.join("; "));
            print(|out| writeln!(out, "{}: whole, and its sums agree", path.display()))
        }
        LedgerCommand::Purge { device, file: args } => {
            let path = file(args)?;
            let purged = ledger::purge(&path, device)
                .with_context(|| format!("can't purge {}", path.display()))?;
            ensure!(purged > 0, "{} knows no device {device}", path.display());
            print(|out| writeln!(out, "{device} is purged; its packets are still part of the sums"))
        }
    }
}

/// The file that is meant: named, or the configuration's.
fn file(args: &LedgerFile) -> Result<PathBuf> {
    if let Some(file) = &args.ledger {
        return Ok(file.clone());
    }
    match config::load(&args.config.config)?.ledger {
        Some(file) => Ok(file),
        None => {
            bail!("the configuration keeps no ledger (`ledger: off`); name a file with --ledger")
        }
    }
}

fn write(out: &mut dyn Write, audit: &Audit) -> io::Result<()> {
    let Audit { ledger, from, until, epochs, open_epochs, balance, .. } = audit;
    writeln!(out, "ledger  {ledger}\nfrom    {from}\nuntil   {until}\n")?;
    writeln!(out, "{:<12} {:>16} {:>20}", "", "packets", "bytes")?;
    for (name, packets, bytes) in [
        ("seen", balance.seen_packets, balance.seen_bytes),
        ("attributed", balance.attributed_packets, balance.attributed_bytes),
        ("coarse", balance.coarse_packets, balance.coarse_bytes),
        ("overflow", balance.overflow_packets, balance.overflow_bytes),
        ("unparsed", balance.unparsed_packets, balance.unparsed_bytes),
    ] {
        writeln!(out, "{name:<12} {packets:>16} {bytes:>20}")?;
    }
    let verdict = if audit.closed {
        "closed: every packet that was seen is counted once"
    } else {
        "OPEN: packets were seen that are counted nowhere, or the reverse; see below"
    };
    writeln!(
        out,
        "\nbooks   {verdict}\nepochs  {epochs} with packets, {open_epochs} of them open"
    )?;
    for loss in audit.events.iter().filter(|event| event.event.starts_with("ledger_")) {
        writeln!(out, "LOST    {}: {}", loss.event, loss.count)?;
    }
    if audit.unseen_packets > 0 {
        writeln!(
            out,
            "UNSEEN  {} packets passed the interfaces and no program",
            audit.unseen_packets
        )?;
    }
    for file in &audit.set_aside {
        writeln!(out, "DAMAGED {file} may have a part of this; it was set aside")?;
    }
    for interface in &audit.interfaces {
        let (rx, tx) = (interface.rx_packets, interface.tx_packets);
        writeln!(
            out,
            "\n{}: its own counters say {rx} packets received, {tx} sent, {} dropped",
            interface.name, interface.dropped
        )?;
        for span in &interface.coverage {
            let to = if span.to.is_empty() { "now" } else { &*span.to };
            let how = format!("{} and {}", span.ingress, span.egress);
            writeln!(out, "  watched      {} to {to}, by {how}", span.from)?;
        }
        for gap in &interface.gaps {
            let to = if gap.to.is_empty() { "now" } else { &*gap.to };
            let what = if gap.reason == "no_epoch" { "NOT known  " } else { "NOT watched" };
            writeln!(out, "  {what}  {} to {to}: {}", gap.from, gap.reason)?;
        }
    }
    if !audit.events.is_empty() {
        writeln!(out)?;
        for event in &audit.events {
            writeln!(out, "{:<24} {:>12}", event.event, event.count)?;
        }
    }
    writeln!(
        out,
        "\nAn interface counts bytes without the Ethernet header at native XDP, and super-packets as one packet where \
         segmentation is offloaded to it; packets it dropped before the hook are in its counters alone."
    )
}
