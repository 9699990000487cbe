//! What people and `labgate` itself write: the configuration, the web configuration, the adopted devices.

use std::{collections::HashSet, time::Duration};

use labgate::{
    adopted::Adopted,
    config::{self, Config, ConfigError},
};

/// In messages.
const NAME: &str = "fuzz.yaml";
/// A message shows 100 complaints at most, each with a line or two of 16 KiB at most and as long a caret.
const LONGEST_MESSAGE: usize = 100 * 5 * (16 << 10);

/// Reads octets as each of these files.
pub fn check(octets: &[u8]) {
    let text = str::from_utf8(octets);
    let config = match text {
        Ok(text) => parsed(config::parse(text, NAME)),
        Err(_) => parsed(loaded(octets)),
    };
    if let Some(config) = &config {
        is_sound(config);
        // A byte order mark changes nothing.
        let marked = format!("\u{feff}{}", text.unwrap());
        let again = config::parse(&marked, NAME);
        assert!(
            text.unwrap().starts_with('\u{feff}') || again.is_ok_and(|again| again == *config),
            "a byte order mark changes the meaning"
        );
    }
    if let Ok(text) = text {
        parsed(config::parse_web(text, NAME));
    }
    match Adopted::parse(octets) {
        Ok(adopted) => {
            let (devices, _warnings) = adopted.beside(&config.unwrap_or_else(Config::bare));
            are_apart(&devices);
        }
        Err(reason) => is_readable(&reason),
    }
}

/// By way of a file, which may hold anything.
fn loaded(octets: &[u8]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    std::fs::write(&path, octets).unwrap();
    config::load(&path)
}

/// A value, or complaints that name the place.
fn parsed<T>(outcome: Result<T, ConfigError>) -> Option<T> {
    let error = match outcome {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let rendered = error.to_string();
    is_readable(&rendered);
    if let ConfigError::Invalid { count, .. } = error {
        // With a line and column, or with the file alone where something is missing.
        let places = rendered.lines().filter(|line| line.contains("--> ") && line.contains(NAME));
        assert!(count > 0 && places.count() >= count.min(100), "{count} errors: {rendered}");
    } else {
        assert!(rendered.contains(NAME), "{rendered}");
    }
    None
}

/// Nothing that a terminal would take for a command.
fn is_readable(message: &str) {
    assert!(!message.is_empty() && message.len() < LONGEST_MESSAGE);
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!message.contains(is_harmful), "{message:?}");
}

/// What the fields' descriptions promise.
fn is_sound(config: &Config) {
    assert!(!config.interfaces.is_empty());
    assert!((Duration::from_millis(100)..=Duration::from_secs(60)).contains(&config.epoch));
    assert!(config.limits.flow_slots_per_cpu.is_none_or(u32::is_power_of_two));
    assert!(config.policy.watched_prefixes.iter().all(|network| network.trunc() == *network));
    assert!(config.networks.iter().all(|network| network.prefix.trunc() == network.prefix));
    let interfaces: HashSet<_> = config.interfaces.iter().map(|lan| format!("{lan:?}")).collect();
    assert_eq!(interfaces.len(), config.interfaces.len());
    are_apart(&config.devices);
    config.warnings.iter().for_each(|warning| is_readable(warning));
}

/// Names and MAC addresses are unique.
fn are_apart(devices: &[config::DeviceConfig]) {
    let names: HashSet<_> = devices.iter().map(|device| &device.name).collect();
    assert_eq!(names.len(), devices.len(), "{devices:?}");
    let macs: Vec<_> = devices.iter().flat_map(|device| &device.macs).collect();
    assert_eq!(macs.iter().collect::<HashSet<_>>().len(), macs.len(), "{devices:?}");
    assert!(devices.iter().all(|device| !device.macs.is_empty()));
}
