mod bounds;
mod names;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use super::{
    Alert, Contact, Detail, Label, Limits, NotReady, Row, Rule, SavedRow, Setup, Shared, State,
    Traffic,
    fixture::{self, Far, START},
    rfc3339,
};
use crate::{
    join::geo,
    model::{
        Country, DeviceId, DeviceKind, Direction, EpochRecord, Flow, Level, Protocol, Tally,
        Whereabouts,
    },
};

/// xorshift64: the same flows in every run.
struct Generator(u64);

impl Generator {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Mostly new destinations, of every level and kind.
    fn flow(&mut self) -> Flow {
        let bits = u32::try_from(self.below(1 << 24)).unwrap() << 4;
        let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
        let far = Far {
            country: match self.below(10) {
                0 => Country::Special("private"),
                1 => Country::NoEntry,
                n => fixture::country(["CN", "SG", "US", "IN"][usize::try_from(n % 4).unwrap()]),
            },
            asn: u32::try_from(self.below(3000)).unwrap(),
            operator: "Example Net",
            prefix: Some(ipnet::IpNet::new(address, 24).unwrap().trunc()),
            watched: self.below(50) == 0,
            address: Some(address),
            port: u16::try_from(self.below(3)).unwrap() * 443,
        };
        let direction = if self.below(2) == 0 { Direction::Tx } else { Direction::Rx };
        let device = u32::try_from(self.below(3)).unwrap();
        let packets = self.below(5);
        let mut flow = fixture::flow(device, direction, &far, packets, packets * self.below(1500));
        match self.below(20) {
            0 => flow.level = Level::Coarse,
            1 => {
                flow = fixture::flow(device, direction, &Far::default(), 1, 60);
                flow.level = Level::Overflow;
                flow.protocol = Protocol::Unknown;
            }
            2 => {
                flow = fixture::flow(device, direction, &Far::default(), 1, 60);
                flow.protocol = Protocol::NonIp("arp");
            }
            _ => {}
        }
        flow
    }
}

fn small() -> State {
    let limits = Limits {
        destinations_per_device: 40,
        pooled_destinations: 60,
        prefixes_per_device: 4,
        ..Limits::default()
    };
    State::new(Setup { limits, ..Setup::default() })
}

fn sum(tallies: impl IntoIterator<Item = Tally>) -> Tally {
    tallies.into_iter().fold(Tally::default(), |mut sum, tally| {
        sum.add(&tally);
        sum
    })
}

fn sums<'a>(traffic: impl Iterator<Item = &'a Traffic>) -> [Tally; 2] {
    let (tx, rx): (Vec<_>, Vec<_>) = traffic.map(|t| (t.tx, t.rx)).unzip();
    [sum(tx), sum(rx)]
}

/// Its bytes were on the wire; the far end has said nothing all the same.
#[test]
fn a_rejection_by_the_gateway_is_no_answer() {
    let far = Far { country: fixture::country("CN"), port: 443, ..Far::default() };
    let tcp = |direction, protocol, bytes| Flow {
        protocol,
        ..fixture::flow(0, direction, &far, 3, bytes)
    };
    let sent = tcp(Direction::Tx, Protocol::Ip(6), 222);
    let reset = tcp(Direction::Rx, Protocol::Rejected(6), 162);
    let mut state = small();
    state.apply(&fixture::record(1, vec![sent, reset]), &fixture::devices());
    let answers = |state: &State| {
        let report = state.report(Detail::Prefix);
        let device = report.devices.into_iter().find(|device| device.name == "redmi").unwrap();
        let row = |row: sensor_common::report::Destination| {
            (row.protocol, row.answered, row.tx_bytes, row.rx_bytes)
        };
        device.destinations.into_iter().map(row).collect::<Vec<_>>()
    };
    let rejected = ("rejected:tcp".to_owned(), false, 0, 162);
    assert_eq!(answers(&state), [("tcp".to_owned(), false, 222, 0), rejected.clone()]);

    let answer = tcp(Direction::Rx, Protocol::Ip(6), 74);
    state.apply(&fixture::record(2, vec![answer]), &fixture::devices());
    assert_eq!(answers(&state), [("tcp".to_owned(), true, 222, 74), rejected]);
}

