//! Prometheus and Alertmanager with LabGate's own configuration, and a receiver that shows what they
//! send. The files under `dashboards` are used as they are, but for addresses and intervals.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::{
    bench::{Namespace, Process},
    build::workspace,
};

/// Where Prometheus listens.
pub const PROMETHEUS: &str = "127.0.0.1:9090";
/// Where Alertmanager listens.
pub const ALERTMANAGER: &str = "127.0.0.1:9093";
/// Where Alertmanager sends its notifications, by its configuration.
const RECEIVER: &str = "127.0.0.1:9094";

const PATIENCE: Duration = Duration::from_secs(20);
/// Longest notification, in bytes.
const MAX_BODY: u64 = 1 << 20;

/// One alert of a notification (Alertmanager, docs/configuration.md, `webhook_config`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notified {
    /// `firing` or `resolved`.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// When the episode began, RFC 3339.
    pub starts_at: String,
    /// Tells alerts of other labels apart.
    pub fingerprint: String,
}

impl Notified {
    /// A label, empty where there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

#[derive(Deserialize)]
struct Notification {
    alerts: Vec<Notified>,
}

/// The two, running in a namespace.
#[derive(Debug)]
pub struct Stack<'a> {
    namespace: &'a Namespace,
    dir: PathBuf,
    interval: Duration,
    prometheus: Option<Process>,
    alertmanager: Option<Process>,
    notifications: Receiver<Vec<Notified>>,
}

impl<'a> Stack<'a> {
    /// Starts both in `namespace`, with their data in `dir`. Prometheus looks at the sensor and at its rules
    /// once in `interval`; each pair of `changes` is replaced in the rules, to make an episode short.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub fn start(
        namespace: &'a Namespace,
        dir: &Path,
        interval: Duration,
        changes: &[(&str, &str)],
    ) -> Result<Self> {
        let from = workspace().join("dashboards");
        let dir = dir.join("stack");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let copy = |from: &Path, changes: &[(&str, &str)]| -> Result<()> {
            let mut text = fs::read_to_string(from).with_context(|| from.display().to_string())?;
            for (old, new) in changes {
                text = text.replace(old, new);
            }
            // Two scrapes, after which what is new was not there before.
            text = text.replace("offset 30s", &format!("offset {}ms", 2 * interval.as_millis()));
            let to = dir.join(from.file_name().context("no file")?);
            fs::write(&to, text).with_context(|| to.display().to_string())
        };
        let intervals = format!("_interval: {}ms", interval.as_millis());
        copy(&from.join("prometheus/prometheus.yml"), &[("_interval: 15s", &intervals)])?;
        copy(&from.join("prometheus/recording.rules.yml"), changes)?;
        copy(&from.join("prometheus/alerts.rules.yml"), changes)?;
        copy(&from.join("alertmanager/alertmanager.yml"), &[])?;

        let (sender, notifications) = channel();
        let listener = namespace
            .enter(|| TcpListener::bind(RECEIVER))?
            .with_context(|| format!("can't listen on {RECEIVER}"))?;
        thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(move || receive(&listener, &sender))?;
        let mut stack =
            Self { namespace, dir, interval, prometheus: None, alertmanager: None, notifications };
        stack.start_alertmanager()?;
        stack.start_prometheus()?;
        Ok(stack)
    }

    /// Starts Prometheus, on the data that it left.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_prometheus(&mut self) -> Result<()> {
        let process = self.spawn(&[
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            &format!("--web.listen-address={PROMETHEUS}"),
            // By default a minute, with intervals of 15 s.
            &format!("--rules.alert.resend-delay={}ms", 4 * self.interval.as_millis()),
        ])?;
        self.prometheus = Some(process);
        self.wait_until_ready(PROMETHEUS)
    }

    /// Starts Alertmanager, on the data that it left.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_alertmanager(&mut self) -> Result<()> {
        let process = self.spawn(&[
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            "--cluster.listen-address=",
            &format!("--web.listen-address={ALERTMANAGER}"),
        ])?;
        self.alertmanager = Some(process);
        self.wait_until_ready(ALERTMANAGER)
    }

    /// Stops Prometheus as an operator would.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop_prometheus(&mut self) -> Result<()> {
        stop(&mut self.prometheus)
    }

    /// Stops Alertmanager as an operator would.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop_alertmanager(&mut self) -> Result<()> {
        stop(&mut self.alertmanager)
    }

    /// The next notification, if one comes in time.
    pub fn notification(&self, patience: Duration) -> Option<Vec<Notified>> {
        self.notifications.recv_timeout(patience).ok()
    }

    /// Prometheus' answer to a query, as JSON.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn query(&self, query: &str) -> Result<String> {
        self.ask("query", &[("query", query)])
    }

    /// Prometheus' answer, whatever it is, by its HTTP API (docs/querying/api.md).
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let url = format!("http://{PROMETHEUS}/api/v1/{path}");
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let parameters = parameters.iter().flat_map(|text| ["--data-urlencode", text]);
        let curl = ["curl", "-qsS", "-m", "20", "-G", &url];
        self.namespace.run(&curl.into_iter().chain(parameters).collect::<Vec<_>>())
    }

    /// Waits until Prometheus has looked at the sensor for long enough to know what is new.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_until_known(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE + 3 * self.interval;
        let query = format!("up offset {}ms", 2 * self.interval.as_millis());
        while !self.query(&query)?.contains("\"1\"]") {
            ensure!(Instant::now() < deadline, "Prometheus sees no sensor: {}", self.output());
            thread::sleep(self.interval / 4);
        }
        Ok(())
    }

    /// What both have said.
    pub fn output(&self) -> String {
        let both = [&self.prometheus, &self.alertmanager];
        both.into_iter().flatten().map(Process::output).collect()
    }

    fn spawn(&self, argv: &[&str]) -> Result<Process> {
        let (program, arguments) = argv.split_first().context("no program")?;
        let mut command = self.namespace.command(program);
        command.args(arguments).current_dir(&self.dir);
        self.namespace.start(command)
    }

    fn wait_until_ready(&self, address: &str) -> Result<()> {
        let url = format!("http://{address}/-/ready");
        let retry = ["--retry-connrefused", "--retry", "100", "--retry-delay", "1"];
        let patience = PATIENCE.as_secs().to_string();
        let curl = ["curl", "-qsS", "--fail", "--retry-max-time", &patience, &url];
        let ready = self.namespace.run(&[&curl[..], &retry].concat());
        ready.map(drop).with_context(|| self.output())
    }
}

fn stop(process: &mut Option<Process>) -> Result<()> {
    let mut process = process.take().context("it does not run")?;
    let status = process.stop(Signal::SIGTERM, PATIENCE)?;
    ensure!(status.success(), "{} ended badly ({status}):\n{}", process.name(), process.output());
    Ok(())
}

/// Takes notifications until nobody wants them any more.
fn receive(listener: &TcpListener, notifications: &Sender<Vec<Notified>>) {
    for stream in listener.incoming() {
        // Alertmanager sends again what it has no good answer to.
        let Ok(notification) = stream.map_err(Into::into).and_then(read) else { continue };
        if notifications.send(notification.alerts).is_err() {
            return;
        }
    }
}

/// One request with a body, which is all that Alertmanager sends.
fn read(mut stream: TcpStream) -> Result<Notification> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_BODY));
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let notification = serde_json::from_slice(&body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(notification)
}
