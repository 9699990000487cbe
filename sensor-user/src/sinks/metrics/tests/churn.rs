//! An hour in fast motion, with devices, prefixes, operators and countries that come and go.

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::{
    model::{DeviceId, DeviceInfo, DeviceKind, Flow, Tally},
    state::Setup,
};

const LIMIT: usize = 3000;
const EXPIRATION: Duration = Duration::from_secs(120);
const HOUR: u32 = 3600;
/// Seconds between two scrapes; shorter than a quarter of the expiration.
const SCRAPE: u32 = 15;
const CONFIGURED: u32 = 6;
/// Unknown devices; each is there for a while.
const UNKNOWN: u32 = 300;
const POOL: u32 = CONFIGURED + UNKNOWN;

/// xorshift64: the same hour in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn devices() -> Vec<DeviceInfo> {
    let device = |id: u32| DeviceInfo {
        id: DeviceId(id),
        name: format!("device-{id}").into(),
        macs: Vec::new(),
        vendor: "".into(),
        group: "".into(),
        kind: match id {
            POOL => DeviceKind::Pool,
            id if id < CONFIGURED => DeviceKind::Configured,
            _ => DeviceKind::Unknown,
        },
        part_of: None,
    };
    (0..=POOL).map(device).collect()
}

/// A flow whose far end is one of those in fashion at this time.
fn flow(random: &mut Random, second: u32) -> Flow {
    let device = match random.below(10) {
        0 => POOL,
        1..=3 => CONFIGURED + (second * UNKNOWN / HOUR + random.below(4)) % UNKNOWN,
        _ => random.below(CONFIGURED),
    };
    let fashion = second / 90;
    let place = (fashion + random.below(4)) % 200;
    let letter = |n: u32| b'A' + u8::try_from(n % 26).unwrap();
    // Every few minutes an old one comes back.
    let net =
        if random.below(200) == 0 { random.below(60) } else { fashion * 5 + random.below(20) };
    let far = Far {
        country: Country::Iso([letter(place / 26), letter(place)]),
        asn: fashion * 3 + random.below(8),
        operator: "Example Net",
        prefix: Some(format!("10.{}.{}.0/24", net / 256, net % 256).parse().unwrap()),
        watched: random.below(100) == 0,
        ..Far::default()
    };
    let direction = if random.below(2) == 0 { Direction::Tx } else { Direction::Rx };
    let packets = u64::from(1 + random.below(50));
    let far = if random.below(30) == 0 { Far::default() } else { far };
    fixture::flow(device, direction, &far, packets, packets * u64::from(60 + random.below(1400)))
}

/// The value of a label.
fn label<'a>(series: &'a str, name: &str) -> &'a str {
    let (_, rest) = series.split_once(&format!("{name}=\"")).unwrap();
    rest.split_once('"').unwrap().0
}

fn sum(series: &BTreeMap<String, f64>, family: &str, chosen: impl Fn(&str) -> bool) -> f64 {
    let start = format!("labgate_{family}{{");
    series.iter().filter(|(s, _)| s.starts_with(&start) && chosen(s)).map(|(_, v)| v).sum()
}

#[expect(clippy::cast_precision_loss, reason = "an hour's packets fit")]
fn float(count: u64) -> f64 {
    count as f64
}

/// What Prometheus' `increase` makes of a family since the beginning, and of the last sample of each
/// of its series: a first sample is none, one that is smaller is a reset.
#[derive(Default)]
struct Increase {
    last: HashMap<String, f64>,
    sum: f64,
}

impl Increase {
    fn scrape(&mut self, series: &BTreeMap<String, f64>, family: &str) {
        for (name, now) in series.iter().filter(|(name, _)| name.starts_with(family)) {
            if let Some(before) = self.last.insert(name.clone(), *now) {
                self.sum += if *now >= before { now - before } else { *now };
            }
        }
    }
}

/// What the recording rules make of a family since the beginning: what grew, and in full what began after the epoch that
/// the scrape before saw last.
#[derive(Default)]
struct Added {
    /// Value and beginning of each counter at the last scrape.
    last: HashMap<String, (f64, f64)>,
    looked: f64,
    sum: f64,
}

