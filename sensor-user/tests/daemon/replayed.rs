//! The same frames live and as a capture: one result.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use sensor_common::report::{
    Audit, Balance, Books, Destination, DestinationList, DestinationRow, Report,
};
use xtask::bench::{
    Bench, Namespace, Options, RawSocket, SmallDisk,
    plan::{CHINA, DEVICES, GERMANY, INDIA, Spec},
};

use crate::{
    captures::{ETHERNET, Order, Pcap},
    encapsulations::mac,
    frames::{ETH_IPV4, FAR_V4, FAR_V6, NEAR_V4, NEAR_V6, ethernet, ipv4, turned, udp},
    samples,
    sensor::{Config, LABGATE, Sensor},
};

/// A full ring of a veth loses frames, so they are sent so many at a time.
const BATCH: usize = 64;
/// Octets of an Ethernet header, which a veth does not count where native XDP takes the frame.
const ETHERNET_HEADER: u64 = 14;

/// A capture does not say which networks are the bench's own; named ones are known without that.
const PRIVATE: &str = "networks:
  - { name: class-a, prefix: 10.0.0.0/8 }
  - { name: class-b, prefix: 172.16.0.0/12 }
  - { name: class-c, prefix: 192.168.0.0/16 }
  - { name: local, prefix: fc00::/7 }
";

/// Frames that leave an interface one after the other.
struct Sent<'a> {
    namespace: &'a Namespace,
    interface: &'static str,
    is_upload: bool,
    frames: Vec<Vec<u8>>,
}

/// No link says anything by itself, and nobody answers: no addresses, no forwarding, no IPv6. Tags stay in the data
/// behind the switch, where XDP sees them, as on a wire.
fn silence(bench: &Bench) {
    for namespace in bench.namespaces() {
        namespace
            .sysctl(&[("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv4/ip_forward", "0")])
            .unwrap();
    }
    bench.gateway().ip("addr flush dev lan0\naddr flush dev lan1\n").unwrap();
    for device in bench.devices() {
        device.namespace.ip("addr flush dev eth0\n").unwrap();
    }
    let in_data = ["ethtool", "-K", "uplink", "txvlan", "off", "tx-vlan-stag-hw-insert", "off"];
    bench.switch().run(&in_data).unwrap();
    // Where this machine's bridges are filtered, they drop headers whose checksum is wrong. Elsewhere there is no key.
    let unfiltered = ["iptables", "ip6tables", "arptables"]
        .map(|what| format!("net.bridge.bridge-nf-call-{what}=0"));
    let sysctl = ["sysctl", "-q", "-e", "-w"].into_iter();
    bench
        .switch()
        .run(&sysctl.chain(unfiltered.iter().map(String::as_str)).collect::<Vec<_>>())
        .unwrap();
}

/// With the addresses of a device and its gateway, as an upload.
fn of_device(spec: &Spec, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac(spec.lan.mac));
    frame[6..12].copy_from_slice(&mac(spec.mac));
    frame
}

/// The other way: all addresses that are whole are exchanged.
fn download(frame: &[u8]) -> Vec<u8> {
    let (receiver, sender) = (&frame[..6], &frame[6..12]);
    let frame = [sender, receiver, &frame[12..]].concat();
    let frame = replaced(frame, &[NEAR_V4, FAR_V4].concat(), &[FAR_V4, NEAR_V4].concat());
    replaced(frame, &[NEAR_V6, FAR_V6].concat(), &[FAR_V6, NEAR_V6].concat())
}

fn replaced(mut frame: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    if let Some(at) = frame.windows(from.len()).position(|octets| octets == from) {
        frame[at..at + to.len()].copy_from_slice(to);
    }
    frame
}

fn spec(name: &str) -> &'static Spec {
    DEVICES.iter().find(|spec| spec.name == name).unwrap()
}

