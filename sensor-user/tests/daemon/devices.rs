//! Devices that nobody has named: found, adopted, shown with what they say of themselves.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use sensor_common::report::Report;
use xtask::bench::{
    Bench, Namespace, Options,
    plan::{DEVICES, GERMANY, INDIA},
};

use crate::sensor::{
    Config, LABGATE, PATIENCE, Sensor, URL, device, launch_file, ping, send_udp, sum,
};

/// Without these devices, at a known path.
fn write(bench: &Bench, config: &Config, strangers: &[&str]) -> PathBuf {
    let text = config.text();
    let is_known = |line: &&str| !strangers.iter().any(|s| line.contains(&format!("name: {s},")));
    let text: Vec<&str> = text.lines().filter(is_known).collect();
    let path = bench.dir().join("devices.yaml");
    fs::write(&path, text.join("\n") + "\n").unwrap();
    path
}

fn start<'a>(bench: &'a Bench, path: &Path) -> Sensor<'a> {
    Sensor::ready(bench.gateway(), launch_file(bench.gateway(), path))
}

fn mac(name: &str) -> &'static str {
    DEVICES.iter().find(|spec| spec.name == name).unwrap().mac
}

/// `labgate device ...` on the gateway.
fn labgate_device(bench: &Bench, path: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let path = path.to_str().unwrap();
    bench.gateway().run(&[&[LABGATE, "device"], arguments, &["--config", path]].concat())
}

/// Datagrams to Germany's discard port that the report shows of a device.
fn discarded(report: &Report, name: &str) -> u64 {
    let is_ours = |row: &_| {
        let row: &sensor_common::report::Destination = row;
        row.country == "DE" && row.port == 9
    };
    sum(&device(report, name).destinations, is_ours).tx_packets
}

/// Waits for a device that is as wanted.
fn wait_for(sensor: &Sensor<'_>, wanted: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = sensor.report();
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:#?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_stranger_is_adopted_while_it_talks() {
    if !xtask::require_root("a_stranger_is_adopted_while_it_talks") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let phone = bench.device("redmi-1s");
    let config = Config { allowed_countries: "[IN]", ..Config::default() };
    let path = write(&bench, &config, &["redmi-1s"]);
    let mut sensor = start(&bench, &path);
    let _busy = phone.spawn(&["ping", "-q", "-i", "0.02", INDIA.ipv4]).unwrap();
    for _ in 0..2 {
        send_udp(phone, GERMANY.ipv4, 9);
    }
    let report = sensor.settled();
    let stranger = device(&report, "xiaomi-1d:53:02");
    assert_eq!((stranger.mac.as_str(), stranger.group.as_str()), (mac("redmi-1s"), ""));
    assert!(stranger.vendor.contains("Xiaomi") && !stranger.random_mac, "{stranger:?}");
    assert_eq!(discarded(&report, "xiaomi-1d:53:02"), 2);
    assert_eq!(report.alerts, [], "nobody has said what strangers may do");
    assert_eq!(sensor.metric("labgate_devices{"), told_apart(5, 1));

    let adopt = ["adopt", mac("redmi-1s"), "--name", "handset", "--group", "phones"];
    let said = labgate_device(&bench, &path, &adopt).unwrap();
    assert!(
        said.contains("is \"handset\" from now on") && said.contains("takes it over"),
        "{said}"
    );
    sensor.process.wait_for_output("reloaded what=\"devices\"", PATIENCE).unwrap();
    send_udp(phone, GERMANY.ipv4, 9);
    let report = sensor.settled();
    let alerts: Vec<_> = report.alerts.iter().map(|alert| alert.device.as_str()).collect();
    assert_eq!(alerts, ["handset"]);
    assert_eq!(device(&report, "handset").group, "phones");
    assert_eq!(discarded(&report, "handset"), 3, "what was counted before is kept");
    assert_eq!(report.devices.iter().filter(|d| d.mac == mac("redmi-1s")).count(), 1);
    assert!(report.books.closed);
    assert_eq!(sensor.metric("labgate_devices{"), told_apart(6, 0));
    let reloads = "labgate_reloads_total{what=\"devices\",outcome=\"success\"}";
    assert_eq!(sensor.metric(reloads), [format!("{reloads} 1")]);

    // A damaged file is said to be so, left as it is, and changes nothing.
    let file = bench.dir().join("state/devices.json");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..40]).unwrap();
    sensor.process.wait_for_output("is damaged and is left as it is", PATIENCE).unwrap();
    assert_eq!(discarded(&sensor.settled(), "handset"), 3);
    assert!(labgate_device(&bench, &path, &["forget", "handset"]).is_err());
    let check =
        || bench.gateway().run(&[LABGATE, "check", "--config", path.to_str().unwrap()]).unwrap();
    let found = check();
    assert!(found.contains("warning: adopted devices would be unknown: "), "{found}");
    assert_eq!(fs::read(&file).unwrap(), good[..40]);
    assert!(sensor.stop().contains("not reloaded"));

    // So at the start: counting goes on without it, and with it once it is mended.
    let mut sensor = start(&bench, &path);
    sensor.process.wait_for_output("counting without the adopted devices", PATIENCE).unwrap();
    let last = "labgate_reload_last_successful{what=\"devices\"}";
    assert_eq!(sensor.metric(last), [format!("{last} 0")]);
    fs::write(&file, &good).unwrap();
    sensor.process.wait_for_output("reloaded what=\"devices\"", PATIENCE).unwrap();
    assert_eq!(sensor.metric(last), [format!("{last} 1")]);
    sensor.stop();

    // The next sensor knows it from its first packet on, and goes on counting and not alerting anew.
    let mut sensor = start(&bench, &path);
    send_udp(phone, GERMANY.ipv4, 9);
    let report = sensor.settled();
    assert_eq!(report.alerts[0].device, "handset");

    // The configuration wins.
    assert!(check().contains("devices: 1 adopted, in "));
    fs::write(&path, config.text()).unwrap();
    assert!(check().contains("which has no effect: the configuration names it"));
    sensor.process.wait_for_output("which has no effect", PATIENCE).unwrap();
    let report = wait_for(&sensor, |report| report.devices.iter().any(|d| d.name == "redmi-1s"));
    assert_eq!(discarded(&report, "redmi-1s"), 4);
    let refused = labgate_device(&bench, &path, &["adopt", mac("galaxy"), "--name", "tv"]);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("is \"galaxy\" in the configuration"), "{refused}");
    labgate_device(&bench, &path, &["forget", mac("redmi-1s")]).unwrap();
    sensor.process.wait_for_output("reloaded what=\"devices\"", PATIENCE).unwrap();
    assert_eq!(labgate_device(&bench, &path, &["list"]).unwrap(), "");
    sensor.stop();
}

