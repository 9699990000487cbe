//! The state as Prometheus metrics: one collector over the current snapshot.
//!
//! Nothing is counted here, so nothing can drift from the state that the API shows.

mod definitions;
mod family;

use std::sync::Arc;

use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::MetricFamily,
};

use self::definitions as def;
use crate::{
    model::{DeviceKind, Direction, Tally},
    state::{DeviceState, Reloaded, Rule, Shared, State, Traffic, rfc3339},
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The sensor's metrics and those of its process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics of the state that `shared` holds at each scrape.
    ///
    /// # Errors
    ///
    /// If a family's definition is not well-formed.
    pub fn new(shared: Arc<Shared>) -> prometheus::Result<Self> {
        let descs = def::ALL.iter().map(|d| d.desc()).collect::<prometheus::Result<_>>()?;
        let registry = Registry::new();
        registry.register(Box::new(StateCollector { shared, descs }))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry })
    }

    /// Everything in the Prometheus text format, version 0.0.4. Takes milliseconds for a state of
    /// thousands of series: not for async threads.
    ///
    /// # Errors
    ///
    /// If the encoder refuses a family.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

struct StateCollector {
    shared: Arc<Shared>,
    descs: Vec<Desc>,
}

impl Collector for StateCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.shared.snapshot();
        let mut families = Vec::with_capacity(def::ALL.len());
        devices(&state, &mut families);
        alerts(&state, &mut families);
        books(&state, &mut families);
        epochs(&state, &mut families);
        interfaces(&state, &mut families);
        coverage(&state, &mut families);
        setup(&state, &mut families);
        families
    }
}

const fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Tx => "tx",
        Direction::Rx => "rx",
    }
}

/// Both directions from the first packet on, so that no series is born late with a value.
const fn both(traffic: &Traffic) -> [(&'static str, &Tally); 2] {
    [(name(Direction::Tx), &traffic.tx), (name(Direction::Rx), &traffic.rx)]
}

fn devices(state: &State, families: &mut Vec<MetricFamily>) {
    let mut packets = def::DEVICE_PACKETS.family();
    let mut bytes = def::DEVICE_BYTES.family();
    let mut payload = def::DEVICE_PAYLOAD.family();
    let mut first_seen = def::COUNTRY_FIRST_SEEN.family();
    let mut last_seen = def::COUNTRY_LAST_SEEN.family();
    let mut folded = def::FOLDED_PACKETS.family();
    let mut info = def::DEVICE_INFO.family();
    for device in state.devices() {
        let name = &*device.info().name;
        for (country, asn, traffic) in device.label_sets() {
            let asn = asn.map_or_else(|| "other".to_owned(), |asn| asn.to_string());
            for (direction, tally) in both(traffic) {
                let labels = [name, direction, country.as_str(), &asn];
                packets.count(labels, tally.packets);
                bytes.count(labels, tally.bytes);
                payload.count(labels, tally.payload);
            }
        }
        for (country, contact) in device.contacts() {
            first_seen.time([name, country.as_str()], contact.first);
            last_seen.time([name, country.as_str()], contact.last);
        }
        folded.count([name, "address"], device.folded().address);
        folded.count([name, "place"], device.folded().place);
        folded.count([name, "operator"], device.folded().operator);
        folded.count([name, "prefix"], device.folded().prefix);
        let macs: Vec<_> = device.info().macs.iter().map(ToString::to_string).collect();
        info.sample(
            [
                name,
                &macs.join(","),
                &device.info().vendor,
                &device.info().group,
                if device.info().random_mac() { "true" } else { "false" },
                kind(device.info().kind),
            ],
            1.0,
        );
    }
    let mut operators = def::OPERATOR_INFO.family();
    for (asn, operator) in state.operators() {
        operators.sample([&asn.to_string(), operator], 1.0);
    }
    families.extend(
        [packets, bytes, payload, first_seen, last_seen, folded, info, operators]
            .map(family::Family::finish),
    );
    prefixes(state, families);
}

const fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Configured => "configured",
        DeviceKind::Unknown => "unknown",
        DeviceKind::Group => "multicast",
        DeviceKind::Pool => "pool",
    }
}

fn prefixes(state: &State, families: &mut Vec<MetricFamily>) {
    let mut packets = def::PREFIX_PACKETS.family();
    let mut bytes = def::PREFIX_BYTES.family();
    let mut add = |device: &DeviceState, prefix: &str, traffic: &Traffic| {
        for (direction, tally) in both(traffic) {
            let labels = [&*device.info().name, direction, prefix];
            packets.count(labels, tally.packets);
            bytes.count(labels, tally.bytes);
        }
    };
    for device in state.devices() {
        for (prefix, traffic) in device.prefixes() {
            add(device, &prefix.to_string(), traffic);
        }
        add(device, "other", device.other_prefixes());
        add(device, "", device.no_prefix());
    }
    families.extend([packets.finish(), bytes.finish()]);
}

fn alerts(state: &State, families: &mut Vec<MetricFamily>) {
    let mut total = def::ALERTS.family();
    for rule in Rule::ALL {
        let raised = state.alerts().iter().filter(|alert| alert.rule == rule).count();
        total.count([rule.name(), rule.severity()], raised as u64);
    }
    let mut first_seen = def::ALERT_FIRST_SEEN.family();
    for alert in state.alerts() {
        let prefix = alert.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
        first_seen.time(
            [
                alert.rule.name(),
                alert.rule.severity(),
                &alert.device,
                alert.country.as_str(),
                &prefix,
            ],
            alert.since,
        );
    }
    families.extend([total.finish(), first_seen.finish()]);
}