/// Everything in both directions: what is whole at phones behind the switch, to several countries; and on the link
/// of the smart device what is damaged, too, which a switch would not pass on.
fn traffic(bench: &Bench) -> Vec<Sent<'_>> {
    let mut traffic = Vec::new();
    for (name, far) in [("galaxy", INDIA), ("iphone", GERMANY), ("redmi-note", CHINA)] {
        let v4: std::net::Ipv4Addr = far.ipv4.parse().unwrap();
        let v6: std::net::Ipv6Addr = far.ipv6.unwrap().parse().unwrap();
        let elsewhere = |frame: Vec<u8>| {
            replaced(replaced(frame, &FAR_V4, &v4.octets()), &FAR_V6, &v6.octets())
        };
        let whole = || samples::whole().into_iter().map(|frame| of_device(spec(name), frame));
        traffic.extend([
            Sent {
                namespace: bench.device(name),
                interface: "eth0",
                is_upload: true,
                frames: whole().map(elsewhere).collect(),
            },
            Sent {
                namespace: bench.gateway(),
                interface: "lan0",
                is_upload: false,
                frames: whole().map(|frame| elsewhere(download(&frame))).collect(),
            },
        ]);
    }
    let plug = spec("smart-plug");
    let all = || samples::all().into_iter().map(|frame| of_device(plug, frame));
    // Somebody whom the configuration does not know, and a broadcast.
    let stranger = samples::whole().into_iter();
    let broadcast = [&[0xff; 6], &ethernet(0x0806, &[1; 46])[6..]].concat();
    traffic.extend([
        Sent {
            namespace: bench.device("smart-plug"),
            interface: "eth0",
            is_upload: true,
            frames: all().chain(stranger).chain([broadcast]).collect(),
        },
        Sent {
            namespace: bench.gateway(),
            interface: "lan1",
            is_upload: false,
            frames: all().map(|frame| download(&frame)).collect(),
        },
    ]);
    traffic
}

fn labgate(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(LABGATE).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "labgate {arguments:?}: {said}");
    output.stdout
}

/// A row but for its counts and times.
type Key = [String; 9];

fn key(device: &str, row: &Destination) -> Key {
    [
        device.to_owned(),
        row.country.clone(),
        row.asn.to_string(),
        row.operator.clone(),
        row.prefix.clone(),
        // The gateway itself sends the downloads here, which a capture can't tell.
        row.protocol.trim_start_matches("rejected:").to_owned(),
        row.port.to_string(),
        row.address.clone().unwrap_or_default(),
        format!("{:?}", row.vlan),
    ]
}

fn counts(row: &Destination) -> [u64; 4] {
    [row.tx_packets, row.tx_bytes, row.rx_packets, row.rx_bytes]
}

type Rows = BTreeMap<Key, [u64; 4]>;

fn rows(report: &Report) -> Rows {
    let rows = |device: &'_ sensor_common::report::Device| -> Vec<_> {
        let name = format!("{} {} {}", device.name, device.mac, device.group);
        device.destinations.iter().map(|row| (key(&name, row), counts(row))).collect()
    };
    summed(report.devices.iter().flat_map(rows))
}

fn summed(rows: impl IntoIterator<Item = (Key, [u64; 4])>) -> Rows {
    let mut sums = Rows::new();
    for (key, counts) in rows {
        for (sum, count) in sums.entry(key).or_default().iter_mut().zip(counts) {
            *sum += count;
        }
    }
    sums
}

/// Where two results differ, which is easier to read than both.
#[track_caller]
fn same_rows(live: &Rows, replayed: &Rows, how: &str) {
    let differs = |key: &&Key| live.get(*key) != replayed.get(*key);
    let keys: Vec<_> = live.keys().chain(replayed.keys()).filter(differs).collect();
    let Some(key) = keys.first() else { return };
    let (live, replayed) = (live.get(*key), replayed.get(*key));
    panic!("{} rows differ {how}; {key:?}: {live:?} live, {replayed:?} replayed", keys.len());
}

/// The breaches, but for their times.
fn alerts(report: &Report) -> Vec<[String; 4]> {
    let alert = |alert: &sensor_common::report::Alert| {
        let alert = alert.clone();
        [alert.rule, alert.device, alert.country, alert.prefix]
    };
    let mut alerts: Vec<_> = report.alerts.iter().map(alert).collect();
    alerts.sort();
    alerts
}

fn asked(ledger: &Path, from: &str) -> Rows {
    let ledger = ledger.to_str().unwrap();
    let query = ["query", "--detail", "address", "--format", "json", "--limit", "100000"];
    let period = ["--from", from, "--ledger", ledger];
    let list: DestinationList =
        serde_json::from_slice(&labgate(&[&query[..], &period].concat())).unwrap();
    assert!(!list.truncated);
    let counted =
        |row: &DestinationRow| (key(&row.device, &row.destination), counts(&row.destination));
    summed(list.destinations.iter().map(counted))
}

fn balance(ledger: &Path) -> Balance {
    let ledger = ledger.to_str().unwrap();
    labgate(&["ledger", "check", "--ledger", ledger]);
    let audit = labgate(&["audit", "--json", "--ledger", ledger]);
    serde_json::from_slice::<Audit>(&audit).unwrap().balance
}

