//! A sensor's state and ledger with something of everything in them, as they are made by what makes them.

use std::{path::Path, sync::Arc, time::Duration};

use labgate::{
    config::{self, Config},
    join::{Joiner, devices::Inventory},
    kernel::RawEpoch,
    model::InterfaceCounters,
    reload::open_geo,
    sinks::{
        EpochTimes, Sinks,
        ledger::{Commit, Identity, Ledger},
    },
    state::{Coverage, Keeping, Setup, Shared, Span, State},
};
use sensor_common::layout::{
    Class, Counters, Direction, FlowKey, NonIp, Reason, Tally, Totals, VLAN_TAGGED,
};

const CONFIG: &str = "
interfaces: [lan0]
devices:
  - {name: redmi, mac: 64:09:80:12:34:56, group: phones}
  - {name: watch, mac: 02:00:00:00:00:02}
policy:
  groups:
    phones: {allowed_countries: [IN]}
  watched_prefixes: [42.62.48.0/24]
networks:
  - {name: bench, prefix: 198.18.0.0/15, country: NO}
limits: {unknown_devices: 2, destinations_per_device: 16, prefixes_per_device: 4, series_expiration: 60s}
";
/// 2024-05-06 07:08:09 UTC.
const START: u64 = 1_714_979_289 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// Long enough for the state never to be out of date.
const EPOCH: Duration = Duration::from_secs(86_400);
/// When epochs end, in minutes of which the first three are folded and the last one is not.
const EPOCHS: [u64; 6] = [0, 1, 61, 122, 183, 184];
const LAST_FOLDED: u64 = 122;

/// The configuration of the bench.
pub(crate) fn config() -> Config {
    config::parse(CONFIG, "fuzz.yaml").unwrap()
}

/// Keeps some epochs in a new ledger, and returns the state after the last one.
pub(crate) fn state(config: &Config, path: &Path) -> State {
    let geo = open_geo(config).unwrap();
    let setup = Setup::new(config, &geo);
    let shared = Arc::new(Shared::new(State::new(setup), EPOCH));
    let mut sinks = Sinks::new(Arc::clone(&shared), config.policy.clone());
    let inventory = Inventory::new(&config.devices, config.limits.unknown_devices);
    let mut joiner = Joiner::new(inventory, geo);
    let (mut ledger, _, aside) = Ledger::open(path).unwrap();
    assert_eq!(aside, None);
    let coverage = vec![coverage()];
    sinks.cover(coverage.clone());
    for (number, second) in (0..).zip(EPOCHS) {
        let raw = epoch(number, START + second * SECOND);
        let record = joiner.join(&raw, vec![counters(u64::from(number))]);
        let devices = joiner.inventory().devices();
        let alerts = sinks.publish(&record, devices, EpochTimes::default());
        let (databases, limits) = sinks.attributed_by();
        let commit = Commit {
            identity: identity(number),
            quiet: None,
            devices: devices.to_vec(),
            record,
            alerts,
            coverage: coverage.clone(),
            databases,
            limits,
        };
        ledger.commit(&commit).unwrap();
        if second == LAST_FOLDED {
            ledger.fold(&sinks.snapshot(false)).unwrap();
        }
    }
    let path = path.to_owned();
    shared.change(|state| state.keep(Keeping { path, ..Keeping::default() }));
    State::clone(&shared.snapshot())
}

/// Shares a state whose last epoch has ended just now.
pub(crate) fn shared(state: State, config: &Config) -> Arc<Shared> {
    let shared = Arc::new(Shared::new(state, EPOCH));
    let inventory = Inventory::new(&config.devices, config.limits.unknown_devices);
    let mut joiner = Joiner::new(inventory, open_geo(config).unwrap());
    let record = joiner.join(&RawEpoch { ended: START, ..RawEpoch::default() }, Vec::new());
    Sinks::new(Arc::clone(&shared), config.policy.clone()).publish(
        &record,
        joiner.inventory().devices(),
        EpochTimes::default(),
    );
    shared
}

/// The epochs of one table.
pub(crate) fn identity(epoch: u32) -> Identity {
    Identity { boot: "boot".to_owned(), table: [7, 9], epoch: epoch.into() }
}

/// Every class of key, of devices that are configured, unknown and too many.
pub(crate) fn epoch(number: u32, ended: u64) -> RawEpoch {
    let mut flows = Vec::new();
    let mut totals = Totals::default();
    let far_v4 = |octets: [u8; 4]| [u64::from(u32::from_le_bytes(octets)), 0];
    let far_v6 = [u64::from_le_bytes([0x24, 0x0e, 0, 1, 0, 0, 0, 0]), 1 << 56];
    for device in 1..=6_u8 {
        let mac = if device == 1 {
            [0x64, 0x09, 0x80, 0x12, 0x34, 0x56]
        } else {
            [2, 0, 0, 0, 0, device]
        };
        for (class, protocol, port, addr) in [
            (Class::Ipv4, 6, 443, far_v4([42, 62, 48, 9])),
            (Class::Ipv4, 17, 53, far_v4([192, 168, 1, 1])),
            (Class::Ipv4, 6, 80, far_v4([198, 18, 0, device])),
            (Class::Ipv6, 6, 443, far_v6),
            (Class::NonIp, NonIp::Arp as u8, 0, [0; 2]),
            (Class::Unparsed, Reason::Ipv4Version as u8, 0, [0; 2]),
        ] {
            for direction in [Direction::Tx, Direction::Rx] {
                let [a, b, c, d, e, f] = mac;
                let [g, h] = if device == 2 { (VLAN_TAGGED | 7).to_le_bytes() } else { [0; 2] };
                let key = FlowKey {
                    mac_vlan: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                    addr,
                    rest: FlowKey::rest(u16::to_be(port), protocol, class, direction, 1),
                };
                let tally = Tally { packets: 3, bytes: 300, payload: 60 };
                totals.seen[direction as usize].add(&tally);
                flows.push((key, Counters { tally, first_seen: ended - SECOND / 2 }));
            }
        }
    }
    RawEpoch { epoch: number, ended, flows, totals, ..RawEpoch::default() }
}

fn counters(epoch: u64) -> InterfaceCounters {
    InterfaceCounters {
        name: "lan0".to_owned(),
        rx_packets: 100 * epoch,
        rx_bytes: 10_000 * epoch,
        tx_packets: 100 * epoch,
        tx_bytes: 10_000 * epoch,
        dropped: epoch,
    }
}

fn coverage() -> Coverage {
    let mut coverage = Coverage::new("lan0");
    coverage.begin(Span {
        from: START,
        to: None,
        link: "lan0".into(),
        ingress: "xdp",
        egress: "tcx",
        fallback_reason: "".into(),
        end: None,
    });
    coverage
}