fn books(state: &State, families: &mut Vec<MetricFamily>) {
    let books = state.books();
    let mut seen_packets = def::SEEN_PACKETS.family();
    let mut seen_bytes = def::SEEN_BYTES.family();
    seen_packets.count([], books.seen.packets);
    seen_bytes.count([], books.seen.bytes);
    let mut packets = def::LEVEL_PACKETS.family();
    let mut bytes = def::LEVEL_BYTES.family();
    for (level, tally) in [
        ("flow", &books.attributed),
        ("coarse", &books.coarse),
        ("overflow", &books.overflow),
        ("unparsed", &books.unparsed),
    ] {
        packets.count([level], tally.packets);
        bytes.count([level], tally.bytes);
    }
    let mut outcomes = def::OUTCOMES.family();
    for (outcome, count) in state.outcomes() {
        outcomes.count([outcome], count);
    }
    families
        .extend([seen_packets, seen_bytes, packets, bytes, outcomes].map(family::Family::finish));
}

fn epochs(state: &State, families: &mut Vec<MetricFamily>) {
    let mut epochs = def::EPOCHS.family();
    epochs.count([], state.epochs());
    let mut open = def::OPEN_EPOCHS.family();
    open.count([], state.open_epochs());
    let mut last_epoch = def::LAST_EPOCH.family();
    let mut duration = def::STAGE_DURATION.family();
    let mut last_duration = def::STAGE_LAST_DURATION.family();
    if state.epochs() > 0 {
        last_epoch.time([], state.ended());
        for (stage, time) in state.timings().stages() {
            duration.summary([stage], time.sum.as_secs_f64(), time.count);
            last_duration.sample([stage], time.last.as_secs_f64());
        }
    }
    families
        .extend([epochs, open, last_epoch, duration, last_duration].map(family::Family::finish));
}

fn interfaces(state: &State, families: &mut Vec<MetricFamily>) {
    let mut packets = def::INTERFACE_PACKETS.family();
    let mut bytes = def::INTERFACE_BYTES.family();
    let mut dropped = def::INTERFACE_DROPPED.family();
    for interface in state.interfaces() {
        let [tx, rx] = [Direction::Tx, Direction::Rx].map(name);
        // What a device sends, the interface receives.
        packets.count([&interface.name, tx], interface.rx_packets);
        packets.count([&interface.name, rx], interface.tx_packets);
        bytes.count([&interface.name, tx], interface.rx_bytes);
        bytes.count([&interface.name, rx], interface.tx_bytes);
        dropped.count([&interface.name], interface.dropped);
    }
    families.extend([packets, bytes, dropped].map(family::Family::finish));
}

fn coverage(state: &State, families: &mut Vec<MetricFamily>) {
    let mut watched = def::INTERFACE_WATCHED.family();
    let mut up = def::INTERFACE_UP.family();
    let mut mtu = def::INTERFACE_MTU.family();
    let mut covered = def::INTERFACE_COVERED.family();
    let mut ends = def::INTERFACE_DETACHMENTS.family();
    for interface in state.coverage() {
        let name = &*interface.name;
        if interface.configured {
            watched.count([name], interface.current().is_some().into());
        }
        if let Some(link) = &interface.link {
            up.count([name], link.up.into());
            mtu.count([name], link.mtu.into());
        }
        covered.sample([name], interface.covered(state.ended()).as_secs_f64());
        for (end, count) in interface.ends() {
            ends.count([name, end.name()], count);
        }
    }
    families.extend([watched, up, mtu, covered, ends].map(family::Family::finish));
}

fn setup(state: &State, families: &mut Vec<MetricFamily>) {
    let mut attach = def::ATTACH_INFO.family();
    for (interface, span) in state.coverage().iter().filter_map(|i| Some((i, i.current()?))) {
        let labels = [&*interface.name, span.ingress, span.egress, &span.fallback_reason];
        attach.sample(labels, 1.0);
    }
    let mut database = def::DATABASE_INFO.family();
    let mut build_time = def::DATABASE_BUILD_TIME.family();
    let mut stale = def::DATABASE_STALE.family();
    let mut networks = def::NETWORK_INFO.family();
    for (db, is_stale) in state.databases() {
        let built = db.build_time.saturating_mul(1_000_000_000);
        let role = db.role.to_string();
        database.sample([&role, &db.kind, &rfc3339(built), &db.source, &db.sha256], 1.0);
        build_time.time([&role], built);
        stale.count([&role], is_stale.into());
    }
    for network in &state.setup().networks {
        networks.sample([&network.name, &network.prefix.to_string()], 1.0);
    }
    let mut reloads = def::RELOADS.family();
    let mut last_successful = def::RELOAD_LAST_SUCCESSFUL.family();
    let mut last_success = def::RELOAD_LAST_SUCCESS.family();
    for what in Reloaded::ALL {
        let attempts = state.reloads(what);
        reloads.count([what.name(), "success"], attempts.succeeded);
        reloads.count([what.name(), "failure"], attempts.failed);
        last_successful.count([what.name()], u64::from(!attempts.last_failed));
        if attempts.last_success > 0 {
            last_success.time([what.name()], attempts.last_success);
        }
    }
    families.extend([reloads, last_successful, last_success].map(family::Family::finish));
    let mut build = def::BUILD_INFO.family();
    build.sample([env!("CARGO_PKG_VERSION")], 1.0);
    families
        .extend([attach, database, build_time, stale, networks, build].map(family::Family::finish));
}

#[cfg(test)]
mod tests;
