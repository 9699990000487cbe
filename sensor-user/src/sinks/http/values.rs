//! Values that a query may have: how each is read, and how it is described. The command line reads
//! them with the same code before it asks.

mod country;
mod when;

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

pub(crate) use self::when::{When, Zone};
use crate::{
    config::country_codes,
    join::special,
    model::{Country, Protocol},
    state::{DeviceRef, OperatorRef, Rule},
};

/// Longest name in a query, in characters; a configured one has at most 64.
const MAX_NAME: usize = 64;
/// Rows in an answer if the query says nothing.
const DEFAULT_LIMIT: u32 = 1000;
/// Most rows in an answer: some 40 MB.
pub(crate) const MAX_LIMIT: u32 = 100_000;

/// A value that its parameter can't have; says which ones it can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadValue(Cow<'static, str>);

/// What goes for every text: it is not empty.
fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).min_length(Some(1))
}

/// A parameter's type: `$read` is its [`FromStr`], `$schema` how it is described.
macro_rules! value {
    ($(#[$doc:meta])* $name:ident($inner:ty), $read:expr, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $inner);

        impl FromStr for $name {
            type Err = BadValue;

            fn from_str(typed: &str) -> Result<Self, BadValue> {
                let read: fn(&str) -> Result<$inner, Cow<'static, str>> = $read;
                read(typed).map(Self).map_err(BadValue)
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {}
    };
}

value! {
    /// Name, MAC address, IP address or host name of a device.
    Device(DeviceRef),
    |typed| name(typed).map(DeviceRef::new),
    text().max_length(Some(MAX_NAME)).examples(["redmi-1s", "02:1a:2b:3c:4d:5e"])
}

value! {
    /// Name of a group.
    Group(String),
    |typed| name(typed).map(str::to_owned),
    text().max_length(Some(MAX_NAME)).examples(["phones"])
}

value! {
    /// A country, or a class of special-purpose range.
    Place(Country),
    country::place,
    text().enum_values(Some(country_codes().chain(classes()))).examples(["CN", "ZZ", "private"])
}

value! {
    /// Number of an autonomous system, with or without `AS` before it; 0 for none.
    Asn(u32),
    |typed| as_number(typed).ok_or_else(|| {
        format!("write a number from 0 to {}, with or without AS before it", u32::MAX).into()
    }),
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(u32::MAX))
}

value! {
    /// A network operator: its AS number, or a part of its name.
    Operator(OperatorRef),
    |typed| {
        let part = || name(typed).map(|name| OperatorRef::Named(name.to_lowercase()));
        as_number(typed).map_or_else(part, |asn| Ok(OperatorRef::Number(asn)))
    },
    text().max_length(Some(MAX_NAME)).examples(["AS4134", "4134", "amazon"])
}

value! {
    /// A protocol by name or number.
    Over(Protocol),
    over,
    text()
        .enum_values(Some(protocols()))
        .examples(["tcp", "17", "ipv6-icmp", "arp", "unknown", "unparsed:runt"])
}

value! {
    /// A network, or an address alone.
    Within(IpNet),
    |typed| {
        typed.parse::<IpNet>().or_else(|_no_net| typed.parse::<IpAddr>().map(IpNet::from)).map_err(
            |_neither| "write a network like 42.62.48.0/24, or an address".into(),
        )
    },
    text()
        .pattern(Some(network_pattern()))
        .examples(["42.62.48.0/24", "2a01:4f8::/32", "42.62.48.9"])
}

value! {
    /// Where a period begins.
    Since(When),
    str::parse,
    when::schema([
        "15m", "1h 30m", "yesterday", "yesterday 22:00", "2026-01-01", "2026-01-01T05:30:00+05:30",
        "2026-01-01T00:00:00.500Z",
    ])
}

value! {
    /// Where a period ends: right before it.
    Until(When),
    str::parse,
    when::schema(["now", "1s ago"])
}

value! {
    /// A rule of the policy.
    RuleName(Rule),
    |typed| {
        let rule = Rule::ALL.into_iter().find(|rule| rule.name() == typed);
        rule.ok_or_else(|| one_of(Rule::ALL.map(Rule::name)))
    },
    text().enum_values(Some(Rule::ALL.map(Rule::name)))
}

value! {
    /// How bad a breach is.
    Severity(String),
    |typed| {
        let known = SEVERITIES.contains(&typed);
        if known { Ok(typed.to_owned()) } else { Err(one_of(SEVERITIES)) }
    },
    text().enum_values(Some(SEVERITIES))
}

value! {
    /// Most rows.
    Limit(u32),
    |typed| {
        typed.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(
            || format!("write a number from 1 to {MAX_LIMIT}").into(),
        )
    },
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .minimum(Some(1))
        .maximum(Some(MAX_LIMIT))
        .default(Some(DEFAULT_LIMIT.into()))
}

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

fn one_of<const N: usize>(names: [&str; N]) -> Cow<'static, str> {
    format!("write one of {}", names.join(", ")).into()
}

fn name(typed: &str) -> Result<&str, Cow<'static, str>> {
    match typed.chars().count() {
        1..=MAX_NAME => Ok(typed),
        _ => Err(format!("write 1 to {MAX_NAME} characters").into()),
    }
}

/// Classes of special-purpose ranges, each once.
fn classes() -> BTreeSet<&'static str> {
    special::classes().collect()
}

/// `4134` or `AS4134`.
fn as_number(typed: &str) -> Option<u32> {
    let has_prefix = typed.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("as"));
    let digits = if has_prefix { &typed[2..] } else { typed };
    digits.parse().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))
}

/// By its name in any case, or the number of an IP protocol.
fn over(typed: &str) -> Result<Protocol, Cow<'static, str>> {
    let number = || typed.parse().ok().filter(|n: &u8| n.to_string() == typed).map(Protocol::Ip);
    Protocol::from_label(&typed.to_ascii_lowercase()).or_else(number).ok_or_else(|| {
        "write tcp, udp, icmp, ipv6-icmp or another as the rows have it, or the number of an IP \
         protocol"
            .into()
    })
}

/// Every way to write a protocol.
fn protocols() -> BTreeSet<String> {
    Protocol::labels().map(str::to_owned).chain((0..=u8::MAX).map(|n| n.to_string())).collect()
}

/// What an address or a network looks like (RFC 4291, section 2.2; RFC 4632).
fn network_pattern() -> String {
    let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let ipv4 = format!(r"({octet}\.){{3}}{octet}(/([0-2]?[0-9]|3[0-2]))?");
    let group = "[0-9A-Fa-f]{1,4}";
    // `::` stands for one group or more, at any place.
    let mut ipv6 = vec![format!("({group}:){{7}}{group}"), format!("({group}:){{1,7}}:")];
    ipv6.extend((1..=6).map(|n| format!("({group}:){{1,{n}}}(:{group}){{1,{}}}", 7 - n)));
    ipv6.push(format!(":((:{group}){{1,7}}|:)"));
    let length = "(/(0{0,2}[0-9]|0?[1-9][0-9]|1[01][0-9]|12[0-8]))?";
    format!("^({ipv4}|({}){length})$", ipv6.join("|"))
}

#[cfg(test)]
mod tests;
