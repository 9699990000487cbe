//! `labgate completions` and `labgate man`: made from the command line's definition.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::roff::{Roff, roman};

use super::terminal::print;
use crate::cli::{Cli, DEFAULT_CONFIG};

/// What an installed gateway starts with; each key has its comment there.
const CONFIG: &str = include_str!("../../../config.yaml");

/// Prints what teaches a shell our commands.
///
/// # Errors
///
/// When standard output can't be written.
pub fn completions(shell: Shell) -> Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // It takes a writer that never fails.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    print(|out| out.write_all(&text))
}

/// Writes the man pages into a directory: one for each command, and one for the configuration.
///
/// # Errors
///
/// When a file can't be written.
pub fn man(directory: &Path) -> Result<()> {
    let written = || {
        fs::create_dir_all(directory)?;
        clap_mangen::generate_to(Cli::command(), directory)?;
        fs::write(directory.join("labgate-config.5"), config_page())
    };
    written().with_context(|| format!("can't write man pages to {}", directory.display()))
}

/// The configuration's page is its file.
fn config_page() -> String {
    let source = concat!("labgate ", env!("CARGO_PKG_VERSION"));
    Roff::new()
        .control("TH", ["labgate-config", "5", "", source])
        .control("SH", ["NAME"])
        .text([roman(
            "labgate-config - what the traffic sensor labgate watches, allows and serves",
        )])
        .control("SH", ["SYNOPSIS"])
        .text([roman(DEFAULT_CONFIG)])
        .control("SH", ["DESCRIPTION"])
        .text([roman("A YAML file. This is it as installed, with every key and its default:")])
        .control("PP", [])
        .control("EX", [])
        .text([roman(CONFIG)])
        .control("EE", [])
        .control("SH", ["SEE ALSO"])
        .text([roman("labgate(1), labgate-check(1), labgate-run(1)")])
        .to_roff()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        let commands = Cli::command();
        for command in commands.get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = dir.path().join(format!("labgate-{}.1", command.get_name()));
            assert!(page.is_file(), "{}", page.display());
        }
        let overview = fs::read_to_string(dir.path().join("labgate.1")).unwrap();
        assert!(overview.contains("labgate\\-run(1)"), "{overview}");
        assert!(!dir.path().join("labgate-man.1").exists());
    }

    #[test]
    fn the_configuration_s_page_has_every_line() {
        let page = config_page();
        for line in CONFIG.lines().filter(|line| !line.is_empty()) {
            let line = line.replace('-', "\\-");
            assert!(page.lines().any(|found| found == line), "{line} is missing in:\n{page}");
        }
    }
}
