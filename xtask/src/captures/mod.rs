//! `cargo xtask captures`: what `labgate replay` makes of captures, beside what tshark does.
//!
//! Captures that nobody here wrote are the judges: for each sender's MAC address and each destination packets and bytes
//! have to be the same, whatever the frames are wrapped in, and with both engines.

mod labgate;
mod tshark;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::IpAddr,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::{
    build::{self, Profile},
    privilege::is_root,
    setup::{self, Consent, Group},
};
use tshark::Reading;

/// What the name of a capture ends with.
const SUFFIXES: [&str; 6] = [".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz"];
/// Both count the same; the first one needs no privileges.
const ENGINES: [&str; 2] = ["host", "kernel"];

/// Arguments of `cargo xtask captures`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A capture, or a directory in which all captures are taken, at any depth
    directory: PathBuf,
    /// Print the result as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Compile LabGate for debugging: sooner built, slower to run
    #[arg(long)]
    debug: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Frames.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
}

/// By the sender's MAC address, as text, and the destination; without one where there is no IP header to be read.
pub type Rows = BTreeMap<(String, Option<IpAddr>), Tally>;

/// A capture of which the two say different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The capture.
    pub file: PathBuf,
    /// LabGate's engine.
    pub engine: &'static str,
    /// Rows that differ.
    pub rows: usize,
    /// The sender of the first one.
    pub mac: String,
    /// Its destination.
    pub address: Option<IpAddr>,
    /// What tshark counts there.
    pub tshark: Tally,
    /// What LabGate does.
    pub labgate: Tally,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The engines.
    pub engines: Vec<&'static str>,
    /// Packets that tshark counts in all captures.
    pub packets: u64,
    /// Captures in which all is the same.
    pub equal: BTreeSet<PathBuf>,
    /// Captures of which neither reads a packet: other link types, or no captures at all.
    pub unread: BTreeSet<PathBuf>,
    /// Captures where tshark opens what LabGate leaves closed on purpose, and all is the same once it does not.
    pub on_purpose: Vec<Difference>,
    /// Captures that are counted differently.
    pub different: Vec<Difference>,
}

/// Compares all captures of a directory.
///
/// # Errors
/// When something can't be built or started, there are no captures, or one is counted differently.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build, Group::Bench], Consent::new(args.yes))?;
    let files = captures(&args.directory)?;
    ensure!(!files.is_empty(), "there are no captures below {}", args.directory.display());
    let engines = if is_root() { &ENGINES[..] } else { &ENGINES[..1] };
    if !is_root() {
        eprintln!("Without root the engine `kernel` can't be had: comparing `host` alone.");
    }
    let binary = build::daemon(if args.debug { Profile::Dev } else { Profile::Release })?;
    let outcome = compare(&binary, &files, engines)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("{outcome}");
    }
    ensure!(outcome.different.is_empty(), "{} differ", outcome.different.len());
    Ok(())
}

/// Compares captures by these engines, as many at a time as there are processors.
///
/// # Errors
/// When one of the programs can't be run, or LabGate's books are not closed.
pub fn compare(labgate: &Path, files: &[PathBuf], engines: &[&'static str]) -> Result<Outcome> {
    let outcome = Mutex::new(Outcome { engines: engines.to_vec(), ..Outcome::default() });
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let compared = one(labgate, file, engines)
                .with_context(|| format!("can't compare {}", file.display()))?;
            outcome.lock().unwrap_or_else(PoisonError::into_inner).add(file, compared);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(worked) => worked,
            Err(_) => bail!("a comparison ended with a panic"),
        })
    })?;
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    for list in [&mut outcome.on_purpose, &mut outcome.different] {
        list.sort_by(|a, b| (&a.file, a.engine).cmp(&(&b.file, b.engine)));
    }
    Ok(outcome)
}

/// What tshark counts in a capture, and where an engine does not; with whether that is on purpose.
struct Compared {
    packets: u64,
    differences: Vec<(Difference, bool)>,
}

