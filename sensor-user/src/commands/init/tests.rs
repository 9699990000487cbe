use std::{net::IpAddr, os::unix::fs::symlink};

use super::{devices::Proposal, *};
use crate::{
    config::Config,
    host::{Doubt, Kind, Lease, Neighbour},
    model::Mac,
};

fn link(index: u32, name: &str, kind: Kind) -> Link {
    let mac = Some(Mac([2, 0, 0, 0, 0, 0xf0]));
    Link { mac, ..crate::host::tests::link(index, name, kind) }
}

fn neighbour(interface: u32, mac: Mac, address: IpAddr) -> Neighbour {
    Neighbour { interface, mac, address, doubt: Doubt { stale: false, ticks: 0 } }
}

/// A router: two LANs, one of them a bridge and one with a VLAN, the way out, and much else.
fn router() -> Host {
    let addresses = [
        (1, "127.0.0.1/8"),
        (2, "203.0.113.2/30"),
        (3, "192.168.1.1/24"),
        (5, "10.0.0.1/16"),
        (6, "10.1.0.1/16"),
        (7, "172.17.0.1/16"),
        (8, "192.168.9.1/24"),
        (9, "10.9.0.1/24"),
        (10, "198.51.100.1/24"),
    ];
    Host {
        links: vec![
            link(1, "lo", Kind::Loopback),
            link(2, "wan0", Kind::Card),
            link(3, "br0", Kind::Bridge),
            Link { master: Some(3), ..link(4, "lan0", Kind::Card) },
            link(5, "lan1", Kind::Card),
            Link { carried_by: Some(5), ..link(6, "lan1.7", Kind::Vlan) },
            link(7, "docker0", Kind::Bridge),
            Link { up: false, ..link(8, "lan8", Kind::Card) },
            Link { ethernet: false, ..link(9, "wg0", Kind::Other("wireguard".to_owned())) },
            link(10, "dmz0", Kind::Card),
            link(11, "dummy0", Kind::Other("dummy".to_owned())),
        ],
        addresses: addresses.map(|(index, net)| (index, net.parse().unwrap())).into(),
        ways_out: vec![2],
        neighbours: Vec::new(),
    }
}

