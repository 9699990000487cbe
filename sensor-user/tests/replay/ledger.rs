//! `labgate replay --ledger`, and what the other commands say of that ledger.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Output},
};

use labgate::sinks::ledger::{self, Ledger, LedgerError};
use sensor_common::report::{Audit, DestinationList, Report};

use crate::{
    captures::{ETHERNET, Order, Pcap, PcapNg, TIME, gzipped},
    frames::{ETH_IPV4, ETH_IPV6, ethernet, ipv4, ipv6, tcp, udp},
    replay, report, text,
};

/// Two frames every 25 seconds: TCP to one address, UDP to another, and at times something unreadable.
fn frames(count: u32) -> Vec<(u32, Vec<u8>)> {
    let frame = |n: u32| match n % 3 {
        0 => ethernet(ETH_IPV4, &ipv4(6, &tcp(5, &n.to_be_bytes()))),
        1 => ethernet(ETH_IPV6, &ipv6(17, &udp(b"hello"))),
        _ => ethernet(ETH_IPV4, &[0x45; 9]),
    };
    (0..count).map(|n| (TIME + n / 2 * 25, frame(n))).collect()
}

fn pcap(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let add = |pcap: Pcap, (time, frame): &(u32, Vec<u8>)| {
        pcap.cut(*time, 7, frame, u32::try_from(frame.len()).unwrap())
    };
    frames.iter().fold(Pcap::new(Order::Little, ETHERNET), add).octets
}

fn pcapng(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let start = PcapNg::new(Order::Big).interface(ETHERNET, 0, &[]);
    let add = |pcapng: PcapNg, (time, frame): &(u32, Vec<u8>)| {
        pcapng.frame(0, u64::from(*time) * 1_000_000 + 7, frame)
    };
    frames.iter().fold(start, add).octets
}

/// Replays into `lab.db`.
fn into_ledger(directory: &Path, files: &[&str]) -> Output {
    replay(directory, &[&["--no-config", "--json", "--ledger", "lab.db"], files].concat(), b"")
}

#[track_caller]
fn succeeded(output: &Output) -> Report {
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    report(output)
}

fn labgate(directory: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labgate"));
    command.args(line.split(' ')).args(["--ledger", "lab.db"]).current_dir(directory);
    command.output().unwrap()
}

