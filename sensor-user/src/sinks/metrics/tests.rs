mod churn;
mod size;

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    config::Policy,
    join::geo,
    model::{Country, Direction, Level, Protocol},
    sinks::{EpochTimes, Sinks},
    state::{
        Keeping, Limits, Reloaded, Setup, State,
        fixture::{self, Far},
    },
};

fn bench() -> Arc<Shared> {
    let setup = Setup {
        limits: Limits { prefixes_per_device: 1, ..Limits::default() },
        databases: vec![geo::Status {
            role: geo::Role::Country,
            kind: "DBIP-Country-Lite".into(),
            build_time: 1_767_225_600,
            source: "built-in".into(),
            sha256: "c0ffee".into(),
        }],
        max_age: Duration::from_secs(86_400),
        policy: fixture::lenient(),
        networks: vec![geo::NamedNetwork {
            name: "head-office".into(),
            prefix: "203.0.113.0/24".parse().unwrap(),
            country: None,
            asn: None,
        }],
        ..Setup::default()
    };
    let shared = Shared::new(State::new(setup), Duration::from_secs(1));
    shared.cover(vec![fixture::coverage("tc", "a bridge has no native XDP")]);
    Arc::new(shared)
}

/// A hostile operator name, two prefixes, a frame without address, and multicast.
fn epoch(number: u32) -> crate::model::EpochRecord {
    let far = |code: &str, asn, prefix: &str| Far {
        country: fixture::country(code),
        asn,
        operator: "Evil \"Net\"\\\n\u{1b}[2J",
        prefix: Some(prefix.parse().unwrap()),
        watched: code == "CN",
        address: None,
        port: 443,
    };
    let mut arp = fixture::flow(0, Direction::Tx, &Far::default(), 1, 60);
    arp.protocol = Protocol::NonIp("arp");
    let mut coarse = fixture::flow(1, Direction::Rx, &far("US", 15169, "8.8.8.0/24"), 2, 999);
    coarse.level = Level::Coarse;
    let mdns = Far { country: Country::Special("multicast"), ..Far::default() };
    fixture::record(
        number,
        vec![
            fixture::flow(0, Direction::Tx, &far("CN", 4808, "42.62.48.0/24"), 3, 300),
            fixture::flow(0, Direction::Rx, &far("SG", 16509, "52.74.0.0/16"), 5, 5000),
            arp,
            coarse,
            fixture::flow(4, Direction::Rx, &mdns, 1, 90),
        ],
    )
}

fn publish(sinks: &mut Sinks, number: u32) {
    let times = EpochTimes { drain: Duration::from_micros(350), ..EpochTimes::default() };
    sinks.publish(&epoch(number), &fixture::devices(), times);
}

/// Series by name and labels; panics on one that is there twice, or on what is no sample.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    series
}