fn told_apart(configured: u32, unknown: u32) -> [String; 2] {
    [
        format!("labgate_devices{{kind=\"configured\"}} {configured}"),
        format!("labgate_devices{{kind=\"unknown\"}} {unknown}"),
    ]
}

#[test]
fn a_device_of_the_pool_gets_a_place_of_its_own_when_it_is_adopted() {
    if !xtask::require_root("a_device_of_the_pool_gets_a_place_of_its_own_when_it_is_adopted") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let config = Config { more: "limits: { unknown_devices: 1 }".into(), ..Config::default() };
    let path = write(&bench, &config, &["redmi-1s", "galaxy"]);
    let mut sensor = start(&bench, &path);
    send_udp(bench.device("redmi-1s"), GERMANY.ipv4, 9);
    device(&sensor.settled(), "xiaomi-1d:53:02");
    send_udp(bench.device("galaxy"), GERMANY.ipv4, 9);
    let report = sensor.settled();
    assert!(report.devices.iter().all(|device| !device.mac.contains(mac("galaxy"))));
    device(&report, "(other devices)");
    assert!(pooled(&sensor) >= 1);
    let limit = "labgate_unknown_devices_limit";
    assert_eq!(sensor.metric(limit), [format!("{limit} 1")]);

    // As where the sensor runs as a user of its own, who must be able to read what root has written.
    let directory = bench.dir().join("state");
    fs::create_dir_all(&directory).unwrap();
    chown(&directory, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    labgate_device(&bench, &path, &["adopt", mac("galaxy"), "--name", "tab"]).unwrap();
    let file = directory.join("devices.json");
    let owned = |mode| {
        let file = fs::metadata(&file).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (SOMEBODY, SOMEBODY, mode));
    };
    owned(0o644);
    sensor.process.wait_for_output("reloaded what=\"devices\"", PATIENCE).unwrap();
    sensor.settled();
    let before = pooled(&sensor);
    send_udp(bench.device("galaxy"), GERMANY.ipv4, 9);
    let report = sensor.settled();
    assert_eq!(discarded(&report, "tab"), 1);
    assert_eq!(pooled(&sensor), before, "from then on the pool has none of its packets");
    assert!(report.books.closed);
    sensor.stop();

    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let further = ["adopt", "02:00:00:00:00:07", "--name", "tab", "--add"];
    labgate_device(&bench, &path, &further).unwrap();
    owned(0o600);
    let listed = labgate_device(&bench, &path, &["list"]).unwrap();
    assert_eq!(listed, format!("tab\t-\t{},02:00:00:00:00:07\n", mac("galaxy")));
}

