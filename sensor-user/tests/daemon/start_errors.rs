//! What keeps the daemon from starting: one clear sentence, and nothing is left attached.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use ruzstd::decoding::StreamingDecoder;
use tempfile::TempDir;
use xtask::bench::{Bench, Options, Process, plan::LAN0};

use crate::{
    hooks::{Hooks, assert_nothing_attached},
    sensor::{Config, LABGATE, Sensor, device, launch, one_sentence, ping, refusal, sum},
};

fn bench() -> Bench {
    Bench::new(&Options::default()).unwrap()
}

/// Starts the daemon, which must refuse; returns its sentence.
#[track_caller]
fn refused(bench: &Bench, config: &Config) -> String {
    let said = one_sentence(launch(bench, bench.gateway(), config));
    assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
    said
}

fn with_database(path: &Path) -> Config {
    let more = format!("databases:\n  country: {}\n", path.display());
    Config { more, ..Config::default() }
}

#[test]
fn an_interface_that_does_not_exist() {
    if !xtask::require_root("an_interface_that_does_not_exist") {
        return;
    }
    // After one that does exist.
    let interfaces = ["{ name: lan0 }", "{ name: lan7 }"].map(str::to_owned).into();
    let said = refused(&bench(), &Config { interfaces, ..Config::default() });
    assert!(said.contains("interface lan7 does not exist"), "{said}");
}

#[test]
fn an_interface_without_ethernet() {
    if !xtask::require_root("an_interface_without_ethernet") {
        return;
    }
    let bench = bench();
    bench.gateway().ip("tuntap add dev tun0 mode tun\n").unwrap();
    let interfaces = ["{ name: lan0 }", "{ name: tun0 }"].map(str::to_owned).into();
    let said = refused(&bench, &Config { interfaces, ..Config::default() });
    assert!(said.contains("interface tun0 carries no Ethernet"), "{said}");
}

#[test]
fn a_missing_or_damaged_database() {
    if !xtask::require_root("a_missing_or_damaged_database") {
        return;
    }
    let bench = bench();
    let missing = bench.dir().join("missing.mmdb");
    let said = refused(&bench, &with_database(&missing));
    assert!(said.contains("missing.mmdb"), "{said}");

    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/country.mmdb.zst");
    let archive = fs::read(archive).unwrap();
    let mut octets = Vec::new();
    let mut decoder = StreamingDecoder::new(&archive[..]).unwrap();
    std::io::copy(&mut decoder, &mut octets).unwrap();
    let whole = bench.dir().join("whole.mmdb");
    fs::write(&whole, &octets).unwrap();
    Sensor::start(&bench, &with_database(&whole)).stop();

    let damaged = bench.dir().join("damaged.mmdb");
    for (what, octets) in [
        ("cut in the middle", &octets[..octets.len() / 2]),
        ("without its last octets", &octets[..octets.len() - 10]),
        ("without its beginning", &octets[octets.len() / 3..]),
        ("empty", &[]),
        ("some other file", b"MZ\x90\0 this is no database at all"),
    ] {
        fs::write(&damaged, octets).unwrap();
        let said = refused(&bench, &with_database(&damaged));
        assert!(said.contains("damaged.mmdb"), "{what}: {said}");
    }
}

#[test]
fn a_port_in_use() {
    if !xtask::require_root("a_port_in_use") {
        return;
    }
    let bench = bench();
    let listen = || TcpListener::bind("127.0.0.1:9469").unwrap();
    let _listener = bench.gateway().enter(listen).unwrap();
    let said = refused(&bench, &Config::default());
    assert!(said.contains("127.0.0.1:9469 is in use"), "{said}");
}

#[test]
fn no_privileges() {
    if !xtask::require_root("no_privileges") {
        return;
    }
    let bench = bench();
    let (_dir, binary, config) = for_anybody(&Config::default());
    for drop in [
        &["--reuid=65534", "--regid=65534", "--clear-groups"][..],
        // Root without capabilities, as in many containers.
        &["--bounding-set=-all", "--inh-caps=-all"],
    ] {
        let mut command = bench.gateway().command("setpriv");
        command.args(drop).arg(&binary).arg("run").arg("--config").arg(&config);
        let said = one_sentence(bench.gateway().start(command).unwrap());
        assert!(said.contains("CAP_BPF") && said.contains("as root"), "{said}");
        assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
    }
}

/// Binary and configuration where anybody may read them, which the bench's directory is not.
fn for_anybody(config: &Config) -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let binary = dir.path().join("labgate");
    fs::copy(LABGATE, &binary).unwrap();
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    let config = config.write(dir.path());
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    (dir, binary, config)
}

