//! A daemon under test, on the gateway of a bench.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sensor_common::report::{Destination, Device, Report};
use xtask::bench::{Bench, LinkCounters, Namespace, Process, plan::DEVICES, when_silent};

pub(crate) const LABGATE: &str = env!("CARGO_BIN_EXE_labgate");
pub(crate) const URL: &str = "http://127.0.0.1:9469";
/// For anything that takes a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A configuration file in the making.
#[derive(Clone)]
pub(crate) struct Config {
    /// One flow mapping for each interface.
    pub(crate) interfaces: Vec<String>,
    pub(crate) tc_attach: &'static str,
    pub(crate) epoch: &'static str,
    /// What the devices may exchange packets with, in YAML; everything where it is empty.
    pub(crate) allowed_countries: &'static str,
    /// Further top-level keys.
    pub(crate) more: String,
}

impl Default for Config {
    fn default() -> Self {
        Self::attached("auto", "auto")
    }
}

impl Config {
    /// Both LAN interfaces, attached in the same way.
    pub(crate) fn attached(attach: &str, tc_attach: &'static str) -> Self {
        let interface = |name| format!("{{ name: {name}, attach: {attach} }}");
        Self {
            interfaces: ["lan0", "lan1"].map(interface).into(),
            tc_attach,
            epoch: "200ms",
            allowed_countries: "",
            more: String::new(),
        }
    }

    /// The text, with the bench's devices.
    pub(crate) fn text(&self) -> String {
        let mut text = "interfaces:\n".to_owned();
        for interface in &self.interfaces {
            writeln!(text, "  - {interface}").unwrap();
        }
        let Self { tc_attach, epoch, allowed_countries, more, .. } = self;
        let group = if allowed_countries.is_empty() { "" } else { ", group: phones" };
        text += "devices:\n";
        for spec in &DEVICES {
            let (name, mac) = (spec.name, spec.mac);
            writeln!(text, "  - {{ name: {name}, mac: \"{mac}\"{group} }}").unwrap();
        }
        if !group.is_empty() {
            let rule = format!("{{ allowed_countries: {allowed_countries} }}");
            writeln!(text, "policy: {{ groups: {{ phones: {rule} }} }}").unwrap();
        }
        // Of this daemon's own, whatever lies on the machine.
        text += "state_dir: state\n";
        write!(text, "tc_attach: {tc_attach}\nepoch: {epoch}\n{more}\n").unwrap();
        text
    }

    /// Writes it to a file of its own.
    pub(crate) fn write(&self, directory: &Path) -> PathBuf {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("config-{number}.yaml"));
        let mut text = self.text();
        if !text.contains("\nledger:") {
            // A test that starts several begins anew with each.
            writeln!(text, "ledger: ledger-{number}.db").unwrap();
        }
        fs::write(&path, text).unwrap();
        path
    }
}

/// A daemon, started but perhaps not yet ready.
pub(crate) fn launch(bench: &Bench, namespace: &Namespace, config: &Config) -> Process {
    launch_file(namespace, &config.write(bench.dir()))
}

/// The same with a configuration that lies there already.
pub(crate) fn launch_file(namespace: &Namespace, path: &Path) -> Process {
    let mut command = namespace.command(LABGATE);
    command.arg("run").arg("--config").arg(path).env("NO_COLOR", "1");
    namespace.start(command).unwrap()
}

/// What `labgate` says when it refuses: its exit code is not 0, and this is all that it wrote.
pub(crate) fn refusal(mut process: Process) -> String {
    let status = process.wait(6 * PATIENCE).unwrap();
    let said = process.output();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A refusal in one sentence, on one line.
#[track_caller]
pub(crate) fn one_sentence(process: Process) -> String {
    let said = refusal(process);
    let line = said.strip_suffix('\n').unwrap_or(&said);
    assert!(line.starts_with("labgate: ") && !line.contains('\n'), "not one sentence: {said}");
    line.to_owned()
}

/// A running daemon.
pub(crate) struct Sensor<'a> {
    namespace: &'a Namespace,
    pub(crate) process: Process,
}

impl<'a> Sensor<'a> {
    /// Starts it on the gateway and waits until it is ready.
    pub(crate) fn start(bench: &'a Bench, config: &Config) -> Self {
        Self::start_in(bench, bench.gateway(), config)
    }

