//! One way to attach, tried: what the sensor counts beside what the interfaces count and what was sent.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use sensor_common::report::Report;

use super::{
    sensor::{Counts, Sensor, Way, sum},
    traffic::{self, DATAGRAM, TCP_PORT, UDP_PORT},
};
use crate::{
    bench::{
        Bench, LinkCounters, Namespace, Options,
        plan::{DEVICES, GERMANY},
        when_silent,
    },
    verify::result::{Kernel, Mode},
};

/// Octets that TCP moves in each direction and over each family.
const OCTETS: u64 = 2 << 20;
/// Datagrams there and back over each family.
const DATAGRAMS: u64 = 100;
/// What the headers of a datagram take, Ethernet's included.
const IPV4_UDP: u64 = 14 + 20 + 8;
const IPV6_UDP: u64 = 14 + 40 + 8;
/// What the counters of a veth leave out at ingress where native XDP or GRO takes the frame.
const ETHERNET: u64 = 14;
/// The shortest and the longest frame that the bench sends.
const FRAME: std::ops::RangeInclusive<u64> = 42..=1514;

const LANS: [&str; 2] = ["lan0", "lan1"];
/// With nothing between it and the gateway.
const PLUG: &str = "smart-plug";
/// Behind the switch.
const PHONE: &str = "galaxy";
/// How long the programs count for themselves.
const ALONE: Duration = Duration::from_secs(1);

/// Tries it, and enters what was found out.
///
/// # Errors
/// When something can't be started, attached or asked.
pub(super) fn run(way: Way, kernel: &mut Kernel) -> Result<()> {
    let mut mode = Mode::default();
    frames(way, kernel, &mut mode)?;
    segments(way, &mut mode)?;
    if kernel.modes.is_empty() {
        kernel.mode.clone_from(&mode.mode);
    }
    kernel.modes.push(mode);
    Ok(())
}

