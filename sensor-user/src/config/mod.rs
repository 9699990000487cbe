//! The daemon's configuration: one YAML file.
//!
//! What the user typed (`raw`) and what it means ([`Config`]) are two types with one conversion
//! between them, which reports every error at once and does no I/O: whether the interfaces and the
//! database files exist is found out by those who open them.

mod convert;
mod country;
mod devices;
mod diagnostic;
mod networks;
mod policy;
mod raw;
mod reader;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

pub(crate) use self::country::{codes as country_codes, parse as parse_country};
use crate::{interfaces::Wanted, join::geo::NamedNetwork, model::Mac};

/// A larger file is no configuration of ours.
const MAX_BYTES: usize = 1 << 20;
/// Epoch when the file names none.
const DEFAULT_EPOCH: Duration = Duration::from_secs(1);
/// Two months: the vendors of free databases make a new one each month.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60 * 86_400);
/// Port when the file names none.
const DEFAULT_PORT: u16 = 9469;
/// Loopback, because the observed devices must not reach the metrics.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

/// The configuration, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The LAN interfaces to watch; at least one, each name once.
    pub interfaces: Vec<InterfaceConfig>,
    /// How to attach to TC.
    pub tc_attach: TcAttach,
    /// The devices on the bench; names and MAC addresses are unique.
    pub devices: Vec<DeviceConfig>,
    /// Networks with a name of their own; no prefix twice.
    pub networks: Vec<NamedNetwork>,
    /// The geo databases.
    pub databases: Databases,
    /// What the bench allows.
    pub policy: Policy,
    /// Length of an epoch, 100 ms to 60 s.
    pub epoch: Duration,
    /// Where metrics and API are served.
    pub listen: SocketAddr,
    /// Sizes of tables.
    pub limits: Limits,
    /// Least severe level that is logged, unless the environment says otherwise.
    pub log: LevelFilter,
    /// Legal but probably not meant, one sentence each, with file and line; to be logged.
    pub warnings: Vec<String>,
}

impl Config {
    /// MAC addresses of all devices.
    pub fn device_macs(&self) -> Vec<Mac> {
        self.devices.iter().flat_map(|device| device.macs.iter().copied()).collect()
    }

    /// Interfaces and how to attach to them.
    pub fn wanted(&self) -> Wanted {
        Wanted { interfaces: self.interfaces.clone(), tc: self.tc_attach }
    }
}

/// One LAN interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name: 1 to 15 bytes, as the kernel allows.
    pub name: String,
    /// How uploads are counted.
    pub attach: AttachMode,
    /// What to do when another program holds the interface's XDP slot.
    pub when_xdp_is_taken: WhenXdpIsTaken,
    /// What to do when there is none of that name at the start.
    pub when_missing: WhenMissing,
    /// Whether frames may be larger than a page can hold, now or later.
    pub jumbo_frames: bool,
}

/// How ingress is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// Native XDP where the driver has it, else TC ingress.
    #[default]
    Auto,
    /// Native XDP or nothing.
    Xdp,
    /// TC ingress.
    Tc,
}

/// What to do when another program holds the XDP slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenXdpIsTaken {
    /// Refuse to start.
    #[default]
    Fail,
    /// Count at TC ingress instead.
    Tc,
}

/// What to do when there is no interface of a name at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenMissing {
    /// Refuse to start.
    #[default]
    Fail,
    /// Attach as soon as there is one.
    Wait,
}

/// How to attach to TC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TcAttach {
    /// TCX where the kernel has it (6.6), else a clsact filter.
    #[default]
    Auto,
    /// TCX or nothing.
    Tcx,
    /// A clsact filter.
    Clsact,
}

/// One device: one or several MAC addresses under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name: 1 to 64 characters, none of them a control character.
    pub name: String,
    /// Its MAC addresses; at least one, no group address.
    pub macs: Vec<Mac>,
    /// The group whose policy it is under; the policy may not know that group.
    pub group: Option<String>,
}