    pub(crate) fn start_in(bench: &'a Bench, namespace: &'a Namespace, config: &Config) -> Self {
        Self::ready(namespace, launch(bench, namespace, config))
    }

    /// Starts it where something keeps it from being ready, and waits until it counts.
    pub(crate) fn start_unready(bench: &'a Bench, config: &Config) -> Self {
        Self::when(bench.gateway(), launch(bench, bench.gateway(), config), "/healthz")
    }

    /// Waits until a daemon that was started is ready.
    pub(crate) fn ready(namespace: &'a Namespace, process: Process) -> Self {
        Self::when(namespace, process, "/readyz")
    }

    fn when(namespace: &'a Namespace, process: Process, path: &str) -> Self {
        let mut sensor = Self { namespace, process };
        // The programs' verification takes seconds of a core that others want, too.
        let deadline = Instant::now() + 6 * PATIENCE;
        while sensor.get(path).is_err() {
            let log = sensor.process.output();
            assert!(sensor.process.ended().unwrap().is_none(), "the daemon ended: {log}");
            assert!(Instant::now() < deadline, "the daemon is not ready: {log}");
            thread::sleep(Duration::from_millis(20));
        }
        sensor
    }

    fn get(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("{URL}{path}");
        self.namespace.run(&["curl", "-qsS", "--fail", "--max-time", "5", &url])
    }

    /// The common JSON form with address detail.
    pub(crate) fn report(&self) -> Report {
        serde_json::from_str(&self.get("/api/v1/status?detail=address").unwrap()).unwrap()
    }

    /// The lines of the metric `name`, which may go on with labels.
    pub(crate) fn metric(&self, name: &str) -> Vec<String> {
        let text = self.get("/metrics").unwrap();
        text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }

    /// Waits until two further epochs are in the report, so that everything is that has passed the
    /// hooks before this call.
    pub(crate) fn settled(&self) -> Report {
        let mut report = self.report();
        for _ in 0..2 {
            let before = report.time;
            let deadline = Instant::now() + PATIENCE;
            loop {
                report = self.report();
                if report.time != before {
                    break;
                }
                assert!(Instant::now() < deadline, "no new epoch: {}", self.process.output());
                thread::sleep(Duration::from_millis(20));
            }
        }
        report
    }

    /// What it has counted and what these links count when nothing moves any more.
    pub(crate) fn when_silent<const N: usize>(
        &self,
        links: [(&Namespace, &str); N],
    ) -> (Report, [LinkCounters; N]) {
        when_silent(links, || Ok(self.settled())).unwrap()
    }

    /// Ends it as a service manager would: the programs go on counting.
    pub(crate) fn leave(mut self) {
        self.process.stop(Signal::SIGTERM, PATIENCE).unwrap();
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) -> String {
        let status = self.process.stop(Signal::SIGINT, PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.process.output());
        self.process.output()
    }
}

/// A device's entry in a report.
#[track_caller]
pub(crate) fn device<'a>(report: &'a Report, name: &str) -> &'a Device {
    let device = report.devices.iter().find(|device| device.name == name);
    device.unwrap_or_else(|| panic!("no device {name} in {report:#?}"))
}

/// What rows count together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
}

/// The sum of the rows that `choose` takes.
pub(crate) fn sum<'a>(
    rows: impl IntoIterator<Item = &'a Destination>,
    choose: impl Fn(&Destination) -> bool,
) -> Counts {
    let mut sum = Counts::default();
    for row in rows.into_iter().filter(|row| choose(row)) {
        sum.tx_packets += row.tx_packets;
        sum.tx_bytes += row.tx_bytes;
        sum.rx_packets += row.rx_packets;
        sum.rx_bytes += row.rx_bytes;
    }
    sum
}

/// The rows of all devices.
pub(crate) fn rows(report: &Report) -> impl Iterator<Item = &Destination> {
    report.devices.iter().flat_map(|device| &device.destinations)
}

/// Sends a UDP datagram from a device.
pub(crate) fn send_udp(device: &Namespace, to: &str, port: u16) {
    let sent = device.enter(|| {
        let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        std::net::UdpSocket::bind(any)?.send_to(b"hello", (to, port))
    });
    assert_eq!(sent.unwrap().unwrap(), 5);
}

/// Pings once; says whether an answer came.
pub(crate) fn ping(device: &Namespace, to: &str) -> bool {
    device.run(&["ping", "-c1", "-W3", to]).is_ok()
}
