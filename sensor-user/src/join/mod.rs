//! The join: what the kernel counted meets the device inventory and the geo databases.

pub mod devices;
pub mod geo;
mod names;
pub mod special;
pub mod vendor;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sensor_common::layout::{Class, Counters, FlowKey, NonIp, Outcome, Reason, Tally};

use self::{devices::Inventory, geo::GeoDb};
use crate::{
    config::DeviceConfig,
    kernel::RawEpoch,
    model::{
        Attribution, Country, DeviceId, DeviceInfo, Direction, EpochBooks, EpochRecord, Flow,
        InterfaceCounters, Level, Mac, Outcomes, Protocol,
    },
};

/// Turns what lay in the maps into records.
#[derive(Debug)]
pub struct Joiner {
    inventory: Inventory,
    geo: GeoDb,
    /// Of packets without an address.
    nowhere: Attribution,
    /// Of packets whose address could not be kept.
    anywhere: Attribution,
}

impl Joiner {
    /// A join against these devices and databases.
    pub fn new(inventory: Inventory, geo: GeoDb) -> Self {
        let nowhere = Attribution::country_alone(Country::NoAddress);
        let anywhere = Attribution::country_alone(Country::NoEntry);
        Self { inventory, geo, nowhere, anywhere }
    }

    /// Joins against these devices and databases from here on; what was seen keeps its name and place.
    pub fn exchange(&mut self, configured: &[DeviceConfig], geo: GeoDb) {
        self.inventory.configure(configured);
        self.geo = geo;
    }

    /// Goes on with these configured devices.
    pub fn configure(&mut self, configured: &[DeviceConfig]) {
        self.inventory.configure(configured);
    }

    /// The devices about whom something else is known than when this was last asked: what they are called, above all.
    pub fn take_changed(&mut self) -> Vec<DeviceInfo> {
        self.inventory.take_changed()
    }

    /// Goes on with these devices.
    pub fn begin_again(&mut self, inventory: Inventory) {
        self.inventory = inventory;
    }

    /// The devices known so far.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Joins one epoch. `interfaces` are the interfaces' own counters since the sensor attached.
    pub fn join(&mut self, raw: &RawEpoch, interfaces: Vec<InterfaceCounters>) -> EpochRecord {
        let mut flows = Vec::with_capacity(raw.flows.len());
        for (level, rows) in [(Level::Flow, &raw.flows), (Level::Coarse, &raw.coarse)] {
            let mut last = None;
            for (key, counters) in merge_cpus(rows) {
                flows.push(self.flow(level, &key, &counters, &mut last));
            }
        }
        for (mac, overflow) in &raw.overflow {
            for direction in [Direction::Tx, Direction::Rx] {
                let device = self.inventory.resolve(*mac, direction);
                flows.extend(self.without_detail(device, direction, overflow, raw.ended));
            }
        }
        for direction in [Direction::Tx, Direction::Rx] {
            let pool = &raw.totals.pool;
            flows.extend(self.without_detail(Inventory::POOL, direction, pool, raw.ended));
        }
        let books = books(&raw.totals.seen, &flows);
        EpochRecord {
            epoch: raw.epoch,
            ended: raw.ended,
            open: !books.closed(),
            books,
            outcomes: outcomes(&raw.totals.outcomes, &flows),
            flows,
            tables: raw.tables.clone(),
            interfaces,
            links: Vec::new(),
        }
    }

