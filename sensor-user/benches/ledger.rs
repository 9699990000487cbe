//! The benchmark of the ledger: `cargo xtask bench --ledger`.
//!
//! How long the commit of an epoch of 65,536 keys takes, and a bench of 30 devices over 30 days in fast motion: how
//! large its ledger becomes, how long a sensor needs to go on from it, and how long `labgate query` takes for
//! one device and one day. All on one thread, in a file on a real disk.

#![expect(
    clippy::cast_precision_loss,
    reason = "bytes and milliseconds of a run fit the 52 bits of a float"
)]

use std::{
    error::Error,
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use labgate::{
    config::{self, Config},
    join::devices::Inventory,
    model::{
        Attribution, Country, Direction, EpochBooks, EpochRecord, Flow, InterfaceCounters, Level,
        Mac, Protocol, Tally,
    },
    resume::resume,
    sinks::ledger::{Commit, Identity, Ledger, SavedClock, Snapshot},
    state::{Setup, State},
};

const DEVICES: u32 = 30;
/// Keys of the epoch that is committed.
const KEYS: u32 = 65_536;
/// Far ends of one device in a month, the popular ones more often.
const FAR_ENDS: u32 = 1000;
/// Flows of one device in a minute, on average.
const FLOWS_PER_MINUTE: u32 = 20;
const MINUTES_PER_DAY: u32 = 24 * 60;
/// 2026-01-01T00:00:00Z in Unix nanoseconds.
const START: u64 = 1_767_225_600_000_000_000;
const MINUTE: u64 = 60_000_000_000;

/// Measures the ledger.
#[derive(Debug, Parser)]
struct Args {
    /// How many days the bench runs
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    // Not in /tmp, which may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let config = dir.path().join("config.yaml");
    let devices = (0..DEVICES).map(|n| format!("  - {{name: device-{n}, mac: \"{}\"}}\n", mac(n)));
    let devices = devices.collect::<String>();
    fs::write(
        &config,
        format!("interfaces: [{{name: lan0}}]\ndevices:\n{devices}state_dir: state\n"),
    )?;
    let text = fs::read_to_string(&config)?;
    let parsed = config::parse(&text, "the benchmark's configuration")?;

    commits(&dir.path().join("commits.db"), &parsed)?;
    month(&dir.path().join("month.db"), &config, &parsed, args.days)
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).unwrap_or_default() % sides
    }
}

