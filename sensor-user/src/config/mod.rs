//! The daemon's configuration: one YAML file.
//!
//! What the user typed (`raw`) and what it means ([`Config`]) are two types with one conversion
//! between them, which reports every error at once and does no I/O: whether the interfaces and the
//! database files exist is found out by those who open them.

mod convert;
mod country;
mod devices;
mod diagnostic;
mod host;
mod networks;
mod policy;
mod raw;
mod reader;
mod tls;
mod values;
mod web;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

pub(crate) use self::country::{codes as country_codes, parse as parse_country};
use self::diagnostic::{Diagnostic, Source};
pub use self::host::HostName;
pub use self::values::{MAX_NAME, check_mac, check_name};
pub use self::web::{ClientAuth, Curve, Pem, RateLimit, Tls, TlsVersion, WebConfig};
use crate::{files, interfaces::Wanted, join::geo::NamedNetwork, model::Mac};

/// A larger file is no configuration of ours.
const MAX_BYTES: usize = 1 << 20;
/// Epoch when the file names none.
const DEFAULT_EPOCH: Duration = Duration::from_secs(1);
/// Two months: the vendors of free databases make a new one each month.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60 * 86_400);
/// Directory of the state when the file names none (Filesystem Hierarchy Standard 3.0, 5.8).
const DEFAULT_STATE_DIR: &str = "/var/lib/labgate";
/// The ledger when the file names none, in the state directory.
const DEFAULT_LEDGER: &str = "ledger.db";
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
    /// Names and addresses by which clients may ask for it besides those it has anyway.
    pub allowed_hosts: Vec<HostName>,
    /// The file with TLS and passwords for that; `None` for plain HTTP. A relative path starts at the
    /// directory of the configuration file.
    pub web_config: Option<PathBuf>,
    /// Sizes of tables.
    pub limits: Limits,
    /// Where the sensor keeps what outlasts it. A relative path starts at the directory of the
    /// configuration file.
    pub state_dir: PathBuf,
    /// The file of the ledger; `None` for none. A relative path starts at `state_dir`.
    pub ledger: Option<PathBuf>,
    /// How long the ledger keeps what, and how large it may become.
    pub retention: Retention,
    /// Lease files of dnsmasq; relative paths as with `state_dir`.
    pub leases: Vec<PathBuf>,
    /// Least severe level that is logged, unless the environment says otherwise.
    pub log: LevelFilter,
    /// Legal but probably not meant, one sentence each, with file and line; to be logged.
    pub warnings: Vec<String>,
}

impl Config {
    /// Nothing is watched, named or forbidden; everything else is as where a file leaves it out.
    pub fn bare() -> Self {
        Self {
            interfaces: Vec::new(),
            tc_attach: TcAttach::default(),
            devices: Vec::new(),
            networks: Vec::new(),
            databases: Databases::default(),
            policy: Policy::default(),
            epoch: DEFAULT_EPOCH,
            listen: DEFAULT_LISTEN,
            allowed_hosts: Vec::new(),
            web_config: None,
            limits: Limits::default(),
            state_dir: DEFAULT_STATE_DIR.into(),
            ledger: None,
            retention: Retention::default(),
            leases: Vec::new(),
            log: LevelFilter::INFO,
            warnings: Vec::new(),
        }
    }

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
    /// Its name, or an alternative one: 1 to 127 bytes, as the kernel allows.
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
    /// The group whose policy it is under. The policy of its configuration knows it; an adopted device may be in one
    /// that is gone.
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
    /// Groups that may talk to any country, by their names.
    pub groups_without_rules: BTreeSet<String>,
    /// Networks of special interest, without host bits; they may overlap.
    pub watched_prefixes: Vec<IpNet>,
    /// Autonomous systems of special interest, by number.
    pub watched_operators: BTreeSet<u32>,
    /// The group of all MAC addresses that no device has; `None` for no rules.
    pub unknown_devices: Option<String>,
}

impl Policy {
    /// Whether it knows a group of this name, with rules or expressly without.
    pub fn has_group(&self, name: &str) -> bool {
        self.groups.contains_key(name) || self.groups_without_rules.contains(name)
    }
}

