//! What a client may ask for: the query of each path, read strictly.

use std::{fmt, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use percent_encoding::percent_decode_str;
use sensor_common::report::ErrorCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, value::MapDeserializer},
};
use utoipa::IntoParams;

use super::{
    problem::{Problem, shown},
    values::{
        Asn, Device, Group, Limit, Operator, Over, Place, RuleName, Severity, Since, Until, When,
        Within,
    },
};
use crate::state::{AlertQuery, DestinationQuery, Detail, DeviceQuery};

/// No parameters at all.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Nothing {}

/// Of `/api/v1/status`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StatusParameters {
    /// How fine the rows are: by prefix, or by far address and VLAN.
    #[serde(default)]
    #[param(inline)]
    pub(super) detail: Detail,
}

/// Of `/api/v1/devices`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeviceParameters {
    /// One device, by its name or one of its MAC addresses; else by an IP address or host name that it has now.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    device: Option<Device>,
    /// The devices of this group.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    group: Option<Group>,
    /// Devices that were in contact with this country (ISO 3166 alpha-2 in any case, or its English name; `ZZ`
    /// without an entry) or class of special-purpose range (`private`, `multicast`, ...).
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    country: Option<Place>,
    /// Devices that were active from this time on, with what they sent and received since, from the ledger: RFC
    /// 3339, a duration before now, or a day or time in UTC such as `yesterday` or `22:00`. Else everything.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    since: Option<Since>,
    /// Right before this time.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    until: Option<Until>,
}

/// Of `/api/v1/destinations`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DestinationParameters {
    /// Of one device, by its name or one of its MAC addresses; else by an IP address or host name that it has now.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    device: Option<Device>,
    /// Of the devices of this group.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    group: Option<Group>,
    /// In this country (ISO 3166 alpha-2 in any case, or its English name; `ZZ` without an entry) or class of
    /// special-purpose range (`private`, `multicast`, ...).
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    country: Option<Place>,
    /// Of this autonomous system; 0 for none.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    asn: Option<Asn>,
    /// Of this operator: its AS number, or a part of its name in any case.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    operator: Option<Operator>,
    /// Over this protocol: as the rows have it, in any case, or the number of an IP protocol.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    protocol: Option<Over>,
    /// At this far port; 0 for none.
    #[serde(default, deserialize_with = "parsed")]
    #[param(maximum = 65535)]
    port: Option<u16>,
    /// With a far address inside this network, or with this one alone. Rows whose address could not
    /// be kept are left out unless their whole prefix lies inside.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    prefix: Option<Within>,
    /// What was counted from this time on, from the ledger: RFC 3339, a duration before now, or a day or time in
    /// UTC such as `yesterday` or `22:00`. Without it and `until` everything.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    since: Option<Since>,
    /// The same as `since`. Where both are given the later one holds.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    from: Option<Since>,
    /// What was counted right before this time. The answer's `period` says what it could be told apart by.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    until: Option<Until>,
    /// How fine the rows are: by prefix, or by far address and VLAN.
    #[serde(default)]
    #[param(inline)]
    detail: Detail,
    /// Most rows; those with the most bytes.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    limit: Option<Limit>,
}

/// Of `/api/v1/alerts`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertParameters {
    /// Of one device, by its name or one of its MAC addresses; else by an IP address or host name that it has now.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    device: Option<Device>,
    /// By this rule.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    rule: Option<RuleName>,
    /// Of this severity.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    severity: Option<Severity>,
    /// For this country (ISO 3166 alpha-2, `ZZ` without an entry).
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    country: Option<Place>,
    /// Raised from this time on: RFC 3339, a duration before now, or a day or time in UTC such as `yesterday`.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    since: Option<Since>,
    /// Most alerts; the newest.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    limit: Option<Limit>,
}

/// What is wrong with a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the period ends before it begins, or at its beginning; a day is its first moment, so yesterday as a whole is \
     since `yesterday` until `today`"
)]
pub(crate) struct NoPeriod;

/// From the first moment until right before the second, Unix time in nanoseconds; nothing, where neither is given.
fn period(
    since: Option<&When>,
    until: Option<&When>,
    now: &Zoned,
) -> Result<Option<(u64, u64)>, NoPeriod> {
    if since.is_none() && until.is_none() {
        return Ok(None);
    }
    let period =
        (since.map_or(0, |since| since.at(now)), until.map_or(u64::MAX, |until| until.at(now)));
    if period.0 < period.1 { Ok(Some(period)) } else { Err(NoPeriod) }
}

impl DeviceParameters {
    /// What is asked at a moment.
    pub(super) fn query(self, now: &Zoned) -> Result<DeviceQuery, NoPeriod> {
        let (since, until) = (self.since.map(|since| since.0), self.until.map(|until| until.0));
        Ok(DeviceQuery {
            device: self.device.map(|device| device.0),
            group: self.group.map(|group| group.0),
            country: self.country.map(|country| country.0),
            period: period(since.as_ref(), until.as_ref(), now)?,
        })
    }
}

