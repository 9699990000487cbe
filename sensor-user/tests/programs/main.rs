//! The shipped programs under BPF_PROG_TEST_RUN: what they count, what they return, and whether it is
//! what the same parser makes of it in user space.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

#[path = "../../../sensor-common/tests/frames/mod.rs"]
mod frames;

#[path = "../captures/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
mod captures;

#[path = "../samples/mod.rs"]
mod samples;

mod bed;
mod counting;
mod generated;
mod levels;
mod parity;
mod replay;
mod super_packets;
mod tshark;