/// Frames as on a wire, and a sensor that is killed.
fn frames(way: Way, kernel: &mut Kernel, mode: &mut Mode) -> Result<()> {
    let bench = Bench::new(&Options { lan_offloads: false, lan_up: false })?;
    eprintln!("  the bench is there");
    let lans = LANS.map(|lan| (bench.gateway(), lan));
    let mut sensor = Sensor::start(&bench, way, &LANS)?;
    eprintln!("  the sensor counts");
    if kernel.instructions.is_empty() {
        kernel.instructions = sensor.instructions();
        kernel.loaded = kernel.instructions.len() == 4;
    }
    bench.lan_up()?;
    traffic::serve(bench.internet())?;
    for name in [PLUG, PHONE] {
        exchange(bench.device(name), OCTETS)?;
    }
    let (report, links) = when_silent(lans, || sensor.settled())?;
    mode.mode = attached(&report, way)?;
    let exchanges = 2;
    let differences = compare(&report, &links, exchanges);
    mode.frames_equal = differences.is_empty();
    mode.differences.extend(differences);

    // Over a kill and a start.
    let traffic = thread::scope(|scope| -> Result<()> {
        let traffic = scope.spawn(|| {
            (0..2).try_for_each(|_| exchange(bench.device(PLUG), 2 * OCTETS)) //
        });
        thread::sleep(ALONE / 4);
        sensor.kill_and_restart(ALONE)?;
        traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    traffic?;
    let (report, links) = when_silent(lans, || sensor.settled())?;
    let differences = compare(&report, &links, exchanges + 2);
    mode.restart_equal = differences.is_empty();
    mode.packets += report.books.seen_packets;
    mode.differences.extend(differences.into_iter().map(|what| format!("after a kill: {what}")));
    sensor.stop()
}

/// TCP and UDP over both families.
fn exchange(device: &Namespace, octets: u64) -> Result<()> {
    for host in traffic::hosts() {
        traffic::tcp(device, host, octets)?;
        traffic::udp(device, host, DATAGRAMS)?;
    }
    Ok(())
}

/// How it is attached to the first interface; all must be the same, and as it was told.
fn attached(report: &Report, way: Way) -> Result<String> {
    let modes: Vec<_> = report
        .interfaces
        .iter()
        .map(|interface| format!("{}+{}", interface.ingress, interface.egress))
        .collect();
    ensure!(modes.iter().all(|mode| *mode == modes[0]), "not attached alike: {modes:?}");
    // A veth has native XDP on every kernel.
    let ingress = if way.attach == "auto" { "xdp" } else { way.attach };
    ensure!(modes[0].starts_with(ingress), "{way}, and attached as {}", modes[0]);
    let is_told = way.tc_attach == "auto" || modes[0].ends_with(way.tc_attach);
    ensure!(is_told, "{way}, and attached as {}", modes[0]);
    Ok(modes[0].clone())
}

/// What differs between the sensor's counts, the interfaces' and what was sent.
fn compare(report: &Report, links: &[LinkCounters; 2], exchanges: u64) -> Vec<String> {
    let mut differences = Vec::new();
    let mut same = |what: &str, counted: u64, expected: u64| {
        if counted != expected {
            differences.push(format!("{what}: {counted} counted, {expected} expected"));
        }
    };
    let total = |count: fn(&LinkCounters) -> u64| links.iter().map(count).sum::<u64>();
    let sensed = sum(report, |_| true);

    let received = total(|link| link.rx_packets);
    let is_xdp = report.interfaces.iter().all(|interface| interface.ingress == "xdp");
    let headers = if is_xdp { ETHERNET * received } else { 0 };
    same("packets sent", sensed.tx_packets, received);
    same("bytes sent", sensed.tx_bytes, total(|link| link.rx_bytes) + headers);
    // Egress is counted before the driver may drop.
    let dropped = total(|link| link.tx_dropped);
    same("packets received", sensed.rx_packets, total(|link| link.tx_packets) + dropped);
    let dropped_bytes = sensed.rx_bytes.wrapping_sub(total(|link| link.tx_bytes));
    let lost = dropped * FRAME.start()..=dropped * FRAME.end();
    same("bytes received", u64::from(!lost.contains(&dropped_bytes)), 0);

    // Of these it is known how many were sent, and how long they are.
    for (headers, host) in [(IPV4_UDP, Some(GERMANY.ipv4)), (IPV6_UDP, GERMANY.ipv6)] {
        let udp = sum(report, |row| {
            row.protocol == "udp" && row.port == UDP_PORT && row.address.as_deref() == host
        });
        let packets = exchanges * DATAGRAMS;
        let bytes = packets * (headers + DATAGRAM as u64);
        let expected =
            Counts { tx_packets: packets, tx_bytes: bytes, rx_packets: packets, rx_bytes: bytes };
        if udp != expected {
            same(&format!("datagrams {udp:?}, not {expected:?}"), 0, 1);
        }
    }

    let books = &report.books;
    same("books closed", u64::from(books.closed), 1);
    same("packets seen", books.seen_packets, sensed.tx_packets + sensed.rx_packets);
    same("bytes seen", books.seen_bytes, sensed.tx_bytes + sensed.rx_bytes);
    same("packets attributed", books.attributed_packets, books.seen_packets);
    differences
}

/// Super-packets: the interface counts each as one, and the sensor what it becomes, which are the frames
/// at the device's own end of the link, where none are merged.
fn segments(way: Way, mode: &mut Mode) -> Result<()> {
    let bench = Bench::new(&Options { lan_offloads: true, lan_up: false })?;
    let mut sensor = Sensor::start(&bench, way, &LANS[..1])?;
    alone_with_single_frames(&bench, PHONE)?;
    bench.lan_up()?;
    traffic::serve(bench.internet())?;
    let phone = bench.device(PHONE);
    let mut now = || -> Result<_> {
        let links = [(bench.gateway(), "lan0"), (phone, "eth0"), (bench.switch(), "uplink")];
        let (report, [lan0, end, uplink]) = when_silent(links, || sensor.settled())?;
        Ok((sum(&report, |_| true), lan0, end, uplink, report))
    };
    // What the gateway says before the device's link is up, nobody at its end can count.
    let (sensed_before, lan0_before, end_before, uplink_before, _) = now()?;
    for host in traffic::hosts() {
        traffic::tcp(phone, host, OCTETS)?;
    }
    let (sensed, lan0, end, uplink, report) = now()?;
    let sensed = sensed.since(sensed_before);

    let mut differences = Vec::new();
    let mut same = |what: &str, counted: u64, expected: u64| {
        if counted != expected {
            differences
                .push(format!("super-packets, {what}: {counted} counted, {expected} expected"));
        }
    };
    // Before Linux 6.16 a veth drops where its ring is full, here between the switch and the gateway. A
    // dropped super-packet is one to the interface: of how many frames, nobody knows.
    let lost = uplink.tx_dropped - uplink_before.tx_dropped;
    let sent = end.tx_packets - end_before.tx_packets;
    if lost == 0 {
        same("packets sent", sensed.tx_packets, sent);
        // A veth whose peer merges frames has the peer count, behind the Ethernet header.
        let bytes = end.tx_bytes - end_before.tx_bytes + ETHERNET * sent;
        same("bytes sent", sensed.tx_bytes, bytes);
    } else {
        same("packets sent beyond what was lost", u64::from(sensed.tx_packets > sent), 0);
    }
    let merged = lan0.rx_packets - lan0_before.rx_packets;
    if mode.mode.starts_with("xdp") {
        // Native XDP has the peer of a veth split them.
        same("packets at the interface", sensed.tx_packets, merged);
    } else {
        same("uploads were merged", u64::from(2 * merged < sensed.tx_packets), 1);
    }

    same("packets dropped", lan0.tx_dropped, 0);
    same("packets received", sensed.rx_packets, end.rx_packets - end_before.rx_packets);
    same("bytes received", sensed.rx_bytes, end.rx_bytes - end_before.rx_bytes);
    let merged = lan0.tx_packets - lan0_before.tx_packets;
    same("downloads were merged", u64::from(2 * merged < sensed.rx_packets), 1);
    let tcp = sum(&report, |row| row.protocol == "tcp" && row.port == TCP_PORT);
    same("all octets sent", u64::from(tcp.tx_bytes > 2 * OCTETS), 1);
    same("all octets received", u64::from(tcp.rx_bytes > 2 * OCTETS), 1);
    same("books closed", u64::from(report.books.closed), 1);

    mode.segments_equal = differences.is_empty();
    mode.packets += sensed.tx_packets + sensed.rx_packets;
    mode.differences.extend(differences);
    sensor.stop()
}

/// Takes all other devices off the switch. What this one sends or receives is split at its end of
/// the link; what it has sent, the switch merges again.
fn alone_with_single_frames(bench: &Bench, name: &str) -> Result<()> {
    let set = |namespace: &Namespace, interface: &str, features: &[&str]| {
        namespace.run(&[&["ethtool", "-K", interface], features].concat()).map(drop)
    };
    for (index, spec) in DEVICES.iter().enumerate().filter(|(_, spec)| spec.lan.interface == "lan0")
    {
        let port = format!("port{index}");
        if spec.name == name {
            set(bench.switch(), &port, &["tso", "off", "gso", "off", "gro", "on"])?;
        } else {
            bench.switch().ip(&format!("link set {port} nomaster\n"))?;
        }
    }
    set(bench.device(name), "eth0", &["tso", "off", "gso", "off", "gro", "off"])
}
