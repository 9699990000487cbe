//! The policy: the first forbidden packet raises one alert, soon.

use std::{
    thread,
    time::{Duration, Instant},
};

use sensor_common::report::Alert;
use xtask::bench::{
    Bench, Options,
    plan::{ACCOUNT, GERMANY, INDIA, LAN0},
};

use crate::{
    SERIALLY,
    sensor::{Config, LABGATE, Sensor, URL, send_udp},
};

const EPOCH: Duration = Duration::from_secs(1);

#[test]
fn the_first_packet_raises_one_alert_within_an_epoch_and_a_second() {
    if !xtask::require_root("the_first_packet_raises_one_alert_within_an_epoch_and_a_second") {
        return;
    }
    let _serially = SERIALLY.lock();
    let bench = Bench::new(&Options::default()).unwrap();
    let config = Config { epoch: "1s", allowed_countries: "[IN]", ..Config::default() };
    let sensor = Sensor::start(&bench, &config);
    let phone = bench.device("redmi-1s");

    // Allowed, private, multicast, broadcast, link-local: no alert.
    for to in [INDIA.ipv4, INDIA.ipv6.unwrap(), LAN0.gateway4, LAN0.gateway6, "239.1.2.3"] {
        send_udp(phone, to, 9);
    }
    assert_eq!(sensor.settled().alerts, []);
    assert_eq!(
        sensor.metric("labgate_alerts_total{rule=\"country_not_allowed\""),
        ["labgate_alerts_total{rule=\"country_not_allowed\",severity=\"critical\"} 0"]
    );

    let sent = Instant::now();
    send_udp(phone, GERMANY.ipv4, 9);
    let alert = loop {
        if let Some(alert) = sensor.report().alerts.pop() {
            break alert;
        }
        let late = sent.elapsed();
        assert!(late < EPOCH + Duration::from_secs(1), "no alert after {late:?}");
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((&*alert.rule, &*alert.severity), ("country_not_allowed", "critical"));
    assert_eq!((&*alert.device, &*alert.country), ("redmi-1s", "DE"));

    // Further packets, another host there, the other family: the same breach.
    send_udp(phone, GERMANY.ipv4, 10);
    send_udp(phone, GERMANY.ipv6.unwrap(), 9);
    let alerts = sensor.settled().alerts;
    assert!(alerts[0].last_seen > alert.last_seen, "{alerts:?}");
    let last_seen = alerts[0].last_seen.clone();
    assert_eq!(alerts, [Alert { last_seen, ..alert }]);

    // Another country and another device are breaches of their own.
    send_udp(phone, ACCOUNT.ipv4, 9);
    send_udp(bench.device("smart-plug"), GERMANY.ipv4, 9);
    let alerts = sensor.settled().alerts;
    let mut raised: Vec<_> = alerts.iter().map(|a| (&*a.device, &*a.country)).collect();
    raised.sort_unstable();
    assert_eq!(raised, [("redmi-1s", "CN"), ("redmi-1s", "DE"), ("smart-plug", "DE")]);
    assert_eq!(
        sensor.metric("labgate_alerts_total{rule=\"country_not_allowed\""),
        ["labgate_alerts_total{rule=\"country_not_allowed\",severity=\"critical\"} 3"]
    );
    let status = bench.gateway().run(&[LABGATE, "status", "--url", URL]).unwrap();
    let lines: Vec<_> = status.lines().filter(|line| line.starts_with("ALERT critical")).collect();
    let named = |line: &&&str| line.contains("DE 88.198.0.0/17  AS24940 Hetzner");
    assert!(lines.len() == 3 && lines.iter().filter(named).count() == 2, "{status}");
    let log = sensor.stop();
    assert!(log.contains("24940"), "{log}");
    assert_eq!(log.matches("policy breached").count(), 3, "{log}");
}
