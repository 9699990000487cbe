//! What an audit says of a period.

use sensor_common::report::Audit;

use super::*;
use crate::state::{Coverage, End, LinkState, Span};

const MINUTE: u64 = 60 * SECOND;

fn span(from: u64) -> Span {
    Span {
        from,
        to: None,
        link: "lan0".into(),
        ingress: "xdp",
        egress: "tcx",
        fallback_reason: "".into(),
        end: None,
    }
}

fn said(audit: &Audit) -> Vec<String> {
    let interface = audit.interfaces.iter().find(|one| one.name == "lan0");
    let Some(interface) = interface else { return vec!["nothing".to_owned()] };
    let after = |time: &str| {
        if time.is_empty() {
            return "now".to_owned();
        }
        let time: jiff::Timestamp = time.parse().unwrap();
        let start = i128::from(START);
        ((time.as_nanosecond() - start) / i128::from(SECOND)).to_string()
    };
    let watched = interface
        .coverage
        .iter()
        .map(|span| format!("{}-{} {}", after(&span.from), after(&span.to), span.ingress));
    let gaps = interface
        .gaps
        .iter()
        .map(|gap| format!("{}-{} {}", after(&gap.from), after(&gap.to), gap.reason));
    watched.chain(gaps).collect()
}

/// Watched from 10 s to 100 s and from 200 s on; the last of the epochs ends after 300 s.
fn audited() -> (TempDir, PathBuf) {
    let config = config();
    let (dir, path) = file();
    let mut sensor = Sensor::start(&path, &config);
    for number in 1..=100 {
        sensor.epoch(number, &config);
        if number == 60 {
            sensor.fold();
        }
    }
    let mut coverage = Coverage::new("lan0");
    coverage.link = Some(LinkState { name: "lan0".to_owned(), up: true, mtu: 1500 });
    coverage.begin(span(START + 10 * SECOND));
    coverage.end(START + 100 * SECOND, End::Gone);
    coverage.begin(span(START + 200 * SECOND));
    let mut missing = Coverage::new("lan9");
    missing.reason = "does not exist".to_owned();
    sensor.ledger.cover(&[coverage, missing], "boot").unwrap();
    (dir, path)
}

#[test]
fn spans_and_gaps_are_those_of_the_period() {
    let (_dir, path) = audited();
    let of = |from: u64, until: u64| {
        said(&audit(&path, START + from * SECOND, START + until * SECOND).unwrap())
    };
    let before = ["10-60 xdp", "0-10 not_yet"];
    assert_eq!(of(0, 60), before, "a gap at the beginning");
    assert_eq!(of(20, 60), ["20-60 xdp"]);
    assert_eq!(of(50, 150), ["50-100 xdp", "100-150 gone"]);
    assert_eq!(of(110, 190), ["110-190 gone"], "wholly inside a gap");
    assert_eq!(of(110, 250), ["200-250 xdp", "110-200 gone"]);
    // Killed, and detached since, or a copy that is old: nobody knows what came after the last epoch.
    assert_eq!(of(250, 400), ["250-300 xdp", "300-400 no_epoch"]);
    assert_eq!(of(400, 500), ["400-500 no_epoch"]);
    let whole = said(&audit(&path, 0, u64::MAX).unwrap());
    assert_eq!(whole, ["10-100 xdp", "200-300 xdp", "0-10 not_yet", "100-200 gone"]);
    // Noted now, which is long after the epochs of this test.
    let names = audit(&path, START + 110 * SECOND, u64::MAX).unwrap();
    let names: Vec<_> = names.interfaces.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["lan0", "lan9"], "the one that never was there too");
}

