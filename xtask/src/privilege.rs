//! Tests that need root, on machines where there is none.

use std::env;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};

/// The variable that names the file where skipped tests are listed, one name a line.
pub const SKIPPED_VARIABLE: &str = "LABGATE_SKIPPED";

/// Says whether the caller may load eBPF programs and make network namespaces.
///
/// A test that may not returns at once, and the skipping is loud: it is printed even where the
/// output of passing tests is hidden, and `cargo xtask test` counts it.
///
/// ```no_run
/// if !xtask::require_root("counts_both_directions") {
///     return;
/// }
/// ```
///
/// # Panics
/// When the file named by [`SKIPPED_VARIABLE`] can't be written, because the test would count as
/// passed.
#[must_use]
pub fn require_root(test: &str) -> bool {
    if is_root() {
        return true;
    }
    skip(test, "needs root");
    false
}

/// Reports that a test can't run here, which must not look like a pass.
///
/// # Panics
/// As [`require_root`].
pub fn skip(test: &str, why: &str) {
    // Not `eprintln!`: the test harness hides what a passing test prints that way.
    let shown = writeln!(io::stderr(), "SKIPPED {test}: {why}");
    let list = env::var_os(SKIPPED_VARIABLE);
    let recorded = list.map_or(Ok(()), |list| record(test, &list));
    if let Err(error) = shown.and(recorded) {
        panic!("{test} was skipped, but that can't be recorded: {error}");
    }
}

/// Says whether this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn record(test: &str, list: &OsStr) -> io::Result<()> {
    let line = format!("{test}\n");
    OpenOptions::new().create(true).append(true).open(list)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("skipped");
        record("first", list.as_os_str()).unwrap();
        record("second", list.as_os_str()).unwrap();
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "first\nsecond\n");
    }

    #[test]
    fn a_list_that_cannot_be_written_is_an_error() {
        assert!(record("test", OsStr::new("/nonexistent/list")).is_err());
    }
}
