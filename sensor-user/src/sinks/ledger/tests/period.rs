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
            let period = period(
                &path,
                (from, until),
                query.device.as_ref(),
                setup(&config),
                &Patience::default(),
            );
            period.unwrap().destination_list(query)
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

/// A sensor's ledger with hours, minutes, and epochs that are not folded; three seconds lie between two epochs.
fn of_all_kinds() -> (TempDir, PathBuf, Config, Vec<EpochRecord>) {
    let config = config();
    let (dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    let records = (1..=100).map(|number| {
        let record = sensor.epoch(number, &config);
        if number % 20 == 0 && number < 80 {
            sensor.fold();
        }
        record
    });
    let records = records.collect();
    drop(sensor);
    let file = rusqlite::Connection::open(&path).unwrap();
    let is_old = format!("start < {}", (START / SECOND) + 60);
    file.execute_batch(&format!(
        "INSERT INTO hour SELECT device, start / 3600 * 3600, flow, sum(tx_packets), sum(tx_bytes),
         sum(tx_payload), sum(rx_packets), sum(rx_bytes), sum(rx_payload),
         min(first + start % 3600 * 1000), max(last + start % 3600 * 1000)
         FROM minute WHERE {is_old} GROUP BY 1, 2, 3;
         DELETE FROM minute WHERE {is_old}"
    ))
    .unwrap();
    for table in ["hour", "minute", "epoch"] {
        let rows: i64 =
            file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert!(rows > 10, "{table} has {rows} rows");
    }
    (dir, path, config, records)
}

#[test]
fn any_cut_of_a_period_adds_up_to_the_whole() {
    let (_dir, path, config, _) = of_all_kinds();
    let mut roll = dice(6);
    for round in 0..40 {
        let query = &destination_query(&[("limit", "1".to_owned())]).unwrap();
        let total = |from: u64, until: u64| {
            let patience = Patience::default();
            let list = period(&path, (from, until), None, setup(&config), &patience).unwrap();
            let total = list.destination_list(query).total;
            [total.tx_packets, total.tx_bytes, total.rx_packets, total.rx_bytes]
        };
        // To the nanosecond, some to the second, and some at the minute.
        let mut bounds: Vec<u64> = (0..2 + roll(8))
            .map(|_| {
                let at = START - 60 * SECOND + roll(420 * SECOND);
                let unit = [1, 1_000_000, SECOND, 60 * SECOND][usize::try_from(roll(4)).unwrap()];
                at / unit * unit
            })
            .collect();
        bounds.sort_unstable();
        bounds.dedup();
        let parts = bounds.windows(2).map(|pair| total(pair[0], pair[1]));
        let sum = parts.fold([0; 4], |sum, part| std::array::from_fn(|at| sum[at] + part[at]));
        assert_eq!(sum, total(bounds[0], *bounds.last().unwrap()), "{round}: {bounds:?}");
    }
}

#[test]
fn a_period_is_exact_or_says_by_how_much_it_may_not_be() {
    let (_dir, path, config, records) = of_all_kinds();
    let query = &destination_query(&[]).unwrap();
    let mut roll = dice(7);
    let (mut exact, mut cut) = (0, 0);
    for _ in 0..120 {
        let from = START + roll(330) * SECOND;
        let until = from + (1 + roll(60)) * SECOND;
        let patience = Patience::default();
        let list = period(&path, (from, until), None, setup(&config), &patience).unwrap();
        let list = list.destination_list(query);
        let said = list.period.unwrap();
        let counted = list.total.tx_packets + list.total.rx_packets;
        let of_period = |record: &&EpochRecord| (from..until).contains(&record.ended);
        let flows = records.iter().filter(of_period).flat_map(|record| &record.flows);
        let truth: u64 = flows.map(|flow| flow.tally.packets).sum();
        if said.exact {
            assert_eq!(counted, truth, "{said:?}");
            exact += 1;
        } else {
            assert!(counted - said.earlier_packets <= truth, "{counted}, {truth}: {said:?}");
            assert!(truth <= counted + said.later_packets, "{counted}, {truth}: {said:?}");
            cut += 1;
            // What it offers instead is exact.
            let nanos = |time: &str| {
                let time: jiff::Timestamp = time.parse().unwrap();
                u64::try_from(time.as_nanosecond()).unwrap()
            };
            let whole = (nanos(&said.whole_from), nanos(&said.whole_until));
            assert!(whole.0 <= from && until <= whole.1, "{said:?}");
            let whole = period(&path, whole, None, setup(&config), &patience).unwrap();
            assert!(whole.destination_list(query).period.unwrap().exact, "{said:?}");
        }
    }
    assert!(exact > 10 && cut > 10, "{exact} were exact, {cut} not");
}

#[test]
fn devices_of_a_period_are_those_that_were_active() {
    let (_dir, path, config, records) = of_all_kinds();
    let record = records.last().unwrap();
    let asked = (record.ended, record.ended + 1_000_000);
    let list = period(&path, asked, None, setup(&config), &Patience::default()).unwrap();
    let list = list.device_list(&crate::state::DeviceQuery::default());
    let packets: u64 = record.flows.iter().map(|flow| flow.tally.packets).sum();
    let counted: u64 =
        list.devices.iter().map(|device| device.tx_packets + device.rx_packets).sum();
    assert_eq!((counted, list.period.unwrap().exact), (packets, true));
    assert!(list.devices.iter().all(|device| device.tx_packets + device.rx_packets > 0));
    let before = period(&path, (1, 2), None, setup(&config), &Patience::default()).unwrap();
    assert_eq!(before.device_list(&crate::state::DeviceQuery::default()).devices, []);
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
