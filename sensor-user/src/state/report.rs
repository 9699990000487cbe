//! The state in the common JSON form.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use ipnet::IpNet;
use sensor_common::report::{
    Alert, Books, Coverage, Database, Destination, Device, Interface, REPORT_VERSION, Report,
    encryption,
};
use serde::{Deserialize, Serialize};

use super::{
    DeviceState, Places, State,
    rows::{FarEnd, Row, RowKey},
};
use crate::{
    join::geo,
    model::{Attribution, Country, InterfaceCounters, Protocol, Whereabouts},
};

/// How much a report tells about the far end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Country, operator, prefix, protocol and port.
    #[default]
    Prefix,
    /// Address and VLAN as well.
    Address,
}

/// RFC 3339 in UTC with milliseconds, from Unix time in nanoseconds.
pub fn rfc3339(unix_nanos: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(unix_nanos)).to_string()
}

impl State {
    /// Where a device is now; nowhere if it has not said.
    pub(super) fn whereabouts_of(&self, device: &DeviceState) -> &Whereabouts {
        static NOWHERE: Whereabouts = Whereabouts { addresses: Vec::new(), host_names: Vec::new() };
        self.whereabouts.get(&device.info().id).unwrap_or(&NOWHERE)
    }

    /// The state in the common JSON form: devices by name, destinations by bytes, most first.
    pub fn report(&self, detail: Detail) -> Report {
        let report = |device: &DeviceState| {
            device_report(device, self.whereabouts_of(device), detail, &self.places)
        };
        let mut devices: Vec<_> = self.devices().map(report).collect();
        devices.sort_by(|a, b| (&a.name, &a.mac).cmp(&(&b.name, &b.mac)));
        Report {
            version: REPORT_VERSION,
            time: rfc3339(self.ended),
            devices,
            alerts: self.alerts().map(|alert| self.alert_report(alert)).collect(),
            books: self.books_report(),
            interfaces: self.interfaces_report(),
            databases: self
                .databases()
                .map(|(status, stale)| database_report(status, stale))
                .collect(),
            attribution: self.setup.attribution.clone(),
            replay: None,
        }
    }

    pub(super) fn alert_report(&self, alert: &super::Alert) -> Alert {
        Alert {
            rule: alert.rule.name().to_owned(),
            device: self.name_of(alert.device).to_owned(),
            country: alert.country.to_string(),
            severity: alert.rule.severity().to_owned(),
            since: rfc3339(alert.since),
            last_seen: rfc3339(alert.last_seen),
            prefix: alert.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
            asn: alert.asn,
            operator: alert.operator.to_string(),
        }
    }

    /// The interfaces, and when each was watched.
    pub fn interfaces_report(&self) -> Vec<Interface> {
        self.coverage.iter().map(|interface| interface_report(interface, self.ended)).collect()
    }

    pub(super) fn books_report(&self) -> Books {
        let mut interfaces = InterfaceCounters::default();
        self.interfaces.iter().for_each(|interface| interfaces.add(interface));
        Books {
            seen_packets: self.books.seen.packets,
            seen_bytes: self.books.seen.bytes,
            attributed_packets: self.books.attributed.packets,
            coarse_packets: self.books.coarse.packets,
            overflow_packets: self.books.overflow.packets,
            unparsed_packets: self.books.unparsed.packets,
            interface_packets: interfaces.rx_packets.saturating_add(interfaces.tx_packets),
            interface_bytes: interfaces.rx_bytes.saturating_add(interfaces.tx_bytes),
            closed: self.open_epochs == 0,
        }
    }
}

fn interface_report(interface: &super::Coverage, now: u64) -> Interface {
    let (current, link) = (interface.current(), interface.link.as_ref());
    let millis = interface.covered(now).as_millis();
    Interface {
        name: interface.name.to_string(),
        configured: interface.configured,
        watched: current.is_some(),
        ingress: current.map(|span| span.ingress).unwrap_or_default().to_owned(),
        egress: current.map(|span| span.egress).unwrap_or_default().to_owned(),
        fallback_reason: current.map(|span| span.fallback_reason.to_string()).unwrap_or_default(),
        reason: interface.reason.clone(),
        link: link.map(|link| link.name.clone()).unwrap_or_default(),
        up: link.is_some_and(|link| link.up),
        mtu: link.map_or(0, |link| link.mtu),
        covered_milliseconds: u64::try_from(millis).unwrap_or(u64::MAX),
        coverage: interface.spans().map(span_report).collect(),
        earlier_coverage: interface.forgotten(),
    }
}