#[test]
fn sums_are_exact_whatever_folds() {
    let mut generator = Generator(0x1ab6_a7e5_eed0_0001);
    let mut state = small();
    let mut input = vec![[Tally::default(); 2]; 3];
    let mut by_country = std::collections::BTreeMap::<(u32, Country), u64>::new();
    for epoch in 1..=20 {
        let flows: Vec<_> = (0..1000).map(|_| generator.flow()).collect();
        for flow in &flows {
            input[flow.device.0 as usize][flow.direction as usize].add(&flow.tally);
            *by_country.entry((flow.device.0, flow.attribution.country)).or_default() +=
                flow.tally.packets;
        }
        state.apply(&fixture::record(epoch, flows), &fixture::devices());
    }

    let devices: Vec<_> = state.devices().collect();
    assert_eq!(devices.len(), 4, "three that sent, and the unknown one of the inventory");
    for (device, expected) in devices.iter().zip(&input) {
        assert_eq!(sums(device.rows().map(|(_, row)| &row.traffic)), *expected, "rows");
        let series = device.series().expect("a device that sent has series");
        assert_eq!(sums(series.label_sets().map(|(_, _, traffic)| traffic)), *expected, "labels");
        let prefixes = series.prefixes().map(|(_, traffic)| traffic);
        assert_eq!(sums(prefixes.chain([series.no_prefix()])), *expected, "prefixes");

        // Every bound was reached, and holds.
        let folded = device.folded();
        assert!(folded.address > 0 && folded.place > 0, "{folded:?}");
        assert!(series.folded().operator > 0 && series.folded().prefix > 0, "{series:?}");
        assert!(device.rows().count() <= 2 * 40 + 7, "{}", device.rows().count());
        assert!(series.label_sets().count() <= 1024 + 7);
        assert!(series.prefixes().count() <= 2 * 4 + 1);
    }

    // No fold blurs a country, neither in the report nor in the metrics.
    let report = state.report(Detail::Prefix);
    for ((id, country), packets) in by_country {
        let device = devices[id as usize];
        let reported = report.devices.iter().find(|d| d.name == *device.info().name).unwrap();
        let rows = reported.destinations.iter().filter(|d| d.country == country.as_str());
        assert_eq!(rows.map(|d| d.tx_packets + d.rx_packets).sum::<u64>(), packets, "{country}");
        let labels = device.series().unwrap().label_sets().filter(|(c, ..)| *c == Some(country));
        let counted = labels.map(|(_, _, t)| t.tx.packets + t.rx.packets);
        assert_eq!(counted.sum::<u64>(), packets, "{country}");
    }
    assert_eq!(report.books.seen_packets, sum(input.into_iter().flatten()).packets);
    assert!(report.books.closed);
}

#[test]
fn no_counter_goes_back() {
    let mut generator = Generator(0x1ab6_a7e5_eed0_0002);
    let mut state = small();
    for epoch in 1..=20 {
        let before = state.clone();
        let flows = (0..200).map(|_| generator.flow()).collect();
        state.apply(&fixture::record(epoch, flows), &fixture::devices());
        for (old, new) in before.devices().zip(state.devices()) {
            let series = new.series().map(|series| series.prefixes().collect::<Vec<_>>());
            for (prefix, traffic) in old.series().iter().flat_map(|series| series.prefixes()) {
                let now = series.iter().flatten().find(|(p, _)| *p == prefix);
                let (_, now) = now.unwrap_or_else(|| panic!("{prefix} lost its label"));
                assert!(now.tx.packets >= traffic.tx.packets && now.rx.bytes >= traffic.rx.bytes);
            }
            for (key, row) in old.rows() {
                let (_, now) = new.rows().find(|(k, _)| *k == key).expect("rows stay");
                assert!(now.traffic.tx.bytes >= row.traffic.tx.bytes);
                assert!(now.contact.first <= row.contact.first);
            }
        }
    }
}

