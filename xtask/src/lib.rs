//! What the repository's own commands are made of: `cargo xtask setup`, `build`, `package`, `demo`,
//! `test`, `verify`, `fuzz` and `geodata`. The daemon's tests use the test bench and [`require_root`]; nothing here depends
//! on the daemon.

pub mod bench;
pub mod benchmark;
pub mod build;
pub mod captures;
pub mod chaos;
pub mod dashboards;
pub mod demo;
pub mod fuzz;
pub mod package;
pub mod privilege;
pub mod setup;
pub mod stack;
pub mod test;
mod tool;
pub mod toolchain;
pub mod verify;

pub use privilege::{require_root, skip};
