//! The devices that this machine has seen.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use crate::{
    host::{Host, Lease, Link},
    join::vendor::vendor,
    model::Mac,
};

/// More devices than a bench has are no help in a file; whoever floods the gateway makes them.
const MAX_PROPOSED: usize = 256;
/// Addresses that are named of one device.
const MAX_ADDRESSES: usize = 3;

/// A device for the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposal {
    /// A name that no other has.
    pub(super) name: String,
    pub(super) mac: Mac,
    /// What else is known of it, on one line.
    pub(super) remark: String,
}

#[derive(Debug, Default)]
struct Seen {
    addresses: BTreeSet<IpAddr>,
    name: Option<String>,
}

/// Everyone behind the chosen interfaces, ordered by address.
pub(super) fn propose(host: &Host, leases: &[Lease], chosen: &[&Link]) -> Vec<Proposal> {
    let mut seen: BTreeMap<Mac, Seen> = BTreeMap::new();
    let behind = |index: u32| chosen.iter().any(|link| link.index == index);
    for neighbour in host.neighbours.iter().filter(|neighbour| behind(neighbour.interface)) {
        seen.entry(neighbour.mac).or_default().addresses.insert(neighbour.address);
    }
    let networks: Vec<_> = chosen.iter().flat_map(|link| host.addresses(link)).collect();
    for lease in leases {
        if networks.iter().any(|network| network.contains(&lease.address)) {
            let device = seen.entry(lease.mac).or_default();
            device.addresses.insert(lease.address);
            device.name = lease.name.clone().or(device.name.take());
        }
    }
    for own in host.links.iter().filter_map(|link| link.mac) {
        seen.remove(&own);
    }
    let mut seen: Vec<(Mac, Seen)> = seen.into_iter().collect();
    seen.sort_by_key(|(_, device)| device.addresses.first().copied());
    seen.truncate(MAX_PROPOSED);
    let mut names = HashSet::new();
    seen.into_iter()
        .map(|(mac, device)| Proposal {
            name: unique(device.name.as_deref(), &mut names),
            mac,
            remark: remark(mac, &device.addresses),
        })
        .collect()
}

/// The name, with a number where another has it already. One that looks like a MAC address is none.
fn unique(name: Option<&str>, names: &mut HashSet<String>) -> String {
    let usable = name.filter(|name| name.parse::<Mac>().is_err());
    let first = usable.map(str::to_owned);
    let numbered = (1..).map(|number| format!("{}-{number}", usable.unwrap_or("device")));
    let mut candidates = first.into_iter().chain(numbered);
    let free = candidates.find(|candidate| !names.contains(candidate)).unwrap_or_default();
    names.insert(free.clone());
    free
}

fn remark(mac: Mac, addresses: &BTreeSet<IpAddr>) -> String {
    let maker = match (vendor(mac), mac.is_local()) {
        (Some(vendor), _) => vendor,
        (None, true) => "random MAC",
        (None, false) => "unknown vendor",
    };
    let link_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let addresses = addresses.iter().filter(|address| !link_local(address)).take(MAX_ADDRESSES);
    let mut words = vec![maker.to_owned()];
    words.extend(addresses.map(ToString::to_string));
    words.join(", ")
}
