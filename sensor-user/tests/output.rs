//! What becomes of output that nobody reads: `labgate check | head -1`, `labgate init 2>&1 | grep -q x`.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

use std::{io, path::Path, process::Command};

/// Runs a command whose standard output and error are pipes that nobody reads; returns the exit status.
fn unread(directory: &Path, arguments: &str) -> Option<i32> {
    let (reader, out) = io::pipe().unwrap();
    let (error_reader, error) = io::pipe().unwrap();
    drop((reader, error_reader));
    let mut command = Command::new(env!("CARGO_BIN_EXE_labgate"));
    command.args(arguments.split(' ')).current_dir(directory).stdout(out).stderr(error);
    command.status().unwrap().code()
}

#[test]
fn a_closed_pipe_ends_no_command_with_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    // The listen address can't be had, so what `check` has to say is the same everywhere: no.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config =
        format!("interfaces: [lo]\nledger: off\nlisten: {}\n", taken.local_addr().unwrap());
    std::fs::write(dir.path().join("c.yaml"), config).unwrap();
    for (arguments, expected) in [
        ("completions bash", 0),
        ("--help", 0),
        ("check --config c.yaml", 1),
        ("query --config c.yaml --ledger none.db", 1),
        ("replay --no-config none.pcap", 1),
    ] {
        assert_eq!(unread(dir.path(), arguments), Some(expected), "labgate {arguments}");
    }
    // It succeeds or not by what this machine is.
    let code = unread(dir.path(), "init --force --output o.yaml");
    assert!(matches!(code, Some(0 | 1)), "labgate init: {code:?}");
}
