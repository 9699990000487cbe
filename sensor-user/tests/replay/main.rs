//! `labgate replay` as a user calls it: what it prints where, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use sensor_common::report::Report;
use tempfile::TempDir;

#[expect(dead_code, reason = "each test crate uses some of the builders")]
#[path = "../captures/mod.rs"]
mod captures;
#[path = "../../../sensor-common/tests/frames/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod frames;
mod ledger;

use captures::{ETHERNET, Order, Pcap, PcapNg, gzipped};
use frames::{ETH_IPV4, ethernet, ipv4, tcp};

fn replay(directory: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_labgate"))
        .arg("replay")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(octets: &[u8]) -> &str {
    str::from_utf8(octets).unwrap()
}

/// A capture of each format, three frames together.
fn captures() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let frame = ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")));
    let pcap = Pcap::new(Order::Big, ETHERNET).frame(0, &frame).frame(1, &frame).octets;
    let pcapng = PcapNg::new(Order::Little).interface(ETHERNET, 0, &[]).frame(0, 0, &frame).octets;
    for (name, octets) in [
        ("walk.pcap", pcap.clone()),
        ("walk.pcapng.gz", gzipped(&pcapng)),
        ("cut.pcap", pcap[..pcap.len() - 1].to_vec()),
        ("wifi.pcap", Pcap::new(Order::Little, 127).octets),
    ] {
        fs::write(directory.path().join(name), octets).unwrap();
    }
    directory
}

#[test]
fn captures_and_standard_input_become_one_report() {
    let captures = captures();
    let pcap = fs::read(captures.path().join("walk.pcap")).unwrap();
    let files = ["--no-config", "--json", "walk.pcap", "walk.pcapng.gz", "-"];
    let output = replay(captures.path(), &files, &pcap);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let report = report(&output);
    assert_eq!((report.books.seen_packets, report.books.closed), (5, true));
    let [device] = &report.devices[..] else { panic!("{:?}", report.devices) };
    assert_eq!((device.mac.as_str(), device.destinations[0].tx_packets), ("64:09:80:12:34:56", 5));
    assert_eq!(device.destinations[0].address, None);
    let replay = report.replay.unwrap();
    let read: Vec<_> = replay.captures.iter().map(|read| (&*read.file, read.packets)).collect();
    assert_eq!(read, [("walk.pcap", 2), ("walk.pcapng.gz", 1), ("-", 2)]);
    assert_eq!(replay.engine, "host");
}

#[test]
fn people_see_rows_books_captures_and_the_engine() {
    let captures = captures();
    let files = ["--no-config", "--detail", "address", "walk.pcap"];
    let output = replay(captures.path(), &files, b"");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let lines = text(&output.stdout);
    for expected in [
        "64:09:80:12:34:56",
        "42.62.48.9 ",
        "books closed: 2 packets seen",
        "replayed walk.pcap: 2 packets, 118 bytes, 2024-05-06T07:08:09.000Z to",
        "counted by the engine `host`\n",
    ] {
        assert!(lines.contains(expected), "{expected:?} is missing in:\n{lines}");
    }
}

#[test]
fn what_is_wrong_is_said_after_the_rest_was_printed() {
    let captures = captures();
    let files = ["--no-config", "--json", "cut.pcap", "missing.pcap", "wifi.pcap", "walk.pcap"];
    let output = replay(captures.path(), &files, b"");
    assert_eq!(output.status.code(), Some(1));
    let said: Vec<_> = text(&output.stderr).lines().collect();
    let expected = [
        "labgate: cut.pcap is cut off: its end is missing from the record on that begins at byte 99",
        "missing.pcap can't be opened: No such file or directory (os error 2)",
        "wifi.pcap has link type IEEE802_11_RADIOTAP (127);",
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert!(
        said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)),
        "{said:?}"
    );
    let report = report(&output);
    assert_eq!(report.books.seen_packets, 3);
    let problems: Vec<_> = report.replay.unwrap().captures.into_iter().map(|c| c.problem).collect();
    assert!(problems[0].starts_with("is cut off") && problems[3].is_empty(), "{problems:?}");

    // Nothing at all is no report.
    let output = replay(captures.path(), &["--no-config", "--json", "-"], b"");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("labgate: - is empty"), "{}", text(&output.stderr));
}

#[test]
fn the_configuration_names_devices_and_judges() {
    let captures = captures();
    let config = "\
interfaces: [lan0]
state_dir: .
devices:
  - {name: redmi, mac: '64:09:80:12:34:56', group: phones}
policy:
  groups:
    phones: {allowed_countries: [IN]}
";
    fs::write(captures.path().join("bench.yaml"), config).unwrap();
    let files = ["--config", "bench.yaml", "--json", "walk.pcap"];
    let output = replay(captures.path(), &files, b"");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let alerts: Vec<_> =
        report(&output).alerts.into_iter().map(|alert| (alert.device, alert.country)).collect();
    assert_eq!(alerts, [("redmi".to_owned(), "CN".to_owned())]);

    // The devices that were adopted beside it.
    let adopt = ["device", "adopt", "02:00:00:00:00:01", "--name", "gateway", "-c", "bench.yaml"];
    let adopted = Command::new(env!("CARGO_BIN_EXE_labgate"))
        .args(adopt)
        .current_dir(captures.path())
        .output()
        .unwrap();
    assert!(adopted.status.success(), "{}", text(&adopted.stderr));
    let names: Vec<_> = report(&replay(captures.path(), &files, b""))
        .devices
        .into_iter()
        .map(|device| device.name)
        .collect();
    assert_eq!(names, ["gateway", "redmi"]);

    let output = replay(captures.path(), &["--config", "none.yaml", "walk.pcap"], b"");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("none.yaml") && said.contains("--no-config"), "{said}");
}

#[test]
fn wrong_use_of_the_command_line_has_its_own_status() {
    for arguments in [
        &["--no-config"][..],
        &["--no-config", "--config", "bench.yaml", "walk.pcap"],
        &["--no-config", "--engine", "steam", "walk.pcap"],
    ] {
        let output = replay(Path::new("."), arguments, b"");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
    }
}
