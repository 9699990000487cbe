//! Values that a query may have: how each is read, and how it is described. The command line reads
//! them with the same code before it asks.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    net::IpAddr,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use sensor_common::layout::{NonIp, Reason};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

use crate::{
    config::parse_country,
    join::special,
    model::{Country, Protocol},
    state::{DeviceRef, Rule},
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

/// What goes for every text: no value is empty, and what is not text steers no terminal.
fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).min_length(Some(1))
}

/// A parameter's type: how it is described. `$read` is its [`FromStr`].
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
                let schema: ObjectBuilder = $schema;
                schema.build().into()
            }
        }

        impl ToSchema for $name {}
    };
}

value! {
    /// Name or MAC address of a device.
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
    place,
    text().pattern(Some("^([A-Z]{2}|[a-z][a-z0-9-]+)$")).examples(["CN", "ZZ", "private"])
}

value! {
    /// A protocol by name or number.
    Over(Protocol),
    over,
    text()
        .pattern(Some("^[a-z0-9:_-]+$"))
        .examples(["tcp", "17", "ipv6-icmp", "arp", "unknown", "unparsed:runt"])
}

value! {
    /// A network, or an address alone.
    Within(IpNet),
    |typed| {
        typed.parse::<IpNet>().or_else(|_| typed.parse::<IpAddr>().map(IpNet::from)).map_err(
            |_neither| "write a network like 42.62.48.0/24, or an address".into(),
        )
    },
    text()
        .pattern(Some("^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"))
        .examples(["42.62.48.0/24", "2a01:4f8::/32", "42.62.48.9"])
}

value! {
    /// A point in time, Unix time in nanoseconds.
    Since(u64),
    since,
    text().examples(["15m", "1h 30m", "2026-01-01T05:30:00+05:30", "2026-01-01T00:00:00.500Z"])
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

fn place(typed: &str) -> Result<Country, Cow<'static, str>> {
    if typed == Country::NoEntry.as_str() {
        return Ok(Country::NoEntry);
    }
    if let Some(class) = special::classes().find(|class| *class == typed) {
        return Ok(Country::Special(class));
    }
    parse_country(typed).map(Country::Iso).map_err(|advice| {
        let classes: BTreeSet<_> = special::classes().collect();
        let classes: Vec<_> = classes.into_iter().collect();
        format!("{advice}; or a class: {}", classes.join(", ")).into()
    })
}

/// As the common JSON form has it, or the number of an IP protocol.
fn over(typed: &str) -> Result<Protocol, Cow<'static, str>> {
    let numbers = || 0..=u8::MAX;
    let ip = numbers().map(Protocol::Ip);
    let others = numbers()
        .flat_map(|n| [Protocol::NonIp(NonIp::name(n)), Protocol::Unparsed(Reason::name(n))])
        .chain([Protocol::Unknown]);
    typed
        .parse()
        .map(Protocol::Ip)
        .ok()
        .or_else(|| ip.chain(others).find(|protocol| protocol.to_string() == typed))
        .ok_or_else(|| {
            "write tcp, udp, icmp, ipv6-icmp or another as the rows have it, or the number of an IP \
             protocol"
                .into()
        })
}

/// RFC 3339, or as long before now as a duration says.
fn since(typed: &str) -> Result<u64, Cow<'static, str>> {
    let time = match humantime::parse_duration(typed) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_no_duration) => {
            let time = typed.parse::<jiff::Timestamp>().map_err(|_neither| {
                "write a duration like 15m, or a time of RFC 3339 like 2026-01-01T05:30:00+05:30 \
                 (in a URL its + is %2B)"
            })?;
            Some(time.into())
        }
    };
    // What lies before 1970 leaves everything through.
    let since_epoch = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let nanos = since_epoch.as_ref().map_or(0, Duration::as_nanos);
    u64::try_from(nanos).map_err(|_beyond| "that is too far in the future".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_with_any_offset_or_relative() {
        let of = |typed: &str| typed.parse().map(|Since(nanos)| nanos);
        assert_eq!(of("2026-01-01T05:30:00+05:30"), Ok(1_767_225_600_000_000_000));
        assert_eq!(of("2026-01-01T00:00:00.5Z"), Ok(1_767_225_600_500_000_000));
        assert_eq!(of("1960-01-01T00:00:00Z"), Ok(0));
        assert_eq!(of("9999 years"), Ok(0), "before 1970");
        let now = u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
        let quarter = now - of("15m").unwrap();
        assert!((899_000_000_000..=900_000_000_000).contains(&quarter), "{quarter}");
        for bad in ["", "yesterday", "15", "-15m", "2026-01-01", "2026-01-01T00:00:00", "12:00"] {
            let advice = of(bad).unwrap_err().to_string();
            assert!(advice.contains("15m") && advice.contains("%2B"), "{bad}: {advice}");
        }
        assert!(of("9000-01-01T00:00:00Z").unwrap_err().to_string().contains("future"));
    }

    #[test]
    fn places_are_countries_and_classes() {
        let of = |typed: &str| typed.parse().map(|Place(country)| country);
        assert_eq!(of("CN"), Ok(Country::Iso(*b"CN")));
        assert_eq!(of("ZZ"), Ok(Country::NoEntry));
        assert_eq!(of("link-local"), Ok(Country::Special("link-local")));
        assert!(of("cn").unwrap_err().to_string().starts_with("write `CN`"));
        assert!(of("UK").unwrap_err().to_string().starts_with("write `GB`"));
        for bad in ["", "China", "Private", "C\u{0}"] {
            assert!(of(bad).unwrap_err().to_string().contains("alpha-2"), "{bad}");
        }
    }

    #[test]
    fn every_protocol_is_read_as_it_is_shown() {
        let of = |typed: &str| typed.parse().map(|Over(protocol)| protocol);
        for number in 0..=u8::MAX {
            let protocol = Protocol::Ip(number);
            assert_eq!(of(&protocol.to_string()), Ok(protocol));
            assert_eq!(of(&number.to_string()), Ok(protocol));
        }
        assert_eq!(of("arp"), Ok(Protocol::NonIp("arp")));
        assert_eq!(of("unparsed:runt"), Ok(Protocol::Unparsed("runt")));
        assert_eq!(of("unknown"), Ok(Protocol::Unknown));
        for bad in ["", "TCP", "256", "tpc", "unparsed", "unparsed:"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_may_be_single_addresses() {
        let of = |typed: &str| typed.parse().map(|Within(net)| net.to_string());
        assert_eq!(of("42.62.48.0/24").as_deref(), Ok("42.62.48.0/24"));
        assert_eq!(of("42.62.48.9").as_deref(), Ok("42.62.48.9/32"));
        assert_eq!(of("2a01::1").as_deref(), Ok("2a01::1/128"));
        for bad in ["", "42.62.48", "42.62.48.0/33", "host.example", "fe80::1%eth0"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
