//! Frames as labs have them: tagged, tunnelled, without IP.

use sensor_common::report::Report;
use xtask::bench::{
    Bench, Options, RawSocket,
    plan::{DEVICES, LAN1},
};

use crate::{
    frames::{self, ETH_IPV4, ETH_IPV6},
    sensor::{Config, Counts, Sensor, device, sum},
};

/// The smart device, on a link without a switch, which would keep LLDP and EAPOL to itself.
const PLUG: &str = "smart-plug";
const COPIES: u64 = 3;

pub(crate) fn mac(text: &str) -> Vec<u8> {
    text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
}

/// A frame from the device to the gateway, or to a group.
fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = frames::ethernet(ethertype, payload);
    let to = match ethertype {
        0x88cc => "01:80:c2:00:00:0e",
        0x888e => "01:80:c2:00:00:03",
        _ => LAN1.mac,
    };
    frame[..6].copy_from_slice(&mac(to));
    frame[6..12].copy_from_slice(&mac(DEVICES.iter().find(|spec| spec.name == PLUG).unwrap().mac));
    frame
}

/// Where a frame has to arrive.
struct Case {
    frame: Vec<u8>,
    protocol: &'static str,
    port: u16,
    address: Option<&'static str>,
    vlan: u16,
}

fn cases() -> Vec<Case> {
    let v4 = || frames::ipv4(17, &frames::udp(&[7; 100]));
    let v6 = || frames::ipv6(6, &frames::tcp(5, &[7; 200]));
    let udp =
        |frame, vlan| Case { frame, protocol: "udp", port: 53, address: Some("42.62.48.9"), vlan };
    let tcp = |frame, vlan| Case {
        frame,
        protocol: "tcp",
        port: 443,
        address: Some("240e:1:203:405:607:809:a0b:c0d"),
        vlan,
    };
    let plain = |ethertype, protocol| Case {
        frame: frame(ethertype, &[1; 46]),
        protocol,
        port: 0,
        address: None,
        vlan: 0,
    };
    let inner = |payload: &[u8]| frames::vlan(20, 0x8100, &frames::vlan(30, ETH_IPV4, payload));
    vec![
        udp(frame(0x8100, &frames::vlan(5, ETH_IPV4, &v4())), 5),
        tcp(frame(0x8100, &frames::vlan(6, ETH_IPV6, &v6())), 6),
        // A priority tag on VLAN 0 is no VLAN's, but a tag.
        tcp(frame(0x8100, &frames::vlan(0xe000, ETH_IPV6, &v6())), 0),
        udp(frame(0x88a8, &frames::vlan(100, 0x8100, &frames::vlan(7, ETH_IPV4, &v4()))), 100),
        tcp(frame(0x88a8, &frames::vlan(101, 0x8100, &frames::vlan(7, ETH_IPV6, &v6()))), 101),
        udp(frame(0x88a8, &frames::vlan(102, 0x88a8, &inner(&v4()))), 102),
        udp(frame(0x8864, &frames::pppoe(0x0021, &v4())), 0),
        tcp(frame(0x88a8, &frames::vlan(103, 0x8864, &frames::pppoe(0x0057, &v6()))), 103),
        Case { vlan: 8, ..plain_in_vlan() },
        plain(0x0806, "arp"),
        plain(0x88cc, "lldp"),
        plain(0x888e, "eapol"),
        plain(0x88b5, "other"),
    ]
}

/// ARP in a VLAN.
fn plain_in_vlan() -> Case {
    let frame = frame(0x8100, &frames::vlan(8, 0x0806, &[1; 46]));
    Case { frame, protocol: "arp", port: 0, address: None, vlan: 0 }
}

fn counted(report: &Report, case: &Case) -> Counts {
    sum(&device(report, PLUG).destinations, |row| {
        row.protocol == case.protocol
            && row.port == case.port
            && row.address.as_deref() == case.address
            && row.vlan == Some(case.vlan)
    })
}

