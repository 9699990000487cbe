//! Whole replays: what a capture becomes in the common JSON form.

use std::io::Cursor;

use sensor_common::report::{Destination, Report};

use super::*;
use crate::{config, reload::open_geo, state::Detail};

#[path = "../../tests/captures/mod.rs"]
pub(super) mod captures;
#[path = "../../../sensor-common/tests/frames/mod.rs"]
#[expect(dead_code, reason = "each test crate uses some of the builders")]
pub(super) mod frames;

use captures::{ETHERNET, Order, Pcap, PcapNg, TIME};
use frames::{DEVICE, ETH_IPV4, GATEWAY, ethernet, ipv4, tcp, turned, udp};

const CONFIG: &str = "
interfaces: [lan0]
devices:
  - name: redmi
    mac: 64:09:80:12:34:56
    group: phones
policy:
  groups:
    phones:
      allowed_countries: [IN]
  watched_prefixes: [42.62.48.0/24]
epoch: 1s
";

fn replay_by(config: &Config) -> Replay {
    let geo = open_geo(config).unwrap();
    let setup = Setup::new(config, &geo);
    Replay::new(config, setup, geo, EngineKind::Host).unwrap()
}

fn configured() -> Replay {
    replay_by(&config::parse(CONFIG, "replay.yaml").unwrap())
}

fn add(replay: &mut Replay, octets: Vec<u8>) -> Option<Fault> {
    replay.add("walk.pcap", Capture::new(Box::new(Cursor::new(octets)))).unwrap()
}

fn rows<'a>(report: &'a Report, device: &str) -> Vec<&'a Destination> {
    let device = report.devices.iter().find(|found| found.name == device || found.mac == device);
    device.unwrap().destinations.iter().collect()
}

fn upload() -> Vec<u8> {
    ethernet(ETH_IPV4, &ipv4(6, &tcp(5, b"hello")))
}

/// From the far address, to the device.
fn download() -> Vec<u8> {
    let mut frame = turned(ethernet(ETH_IPV4, &ipv4(6, &tcp(5, &[0; 100]))));
    let (near, far) = (frame[26..30].to_vec(), frame[30..34].to_vec());
    frame[26..30].copy_from_slice(&far);
    frame[30..34].copy_from_slice(&near);
    let (near, far) = (frame[34..36].to_vec(), frame[36..38].to_vec());
    frame[34..36].copy_from_slice(&far);
    frame[36..38].copy_from_slice(&near);
    frame
}

#[test]
fn both_directions_of_a_configured_device_meet_in_one_row_and_break_the_policy() {
    let mut replay = configured();
    let capture = Pcap::new(Order::Little, ETHERNET)
        .frame(1000, &upload())
        .frame(2000, &download())
        .cut(TIME + 60, 0, &upload()[..54], 1514);
    assert!(add(&mut replay, capture.octets).is_none());
    let report = replay.report(Detail::Address);

    let rows = rows(&report, "redmi");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = rows[0];
    assert_eq!((row.country.as_str(), row.port), ("CN", 443));
    assert_eq!(row.address.as_deref(), Some("42.62.48.9"));
    assert_eq!((row.tx_packets, row.tx_bytes), (2, upload().len() as u64 + 1514));
    assert_eq!((row.rx_packets, row.rx_bytes), (1, download().len() as u64));
    assert_eq!(row.first_seen, "2024-05-06T07:08:09.001Z");
    assert_eq!(row.last_seen, "2024-05-06T07:09:09.000Z");

    let alerts: Vec<_> = report.alerts.iter().map(|alert| (&*alert.rule, &*alert.since)).collect();
    let since = "2024-05-06T07:08:09.001Z";
    assert_eq!(alerts, [("country_not_allowed", since), ("watched_prefix", since)]);
    assert!(report.alerts.iter().all(|alert| alert.last_seen == row.last_seen));

    let books = &report.books;
    assert!(books.closed);
    assert_eq!((books.seen_packets, books.attributed_packets), (3, 3));
    assert_eq!(books.seen_bytes, row.tx_bytes + row.rx_bytes);
    assert_eq!((books.interface_packets, books.interface_bytes), (3, books.seen_bytes));
    let replay = report.replay.as_ref().unwrap();
    let walk = &replay.captures[0];
    assert_eq!((replay.engine.as_str(), replay.host_packets, walk.packets), ("host", 0, 3));
    assert_eq!((walk.from.as_str(), walk.to.as_str()), (since, row.last_seen.as_str()));
    assert_eq!((walk.file.as_str(), walk.problem.as_str()), ("walk.pcap", ""));
}

