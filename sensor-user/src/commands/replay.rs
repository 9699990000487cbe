//! `labgate replay`: captures instead of interfaces.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sensor_common::report;

use super::{
    status::table,
    terminal::{is_plain, print, printable, printable_json, tell},
};
use crate::{
    adopted::StateFile,
    cli::ReplayArgs,
    config::{self, Config, ConfigError, Limits},
    join::geo::GeoDb,
    reload::open_geo,
    replay::{
        Replay,
        capture::{Capture, Fault},
    },
    state::{self, Setup},
};

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Unknown devices that are told apart where there are no others.
const MOST_DEVICES: u32 = 65_536;
/// Destinations that are told apart then; the report of so many takes some 300 MB.
const MOST_DESTINATIONS: u32 = 1 << 18;

/// Counts the packets of captures and prints what a sensor would have said.
///
/// # Errors
///
/// When the configuration, a database, the engine or the ledger can't be had, or the ledger not be written; and when a
/// capture could not be read to its end: then everything else has been printed before.
pub fn replay(args: &ReplayArgs) -> Result<()> {
    let config = if args.no_config { without_config() } else { configured(&args.config.config)? };
    let geo = open_geo(&config)?;
    let setup = setup(&config, args.no_config, &geo);
    let mut replay = match &args.ledger {
        Some(ledger) => Replay::into_ledger(&config, setup, geo, args.engine, ledger)?,
        None => Replay::new(&config, setup, geo, args.engine)?,
    };
    let progress = progress_bar(&args.files);
    let mut faults = Vec::new();
    for path in &args.files {
        let capture = open(path, &progress);
        let name = path.display().to_string();
        if let Some(fault) = replay.add(&name, capture)? {
            faults.push(format!("{} {fault}", printable(&name)));
        }
    }
    progress.finish_and_clear();
    let report = replay.report(args.detail.into());
    if faults.len() < args.files.len() || report.books.seen_packets > 0 {
        print(|out| {
            if args.json {
                let text = serde_json::to_string(&report).map_err(io::Error::other)?;
                writeln!(out, "{}", printable_json(&text))
            } else {
                table(out, &report)?;
                report.replay.iter().try_for_each(|replay| replayed(out, replay))
            }
        })?;
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(())
}

/// As `run` has it: the devices that were adopted beside those of the file.
fn configured(path: &Path) -> Result<Config> {
    let config = config::load(path).map_err(|error| match error {
        error @ ConfigError::Unreadable { .. } => {
            anyhow!("{error}; or replay without a configuration: --no-config")
        }
        error => error.into(),
    })?;
    let adopted = StateFile::of(&config.state_dir).read().unwrap_or_else(|error| {
        tell!("labgate: replaying without the adopted devices: {error}");
        Default::default()
    });
    let (devices, warnings) = adopted.beside(&config);
    for warning in config.warnings.iter().chain(&warnings) {
        tell!("labgate: {warning}");
    }
    Ok(Config { devices, ..config })
}

/// All devices are unknown ones, which a sensor would tell apart up to a bound that protects the others.
fn without_config() -> Config {
    let limits = Limits {
        unknown_devices: MOST_DEVICES,
        destinations_per_device: MOST_DESTINATIONS,
        ..Limits::default()
    };
    Config { limits, ..Config::bare() }
}

fn setup(config: &Config, all_unknown: bool, geo: &GeoDb) -> Setup {
    let mut setup = Setup::new(config, geo);
    // Nobody asks a replay for metrics.
    setup.limits = state::Limits { series: 0, series_expiration: None, ..setup.limits };
    if all_unknown {
        setup.limits.pooled_destinations = MOST_DESTINATIONS as usize;
    }
    setup
}

/// Opens a capture whose octets move the bar as they are read.
fn open(path: &Path, progress: &ProgressBar) -> Result<Capture, Fault> {
    let reader: Box<dyn Read> = if path == Path::new(STANDARD_INPUT) {
        Box::new(progress.wrap_read(io::stdin().lock()))
    } else {
        Box::new(progress.wrap_read(File::open(path).map_err(Fault::Unopened)?))
    };
    Capture::new(reader)
}

/// On standard error where that is a terminal, else nowhere; without an end where the length of a file
/// can't be known.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let length = |path: &PathBuf| path.metadata().ok().filter(Metadata::is_file);
    let total = files.iter().map(|path| length(path).map(|file| file.len())).sum::<Option<u64>>();
    let template = match total {
        Some(_) => "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left",
        None => "{spinner} {bytes}  {bytes_per_sec}",
    };
    // It is drawn over and over on one line, which a terminal that is none can't.
    let mut bar = if is_plain() { ProgressBar::hidden() } else { ProgressBar::no_length() };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar = bar.with_style(style);
    }
    if let Some(total) = total {
        bar.set_length(total);
    }
    bar
}

/// What was read, and how.
fn replayed(out: &mut dyn Write, replay: &report::Replay) -> io::Result<()> {
    for capture in &replay.captures {
        let report::Capture { file, packets, bytes, known_packets, from, to, problem } = capture;
        let when = if from.is_empty() { String::new() } else { format!(", {from} to {to}") };
        let known = match known_packets {
            0 => String::new(),
            known => format!("; {known} more are in the ledger already"),
        };
        let problem = if problem.is_empty() { String::new() } else { format!("; it {problem}") };
        let line =
            format!("replayed {file}: {packets} packets, {bytes} bytes{when}{known}{problem}");
        writeln!(out, "{}", printable(&line))?;
    }
    let left = match replay.host_packets {
        0 => String::new(),
        packets => format!("; {packets} packets that it can't be shown were counted by the host"),
    };
    writeln!(out, "counted by the engine `{}`{left}", replay.engine)
}
