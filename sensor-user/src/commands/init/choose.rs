//! Which interfaces are LANs.

use crate::host::{Host, Kind, Link, is_private, overlaps};

/// How networks of containers and virtual machines on this machine itself are called.
const OWN_NETWORKS: [&str; 8] =
    ["docker", "virbr", "vnet", "lxcbr", "lxdbr", "incusbr", "podman", "cni"];
/// Digits of a network's number that follow `br-` in the name of a bridge of Docker's.
const DOCKER_DIGITS: usize = 12;

/// An interface, and whether it is to be watched; either way with the reason.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pub(super) link: &'a Link,
    pub(super) verdict: Result<String, String>,
}

/// A decision for each interface but the loopback one.
pub(super) fn choose(host: &Host) -> Vec<Decision<'_>> {
    let links = host.links.iter().filter(|link| link.kind != Kind::Loopback);
    let mut decisions: Vec<Decision<'_>> =
        links.map(|link| Decision { link, verdict: verdict(link, host) }).collect();
    // The one below sees all that the one above carries.
    let chosen: Vec<&str> = decisions
        .iter()
        .filter_map(|decision| decision.verdict.is_ok().then_some(&*decision.link.name))
        .collect();
    for overlap in overlaps(host, &chosen) {
        for decision in decisions.iter_mut().filter(|d| d.link.name == overlap.upper) {
            decision.verdict = Err(format!("its frames pass {}, which is watched", overlap.lower));
        }
    }
    decisions
}

/// `br-` alone is what many call the bridge of their LAN.
fn is_own_network(name: &str) -> bool {
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let is_docker = name
        .strip_prefix("br-")
        .is_some_and(|rest| rest.len() == DOCKER_DIGITS && rest.bytes().all(hex));
    is_docker || OWN_NETWORKS.iter().any(|start| name.starts_with(start))
}

fn verdict(link: &Link, host: &Host) -> Result<String, String> {
    let master = link.master.and_then(|index| host.by_index(index));
    let private = host.addresses(link).find(|net| is_private(net.addr()));
    if !link.ethernet {
        Err("it carries no Ethernet frames".to_owned())
    } else if link.name.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        Err("its name can't be written".to_owned())
    } else if host.is_way_out(link) {
        Err("the default route leaves by it: the side of the internet".to_owned())
    } else if let Some(master) = master {
        Err(format!("a port of the {} {}", master.kind, master.name))
    } else if let Kind::Other(kind) = &link.kind {
        Err(format!("a {kind}, behind which no devices are"))
    } else if is_own_network(&link.name) {
        Err("its name is one of a network of containers or virtual machines".to_owned())
    } else if !link.up {
        Err("it is down".to_owned())
    } else if let Some(net) = private {
        let kind = &link.kind;
        Ok(format!("{kind}, the gateway of the private network {}", net.trunc()))
    } else {
        Err("it has no private address".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_of_the_lan_is_none_of_dockers() {
        for lan in ["br-lan", "br-phones", "br-0123456789a", "br-0123456789AB", "br-lan123456789"] {
            assert!(!is_own_network(lan), "{lan}");
        }
        for own in ["br-0123456789ab", "docker0", "virbr0"] {
            assert!(is_own_network(own), "{own}");
        }
    }
}
