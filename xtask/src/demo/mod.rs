//! `cargo xtask demo`: the whole of LabGate on the bench, with the cases that labs had to find by
//! hand; with `--once`, checked against an independent capture.

mod capture;
mod compare;
mod forward;
mod sensor;
mod traffic;
mod view;

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use capture::Captures;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use sensor::Sensor;
use sensor_common::report::Report;
use traffic::SCENES;
use view::View;

use crate::{
    bench::{Bench, Options},
    build::{self, Profile},
    privilege::is_root,
    setup::{self, Consent, Group},
    stack::{self, Stack},
};

/// How the demo runs.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Run the scenario once and compare the sensor's numbers with captures at each device
    #[arg(long)]
    once: bool,
    /// Run Prometheus and Alertmanager beside the sensor, and show the notifications that they send
    #[arg(long, conflicts_with = "once")]
    stack: bool,
    /// Print the report in the common JSON form on standard output at the end, nothing else there
    #[arg(long)]
    json: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

const REFRESH: Duration = Duration::from_secs(1);
/// How often Prometheus looks, with `--stack`.
const SCRAPES: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);
/// Longer than the delay after which the kernel probes a neighbour (one second on the bench) and
/// longer than two epochs.
const SILENCE: Duration = Duration::from_millis(2500);

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Runs the demo. Needs root.
///
/// # Errors
/// When something does not start, or with `--once` when the numbers, the books or the alerts are
/// not as they must be.
pub fn run(args: &Args) -> Result<()> {
    let mut needed = vec![Group::Build, Group::Bench];
    needed.extend(args.stack.then_some(Group::Test));
    setup::ensure(&needed, Consent::new(args.yes))?;
    ensure!(is_root(), "the demo makes network namespaces and loads eBPF programs: run it as root");
    let binary = build::daemon(Profile::Release)?;
    stop_on_signals()?;

    let mut view = View::new(args.json);
    view.now("making the bench")?;
    // The sensor attaches while the LAN is down, so that its counters and the interfaces' start
    // from zero; without offloads a capture sees frames as they would be on a wire.
    let options = Options { lan_offloads: false, lan_up: false };
    let mut bench = Bench::new(&options)?;
    bench.serve()?;
    let bench = bench;
    let sensor = Sensor::start(&bench, &binary)?;
    let captures = if args.once { Some(Captures::start(&bench)?) } else { None };
    bench.lan_up()?;

    let address = forward::start(bench.gateway().handle(), sensor::LISTEN)?;
    view.head(&format!("LabGate demo. Metrics: http://{address}/metrics"))?;
    view.head(&format!("Status as JSON: http://{address}/api/v1/status"))?;
    let stack = if args.stack { Some(start_stack(&bench, &mut view)?) } else { None };
    if !args.once {
        view.head("Ctrl-C ends it.")?;
    }

    let mut stage = Stage { bench: &bench, sensor, stack, view, refreshed: Instant::now() };
    stage.play(args.once)?;
    let (report, verdict) = match captures {
        Some(captures) => stage.verify(captures)?,
        None => (stage.sensor.report(true)?, Ok(())),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    stage.sensor.stop()?;
    verdict
}

/// Plays the scenario so many times in front of a Prometheus that looks every `interval`, and shows it
/// and the sensor's report when all is scraped. Needs root.
///
/// # Errors
/// When something does not start, or as `look`.
pub(crate) fn scraped<T>(
    interval: Duration,
    rounds: u32,
    look: impl FnOnce(&Stack<'_>, &Report) -> Result<T>,
) -> Result<T> {
    let binary = build::daemon(Profile::Dev)?;
    let mut bench = Bench::new(&Options { lan_offloads: false, lan_up: false })?;
    bench.serve()?;
    let bench = bench;
    let sensor = Sensor::start(&bench, &binary)?;
    let stack = Stack::start(bench.gateway(), bench.dir(), interval, &[])?;
    stack.wait_until_known()?;
    bench.lan_up()?;
    let view = View::silent();
    let mut stage =
        Stage { bench: &bench, sensor, stack: Some(stack), view, refreshed: Instant::now() };
    for _ in 0..rounds {
        stage.play(true)?;
        thread::sleep(interval);
    }
    stage.wait_for_silence()?;
    let report = stage.settled_report()?;
    // A scrape, an evaluation of the rules, and one more for alerts that stand on recorded ones.
    thread::sleep(4 * interval);
    let result = look(stage.stack.as_ref().context("no Prometheus")?, &report)?;
    stage.sensor.stop()?;
    Ok(result)
}

/// Prometheus and Alertmanager on the gateway, and where the user finds them.
fn start_stack<'a>(bench: &'a Bench, view: &mut View) -> Result<Stack<'a>> {
    view.now("starting Prometheus and Alertmanager")?;
    let stack = Stack::start(bench.gateway(), bench.dir(), SCRAPES, &[])?;
    stack.wait_until_known()?;
    for (name, address) in
        [("Prometheus", stack::PROMETHEUS), ("Alertmanager", stack::ALERTMANAGER)]
    {
        let address = forward::start(bench.gateway().handle(), address.parse()?)?;
        view.head(&format!("{name}: http://{address}/"))?;
    }
    Ok(stack)
}

