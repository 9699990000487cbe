//! The command line.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Parser, Subcommand};

use crate::{
    kernel::DEFAULT_PINS,
    model::Mac,
    replay::EngineKind,
    sinks::http::values::{
        Asn, Device, Group, Limit, MAX_LIMIT, Operator, Over, Place, When, Within, Zone,
    },
    state,
};

/// Where the configuration lies on an installed gateway.
pub const DEFAULT_CONFIG: &str = "/etc/labgate/config.yaml";

const EXIT_CODES: &str = "Exit status: 0 done; 1 failed, the reason is on standard error; 2 wrong \
                          use of the command line.";

/// Where does each device on the bench send its data?
///
/// LabGate counts every packet that passes the LAN interfaces of this gateway, per device and
/// destination, and shows country, operator and prefix of each.
#[derive(Debug, Parser)]
#[command(name = "labgate", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach to the interfaces and count until told to stop.
    ///
    /// SIGTERM, as a service manager sends it, leaves the programs attached: they go on counting, and the
    /// next start takes over what they counted. Ctrl-C detaches them.
    Run(RunArgs),
    /// Check the configuration, the databases and this machine; attach nothing.
    Check(ConfigArg),
    /// Look at this machine and write a first configuration, with comments.
    Init(InitArgs),
    /// Show what a running sensor has counted.
    Status(StatusArgs),
    /// List the devices with their totals.
    ///
    /// Asks the running sensor; where none runs, or with --ledger, reads the ledger.
    Devices(DeviceArgs),
    /// Show where the data goes, by filters.
    ///
    /// Asks the running sensor; where none runs, or with --ledger, reads the ledger.
    Query(QueryArgs),
    /// Print the balance of a period: what was seen, where it was counted, and when nobody looked.
    ///
    /// Reads the ledger, whether or not a sensor runs.
    Audit(AuditArgs),
    /// Look after the ledger's file.
    Ledger {
        /// What to do.
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Count the packets of captures as a running sensor would: pcap and pcapng, also gzipped.
    ///
    /// A frame that a configured device receives from somebody else is a download; any other one is an
    /// upload of its sender. Bytes are those on the wire, also where the capture kept only the beginning of
    /// a frame. A frame longer than the network allows, as a capture has where the kernel puts segments
    /// together (GSO, GRO), counts as the one frame that it is there: switch that off at the interface, or
    /// capture elsewhere. Linux cooked captures (`tcpdump -i any`) tell the sender alone, so all their
    /// frames are uploads; their bytes are those of the capture.
    ///
    /// Times are the capture's own. Where one is damaged or cut off, what comes before is counted and
    /// shown, and the exit status is 1.
    Replay(ReplayArgs),
    /// Name devices that the configuration doesn't know.
    Device {
        /// What to do.
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Detach what a stopped or killed sensor left attached, and give up what it counted since.
    Detach(PinsArg),
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

/// How to run.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigArg,
    /// Where links and tables outlive the sensor.
    #[command(flatten)]
    pub pins: PinsArg,
}

/// Where links and tables are pinned.
#[derive(Debug, clap::Args)]
pub struct PinsArg {
    /// Directory in a BPF file system where links and tables outlive the sensor.
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,
}

/// What to do with a device.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Give the device with a MAC address a name and a group; it keeps what was counted for it.
    ///
    /// A running sensor takes it over by itself. What the configuration says of the same address or name
    /// overrules it.
    Adopt(AdoptArgs),
    /// Take the name from a device; it goes on as an unknown one.
    Forget(ForgetArgs),
    /// Show the adopted devices: name, group, MAC addresses.
    List(ConfigArg),
}