#[test]
fn the_parts_of_any_partition_sum_up_to_the_whole() {
    let (_dir, path) = audited();
    let sums = |audit: &Audit| {
        let mut sums = vec![
            audit.epochs,
            audit.balance.seen_packets,
            audit.balance.seen_bytes,
            audit.balance.attributed_bytes,
            audit.interfaces.iter().map(|one| one.rx_packets).sum(),
        ];
        sums.extend(audit.events.iter().map(|event| event.count));
        sums
    };
    let whole = sums(&audit(&path, 0, u64::MAX).unwrap());
    assert!(whole[0] == 100 && whole[1] > 1000, "{whole:?}");
    let mut roll = dice(5);
    for _ in 0..40 {
        // Minutes, seconds and less, and right where epochs and minutes begin.
        let mut cuts: Vec<u64> =
            (0..3).map(|_| START + roll(400) * SECOND + roll(3) * SECOND / 2).collect();
        cuts.push(START + roll(6) * MINUTE);
        cuts.sort_unstable();
        let edges = [&[0][..], &cuts, &[u64::MAX]].concat();
        let mut sum = vec![0; whole.len()];
        for pair in edges.windows(2) {
            let part = audit(&path, pair[0], pair[1]).unwrap();
            for event in &part.events {
                assert!(event.count > 0, "{event:?}");
            }
            let mut of_part = sums(&part);
            of_part.resize(whole.len(), 0);
            for (sum, part) in sum.iter_mut().zip(of_part) {
                *sum += part;
            }
        }
        // Events come in the order of their names, of which a part may have some only.
        assert_eq!(sum[..5], whole[..5], "{cuts:?}");
        let events = |sums: &[u64]| sums[5..].iter().sum::<u64>();
        assert_eq!(events(&sum), events(&whole), "{cuts:?}");
    }
}

/// What a fault between the kernel and the file loses or doubles: no audit passes over it.
#[test]
fn a_loss_is_no_closed_audit() {
    let config = config();
    let lossy = |lose: &dyn Fn(&mut Sensor, &Config)| {
        let (_dir, path) = file();
        let mut sensor = Sensor::start(&path, &config);
        for number in 1..=3 {
            sensor.epoch(number, &config);
        }
        lose(&mut sensor, &config);
        sensor.fold();
        let audit = audit(&path, 0, u64::MAX).unwrap();
        let losses = audit.events.iter().filter(|event| event.event.starts_with("ledger_"));
        let losses: Vec<_> = losses.map(|event| (event.event.clone(), event.count)).collect();
        (losses, audit.closed, audit.balance.closed, check(&path).unwrap().len())
    };
    assert_eq!(lossy(&|_, _| ()), (vec![], true, true, 0));
    // Shown, dropped and cleared: the next one's number tells.
    let dropped = |sensor: &mut Sensor, config: &Config| {
        let mut record = traffic(4, &mut sensor.inventory);
        record.epoch = 4;
        sensor.state.apply(&record, sensor.inventory.devices());
        let mut next = traffic(6, &mut sensor.inventory);
        next.epoch = 6;
        sensor.state.apply(&next, sensor.inventory.devices());
        let commit = commit(&next, sensor.inventory.devices(), config);
        sensor.ledger.commit(&Commit { quiet: Some(1), ..commit }).unwrap();
    };
    let lost = traffic(4, &mut Inventory::new(&config.devices, 4)).books.seen.packets;
    let expected =
        vec![("ledger_epochs_missing".to_owned(), 1), ("ledger_packets_missing".to_owned(), lost)];
    assert_eq!(lossy(&dropped), (expected, false, true, 1));
    // Shown twice.
    let doubled = |sensor: &mut Sensor, _: &Config| {
        let record = traffic(3, &mut sensor.inventory);
        sensor.state.apply(&record, sensor.inventory.devices());
    };
    let twice = traffic(3, &mut Inventory::new(&config.devices, 4)).books.seen.packets;
    let expected = vec![("ledger_packets_missing".to_owned(), twice)];
    assert_eq!(lossy(&doubled), (expected, false, true, 1));
}

#[test]
fn what_lies_in_a_damaged_ledger_is_named() {
    let config = config();
    let (_dir, path) = file();
    drop(Sensor::start(&path, &config));
    fs::write(&path, vec![0xff; 4096]).unwrap();
    let (ledger, ..) = Ledger::open(&path).unwrap();
    drop(ledger);
    let empty = audit(&path, 0, u64::MAX).unwrap();
    assert_eq!(empty.set_aside.len(), 1, "{empty:?}");
    assert!(empty.set_aside[0].ends_with("ledger.db.damaged-1") && !empty.closed);
    let mut sensor = Sensor::start(&path, &config);
    sensor.epoch(1, &config);
    let since = audit(&path, START + 3 * SECOND, u64::MAX).unwrap();
    assert!(since.closed && since.set_aside.is_empty(), "{since:?}");
}