struct Stage<'a> {
    bench: &'a Bench,
    sensor: Sensor<'a>,
    stack: Option<Stack<'a>>,
    view: View,
    refreshed: Instant,
}

impl Stage<'_> {
    /// Plays the scenario, again and again unless `once`, until a signal stops it.
    fn play(&mut self, once: bool) -> Result<()> {
        loop {
            for scene in &SCENES {
                self.view.now(&format!("{}: {}", scene.device, scene.title))?;
                for visit in scene.visits {
                    let mut exchange = visit.start(self.bench, scene.device)?;
                    let deadline = Instant::now() + traffic::PATIENCE;
                    let status = loop {
                        if let Some(status) = exchange.ended()? {
                            break status;
                        }
                        ensure!(Instant::now() < deadline, "{} hangs", exchange.name());
                        if self.tick()? {
                            return Ok(());
                        }
                    };
                    ensure!(
                        status.success(),
                        "{} failed ({status}): {}",
                        exchange.name(),
                        exchange.output()
                    );
                }
                let pause = if once { STEP } else { 2 * REFRESH };
                let end = Instant::now() + pause;
                while Instant::now() < end {
                    if self.tick()? {
                        return Ok(());
                    }
                }
            }
            if once {
                return Ok(());
            }
        }
    }

    /// Waits a moment, refreshes the view when due, and tells whether a signal asks to stop.
    fn tick(&mut self) -> Result<bool> {
        thread::sleep(STEP);
        if self.refreshed.elapsed() >= REFRESH {
            self.refreshed = Instant::now();
            self.sensor.check()?;
            for alert in self.stack.iter().filter_map(|s| s.notification(Duration::ZERO)).flatten()
            {
                self.view.notified(&alert)?;
            }
            let report = self.sensor.report(false)?;
            self.view.refresh(&report)?;
        }
        Ok(stopped())
    }

    /// Waits until the bench is silent and the sensor has drained everything, then compares.
    /// Returns what was compared, and whether all is as it must be.
    fn verify(&mut self, captures: Captures) -> Result<(Report, Result<()>)> {
        ensure!(!stopped(), "stopped before the end");
        self.view.now("waiting until all is drained, then counting the captures")?;
        self.wait_for_silence()?;
        let captured = captures.count(self.bench)?;
        let report = self.settled_report()?;
        self.view.summary(&report)?;

        let (table, equal) = compare::table(&captured, &compare::reported(&report)?);
        self.view.line(&table)?;
        let mut complaints = compare::complaints(&report);
        if !equal {
            complaints.insert(0, "the sensor and the captures differ".to_owned());
        }
        if !complaints.is_empty() {
            return Ok((report, Err(anyhow!("the run failed: {}", complaints.join("; ")))));
        }
        self.view.line(
            "Equal, packet for packet and byte for byte; books closed; alerts as expected.",
        )?;
        Ok((report, Ok(())))
    }

    fn wait_for_silence(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut last = self.interface_counters()?;
        let mut since = Instant::now();
        while since.elapsed() < SILENCE {
            ensure!(Instant::now() < deadline, "the bench does not become silent");
            if self.tick()? {
                bail!("stopped before the end");
            }
            let counters = self.interface_counters()?;
            if counters != last {
                (last, since) = (counters, Instant::now());
            }
        }
        Ok(())
    }

    /// The kernel's counters of the gateway's LAN interfaces and of the devices' ends, as text.
    fn interface_counters(&self) -> Result<String> {
        let devices = self.bench.devices().iter().map(|device| &device.namespace);
        let mut text = String::new();
        for namespace in devices.chain([self.bench.gateway()]) {
            let counters = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
            let counters = counters.context("cannot read the interface counters")?;
            // The daemon is asked over the loopback interface.
            text.extend(counters.lines().filter(|line| !line.trim_start().starts_with("lo:")));
        }
        Ok(text)
    }

    /// A report that is the same as the one of an epoch before, its time apart.
    fn settled_report(&mut self) -> Result<Report> {
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut last = self.sensor.report(true)?;
        loop {
            thread::sleep(REFRESH + REFRESH / 10);
            let report = self.sensor.report(true)?;
            if report.books == last.books && report.time != last.time {
                return Ok(report);
            }
            ensure!(Instant::now() < deadline, "the sensor's report does not settle");
            last = report;
        }
    }
}

fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Ctrl-C and its like end the demo in order, not at once.
fn stop_on_signals() -> Result<()> {
    extern "C" fn stop(_signal: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.context("cannot handle signals")?;
    }
    Ok(())
}
