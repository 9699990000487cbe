//! iperf3 between two of the bench's namespaces.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{namespace::Namespace, process::Process};

const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a server on all addresses of a namespace, and waits until it listens.
///
/// # Errors
///
/// When it can't be started.
pub fn serve(namespace: &Namespace) -> Result<Process> {
    let mut server = namespace.spawn(&["iperf3", "--server", "--forceflush"])?;
    server.wait_for_output("listening", PATIENCE)?;
    Ok(server)
}

/// Runs a client against the server on `host` and returns the `end` of its result. A server takes
/// one client at a time and needs a moment to be rid of the last one: a busy one is asked again.
///
/// # Errors
///
/// When nothing arrived.
pub fn run(client: &Namespace, host: &str, options: &[&str]) -> Result<Value> {
    let command = [&["iperf3", "-J", "-c", host], options].concat();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = client.run(&command)?;
        let mut result: Value = serde_json::from_str(&text).context("iperf3 prints no JSON")?;
        match result["error"].as_str() {
            None if result["end"]["sum_received"]["bytes"].as_u64() > Some(0) => {
                return Ok(result["end"].take());
            }
            Some(error) if error.contains("server is busy") && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100));
            }
            _ => bail!("iperf3 measured nothing: {text}"),
        }
    }
}
