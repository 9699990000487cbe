//! Names belong to devices: what is shown follows them, and parts follow their wholes.

use super::*;
use crate::{
    join::devices::Inventory,
    model::DeviceInfo,
    state::{AlertQuery, DestinationQuery, DeviceQuery, DeviceRef},
};

const STRANGER: usize = 3;
const POOL: DeviceId = DeviceId(5);

fn breach(device: u32, code: &str, second: u64) -> Alert {
    Alert {
        rule: Rule::CountryNotAllowed,
        device: DeviceId(device),
        country: fixture::country(code),
        prefix: None,
        asn: 0,
        operator: "".into(),
        since: START + second * 1_000_000_000,
        last_seen: START + (second + 1) * 1_000_000_000,
        packets: 1,
        bytes: 60,
    }
}

fn far(code: &str, asn: u32) -> Far {
    let prefix = Some(format!("10.{}.0.0/16", asn % 200).parse().unwrap());
    Far { country: fixture::country(code), asn, operator: "Example", prefix, ..Far::default() }
}

fn destinations(state: &State, name: &str) -> u64 {
    let query = DestinationQuery {
        device: Some(DeviceRef::new(name)),
        country: None,
        asn: None,
        protocol: None,
        port: None,
        within: None,
        group: None,
        operator: None,
        period: None,
        detail: Detail::Address,
        limit: 100,
    };
    state.destination_list(&query).matched
}

fn alerts(state: &State, name: &str) -> u64 {
    let device = Some(DeviceRef::new(name));
    let query =
        AlertQuery { device, rule: None, severity: None, country: None, since: None, limit: 100 };
    let listed = state.alert_list(&query).matched;
    let summary =
        state.device_list(&DeviceQuery { device: query.device, ..DeviceQuery::default() });
    let counted: u64 = summary.devices.iter().map(|device| device.alerts).sum();
    assert_eq!(listed, counted, "{name}");
    listed
}

/// The series of breaches: device, country, first and last packet in seconds.
fn exported(state: &State) -> Vec<(String, String, u64, u64)> {
    let second = |nanos: u64| (nanos - START) / 1_000_000_000;
    let series = state.exported_alerts().map(|(name, alert)| {
        (name.to_owned(), alert.country.to_string(), second(alert.since), second(alert.last_seen))
    });
    let mut series: Vec<_> = series.collect();
    series.sort();
    series
}

fn named(name: &str) -> Vec<DeviceInfo> {
    let mut devices = fixture::devices();
    devices[STRANGER].name = name.into();
    devices[STRANGER].kind = DeviceKind::Configured;
    devices
}

#[test]
fn an_alert_is_its_devices_whatever_that_is_called() {
    let mut state = State::new(Setup::default());
    let flow = fixture::flow(3, Direction::Tx, &far("CN", 4134), 2, 120);
    state.apply(&fixture::record(1, vec![flow]), &fixture::devices());
    state.raise([breach(3, "CN", 1)]);
    let before = state.budget().held();
    for name in ["tv", "tv-set"] {
        // It is silent.
        state.list(&named(name), state.ended());
        assert_eq!((alerts(&state, name), destinations(&state, name)), (1, 1), "{name}");
        assert_eq!(state.report(Detail::Prefix).alerts[0].device, name);
        assert_eq!(exported(&state), [(name.to_owned(), "CN".to_owned(), 1, 2)]);
        assert_eq!(state.budget().held(), before, "the same series under another name");
    }
    assert_eq!(alerts(&state, "02:00:00:00:00:99"), 1, "by its address, too");
    assert_eq!(alerts(&state, "redmi"), 0);
}

