//! Ends of a daemon: by order and by kill -9, and what the next start finds.

use nix::sys::signal::Signal;
use xtask::bench::{
    Bench, Options,
    plan::{GERMANY, LAN0},
};

use crate::{
    hooks::{Hooks, assert_nothing_attached},
    sensor::{Config, LABGATE, PATIENCE, Sensor, device, launch, ping, send_udp, sum},
};

const LANS: [&str; 2] = ["lan0", "lan1"];
const OURS: [[&str; 1]; 2] = [["labgate_ingress"], ["labgate_egress"]];

#[test]
fn xdp_and_tcx_end_where_they_are_told_to() {
    if !xtask::require_root("xdp_and_tcx_end_where_they_are_told_to") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    for attach in ["xdp", "tc"] {
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
            let mut sensor = Sensor::start(&bench, &Config::attached(attach, "tcx"));
            let hooks = Hooks::of(bench.gateway(), "lan1");
            assert_eq!(hooks.tcx[1], ["labgate_egress"]);
            if attach == "xdp" {
                assert_eq!(hooks.xdp.len(), 1, "{hooks:?}");
                assert_eq!(hooks.xdp[0].0, "xdp", "native: {hooks:?}");
            }
            let status = sensor.process.stop(signal, PATIENCE).unwrap();
            assert_eq!(status.code(), (signal != Signal::SIGKILL).then_some(0));
            if signal != Signal::SIGINT {
                let after = Hooks::of(bench.gateway(), "lan1");
                assert_eq!(format!("{after:?}"), format!("{hooks:?}"), "they go on counting");
                let said = bench.gateway().run(&[LABGATE, "detach"]).unwrap();
                assert!(said.contains("removed 4 link(s)"), "{said}");
            }
            assert_nothing_attached(bench.gateway(), &LANS);
            let said = bench.gateway().run(&[LABGATE, "detach"]).unwrap();
            assert!(said.contains("nothing was left"), "{said}");
        }
    }
}

#[test]
fn clsact_filters_are_removed_or_replaced() {
    if !xtask::require_root("clsact_filters_are_removed_or_replaced") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let config = Config::attached("tc", "clsact");
    let filters = || LANS.map(|lan| Hooks::of(gateway, lan).filters);
    let killed = || {
        let mut sensor = Sensor::start(&bench, &config);
        sensor.process.stop(Signal::SIGKILL, PATIENCE).unwrap();
        assert_eq!(filters(), [OURS, OURS], "filters outlive their process");
    };

    Sensor::start(&bench, &config).stop();
    assert_nothing_attached(gateway, &LANS);

    killed();
    // A start replaces them, twice over: there are never two.
    killed();
    let sensor = Sensor::start(&bench, &config);
    assert_eq!(filters(), [OURS, OURS], "never two");
    assert!(ping(bench.device("galaxy"), LAN0.gateway4));
    let report = sensor.settled();
    let icmp = sum(&device(&report, "galaxy").destinations, |row| row.protocol == "icmp");
    assert_eq!((icmp.tx_packets, icmp.rx_packets), (1, 1), "the new ones count, once");
    assert!(gateway.run(&[LABGATE, "detach"]).is_err(), "not while a sensor runs");
    assert_eq!(filters(), [OURS, OURS]);
    sensor.stop();
    assert_nothing_attached(gateway, &LANS);

    // Other people's filters stay.
    let place = ["tc", "filter", "add", "dev", "lan0", "ingress", "prio", "10"];
    gateway
        .run(&[&place[..], &["bpf", "bytecode", "1,6 0 0 0", "direct-action"]].concat())
        .unwrap();
    killed_with_another(&bench, &config);
    let said = gateway.run(&[LABGATE, "detach"]).unwrap();
    assert!(said.contains("lan0: removed 2") && said.contains("lan1: removed 2"), "{said}");
    assert_eq!(Hooks::of(gateway, "lan0").filters, [vec!["bpf".to_owned()], vec![]]);
    assert_nothing_attached(gateway, &["lan1"]);
    let said = gateway.run(&[LABGATE, "detach"]).unwrap();
    assert!(said.contains("nothing was left"), "{said}");
}

fn killed_with_another(bench: &Bench, config: &Config) {
    let mut sensor = Sensor::start(bench, config);
    sensor.process.stop(Signal::SIGKILL, PATIENCE).unwrap();
    let ours_first =
        [vec!["labgate_ingress".to_owned(), "bpf".to_owned()], vec!["labgate_egress".to_owned()]];
    assert_eq!(Hooks::of(bench.gateway(), "lan0").filters, ours_first);
}

#[test]
fn another_way_to_attach_leaves_no_old_filter() {
    if !xtask::require_root("another_way_to_attach_leaves_no_old_filter") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    for (attach, tc_attach) in [("tc", "tcx"), ("xdp", "clsact")] {
        let mut sensor = Sensor::start(&bench, &Config::attached("tc", "clsact"));
        sensor.process.stop(Signal::SIGKILL, PATIENCE).unwrap();
        let sensor = Sensor::start(&bench, &Config::attached(attach, tc_attach));
        let hooks = Hooks::of(bench.gateway(), "lan0");
        let ingress = hooks.xdp.len() + hooks.tcx[0].len() + hooks.filters[0].len();
        let egress = hooks.tcx[1].len() + hooks.filters[1].len();
        assert_eq!((ingress, egress), (1, 1), "{hooks:?}");
        sensor.stop();
        assert_nothing_attached(bench.gateway(), &LANS);
    }
}

#[test]
fn the_last_packets_are_counted() {
    if !xtask::require_root("the_last_packets_are_counted") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    // The only epoch is the one that the end of the process ends; the log tells of its alert.
    let config = Config { epoch: "60s", allowed_countries: "[IN]", ..Config::default() };
    let mut process = launch(&bench, bench.gateway(), &config);
    process.wait_for_output("counting", PATIENCE).unwrap();
    for _ in 0..3 {
        send_udp(bench.device("redmi-1s"), GERMANY.ipv4, 9);
    }
    assert!(!process.output().contains("policy breached"));
    assert_eq!(process.stop(Signal::SIGTERM, PATIENCE).unwrap().code(), Some(0));
    let log = process.output();
    let alert = log.lines().find(|line| line.contains("policy breached"));
    let alert = alert.unwrap_or_else(|| panic!("the last epoch was not read: {log}"));
    assert!(alert.contains("country=DE") && alert.contains("redmi-1s"), "{alert}");
}
