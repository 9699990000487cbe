//! The Debian package's life on a machine with a real systemd: installed, started, reloaded,
//! restarted, upgraded, removed. The machine is the gateway of a bench, so the traffic is real.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

mod machine;

use std::{fmt::Write as _, fs, path::Path, process::Command};

use machine::Machine;
use sensor_common::report::{Destination, Device, Report};
use xtask::{
    bench::{
        Bench, Options,
        plan::{DEVICES, GERMANY, LAN0},
    },
    build::Profile,
    package, setup,
};

/// Where the package puts the unit.
const UNIT: &str = "/usr/lib/systemd/system/labgate.service";
/// CAP_NET_ADMIN (12), CAP_PERFMON (38), CAP_BPF (39), from `linux/capability.h`.
const CAPABILITIES: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// The package with this revision, of a daemon built for debugging.
fn package(revision: &str, out: &Path) -> String {
    let package = package::make(Profile::Dev, revision, out).unwrap();
    package.file_name().unwrap().to_str().unwrap().to_owned()
}

fn holds_what_it_promises(package: &Path) {
    let deb = |what: &str| {
        let output = Command::new("dpkg-deb").arg(what).arg(package).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = deb("--contents");
    for path in [
        "etc/labgate/config.yaml",
        "usr/bin/labgate",
        "usr/lib/systemd/system/labgate.service",
        "usr/lib/sysusers.d/labgate.conf",
        "usr/share/bash-completion/completions/labgate",
        "usr/share/doc/labgate/changelog.Debian.gz",
        "usr/share/doc/labgate/changelog.gz",
        "usr/share/doc/labgate/copyright",
        "usr/share/doc/labgate/databases/LICENSE-country-DBIP",
        "usr/share/fish/vendor_completions.d/labgate.fish",
        "usr/share/labgate/country.mmdb",
        "usr/share/labgate/dashboards/README.md",
        "usr/share/labgate/operators.mmdb",
        "usr/share/man/man1/labgate-run.1.gz",
        "usr/share/man/man1/labgate.1.gz",
        "usr/share/man/man5/labgate-config.5.gz",
        "usr/share/zsh/vendor-completions/_labgate",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(&format!(" ./{path}"))), "{listed}");
    }
    assert!(!listed.contains(" ./var/"), "systemd makes the state directory: {listed}");
    let control = deb("--info");
    assert!(control.contains("Depends: ") && control.contains("libc6 (>= "), "{control}");
}

/// The gateway's configuration, with what the devices may talk to.
fn configure(machine: &Machine<'_>, allowed_countries: &str) {
    let mut text = "interfaces: [{ name: lan0 }, { name: lan1 }]\nepoch: 200ms\n".to_owned();
    writeln!(
        text,
        "policy: {{ groups: {{ phones: {{ allowed_countries: {allowed_countries} }} }} }}"
    )
    .unwrap();
    text += "devices:\n";
    for device in &DEVICES {
        let (name, mac) = (device.name, device.mac);
        writeln!(text, "  - {{ name: {name}, mac: \"{mac}\", group: phones }}").unwrap();
    }
    machine.must(&format!("cat >/etc/labgate/config.yaml <<'EOF'\n{text}EOF"));
}

fn report(machine: &Machine<'_>) -> Report {
    let url = "http://127.0.0.1:9469/api/v1/status";
    serde_json::from_str(&machine.must(&format!("curl -qsS --fail {url}"))).unwrap()
}

/// Pings go both ways and are in the report. `before` is how many were by then.
fn counts(bench: &Bench, machine: &mut Machine<'_>, before: u64) {
    bench.device("galaxy").run(&["ping", "-c1", "-W5", LAN0.gateway4]).unwrap();
    machine.wait("ping in the report", |machine| {
        let report = report(machine);
        let is_galaxy = |device: &&Device| device.name == "galaxy";
        let device = report.devices.iter().find(is_galaxy).unwrap();
        let icmp = |row: &&Destination| row.protocol == "icmp" && row.country == "private";
        let icmp = device.destinations.iter().filter(icmp);
        let counts = icmp.map(|row| (row.tx_packets, row.rx_packets)).next();
        counts == Some((before + 1, before + 1)) && report.books.closed
    });
}

fn main_pid(machine: &Machine<'_>) -> String {
    machine.must("systemctl show --property=MainPID --value labgate")
}

fn has_attached(machine: &Machine<'_>) -> bool {
    machine.must("ip link show dev lan0").contains("prog/xdp")
}

