//! What is beyond the bounds: said to be so, and not for ever.

use sensor_common::report::DestinationList;

use super::*;
use crate::sinks::http::parameters::destination_query;

const DAY: u32 = 24 * 3600;

/// An address of 10.0.0.0/16, at port 443.
fn far(number: u16) -> Far {
    let [high, low] = number.to_be_bytes();
    Far {
        country: fixture::country("CN"),
        asn: 4134,
        operator: "Chinanet",
        prefix: Some("10.0.0.0/16".parse().unwrap()),
        address: Some(Ipv4Addr::new(10, 0, high, low).into()),
        port: 443,
        ..Far::default()
    }
}

fn epoch(second: u32, device: u32, numbers: std::ops::Range<u16>) -> EpochRecord {
    let flows = numbers.map(|n| fixture::flow(device, Direction::Tx, &far(n), 1, 60)).collect();
    fixture::record(second, flows)
}

fn ask(state: &State, filters: &[(&'static str, &str)]) -> DestinationList {
    let mut typed = vec![("detail", "address".to_owned())];
    typed.extend(filters.iter().map(|(name, value)| (*name, (*value).to_owned())));
    state.destination_list(&destination_query(&typed).unwrap())
}

/// Certain packets, and those that may be.
fn packets(list: &DestinationList) -> (u64, u64) {
    let sum = |rows: &[sensor_common::report::DestinationRow]| {
        rows.iter().map(|row| row.destination.tx_packets).sum()
    };
    (sum(&list.destinations), sum(&list.possible))
}

/// `nothing matches` would be wrong: it was counted, and its address was not kept.
#[test]
fn what_is_beyond_the_bound_may_be_what_is_asked_for() {
    let mut state = small();
    state.apply(&epoch(1, 0, 0..40), &fixture::devices());
    let mut arp = fixture::flow(0, Direction::Tx, &Far::default(), 1, 60);
    arp.protocol = Protocol::NonIp("arp");
    let mut record = epoch(2, 0, 1000..1150);
    record.flows.push(arp);
    state.apply(&record, &fixture::devices());
    for (filters, expected) in [
        (&[("prefix", "10.0.4.0/24")][..], (0, 150)),
        (&[("prefix", "10.0.0.0/24")], (40, 150)),
        (&[("prefix", "10.0.0.0/16")], (190, 0)),
        (&[("prefix", "10.1.0.0/16")], (0, 0)),
        (&[("port", "443")], (40, 150)),
        (&[("port", "443"), ("protocol", "tcp")], (0, 0)),
        (&[("country", "CN")], (190, 0)),
        (&[("country", "US")], (0, 0)),
        (&[("asn", "4134")], (190, 0)),
        (&[("device", "watch"), ("port", "443")], (0, 0)),
    ] {
        assert_eq!(packets(&ask(&state, filters)), expected, "{filters:?}");
    }

    // Of what was kept with the country alone, and of what the kernel counted without an address.
    let mut state = small();
    let mut lost = fixture::flow(0, Direction::Tx, &far(0), 7, 420);
    lost.level = Level::Overflow;
    lost.protocol = Protocol::Unknown;
    lost.attribution = crate::model::Attribution::country_alone(Country::NoEntry);
    let mut alone = lost.clone();
    alone.attribution.country = fixture::country("CN");
    alone.tally.packets = 9;
    state.apply(&fixture::record(1, vec![lost, alone]), &fixture::devices());
    for (filters, expected) in [
        (&[("prefix", "10.0.4.0/24")][..], (0, 16)),
        (&[("country", "US")], (0, 7)),
        (&[("country", "CN")], (9, 7)),
        (&[("country", "ZZ")], (7, 0)),
        (&[("asn", "4134")], (0, 16)),
        (&[("protocol", "tcp"), ("country", "CN")], (0, 16)),
    ] {
        assert_eq!(packets(&ask(&state, filters)), expected, "{filters:?}");
    }
}

#[test]
fn destinations_that_have_been_idle_give_way_to_new_ones() {
    let mut state = small();
    state.apply(&epoch(1, 0, 0..40), &fixture::devices());
    // In use all the time.
    state.apply(&epoch(DAY, 0, 0..10), &fixture::devices());
    let shown = |state: &State, number: u16| {
        let address = format!("{}/32", far(number).address.unwrap());
        packets(&ask(state, &[("prefix", &address)])).0
    };
    state.apply(&epoch(DAY + 4000, 0, 100..110), &fixture::devices());
    assert_eq!([5, 30, 105].map(|number| shown(&state, number)), [2, 0, 1]);
    // A device without a name, in a full pool: only its own give way, and only where it has any.
    for (second, device) in [(DAY + 4001, 3), (DAY + 4002, 4)] {
        state.apply(&epoch(second, device, 200..235), &fixture::devices());
    }
    state.apply(&epoch(3 * DAY, 4, 300..335), &fixture::devices());
    let all = packets(&ask(&state, &[("country", "CN")])).0;
    assert_eq!(all, 40 + 10 + 10 + 35 + 35 + 35, "sums are exact");
    assert_eq!(shown(&state, 310), 1);
    let folded = state.devices().next().unwrap().folded();
    assert_eq!((folded.address, folded.place), (30, 0));
}