#[test]
fn lans_are_chosen_and_each_decision_has_a_reason() {
    let host = router();
    let decisions = choose::choose(&host);
    let said: Vec<String> = decisions
        .iter()
        .map(|decision| match &decision.verdict {
            Ok(why) => format!("+{}: {why}", decision.link.name),
            Err(why) => format!("-{}: {why}", decision.link.name),
        })
        .collect();
    assert_eq!(
        said,
        [
            "-wan0: the default route leaves by it: the side of the internet",
            "+br0: bridge, the gateway of the private network 192.168.1.0/24",
            "-lan0: a port of the bridge br0",
            "+lan1: Ethernet card, the gateway of the private network 10.0.0.0/16",
            "-lan1.7: its frames pass lan1, which is watched",
            "-docker0: its name is one of a network of containers or virtual machines",
            "-lan8: it is down",
            "-wg0: it carries no Ethernet frames",
            "-dmz0: it has no private address",
            "-dummy0: a dummy, behind which no devices are",
        ]
    );
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn devices_are_who_was_seen_behind_the_chosen_interfaces() {
    let mut host = router();
    let mac = |last| Mac([0x28, 0x6c, 0x07, 0, 0, last]);
    let seen = |interface, mac, text| neighbour(interface, mac, address(text));
    host.neighbours = vec![
        seen(3, mac(2), "fe80::2"),
        seen(3, mac(2), "192.168.1.12"),
        seen(2, mac(3), "203.0.113.1"),
        seen(5, Mac([0xda, 0, 0, 0, 0, 4]), "10.0.0.4"),
        // The gateway itself.
        seen(3, Mac([2, 0, 0, 0, 0, 0xf0]), "192.168.1.9"),
    ];
    let lease =
        |mac, text, name: &str| Lease { mac, address: address(text), name: Some(name.to_owned()) };
    let leases = [
        lease(mac(2), "192.168.1.12", "phone"),
        lease(mac(5), "192.168.1.15", "phone"),
        lease(mac(6), "192.168.1.16", "28-6c-07-00-00-06"),
        lease(mac(7), "192.168.50.1", "elsewhere"),
    ];
    let chosen = [&host.links[2], &host.links[4]];
    let found = devices::propose(&host, &leases, &chosen);
    let found: Vec<_> = found.iter().map(|d| (&*d.name, d.mac, &*d.remark)).collect();
    let xiaomi = "XIAOMI Electronics,CO.,LTD";
    assert_eq!(
        found,
        [
            ("device-1", Mac([0xda, 0, 0, 0, 0, 4]), "random MAC, 10.0.0.4"),
            ("phone", mac(2), &*format!("{xiaomi}, 192.168.1.12")),
            ("phone-1", mac(5), &*format!("{xiaomi}, 192.168.1.15")),
            ("device-2", mac(6), &*format!("{xiaomi}, 192.168.1.16")),
        ]
    );
}

#[test]
fn a_flood_of_neighbours_is_bounded() {
    let mut host = router();
    host.neighbours = (0..5000_u16)
        .map(|number| {
            let [a, b] = number.to_be_bytes();
            neighbour(5, Mac([2, 0, 0, 1, a, b]), IpAddr::from([10, 0, a, b]))
        })
        .collect();
    assert_eq!(devices::propose(&host, &[], &[&host.links[4]]).len(), 256);
}

/// The file as it is once the `#` of all proposals is gone.
fn uncommented(text: &str) -> String {
    let (before, after) = text.split_once("  # Seen behind these interfaces").unwrap();
    let (proposals, rest) = after.split_once("\n\n").unwrap();
    let lines = proposals.lines().skip(1).map(|line| {
        let line = line.strip_prefix("  #").unwrap_or_else(|| panic!("not a comment: {line}"));
        format!("  {line}\n").replacen("   ", "  ", 1)
    });
    format!("{before}\n{}\n{rest}", lines.collect::<String>())
}

fn parsed(text: &str) -> Config {
    config::parse(text, "new.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_file_is_the_shipped_one_with_what_was_found() {
    let shipped = include_str!("../../../../config.yaml");
    let links = [link(1, "br0", Kind::Bridge), link(2, "lan1", Kind::Card)];
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let devices = ["phone", "tv"].map(|name| Proposal {
        name: name.to_owned(),
        mac: mac(u8::try_from(name.len()).unwrap()),
        remark: "a vendor: # and more, 10.0.0.1".to_owned(),
    });
    let text = render::render(&links.each_ref(), &devices);
    let config = parsed(&text);
    let names: Vec<&str> = config.interfaces.iter().map(|interface| &*interface.name).collect();
    assert_eq!(names, ["br0", "lan1"]);
    let defaults = parsed(shipped);
    assert_eq!(config, Config { interfaces: config.interfaces.clone(), ..defaults });
    for line in shipped.lines().filter(|line| *line != "  - name: lan0") {
        assert!(text.lines().any(|written| written == line), "lost: {line}");
    }
    assert_eq!(text.lines().count(), shipped.lines().count() + 1 + 1 + 1 + 4);

    let config = parsed(&uncommented(&text));
    let found: Vec<_> = config.devices.iter().map(|d| (&*d.name, &d.macs[..])).collect();
    assert_eq!(found, [("phone", &[mac(5)][..]), ("tv", &[mac(2)][..])]);
}

#[test]
fn no_name_breaks_out_of_its_place() {
    let hostile = [
        "a\n  - name: evil",
        "a: b # c",
        "\"]\nlisten: 0.0.0.0:80",
        "null",
        "No",
        "7",
        "'{[*&!|>%@`",
        "a\u{2028}b\u{85}c\u{7f}",
        "\u{202e}abc",
        "- x",
        "#",
    ];
    let devices: Vec<Proposal> = hostile
        .iter()
        .zip(1..)
        .map(|(name, last)| Proposal {
            name: (*name).to_owned(),
            mac: Mac([2, 0, 0, 0, 0, last]),
            remark: (*name).to_owned(),
        })
        .collect();
    let links = ["a\"b'#{", "{x}", "null"].map(|name| link(1, name, Kind::Card));
    let text = render::render(&links.each_ref(), &devices);
    let names: Vec<String> =
        parsed(&text).interfaces.into_iter().map(|interface| interface.name).collect();
    assert_eq!(names, ["a\"b'#{", "{x}", "null"]);
    assert_eq!(parsed(&text).devices, []);

    let config = parsed(&uncommented(&text));
    assert_eq!(config.listen, parsed(&text).listen);
    assert_eq!(config.devices.len(), hostile.len());
    for (device, name) in config.devices.iter().zip(hostile) {
        let kept: String = name
            .chars()
            .filter(|c| !c.is_control() && !('\u{2028}'..='\u{2029}').contains(c))
            .collect();
        assert_eq!(device.name, kept);
    }
}

#[test]
fn a_file_is_replaced_only_by_force_and_in_one_piece() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("etc/labgate/config.yaml");
    write(&path, "first", false).unwrap();
    let error = write(&path, "second", false).unwrap_err().to_string();
    assert!(error.contains("exists already") && error.contains("--force"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    write(&path, "third", true).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "third");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    // A dangling link is something too.
    let link = directory.path().join("link");
    symlink("nowhere", &link).unwrap();
    assert!(write(&link, "x", false).is_err());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "the file and its copy");
    let error = write(Path::new("/proc/labgate/config.yaml"), "x", true).unwrap_err();
    assert!(error.to_string().contains("can't write /proc/labgate/config.yaml"), "{error}");
}

#[test]
fn what_force_replaces_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    for (number, text) in ["first", "second", "third"].into_iter().enumerate() {
        write(&path, text, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), number + 1);
    }
    let kept =
        |number| fs::read_to_string(directory.path().join(format!("config.yaml.old-{number}")));
    assert_eq!((kept(1).unwrap(), kept(2).unwrap()), ("first".to_owned(), "second".to_owned()));
}
