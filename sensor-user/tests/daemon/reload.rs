//! Configuration and databases, changed under a running daemon.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use mmdb_writer::{IpVersion, Value, Writer};
use nix::sys::signal::{Signal, kill};
use sensor_common::report::Report;
use xtask::bench::{
    Bench, Options,
    plan::{GERMANY, INDIA},
};

use crate::sensor::{Config, PATIENCE, Sensor, device, launch_file, send_udp};

/// Puts a file in the place of another at once, as editors and package managers do.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Starts a daemon whose configuration is at a known path.
fn start<'a>(bench: &'a Bench, config: &Config) -> (Sensor<'a>, PathBuf) {
    let path = bench.dir().join("reloaded.yaml");
    fs::write(&path, config.text()).unwrap();
    let process = launch_file(bench.gateway(), &path);
    (Sensor::ready(bench.gateway(), process), path)
}

/// Successes and failures so far.
fn attempts(sensor: &Sensor<'_>, what: &str) -> [u64; 2] {
    ["success", "failure"].map(|outcome| {
        let name = format!("labgate_reloads_total{{what=\"{what}\",outcome=\"{outcome}\"}} ");
        let lines = sensor.metric(&name);
        lines[0].strip_prefix(&name).unwrap().parse().unwrap()
    })
}

#[test]
fn a_changed_policy_holds_from_then_on_and_a_bad_one_never() {
    if !xtask::require_root("a_changed_policy_holds_from_then_on_and_a_bad_one_never") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let phone = bench.device("redmi-1s");
    let lenient = Config { allowed_countries: "[IN, DE]", ..Config::default() };
    let (mut sensor, path) = start(&bench, &lenient);
    send_udp(phone, GERMANY.ipv4, 9);
    assert_eq!(sensor.settled().alerts, []);

    // A file with errors, and one with a change that needs a restart: all stays as it is.
    fs::write(&path, lenient.text().replace("epoch:", "epcoh:")).unwrap();
    sensor.process.wait_for_output("did you mean `epoch`?", PATIENCE).unwrap();
    let elsewhere = Config { more: "listen: 127.0.0.1:9470".to_owned(), ..lenient.clone() };
    replace(&path, elsewhere.text());
    sensor.process.wait_for_output("`listen` can't change", PATIENCE).unwrap();
    assert_eq!(attempts(&sensor, "configuration"), [0, 2]);
    assert_eq!(sensor.metric("labgate_reload_last_successful{what=\"configuration\"}").len(), 1);
    send_udp(phone, GERMANY.ipv4, 9);
    assert_eq!(sensor.settled().alerts, []);

    // A stricter one, and devices that come, go and change their names.
    let strict = Config { allowed_countries: "[IN]", ..Config::default() };
    let text = strict.text().replace("name: redmi-1s", "name: old-phone");
    replace(&path, text);
    kill(sensor.process.pid(), Signal::SIGHUP).unwrap();
    sensor.process.wait_for_output("reloaded what=\"configuration\"", PATIENCE).unwrap();
    send_udp(phone, GERMANY.ipv4, 9);
    let report = sensor.settled();
    let alerts: Vec<_> = report.alerts.iter().map(|alert| alert.device.as_str()).collect();
    assert_eq!(alerts, ["old-phone"]);
    let row = device(&report, "old-phone")
        .destinations
        .iter()
        .find(|row| row.country == "DE" && row.protocol == "udp");
    assert_eq!(row.unwrap().tx_packets, 3, "what was counted under the old name is kept");
    assert!(report.devices.iter().all(|device| device.name != "redmi-1s"));
    assert!(report.books.closed);
    assert_eq!(attempts(&sensor, "configuration")[1], 2);
    sensor.stop();
}

