//! Which integration tests there are, and which tier each belongs to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Tier;
use crate::build::cargo;

/// One integration test program.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) package: String,
    pub(super) name: String,
    pub(super) tier: Tier,
}

/// What `cargo metadata` says, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<PackageTarget>,
}

#[derive(Deserialize)]
struct PackageTarget {
    kind: Vec<String>,
    name: String,
    src_path: PathBuf,
}

/// Finds the workspace's integration tests.
pub(super) fn integration_tests() -> Result<Vec<Target>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo didn't start")?;
    ensure!(output.status.success(), "cargo can't read the workspace: see its messages above");
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo's metadata can't be read")?;
    let mut targets = Vec::new();
    for package in metadata.packages {
        for target in package.targets.iter().filter(|target| target.kind == ["test"]) {
            let tier = tier_of(&source(&target.src_path)?);
            targets.push(Target { package: package.name.clone(), name: target.name.clone(), tier });
        }
    }
    Ok(targets)
}

/// A test that needs root says so by `require_root`; one with a bench or with other kernels says so by
/// using them. So no list has to be kept, and no test can be forgotten.
fn tier_of(source: &str) -> Tier {
    if source.contains("verify::") {
        return Tier::Qemu;
    }
    match (source.contains("require_root"), source.contains("bench::")) {
        (false, _) => Tier::Pure,
        (true, false) => Tier::Kernel,
        (true, true) => Tier::Netns,
    }
}

/// The source of a test program: its file, or for `tests/name/main.rs` all files beside it.
fn source(main: &Path) -> Result<String> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let directory = main.parent().filter(|_| main.ends_with("main.rs"));
    let Some(directory) = directory else {
        return read(main);
    };
    let mut all = String::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&read(&path)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_find_their_tier_by_what_they_use() {
        assert_eq!(tier_of("#[test] fn a() {}"), Tier::Pure);
        assert_eq!(tier_of("if !xtask::require_root(\"a\") { return; }"), Tier::Kernel);
        assert_eq!(tier_of("use xtask::{bench::Bench, require_root};"), Tier::Netns);
        assert_eq!(tier_of("use xtask::verify::Verifier;"), Tier::Qemu);
    }

    #[test]
    fn a_test_in_a_directory_is_all_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("main.rs"), "mod other;").unwrap();
        fs::write(dir.path().join("other.rs"), "require_root").unwrap();
        assert_eq!(tier_of(&source(&dir.path().join("main.rs")).unwrap()), Tier::Kernel);
        assert_eq!(tier_of(&source(&dir.path().join("other.rs")).unwrap()), Tier::Kernel);
        fs::remove_file(dir.path().join("other.rs")).unwrap();
        assert_eq!(tier_of(&source(&dir.path().join("main.rs")).unwrap()), Tier::Pure);
    }
}
