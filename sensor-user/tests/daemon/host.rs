//! What `labgate check` and `labgate init` see of a machine, and what `run` refuses for it.

use std::{fs, net::IpAddr};

use aya::programs::XdpMode;
use labgate::{
    host::{Host, Kind, driver},
    kernel::{Sensor as Programs, Sizes, XdpBuffers},
};
use xtask::bench::{
    Bench, Namespace, Options,
    plan::{DEVICES, LAN0},
};

use crate::{
    hooks::assert_nothing_attached,
    sensor::{Config, LABGATE, Sensor, launch, one_sentence, ping},
};

fn bench() -> Bench {
    Bench::new(&Options::default()).unwrap()
}

fn look(namespace: &Namespace) -> Host {
    namespace.enter(Host::look).unwrap().unwrap()
}

/// The phones' LAN and another port at a bridge, and an interface on top of the second LAN.
fn stack(bench: &Bench) {
    let address = LAN0.gateway4;
    bench
        .gateway()
        .ip(&format!(
            "link add lanbr type bridge\nlink set lan0 master lanbr\naddr flush dev lan0\n\
             addr add {address}/24 dev lanbr\nlink set lanbr up\n\
             link add port9 type veth peer name peer9\nlink set port9 master lanbr\n\
             link add link lan1 name over1 type macvlan mode bridge\n"
        ))
        .unwrap();
}

/// What a command of labgate printed, both streams.
fn labgate(bench: &Bench, args: &[&str]) -> Result<String, String> {
    bench.gateway().run(&[&[LABGATE], args].concat()).map_err(|error| error.to_string())
}

fn check(bench: &Bench, config: &Config) -> String {
    let path = config.write(bench.dir()).display().to_string();
    let script = format!("NO_COLOR=1 {LABGATE} check --config {path} 2>&1 || true");
    bench.gateway().run(&["sh", "-c", &script]).unwrap()
}

fn watching(interfaces: &[&str]) -> Config {
    let interfaces = interfaces.iter().map(|name| format!("{{ name: {name} }}")).collect();
    Config { interfaces, ..Config::default() }
}

#[test]
fn interfaces_are_seen_as_they_are() {
    if !xtask::require_root("interfaces_are_seen_as_they_are") {
        return;
    }
    let bench = bench();
    stack(&bench);
    assert!(ping(bench.device("galaxy"), LAN0.gateway4));
    let host = look(bench.gateway());
    let link = |name: &str| host.link(name).unwrap_or_else(|| panic!("{name}: {host:#?}"));
    let [bridge, lan0, lan1, over] = ["lanbr", "lan0", "lan1", "over1"].map(link);
    assert_eq!((&bridge.kind, bridge.master), (&Kind::Bridge, None));
    assert_eq!((&lan0.kind, lan0.master, lan0.carried_by), (&Kind::Veth, Some(bridge.index), None));
    let peer = link("peer9");
    assert_eq!((&peer.kind, peer.carried_by, peer.up), (&Kind::Veth, None, false), "a cable's end");
    assert_eq!(over.kind, Kind::Stacked("macvlan".to_owned()));
    assert_eq!(over.carried_by, Some(lan1.index));
    assert_eq!(lan0.mac.unwrap().to_string(), LAN0.mac);
    assert!(lan0.up && lan0.carrier && lan0.ethernet && lan0.mtu == 1500 && lan0.xdp.is_none());
    let ports: Vec<&str> = host.ports(bridge).map(|port| &*port.name).collect();
    assert_eq!(ports, ["lan0", "port9"]);
    let loopback = link("lo");
    assert_eq!((&loopback.kind, loopback.mac), (&Kind::Loopback, None));

    let out: Vec<&str> =
        host.links.iter().filter(|link| host.is_way_out(link)).map(|link| &*link.name).collect();
    assert_eq!(out, ["wan0"]);
    let own: Vec<IpAddr> = host.addresses(bridge).map(|net| net.addr()).collect();
    assert!(own.contains(&LAN0.gateway4.parse().unwrap()), "{own:?}");
    let galaxy = DEVICES.iter().find(|device| device.name == "galaxy").unwrap();
    let seen =
        host.neighbours.iter().find(|neighbour| neighbour.address.to_string() == galaxy.ipv4);
    let seen = seen.unwrap_or_else(|| panic!("{:?}", host.neighbours));
    assert_eq!((seen.interface, seen.mac.to_string()), (bridge.index, galaxy.mac.to_owned()));
}

