//! `cargo xtask chaos`: traffic at full speed in both directions while everything goes wrong that may, and then
//! the ledger is held against the interfaces' own counters.

mod campaign;
mod dice;
mod sensor;

use std::time::Duration;

use anyhow::{Result, ensure};
pub use campaign::Campaign;
use serde::Serialize;

use crate::{
    build::{self, Profile},
    privilege::is_root,
    setup::{self, Consent, Group},
};

/// Arguments of `cargo xtask chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long, in minutes; a fraction is fine
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Go on until the sensor was killed so many times
    #[arg(long, default_value_t = 0)]
    kills: u64,
    /// Leave a safeguard out, to see that the campaign finds it: `barrier`, `order` or `identity`
    #[arg(long, value_name = "SAFEGUARD")]
    without: Option<String>,
    /// Print the result as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Compile the sensor for debugging, as the tests do
    #[arg(long)]
    debug: bool,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Times the sensor was killed, from outside or at a failpoint.
    pub kills: u64,
    /// Times it was started after the first.
    pub restarts: u64,
    /// Of these, with another executable.
    pub upgrades: u64,
    /// Times it read its configuration anew.
    pub reloads: u64,
    /// Times an interface was switched off and on.
    pub flaps: u64,
    /// Times the ledger's disk was full.
    pub full_disks: u64,
    /// Packets that the LAN interfaces count, both directions.
    pub interface_packets: u64,
    /// Packets that they dropped after the hook.
    pub interface_dropped: u64,
    /// Packets in the ledger.
    pub ledger_packets: u64,
    /// Bytes that the LAN interfaces count, with the Ethernet headers that native XDP sees and they don't.
    pub interface_bytes: u64,
    /// Bytes in the ledger.
    pub ledger_bytes: u64,
    /// Epochs in the ledger.
    pub epochs: u64,
    /// Packets that the ledger has and the interfaces have not.
    pub duplicates: u64,
    /// Packets that the interfaces have and the ledger has not.
    pub missing: u64,
    /// Whether the ledger's books are closed.
    pub closed: bool,
}

impl Outcome {
    /// Whether nothing was lost and nothing counted twice. Where interfaces dropped packets after the hook, whose
    /// bytes they don't count, bytes say nothing.
    pub fn is_exact(&self) -> bool {
        let same_bytes = self.ledger_bytes == self.interface_bytes || self.interface_dropped > 0;
        self.duplicates == 0 && self.missing == 0 && same_bytes && self.closed
    }
}

/// Runs the campaign. Needs root.
///
/// # Errors
/// When something can't be built or started, or a packet was lost or counted twice.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        is_root(),
        "the campaign makes network namespaces and loads eBPF programs: run it as root"
    );
    setup::ensure(&[Group::Build, Group::Test], Consent::new(args.yes))?;
    let binary = build::daemon(if args.debug { Profile::Dev } else { Profile::Release })?;
    let campaign = Campaign {
        length: Duration::from_secs_f64(args.minutes * 60.0),
        kills: args.kills,
        without: args.without.clone(),
        seed: args.seed,
    };
    let outcome = campaign.run(&binary)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        println!("{outcome:#?}");
    }
    ensure!(outcome.is_exact(), "the ledger differs from the interfaces: see above");
    Ok(())
}
