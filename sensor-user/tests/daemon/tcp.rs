//! TCP at full speed through the gateway, and who else counted it.

use std::env;

use sensor_common::report::{Destination, Report};
use xtask::bench::{
    Bench, LinkCounters, Namespace, Options, iperf3,
    plan::{DEVICES, GERMANY, HOSTS},
};

use crate::{
    SERIALLY,
    sensor::{Config, Sensor, device, rows, sum},
};

/// Seconds that each run lasts.
const SECONDS: &str = "LABGATE_TCP_SECONDS";
const IPERF_PORT: u16 = 5201;
/// Octets of an Ethernet header.
const ETHERNET: u64 = 14;

/// Runs iperf3 from `device`, up and down over both families; returns the octets that arrived at
/// the receivers: sent by the device, received by it.
fn traffic(device: &Namespace) -> (u64, u64) {
    let seconds = env::var(SECONDS).unwrap_or_else(|_unset| "1".to_owned());
    let mut moved = (0, 0);
    for host in [GERMANY.ipv4, GERMANY.ipv6.unwrap()] {
        for down in [false, true] {
            let options: Vec<_> =
                ["-t", &*seconds].into_iter().chain(down.then_some("-R")).collect();
            let end = iperf3::run(device, host, &options).unwrap();
            let received = end["sum_received"]["bytes"].as_u64().unwrap();
            assert!(received > 1_000_000, "{end}");
            *if down { &mut moved.1 } else { &mut moved.0 } += received;
        }
    }
    moved
}

fn mac_of(name: &str) -> &'static str {
    DEVICES.iter().find(|spec| spec.name == name).unwrap().mac
}

fn is_iperf(row: &Destination) -> bool {
    row.protocol == "tcp" && row.port == IPERF_PORT
}

/// What the sensor counted, the gateway's interfaces, and the device's end of its link.
fn when_silent(
    bench: &Bench,
    sensor: &Sensor<'_>,
    device: &Namespace,
) -> (Report, [LinkCounters; 2], LinkCounters) {
    let links = [(bench.gateway(), "lan0"), (bench.gateway(), "lan1"), (device, "eth0")];
    let (report, [lan0, lan1, end]) = sensor.when_silent(links);
    (report, [lan0, lan1], end)
}

/// Frames as on a wire: the sensor and the interfaces count the same, one by one.
fn equals_the_interfaces(test: &str, attach: &str, tc_attach: &'static str) {
    if !xtask::require_root(test) {
        return;
    }
    let _serially = SERIALLY.lock();
    let bench = Bench::new(&Options { lan_offloads: false, lan_up: false }).unwrap();
    let sensor = Sensor::start(&bench, &Config::attached(attach, tc_attach));
    bench.lan_up().unwrap();
    let _server = iperf3::serve(bench.internet()).unwrap();
    let galaxy = bench.device("galaxy");
    let (up, down) = traffic(galaxy);

    let (report, interfaces, end) = when_silent(&bench, &sensor, galaxy);
    let total = |count: fn(&LinkCounters) -> u64| interfaces.iter().map(count).sum::<u64>();
    let rx_packets = total(|lan| lan.rx_packets);
    // The driver counts a received frame without its Ethernet header where XDP runs.
    let stripped = if attach == "xdp" { ETHERNET * rx_packets } else { 0 };
    assert_eq!(total(|lan| lan.rx_dropped), 0, "{interfaces:?}");
    let sensed = sum(rows(&report), |_| true);
    assert_eq!(
        (sensed.tx_packets, sensed.tx_bytes),
        (rx_packets, total(|lan| lan.rx_bytes) + stripped),
        "uploads: {interfaces:?}"
    );
    // Egress is counted before the driver may drop.
    let dropped = total(|lan| lan.tx_dropped);
    assert_eq!(sensed.rx_packets, total(|lan| lan.tx_packets) + dropped, "{interfaces:?}");
    let dropped_bytes = sensed.rx_bytes - total(|lan| lan.tx_bytes);
    assert!((dropped * 42..=dropped * 1514).contains(&dropped_bytes), "{interfaces:?} {sensed:?}");

    let books = &report.books;
    assert!(books.closed, "{books:?}");
    assert_eq!(books.seen_packets, books.interface_packets + dropped, "{books:?}");
    assert_eq!(books.seen_packets, sensed.tx_packets + sensed.rx_packets);
    assert_eq!(books.seen_bytes, sensed.tx_bytes + sensed.rx_bytes);
    assert_eq!(books.attributed_packets, books.seen_packets, "{books:?}");

    // Whose it was: the device's own end of the link counts the same frames.
    let entry = device(&report, "galaxy");
    assert_eq!(entry.mac, mac_of("galaxy"));
    let own = sum(&entry.destinations, |_| true);
    assert_eq!((own.tx_packets, own.tx_bytes), (end.tx_packets, end.tx_bytes));
    let flow = sum(&entry.destinations, |row| is_iperf(row) && row.country == "DE");
    assert!(flow.tx_bytes > up && flow.rx_bytes > down, "{flow:?} for {up} up, {down} down");
    for other in report.devices.iter().filter(|device| device.name != "galaxy") {
        let public =
            |row: &Destination| HOSTS.iter().any(|host| row.address.as_deref() == Some(host.ipv4));
        assert!(!other.destinations.iter().any(public), "{other:#?}");
    }
    sensor.stop();
}

