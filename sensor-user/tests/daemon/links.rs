//! Interfaces that come, change and go under a running daemon.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use aya::programs::{LinkOrder, TcAttachType, tc::TcAttachOptions};
use labgate::kernel::{Sensor as Programs, Sizes};
use nix::sys::signal::{Signal, kill};
use sensor_common::report::{Interface, Report};
use xtask::bench::{Bench, Options, plan::GERMANY};

use crate::{
    hooks::{Hooks, assert_nothing_attached},
    sensor::{
        Config, PATIENCE, Sensor, device, launch, launch_file, one_sentence, ping, send_udp, sum,
    },
};

fn interface<'a>(report: &'a Report, name: &str) -> &'a Interface {
    report.interfaces.iter().find(|interface| interface.name == name).unwrap()
}

/// Waits until the report is as it should be.
#[track_caller]
fn wait(sensor: &Sensor<'_>, what: &str, is_so: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = sensor.report();
        if is_so(&report) {
            return report;
        }
        let log = sensor.process.output();
        assert!(Instant::now() < deadline, "{what}: {:#?}\n{log}", report.interfaces);
        thread::sleep(Duration::from_millis(20));
    }
}

fn ends(interface: &Interface) -> Vec<&str> {
    interface.coverage.iter().map(|span| span.end.as_str()).collect()
}

/// What the phone sent to Germany.
fn sent(report: &Report) -> u64 {
    let rows = &device(report, "redmi-1s").destinations;
    sum(rows, |row| row.country == "DE" && row.protocol == "udp").tx_packets
}

#[test]
fn an_interface_that_is_deleted_and_made_again_is_watched_again() {
    if !xtask::require_root("an_interface_that_is_deleted_and_made_again_is_watched_again") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let phone = bench.device("redmi-1s");
    let sensor = Sensor::start(&bench, &Config::default());
    send_udp(phone, GERMANY.ipv4, 9);
    let before = sensor.settled();
    assert_eq!(ends(interface(&before, "lan0")), [""]);

    bench.unplug_lan0().unwrap();
    let report = wait(&sensor, "gone", |report| !interface(report, "lan0").watched);
    let lan0 = interface(&report, "lan0");
    assert_eq!((ends(lan0), lan0.link.as_str()), (vec!["gone"], ""));
    assert_eq!(lan0.reason, "interface lan0 does not exist");
    assert!(interface(&report, "lan1").watched);
    let ready = bench.gateway().run(&["curl", "-sS", "http://127.0.0.1:9469/readyz"]).unwrap();
    assert!(ready.contains("not watched: lan0"), "{ready}");

    bench.plug_lan0().unwrap();
    let report = wait(&sensor, "back", |report| interface(report, "lan0").watched);
    assert_eq!(ends(interface(&report, "lan0")), ["gone", ""]);
    assert_eq!(interface(&report, "lan0").ingress, "xdp");
    // The gateway has another MAC address to find first.
    let deadline = Instant::now() + PATIENCE;
    while !ping(phone, GERMANY.ipv4) {
        assert!(Instant::now() < deadline);
    }
    send_udp(phone, GERMANY.ipv4, 9);
    let after = sensor.settled();
    assert_eq!(sent(&after), 2);
    assert!(after.books.closed);
    assert!(after.books.interface_packets > before.books.interface_packets);
    let name = "labgate_interface_detachments_total{interface=\"lan0\",reason=\"gone\"} 1";
    assert_eq!(sensor.metric(name).len(), 1);
    sensor.stop();
}