fn query(directory: &Path, period: &str) -> DestinationList {
    let line = format!("query --detail address --format json {period}");
    let output = labgate(directory, line.trim_end());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Packets and bytes of all destinations.
fn total(list: &DestinationList) -> (u64, u64) {
    let rows = || list.destinations.iter().map(|row| &row.destination);
    let packets = rows().map(|row| row.tx_packets + row.rx_packets).sum();
    (packets, rows().map(|row| row.tx_bytes + row.rx_bytes).sum())
}

fn audit(directory: &Path) -> Audit {
    let output = labgate(directory, "audit --json");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// That the ledger is whole and has exactly these frames.
#[track_caller]
fn holds(directory: &Path, frames: &[(u32, Vec<u8>)]) {
    let checked = labgate(directory, "ledger check");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let bytes = frames.iter().map(|(_, frame)| frame.len() as u64).sum();
    let packets = frames.len() as u64;
    assert_eq!(total(&query(directory, "--from 1970-01-01T00:00:00Z")), (packets, bytes));
    let Audit { balance, open_epochs, .. } = audit(directory);
    assert_eq!((balance.seen_packets, balance.seen_bytes), (packets, bytes));
    assert!(balance.closed && open_epochs == 0);
}

#[test]
fn a_replayed_ledger_is_asked_as_a_sensors() {
    let directory = tempfile::tempdir().unwrap();
    let (path, frames) = (directory.path(), frames(30));
    fs::write(path.join("walk.pcap"), pcap(&frames)).unwrap();
    let replayed = succeeded(&into_ledger(path, &["walk.pcap"]));
    holds(path, &frames);

    // What the replay has printed is what the ledger holds.
    let list = query(path, "--from 1970-01-01T00:00:00Z");
    let mut shown = replayed.devices[0].destinations.clone();
    let mut asked: Vec<_> = list.destinations.into_iter().map(|row| row.destination).collect();
    for rows in [&mut shown, &mut asked] {
        rows.sort_by(|a, b| (&a.protocol, &a.address).cmp(&(&b.protocol, &b.address)));
    }
    let sums = |rows: &[sensor_common::report::Destination]| -> Vec<_> {
        rows.iter().map(|row| (row.protocol.clone(), row.prefix.clone(), row.tx_bytes)).collect()
    };
    assert_eq!((sums(&shown), shown.len()), (sums(&asked), 3));

    // 07:08:09, 07:08:34, 07:08:59 and so on, two frames each.
    let minute = query(path, "--from 2024-05-06T07:08:00Z --until 2024-05-06T07:09:00Z");
    assert_eq!(total(&minute).0, 6);
    let rest = query(path, "--from 2024-05-06T07:09:00Z");
    assert_eq!(total(&rest).0, 24);
    assert_eq!(minute.destinations[0].destination.first_seen, "2024-05-06T07:08:09.000Z");

    // What a capture knows of interfaces: its own packets, and from when to when it was.
    let audit = audit(path);
    assert_eq!((audit.epochs, &*audit.from), (15, "2024-05-06T07:08:00.000Z"));
    let [capture] = &audit.interfaces[..] else { panic!("{:?}", audit.interfaces) };
    assert_eq!((&*capture.name, capture.rx_packets, capture.tx_packets), ("walk.pcap", 30, 0));
    let [span] = &capture.coverage[..] else { panic!("{:?}", capture.coverage) };
    let times = (&*span.from, &*span.to);
    assert_eq!(times, ("2024-05-06T07:08:09.000Z", "2024-05-06T07:13:59.000Z"));
    assert_eq!((&*span.ingress, &*span.egress, &*span.end), ("capture", "capture", "stopped"));
}

#[test]
fn a_capture_counts_once_whatever_it_is_called_and_however_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (path, frames) = (directory.path(), frames(30));
    let whole = pcap(&frames);
    fs::write(path.join("walk.pcap"), &whole).unwrap();
    fs::write(path.join("half.pcap"), pcap(&frames[..13])).unwrap();
    fs::write(path.join("cut.pcap"), &whole[..whole.len() - 1]).unwrap();
    fs::write(path.join("again.pcapng.gz"), gzipped(&pcapng(&frames))).unwrap();

    // It grows between two replays, and is cut into other epochs.
    succeeded(&into_ledger(path, &["half.pcap"]));
    holds(path, &frames[..13]);
    let output = into_ledger(path, &["cut.pcap"]);
    assert_eq!(output.status.code(), Some(1));
    holds(path, &frames[..29]);
    fs::write(path.join("slow.yaml"), "interfaces: [lan0]\nepoch: 60s\n").unwrap();
    let slow = ["--config", "slow.yaml", "--ledger", "lab.db", "--json", "-", "again.pcapng.gz"];
    let replayed = succeeded(&replay(path, &slow, &whole));
    holds(path, &frames);
    let captures = replayed.replay.unwrap().captures;
    let read: Vec<_> = captures.iter().map(|c| (&*c.file, c.packets, c.known_packets)).collect();
    assert_eq!(read, [("-", 1, 29), ("again.pcapng.gz", 0, 30)]);
    // The report is the ledger's.
    assert_eq!((replayed.books.seen_packets, replayed.books.interface_packets), (30, 30));
    let people = replay(path, &["--no-config", "--ledger", "lab.db", "walk.pcap"], b"");
    let line = "replayed walk.pcap: 0 packets, 0 bytes, 2024-05-06T07:08:09.000Z to \
                2024-05-06T07:13:59.000Z; 30 more are in the ledger already\n";
    assert!(text(&people.stdout).contains(line), "{}", text(&people.stdout));

    // Captures of another time, before and after, go beside it; each is a device's of the same address.
    let mut all = frames.clone();
    for (name, days) in [("before.pcap", -40), ("after.pcap", 3)] {
        let moved: Vec<_> = frames
            .iter()
            .map(|(time, frame)| (time.saturating_add_signed(days * 86_400), frame.clone()))
            .collect();
        fs::write(path.join(name), pcap(&moved)).unwrap();
        all.extend(moved);
    }
    let replayed = succeeded(&into_ledger(path, &["after.pcap", "before.pcap"]));
    holds(path, &all);
    let devices: Vec<_> = replayed.devices.iter().map(|device| &*device.mac).collect();
    assert_eq!(devices, ["64:09:80:12:34:56"]);
    assert_eq!(replayed.books.interface_packets, 90);
}

#[test]
fn a_capture_that_only_begins_alike_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, frames) = (directory.path(), frames(30));
    fs::write(path.join("walk.pcap"), pcap(&frames)).unwrap();
    succeeded(&into_ledger(path, &["walk.pcap"]));
    let mut filtered = frames.clone();
    filtered.remove(5);
    fs::write(path.join("short.pcap"), pcap(&filtered)).unwrap();
    filtered.extend(frames[5..].iter().cloned());
    fs::write(path.join("other.pcap"), pcap(&filtered)).unwrap();
    for name in ["short.pcap", "other.pcap"] {
        let output = into_ledger(path, &[name]);
        assert_eq!(output.status.code(), Some(1));
        let said =
            format!("labgate: {name} begins as a capture of which the ledger has 30 packets");
        assert!(text(&output.stderr).starts_with(&said), "{}", text(&output.stderr));
        holds(path, &frames);
        let [ref capture] = audit(path).interfaces[..] else { panic!("{:?}", audit(path)) };
        assert_eq!(capture.coverage.len(), 1);
    }
}

