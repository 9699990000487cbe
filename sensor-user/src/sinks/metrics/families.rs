//! What the state looks like as metric families.

use std::fmt::{Display, Write as _};

use super::{
    definitions::{self as def, Definition},
    writer::{LabelSets, Writer},
};
use crate::{
    join::devices::Inventory,
    model::{Country, DeviceKind, Direction, Tally},
    sinks::{alerts, ledger::Trouble},
    state::{
        Alert, Contact, DeviceState, Expirations, FoldedRows, Reloaded, Rule, Series, State,
        Traffic, rfc3339,
    },
};

/// Every family of a state.
pub(super) fn write(state: &State, writer: &mut Writer) {
    devices(state, writer);
    inventory(state, writer);
    prefixes(state, writer);
    policy(state, writer);
    books(state, writer);
    epochs(state, writer);
    tables(state, writer);
    series(state, writer);
    interfaces(state, writer);
    coverage(state, writer);
    ledger(state, writer);
    setup(state, writer);
}

/// The devices that have series of their own, and the pool with those of all others. `None`: the
/// inventory has no pool.
fn all_series(state: &State) -> impl Iterator<Item = (Option<&DeviceState>, &Series)> {
    let own = state.devices().filter_map(|device| Some((Some(device), device.series()?)));
    let others = (!state.others().is_empty()).then(|| (state.pool(), state.others()));
    own.chain(others)
}

fn name_of(device: Option<&DeviceState>) -> &str {
    device.map_or(Inventory::POOL_NAME, |device| &device.info().name)
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

fn devices(state: &State, writer: &mut Writer) {
    let sets = label_sets(state);
    writer.family(def::DEVICE_PACKETS).counts(&sets, |tally| tally.packets);
    writer.family(def::DEVICE_BYTES).counts(&sets, |tally| tally.bytes);
    writer.family(def::DEVICE_PAYLOAD).counts(&sets, |tally| tally.payload);
    created(state, writer);
    contacts(state, writer, def::COUNTRY_FIRST_SEEN, |contact| contact.first);
    contacts(state, writer, def::COUNTRY_LAST_SEEN, |contact| contact.last);

    let mut folded = writer.family(def::FOLDED_PACKETS);
    for (device, series) in all_series(state) {
        let rows = device.map_or(FoldedRows::default(), |device| *device.folded());
        let labels = series.folded();
        for (detail, packets) in [
            ("address", rows.address),
            ("place", rows.place),
            ("operator", labels.operator),
            ("country", labels.country),
            ("prefix", labels.prefix),
            ("device", labels.device),
        ] {
            folded.count([name_of(device), detail], packets);
        }
    }
    let mut info = writer.family(def::DEVICE_INFO);
    for device in all_series(state).filter_map(|(device, _)| device) {
        let device = device.info();
        let macs: Vec<_> = device.macs.iter().map(ToString::to_string).collect();
        let group = alerts::rules(&state.setup().policy, device).map_or("", |(group, _)| group);
        let random_mac = if device.random_mac() { "true" } else { "false" };
        let labels = [
            &device.name,
            &*macs.join(","),
            &device.vendor,
            &device.group,
            random_mac,
            device.kind.name(),
            group,
        ];
        info.sample(labels, 1.0);
    }
    let mut operators = writer.family(def::OPERATOR_INFO);
    for (asn, operator) in state.operators() {
        operators.sample([&asn.to_string(), operator], 1.0);
    }
}

/// Device, direction, country and operator.
fn label_sets(state: &State) -> LabelSets<'_, Tally> {
    let mut sets = LabelSets::new(def::DEVICE_PACKETS);
    let mut operator = String::new();
    for (device, series) in all_series(state) {
        for (country, asn, traffic) in series.label_sets() {
            spell(&mut operator, asn);
            let country = country.as_ref().map_or("other", Country::as_str);
            for (direction, tally) in both(traffic) {
                sets.add([name_of(device), direction, country, &operator], tally);
            }
        }
    }
    sets
}

fn created(state: &State, writer: &mut Writer) {
    let mut family = writer.family(def::COUNTERS_CREATED);
    let mut operator = String::new();
    for (device, series) in all_series(state) {
        for (country, asn, created) in series.label_sets_created() {
            spell(&mut operator, asn);
            let country = country.as_ref().map_or("other", Country::as_str);
            family.time([name_of(device), country, &operator], created);
        }
    }
}

fn contacts(
    state: &State,
    writer: &mut Writer,
    definition: &'static Definition,
    time: fn(&Contact) -> u64,
) {
    let mut family = writer.family(definition);
    for (device, series) in all_series(state) {
        for (country, contact) in series.contacts() {
            family.time([name_of(device), country.as_str()], time(contact));
        }
    }
}