#[test]
fn a_renamed_interface_is_followed_until_another_has_its_name() {
    if !xtask::require_root("a_renamed_interface_is_followed_until_another_has_its_name") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let (phone, gateway) = (bench.device("redmi-1s"), bench.gateway());
    let sensor = Sensor::start(&bench, &Config::default());
    gateway.ip("link set lan0 down\nlink set lan0 name office\nlink set office up\n").unwrap();
    let report = wait(&sensor, "renamed", |report| interface(report, "lan0").link == "office");
    assert_eq!(ends(interface(&report, "lan0")), [""]);
    let lan = xtask::bench::plan::LANS[0];
    gateway.ip(&format!("addr replace {}/24 dev office\n", lan.gateway4)).unwrap();
    gateway.run(&["ip", "route", "replace", "default", "via", "198.51.100.2"]).ok();
    send_udp(phone, GERMANY.ipv4, 9);
    assert_eq!(sent(&sensor.settled()), 1);

    gateway.ip("link add lan0 type veth peer name far0\n").unwrap();
    let report = wait(&sensor, "taken over", |report| interface(report, "lan0").link == "lan0");
    assert_eq!(ends(interface(&report, "lan0")), ["renamed", ""]);
    assert_nothing_attached(gateway, &["office"]);
    sensor.stop();
}

#[test]
fn a_port_of_a_watched_bridge_is_not_counted_twice() {
    if !xtask::require_root("a_port_of_a_watched_bridge_is_not_counted_twice") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    gateway.ip("link add br-lan type bridge\nlink set br-lan up\n").unwrap();
    let mut config = Config::default();
    config.interfaces.push("{ name: br-lan }".to_owned());
    let sensor = Sensor::start(&bench, &config);
    let report = sensor.report();
    assert_eq!(interface(&report, "br-lan").ingress, "tc");
    assert!(!interface(&report, "br-lan").fallback_reason.is_empty());

    gateway.ip("link set lan0 master br-lan\n").unwrap();
    let report = wait(&sensor, "covered", |report| !interface(report, "lan0").watched);
    assert_eq!(ends(interface(&report, "lan0")), ["covered"]);
    assert!(interface(&report, "lan0").reason.contains("br-lan"), "{report:?}");
    gateway.ip("link set lan0 nomaster\n").unwrap();
    let report = wait(&sensor, "free", |report| interface(report, "lan0").watched);
    assert_eq!(ends(interface(&report, "lan0")), ["covered", ""]);
    sensor.stop();

    // The same from the start is refused.
    gateway.ip("link set lan0 master br-lan\n").unwrap();
    let said = one_sentence(launch(&bench, gateway, &config));
    assert!(said.contains("lan0") && said.contains("br-lan") && said.contains("twice"), "{said}");
    assert_nothing_attached(gateway, &["lan0", "lan1", "br-lan"]);
}

#[test]
fn programs_that_somebody_took_off_are_put_back() {
    if !xtask::require_root("programs_that_somebody_took_off_are_put_back") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let sensor = Sensor::start(&bench, &Config::default());
    let before = Hooks::of(bench.gateway(), "lan1");
    let json = |command: &[&str]| -> serde_json::Value {
        serde_json::from_str(&bench.gateway().run(command).unwrap()).unwrap()
    };
    let program = &json(&["ip", "-d", "-j", "link", "show", "lan1"])[0]["xdp"]["prog"]["id"];
    let links = json(&["bpftool", "-j", "link", "show"]);
    let ours = links.as_array().unwrap().iter().find(|link| link["prog_id"] == *program);
    let id = ours.unwrap()["id"].to_string();
    bench.gateway().run(&["bpftool", "link", "detach", "id", &id]).unwrap();
    let both = |report: &Report| report.interfaces.iter().any(|i| ends(i) == ["detached", ""]);
    wait(&sensor, "attached again", both);
    assert_eq!(Hooks::of(bench.gateway(), "lan1"), before);
    sensor.stop();
}

