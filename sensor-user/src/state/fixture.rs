//! A small bench for the tests of the state and the sinks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Coverage, LinkState, Span};
use crate::{
    config::Policy,
    model::{
        Attribution, Country, DeviceId, DeviceInfo, DeviceKind, Direction, EpochBooks, EpochRecord,
        Flow, InterfaceCounters, Level, Mac, Protocol, TableUse, Tally,
    },
};

/// 2026-01-01T00:00:00Z in Unix nanoseconds.
pub(crate) const START: u64 = 1_767_225_600_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// One interface, watched since [`START`].
pub(crate) fn coverage(ingress: &'static str, fallback_reason: &str) -> Coverage {
    let mut coverage = Coverage::new("lan0");
    coverage.link = Some(LinkState { name: "lan0".to_owned(), up: true, mtu: 1500 });
    coverage.begin(Span {
        from: START,
        to: None,
        link: "lan0".into(),
        ingress,
        egress: "tcx",
        fallback_reason: fallback_reason.into(),
        end: None,
    });
    coverage
}

/// The far end of a flow.
#[derive(Debug, Clone)]
pub(crate) struct Far {
    pub(crate) country: Country,
    pub(crate) asn: u32,
    pub(crate) operator: &'static str,
    pub(crate) prefix: Option<IpNet>,
    pub(crate) watched: bool,
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Default for Far {
    fn default() -> Self {
        Self {
            country: Country::NoAddress,
            asn: 0,
            operator: "",
            prefix: None,
            watched: false,
            address: None,
            port: 0,
        }
    }
}

pub(crate) fn country(code: &str) -> Country {
    match code {
        "ZZ" => Country::NoEntry,
        _ => Country::Iso(code.as_bytes().try_into().unwrap()),
    }
}

/// Two phones, a camera of a group without a policy, an unknown device, multicast, and the pool.
pub(crate) fn devices() -> Vec<DeviceInfo> {
    let device = |id: u32, name: &str, mac: &str, vendor: &str, group: &str, kind| DeviceInfo {
        id: DeviceId(id),
        name: name.into(),
        macs: mac.split(',').filter(|m| !m.is_empty()).map(|m| m.parse::<Mac>().unwrap()).collect(),
        vendor: vendor.into(),
        group: group.into(),
        kind,
        part_of: None,
    };
    vec![
        device(
            0,
            "redmi",
            "64:b4:73:00:00:01,02:00:00:00:00:01",
            "Xiaomi",
            "phones",
            DeviceKind::Configured,
        ),
        device(1, "watch", "02:00:00:00:00:02", "", "phones", DeviceKind::Configured),
        device(2, "camera", "00:16:3e:00:00:03", "Xensource", "cameras", DeviceKind::Configured),
        device(3, "02:00:00:00:00:99", "02:00:00:00:00:99", "", "", DeviceKind::Unknown),
        device(4, "01:00:5e:00:00:fb", "01:00:5e:00:00:fb", "", "", DeviceKind::Group),
        device(5, "unknown", "", "", "", DeviceKind::Pool),
    ]
}

/// What allows these devices everything.
pub(crate) fn lenient() -> Policy {
    let groups = ["phones", "cameras"].map(str::to_owned);
    Policy { groups_without_rules: groups.into(), ..Policy::default() }
}

/// A UDP flow whose first packet comes half a second after [`START`].
pub(crate) fn flow(device: u32, direction: Direction, far: &Far, packets: u64, bytes: u64) -> Flow {
    Flow {
        device: DeviceId(device),
        direction,
        level: Level::Flow,
        address: far.address,
        attribution: Attribution {
            country: far.country,
            asn: far.asn,
            operator: far.operator.into(),
            prefix: far.prefix,
            network: "".into(),
            watched: far.watched,
        },
        protocol: Protocol::Ip(17),
        port: far.port,
        vlan: None,
        tally: Tally { packets, bytes, payload: bytes.saturating_sub(42 * packets) },
        first_seen: START + SECOND / 2,
    }
}

/// The `number`th second, with closed books.
pub(crate) fn record(number: u32, flows: Vec<Flow>) -> EpochRecord {
    let mut books = EpochBooks::default();
    for flow in &flows {
        books.seen.add(&flow.tally);
        match flow.level {
            Level::Flow => books.attributed.add(&flow.tally),
            Level::Coarse => books.coarse.add(&flow.tally),
            Level::Overflow => books.overflow.add(&flow.tally),
        }
    }
    EpochRecord {
        epoch: number,
        ended: START + u64::from(number) * SECOND,
        interfaces: vec![InterfaceCounters {
            name: "lan0".into(),
            rx_packets: books.seen.packets,
            rx_bytes: books.seen.bytes,
            ..InterfaceCounters::default()
        }],
        flows,
        open: !books.closed(),
        books,
        outcomes: vec![("slot_claimed", 2), ("quota", 0)],
        tables: vec![TableUse { table: "coarse", entries: 7, capacity: 1024 }],
        links: Vec::new(),
    }
}
