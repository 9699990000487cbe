//! The configuration: what loads, what is refused and how, and that nothing makes it panic.

mod bad;
mod content;
mod networks;
mod structure;
mod web;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use labgate::{
    config::{
        AttachMode, Config, ConfigError, DeviceConfig, InterfaceConfig, Limits, Reaction,
        Retention, TcAttach, WhenMissing, WhenXdpIsTaken, load, parse,
    },
    model::Mac,
};
use tracing::level_filters::LevelFilter;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.yaml");

const FULL: &str = r#"
interfaces:
  - name: lan0
    attach: xdp
    when_xdp_is_taken: tc
    when_missing: wait
    jumbo_frames: true
  - {name: lan1, attach: tc}
  - lan2
tc_attach: clsact
devices:
  - name: redmi-1s
    mac: 02:11:22:33:44:55
    group: phones
  - {name: 7, macs: [02:00:00:00:00:01, "02-00-00-00-00-0A"]}
databases: {country: geo/country.mmdb, operators: /srv/asn.mmdb}
policy:
  groups:
    phones: {allowed_countries: &home [NO, IN, ZZ, XK], unreadable: allow}
    locked: {allowed_countries: []}
    guests: {allowed_countries: *home}
  watched_prefixes: ["2001:db8::/32", 42.62.48.0/24, 13.0.0.0/8]
  watched_operators: [45102, 4134]
  unknown_devices: guests
epoch: 500ms
listen: "[::1]:9000"
web_config: web.yaml
limits:
  flow_slots_per_cpu: 1024
  coarse_entries: 2048
  unknown_devices: 3
  destinations_per_device: 16
  prefixes_per_device: 5
  series: 1000
  series_expiration: 2h
state_dir: state
ledger: kept.db
retention: {minutes: 7d, addresses: 14d, hours: 21d, size: 512 MiB}
leases: [dnsmasq.leases, /var/lib/misc/dnsmasq.leases]
log: off
"#;

fn good(text: &str) -> Config {
    parse(text, "etc/config.yaml").unwrap_or_else(|error| panic!("{error}"))
}

/// Every error of the text, with message, line, column and caret; the expected text is set off by
/// line breaks.
#[track_caller]
fn refused(text: &str, expected: &str) {
    let got = parse(text, "config.yaml").expect_err("a bad configuration").to_string();
    same(&got, expected);
}

#[track_caller]
fn same(got: &str, expected: &str) {
    assert_eq!(
        got,
        expected.trim_matches('\n'),
        "\n--- got ---\n{got}\n--- expected ---{expected}"
    );
}