#[test]
fn filters_and_their_qdisc_are_put_back_whatever_else_is_there() {
    if !xtask::require_root("filters_and_their_qdisc_are_put_back_whatever_else_is_there") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let tc = |command: &str| {
        let words: Vec<_> = ["tc"].into_iter().chain(command.split(' ')).collect();
        gateway.run(&words).unwrap();
    };
    tc("qdisc add dev lan0 clsact");
    tc("filter add dev lan0 ingress prio 10 u32 match u32 0 0 flowid 1:1");
    tc("filter add dev lan0 egress prio 10 u32 match u32 0 0 flowid 1:1");
    let sensor = Sensor::start(&bench, &Config::attached("tc", "clsact"));
    let before = Hooks::of(gateway, "lan0");
    assert_eq!(before.filters[0], ["labgate_ingress", "u32"]);
    assert_eq!(before.filters[1], ["labgate_egress", "u32"]);
    tc("filter del dev lan0 egress pref 1");
    tc("qdisc del dev lan1 clsact");
    let ends_of = |report: &Report, name: &str| ends(interface(report, name)).join(" ");
    let report = wait(&sensor, "put back", |report| {
        ["lan0", "lan1"].iter().all(|name| ends_of(report, name) == "detached ")
    });
    for name in ["lan0", "lan1"] {
        let [before, after] = &interface(&report, name).coverage[..] else { panic!() };
        assert!(before.to < after.from, "a gap from the last look on: {before:?} {after:?}");
    }
    assert_eq!(Hooks::of(gateway, "lan0").filters, before.filters);
    assert_eq!(Hooks::of(gateway, "lan1").filters, [["labgate_ingress"], ["labgate_egress"]]);
    sensor.stop();
    assert_eq!(Hooks::of(gateway, "lan0").filters, [["u32"], ["u32"]]);
}

#[test]
fn what_is_in_the_way_of_a_clsact_filter_is_named() {
    if !xtask::require_root("what_is_in_the_way_of_a_clsact_filter_is_named") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let tc = |command: &str| {
        let words: Vec<_> = ["tc"].into_iter().chain(command.split(' ')).collect();
        gateway.run(&words).unwrap();
    };
    tc("qdisc add dev lan0 ingress");
    for attach in ["auto", "tc"] {
        let config = Config::attached(attach, "clsact");
        let said = one_sentence(launch(&bench, gateway, &config));
        assert!(said.contains("lan0 has a qdisc of kind `ingress`"), "{said}");
    }
    tc("qdisc del dev lan0 ingress");
    tc("qdisc add dev lan0 clsact");
    tc("filter add dev lan0 egress prio 1 u32 match u32 0 0 flowid 1:1");
    let said = one_sentence(launch(&bench, gateway, &Config::attached("auto", "clsact")));
    assert!(said.contains("the u32 filter of priority 1 sits at TC egress of lan0"), "{said}");
    // TCX comes before all filters.
    let sensor = Sensor::start(&bench, &Config::attached("auto", "auto"));
    assert_eq!(Hooks::of(gateway, "lan0").tcx[1], ["labgate_egress"]);
    sensor.stop();
    assert_eq!(Hooks::of(gateway, "lan0").filters[1], ["u32"]);
}

#[test]
fn a_program_that_came_first_later_is_overtaken() {
    if !xtask::require_root("a_program_that_came_first_later_is_overtaken") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let sizes =
        Sizes { flow_slots_per_cpu: 1024, coarse_entries: 64, device_macs: 0, unknown_devices: 4 };
    let (mut other, _table) = Programs::load(&sizes, &[]).unwrap();
    let sensor = Sensor::start(&bench, &Config::attached("auto", "tcx"));
    let place = TcAttachOptions::TcxOrder(LinkOrder::first());
    let attach = || {
        let program = other.classifier("labgate_ingress").unwrap();
        program.attach_with_options("lan1", TcAttachType::Egress, place).map(drop)
    };
    bench.gateway().enter(attach).unwrap().unwrap();
    let names = || Hooks::of(bench.gateway(), "lan1").tcx[1].clone();
    assert_eq!(names(), ["labgate_ingress", "labgate_egress"]);
    wait(&sensor, "overtaken", |report| ends(interface(report, "lan1")) == ["preceded", ""]);
    assert_eq!(names(), ["labgate_egress", "labgate_ingress"]);
    sensor.stop();
}

