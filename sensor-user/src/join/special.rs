//! Special-purpose addresses: known by class before any database is asked.
//!
//! Some geo databases give a country to 192.168.0.0/16 and the like. What the registries call not
//! globally reachable never gets that far. What they call globally reachable does, so that the
//! policy has its say.
//!
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), plus the
//! multicast and reserved blocks of the IANA address space registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One row of the registries.
struct Row<N> {
    range: N,
    /// `None` marks a globally reachable exception inside a wider range that is not.
    class: Option<&'static str>,
    /// Where the range is defined.
    #[cfg_attr(not(test), expect(dead_code, reason = "names the source; the tests check it"))]
    rfc: &'static str,
}

const fn v4(
    [a, b, c, d]: [u8; 4],
    length: u8,
    class: Option<&'static str>,
    rfc: &'static str,
) -> Row<Ipv4Net> {
    Row { range: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length), class, rfc }
}

const fn v6(
    [a, b, c, d, e, f, g, h]: [u16; 8],
    length: u8,
    class: Option<&'static str>,
    rfc: &'static str,
) -> Row<Ipv6Net> {
    Row { range: Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length), class, rfc }
}

/// The most specific row decides. Left out because nothing wider covers them and they are globally
/// reachable: 192.31.196.0/24, 192.52.193.0/24 and 192.175.48.0/24 (AS112, AMT).
const IPV4: &[Row<Ipv4Net>] = &[
    v4([0, 0, 0, 0], 8, Some("this-network"), "RFC 791"),
    v4([0, 0, 0, 0], 32, Some("unspecified"), "RFC 1122"),
    v4([10, 0, 0, 0], 8, Some("private"), "RFC 1918"),
    v4([100, 64, 0, 0], 10, Some("shared"), "RFC 6598"),
    v4([127, 0, 0, 0], 8, Some("loopback"), "RFC 1122"),
    v4([169, 254, 0, 0], 16, Some("link-local"), "RFC 3927"),
    v4([172, 16, 0, 0], 12, Some("private"), "RFC 1918"),
    // IETF protocol assignments, with what lies inside.
    v4([192, 0, 0, 0], 24, Some("reserved"), "RFC 6890"),
    v4([192, 0, 0, 0], 29, Some("private"), "RFC 7335"),
    v4([192, 0, 0, 8], 32, Some("dummy"), "RFC 7600"),
    v4([192, 0, 0, 9], 32, None, "RFC 7723"),
    v4([192, 0, 0, 10], 32, None, "RFC 8155"),
    v4([192, 0, 0, 170], 31, Some("nat64"), "RFC 8880"),
    v4([192, 0, 2, 0], 24, Some("documentation"), "RFC 5737"),
    // 6to4 relay anycast, given up in 2015.
    v4([192, 88, 99, 0], 24, Some("reserved"), "RFC 7526"),
    v4([192, 168, 0, 0], 16, Some("private"), "RFC 1918"),
    v4([198, 18, 0, 0], 15, Some("benchmarking"), "RFC 2544"),
    v4([198, 51, 100, 0], 24, Some("documentation"), "RFC 5737"),
    v4([203, 0, 113, 0], 24, Some("documentation"), "RFC 5737"),
    v4([224, 0, 0, 0], 4, Some("multicast"), "RFC 5771"),
    v4([240, 0, 0, 0], 4, Some("reserved"), "RFC 1112"),
    v4([255, 255, 255, 255], 32, Some("broadcast"), "RFC 919"),
];

/// The most specific row decides. Not here: `::ffff:0:0/96`, which is unmapped; `64:ff9b::/96` and
/// `2002::/16`, which stand for the IPv4 address inside (see [`embedded_ipv4`]); 2620:4f:8000::/48
/// (AS112), which is globally reachable.
const IPV6: &[Row<Ipv6Net>] = &[
    // Reserved by the IETF. A lookup here would run into the databases' IPv4 networks.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 8, Some("reserved"), "RFC 4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, Some("unspecified"), "RFC 4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Some("loopback"), "RFC 4291"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, None, "RFC 6052"),
    // NAT64 for local use; where the IPv4 address sits inside is the network's own choice.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Some("nat64"), "RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Some("discard"), "RFC 6666"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, Some("dummy"), "RFC 9780"),
    // IETF protocol assignments, with what lies inside.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Some("reserved"), "RFC 2928"),
    // Teredo: the registry leaves its reachability open.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, None, "RFC 4380"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, None, "RFC 7723"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, None, "RFC 8155"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, None, "RFC 9665"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Some("benchmarking"), "RFC 5180"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, None, "RFC 7450"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, None, "RFC 7535"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, None, "RFC 7343"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, None, "RFC 9374"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Some("documentation"), "RFC 3849"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Some("documentation"), "RFC 9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Some("srv6"), "RFC 9602"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Some("private"), "RFC 4193"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Some("link-local"), "RFC 4291"),
    // Site-local, given up.
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Some("reserved"), "RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Some("multicast"), "RFC 4291"),
];