impl Added {
    fn scrape(&mut self, series: &BTreeMap<String, f64>, family: &str) {
        let created = family.replace("bytes_total", "counters_created_timestamp_seconds");
        let mut seen = HashMap::new();
        for (name, now) in series.iter().filter(|(name, _)| name.starts_with(family)) {
            if name.contains("=\"expired ") {
                continue;
            }
            let direction = format!("direction=\"{}\",", label(name, "direction"));
            let began = series[&name.replace(family, &created).replace(&direction, "")];
            self.sum += match self.last.get(name) {
                Some((before, then)) if *then == began => now - before,
                _ if began >= self.looked => *now,
                _ => 0.0,
            };
            seen.insert(name.clone(), (*now, began));
        }
        self.last = seen;
        self.looked = series["labgate_last_epoch_timestamp_seconds"];
    }
}

#[test]
fn an_hour_of_churn() {
    let limits = Limits {
        prefixes_per_device: 10,
        series: LIMIT,
        series_expiration: Some(EXPIRATION),
        ..Limits::default()
    };
    let state = State::new(Setup { limits, ..Setup::default() });
    let shared = Arc::new(Shared::new(state, Duration::from_secs(1)));
    let metrics = Metrics::new(Arc::clone(&shared));
    let mut sinks = Sinks::new(shared, Policy::default());
    let (mut random, devices) = (Random(0x1ab6_a7e5_eed0_0005), devices());
    let mut books = [Tally::default(); 2];
    let mut by_country = HashMap::<_, u64>::new();
    let mut before = BTreeMap::<String, f64>::new();
    let mut ever = BTreeSet::new();
    let mut most = 0;
    let families = ["labgate_device_bytes_total", "labgate_device_prefix_bytes_total"];
    let mut increases = [Increase::default(), Increase::default()];
    let mut amounts = [Added::default(), Added::default()];

    for second in 1..=HOUR {
        let flows: Vec<_> = (0..30).map(|_| flow(&mut random, second)).collect();
        for flow in &flows {
            books[flow.direction as usize].add(&flow.tally);
            *by_country.entry(flow.attribution.country).or_default() += flow.tally.packets;
        }
        let mut record = fixture::record(second, flows);
        // Those of the fixture are not cumulative.
        record.interfaces.clear();
        sinks.publish(&record, &devices, EpochTimes::default());
        if second % SCRAPE != 0 {
            continue;
        }
        let format = if second % 2 == 0 { Format::Prometheus } else { Format::OpenMetrics };
        let series = parse(&metrics.render(format));

        most = most.max(series.len());
        assert!(series.len() <= LIMIT, "{} series at {second} s", series.len());
        assert!(
            float(series.len() as u64) <= series["labgate_series"],
            "some are not accounted for"
        );

        for (name, value) in &before {
            let counter = name.split('{').next().is_some_and(|name| name.ends_with("_total"));
            let now = series.get(name).unwrap_or(value);
            assert!(!counter || now >= value, "{name} went from {value} to {now} at {second} s");
        }

        for (direction, tally) in [("tx", &books[0]), ("rx", &books[1])] {
            let of = |family: &str| sum(&series, family, |s| label(s, "direction") == direction);
            assert_eq!(of("device_packets_total"), float(tally.packets), "at {second} s");
            assert_eq!(of("device_bytes_total"), float(tally.bytes), "at {second} s");
            assert_eq!(of("device_payload_bytes_total"), float(tally.payload), "at {second} s");
            assert_eq!(of("device_prefix_packets_total"), float(tally.packets), "at {second} s");
            assert_eq!(of("device_prefix_bytes_total"), float(tally.bytes), "at {second} s");
        }
        assert_eq!(series["labgate_seen_bytes_total"], float(books[0].bytes + books[1].bytes));

        // No packet is counted as an increase twice, whatever expires.
        for (family, increase) in families.iter().zip(&mut increases) {
            increase.scrape(&series, family);
            let most = float(books[0].bytes + books[1].bytes);
            assert!(increase.sum <= most, "{family} by {} of {most} at {second} s", increase.sum);
        }
        // Those who ask when a counter began miss none.
        for (family, amount) in families.iter().zip(&mut amounts) {
            amount.scrape(&series, family);
            let all = float(books[0].bytes + books[1].bytes);
            assert_eq!(amount.sum, all, "{family} at {second} s");
        }
        ever.extend(series.keys().cloned());
        before = series;
    }

    // The bound was felt, and all that can happen did.
    assert!(most > LIMIT * 9 / 10, "{most}");
    assert!(ever.len() > 3 * LIMIT, "{}", ever.len());
    for what in ["label_set", "prefix", "device"] {
        let expired = before[&format!("labgate_expired_total{{what=\"{what}\"}}")];
        assert!(expired > 50.0, "{what}: {expired}");
    }
    for detail in ["operator", "prefix", "device"] {
        let folded = sum(&before, "device_folded_packets_total", |s| label(s, "detail") == detail);
        assert!(folded > 0.0, "{detail}");
    }
    for increase in &increases {
        let share = increase.sum / float(books[0].bytes + books[1].bytes);
        assert!(share > 0.5, "only {share} of the traffic is an increase");
    }
    // What kept its country kept all of it.
    let other = sum(&before, "device_packets_total", |s| label(s, "country") == "other");
    let countries: f64 = by_country
        .iter()
        .map(|(country, packets)| {
            let counted =
                sum(&before, "device_packets_total", |s| label(s, "country") == country.as_str());
            assert!(counted <= float(*packets), "{country}");
            counted
        })
        .sum();
    assert_eq!(countries + other, float(books[0].packets + books[1].packets));
}

