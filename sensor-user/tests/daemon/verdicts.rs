//! The sensor observes: whoever sits behind it still runs, and decides.

use sensor_common::report::Report;
use xtask::bench::{
    Bench, Namespace, Options,
    plan::{DEVICES, LAN0},
};

use crate::{
    hooks::Hooks,
    sensor::{Config, Counts, Sensor, device, ping, sum},
};

/// A classic BPF filter of one instruction: return TC_ACT_SHOT.
const DROP: [&str; 4] = ["bpf", "bytecode", "1,6 0 0 2", "direct-action"];

fn drop_ipv4(gateway: &Namespace, hook: &str) {
    let place = ["tc", "filter", "add", "dev", "lan0", hook, "protocol", "ip", "prio", "10"];
    gateway.run(&[&place[..], &DROP].concat()).unwrap();
}

fn undrop(gateway: &Namespace, hook: &str) {
    gateway.run(&["tc", "filter", "del", "dev", "lan0", hook, "prio", "10"]).unwrap();
}

fn icmp(report: &Report) -> Counts {
    sum(&device(report, "galaxy").destinations, |row| row.protocol == "icmp")
}

fn another_program_decides(test: &str, attach: &str, tc_attach: &'static str) {
    if !xtask::require_root(test) {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let sensor = Sensor::start(&bench, &Config::attached(attach, tc_attach));
    let (gateway, galaxy) = (bench.gateway(), bench.device("galaxy"));
    if tc_attach != "clsact" {
        gateway.run(&["tc", "qdisc", "add", "dev", "lan0", "clsact"]).unwrap();
    }
    // Both ends learn each other's MAC address while nothing is dropped.
    let address = DEVICES.iter().find(|spec| spec.name == "galaxy").unwrap().ipv4;
    assert!(ping(galaxy, LAN0.gateway4), "the sensor lets packets pass");
    let before = icmp(&sensor.settled());
    assert_eq!((before.tx_packets, before.rx_packets), (1, 1));

    drop_ipv4(gateway, "ingress");
    let hooks = Hooks::of(gateway, "lan0");
    assert!(!ping(galaxy, LAN0.gateway4), "a filter behind ours drops uploads: {hooks:?}");
    let uploaded = icmp(&sensor.settled());
    assert_eq!((uploaded.tx_packets, uploaded.rx_packets), (2, 1), "counted, then dropped");
    undrop(gateway, "ingress");

    drop_ipv4(gateway, "egress");
    let hooks = Hooks::of(gateway, "lan0");
    assert!(!ping(galaxy, LAN0.gateway4), "a filter behind ours drops downloads: {hooks:?}");
    let downloaded = icmp(&sensor.settled());
    assert_eq!((downloaded.tx_packets, downloaded.rx_packets), (3, 2), "counted, then dropped");
    assert!(!ping(gateway, address), "and what the gateway itself sends");
    undrop(gateway, "egress");

    assert!(ping(galaxy, LAN0.gateway4), "and nothing else had dropped them");
    sensor.stop();
}

#[test]
fn behind_xdp_another_program_decides() {
    another_program_decides("behind_xdp_another_program_decides", "xdp", "auto");
}

#[test]
fn behind_tcx_another_program_decides() {
    another_program_decides("behind_tcx_another_program_decides", "tc", "tcx");
}

#[test]
fn behind_clsact_another_program_decides() {
    another_program_decides("behind_clsact_another_program_decides", "tc", "clsact");
}
