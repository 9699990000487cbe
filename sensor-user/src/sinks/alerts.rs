//! The policy: which traffic is a breach, and each breach raised once.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    config::{GroupPolicy, Policy},
    model::{Country, DeviceId, DeviceInfo, DeviceKind, EpochRecord, Flow},
    state::{Alert, Rule, rfc3339},
};

/// Judges every epoch by the policy and remembers what it has raised.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    raised: HashSet<Breach>,
}

/// What is raised only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Breach {
    Country(DeviceId, Country),
    Watched(DeviceId, Option<IpNet>),
}

impl Engine {
    /// An engine that has raised nothing yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, raised: HashSet::new() }
    }

    /// Judges by another policy from here on. What was raised stays raised.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The breaches that are new in this epoch, by the time of their first packet.
    pub fn judge(&mut self, record: &EpochRecord, devices: &[DeviceInfo]) -> Vec<Alert> {
        let mut found: HashMap<Breach, Alert> = HashMap::new();
        for flow in record.flows.iter().filter(|flow| flow.tally.packets > 0) {
            let Some(device) = devices.get(flow.device.0 as usize) else { continue };
            for (breach, prefix) in self.breaches(flow, device) {
                if !self.raised.contains(&breach) {
                    collect(&mut found, breach, prefix, flow, device);
                }
            }
        }
        self.raised.extend(found.keys());
        let mut alerts: Vec<_> = found.into_values().collect();
        alerts.sort_by(|a, b| {
            (a.since, &a.device, a.rule, a.prefix).cmp(&(b.since, &b.device, b.rule, b.prefix))
        });
        alerts
    }

    /// Every rule that a flow breaks, with the prefix to show for it.
    fn breaches(
        &self,
        flow: &Flow,
        device: &DeviceInfo,
    ) -> impl Iterator<Item = (Breach, Option<IpNet>)> + use<> {
        let far = &flow.attribution;
        let forbidden =
            self.group_policy(device).is_some_and(|group| is_outside(far.country, group));
        let country = forbidden.then_some((Breach::Country(device.id, far.country), far.prefix));
        let watched = far.watched.then(|| {
            let prefix = self.watched_prefix(flow.address).or(far.prefix);
            (Breach::Watched(device.id, prefix), prefix)
        });
        country.into_iter().chain(watched)
    }

    /// Unknown devices follow the policy of the group that stands in for them, if there is one;
    /// so does their pool, or else a flood of MAC addresses would be a way around the policy.
    fn group_policy(&self, device: &DeviceInfo) -> Option<&GroupPolicy> {
        let group = match device.kind {
            DeviceKind::Configured => &*device.group,
            DeviceKind::Unknown | DeviceKind::Pool => self.policy.unknown_devices.as_deref()?,
            DeviceKind::Group => return None,
        };
        self.policy.groups.get(group)
    }

    /// The network as the policy names it, where the prefix may be a smaller one inside it.
    fn watched_prefix(&self, address: Option<IpAddr>) -> Option<IpNet> {
        let address = address?.to_canonical();
        let watched = self.policy.watched_prefixes.iter();
        watched.filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()).copied()
    }
}

/// One structured line in the log.
pub fn log(alert: &Alert) {
    let prefix = alert.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
    tracing::warn!(
        rule = alert.rule.name(),
        severity = alert.rule.severity(),
        device = &*alert.device,
        country = %alert.country,
        prefix,
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

fn collect(
    found: &mut HashMap<Breach, Alert>,
    breach: Breach,
    prefix: Option<IpNet>,
    flow: &Flow,
    device: &DeviceInfo,
) {
    let alert = found.entry(breach).or_insert_with(|| Alert {
        rule: match breach {
            Breach::Country(..) => Rule::CountryNotAllowed,
            Breach::Watched(..) => Rule::WatchedPrefix,
        },
        device: device.name.clone(),
        country: flow.attribution.country,
        prefix,
        since: flow.first_seen,
        packets: 0,
        bytes: 0,
    });
    if flow.first_seen < alert.since {
        alert.since = flow.first_seen;
        alert.country = flow.attribution.country;
        alert.prefix = prefix;
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
                GroupPolicy { allowed_countries: [*b"IN", *b"SG"].into() },
            )]
            .into(),
            watched_prefixes: vec![
                "42.62.0.0/16".parse().unwrap(),
                "42.62.48.0/24".parse().unwrap(),
            ],
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

        let alerts = engine.judge(&record, &devices);
        assert_eq!(
            alerts,
            [Alert {
                rule: Rule::CountryNotAllowed,
                device: "redmi".into(),
                country: Country::Iso(*b"CN"),
                prefix: early.attribution.prefix,
                since: early.first_seen,
                packets: 5,
                bytes: 500,
            }]
        );
        assert_eq!(engine.judge(&record, &devices), [], "raised twice");

        // Another country, and another device, are each a breach of their own.
        let us = fixture::flow(0, Direction::Tx, &country("US"), 1, 60);
        let other = fixture::flow(1, Direction::Tx, &country("CN"), 1, 60);
        let alerts = engine.judge(&fixture::record(2, vec![us, other, late]), &devices);
        let raised: Vec<_> = alerts.iter().map(|a| (&*a.device, a.country.to_string())).collect();
        assert_eq!(raised, [("redmi", "US".into()), ("watch", "CN".into())]);
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
        assert_eq!(engine.judge(&fixture::record(1, flows.into()), &fixture::devices()), []);
    }

    #[test]
    fn no_entry_is_outside_unless_listed() {
        let record =
            fixture::record(1, vec![fixture::flow(0, Direction::Tx, &country("ZZ"), 1, 60)]);
        let mut engine = Engine::new(policy());
        assert_eq!(engine.judge(&record, &fixture::devices()).len(), 1);

        let mut lenient = policy();
        lenient.groups.get_mut("phones").unwrap().allowed_countries.insert(*b"ZZ");
        assert_eq!(Engine::new(lenient).judge(&record, &fixture::devices()), []);
    }

    #[test]
    fn who_has_no_policy_is_not_judged() {
        // 2: configured, of a group without a policy. 3: unknown. 4: multicast. 5: the pool.
        let flows =
            [2, 3, 4, 5].map(|device| fixture::flow(device, Direction::Tx, &country("CN"), 1, 60));
        let record = fixture::record(1, flows.into());
        let devices = fixture::devices();
        assert_eq!(Engine::new(policy()).judge(&record, &devices), []);

        let strict = Policy { unknown_devices: Some("phones".into()), ..policy() };
        let alerts = Engine::new(strict).judge(&record, &devices);
        let raised: Vec<_> = alerts.iter().map(|alert| &*alert.device).collect();
        assert_eq!(raised, ["02:00:00:00:00:99", "unknown"]);
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

        let alerts = engine.judge(&record, &fixture::devices());
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!(alerts[0].rule, Rule::WatchedPrefix);
        assert_eq!(alerts[0].prefix, Some("42.62.48.0/24".parse().unwrap()), "the most specific");
        assert_eq!(alerts[0].packets, 2);
        assert_eq!(engine.judge(&record, &fixture::devices()), [], "raised twice");
    }

    use crate::model::Direction;
}
