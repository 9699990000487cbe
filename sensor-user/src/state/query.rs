//! Parts of the report, chosen by filters. What a query costs is bounded by the state and its limit.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use sensor_common::report::{
    AlertList, BooksAnswer, DestinationList, DestinationRow, DeviceList, DeviceSummary,
    REPORT_VERSION, Total,
};

use super::{
    Alert, Contact, Detail, DeviceRef, DeviceState, OperatorRef, Places, Rule, State,
    report::{DestinationKey, Destinations, destination_report, destinations_of, texts},
    rfc3339,
    rows::{Row, RowKey},
};
use crate::model::{Attribution, Country, DeviceId, Protocol};

/// Which devices; a `None` leaves all through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceQuery {
    /// One device.
    pub device: Option<DeviceRef>,
    /// Devices of this group.
    pub group: Option<String>,
    /// Devices that were in contact with it.
    pub country: Option<Country>,
    /// What was counted from a moment on until right before another, Unix time in nanoseconds; else everything.
    pub period: Option<(u64, u64)>,
}

/// Which destinations; a `None` leaves all through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationQuery {
    /// Of one device.
    pub device: Option<DeviceRef>,
    /// Of devices of this group.
    pub group: Option<String>,
    /// There.
    pub country: Option<Country>,
    /// Of this autonomous system; 0 for none.
    pub asn: Option<u32>,
    /// Of this operator.
    pub operator: Option<OperatorRef>,
    /// Over this protocol.
    pub protocol: Option<Protocol>,
    /// At this port; 0 for none.
    pub port: Option<u16>,
    /// Inside this network. Where the address was not kept, the whole prefix has to lie inside.
    pub within: Option<IpNet>,
    /// What was counted from a moment on until right before another, Unix time in nanoseconds; else everything.
    pub period: Option<(u64, u64)>,
    /// How fine the rows are.
    pub detail: Detail,
    /// Most rows.
    pub limit: usize,
}

/// Which alerts; a `None` leaves all through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertQuery {
    /// Of one device.
    pub device: Option<DeviceRef>,
    /// By this rule.
    pub rule: Option<Rule>,
    /// Of this severity.
    pub severity: Option<String>,
    /// For this country.
    pub country: Option<Country>,
    /// Raised at or after it, Unix time in nanoseconds.
    pub since: Option<u64>,
    /// Most alerts.
    pub limit: usize,
}

impl State {
    /// The devices with totals in place of their destinations, by name.
    pub fn device_list(&self, query: &DeviceQuery) -> DeviceList {
        let mut alerts = HashMap::<DeviceId, u64>::new();
        for alert in self.alerts() {
            *alerts.entry(alert.device).or_default() += 1;
        }
        let mut devices: Vec<_> = self
            .devices_of(query.device.as_ref())
            .filter(|device| {
                query.group.as_ref().is_none_or(|group| *device.info().group == **group)
            })
            .filter(|device| {
                let touched = |country| countries_of(device, &self.places).contains(&country);
                query.country.is_none_or(touched)
            })
            .map(|device| {
                let alerts = alerts.get(&device.info().id).copied().unwrap_or_default();
                self.device_summary(device, contact_of(device), alerts)
            })
            .collect();
        devices.sort_by(|a, b| (&a.name, &a.mac).cmp(&(&b.name, &b.mac)));
        DeviceList {
            version: REPORT_VERSION,
            time: rfc3339(self.ended),
            devices,
            period: None,
            attribution: self.setup.attribution.clone(),
        }
    }

    fn device_summary(
        &self,
        device: &DeviceState,
        contact: Option<Contact>,
        alerts: u64,
    ) -> DeviceSummary {
        let sum = device.total();
        let countries = countries_of(device, &self.places);
        let destinations = destinations_of(device, Detail::Prefix, &self.places, |_, _| true);
        let info = device.info();
        let whereabouts = self.whereabouts_of(device);
        DeviceSummary {
            name: info.name.to_string(),
            mac: info.mac_list(),
            vendor: info.vendor.to_string(),
            random_mac: info.random_mac(),
            group: info.group.to_string(),
            addresses: texts(&whereabouts.addresses),
            host_names: texts(&whereabouts.host_names),
            countries: countries.iter().map(ToString::to_string).collect(),
            destinations: destinations.len() as u64,
            alerts,
            tx_packets: sum.tx.packets,
            tx_bytes: sum.tx.bytes,
            rx_packets: sum.rx.packets,
            rx_bytes: sum.rx.bytes,
            first_seen: contact.map(|contact| rfc3339(contact.first)),
            last_seen: contact.map(|contact| rfc3339(contact.last)),
        }
    }

