//! `cargo xtask dashboards`: dashboards and rules, checked by Prometheus' own tools
//! and against a Prometheus that scraped the demo.

mod frames;
mod grafana;
mod live;
mod metrics;
mod mutants;
mod pictures;
mod rules;
mod schema;
mod variables;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build::{self, Profile, workspace},
    demo,
    privilege::is_root,
    setup::{self, Consent, Group},
};
use grafana::Dashboard;
use live::Live;
use rules::{Rule, read_rules};

/// Where the runbooks can be read.
const RUNBOOKS: &str = "https://github.com/labgate/labgate/blob/main/docs/runbooks";

/// Arguments of `cargo xtask dashboards`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only draw the dashboards from minutes of the demo, into this directory; needs root
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// How often the sensor is scraped for the check of the queries.
const SCRAPES: Duration = Duration::from_secs(1);
/// How often the demo's scenario is played for it.
const ROUNDS: u32 = 2;
/// The same for the pictures, which want some minutes.
const SCRAPES_OF_PICTURES: Duration = Duration::from_secs(5);
const ROUNDS_OF_PICTURES: u32 = 20;
/// Cells of a panel that shows some.
const PICTURED_POINTS: u32 = 80;

/// Checks everything under `dashboards`; the queries only as root.
///
/// # Errors
/// With what is wrong first.
pub fn run(args: &Args) -> Result<()> {
    let mut needed = vec![Group::Test];
    if is_root() {
        needed.extend([Group::Build, Group::Bench]);
    }
    setup::ensure(&needed, Consent::new(args.yes))?;
    if let Some(directory) = &args.pictures {
        return draw(directory);
    }
    check()?;
    if !is_root() {
        println!("queries: not run, for the demo needs root");
        return Ok(());
    }
    check_queries()
}

/// Runs every query against a Prometheus that scraped the demo. Needs root.
///
/// # Errors
/// With what is wrong first.
pub fn check_queries() -> Result<()> {
    let (dashboards, rules) = (Dashboard::all()?, all_rules()?);
    // What takes minutes the first time is no part of the time range.
    build::daemon(Profile::Dev)?;
    let began = Instant::now();
    demo::scraped(SCRAPES, ROUNDS, |stack, report| {
        let live = Live::new(stack, began.elapsed(), SCRAPES)?;
        live.check(&dashboards, &rules)?;
        live.amounts(report)
    })?;
    let panels: usize = dashboards.iter().map(|dashboard| dashboard.panels.len()).sum();
    println!("queries: {panels} panels show something, amounts are the sensor's to the byte");
    Ok(())
}

/// Draws the dashboards, the last of the devices in the one of a device.
fn draw(directory: &Path) -> Result<()> {
    ensure!(is_root(), "the demo, from which the pictures are drawn, needs root");
    let dashboards = Dashboard::all()?;
    build::daemon(Profile::Dev)?;
    let began = Instant::now();
    let pictures = demo::scraped(SCRAPES_OF_PICTURES, ROUNDS_OF_PICTURES, |stack, _| {
        let live = Live::new(stack, began.elapsed(), SCRAPES_OF_PICTURES)?;
        let draw = |dashboard: &Dashboard| -> Result<(String, String)> {
            let mut choices = live.choices(dashboard)?;
            let mut values = choices.pop().context("nothing to choose")?;
            let panels = live.show(dashboard, values.clone())?;
            values.times(live.range, PICTURED_POINTS, SCRAPES_OF_PICTURES);
            let picture = pictures::draw(dashboard, &values, &panels, live.times())?;
            Ok((dashboard.file.replace(".json", ".svg"), picture))
        };
        dashboards.iter().map(draw).collect::<Result<Vec<_>>>()
    })?;
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (file, picture) in pictures {
        let path = directory.join(file);
        fs::write(&path, picture).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Checks what needs no traffic: syntax, lints, names, links, tests of the rules, runbooks.
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

    let rules = all_rules()?;
    let dashboards = Dashboard::all()?;
    let grafana = schema::check(&dashboards)?;
    grafana::conventions(&dashboards)?;
    metrics::check(&dashboards, &rules)?;
    conventions(&rules)?;
    runbooks(&rules)?;
    println!("dashboards: {} as Grafana {} takes them", dashboards.len(), grafana.join(" and "));
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

/// The rules of all files.
fn all_rules() -> Result<Vec<Rule>> {
    let files = files_named(&workspace().join("dashboards/prometheus"), ".rules.yml")?;
    let rules: Result<Vec<_>> = files.iter().map(|file| read_rules(file)).collect();
    Ok(rules?.into_iter().flatten().collect())
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
