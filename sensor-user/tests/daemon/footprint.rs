//! What the daemon itself takes.

use std::{fs, iter, net::UdpSocket, thread, time::Duration};

use nix::unistd::Pid;
use xtask::bench::{Bench, Options, plan::GERMANY};

use crate::sensor::{Config, Sensor, device};

/// Ports that the device sends to, each a key of its own.
const KEYS: u16 = 10_000;
/// Kibibytes of memory that are the daemon's own, at most: not the tables that it maps.
const MOST: u64 = 64 * 1024;

#[test]
fn ten_thousand_active_keys_fit_64_mebibytes() {
    if !xtask::require_root("ten_thousand_active_keys_fit_64_mebibytes") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let sensor = Sensor::start(&bench, &Config::default());
    let send = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 1..=KEYS {
            // Nobody listens, which the next call says; sent it was.
            let _refused = socket.send_to(b"key", (GERMANY.ipv4, port));
        }
    };
    // In two epochs, so that both halves and the daemon's state have seen them.
    for _ in 0..2 {
        bench.device("galaxy").enter(send).unwrap();
        sensor.settled();
    }
    let report = sensor.report();
    let destinations = &device(&report, "galaxy").destinations;
    let udp = destinations.iter().filter(|row| row.protocol == "udp").count();
    assert!(udp > 5000, "only {udp} destinations");
    let status = fs::read_to_string(format!("/proc/{}/status", sensor.process.pid())).unwrap();
    let field = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kibibytes: u64 = field.split_whitespace().next().unwrap().parse().unwrap();
    println!("RssAnon {kibibytes} KiB");
    assert!(kibibytes < MOST, "{kibibytes} KiB");
    sensor.stop();
}

/// How long an idle daemon is watched.
const WATCH: Duration = Duration::from_secs(10);
/// And how often: in a virtual machine, what its host takes of a thread's time is that thread's.
const WATCHES: usize = 6;

#[test]
fn an_idle_daemon_takes_less_than_half_a_percent_of_a_core() {
    if !xtask::require_root("an_idle_daemon_takes_less_than_half_a_percent_of_a_core") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    // The length that the configuration has unless told; the other tests have five epochs a second.
    let sensor = Sensor::start(&bench, &Config { epoch: "1s", ..Config::default() });
    sensor.settled();
    let taken = iter::repeat_with(|| {
        let before = cpu_time(sensor.process.pid());
        thread::sleep(WATCH);
        let taken = cpu_time(sensor.process.pid()) - before;
        println!("{taken:?} of CPU time in {WATCH:?}");
        taken
    });
    let mut taken = taken.take(WATCHES);
    assert!(taken.any(|taken| taken > Duration::ZERO && taken < WATCH / 200));
    sensor.stop();
}

/// CPU time of all threads: the first field of their `schedstat`, in nanoseconds (Linux,
/// `Documentation/scheduler/sched-stats.rst`).
fn cpu_time(pid: Pid) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let times = tasks.map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
    });
    times.sum()
}