#[test]
fn the_package_s_life() {
    if !xtask::require_root("the_package_s_life") {
        return;
    }
    if !setup::is_debian() {
        return xtask::skip("the_package_s_life", "needs Debian or a relative");
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let packages = bench.dir().join("packages");
    fs::create_dir(&packages).unwrap();
    let (first, second) = (package("1", &packages), package("2", &packages));
    holds_what_it_promises(&packages.join(&first));

    let mut machine = Machine::boot(bench.gateway(), &packages);
    installed_it_waits(&machine, &first);
    started_it_has_what_it_needs(&bench, &mut machine);
    a_link_made_anew_is_attached_to(&bench, &mut machine);
    reloaded_it_judges_anew(&bench, &mut machine);
    restarted_it_takes_over(&bench, &mut machine);
    upgraded_it_goes_on(&bench, &mut machine, &second);
    removed_it_is_gone(&machine);
}

/// For somebody to name the interfaces.
fn installed_it_waits(machine: &Machine<'_>, package: &str) {
    let said = machine.must(&format!("dpkg --install /mnt/{package} 2>&1"));
    assert!(said.contains("/etc/labgate/config.yaml"), "{said}");
    assert!(machine.run("systemctl is-enabled labgate").is_err());
    assert!(machine.run("systemctl is-active labgate").is_err());
    machine.must(&format!("systemd-analyze verify --man=no {UNIT}"));
    // In tenths.
    machine.must(&format!("systemd-analyze security --offline=true --threshold=25 {UNIT}"));
}

/// It is ready, and has a user of its own, three capabilities and no way to more.
fn started_it_has_what_it_needs(bench: &Bench, machine: &mut Machine<'_>) {
    configure(machine, "[IN, DE]");
    assert!(!has_attached(machine));
    machine.must("systemctl enable --now labgate");
    assert!(has_attached(machine));
    machine.must("curl -qsS --fail http://127.0.0.1:9469/readyz");
    let status = machine.must("systemctl show --property=StatusText --value labgate");
    assert!(status.starts_with("counting on lan0 (xdp, tcx) and lan1 (xdp, tcx): "), "{status}");

    let process = machine.must(&format!("cat /proc/{}/status", main_pid(machine)));
    let field = |name: &str| {
        let line = process.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {process}")).trim()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(set), 16), Ok(CAPABILITIES), "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1", "2"));
    let user = machine.must("id --user labgate");
    assert_eq!(field("Uid:"), [&*user; 4].join("\t"));
    assert_ne!(user, "0");
    assert_eq!(machine.must("stat --format='%U %a' /var/lib/labgate"), "labgate 700");
    counts(bench, machine, 0);
}

/// By the same process, which is no root.
fn a_link_made_anew_is_attached_to(bench: &Bench, machine: &mut Machine<'_>) {
    let pid = main_pid(machine);
    bench.unplug_lan0().unwrap();
    machine.wait("the link to be missed", |machine| {
        let ready = machine.must("curl -qsS http://127.0.0.1:9469/readyz");
        ready.contains("not watched: lan0")
    });
    bench.plug_lan0().unwrap();
    machine.wait("programs on the new link", |machine| {
        has_attached(machine)
            && machine.run("curl -qsS --fail http://127.0.0.1:9469/readyz").is_ok()
    });
    counts(bench, machine, 1);
    assert_eq!(main_pid(machine), pid);
}

/// The process stays; its policy is the file's.
fn reloaded_it_judges_anew(bench: &Bench, machine: &mut Machine<'_>) {
    let pid = main_pid(machine);
    // The file is as it was, so this is the signal's doing.
    machine.must("systemctl reload labgate");
    let reloads = "labgate_reloads_total{what=\"configuration\",outcome=\"success\"} 1";
    machine.wait("reload by order", |machine| {
        machine.must("curl -qsS http://127.0.0.1:9469/metrics").lines().any(|line| line == reloads)
    });

    let send = || bench.device("galaxy").run(&["ping", "-c1", "-W5", GERMANY.ipv4]).unwrap();
    send();
    assert_eq!(report(machine).alerts, []);
    configure(machine, "[IN]");
    machine.must("systemctl reload labgate");
    machine.wait("alert by the new policy", |machine| {
        send();
        report(machine).alerts.iter().any(|alert| alert.country == "DE")
    });
    assert_eq!(main_pid(machine), pid);
}

/// Without root: by order, and after it has hung. What passes while it is stopped is counted, and what was
/// counted before stays.
fn restarted_it_takes_over(bench: &Bench, machine: &mut Machine<'_>) {
    machine.must("systemctl stop labgate");
    assert!(has_attached(machine));
    bench.device("galaxy").run(&["ping", "-c1", "-W5", LAN0.gateway4]).unwrap();
    machine.must("systemctl start labgate");
    counts(bench, machine, 3);

    // For the test's sake it happens soon.
    let drop_in = "/run/systemd/system/labgate.service.d";
    let soon = "[Service]\\nWatchdogSec=3\\nRestartSec=0\\n";
    machine.must(&format!("mkdir {drop_in} && printf '{soon}' >{drop_in}/soon.conf"));
    machine.must("systemctl daemon-reload && systemctl restart labgate");
    let hung = main_pid(machine);
    machine.must("systemctl kill --signal=STOP labgate");
    machine.wait("restart by the watchdog", |machine| {
        machine.run("systemctl is-active labgate").is_ok() && main_pid(machine) != hung
    });
    counts(bench, machine, 4);
    machine.must(&format!("rm -r {drop_in} && systemctl daemon-reload"));
}

/// With the configuration as it was.
fn upgraded_it_goes_on(bench: &Bench, machine: &mut Machine<'_>, package: &str) {
    let old = main_pid(machine);
    let config = machine.must("cat /etc/labgate/config.yaml");
    machine.must(&format!("dpkg --install /mnt/{package} 2>&1"));
    let version = machine.must("dpkg-query --show --showformat='${Version}' labgate");
    assert_eq!(version, format!("{}-2", env!("CARGO_PKG_VERSION")));
    machine.must("systemctl is-active labgate && systemctl is-enabled labgate");
    assert_ne!(main_pid(machine), old);
    assert_eq!(machine.must("cat /etc/labgate/config.yaml"), config);
    counts(bench, machine, 5);
}

/// Removed, it leaves the configuration; purged, the user.
fn removed_it_is_gone(machine: &Machine<'_>) {
    machine.must("dpkg --remove labgate 2>&1");
    assert!(machine.run("systemctl is-active labgate").is_err());
    assert!(!has_attached(machine));
    machine.must("test -e /etc/labgate/config.yaml && ! test -e /usr/bin/labgate");
    machine.must("dpkg --purge labgate 2>&1");
    machine.must("! test -e /etc/labgate && ! test -e /var/lib/labgate && id labgate");
    assert!(machine.run("systemctl cat labgate").is_err());
}
