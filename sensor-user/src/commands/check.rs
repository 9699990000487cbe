//! `labgate check`: everything that `run` would need, without attaching.

use std::path::Path;

use anyhow::{Result, bail};

use super::run::sizes;
use crate::{
    config,
    kernel::{GracePeriod, check_kernel, check_privileges, ethernet_link, possible_cpus},
    reload::open_geo,
};

/// Checks configuration, databases, interfaces and this machine, and prints what it found.
///
/// # Errors
///
/// When `run` would fail; each reason is printed before.
pub fn check(path: &Path) -> Result<()> {
    let config = config::load(path)?;
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    let mut problems = 0;
    let mut problem = |error: &dyn std::fmt::Display| {
        println!("problem: {error}");
        problems += 1;
    };

    for interface in &config.interfaces {
        if let Err(error) = ethernet_link(&interface.name) {
            problem(&error);
        }
    }
    match open_geo(&config) {
        Ok(geo) => {
            for database in geo.databases() {
                println!("database: {} ({}), {}", database.role, database.kind, database.source);
            }
        }
        Err(error) => problem(&error),
    }
    if let Err(error) = check_privileges() {
        problem(&error);
    }
    if let Err(error) = check_kernel() {
        problem(&error);
    }
    if let Err(error) = GracePeriod::new() {
        problem(&error);
    }
    let (cpus, sizes) = (possible_cpus(), sizes(&config));
    if let Err(error) = sizes.check(cpus) {
        problem(&error);
    }
    let mebibytes = sizes.memory(cpus).div_ceil(1 << 20);
    println!(
        "memory: {mebibytes} MiB of kernel memory for the tables of {cpus} CPUs, {} flow slots each",
        sizes.flow_slots_per_cpu
    );

    if problems > 0 {
        bail!("{} can't be run here: {problems} problem(s), listed above", path.display());
    }
    println!("{}: ok", path.display());
    Ok(())
}
