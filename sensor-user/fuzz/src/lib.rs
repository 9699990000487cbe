//! What fuzzing checks: for each thing that LabGate reads from others a function that takes any octets and
//! panics where a promise does not hold.
//!
//! The fuzz targets call these functions, and so do plain tests, with every input of the corpora. Each
//! corpus is a text file in `corpus/`, whose form is described in `xtask/src/fuzz/corpus.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check panics; that is how a fuzzer learns of it"
)]

pub mod config;
pub mod frame;
pub mod ledger;
pub mod mmdb;
pub mod replay;
mod sample;
pub mod web;

/// A check: what it is called, as its fuzz target and its corpus are, and what it calls.
pub type Check = (&'static str, fn(&[u8]));

/// All of them.
pub const CHECKS: [Check; 6] = [
    ("config", config::check),
    ("frame", frame::check),
    ("ledger", ledger::check),
    ("mmdb", mmdb::check),
    ("replay", replay::check),
    ("web", web::check),
];
