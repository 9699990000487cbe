//! What outlasts the sensor, and a ledger that can't be written for a while.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sensor_common::{
    layout::LAYOUT_VERSION,
    report::{DestinationList, Report},
};
use xtask::{
    bench::{
        Bench, Options, SmallDisk,
        plan::{CHINA, GERMANY},
    },
    chaos::Campaign,
};

use crate::SERIALLY;
use crate::sensor::{Config, Counts, LABGATE, PATIENCE, Sensor, device, send_udp, sum};

fn config(more: &str) -> Config {
    Config { more: format!("ledger: {more}\n"), allowed_countries: "[DE]", ..Config::default() }
}

fn to(report: &Report, address: &str) -> Counts {
    sum(&device(report, "galaxy").destinations, |row| row.address.as_deref() == Some(address))
}

#[test]
fn a_restarted_sensor_goes_on() {
    if !xtask::require_root("a_restarted_sensor_goes_on") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let config = config("ledger.db");
    let galaxy = bench.device("galaxy");
    for round in 1..=3 {
        let mut sensor = Sensor::start(&bench, &config);
        send_udp(galaxy, GERMANY.ipv4, 4000);
        send_udp(galaxy, CHINA.ipv4, 4000);
        let report = sensor.settled();
        assert_eq!(to(&report, GERMANY.ipv4).tx_packets, round, "{}", sensor.process.output());
        assert!(report.books.closed);
        assert_eq!(report.alerts.len(), 1, "raised once: {:#?}", report.alerts);
        let china = |line: &&String| line.contains(r#"country="CN""#) && line.contains("\"tx\"");
        let metrics = sensor.metric("labgate_device_packets_total{device=\"galaxy\"");
        let line = metrics.iter().find(china).unwrap();
        assert!(line.ends_with(&format!(" {round}")), "{line}");
        let signal = if round == 1 { Signal::SIGKILL } else { Signal::SIGINT };
        sensor.process.stop(signal, PATIENCE).unwrap();
    }
    // And without a sensor.
    let ledger = bench.dir().join("state/ledger.db");
    let query = [LABGATE, "query", "--format", "json", "--ledger", ledger.to_str().unwrap()];
    let answer = bench
        .gateway()
        .run(&[&query[..], &["--country", "CN", "--protocol", "udp"]].concat())
        .unwrap();
    let list: DestinationList = serde_json::from_str(&answer).unwrap();
    let [row] = &list.destinations[..] else { panic!("{list:#?}") };
    assert_eq!((&*row.device, row.destination.tx_packets), ("galaxy", 3));
    assert!(list.attribution.contains("DB-IP"), "{}", list.attribution);
}

fn tables(bench: &Bench) -> Vec<PathBuf> {
    let pins = format!("/sys/fs/bpf/labgate/net-{}", bench.gateway().inode().unwrap());
    let entries = fs::read_dir(pins).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains("/table-")).collect()
}

/// Killed, stopped, started with a table of another size: no packet is missed and none counted twice, and
/// the interfaces' own counters say so.
#[test]
fn packets_are_counted_while_the_sensor_is_down() {
    if !xtask::require_root("packets_are_counted_while_the_sensor_is_down") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    bench.switch_off_lan_offloads().unwrap();
    let galaxy = bench.device("galaxy");
    // Packets before the first start.
    let mut before = None;
    let mut sent = 0;
    let mut send = |packets: u16| {
        for port in 0..packets {
            send_udp(galaxy, GERMANY.ipv4, 4000 + port % 7);
        }
        sent += u64::from(packets);
        sent
    };
    let small = Config {
        more: "ledger: ledger.db\nlimits: {flow_slots_per_cpu: 2048}\n".into(),
        ..config("")
    };
    let same = config("ledger.db");
    for (round, config) in [&same, &same, &small, &small, &same].into_iter().enumerate() {
        let mut sensor = Sensor::start(&bench, config);
        let sent = send(20);
        // The epochs of a table of before come first, as many as it takes.
        wait(&sensor, |report| to(report, GERMANY.ipv4).tx_packets >= sent);
        let lans = ["lan0", "lan1"].map(|lan| (bench.gateway(), lan));
        let (report, links) = sensor.when_silent(lans);
        assert_eq!(to(&report, GERMANY.ipv4).tx_packets, sent, "{}", sensor.process.output());
        assert!(report.books.closed);
        assert_eq!(tables(&bench).len(), 1, "{:?}", tables(&bench));
        let spans: Vec<_> = report.interfaces.iter().map(|i| i.coverage.len()).collect();
        assert_eq!(spans, [1, 1], "{:#?}", report.interfaces);
        let books = &report.books;
        let links: u64 = links.iter().map(|link| link.rx_packets + link.tx_packets).sum();
        let before = *before.get_or_insert(links - books.seen_packets);
        assert_eq!(books.seen_packets, links - before, "round {round}: {books:#?}");
        assert_eq!(books.interface_packets, links - before, "round {round}: {books:#?}");
        send(3);
        let signal = if round % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM };
        sensor.process.stop(signal, PATIENCE).unwrap();
        send(30);
    }
}

