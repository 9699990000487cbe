//! Devices, destinations, alerts and books, with their filters.

use sensor_common::report::{AlertList, BooksAnswer, DestinationList, DeviceList};
use serde::de::DeserializeOwned;

use super::*;
use crate::{
    config::GroupPolicy,
    model::{Level, Protocol},
    state::fixture::START,
};

fn far(country: &str, asn: u32, prefix: &str, address: &str, port: u16) -> Far {
    Far {
        country: fixture::country(country),
        asn,
        operator: "Example Net",
        prefix: Some(prefix.parse().unwrap()),
        address: Some(address.parse().unwrap()),
        port,
        watched: false,
    }
}

/// Three seconds of a phone with two destinations in China and one in Singapore, and of a camera.
fn busy() -> Server {
    let server = server(Duration::from_secs(1));
    let beijing = far("CN", 4808, "42.62.0.0/16", "42.62.48.9", 443);
    let neighbour = far("CN", 4808, "42.62.0.0/16", "42.62.99.1", 443);
    let singapore = far("SG", 16509, "13.228.0.0/15", "13.228.1.1", 80);
    let mut tcp = fixture::flow(0, Direction::Tx, &singapore, 1, 60);
    tcp.protocol = Protocol::Ip(6);
    let mut coarse = fixture::flow(2, Direction::Tx, &beijing, 1, 70);
    coarse.level = Level::Coarse;
    let mut arp = fixture::flow(2, Direction::Rx, &Far::default(), 1, 42);
    arp.protocol = Protocol::NonIp("arp");
    let policy = Policy {
        groups: [(
            "phones".to_owned(),
            GroupPolicy { allowed_countries: [*b"IN"].into(), ..GroupPolicy::default() },
        )]
        .into(),
        groups_without_rules: ["cameras".to_owned()].into(),
        ..Policy::default()
    };
    let mut sinks = Sinks::new(Arc::clone(&server.shared), policy);
    for (number, flows) in [
        (1, vec![fixture::flow(0, Direction::Tx, &beijing, 2, 200)]),
        (2, vec![fixture::flow(0, Direction::Rx, &neighbour, 3, 3000), coarse, arp]),
        (3, vec![tcp]),
    ] {
        let mut record = fixture::record(number, flows);
        for flow in &mut record.flows {
            flow.first_seen = START + u64::from(number) * 1_000_000_000 - 1;
        }
        sinks.publish(&record, &fixture::devices(), EpochTimes::default());
    }
    server
}

impl Server {
    async fn list<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, _, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Device, far end, protocol and bytes of each row, in brief.
    async fn rows(&self, query: &str) -> Vec<String> {
        let list: DestinationList = self.list(&format!("/api/v1/destinations?{query}")).await;
        assert_eq!((list.version, list.truncated), (REPORT_VERSION, false));
        assert_eq!(list.matched, list.destinations.len() as u64);
        let rows = list.destinations.into_iter().map(|row| {
            let far = &row.destination;
            let end = far.address.as_ref().unwrap_or(&far.prefix);
            let bytes = far.tx_bytes + far.rx_bytes;
            format!("{} {end} {}/{} {bytes}", row.device, far.protocol, far.port)
        });
        rows.collect()
    }
}

#[tokio::test]
async fn destinations_are_the_reports_rows() {
    let server = busy();
    for detail in [Detail::Prefix, Detail::Address] {
        let query = if detail == Detail::Prefix { "" } else { "?detail=address" };
        let list: DestinationList = server.list(&format!("/api/v1/destinations{query}")).await;
        let report = server.shared.snapshot().report(detail);
        assert_eq!(list.time, report.time);
        for device in &report.devices {
            let rows = list.destinations.iter().filter(|row| row.device == device.name);
            let rows: Vec<_> = rows.map(|row| row.destination.clone()).collect();
            assert_eq!(rows, device.destinations, "{}", device.name);
        }
        let bytes = |row: &sensor_common::report::DestinationRow| {
            row.destination.tx_bytes + row.destination.rx_bytes
        };
        assert!(list.destinations.is_sorted_by_key(|row| std::cmp::Reverse(bytes(row))));
    }
}

