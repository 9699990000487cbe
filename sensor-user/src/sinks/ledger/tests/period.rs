//! What is asked of a period.

use sensor_common::report::DestinationRow;

use super::*;
use crate::{
    model::EpochBooks,
    sinks::http::parameters::destination_query,
    state::{DestinationQuery, DeviceRef},
};

/// Minutes of which some are folded, some are not, and one is both.
#[test]
fn a_period_holds_its_minutes_and_nothing_else() {
    const FOLDED: u32 = 45;
    let config = config();
    let (_dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    let mut records = Vec::new();
    for number in 1..=80 {
        records.push(sensor.epoch(number, &config));
        if number == FOLDED {
            sensor.fold();
        }
    }
    let all =
        destination_query(&[("detail", "address".to_owned()), ("limit", "100000".to_owned())]);
    let all = all.unwrap();
    for (first, end, epochs) in [(1, 2, 20), (1, 3, 40), (2, 4, 40), (0, 1, 19)] {
        let (from, until) = (START + first * 60 * SECOND, START + end * 60 * SECOND);
        // A sensor that has seen nothing else.
        let (mut only, mut seen) = (State::new(setup(&config)), EpochBooks::default());
        let of_minute = |record: &&EpochRecord| {
            (from..until).contains(&(record.ended / SECOND / 60 * 60 * SECOND))
        };
        for record in records.iter().filter(of_minute) {
            seen.add(&record.books);
            only.apply(record, sensor.inventory.devices());
        }
        let ask = |query: &DestinationQuery| {
            let state = period(
                &path,
                (from, until),
                query.device.as_ref(),
                setup(&config),
                &Patience::default(),
            );
            state.unwrap().destination_list(query)
        };
        let mut asked = ask(&all);
        let mut expected = only.destination_list(&all);
        let order = |row: &DestinationRow| format!("{row:?}");
        asked.destinations.sort_by_key(order);
        expected.destinations.sort_by_key(order);
        assert_eq!(asked.destinations, expected.destinations, "minutes {first} to {end}");
        assert!(asked.matched > 50, "{}", asked.matched);
        let name = expected.destinations[0].device.clone();
        let mut of_one =
            ask(&DestinationQuery { device: Some(DeviceRef::new(&name)), ..all.clone() });
        of_one.destinations.sort_by_key(order);
        expected.destinations.retain(|row| row.device == name);
        assert_eq!(of_one.destinations, expected.destinations, "of {name}");

        let audit = audit(&path, from, until).unwrap();
        let balance = audit.balance;
        let expected = (seen.seen.packets, seen.seen.bytes);
        assert_eq!((balance.seen_packets, balance.seen_bytes), expected);
        assert_eq!((audit.epochs, audit.open_epochs, balance.closed), (epochs, 0, true));
        // A thousand packets an epoch, by the fixture.
        assert_eq!(audit.interfaces[0].rx_packets, epochs * 1000);
    }
    let whole = audit(&path, 0, u64::MAX).unwrap();
    assert_eq!(whole.balance.seen_packets, sensor.state.books().seen.packets);
    assert_eq!((whole.epochs, whole.interfaces[0].rx_packets), (80, 80_000));
}

/// SQLite itself stops, and not only what is done between its queries.
#[test]
fn a_question_stops_when_the_patience_is_over() {
    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                           SELECT count(*) FROM n";
    let ends = |patience: &Patience| {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        patience.hold(&mut connection).unwrap();
        let answer: Result<i64, _> = connection.query_row(ENDLESS, [], |row| row.get(0));
        matches!(LedgerError::from(answer.unwrap_err()), LedgerError::Stopped)
    };
    let (short, _asker) = Patience::of(std::time::Duration::from_millis(20));
    assert!(ends(&short));
    let (long, asker) = Patience::of(std::time::Duration::from_secs(3600));
    let leaves = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(asker);
    });
    assert!(ends(&long));
    leaves.join().unwrap();
    let (_dir, path) = file();
    drop(Sensor::start(&path, &config()));
    let asked = period(&path, (0, u64::MAX), None, setup(&config()), &long);
    assert!(matches!(asked, Err(LedgerError::Stopped)));
}
