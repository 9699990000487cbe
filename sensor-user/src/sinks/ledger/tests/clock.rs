//! What a wrong clock does to a ledger: nothing that lasts.

use std::time::Duration;

use super::*;
use crate::clock::{Moment, TrustedClock};

const YEARS: u64 = 3 * 365 * 24 * 3600 * SECOND;

fn rows(path: &std::path::Path) -> (i64, i64) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let count = |table| {
        connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    };
    (count("minute"), count("hour"))
}

/// Three years ahead, for however long, across folds and restarts: nothing grows old by that.
#[test]
fn a_clock_that_is_ahead_deletes_nothing() {
    let config = config();
    let (_dir, path) = file();
    let mut clock = TrustedClock::default();
    let mut trusted = 0;
    for (round, ahead) in [0, YEARS, YEARS, 0].into_iter().enumerate() {
        let Sensor { ledger, mut inventory, mut state } = Sensor::start(&path, &config);
        let mut servant = Servant::new(ledger);
        for number in 0..25 {
            let number = u32::try_from(round).unwrap() * 25 + number + 1;
            let mut record = traffic(number, &mut inventory);
            record.epoch = number;
            let now = Moment { wall: record.ended + ahead, boot: record.ended - START };
            record.ended = now.wall;
            trusted = clock.pass(now);
            state.apply(&record, inventory.devices());
            let commit = Box::new(commit(&record, inventory.devices(), &config));
            servant.serve(Request::Commit(commit)).outcome.unwrap();
            let clock = SavedClock { trusted, now };
            let snapshot = Snapshot { clock, ..snapshot(&mut state) };
            servant.serve(Request::Fold(Box::new(snapshot))).outcome.unwrap();
            while servant.care(Duration::from_millis(5)) {}
        }
    }
    let (minutes, hours) = rows(&path);
    assert!(minutes > 50 && hours == 0, "{minutes} rows of minutes, {hours} of hours");
    assert!(trusted < START + YEARS, "{trusted}");
    // When the time has really come they do grow old.
    let (ledger, ..) = Ledger::open(&path).unwrap();
    let mut servant = Servant::new(ledger);
    let record = fixture::record(1, Vec::new());
    let mut state = State::new(setup(&config));
    state.apply(&record, &[]);
    let now = Moment { wall: START + 4 * YEARS, boot: 4 * YEARS };
    let clock = SavedClock { trusted: now.wall, now };
    let snapshot = Snapshot { clock, ..snapshot(&mut state) };
    servant.serve(Request::Fold(Box::new(snapshot))).outcome.unwrap();
    while servant.care(Duration::from_millis(5)) {}
    assert_eq!(rows(&path).0, 0);
}

/// What is stamped with 1970 has not grown old.
#[test]
fn a_clock_that_is_behind_deletes_nothing() {
    let config = config();
    let (_dir, path) = file();
    let Sensor { ledger, mut inventory, mut state } = Sensor::start(&path, &config);
    let mut servant = Servant::new(ledger);
    for number in 1..=50 {
        let mut record = traffic(number, &mut inventory);
        record.epoch = number;
        let trusted = record.ended;
        if number > 10 {
            record.ended -= START - 3600 * SECOND;
        }
        state.apply(&record, inventory.devices());
        servant
            .serve(Request::Commit(Box::new(commit(&record, inventory.devices(), &config))))
            .outcome
            .unwrap();
        let now = Moment { wall: record.ended, boot: 0 };
        let snapshot = Snapshot { clock: SavedClock { trusted, now }, ..snapshot(&mut state) };
        servant.serve(Request::Fold(Box::new(snapshot))).outcome.unwrap();
        while servant.care(Duration::from_millis(5)) {}
    }
    let connection = rusqlite::Connection::open(&path).unwrap();
    let sql = "SELECT sum(tx_packets + rx_packets) FROM minute WHERE start < 1000000";
    let held: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    let all = int(state.books().seen.packets);
    assert!(held > all / 2, "{held} of {all}");
    drop(servant);
    assert_eq!(sum(&Ledger::open(&path).unwrap().0, "tx_packets + rx_packets", "minute"), all);
}

/// What was stamped by a clock that was ahead does not stay in the future.
#[test]
fn times_come_back() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    sensor.epoch(1, &config);
    let mut record = traffic(2, &mut sensor.inventory);
    (record.epoch, record.ended) = (2, record.ended + YEARS);
    sensor.state.apply(&record, sensor.inventory.devices());
    sensor.ledger.commit(&commit(&record, sensor.inventory.devices(), &config)).unwrap();
    let trusted = START + 6 * SECOND;
    let now = Moment { wall: trusted, boot: 0 };
    let saved = Snapshot { clock: SavedClock { trusted, now }, ..snapshot(&mut sensor.state) };
    sensor.ledger.fold(&saved).unwrap();

    drop(sensor);
    let limit = trusted + SECOND;
    let (mut ledger, mut restored, _) = Ledger::open(&path).unwrap();
    assert_eq!(restored.trusted(), Some(trusted));
    restored.distrust_after(limit);
    assert_eq!(restored.ended, limit);
    let mut state = State::new(setup(&config));
    let inventory = resume(&config, &mut ledger, &mut restored, &mut state).unwrap();
    assert!(inventory.devices().len() > 4, "unknown devices are no day old");
    state.distrust_after(limit);
    let shown = serde_json::to_string(&state.report(Detail::Address)).unwrap();
    assert!(!shown.contains("2028-") && !shown.contains("2029-"), "{shown}");

    // In the file, as soon as the flow is used again.
    let mut sensor = Sensor { ledger, inventory, state };
    for number in 3..40 {
        sensor.epoch(number, &config);
    }
    let wall = START + 120 * SECOND;
    let clock = SavedClock { trusted: wall, now: Moment { wall, boot: 0 } };
    sensor.ledger.fold(&Snapshot { clock, ..snapshot(&mut sensor.state) }).unwrap();
    let sql = format!("SELECT count(*) FROM flow WHERE last_seen > {}", START + YEARS / 2);
    let ahead = |ledger: &Ledger| -> i64 {
        ledger.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let flows = sum(&sensor.ledger, "1", "flow");
    assert!(ahead(&sensor.ledger) * 4 < flows, "{} of {flows}", ahead(&sensor.ledger));
}
