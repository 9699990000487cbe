//! The daemon as a library: kernel, epoch, join, model, sinks.

// They panic where nobody reads to the end; `commands/terminal.rs` has what doesn't.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod adopted;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod epoch;
pub mod faults;
pub mod files;
pub mod host;
pub mod interfaces;
pub mod join;
pub mod kernel;
pub mod lock;
pub mod model;
pub mod pem;
pub mod reload;
pub mod replay;
pub mod resume;
pub mod service;
pub mod sinks;
pub mod state;
pub mod whereabouts;