/// With super-packets the interface counts them, and the sensor counts what they become: the
/// frames at the device's own end of the link, where none are merged.
fn counts_what_super_packets_become(test: &str, attach: &str, tc_attach: &'static str) {
    if !xtask::require_root(test) {
        return;
    }
    let _serially = SERIALLY.lock();
    let bench = Bench::new(&Options { lan_offloads: true, lan_up: false }).unwrap();
    let config = Config {
        interfaces: vec![format!("{{ name: lan0, attach: {attach} }}")],
        ..Config::attached(attach, tc_attach)
    };
    let sensor = Sensor::start(&bench, &config);
    alone_with_single_frames(&bench, "galaxy");
    bench.lan_up().unwrap();
    let _server = iperf3::serve(bench.internet()).unwrap();

    let galaxy = bench.device("galaxy");
    let now = || {
        let (report, [lan0, _], end) = when_silent(&bench, &sensor, galaxy);
        (sum(rows(&report), |_| true), lan0, end, report)
    };
    // What the gateway says before the device's link is up, nobody at its end can count.
    let (sensed_before, lan0_before, end_before, _) = now();
    let (up, down) = traffic(galaxy);
    let (sensed, lan0, end, report) = now();

    let tx_packets = sensed.tx_packets - sensed_before.tx_packets;
    let tx_bytes = sensed.tx_bytes - sensed_before.tx_bytes;
    let sent = end.tx_packets - end_before.tx_packets;
    // A veth whose peer merges frames has the peer count, behind the Ethernet header.
    let sent_bytes = end.tx_bytes - end_before.tx_bytes + ETHERNET * sent;
    assert_eq!((tx_packets, tx_bytes), (sent, sent_bytes), "uploads: {lan0:?}");
    let super_packets = lan0.rx_packets - lan0_before.rx_packets;
    if attach == "xdp" {
        // Native XDP has the peer of a veth split them.
        let expected = lan0.rx_bytes + ETHERNET * lan0.rx_packets;
        assert_eq!((sensed.tx_packets, sensed.tx_bytes), (lan0.rx_packets, expected));
    } else {
        assert!(2 * super_packets < tx_packets, "{super_packets} are not less than {tx_packets}");
    }

    let rx_packets = sensed.rx_packets - sensed_before.rx_packets;
    let rx_bytes = sensed.rx_bytes - sensed_before.rx_bytes;
    assert_eq!(lan0.tx_dropped, 0, "what they would have become, nobody knows: {lan0:?}");
    assert_eq!(
        (rx_packets, rx_bytes),
        (end.rx_packets - end_before.rx_packets, end.rx_bytes - end_before.rx_bytes),
        "downloads: {lan0:?}"
    );
    let super_packets = lan0.tx_packets - lan0_before.tx_packets;
    assert!(2 * super_packets < rx_packets, "{super_packets} are not less than {rx_packets}");

    let flow = sum(&device(&report, "galaxy").destinations, is_iperf);
    assert!(flow.tx_bytes > up && flow.rx_bytes > down, "{flow:?} for {up} up, {down} down");
    assert!(report.books.closed, "{:?}", report.books);
    sensor.stop();
}

