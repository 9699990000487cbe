use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType};

use super::*;

fn link(index: u32, name: &str, kind: Kind) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind,
        ethernet: true,
        mac: None,
        mtu: 1500,
        up: true,
        carrier: true,
        master: None,
        carried_by: None,
        xdp: None,
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
fn neighbours_that_never_answered_are_none() {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = 2;
    message.header.state = NeighbourState::Stale;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(Ipv4Addr::new(10, 0, 0, 5))),
        NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 5]),
    ];
    let found = neighbour_of(&message).unwrap();
    assert_eq!((found.interface, found.mac), (2, Mac([2, 0, 0, 0, 0, 5])));
    for state in [NeighbourState::Incomplete, NeighbourState::Failed, NeighbourState::Noarp] {
        message.header.state = state;
        assert_eq!(neighbour_of(&message), None);
    }
    message.header.state = NeighbourState::Reachable;
    for octets in [&[3, 0, 0, 0, 0, 5][..], &[0; 6], &[1; 20]] {
        message.attributes[1] = NeighbourAttribute::LinkLayerAddress(octets.to_vec());
        assert_eq!(neighbour_of(&message), None, "a group, nobody, or no MAC address");
    }
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