fn mac(device: u32) -> Mac {
    let [.., high, low] = device.to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

/// One direction of what a device exchanges with its `n`th far end.
fn flow(inventory: &mut Inventory, device: u32, n: u32, direction: Direction, at: u64) -> Flow {
    let [_, high, middle, low] = n.to_be_bytes();
    // Some far ends share a prefix, and some prefixes an operator.
    let prefix = Ipv4Addr::new(20 + high, middle, low / 8 * 8, 0);
    let countries = [*b"CN", *b"DE", *b"IN", *b"SG", *b"US"];
    Flow {
        device: inventory.resolve(mac(device), direction),
        direction,
        level: Level::Flow,
        address: Some(Ipv4Addr::new(20 + high, middle, low, 1).into()),
        attribution: Attribution {
            country: Country::Iso(countries[n as usize / 16 % countries.len()]),
            asn: 64_512 + n / 16,
            operator: format!("Operator {}", n / 16).into(),
            prefix: format!("{prefix}/21").parse().ok(),
            network: "".into(),
            watched: false,
        },
        protocol: Protocol::Ip(6),
        port: 443,
        vlan: None,
        tally: Tally { packets: 10, bytes: 9000, payload: 8000 },
        first_seen: at,
    }
}

fn record(epoch: u32, ended: u64, flows: Vec<Flow>) -> EpochRecord {
    let mut books = EpochBooks::default();
    for flow in &flows {
        books.seen.add(&flow.tally);
        books.attributed.add(&flow.tally);
    }
    let counters = InterfaceCounters {
        name: "lan0".into(),
        rx_packets: u64::from(epoch) * 1000,
        ..InterfaceCounters::default()
    };
    EpochRecord {
        epoch,
        ended,
        flows,
        books,
        open: false,
        interfaces: vec![counters],
        outcomes: Vec::new(),
        tables: Vec::new(),
        links: Vec::new(),
    }
}

/// A sensor without a kernel.
struct Sensor {
    ledger: Ledger,
    inventory: Inventory,
    state: State,
    limits: config::Limits,
}

impl Sensor {
    fn start(path: &Path, config: &Config) -> Result<Self, Box<dyn Error>> {
        let (mut ledger, mut restored, _) = Ledger::open(path)?;
        let mut state = State::new(Setup { limits: config.limits.into(), ..Setup::default() });
        let inventory = resume(config, &mut ledger, &mut restored, &mut state)?;
        Ok(Self { ledger, inventory, state, limits: config.limits })
    }

    /// Commits an epoch and says how long that took.
    fn epoch(&mut self, record: EpochRecord) -> Result<Duration, Box<dyn Error>> {
        self.state.apply(&record, self.inventory.devices());
        let commit = Commit {
            identity: Identity {
                boot: "boot".to_owned(),
                table: [1, 2],
                epoch: record.epoch.into(),
            },
            quiet: None,
            record,
            devices: self.inventory.devices().to_vec(),
            alerts: Vec::new(),
            coverage: Vec::new(),
            databases: Vec::new(),
            limits: self.limits.into(),
        };
        let began = Instant::now();
        self.ledger.commit(&commit)?;
        Ok(began.elapsed())
    }

    fn fold(&mut self) -> Result<Duration, Box<dyn Error>> {
        let (devices, links) = (self.state.save_devices(false), Vec::new());
        let snapshot = Snapshot {
            state: self.state.save(),
            devices,
            links,
            boot: String::new(),
            clock: SavedClock::default(),
        };
        let began = Instant::now();
        self.ledger.fold(&snapshot)?;
        Ok(began.elapsed())
    }
}

/// Epochs in which every key counts.
fn commits(path: &Path, config: &Config) -> Result<(), Box<dyn Error>> {
    let mut sensor = Sensor::start(path, config)?;
    let mut times = Vec::new();
    let mut folds = Vec::new();
    for epoch in 0..25 {
        let ended = START + u64::from(epoch) * MINUTE / 5;
        let half = |n: u32| if n.is_multiple_of(2) { Direction::Tx } else { Direction::Rx };
        let flows = (0..KEYS)
            .map(|n| flow(&mut sensor.inventory, n / 2 % DEVICES, n / 2 / DEVICES, half(n), ended));
        let flows = flows.collect();
        times.push(sensor.epoch(record(epoch, ended, flows))?);
        if epoch % 5 == 4 {
            folds.push(sensor.fold()?);
        }
    }
    times.sort_unstable();
    folds.sort_unstable();
    println!(
        "commit of {KEYS} keys: median {:.1} ms, worst of {} {:.1} ms",
        millis(times[times.len() / 2]),
        times.len(),
        millis(times[times.len() - 1]),
    );
    println!("fold of a minute of them: median {:.0} ms", millis(folds[folds.len() / 2]));
    Ok(())
}

/// Devices that do what devices do, a record for each minute.
fn month(path: &Path, file: &Path, config: &Config, days: u32) -> Result<(), Box<dyn Error>> {
    let mut sensor = Sensor::start(path, config)?;
    let mut dice = Dice(1);
    let (mut rows, mut commit, mut fold) = (0_u64, Duration::ZERO, Duration::ZERO);
    let began = Instant::now();
    for minute in 1..days * MINUTES_PER_DAY {
        let ended = START + u64::from(minute) * MINUTE;
        let mut flows = Vec::new();
        for device in 0..DEVICES {
            for _ in 0..dice.roll(2 * FLOWS_PER_MINUTE) {
                // The smaller of two: half of the far ends make three quarters of the flows.
                let n = dice.roll(FAR_ENDS).min(dice.roll(FAR_ENDS)).min(dice.roll(FAR_ENDS));
                for direction in [Direction::Tx, Direction::Rx] {
                    flows.push(flow(
                        &mut sensor.inventory,
                        device,
                        n,
                        direction,
                        ended - MINUTE / 3,
                    ));
                }
                rows += 1;
            }
        }
        commit += sensor.epoch(record(minute, ended, flows))?;
        fold += sensor.fold()?;
    }
    eprintln!("{days} days in {:.0} s", began.elapsed().as_secs_f64());
    let minutes = f64::from(days * MINUTES_PER_DAY);
    println!(
        "{DEVICES} devices over {days} days, {rows} flows in {minutes} minutes: commit {:.2} ms, fold {:.2} ms a minute",
        millis(commit) / minutes,
        millis(fold) / minutes
    );
    drop(sensor);
    println!("ledger: {:.2} GB", fs::metadata(path)?.len() as f64 / 1e9);
    let began = Instant::now();
    drop(Sensor::start(path, config)?);
    println!("start of a sensor: {:.0} ms", millis(began.elapsed()));

    let mut times = Vec::new();
    for day in 0..days.min(10) {
        let date = |day: u32| format!("2026-01-{:02}T00:00:00Z", day + 1);
        let mut command = Command::new(env!("CARGO_BIN_EXE_labgate"));
        command.args(["query", "--format", "json", "--detail", "address"]);
        command.args(["--device", "device-7"]);
        command.args(["--from", &date(day), "--until", &date(day + 1)]);
        command.arg("--ledger").arg(path).arg("--config").arg(file).stdout(Stdio::null());
        let began = Instant::now();
        let status = command.status()?;
        times.push(began.elapsed());
        if !status.success() {
            return Err(format!("labgate query failed: {status}").into());
        }
    }
    times.sort_unstable();
    println!(
        "query for one device and day: median {:.0} ms, worst of {} {:.0} ms",
        millis(times[times.len() / 2]),
        times.len(),
        millis(times[times.len() - 1])
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
