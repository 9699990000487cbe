//! Databases of every schema, made here; the ones that are built in; and damaged ones.

use std::{fs, io::Write as _, path::PathBuf};

use ipnet::IpNet;
use mmdb_writer::{IpVersion, Ipv4Aliasing, Value, Writer};
use tempfile::TempDir;

use super::*;

/// Writes MaxMind DB files into a directory of its own.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Source {
        let path: PathBuf = self.0.path().join(name);
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        Source::File(path)
    }

    fn mmdb(&self, name: &str, networks: &[(&str, Value)]) -> Source {
        self.file(name, &mmdb(name, IpVersion::V6, networks))
    }
}

fn mmdb(kind: &str, ip_version: IpVersion, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut writer = Writer::builder(kind)
        .ip_version(ip_version)
        .ipv4_aliasing(Ipv4Aliasing::Disabled)
        .build_epoch(std::time::UNIX_EPOCH)
        .build();
    for (network, value) in networks {
        writer.insert_value(network.parse::<IpNet>().unwrap(), value.clone()).unwrap();
    }
    writer.to_bytes().unwrap()
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn country(code: &str) -> Value {
    Value::map([("country_code", text(code))])
}

fn operator(asn: u32, name: &str) -> Value {
    let asn = ("autonomous_system_number", Value::from(asn));
    Value::map([asn, ("autonomous_system_organization", text(name))])
}

fn look(geo: &GeoDb, address: &str) -> (String, u32, String, String, bool) {
    let found = geo.lookup(address.parse().unwrap());
    let prefix = found.prefix.unwrap();
    assert_eq!(prefix, prefix.trunc(), "host bits");
    let operator = found.operator.to_string();
    (found.country.to_string(), found.asn, operator, prefix.to_string(), found.watched)
}

fn row(
    country: &str,
    asn: u32,
    operator: &str,
    prefix: &str,
    watched: bool,
) -> (String, u32, String, String, bool) {
    (country.into(), asn, operator.into(), prefix.into(), watched)
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn every_schema_in_the_wild() {
    let bench = Bench::new();
    let asn = [("5.0.0.0/8", operator(64500, "Example AS"))];
    let operators = bench.mmdb("asn", &asn);
    let names = Value::map([("en", text("China")), ("de", text("China"))]);
    let nested = Value::map([
        ("continent", Value::map([("code", text("AS"))])),
        (
            "country",
            Value::map([
                ("geoname_id", Value::from(1_814_991_u32)),
                ("is_in_european_union", Value::from(false)),
                ("iso_code", text("CN")),
                ("names", names),
            ]),
        ),
        ("registered_country", Value::map([("iso_code", text("HK"))])),
    ]);
    let ipinfo_lite = Value::map([
        ("as_domain", text("example.com")),
        ("as_name", text("Example AS")),
        ("asn", text("AS64500")),
        ("country", text("China")),
        ("country_code", text("CN")),
    ]);
    let ipinfo_old = Value::map([("country", text("CN")), ("country_name", text("China"))]);
    for (kind, record) in [
        ("GeoLite2-Country", nested),
        ("dbip-country", country("CN")),
        ("lower", country("cn")),
        ("ipinfo country", ipinfo_old),
        ("ipinfo lite", ipinfo_lite.clone()),
    ] {
        let source = bench.mmdb(kind, &[("5.0.0.0/8", record)]);
        let geo = GeoDb::open(&source, &operators, &[], &[]).unwrap();
        let expected = row("CN", 64500, "Example AS", "5.0.0.0/8", false);
        assert_eq!(look(&geo, "5.6.7.8"), expected, "{kind}");
    }

    let countries = bench.mmdb("country", &[("5.0.0.0/8", country("CN"))]);
    let ipinfo_asn = Value::map([("asn", text("AS64500")), ("name", text("Example AS"))]);
    let number = Value::map([("asn", Value::from(64500_u32)), ("as_name", text("Example AS"))]);
    for record in [ipinfo_asn, number, ipinfo_lite.clone()] {
        let source = bench.mmdb("operators", &[("5.0.0.0/8", record)]);
        let geo = GeoDb::open(&countries, &source, &[], &[]).unwrap();
        assert_eq!(look(&geo, "5.6.7.8"), row("CN", 64500, "Example AS", "5.0.0.0/8", false));
    }

    // One file for both is read once.
    let both = bench.mmdb("both", &[("5.0.0.0/8", ipinfo_lite)]);
    let geo = GeoDb::open(&both, &both, &[], &[]).unwrap();
    assert!(Arc::ptr_eq(&geo.country, &geo.operators));
    assert_eq!(look(&geo, "5.6.7.8"), row("CN", 64500, "Example AS", "5.0.0.0/8", false));
}

#[test]
fn fields_of_unexpected_types_are_no_entry() {
    let bench = Bench::new();
    let odd = Value::map([
        ("asn", Value::map([("iso_code", Value::array([text("x")]))])),
        ("autonomous_system_number", Value::from(true)),
        ("country", Value::array([text("CN")])),
        ("country_code", text("China")),
        ("name", Value::from(1.5_f64)),
    ]);
    let list = [("5.0.0.0/8", odd), ("6.0.0.0/8", country("CN"))];
    let countries = bench.mmdb("country", &list);
    let [(_, odd), _] = list;
    let list = [("5.0.0.0/8", odd), ("6.0.0.0/8", operator(1, "A"))];
    let geo = GeoDb::open(&countries, &bench.mmdb("asn", &list), &[], &[]).unwrap();
    assert_eq!(look(&geo, "5.6.7.8"), row("ZZ", 0, "", "5.0.0.0/8", false));
}

/// Country /16, operator /20, watched /24.
fn nested_networks(bench: &Bench, watched: &[&str]) -> GeoDb {
    let countries = [("42.62.0.0/16", country("CN")), ("2400:8900::/29", country("SG"))];
    let operators = [
        ("42.62.48.0/20", operator(64501, "Operator")),
        ("43.0.0.0/8", operator(64502, "Elsewhere")),
        ("2400:8900::/32", operator(64503, "Six")),
    ];
    let countries = bench.mmdb("country", &countries);
    let operators = bench.mmdb("asn", &operators);
    GeoDb::open(&countries, &operators, &networks(watched), &[]).unwrap()
}

#[test]
fn the_most_specific_network_is_the_prefix() {
    let bench = Bench::new();
    let geo = nested_networks(&bench, &["42.0.0.0/8", "42.62.48.0/24", "192.168.7.0/24"]);
    for (address, expected) in [
        ("42.62.48.1", row("CN", 64501, "Operator", "42.62.48.0/24", true)),
        // The wide watched network still counts, without being the prefix.
        ("42.62.49.1", row("CN", 64501, "Operator", "42.62.48.0/20", true)),
        ("42.62.1.1", row("CN", 0, "", "42.62.0.0/16", true)),
        ("42.1.1.1", row("ZZ", 0, "", "42.0.0.0/8", true)),
        ("43.1.1.1", row("ZZ", 64502, "Elsewhere", "43.0.0.0/8", false)),
        ("2400:8900::1", row("SG", 64503, "Six", "2400:8900::/32", false)),
        ("2400:8901::1", row("SG", 0, "", "2400:8900::/29", false)),
        ("192.168.7.1", row("private", 0, "", "192.168.7.0/24", true)),
        ("192.168.8.1", row("private", 0, "", "192.168.0.0/16", false)),
        ("255.255.255.255", row("broadcast", 0, "", "255.255.255.255/32", false)),
    ] {
        assert_eq!(look(&geo, address), expected, "{address}");
    }
}

#[test]
fn without_an_entry_the_smallest_gap_is_the_prefix() {
    let bench = Bench::new();
    let geo = nested_networks(&bench, &[]);
    // 43/8 cuts the operators' gap at /9 of 42/8's neighbours; the countries' is wider.
    assert_eq!(look(&geo, "42.200.0.1"), row("ZZ", 0, "", "42.128.0.0/9", false));
    assert_eq!(look(&geo, "46.0.0.1"), row("ZZ", 0, "", "44.0.0.0/6", false));
    assert_eq!(look(&geo, "2600::1"), row("ZZ", 0, "", "2600::/7", false));
}

#[test]
fn families_that_a_database_does_not_cover() {
    let bench = Bench::new();
    let v4 = mmdb("v4", IpVersion::V4, &[("5.0.0.0/8", country("CN"))]);
    let v4 = bench.file("v4", &v4);
    let v6_only = bench.mmdb("v6", &[("2400::/12", operator(1, "A"))]);
    let geo = GeoDb::open(&v4, &v6_only, &[], &[]).unwrap();
    // The IPv6 tree's gap above IPv4 is all of IPv4.
    assert_eq!(look(&geo, "5.6.7.8"), row("CN", 0, "", "5.0.0.0/8", false));
    assert_eq!(look(&geo, "128.0.0.1"), row("ZZ", 0, "", "128.0.0.0/1", false));
    assert_eq!(look(&geo, "2400::1"), row("ZZ", 1, "A", "2400::/12", false));
    let v4_operators = mmdb("v4", IpVersion::V4, &[("5.0.0.0/8", operator(1, "A"))]);
    let geo = GeoDb::open(&v4, &bench.file("v4o", &v4_operators), &[], &[]).unwrap();
    assert_eq!(look(&geo, "2400::1"), row("ZZ", 0, "", "::/0", false));
}

#[test]
fn ipv4_inside_ipv6_is_looked_up_as_ipv4() {
    let bench = Bench::new();
    let geo = nested_networks(&bench, &["42.62.48.0/24"]);
    let expected = row("CN", 64501, "Operator", "42.62.48.0/24", true);
    assert_eq!(look(&geo, "::ffff:42.62.48.1"), expected);
    // What was on the wire lies in the prefix.
    let expected = row("CN", 64501, "Operator", "64:ff9b::2a3e:3000/120", true);
    assert_eq!(look(&geo, "64:ff9b::42.62.48.1"), expected);
    let expected = row("CN", 64501, "Operator", "2002:2a3e:3000::/36", false);
    assert_eq!(look(&geo, "2002:2a3e:3101::1"), expected);
    assert_eq!(look(&geo, "64:ff9b::10.0.0.1").0, "private");
    assert_eq!(look(&geo, "64:ff9b::10.0.0.1").3, "64:ff9b::a00:0/104");
    let geo = nested_networks(&bench, &["64:ff9b::/96"]);
    assert!(look(&geo, "64:ff9b::42.62.48.1").4);
}

#[test]
fn rows_share_the_operators_name() {
    let geo = nested_networks(&Bench::new(), &[]);
    let name = |address: &str| geo.lookup(address.parse().unwrap()).operator;
    assert!(Arc::ptr_eq(&name("42.62.48.1"), &name("42.62.49.1")));
}

#[test]
fn the_built_in_databases_know_the_world() {
    let geo = GeoDb::open(&Source::Default, &Source::Default, &[], &[]).unwrap();
    for (address, country, asn) in [
        ("42.62.48.1", "CN", None),
        ("8.8.8.8", "US", Some(15169)),
        ("2001:200::1", "JP", Some(2500)),
        ("192.168.1.1", "private", Some(0)),
        ("::ffff:192.168.1.1", "private", Some(0)),
        ("ff02::fb", "multicast", Some(0)),
    ] {
        let found = geo.lookup(address.parse().unwrap());
        assert_eq!(found.country.as_str(), country, "{address}");
        assert!(asn.is_none_or(|asn| found.asn == asn), "{address}: {found:?}");
    }
    let [country, operators] = geo.databases();
    assert_eq!((country.role, operators.role), (Role::Country, Role::Operators));
    for status in [country, operators] {
        assert_eq!(status.source, "built-in");
        assert!(status.build_time > 1_700_000_000);
        assert_eq!(status.sha256.len(), 64);
    }
    let attribution = geo.attribution();
    for holder in ["DB-IP", "RouteViews", "NRO", "CC BY 4.0"] {
        assert!(attribution.contains(holder), "{holder}");
    }
}

fn refusal(countries: &Source) -> String {
    let error = GeoDb::open(countries, &Source::Default, &[], &[]).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn files_that_are_no_country_database_are_refused_with_the_path_and_a_remedy() {
    let bench = Bench::new();
    let missing = Source::File(bench.0.path().join("missing.mmdb"));
    let directory = Source::File(bench.0.path().to_owned());
    let gzip = bench.file("x.mmdb.gz", &[0x1f, 0x8b, 8, 0, 0, 0]);
    let asn = bench.mmdb("GeoLite2-ASN", &[("5.0.0.0/8", operator(1, "A"))]);
    for (source, words) in [
        (&missing, ["missing.mmdb", "No such file", "leave it out"]),
        (&directory, ["country database", "not a regular file", "check the path"]),
        (&gzip, ["x.mmdb.gz", "compressed", "gunzip"]),
        (&bench.file("empty", b""), ["empty", "no MaxMind DB", "download"]),
        (&bench.file("page", b"<html>Not found</html>"), ["page", "no MaxMind DB", "download"]),
        (&asn, ["GeoLite2-ASN", "has no country", "right kind"]),
    ] {
        let error = refusal(source);
        for word in words {
            assert!(error.contains(word), "`{word}` is missing in: {error}");
        }
    }
    let error =
        GeoDb::open(&Source::Default, &bench.mmdb("c", &[("5.0.0.0/8", country("CN"))]), &[], &[]);
    assert!(error.unwrap_err().to_string().contains("no operators"));
}

/// Networks of the sample, each with a record of its own.
const RECORDS: u8 = 40;

fn sample() -> Vec<u8> {
    let networks: Vec<(String, Value)> = (0..RECORDS)
        .map(|i| {
            let record = [("country_code", text("CN")), ("name", text(&format!("record {i}")))];
            (format!("5.{i}.0.0/16"), Value::map(record))
        })
        .collect();
    let networks: Vec<_> = networks.iter().map(|(n, value)| (n.as_str(), value.clone())).collect();
    mmdb("sample", IpVersion::V6, &networks)
}

#[test]
fn truncated_files_are_refused() {
    let bench = Bench::new();
    let whole = sample();
    for length in (0..whole.len()).step_by(61).chain([whole.len() - 1]) {
        let error = refusal(&bench.file("truncated", &whole[..length]));
        assert!(error.contains("damaged"), "{length}: {error}");
    }
    // A hole in the middle, as a broken download leaves it, with the end in its place.
    let mut hole = whole;
    let third = hole.len() / 3;
    hole.drain(third..third + 128);
    assert!(refusal(&bench.file("hole", &hole)).contains("damaged"));
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = sample();
    let mut refused = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0xff, 0x01, 0x80][at % 3];
        let Ok(database) = Database::from_bytes(bytes, Source::Default) else {
            refused += 1;
            continue;
        };
        for i in 0..RECORDS {
            database.find(IpAddr::from([5, i, 0, 1]));
        }
        database.find("2400::1".parse().unwrap());
    }
    assert!(refused > 100, "only {refused} refused");
}

#[test]
fn a_tree_that_runs_in_a_loop_is_refused() {
    // 24-bit records; node 1's both sides lead back to node 1.
    let mut bytes = mmdb("loop", IpVersion::V6, &[("5.0.0.0/8", country("CN"))]);
    bytes[6..12].copy_from_slice(&[0, 0, 1, 0, 0, 1]);
    let error = Database::from_bytes(bytes, Source::Default).unwrap_err();
    assert!(matches!(error, Problem::Damaged(_)), "{error}");
}

#[test]
fn a_network_has_a_country_only_as_a_whole() {
    let bench = Bench::new();
    let countries = bench.mmdb(
        "Test-Country",
        &[
            ("5.0.0.0/16", country("DE")),
            ("5.1.0.0/25", country("CN")),
            ("5.1.0.128/25", country("IN")),
            ("2a00::/32", country("FR")),
            ("64:ff9b::/96", country("US")),
        ],
    );
    let operators = bench.mmdb("Test-ASN", &[("5.0.0.0/8", operator(64500, "Example AS"))]);
    let geo = GeoDb::open(&countries, &operators, &networks(&["5.0.9.64/26"]), &[]).unwrap();
    let look = |network: &str| {
        let found = geo.lookup_network(network.parse().unwrap());
        (found.country.to_string(), found.asn, found.prefix.unwrap().to_string(), found.watched)
    };
    assert_eq!(look("5.0.7.0/24"), ("DE".into(), 64500, "5.0.0.0/16".into(), false));
    assert_eq!(look("2a00:0:7::/48"), ("FR".into(), 0, "2a00::/32".into(), false));
    assert_eq!(look("10.1.2.0/24"), ("private".into(), 0, "10.0.0.0/8".into(), false));
    // Split between two countries; with a watched part; an address of IPv4 behind a gateway.
    assert_eq!(look("5.1.0.0/24"), ("ZZ".into(), 0, "5.1.0.0/24".into(), false));
    assert_eq!(look("64:ff9b::/48"), ("ZZ".into(), 0, "64:ff9b::/48".into(), false));
    assert_eq!(look("5.0.9.0/24"), ("ZZ".into(), 0, "5.0.9.0/24".into(), true));
}

fn named(name: &str, prefix: &str, country: Option<&[u8; 2]>, asn: Option<u32>) -> NamedNetwork {
    let prefix = prefix.parse().unwrap();
    NamedNetwork { name: name.into(), prefix, country: country.copied(), asn }
}

#[test]
fn a_named_network_has_the_last_word() {
    let bench = Bench::new();
    let countries = bench.mmdb("c", &[("42.62.0.0/16", country("CN"))]);
    let operators = bench.mmdb("o", &[("42.62.48.0/25", operator(64501, "Operator"))]);
    let list = [
        named("city", "42.62.0.0/17", None, None),
        named("lab", "42.62.48.0/24", Some(b"IN"), Some(64999)),
        named("nas", "192.168.7.0/24", None, None),
        named("plant", "10.9.0.0/16", Some(b"DE"), None),
        // In the autonomous system of its surroundings, which is not called so.
        named("rack", "42.62.48.64/28", None, Some(64501)),
    ];
    let watched = networks(&["42.62.1.0/24", "42.0.0.0/8"]);
    let geo = GeoDb::open(&countries, &operators, &watched, &list).unwrap();
    for (address, expected, network) in [
        // It is the prefix although the operators' database knows a smaller one.
        ("42.62.48.1", row("IN", 64999, "lab", "42.62.48.0/24", true), "lab"),
        ("42.62.48.65", row("CN", 64501, "Operator", "42.62.48.64/28", true), "rack"),
        ("42.62.2.1", row("CN", 0, "", "42.62.0.0/17", true), "city"),
        ("42.62.1.1", row("CN", 0, "", "42.62.1.0/24", true), "city"),
        ("42.62.200.1", row("CN", 0, "", "42.62.0.0/16", true), ""),
        ("192.168.7.9", row("private", 0, "", "192.168.7.0/24", false), "nas"),
        ("10.9.1.1", row("DE", 0, "", "10.9.0.0/16", false), "plant"),
        ("::ffff:10.9.1.1", row("DE", 0, "", "10.9.0.0/16", false), "plant"),
    ] {
        assert_eq!(look(&geo, address), expected, "{address}");
        assert_eq!(&*geo.lookup(address.parse().unwrap()).network, network, "{address}");
    }
    // Half of this one has another operator by the database; the name has the last word all the same,
    // but what the database would say differs.
    let whole = |network: &str| geo.lookup_network(network.parse().unwrap());
    assert_eq!(&*whole("42.62.3.0/24").network, "city");
    assert_eq!(whole("42.62.48.0/24").country, Country::NoEntry);
    let geo = GeoDb::open(&countries, &operators, &[], &[named("x", "42.62.9.0/28", None, None)]);
    assert_eq!(
        geo.unwrap().lookup_network("42.62.9.0/24".parse().unwrap()).country,
        Country::NoEntry
    );
}