fn one(labgate: &Path, file: &Path, engines: &[&'static str]) -> Result<Compared> {
    let theirs = tshark::count(file, Reading::Own)?;
    let mut compared = Compared {
        packets: theirs.values().map(|tally| tally.packets).sum(),
        differences: Vec::new(),
    };
    for engine in engines {
        let ours = labgate::count(labgate, file, engine)?;
        let Some(difference) = difference(&theirs, &ours, file, engine) else { continue };
        let is_on_purpose = tshark::same(&tshark::count(file, Reading::Closed)?, &ours);
        compared.differences.push((difference, is_on_purpose));
    }
    Ok(compared)
}

/// The first row that is not the same.
fn difference(theirs: &Rows, ours: &Rows, file: &Path, engine: &'static str) -> Option<Difference> {
    let differs = |key: &&(String, Option<IpAddr>)| theirs.get(*key) != ours.get(*key);
    let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).filter(differs).collect();
    let first = *keys.first()?;
    let tally = |rows: &Rows| rows.get(first).copied().unwrap_or_default();
    Some(Difference {
        file: file.to_owned(),
        engine,
        rows: keys.len(),
        mac: first.0.clone(),
        address: first.1,
        tshark: tally(theirs),
        labgate: tally(ours),
    })
}

impl Outcome {
    fn add(&mut self, file: &Path, Compared { packets, differences }: Compared) {
        self.packets += packets;
        if differences.is_empty() {
            let list = if packets == 0 { &mut self.unread } else { &mut self.equal };
            list.insert(file.to_owned());
        }
        for (difference, is_on_purpose) in differences {
            let list = if is_on_purpose { &mut self.on_purpose } else { &mut self.different };
            list.push(difference);
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.equal {
            writeln!(f, "equal       {}", file.display())?;
        }
        for file in &self.unread {
            writeln!(f, "unread      {}", file.display())?;
        }
        for (what, list) in [("on purpose", &self.on_purpose), ("DIFFERENT", &self.different)] {
            for difference in list {
                writeln!(f, "{what:<11} {difference}")?;
            }
        }
        let files =
            |list: &[Difference]| list.iter().map(|d| &d.file).collect::<BTreeSet<_>>().len();
        writeln!(
            f,
            "\n{} packets, counted by tshark and by {}: {} captures equal, {} different on purpose, {} different; in {} \
             others neither reads a packet",
            self.packets,
            self.engines.join(" and "),
            self.equal.len(),
            files(&self.on_purpose),
            files(&self.different),
            self.unread.len()
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, engine, rows, mac, address, tshark, labgate } = self;
        let address = address.map_or_else(|| "no address".to_owned(), |to| to.to_string());
        write!(
            f,
            "{}: {rows} rows, first {mac} to {address}: tshark {} packets, {} bytes; {engine} {} packets, {} bytes",
            file.display(),
            tshark.packets,
            tshark.bytes,
            labgate.packets,
            labgate.bytes
        )
    }
}

/// The captures below a directory, in order; a file is taken whatever its name.
fn captures(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        // Not by way of links, which may lead round and round.
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            found.append(&mut captures(&entry.path())?);
        } else if kind.is_file() && SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(packets: u64) -> Rows {
        let address = "192.0.2.1".parse().ok();
        let row = |mac: &str, packets| ((mac.to_owned(), address), Tally { packets, bytes: 60 });
        [row("02:00:00:00:00:01", 1), row("02:00:00:00:00:02", packets)].into()
    }

    #[test]
    fn a_difference_names_its_first_row() {
        let file = Path::new("walk.pcap");
        assert_eq!(difference(&rows(2), &rows(2), file, "host"), None);
        let found = difference(&rows(2), &Rows::new(), file, "host").unwrap();
        assert_eq!((found.rows, &*found.mac, found.tshark.packets), (2, "02:00:00:00:00:01", 1));
        assert_eq!(found.labgate, Tally::default());
        let found = difference(&rows(2), &rows(3), file, "host").unwrap();
        assert_eq!((found.rows, found.tshark.packets, found.labgate.packets), (1, 2, 3));
        let line = "walk.pcap: 1 rows, first 02:00:00:00:00:02 to 192.0.2.1: tshark 2 packets, 60 bytes; host 3 \
                    packets, 60 bytes";
        assert_eq!(found.to_string(), line);
    }

    #[test]
    fn captures_are_found_by_name_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["b/x.pcapng.gz", "a.pcap", "notes.txt", "c.cap"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = ["a.pcap", "b/x.pcapng.gz", "c.cap"].map(|name| dir.path().join(name));
        assert_eq!(captures(dir.path()).unwrap(), names);
        let notes = dir.path().join("notes.txt");
        assert_eq!(captures(&notes).unwrap(), [notes]);
    }
}
