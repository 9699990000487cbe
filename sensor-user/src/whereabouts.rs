//! Where devices are on the LAN: the IP addresses that they answer for and the names that they gave.
//!
//! Both are the devices' own word. They are shown, and nothing else: no packet is attributed and no
//! rule is applied by them.

mod leases;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use self::leases::{Lease, Leases};
use crate::{
    host::{Neighbour, neighbours},
    model::{DeviceId, DeviceKind, Mac, Whereabouts},
    state::{DeviceState, Shared, State},
};

/// How often the tables are looked at. The kernel keeps a neighbour for a minute at least.
const LOOK: Duration = Duration::from_secs(3);
/// Addresses of one device that are shown; a phone has some six.
const MAX_ADDRESSES: usize = 16;
/// Host names of one device that are shown.
const MAX_NAMES: usize = 8;
/// Addresses of all devices together.
const MAX_IN_ALL: usize = 16_384;

/// Of every device of which something is known.
pub type Table = HashMap<DeviceId, Whereabouts>;

/// Looks at the kernel's neighbours and the lease files again and again.
pub struct Follower {
    shared: Arc<Shared>,
    leases: Leases,
    last: Table,
    /// The last failure, so that it is told once.
    failure: Option<String>,
}

/// What is looked for: a device's addresses.
struct Known {
    id: DeviceId,
    macs: Vec<Mac>,
    configured: bool,
}

impl Follower {
    /// Shows in `shared` what it finds.
    pub fn new(shared: Arc<Shared>, leases: Vec<PathBuf>) -> Self {
        let leases = Leases::new(leases);
        Self { shared, leases, last: Table::new(), failure: None }
    }

    /// Looks until nobody is left to name other lease files.
    pub fn run(mut self, lease_files: &Receiver<Vec<PathBuf>>) {
        loop {
            match lease_files.recv_timeout(LOOK) {
                Ok(files) => self.leases = Leases::new(files),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let (watched, devices) = self.wanted();
        let (neighbours, failure) = match neighbours(&watched) {
            Ok(neighbours) => (neighbours, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        if let Some(reason) = failure.as_ref().filter(|_| failure != self.failure) {
            tracing::warn!("the devices' IP addresses are not known: {reason}");
        }
        self.failure = failure;
        let table = locate(&devices, neighbours, &self.leases.read());
        if table != self.last {
            self.last.clone_from(&table);
            self.shared.change(|state| state.locate(table));
        }
    }

    /// Watched links, and devices. The state is given back at once, or an epoch would have to copy it.
    fn wanted(&self) -> (Vec<String>, Vec<Known>) {
        let state = self.shared.snapshot();
        let watched = state.coverage().iter().filter(|interface| interface.current().is_some());
        let links = watched.filter_map(|interface| Some(interface.link.as_ref()?.name.clone()));
        (links.collect(), known(&state))
    }
}

/// What the lease files alone know of a state's devices.
pub(crate) fn by_leases(state: &State, files: Vec<PathBuf>) -> Table {
    locate(&known(state), Vec::new(), &Leases::new(files).read())
}

/// The devices that can be told apart, with their addresses.
fn known(state: &State) -> Vec<Known> {
    let devices = state
        .devices()
        .map(DeviceState::info)
        .filter(|info| matches!(info.kind, DeviceKind::Configured | DeviceKind::Unknown));
    let known = devices.map(|info| Known {
        id: info.id,
        macs: info.macs.clone(),
        configured: info.kind == DeviceKind::Configured,
    });
    known.collect()
}

/// What is known of each device, bounded for each and in all; configured ones come first, and of their
/// addresses those that answered last.
fn locate(devices: &[Known], mut neighbours: Vec<Neighbour>, leases: &[Lease]) -> Table {
    neighbours.sort_by_key(|neighbour| neighbour.doubt);
    let mut by_mac: HashMap<Mac, Vec<IpAddr>> = HashMap::new();
    let mut by_address: HashMap<IpAddr, Mac> = HashMap::new();
    for Neighbour { mac, address, .. } in &neighbours {
        by_mac.entry(*mac).or_default().push(*address);
        by_address.entry(*address).or_insert(*mac);
    }
    let mut leases_of: HashMap<Mac, Vec<&Lease>> = HashMap::new();
    for lease in leases {
        // Who answers for the address knows better than an identifier that the client made up.
        let mac = match lease.address {
            IpAddr::V4(_) => lease.mac,
            IpAddr::V6(_) => by_address.get(&lease.address).copied().or(lease.mac),
        };
        if let Some(mac) = mac {
            leases_of.entry(mac).or_default().push(lease);
        }
    }

    let mut table = Table::new();
    let mut room = MAX_IN_ALL;
    let (first, last): (Vec<&Known>, Vec<&Known>) =
        devices.iter().partition(|device| device.configured);
    for device in first.into_iter().chain(last) {
        let leases = || device.macs.iter().filter_map(|mac| leases_of.get(mac)).flatten();
        let leased = leases().map(|lease| lease.address);
        let answered = device.macs.iter().filter_map(|mac| by_mac.get(mac)).flatten().copied();
        let addresses = first_of(leased.chain(answered), MAX_ADDRESSES.min(room));
        let host_names = first_of(leases().filter_map(|l| l.host_name.clone()), MAX_NAMES);
        room -= addresses.len();
        if !(addresses.is_empty() && host_names.is_empty()) {
            table.insert(device.id, Whereabouts { addresses, host_names });
        }
    }
    table
}

/// The first ones, each once, in their own order, so that the same ones look the same each time.
fn first_of<T: Ord>(all: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    let mut first = BTreeSet::new();
    for one in all {
        if first.len() >= most {
            break;
        }
        first.insert(one);
    }
    first.into_iter().collect()
}
