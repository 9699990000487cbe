//! Random link events under traffic.

use std::{
    env, fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sensor_common::report::{Coverage, Interface, Report};
use xtask::bench::{Bench, Options, plan::GERMANY};

use crate::{
    SERIALLY,
    hooks::assert_nothing_attached,
    sensor::{Config, PATIENCE, Sensor, device, send_udp, sum},
};

/// How many events there are.
const EVENTS: &str = "LABGATE_LINK_EVENTS";
/// Where the series of events begins.
const SEED: &str = "LABGATE_LINK_SEED";
/// Clocks tell milliseconds.
const ROUNDING: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Switch,
    Mtu,
    Rename,
    Bridge,
    Delete,
    Create,
}

/// The link that the events happen to.
#[derive(Debug)]
struct Link {
    exists: bool,
    renamed: bool,
    bridged: bool,
    up: bool,
    mtu: u64,
}

/// A span of coverage as it should be: its end, and between which times it began and ended, in Unix
/// milliseconds.
#[derive(Debug)]
struct Expected {
    from: (u64, u64),
    to: Option<(&'static str, u64, u64)>,
}

impl Link {
    const fn name(&self) -> &'static str {
        if self.renamed { "office" } else { "lan0" }
    }

    const fn is_watched(&self) -> bool {
        self.exists && !self.bridged
    }

    /// Whether this can happen to it now.
    const fn allows(&self, event: Event) -> bool {
        match event {
            Event::Create => !self.exists,
            _ => self.exists,
        }
    }

    /// Makes it happen.
    fn apply(&mut self, event: Event, bench: &Bench, random: u64) {
        let gateway = bench.gateway();
        let old = self.name();
        match event {
            Event::Switch => {
                self.up = !self.up;
                gateway.ip(&format!("link set {old} {}\n", if self.up { "up" } else { "down" }))
            }
            Event::Mtu => {
                self.mtu = 1280 + random % 221;
                gateway.ip(&format!("link set {old} mtu {}\n", self.mtu))
            }
            Event::Rename => {
                self.renamed = !self.renamed;
                gateway.ip(&format!("link set {old} name {}\n", self.name()))
            }
            Event::Bridge => {
                self.bridged = !self.bridged;
                let to = if self.bridged { "master br-lan" } else { "nomaster" };
                gateway.ip(&format!("link set {old} {to}\n"))
            }
            Event::Delete => {
                self.exists = false;
                gateway.ip(&format!("link del {old}\n"))
            }
            Event::Create => {
                *self = Self { exists: true, ..Self::NEW };
                bench.plug_lan0()
            }
        }
        .unwrap();
    }

    const NEW: Self = Self { exists: true, renamed: false, bridged: false, up: true, mtu: 1500 };

    /// What the report should say of it.
    fn is_reported(&self, report: &Report) -> bool {
        let lan0 = interface(report, "lan0");
        lan0.watched == self.is_watched()
            && (!self.is_watched()
                || (lan0.link.as_str(), lan0.up, u64::from(lan0.mtu))
                    == (self.name(), self.up, self.mtu))
    }
}

fn interface<'a>(report: &'a Report, name: &str) -> &'a Interface {
    report.interfaces.iter().find(|interface| interface.name == name).unwrap()
}

