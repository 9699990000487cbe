//! What a device is called, when that changes.

use super::*;
use crate::{
    config::DeviceConfig,
    model::{DeviceId, DeviceInfo, DeviceKind},
    sinks::http::parameters::destination_query,
    state::{Alert, DeviceRef, Rule},
};

/// An epoch without a packet, as the epoch thread commits it where a name has changed.
fn silence(number: u32, sensor: &mut Sensor, config: &Config) {
    let record = EpochRecord { epoch: number, ..fixture::record(3 * number, Vec::new()) };
    let identity = Identity { boot: "boot".to_owned(), table: TABLE, epoch: number.into() };
    let known = sensor.inventory.devices();
    let commit = Commit::new(identity, record, known, (Vec::new(), config.limits.into()));
    let commit = commit.with_changed(sensor.inventory.take_changed());
    sensor.ledger.commit(&commit).unwrap();
}

fn renamed(config: &Config, devices: &[(&str, &[u8])]) -> Config {
    let device = |(name, ends): &(&str, &[u8])| DeviceConfig {
        name: (*name).to_owned(),
        macs: ends.iter().map(|end| Mac([2, 0, 0, 0, 0, *end])).collect(),
        group: None,
    };
    Config { devices: devices.iter().map(device).collect(), ..config.clone() }
}

/// Packets of a device by its name: in the state, and in the ledger, of all times.
fn packets(sensor: &Sensor, name: &str) -> [u64; 2] {
    let mut query = destination_query(&[("limit", "100000".to_owned())]).unwrap();
    query.device = Some(DeviceRef::new(name));
    let device = query.device.as_ref();
    let patience = Patience::default();
    let of_ledger =
        period(sensor.ledger.path(), (0, u64::MAX), device, Setup::default(), &patience);
    [&sensor.state, of_ledger.unwrap().state()].map(|state| {
        let rows = state.destination_list(&query).destinations;
        rows.iter().map(|row| row.destination.tx_packets + row.destination.rx_packets).sum()
    })
}

fn breach(device: DeviceId, country: &str, second: u64) -> Alert {
    Alert {
        rule: Rule::CountryNotAllowed,
        device,
        country: fixture::country(country),
        prefix: None,
        asn: 0,
        operator: "".into(),
        since: START + second * SECOND,
        last_seen: START + (second + 1) * SECOND,
        packets: 1,
        bytes: 60,
    }
}

/// Whether it is renamed while the sensor runs or while it does not: the ledger has the name before the next packet.
#[test]
fn a_silent_device_is_found_by_its_new_name() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=20 {
        sensor.epoch(number, &config);
    }
    let counted = packets(&sensor, "redmi");
    assert!(counted[0] > 0 && counted[0] == counted[1], "{counted:?}");

    let handset = renamed(&config, &[("handset", &[1]), ("watch", &[2])]);
    sensor.inventory.configure(&handset.devices);
    sensor.state.list(sensor.inventory.devices(), sensor.state.ended());
    silence(21, &mut sensor, &config);
    assert_eq!(packets(&sensor, "handset"), counted);
    assert_eq!(packets(&sensor, "redmi"), [0; 2]);
    sensor.fold();
    drop(sensor);

    let phone = renamed(&config, &[("phone", &[1]), ("watch", &[2])]);
    let mut sensor = Sensor::start(&path, &phone);
    assert!(sensor.inventory.has_changed());
    silence(22, &mut sensor, &phone);
    assert_eq!(packets(&sensor, "phone"), counted);
    drop(sensor);
    let sensor = Sensor::start(&path, &phone);
    assert!(!sensor.inventory.has_changed(), "nothing is to be written");
    assert_eq!(packets(&sensor, "phone"), counted);
}

/// Rows and alerts of both are the whole's, now and after restarts, under each name that it gets.
#[test]
fn a_part_stays_a_part_of_its_device() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=20 {
        sensor.epoch(number, &config);
    }
    let redmi = sensor.inventory.resolve(Mac([2, 0, 0, 0, 0, 1]), Direction::Tx);
    let devices = sensor.inventory.devices();
    let stranger = devices.iter().find(|info| info.kind == DeviceKind::Unknown).unwrap();
    let (end, name, stranger) = (stranger.macs[0].0[5], stranger.name.clone(), stranger.id);
    let alerts = [breach(stranger, "CN", 9), breach(redmi, "CN", 30), breach(stranger, "US", 40)];
    sensor.state.raise(alerts.clone());
    let record = EpochRecord { epoch: 21, ..fixture::record(63, Vec::new()) };
    let known: Vec<DeviceInfo> = sensor.inventory.devices().to_vec();
    let alerts = alerts.into_iter().enumerate().collect();
    sensor.ledger.commit(&Commit { alerts, ..commit(&record, &known, &config) }).unwrap();
    let sum = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
    let counted = sum(packets(&sensor, "redmi"), packets(&sensor, &name));
    assert!(packets(&sensor, &name)[1] > 0);

    let shown = |sensor: &Sensor, name: &str| {
        let alerts = sensor.state.report(Detail::Prefix).alerts;
        assert!(alerts.iter().all(|alert| alert.device == name), "{alerts:?}");
        alerts
            .into_iter()
            .map(|alert| (alert.country, alert.since, alert.last_seen))
            .collect::<Vec<_>>()
    };
    let time = |second: u64| crate::state::rfc3339(START + second * SECOND);
    let expected = [("CN".to_owned(), time(9), time(31)), ("US".to_owned(), time(40), time(41))];

    let both = renamed(&config, &[("both", &[1, end]), ("watch", &[2])]);
    sensor.inventory.configure(&both.devices);
    sensor.state.list(sensor.inventory.devices(), sensor.state.ended());
    assert_eq!(shown(&sensor, "both"), expected);
    let lacks = |info: &DeviceInfo| info.macs.is_empty() && info.kind != DeviceKind::Pool;
    assert!(!sensor.state.devices().any(|device| lacks(device.info())));
    silence(22, &mut sensor, &both);
    assert_eq!(packets(&sensor, "both"), counted);
    for (number, name) in [(23, "both"), (24, "again"), (25, "third")] {
        sensor.fold();
        let config = renamed(&config, &[(name, &[1, end]), ("watch", &[2])]);
        drop(sensor);
        sensor = Sensor::start(&path, &config);
        assert_eq!(shown(&sensor, name), expected);
        silence(number, &mut sensor, &config);
        assert_eq!(packets(&sensor, name), counted, "{name}");
        let names: Vec<_> = sensor.state.devices().map(|d| d.info().name.to_string()).collect();
        assert_eq!(names.iter().filter(|known| *known == name).count(), 1, "{names:?}");
    }
    // Whatever comes next counts for the whole.
    for number in 26..=40 {
        sensor.epoch(number, &config);
    }
    assert!(packets(&sensor, "third")[0] > counted[0]);
}
