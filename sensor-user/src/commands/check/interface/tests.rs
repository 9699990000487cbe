use ipnet::IpNet;

use super::*;
pub(crate) use crate::host::tests::link;
use crate::host::{XdpMode, XdpSlot, XdpSupport};

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn config(attach: AttachMode, when_xdp_is_taken: WhenXdpIsTaken) -> InterfaceConfig {
    InterfaceConfig {
        name: "lan0".to_owned(),
        attach,
        when_xdp_is_taken,
        ..InterfaceConfig::default()
    }
}

fn with_xdp(native: bool, fragments: bool) -> Driver {
    Driver { active: Vec::new(), xdp: Some(XdpSupport { native, fragments }) }
}

#[test]
fn where_uploads_are_counted_and_why() {
    let fail = WhenXdpIsTaken::Fail;
    let said = |attach, driver: &Driver| {
        ingress(&config(attach, fail), driver, None)
            .map(|ingress| (ingress.native, ingress.sentence))
            .map_err(|error| error.to_string())
    };
    let tc = (false, "TC ingress, as `attach: tc` says".to_owned());
    assert_eq!(said(AttachMode::Tc, &with_xdp(true, true)), Ok(tc));
    for attach in [AttachMode::Auto, AttachMode::Xdp] {
        let (native, sentence) = said(attach, &with_xdp(true, false)).unwrap();
        assert!(native && sentence.contains("by the kernel's word"), "{sentence}");
        let (native, sentence) = said(attach, &Driver::default()).unwrap();
        assert!(native && sentence.contains("don't say"), "{sentence}");
    }
    let (native, sentence) = said(AttachMode::Auto, &with_xdp(false, false)).unwrap();
    assert!(!native && sentence.contains("has no native XDP"), "{sentence}");
    let error = said(AttachMode::Xdp, &with_xdp(false, false)).unwrap_err();
    assert!(error.starts_with("lan0 has no native XDP (by the kernel's word"), "{error}");
}

#[test]
fn a_taken_slot_is_named_by_its_holder() {
    let owner = Owner::of_slot("lan0", XdpSlot { mode: XdpMode::Generic, program: u32::MAX });
    let take = |attach, taken| ingress(&config(attach, taken), &with_xdp(true, true), Some(&owner));
    let error = take(AttachMode::Auto, WhenXdpIsTaken::Fail).unwrap_err().to_string();
    assert!(error.starts_with("the XDP slot of lan0 is taken by program 4294967295, generic"));
    let tc = take(AttachMode::Xdp, WhenXdpIsTaken::Tc).unwrap();
    assert!(!tc.native && tc.sentence.contains("is taken by program 4294967295"), "{tc:?}");
    assert!(take(AttachMode::Tc, WhenXdpIsTaken::Fail).is_ok(), "it is not asked for");
}

#[test]
fn bridges_ports_and_what_is_on_top_are_explained() {
    let port = Link { master: Some(1), ..link(2, "lan1", Kind::Card) };
    let vlan = Link { carried_by: Some(2), ..link(3, "lan1.7", Kind::Vlan) };
    let links = vec![link(1, "br0", Kind::Bridge), port, vlan, link(4, "lan9", Kind::Card)];
    let host = Host { links, ..Host::default() };
    let said = |index| stacked(host.by_index(index).unwrap(), &host);
    assert!(said(1).unwrap().contains("a bridge of lan1: TC on the bridge"));
    assert!(said(2).unwrap().contains("a port of the bridge br0"));
    assert!(said(3).unwrap().contains("a VLAN on top of lan1"));
    assert_eq!(said(4), None);
    let empty = Host { links: vec![link(1, "br0", Kind::Bridge)], ..Host::default() };
    assert!(stacked(&empty.links[0], &empty).unwrap().contains("without ports"));
}

#[test]
fn features_that_spoil_counts_are_named_with_the_remedy() {
    let link = link(1, "lan0", Kind::Card);
    let active = TRAPS.map(|trap| trap.feature.to_owned()).into();
    let driver = Driver { active, ..with_xdp(true, true) };
    assert_eq!(warnings(&link, &with_xdp(true, true), true), Vec::<String>::new());
    let at_xdp = warnings(&link, &driver, true);
    assert_eq!(at_xdp.len(), TRAPS.len());
    for (warning, trap) in at_xdp.iter().zip(&TRAPS) {
        let remedy = format!("`ethtool -K lan0 {}`", trap.remedy);
        assert!(warning.starts_with(trap.feature) && warning.contains(&remedy), "{warning}");
    }
    // Beside the data the kernel keeps the tag, and the segments of what was merged.
    assert_eq!(warnings(&link, &driver, false), at_xdp[..3]);
}

#[test]
fn unwise_interfaces() {
    let jumbo = Link { mtu: 9000, up: false, ..link(1, "wan0", Kind::Card) };
    let said = warnings(&jumbo, &with_xdp(true, false), true);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("`ip link set wan0 up`"));
    assert!(said[1].contains("up to an MTU of about 3506, and it is 9000"));
    assert_eq!(warnings(&jumbo, &with_xdp(true, true), true).len(), 1);
    assert_eq!(warnings(&jumbo, &with_xdp(true, false), false).len(), 1);
}
