//! The join: what the kernel counted meets the device inventory and the geo databases.

pub mod devices;
pub mod geo;
pub mod special;
pub mod vendor;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use sensor_common::layout::{Class, Counters, FlowKey, NonIp, Outcome, Reason, Tally};

use self::{devices::Inventory, geo::GeoDb};
use crate::{
    kernel::RawEpoch,
    model::{
        Attribution, Country, Direction, EpochBooks, EpochRecord, Flow, InterfaceCounters, Level,
        Mac, Outcomes, Protocol,
    },
};

/// Turns what lay in the maps into records.
#[derive(Debug)]
pub struct Joiner {
    inventory: Inventory,
    geo: GeoDb,
    nowhere: Attribution,
}

impl Joiner {
    /// A join against these devices and databases.
    pub fn new(inventory: Inventory, geo: GeoDb) -> Self {
        let nowhere = Attribution {
            country: Country::NoAddress,
            asn: 0,
            operator: Arc::from(""),
            prefix: None,
            watched: false,
        };
        Self { inventory, geo, nowhere }
    }

    /// The devices known so far.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Joins one epoch. `interfaces` are the interfaces' own counters since the sensor attached.
    pub fn join(&mut self, raw: &RawEpoch, interfaces: Vec<InterfaceCounters>) -> EpochRecord {
        let mut flows = Vec::with_capacity(raw.flows.len());
        let mut addresses = HashMap::new();
        for (level, rows) in [(Level::Flow, &raw.flows), (Level::Coarse, &raw.coarse)] {
            for (key, counters) in merge_cpus(rows) {
                flows.push(self.flow(level, &key, &counters, &mut addresses));
            }
        }
        for (mac, overflow) in &raw.overflow {
            let device = self.inventory.resolve(*mac);
            flows.extend(self.without_detail(device, overflow, raw.ended));
        }
        flows.extend(self.without_detail(Inventory::POOL, &raw.totals.pool, raw.ended));
        EpochRecord {
            epoch: raw.epoch,
            ended: raw.ended,
            books: books(&raw.totals.seen, &flows),
            outcomes: outcomes(&raw.totals.outcomes, &flows),
            flows,
            interfaces,
        }
    }

    fn flow(
        &mut self,
        level: Level,
        key: &FlowKey,
        counters: &Counters,
        addresses: &mut HashMap<IpAddr, Attribution>,
    ) -> Flow {
        let address = far_address(key);
        let attribution = match address {
            None => self.nowhere.clone(),
            Some(address) => {
                addresses.entry(address).or_insert_with(|| self.geo.lookup(address)).clone()
            }
        };
        Flow {
            device: self.inventory.resolve(Mac(key.mac())),
            direction: key.direction(),
            level,
            address,
            attribution,
            protocol: protocol(key),
            port: key.port(),
            vlan: key.vlan(),
            tally: counters.tally,
            first_seen: counters.first_seen,
        }
    }

    /// Rows for packets of which the kernel kept the device and direction alone.
    fn without_detail(
        &self,
        device: crate::model::DeviceId,
        tallies: &[Tally; 2],
        ended: u64,
    ) -> impl Iterator<Item = Flow> {
        [(Direction::Tx, tallies[0]), (Direction::Rx, tallies[1])]
            .into_iter()
            .filter(|(_, tally)| tally.packets > 0)
            .map(move |(direction, tally)| Flow {
                device,
                direction,
                level: Level::Overflow,
                address: None,
                attribution: self.nowhere.clone(),
                protocol: Protocol::Unknown,
                port: 0,
                vlan: None,
                tally,
                first_seen: ended,
            })
    }
}

/// One row per key: each CPU that saw a key has counted its part.
fn merge_cpus(rows: &[(FlowKey, Counters)]) -> HashMap<FlowKey, Counters> {
    let mut merged: HashMap<FlowKey, Counters> = HashMap::with_capacity(rows.len());
    for (key, counters) in rows {
        merged
            .entry(*key)
            .and_modify(|sum| {
                sum.tally.add(&counters.tally);
                sum.first_seen = sum.first_seen.min(counters.first_seen);
            })
            .or_insert(*counters);
    }
    merged
}

fn far_address(key: &FlowKey) -> Option<IpAddr> {
    match key.class() {
        Class::Ipv4 => Some(Ipv4Addr::from(key.ipv4()).into()),
        Class::Ipv6 => Some(Ipv6Addr::from(key.ipv6()).into()),
        Class::NonIp | Class::Unparsed => None,
    }
}

fn protocol(key: &FlowKey) -> Protocol {
    match key.class() {
        Class::Ipv4 | Class::Ipv6 => Protocol::Ip(key.protocol()),
        Class::NonIp => Protocol::NonIp(NonIp::name(key.protocol())),
        Class::Unparsed => Protocol::Unparsed(Reason::name(key.protocol())),
    }
}

/// The balance: entries on one side, where each packet was counted on the other.
fn books(seen: &[Tally; 2], flows: &[Flow]) -> EpochBooks {
    let mut books = EpochBooks::default();
    for tally in seen {
        books.seen.add(tally);
    }
    for flow in flows {
        let side = match (flow.level, flow.protocol) {
            (Level::Overflow, _) => &mut books.overflow,
            (_, Protocol::Unparsed(_)) => &mut books.unparsed,
            (Level::Flow, _) => &mut books.attributed,
            (Level::Coarse, _) => &mut books.coarse,
        };
        side.add(&flow.tally);
    }
    books
}

/// The kernel's events by name, and unparsed packets by reason.
fn outcomes(counts: &[u64], flows: &[Flow]) -> Outcomes {
    let mut outcomes: Outcomes =
        Outcome::ALL.iter().map(|(outcome, name)| (*name, counts[*outcome as usize])).collect();
    for flow in flows {
        if let Protocol::Unparsed(reason) = flow.protocol {
            match outcomes.iter_mut().find(|(name, _)| *name == reason) {
                Some((_, count)) => *count += flow.tally.packets,
                None => outcomes.push((reason, flow.tally.packets)),
            }
        }
    }
    outcomes
}
