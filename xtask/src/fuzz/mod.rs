//! `cargo xtask fuzz`: cargo-fuzz over everything that LabGate reads from others.
//!
//! The targets and what they check are in `sensor-user/fuzz`. The stable compiler will do; only for the address
//! sanitizer something unstable is switched on, as for the eBPF programs.

mod campaign;
pub mod corpus;
mod minimise;

use std::{
    collections::VecDeque,
    env, fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use self::campaign::Outcome;
use crate::{
    build::{target_dir, workspace},
    setup::{self, Consent, Group},
    tool::tool,
    toolchain::output,
};

const CARGO_FUZZ: &str = "0.13.2";
/// The crate with the targets, in the workspace.
const CRATE: &str = "sensor-user/fuzz";

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long for each target, in minutes; a fraction is fine
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Only this target (may be repeated)
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Targets at once
    #[arg(long, default_value = "1")]
    jobs: NonZeroUsize,
    /// Afterwards write what the corpora in the repository lack, as few and short inputs as will do
    #[arg(long)]
    minimise: bool,
    /// Instead of all that give one target this file, and show it as a line of a corpus
    #[arg(long, value_name = "FILE", conflicts_with = "minimise")]
    input: Option<PathBuf>,
    /// Check accesses to memory, too, as SQLite's are; takes several times as long to build
    #[arg(long)]
    sanitizer: bool,
    /// Print the result as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Fuzzes the targets one after the other.
///
/// # Errors
/// When something can't be built, or an input was found that breaks a target.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build], Consent::new(args.yes))?;
    let names = targets(&args.target)?;
    let built = build(&names, args.sanitizer)?;
    if let Some(input) = &args.input {
        let [name] = &names[..] else { bail!("say which target: --target NAME") };
        return built.reproduce(name, input);
    }
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let outcomes = fuzz(&built, &names, time, args.jobs.get())?;
    if args.minimise {
        for name in &names {
            minimise::minimise(&built, name)?;
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        print!("{}", campaign::table(&outcomes));
    }
    let findings: usize = outcomes.iter().map(|outcome| outcome.findings.len()).sum();
    ensure!(findings == 0, "findings: {findings}");
    Ok(())
}

/// Every target, or those that are asked for.
fn targets(asked: &[String]) -> Result<Vec<String>> {
    let directory = workspace().join(CRATE).join("corpus");
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let name = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut all: Vec<_> = entries.filter_map(|entry| name(entry.ok()?.path())).collect();
    all.sort();
    if let Some(unknown) = asked.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", all.join(", "));
    }
    all.retain(|name| asked.is_empty() || asked.contains(name));
    Ok(all)
}

/// The fuzz targets, built.
struct Built {
    /// Where they are.
    programs: PathBuf,
    /// Corpora, findings and logs.
    work: PathBuf,
}

impl Built {
    /// A target, ready to be given options and corpora; it makes temporary files in `temporary`.
    fn command(&self, name: &str, temporary: &Path) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.stdin(Stdio::null()).env("TMPDIR", temporary);
        // What a static holds at the end is no leak.
        command.env("ASAN_OPTIONS", "detect_leaks=0:detect_odr_violation=0");
        // Seconds, of which a busy machine may give only a few.
        command.args(["-timeout=30", "-rss_limit_mb=2048", "-max_len=20000"]);
        command
    }

    /// Gives a target one input.
    fn reproduce(&self, name: &str, input: &Path) -> Result<()> {
        let octets = fs::read(input).with_context(|| input.display().to_string())?;
        println!("{}", corpus::encode(&octets));
        let temporary = temporary()?;
        let status = self.command(name, temporary.path()).arg(input).status();
        ensure!(status.context("the target didn't start")?.success(), "{name} is broken by it");
        Ok(())
    }
}

/// Where files cost no disk; some targets make one for each input.
fn temporary() -> Result<tempfile::TempDir> {
    let memory = Some(Path::new("/dev/shm")).filter(|memory| memory.is_dir());
    let parent = memory.map_or_else(env::temp_dir, Path::to_owned);
    tempfile::Builder::new()
        .prefix("labgate-fuzz-")
        .tempdir_in(&parent)
        .with_context(|| format!("can't make a directory in {}", parent.display()))
}

/// Builds targets with what fuzzing needs.
fn build(names: &[String], sanitizer: bool) -> Result<Built> {
    let cargo_fuzz = tool("cargo-fuzz", CARGO_FUZZ, &[])?;
    let work = target_dir().join("fuzz");
    // Each has everything below built in its own way.
    let target = work.join(if sanitizer { "sanitized" } else { "build" });
    let compiler = output(Command::new("rustc").arg("-vV")).context("rustc didn't start")?;
    let host = compiler.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc doesn't name its host")?;
    for name in names {
        let mut command = Command::new(&cargo_fuzz);
        command.current_dir(workspace()).args(["fuzz", "build", "--fuzz-dir", CRATE]);
        command.args(["--features", "fuzzer", "--target", host, "--target-dir"]).arg(&target);
        // What a release gains by one unit for each crate, this would wait for.
        command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        if sanitizer {
            // `-Z sanitizer` on a stable compiler.
            command.args(["--sanitizer", "address"]).env("RUSTC_BOOTSTRAP", "1");
        } else {
            command.args(["--sanitizer", "none"]);
        }
        command.arg(name).stdin(Stdio::null());
        let status = command.stdout(Stdio::null()).status().context("cargo-fuzz didn't start")?;
        ensure!(status.success(), "the target {name} doesn't build: see the messages above");
    }
    Ok(Built { programs: target.join(host).join("release"), work })
}

/// Fuzzes targets, so many at once.
fn fuzz(built: &Built, names: &[String], time: Duration, jobs: usize) -> Result<Vec<Outcome>> {
    let waiting: Mutex<VecDeque<_>> = Mutex::new(names.iter().collect());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(name) = next() {
            let outcome = campaign::run(built, name, time)?;
            eprintln!("{}", outcome.line());
            outcomes.push(outcome);
        }
        Ok(outcomes)
    };
    let mut outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().map_err(|_panic| anyhow!("a worker panicked"))??);
        }
        Ok::<_, anyhow::Error>(outcomes)
    })?;
    outcomes.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(outcomes)
}
