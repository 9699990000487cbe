//! The policy: which traffic is a breach, and each breach raised once.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    config::{GroupPolicy, Policy, Reaction},
    model::{Country, DeviceInfo, DeviceKind, Direction, EpochRecord, Flow},
    state::{Alert, Breach, Rule, What, rfc3339},
};

/// Judges every epoch by the policy and remembers what it has raised.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    /// With their places in the order they were raised.
    raised: HashMap<Breach, usize>,
    /// How many there are.
    places: usize,
}

/// What an epoch brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The breaches that are new, by the time of their first packet.
    pub new: Vec<Alert>,
    /// Earlier ones that occurred again, by their place among all that were ever new.
    pub again: BTreeSet<usize>,
}

impl Engine {
    /// An engine that has raised nothing yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, raised: HashMap::new(), places: 0 }
    }

    /// Goes on with alerts that were raised before the sensor started, in their order.
    pub fn restore<'a>(&mut self, alerts: impl ExactSizeIterator<Item = &'a Alert>) {
        self.places = alerts.len();
        for (place, alert) in alerts.enumerate() {
            // Of several on devices that are one now the first goes on.
            self.raised.entry(alert.breach()).or_insert(place);
        }
    }

    /// What was raised for a device that has become part of another counts for that one.
    pub fn list(&mut self, devices: &[DeviceInfo]) {
        for (part, whole) in devices.iter().filter_map(|info| Some((info.id, info.part_of?))) {
            for (breach, place) in
                self.raised.extract_if(|breach, _| breach.device == part).collect::<Vec<_>>()
            {
                let first = self.raised.entry(Breach { device: whole, ..breach }).or_insert(place);
                *first = place.min(*first);
            }
        }
    }

    /// Goes on with these alerts alone; what was raised beside them is raised again when it is counted again.
    pub fn begin_again<'a>(&mut self, alerts: impl ExactSizeIterator<Item = &'a Alert>) {
        self.raised.clear();
        self.restore(alerts);
    }

    /// Judges by another policy from here on. What was raised stays raised.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The breaches in this epoch.
    pub fn judge(&mut self, record: &EpochRecord, devices: &[DeviceInfo]) -> Judgement {
        let mut found: HashMap<Breach, Alert> = HashMap::new();
        let mut again = BTreeSet::new();
        for flow in record.flows.iter().filter(|flow| flow.tally.packets > 0) {
            let Some(device) = devices.get(flow.device.0 as usize) else { continue };
            for (breach, prefix) in self.breaches(flow, device) {
                if let Some(place) = self.raised.get(&breach) {
                    again.insert(*place);
                } else {
                    let alert = found.entry(breach).or_insert_with(|| Alert {
                        last_seen: record.ended,
                        ..alert(breach.what.rule(), prefix, flow, device)
                    });
                    add(alert, prefix, flow);
                }
            }
        }
        let mut new: Vec<_> = found.into_iter().collect();
        new.sort_by_key(|(breach, alert)| (alert.since, breach.device, breach.what));
        for (breach, _) in &new {
            self.raised.insert(*breach, self.places);
            self.places += 1;
        }
        Judgement { new: new.into_iter().map(|(_, alert)| alert).collect(), again }
    }

    /// Every rule that a flow breaks, with the prefix to show for it.
    fn breaches(
        &self,
        flow: &Flow,
        device: &DeviceInfo,
    ) -> impl Iterator<Item = (Breach, Option<IpNet>)> + use<> {
        let far = &flow.attribution;
        let rules = rules(&self.policy, device).map(|(_, rules)| rules);
        let forbidden = rules.is_some_and(|rules| is_outside(far.country, rules));
        let country = forbidden.then_some((What::Country(far.country), far.prefix));
        let unjudged = rules.is_some_and(|rules| is_past_judging(flow, rules));
        let unjudged = unjudged.then_some((What::Unjudged, None));
        let watched = far.watched.then(|| {
            let prefix = self.watched_prefix(flow.address).or(far.prefix);
            (What::Prefix(prefix), prefix)
        });
        let operator = self.policy.watched_operators.contains(&far.asn);
        let operator = operator.then_some((What::Operator(far.asn), far.prefix));
        let device = device.id;
        let found = country.into_iter().chain(watched).chain(operator).chain(unjudged);
        found.map(move |(what, prefix)| (Breach { device, what }, prefix))
    }

    /// The network as the policy names it, where the prefix may be a smaller one inside it.
    fn watched_prefix(&self, address: Option<IpAddr>) -> Option<IpNet> {
        let address = address?.to_canonical();
        let watched = self.policy.watched_prefixes.iter();
        watched.filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()).copied()
    }
}