#[tokio::test]
async fn filters_leave_through_what_matches() {
    let server = busy();
    let whereabouts = crate::model::Whereabouts {
        addresses: vec!["192.168.10.11".parse().unwrap()],
        host_names: vec!["mi-phone".into(), "camera".into()],
    };
    server.shared.change(|state| state.locate([(crate::model::DeviceId(0), whereabouts)].into()));
    let both = "redmi 42.62.0.0/16 udp/443 3200";
    let sg = "redmi 13.228.0.0/15 tcp/80 60";
    let coarse = "camera 42.62.0.0/16 udp/0 70";
    let arp = "camera  arp/0 42";
    for (query, expected) in [
        ("", &[both, coarse, sg, arp][..]),
        ("device=redmi", &[both, sg]),
        ("device=02-00-00-00-00-01", &[both, sg]),
        ("device=00:16:3E:00:00:03", &[coarse, arp]),
        // It has a form that any device may have, and was not seen.
        ("device=02:00:00:00:00:77", &[]),
        ("country=CN", &[both, coarse]),
        ("country=CN&device=redmi", &[both]),
        ("country=private", &[]),
        ("asn=16509", &[sg]),
        ("asn=0", &[arp]),
        ("protocol=tcp", &[sg]),
        ("protocol=6", &[sg]),
        ("protocol=arp", &[arp]),
        ("port=443", &[both]),
        ("port=0", &[coarse, arp]),
        ("prefix=42.62.0.0/16", &[both, coarse]),
        // One address of the two, so its bytes only; a coarse row may lie outside.
        ("prefix=42.62.48.0%2F24", &["redmi 42.62.0.0/16 udp/443 200"]),
        ("prefix=42.62.99.1&detail=address", &["redmi 42.62.99.1 udp/443 3000"]),
        ("prefix=::/0", &[]),
        ("country=china", &[both, coarse]),
        ("country=Cn&protocol=UDP", &[both, coarse]),
        ("asn=AS16509", &[sg]),
        ("operator=as16509", &[sg]),
        ("operator=16509", &[sg]),
        ("operator=no%20such", &[]),
        ("group=phones", &[both, sg]),
        ("group=cameras&country=CN", &[coarse]),
        ("device=REDMI", &[both, sg]),
        // By where it says that it is.
        ("device=192.168.10.11", &[both, sg]),
        ("device=Mi-Phone", &[both, sg]),
        // Somebody's name is nobody else's host name.
        ("device=camera", &[coarse, arp]),
    ] {
        assert_eq!(server.rows(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_limit_keeps_what_is_largest_and_says_so() {
    let server = server(Duration::from_secs(1));
    // Many more rows than the limit, of two devices in turn, so that cutting happens in between.
    let flows = (1..=500_u16).map(|port| {
        let far = far("CN", 4808, "42.62.0.0/16", "42.62.48.9", port);
        fixture::flow(u32::from(port % 2), Direction::Tx, &far, 1, u64::from(port) * 37 % 501)
    });
    Sinks::new(Arc::clone(&server.shared), fixture::lenient()).publish(
        &fixture::record(1, flows.collect()),
        &fixture::devices(),
        EpochTimes::default(),
    );
    let all: DestinationList = server.list("/api/v1/destinations?limit=500").await;
    assert_eq!((all.matched, all.truncated, all.destinations.len()), (500, false, 500));
    for limit in [1, 7, 100, 499] {
        let list: DestinationList =
            server.list(&format!("/api/v1/destinations?limit={limit}")).await;
        assert_eq!((list.matched, list.truncated), (500, true));
        assert_eq!(list.destinations, all.destinations[..limit], "{limit}");
    }
}

#[tokio::test]
async fn devices_have_totals_in_place_of_rows() {
    let server = busy();
    let names = async |query: &str| -> Vec<String> {
        let list: DeviceList = server.list(&format!("/api/v1/devices{query}")).await;
        list.devices.into_iter().map(|device| device.name).collect()
    };
    let list: DeviceList = server.list("/api/v1/devices?device=redmi").await;
    let [redmi] = &list.devices[..] else { panic!("{list:?}") };
    assert_eq!((redmi.tx_packets, redmi.tx_bytes), (3, 260));
    assert_eq!((redmi.rx_packets, redmi.rx_bytes), (3, 3000));
    assert_eq!((redmi.destinations, redmi.alerts), (2, 2));
    assert_eq!(redmi.countries, ["CN", "SG"]);
    assert_eq!(redmi.first_seen.as_deref(), Some("2026-01-01T00:00:00.999Z"));
    assert_eq!(redmi.last_seen.as_deref(), Some("2026-01-01T00:00:03.000Z"));
    let list: DeviceList = server.list("/api/v1/devices?device=watch").await;
    assert_eq!((&list.devices[0].first_seen, list.devices[0].tx_packets), (&None, 0));

    let all = ["02:00:00:00:00:99", "camera", "redmi", "watch"];
    assert_eq!(names("").await, all);
    assert_eq!(names("?group=phones").await, ["redmi", "watch"]);
    assert_eq!(names("?country=CN").await, ["camera", "redmi"]);
    assert_eq!(names("?country=SG&group=cameras").await, [""; 0]);
}

#[tokio::test]
async fn alerts_and_books_are_the_reports() {
    let server = busy();
    let report = server.shared.snapshot().report(Detail::Prefix);
    let alerts = async |query: &str| -> Vec<String> {
        let list: AlertList = server.list(&format!("/api/v1/alerts{query}")).await;
        assert_eq!(list.matched, list.alerts.len() as u64);
        list.alerts.into_iter().map(|alert| alert.country).collect()
    };
    let list: AlertList = server.list("/api/v1/alerts").await;
    assert_eq!(list.alerts, report.alerts);
    assert_eq!(alerts("").await, ["CN", "SG"]);
    assert_eq!(alerts("?device=redmi").await, ["CN", "SG"]);
    assert_eq!(alerts("?device=64:b4:73:00:00:01&country=SG").await, ["SG"]);
    assert_eq!(alerts("?device=camera").await, [""; 0]);
    assert_eq!(alerts("?rule=country_not_allowed&severity=critical").await, ["CN", "SG"]);
    assert_eq!(alerts("?rule=watched_prefix").await, [""; 0]);
    assert_eq!(alerts("?severity=info").await, [""; 0]);
    assert_eq!(alerts("?since=2026-01-01T00:00:01Z").await, ["SG"]);
    let list: AlertList = server.list("/api/v1/alerts?limit=1").await;
    assert_eq!((list.matched, list.truncated), (2, true));
    assert_eq!(list.alerts, report.alerts[1..], "the newest");

    let books: BooksAnswer = server.list("/api/v1/books").await;
    assert_eq!((books.version, &books.books), (REPORT_VERSION, &report.books));
}

#[tokio::test]
async fn a_bad_filter_is_named() {
    let server = busy();
    for (query, code, parameter, hint) in [
        (
            "devices?contry=CN",
            ErrorCode::UnknownParameter,
            "contry",
            "device, group, country, since, until",
        ),
        ("books?detail=prefix", ErrorCode::UnknownParameter, "detail", "takes none"),
        ("alerts?country=CN&country=SG", ErrorCode::RepeatedParameter, "country", "once"),
        ("destinations?country=uk", ErrorCode::BadParameter, "country", "write `GB`"),
        ("destinations?since=1h", ErrorCode::BadParameter, "since", "no ledger"),
        ("devices?until=now", ErrorCode::BadParameter, "until", "no ledger"),
        (
            "destinations?since=now&until=1h",
            ErrorCode::BadParameter,
            "until",
            "ends before it begins",
        ),
        ("devices?since=today&until=today", ErrorCode::BadParameter, "until", "until `today`"),
        ("destinations?group=phnes", ErrorCode::UnknownGroup, "group", "`phnes`"),
        ("destinations?since=2026-01-01T00:00:00+05:30", ErrorCode::BadParameter, "since", "%2B"),
        ("destinations?port=65536", ErrorCode::BadParameter, "port", "65536"),
        ("destinations?limit=0", ErrorCode::BadParameter, "limit", "from 1 to 100000"),
        ("destinations?limit=100001", ErrorCode::BadParameter, "limit", "from 1 to 100000"),
        ("destinations?detail=all", ErrorCode::BadParameter, "detail", "`prefix` or `address`"),
        ("destinations?protocol=tpc", ErrorCode::BadParameter, "protocol", "tcp, udp"),
        ("destinations?prefix=42.62.48", ErrorCode::BadParameter, "prefix", "42.62.48.0/24"),
        ("alerts?rule=none", ErrorCode::BadParameter, "rule", "country_not_allowed"),
        ("alerts?severity=", ErrorCode::BadParameter, "severity", "critical"),
        ("devices?device=redmy", ErrorCode::UnknownDevice, "device", "/api/v1/devices"),
        ("alerts?device=redmy", ErrorCode::UnknownDevice, "device", "`redmy`"),
    ] {
        let (status, _, body) = server.get(&format!("/api/v1/{query}")).await;
        let error = problem(&body);
        let is_unknown = matches!(code, ErrorCode::UnknownDevice | ErrorCode::UnknownGroup);
        let expected = if is_unknown { 404 } else { 400 };
        assert_eq!((status, error.code), (expected, code), "{query}: {body}");
        assert_eq!(error.parameter.as_deref(), Some(parameter), "{query}");
        assert!(error.message.contains(hint), "{query}: {body}");
    }
}

#[tokio::test]
async fn before_the_first_epoch_no_name_is_wrong() {
    let server = server(Duration::from_secs(1));
    let list: DeviceList = server.list("/api/v1/devices?device=redmi").await;
    assert_eq!(list.devices, []);
}
