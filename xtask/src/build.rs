//! `cargo xtask build`: the daemon with its eBPF programs inside.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Group};

/// Arguments of `cargo xtask build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compile for debugging: sooner built, slower to run
    #[arg(long)]
    debug: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Builds the daemon and says where it is.
///
/// # Errors
/// When something that is needed can't be installed, or the build fails.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build], setup::Consent::new(args.yes))?;
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    println!("{}", daemon(profile)?.display());
    Ok(())
}

/// How the daemon is compiled. The eBPF programs are always optimized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Cargo's profile `dev`, which the tests use.
    Dev,
    /// Cargo's profile `release`.
    Release,
}

/// Builds `labgate` and returns the path of the executable. The compiler's messages go to stderr.
///
/// # Errors
/// When the build fails.
pub fn daemon(profile: Profile) -> Result<PathBuf> {
    program("labgate", profile, &[])
}

/// Builds the program of a package, both of that name, with further arguments for cargo, and returns the
/// path of the executable. The compiler's messages go to stderr.
///
/// # Errors
/// When the build fails.
pub fn program(name: &str, profile: Profile, arguments: &[String]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--bin", name]).args(arguments);
    command.arg("--message-format=json-render-diagnostics");
    match profile {
        // Of the whole workspace, whose dependencies have the features that the tests' have: by
        // itself a package has fewer, and with them half of all dependencies would be built again.
        Profile::Dev => {}
        Profile::Release => {
            command.args(["--release", "--package", name]);
        }
    }
    let output = command.stderr(Stdio::inherit()).output().context("cargo didn't start")?;
    ensure!(output.status.success(), "{name} doesn't build: see the messages above");
    match executable(&output.stdout) {
        Some(path) => Ok(path),
        None => bail!("cargo didn't say where it put {name}"),
    }
}

/// The cargo that runs this command, started in the workspace.
pub fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(workspace());
    // What cargo tells a program that it runs. Some build scripts look at these, and would run each time
    // that another program asks for the build.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// The workspace's root directory.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target directory, as far as the environment tells.
pub fn target_dir() -> PathBuf {
    workspace().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
}

/// Takes the executable's path from cargo's messages, one JSON object a line.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_executable_among_the_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "not json\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/target/debug/labgate\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(executable(messages.as_bytes()), Some(PathBuf::from("/target/debug/labgate")));
        assert_eq!(executable(b"{\"reason\":\"build-finished\"}"), None);
    }

    #[test]
    fn the_workspace_has_the_lock_file() {
        assert!(workspace().join("Cargo.lock").is_file());
    }
}