/// A user other than root.
const SOMEBODY: u32 = 65_534;

/// Packets that strangers of the pool have sent.
fn pooled(sensor: &Sensor<'_>) -> u64 {
    let name = "labgate_unknown_devices_pooled_packets_total{direction=\"tx\"} ";
    sensor.metric(name)[0].strip_prefix(name).unwrap().parse().unwrap()
}

#[test]
fn addresses_and_host_names_are_shown() {
    if !xtask::require_root("addresses_and_host_names_are_shown") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let lease_file = bench.dir().join("dnsmasq.leases");
    let more = "leases: [dnsmasq.leases, no-such.leases]".to_owned();
    let path = write(&bench, &Config { more, ..Config::default() }, &["redmi-1s"]);
    let sensor = start(&bench, &path);
    let mut dnsmasq = gateway.command("dnsmasq");
    dnsmasq
        .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root"])
        .args(["--log-facility=-", "--interface=lan0"])
        .arg("--dhcp-range=192.168.77.100,192.168.77.120,1h")
        .arg(format!("--dhcp-leasefile={}", lease_file.display()));
    let _dnsmasq = gateway.start(dnsmasq).unwrap();
    ask_for_lease(bench.device("redmi-1s"), "redmi\u{1b}1s");
    ask_for_lease(bench.device("galaxy"), "galaxy-s5");
    assert!(ping(bench.device("galaxy"), GERMANY.ipv4));
    assert!(ping(bench.device("galaxy"), GERMANY.ipv6.unwrap()));

    let spec = DEVICES.iter().find(|spec| spec.name == "galaxy").unwrap();
    let report = wait_for(&sensor, |report| {
        let galaxy = device(report, "galaxy");
        [spec.ipv4, spec.ipv6].iter().all(|own| galaxy.addresses.iter().any(|a| a == own))
            && galaxy.host_names == ["galaxy-s5"]
            && report.devices.iter().any(|d| d.mac == mac("redmi-1s") && d.addresses.len() == 1)
    });
    let leased = |name| {
        let mut own = device(&report, name).addresses.iter();
        own.any(|address| address.starts_with("192.168.77.1") && address.len() == 14)
    };
    assert!(leased("galaxy") && leased("xiaomi-1d:53:02"), "{report:#?}");
    // dnsmasq itself does not take such a name.
    assert!(device(&report, "xiaomi-1d:53:02").host_names.is_empty(), "{report:#?}");
    for command in [&["status"][..], &["devices", "--format", "csv"]] {
        let shown = gateway.run(&[&[LABGATE], command, &["--url", URL]].concat()).unwrap();
        assert!(shown.contains("galaxy-s5") && shown.contains(spec.ipv6), "{shown}");
    }

    // Whatever else ends up in that file.
    let hostile = format!(
        "0 {} 192.168.77.66 \u{1b}[31m{} *\n\0\u{ff}\nduid\n",
        mac("redmi-note"),
        "x".repeat(5000)
    );
    fs::write(&lease_file, hostile).unwrap();
    let report = wait_for(&sensor, |report| !device(report, "redmi-note").host_names.is_empty());
    let note = device(&report, "redmi-note");
    assert!(note.host_names[0].starts_with("\\x1b[31mxxx") && note.host_names[0].len() == 64);
    assert!(note.addresses.contains(&"192.168.77.66".to_owned()));
    let said = sensor.stop();
    assert_eq!(said.matches("no-such.leases").count(), 1, "{said}");
}

/// Asks dnsmasq for an address and a name, and does nothing with it.
fn ask_for_lease(device: &Namespace, name: &str) {
    let option = format!("hostname:{name}");
    let udhcpc = ["busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "9", "-T", "1"];
    device.run(&[&udhcpc[..], &["-s", "/bin/true", "-x", &option]].concat()).unwrap();
}
