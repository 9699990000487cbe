//! The alert rules with real Prometheus and Alertmanager: each contact that is not allowed is a
//! notification, in time and once, whatever is restarted meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use xtask::{
    bench::{
        Bench, Options,
        plan::{CHINA, CLOUD_SG, GERMANY, INDIA},
    },
    stack::{Notified, Stack},
};

use crate::sensor::{Config, PATIENCE, Sensor, send_udp};

const INTERVAL: Duration = Duration::from_secs(1);
/// Two scrapes and an evaluation, `group_wait` or `group_interval` of Alertmanager, and the epoch;
/// Prometheus hands alerts on within another second.
const IN_TIME: Duration = Duration::from_secs(2 + 1 + 5 + 1 + 1);
/// How long an episode lasts after its last packet, in place of ten minutes.
const EPISODE: Duration = Duration::from_secs(20);
const FAST: [(&str, &str); 2] = [("[15m]", "[30s]"), ("< 600", "< 20")];

/// What has been notified so far.
#[derive(Debug, Default)]
struct Notifications {
    /// Beginnings of the episodes of each alert.
    fired: BTreeMap<(String, String, String), BTreeSet<String>>,
    resolved: BTreeSet<(String, String, String)>,
}

impl Notifications {
    fn take(&mut self, alerts: Vec<Notified>) {
        for alert in alerts {
            let key = ["alertname", "device", "country"].map(|name| alert.label(name).to_owned());
            let key: (String, String, String) = key.into();
            if alert.status == "resolved" {
                self.resolved.insert(key);
            } else {
                self.fired.entry(key).or_default().insert(alert.starts_at);
            }
        }
    }

    /// Takes what comes until `done` or until the time is up; tells how long it took.
    fn until(
        &mut self,
        stack: &Stack<'_>,
        patience: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let began = Instant::now();
        while !done(self) {
            let left = patience.checked_sub(began.elapsed())?;
            self.take(stack.notification(left)?);
        }
        Some(began.elapsed())
    }

    fn has(&self, device: &str, country: &str) -> bool {
        self.fired.contains_key(&key(device, country))
    }
}

fn key(device: &str, country: &str) -> (String, String, String) {
    ("LabGateCountryNotAllowed".to_owned(), device.to_owned(), country.to_owned())
}

/// Prometheus finds whom to ask five seconds after its start.
fn wait_for_a_scrape(stack: &Stack<'_>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !stack.query("up").unwrap().contains("\"1\"]") {
        assert!(Instant::now() < deadline, "{}", stack.output());
        thread::sleep(INTERVAL / 4);
    }
}

#[test]
fn each_forbidden_contact_is_one_notification() {
    if !xtask::require_root("each_forbidden_contact_is_one_notification") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let config = Config { allowed_countries: "[IN]", ..Config::default() };
    let sensor = Sensor::start(&bench, &config);
    let mut stack = Stack::start(bench.gateway(), bench.dir(), INTERVAL, &FAST).unwrap();
    let mut seen = Notifications::default();
    let [galaxy, iphone] = ["galaxy", "iphone"].map(|name| bench.device(name));

    wait_for_a_scrape(&stack, PATIENCE);
    // What is allowed is nobody's business.
    for _ in 0..5 {
        send_udp(galaxy, INDIA.ipv4, 9);
        thread::sleep(INTERVAL);
    }
    assert_eq!(stack.notification(Duration::ZERO), None);

    // One packet is enough.
    send_udp(iphone, CHINA.ipv4, 9);
    let in_time = seen.until(&stack, IN_TIME, |seen| seen.has("iphone", "CN"));
    assert!(in_time.is_some(), "{seen:?}\n{}", stack.output());
    // One that goes on for as long as all of this takes.
    let busy = galaxy.spawn(&["ping", "-q", "-i", "0.5", CHINA.ipv4]).unwrap();
    let in_time = seen.until(&stack, IN_TIME, |seen| seen.has("galaxy", "CN"));
    assert!(in_time.is_some(), "{seen:?}\n{}", stack.output());

    // Nobody looks, or nobody can be told, for a while.
    stack.stop_alertmanager().unwrap();
    send_udp(galaxy, GERMANY.ipv4, 9);
    thread::sleep(4 * INTERVAL);
    stack.start_alertmanager().unwrap();
    // It forgets what fires, and Prometheus says so again every fourth time.
    let told = seen.until(&stack, PATIENCE, |seen| seen.has("galaxy", "DE"));
    assert!(told.is_some(), "{seen:?}\n{}", stack.output());
    seen.until(&stack, 6 * INTERVAL, |_| false);
    stack.stop_prometheus().unwrap();
    send_udp(galaxy, CLOUD_SG.ipv4, 9);
    thread::sleep(4 * INTERVAL);
    stack.start_prometheus().unwrap();
    let told = seen.until(&stack, PATIENCE, |seen| seen.has("galaxy", "SG"));
    assert!(told.is_some(), "{seen:?}\n{}", stack.output());

    // A sensor that begins anew finds the same contact again, and calls another packet the first.
    sensor.stop();
    let sensor = Sensor::start(&bench, &config);
    seen.until(&stack, EPISODE, |_| false);
    drop(busy);
    let over = EPISODE + 6 * INTERVAL + IN_TIME;
    let resolved = seen
        .until(&stack, over, |seen| seen.fired.keys().all(|alert| seen.resolved.contains(alert)));
    assert!(resolved.is_some(), "{seen:?}\n{}", stack.output());
    assert_eq!(stack.notification(2 * INTERVAL), None, "after all are resolved");

    let fired: Vec<_> = seen.fired.iter().map(|(alert, began)| (alert, began.len())).collect();
    let expected = [("galaxy", "CN"), ("galaxy", "DE"), ("galaxy", "SG"), ("iphone", "CN")]
        .map(|(d, c)| key(d, c));
    assert_eq!(fired, expected.each_ref().map(|alert| (alert, 1)), "{}", stack.output());
    sensor.stop();
}