#[test]
fn drivers_say_what_they_do() {
    if !xtask::require_root("drivers_say_what_they_do") {
        return;
    }
    let bench = bench();
    stack(&bench);
    let gateway = bench.gateway();
    let host = look(gateway);
    let ask = |name: &str| gateway.enter(|| driver(host.link(name).unwrap().index)).unwrap();
    let veth = ask("lan1");
    assert!(veth.xdp.unwrap().native, "{veth:?}");
    assert!(!ask("lanbr").xdp.unwrap().native);
    let listed = gateway.run(&["ethtool", "-k", "lan1"]).unwrap();
    // Some have another name there.
    for (feature, listed_as) in [
        ("rx-gro", "generic-receive-offload"),
        ("rx-vlan-hw-parse", "rx-vlan-offload"),
        ("rx-lro", "large-receive-offload"),
        ("hw-tc-offload", "hw-tc-offload"),
    ] {
        let on = format!("{listed_as}: on");
        let on = listed.lines().any(|line| line.trim().starts_with(&on));
        assert_eq!(veth.has(feature), on, "{feature}");
    }
    gateway.run(&["ethtool", "-K", "lan1", "rxvlan", "off"]).unwrap();
    assert!(veth.has("rx-vlan-hw-parse") && !ask("lan1").has("rx-vlan-hw-parse"));
}

#[test]
fn what_would_be_counted_twice_is_refused() {
    if !xtask::require_root("what_would_be_counted_twice_is_refused") {
        return;
    }
    let bench = bench();
    stack(&bench);
    for (watched, sentence) in [
        (
            ["lanbr", "lan0"],
            "lan0 and lanbr are both watched, but lan0 is a port of the bridge lanbr",
        ),
        (["over1", "lan1"], "lan1 and over1 are both watched, but lan1 carries the macvlan over1"),
    ] {
        let config = watching(&watched);
        let said = one_sentence(launch(&bench, bench.gateway(), &config));
        assert!(said.contains(sentence) && said.contains("counted twice"), "{said}");
        assert_nothing_attached(bench.gateway(), &["lanbr", "lan0", "lan1", "over1"]);
        let said = check(&bench, &config);
        assert!(said.contains(&format!("problem: {sentence}")), "{said}");
    }
    // Two ports of a bridge are two cables.
    Sensor::start(&bench, &watching(&["lan0", "port9"])).stop();
}

#[test]
fn check_explains_each_interface_and_warns() {
    if !xtask::require_root("check_explains_each_interface_and_warns") {
        return;
    }
    let bench = bench();
    stack(&bench);
    let more = format!("listen: {}:9469\nlimits: {{ flow_slots_per_cpu: 1024 }}\n", LAN0.gateway4);
    let said = check(&bench, &Config { more, ..watching(&["lanbr", "lan1", "wan0"]) });
    for part in [
        "lanbr: bridge, up, MTU 1500, ",
        "  a bridge of lan0, port9: TC on the bridge counts what passes this gateway",
        "  uploads at TC ingress, because by the kernel's word it has no native XDP; downloads at TC",
        "lan1: veth, up, MTU 1500, 02:1a:b0:00:00:02, 192.168.78.1/24",
        "  uploads at native XDP, which its driver has by the kernel's word; downloads at TC egress",
        "warning: lan1: rx-vlan-hw-parse is on: VLAN tags are taken off",
        "problem: wan0: the default route leaves by it",
        "warning: the devices behind lanbr can reach metrics and API at 192.168.77.1",
        "memory: ",
    ] {
        assert!(said.contains(part), "{part} in: {said}");
    }
    assert_eq!(said.matches("problem:").count(), 1, "warnings are no problems: {said}");
    assert_nothing_attached(bench.gateway(), &["lanbr", "lan1", "wan0"]);
}