fn prefixes(state: &State, writer: &mut Writer) {
    let mut sets = LabelSets::new(def::PREFIX_PACKETS);
    let mut prefix = String::new();
    for (device, series) in all_series(state) {
        let mut add = |prefix: &str, traffic| {
            for (direction, tally) in both(traffic) {
                sets.add([name_of(device), direction, prefix], tally);
            }
        };
        for (label, traffic) in series.prefixes() {
            spell(&mut prefix, label);
            add(&prefix, traffic);
        }
        add("", series.no_prefix());
    }
    writer.family(def::PREFIX_PACKETS).counts(&sets, |tally| tally.packets);
    writer.family(def::PREFIX_BYTES).counts(&sets, |tally| tally.bytes);
    let mut family = writer.family(def::PREFIX_COUNTERS_CREATED);
    for (device, series) in all_series(state) {
        for (label, created) in series.prefixes_created() {
            spell(&mut prefix, label);
            family.time([name_of(device), &prefix], created);
        }
        family.time([name_of(device), ""], series.no_prefix_created());
    }
}

/// Writes a label into a buffer that is used again and again.
fn spell(text: &mut String, label: impl Display) {
    text.clear();
    // Writing to a string does not fail.
    let _infallible = write!(text, "{label}");
}

fn policy(state: &State, writer: &mut Writer) {
    let mut total = writer.family(def::ALERTS);
    for rule in Rule::ALL {
        let raised = state.all_alerts().filter(|alert| alert.rule == rule).count();
        total.count([rule.name(), rule.severity()], raised as u64);
    }
    writer.family(def::ALERTS_SHARED).count([], state.shared_alerts() as u64);
    breaches(state, writer, def::ALERT_FIRST_SEEN, |alert| alert.since);
    breaches(state, writer, def::ALERT_LAST_SEEN, |alert| alert.last_seen);
}

fn breaches(
    state: &State,
    writer: &mut Writer,
    definition: &'static Definition,
    time: fn(&Alert) -> u64,
) {
    let mut family = writer.family(definition);
    for (device, alert) in state.exported_alerts() {
        let prefix = alert.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
        let (rule, severity, asn) =
            (alert.rule.name(), alert.rule.severity(), alert.asn.to_string());
        let labels = [rule, severity, device, alert.country.as_str(), &prefix, &asn];
        family.time(labels, time(alert));
    }
}

fn books(state: &State, writer: &mut Writer) {
    let books = state.books();
    writer.family(def::SEEN_PACKETS).count([], books.seen.packets);
    writer.family(def::SEEN_BYTES).count([], books.seen.bytes);
    let levels = [
        ("flow", &books.attributed),
        ("coarse", &books.coarse),
        ("overflow", &books.overflow),
        ("unparsed", &books.unparsed),
    ];
    let mut packets = writer.family(def::LEVEL_PACKETS);
    for (level, tally) in levels {
        packets.count([level], tally.packets);
    }
    let mut bytes = writer.family(def::LEVEL_BYTES);
    for (level, tally) in levels {
        bytes.count([level], tally.bytes);
    }
    let mut outcomes = writer.family(def::OUTCOMES);
    for (outcome, count) in state.outcomes() {
        outcomes.count([outcome], count);
    }
}

fn epochs(state: &State, writer: &mut Writer) {
    writer.family(def::EPOCHS).count([], state.epochs());
    writer.family(def::OPEN_EPOCHS).count([], state.open_epochs());
    if state.epochs() == 0 {
        return;
    }
    writer.family(def::LAST_EPOCH).time([], state.ended());
    let mut duration = writer.family(def::STAGE_DURATION);
    for (stage, time) in state.timings().stages() {
        duration.summary([stage], time.sum.as_secs_f64(), time.count);
    }
    let mut last_duration = writer.family(def::STAGE_LAST_DURATION);
    for (stage, time) in state.timings().stages() {
        last_duration.sample([stage], time.last.as_secs_f64());
    }
}

fn tables(state: &State, writer: &mut Writer) {
    let mut entries = writer.family(def::TABLE_ENTRIES);
    for table in state.tables() {
        entries.count([table.table], table.entries);
    }
    let mut capacity = writer.family(def::TABLE_CAPACITY);
    for table in state.tables() {
        capacity.count([table.table], table.capacity);
    }
}

fn series(state: &State, writer: &mut Writer) {
    writer.family(def::SERIES).count([], state.budget().held() as u64);
    writer.family(def::SERIES_LIMIT).count([], state.budget().limit() as u64);
    let mut expired = writer.family(def::EXPIRED);
    let Expirations { label_sets, prefixes, devices } = *state.expirations();
    expired.count(["label_set"], label_sets);
    expired.count(["prefix"], prefixes);
    expired.count(["device"], devices);
}

fn interfaces(state: &State, writer: &mut Writer) {
    let [tx, rx] = [Direction::Tx, Direction::Rx].map(name);
    let mut packets = writer.family(def::INTERFACE_PACKETS);
    for interface in state.interfaces() {
        // What a device sends, the interface receives.
        packets.count([&interface.name, tx], interface.rx_packets);
        packets.count([&interface.name, rx], interface.tx_packets);
    }
    let mut bytes = writer.family(def::INTERFACE_BYTES);
    for interface in state.interfaces() {
        bytes.count([&interface.name, tx], interface.rx_bytes);
        bytes.count([&interface.name, rx], interface.tx_bytes);
    }
    let mut dropped = writer.family(def::INTERFACE_DROPPED);
    for interface in state.interfaces() {
        dropped.count([&interface.name], interface.dropped);
    }
}