/// Between two scrapes, and between two evaluations, as they are shipped.
const SHIPPED: Duration = Duration::from_secs(15);
/// How long an episode lasts after its last packet, as it is shipped.
const SHIPPED_EPISODE: Duration = Duration::from_mins(10);

#[test]
#[ignore = "takes 25 minutes: cargo test -p labgate --test daemon -- --ignored --nocapture"]
fn as_shipped_it_is_silent_about_what_is_allowed_and_in_time_about_the_rest() {
    if !xtask::require_root(
        "as_shipped_it_is_silent_about_what_is_allowed_and_in_time_about_the_rest",
    ) {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    // That the databases are old is not what this is about.
    let more = "databases: {max_age: 3650d}".to_owned();
    let config = Config { allowed_countries: "[IN]", epoch: "1s", more, ..Config::default() };
    let sensor = Sensor::start(&bench, &config);
    let stack = Stack::start(bench.gateway(), bench.dir(), SHIPPED, &[]).unwrap();
    wait_for_a_scrape(&stack, 4 * SHIPPED);
    let allowed = ["galaxy", "redmi-note", "smart-plug"]
        .map(|name| bench.device(name).spawn(&["ping", "-q", "-i", "0.5", INDIA.ipv4]).unwrap());
    assert_eq!(stack.notification(SHIPPED_EPISODE), None);

    // At other moments between two scrapes each time, while what is allowed goes on.
    let mut seen = Notifications::default();
    let contacts = [
        ("iphone", CHINA.ipv4, "CN"),
        ("galaxy", CHINA.ipv4, "CN"),
        ("galaxy", GERMANY.ipv4, "DE"),
        ("smart-plug", CLOUD_SG.ipv4, "SG"),
        ("redmi-note", GERMANY.ipv4, "DE"),
    ];
    for (part, (device, host, country)) in (1..).zip(contacts) {
        thread::sleep(part * SHIPPED / 4);
        send_udp(bench.device(device), host, 9);
        let took = seen.until(&stack, 3 * SHIPPED, |seen| seen.has(device, country));
        println!("{device} and {country}: {took:?}");
        assert!(took.is_some(), "{seen:?}\n{}", stack.output());
    }
    let over = SHIPPED_EPISODE + 6 * SHIPPED;
    let resolved = seen.until(&stack, over, |seen| seen.resolved.len() == contacts.len());
    println!("resolved: {resolved:?}");
    assert!(resolved.is_some(), "{seen:?}\n{}", stack.output());
    assert_eq!(stack.notification(2 * SHIPPED), None, "after all are resolved");
    assert!(seen.fired.values().all(|began| began.len() == 1), "{seen:?}");
    assert!(seen.fired.keys().eq(&seen.resolved), "{seen:?}");
    drop(allowed);
    sensor.stop();
}
