use super::*;

#[test]
fn places_are_countries_and_classes() {
    let of = |typed: &str| typed.parse().map(|Place(country)| country);
    assert_eq!(of("CN"), Ok(Country::Iso(*b"CN")));
    assert_eq!(of("ZZ"), Ok(Country::NoEntry));
    assert_eq!(of("link-local"), Ok(Country::Special("link-local")));
    for china in ["cn", "Cn", "China", "china"] {
        assert_eq!(of(china), Ok(Country::Iso(*b"CN")), "{china}");
    }
    for (name, code) in [
        ("united states", "US"),
        ("Viet Nam", "VN"),
        ("korea (republic of)", "KR"),
        ("south korea", "KR"),
        ("Singapo", "SG"),
    ] {
        assert_eq!(of(name), of(code), "{name}");
    }
    assert_eq!(of("zz"), Ok(Country::NoEntry));
    assert_eq!(of("Private"), Ok(Country::Special("private")));
    assert!(of("UK").unwrap_err().to_string().starts_with("write `GB`"));
    // The name of several begins so.
    for bad in ["", "united", "C\u{0}", "Atlantis"] {
        assert!(of(bad).is_err_and(|error| error.to_string().contains("alpha-2")), "{bad}");
    }
}

#[test]
fn operators_are_numbers_and_parts_of_names() {
    let of = |typed: &str| typed.parse().map(|Operator(operator)| operator);
    for number in ["4134", "AS4134", "as4134"] {
        assert_eq!(of(number), Ok(OperatorRef::Number(4134)), "{number}");
        assert_eq!(number.parse(), Ok(Asn(4134)));
    }
    assert_eq!(of("Amazon"), Ok(OperatorRef::Named("amazon".to_owned())));
    assert_eq!(of("Asia Net"), Ok(OperatorRef::Named("asia net".to_owned())));
    for bad in ["AS", "AS-1", "ASN4134", "+1", "4294967296", ""] {
        assert!(bad.parse::<Asn>().is_err(), "{bad}");
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
    assert_eq!(of("TCP"), Ok(Protocol::Ip(6)));
    assert_eq!(of("IPv6-ICMP"), Ok(Protocol::Ip(58)));
    for bad in ["", "256", "tpc", "unparsed", "unparsed:"] {
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

/// The description of a text allows just what is read.
fn agree<T: FromStr + PartialSchema>(samples: &[&str]) {
    let schema = serde_json::to_value(T::schema()).unwrap();
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    let validator = options.build(&schema).unwrap();
    for sample in samples {
        let described = validator.is_valid(&serde_json::json!(sample));
        assert_eq!(described, sample.parse::<T>().is_ok(), "{sample}");
    }
}

#[test]
fn the_descriptions_agree_with_what_is_read() {
    agree::<Within>(&[
        "",
        "::",
        "::/0",
        "::/128",
        "::/129",
        "::1",
        "1::",
        "1::/64",
        "1:::2",
        ":1",
        "1:",
        "1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7::",
        "1:2:3:4:5:6::8",
        "1::3:4:5:6:7:8",
        "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7::8",
        "1::2::3",
        "12345::",
        "g::",
        "0.0.0.0",
        "255.255.255.255/32",
        "1.2.3.4/33",
        "1.2.3.4/",
        "1.2.3",
        "1.2.3.256",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4/08",
        "1.2.3.4/008",
        "::/08",
        "::/008",
        "::/012",
        "::/0008",
        " 1.2.3.4",
    ]);
    agree::<Since>(&[
        "",
        "0",
        "15m",
        "15 m",
        "15 min",
        "1h 30m",
        "1h30m",
        "15",
        "m",
        "15x",
        "-15m",
        "1M 2y",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T05:30:00+05:30",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00",
        "2026-01-01 7:05",
        "2026-01-01 24:00",
        "2026-01-32",
        "2026-01-01",
        "22:00",
        "7:30:15",
        "24:00",
        "22:60",
        "now",
        "Today",
        "yesterday 22:00",
        "yesterdayT22:00",
        "tomorrow",
        "15m ago",
        "ago",
        "2026-01-01t00:00:00z",
        "2026-06-30T23:59:60Z",
        "0001-01-01T00:00:00Z",
        "9999-12-30T00:00:00Z",
    ]);
    // In any other case they are taken, too.
    agree::<Over>(&["", "tcp", "0", "255", "256", "007", "unparsed:runt", "unparsed"]);
    agree::<Place>(&["", "CN", "ZZ", "XX", "private", "anywhere"]);
    let long = "x".repeat(MAX_NAME);
    agree::<Device>(&[
        "",
        " ",
        "a",
        &long,
        &format!("{long}x"),
        "\u{1f4f1}",
        &"é".repeat(MAX_NAME),
    ]);
}
