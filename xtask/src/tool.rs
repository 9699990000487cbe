//! Programs of other projects that cargo builds.

use std::{path::PathBuf, process::Command, process::Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::{cargo, target_dir},
    toolchain::output,
};

/// The program of a crate, installed below the target directory when it isn't there; `arguments` are more of
/// `cargo install`.
///
/// # Errors
/// When it can't be had.
pub(crate) fn tool(name: &str, version: &str, arguments: &[&str]) -> Result<PathBuf> {
    let root = target_dir().join("tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if output(Command::new(&program).arg("--version")).is_none() {
        eprintln!("installing {name} {version} to {}", root.display());
        let mut command = cargo();
        // Optimized it would take minutes to build.
        command.args(["install", name, "--locked", "--debug", "--force", "--version", version]);
        command.args(arguments).arg("--root").arg(&root);
        // Quiet: what it prints on stdout is not our answer.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        ensure!(status.context("cargo didn't start")?.success(), "{name} can't be installed");
    }
    Ok(program)
}