/// The group whose rules hold for a device, and the rules. Unknown devices follow those of the group that
/// stands in for them, if there is one; so does their pool, or else a flood of MAC addresses would be
/// a way around the policy. A group that is gone from the policy while devices are in it allows nothing: whoever takes
/// it away has to say what holds instead.
pub fn rules<'a>(policy: &'a Policy, device: &'a DeviceInfo) -> Option<(&'a str, &'a GroupPolicy)> {
    let group = match device.kind {
        DeviceKind::Configured => &*device.group,
        DeviceKind::Unknown | DeviceKind::Pool => policy.unknown_devices.as_deref()?,
        DeviceKind::Group => return None,
    };
    if group.is_empty() || policy.groups_without_rules.contains(group) {
        return None;
    }
    Some((group, policy.groups.get(group).unwrap_or(&NOTHING)))
}

/// The rules of a group that is gone.
static NOTHING: GroupPolicy =
    GroupPolicy { allowed_countries: BTreeSet::new(), unreadable: Reaction::Alert };

/// One structured line in the log, about a device of this name.
pub fn log(alert: &Alert, device: &str) {
    let prefix = alert.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
    tracing::warn!(
        rule = alert.rule.name(),
        severity = alert.rule.severity(),
        device,
        country = %alert.country,
        prefix,
        asn = alert.asn,
        operator = &*alert.operator,
        since = rfc3339(alert.since),
        packets = alert.packets,
        bytes = alert.bytes,
        "policy breached"
    );
}

/// Special-purpose ranges lie in no country; an address that no database knows may lie in any.
fn is_outside(country: Country, group: &GroupPolicy) -> bool {
    let code = match country {
        Country::Iso(code) => code,
        Country::NoEntry => *b"ZZ",
        Country::Special(_) | Country::NoAddress => return false,
    };
    !group.allowed_countries.contains(&code)
}

/// Whether a device sent what nobody can judge: a bridge passes it on, and with luck a router. ARP, LLDP and EAPOL
/// are for the next hop.
fn is_past_judging(flow: &Flow, group: &GroupPolicy) -> bool {
    flow.direction == Direction::Tx
        && flow.protocol.is_opaque()
        && group.unreadable == Reaction::Alert
        && !group.allowed_countries.contains(b"ZZ")
}

/// Where that is: frames that can't be judged may go anywhere.
const fn country(rule: Rule, flow: &Flow) -> Country {
    match rule {
        Rule::NotJudged => Country::NoEntry,
        Rule::CountryNotAllowed | Rule::WatchedPrefix | Rule::WatchedOperator => {
            flow.attribution.country
        }
    }
}

/// An alert for a flow, nothing counted yet.
fn alert(rule: Rule, prefix: Option<IpNet>, flow: &Flow, device: &DeviceInfo) -> Alert {
    Alert {
        rule,
        device: device.id,
        country: country(rule, flow),
        prefix,
        asn: flow.attribution.asn,
        operator: flow.attribution.operator.clone(),
        since: flow.first_seen,
        last_seen: 0,
        packets: 0,
        bytes: 0,
    }
}