#[test]
fn a_table_that_can_not_be_read_is_given_up_with_a_word() {
    if !xtask::require_root("a_table_that_can_not_be_read_is_given_up_with_a_word") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let config = config("ledger.db");
    let mut sensor = Sensor::start(&bench, &config);
    sensor.process.stop(Signal::SIGTERM, PATIENCE).unwrap();
    let [table] = &tables(&bench)[..] else { panic!("{:?}", tables(&bench)) };
    let map = aya::maps::MapData::from_pin(table.join("state")).unwrap();
    // SAFETY: nobody else writes it while no sensor runs and nothing is sent.
    let mut state =
        unsafe { memmap2::MmapOptions::new().len(4096).map_mut(map.fd().as_fd().as_raw_fd()) }
            .unwrap();
    // After the epoch comes the version of the layout (sensor_common::layout::Control).
    assert_eq!(u32::from_le_bytes(*state[4..].first_chunk().unwrap()), LAYOUT_VERSION);
    state[4] = 99;
    drop(state);
    let sensor = Sensor::start(&bench, &config);
    let said = sensor.process.output();
    assert!(
        said.contains(&format!("its layout has version 99, this LabGate's {LAYOUT_VERSION}")),
        "{said}"
    );
    assert!(said.contains("what it counted is lost"), "{said}");
    assert_ne!(tables(&bench), std::slice::from_ref(table));
    send_udp(bench.device("galaxy"), GERMANY.ipv4, 4000);
    assert_eq!(to(&sensor.settled(), GERMANY.ipv4).tx_packets, 1);
    sensor.stop();
}

/// A directory for pins that no other test's sensor sweeps.
struct OwnPins(PathBuf);

