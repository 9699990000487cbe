//! What the bench allows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
};

use ipnet::IpNet;

use super::{
    GroupPolicy, Policy, Reaction, country,
    diagnostic::quote,
    reader::{Field, Fields, Reader, nearest},
    values,
};

const REACTION: [(&str, Reaction); 2] = [("alert", Reaction::Alert), ("allow", Reaction::Allow)];

/// The names of all groups under `policy`, those with faults included.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    names: HashMap<&'a str, Range<usize>>,
    refused: HashSet<String>,
}

impl Groups<'_> {
    /// A group without rules would allow everything without a word, and is often a typing error. Refuses each once.
    pub(super) fn require(&mut self, reader: &mut Reader<'_>, at: &Range<usize>, group: &str) {
        if self.names.contains_key(group) || !self.refused.insert(group.to_owned()) {
            return;
        }
        let mut known: Vec<&str> = self.names.keys().copied().collect();
        known.sort_unstable();
        let label = nearest(group, &known).map_or_else(
            || "add the group there; `allowed_countries: any` is one without a rule".to_owned(),
            |close| format!("did you mean `{close}`?"),
        );
        let message = format!("group {} has no rules under `policy.groups`", quote(group));
        reader.refuse(at, message, label);
    }
}

/// The policy and the names of its groups.
pub(super) fn policy<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> (Policy, Groups<'a>) {
    let (mut policy, mut known) = (Policy::default(), Groups::default());
    let keys = &["groups", "watched_prefixes", "watched_operators", "unknown_devices"];
    let Some(fields) = root.get("policy").and_then(|field| reader.fields(field, keys)) else {
        return (policy, known);
    };
    if let Some(field) = fields.get("groups") {
        (policy.groups, policy.groups_without_rules) = groups(reader, field, &mut known);
    }
    if let Some(field) = fields.get("watched_prefixes") {
        policy.watched_prefixes = watched_prefixes(reader, field);
    }
    if let Some(field) = fields.get("watched_operators") {
        policy.watched_operators = watched_operators(reader, field);
    }
    if let Some(field) = fields.get("unknown_devices") {
        let typed = reader.text(field, "write a group's name, or remove the line");
        policy.unknown_devices = typed.and_then(|typed| {
            let group = values::name(reader, &typed)?;
            known.require(reader, &typed.at, &group);
            Some(group)
        });
    }
    (policy, known)
}

/// The watched networks, sorted. One inside another is legal: it splits off what it holds.
fn watched_prefixes<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Vec<IpNet> {
    let mut places = HashMap::new();
    for item in reader.items(field) {
        let typed = reader.text(&item, "write address/length, like 42.62.48.0/24");
        let Some(prefix) = typed.and_then(|typed| values::prefix(reader, &typed)) else { continue };
        reader.unique(&mut places, prefix, &item.at, &format!("network {prefix}"));
    }
    let mut prefixes: Vec<IpNet> = places.keys().copied().collect();
    prefixes.sort_unstable();
    for (index, inner) in prefixes.iter().enumerate() {
        // Sorted by address, then length: whatever holds it comes before, the smallest last.
        if let Some(outer) = prefixes[..index].iter().rev().find(|outer| outer.contains(inner)) {
            let message = format!(
                "network {inner} lies inside {outer}, which is watched too: what it holds is \
                 reported under {inner} only"
            );
            reader.warn(&places[inner], &message);
        }
    }
    prefixes
}

fn watched_operators<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> BTreeSet<u32> {
    let mut places = HashMap::new();
    for item in reader.items(field) {
        let Some(asn) = values::number(reader, &item, &(1..=u32::MAX)) else { continue };
        reader.unique(&mut places, asn, &item.at, &format!("AS number {asn}"));
    }
    places.into_keys().collect()
}

fn groups<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    known: &mut Groups<'a>,
) -> (BTreeMap<String, GroupPolicy>, BTreeSet<String>) {
    let (mut groups, mut without_rules) = (BTreeMap::new(), BTreeSet::new());
    for (key, value) in reader.named(field) {
        let what = format!("group {}", quote(key.text));
        if !reader.unique(&mut known.names, key.text, &key.at, &what) {
            continue;
        }
        let name = values::name(reader, &key);
        match name.zip(group(reader, &value)) {
            Some((name, Rules::Countries(rules))) => {
                groups.insert(name, rules);
            }
            Some((name, Rules::None)) => {
                without_rules.insert(name);
            }
            None => {}
        }
    }
    (groups, without_rules)
}

/// What stands under a group.
enum Rules {
    Countries(GroupPolicy),
    None,
}

fn group<'a>(reader: &mut Reader<'a>, value: &Field<'a>) -> Option<Rules> {
    let fields = reader.fields(value, &["allowed_countries", "unreadable"])?;
    // An omitted list could mean "any country" or "none"; one of them would be a silent hole.
    let example = "add `allowed_countries: [IN, SG]`; an empty list `[]` allows none";
    let Some(field) = fields.get("allowed_countries") else {
        reader.refuse(&fields.at, "a group has no `allowed_countries`", example);
        return None;
    };
    if Reader::is_null(field) {
        reader.refuse(&field.at, "`allowed_countries` has no value", example);
        return None;
    }
    if Reader::is_scalar(field) {
        return reader.choice(field, &[("any", ())]).map(|()| Rules::None);
    }
    let mut allowed_countries = BTreeSet::new();
    for item in reader.items(field) {
        let Some(typed) = reader.text(&item, "write a country code, like IN") else { continue };
        match country::parse(typed.text) {
            Ok(code) => {
                allowed_countries.insert(code);
            }
            Err(label) => {
                let message = format!("{} is no country code", quote(typed.text));
                reader.refuse(&typed.at, message, label);
            }
        }
    }
    let mut reaction =
        |key| fields.get(key).and_then(|field| reader.choice(field, &REACTION)).unwrap_or_default();
    let unreadable = reaction("unreadable");
    Some(Rules::Countries(GroupPolicy { allowed_countries, unreadable }))
}
