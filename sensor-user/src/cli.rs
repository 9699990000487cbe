//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Where the configuration lies on an installed gateway.
pub const DEFAULT_CONFIG: &str = "/etc/labgate/config.yaml";

/// Where does each device on the bench send its data?
///
/// LabGate counts every packet that passes the LAN interfaces of this gateway, per device and
/// destination, and shows country, operator and prefix of each.
#[derive(Debug, Parser)]
#[command(name = "labgate", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach to the interfaces and count until told to stop (Ctrl-C or SIGTERM).
    Run(ConfigArg),
    /// Check the configuration, the databases and this machine; attach nothing.
    Check(ConfigArg),
    /// Show what a running sensor has counted.
    Status(StatusArgs),
    /// Remove what a killed sensor left attached.
    ///
    /// Only filters of the clsact qdisc outlive the sensor (kernels before 6.6); everything else
    /// ends with its process.
    Detach,
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages; packages are made with it.
    #[command(hide = true)]
    Man {
        /// Where to.
        directory: PathBuf,
    },
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct ConfigArg {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// What to show.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Configuration file of the running sensor; tells where it listens.
    #[command(flatten)]
    pub config: ConfigArg,
    /// Where the sensor listens, instead of what the configuration says.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Print the common JSON form.
    #[arg(long)]
    pub json: bool,
    /// One row per far address and VLAN instead of one per prefix.
    #[arg(long, value_enum, default_value = "prefix")]
    pub detail: Detail,
}

/// How fine the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Detail {
    /// By destination prefix.
    Prefix,
    /// By far address and VLAN.
    Address,
}
