//! What a client may ask for: the query of each path, read strictly.

use std::{fmt, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};
use percent_encoding::percent_decode_str;
use sensor_common::report::ErrorCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, value::MapDeserializer},
};
use utoipa::IntoParams;

use super::{
    problem::{Problem, shown},
    values::{Asn, Device, Group, Limit, Over, Place, RuleName, Severity, Since, Within},
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
    /// One device, by its name or one of its MAC addresses.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    device: Option<Device>,
    /// The devices of this group.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    group: Option<Group>,
    /// Devices that were in contact with this country (ISO 3166 alpha-2, `ZZ` without an entry) or
    /// class of special-purpose range (`private`, `multicast`, ...).
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    country: Option<Place>,
    /// Devices with a packet at or after this time: RFC 3339, or a duration before now.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    since: Option<Since>,
}

/// Of `/api/v1/destinations`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DestinationParameters {
    /// Of one device, by its name or one of its MAC addresses.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    device: Option<Device>,
    /// In this country (ISO 3166 alpha-2, `ZZ` without an entry) or class of special-purpose range
    /// (`private`, `multicast`, ...).
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    country: Option<Place>,
    /// Of this autonomous system; 0 for none.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    asn: Option<Asn>,
    /// Over this protocol: as the rows have it, or the number of an IP protocol.
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
    /// Rows with a packet at or after this time: RFC 3339, or a duration before now. What they count
    /// is everything; see `from`.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    since: Option<Since>,
    /// What was counted from this minute on: RFC 3339, or a duration before now. It is read from the ledger.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    from: Option<Since>,
    /// What was counted until this minute.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    until: Option<Since>,
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
    /// Of one device, by its name or one of its MAC addresses.
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
    /// Raised at or after this time: RFC 3339, or a duration before now.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    since: Option<Since>,
    /// Most alerts; the newest.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    limit: Option<Limit>,
}

impl From<DeviceParameters> for DeviceQuery {
    fn from(typed: DeviceParameters) -> Self {
        Self {
            device: typed.device.map(|device| device.0),
            group: typed.group.map(|group| group.0),
            country: typed.country.map(|country| country.0),
            since: typed.since.map(|since| since.0),
        }
    }
}

impl From<DestinationParameters> for DestinationQuery {
    fn from(typed: DestinationParameters) -> Self {
        Self {
            device: typed.device.map(|device| device.0),
            country: typed.country.map(|country| country.0),
            asn: typed.asn.map(|asn| asn.0),
            protocol: typed.protocol.map(|protocol| protocol.0),
            port: typed.port,
            within: typed.prefix.map(|prefix| prefix.0),
            since: typed.since.map(|since| since.0),
            period: (typed.from.is_some() || typed.until.is_some()).then(|| {
                (typed.from.map_or(0, |from| from.0), typed.until.map_or(u64::MAX, |until| until.0))
            }),
            detail: typed.detail,
            limit: typed.limit.unwrap_or_default().0 as usize,
        }
    }
}

impl From<AlertParameters> for AlertQuery {
    fn from(typed: AlertParameters) -> Self {
        Self {
            device: typed.device.map(|device| device.0),
            rule: typed.rule.map(|rule| rule.0),
            severity: typed.severity.map(|severity| severity.0),
            country: typed.country.map(|country| country.0),
            since: typed.since.map(|since| since.0),
            limit: typed.limit.unwrap_or_default().0 as usize,
        }
    }
}

/// The query that the command line has typed.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn destination_query(typed: &[(&str, String)]) -> Result<DestinationQuery, String> {
    let pairs = typed.iter().map(|(name, value)| (*name, value.as_str()));
    let pairs = MapDeserializer::<_, serde::de::value::Error>::new(pairs);
    let parameters =
        DestinationParameters::deserialize(pairs).map_err(|error| error.to_string())?;
    Ok(parameters.into())
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
