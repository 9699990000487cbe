mod aging;
mod alone;
mod audit;
mod clock;
mod file;
mod names;
mod period;
mod restart;

use std::{fs, net::Ipv4Addr, path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::{
    config::{self, Config},
    join::devices::Inventory,
    model::{Direction, EpochRecord, Mac},
    resume::resume,
    sinks::metrics::{Format, Metrics},
    state::{
        Detail, DeviceState, Setup, Shared, State,
        fixture::{self, Far, START},
    },
};

const CONFIG: &str = "
interfaces: [{name: lan0}]
devices:
  - {name: redmi, mac: 02:00:00:00:00:01}
  - {name: watch, mac: 02:00:00:00:00:02}
limits: {destinations_per_device: 4096, prefixes_per_device: 6, unknown_devices: 4, series_expiration: 60s}
";
const TABLE: [u64; 2] = [7, 9];
const SECOND: u64 = 1_000_000_000;

/// A sensor without a kernel: what the epoch thread does with a record.
struct Sensor {
    ledger: Ledger,
    inventory: Inventory,
    state: State,
}

impl Sensor {
    fn start(path: &std::path::Path, config: &Config) -> Self {
        let (mut ledger, mut restored, aside) = Ledger::open(path).unwrap();
        assert_eq!(aside, None);
        let mut state = State::new(setup(config));
        let inventory = resume(config, &mut ledger, &mut restored, &mut state).unwrap();
        Self { ledger, inventory, state }
    }

    fn epoch(&mut self, number: u32, config: &Config) -> EpochRecord {
        let mut record = traffic(number, &mut self.inventory);
        record.epoch = number;
        self.state.apply(&record, self.inventory.devices());
        self.ledger.commit(&commit(&record, self.inventory.devices(), config)).unwrap();
        record
    }

    fn fold(&mut self) {
        let snapshot = snapshot(&mut self.state);
        self.ledger.fold(&snapshot).unwrap();
    }
}

fn snapshot(state: &mut State) -> Snapshot {
    let (devices, links) = (state.save_devices(false), Vec::new());
    Snapshot {
        state: state.save(),
        devices,
        links,
        boot: "boot".to_owned(),
        clock: SavedClock::default(),
    }
}

fn config() -> Config {
    config::parse(CONFIG, "test").unwrap()
}

fn setup(config: &Config) -> Setup {
    Setup { limits: config.limits.into(), ..Setup::default() }
}

fn commit(record: &EpochRecord, devices: &[crate::model::DeviceInfo], config: &Config) -> Commit {
    let identity = Identity { boot: "boot".to_owned(), table: TABLE, epoch: record.epoch.into() };
    Commit {
        identity,
        quiet: None,
        record: record.clone(),
        devices: devices.to_vec(),
        alerts: Vec::new(),
        coverage: Vec::new(),
        databases: Vec::new(),
        limits: config.limits.into(),
    }
}

fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/ledger.db");
    (dir, path)
}

/// Numbers that look random and are always the same.
fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |sides| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides
    }
}

/// An epoch with some of everything: three seconds apart, so that minutes pass and labels expire.
fn traffic(number: u32, inventory: &mut Inventory) -> EpochRecord {
    const COUNTRIES: [&str; 4] = ["CN", "IN", "SG", "ZZ"];
    let mut roll = dice(u64::from(number) + 1);
    let mut flows = Vec::new();
    for _ in 0..roll(30) {
        let mac = Mac([2, 0, 0, 0, 0, u8::try_from(roll(9)).unwrap()]);
        let direction = if roll(2) == 0 { Direction::Tx } else { Direction::Rx };
        let place = roll(40);
        // Some destinations are only there for a while.
        let net = u8::try_from(place + u64::from(number) / 30).unwrap();
        let address = Ipv4Addr::new(10, net, 0, u8::try_from(roll(4)).unwrap());
        let far = Far {
            country: fixture::country(COUNTRIES[usize::from(net) % 4]),
            asn: u32::from(net) % 7,
            operator: ["", "one", "two", "three", "four", "five", "six"][usize::from(net) % 7],
            prefix: Some(format!("10.{net}.0.0/16").parse().unwrap()),
            address: Some(address.into()),
            port: 443,
            ..Far::default()
        };
        let packets = roll(9) + 1;
        let device = inventory.resolve(mac, direction);
        let mut flow = fixture::flow(device.0, direction, &far, packets, packets * 100);
        flow.first_seen = START + u64::from(number) * 3 * SECOND - SECOND / 3;
        flow.vlan = (roll(5) == 0).then_some(7);
        flows.push(flow);
    }
    let mut record = fixture::record(number, flows);
    record.ended = START + u64::from(number) * 3 * SECOND;
    record.interfaces[0].rx_packets = u64::from(number) * 1000;
    record.outcomes = vec![("claim", 3), ("slot_quota", u64::from(number) % 2)];
    record.tables.clear();
    record
}

/// Everything that a user sees of a state, but for what counts the process's own doings.
fn shown(state: &State) -> (String, String) {
    let report = serde_json::to_string_pretty(&state.report(Detail::Address)).unwrap();
    let shared = Shared::new(state.clone(), std::time::Duration::from_secs(1));
    let own = ["labgate_epoch", "labgate_last_epoch", "labgate_scrape", "process_"];
    let metrics = Metrics::new(Arc::new(shared)).render(Format::Prometheus);
    let lines = metrics.lines().filter(|line| !own.iter().any(|name| line.contains(name)));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    (report, lines.join("\n"))
}

/// Shows the first lines that differ.
fn same(shown: &str, expected: &str, epoch: u32) {
    for (number, (shown, expected)) in shown.lines().zip(expected.lines()).enumerate() {
        assert_eq!(shown, expected, "line {number} after epoch {epoch}");
    }
    assert_eq!(shown.len(), expected.len(), "after epoch {epoch}");
}

fn sum(ledger: &Ledger, column: &str, table: &str) -> i64 {
    let sql = format!("SELECT coalesce(sum({column}), 0) FROM {table}");
    ledger.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}