fn inventory(state: &State, writer: &mut Writer) {
    let mut told_apart = writer.family(def::DEVICES);
    for of in [DeviceKind::Configured, DeviceKind::Unknown] {
        let count = state.devices().filter(|device| device.info().kind == of).count();
        told_apart.count([of.name()], count as u64);
    }
    writer.family(def::UNKNOWN_LIMIT).count([], state.setup().limits.unknown_devices as u64);
    let pooled = state.pooled();
    let mut packets = writer.family(def::POOLED_PACKETS);
    packets.count([name(Direction::Tx)], pooled.tx.packets);
    packets.count([name(Direction::Rx)], pooled.rx.packets);
}

fn coverage(state: &State, writer: &mut Writer) {
    let mut watched = writer.family(def::INTERFACE_WATCHED);
    for interface in state.coverage().iter().filter(|interface| interface.configured) {
        watched.count([&interface.name], interface.current().is_some().into());
    }
    let links = || state.coverage().iter().filter_map(|i| Some((&*i.name, i.link.as_ref()?)));
    let mut up = writer.family(def::INTERFACE_UP);
    for (interface, link) in links() {
        up.count([interface], link.up.into());
    }
    let mut mtu = writer.family(def::INTERFACE_MTU);
    for (interface, link) in links() {
        mtu.count([interface], link.mtu.into());
    }
    let mut covered = writer.family(def::INTERFACE_COVERED);
    for interface in state.coverage() {
        covered.sample([&interface.name], interface.covered(state.ended()).as_secs_f64());
    }
    let mut ends = writer.family(def::INTERFACE_DETACHMENTS);
    for interface in state.coverage() {
        for (end, count) in interface.ends() {
            ends.count([&interface.name, end.name()], count);
        }
    }
}

fn ledger(state: &State, writer: &mut Writer) {
    let Some(keeping) = state.keeping() else { return };
    writer.family(def::LEDGER_WRITABLE).count([], keeping.trouble.is_none().into());
    writer.family(def::LEDGER_COMMITS).count([], keeping.commits);
    let mut failures = writer.family(def::LEDGER_FAILURES);
    for reason in Trouble::ALL.map(Trouble::name) {
        failures.count([reason], keeping.failures.get(reason).copied().unwrap_or_default());
    }
    if keeping.last > 0 {
        writer.family(def::LEDGER_LAST_COMMIT).time([], keeping.last);
    }
    writer.family(def::LEDGER_SIZE).count([], keeping.size);
}

fn setup(state: &State, writer: &mut Writer) {
    let mut attach = writer.family(def::ATTACH_INFO);
    for (interface, span) in state.coverage().iter().filter_map(|i| Some((i, i.current()?))) {
        let labels = [&*interface.name, span.ingress, span.egress, &span.fallback_reason];
        attach.sample(labels, 1.0);
    }
    let databases = || {
        state.databases().map(|(db, _)| {
            let built = db.build_time.saturating_mul(1_000_000_000);
            (db, db.role.to_string(), built)
        })
    };
    let mut database = writer.family(def::DATABASE_INFO);
    for (db, role, built) in databases() {
        database.sample([&role, &db.kind, &rfc3339(built), &db.source, &db.sha256], 1.0);
    }
    let mut build_time = writer.family(def::DATABASE_BUILD_TIME);
    for (_, role, built) in databases() {
        build_time.time([&role], built);
    }
    let mut stale = writer.family(def::DATABASE_STALE);
    for (db, is_stale) in state.databases() {
        stale.count([&db.role.to_string()], is_stale.into());
    }
    let mut networks = writer.family(def::NETWORK_INFO);
    for network in &state.setup().networks {
        networks.sample([&network.name, &network.prefix.to_string()], 1.0);
    }
    reloads(state, writer);
    writer.family(def::BUILD_INFO).sample([env!("CARGO_PKG_VERSION")], 1.0);
}

fn reloads(state: &State, writer: &mut Writer) {
    let all = || Reloaded::ALL.map(|what| (what.name(), state.reloads(what)));
    let mut reloads = writer.family(def::RELOADS);
    for (what, attempts) in all() {
        reloads.count([what, "success"], attempts.succeeded);
        reloads.count([what, "failure"], attempts.failed);
    }
    let mut last_successful = writer.family(def::RELOAD_LAST_SUCCESSFUL);
    for (what, attempts) in all() {
        last_successful.count([what], u64::from(!attempts.last_failed));
    }
    let mut last_success = writer.family(def::RELOAD_LAST_SUCCESS);
    for (what, attempts) in all().into_iter().filter(|(_, attempts)| attempts.last_success > 0) {
        last_success.time([what], attempts.last_success);
    }
}
