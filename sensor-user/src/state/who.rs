//! Who is meant: devices and operators as they are asked for.

use std::{collections::HashMap, net::IpAddr};

use super::{DeviceState, State};
use crate::model::{Attribution, DeviceInfo, DeviceKind, Mac, Whereabouts};

/// A device by its name or one of its MAC addresses; with [`State::resolved`], also by where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRef {
    name: String,
    mac: Option<Mac>,
    /// Of the devices that are meant, as far as they are known.
    macs: Vec<Mac>,
}

impl DeviceRef {
    /// What a user typed.
    pub fn new(typed: &str) -> Self {
        Self { name: typed.to_owned(), mac: typed.parse().ok(), macs: Vec::new() }
    }

    /// What the user typed.
    pub fn typed(&self) -> &str {
        &self.name
    }

    /// Whether it is a MAC address; of a device that may not have been seen yet.
    pub const fn is_mac(&self) -> bool {
        self.mac.is_some()
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, device: &DeviceInfo) -> bool {
        *device.name == self.name
            || self.mac.iter().chain(&self.macs).any(|mac| device.macs.contains(mac))
    }

    /// The same, and whoever has one of these addresses.
    #[must_use]
    pub(crate) fn with_macs<'a>(&self, devices: impl Iterator<Item = &'a DeviceInfo>) -> Self {
        let macs = devices.flat_map(|device| device.macs.iter().copied());
        Self { macs: self.macs.iter().copied().chain(macs).collect(), ..self.clone() }
    }
}

/// An operator by its AS number, or a part of its name in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorRef {
    /// AS number; 0 for none.
    Number(u32),
    /// Part of the name.
    Named(String),
}

impl OperatorRef {
    pub(super) fn is(&self, place: &Attribution) -> bool {
        match self {
            Self::Number(asn) => place.asn == *asn,
            Self::Named(part) => place.operator.to_lowercase().contains(part),
        }
    }
}

impl State {
    /// Whether there is such a device.
    pub fn has_device(&self, device: &DeviceRef) -> bool {
        let device = self.resolved(device);
        self.devices().any(|known| device.is(known.info()))
    }

    /// Whether a device or a rule is of this group.
    pub fn has_group(&self, group: &str) -> bool {
        self.setup.policy.groups.contains_key(group)
            || self.devices().any(|device| *device.info().group == *group)
    }

    /// The device that is meant, with its MAC addresses, by which others know it. A device is what its name or MAC
    /// address says, and only where nobody has such a one what it itself says: an IP address or a host name. Else
    /// one could be asked for and another, which calls itself so, be shown.
    #[must_use]
    pub fn resolved(&self, device: &DeviceRef) -> DeviceRef {
        let told_apart = || {
            let kinds = [DeviceKind::Configured, DeviceKind::Unknown];
            self.devices().filter(move |known| kinds.contains(&known.info().kind))
        };
        let typed = &device.name;
        let by_itself =
            device.with_macs(told_apart().map(DeviceState::info).filter(|info| device.is(info)));
        if by_itself != *device || self.devices().any(|known| device.is(known.info())) {
            return by_itself;
        }
        let address = typed.parse::<IpAddr>().map(|address| address.to_canonical()).ok();
        let said = told_apart().filter(|known| {
            let Whereabouts { addresses, host_names } = self.whereabouts_of(known);
            known.info().name.eq_ignore_ascii_case(typed)
                || address.is_some_and(|address| addresses.contains(&address))
                || host_names.iter().any(|name| name.eq_ignore_ascii_case(typed))
        });
        device.with_macs(said.map(DeviceState::info))
    }

    /// Calls the devices what another state calls those with the same MAC addresses, with their groups and
    /// whereabouts: a name belongs to a device, and not to the time when it had it.
    pub(crate) fn know_as_in(&mut self, now: &Self) {
        let known: HashMap<Mac, &DeviceState> = now
            .devices()
            .flat_map(|device| device.info().macs.iter().map(move |mac| (*mac, device)))
            .collect();
        let mut whereabouts = HashMap::new();
        for device in self.devices.values_mut() {
            let Some(now_known) = device.info().macs.iter().find_map(|mac| known.get(mac)) else {
                continue;
            };
            let DeviceInfo { name, group, .. } = now_known.info().clone();
            let info = DeviceInfo { name, group, ..device.info().clone() };
            whereabouts.insert(info.id, now.whereabouts_of(now_known).clone());
            device.update_info(&info, &mut self.pool, &mut self.budget);
        }
        self.locate(whereabouts);
    }
}