impl DestinationParameters {
    /// What is asked at a moment.
    pub(super) fn query(self, now: &Zoned) -> Result<DestinationQuery, NoPeriod> {
        let since = [self.since, self.from].into_iter().flatten().map(|since| since.0);
        let since = since.max_by_key(|since| since.at(now));
        let until = self.until.map(|until| until.0);
        Ok(DestinationQuery {
            device: self.device.map(|device| device.0),
            group: self.group.map(|group| group.0),
            country: self.country.map(|country| country.0),
            asn: self.asn.map(|asn| asn.0),
            operator: self.operator.map(|operator| operator.0),
            protocol: self.protocol.map(|protocol| protocol.0),
            port: self.port,
            within: self.prefix.map(|prefix| prefix.0),
            period: period(since.as_ref(), until.as_ref(), now)?,
            detail: self.detail,
            limit: self.limit.unwrap_or_default().0 as usize,
        })
    }
}

impl From<AlertParameters> for AlertQuery {
    fn from(typed: AlertParameters) -> Self {
        Self {
            device: typed.device.map(|device| device.0),
            rule: typed.rule.map(|rule| rule.0),
            severity: typed.severity.map(|severity| severity.0),
            country: typed.country.map(|country| country.0),
            since: typed.since.map(|since| since.0.at(&now())),
            limit: typed.limit.unwrap_or_default().0 as usize,
        }
    }
}

/// This moment, in the zone that the API speaks of.
pub(super) fn now() -> Zoned {
    Timestamp::now().to_zoned(TimeZone::UTC)
}

/// The query that the command line has typed.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn destination_query(typed: &[(&str, String)]) -> Result<DestinationQuery, String> {
    let parameters: DestinationParameters = typed_parameters(typed)?;
    parameters.query(&now()).map_err(|error| error.to_string())
}

/// The same for devices.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn device_query(typed: &[(&str, String)]) -> Result<DeviceQuery, String> {
    let parameters: DeviceParameters = typed_parameters(typed)?;
    parameters.query(&now()).map_err(|error| error.to_string())
}

fn typed_parameters<T: DeserializeOwned>(typed: &[(&str, String)]) -> Result<T, String> {
    let pairs = typed.iter().map(|(name, value)| (*name, value.as_str()));
    let pairs = MapDeserializer::<_, serde::de::value::Error>::new(pairs);
    T::deserialize(pairs).map_err(|error| error.to_string())
}

/// Reads a value with its [`FromStr`].
fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let typed = String::deserialize(deserializer)?;
    typed
        .parse()
        .map(Some)
        .map_err(|advice| D::Error::custom(format!("`{}`: {advice}", shown(&typed))))
}

/// The query of a request: every parameter known, given once, and well-formed.
///
/// Stricter than axum's `Query`, which takes what it does not know for nothing, and broken UTF-8 for
/// U+FFFD: a filter that is not understood must not answer more than was asked for.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Parameters<T>
where
    T: DeserializeOwned + IntoParams,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn read<T: DeserializeOwned + IntoParams>(query: &str) -> Result<T, Problem> {
    let mut pairs = Vec::<(String, String)>::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if !known::<T>().any(|known| known == name) {
            let known: Vec<_> = known::<T>().collect();
            let takes = if known.is_empty() {
                "none".to_owned()
            } else {
                format!("only {}", known.join(", "))
            };
            let message =
                format!("`{}` is no parameter here: this path takes {takes}", shown(&name));
            return Err(Problem::new(ErrorCode::UnknownParameter, message).with_parameter(&name));
        }
        if pairs.iter().any(|(other, _)| *other == name) {
            let message = format!("`{name}` is given more than once; give it once");
            return Err(Problem::new(ErrorCode::RepeatedParameter, message).with_parameter(&name));
        }
        pairs.push((name, value));
    }
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    serde_path_to_error::deserialize(MapDeserializer::<_, serde::de::value::Error>::new(pairs))
        .map_err(|error| {
            let name = error.path().to_string();
            Problem::new(ErrorCode::BadParameter, format!("{name}: {}", error.inner()))
                .with_parameter(&name)
        })
}

fn known<T: IntoParams>() -> impl Iterator<Item = String> {
    T::into_params(|| None).into_iter().map(|parameter| parameter.name)
}

/// `application/x-www-form-urlencoded`, as far as a query has it.
fn decode(text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    well_formed(&text)?;
    Ok(percent_decode_str(&text).decode_utf8_lossy().into_owned())
}

/// RFC 3986 leaves no room for a `%` without two hex digits; what they encode is UTF-8 with us.
pub(super) fn well_formed(text: &str) -> Result<(), Problem> {
    let malformed = |what| {
        let message = format!("`{}` in the URL has {what}", shown(text));
        Err(Problem::new(ErrorCode::MalformedRequest, message))
    };
    let mut encoded = text.split('%').skip(1).map(|rest| rest.as_bytes().get(..2));
    if !encoded.all(|digits| digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))) {
        return malformed("a % that is not followed by two hex digits; write %25 for a % itself");
    }
    if percent_decode_str(text).decode_utf8().is_err() {
        return malformed("percent-encoded bytes that are not UTF-8");
    }
    Ok(())
}