#[test]
fn without_configured_devices_every_frame_is_its_sender_s() {
    let mut replay = replay_by(&Config::bare());
    let capture =
        Pcap::new(Order::Little, ETHERNET).frame(0, &upload()).frame(1, &turned(upload()));
    assert!(add(&mut replay, capture.octets).is_none());
    let report = replay.report(Detail::Prefix);
    for mac in [DEVICE, GATEWAY] {
        let rows = rows(&report, &Mac(mac).to_string());
        assert_eq!((rows[0].tx_packets, rows[0].rx_packets), (1, 0));
    }
}

#[test]
fn what_is_between_configured_devices_is_its_sender_s() {
    let both = CONFIG.replace("devices:", "devices:\n  - {name: router, mac: '02:00:00:00:00:01'}");
    let mut replay = replay_by(&config::parse(&both, "replay.yaml").unwrap());
    let capture =
        Pcap::new(Order::Little, ETHERNET).frame(0, &upload()).frame(1, &turned(upload()));
    assert!(add(&mut replay, capture.octets).is_none());
    let report = replay.report(Detail::Prefix);
    for name in ["redmi", "router"] {
        let rows = rows(&report, name);
        assert_eq!((rows.len(), rows[0].tx_packets, rows[0].rx_packets), (1, 1, 0), "{name}");
    }
}

#[test]
fn frames_without_a_usable_header_are_in_the_books() {
    let mut replay = configured();
    let capture = Pcap::new(Order::Big, ETHERNET)
        .frame(0, &upload()[..13])
        .frame(1, &[])
        .frame(2, &upload()[..20])
        .cut(TIME, 3, &upload()[..20], u32::MAX)
        .frame(4, &ethernet(0x0806, &[0; 28]));
    assert!(add(&mut replay, capture.octets).is_none());
    let books = replay.report(Detail::Prefix).books;
    assert_eq!((books.seen_packets, books.unparsed_packets, books.attributed_packets), (5, 4, 1));
    assert!(books.closed);
    assert_eq!(books.seen_bytes, 13 + 20 + u64::from(u32::MAX) + 42);
}

#[test]
fn damage_takes_nothing_from_what_comes_before_or_from_other_captures() {
    let mut replay = configured();
    let mut cut = Pcap::new(Order::Little, ETHERNET).frame(0, &upload()).frame(1, &upload()).octets;
    cut.pop();
    let fault = add(&mut replay, cut).unwrap().to_string();
    assert!(fault.contains("cut off"), "{fault}");
    assert!(add(&mut replay, b"GIF89a".to_vec()).is_some());
    // Without times, and earlier than the one before.
    let simple = PcapNg::new(Order::Big).interface(ETHERNET, 0, &[]).simple(&upload(), 59);
    assert!(add(&mut replay, simple.octets).is_none());
    let report = replay.report(Detail::Prefix);
    let books = &report.books;
    assert!(books.closed);
    assert_eq!((books.seen_packets, books.interface_packets), (2, 2));
    let captures = &report.replay.as_ref().unwrap().captures;
    let packets: Vec<_> = captures.iter().map(|capture| capture.packets).collect();
    assert_eq!((packets, &captures[0].problem), (vec![1, 0, 1], &fault));
    assert_eq!(captures[2].to, "1970-01-01T00:00:00.000Z");
    assert_eq!(rows(&report, "redmi")[0].last_seen, "2024-05-06T07:08:09.000Z");
}

/// A flow of several epochs is the same row as in one, and its counts are the sum.
#[test]
fn epochs_add_up() {
    let many = |replay: &mut Replay, step: u32| {
        let mut capture = Pcap::new(Order::Little, ETHERNET);
        for n in 0..50 {
            capture = capture.cut(TIME + n * step, 0, &upload(), 59);
            let (port, mut other) = (n.to_be_bytes(), ethernet(ETH_IPV4, &ipv4(17, &udp(b""))));
            other[36..38].copy_from_slice(&port[2..]);
            capture = capture.cut(TIME + n * step, 1, &other, 42);
        }
        assert!(add(replay, capture.octets).is_none());
        let mut report = replay.report(Detail::Address);
        for row in report.devices.iter_mut().flat_map(|device| &mut device.destinations) {
            row.first_seen.clear();
            row.last_seen.clear();
        }
        (report.devices, report.books)
    };
    let (mut fast, mut slow) = (configured(), configured());
    assert_eq!(many(&mut fast, 0), many(&mut slow, 3));
    assert_eq!((fast.epoch, slow.epoch), (1, 50));
}
