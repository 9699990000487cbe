//! Ledgers: any octets are such a file; most inputs are a sound one with some changes.

use std::{fs, path::Path, sync::LazyLock, time::Duration};

use labgate::{
    config::{Config, Retention},
    sinks::ledger::{self, Ledger, SavedClock, Snapshot},
    state::{Detail, Setup, State},
};
use rusqlite::{Connection, params, types::Value};
use serde::{Deserialize, Serialize};

use crate::sample;

/// Changes of one input.
const MAX_CHANGES: usize = 16;
/// The part of a file where SQLite itself notes that it was opened (its format, 1.3).
const HEADER: usize = 100;

/// One change of a ledger. An input is several in the form of postcard, up to the first octets that are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Another file instead.
    File(Vec<u8>),
    /// Other octets from a place on.
    Octets(u32, Vec<u8>),
    /// The end is missing.
    Cut(u32),
    /// A write-ahead log beside it.
    Log(Vec<u8>),
    /// One more epoch that was committed and not folded.
    Epoch(Vec<u8>),
    /// Other sums of the state.
    State(Vec<u8>),
    /// Other label sets of all devices.
    Metrics(Vec<u8>),
    /// Another value in a column of all its rows.
    Cell(u8, Cell),
}

/// A value in a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cell {
    /// NULL.
    Null,
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Octets.
    Blob(Vec<u8>),
}

/// A sound file, and the columns of all its tables.
struct Sound {
    config: Config,
    octets: Vec<u8>,
    columns: Vec<(String, String)>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let config = sample::config();
    sample::state(&config, &path);
    let connection = Connection::open(&path).unwrap();
    let mut query = connection
        .prepare(
            "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' ORDER BY 1, c.cid",
        )
        .unwrap();
    let columns = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let columns = columns.collect::<Result<_, _>>().unwrap();
    drop(query);
    drop(connection);
    Sound { config, octets: fs::read(&path).unwrap(), columns }
});

/// Makes the changes that octets describe, reads the ledger in every way there is, and has a sensor go on
/// with it.
pub fn check(octets: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    fs::write(&path, &SOUND.octets).unwrap();
    let has_log = change(octets, &path);
    let original = fs::read(&path).unwrap();
    read(&path);
    assert_eq!(fs::read(&path).unwrap(), original, "reading changes nothing");
    go_on(&path, &original, has_log);
}

/// Whether there is a write-ahead log in the end.
fn change(mut octets: &[u8], path: &Path) -> bool {
    let mut has_log = false;
    for _ in 0..MAX_CHANGES {
        let Ok((change, rest)) = postcard::take_from_bytes::<Change>(octets) else { break };
        octets = rest;
        match change {
            Change::File(file) => fs::write(path, file).unwrap(),
            Change::Octets(at, octets) => {
                let mut file = fs::read(path).unwrap();
                let at = at as usize % file.len().max(1);
                for (there, octet) in file[at..].iter_mut().zip(octets) {
                    *there = octet;
                }
                fs::write(path, file).unwrap();
            }
            Change::Cut(len) => {
                let mut file = fs::read(path).unwrap();
                file.truncate(len as usize % file.len().max(1));
                fs::write(path, file).unwrap();
            }
            Change::Log(log) => {
                fs::write(path.with_extension("db-wal"), log).unwrap();
                has_log = true;
            }
            // Of a file that is damaged already nothing may be left to change.
            Change::Epoch(record) => {
                execute(path, "INSERT INTO epoch (record) VALUES (?1)", &record.into());
            }
            Change::State(value) => execute(path, "UPDATE fact SET value = ?1", &value.into()),
            Change::Metrics(value) => {
                execute(path, "UPDATE device SET metrics = ?1", &value.into());
            }
            Change::Cell(column, cell) => {
                let columns = &SOUND.columns;
                let (table, column) = &columns[usize::from(column) % columns.len()];
                let value = match cell {
                    Cell::Null => Value::Null,
                    Cell::Integer(number) => number.into(),
                    Cell::Text(text) => text.into(),
                    Cell::Blob(octets) => octets.into(),
                };
                execute(path, &format!("UPDATE OR REPLACE {table} SET {column} = ?1"), &value);
            }
        }
    }
    has_log
}

fn execute(path: &Path, sql: &str, value: &Value) {
    let changed = Connection::open(path).and_then(|file| file.execute(sql, params![value]));
    // What a damaged file does not take stays as it is.
    changed.ok();
}

/// Each answers or says why not.
fn read(path: &Path) {
    let setup = Setup { limits: SOUND.config.limits.into(), ..Setup::default() };
    for (from, until) in [(0, u64::MAX), (1_714_979_280_000_000_000, 1_714_979_400_000_000_000)] {
        says_why_not(ledger::audit(path, from, until));
        if let Some(state) = says_why_not(ledger::period(
            path,
            (from, until),
            None,
            setup.clone(),
            &ledger::Patience::default(),
        )) {
            serde_json::to_vec(&state.state().report(Detail::Address)).unwrap();
        }
    }
    says_why_not(ledger::check(path));
    says_why_not(ledger::backup(path, &path.with_extension("copy")));
}

fn says_why_not<T, E: ToString>(outcome: Result<T, E>) -> Option<T> {
    outcome.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// Opens the file to write, as a sensor at its start, and counts one more epoch. Whatever was in the file is
/// still there, or beside it.
fn go_on(path: &Path, original: &[u8], has_log: bool) {
    let config = &SOUND.config;
    let kept = match Ledger::open(path) {
        Ok((mut ledger, mut restored, aside)) => {
            let mut state = State::new(Setup { limits: config.limits.into(), ..Setup::default() });
            let resumed = labgate::resume::resume(config, &mut ledger, &mut restored, &mut state);
            if says_why_not(resumed).is_some() {
                serde_json::to_vec(&state.report(Detail::Address)).unwrap();
                let (devices, links) = (state.save_devices(true), Vec::new());
                let snapshot = Snapshot {
                    state: state.save(),
                    devices,
                    links,
                    boot: String::new(),
                    clock: SavedClock::default(),
                };
                says_why_not(ledger.fold(&snapshot));
                let retention = Retention::default();
                says_why_not(ledger.grow_old(&retention, u64::MAX, Duration::from_millis(20)));
            }
            let Some(aside) = aside else { return };
            aside
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            path.to_owned()
        }
    };
    let kept = fs::read(kept).unwrap();
    if !has_log {
        assert_eq!(kept.len(), original.len());
        let header = HEADER.min(kept.len());
        assert!(kept[header..] == original[header..], "what was in the file is lost");
    }
}