#[test]
fn live_and_replayed_by_both_engines_it_is_the_same() {
    if !xtask::require_root("live_and_replayed_by_both_engines_it_is_the_same") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    silence(&bench);
    let traffic = traffic(&bench);
    let file = |name: &str| bench.dir().join(name).to_str().unwrap().to_owned();
    let live_ledger = bench.dir().join("live.db");
    let config = Config {
        interfaces: ["lan0", "lan1"].map(|name| format!("{{ name: {name}, attach: xdp }}")).into(),
        allowed_countries: "[IN]",
        more: format!("ledger: {}\n{PRIVATE}", live_ledger.display()),
        ..Config::default()
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = u32::try_from(now.as_secs()).unwrap();
    let mut capture = Pcap::new(Order::Little, ETHERNET);
    for (fraction, frame) in (0..).zip(traffic.iter().flat_map(|sent| &sent.frames)) {
        capture = capture.cut(now, fraction, frame, u32::try_from(frame.len()).unwrap());
    }
    fs::write(file("all.pcap"), capture.octets).unwrap();

    let sensor = Sensor::start(&bench, &config);
    for Sent { namespace, interface, frames, .. } in &traffic {
        let socket = RawSocket::open(namespace, interface).unwrap();
        for frames in frames.chunks(BATCH) {
            socket.send(frames).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    }
    let live = sensor.settled();
    sensor.stop();

    let uploads: u64 =
        traffic.iter().filter(|sent| sent.is_upload).map(|sent| sent.frames.len() as u64).sum();
    let frames: u64 = traffic.iter().map(|sent| sent.frames.len() as u64).sum();
    assert_eq!(live.books.seen_packets, frames, "nothing is lost, and nobody else speaks");
    assert!(live.books.unparsed_packets > 100 && live.books.closed, "{:?}", live.books);
    let counted = Books {
        interface_bytes: live.books.interface_bytes + ETHERNET_HEADER * uploads,
        ..live.books.clone()
    };
    let mut configuration = file("replay.yaml");
    fs::write(&configuration, config.text()).unwrap();
    for engine in ["host", "kernel"] {
        let ledger = file(&format!("{engine}.db"));
        let arguments = ["replay", "--json", "--detail", "address", "--engine", engine];
        let files = ["--config", &configuration, "--ledger", &ledger, &file("all.pcap")];
        let replayed: Report =
            serde_json::from_slice(&labgate(&[&arguments[..], &files].concat())).unwrap();
        same_rows(&rows(&live), &rows(&replayed), engine);
        assert_eq!((&replayed.books, alerts(&replayed)), (&counted, alerts(&live)), "{engine}");
        assert!(alerts(&live).len() > 2, "{:?}", live.alerts);

        // The ledgers answer alike, too.
        let (ledger, from) = (Path::new(&ledger), "1h");
        let (of_live, of_replay) = (asked(&live_ledger, from), asked(ledger, from));
        assert_eq!(of_live.len(), rows(&live).len());
        same_rows(&of_live, &of_replay, "in the ledgers");
        assert_eq!(balance(&live_ledger), balance(ledger));
        assert_eq!(balance(ledger).seen_packets, frames);
    }

    // A sensor's own ledger takes no captures.
    configuration.clone_from(&file("all.pcap"));
    let output = Command::new(LABGATE)
        .args(["replay", "--no-config", "--ledger", live_ledger.to_str().unwrap(), &configuration])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("it is a sensor's"), "{said}");
}

/// A disk that is full ends a replay with a word, and the next one goes on from there.
#[test]
fn a_replay_goes_on_after_a_full_disk() {
    if !xtask::require_root("a_replay_goes_on_after_a_full_disk") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(&directory.path().join("disk"), "512k").unwrap();
    let ledger = disk.path().join("lab.db");
    // A new far end every second.
    let mut capture = Pcap::new(Order::Big, ETHERNET);
    let packets = 2000_u32;
    for n in 0..packets {
        let mut frame = turned(turned(ethernet(ETH_IPV4, &ipv4(17, &udp(b"hello")))));
        frame[30..34].copy_from_slice(&(0x5e00_0000 + n * 7).to_be_bytes());
        capture = capture.cut(1_700_000_000 + n, 0, &frame, 47);
    }
    let file = directory.path().join("long.pcap");
    fs::write(&file, capture.octets).unwrap();
    let replay = || {
        let mut command = Command::new(LABGATE);
        command.args(["replay", "--no-config", "--json", "--ledger"]).arg(&ledger).arg(&file);
        command.output().unwrap()
    };
    let output = replay();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("labgate: can't write the ledger ") && said.contains("full"),
        "{said}"
    );
    let kept = balance(&ledger).seen_packets;
    assert!((1..u64::from(packets)).contains(&kept), "{kept} packets");

    let options = Some("size=64m");
    let flags = nix::mount::MsFlags::MS_REMOUNT;
    nix::mount::mount(None::<&str>, disk.path(), None::<&str>, flags, options).unwrap();
    let output = replay();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.replay.unwrap().captures[0].known_packets, kept);
    assert_eq!(balance(&ledger).seen_packets, u64::from(packets));
}