#[test]
fn a_watched_prefix_keeps_its_label_on_a_busy_device() {
    let mut generator = Generator(0x1ab6_a7e5_eed0_0003);
    let mut state = small();
    let mut flows: Vec<_> = (0..500).map(|_| generator.flow()).collect();
    for flow in &mut flows {
        flow.attribution.watched = false;
    }
    let prefix = "42.62.48.0/24".parse().unwrap();
    let far = Far {
        country: fixture::country("CN"),
        prefix: Some(prefix),
        watched: true,
        ..Far::default()
    };
    flows.push(fixture::flow(0, Direction::Tx, &far, 3, 180));
    state.apply(&fixture::record(1, flows), &fixture::devices());
    let device = state.devices().next().unwrap();
    let mut prefixes = device.series().unwrap().prefixes();
    let (_, traffic) = prefixes.find(|(p, _)| *p == Label::Of(prefix)).expect("its label");
    assert_eq!(traffic.tx.packets, 3);
}

#[test]
fn devices_without_a_name_share_one_bound() {
    let mut generator = Generator(0x1ab6_a7e5_eed0_0004);
    let mut state = small();
    let mut flows: Vec<_> = (0..3000).map(|_| generator.flow()).collect();
    let mut later = flows.split_off(2000);
    // First a flood from MAC addresses that nobody knows, then a configured device.
    for (n, flow) in (0..).zip(&mut flows) {
        flow.device.0 = 100 + n % 50;
    }
    later.iter_mut().for_each(|flow| flow.device.0 = 0);
    let sent = sum(flows.iter().chain(&later).map(|flow| flow.tally));
    state.apply(&fixture::record(1, flows), &fixture::devices());
    state.apply(&fixture::record(2, later), &fixture::devices());

    let (configured, pooled): (Vec<_>, Vec<_>) =
        state.devices().partition(|d| d.info().kind == DeviceKind::Configured);
    let rows: usize = pooled.iter().map(|device| device.rows().count()).sum();
    assert!((120..=120 + 50 * 7).contains(&rows), "{rows}");
    assert!(configured[0].rows().count() >= 80, "{}", configured[0].rows().count());
    let all = state.devices().flat_map(|d| d.rows().map(|(_, row)| &row.traffic));
    assert_eq!(sum(sums(all)), sent);
}

#[test]
fn a_flow_of_an_unlisted_device_is_not_lost() {
    let mut state = small();
    let flow = fixture::flow(77, Direction::Tx, &Far::default(), 2, 120);
    state.apply(&fixture::record(1, vec![flow]), &fixture::devices());
    let report = state.report(Detail::Prefix);
    let device = report.devices.iter().find(|d| d.name == "device-77").expect("a device");
    assert_eq!(device.destinations[0].tx_bytes, 120);
}

/// Two epochs of one phone: two addresses of a prefix, ARP, and a VLAN.
fn two_epochs() -> Vec<EpochRecord> {
    let beijing = Far {
        country: fixture::country("CN"),
        asn: 4808,
        operator: "China Unicom",
        prefix: Some("42.62.48.0/24".parse().unwrap()),
        watched: true,
        address: Some("42.62.48.9".parse().unwrap()),
        port: 443,
    };
    let neighbour = Far { address: Some("42.62.48.10".parse().unwrap()), ..beijing.clone() };
    let mut tagged = fixture::flow(0, Direction::Rx, &beijing, 1, 1504);
    tagged.vlan = Some(7);
    let mut arp = fixture::flow(0, Direction::Tx, &Far::default(), 1, 60);
    arp.protocol = Protocol::NonIp("arp");
    let mut later = fixture::flow(0, Direction::Tx, &neighbour, 4, 400);
    later.first_seen += 1_000_000_000;
    vec![
        fixture::record(1, vec![fixture::flow(0, Direction::Tx, &beijing, 2, 200), tagged, arp]),
        fixture::record(2, vec![later]),
    ]
}

