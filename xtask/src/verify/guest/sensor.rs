//! The sensor in the virtual machine, on the gateway of its bench.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use mmdb_writer::{Value, Writer};
use nix::sys::signal::Signal;
use sensor_common::report::{Destination, Report};

use crate::{
    bench::{
        Bench, Process,
        plan::{DEVICES, GERMANY},
    },
    verify::image::SENSOR,
};

/// Where it listens.
const ADDRESS: (&str, u16) = ("127.0.0.1", 9469);
/// Countries and operators.
const DATABASE: &str = "geo.mmdb";
/// An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// How it is told to attach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) attach: &'static str,
    pub(super) tc_attach: &'static str,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attach: {}, tc_attach: {}", self.attach, self.tc_attach)
    }
}

/// A running sensor.
pub(super) struct Sensor<'a> {
    bench: &'a Bench,
    config: PathBuf,
    process: Process,
}

impl<'a> Sensor<'a> {
    /// Starts it with a ledger of its own and waits until it is ready.
    pub(super) fn start(bench: &'a Bench, way: Way, interfaces: &[&str]) -> Result<Self> {
        let config = bench.dir().join("config.yaml");
        let interfaces: String = interfaces
            .iter()
            .map(|name| format!("  - {{ name: {name}, attach: {} }}\n", way.attach))
            .collect();
        let devices =
            DEVICES.map(|spec| format!("  - {{ name: {}, mac: \"{}\" }}\n", spec.name, spec.mac));
        let text = format!(
            "interfaces:\n{interfaces}devices:\n{}tc_attach: {}\nepoch: 500ms\nstate_dir: state\n\
             databases: {{ country: {DATABASE}, operators: {DATABASE} }}\n",
            devices.concat(),
            way.tc_attach
        );
        fs::write(bench.dir().join(DATABASE), database()?)
            .and_then(|()| fs::write(&config, text))
            .context("can't write the sensor's configuration")?;
        let process = launch(bench, &config)?;
        let mut sensor = Self { bench, config, process };
        sensor.wait_until_ready()?;
        Ok(sensor)
    }

    /// Kills it, leaves the programs alone for a while, and starts it again.
    pub(super) fn kill_and_restart(&mut self, alone: Duration) -> Result<()> {
        self.process.stop(Signal::SIGKILL, PATIENCE)?;
        thread::sleep(alone);
        self.process = launch(self.bench, &self.config)?;
        self.wait_until_ready()
    }

    /// Ends it as an operator would, with nothing left attached.
    pub(super) fn stop(mut self) -> Result<()> {
        let status = self.process.stop(Signal::SIGINT, PATIENCE)?;
        ensure!(status.success(), "the sensor ended badly ({status}): {}", self.process.output());
        Ok(())
    }

    /// Instructions that the verifier walked, by program, as far as the kernel tells.
    pub(super) fn instructions(&self) -> BTreeMap<String, Option<u64>> {
        instructions(&self.process.output())
    }

    /// The report, when everything is in it that has passed the hooks before this call.
    pub(super) fn settled(&mut self) -> Result<Report> {
        let mut report = self.report()?;
        for _ in 0..2 {
            let before = report.time;
            let deadline = Instant::now() + PATIENCE;
            loop {
                report = self.report()?;
                if report.time != before {
                    break;
                }
                ensure!(Instant::now() < deadline, "no new epoch: {}", self.process.output());
                thread::sleep(POLL);
            }
        }
        Ok(report)
    }

    fn report(&self) -> Result<Report> {
        let text = self.get("/api/v1/status?detail=address")?;
        serde_json::from_str(&text).context("the report is not in its form")
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/readyz").is_err() {
            let log = self.process.output();
            // Its last words are the reason.
            let reason = log.rfind("labgate: ").map_or(&*log, |at| log[at..].trim());
            ensure!(self.process.ended()?.is_none(), "the sensor ended: {reason}");
            ensure!(Instant::now() < deadline, "the sensor is not ready: {log}");
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Asks it over HTTP, which HTTP/1.0 makes one question and one answer.
    fn get(&self, path: &str) -> Result<String> {
        let answer = self.bench.gateway().enter(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect(ADDRESS)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status == "200", "{path}: HTTP status {status}");
        Ok(body.to_owned())
    }
}

fn launch(bench: &Bench, config: &Path) -> Result<Process> {
    let program = Path::new("/").join(SENSOR);
    let mut command = bench.gateway().command(&program.display().to_string());
    command.arg("run").arg("--config").arg(config);
    // It tells of the programs that it loads.
    command.env("NO_COLOR", "1").env("LABGATE_LOG", "info,labgate::kernel=debug");
    bench.gateway().start(command)
}

/// A database of one network: to check the built-in ones takes an emulated machine a minute.
fn database() -> Result<Vec<u8>> {
    let text = |text: &str| Value::from(text);
    let record = Value::map([
        ("country_code", text("DE")),
        ("autonomous_system_number", Value::from(24940_u32)),
        ("autonomous_system_organization", text("Hetzner Online GmbH")),
    ]);
    let mut writer = Writer::builder("Country-Operator").build();
    let address: Ipv4Addr = GERMANY.ipv4.parse()?;
    writer.insert_value(IpNet::new_assert(address.into(), 15).trunc(), record)?;
    Ok(writer.to_bytes()?)
}

/// Takes them out of the sensor's log.
fn instructions(log: &str) -> BTreeMap<String, Option<u64>> {
    let word = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_whitespace().next().map(|word| word.trim_matches('"').to_owned())
    };
    log.lines()
        .filter(|line| line.contains("the kernel took a program"))
        .filter_map(|line| {
            let count = word(line, "verified_instructions=").and_then(|count| count.parse().ok());
            Some((word(line, "program=")?, count))
        })
        .collect()
}

/// What rows count together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) tx_packets: u64,
    pub(super) tx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
}

impl Counts {
    /// What has been added since.
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            tx_packets: self.tx_packets - before.tx_packets,
            tx_bytes: self.tx_bytes - before.tx_bytes,
            rx_packets: self.rx_packets - before.rx_packets,
            rx_bytes: self.rx_bytes - before.rx_bytes,
        }
    }
}

/// The sum of the rows that `choose` takes, of all devices.
pub(super) fn sum(report: &Report, choose: impl Fn(&Destination) -> bool) -> Counts {
    let mut sum = Counts::default();
    let rows = report.devices.iter().flat_map(|device| &device.destinations);
    for row in rows.filter(|row| choose(row)) {
        sum.tx_packets += row.tx_packets;
        sum.tx_bytes += row.tx_bytes;
        sum.rx_packets += row.rx_packets;
        sum.rx_bytes += row.rx_bytes;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_instructions_in_the_log() {
        let log = "x DEBUG labgate::kernel::sensor: the kernel took a program \
                   program=\"labgate_xdp\" verified_instructions=4711\n\
                   x INFO labgate: counting\n\
                   x DEBUG labgate::kernel::sensor: the kernel took a program program=\"labgate_old\"\n";
        let found = instructions(log);
        assert_eq!(found.get("labgate_xdp"), Some(&Some(4711)));
        assert_eq!(found.get("labgate_old"), Some(&None));
        assert_eq!(found.len(), 2);
    }
}
