//! The benchmark of the datapath: `cargo xtask bench`.
//!
//! What a packet costs, in nanoseconds over an empty program of the same hook, on one CPU: of the
//! sensor, of the floor (a bare array), and of the ways in which others count. Frames are made by
//! the kernel and go through a veth pair at full speed. The programs take turns within one stream of
//! frames, a few milliseconds each, so that all suffer the same disturbances; what is reported is
//! the median over hundreds of turns of the difference to the empty program's neighbouring turns.

#![expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds and packets of a run fit the 52 bits of a float"
)]

mod cases;
mod drain;
mod exact;
mod generator;
#[expect(unreachable_pub, reason = "the file is shared with the programs")]
#[path = "../../../sensor-ebpf/bench/plan.rs"]
mod plan;
mod report;
mod tcp;
mod traffic;
mod turns;

use std::{error::Error, fs, process::ExitCode};

use cases::Extent;
use clap::Parser;
use report::Report;

/// Measures the datapath.
#[derive(Debug, Parser)]
struct Args {
    /// The cases that matter most, in less than five minutes
    #[arg(long)]
    quick: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let object = fs::read(xtask::benchmark::programs()?)?;
    let extent = if args.quick { Extent::Quick } else { Extent::Full };
    let mut report = Report::new();
    if extent == Extent::Full {
        report.tcp = Some(tcp::measure(&object)?);
    }
    generator::enclose()?;
    for cell in cases::cells(extent) {
        cell.measure(&object, &mut report)?;
    }
    drain::measure(&object, &mut report)?;
    if args.json {
        println!("{}", report.json()?);
    } else {
        report.print();
    }
    Ok(())
}