/// Takes all other devices off the switch. What this one sends or receives is split at its end of
/// the link; what it has sent, the switch merges again.
fn alone_with_single_frames(bench: &Bench, name: &str) {
    let set = |namespace: &Namespace, interface: &str, features: &[&str]| {
        namespace.run(&[&["ethtool", "-K", interface], features].concat()).unwrap();
    };
    for (index, spec) in DEVICES.iter().enumerate().filter(|(_, spec)| spec.lan.interface == "lan0")
    {
        let port = format!("port{index}");
        if spec.name == name {
            set(bench.switch(), &port, &["tso", "off", "gso", "off", "gro", "on"]);
        } else {
            bench.switch().ip(&format!("link set {port} nomaster\n")).unwrap();
        }
    }
    set(bench.device(name), "eth0", &["tso", "off", "gso", "off", "gro", "off"]);
}

/// Segments that TCP has sent in a namespace, retransmissions included (RFC 4022).
fn segments_sent(namespace: &Namespace) -> u64 {
    let text = namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"));
    let text = text.unwrap().unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let value = |wanted| {
        let mut columns = names.split_whitespace().zip(values.split_whitespace());
        columns.find(|(name, _)| *name == wanted).unwrap().1.parse::<u64>().unwrap()
    };
    value("OutSegs") + value("RetransSegs")
}

#[test]
fn xdp_equals_the_interfaces() {
    equals_the_interfaces("xdp_equals_the_interfaces", "xdp", "auto");
}

#[test]
fn tcx_equals_the_interfaces() {
    equals_the_interfaces("tcx_equals_the_interfaces", "tc", "tcx");
}

#[test]
fn clsact_equals_the_interfaces() {
    equals_the_interfaces("clsact_equals_the_interfaces", "tc", "clsact");
}

#[test]
fn xdp_counts_what_super_packets_become() {
    counts_what_super_packets_become("xdp_counts_what_super_packets_become", "xdp", "auto");
}

#[test]
fn tcx_counts_what_super_packets_become() {
    counts_what_super_packets_become("tcx_counts_what_super_packets_become", "tc", "tcx");
}

#[test]
fn clsact_counts_what_super_packets_become() {
    counts_what_super_packets_become("clsact_counts_what_super_packets_become", "tc", "clsact");
}

/// On a link without a switch nothing ever splits a super-packet; TCP itself knows.
#[test]
fn tc_ingress_counts_the_segments_that_tcp_sent() {
    if !xtask::require_root("tc_ingress_counts_the_segments_that_tcp_sent") {
        return;
    }
    let _serially = SERIALLY.lock();
    let bench = Bench::new(&Options { lan_offloads: true, lan_up: false }).unwrap();
    let sensor = Sensor::start(&bench, &Config::attached("tc", "auto"));
    bench.lan_up().unwrap();
    let _server = iperf3::serve(bench.internet()).unwrap();
    let plug = bench.device("smart-plug");
    traffic(plug);
    let (report, [_, lan1], _) = when_silent(&bench, &sensor, plug);
    let tcp = sum(&device(&report, "smart-plug").destinations, |row| row.protocol == "tcp");
    assert_eq!(tcp.tx_packets, segments_sent(plug));
    assert!(2 * lan1.rx_packets < tcp.tx_packets, "no super-packets: {lan1:?} {tcp:?}");
    sensor.stop();
}
