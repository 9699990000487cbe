//! What a restarted sensor knows, and what it counts once.

use super::*;

/// The state is lost at any time, before or after a fold, and goes on as if nothing had been.
#[test]
fn a_restarted_sensor_shows_what_it_showed_before() {
    let config = config();
    let (_dir, path) = file();
    let (_other, beside) = file();
    let mut through = Sensor::start(&beside, &config);
    let mut restarted = Sensor::start(&path, &config);
    let mut roll = dice(99);
    for number in 1..=120 {
        let record = restarted.epoch(number, &config);
        let twin = through.epoch(number, &config);
        assert_eq!(record.flows.len(), twin.flows.len());
        if restarted.ledger.wants_fold() || roll(11) == 0 {
            restarted.fold();
        }
        if roll(4) == 0 {
            drop(restarted);
            restarted = Sensor::start(&path, &config);
            let (report, metrics) = shown(&restarted.state);
            let (expected, expected_metrics) = shown(&through.state);
            same(&report, &expected, number);
            same(&metrics, &expected_metrics, number);
        }
    }
    restarted.fold();
    let seen = int(through.state.books().seen.packets);
    assert!(seen > 1000, "{seen}");
    for table in ["flow", "minute"] {
        assert_eq!(sum(&restarted.ledger, "tx_packets + rx_packets", table), seen, "{table}");
    }
    assert_eq!(sum(&restarted.ledger, "seen_packets", "balance"), seen);
    assert_eq!(sum(&restarted.ledger, "rx_packets", "interface"), 120_000);
    assert_eq!(sum(&restarted.ledger, "epochs", "balance"), 120);
    assert_eq!(sum(&restarted.ledger, "1", "epoch"), 0, "every record was folded");
}

/// Detail goes, packets do not; what was summed up in the state has a row of its own in a minute, and the
/// reverse.
#[test]
fn sums_are_kept_beyond_the_bounds() {
    let few = CONFIG.replace("4096", "16");
    let config = config::parse(&few, "test").unwrap();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    let mut seen = 0;
    for number in 1..=60 {
        let record = sensor.epoch(number, &config);
        seen += record.books.seen.packets;
        if number % 20 == 0 {
            sensor.fold();
        }
        if number % 7 == 0 {
            drop(sensor);
            sensor = Sensor::start(&path, &config);
        }
    }
    sensor.fold();
    assert_eq!(sensor.state.books().seen.packets, seen);
    drop(sensor);
    let sensor = Sensor::start(&path, &config);
    let rows: u64 =
        sensor.state.devices().map(DeviceState::total).map(|t| t.tx.packets + t.rx.packets).sum();
    assert_eq!((rows, sensor.state.books().seen.packets), (seen, seen));
    for table in ["flow", "minute"] {
        assert_eq!(sum(&sensor.ledger, "tx_packets + rx_packets", table), int(seen), "{table}");
    }
    assert!(sum(&sensor.ledger, "NOT detailed", "flow") > 0, "the bound was not reached");
    let busiest = "SELECT max(n) FROM (SELECT sum(detailed) AS n FROM minute JOIN flow ON flow.id = flow \
                   GROUP BY minute.device, start)";
    let most: i64 = sensor.ledger.connection.query_row(busiest, [], |row| row.get(0)).unwrap();
    // A restart within a minute begins anew.
    assert!((16..=32).contains(&most), "{most}");
}

#[test]
fn an_epoch_counts_once() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    let record = sensor.epoch(1, &config);
    let again = commit(&record, sensor.inventory.devices(), &config);
    assert!(sensor.ledger.is_committed(&again.identity).unwrap());
    assert!(!sensor.ledger.is_committed(&Identity { epoch: 2, ..again.identity.clone() }).unwrap());
    let other = Identity { table: [7, 8], ..again.identity.clone() };
    assert!(!sensor.ledger.is_committed(&other).unwrap());

    sensor.ledger.commit(&again).unwrap();
    drop(sensor);
    sensor = Sensor::start(&path, &config);
    sensor.ledger.commit(&again).unwrap();
    sensor.fold();
    assert_eq!(sum(&sensor.ledger, "epochs", "balance"), 1);
    assert_eq!(sum(&sensor.ledger, "seen_packets", "balance"), int(record.books.seen.packets));
    // Another table's first epoch is another one.
    sensor.ledger.commit(&Commit { identity: other, ..again }).unwrap();
    sensor.fold();
    assert_eq!(sum(&sensor.ledger, "epochs", "balance"), 2);
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    sensor.epoch(1, &config);
    sensor.fold();
    let limit = |ledger: &Ledger, pages: i64| {
        ledger.connection.pragma_update(None, "max_page_count", pages).unwrap();
    };
    let pages: i64 =
        sensor.ledger.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    limit(&sensor.ledger, pages);
    let mut commits = Vec::new();
    let mut refused = 0;
    for number in 2..=40 {
        let mut record = traffic(number, &mut sensor.inventory);
        record.epoch = number;
        sensor.state.apply(&record, sensor.inventory.devices());
        let commit = commit(&record, sensor.inventory.devices(), &config);
        match sensor.ledger.commit(&commit) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.trouble(), Trouble::Full, "{error}");
                refused += 1;
                // In this order, as the kernel holds back all later ones.
                limit(&sensor.ledger, pages + 2 * refused);
                sensor.ledger.commit(&commit).unwrap();
            }
        }
        commits.push(commit);
    }
    assert!(refused > 1, "{refused}");
    // The tables take more room than there is.
    let snapshot = snapshot(&mut sensor.state);
    let full = sensor.ledger.fold(&snapshot).unwrap_err();
    assert_eq!(full.trouble(), Trouble::Full, "{full}");
    limit(&sensor.ledger, 100_000);
    sensor.fold();
    let seen = sensor.state.books().seen.packets;
    assert_eq!(sum(&sensor.ledger, "tx_packets + rx_packets", "minute"), int(seen));
    let (report, metrics) = shown(&sensor.state);
    drop(sensor);
    let restarted = shown(&Sensor::start(&path, &config).state);
    same(&restarted.0, &report, 40);
    same(&restarted.1, &metrics, 40);
}