#[test]
fn an_mtu_for_jumbo_frames_needs_a_word_in_the_configuration() {
    if !xtask::require_root("an_mtu_for_jumbo_frames_needs_a_word_in_the_configuration") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let path = bench.dir().join("jumbo.yaml");
    let config = Config::default();
    fs::write(&path, config.text()).unwrap();
    let mut sensor = Sensor::ready(gateway, launch_file(gateway, &path));
    let program = |name: &str| {
        Hooks::of(gateway, "lan0").xdp == [("xdp".to_owned(), format!("labgate_{name}"))]
    };
    assert!(program("xdp"));
    // A veth takes frames as its peer's MTU allows.
    let switch = bench.switch();
    assert!(switch.ip("link set uplink mtu 9000\n").is_err(), "the driver refuses");
    gateway.ip("link set lan0 mtu 1400\n").unwrap();
    wait(&sensor, "MTU", |report| interface(report, "lan0").mtu == 1400);

    let jumbo = "{ name: lan0, jumbo_frames: true }".to_owned();
    let lan1 = config.interfaces[1].clone();
    fs::write(&path, Config { interfaces: vec![jumbo, lan1], ..config.clone() }.text()).unwrap();
    kill(sensor.process.pid(), Signal::SIGHUP).unwrap();
    sensor.process.wait_for_output("reloaded what=\"configuration\"", PATIENCE).unwrap();
    assert!(program("frags"));
    switch.ip("link set uplink mtu 9000\n").unwrap();
    gateway.ip("link set lan0 mtu 9000\n").unwrap();
    wait(&sensor, "MTU", |report| interface(report, "lan0").mtu == 9000);

    assert_eq!(ends(interface(&sensor.report(), "lan0")), ["changed", ""]);
    sensor.stop();
}

#[test]
fn interfaces_are_added_and_removed_by_a_reload_all_or_none() {
    if !xtask::require_root("interfaces_are_added_and_removed_by_a_reload_all_or_none") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let path = bench.dir().join("interfaces.yaml");
    let with = |interfaces: &[&str]| {
        let interfaces = interfaces.iter().map(ToString::to_string).collect();
        fs::write(&path, Config { interfaces, ..Config::default() }.text()).unwrap();
    };
    with(&["lan0"]);
    let mut sensor = Sensor::ready(gateway, launch_file(gateway, &path));
    assert!(Hooks::of(gateway, "lan1").is_empty());
    let hangup = |sensor: &Sensor<'_>| kill(sensor.process.pid(), Signal::SIGHUP).unwrap();

    // One of two can't be had.
    with(&["lan0", "lan1", "lan9"]);
    hangup(&sensor);
    sensor.process.wait_for_output("interface lan9 does not exist", PATIENCE).unwrap();
    assert!(Hooks::of(gateway, "lan1").is_empty());
    assert_eq!(sensor.report().interfaces.len(), 2, "{:?}", sensor.report().interfaces);

    with(&["lan1", "{ name: lan9, when_missing: wait }"]);
    hangup(&sensor);
    let report = wait(&sensor, "reloaded", |report| {
        report.interfaces.iter().any(|interface| interface.name == "lan9")
    });
    assert_eq!(ends(interface(&report, "lan0")), ["removed"]);
    assert!(!interface(&report, "lan0").configured);
    assert!(interface(&report, "lan1").watched && !interface(&report, "lan9").watched);
    assert_nothing_attached(gateway, &["lan0"]);
    gateway.ip("link add lan9 type veth peer name far9\nlink set lan9 up\n").unwrap();
    wait(&sensor, "appeared", |report| interface(report, "lan9").watched);
    sensor.stop();
    assert_nothing_attached(gateway, &["lan0", "lan1", "lan9"]);
}