/// Without any rights of its own.
const NOBODY: u32 = 65534;

/// As the service's user: nobody in particular, with these capabilities and no way to more.
fn as_nobody_with(bench: &Bench, capabilities: &str, binary: &Path, config: &Path) -> Process {
    let mut command = bench.gateway().command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all,{capabilities}"));
    }
    command.arg(binary).arg("run").arg("--config").arg(config);
    bench.gateway().start(command).unwrap()
}

#[test]
fn three_capabilities_suffice() {
    if !xtask::require_root("three_capabilities_suffice") {
        return;
    }
    let bench = bench();
    for (attach, tc_attach) in [("auto", "auto"), ("tc", "tcx"), ("tc", "clsact")] {
        let (_dir, binary, config) = for_anybody(&Config::attached(attach, tc_attach));
        // Attaching again is no privilege of the first start.
        for round in 1..=2 {
            let three = "+bpf,+net_admin,+perfmon";
            let process = as_nobody_with(&bench, three, &binary, &config);
            let sensor = Sensor::ready(bench.gateway(), process);
            assert!(ping(bench.device("galaxy"), LAN0.gateway4));
            let report = sensor.settled();
            let icmp = sum(&device(&report, "galaxy").destinations, |row| row.protocol == "icmp");
            let counted = (icmp.tx_packets, icmp.rx_packets);
            assert_eq!(counted, (round, round), "{attach}, {tc_attach}");
            sensor.stop();
            assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
        }
    }
}

#[test]
fn a_missing_capability_is_named() {
    if !xtask::require_root("a_missing_capability_is_named") {
        return;
    }
    let bench = bench();
    let (_dir, binary, config) = for_anybody(&Config::default());
    for (missing, others) in [
        ("CAP_BPF", "+net_admin,+perfmon"),
        ("CAP_NET_ADMIN", "+bpf,+perfmon"),
        ("CAP_PERFMON", "+bpf,+net_admin"),
    ] {
        let said = one_sentence(as_nobody_with(&bench, others, &binary, &config));
        assert!(said.contains(&format!("missing {missing}: ")), "{said}");
        assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
    }
}

#[test]
fn a_kernel_that_is_too_old() {
    if !xtask::require_root("a_kernel_that_is_too_old") {
        return;
    }
    let bench = bench();
    // This kernel, under the name of one of the 2.6 series.
    let mut command = bench.gateway().command("setarch");
    command.args(["--uname-2.6", LABGATE, "run", "--config"]);
    command.arg(Config::default().write(bench.dir()));
    let said = one_sentence(bench.gateway().start(command).unwrap());
    assert!(said.contains("kernel 2.6") && said.contains("6.1"), "{said}");
    assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
}

#[test]
fn a_second_daemon() {
    if !xtask::require_root("a_second_daemon") {
        return;
    }
    let bench = bench();
    let first = Sensor::start(&bench, &Config::default());
    let hooks = Hooks::of(bench.gateway(), "lan0");
    let elsewhere = Config { more: "listen: 127.0.0.1:9470".to_owned(), ..Config::default() };
    let said = one_sentence(launch(&bench, bench.gateway(), &elsewhere));
    assert!(said.contains("another labgate runs"), "{said}");
    assert_eq!(Hooks::of(bench.gateway(), "lan0"), hooks, "the first is not disturbed");

    // Another network namespace is another gateway.
    let other = Config { interfaces: vec!["{ name: wan0 }".to_owned()], ..Config::default() };
    Sensor::start_in(&bench, bench.internet(), &other).stop();
    first.stop();
    assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
}

#[test]
fn a_bad_configuration() {
    if !xtask::require_root("a_bad_configuration") {
        return;
    }
    let bench = bench();
    let more = "speling: true\nlog: loud".to_owned();
    let process = launch(&bench, bench.gateway(), &Config { more, ..Config::default() });
    let said = refusal(process);
    // Both errors at once, each with file, line, column and caret.
    let config = fs::read_dir(bench.dir()).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|extension| extension == "yaml").then_some(path)
    });
    let config = config.unwrap();
    let text = fs::read_to_string(&config).unwrap();
    for word in ["speling", "loud"] {
        let line = text.lines().position(|line| line.contains(word)).unwrap() + 1;
        let place = format!("{}:{line}:", config.display());
        assert!(said.contains(&place), "{place} in {said}");
    }
    assert!(said.matches('^').count() >= 2, "{said}");
    assert_nothing_attached(bench.gateway(), &["lan0", "lan1"]);
}