/// A label set that is in use is never given up, one that is not is, and it may come back.
#[test]
fn what_is_idle_expires_and_may_come_back() {
    let limits = Limits { series_expiration: Some(EXPIRATION), ..Limits::default() };
    let state = State::new(Setup { limits, ..Setup::default() });
    let shared = Arc::new(Shared::new(state, Duration::from_secs(1)));
    let metrics = Metrics::new(Arc::clone(&shared));
    let mut sinks = Sinks::new(shared, Policy::default());
    let mut scrape = |second, busy: &[u32]| {
        let flow = |asn: &u32| {
            let prefix = Some(format!("10.0.{asn}.0/24").parse().unwrap());
            let far = Far { country: fixture::country("CN"), asn: *asn, prefix, ..Far::default() };
            fixture::flow(0, Direction::Tx, &far, 1, 100)
        };
        let record = fixture::record(second, busy.iter().map(flow).collect());
        sinks.publish(&record, &fixture::devices(), EpochTimes::default());
        let series = parse(&metrics.render(Format::Prometheus));
        let chosen = |(name, value): (&String, &f64)| {
            let of = |family: &str, of: &str| {
                name.starts_with(family).then(|| label(name, of).to_owned())
            };
            let found = of("labgate_device_packets_total{device=\"redmi\",direction=\"tx\"", "asn")
                .or_else(|| {
                    of(
                        "labgate_device_prefix_packets_total{device=\"redmi\",direction=\"tx\"",
                        "prefix",
                    )
                });
            found.map(|found| (found, *value)).filter(|(_, value)| *value > 0.0)
        };
        series.iter().filter_map(chosen).collect::<Vec<_>>()
    };
    let expect = |found: Vec<(String, f64)>, expected: &[(&str, f64)]| {
        let found: Vec<_> = found.iter().map(|(label, value)| (label.as_str(), *value)).collect();
        assert_eq!(found, expected);
    };

    expect(
        scrape(1, &[1, 2]),
        &[("1", 1.0), ("2", 1.0), ("10.0.1.0/24", 1.0), ("10.0.2.0/24", 1.0)],
    );
    scrape(60, &[2]);
    expect(
        scrape(130, &[2]),
        &[
            ("2", 3.0),
            ("expired 2026-01-01T00:02:10.000Z", 1.0),
            ("10.0.2.0/24", 3.0),
            ("expired 2026-01-01T00:02:10.000Z", 1.0),
        ],
    );
    // It rests: a scrape that finds it at once would see its counter go back.
    expect(
        scrape(131, &[1]),
        &[
            ("2", 3.0),
            ("expired 2026-01-01T00:02:10.000Z", 1.0),
            ("other", 1.0),
            ("10.0.2.0/24", 3.0),
            ("expired 2026-01-01T00:02:10.000Z", 1.0),
            ("other", 1.0),
        ],
    );
    scrape(170, &[2]);
    expect(
        scrape(171, &[1]),
        &[
            ("1", 1.0),
            ("2", 4.0),
            ("expired 2026-01-01T00:02:10.000Z", 1.0),
            ("other", 1.0),
            ("10.0.1.0/24", 1.0),
            ("10.0.2.0/24", 4.0),
            ("expired 2026-01-01T00:02:10.000Z", 1.0),
            ("other", 1.0),
        ],
    );
    // What expires next takes the first along, under another name.
    expect(
        scrape(400, &[]),
        &[
            ("expired 2026-01-01T00:06:40.000Z", 6.0),
            ("other", 1.0),
            ("expired 2026-01-01T00:06:40.000Z", 6.0),
            ("other", 1.0),
        ],
    );
}
