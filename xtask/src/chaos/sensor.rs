//! The sensor that a campaign kills and starts again.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use sensor_common::report::Audit;

use super::{Outcome, dice::Dice};
use crate::bench::{
    Bench, Process,
    plan::{DEVICES, LANS},
};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(30);

/// The sensor, alive or dead.
pub(super) struct Sensor<'a> {
    bench: &'a Bench,
    binaries: [PathBuf; 2],
    without: Option<String>,
    config: PathBuf,
    process: Option<Process>,
}

impl<'a> Sensor<'a> {
    pub(super) fn new(
        bench: &'a Bench,
        binaries: [PathBuf; 2],
        without: Option<&str>,
    ) -> Result<Self> {
        let config = bench.dir().join("config.yaml");
        let sensor =
            Self { bench, binaries, without: without.map(str::to_owned), config, process: None };
        sensor.configure()?;
        Ok(sensor)
    }

    fn configure(&self) -> Result<()> {
        let devices =
            DEVICES.map(|spec| format!("  - {{name: {}, mac: \"{}\"}}\n", spec.name, spec.mac));
        let lans = LANS.map(|lan| format!("  - {{name: {}, attach: xdp}}\n", lan.interface));
        let text = format!(
            "interfaces:\n{}devices:\n{}epoch: 100ms\nstate_dir: state\nledger: {}\n",
            lans.concat(),
            devices.concat(),
            self.bench.dir().join("disk/ledger.db").display()
        );
        fs::write(&self.config, text).context("cannot write the sensor's configuration")
    }

    pub(super) fn start(&mut self, faults: &[String]) -> Result<()> {
        let mut command = self.bench.gateway().command(&self.binaries[0].display().to_string());
        command.arg("run").arg("--config").arg(&self.config);
        let without = self.without.iter().map(|safeguard| format!("without={safeguard}"));
        let faults: Vec<String> = faults.iter().cloned().chain(without).collect();
        if !faults.is_empty() {
            command.env("LABGATE_FAULTS", faults.join(","));
        }
        self.process = Some(self.bench.gateway().start(command)?);
        Ok(())
    }

    /// With some fault or other.
    pub(super) fn restart(&mut self, dice: &mut Dice, outcome: &mut Outcome) -> Result<()> {
        let mut faults = Vec::new();
        if dice.roll(2) == 0 {
            let points = ["flipped", "waited", "read", "committed"];
            let point = points[usize::try_from(dice.roll(4))?];
            faults.push(format!("kill={point}:{}", 1 + dice.roll(12)));
        }
        if dice.roll(4) == 0 {
            faults.push("clock=5400".to_owned());
        }
        outcome.restarts += 1;
        self.start(&faults)
    }

    pub(super) fn upgrade(&mut self) {
        self.binaries.swap(0, 1);
    }

    pub(super) fn has_ended(&mut self) -> Result<bool> {
        let Some(process) = &mut self.process else { return Ok(true) };
        let Some(status) = process.ended()? else { return Ok(false) };
        let output = process.output();
        self.process = None;
        // Killed, or stopped in good order, or the disk was full at the start.
        let is_fine = status.code().is_none_or(|code| code == 0) || output.contains("disk");
        ensure!(is_fine, "the sensor ended by itself ({status}):\n{output}");
        check(&output)?;
        Ok(true)
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let status = process.stop(signal, STOP)?;
        let output = process.output();
        check(&output)?;
        let in_order = signal == Signal::SIGKILL || status.code().is_none_or(|code| code == 0);
        ensure!(in_order, "the sensor ended badly ({status}):\n{output}");
        Ok(())
    }

    /// The configuration is written anew, and the sensor told.
    pub(super) fn hang_up(&self) -> Result<()> {
        self.configure()?;
        if let Some(process) = &self.process {
            // One that has just been killed at a failpoint can't be told anything.
            let _gone: nix::Result<()> = kill(process.pid(), Signal::SIGHUP);
        }
        Ok(())
    }

    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        self.wait_until_ready_or_ended()?;
        ensure!(self.process.is_some(), "the sensor ended");
        Ok(())
    }

    pub(super) fn wait_until_ready_or_ended(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        let url = "http://127.0.0.1:9469/readyz";
        while self.bench.gateway().run(&["curl", "-qsS", "--fail", "--max-time", "5", url]).is_err()
        {
            if self.has_ended()? {
                return Ok(());
            }
            let log = self.process.as_ref().map(Process::output).unwrap_or_default();
            ensure!(Instant::now() < deadline, "the sensor is not ready:\n{log}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub(super) fn audit(&self) -> Result<Audit> {
        let binary = self.binaries[0].display().to_string();
        let config = self.config.display().to_string();
        let text = self.bench.gateway().run(&[&binary, "audit", "--json", "--config", &config])?;
        serde_json::from_str(&text).context("the audit is not in its form")
    }
}

/// What no sensor says that keeps its promises.
fn check(log: &str) -> Result<()> {
    const FAULTS: [&str; 7] = [
        "panicked",
        "do not balance",
        "set aside",
        "is lost",
        "could not be written",
        "missing in the ledger",
        "does not hold what was counted",
    ];
    for fault in FAULTS {
        ensure!(!log.contains(fault), "the sensor says that something {fault}:\n{log}");
    }
    Ok(())
}