    /// `last` is the last address that was looked up: rows come sorted by address.
    fn flow(
        &mut self,
        level: Level,
        key: &FlowKey,
        counters: &Counters,
        last: &mut Option<(IpAddr, Attribution)>,
    ) -> Flow {
        let address = far_address(key);
        let attribution = match (address, last) {
            (None, _) => self.nowhere.clone(),
            (Some(address), Some((looked_up, found))) if *looked_up == address => found.clone(),
            (Some(address), last) => {
                let found = match level {
                    Level::Coarse => self.geo.lookup_network(coarse_network(address)),
                    Level::Flow | Level::Overflow => self.geo.lookup(address),
                };
                last.insert((address, found)).1.clone()
            }
        };
        let direction = key.direction();
        Flow {
            device: self.inventory.resolve(Mac(key.mac()), direction),
            direction,
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

    /// The row for packets of which the kernel kept the device and direction alone.
    fn without_detail(
        &self,
        device: DeviceId,
        direction: Direction,
        tallies: &[Tally; 2],
        ended: u64,
    ) -> Option<Flow> {
        let tally = tallies[direction as usize];
        (tally != Tally::default()).then(|| Flow {
            device,
            direction,
            level: Level::Overflow,
            address: None,
            attribution: self.anywhere.clone(),
            protocol: Protocol::Unknown,
            port: 0,
            vlan: None,
            tally,
            first_seen: ended,
        })
    }
}

/// One row per key, by address: each CPU that saw a key has counted its part. Neighbours in a
/// database's tree are then looked up one after the other, which halves the time that takes.
fn merge_cpus(rows: &[(FlowKey, Counters)]) -> Vec<(FlowKey, Counters)> {
    let mut rows = rows.to_vec();
    rows.sort_unstable_by_key(|(key, _)| {
        (key.addr.map(u64::swap_bytes), key.class() as u8, key.mac_vlan, key.rest)
    });
    rows.dedup_by(|(key, counters), (kept, sum)| {
        let same = key == kept;
        if same {
            sum.tally.add(&counters.tally);
            sum.first_seen = sum.first_seen.min(counters.first_seen);
        }
        same
    });
    rows
}

fn far_address(key: &FlowKey) -> Option<IpAddr> {
    match key.class() {
        Class::Ipv4 => Some(Ipv4Addr::from(key.ipv4()).into()),
        Class::Ipv6 => Some(Ipv6Addr::from(key.ipv6()).into()),
        Class::NonIp | Class::Unparsed => None,
    }
}

/// What the coarse level keeps of an address.
fn coarse_network(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => Ipv4Net::new_assert(address, 24).trunc().into(),
        IpAddr::V6(address) => Ipv6Net::new_assert(address, 48).trunc().into(),
    }
}

fn protocol(key: &FlowKey) -> Protocol {
    match key.class() {
        Class::Ipv4 | Class::Ipv6 if key.is_rejected() => Protocol::Rejected(key.protocol()),
        Class::Ipv4 | Class::Ipv6 if key.is_routed() => Protocol::Routed(key.protocol()),
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

#[cfg(test)]
mod tests {
    use sensor_common::layout::{MARK_REJECTED, MARK_ROUTED, Totals};

    use super::{geo::Source, *};

    #[test]
    fn what_several_cpus_counted_is_one_row() {
        let row = |address: [u8; 4], port: u16, packets, first_seen| {
            let [a, b, c, d] = address;
            let addr = [u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0]), 0];
            let rest = FlowKey::rest(port.to_be(), 17, Class::Ipv4, Direction::Tx, 1);
            let tally = Tally { packets, bytes: 60 * packets, payload: 18 * packets };
            (FlowKey { mac_vlan: 2, addr, rest }, Counters { tally, first_seen })
        };
        let rows = [
            row([9, 9, 9, 9], 53, 1, 40),
            row([1, 2, 3, 4], 53, 2, 30),
            row([9, 9, 9, 9], 443, 4, 20),
            row([9, 9, 9, 9], 53, 8, 10),
            row([9, 9, 9, 9], 53, 16, 30),
        ];
        let merged = merge_cpus(&rows);
        let by_address = [row([1, 2, 3, 4], 53, 2, 30), row([9, 9, 9, 9], 53, 25, 10), rows[2]];
        assert_eq!(merged, by_address);
    }

    #[test]
    fn marks_make_protocols_of_their_own() {
        let mark = |class, marks| {
            let rest = FlowKey::rest(0, 6, class, Direction::Rx, 1);
            protocol(&FlowKey { rest, ..FlowKey::default() }.marked(marks))
        };
        for class in [Class::Ipv4, Class::Ipv6] {
            assert_eq!(mark(class, 0), Protocol::Ip(6));
            assert_eq!(mark(class, MARK_REJECTED), Protocol::Rejected(6));
            assert_eq!(mark(class, MARK_ROUTED), Protocol::Routed(6));
            assert_eq!(mark(class, MARK_REJECTED | MARK_ROUTED), Protocol::Rejected(6));
        }
    }

    /// A policy must not take what could not be kept for something without an address.
    #[test]
    fn lost_addresses_may_lie_in_any_country() {
        let geo = GeoDb::open(&Source::Default, &Source::Default, &[], &[]).unwrap();
        let mut joiner = Joiner::new(Inventory::new(&[], 1), geo);
        let tally = Tally { packets: 3, bytes: 180, payload: 0 };
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let mut raw = RawEpoch {
            overflow: vec![(mac, [tally, Tally::default()])],
            totals: Totals { seen: [tally; 2], ..Totals::default() },
            ..RawEpoch::default()
        };
        raw.totals.pool[1] = tally;
        let record = joiner.join(&raw, Vec::new());
        let rows: Vec<_> = record
            .flows
            .iter()
            .map(|flow| (flow.direction, flow.level, flow.attribution.country, flow.tally))
            .collect();
        let lost = |direction| (direction, Level::Overflow, Country::NoEntry, tally);
        assert_eq!(rows, [lost(Direction::Tx), lost(Direction::Rx)]);
        assert_eq!(record.flows[1].device, Inventory::POOL);
        assert!(record.books.closed());
    }
}
