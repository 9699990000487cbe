//! From the words of the common JSON form back to what they stand for.

use std::sync::LazyLock;

use sensor_common::layout::{NonIp, Outcome, Reason};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Country, DeviceKind, Protocol};
use crate::join::special;

impl Country {
    /// What a label stands for; any two capitals are taken for a country's code.
    pub fn from_label(label: &str) -> Option<Self> {
        match label.as_bytes() {
            b"" => Some(Self::NoAddress),
            b"ZZ" => Some(Self::NoEntry),
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Some(Self::Iso([*a, *b])),
            _ => special::classes().find(|class| *class == label).map(Self::Special),
        }
    }
}

impl DeviceKind {
    /// What a word stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Event: the wall clock was set.
pub const CLOCK_STEP: &str = "clock_step";

/// The name of an event of the kernel side or of [`CLOCK_STEP`], as the sensor has it.
pub fn event_name(name: &str) -> Option<&'static str> {
    let reasons = (0..=u8::MAX).map(Reason::name);
    let ours = [CLOCK_STEP];
    Outcome::ALL
        .iter()
        .map(|(_, name)| *name)
        .chain(reasons)
        .chain(ours)
        .find(|known| *known == name)
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let label = String::deserialize(deserializer)?;
        Self::from_label(&label).ok_or_else(|| D::Error::custom("no country's label"))
    }
}

/// Every protocol as the common JSON form has it, in the order of their names.
static PROTOCOLS: LazyLock<Vec<(String, Protocol)>> = LazyLock::new(|| {
    let named = (0..=u8::MAX).flat_map(|n| {
        [
            Protocol::Ip(n),
            Protocol::NonIp(NonIp::name(n)),
            Protocol::Unparsed(Reason::name(n)),
            Protocol::Unknown,
            Protocol::Rejected(n),
            Protocol::Routed(n),
        ]
        .map(|protocol| (protocol.to_string(), protocol))
    });
    let mut all: Vec<_> = named.collect();
    all.sort_unstable();
    all.dedup();
    all
});

impl Protocol {
    /// What a label stands for.
    pub fn from_label(label: &str) -> Option<Self> {
        let at = PROTOCOLS.binary_search_by(|(name, _)| name.as_str().cmp(label)).ok()?;
        Some(PROTOCOLS[at].1)
    }

    /// Every label there is.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        PROTOCOLS.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stands_for_what_has_it() {
        for label in Protocol::labels() {
            assert_eq!(Protocol::from_label(label).map(|p| p.to_string()).as_deref(), Some(label));
        }
        assert_eq!(Protocol::from_label("tcp"), Some(Protocol::Ip(6)));
        assert_eq!(Protocol::from_label("TCP"), None);
        assert_eq!(Protocol::from_label("rejected:tcp"), Some(Protocol::Rejected(6)));
        assert_eq!(Protocol::from_label("routed:253"), Some(Protocol::Routed(253)));
        for country in ["", "ZZ", "IN", "private", "multicast"] {
            assert_eq!(
                Country::from_label(country).map(|c| c.to_string()).as_deref(),
                Some(country)
            );
        }
        assert_eq!(Country::from_label("in"), None);
    }
}
