//! Rules with one small change each. A test that no change breaks describes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    panic::resume_unwind,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{name, read};

/// A file of rules with one change.
#[derive(Debug)]
pub(super) struct Mutant {
    file: String,
    text: String,
    /// Alert or record that is changed.
    rule: String,
    /// Line, what was there, what is there now.
    what: String,
}

/// Every mutant of these files.
pub(super) fn all(files: &[PathBuf]) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for path in files {
        let text = read(path)?;
        for line in expressions(&text) {
            for (place, with) in changes(&text[line.clone()]) {
                let place = line.start + place.start..line.start + place.end;
                let before = &text[..place.start];
                let rule = before.lines().rev().find_map(rule_name).context("no rule")?.to_owned();
                let number = before.lines().count();
                let what =
                    format!("{}:{number}: `{}` as `{with}`", name(path), &text[place.clone()]);
                let mut changed = text.clone();
                changed.replace_range(place, &with);
                mutants.push(Mutant { file: name(path), text: changed, rule, what });
            }
        }
    }
    Ok(mutants)
}

fn rule_name(line: &str) -> Option<&str> {
    let line = line.trim_start().strip_prefix("- ")?;
    line.strip_prefix("alert: ").or(line.strip_prefix("record: "))
}

/// The mutants that no test notices.
pub(super) fn survivors(
    files: &[PathBuf],
    tests: &[PathBuf],
    mutants: &[Mutant],
) -> Result<Vec<String>> {
    let documents = |paths: &[PathBuf]| -> Result<Documents> {
        paths.iter().map(|path| Ok((name(path), document(&read(path)?)?))).collect()
    };
    let (files, tests) = (documents(files)?, documents(tests)?);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<String>> {
        let mut survivors = Vec::new();
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !is_noticed(mutant, &files, &tests).with_context(|| mutant.what.clone())? {
                survivors.push(mutant.what.clone());
            }
        }
        Ok(survivors)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let found = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|e| resume_unwind(e)))
            .collect()
    });
    let found: Result<Vec<_>> = found;
    Ok(found?.concat())
}

type Documents = BTreeMap<String, Value>;

fn document(text: &str) -> Result<Value> {
    serde_saphyr::from_str(text).context("no YAML")
}