/// The rules of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPolicy {
    /// Countries its devices may talk to: ISO 3166 alpha-2 in ASCII capitals, `XK`, or `ZZ` for
    /// addresses without an entry. Empty: none.
    pub allowed_countries: BTreeSet<[u8; 2]>,
    /// What to do about frames that its devices send and nobody can judge: malformed ones, and kinds without IP
    /// that are not known.
    pub unreadable: Reaction,
}

/// What to do about something that may be harmless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reaction {
    /// Raise an alert.
    #[default]
    Alert,
    /// Nothing.
    Allow,
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
    /// Time series of the metrics, all together.
    pub series: u32,
    /// Time without a packet after which a label set of the metrics is given up; `None` for never.
    pub series_expiration: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flow_slots_per_cpu: None,
            coarse_entries: 65_536,
            unknown_devices: 256,
            destinations_per_device: 8192,
            prefixes_per_device: 50,
            series: 200_000,
            series_expiration: Some(Duration::from_secs(60 * 60)),
        }
    }
}

/// How long the ledger keeps what. Sums are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age from which minutes are added up to hours.
    pub minutes: Duration,
    /// Time without a packet after which a far address is added up to its prefix.
    pub addresses: Duration,
    /// Age from which hours are only part of the sums.
    pub hours: Duration,
    /// Bytes; beyond them the oldest days go first, whatever their age.
    pub size: u64,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { minutes: days(30), addresses: days(90), hours: days(730), size: 2 << 30 }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error(
        "cannot read the configuration {path}: {error}; name the file to use with --config, or \
         have `labgate init` write a first one"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The web configuration can't be read.
    #[error(
        "cannot read the web configuration {path}: {error}; name another file at `web_config`, or \
         remove that line"
    )]
    WebUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration {name} is larger than 1 MiB; name another file")]
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
    let bytes =
        read(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    decode(&bytes, path, parse)
}

/// Reads and validates a web configuration.
///
/// # Errors
///
/// As [`load`].
pub fn load_web(path: &Path) -> Result<WebConfig, ConfigError> {
    let bytes =
        read(path).map_err(|error| ConfigError::WebUnreadable { path: path.to_owned(), error })?;
    decode(&bytes, path, parse_web)
}

/// One byte more than allowed, so that a file that is too large is seen as such.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    files::read_start(path, MAX_BYTES as u64 + 1)
}

fn decode<T>(
    bytes: &[u8],
    path: &Path,
    parse: fn(&str, &str) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let name = path.display().to_string();
    match str::from_utf8(bytes) {
        Ok(text) => parse(text, &name),
        Err(_) if bytes.len() > MAX_BYTES => Err(ConfigError::TooLarge { name }),
        Err(error) => Err(not_utf8(bytes, error.valid_up_to(), &name)),
    }
}

/// Validates the text of a configuration file; `file_name` is for messages, and relative paths in
/// the text start at its directory.
///
/// # Errors
///
/// When the text is larger than 1 MiB or has errors: then all of them at once.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigError> {
    convert(text, file_name, convert::config)
}

/// Validates the text of a web configuration, as [`parse`] does.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_web(text: &str, file_name: &str) -> Result<WebConfig, ConfigError> {
    convert(text, file_name, web::web_config)
}

/// What a document means, or everything that is wrong with it.
type Conversion<T> = fn(&Source<'_>, &raw::Node) -> Result<T, Vec<Diagnostic>>;

fn convert<T>(text: &str, file_name: &str, convert: Conversion<T>) -> Result<T, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::TooLarge { name: file_name.to_owned() });
    }
    // Some editors put a byte order mark first; it must not shift the columns.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(file_name, text);
    if let Some(problem) = source.too_long_line() {
        return Err(invalid(&source, &[problem]));
    }
    raw::parse(&source)
        .map_err(|problem| vec![problem])
        .and_then(|document| convert(&source, &document))
        .map_err(|problems| invalid(&source, &problems))
}

fn not_utf8(bytes: &[u8], valid: usize, name: &str) -> ConfigError {
    let text = String::from_utf8_lossy(bytes);
    let source = Source::new(name, &text);
    let problem = Diagnostic {
        message: "the file is not UTF-8 text".into(),
        at: Some(source.clamp(valid..valid + 1)),
        label: "save the file as UTF-8".into(),
        other: None,
    };
    invalid(&source, &[problem])
}

fn invalid(source: &Source<'_>, problems: &[Diagnostic]) -> ConfigError {
    ConfigError::Invalid { count: problems.len(), rendered: source.render(problems) }
}