/// The geo databases (MMDB); `None` is the one that comes with LabGate. Relative paths start at the
/// directory of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Databases {
    /// Networks to countries.
    pub country: Option<PathBuf>,
    /// Networks to autonomous systems.
    pub operators: Option<PathBuf>,
    /// From this age on they are stale.
    pub max_age: Duration,
}

impl Default for Databases {
    fn default() -> Self {
        Self { country: None, operators: None, max_age: DEFAULT_MAX_AGE }
    }
}

/// What the bench allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules of each group, by its name.
    pub groups: BTreeMap<String, GroupPolicy>,
    /// Networks of special interest, without host bits; they may overlap.
    pub watched_prefixes: Vec<IpNet>,
    /// The group of all MAC addresses that no device has; `None` for no rules.
    pub unknown_devices: Option<String>,
}

/// The rules of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPolicy {
    /// Countries its devices may talk to: ISO 3166 alpha-2 in ASCII capitals, `XK`, or `ZZ` for
    /// addresses without an entry. Empty: none.
    pub allowed_countries: BTreeSet<[u8; 2]>,
}

/// Sizes of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Slots of the flow table for each CPU and half; a power of two. `None`: as the machine has
    /// CPUs.
    pub flow_slots_per_cpu: Option<u32>,
    /// Entries of the coarse level.
    pub coarse_entries: u32,
    /// MAC addresses outside the list of devices that are told apart.
    pub unknown_devices: u32,
    /// Destinations of one device that the daemon tells apart; further ones are folded.
    pub destinations_per_device: u32,
    /// Destination prefixes of one device in the metrics; the others are summed up.
    pub prefixes_per_device: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flow_slots_per_cpu: None,
            coarse_entries: 65_536,
            unknown_devices: 256,
            destinations_per_device: 8192,
            prefixes_per_device: 50,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error(
        "cannot read the configuration {path}: {error}; name the file to use with --config, or \
         start from a copy of the config.yaml that comes with LabGate"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration {name} is larger than 1 MiB; name another file with --config")]
    TooLarge {
        /// The file.
        name: String,
    },
    /// The file has errors.
    #[error("{rendered}")]
    Invalid {
        /// Number of errors.
        count: usize,
        /// All of them, with file, line, column, source line and caret.
        rendered: String,
    },
}

/// Reads and validates a configuration file.
///
/// # Errors
///
/// When the file can't be read, is larger than 1 MiB, or has errors: then all of them at once.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that `parse` sees a file that is too large as such.
    let most = MAX_BYTES as u64 + 1;
    File::open(path).and_then(|f| f.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    let name = path.display().to_string();
    match str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name),
        Err(_) if bytes.len() > MAX_BYTES => Err(ConfigError::TooLarge { name }),
        Err(error) => Err(not_utf8(&bytes, error.valid_up_to(), &name)),
    }
}

/// Validates the text of a configuration file; `file_name` is for messages, and relative paths in
/// the text start at its directory.
///
/// # Errors
///
/// When the text is larger than 1 MiB or has errors: then all of them at once.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::TooLarge { name: file_name.to_owned() });
    }
    // Some editors put a byte order mark first; it must not shift the columns.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = diagnostic::Source::new(file_name, text);
    if let Some(problem) = source.too_long_line() {
        return Err(invalid(&source, &[problem]));
    }
    raw::parse(&source)
        .map_err(|problem| vec![problem])
        .and_then(|document| convert::config(&source, &document))
        .map_err(|problems| invalid(&source, &problems))
}

fn not_utf8(bytes: &[u8], valid: usize, name: &str) -> ConfigError {
    let text = String::from_utf8_lossy(bytes);
    let source = diagnostic::Source::new(name, &text);
    let problem = diagnostic::Diagnostic {
        message: "the file is not UTF-8 text".into(),
        at: Some(source.clamp(valid..valid + 1)),
        label: "save the file as UTF-8".into(),
        other: None,
    };
    invalid(&source, &[problem])
}

fn invalid(source: &diagnostic::Source<'_>, problems: &[diagnostic::Diagnostic]) -> ConfigError {
    ConfigError::Invalid { count: problems.len(), rendered: source.render(problems) }
}
