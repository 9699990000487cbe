//! What leaves the ledger, and what stays of it.

use super::*;

#[test]
fn a_device_that_is_purged_leaves_its_sums() {
    let config = config();
    let (dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=30 {
        sensor.epoch(number, &config);
    }
    let seen = sensor.state.books().seen.packets;
    drop(sensor);
    let unfolded = purge(&path, "redmi").unwrap_err().to_string();
    assert!(unfolded.contains("start it once"), "{unfolded}");
    sensor = Sensor::start(&path, &config);
    sensor.fold();
    drop(sensor);

    let copy = dir.path().join("copy.db");
    backup(&path, &copy).unwrap();
    assert!(backup(&path, &copy).is_err(), "never over another file");
    assert_eq!(check(&path).unwrap(), [""; 0]);
    assert_eq!(purge(&path, "nobody").unwrap(), 0);
    // By its MAC address the one, by its name the other.
    assert_eq!(purge(&path, "02:00:00:00:00:01").unwrap(), 1);
    assert_eq!(purge(&path, "watch").unwrap(), 1);
    assert_eq!(check(&path).unwrap(), [""; 0]);
    let sensor = Sensor::start(&path, &config);
    let of = |name: &str, state: &State| {
        let device = state.devices().find(|device| &*device.info().name == name);
        device.map_or(0, |device| device.total().tx.packets + device.total().rx.packets)
    };
    assert_eq!((of("redmi", &sensor.state), of("watch", &sensor.state)), (0, 0));
    assert_eq!(sensor.state.books().seen.packets, seen);
    let all: u64 = sensor.state.devices().map(|d| of(&d.info().name, &sensor.state)).sum();
    assert_eq!(all, seen);
    let text = fs::read(&path).unwrap();
    assert!(!text.windows(5).any(|octets| octets == b"redmi"), "its name is still in the file");

    // The copy has everything, and a fault in it is found.
    let before = Sensor::start(&copy, &config);
    assert!(of("redmi", &before.state) > 0);
    before.ledger.connection.execute("UPDATE flow SET tx_packets = tx_packets + 1", []).unwrap();
    let faults = check(&copy).unwrap();
    assert!(faults[0].contains("packets, the balance"), "{faults:?}");
}

/// Minutes become hours, addresses become prefixes, hours end; every sum stays what it was.
#[test]
fn what_grows_old_keeps_its_sums() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    // Four hours and a bit.
    for number in 1..=300 {
        let mut record = traffic(number, &mut sensor.inventory);
        (record.epoch, record.ended) = (number, START + u64::from(number) * 50 * SECOND);
        sensor.state.apply(&record, sensor.inventory.devices());
        sensor.ledger.commit(&commit(&record, sensor.inventory.devices(), &config)).unwrap();
    }
    sensor.fold();
    let seen = int(sensor.state.books().seen.packets);
    let ledger = &mut sensor.ledger;
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
    let never = hours(1_000_000);
    let keep = |minutes, addresses, kept| config::Retention {
        minutes,
        addresses,
        hours: kept,
        size: u64::MAX,
    };
    let now = START + 4 * 3600 * SECOND + 1800 * SECOND;
    let grow_old = |ledger: &mut Ledger, retention| {
        let patience = std::time::Duration::from_secs(60);
        assert!(!ledger.grow_old(&retention, now, patience).unwrap(), "all that is due is done");
        assert_eq!(sum(ledger, "tx_packets + rx_packets", "flow"), seen);
        assert_eq!(sum(ledger, "seen_packets", "balance"), seen);
        assert_eq!(sum(ledger, "epochs", "balance"), 300);
        assert_eq!(sum(ledger, "rx_packets", "interface"), 300_000);
        assert_eq!(check(&path).unwrap(), [""; 0]);
        let sums = ["minute", "hour"].map(|table| sum(ledger, "tx_packets + rx_packets", table));
        (sums, ["minute", "hour"].map(|table| sum(ledger, "1", table)))
    };
    let (before, _) = grow_old(ledger, keep(never, never, never));
    assert_eq!(before, [seen, 0]);

    // Half past four: what ended two hours ago is the first two of them.
    let ([minutes, old], [_, rows]) = grow_old(ledger, keep(hours(2), never, never));
    assert_eq!(minutes + old, seen);
    let first_two = sum(ledger, "seen_packets", "(SELECT * FROM balance WHERE length = 3600)");
    assert!(first_two > 0 && old == first_two, "{old} {first_two}");
    let count = |ledger: &Ledger| sum(ledger, "1", "(SELECT * FROM balance WHERE length = 3600)");
    assert_eq!(count(ledger), 2);

    // Flows that were not used in the last three hours lose their address, and nothing else.
    let used = |when: &str| {
        let since = START + 5400 * SECOND;
        format!("(SELECT * FROM flow WHERE detailed AND last_seen {when} {since})")
    };
    let (recent, detailed) = (sum(ledger, "1", &used(">=")), sum(ledger, "detailed", "flow"));
    let (sums, [_, fewer]) = grow_old(ledger, keep(hours(2), hours(3), never));
    assert_eq!(sums, [minutes, old]);
    assert!(fewer < rows && sum(ledger, "detailed", "flow") < detailed);
    assert_eq!(sum(ledger, "1", &used("<")), 0);
    assert_eq!(sum(ledger, "1", &used(">=")), recent);

    let ([minutes, old], _) = grow_old(ledger, keep(hours(2), hours(3), hours(3)));
    assert_eq!(
        minutes + old,
        seen - sum(
            ledger,
            "seen_packets",
            "(SELECT * FROM balance WHERE start < 1767225600 + 3600)"
        )
    );

    // Too large: the oldest goes, as far as it is older than a day.
    let tiny = config::Retention { size: 1, ..keep(never, never, never) };
    let later = now + 30 * 3600 * SECOND;
    while ledger.grow_old(&tiny, later, std::time::Duration::ZERO).unwrap() {}
    assert_eq!(["minute", "hour"].map(|table| sum(ledger, "1", table)), [0, 0]);
    assert_eq!(sum(ledger, "tx_packets + rx_packets", "flow"), seen);

    // And the state goes on from it.
    let total = sensor.state.books().seen.packets;
    drop(sensor);
    let sensor = Sensor::start(&path, &config);
    let rows: u64 =
        sensor.state.devices().map(DeviceState::total).map(|t| t.tx.packets + t.rx.packets).sum();
    assert_eq!((rows, sensor.state.books().seen.packets), (total, total));
}