/// Counts a flow; the one that was first tells the far end.
fn add(alert: &mut Alert, prefix: Option<IpNet>, flow: &Flow) {
    if flow.first_seen < alert.since {
        alert.since = flow.first_seen;
        alert.country = country(alert.rule, flow);
        alert.prefix = prefix;
        alert.asn = flow.attribution.asn;
        alert.operator = flow.attribution.operator.clone();
    }
    alert.packets += flow.tally.packets;
    alert.bytes += flow.tally.bytes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixture::{self, Far};

    fn policy() -> Policy {
        Policy {
            groups: [(
                "phones".to_owned(),
                GroupPolicy {
                    allowed_countries: [*b"IN", *b"SG"].into(),
                    ..GroupPolicy::default()
                },
            )]
            .into(),
            watched_prefixes: vec![
                "42.62.0.0/16".parse().unwrap(),
                "42.62.48.0/24".parse().unwrap(),
            ],
            watched_operators: [45102].into(),
            groups_without_rules: ["cameras".to_owned()].into(),
            unknown_devices: None,
        }
    }

    fn country(code: &'static str) -> Far {
        Far { country: fixture::country(code), ..Far::default() }
    }

    #[test]
    fn a_country_outside_raises_once_per_device_and_country() {
        let devices = fixture::devices();
        let mut engine = Engine::new(policy());
        let late = fixture::flow(0, Direction::Tx, &country("CN"), 2, 200);
        let mut early = fixture::flow(0, Direction::Rx, &country("CN"), 3, 300);
        early.first_seen -= 7_000;
        early.attribution.prefix = Some("36.0.0.0/8".parse().unwrap());
        let home = fixture::flow(0, Direction::Tx, &country("IN"), 5, 500);
        let record = fixture::record(1, vec![late.clone(), early.clone(), home]);

        let alerts = engine.judge(&record, &devices).new;
        assert_eq!(
            alerts,
            [Alert {
                rule: Rule::CountryNotAllowed,
                device: DeviceId(0),
                country: Country::Iso(*b"CN"),
                prefix: early.attribution.prefix,
                asn: early.attribution.asn,
                operator: early.attribution.operator.clone(),
                since: early.first_seen,
                last_seen: record.ended,
                packets: 5,
                bytes: 500,
            }]
        );
        assert_eq!(engine.judge(&record, &devices).new, [], "raised twice");

        // Another country, and another device, are each a breach of their own; the first lasts.
        let us = fixture::flow(0, Direction::Tx, &country("US"), 1, 60);
        let other = fixture::flow(1, Direction::Tx, &country("CN"), 1, 60);
        let Judgement { new: alerts, again } =
            engine.judge(&fixture::record(2, vec![us, other.clone(), late]), &devices);
        assert_eq!(again, [0].into());
        let again = engine.judge(&fixture::record(3, vec![other]), &devices).again;
        assert_eq!(again, [2].into(), "by its place");
        let raised: Vec<_> = alerts.iter().map(|a| (a.device.0, a.country.to_string())).collect();
        assert_eq!(raised, [(0, "US".into()), (1, "CN".into())]);
    }

    #[test]
    fn special_ranges_and_frames_without_address_are_no_breach() {
        let flows = [
            Country::Special("private"),
            Country::Special("multicast"),
            Country::Special("reserved"),
            Country::NoAddress,
        ]
        .map(|country| fixture::flow(0, Direction::Tx, &Far { country, ..Far::default() }, 1, 60));
        let mut engine = Engine::new(policy());
        assert_eq!(engine.judge(&fixture::record(1, flows.into()), &fixture::devices()).new, []);
    }

    /// Behind tags, or in no protocol that is known, data can go anywhere.
    #[test]
    fn sent_frames_that_cannot_be_judged_are_a_breach() {
        let frame = |direction, protocol| Flow {
            protocol,
            ..fixture::flow(0, direction, &Far::default(), 617, 741_634)
        };
        let devices = fixture::devices();
        let raised = |policy, flow: &Flow| {
            let record = fixture::record(1, vec![flow.clone()]);
            Engine::new(policy).judge(&record, &devices).new
        };
        let sent = |protocol| frame(Direction::Tx, protocol);
        let reasons = (0..=9).map(Reason::name).map(Protocol::Unparsed);
        for protocol in reasons.chain([Protocol::NonIp(NonIp::name(0))]) {
            let alerts = raised(policy(), &sent(protocol));
            let [alert] = &alerts[..] else { panic!("{protocol}: {alerts:?}") };
            assert_eq!((alert.rule, alert.device), (Rule::NotJudged, DeviceId(0)), "{protocol}");
            assert_eq!((alert.country, alert.prefix), (Country::NoEntry, None), "{protocol}");
            assert_eq!((alert.packets, alert.bytes), (617, 741_634), "{protocol}");
            assert_eq!(raised(policy(), &frame(Direction::Rx, protocol)), []);
        }
        // The next hop's.
        for kind in [NonIp::Arp, NonIp::Lldp, NonIp::Eapol] {
            assert_eq!(raised(policy(), &sent(Protocol::NonIp(NonIp::name(kind as u8)))), []);
        }
        let unreadable = sent(Protocol::Unparsed("vlan_depth"));
        let changed = |change: fn(&mut GroupPolicy)| {
            let mut policy = policy();
            change(policy.groups.get_mut("phones").unwrap());
            policy
        };
        assert_eq!(raised(changed(|group| group.unreadable = Reaction::Allow), &unreadable), []);
        let lenient = changed(|group| group.allowed_countries.extend([*b"ZZ"]));
        assert_eq!(raised(lenient, &unreadable), []);

        // Once for a device, whatever the reason; and an heir goes on from there.
        let mut engine = Engine::new(policy());
        let both = vec![unreadable, sent(Protocol::NonIp("other"))];
        let alerts = engine.judge(&fixture::record(1, both.clone()), &devices).new;
        assert_eq!(alerts.len(), 1);
        let mut heir = Engine::new(policy());
        heir.restore(alerts.iter());
        for mut engine in [engine, heir] {
            let judgement = engine.judge(&fixture::record(2, both.clone()), &devices);
            assert_eq!(judgement, Judgement { new: Vec::new(), again: [0].into() });
        }
    }

    #[test]
    fn no_entry_is_outside_unless_listed() {
        let record =
            fixture::record(1, vec![fixture::flow(0, Direction::Tx, &country("ZZ"), 1, 60)]);
        let mut engine = Engine::new(policy());
        assert_eq!(engine.judge(&record, &fixture::devices()).new.len(), 1);

        let mut lenient = policy();
        lenient.groups.get_mut("phones").unwrap().allowed_countries.insert(*b"ZZ");
        assert_eq!(Engine::new(lenient).judge(&record, &fixture::devices()).new, []);
    }

    #[test]
    fn who_has_no_policy_is_not_judged() {
        // 2: configured, of a group that may talk to any country. 3: unknown. 4: multicast. 5: the pool.
        let flows =
            [2, 3, 4, 5].map(|device| fixture::flow(device, Direction::Tx, &country("CN"), 1, 60));
        let record = fixture::record(1, flows.into());
        let devices = fixture::devices();
        assert_eq!(Engine::new(policy()).judge(&record, &devices).new, []);

        let strict = Policy { unknown_devices: Some("phones".into()), ..policy() };
        let alerts = Engine::new(strict).judge(&record, &devices).new;
        let raised: Vec<_> = alerts.iter().map(|alert| alert.device.0).collect();
        assert_eq!(raised, [3, 5]);
    }

    #[test]
    fn a_group_that_is_gone_allows_nothing() {
        let gone = Policy { groups_without_rules: BTreeSet::new(), ..policy() };
        let flows = [country("IN"), Far { country: Country::Special("private"), ..Far::default() }];
        let flows = flows.map(|far| fixture::flow(2, Direction::Tx, &far, 1, 60));
        let record = fixture::record(1, flows.into());
        let alerts = Engine::new(gone).judge(&record, &fixture::devices()).new;
        assert_eq!(
            alerts.iter().map(|alert| alert.country).collect::<Vec<_>>(),
            [fixture::country("IN")]
        );
    }

    /// A device that becomes a part of another is not raised again as that one.
    #[test]
    fn what_was_raised_for_a_part_was_raised_for_the_whole() {
        let mut devices = fixture::devices();
        let strict = Policy { unknown_devices: Some("phones".into()), ..policy() };
        let mut engine = Engine::new(strict);
        let flow = |device, code| fixture::flow(device, Direction::Tx, &country(code), 1, 60);
        let record = fixture::record(1, vec![flow(3, "CN"), flow(3, "US"), flow(0, "US")]);
        assert_eq!(engine.judge(&record, &devices).new.len(), 3);
        devices[3].part_of = Some(DeviceId(0));
        engine.list(&devices);
        let Judgement { new, again } =
            engine.judge(&fixture::record(2, vec![flow(0, "CN"), flow(0, "US")]), &devices);
        // By device and rule: of the two for the US the first one goes on.
        assert_eq!((new, again), (Vec::new(), [0, 1].into()));
    }

    #[test]
    fn a_watched_prefix_raises_once_whatever_the_group() {
        let far = Far {
            country: fixture::country("CN"),
            address: Some("42.62.48.9".parse().unwrap()),
            prefix: Some("42.62.48.0/26".parse().unwrap()),
            watched: true,
            ..Far::default()
        };
        let neighbour = Far { address: Some("42.62.48.77".parse().unwrap()), ..far.clone() };
        let flows = [&far, &neighbour].map(|far| fixture::flow(2, Direction::Rx, far, 1, 60));
        let record = fixture::record(1, flows.into());
        let mut engine = Engine::new(policy());

        let alerts = engine.judge(&record, &fixture::devices()).new;
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!(alerts[0].rule, Rule::WatchedPrefix);
        assert_eq!(alerts[0].prefix, Some("42.62.48.0/24".parse().unwrap()), "the most specific");
        assert_eq!(alerts[0].packets, 2);
        assert_eq!(engine.judge(&record, &fixture::devices()).new, [], "raised twice");
    }

    #[test]
    fn a_watched_operator_raises_once_per_device_whatever_its_country() {
        let far = Far { asn: 45102, operator: "Alibaba", ..country("SG") };
        let elsewhere = Far { country: fixture::country("US"), ..far.clone() };
        let other = Far { asn: 45103, ..far.clone() };
        let flows =
            [&far, &elsewhere, &other].map(|far| fixture::flow(2, Direction::Tx, far, 1, 60));
        let record = fixture::record(1, flows.into());
        let mut engine = Engine::new(policy());

        let alerts = engine.judge(&record, &fixture::devices()).new;
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!((alerts[0].rule, alerts[0].asn), (Rule::WatchedOperator, 45102));
        assert_eq!((&*alerts[0].operator, alerts[0].packets), ("Alibaba", 2));
        assert_eq!(engine.judge(&record, &fixture::devices()).new, [], "raised twice");
    }

    use sensor_common::layout::{NonIp, Reason};

    use crate::model::{DeviceId, Direction, Protocol};
}