#[test]
fn check_names_who_holds_slot_and_port_but_not_the_sensor_itself() {
    if !xtask::require_root("check_names_who_holds_slot_and_port_but_not_the_sensor_itself") {
        return;
    }
    let bench = bench();
    let gateway = bench.gateway();
    let config = watching(&["lan1"]);
    let sensor = Sensor::start(&bench, &config);
    let said = check(&bench, &config);
    assert!(said.contains("running: a labgate counts") && said.ends_with(": ok\n"), "{said}");
    // Nor for who may not know its programs' names.
    let path = config.write(bench.dir()).display().to_string();
    let few = ["setpriv", "--bounding-set=-all,+bpf,+net_admin,+perfmon", "--inh-caps=-all"];
    let said = gateway.run(&[&few[..], &[LABGATE, "check", "--config", &path]].concat()).unwrap();
    assert!(said.ends_with(": ok\n"), "{said}");
    sensor.stop();

    let sizes =
        Sizes { flow_slots_per_cpu: 1024, coarse_entries: 64, device_macs: 0, unknown_devices: 4 };
    let (mut owner, _table) = Programs::load(&sizes, &[]).unwrap();
    let attach = || owner.xdp(XdpBuffers::One).unwrap().attach("lan1", XdpMode::Driver).map(drop);
    gateway.enter(attach).unwrap().unwrap();
    let _listener =
        gateway.enter(|| std::net::TcpListener::bind("127.0.0.1:9469").unwrap()).unwrap();
    let said = check(&bench, &config);
    let slot = "problem: the XDP slot of lan1 is taken by program `labgate_xdp` (id ";
    assert!(said.contains(slot), "{said}");
    assert!(said.contains("problem: 127.0.0.1:9469 is in use"), "{said}");
    assert!(said.contains("can't be run here: 2 problem(s)"), "{said}");

    let large = "limits: { flow_slots_per_cpu: 2097152, coarse_entries: 4194304 }".to_owned();
    let said = check(&bench, &Config { more: large, ..watching(&["lan0"]) });
    assert!(said.contains("problem: `flow_slots_per_cpu: 2097152` is too large for"), "{said}");
}

#[test]
fn init_writes_what_it_found_and_it_runs() {
    if !xtask::require_root("init_writes_what_it_found_and_it_runs") {
        return;
    }
    let bench = bench();
    stack(&bench);
    for device in ["galaxy", "iphone"] {
        assert!(ping(bench.device(device), LAN0.gateway4));
    }
    let path = bench.dir().join("new/config.yaml");
    let file = path.display().to_string();
    // Leases where dnsmasq keeps them, in a mount namespace of their own.
    let leases = bench.dir().join("leases");
    let mac = DEVICES.iter().find(|device| device.name == "galaxy").unwrap().mac;
    fs::write(&leases, format!("1764000000 {mac} 192.168.77.14 gal#: {{x *\n")).unwrap();
    let script = format!(
        "mount -t tmpfs none /var/lib/misc && cp {} /var/lib/misc/dnsmasq.leases && \
         exec {LABGATE} init --output {file}",
        leases.display()
    );
    let said = bench.gateway().run(&["unshare", "--mount", "sh", "-c", &script]).unwrap();
    for part in [
        "watch lanbr: bridge, the gateway of the private network 192.168.77.0/24\n",
        "watch lan1: veth, the gateway of the private network 192.168.78.0/24\n",
        "leave wan0: the default route leaves by it",
        "leave lan0: a port of the bridge lanbr\n",
        "leave peer9: it is down\n",
        "names from the leases in /var/lib/misc/dnsmasq.leases\n",
        &format!("next: `sudo labgate check --config {file}`"),
    ] {
        assert!(said.contains(part), "{part} in: {said}");
    }
    let text = fs::read_to_string(&path).unwrap();
    for line in [
        &format!("  # - name: gal\n  #   mac: {mac} # Samsung"),
        "  #   mac: da:1b:2c:3d:4e:05 # random MAC, 192.168.77.15",
    ] {
        assert!(text.contains(line), "{line} in: {text}");
    }
    let config = labgate::config::parse(&text, &file).unwrap();
    let names: Vec<&str> = config.interfaces.iter().map(|interface| &*interface.name).collect();
    assert_eq!(names, ["lan1", "lanbr"]);

    let error = labgate(&bench, &["init", "--output", &file]).unwrap_err();
    assert!(error.contains("exists already") && error.contains("--force"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert!(labgate(&bench, &["init", "--force", "--output", &file]).is_ok());
    let process = crate::sensor::launch_file(bench.gateway(), &path);
    Sensor::ready(bench.gateway(), process).stop();

    // The internet's side has no LAN.
    let script = format!("{LABGATE} init --output {file}.other 2>&1 || true");
    let said = bench.internet().run(&["sh", "-c", &script]).unwrap();
    assert!(said.contains("no interface of this machine looks like a LAN's"), "{said}");
}
