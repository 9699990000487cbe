//! The daemon on the bench's gateway: built, configured, started, asked, stopped.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use sensor_common::report::Report;

use crate::bench::{
    Bench, Process,
    plan::{DEVICES, LANS},
};

/// Loopback of the gateway: the observed devices cannot reach it.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);

/// A running daemon.
pub(super) struct Sensor<'a> {
    bench: &'a Bench,
    process: Process,
}

impl<'a> Sensor<'a> {
    /// Starts `binary` on the gateway and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; the error has its log.
    pub(super) fn start(bench: &'a Bench, binary: &Path) -> Result<Self> {
        let path = bench.dir().join("config.yaml");
        fs::write(&path, config()).context("cannot write the daemon's configuration")?;
        let mut command = bench.gateway().command(&binary.display().to_string());
        command.arg("run").arg("--config").arg(&path);
        let mut sensor = Self { bench, process: bench.gateway().start(command)? };
        let deadline = Instant::now() + START;
        while let Err(error) = sensor.get("/readyz") {
            if let Some(status) = sensor.process.ended()? {
                bail!("the daemon ended ({status}):\n{}", sensor.process.output());
            }
            if Instant::now() >= deadline {
                bail!("the daemon is not ready: {error:#}\n{}", sensor.process.output());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(sensor)
    }

    /// What it counted, in the common JSON form; with `addresses` in address detail.
    pub(super) fn report(&self, addresses: bool) -> Result<Report> {
        let query = if addresses { "?detail=address" } else { "" };
        let text = self.get(&format!("/api/v1/status{query}"))?;
        serde_json::from_str(&text).context("the daemon's status is not in the common JSON form")
    }

    /// Ends it as an operator would.
    ///
    /// # Errors
    /// When it does not end in time, or not with success.
    pub(super) fn stop(mut self) -> Result<()> {
        let status = self.process.stop(Signal::SIGINT, STOP)?;
        ensure!(status.success(), "the daemon ended badly ({status}):\n{}", self.process.output());
        Ok(())
    }

    /// Fails when it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("the daemon ended ({status}):\n{}", self.process.output()),
            None => Ok(()),
        }
    }

    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{LISTEN}{path}");
        self.bench.gateway().run(&["curl", "-qsS", "--fail", "--max-time", "5", &url])
    }
}

/// A real configuration for the bench: three groups, one policy for each.
fn config() -> String {
    let mut text = "interfaces:\n".to_owned();
    // Writing to a String cannot fail.
    for lan in LANS {
        let _ok = writeln!(text, "  - {{ name: {}, attach: auto }}", lan.interface);
    }
    text += "devices:\n";
    for spec in &DEVICES {
        let group = match spec.name {
            "mi-4" => "mi-cloud",
            "smart-plug" => "smart-home",
            _ => "phones",
        };
        let (name, mac) = (spec.name, spec.mac);
        let _ok = writeln!(text, "  - {{ name: {name}, macs: [\"{mac}\"], group: {group} }}");
    }
    let _ok = write!(
        text,
        "policy:
  groups:
    phones: {{ allowed_countries: [IN, SG] }}
    mi-cloud: {{ allowed_countries: [SG, US] }}
    smart-home: {{ allowed_countries: [DE, US] }}
  watched_prefixes: [\"42.62.48.0/24\"]
epoch: 1s
listen: {LISTEN}
state_dir: state
"
    );
    text
}
