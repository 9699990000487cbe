//! What a large bench's scrape costs, and which prefixes get a label.

use std::time::Instant;

use super::*;
use crate::model::{DeviceId, DeviceInfo, DeviceKind};

fn device(id: u32) -> DeviceInfo {
    DeviceInfo {
        id: DeviceId(id),
        name: format!("device-{id}").into(),
        macs: vec!["02:00:00:00:00:01".parse().unwrap()],
        vendor: "Vendor".into(),
        group: "phones".into(),
        kind: DeviceKind::Configured,
        part_of: None,
    }
}

/// With optimisation this took 7 ms; the margin is for busy machines.
#[test]
fn a_hundred_devices_and_countries_are_quickly_rendered() {
    let shared = Arc::new(Shared::new(State::new(Setup::default()), Duration::from_secs(1)));
    let metrics = Metrics::new(Arc::clone(&shared));
    let mut sinks = Sinks::new(shared, Policy::default());
    let devices: Vec<_> = (0..100).map(device).collect();
    let letter = |n: u32| b'A' + u8::try_from(n % 26).unwrap();
    let flows = (0..10_000).map(|n: u32| {
        let (device, place) = (n / 100, n % 100);
        let far = Far {
            country: Country::Iso([letter(place / 26), letter(place)]),
            asn: 64_512 + place,
            operator: "Example Net",
            prefix: Some(format!("10.{device}.{place}.0/24").parse().unwrap()),
            ..Far::default()
        };
        fixture::flow(device, Direction::Tx, &far, 123_456, 123_456_789)
    });
    sinks.publish(&fixture::record(1, flows.collect()), &devices, EpochTimes::default());
    let render = || {
        let began = Instant::now();
        let text = metrics.render(Format::OpenMetrics);
        (began.elapsed(), text)
    };
    // The best of two seconds: the machine may have other things to do.
    let deadline = Instant::now() + Duration::from_secs(2);
    let (mut took, text) = render();
    while Instant::now() < deadline {
        took = took.min(render().0);
    }
    let series = parse(&text);
    let label_sets = series.keys().filter(|s| s.starts_with("labgate_device_bytes_total{"));
    assert_eq!(label_sets.count(), 2 * 100 * 100);
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 200 });
    assert!(took < bound, "{} series, {} bytes in {took:?}", series.len(), text.len());
}

#[test]
fn the_largest_of_the_new_prefixes_get_the_labels() {
    let setup = Setup {
        limits: Limits { prefixes_per_device: 2, ..Limits::default() },
        ..Setup::default()
    };
    let mut state = State::new(setup);
    let flow = |net: u32, bytes| {
        let prefix = Some(format!("10.0.{net}.0/24").parse().unwrap());
        fixture::flow(0, Direction::Tx, &Far { prefix, ..Far::default() }, 1, bytes)
    };
    // The third has the most, in two flows.
    let flows = vec![flow(1, 100), flow(2, 900), flow(3, 600), flow(3, 500)];
    state.apply(&fixture::record(1, flows), &fixture::devices());
    state.apply(&fixture::record(2, vec![flow(4, 9000)]), &fixture::devices());
    let device = state.devices().next().unwrap();
    let mut labels: Vec<_> =
        device.series().unwrap().prefixes().map(|(p, _)| p.to_string()).collect();
    labels.sort();
    assert_eq!(labels, ["10.0.2.0/24", "10.0.3.0/24", "other"]);
}
