//! The one conversion: the raw tree to the [`Config`].

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use sensor_common::layout::MIN_SLOTS;
use tracing::level_filters::LevelFilter;

use super::{
    Config, DEFAULT_EPOCH, DEFAULT_LEDGER, DEFAULT_LISTEN, DEFAULT_MAX_AGE, DEFAULT_STATE_DIR,
    Databases, HostName, Limits, Retention, TcAttach, devices,
    diagnostic::{Diagnostic, Source},
    networks, policy,
    raw::Node,
    reader::{Fields, Reader},
    values,
};

const KEYS: [&str; 16] = [
    "interfaces",
    "tc_attach",
    "devices",
    "networks",
    "databases",
    "policy",
    "epoch",
    "listen",
    "allowed_hosts",
    "web_config",
    "limits",
    "state_dir",
    "ledger",
    "retention",
    "leases",
    "log",
];

const TC_ATTACH: [(&str, TcAttach); 3] =
    [("auto", TcAttach::Auto), ("tcx", TcAttach::Tcx), ("clsact", TcAttach::Clsact)];

const LOG: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// What the document means, or everything that is wrong with it.
pub(super) fn config(source: &Source<'_>, document: &Node) -> Result<Config, Vec<Diagnostic>> {
    let mut reader = Reader::new(source);
    let root = reader.root(document);
    let config = reader.fields(&root, &KEYS).map(|fields| read(&mut reader, &fields, source.name));
    let warnings = reader.finish()?;
    // Without fields there was a fault, and we are not here.
    config.map(|config| Config { warnings, ..config }).ok_or_else(Vec::new)
}

/// Every part in turn; where a part has a fault, the fault is noted and the default stands in.
fn read<'a>(reader: &mut Reader<'a>, root: &Fields<'a>, file_name: &str) -> Config {
    let (policy, mut groups) = policy::policy(reader, root);
    let directory = Path::new(file_name).parent().unwrap_or(Path::new(""));
    let state_dir = root
        .get("state_dir")
        .and_then(|field| values::path(reader, field, "write the path of a directory", directory))
        .unwrap_or_else(|| DEFAULT_STATE_DIR.into());
    Config {
        interfaces: devices::interfaces(reader, root),
        tc_attach: root
            .get("tc_attach")
            .and_then(|field| reader.choice(field, &TC_ATTACH))
            .unwrap_or_default(),
        devices: devices::devices(reader, root, &mut groups),
        networks: networks::networks(reader, root),
        databases: databases(reader, root, directory),
        policy,
        epoch: root
            .get("epoch")
            .and_then(|field| values::epoch(reader, field))
            .unwrap_or(DEFAULT_EPOCH),
        listen: root
            .get("listen")
            .and_then(|field| values::listen(reader, field))
            .unwrap_or(DEFAULT_LISTEN),
        allowed_hosts: allowed_hosts(reader, root),
        web_config: web_config(reader, root, directory),
        limits: limits(reader, root),
        ledger: ledger(reader, root, &state_dir),
        retention: retention(reader, root),
        state_dir,
        leases: leases(reader, root, directory),
        log: root
            .get("log")
            .and_then(|field| reader.choice(field, &LOG))
            .unwrap_or(LevelFilter::INFO),
        warnings: Vec::new(),
    }
}

fn databases<'a>(reader: &mut Reader<'a>, root: &Fields<'a>, directory: &Path) -> Databases {
    let keys = &["country", "operators", "max_age"];
    let Some(fields) = root.get("databases").and_then(|field| reader.fields(field, keys)) else {
        return Databases::default();
    };
    let mut path = |key| {
        let example = "write the path of an MMDB file, or remove the line";
        values::path(reader, fields.get(key)?, example, directory)
    };
    let (country, operators) = (path("country"), path("operators"));
    let max_age = fields.get("max_age").and_then(|field| values::max_age(reader, field));
    Databases { country, operators, max_age: max_age.unwrap_or(DEFAULT_MAX_AGE) }
}

fn allowed_hosts<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Vec<HostName> {
    let Some(field) = root.get("allowed_hosts") else { return Vec::new() };
    let items = reader.items(field);
    items.iter().filter_map(|item| values::host(reader, item)).collect()
}

fn web_config<'a>(reader: &mut Reader<'a>, root: &Fields<'a>, directory: &Path) -> Option<PathBuf> {
    let field = root.get("web_config").filter(|field| !Reader::is_null(field))?;
    values::path(reader, field, "write the path of a web configuration", directory)
}

fn ledger<'a>(reader: &mut Reader<'a>, root: &Fields<'a>, state_dir: &Path) -> Option<PathBuf> {
    let Some(field) = root.get("ledger") else { return Some(state_dir.join(DEFAULT_LEDGER)) };
    let example = "write the path of a file, or `off`";
    values::path_or_off(reader, field, example, state_dir)?
}

fn retention<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Retention {
    let default = Retention::default();
    let keys = &["minutes", "addresses", "hours", "size"];
    let Some(fields) = root.get("retention").and_then(|field| reader.fields(field, keys)) else {
        return default;
    };
    let mut days = |key, default| {
        fields.get(key).and_then(|field| values::max_age(reader, field)).unwrap_or(default)
    };
    Retention {
        minutes: days("minutes", default.minutes),
        addresses: days("addresses", default.addresses),
        hours: days("hours", default.hours),
        size: fields
            .get("size")
            .and_then(|field| values::size(reader, field))
            .unwrap_or(default.size),
    }
}

fn leases<'a>(reader: &mut Reader<'a>, root: &Fields<'a>, directory: &Path) -> Vec<PathBuf> {
    let Some(field) = root.get("leases") else { return Vec::new() };
    let example = "write the path of a lease file, like /var/lib/misc/dnsmasq.leases";
    let items = reader.items(field);
    items.iter().filter_map(|item| values::path(reader, item, example, directory)).collect()
}

fn limits<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Limits {
    let default = Limits::default();
    let keys = &[
        "flow_slots_per_cpu",
        "coarse_entries",
        "unknown_devices",
        "destinations_per_device",
        "prefixes_per_device",
        "series",
        "series_expiration",
    ];
    let Some(fields) = root.get("limits").and_then(|field| reader.fields(field, keys)) else {
        return default;
    };
    let flow_slots_per_cpu = fields
        .get("flow_slots_per_cpu")
        .and_then(|field| values::power_of_two(reader, field, &(MIN_SLOTS..=2_097_152)));
    let series_expiration = fields
        .get("series_expiration")
        .and_then(|field| values::expiration(reader, field))
        .unwrap_or(default.series_expiration);
    let mut number = |key, range: RangeInclusive<u32>, default| {
        fields.get(key).and_then(|field| values::number(reader, field, &range)).unwrap_or(default)
    };
    Limits {
        flow_slots_per_cpu,
        coarse_entries: number("coarse_entries", 1024..=4_194_304, default.coarse_entries),
        unknown_devices: number("unknown_devices", 1..=65_536, default.unknown_devices),
        destinations_per_device: number(
            "destinations_per_device",
            16..=4_194_304,
            default.destinations_per_device,
        ),
        prefixes_per_device: number("prefixes_per_device", 1..=10_000, default.prefixes_per_device),
        series: number("series", 1000..=10_000_000, default.series),
        series_expiration,
    }
}