/// Which device, and what to call it.
#[derive(Debug, clap::Args)]
pub struct AdoptArgs {
    /// Its MAC address.
    pub mac: Mac,
    /// The name to give it.
    #[arg(short, long)]
    pub name: String,
    /// The group of the policy to put it in; without one there are no rules for it.
    #[arg(short, long)]
    pub group: Option<String>,
    /// The address is a further one of the adopted device of this name.
    #[arg(long)]
    pub add: bool,
    /// The sensor's configuration file.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Which device.
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// Its name; or one of its MAC addresses, to take only that from it.
    #[arg(value_name = "MAC|NAME")]
    pub device: String,
    /// The sensor's configuration file.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Where the first configuration goes.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The file to write.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub output: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

/// Which sensor to ask.
#[derive(Debug, clap::Args)]
pub struct SensorArgs {
    /// Configuration file of the running sensor; tells where it listens.
    #[command(flatten)]
    pub config: ConfigArg,
    /// Where the sensor listens, instead of what the configuration says.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Certificates to trust: of a CA, or the sensor's own. Without it, what the web configuration
    /// names; with --url, the CAs of this machine.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show to the sensor, where its web configuration asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// User of the web configuration's `basic_auth_users`; the password is the first line of
    /// --password-file, else the environment's LABGATE_PASSWORD.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
}

/// What to show.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Which sensor to ask.
    #[command(flatten)]
    pub sensor: SensorArgs,
    /// Print the common JSON form.
    #[arg(long)]
    pub json: bool,
    /// One row per far address and VLAN instead of one per prefix.
    #[arg(long, value_enum, default_value = "prefix")]
    pub detail: Detail,
}

/// A period, which the ledger tells apart: from a moment until right before another.
#[derive(Debug, Default, clap::Args)]
pub struct PeriodArgs {
    /// From then on: 15m, 2h, today, yesterday, 2026-11-30, 22:00 (the last one), `yesterday 22:00`, or
    /// a time of RFC 3339. A day is its first moment.
    #[arg(long, visible_alias = "from", value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Until right before then.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<When>,
    /// Zone of these times, and of the times in tables: a name like Europe/Berlin, UTC, or an offset
    /// like +05:30. Without it this machine's. CSV and JSON have UTC.
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<Zone>,
}

