//! Files that are no ledgers, or were.

use std::time::Duration;

use super::*;

#[test]
fn a_damaged_file_is_set_aside() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    sensor.epoch(1, &config);
    sensor.fold();
    drop(sensor);
    let whole = fs::read(&path).unwrap();
    for (damage, number) in [(vec![0xff; 100], 1), (whole[..whole.len() / 2].to_vec(), 2)] {
        fs::write(&path, &damage).unwrap();
        let (ledger, restored, aside) = Ledger::open(&path).unwrap();
        let aside = aside.expect("set aside");
        assert_eq!(
            aside.file_name().unwrap().to_str().unwrap(),
            format!("ledger.db.damaged-{number}")
        );
        assert_eq!(fs::read(&aside).unwrap()[..100], damage[..100]);
        assert_eq!((restored.devices.len(), sum(&ledger, "1", "flow")), (0, 0));
    }
}

/// Somebody writes over it, while a sensor has it open.
#[test]
fn a_file_damaged_meanwhile_is_set_aside_and_nothing_after_it_lost() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=30 {
        sensor.epoch(number, &config);
        if number == 20 {
            sensor.fold();
        }
    }
    for file in [path.clone(), path.with_extension("db-wal")] {
        let length = fs::metadata(&file).unwrap().len().try_into().unwrap();
        // In place, as a failing disk does.
        let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
        std::io::Write::write_all(&mut file, &vec![0xff; length]).unwrap();
    }
    let Sensor { ledger, mut inventory, .. } = sensor;
    // As if there were more of it than SQLite keeps in memory.
    ledger.connection.execute_batch("PRAGMA shrink_memory").unwrap();
    let mut writer = Writer::start(ledger).unwrap();
    let (mut failures, mut after, mut seen) = (0, 0, 0);
    for number in 31..=40 {
        let mut record = traffic(number, &mut inventory);
        record.epoch = number;
        let mut next = Some(Box::new(commit(&record, inventory.devices(), &config)));
        while let Some(commit) = next.take() {
            writer.ask(Request::Commit(commit));
            let answer = writer.answer(Duration::from_secs(10)).unwrap();
            if let Err(error) = answer.outcome {
                assert_eq!(error.trouble(), Trouble::Damaged, "{error}");
                failures += 1;
                assert_eq!(failures, 1, "it goes on with the damaged file");
                (after, seen) = (0, 0);
            }
            next = answer.refused.map(|refused| match refused {
                Request::Commit(commit) => commit,
                other => panic!("{other:?}"),
            });
        }
        after += 1;
        seen += record.books.seen.packets;
    }
    writer.close();
    assert_eq!(failures, 1);
    assert!(path.with_extension("db.damaged-1").exists());
    // What was committed from then on, and what could not be committed before.
    let audit = audit(&path, 0, u64::MAX).unwrap();
    assert_eq!((audit.epochs, audit.balance.seen_packets), (after, seen));
    assert!(after >= 9, "{after}");
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let (_dir, path) = file();
    drop(Ledger::open(&path).unwrap());
    let refusal = |sql: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        let error = Ledger::open(&path).unwrap_err().to_string();
        assert_eq!(fs::read(&path).unwrap(), before);
        error
    };
    let newer = refusal("PRAGMA user_version = 2");
    assert!(newer.contains("version 2, of a newer LabGate"), "{newer}");
    let other = refusal("PRAGMA application_id = 7");
    assert!(other.contains("another program"), "{other}");
}
