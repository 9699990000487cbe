//! `cargo xtask bench`: what a packet costs, beside other ways to count it, and what the ledger costs.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    build::{cargo, target_dir, workspace},
    privilege::is_root,
    setup::{self, Consent, Group},
    toolchain,
};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// The cases that matter most, in less than five minutes
    #[arg(long)]
    quick: bool,
    /// Measure the ledger instead of the datapath
    #[arg(long, conflicts_with_all = ["quick", "json"])]
    ledger: bool,
    /// Print the result as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Runs the benchmark. Needs root.
///
/// # Errors
/// When something can't be built, or the benchmark fails.
pub fn run(args: &Args) -> Result<()> {
    if args.ledger {
        setup::ensure(&[Group::Build], Consent::new(args.yes))?;
        return bench(&["--bench", "ledger"]);
    }
    ensure!(
        is_root(),
        "the benchmark loads eBPF programs and makes network namespaces: run it as root"
    );
    setup::ensure(&[Group::Build, Group::Bench], Consent::new(args.yes))?;
    let mut wanted = vec!["--bench", "datapath", "--"];
    for (is_wanted, flag) in [(args.quick, "--quick"), (args.json, "--json")] {
        if is_wanted {
            wanted.push(flag);
        }
    }
    bench(&wanted)
}

fn bench(args: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["bench", "--package", "labgate"]).args(args);
    let status = command.stdin(Stdio::null()).status().context("cargo didn't start")?;
    ensure!(status.success(), "the benchmark failed: see above");
    Ok(())
}

/// Builds the programs that are measured beside the sensor's, and returns the path of their object.
///
/// # Errors
/// When there is no compiler for them, or they do not compile.
pub fn programs() -> Result<PathBuf> {
    let toolchain = toolchain::find().map_err(|sentence| anyhow!(sentence))?;
    let target = target_dir().join("ebpf");
    let arch = env::consts::ARCH;
    let print = |line: &str| eprintln!("{line}");
    toolchain::build(&toolchain, workspace(), &target, "bench-ebpf", arch, print)
        .map_err(|sentence| anyhow!(sentence))
}