/// NAT64's well-known prefix (RFC 6052) and 6to4 (RFC 3056): the 32 bits behind it are the IPv4
/// address that the packet is for.
const EMBEDDING: [Ipv6Net; 2] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// Class of a special-purpose address in lower case, with the registry's range; `None` for an
/// address that a geo database can know. IPv4-mapped IPv6 counts as the IPv4 address it is.
pub fn classify(address: IpAddr) -> Option<(&'static str, IpNet)> {
    // The bits in common with the range's first address: several times faster than
    // `Ipv6Net::contains`, and this runs for every address.
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let differing = |range: &Ipv4Net| range.addr().to_bits() ^ address.to_bits();
            let inside =
                |range: &Ipv4Net| differing(range).leading_zeros() >= range.prefix_len().into();
            most_specific(IPV4.iter().filter(|row| inside(&row.range)), Ipv4Net::prefix_len)
        }
        IpAddr::V6(address) => {
            let differing = |range: &Ipv6Net| range.addr().to_bits() ^ address.to_bits();
            let inside =
                |range: &Ipv6Net| differing(range).leading_zeros() >= range.prefix_len().into();
            most_specific(IPV6.iter().filter(|row| inside(&row.range)), Ipv6Net::prefix_len)
        }
    }
}

/// Every class that there is; some more than once.
pub fn classes() -> impl Iterator<Item = &'static str> {
    let ipv4 = IPV4.iter().filter_map(|row| row.class);
    ipv4.chain(IPV6.iter().filter_map(|row| row.class))
}

fn most_specific<N: Copy + Into<IpNet> + 'static>(
    rows: impl Iterator<Item = &'static Row<N>>,
    length: fn(&N) -> u8,
) -> Option<(&'static str, IpNet)> {
    let row = rows.max_by_key(|row| length(&row.range))?;
    Some((row.class?, row.range.into()))
}

/// The IPv4 address inside an address of NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`), with that
/// prefix. Packets to it end at the IPv4 address, so its country is the one that counts.
pub fn embedded_ipv4(address: Ipv6Addr) -> Option<(Ipv4Addr, Ipv6Net)> {
    let prefix = *EMBEDDING.iter().find(|prefix| prefix.contains(&address))?;
    let behind = address.to_bits() << prefix.prefix_len();
    let [a, b, c, d, ..] = behind.to_be_bytes();
    Some((Ipv4Addr::new(a, b, c, d), prefix))
}