#[test]
fn a_part_is_its_wholes_in_rows_alerts_and_metrics() {
    let mut state = State::new(Setup::default());
    let flows = vec![
        fixture::flow(0, Direction::Tx, &far("CN", 4134), 2, 120),
        fixture::flow(3, Direction::Tx, &far("CN", 4134), 3, 180),
        fixture::flow(3, Direction::Rx, &far("US", 15169), 5, 300),
    ];
    state.apply(&fixture::record(1, flows), &fixture::devices());
    state.raise([breach(0, "CN", 7), breach(3, "CN", 1), breach(3, "US", 2)]);
    let label_sets = |state: &State| {
        let series = state.devices().next().unwrap().series().unwrap();
        let sets = series.label_sets().map(|(country, asn, traffic)| {
            let country = country.map(|country| country.to_string());
            let asn = asn.to_string();
            (
                country,
                asn.split(' ').next().unwrap().to_owned(),
                traffic.tx.packets + traffic.rx.packets,
            )
        });
        let mut sets: Vec<_> = sets.collect();
        sets.sort();
        sets
    };
    let set =
        |country: &str, asn: &str, packets| (Some(country.to_owned()), asn.to_owned(), packets);
    assert_eq!(label_sets(&state), [set("CN", "4134", 2)]);

    let mut devices = fixture::devices();
    devices[STRANGER] =
        DeviceInfo { id: DeviceId(3), part_of: Some(DeviceId(0)), ..devices[0].clone() };
    state.list(&devices, START + 2_000_000_000);
    assert!(
        state.devices().all(|device| device.info().id != DeviceId(3)),
        "no row without an address"
    );
    let whole = state.devices().next().unwrap();
    assert_eq!((whole.total().tx.packets, whole.total().rx.packets), (5, 5));
    // No counter jumps: what the part had counted is in series that never change.
    let expected = [set("CN", "4134", 2), set("CN", "expired", 3), set("US", "expired", 5)];
    assert_eq!(label_sets(&state), expected);
    assert_eq!(alerts(&state, "redmi"), 2);
    let expected =
        [("redmi".to_owned(), "CN".to_owned(), 1, 8), ("redmi".to_owned(), "US".to_owned(), 2, 3)];
    assert_eq!(exported(&state), expected);
    assert_eq!(state.all_alerts().count(), 3, "the counter of alerts does not go back");

    // Again and again, as each epoch lists the devices.
    let held = state.budget().held();
    state.apply(&fixture::record(3, Vec::new()), &devices);
    assert_eq!((exported(&state), state.budget().held()), (expected.to_vec(), held));
}

/// However many addresses somebody makes up.
#[test]
fn a_named_devices_breach_always_has_series() {
    let limits = Limits { series: 600, ..Limits::default() };
    let mut state = State::new(Setup { limits, ..Setup::default() });
    let mut devices = fixture::devices();
    let stranger = devices[STRANGER].clone();
    devices.extend((6..60).map(|id| DeviceInfo { id: DeviceId(id), ..stranger.clone() }));
    state.apply(&fixture::record(1, Vec::new()), &devices);
    let codes = |count: u8| {
        (0..count).map(|n| String::from_utf8(vec![b'A' + n / 26, b'A' + n % 26]).unwrap())
    };
    let made_up = (6..60).flat_map(|id| codes(9).map(move |code| breach(id, &code, u64::from(id))));
    state.raise(made_up);
    state.raise([breach(3, "AA", 2), breach(POOL.0, "AB", 1), breach(3, "ZY", 90)]);
    // Two for each country that they share, beyond the limit.
    assert!(state.budget().held() <= 600 + 20, "{:?}", state.budget());
    assert!(state.shared_alerts() > 300, "{}", state.shared_alerts());

    state.raise(codes(60).map(|code| breach(0, &code, 99)));
    let own = exported(&state).into_iter().filter(|(name, ..)| name == "redmi").count();
    assert_eq!(own, 60);
    let series = exported(&state);
    let mut sets: Vec<_> = series.iter().map(|(name, code, ..)| (name, code)).collect();
    let of_pool = |code: &str| {
        series
            .iter()
            .find(|(name, known, ..)| name == Inventory::POOL_NAME && known == code)
            .cloned()
    };
    sets.dedup();
    // The strangers of this test share a name.
    assert!(
        sets.iter().filter(|(name, _)| *name == Inventory::POOL_NAME).count() == 10,
        "{sets:?}"
    );
    assert_eq!(
        of_pool("AA").map(|(.., since, last)| (since, last)),
        Some((2, 60)),
        "the first and last of all"
    );
    assert_eq!(of_pool("AB").map(|(.., since, _)| since), Some(1), "the pool's own, too");

    // What occurs again shows, and who gets a name has series of its own.
    let place = state
        .all_alerts()
        .position(|a| a.device == DeviceId(3) && a.country == fixture::country("ZY"));
    state.renew(place, START + 500 * 1_000_000_000);
    let zy = exported(&state).into_iter().find(|(_, code, ..)| code == "ZY").unwrap();
    assert_eq!((zy.0.as_str(), zy.3), (Inventory::POOL_NAME, 500));
    devices[STRANGER].name = "tv".into();
    devices[STRANGER].kind = DeviceKind::Configured;
    state.list(&devices, state.ended());
    let tv: Vec<_> = exported(&state).into_iter().filter(|(name, ..)| name == "tv").collect();
    let tv: Vec<_> =
        tv.iter().map(|(_, code, since, last)| (code.as_str(), *since, *last)).collect();
    assert_eq!(tv, [("AA", 2, 3), ("ZY", 90, 500)]);
}
