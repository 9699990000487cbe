//! More than the tables hold: detail goes, sums stay, and nobody crowds out anybody.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sensor_common::report::{Audit, Report};
use xtask::bench::{
    Bench, LinkCounters, Options, RawSocket,
    plan::{DEVICES, GERMANY},
};

use crate::{
    SERIALLY, frames,
    sensor::{Config, LABGATE, Sensor, device, send_udp, sum},
};

/// On a link without a switch.
const PLUG: &str = "smart-plug";
/// Destinations of the scan, each in a network of its own as far as there are so many.
const DESTINATIONS: u32 = 1_000_000;
const STRANGERS: u32 = 100_000;
/// Flows of the device that does nothing wrong.
const PORTS: u16 = 50;
/// Resident memory of the daemon at its height, in KiB. With a quiet bench it takes some 45 MiB.
const MEMORY: u64 = 200 * 1024;

fn mac(text: &str) -> [u8; 6] {
    let mut octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap());
    [(); 6].map(|()| octets.next().unwrap())
}

/// A datagram to nobody at the gateway, which would forward it.
fn frame(from: [u8; 6], to: [u8; 4]) -> Vec<u8> {
    let mut frame = frames::ethernet(frames::ETH_IPV4, &frames::ipv4(17, &frames::udp(&[0; 18])));
    frame[..6].copy_from_slice(&[2, 0xff, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&from);
    frame[30..34].copy_from_slice(&to);
    frame
}

/// Numbers that are all different and in no order: a full period modulo 2^24.
fn scattered(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| n.wrapping_mul(0x9e_3779) & 0xff_ffff)
}

fn send(plug: &RawSocket, frames: impl Iterator<Item = Vec<u8>>) {
    let mut frames = frames.peekable();
    while frames.peek().is_some() {
        plug.send(&frames.by_ref().take(4096).collect::<Vec<_>>()).unwrap();
    }
}

/// What the well-behaved device sent, and how much of it is in its rows by address and port.
#[derive(Debug)]
struct Flooded {
    sent: u64,
    in_detail: u64,
    report: Report,
}

/// Scans from one device, while another talks to a few ports.
fn scan(bench: &Bench, sensor: &Sensor<'_>, destinations: u32) -> Flooded {
    let plug = RawSocket::open(bench.device(PLUG), "eth0").unwrap();
    let from = mac(DEVICES.iter().find(|spec| spec.name == PLUG).unwrap().mac);
    // Both are there from here on, also in the report.
    plug.send(&[frame(from, [1, 1, 1, 1])]).unwrap();
    send_udp(bench.device("galaxy"), GERMANY.ipv4, 4000);
    let links = [(bench.gateway(), "lan1"), (bench.device("galaxy"), "eth0")];
    let counted =
        |report: &Report, name| sum(&device(report, name).destinations, |_| true).tx_packets;
    let (before, [lan1_before, galaxy_before]) = sensor.when_silent(links);
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let talk = scope.spawn(|| {
            let galaxy = bench.device("galaxy");
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                for port in 0..PORTS {
                    send_udp(galaxy, GERMANY.ipv4, 4000 + port);
                    // Slowly, so that each key comes in the midst of an epoch, when the table is full.
                    thread::sleep(Duration::from_millis(4));
                }
                sent += u64::from(PORTS);
            }
            sent
        });
        let address = |n: u32| {
            let [_, a, b, c] = n.to_be_bytes();
            // Beyond the reserved networks, and before those of groups.
            [20 + a % 100, b, c, a]
        };
        send(&plug, scattered(destinations).map(|n| frame(from, address(n))));
        done.store(true, Ordering::Relaxed);
        talk.join().unwrap()
    });
    let (report, [lan1, galaxy]) = sensor.when_silent(links);
    // Each packet that the link took, for its device.
    let scanned = counted(&report, PLUG) - counted(&before, PLUG);
    assert_eq!(scanned, lan1.rx_packets - lan1_before.rx_packets);
    assert!(scanned > u64::from(destinations) / 2, "{scanned}");
    let rows = &device(&report, "galaxy").destinations;
    // With its ARP and what else it has to say; the link began before the sensor.
    let talked = counted(&report, "galaxy") - counted(&before, "galaxy");
    assert_eq!(talked, galaxy.tx_packets - galaxy_before.tx_packets, "{rows:#?}");
    let detail = |row: &sensor_common::report::Destination| {
        row.address.as_deref() == Some(GERMANY.ipv4) && row.port >= 4000
    };
    assert!(report.books.closed, "{:#?}", report.books);
    Flooded { sent, in_detail: sum(rows, detail).tx_packets - 1, report }
}