#[test]
fn series_are_unique_exact_and_never_go_back() {
    let shared = bench();
    let metrics = Metrics::new(Arc::clone(&shared));
    let mut sinks = Sinks::new(shared, fixture::lenient());
    publish(&mut sinks, 1);
    let text = metrics.render(Format::Prometheus);
    let (first, first_size) = (parse(&text), f64::from(u32::try_from(text.len()).unwrap()));
    publish(&mut sinks, 2);
    let text = metrics.render(Format::Prometheus);
    let second = parse(&text);

    for (series, value) in &first {
        let now = second.get(series).unwrap_or_else(|| panic!("{series} is gone"));
        let labgate = series.starts_with("labgate_");
        if labgate && series.split('{').next().is_some_and(|name| name.ends_with("_total")) {
            assert!(now >= value, "{series} went back from {value} to {now}");
        }
    }

    for (series, value) in [
        (r#"device_packets_total{device="redmi",direction="tx",country="CN",asn="4808"}"#, 6.0),
        (r#"device_packets_total{device="redmi",direction="rx",country="CN",asn="4808"}"#, 0.0),
        (
            r#"device_counters_created_timestamp_seconds{device="redmi",country="CN",asn="4808"}"#,
            1_767_225_600.5,
        ),
        (
            r#"device_prefix_counters_created_timestamp_seconds{device="camera",prefix="other"}"#,
            0.0,
        ),
        (r#"devices{kind="configured"}"#, 3.0),
        (r#"devices{kind="unknown"}"#, 1.0),
        ("unknown_devices_limit", 256.0),
        (r#"unknown_devices_pooled_packets_total{direction="tx"}"#, 0.0),
        (r#"device_bytes_total{device="redmi",direction="rx",country="SG",asn="16509"}"#, 10000.0),
        (r#"device_bytes_total{device="redmi",direction="tx",country="",asn="0"}"#, 120.0),
        (
            r#"device_payload_bytes_total{device="redmi",direction="tx",country="CN",asn="4808"}"#,
            348.0,
        ),
        (
            r#"device_prefix_packets_total{device="redmi",direction="tx",prefix="42.62.48.0/24"}"#,
            6.0,
        ),
        (
            r#"device_prefix_packets_total{device="redmi",direction="rx",prefix="52.74.0.0/16"}"#,
            10.0,
        ),
        (r#"device_prefix_packets_total{device="redmi",direction="rx",prefix="other"}"#, 0.0),
        (r#"device_prefix_bytes_total{device="redmi",direction="tx",prefix=""}"#, 120.0),
        (r#"device_folded_packets_total{device="redmi",detail="prefix"}"#, 0.0),
        (
            r#"device_info{device="redmi",mac="64:b4:73:00:00:01,02:00:00:00:00:01",vendor="Xiaomi",group="phones",random_mac="true",kind="configured",policy=""}"#,
            1.0,
        ),
        (
            r#"device_country_first_seen_timestamp_seconds{device="redmi",country="CN"}"#,
            1_767_225_600.5,
        ),
        (
            r#"device_country_last_seen_timestamp_seconds{device="redmi",country="CN"}"#,
            1_767_225_602.0,
        ),
        (r#"alerts_total{rule="watched_prefix",severity="warning"}"#, 1.0),
        (r#"alerts_total{rule="country_not_allowed",severity="critical"}"#, 0.0),
        (
            r#"alert_first_seen_timestamp_seconds{rule="watched_prefix",severity="warning",device="redmi",country="CN",prefix="42.62.48.0/24",asn="4808"}"#,
            1_767_225_600.5,
        ),
        (
            r#"alert_last_seen_timestamp_seconds{rule="watched_prefix",severity="warning",device="redmi",country="CN",prefix="42.62.48.0/24",asn="4808"}"#,
            1_767_225_602.0,
        ),
        (r#"alerts_total{rule="watched_operator",severity="warning"}"#, 0.0),
        (r#"outcomes_total{outcome="slot_claimed"}"#, 4.0),
        ("seen_packets_total", 24.0),
        ("seen_bytes_total", 12_898.0),
        (r#"level_packets_total{level="flow"}"#, 20.0),
        (r#"level_packets_total{level="coarse"}"#, 4.0),
        ("epochs_total", 2.0),
        (r#"table_entries{table="coarse"}"#, 7.0),
        (r#"table_capacity_entries{table="coarse"}"#, 1024.0),
        ("series_limit", 200_000.0),
        (r#"expired_total{what="prefix"}"#, 0.0),
        ("scrape_duration_seconds_count", 1.0),
        ("books_open_epochs_total", 0.0),
        (r#"epoch_stage_duration_seconds_sum{stage="drain"}"#, 0.0007),
        (r#"epoch_stage_duration_seconds_count{stage="drain"}"#, 2.0),
        (r#"epoch_stage_last_duration_seconds{stage="drain"}"#, 0.00035),
        (r#"interface_packets_total{interface="lan0",direction="tx"}"#, 12.0),
        (r#"interface_packets_total{interface="lan0",direction="rx"}"#, 0.0),
        (r#"database_stale{database="country"}"#, 0.0),
        (r#"network_info{network="head-office",prefix="203.0.113.0/24"}"#, 1.0),
        (r#"interface_watched{interface="lan0"}"#, 1.0),
        (r#"interface_up{interface="lan0"}"#, 1.0),
        (r#"interface_mtu_bytes{interface="lan0"}"#, 1500.0),
        (r#"interface_covered_seconds_total{interface="lan0"}"#, 2.0),
        (r#"interface_detachments_total{interface="lan0",reason="gone"}"#, 0.0),
        (
            r#"attach_info{interface="lan0",ingress="tc",egress="tcx",fallback_reason="a bridge has no native XDP"}"#,
            1.0,
        ),
        (
            r#"database_info{database="country",type="DBIP-Country-Lite",build_time="2026-01-01T00:00:00.000Z",source="built-in",sha256="c0ffee"}"#,
            1.0,
        ),
    ] {
        assert_eq!(second.get(&format!("labgate_{series}")), Some(&value), "{series}\n{text}");
    }
    assert_eq!(second["labgate_scrape_last_size_bytes"], first_size);
    assert!(second.contains_key("process_resident_memory_bytes"));
}

#[test]
fn every_family_has_a_help_text_and_hostile_names_stay_in_their_line() {
    let shared = bench();
    let metrics = Metrics::new(Arc::clone(&shared));
    metrics.render(Format::Prometheus);
    shared.change(|state| state.reloaded(Reloaded::Databases, true, 1));
    shared.keep(Keeping { last: 1, ..Keeping::default() });
    publish(&mut Sinks::new(shared, fixture::lenient()), 1);
    let text = metrics.render(Format::Prometheus);
    for definition in def::ALL {
        let help = format!("# HELP {} {}\n", definition.name, definition.help);
        assert!(text.contains(&help), "{}", definition.name);
    }
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    // The escape sequence's own backslash is escaped once more by the encoder.
    let operator = r#"labgate_operator_info{asn="4808",operator="Evil \"Net\"\\\\n\\u{1b}[2J"} 1"#;
    assert!(text.lines().any(|line| line == operator), "{text}");
}

#[test]
fn before_the_first_epoch_there_is_nothing_but_the_setup() {
    let series = parse(&Metrics::new(bench()).render(Format::Prometheus));
    assert_eq!(series.get("labgate_epochs_total"), Some(&0.0));
    assert!(!series.contains_key("labgate_last_epoch_timestamp_seconds"));
    let version = concat!(r#"labgate_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    assert_eq!(series.get(version), Some(&1.0));
}

/// What OpenMetrics forbids and Prometheus' format does not: a counter without `_total`, a family that
/// is not in one piece, a name that is another's, and a text without an end.
#[test]
fn openmetrics_is_strict() {
    let shared = bench();
    let metrics = Metrics::new(Arc::clone(&shared));
    publish(&mut Sinks::new(shared, fixture::lenient()), 1);
    let text = metrics.render(Format::OpenMetrics);
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut families = BTreeMap::new();
    let mut current = ("", "");
    for line in body.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, _] => {
                assert!(families.insert(name, "").is_none(), "{name} twice");
                current = (name, "");
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(name, current.0);
                families.insert(name, kind);
                current = (name, kind);
            }
            ["#", "UNIT", name, unit] => {
                assert!(name == current.0 && name.ends_with(&format!("_{unit}")), "{line}");
            }
            _ => {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffixes: &[&str] = match current.1 {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "summary" => &["_sum", "_count"],
                    kind => panic!("{kind}: {line}"),
                };
                let suffix = name.strip_prefix(current.0).expect("in its family");
                assert!(suffixes.contains(&suffix), "{line}");
            }
        }
    }
    let suffixes = ["_total", "_sum", "_count", "_created", "_bucket"];
    assert!(!families.keys().any(|name| suffixes.iter().any(|suffix| name.ends_with(suffix))));
    let samples = |text: &str| parse(text).into_keys().collect::<Vec<_>>();
    let later = metrics.render(Format::Prometheus);
    assert_eq!(samples(&later), samples(&metrics.render(Format::OpenMetrics)));
}

#[test]
fn definitions_are_well_formed() {
    let word = |text: &str| {
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let mut names = std::collections::HashSet::new();
    for def::Definition { name, kind, labels, help } in def::ALL.iter().copied() {
        assert!(names.insert(name) && name.starts_with("labgate_") && word(name), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(labels.iter().all(|label| word(label)), "{name}");
        assert!(help.ends_with('.'), "{name}");
    }
}