/// The reverse of [`embedded_ipv4`] for a whole network.
pub fn embed(network: Ipv4Net, prefix: Ipv6Net) -> Ipv6Net {
    let behind = u128::from(network.network().to_bits()) << (u128::BITS - u32::BITS);
    let bits = prefix.network().to_bits() | behind >> prefix.prefix_len();
    Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), prefix.prefix_len() + network.prefix_len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn class(address: &str) -> Option<(&'static str, String)> {
        classify(address.parse().unwrap()).map(|(class, range)| (class, range.to_string()))
    }

    #[test]
    fn ranges_by_their_first_and_last_address() {
        for (first, last, expected, range) in [
            ("0.0.0.1", "0.255.255.255", "this-network", "0.0.0.0/8"),
            ("0.0.0.0", "0.0.0.0", "unspecified", "0.0.0.0/32"),
            ("10.0.0.0", "10.255.255.255", "private", "10.0.0.0/8"),
            ("100.64.0.0", "100.127.255.255", "shared", "100.64.0.0/10"),
            ("127.0.0.0", "127.255.255.255", "loopback", "127.0.0.0/8"),
            ("169.254.0.0", "169.254.255.255", "link-local", "169.254.0.0/16"),
            ("172.16.0.0", "172.31.255.255", "private", "172.16.0.0/12"),
            ("192.0.0.11", "192.0.0.169", "reserved", "192.0.0.0/24"),
            ("192.0.0.0", "192.0.0.7", "private", "192.0.0.0/29"),
            ("192.0.0.8", "192.0.0.8", "dummy", "192.0.0.8/32"),
            ("192.0.0.170", "192.0.0.171", "nat64", "192.0.0.170/31"),
            ("192.0.2.0", "192.0.2.255", "documentation", "192.0.2.0/24"),
            ("192.88.99.0", "192.88.99.255", "reserved", "192.88.99.0/24"),
            ("192.168.0.0", "192.168.255.255", "private", "192.168.0.0/16"),
            ("198.18.0.0", "198.19.255.255", "benchmarking", "198.18.0.0/15"),
            ("198.51.100.0", "198.51.100.255", "documentation", "198.51.100.0/24"),
            ("203.0.113.0", "203.0.113.255", "documentation", "203.0.113.0/24"),
            ("224.0.0.0", "239.255.255.255", "multicast", "224.0.0.0/4"),
            ("240.0.0.0", "255.255.255.254", "reserved", "240.0.0.0/4"),
            ("255.255.255.255", "255.255.255.255", "broadcast", "255.255.255.255/32"),
            ("::2", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "::/8"),
            ("::8.8.8.8", "::8.8.8.8", "reserved", "::/8"),
            ("::", "::", "unspecified", "::/128"),
            ("::1", "::1", "loopback", "::1/128"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "nat64", "64:ff9b:1::/48"),
            ("100::", "100::ffff:ffff:ffff:ffff", "discard", "100::/64"),
            ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", "dummy", "100:0:0:1::/64"),
            ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "2001::/23"),
            ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "2001::/23"),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking", "2001:2::/48"),
            ("2001:db8::", "2001:db8:ffff:ffff::", "documentation", "2001:db8::/32"),
            ("3fff::", "3fff:fff:ffff:ffff::", "documentation", "3fff::/20"),
            ("5f00::", "5f00:ffff:ffff:ffff::", "srv6", "5f00::/16"),
            ("fc00::", "fdff:ffff:ffff:ffff::", "private", "fc00::/7"),
            ("fe80::", "febf:ffff:ffff:ffff::", "link-local", "fe80::/10"),
            ("fec0::", "feff:ffff:ffff:ffff::", "reserved", "fec0::/10"),
            ("ff00::", "ffff:ffff:ffff:ffff::", "multicast", "ff00::/8"),
        ] {
            assert_eq!(class(first), Some((expected, range.to_owned())), "{first}");
            assert_eq!(class(last), Some((expected, range.to_owned())), "{last}");
        }
    }

    #[test]
    fn globally_reachable_addresses_are_for_the_databases() {
        for address in [
            // Just outside a range.
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "101::",
            "2001:200::",
            "2001:db9::",
            "fbff::",
            "fe00::",
            // Exceptions the registries name.
            "192.0.0.9",
            "192.0.0.10",
            "192.31.196.1",
            "192.52.193.1",
            "192.175.48.1",
            "64:ff9b::808:808",
            "2001::1",
            "2001:1::1",
            "2001:1::2",
            "2001:1::3",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2001:30::1",
            "2002:808:808::1",
            "2620:4f:8000::1",
            "2606:4700:4700::1111",
        ] {
            assert_eq!(class(address), None, "{address}");
        }
    }

    #[test]
    fn mapped_ipv6_is_its_ipv4_address() {
        assert_eq!(class("::ffff:192.168.1.1"), Some(("private", "192.168.0.0/16".into())));
        assert_eq!(class("::ffff:8.8.8.8"), None);
    }

    #[test]
    fn rows_are_networks_with_lower_case_classes_and_a_source_each_once() {
        let v4 = IPV4.iter().map(|row| (IpNet::from(row.range), row.class, row.rfc));
        let v6 = IPV6.iter().map(|row| (IpNet::from(row.range), row.class, row.rfc));
        let mut seen = HashSet::new();
        for (range, class, rfc) in v4.chain(v6) {
            assert_eq!(range, range.trunc(), "host bits");
            assert!(seen.insert(range), "{range} twice");
            assert!(rfc.starts_with("RFC "), "{range}");
            let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            assert!(class.is_none_or(|class| class.bytes().all(valid)), "{range}");
        }
    }

    #[test]
    fn ipv4_inside_nat64_and_6to4() {
        for (address, inside, network, outer) in [
            ("64:ff9b::42.62.48.1", "42.62.48.1", "42.62.48.0/20", "64:ff9b::2a3e:3000/116"),
            ("2002:2a3e:3001:5::9", "42.62.48.1", "42.62.48.0/20", "2002:2a3e:3000::/36"),
            ("64:ff9b::8.8.8.8", "8.8.8.8", "0.0.0.0/0", "64:ff9b::/96"),
        ] {
            let (ipv4, prefix) = embedded_ipv4(address.parse().unwrap()).unwrap();
            assert_eq!(ipv4.to_string(), inside);
            assert_eq!(embed(network.parse().unwrap(), prefix).to_string(), outer);
        }
        assert_eq!(embedded_ipv4("64:ff9b:1::1".parse().unwrap()), None);
        assert_eq!(embedded_ipv4("2003::1".parse().unwrap()), None);
    }
}
