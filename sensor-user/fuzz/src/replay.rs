//! Captures: any octets are a file that `labgate replay` is given.

use std::{io::Cursor, sync::LazyLock};

use labgate::{
    config::{self, Config},
    join::geo::GeoDb,
    reload::open_geo,
    replay::{EngineKind, Replay, capture::Capture},
    state::{Detail, Setup},
};

const CONFIG: &str = "
interfaces: [lan0]
devices:
  - {name: redmi, mac: 64:09:80:12:34:56, group: phones}
policy:
  groups:
    phones: {allowed_countries: [IN]}
  watched_prefixes: [42.62.48.0/24]
limits: {unknown_devices: 8, destinations_per_device: 16}
";

/// Opening the databases takes longer than all the rest.
static BENCH: LazyLock<(Config, GeoDb)> = LazyLock::new(|| {
    let config = config::parse(CONFIG, "fuzz.yaml").unwrap();
    let geo = open_geo(&config).unwrap();
    (config, geo)
});

/// Replays octets as a capture, and holds the report against itself.
pub fn check(octets: &[u8]) {
    let (config, geo) = &*BENCH;
    let setup = Setup::new(config, geo);
    let mut replay = Replay::new(config, setup, geo.clone(), EngineKind::Host).unwrap();
    let capture = Capture::new(Box::new(Cursor::new(octets.to_vec())));
    let fault = replay.add("fuzz", capture).unwrap();
    let report = replay.report(Detail::Address);

    let books = &report.books;
    assert!(books.closed, "{books:?}");
    let parts = [
        books.attributed_packets,
        books.coarse_packets,
        books.overflow_packets,
        books.unparsed_packets,
    ];
    assert_eq!(books.seen_packets, parts.iter().sum::<u64>());
    let captures = &report.replay.as_ref().unwrap().captures;
    let [capture] = &captures[..] else { panic!("one capture was replayed: {captures:?}") };
    assert_eq!((capture.packets, capture.bytes), (books.seen_packets, books.seen_bytes));
    assert_eq!(
        (capture.packets, capture.bytes),
        (books.interface_packets, books.interface_bytes),
        "the capture's own counters"
    );
    assert!(capture.from <= capture.to, "{capture:?}");
    assert_eq!(capture.problem, fault.map(|fault| fault.to_string()).unwrap_or_default());
    assert!(capture.problem.len() < 1024, "{}", capture.problem);
    assert!(!capture.problem.contains(char::is_control), "{:?}", capture.problem);
    let of_rows = |count: fn(&sensor_common::report::Destination) -> u64| {
        report.devices.iter().flat_map(|device| &device.destinations).map(count).sum::<u64>()
    };
    assert_eq!(of_rows(|row| row.tx_packets + row.rx_packets), books.seen_packets);
    assert_eq!(of_rows(|row| row.tx_bytes + row.rx_bytes), books.seen_bytes);
    serde_json::to_vec(&report).unwrap();
}
