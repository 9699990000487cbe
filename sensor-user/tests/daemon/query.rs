//! `labgate devices` and `labgate query` against a running sensor.

use sensor_common::report::{DestinationList, DeviceList, REPORT_VERSION};
use xtask::bench::{
    Bench, Namespace, Options,
    plan::{CHINA, DEVICES, INDIA},
};

use crate::sensor::{Config, LABGATE, Sensor, URL, send_udp};

/// Standard output, standard error and exit code of a shell line in which `labgate` asks the sensor.
fn shell(namespace: &Namespace, line: &str) -> (String, String, Option<i32>) {
    let script = format!("labgate() {{ {LABGATE} \"$@\" --url {URL}; }}; {line}");
    let output =
        namespace.command("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn devices_and_destinations_can_be_asked_for() {
    if !xtask::require_root("devices_and_destinations_can_be_asked_for") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    let ask = |line: &str| shell(gateway, line);

    let (out, said, code) = ask("labgate query");
    assert_eq!((&*out, code), ("", Some(1)));
    assert!(said.contains("labgate: no sensor answers at http://127.0.0.1:9469"), "{said}");

    let config = Config { allowed_countries: "[IN]", ..Config::default() };
    let sensor = Sensor::start(&bench, &config);
    for _ in 0..3 {
        send_udp(bench.device("galaxy"), INDIA.ipv4, 9);
    }
    send_udp(bench.device("galaxy"), CHINA.ipv4, 53);
    send_udp(bench.device("iphone"), INDIA.ipv4, 9);
    sensor.settled();

    // Devices.
    let (table, said, code) = ask("labgate devices");
    assert_eq!(code, Some(0), "{said}");
    for spec in &DEVICES {
        assert!(table.lines().any(|line| line.starts_with(spec.name)), "{table}");
    }
    let (json, said, _) = ask("labgate devices --device galaxy --format json");
    assert_eq!(said, "", "JSON says all itself");
    let list: DeviceList = serde_json::from_str(&json).unwrap();
    let [galaxy] = &list.devices[..] else { panic!("{json}") };
    assert_eq!((list.version, galaxy.alerts), (REPORT_VERSION, 1));
    assert!(galaxy.countries.iter().any(|country| country == "CN"), "{json}");
    let (csv, ..) = ask("labgate devices --country CN --since 1h --format csv");
    let lines: Vec<_> = csv.split("\r\n").collect();
    assert!(
        lines[0].starts_with("name,mac,vendor,random_mac,group,addresses,host_names,countries,"),
        "{csv}"
    );
    assert!(lines[1].starts_with("galaxy,8c:77:12:5a:11:04,"), "{csv}");
    assert_eq!(lines[2..], [""], "{csv}");

    // Destinations.
    let filter = "--device 8C:77:12:5A:11:04 --country IN --protocol udp --port 9 --since 1h";
    let (csv, said, _) = ask(&format!("labgate query {filter} --detail address --format csv"));
    let lines: Vec<_> = csv.split("\r\n").collect();
    let head = "device,country,asn,operator,prefix,protocol,port,address,vlan,tx_packets,tx_bytes,\
                rx_packets,rx_bytes,first_seen,last_seen,mac,group,host_names,network,answered,encryption";
    assert_eq!(lines[0], head);
    assert!(lines[1].starts_with("galaxy,IN,"), "{csv}");
    assert!(lines[1].contains(",udp,9,13.126.5.5,0,3,141,0,0,2"), "{csv}");
    assert!(said.contains("DB-IP"), "the geo data's licence asks for it: {said}");
    let (json, ..) = ask(&format!("labgate query {filter} --format json"));
    let list: DestinationList = serde_json::from_str(&json).unwrap();
    assert_eq!((list.matched, list.truncated), (1, false));
    assert_eq!(list.destinations[0].destination.tx_packets, 3);
    let (table, ..) = ask("labgate query --prefix 13.126.0.0/16 --detail address");
    // The datagrams, and the complaints about them.
    let ends: Vec<_> = table.lines().filter(|line| line.contains(INDIA.ipv4)).collect();
    assert!(ends.len() == 4 && ends.iter().any(|line| line.starts_with("iphone ")), "{table}");
    assert!(!table.contains(CHINA.ipv4), "{table}");
    let (_, said, code) = ask("labgate query --limit 1");
    assert!(said.contains("labgate: 1 of ") && code == Some(0), "{said}");
    let (_, said, code) = ask("labgate query --since 2100-01-01T00:00:00+05:30");
    assert!(said.contains("labgate: nothing matches") && code == Some(0), "{said}");

    // What goes wrong, and what doesn't.
    for (line, expected, hint) in [
        ("labgate query --country Chinna", 2, "alpha-2"),
        ("labgate query --since tomorrow", 2, "15m"),
        ("labgate query --tz Europe/Nowhere", 2, "Europe/Berlin"),
        ("labgate query --since yesterday --until yesterday", 1, "until `today`"),
        ("labgate query --group phonez", 1, "`phonez`"),
        ("labgate query --format xml", 2, "csv"),
        (
            "labgate query --device galaxi",
            1,
            "no device has the name, address or host name `galaxi`",
        ),
        ("labgate query --limit 100000 | (exec <&-; sleep 1)", 0, ""),
    ] {
        let (_, said, code) = ask(line);
        assert_eq!(code, Some(expected), "{line}: {said}");
        assert!(said.contains(hint) && !said.contains("panicked"), "{line}: {said}");
    }
    sensor.stop();

    // What it kept answers without it, unless another sensor is named.
    let mut named = std::fs::read_dir(bench.dir()).unwrap().map(|entry| entry.unwrap().path());
    let file = named.find(|path| path.extension().is_some_and(|end| end == "yaml")).unwrap();
    let alone = |line: &str| {
        let script =
            format!("labgate() {{ {LABGATE} \"$@\" --config {}; }}; {line}", file.display());
        let output = gateway.command("bash").args(["-c", &script]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let (json, said) = alone(&format!("labgate query {filter} --format json"));
    assert!(said.contains("no sensor answers; this is what its ledger has"), "{said}");
    let list: DestinationList = serde_json::from_str(&json).unwrap();
    assert_eq!(list.destinations[0].destination.tx_packets, 3);
    let (table, said) = alone("labgate devices --since 1h --tz Asia/Kolkata");
    assert!(table.contains("galaxy") && table.contains("(Asia/Kolkata)"), "{said}: {table}");
}