impl OwnPins {
    fn new() -> Self {
        let path = PathBuf::from(format!("/sys/fs/bpf/labgate-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn of(&self, namespace: u64) -> PathBuf {
        self.0.join(format!("net-{namespace}"))
    }
}

impl Drop for OwnPins {
    fn drop(&mut self) {
        let _gone: io::Result<()> = fs::remove_dir_all(&self.0);
    }
}

/// A killed sensor's network namespace may go away with everything in it but the pins.
#[test]
fn what_nobody_can_reach_any_more_is_removed() {
    if !xtask::require_root("what_nobody_can_reach_any_more_is_removed") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let pins = OwnPins::new();
    let alive = pins.of(bench.internet().inode().unwrap());
    // No namespace has so small a number.
    let gone = pins.of(u64::from(std::process::id()));
    for directory in [&alive, &gone] {
        fs::create_dir_all(directory.join("table-1")).unwrap();
    }
    let mut command = bench.gateway().command(LABGATE);
    command.arg("run").arg("--config").arg(config("ledger.db").write(bench.dir()));
    command.arg("--pins").arg(&pins.0).env("NO_COLOR", "1");

    // While another sensor sweeps, the directory of a namespace is neither made nor swept.
    let other = File::open(&pins.0).unwrap();
    other.lock().unwrap();
    let process = bench.gateway().start(command).unwrap();
    let waits =
        |line: &str| line.contains("-> FLOCK") && line.contains(&format!(" {} ", process.pid()));
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(Instant::now() < deadline, "it does not wait: {}", process.output());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(gone.exists() && !pins.of(bench.gateway().inode().unwrap()).exists());

    other.unlock().unwrap();
    let log = Sensor::ready(bench.gateway(), process).stop();
    // Where not all processes can be looked at, as in a container, nobody knows what is gone.
    let sees_all = fs::read_link("/proc/1/ns/net").is_ok() && fs::read_dir("/proc/1/fd").is_ok();
    assert!(alive.exists() && gone.exists() != sees_all);
    let says_so = log.contains("removed the tables of a network namespace that is gone");
    assert_eq!(says_so, sees_all, "{log}");
}

#[test]
fn a_full_disk_costs_nothing() {
    if !xtask::require_root("a_full_disk_costs_nothing") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let disk = SmallDisk::new(&bench.dir().join("disk"), "8m").unwrap();
    let path = disk.path().join("ledger.db");
    let config = config(path.to_str().unwrap());
    let galaxy = bench.device("galaxy");
    let sensor = Sensor::start(&bench, &config);
    send_udp(galaxy, GERMANY.ipv4, 4000);
    sensor.settled();

    disk.fill().unwrap();
    for port in 5000..5020 {
        send_udp(galaxy, GERMANY.ipv4, port);
    }
    let report = wait(&sensor, |report| to(report, GERMANY.ipv4).tx_packets == 21);
    assert!(report.alerts.is_empty());
    let ready =
        bench.gateway().run(&["curl", "-qsS", "--max-time", "5", "http://127.0.0.1:9469/readyz"]);
    assert!(ready.as_ref().unwrap().contains("the ledger can't be written (full: "), "{ready:?}");
    // Metrics and alerts go on, each once.
    for port in 6000..6010 {
        send_udp(galaxy, CHINA.ipv4, port);
    }
    wait(&sensor, |report| to(report, CHINA.ipv4).tx_packets == 10 && report.alerts.len() == 1);
    send_udp(galaxy, CHINA.ipv4, 6000);
    wait(&sensor, |report| to(report, CHINA.ipv4).tx_packets == 11);

    disk.free().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !sensor
        .metric("labgate_ledger_writable")
        .contains(&"labgate_ledger_writable 1".to_owned())
    {
        assert!(Instant::now() < deadline, "{}", sensor.process.output());
        thread::sleep(Duration::from_millis(20));
    }
    let report = sensor.settled();
    assert_eq!(
        (to(&report, GERMANY.ipv4).tx_packets, to(&report, CHINA.ipv4).tx_packets),
        (21, 11)
    );
    assert_eq!(report.alerts.len(), 1);
    assert!(report.books.closed, "{:#?}", report.books);
    let said = sensor.stop();
    assert!(said.contains("the ledger is written again; nothing was lost"), "{said}");

    // The next one knows all of it from the ledger.
    let sensor = Sensor::start(&bench, &config);
    let report = sensor.report();
    assert_eq!(
        (to(&report, GERMANY.ipv4).tx_packets, to(&report, CHINA.ipv4).tx_packets),
        (21, 11)
    );
    assert_eq!(report.alerts.len(), 1);
}

/// After a boot with a full disk: counting and alerts go on, and once there is room the ledger has what it had and what came.
#[test]
fn a_start_without_room_counts_and_takes_the_ledger_up() {
    if !xtask::require_root("a_start_without_room_counts_and_takes_the_ledger_up") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let disk = SmallDisk::new(&bench.dir().join("disk"), "8m").unwrap();
    let path = disk.path().join("ledger.db");
    let config = config(path.to_str().unwrap());
    let galaxy = bench.device("galaxy");
    let sensor = Sensor::start(&bench, &config);
    for port in 4000..4005 {
        send_udp(galaxy, GERMANY.ipv4, port);
    }
    sensor.settled();
    sensor.leave();
    // While nobody is there, and then there is no room for a start.
    send_udp(galaxy, GERMANY.ipv4, 4005);
    disk.fill().unwrap();
    let sensor = Sensor::start_unready(&bench, &config);
    send_udp(galaxy, CHINA.ipv4, 4000);
    wait(&sensor, |report| {
        !report.devices.is_empty()
            && to(report, CHINA.ipv4).tx_packets == 1
            && report.alerts.len() == 1
    });
    let ready =
        bench.gateway().run(&["curl", "-qsS", "--max-time", "5", "http://127.0.0.1:9469/readyz"]);
    assert!(ready.as_ref().unwrap().contains("the ledger can't be written (full: "), "{ready:?}");

    disk.free().unwrap();
    let report = wait(&sensor, |report| {
        (to(report, GERMANY.ipv4).tx_packets, to(report, CHINA.ipv4).tx_packets) == (6, 1)
    });
    assert_eq!(report.alerts.len(), 1);
    let report = sensor.settled();
    assert!(report.books.closed, "{:#?}", report.books);
    let said = sensor.stop();
    assert!(said.contains("the ledger is taken up; nothing was lost"), "{said}");
    let sensor = Sensor::start(&bench, &config);
    let report = sensor.report();
    assert_eq!((to(&report, GERMANY.ipv4).tx_packets, to(&report, CHINA.ipv4).tx_packets), (6, 1));
    assert_eq!(report.alerts.len(), 1);
}

#[track_caller]
fn wait(sensor: &Sensor<'_>, is_there: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = sensor.report();
        if is_there(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:#?}\n{}", sensor.process.output());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends until the sensor is killed by the fault that was asked for, goes on with another one, and returns
/// what was sent and what was counted.
fn killed_by(bench: &Bench, faults: &str, then: &str) -> (u64, u64) {
    let path = config("killed.db").write(bench.dir());
    let start = |faults: &str| {
        let mut command = bench.gateway().command(LABGATE);
        command.arg("run").arg("--config").arg(&path).env("LABGATE_FAULTS", faults);
        bench.gateway().start(command).unwrap()
    };
    // From here on the programs are attached.
    Sensor::ready(bench.gateway(), start("")).process.stop(Signal::SIGTERM, PATIENCE).unwrap();
    let mut process = start(faults);
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut sent = 0;
    while process.ended().unwrap().is_none() {
        send_udp(bench.device("galaxy"), GERMANY.ipv4, 4000);
        sent += 1;
        assert!(Instant::now() < deadline, "nothing killed it: {}", process.output());
        thread::sleep(Duration::from_millis(5));
    }
    let sensor = Sensor::ready(bench.gateway(), start(then));
    let counted = to(&sensor.settled(), GERMANY.ipv4).tx_packets;
    sensor.stop();
    fs::remove_file(bench.dir().join("state/killed.db")).unwrap();
    (sent, counted)
}

#[test]
fn killed_at_any_point_of_an_epoch_it_loses_nothing() {
    if !xtask::require_root("killed_at_any_point_of_an_epoch_it_loses_nothing") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    for point in ["flipped", "waited", "read", "committed"] {
        let (sent, counted) = killed_by(&bench, &format!("kill={point}:9"), "");
        assert_eq!(counted, sent, "{point}");
    }
    // Each safeguard is needed: without it the same finds what is lost, or counted twice.
    let (sent, counted) = killed_by(&bench, "kill=read:9,without=order", "");
    assert!(counted < sent, "cleared before it was committed: {counted} of {sent}");
    let (sent, counted) = killed_by(&bench, "kill=committed:9", "without=identity");
    assert!(counted > sent, "committed twice: {counted} of {sent}");
}

/// The short form of `cargo xtask chaos`.
#[test]
fn a_minute_of_chaos_costs_no_packet() {
    if !xtask::require_root("a_minute_of_chaos_costs_no_packet") {
        return;
    }
    let _serially = SERIALLY.lock();
    let campaign = Campaign { length: Duration::from_secs(20), kills: 6, without: None, seed: 7 };
    let outcome = campaign.run(Path::new(LABGATE)).unwrap();
    assert!(outcome.is_exact(), "{outcome:#?}");
    assert!(outcome.kills >= 6 && outcome.interface_packets > 100_000, "{outcome:#?}");
}
