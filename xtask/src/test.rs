//! `cargo xtask test`: all tiers, one after the other, and what was skipped.

mod tally;
mod targets;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tempfile::NamedTempFile;

use crate::build::cargo;
use crate::privilege::SKIPPED_VARIABLE;
use crate::setup::{self, Consent, is_ci};
use tally::Tally;
use targets::{Target, integration_tests};

/// The part of xtask that `cargo xtask geodata` builds on demand is checked like the rest.
const FEATURES: &str = "--features xtask/geodata";

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only this tier (may be repeated)
    #[arg(long, value_enum)]
    tier: Vec<Tier>,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// The tiers, in the order they run: what fails soonest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Formatting and lints
    Style,
    /// Tests that need no privilege
    Pure,
    /// Programs and maps in this machine's kernel (needs root)
    Kernel,
    /// Real traffic through the test bench's network namespaces (needs root)
    Netns,
    /// Debian's kernels in virtual machines
    Qemu,
}

/// What became of one tier.
struct Outcome {
    tier: Tier,
    ok: bool,
    tally: Tally,
    skipped: usize,
    time: Duration,
}

/// Runs the tiers and prints a summary.
///
/// # Errors
/// When a tier failed, or, under CI, when a test was skipped.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&setup::all_groups(), Consent::new(args.yes))?;

    let tiers = if args.tier.is_empty() { Tier::value_variants() } else { &args.tier };
    let targets = integration_tests()?;
    let outcomes: Vec<_> =
        tiers.iter().map(|&tier| run_tier(tier, &targets)).collect::<Result<_>>()?;
    summarize(&outcomes);

    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| !outcome.ok).map(|outcome| outcome.tier.name()).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    let skipped: usize = outcomes.iter().map(|outcome| outcome.skipped).sum();
    if skipped > 0 && is_ci() {
        bail!("skipped tests: {skipped}, which counts as a failure under CI (see SKIPPED above)");
    }
    if skipped > 0 {
        eprintln!("skipped tests: {skipped} (see SKIPPED above for the reasons)");
    }
    Ok(())
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Style => "style",
            Self::Pure => "pure",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Qemu => "qemu",
        }
    }

    /// The arguments of each cargo that this tier is made of.
    fn commands(self, targets: &[Target]) -> Vec<Vec<String>> {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let own = targets.iter().filter(|target| target.tier == self);
        match self {
            Self::Style => vec![
                words("fmt --all --check"),
                words(&format!("clippy --all-targets {FEATURES} -- -D warnings")),
                // The programs are linted as code of this machine, for which there is a clippy;
                // without `std` that needs panics that abort.
                words("clippy -p sensor-ebpf --config profile.dev.panic=\"abort\" -- -D warnings"),
            ],
            Self::Pure => {
                let mut tests = words(&format!("test --no-fail-fast --lib --bins {FEATURES}"));
                for target in own {
                    tests.extend(["--test".to_owned(), target.name.clone()]);
                }
                vec![tests, words("test --no-fail-fast --doc")]
            }
            Self::Kernel | Self::Netns | Self::Qemu => own
                .map(|target| {
                    let Target { package, name, .. } = target;
                    // Each sensor has a bench of its own, and most of the time its test waits. The
                    // bench's own tests ask what is left of it, of all that is there.
                    let threads =
                        if (self, &**package) == (Self::Netns, "labgate") { 2 } else { 1 };
                    words(&format!("test -p {package} --test {name} -- --test-threads={threads}"))
                })
                .collect(),
        }
    }
}

fn run_tier(tier: Tier, targets: &[Target]) -> Result<Outcome> {
    let start = Instant::now();
    let list = NamedTempFile::new().context("no temporary file for the list of skipped tests")?;
    let mut outcome =
        Outcome { tier, ok: true, tally: Tally::default(), skipped: 0, time: Duration::ZERO };
    for arguments in tier.commands(targets) {
        eprintln!("\n== {}: cargo {}", tier.name(), arguments.join(" "));
        let mut command = cargo();
        command.args(&arguments).env(SKIPPED_VARIABLE, list.path());
        outcome.ok &= run_cargo(&mut command, &mut outcome.tally)?;
    }
    let skipped = std::fs::read_to_string(list.path())
        .with_context(|| format!("{} can't be read", list.path().display()))?;
    outcome.skipped = skipped.lines().count();
    outcome.time = start.elapsed();
    Ok(outcome)
}

/// Runs a cargo, shows what matters of its output, and says whether it succeeded.
fn run_cargo(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo didn't start")?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cargo's output can't be read")?;
            let line = String::from_utf8_lossy(&line);
            if tally.take(&line) {
                println!("{line}");
            }
        }
    }
    let status = child.wait().context("cargo can't be waited for")?;
    Ok(status.success())
}

fn summarize(outcomes: &[Outcome]) {
    println!(
        "\n{:<8}{:<8}{:>8}{:>8}{:>9}{:>10}",
        "tier", "result", "passed", "failed", "skipped", "time"
    );
    for Outcome { tier, ok, tally, skipped, time } in outcomes {
        let result = if *ok { "ok" } else { "FAILED" };
        // To the test harness, a test that returned early has passed.
        let passed = tally.passed.saturating_sub(*skipped);
        println!(
            "{:<8}{result:<8}{passed:>8}{:>8}{skipped:>9}{:>8.1} s",
            tier.name(),
            tally.failed,
            time.as_secs_f64()
        );
    }
}