/// Whether a test fails. Only what the changed rule can have an effect on is tested, or it would take
/// minutes.
fn is_noticed(mutant: &Mutant, files: &Documents, tests: &Documents) -> Result<bool> {
    let mut files = files.clone();
    files.insert(mutant.file.clone(), document(&mutant.text)?);
    let affected = affected(&files, &mutant.rule);
    let needed = needed(&files, &affected);
    let scratch = tempfile::tempdir().context("no temporary directory")?;
    let directory = scratch.path().join("tests");
    fs::create_dir(&directory).context("no temporary directory")?;
    for (file, mut rules) in files {
        for group in list(&mut rules["groups"]) {
            list(&mut group["rules"]).retain(|rule| needed.contains(called(rule)));
        }
        fs::write(scratch.path().join(file), rules.to_string()).context("can't write rules")?;
    }
    // One file after the other: most changes break the first.
    for (file, mut document) in tests.clone() {
        list(&mut document["tests"]).retain_mut(|test| {
            let cases = list(&mut test["alert_rule_test"]);
            cases.retain(|case| affected.contains(text(&case["alertname"])));
            let alerted = !cases.is_empty();
            let cases = list(&mut test["promql_expr_test"]);
            cases.retain(|case| affected.iter().any(|name| text(&case["expr"]).contains(name)));
            alerted || !cases.is_empty()
        });
        if list(&mut document["tests"]).is_empty() {
            continue;
        }
        fs::write(directory.join(&file), document.to_string()).context("can't write a test")?;
        let mut command = Command::new("promtool");
        command.args(["test", "rules", &file]).current_dir(&directory);
        if !command.output().context("promtool can't be run")?.status.success() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The alerts and records that a rule has an effect on.
fn affected(files: &Documents, changed: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::from([changed.to_owned()]);
    loop {
        let before = names.len();
        for rule in rules(files) {
            if names.iter().any(|name| text(&rule["expr"]).contains(name)) {
                names.insert(called(rule).to_owned());
            }
        }
        if names.len() == before {
            return names;
        }
    }
}

/// These rules and those that they read.
fn needed(files: &Documents, affected: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = affected.clone();
    loop {
        let before = names.len();
        for rule in rules(files).filter(|rule| names.contains(called(rule))).collect::<Vec<_>>() {
            let read = rules(files).map(called).filter(|name| text(&rule["expr"]).contains(name));
            names.extend(read.map(str::to_owned));
        }
        if names.len() == before {
            return names;
        }
    }
}

fn rules(files: &Documents) -> impl Iterator<Item = &Value> {
    fn list(value: &Value) -> &[Value] {
        value.as_array().map_or(&[], Vec::as_slice)
    }
    let groups = files.values().flat_map(|file| list(&file["groups"]));
    groups.flat_map(|group| list(&group["rules"]))
}

fn called(rule: &Value) -> &str {
    rule["alert"].as_str().unwrap_or_else(|| text(&rule["record"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list, made where there is none.
fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("an array since the line above"),
    }
}

/// The lines of `expr` and `for`.
fn expressions(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut inside = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let range = start..start + line.len();
        start = range.end;
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        if words.starts_with("expr:") || words.starts_with("for:") {
            inside = Some(indent);
            found.push(range);
        } else if inside.is_some_and(|key| indent > key) {
            found.push(range);
        } else {
            inside = None;
        }
    }
    found
}

/// What can be changed in a line: comparisons, thresholds, durations of `for`, and matchers of labels.
fn changes(line: &str) -> Vec<(Range<usize>, String)> {
    let mut changes = Vec::new();
    if let Some(duration) = line.trim_start().strip_prefix("for:").map(str::trim) {
        let place = line.find(duration).unwrap_or_default();
        changes.push((place..place + duration.len(), "0m".to_owned()));
        changes.push((place..place + duration.len(), format!("3{duration}")));
        return changes;
    }
    for (operator, others) in [
        (" == ", [" != ", " > "]),
        (" < ", [" > ", " == "]),
        (" > ", [" < ", " == "]),
        (" >= ", [" < ", " == "]),
    ] {
        for (place, _) in line.match_indices(operator) {
            let end = place + operator.len();
            changes.extend(others.map(|other| (place..end, other.to_owned())));
            let number = &line[end..];
            let length = number.find(|c: char| !matches!(c, '0'..='9' | '.' | 'e'));
            let number = &number[..length.unwrap_or(number.len())];
            let Ok(threshold) = number.parse::<f64>() else { continue };
            let others =
                if threshold == 0.0 { [2.0, -1.0] } else { [threshold * 1.1, threshold * 0.9] };
            let place = end..end + number.len();
            changes.extend(others.map(|other| (place.clone(), other.to_string())));
        }
    }
    for (open, _) in line.match_indices('{') {
        let end = closing(&line[open..]).map_or(open + 1, |length| open + length);
        changes.extend(matchers(line, open + 1..end));
    }
    changes
}

/// Where the matchers that begin a text end; a value may hold braces.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(place, c)| {
        quoted ^= c == '"';
        (c == '}' && !quoted).then_some(place)
    })
}

/// Each matcher left out, and with another value.
fn matchers(line: &str, inside: Range<usize>) -> Vec<(Range<usize>, String)> {
    let mut changes = Vec::new();
    let mut start = inside.start;
    for matcher in line[inside.clone()].split_inclusive(',') {
        let place = start..start + matcher.len();
        start = place.end;
        // `[A-Z]{2}` is no set of matchers.
        if !matcher.contains('=') {
            continue;
        }
        changes.push((place.clone(), String::new()));
        if let Some(quote) = matcher.rfind('"') {
            changes.push((place.start + quote..place.start + quote, "x".to_owned()));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(line: &str) -> Vec<String> {
        let apply = |(place, with): (Range<usize>, String)| {
            let mut line = line.to_owned();
            line.replace_range(place, &with);
            line
        };
        changes(line).into_iter().map(apply).collect()
    }

    #[test]
    fn comparisons_thresholds_and_labels_are_changed() {
        assert_eq!(
            changed(r#"a{b="c",d=~"e"} > 20"#),
            [
                r#"a{b="c",d=~"e"} < 20"#,
                r#"a{b="c",d=~"e"} == 20"#,
                r#"a{b="c",d=~"e"} > 22"#,
                r#"a{b="c",d=~"e"} > 18"#,
                r#"a{d=~"e"} > 20"#,
                r#"a{b="cx",d=~"e"} > 20"#,
                r#"a{b="c",} > 20"#,
                r#"a{b="c",d=~"ex"} > 20"#,
            ]
        );
        assert_eq!(changed("for: 5m"), ["for: 0m", "for: 35m"]);
        assert_eq!(changed("x >= 1"), ["x < 1", "x == 1", "x >= 1.1", "x >= 0.9"]);
    }

    #[test]
    fn only_expressions_are_changed() {
        let text = "rules:\n  - alert: A\n    expr: |\n      a\n      b\n    labels:\n      c: d\n    for: 1m\n";
        let lines: Vec<_> = expressions(text).into_iter().map(|line| text[line].trim()).collect();
        assert_eq!(lines, ["expr: |", "a", "b", "for: 1m"]);
    }
}