#[test]
fn every_key_arrives() {
    let config = good(FULL);
    let interface = |name: &str, attach| InterfaceConfig {
        name: name.into(),
        attach,
        ..InterfaceConfig::default()
    };
    assert_eq!(
        config.interfaces,
        [
            InterfaceConfig {
                name: "lan0".into(),
                attach: AttachMode::Xdp,
                when_xdp_is_taken: WhenXdpIsTaken::Tc,
                when_missing: WhenMissing::Wait,
                jumbo_frames: true,
            },
            interface("lan1", AttachMode::Tc),
            interface("lan2", AttachMode::Auto),
        ]
    );
    assert_eq!(config.tc_attach, TcAttach::Clsact);
    assert_eq!(
        config.devices,
        [
            DeviceConfig {
                name: "redmi-1s".into(),
                macs: vec![Mac([2, 0x11, 0x22, 0x33, 0x44, 0x55])],
                group: Some("phones".into()),
            },
            DeviceConfig {
                name: "7".into(),
                macs: vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 10])],
                group: None,
            },
        ]
    );
    assert_eq!(config.databases.country, Some(PathBuf::from("etc/geo/country.mmdb")));
    assert_eq!(config.databases.operators, Some(PathBuf::from("/srv/asn.mmdb")));
    let home = [*b"IN", *b"NO", *b"XK", *b"ZZ"].into();
    assert_eq!(config.policy.groups["phones"].allowed_countries, home);
    assert_eq!(config.policy.groups["guests"].allowed_countries, home);
    assert!(config.policy.groups["locked"].allowed_countries.is_empty());
    assert_eq!(config.policy.groups["phones"].unreadable, Reaction::Allow);
    assert_eq!(config.policy.groups["guests"].unreadable, Reaction::Alert);
    let watched: Vec<_> = config.policy.watched_prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(watched, ["13.0.0.0/8", "42.62.48.0/24", "2001:db8::/32"]);
    assert_eq!(config.policy.watched_operators, [4134, 45102].into());
    assert_eq!(config.policy.unknown_devices.as_deref(), Some("guests"));
    assert_eq!(config.epoch, Duration::from_millis(500));
    assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9000)));
    assert_eq!(config.web_config, Some(PathBuf::from("etc/web.yaml")));
    assert_eq!(
        config.limits,
        Limits {
            flow_slots_per_cpu: Some(1024),
            coarse_entries: 2048,
            unknown_devices: 3,
            destinations_per_device: 16,
            prefixes_per_device: 5,
            series: 1000,
            series_expiration: Some(Duration::from_secs(7200)),
        }
    );
    assert_eq!(config.state_dir, PathBuf::from("etc/state"));
    assert_eq!(config.ledger, Some(PathBuf::from("etc/state/kept.db")));
    for off in ["off", "no", "No", "false", "Off", "FALSE", "n", "none", "'no'"] {
        let config = good(&format!("interfaces: [lan0]\nledger: {off}\n"));
        assert_eq!(config.ledger, None, "{off}");
    }
    let named = good("interfaces: [lan0]\nstate_dir: /s\nledger: ./no\n");
    assert_eq!(named.ledger, Some(PathBuf::from("/s/no")));
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let kept = (days(7), days(14), days(21), 512 << 20);
    let Retention { minutes, addresses, hours, size } = config.retention;
    assert_eq!((minutes, addresses, hours, size), kept);
    let leases = ["etc/dnsmasq.leases", "/var/lib/misc/dnsmasq.leases"].map(PathBuf::from);
    assert_eq!(config.leases, leases);
    assert_eq!(config.log, LevelFilter::OFF);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn one_interface_is_enough() {
    let config = good("interfaces: [lan0]\ndevices:\npolicy:\n  groups:\ndatabases:\nlimits:\n");
    assert_eq!(config.epoch, Duration::from_secs(1));
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 9469)));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.limits.flow_slots_per_cpu, None);
    assert_eq!(config.log, LevelFilter::INFO);
    assert_eq!(config, good("interfaces: [{name: lan0}]"));
}

#[test]
fn the_ends_of_ranges_are_inside() {
    for (epoch, millis) in [("100ms", 100), ("60s", 60_000), ("60000 ms", 60_000)] {
        let config = good(&format!("interfaces: [lan0]\nepoch: {epoch}\n"));
        assert_eq!(config.epoch, Duration::from_millis(millis));
    }
    let fifteen = "x".repeat(15);
    let sixty_four = "é".repeat(64);
    let config = good(&format!(
        "interfaces: [{fifteen}]\ndevices: [{{name: {sixty_four}, mac: 02:00:00:00:00:01}}]\n\
         limits: {{flow_slots_per_cpu: 2097152}}\n"
    ));
    assert_eq!(config.interfaces[0].name, fifteen);
    assert_eq!(config.devices[0].name, sixty_four);
    assert_eq!(config.limits.flow_slots_per_cpu, Some(2_097_152));
}

#[test]
fn warnings_name_the_line() {
    let config = good(
        "interfaces: [{name: lan0, attach: tc, when_xdp_is_taken: tc}]\n\
         listen: 0.0.0.0:9469\n\
         policy: {\n\
         \u{20}watched_prefixes: [42.62.48.0/24, 13.0.0.0/8,\n\
         \u{20}42.62.0.0/16, 42.0.0.0/8]}\n",
    );
    let starts = [
        "etc/config.yaml:1: `when_xdp_is_taken` has no effect",
        "etc/config.yaml:2: `listen` 0.0.0.0:9469 is not a loopback address",
        "etc/config.yaml:4: network 42.62.48.0/24 lies inside 42.62.0.0/16",
        "etc/config.yaml:5: network 42.62.0.0/16 lies inside 42.0.0.0/8",
    ];
    assert_eq!(config.warnings.len(), starts.len(), "{:#?}", config.warnings);
    for (warning, start) in config.warnings.iter().zip(starts) {
        assert!(warning.starts_with(start), "{warning}");
    }
    assert!(good("interfaces: [lan0]\nlisten: \"[::ffff:127.0.0.1]:1\"\n").warnings.is_empty());
}