fn reported() -> State {
    let mut state = State::new(Setup {
        databases: vec![geo::Status {
            role: geo::Role::Country,
            kind: "DBIP-Country-Lite".into(),
            build_time: 1_767_225_600 - 86_400,
            source: "built-in".into(),
            sha256: "c0ffee".into(),
        }],
        max_age: Duration::from_secs(86_401),
        attribution: "IP geolocation by DB-IP".into(),
        ..Setup::default()
    });
    state.cover(vec![fixture::coverage("xdp", "")]);
    let devices = &fixture::devices()[..1];
    for record in two_epochs() {
        state.apply(&record, devices);
    }
    state.raise([Alert {
        rule: Rule::CountryNotAllowed,
        device: DeviceId(0),
        country: fixture::country("CN"),
        prefix: Some("42.62.48.0/24".parse().unwrap()),
        asn: 45102,
        operator: "Alibaba".into(),
        since: START + 500_000_000,
        last_seen: START + 1_000_000_000,
        packets: 3,
        bytes: 1704,
    }]);
    state.renew([0], START + 2_000_000_000);
    // An older epoch takes nothing back, and there is no such alert.
    state.renew([0, 7], START + 1_500_000_000);
    state
}

#[test]
fn the_report_is_the_common_json_form() {
    let mut state = reported();
    let whereabouts = Whereabouts {
        addresses: ["192.168.77.12", "fe80::1"].map(|address| address.parse().unwrap()).into(),
        host_names: vec!["redmi\\x1b".into()],
    };
    let nobody = (DeviceId(99), whereabouts.clone());
    state.locate([(DeviceId(0), whereabouts), nobody].into());
    let json = serde_json::to_value(state.report(Detail::Prefix)).unwrap();
    let expected = serde_json::json!({
        "version": 4,
        "time": "2026-01-01T00:00:02.000Z",
        "devices": [{
            "name": "redmi",
            "mac": "64:b4:73:00:00:01,02:00:00:00:00:01",
            "vendor": "Xiaomi",
            "random_mac": true,
            "group": "phones",
            "addresses": ["192.168.77.12", "fe80::1"],
            "host_names": ["redmi\\x1b"],
            "destinations": [
                {
                    "country": "CN", "asn": 4808, "operator": "China Unicom",
                    "prefix": "42.62.48.0/24", "network": "", "protocol": "udp", "port": 443, "encryption": "encrypted",
                    "answered": true,
                    "tx_packets": 6, "tx_bytes": 600, "rx_packets": 1, "rx_bytes": 1504,
                    "first_seen": "2026-01-01T00:00:00.500Z",
                    "last_seen": "2026-01-01T00:00:02.000Z",
                },
                {
                    "country": "", "asn": 0, "operator": "",
                    "prefix": "", "network": "", "protocol": "arp", "port": 0,
                    "encryption": "", "answered": false,
                    "tx_packets": 1, "tx_bytes": 60, "rx_packets": 0, "rx_bytes": 0,
                    "first_seen": "2026-01-01T00:00:00.500Z",
                    "last_seen": "2026-01-01T00:00:01.000Z",
                },
            ],
        }],
        "alerts": [{
            "rule": "country_not_allowed", "device": "redmi", "country": "CN",
            "severity": "critical", "since": "2026-01-01T00:00:00.500Z",
            "last_seen": "2026-01-01T00:00:02.000Z", "prefix": "42.62.48.0/24", "asn": 45102,
            "operator": "Alibaba",
        }],
        "books": {
            "seen_packets": 8, "seen_bytes": 2164, "attributed_packets": 8,
            "coarse_packets": 0, "overflow_packets": 0, "unparsed_packets": 0,
            // The interface's own counters are cumulative: the last epoch's are the sum.
            "interface_packets": 4, "interface_bytes": 400,
            "closed": true,
        },
        "interfaces": [{
            "name": "lan0", "configured": true, "watched": true,
            "ingress": "xdp", "egress": "tcx", "fallback_reason": "", "reason": "",
            "link": "lan0", "up": true, "mtu": 1500,
            "covered_milliseconds": 2000, "earlier_coverage": 0,
            "coverage": [{
                "from": "2026-01-01T00:00:00.000Z", "to": "", "link": "lan0",
                "ingress": "xdp", "egress": "tcx", "fallback_reason": "", "end": "",
            }],
        }],
        "databases": [{
            "role": "country", "kind": "DBIP-Country-Lite",
            // The second epoch ends a second after it has become too old.
            "build_time": "2025-12-31T00:00:00.000Z", "stale": true,
            "source": "built-in", "sha256": "c0ffee",
        }],
        "attribution": "IP geolocation by DB-IP",
    });
    assert_eq!(json, expected, "{json:#}");
}

