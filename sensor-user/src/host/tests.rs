use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType};

use super::*;

/// An Ethernet interface that is up.
pub(crate) fn link(index: u32, name: &str, kind: Kind) -> Link {
    let name = name.to_owned();
    Link {
        index,
        name,
        kind,
        ethernet: true,
        mtu: 1500,
        up: true,
        carrier: true,
        ..Link::default()
    }
}

/// eth0 and eth1 in a bond, bond0 with a VLAN that is a port of a bridge beside lan0.
fn stack() -> Host {
    let eth = |index, name| Link { master: Some(3), ..link(index, name, Kind::Card) };
    let vlan = Link { carried_by: Some(3), master: Some(5), ..link(4, "bond0.7", Kind::Vlan) };
    let lan = Link { master: Some(5), ..link(6, "lan0", Kind::Veth) };
    let links = vec![
        eth(1, "eth0"),
        eth(2, "eth1"),
        link(3, "bond0", Kind::Bond),
        vlan,
        link(5, "br0", Kind::Bridge),
        lan,
        link(7, "other", Kind::Card),
    ];
    Host { links, ..Host::default() }
}

fn said(watched: &[&str]) -> Vec<String> {
    overlaps(&stack(), watched).iter().map(ToString::to_string).collect()
}

#[test]
fn what_lies_above_one_another_is_found_and_named() {
    let pairs = |watched: &[&str]| {
        let pairs = overlaps(&stack(), watched);
        pairs.into_iter().map(|overlap| (overlap.lower, overlap.upper)).collect::<Vec<_>>()
    };
    let pair = |lower: &str, upper: &str| (lower.to_owned(), upper.to_owned());
    assert_eq!(pairs(&["lan0", "other", "missing"]), []);
    // Neither carries the other's packets.
    assert_eq!(pairs(&["lan0", "bond0.7"]), []);
    assert_eq!(pairs(&["eth0", "eth1"]), []);
    assert_eq!(pairs(&["br0", "lan0"]), [pair("lan0", "br0")]);
    assert_eq!(pairs(&["bond0", "bond0.7"]), [pair("bond0", "bond0.7")]);
    assert_eq!(pairs(&["eth1", "br0"]), [pair("eth1", "br0")]);
    assert_eq!(
        pairs(&["eth0", "bond0", "br0"]),
        [pair("eth0", "bond0"), pair("eth0", "br0"), pair("bond0", "br0")]
    );

    let [sentence] = &said(&["br0", "lan0"])[..] else { panic!() };
    let start = "lan0 and br0 are both watched, but lan0 is a port of the bridge br0: each packet";
    assert!(sentence.starts_with(start), "{sentence}");
    assert!(said(&["eth0", "bond0"])[0].contains("eth0 is a member of the bond bond0:"));
    assert!(said(&["bond0", "bond0.7"])[0].contains("bond0 carries the VLAN bond0.7:"));
    let far = said(&["eth0", "br0"]);
    assert!(far[0].contains("eth0 carries, by way of bond0, bond0.7, br0:"), "{far:?}");
}

#[test]
fn of_two_that_the_same_frames_pass_one_counts() {
    let host = stack();
    // A port's bridge, whichever is named first; a member's bond; what carries a VLAN.
    assert_eq!([host.counting(6, 5), host.counting(5, 6)], [Some(5), Some(5)]);
    assert_eq!(host.counting(1, 3), Some(3));
    assert_eq!([host.counting(3, 4), host.counting(4, 3)], [Some(3), Some(3)]);
    // Through others between them: the last step decides.
    assert_eq!(host.counting(1, 5), Some(5));
    assert_eq!(host.counting(1, 4), Some(1));
    for apart in [(1, 2), (6, 4), (7, 5), (7, 99)] {
        assert_eq!(host.counting(apart.0, apart.1), None, "{apart:?}");
    }
    let port = |index, of| Link { master: Some(of), ..link(index, "x", Kind::Card) };
    let circle = Host { links: vec![port(1, 2), port(2, 1)], ..Host::default() };
    assert_eq!(circle.counting(1, 7), None);
}

#[test]
fn the_other_end_of_a_cable_is_not_below() {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up;
    let info = |kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
    message.attributes =
        vec![LinkAttribute::IfName("x".to_owned()), LinkAttribute::Link(3), info(InfoKind::Veth)];
    let veth = Link::of(&message).unwrap();
    assert_eq!(
        (veth.kind, veth.carried_by, veth.up, veth.carrier),
        (Kind::Veth, None, true, false)
    );

    message.attributes[2] = info(InfoKind::Vlan);
    assert_eq!(Link::of(&message).unwrap().carried_by, Some(3));
    message.attributes.push(LinkAttribute::LinkNetNsId(0));
    assert_eq!(Link::of(&message).unwrap().carried_by, None, "it is in another namespace");
    message.attributes.remove(0);
    assert_eq!(Link::of(&message), None);
}

#[test]
fn only_default_routes_lead_out() {
    let mut route = RouteMessage::default();
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Oif(4)];
    assert_eq!(ways_out(&route), [4]);
    route.header.kind = RouteType::Unreachable;
    assert!(ways_out(&route).is_empty());
    route.header.kind = RouteType::Unicast;
    route.header.destination_prefix_length = 8;
    assert!(ways_out(&route).is_empty());
}

#[test]
fn of_a_link_between_two_points_the_near_end_counts() {
    let mut message = AddressMessage::default();
    (message.header.index, message.header.prefix_len) = (3, 24);
    let [near, far] = ["192.168.1.1", "192.168.1.2"].map(|text| text.parse().unwrap());
    message.attributes = vec![AddressAttribute::Address(far), AddressAttribute::Local(near)];
    assert_eq!(address_of(&message), Some((3, IpNet::new(near, 24).unwrap())));
    message.attributes.pop();
    assert_eq!(address_of(&message), Some((3, IpNet::new(far, 24).unwrap())));
}

#[test]
fn what_is_private() {
    for (address, expected) in [
        ("192.168.77.1", true),
        ("172.31.255.255", true),
        ("172.32.0.1", false),
        ("fd00::1", true),
        ("fe80::1", false),
        ("8.8.8.8", false),
    ] {
        assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
    }
}