fn peak_memory(sensor: &Sensor<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sensor.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn config(path: &Path) -> Config {
    let limits = "{flow_slots_per_cpu: 4096, coarse_entries: 16384, unknown_devices: 64}";
    let more = format!("ledger: {}\nlimits: {limits}\n", path.display());
    Config { more, ..Config::default() }
}

#[test]
fn floods_cost_detail_and_no_packet() {
    if !xtask::require_root("floods_cost_detail_and_no_packet") {
        return;
    }
    let _serially = SERIALLY.lock();
    let bench = Bench::new(&Options::default()).unwrap();
    let path = bench.dir().join("ledger.db");
    let config = config(&path);
    let sensor = Sensor::start(&bench, &config);
    let flooded = scan(&bench, &sensor, DESTINATIONS);
    let books = &flooded.report.books;
    assert!(books.coarse_packets > 0 && books.overflow_packets > 0, "{books:#?}");
    // Now and then all groups of a key are full.
    assert!(
        flooded.in_detail * 100 >= flooded.sent * 98,
        "{} of {}",
        flooded.in_detail,
        flooded.sent
    );

    // Then everybody is somebody else.
    let plug = RawSocket::open(bench.device(PLUG), "eth0").unwrap();
    let lans = ["lan0", "lan1"].map(|lan| (bench.gateway(), lan));
    let received = |links: [LinkCounters; 2]| links.iter().map(|link| link.rx_packets).sum::<u64>();
    let (before, links_before) = sensor.when_silent(lans);
    let stranger = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        [2, 0xaa, 0, a, b, c]
    };
    send(&plug, scattered(STRANGERS).map(|n| frame(stranger(n), [1, 1, 1, 1])));
    let (report, links) = sensor.when_silent(lans);
    let all = |report: &Report| {
        report
            .devices
            .iter()
            .map(|device| sum(&device.destinations, |_| true).tx_packets)
            .sum::<u64>()
    };
    let grown = received(links) - received(links_before);
    assert!(grown > u64::from(STRANGERS) / 2);
    assert_eq!(all(&report) - all(&before), grown);
    // The named ones, the unknown ones that have room, and the pool of all others.
    assert!(report.devices.len() <= DEVICES.len() + 64 + 2, "{} devices", report.devices.len());
    assert!(report.books.closed, "{:#?}", report.books);
    println!("{} KiB", peak_memory(&sensor));
    assert!(peak_memory(&sensor) < MEMORY, "{} KiB", peak_memory(&sensor));

    // And when it is over it is over: there is room for detail again.
    let before = report.books;
    send(&plug, std::iter::once(frame(mac(DEVICES[5].mac), [9, 9, 9, 9])));
    let after = sensor.settled().books;
    assert!(after.attributed_packets > before.attributed_packets, "{after:#?}");
    assert_eq!(
        (after.coarse_packets, after.overflow_packets),
        (before.coarse_packets, before.overflow_packets)
    );

    // So that nobody says anything more.
    bench.gateway().ip("link set lan0 down\nlink set lan1 down\n").unwrap();
    let shown = sensor.settled();
    sensor.stop();
    let audit = ["audit", "--json", "--ledger"];
    let audit = [&[LABGATE], &audit[..], &[path.to_str().unwrap()]].concat();
    let audit: Audit = serde_json::from_str(&bench.gateway().run(&audit).unwrap()).unwrap();
    assert!(audit.balance.closed && audit.open_epochs == 0, "{audit:#?}");
    assert_eq!(audit.balance.seen_packets, shown.books.seen_packets);
    assert_eq!(audit.balance.seen_bytes, shown.books.seen_bytes);
    let sensor = Sensor::start(&bench, &config);
    let sums = |report: &Report| {
        report
            .devices
            .iter()
            .map(|device| (device.name.clone(), sum(&device.destinations, |_| true)))
            .collect::<Vec<_>>()
    };
    assert_eq!(sums(&sensor.report()), sums(&shown));
}

/// Each of the two is needed.
#[test]
fn without_quotas_or_the_coarse_level_more_is_lost() {
    if !xtask::require_root("without_quotas_or_the_coarse_level_more_is_lost") {
        return;
    }
    let _serially = SERIALLY.lock();
    let bench = Bench::new(&Options::default()).unwrap();
    let flood = |faults: &str| {
        let path = bench.dir().join(format!("{faults}.db"));
        let path = config(&path).write(bench.dir());
        let mut command = bench.gateway().command(LABGATE);
        command.arg("run").arg("--config").arg(path).env("LABGATE_FAULTS", faults);
        let process = bench.gateway().start(command).unwrap();
        let sensor = Sensor::ready(bench.gateway(), process);
        let flooded = scan(&bench, &sensor, DESTINATIONS / 10);
        sensor.stop();
        flooded
    };
    let (with, no_coarse, no_quotas) =
        (flood(""), flood("without=coarse"), flood("without=quotas"));
    let detail = |flooded: &Flooded| flooded.in_detail * 100 / flooded.sent;
    let (with_quotas, without) = (detail(&with), detail(&no_quotas));
    assert!(with_quotas >= 97 && without < 90, "{with_quotas} %, {without} %");
    // What finds no slot keeps its country as long as there is room for its network.
    let books = [&with, &no_coarse].map(|flooded| &flooded.report.books);
    assert!(books[0].coarse_packets > 0 && books[1].coarse_packets == 0, "{books:#?}");
    assert!(books[1].overflow_packets > 0, "{books:#?}");
}
