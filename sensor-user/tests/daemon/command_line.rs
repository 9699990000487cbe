//! `labgate status` and `labgate check`.

use sensor_common::report::{REPORT_VERSION, Report};
use xtask::bench::{Bench, Options, plan::INDIA};

use crate::{
    hooks::assert_nothing_attached,
    sensor::{Config, LABGATE, Sensor, URL, device, send_udp},
};

#[test]
fn status_shows_what_a_running_sensor_counted() {
    if !xtask::require_root("status_shows_what_a_running_sensor_counted") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let config = Config::default();
    let path = config.write(bench.dir()).display().to_string();
    // The sensor is near; a proxy for the rest of the world is none for it.
    let labgate = ["env", "http_proxy=http://127.0.0.1:9", LABGATE, "status"];
    let status = |options: &[&str]| gateway.run(&[&labgate, options].concat());

    let error = status(&["--url", URL]).unwrap_err().to_string();
    assert!(error.contains("no sensor answers"), "{error}");

    let sensor = Sensor::start(&bench, &config);
    send_udp(bench.device("galaxy"), INDIA.ipv4, 9);
    sensor.settled();

    let table = status(&["--config", &path]).unwrap();
    let line = table.lines().skip_while(|line| !line.starts_with("galaxy (8c:77:12:5a:11:04"));
    let line = line.skip(1).take_while(|line| line.starts_with("  "));
    let line: Vec<_> = line.filter(|line| line.trim_start().starts_with("IN ")).collect();
    assert!(line.iter().any(|line| line.contains("udp/9") && line.contains("AS")), "{table}");
    assert!(!table.contains(INDIA.ipv4), "prefixes: {table}");
    assert!(table.contains("books closed"), "{table}");
    assert!(status(&["--url", URL, "--detail", "address"]).unwrap().contains(INDIA.ipv4));

    for (options, exact) in [(&[][..], false), (&["--detail", "address"], true)] {
        let text = status(&[&["--json", "--url", URL], options].concat()).unwrap();
        let report: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(report.version, REPORT_VERSION);
        let rows = &device(&report, "galaxy").destinations;
        let row = rows.iter().find(|row| row.country == "IN" && row.protocol == "udp").unwrap();
        assert_eq!((&*row.protocol, row.port, row.tx_packets, row.tx_bytes), ("udp", 9, 1, 47));
        assert_eq!(row.address.as_deref(), exact.then_some(INDIA.ipv4));
        assert!(row.prefix.contains('/') && row.asn != 0 && !row.operator.is_empty(), "{row:?}");
        assert!(!report.attribution.is_empty());
    }
    sensor.stop();
}

#[test]
fn check_finds_what_would_stop_a_start() {
    if !xtask::require_root("check_finds_what_would_stop_a_start") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let check = |config: &Config| {
        let path = config.write(bench.dir()).display().to_string();
        bench.gateway().run(&[LABGATE, "check", "--config", &path]).map_err(|e| e.to_string())
    };
    let good = check(&Config::default()).unwrap();
    assert!(good.ends_with(": ok\n") && good.contains("database: country"), "{good}");
    assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);

    let bad = [
        Config { interfaces: vec!["{ name: lan7 }".to_owned()], ..Config::default() },
        Config { more: "databases: { country: missing.mmdb }".to_owned(), ..Config::default() },
        Config { more: "speling: true".to_owned(), ..Config::default() },
    ];
    for config in bad {
        let error = check(&config).unwrap_err();
        assert!(error.contains("exit status: 1") && error.contains("labgate: "), "{error}");
    }
    assert!(bench.gateway().run(&[LABGATE, "check", "--config", "/nonexistent"]).is_err());
}
