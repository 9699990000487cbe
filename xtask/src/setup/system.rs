//! What set-up needs of the system: apt, dpkg, and a terminal to ask on.

use std::io::{self, BufRead, Write};
use std::iter;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::toolchain::{find_program, output, parse_version};

/// Finds a program, also where only root has it in `PATH`.
pub(super) fn has_program(name: &str) -> bool {
    find_program(name, &["/usr/sbin", "/sbin"].map(PathBuf::from)).is_some()
}

/// Says whether packages are installed with apt here.
pub(super) fn has_apt() -> bool {
    has_program("apt-get")
}

/// Says whether a Debian package is installed.
pub(super) fn installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_some_and(|status| status == "installed")
}

/// Says whether apt offers the package of a Rust compiler in a version that the workspace accepts.
pub(super) fn offers_compiler(package: &str) -> bool {
    output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package]))
        .and_then(|policy| candidate(&policy))
        .is_some_and(|version| Some(version) >= parse_version(env!("CARGO_PKG_RUST_VERSION")))
}

/// Takes the version that would be installed from the answer of `apt-cache policy`.
fn candidate(policy: &str) -> Option<(u32, u32)> {
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?;
    // An epoch may stand before the version.
    let version = line.rsplit(':').next()?;
    parse_version(version.trim())
}

/// Runs apt-get without questions.
pub(super) fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command)
}

/// Shows a command and runs it; what it prints goes to stderr, so that stdout stays the caller's.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("`{shown}` didn't start"))?;
    ensure!(status.success(), "`{shown}` failed ({status}): see its messages above");
    Ok(())
}

/// A command as it would be typed, with the variables set for it.
pub(super) fn show(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
    });
    let words = iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// Asks on the terminal whether to go ahead.
pub(super) fn confirm() -> Result<bool> {
    eprint!("Install it now? [Y/n] ");
    io::stderr().flush().context("the question can't be shown")?;
    let mut answer = String::new();
    let length = io::stdin().lock().read_line(&mut answer).context("the answer can't be read")?;
    Ok(length > 0 && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_candidate_version() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n";
        assert_eq!(candidate(policy), Some((1, 96)));
        assert_eq!(candidate("rustc-web:\n  Candidate: 1:1.96.0-1\n"), Some((1, 96)));
        assert_eq!(candidate("rustc-web:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["install", "tool"]).env("LLVM", "22").env_remove("RUSTFLAGS");
        assert_eq!(show(&command), "LLVM=22 cargo install tool");
    }

    #[test]
    fn asks_for_a_clear_yes() {
        assert!(["", "\n", "y\n", "Yes\n"].into_iter().all(is_yes));
        assert!(!["n\n", "no\n", "what\n"].into_iter().any(is_yes));
    }

    #[test]
    fn a_package_that_nobody_has_is_not_installed() {
        assert!(!installed("labgate-no-such-package"));
    }
}
