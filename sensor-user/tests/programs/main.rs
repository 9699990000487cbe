//! The shipped programs under BPF_PROG_TEST_RUN: what they count, and what they return.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

#[path = "../../../sensor-common/tests/frames/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod frames;

mod bed;
mod counting;
mod levels;
mod parity;
mod super_packets;