#[test]
fn address_detail_tells_addresses_and_vlans_apart() {
    let report = reported().report(Detail::Address);
    let rows: Vec<_> = report.devices[0]
        .destinations
        .iter()
        .map(|d| (d.address.as_deref(), d.vlan, d.tx_packets, d.rx_packets))
        .collect();
    assert_eq!(
        rows,
        [
            (Some("42.62.48.9"), Some(7), 0, 1),
            (Some("42.62.48.10"), Some(0), 4, 0),
            (Some("42.62.48.9"), Some(0), 2, 0),
            (None, Some(0), 1, 0),
        ]
    );
}

#[test]
fn a_coarse_flow_has_no_address_and_nothing_folded_it_here() {
    let mut state = small();
    let [record, _] = two_epochs().try_into().unwrap();
    let mut flow = Flow { level: Level::Coarse, ..record.flows[0].clone() };
    flow.address = Some("42.62.48.0".parse().unwrap());
    state.apply(&fixture::record(1, vec![flow]), &fixture::devices());
    let report = state.report(Detail::Address);
    let device = report.devices.iter().find(|d| d.name == "redmi").unwrap();
    let row = &device.destinations[0];
    assert_eq!((&*row.prefix, row.port), ("42.62.48.0/24", 0));
    assert_eq!((&row.address, row.vlan), (&None, None));
    assert_eq!(state.devices().next().unwrap().folded().address, 0);
}

#[test]
fn open_books_stay_open() {
    let mut state = small();
    let mut record = fixture::record(1, vec![]);
    record.books.seen.packets = 1;
    record.open = true;
    state.apply(&record, &[]);
    state.apply(&fixture::record(2, vec![]), &[]);
    assert!(!state.report(Detail::Prefix).books.closed);
    assert_eq!((state.epochs(), state.open_epochs()), (2, 1));
    assert_eq!(state.outcomes().collect::<Vec<_>>(), [("quota", 0), ("slot_claimed", 4)]);
}

#[test]
fn a_reader_keeps_its_snapshot_while_the_state_goes_on() {
    let shared = Shared::new(small(), Duration::from_secs(1));
    let before = shared.snapshot();
    shared.update(|state| state.apply(&fixture::record(1, vec![]), &[]));
    assert_eq!((before.epochs(), shared.snapshot().epochs()), (0, 1));
}

#[test]
fn readiness_follows_the_epochs() {
    let shared = Shared::new(small(), Duration::from_secs(1));
    assert_eq!(shared.ready(Instant::now()), Err(NotReady::NoEpoch));
    shared.update(|_| {});
    assert_eq!(shared.ready(Instant::now()), Ok(()));
    let late = Instant::now() + Duration::from_secs(10);
    let reason = shared.ready(late).unwrap_err().to_string();
    assert_eq!(reason, "the last epoch ended 10 s ago, although an epoch lasts 1 s");
}

#[test]
fn times_are_utc_to_the_millisecond() {
    assert_eq!(rfc3339(START + 999_999_999), "2026-01-01T00:00:00.999Z");
    assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709Z");
}