/// Else a typing error would allow a device everything, without a word.
#[test]
fn a_group_that_the_policy_does_not_know_is_refused() {
    let text = "interfaces: [lan0]\n\
                devices: [{name: a, mac: 02:00:00:00:00:01, group: phnes},\n\
                \u{20}{name: b, mac: 02:00:00:00:00:02, group: cameras}]\n\
                policy: {groups: {phones: {allowed_countries: [IN]}}, unknown_devices: phoness}\n";
    let said = parse(text, "etc/config.yaml").unwrap_err().to_string();
    for (group, advice) in [
        ("phnes", "did you mean `phones`?"),
        ("phoness", "did you mean `phones`?"),
        ("cameras", "`allowed_countries: any` is one without a rule"),
    ] {
        let fault = format!("group `{group}` has no rules under `policy.groups`");
        let after = said.split(&fault).nth(1).unwrap_or_else(|| panic!("{group}: {said}"));
        assert!(after.split("error: ").next().unwrap_or_default().contains(advice), "{said}");
    }
    // Nor without a policy at all.
    let none = text.split("policy:").next().unwrap();
    assert!(parse(none, "etc/config.yaml").is_err());
}

#[test]
fn a_group_without_rules_is_so_expressly() {
    let config = good(
        "interfaces: [lan0]\n\
         devices: [{name: a, mac: 02:00:00:00:00:01, group: laptops}]\n\
         policy: {groups: {laptops: {allowed_countries: any}}, unknown_devices: laptops}\n",
    );
    assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings);
    assert!(config.policy.groups.is_empty());
    assert!(config.policy.has_group("laptops") && !config.policy.has_group("phones"));
}

#[test]
fn nothing_expires_where_that_is_wanted() {
    for never in ["never", "0"] {
        let text = format!("interfaces: [lan0]\nlimits: {{series_expiration: {never}}}\n");
        assert_eq!(good(&text).limits.series_expiration, None);
    }
}

#[test]
fn the_shipped_file_has_the_defaults() {
    let config = load(SHIPPED.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, good("interfaces: [lan0]"));
}

/// Its examples must be right once the `#` is taken away.
#[test]
fn the_shipped_examples_load() {
    let text = std::fs::read_to_string(SHIPPED).expect("the shipped file");
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.split_once("# ") {
            Some((indent, example)) if is_example(example) => format!("{indent}{example}"),
            _ => line.to_owned(),
        })
        .collect();
    let config = good(&uncommented.join("\n"));
    assert_eq!(config.devices.len(), 2);
    assert_eq!(config.devices[1].macs.len(), 2);
    assert_eq!(config.policy.groups.len(), 2);
    assert_eq!(config.policy.unknown_devices.as_deref(), Some("phones"));
    assert_eq!(config.policy.watched_prefixes.len(), 1);
    assert!(config.databases.country.is_some() && config.databases.operators.is_some());
    assert!(config.web_config.is_some());
    assert_eq!(config.warnings, Vec::<String>::new());
}

/// A list item, or a lower-case key with its colon; not a sentence.
fn is_example(comment: &str) -> bool {
    let word = comment.split_whitespace().next().unwrap_or_default();
    word == "-"
        || word
            .strip_suffix(':')
            .is_some_and(|key| key.chars().all(|c| c.is_lowercase() || c == '_'))
}

#[test]
fn a_file_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("nowhere.yaml");
    let error = load(&path).expect_err("a missing file");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    let sentence = error.to_string();
    let start = format!("cannot read the configuration {}: No such file", path.display());
    assert!(sentence.starts_with(&start) && sentence.contains("--config"), "{sentence}");
    assert!(matches!(load(directory.path()), Err(ConfigError::Unreadable { .. })));
    // No regular file, of which nobody knows when it ends.
    assert!(matches!(load("/dev/zero".as_ref()), Err(ConfigError::Unreadable { .. })));
    std::fs::write(&path, vec![b'#'; 16 << 20]).expect("a file");
    assert!(matches!(load(&path), Err(ConfigError::TooLarge { .. })));

    std::fs::write(&path, b"interfaces: [lan0]\nlog: \xff\n").expect("a file");
    let error = load(&path).expect_err("a file that is not UTF-8").to_string();
    assert!(error.starts_with("error: the file is not UTF-8 text"), "{error}");
    assert!(error.contains("nowhere.yaml:2:6\n"), "{error}");
}

