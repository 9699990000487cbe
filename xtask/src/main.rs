//! LabGate's own commands, run as `cargo xtask ...`.

mod geodata;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{
    benchmark, build, captures, chaos, dashboards, demo, fuzz, package, setup, test, verify,
};

/// Commands of the LabGate repository. Start with `cargo xtask demo`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing to build, demonstrate and test LabGate
    Setup(setup::Args),
    /// Build the daemon with its eBPF programs
    Build(build::Args),
    /// Make the Debian package
    Package(package::Args),
    /// Show LabGate at work on a bench of network namespaces; `--once` also checks its numbers
    Demo(demo::Args),
    /// Check dashboards, rules and runbooks
    Dashboards(dashboards::Args),
    /// Run all tests, and say what was skipped
    Test(test::Args),
    /// Measure what a packet costs, beside other ways to count it
    Bench(benchmark::Args),
    /// Kill, restart, upgrade and starve the sensor under full traffic, and see that no packet is lost
    Chaos(chaos::Args),
    /// Hold `labgate replay` against tshark, over all captures of a directory
    Captures(captures::Args),
    /// Boot Debian's kernels in virtual machines, and see that the sensor counts right on each
    Verify(verify::Args),
    /// The part of `verify` that runs in the machine
    #[command(hide = true)]
    VerifyGuest(verify::guest::Args),
    /// Look for input that breaks a parser or a reader
    Fuzz(fuzz::Args),
    /// Make the geo databases in the repository again
    Geodata(geodata::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Dashboards(args) => dashboards::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => benchmark::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Captures(args) => captures::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::VerifyGuest(args) => verify::guest::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Geodata(args) => geodata::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