    /// The destinations of all devices, by bytes, most first.
    pub fn destination_list(&self, query: &DestinationQuery) -> DestinationList {
        let mut rows =
            TopRows { limit: query.limit, rows: Vec::new(), matched: 0, total: Total::default() };
        let is_in_group = |device: &&DeviceState| {
            query.group.as_ref().is_none_or(|group| *device.info().group == **group)
        };
        for device in self.devices_of(query.device.as_ref()).filter(is_in_group) {
            let keep = |place: &Attribution, key: &RowKey| query.is_for(place, key);
            rows.add(device, destinations_of(device, query.detail, &self.places, keep));
        }
        let (matched, total) = (rows.matched, rows.total);
        let rows = rows.finish(self);
        DestinationList {
            version: REPORT_VERSION,
            time: rfc3339(self.ended),
            period: None,
            matched,
            truncated: (rows.len() as u64) < matched,
            total,
            destinations: rows,
            possible: self.possible(query),
            attribution: self.setup.attribution.clone(),
        }
    }

    /// Rows that were counted with less detail than a query asks for, and may hold more of it.
    fn possible(&self, query: &DestinationQuery) -> Vec<DestinationRow> {
        let mut rows =
            TopRows { limit: query.limit, rows: Vec::new(), matched: 0, total: Total::default() };
        let is_in_group = |device: &&DeviceState| {
            query.group.as_ref().is_none_or(|group| *device.info().group == **group)
        };
        for device in self.devices_of(query.device.as_ref()).filter(is_in_group) {
            let keep = |place: &Attribution, key: &RowKey| query.may_be_for(place, key);
            rows.add(device, destinations_of(device, Detail::Prefix, &self.places, keep));
        }
        rows.finish(self)
    }

    /// The alerts, oldest first; where there are too many, the newest.
    pub fn alert_list(&self, query: &AlertQuery) -> AlertList {
        let device = query.device.as_ref().map(|device| self.resolved(device));
        let is_asked = |alert: &Alert| {
            let info = self.devices.get(&alert.device).map(DeviceState::info);
            device.as_ref().is_none_or(|asked| info.is_some_and(|info| asked.is(info)))
        };
        let mut alerts: Vec<_> = self
            .alerts()
            .filter(|alert| is_asked(alert))
            .filter(|alert| query.rule.is_none_or(|rule| alert.rule == rule))
            .filter(|alert| query.severity.as_ref().is_none_or(|s| alert.rule.severity() == s))
            .filter(|alert| query.country.is_none_or(|country| alert.country == country))
            .filter(|alert| is_since(Some(alert.since), query.since))
            .collect();
        let matched = alerts.len();
        alerts.drain(..matched.saturating_sub(query.limit));
        AlertList {
            version: REPORT_VERSION,
            time: rfc3339(self.ended),
            matched: matched as u64,
            truncated: alerts.len() < matched,
            alerts: alerts.into_iter().map(|alert| self.alert_report(alert)).collect(),
            attribution: self.setup.attribution.clone(),
        }
    }

    /// The books, and the interfaces that they are about.
    pub fn books_answer(&self) -> BooksAnswer {
        BooksAnswer {
            version: REPORT_VERSION,
            time: rfc3339(self.ended),
            books: self.books_report(),
            interfaces: self.interfaces_report(),
        }
    }

    fn devices_of(&self, device: Option<&DeviceRef>) -> impl Iterator<Item = &DeviceState> {
        let device = device.map(|device| self.resolved(device));
        self.devices()
            .filter(move |known| device.as_ref().is_none_or(|device| device.is(known.info())))
    }
}

impl DestinationQuery {
    fn is_for(&self, place: &Attribution, key: &RowKey) -> bool {
        self.country.is_none_or(|country| place.country == country)
            && self.asn.is_none_or(|asn| place.asn == asn)
            && self.operator.as_ref().is_none_or(|operator| operator.is(place))
            && self.protocol.is_none_or(|protocol| key.protocol == protocol)
            && self.port.is_none_or(|port| key.far.map_or(0, |far| far.port) == port)
            && self.within.is_none_or(|net| lies_within(place, key, &net))
    }