fn span_report(span: &super::Span) -> Coverage {
    Coverage {
        from: rfc3339(span.from),
        to: span.to.map(rfc3339).unwrap_or_default(),
        link: span.link.to_string(),
        ingress: span.ingress.to_owned(),
        egress: span.egress.to_owned(),
        fallback_reason: span.fallback_reason.to_string(),
        end: span.end.map(super::End::name).unwrap_or_default().to_owned(),
    }
}

fn database_report(status: &geo::Status, stale: bool) -> Database {
    Database {
        role: status.role.to_string(),
        kind: status.kind.clone(),
        build_time: rfc3339(status.build_time.saturating_mul(1_000_000_000)),
        stale,
        source: status.source.clone(),
        sha256: status.sha256.clone(),
    }
}

/// What a report tells two destinations apart by, in the order that breaks ties of bytes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DestinationKey<'a> {
    country: Country,
    asn: u32,
    operator: &'a str,
    prefix: Option<IpNet>,
    network: &'a str,
    protocol: Protocol,
    port: u16,
    address: Option<IpAddr>,
    /// `None` without address detail.
    vlan: Option<u16>,
}

/// Rows of a device, as a report tells them apart.
pub(super) type Destinations<'a> = BTreeMap<DestinationKey<'a>, Row>;

/// Sums up the rows that `keep` takes.
pub(super) fn destinations_of<'a>(
    device: &DeviceState,
    detail: Detail,
    places: &'a Places,
    keep: impl Fn(&Attribution, &RowKey) -> bool,
) -> Destinations<'a> {
    let mut destinations = Destinations::new();
    for (key, row) in device.rows() {
        let place = places.get(key.place);
        if !keep(place, key) {
            continue;
        }
        let exact = key.far.filter(|_| detail == Detail::Address);
        let key = DestinationKey {
            country: place.country,
            asn: place.asn,
            operator: &place.operator,
            prefix: place.prefix,
            network: &place.network,
            protocol: key.protocol,
            port: key.far.map_or(0, |far| far.port),
            address: exact.and_then(|far| far.address),
            vlan: exact.map(|FarEnd { vlan, .. }| vlan.unwrap_or(0)),
        };
        destinations
            .entry(key)
            .and_modify(|sum| {
                sum.traffic.merge(&row.traffic);
                sum.contact.merge(&row.contact);
            })
            .or_insert(*row);
    }
    destinations
}

pub(super) fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn device_report(
    device: &DeviceState,
    whereabouts: &Whereabouts,
    detail: Detail,
    places: &Places,
) -> Device {
    // Stable: equal bytes stay in the order of their keys.
    let mut destinations: Vec<_> =
        destinations_of(device, detail, places, |_, _| true).into_iter().collect();
    destinations.sort_by_key(|(_, row)| Reverse(row.traffic.tx.bytes + row.traffic.rx.bytes));

    let info = device.info();
    Device {
        name: info.name.to_string(),
        mac: info.mac_list(),
        vendor: info.vendor.to_string(),
        random_mac: info.random_mac(),
        group: info.group.to_string(),
        addresses: texts(&whereabouts.addresses),
        host_names: texts(&whereabouts.host_names),
        destinations: destinations
            .into_iter()
            .map(|(key, row)| destination_report(&key, &row))
            .collect(),
    }
}

pub(super) fn destination_report(key: &DestinationKey<'_>, row: &Row) -> Destination {
    let protocol = key.protocol.to_string();
    Destination {
        encryption: encryption(&protocol, key.port).to_owned(),
        country: key.country.to_string(),
        asn: key.asn,
        operator: key.operator.to_owned(),
        prefix: key.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
        network: key.network.to_owned(),
        protocol,
        port: key.port,
        // What the gateway sent in the far end's name is no word of it.
        answered: row.traffic.rx.packets > 0 && !matches!(key.protocol, Protocol::Rejected(_)),
        address: key.address.map(|address| address.to_string()),
        vlan: key.vlan,
        tx_packets: row.traffic.tx.packets,
        tx_bytes: row.traffic.tx.bytes,
        rx_packets: row.traffic.rx.packets,
        rx_bytes: row.traffic.rx.bytes,
        first_seen: rfc3339(row.contact.first),
        last_seen: rfc3339(row.contact.last),
    }
}