fn frames_arrive_in_their_rows(test: &str, attach: &str, tc_attach: &'static str) {
    if !xtask::require_root(test) {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let plug = RawSocket::open(bench.device(PLUG), "eth0").unwrap();
    let sensor = Sensor::start(&bench, &Config::attached(attach, tc_attach));
    let before = sensor.settled();
    let cases = cases();
    for _ in 0..COPIES {
        plug.send(&cases.iter().map(|case| &case.frame).collect::<Vec<_>>()).unwrap();
    }
    let report = sensor.settled();
    for (index, case) in cases.iter().enumerate() {
        // Frames of another case may share the row, as those of one VLAN ID and of none do.
        let same = |other: &&Case| {
            (other.protocol, other.port, other.address, other.vlan)
                == (case.protocol, case.port, case.address, case.vlan)
        };
        let bytes: usize = cases.iter().filter(same).map(|case| case.frame.len()).sum();
        let packets = u64::try_from(cases.iter().filter(same).count()).unwrap();
        let (counts, old) = (counted(&report, case), counted(&before, case));
        assert_eq!(
            (counts.tx_packets - old.tx_packets, counts.tx_bytes - old.tx_bytes),
            (COPIES * packets, COPIES * u64::try_from(bytes).unwrap()),
            "case {index}: {} in VLAN {}: {:#?}",
            case.protocol,
            case.vlan,
            device(&report, PLUG).destinations
        );
    }
    assert!(report.books.closed, "{:?}", report.books);
    assert_eq!(report.books.unparsed_packets, 0, "{:?}", report.books);
    sensor.stop();
}

#[test]
fn at_xdp_frames_arrive_in_their_rows() {
    frames_arrive_in_their_rows("at_xdp_frames_arrive_in_their_rows", "xdp", "auto");
}

#[test]
fn at_tcx_frames_arrive_in_their_rows() {
    frames_arrive_in_their_rows("at_tcx_frames_arrive_in_their_rows", "tc", "tcx");
}

#[test]
fn at_clsact_frames_arrive_in_their_rows() {
    frames_arrive_in_their_rows("at_clsact_frames_arrive_in_their_rows", "tc", "clsact");
}

/// A bridge passes on a tag that the kernel took out of the data at ingress; it stays beside the
/// data at egress, and counts.
#[test]
fn a_tag_beside_the_data_is_counted_at_egress() {
    if !xtask::require_root("a_tag_beside_the_data_is_counted_at_egress") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    bench
        .gateway()
        .ip("link add lanbr type bridge\nlink set lan0 master lanbr\n\
             link set lan1 master lanbr\nlink set lanbr up\n")
        .unwrap();
    let mac_of = |name| DEVICES.iter().find(|spec| spec.name == name).unwrap().mac;
    let upload = |protocol, payload: &[u8]| {
        let tagged = frames::vlan(9, ETH_IPV4, &frames::ipv4(protocol, payload));
        let mut frame = frame(0x8100, &tagged);
        frame[..6].copy_from_slice(&mac(mac_of("galaxy")));
        frame
    };
    let frame = upload(17, &frames::udp(&[7; 100]));
    let plug = RawSocket::open(bench.device(PLUG), "eth0").unwrap();
    for (attach, tc_attach) in [("xdp", "tcx"), ("tc", "tcx"), ("tc", "clsact")] {
        let sensor = Sensor::start(&bench, &Config::attached(attach, tc_attach));
        plug.send(&vec![&frame; usize::try_from(COPIES).unwrap()]).unwrap();
        let report = sensor.settled();
        let in_vlan = |name| sum(&device(&report, name).destinations, |row| row.vlan == Some(9));
        let bytes = COPIES * u64::try_from(frame.len()).unwrap();
        let sent = Counts { tx_packets: COPIES, tx_bytes: bytes, ..Counts::default() };
        let received = Counts { rx_packets: COPIES, rx_bytes: bytes, ..Counts::default() };
        assert_eq!(in_vlan(PLUG), sent, "{attach} {tc_attach}");
        assert_eq!(in_vlan("galaxy"), received, "{attach} {tc_attach}");
        sensor.stop();
    }
}