    /// Whether what is asked for may be in a row of which that can't be told, since its far end was not kept; no `ZZ`
    /// tells the country there, and without a prefix no number the operator.
    fn may_be_for(&self, place: &Attribution, key: &RowKey) -> bool {
        if key.far.is_some() || self.is_for(place, key) {
            return false;
        }
        let is_anywhere = place.country == Country::NoEntry;
        let has_operator = place.prefix.is_some() && !is_anywhere;
        let has_address = place.country != Country::NoAddress;
        let overlaps = |net: &IpNet| {
            place.prefix.is_none_or(|prefix| prefix.contains(net) || net.contains(&prefix))
        };
        self.country.is_none_or(|country| is_anywhere || place.country == country)
            && self.asn.is_none_or(|asn| place.asn == asn || (has_address && !has_operator))
            && self
                .operator
                .as_ref()
                .is_none_or(|operator| operator.is(place) || (has_address && !has_operator))
            && self.protocol.is_none_or(|protocol| {
                key.protocol == protocol || key.protocol == Protocol::Unknown
            })
            && self.port.is_none_or(|port| port == 0 || has_address)
            && self.within.is_none_or(|net| has_address && overlaps(&net))
    }
}

fn lies_within(place: &Attribution, key: &RowKey, net: &IpNet) -> bool {
    match key.far {
        Some(far) => far.address.is_some_and(|address: IpAddr| net.contains(&address)),
        None => place.prefix.is_some_and(|prefix| net.contains(&prefix)),
    }
}

fn is_since(time: Option<u64>, since: Option<u64>) -> bool {
    since.is_none_or(|since| time.is_some_and(|time| time >= since))
}

/// Countries and classes of special ranges that a device exchanged packets with.
fn countries_of(device: &DeviceState, places: &Places) -> BTreeSet<Country> {
    let countries = device.rows().map(|(key, _)| places.get(key.place).country);
    countries.filter(|country| *country != Country::NoAddress).collect()
}

fn contact_of(device: &DeviceState) -> Option<Contact> {
    device.rows().map(|(_, row)| row.contact).reduce(|mut all, contact| {
        all.merge(&contact);
        all
    })
}

/// The rows with the most bytes. Never holds more than twice the limit and one device's.
struct TopRows<'a> {
    limit: usize,
    rows: Vec<(Rank<'a>, Row, &'a DeviceState)>,
    matched: u64,
    total: Total,
}

/// Orders rows, and tells them all apart.
type Rank<'a> = (Reverse<u64>, &'a str, DeviceId, DestinationKey<'a>);

impl<'a> TopRows<'a> {
    fn add(&mut self, device: &'a DeviceState, rows: Destinations<'a>) {
        let info = device.info();
        self.matched += rows.len() as u64;
        for Row { traffic, .. } in rows.values() {
            for (sum, more) in [
                (&mut self.total.tx_packets, traffic.tx.packets),
                (&mut self.total.tx_bytes, traffic.tx.bytes),
                (&mut self.total.rx_packets, traffic.rx.packets),
                (&mut self.total.rx_bytes, traffic.rx.bytes),
            ] {
                *sum = sum.saturating_add(more);
            }
        }
        self.rows.extend(rows.into_iter().map(|(key, row)| {
            let bytes = row.traffic.tx.bytes.saturating_add(row.traffic.rx.bytes);
            ((Reverse(bytes), &*info.name, info.id, key), row, device)
        }));
        if self.rows.len() > 2 * self.limit {
            self.rows.select_nth_unstable_by(self.limit, |(a, ..), (b, ..)| a.cmp(b));
            self.rows.truncate(self.limit);
        }
    }

    fn finish(mut self, state: &State) -> Vec<DestinationRow> {
        self.rows.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        self.rows
            .iter()
            .take(self.limit)
            .map(|((_, name, _, key), row, device)| DestinationRow {
                device: (*name).to_owned(),
                mac: device.info().mac_list(),
                group: device.info().group.to_string(),
                host_names: texts(&state.whereabouts_of(device).host_names),
                destination: destination_report(key, row),
            })
            .collect()
    }
}