/// Which devices to show.
#[derive(Debug, clap::Args)]
pub struct DeviceArgs {
    /// Which sensor to ask.
    #[command(flatten)]
    pub sensor: SensorArgs,
    /// One device, by its name or a MAC address; else by an IP address or host name that it has now.
    #[arg(long, value_name = "NAME", value_parser = checked::<Device>)]
    pub device: Option<String>,
    /// The devices of this group.
    #[arg(long, value_name = "NAME", value_parser = checked::<Group>)]
    pub group: Option<String>,
    /// Devices that were in contact with this country (ISO 3166 or its English name, ZZ: no entry) or
    /// class of special-purpose range (private, multicast, ...).
    #[arg(long, value_name = "COUNTRY", value_parser = checked::<Place>)]
    pub country: Option<String>,
    /// Devices that were active in a period, and what they exchanged in it.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// Read this ledger instead of asking a sensor.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// Which destinations to show.
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    /// Which sensor to ask.
    #[command(flatten)]
    pub sensor: SensorArgs,
    /// Of one device, by its name or a MAC address; else by an IP address or host name that it has now.
    #[arg(long, value_name = "NAME", value_parser = checked::<Device>)]
    pub device: Option<String>,
    /// Of the devices of this group.
    #[arg(long, value_name = "NAME", value_parser = checked::<Group>)]
    pub group: Option<String>,
    /// In this country (ISO 3166 or its English name, ZZ: no entry) or class of special-purpose range
    /// (private, multicast, ...).
    #[arg(long, value_name = "COUNTRY", value_parser = checked::<Place>)]
    pub country: Option<String>,
    /// Of this autonomous system, like 4134 or AS4134; 0 for none.
    #[arg(long, value_name = "NUMBER", value_parser = checked::<Asn>)]
    pub asn: Option<String>,
    /// Of this operator: its AS number, or a part of its name in any case.
    #[arg(long, value_name = "NAME", value_parser = checked::<Operator>)]
    pub operator: Option<String>,
    /// Over this protocol: tcp, udp, ipv6-icmp, arp, ..., or its IP number.
    #[arg(long, value_name = "NAME", value_parser = checked::<Over>)]
    pub protocol: Option<String>,
    /// At this far port; 0 for none.
    #[arg(long)]
    pub port: Option<u16>,
    /// With a far address in this network, or with this one alone.
    #[arg(long, value_name = "CIDR", value_parser = checked::<Within>)]
    pub prefix: Option<String>,
    /// What was counted in a period; else everything.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// Read this ledger instead of asking a sensor.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// One row per far address and VLAN instead of one per prefix.
    #[arg(long, value_enum, default_value = "prefix")]
    pub detail: Detail,
    /// Most rows; those with the most bytes.
    #[arg(long, value_name = "ROWS", value_parser = checked::<Limit>, default_value_t = MAX_LIMIT.to_string())]
    pub limit: String,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// Which ledger.
#[derive(Debug, clap::Args)]
pub struct LedgerFile {
    /// The ledger's file, instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// The sensor's configuration file.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// What to do with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Copy it as it is now, whether or not a sensor runs.
    Backup {
        /// The copy, which must not be there yet.
        copy: PathBuf,
        /// The ledger's file, instead of the configuration's.
        #[command(flatten)]
        file: LedgerFile,
    },
    /// Check that it is whole, and that packets and bytes add up to the same numbers everywhere.
    Check(LedgerFile),
    /// Remove everything that tells what a device did; the sums stay whole. No sensor may run.
    Purge {
        /// Its name or one of its MAC addresses.
        #[arg(long, value_name = "NAME|MAC")]
        device: String,
        /// The ledger's file, instead of the configuration's.
        #[command(flatten)]
        file: LedgerFile,
    },
}

/// What to audit.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// The ledger's file, instead of the configuration's.
    #[command(flatten)]
    pub file: LedgerFile,
    /// The period; without it everything.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to replay, and how.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The captures, read one after the other; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The configuration: devices, networks, policy, databases.
    #[command(flatten)]
    pub config: ConfigArg,
    /// Without any configuration: each sender is a device of its own, and nothing is forbidden.
    #[arg(long, conflicts_with = "config")]
    pub no_config: bool,
    /// What counts the packets. Both count the same.
    #[arg(long, value_enum, default_value = "host")]
    pub engine: EngineKind,
    /// Write what was counted into this ledger, too, with the captures' own times: a new file, or one that has
    /// captures alone. What it has of a capture is not counted again, and the report is of everything in it. It is
    /// asked by `labgate query`, `labgate audit` and `labgate ledger`, each with `--ledger`.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Print the common JSON form.
    #[arg(long)]
    pub json: bool,
    /// One row per far address and VLAN instead of one per prefix.
    #[arg(long, value_enum, default_value = "prefix")]
    pub detail: Detail,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned, for people.
    Table,
    /// RFC 4180; cells that a spreadsheet would run get an apostrophe.
    Csv,
    /// The sensor's answer as it is.
    Json,
}

/// A value that the sensor would take, as it was typed: the sensor reads it with the same code, and
/// by its own clock.
fn checked<T: FromStr<Err: fmt::Display>>(typed: &str) -> Result<String, String> {
    typed.parse::<T>().map(|_| typed.to_owned()).map_err(|advice| advice.to_string())
}

/// How fine the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Detail {
    /// By destination prefix.
    Prefix,
    /// By far address and VLAN.
    Address,
}

impl Detail {
    /// Its name in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Address => "address",
        }
    }
}

impl From<Detail> for state::Detail {
    fn from(detail: Detail) -> Self {
        match detail {
            Detail::Prefix => Self::Prefix,
            Detail::Address => Self::Address,
        }
    }
}