#[test]
fn none_of_the_bad_configurations_replaces_a_running_one() {
    if !xtask::require_root("none_of_the_bad_configurations_replaces_a_running_one") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let phone = bench.device("redmi-1s");
    let lenient = Config { allowed_countries: "[IN, DE]", ..Config::default() };
    let (mut sensor, path) = start(&bench, &lenient);

    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad");
    let mut bad: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    bad.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    assert!(bad.len() >= 30, "{}", bad.len());
    for file in &bad {
        let failures = attempts(&sensor, "configuration")[1];
        let log = sensor.process.output().len();
        replace(&path, fs::read(file).unwrap());
        kill(sensor.process.pid(), Signal::SIGHUP).unwrap();
        // Its own complaint, and not one about a file before it.
        let complaint = fs::read_to_string(file.with_extension("txt")).unwrap();
        let complaint = complaint.lines().next().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !sensor.process.output()[log..].contains(complaint) {
            let log = sensor.process.output();
            assert!(Instant::now() < deadline, "{} is not refused: {log}", file.display());
            thread::sleep(Duration::from_millis(10));
        }
        while attempts(&sensor, "configuration")[1] == failures {
            assert!(Instant::now() < deadline, "{} is not counted", file.display());
            thread::sleep(Duration::from_millis(10));
        }
        send_udp(phone, GERMANY.ipv4, 9);
    }

    let report = sensor.settled();
    assert_eq!(report.alerts, []);
    assert!(report.books.closed);
    let german = |report: &Report| {
        let rows = &device(report, "redmi-1s").destinations;
        rows.iter().find(|row| row.country == "DE" && row.port == 9).unwrap().tx_packets
    };
    assert_eq!(german(&report), bad.len() as u64, "not a packet is lost");
    let [successes, failures] = attempts(&sensor, "configuration");
    assert!(successes == 0 && failures >= bad.len() as u64, "{failures}");

    // The policy would have changed with a good one.
    let strict = Config { allowed_countries: "[IN]", ..Config::default() };
    replace(&path, strict.text());
    kill(sensor.process.pid(), Signal::SIGHUP).unwrap();
    sensor.process.wait_for_output("reloaded what=\"configuration\"", PATIENCE).unwrap();
    send_udp(phone, GERMANY.ipv4, 9);
    assert_eq!(sensor.settled().alerts.len(), 1);
    sensor.stop();
}

/// A country database that knows one network.
fn database(country: &str) -> Vec<u8> {
    let address: Ipv4Addr = GERMANY.ipv4.parse().unwrap();
    let network = IpNet::new_assert(address.into(), 24).trunc();
    let mut writer = Writer::builder("Test-Country").ip_version(IpVersion::V6).build();
    let map = |key: &str, value| Value::from(BTreeMap::from([(key.to_owned(), value)]));
    let record = map("country", map("iso_code", Value::from(country)));
    writer.insert_value(network, record).unwrap();
    writer.to_bytes().unwrap()
}

#[test]
fn a_new_database_is_taken_and_a_damaged_one_is_not() {
    if !xtask::require_root("a_new_database_is_taken_and_a_damaged_one_is_not") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let phone = bench.device("redmi-1s");
    let file = bench.dir().join("country.mmdb");
    fs::write(&file, database("DE")).unwrap();
    let more = format!("databases:\n  country: {}\n", file.display());
    let (mut sensor, _path) = start(&bench, &Config { more, ..Config::default() });
    let countries = |sensor: &Sensor<'_>| {
        send_udp(phone, GERMANY.ipv4, 9);
        send_udp(phone, INDIA.ipv4, 9);
        let report = sensor.settled();
        let rows = &device(&report, "redmi-1s").destinations;
        let mut found: Vec<_> = rows
            .iter()
            .filter(|row| row.protocol == "udp" && row.port == 9)
            .map(|row| row.country.clone())
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(countries(&sensor), ["DE", "ZZ"]);

    replace(&file, &database("DE")[..100]);
    sensor.process.wait_for_output("is damaged", PATIENCE).unwrap();
    assert_eq!(countries(&sensor), ["DE", "ZZ"]);
    assert_eq!(attempts(&sensor, "databases"), [0, 1]);

    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    replace(&file, database("FR"));
    sensor.process.wait_for_output("reloaded what=\"databases\"", PATIENCE).unwrap();
    assert_eq!(countries(&sensor), ["DE", "FR", "ZZ"]);
    assert_eq!(attempts(&sensor, "databases"), [1, 1]);
    let name = "labgate_reload_last_success_timestamp_seconds{what=\"databases\"} ";
    let when: f64 = sensor.metric(name)[0].strip_prefix(name).unwrap().parse().unwrap();
    assert!(when >= before);
    sensor.stop();
}
