//! One target for some time.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{Built, CRATE, corpus, temporary};
use crate::build::workspace;

/// A finding that is longer is not printed as a line of the corpus.
const LONGEST_LINE: usize = 2048;

/// What became of a target.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    pub(super) target: String,
    /// How long it ran.
    seconds: f64,
    /// Inputs that it was given.
    executions: u64,
    /// Edges of the control flow that were taken.
    edges: u64,
    /// Inputs that take edges, or take them more often, than others do.
    corpus: u64,
    /// Largest resident set, in MB.
    memory: u64,
    pub(super) findings: Vec<Finding>,
}

/// An input that breaks a target.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    file: PathBuf,
    /// What the target said.
    said: String,
    /// The input as a line of the corpus; empty if it is long.
    line: String,
}

/// Fuzzes a target, beginning with its corpus in the repository and what was found before.
pub(super) fn run(built: &Built, name: &str, time: Duration) -> Result<Outcome> {
    let inputs = unpack(built, name)?;
    let findings = built.work.join("findings").join(name);
    fs::create_dir_all(&findings).with_context(|| findings.display().to_string())?;
    let before = files(&findings)?;
    let log = built.work.join(format!("{name}.log"));
    let temporary = temporary()?;
    let mut command = built.command(name, temporary.path());
    command.arg(format!("-max_total_time={}", time.as_secs().max(1)));
    command.args(["-print_final_stats=1", "-report_slow_units=60"]);
    command.arg(format!("-artifact_prefix={}/", findings.display())).arg(&inputs);
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    eprintln!("fuzzing {name}; its log is {}", log.display());
    let began = Instant::now();
    let status = command.stdout(file.try_clone()?).stderr(file).status();
    let status = status.with_context(|| format!("{name} didn't start"))?;
    let said = fs::read(&log).with_context(|| log.display().to_string())?;
    let said = String::from_utf8_lossy(&said);
    let mut outcome = Outcome { seconds: began.elapsed().as_secs_f64(), ..read(name, &said) };
    for file in files(&findings)?.into_iter().filter(|file| !before.contains(file)) {
        let input = fs::read(&file).with_context(|| file.display().to_string())?;
        let line = Some(corpus::encode(&input)).filter(|line| line.len() <= LONGEST_LINE);
        outcome.findings.push(Finding {
            file,
            said: complaint(&said),
            line: line.unwrap_or_default(),
        });
    }
    ensure!(
        status.success() || !outcome.findings.is_empty(),
        "{name} ended with {status} and no finding: see {}",
        log.display()
    );
    Ok(outcome)
}

/// Where the corpus of a target is in the repository.
pub(super) fn text(name: &str) -> PathBuf {
    workspace().join(CRATE).join("corpus").join(format!("{name}.txt"))
}

/// Puts the corpus of the repository beside what was found before, one file for each input.
pub(super) fn unpack(built: &Built, name: &str) -> Result<PathBuf> {
    let path = text(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let groups = corpus::read(&text).with_context(|| path.display().to_string())?;
    let directory = built.work.join("corpus").join(name);
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    for (number, input) in groups.iter().flat_map(|group| &group.inputs).enumerate() {
        let path = directory.join(format!("repository-{number}"));
        fs::write(&path, input).with_context(|| path.display().to_string())?;
    }
    Ok(directory)
}

/// The files in a directory.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Takes figures from what libFuzzer prints: `#4711 NEW cov: 812 ft: 1703 corp: 98/3kb ...`, and in the end
/// `stat::number_of_executed_units: 4711`.
fn read(name: &str, said: &str) -> Outcome {
    let figure = |line: &str, what: &str| -> Option<u64> {
        let (_, rest) = line.split_once(what)?;
        let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let last = |what: &str| said.lines().rev().find_map(|line| figure(line, what)).unwrap_or(0);
    Outcome {
        target: name.to_owned(),
        executions: last("stat::number_of_executed_units:"),
        edges: last(" cov: "),
        corpus: last(" corp: "),
        memory: last("stat::peak_rss_mb:"),
        ..Outcome::default()
    }
}

/// What a target said when it broke: a panic's place and words, or the sanitizer's summary.
fn complaint(said: &str) -> String {
    let panic = said.lines().skip_while(|line| !line.contains("panicked at")).take(2);
    let panic: Vec<_> = panic.map(str::trim).collect();
    let summary = said.lines().find(|line| line.starts_with("SUMMARY: "));
    let text = if panic.is_empty() { summary.unwrap_or_default() } else { &panic.join(" ") };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl Outcome {
    /// The figures in one line.
    pub(super) fn line(&self) -> String {
        let Self { target, seconds, executions, edges, corpus, memory, findings } = self;
        format!(
            "{target:<8}{seconds:>8.0} s{executions:>12}{edges:>9}{corpus:>9}{memory:>7} MB{:>10}",
            findings.len()
        )
    }
}

/// All of them, and what to do about findings.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "\n{:<8}{:>10}{:>12}{:>9}{:>9}{:>10}{:>10}\n",
        "target", "time", "executions", "edges", "corpus", "memory", "findings"
    );
    for outcome in outcomes {
        text += &format!("{}\n", outcome.line());
    }
    for (target, finding) in
        outcomes.iter().flat_map(|outcome| outcome.findings.iter().map(|f| (&outcome.target, f)))
    {
        let Finding { file, said, line } = finding;
        let file = file.display();
        text +=
            &format!("\n{target}: {said}\n  cargo xtask fuzz --target {target} --input {file}\n");
        if !line.is_empty() {
            let corpus = text_of(target);
            text +=
                &format!("  once it is mended, with a sentence above it in {corpus}:\n{line}\n");
        }
    }
    text
}

fn text_of(target: &str) -> String {
    format!("{CRATE}/corpus/{target}.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
#2\tINITED cov: 510 ft: 511 corp: 1/1b exec/s: 0 rss: 51Mb
#4711\tNEW    cov: 812 ft: 1703 corp: 98/3021b lim: 43 exec/s: 2355 rss: 61Mb L: 40/43 MS: 1
thread '<unnamed>' (7) panicked at sensor-user/fuzz/src/frame.rs:70:5:
the port is none of the frame's
stat::number_of_executed_units: 4712
stat::peak_rss_mb:              61
";

    #[test]
    fn takes_the_last_figures() {
        let outcome = read("frame", SAID);
        let Outcome { executions, edges, corpus, memory, .. } = outcome;
        assert_eq!((executions, edges, corpus, memory), (4712, 812, 98, 61));
    }

    #[test]
    fn a_finding_comes_with_what_was_said_and_how_to_see_it_again() {
        let said = complaint(SAID);
        assert!(said.ends_with("frame.rs:70:5: the port is none of the frame's"), "{said}");
        assert_eq!(complaint("SUMMARY: libFuzzer: timeout\n"), "SUMMARY: libFuzzer: timeout");
        let finding = Finding { file: "/f/crash-1".into(), said, line: "00ff".to_owned() };
        let outcome = Outcome { findings: vec![finding], ..read("frame", SAID) };
        let text = table(&[outcome]);
        assert!(text.contains("--target frame --input /f/crash-1\n"), "{text}");
        assert!(text.contains("corpus/frame.txt:\n00ff\n"), "{text}");
    }
}