fn contact_with(country: &str, first_seen: u64) -> Flow {
    let far = Far { country: fixture::country(country), ..Far::default() };
    let mut flow = fixture::flow(0, Direction::Tx, &far, 1, 100);
    flow.first_seen = START + first_seen;
    flow
}

/// When the first device's counters by country began, in nanoseconds since [`START`].
fn created(state: &State, device: DeviceId) -> Vec<(String, u64)> {
    let device = state.devices().find(|known| known.info().id == device).unwrap();
    let sets = device.series().unwrap().label_sets_created();
    let mut created: Vec<_> = sets
        .filter_map(|(country, _, created)| {
            Some((country?.to_string(), created.wrapping_sub(START)))
        })
        .collect();
    created.sort();
    created
}

#[test]
fn a_counter_began_after_the_epoch_before_and_keeps_that_over_a_restart_and_a_rename() {
    const SECOND: u64 = 1_000_000_000;
    let mut state = small();
    let mut devices = fixture::devices();
    // The first packet is not that of the first flow.
    let flows = vec![contact_with("CN", 800), contact_with("CN", 500), contact_with("CN", 600)];
    state.apply(&fixture::record(1, flows), &devices);
    // It is as old as its first packet, and not older than what was shown without it.
    let flows = vec![contact_with("CN", SECOND + 7), contact_with("SG", SECOND - 3)];
    state.apply(&fixture::record(2, flows), &devices);
    state.apply(&fixture::record(3, vec![contact_with("US", 2 * SECOND + 9)]), &devices);
    let expected =
        [("CN", 500), ("SG", SECOND), ("US", 2 * SECOND + 9)].map(|(c, at)| (c.to_owned(), at));
    assert_eq!(created(&state, DeviceId(0)), expected);

    devices[0].name = "phone".into();
    state.apply(&fixture::record(4, vec![contact_with("CN", 3 * SECOND)]), &devices);
    assert_eq!(created(&state, DeviceId(0)), expected);

    // What began in a future that never came is not told as news afterwards.
    let mut corrected = state.clone();
    corrected.distrust_after(START + 2 * SECOND);
    let hour_before = (2 * SECOND).wrapping_sub(3600 * SECOND);
    let expected_then = [("SG".to_owned(), SECOND), ("US".to_owned(), hour_before)];
    assert_eq!(created(&corrected, DeviceId(0))[1..], expected_then);

    let saved = state.save_devices(true).swap_remove(0);
    let mut restored = small();
    restored.restore(state.save());
    restored.restore_device(&devices[0], Some(saved.1), std::iter::empty());
    restored.apply(&fixture::record(3600, vec![contact_with("CN", 3600 * SECOND)]), &devices);
    assert_eq!(created(&restored, DeviceId(0)), expected);
}

#[test]
fn what_strangers_had_before_is_nothing_that_the_pool_was_sent() {
    let pool = &fixture::devices()[5];
    let packets = |state: &State| state.pooled().tx.packets;
    let mut state = small();
    let row = SavedRow {
        attribution: contact_with("CN", 0).attribution,
        protocol: Protocol::Ip(17),
        far: None,
        row: Row {
            traffic: Traffic {
                tx: Tally { packets: 1000, bytes: 60_000, payload: 0 },
                ..Traffic::default()
            },
            contact: Contact { first: START, last: START },
        },
    };
    state.restore_device(pool, None, [row].into_iter());
    assert_eq!((state.pool().unwrap().total().tx.packets, packets(&state)), (1000, 0));
    let of = |device, packets| fixture::flow(device, Direction::Tx, &Far::default(), packets, 60);
    state.apply(&fixture::record(1, vec![of(5, 3), of(3, 4)]), &fixture::devices());
    assert_eq!(packets(&state), 3);
    let mut restored = small();
    restored.restore(state.save());
    assert_eq!(packets(&restored), 3);
}
