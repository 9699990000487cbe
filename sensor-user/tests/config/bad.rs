//! Bad configurations that people write: the whole message beside each, and that nothing starts.
//!
//! `bad/NAME.yaml` is the file, `bad/NAME.txt` what is said of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad")
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(directory()).expect("the directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn each_is_refused_in_full_by_check_and_by_run() {
    let names = names();
    assert!(names.len() >= 30, "{}", names.len());
    let mut wrong = Vec::new();
    for name in &names {
        let expected = fs::read_to_string(directory().join(name).with_extension("txt"));
        let expected = expected.unwrap_or_default();
        for command in ["check", "run"] {
            let output = Command::new(env!("CARGO_BIN_EXE_labgate"))
                .args([command, "--config", name])
                .current_dir(directory())
                .output()
                .expect("labgate runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} of {name}: {said}");
            assert_eq!(output.stdout, b"", "{command} of {name}");
            if said != format!("labgate: {expected}") {
                wrong.push(format!("--- {command} of {name} ---\n{said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A place, and what to write: a message without them mends nothing.
#[test]
fn each_message_has_a_place_and_advice() {
    for name in names() {
        let text = fs::read_to_string(directory().join(&name).with_extension("txt"));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        let places = text.lines().filter(|line| line.trim_start().starts_with("--> ")).count();
        assert_eq!(places, text.matches("error: ").count(), "{name}");
        let advised = |line: &str| {
            let after = line.trim_start_matches(|c: char| c != '^').trim_start_matches('^');
            after.len() > 3 || line.contains("= help: ")
        };
        let advice = text.lines().filter(|line| advised(line)).count();
        assert!(advice >= places, "{name}: {text}");
    }
}