#[test]
fn what_is_no_ledger_of_captures_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("walk.pcap"), pcap(&frames(4))).unwrap();
    let refused = |expected: &str| {
        let output = into_ledger(path, &["walk.pcap"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        let said = text(&output.stderr);
        assert!(said.starts_with("labgate: can't use the ledger lab.db: "), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    };
    // A capture in its place, another program's database, a directory, something damaged.
    for octets in [pcap(&frames(4)), b"SQLite format 3\0 or so".to_vec()] {
        fs::write(path.join("lab.db"), &octets).unwrap();
        refused("not a database");
        assert_eq!(fs::read(path.join("lab.db")).unwrap(), octets);
    }
    fs::remove_file(path.join("lab.db")).unwrap();
    fs::create_dir(path.join("lab.db")).unwrap();
    refused("directory");
    fs::remove_dir(path.join("lab.db")).unwrap();

    // One that is open elsewhere.
    let (sensor, ..) = Ledger::open(&path.join("lab.db")).unwrap();
    refused("another process has it open");
    drop(sensor);
    succeeded(&into_ledger(path, &["walk.pcap"]));
    assert_eq!(fs::read_dir(path).unwrap().count(), 2, "nothing is left beside");

    // Nor does a sensor count into what has captures.
    let error = Ledger::open(&path.join("lab.db")).unwrap_err();
    assert!(matches!(error, LedgerError::OfCaptures), "{error}");
    holds(path, &frames(4));
}

/// SQLite's locks are the process's: one that opened the file beside SQLite and closed it again would lose them, and
/// another program could take the log away from under a running sensor.
#[test]
fn a_sensor_that_looks_at_its_ledger_keeps_its_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.db");
    let (sensor, ..) = Ledger::open(&path).unwrap();
    let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
    let is_locked = || fs::read_to_string("/proc/locks").unwrap().contains(&inode);
    assert!(is_locked());
    ledger::audit(&path, 0, u64::MAX).unwrap();
    ledger::check(&path).unwrap();
    assert!(is_locked());
    drop(sensor);
    assert!(!is_locked());
}

/// A packet without a time, or with one that is none, is counted at the time of the one before, and that is said.
#[test]
fn any_time_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")));
    let len = u32::try_from(frame.len()).unwrap();
    let untimed = PcapNg::new(Order::Little).interface(ETHERNET, 0, &[]);
    let untimed = untimed.simple(&frame, len).frame(0, u64::MAX, &frame).simple(&frame, len);
    fs::write(path.join("walk.pcapng"), untimed.frame(0, 0, &frame).octets).unwrap();
    for known in [0, 4] {
        let output = into_ledger(path, &["walk.pcapng"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("1 packets with times before 1970 or after 2262"), "{said}");
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report.replay.unwrap().captures[0].known_packets, known);
        holds(path, &vec![(0, frame.clone()); 4]);
    }
}
