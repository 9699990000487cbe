//! The records of geo databases, whatever their schema.
//!
//! In the wild: nested (`country.iso_code`: GeoLite2, DB-IP), flat (`country_code` or `country`:
//! IPinfo and others); operators as `autonomous_system_number` and `autonomous_system_organization`
//! (GeoLite2, DB-IP) or as `asn` (`"AS15169"` or a number) with `as_name` or `name` (IPinfo).

use std::{fmt, sync::Arc};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Longer names of operators are cut; a file may hold anything.
const MAX_OPERATOR_BYTES: usize = 128;
/// What databases write where they have no country.
const NO_COUNTRY: [u8; 2] = *b"ZZ";

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// ISO 3166 alpha-2, two ASCII capitals.
    pub(super) country: Option<[u8; 2]>,
    /// Autonomous system number, 0 for none.
    pub(super) asn: u32,
    /// Name of the autonomous system, empty for none.
    pub(super) operator: Arc<str>,
}

impl Record {
    /// True where the record names an operator.
    pub(super) fn has_operator(&self) -> bool {
        self.asn != 0 || !self.operator.is_empty()
    }
}

impl From<Fields<'_>> for Record {
    fn from(fields: Fields<'_>) -> Self {
        let number = [&fields.autonomous_system_number, &fields.asn];
        let name = [&fields.autonomous_system_organization, &fields.as_name, &fields.name];
        let asn = number.into_iter().flatten().find_map(Field::asn).unwrap_or(0);
        let operator = name.into_iter().flatten().find_map(Field::text).map(operator_name);
        Self {
            country: [&fields.country_code, &fields.country]
                .into_iter()
                .flatten()
                .find_map(Field::country),
            asn,
            operator: operator.unwrap_or_default().into(),
        }
    }
}

/// The fields that we know, of any type: a field of an unexpected type is no reason to give up the
/// others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    country_code: Option<Field<'a>>,
    #[serde(borrow)]
    country: Option<Field<'a>>,
    #[serde(borrow)]
    autonomous_system_number: Option<Field<'a>>,
    #[serde(borrow)]
    autonomous_system_organization: Option<Field<'a>>,
    #[serde(borrow)]
    asn: Option<Field<'a>>,
    #[serde(borrow)]
    as_name: Option<Field<'a>>,
    #[serde(borrow)]
    name: Option<Field<'a>>,
}

#[derive(Debug)]
enum Field<'a> {
    Text(&'a str),
    Number(u64),
    /// A map with a text `iso_code`.
    IsoCode(&'a str),
    Other,
}

impl<'a> Field<'a> {
    fn country(&self) -> Option<[u8; 2]> {
        let (Self::Text(code) | Self::IsoCode(code)) = *self else { return None };
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        let code = code.map(|letter| letter.to_ascii_uppercase());
        (code.iter().all(u8::is_ascii_uppercase) && code != NO_COUNTRY).then_some(code)
    }

    fn asn(&self) -> Option<u32> {
        match *self {
            Self::Number(number) => u32::try_from(number).ok(),
            Self::Text(text) => {
                let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as"));
                digits.unwrap_or(text).parse().ok()
            }
            Self::IsoCode(_) | Self::Other => None,
        }
    }

    fn text(&self) -> Option<&'a str> {
        match *self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::IsoCode(_) | Self::Other => None,
        }
    }
}

/// Bounds a name and takes out what could forge a line or turn the direction of the text.
fn operator_name(raw: &str) -> String {
    let raw = raw.trim();
    let mut name = String::with_capacity(raw.len().min(MAX_OPERATOR_BYTES));
    for c in raw.chars() {
        let c = if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c };
        if name.len() + c.len_utf8() > MAX_OPERATOR_BYTES {
            break;
        }
        name.push(c);
    }
    name
}

/// Control characters, and the invisible ones that format or turn text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || c == '\u{feff}'
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FieldVisitor { is_inside: false }.deserialize(deserializer)
    }
}

/// Takes a field; no deeper than the inside of a map, for a file can point from there to the map again.
struct FieldVisitor {
    is_inside: bool,
}

impl<'de> DeserializeSeed<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Field::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).map_or(Field::Other, Field::Number))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Field::Other;
        while let Some(key) = map.next_key::<&str>()? {
            if key == "iso_code" && !self.is_inside {
                if let Field::Text(code) = map.next_value_seed(Self { is_inside: true })? {
                    found = Field::IsoCode(code);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }

    fn visit_borrowed_bytes<E>(self, _: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_names_are_bounded_and_harmless() {
        assert_eq!(operator_name(" Example AS \n"), "Example AS");
        assert_eq!(operator_name("a\nb\u{202e}c\u{0}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
        let long = operator_name(&"é".repeat(100));
        assert_eq!(long, "é".repeat(64));
        let odd = operator_name(&format!("x{}", "é".repeat(100)));
        assert_eq!(odd.len(), 127);
    }

    #[test]
    fn only_two_ascii_letters_are_a_country() {
        for (text, expected) in
            [("CN", Some(*b"CN")), ("cn", Some(*b"CN")), ("XK", Some(*b"XK")), ("ZZ", None)]
        {
            assert_eq!(Field::Text(text).country(), expected);
            assert_eq!(Field::IsoCode(text).country(), expected);
        }
        for text in ["", "C", "CHN", "C1", "é", "--", "A\n", "China"] {
            assert_eq!(Field::Text(text).country(), None, "{text}");
        }
        assert_eq!(Field::Number(86).country(), None);
    }

    #[test]
    fn as_numbers_in_every_form() {
        assert_eq!(Field::Number(15169).asn(), Some(15169));
        assert_eq!(Field::Text("AS15169").asn(), Some(15169));
        assert_eq!(Field::Text("15169").asn(), Some(15169));
        for text in ["", "AS", "AS-1", "AS4294967296", "Google"] {
            assert_eq!(Field::Text(text).asn(), None, "{text}");
        }
        assert_eq!(Field::Number(1 << 32).asn(), None);
    }
}
