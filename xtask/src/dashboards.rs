//! `cargo xtask dashboards`: recording and alert rules, checked by Prometheus' own tools.

mod mutants;
mod rules;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build::workspace,
    setup::{self, Consent, Group},
};
use rules::{Rule, read_rules};

/// Where the runbooks can be read.
const RUNBOOKS: &str = "https://github.com/labgate/labgate/blob/main/docs/runbooks";

/// Arguments of `cargo xtask dashboards`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Checks everything under `dashboards`.
///
/// # Errors
/// With what is wrong first.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Test], Consent::new(args.yes))?;
    check()
}

/// As [`run`], with all programs there.
///
/// # Errors
/// With what is wrong first.
pub fn check() -> Result<()> {
    let prometheus = workspace().join("dashboards/prometheus");
    promtool(&prometheus, &["check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"])?;
    let files = files_named(&prometheus, ".rules.yml")?;
    for file in &files {
        promtool(&prometheus, &["check", "rules", "--lint=all", "--lint-fatal", &name(file)])?;
    }
    let tests = files_named(&prometheus.join("tests"), ".test.yml")?;
    for file in &tests {
        promtool(&prometheus.join("tests"), &["test", "rules", &name(file)])?;
    }

    let mut rules = Vec::new();
    for file in &files {
        rules.extend(read_rules(file)?);
    }
    conventions(&rules)?;
    runbooks(&rules)?;
    let mutants = mutants::all(&files)?;
    let survivors = mutants::survivors(&files, &tests, &mutants)?;
    ensure!(
        survivors.is_empty(),
        "the tests of the rules pass although a rule was changed: describe there what tells the two \
         apart\n{}",
        survivors.join("\n")
    );
    println!(
        "rules: {} checked, {} files of tests pass, {} of {} changed rules break one",
        rules.len(),
        tests.len(),
        mutants.len(),
        mutants.len()
    );
    Ok(())
}

/// The conventions of Prometheus' mixins.
fn conventions(rules: &[Rule]) -> Result<()> {
    for rule in rules {
        let Some(alert) = &rule.alert else { continue };
        let words = alert.strip_prefix("LabGate").unwrap_or_default();
        ensure!(
            words.starts_with(char::is_uppercase) && words.chars().all(char::is_alphanumeric),
            "alert {alert}: its name is not `LabGate` and words in CamelCase"
        );
        let severity = rule.labels.get("severity").map_or("", String::as_str);
        ensure!(
            ["critical", "warning", "info"].contains(&severity),
            "alert {alert}: its severity is {severity:?}, not critical, warning or info"
        );
        let annotation = |name: &str| {
            let text = rule.annotations.get(name).map(String::as_str);
            text.filter(|text| !text.is_empty())
                .with_context(|| format!("alert {alert} has no annotation {name}"))
        };
        ensure!(!annotation("summary")?.contains("{{"), "alert {alert}: its summary is not static");
        ensure!(
            annotation("description")?.contains("{{"),
            "alert {alert}: its description names no value"
        );
        let url = format!("{RUNBOOKS}/{alert}.md");
        ensure!(annotation("runbook_url")? == url, "alert {alert}: its runbook_url is not {url}");
    }
    Ok(())
}

/// A page for each alert, and an alert for each page.
fn runbooks(rules: &[Rule]) -> Result<()> {
    let alerts: BTreeSet<_> = rules.iter().filter_map(|rule| rule.alert.clone()).collect();
    let directory = workspace().join("docs/runbooks");
    let mut pages = BTreeSet::new();
    for path in files_named(&directory, ".md")? {
        let text = read(&path)?;
        let page = name(&path).trim_end_matches(".md").to_owned();
        for heading in
            [&format!("# {page}"), "## What it means", "## What to look at", "## What to do"]
        {
            ensure!(
                text.lines().any(|line| line == heading),
                "{}: the heading {heading:?} is missing",
                path.display()
            );
        }
        pages.insert(page);
    }
    let lonely: Vec<_> = alerts.symmetric_difference(&pages).cloned().collect();
    ensure!(
        lonely.is_empty(),
        "an alert without a page, or the reverse, in {}: {}",
        directory.display(),
        lonely.join(", ")
    );
    Ok(())
}

/// Runs `promtool`; what it says goes into the error.
fn promtool(directory: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .output()
        .context("promtool can't be run; `cargo xtask setup` installs it")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("promtool {}:\n{}", arguments.join(" "), String::from_utf8_lossy(&said).trim_end());
    }
    Ok(())
}

/// The files of a directory whose names end so, sorted.
fn files_named(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry.with_context(|| directory.display().to_string())?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| name(path).ends_with(ending));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