fn setting<T: std::str::FromStr>(variable: &str, default: T) -> T {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn unix_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn millis(time: &str) -> u64 {
    let time = humantime::parse_rfc3339(time).unwrap();
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[track_caller]
fn check(span: &Coverage, expected: &Expected) {
    let within = |time: &str, (earliest, latest): (u64, u64)| {
        (earliest.saturating_sub(ROUNDING)..=latest + ROUNDING).contains(&millis(time))
    };
    assert!(within(&span.from, expected.from), "{span:?} {expected:?}");
    match expected.to {
        None => assert_eq!((span.to.as_str(), span.end.as_str()), ("", "")),
        Some((end, earliest, latest)) => {
            assert_eq!(span.end, end, "{span:?} {expected:?}");
            assert!(within(&span.to, (earliest, latest)), "{span:?} {expected:?}");
        }
    }
}

#[test]
fn random_link_events_lose_nothing_and_coverage_tells_them() {
    if !xtask::require_root("random_link_events_lose_nothing_and_coverage_tells_them") {
        return;
    }
    let _serially = SERIALLY.lock();
    let (events, seed) = (setting(EVENTS, 200_u32), setting(SEED, 0x5eed_u64));
    println!("{EVENTS}={events} {SEED}={seed}");
    let bench = Bench::new(&Options { lan_offloads: false, lan_up: false }).unwrap();
    let gateway = bench.gateway();
    gateway.ip("link add br-lan type bridge\nlink set br-lan up\n").unwrap();
    let mut config = Config::default();
    config.interfaces.push("{ name: br-lan, attach: tc }".to_owned());
    let began = unix_millis();
    let sensor = Sensor::start(&bench, &config);
    let mut spans = vec![Expected { from: (began, unix_millis()), to: None }];
    bench.lan_up().unwrap();
    let descriptors =
        || fs::read_dir(format!("/proc/{}/fd", sensor.process.pid())).unwrap().count();
    let (phone, plug) = (bench.device("redmi-1s"), bench.device("smart-plug"));
    sensor.settled();
    let before = descriptors();

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for device in [phone, plug] {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    send_udp(device, GERMANY.ipv4, 9);
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        // Also after a failure, or the scope would wait for ever.
        let _stops = Stops(&stop);
        let mut link = Link::NEW;
        let mut random = seed | 1;
        for number in 0..events {
            // Marsaglia's xorshift64.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let all = [
                Event::Switch,
                Event::Mtu,
                Event::Rename,
                Event::Bridge,
                Event::Delete,
                Event::Create,
                Event::Create,
            ];
            let possible: Vec<_> = all.into_iter().filter(|event| link.allows(*event)).collect();
            let event = possible[usize::try_from(random >> 32).unwrap() % possible.len()];
            let (was_watched, at) = (link.is_watched(), unix_millis());
            link.apply(event, &bench, random >> 8);
            let is_watched = link.is_watched();
            // What changes nothing of the coverage may come in quick succession.
            if is_watched == was_watched && random % 2 == 0 {
                continue;
            }
            let deadline = Instant::now() + PATIENCE;
            while !link.is_reported(&sensor.report()) {
                let log = sensor.process.output();
                assert!(Instant::now() < deadline, "event {number}, {event:?}: {link:?}\n{log}");
                thread::sleep(Duration::from_millis(5));
            }
            let now = unix_millis();
            if was_watched && !is_watched {
                let end = if link.exists { "covered" } else { "gone" };
                spans.last_mut().unwrap().to = Some((end, at, now));
            } else if is_watched && !was_watched {
                spans.push(Expected { from: (at, now), to: None });
            }
        }
        if !link.exists {
            link.apply(Event::Create, &bench, 0);
        } else if link.bridged {
            link.apply(Event::Bridge, &bench, 0);
        }
        let deadline = Instant::now() + PATIENCE;
        while !link.is_reported(&sensor.report()) {
            assert!(Instant::now() < deadline, "{link:?}\n{}", sensor.process.output());
        }
    });

    let (report, [lan1]) = sensor.when_silent([(gateway, "lan1")]);
    assert!(report.books.closed);
    let lan0 = interface(&report, "lan0");
    assert!(lan0.coverage.len() >= spans.len() && lan0.coverage.len() <= spans.len() + 1);
    for (span, expected) in lan0.coverage.iter().zip(&spans) {
        check(span, expected);
    }
    for steady in ["lan1", "br-lan"] {
        assert_eq!(interface(&report, steady).coverage.len(), 1, "{report:?}");
    }
    // Nothing of it touched the other interface: every packet there is counted.
    let tx = sum(&device(&report, "smart-plug").destinations, |_| true).tx_packets;
    assert_eq!(tx, lan1.rx_packets);
    assert!(sum(&device(&report, "redmi-1s").destinations, |_| true).tx_packets > 0);
    // The sensor may be closing a connection, or was when it was asked first.
    let deadline = Instant::now() + PATIENCE;
    while descriptors() > before {
        assert!(Instant::now() < deadline, "a program or a link was not given back");
        thread::sleep(Duration::from_millis(20));
    }
    let log = sensor.stop();
    assert!(!log.contains("ERROR"), "{log}");
    let names = gateway.run(&["ip", "-j", "link", "show"]).unwrap();
    let names: serde_json::Value = serde_json::from_str(&names).unwrap();
    let names: Vec<_> =
        names.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap()).collect();
    assert_nothing_attached(gateway, &names);
}

/// Ends the traffic, however the test ends.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
