//! What stands before the port in the authority of a URL (RFC 3986, 3.2.2).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Longest name of the DNS, in octets (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label of one (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// A name or an address, in the one spelling by which two are compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    /// In lower case, without a dot at its end.
    Name(String),
    /// An IPv4 address that is mapped into IPv6 is an IPv4 address.
    Address(IpAddr),
}

impl HostName {
    /// Reads a name, an IPv4 address, or an IPv6 address in brackets or without them; no port. Other spellings of
    /// addresses (`127.1`, zones of IPv6) are none.
    pub fn parse(text: &str) -> Option<Self> {
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address = match bracketed {
            Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
            None => match text.parse::<Ipv6Addr>() {
                Ok(address) => IpAddr::V6(address),
                Err(_) => return Self::name_or_v4(text),
            },
        };
        Some(Self::Address(address.to_canonical()))
    }

    /// Reads what a `Host` header or a request's target says (RFC 9110, 7.2), and leaves out the port.
    pub fn of_authority(text: &str) -> Option<Self> {
        // An IPv6 address has its brackets here, or its end could be a port.
        let (host, port) = match text.find(']') {
            Some(end) => (
                &text[..=end],
                text[end + 1..].strip_prefix(':').or_else(|| text.ends_with(']').then_some(""))?,
            ),
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_port = port.is_empty()
            || port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if !is_port || host.contains(':') != host.starts_with('[') {
            return None;
        }
        Self::parse(host)
    }

    fn name_or_v4(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        // Underscores are in no host name, and in many a local network all the same.
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
        };
        (text.len() <= MAX_NAME && text.split('.').all(is_label))
            .then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_spelling() {
        for (text, host) in [
            ("gateway.lan", "gateway.lan"),
            ("GATEWAY.Lan.", "gateway.lan"),
            ("gateway.lan:9469", "gateway.lan"),
            ("gateway.lan.:", "gateway.lan"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("[::1]:9469", "::1"),
            ("[0:0::1]", "::1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ] {
            assert_eq!(HostName::of_authority(text).unwrap().to_string(), host, "{text}");
        }
        assert_eq!(HostName::parse("fe80::1").unwrap().to_string(), "fe80::1");
    }

    #[test]
    fn what_is_no_authority() {
        for text in [
            "",
            ".",
            ":80",
            "a..b",
            "localhost:99999",
            "localhost:8a",
            "localhost:+80",
            "localhost:80:80",
            "::1",
            "::1:80",
            "[::1",
            "[::1]80",
            "[::1]:8:0",
            "[localhost]",
            "[127.0.0.1]",
            "[fe80::1%25lan0]",
            "user@localhost",
            "localhost/x",
            "localhost ",
            "localhost,evil",
            "local%68ost",
            "b\u{fc}cher.example",
            "localhost..",
            "x]",
            "a[::1]",
        ] {
            assert_eq!(HostName::of_authority(text), None, "{text}");
        }
        assert_eq!(HostName::of_authority(&"a.".repeat(128)), None);
        assert_eq!(HostName::of_authority(&"a".repeat(64)), None);
        // Not what a browser makes an address of, so it may be a name that somebody else answers for.
        assert_eq!(HostName::of_authority("127.1"), Some(HostName::Name("127.1".into())));
    }
}