/// Traffic in every hour up to now: the size holds all the same, and pages are given back.
#[test]
fn the_size_holds_while_there_is_traffic() {
    const STEP: u64 = 600 * SECOND;
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=4 * 24 * 6 {
        let mut record = traffic(number % 100, &mut sensor.inventory);
        (record.epoch, record.ended) = (number, START + u64::from(number) * STEP);
        sensor.state.apply(&record, sensor.inventory.devices());
        sensor.ledger.commit(&commit(&record, sensor.inventory.devices(), &config)).unwrap();
        if number % 50 == 0 {
            sensor.fold();
        }
    }
    sensor.fold();
    let now = START + 4 * 24 * 6 * STEP;
    let ledger = &mut sensor.ledger;
    let pages = |ledger: &Ledger| -> i64 {
        ledger.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    };
    let (minutes, before) = (sum(ledger, "1", "minute"), pages(ledger));
    let tiny = config::Retention { size: 1, ..config::Retention::default() };
    let mut steps = 0;
    while ledger.grow_old(&tiny, now, std::time::Duration::ZERO).unwrap() {
        steps += 1;
        assert!(steps < 10_000, "it never ends");
    }
    // A day is always kept, and the hour in which it begins.
    let today = format!("(SELECT * FROM hour WHERE start < {})", (now / SECOND) - 25 * 3600);
    assert_eq!(sum(ledger, "1", &today), 0);
    let left = sum(ledger, "1", "minute");
    assert!(left > 0 && left < minutes / 3, "{left} of {minutes}");
    assert_eq!(
        sum(ledger, "tx_packets + rx_packets", "flow"),
        int(sensor.state.books().seen.packets)
    );
    assert_eq!(check(&path).unwrap(), [""; 0]);
    let free: i64 =
        ledger.connection.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap();
    assert!(
        free < 1000 + pages(ledger) / 4,
        "{free} of {} pages are free, {before} before",
        pages(ledger)
    );
}

/// An address that was used for days goes in steps of a day, and is the prefix's in the end; used meanwhile, it stays.
#[test]
fn an_address_grows_old_a_day_at_a_time() {
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=60 {
        let mut record = traffic(number % 3, &mut sensor.inventory);
        (record.epoch, record.ended) = (number, START + u64::from(number) * 4 * 3600 * SECOND);
        sensor.state.apply(&record, sensor.inventory.devices());
        sensor.ledger.commit(&commit(&record, sensor.inventory.devices(), &config)).unwrap();
        sensor.fold();
    }
    let ledger = &mut sensor.ledger;
    let detailed = sum(ledger, "detailed", "flow");
    let day = std::time::Duration::from_secs(24 * 3600);
    let retention = config::Retention { addresses: 90 * day, ..config::Retention::default() };
    let now = START + 120 * 24 * 3600 * SECOND;
    let mut steps = 0;
    while ledger.grow_old(&retention, now, std::time::Duration::ZERO).unwrap() {
        steps += 1;
        if steps % 100 == 0 {
            assert_eq!(check(&path).unwrap(), [""; 0], "after step {steps}");
        }
    }
    assert!(steps > detailed * 9, "{steps} steps for {detailed} addresses of ten days");
    assert_eq!(sum(ledger, "detailed", "flow"), 0);
    let seen = int(sensor.state.books().seen.packets);
    for table in ["flow", "hour"] {
        assert_eq!(sum(ledger, "tx_packets + rx_packets", table), seen, "{table}");
    }
    let orphans = "(SELECT * FROM hour WHERE flow NOT IN (SELECT id FROM flow))";
    assert_eq!(sum(ledger, "1", orphans), 0);
}
