//! The daemon on the test bench: real links, real traffic, the real binary.
//!
//! Every test owns its bench. What the sensor says is compared with what it did not count itself:
//! the interfaces' counters, a device's own end of the link, TCP's segment counters, iperf3.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

#[path = "../captures/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod captures;
#[path = "../../../sensor-common/tests/frames/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod frames;
#[path = "../samples/mod.rs"]
mod samples;

use std::sync::Mutex;

mod alerts;
mod command_line;
mod devices;
mod encapsulations;
mod fallbacks;
mod footprint;
mod hooks;
mod host;
mod ledger;
mod lifecycle;
mod link_events;
mod links;
mod overload;
mod query;
mod reload;
mod replayed;
mod sensor;
mod service;
mod stack;
mod start_errors;
mod tcp;
mod unprivileged;
mod verdicts;
mod web;

/// Runs at full speed, and one with a deadline, don't share the machine with one another.
static SERIALLY: Mutex<()> = Mutex::new(());