#[test]
fn bombs_are_bounded() {
    let laughs = |level: usize| {
        let previous = format!("*l{}, ", level.saturating_sub(1)).repeat(9);
        let items = if level == 0 { "lol" } else { previous.as_str() };
        format!("l{level}: &l{level} [{items}]\n")
    };
    let bombs = [
        (0..9).map(laughs).collect::<String>(),
        "[".repeat(100_000),
        "a: {".repeat(4_000),
        "- ".repeat(8_000),
        "- a\n".repeat(200_000),
        "interfaces: &a [*a]\n".into(),
    ];
    for bomb in bombs {
        let error = parse(&bomb, "config.yaml").expect_err("a bomb");
        let ConfigError::Invalid { count: 1, rendered } = error else { panic!("{error}") };
        assert!(rendered.len() < 1000, "{rendered}");
    }
    let large = format!("interfaces: [lan0]\n{}", "# comment\n".repeat(110_000));
    assert!(matches!(parse(&large, "config.yaml"), Err(ConfigError::TooLarge { .. })));
    let long = format!("interfaces: [lan0]\nlog: {}", "é".repeat(10_000));
    let error = parse(&long, "config.yaml").expect_err("a long line").to_string();
    assert!(error.contains("config.yaml:2:1") && error.len() < 1000, "{error}");
}

#[test]
fn many_errors_are_counted_and_the_first_are_shown() {
    let text = format!("interfaces:\n{}", "- a/b\n".repeat(250));
    let error = parse(&text, "config.yaml").expect_err("250 bad names");
    let ConfigError::Invalid { count: 250, rendered } = error else { panic!("{error}") };
    assert_eq!(rendered.matches("is no interface name").count(), 100);
    assert!(rendered.ends_with("error: 150 more errors in config.yaml not shown"), "{rendered}");
}

/// Whatever happens to a good file, it loads or is refused with places that exist.
#[test]
fn mutations_never_panic() {
    let shipped = std::fs::read(SHIPPED).expect("the shipped file");
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..3000 {
        let mut bytes = if round % 8 == 0 { shipped.clone() } else { FULL.as_bytes().to_vec() };
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse(&text, "c.yaml") {
            Ok(config) => {
                loaded += 1;
                assert!(!config.interfaces.is_empty());
                assert!(config.devices.iter().all(|device| !device.macs.is_empty()));
            }
            Err(error) => {
                refused += 1;
                check_places(&error.to_string(), &text);
            }
        }
    }
    assert!(loaded > 100 && refused > 1000, "{loaded} loaded, {refused} refused");
}

fn check_places(rendered: &str, text: &str) {
    assert!(rendered.starts_with("error: "), "{rendered}");
    assert!(!rendered.contains(|c: char| c.is_control() && c != '\n'), "{rendered:?}");
    for place in rendered.lines().filter_map(|line| line.split_once("c.yaml:")) {
        let Some((line, column)) = place.1.split_once(':') else { continue };
        let (line, column): (usize, usize) =
            (line.parse().expect("a line"), column.parse().expect("a column"));
        let typed = text.split('\n').nth(line - 1).expect("a line of the file");
        assert!((1..=typed.chars().count() + 1).contains(&column), "{rendered}");
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut XorShift) {
    const SHARP: &[u8] = b"\0\t\n\r \"#&'*,-:<>?[]{}|!%@`~\xff\xc3\xe4";
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
        1 => bytes[at] = SHARP[random.below(SHARP.len())],
        2 => bytes.insert(at, SHARP[random.below(SHARP.len())]),
        3 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(9)))),
        _ => bytes.extend_from_within(at..bytes.len().min(at + 40)),
    }
}

/// Marsaglia's xorshift64: the same mutations on every run.
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}
