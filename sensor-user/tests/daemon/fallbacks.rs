//! Where native XDP can't be had: TC ingress and the reason, or a refusal; never generic XDP.

use aya::programs::XdpMode;
use labgate::kernel::{Sensor as Programs, Sizes, XdpBuffers};
use xtask::bench::{
    Bench, Options,
    plan::{LAN0, LAN1},
};

use crate::{
    hooks::{Hooks, assert_nothing_attached},
    sensor::{Config, Sensor, device, launch, one_sentence, ping, sum},
};

/// A bench on which the phones' LAN arrives at a bridge, for which no kernel has native XDP.
fn bench_with_a_bridge() -> Bench {
    let bench = Bench::new(&Options::default()).unwrap();
    let (mac, address) = (LAN0.mac, LAN0.gateway4);
    bench
        .gateway()
        .ip(&format!(
            "link add lanbr address {mac} type bridge\nlink set lan0 master lanbr\n\
             addr flush dev lan0\naddr add {address}/24 dev lanbr\nlink set lanbr up\n"
        ))
        .unwrap();
    bench
}

fn on_the_bridge(attach: &str) -> Config {
    let interface = format!("{{ name: lanbr, attach: {attach} }}");
    Config { interfaces: vec![interface], ..Config::default() }
}

#[test]
fn a_bridge_is_counted_at_tc_ingress_and_the_reason_is_given() {
    if !xtask::require_root("a_bridge_is_counted_at_tc_ingress_and_the_reason_is_given") {
        return;
    }
    let bench = bench_with_a_bridge();
    let sensor = Sensor::start(&bench, &on_the_bridge("auto"));
    assert_eq!(Hooks::of(bench.gateway(), "lanbr").xdp, [], "no generic XDP either");
    assert_eq!(Hooks::of(bench.gateway(), "lanbr").tcx, [["labgate_ingress"], ["labgate_egress"]]);

    assert!(ping(bench.device("galaxy"), LAN0.gateway4));
    let report = sensor.settled();
    let icmp = sum(&device(&report, "galaxy").destinations, |row| row.protocol == "icmp");
    assert_eq!((icmp.tx_packets, icmp.tx_bytes, icmp.rx_packets, icmp.rx_bytes), (1, 98, 1, 98));

    let [interface] = &report.interfaces[..] else { panic!("{:?}", report.interfaces) };
    assert_eq!((&*interface.name, &*interface.ingress), ("lanbr", "tc"));
    let reason = &interface.fallback_reason;
    assert!(reason.contains("does not support"), "{reason}");
    let metric = sensor.metric("labgate_attach_info{");
    assert_eq!(metric.len(), 1, "{metric:?}");
    for label in ["interface=\"lanbr\"", "ingress=\"tc\"", &format!("fallback_reason=\"{reason}\"")]
    {
        assert!(metric[0].contains(label), "{label} in {metric:?}");
    }
    let log = sensor.stop();
    assert!(log.contains("without native XDP") && log.contains(reason), "{log}");
}

#[test]
fn a_bridge_has_no_native_xdp_to_insist_on() {
    if !xtask::require_root("a_bridge_has_no_native_xdp_to_insist_on") {
        return;
    }
    let bench = bench_with_a_bridge();
    let said = one_sentence(launch(&bench, bench.gateway(), &on_the_bridge("xdp")));
    assert!(said.contains("lanbr has no native XDP") && said.contains("attach: tc"), "{said}");
    assert_nothing_attached(bench.gateway(), &["lanbr", "lan0"]);
}

#[test]
fn jumbo_frames_get_the_program_for_fragments() {
    if !xtask::require_root("jumbo_frames_get_the_program_for_fragments") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let program = |mtu: u32| {
        bench.gateway().ip(&format!("link set lan1 mtu {mtu}")).unwrap();
        bench.device("smart-plug").ip(&format!("link set eth0 mtu {mtu}")).unwrap();
        let config = Config {
            interfaces: vec!["{ name: lan1, attach: xdp }".to_owned()],
            ..Config::default()
        };
        let sensor = Sensor::start(&bench, &config);
        let hooks = Hooks::of(bench.gateway(), "lan1");
        sensor.stop();
        hooks.xdp
    };
    let native = |name: &str| [("xdp".to_owned(), name.to_owned())];
    assert_eq!(program(1500), native("labgate_xdp"));
    assert_eq!(program(9000), native("labgate_frags"));
}

#[test]
fn a_taken_xdp_slot_is_refused_or_left_alone() {
    if !xtask::require_root("a_taken_xdp_slot_is_refused_or_left_alone") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let sizes =
        Sizes { flow_slots_per_cpu: 1024, coarse_entries: 64, device_macs: 0, unknown_devices: 4 };
    let (mut owner, _table) = Programs::load(&sizes, &[]).unwrap();
    let attach = || owner.xdp(XdpBuffers::One).unwrap().attach("lan1", XdpMode::Driver).map(drop);
    gateway.enter(attach).unwrap().unwrap();
    let taken = Hooks::of(gateway, "lan1");
    assert_eq!(taken.xdp.len(), 1);

    for attach in ["auto", "xdp"] {
        let config = Config {
            interfaces: vec![format!("{{ name: lan1, attach: {attach} }}")],
            ..Config::default()
        };
        let said = one_sentence(launch(&bench, gateway, &config));
        let holder = "XDP slot of lan1 is taken by program `labgate_xdp` (id ";
        assert!(said.contains(holder) && said.contains("native"), "{said}");
        let process = format!("({})", std::process::id());
        assert!(said.contains("held by process") && said.contains(&process), "{said}");
        assert_eq!(Hooks::of(gateway, "lan1"), taken, "{attach}: only the owner's program");
    }

    let config = Config {
        interfaces: vec!["{ name: lan1, attach: auto, when_xdp_is_taken: tc }".to_owned()],
        ..Config::default()
    };
    let sensor = Sensor::start(&bench, &config);
    let hooks = Hooks::of(gateway, "lan1");
    assert_eq!(hooks.xdp, taken.xdp);
    assert_eq!(hooks.tcx, [["labgate_ingress"], ["labgate_egress"]]);
    assert!(ping(bench.device("smart-plug"), LAN1.gateway4));
    let report = sensor.settled();
    let reason = &report.interfaces[0].fallback_reason;
    assert!(reason.contains("the XDP slot is taken by program `labgate_xdp` (id "), "{reason}");
    let icmp = sum(&device(&report, "smart-plug").destinations, |row| row.protocol == "icmp");
    assert_eq!((icmp.tx_packets, icmp.rx_packets), (1, 1));
    sensor.stop();
    assert_eq!(Hooks::of(gateway, "lan1"), taken, "the owner keeps its program");
}
