//! Devices that got their names while the sensor ran.
//!
//! `labgate device adopt` writes them to a file in the state directory, and the sensor takes them over from
//! there. What the configuration says overrules what stands here.

mod file;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use self::file::{FileError, StateFile};
use crate::{
    config::{Config, DeviceConfig, Policy, check_mac, check_name},
    model::Mac,
};

/// Version of the file's form; it grows with every change that a reader could notice.
const VERSION: u32 = 1;
/// More than any bench has.
const MAX_DEVICES: usize = 4096;
/// Addresses of one device; a phone has one for each network it joins.
const MAX_MACS: usize = 64;

/// The devices, by name; names and addresses are unique.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    devices: Vec<DeviceConfig>,
}

#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    devices: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    macs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

impl Adopted {
    /// They.
    pub fn devices(&self) -> &[DeviceConfig] {
        &self.devices
    }

    /// Reads the file's form, a JSON document, strictly: what is not wholly understood is not taken.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let versioned: Versioned =
            serde_json::from_slice(bytes).map_err(|error| complaint(&error))?;
        if versioned.version != VERSION {
            let found = versioned.version;
            return Err(format!("it has version {found}, and this labgate reads {VERSION}"));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| complaint(&error))?;
        let mut adopted = Self::default();
        for Entry { name, macs, group } in document.devices {
            let macs = macs.iter().map(|mac| mac.parse()).collect::<Result<Vec<Mac>, _>>();
            let macs = macs.map_err(|error| format!("device {name:?}: {error}"))?;
            adopted.enter(DeviceConfig { name, macs, group })?;
        }
        Ok(adopted)
    }

    /// The file's form.
    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let devices = self.devices.iter().map(|device| Entry {
            name: device.name.clone(),
            macs: device.macs.iter().map(ToString::to_string).collect(),
            group: device.group.clone(),
        });
        let document = Document { version: VERSION, devices: devices.collect() };
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Adds a device, which is all that there is of it.
    fn enter(&mut self, device: DeviceConfig) -> Result<(), String> {
        let DeviceConfig { name, macs, group } = &device;
        for text in [Some(name), group.as_ref()].into_iter().flatten() {
            check_name(text).map_err(|advice| format!("{text:?} is no usable name: {advice}"))?;
        }
        if macs.is_empty() {
            return Err(format!("device {name:?} has no MAC address"));
        }
        if macs.len() > MAX_MACS {
            return Err(format!("device {name:?} has more than {MAX_MACS} MAC addresses"));
        }
        let mut own = HashSet::new();
        for mac in macs {
            check_mac(*mac).map_err(|(problem, advice)| format!("{mac} {problem}: {advice}"))?;
            if let Some(other) = self.owner(*mac) {
                return Err(format!("{mac} is device {:?} already", other.name));
            }
            if !own.insert(mac) {
                return Err(format!("device {name:?} has {mac} twice"));
            }
        }
        if self.devices.len() >= MAX_DEVICES {
            return Err(format!("there are {MAX_DEVICES} adopted devices, which is the most"));
        }
        match self.devices.binary_search_by(|known| known.name.cmp(name)) {
            Ok(_) => Err(format!("device {name:?} is there already")),
            Err(place) => {
                self.devices.insert(place, device);
                Ok(())
            }
        }
    }

    /// Whose address it is.
    fn owner(&self, mac: Mac) -> Option<&DeviceConfig> {
        self.devices.iter().find(|device| device.macs.contains(&mac))
    }

    /// Gives the device with an address a name; with `further`, one that an adopted device has already.
    ///
    /// # Errors
    ///
    /// Why it can't be, and what to do instead; nothing is changed then.
    pub fn adopt(
        &mut self,
        new: DeviceConfig,
        further: bool,
        config: &Config,
    ) -> Result<(), String> {
        for mac in &new.macs {
            if let Some(owner) = config.devices.iter().find(|d| d.macs.contains(mac)) {
                return Err(format!(
                    "{mac} is {:?} in the configuration; change it there",
                    owner.name
                ));
            }
            if let Some(owner) = self.owner(*mac) {
                let name = &owner.name;
                return Err(format!(
                    "{mac} is adopted as {name:?} already; to change that, first \
                     `labgate device forget {mac}`"
                ));
            }
        }
        if config.devices.iter().any(|device| device.name == new.name) {
            return Err(format!(
                "the configuration has a device {:?}; choose another name, or add the address to it there",
                new.name
            ));
        }
        if let Some(group) = new.group.as_ref().filter(|g| !config.policy.has_group(g)) {
            let policy = &config.policy;
            let known = policy.groups.keys().chain(&policy.groups_without_rules);
            let known: Vec<&str> = known.map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!(
                "there is no group {group:?} under `policy.groups` of the configuration; there: {known}"
            ));
        }
        let mut changed = self.clone();
        let place = changed.devices.iter().position(|device| device.name == new.name);
        let new = match place {
            None => new,
            Some(_) if !further => {
                return Err(format!(
                    "a device {:?} is adopted already; choose another name, or say with --add that \
                     this is a further address of it",
                    new.name
                ));
            }
            Some(place) => {
                let mut known = changed.devices.remove(place);
                if new.group.is_some() && new.group != known.group {
                    return Err(format!(
                        "device {:?} is in group {:?}; leave out --group",
                        known.name,
                        known.group.unwrap_or_default()
                    ));
                }
                known.macs.extend(new.macs);
                known
            }
        };
        changed.enter(new)?;
        *self = changed;
        Ok(())
    }

    /// Forgets one address of a device, or with its name the whole device. Returns the device as it was.
    ///
    /// # Errors
    ///
    /// When there is no such device here.
    pub fn forget(&mut self, mac_or_name: &str, config: &Config) -> Result<DeviceConfig, String> {
        let mac = mac_or_name.parse::<Mac>().ok();
        let is_meant = |device: &DeviceConfig| {
            mac.map_or(device.name == mac_or_name, |mac| device.macs.contains(&mac))
        };
        let Some(place) = self.devices.iter().position(is_meant) else {
            if config.devices.iter().any(is_meant) {
                return Err(format!("{mac_or_name} stands in the configuration; remove it there"));
            }
            return Err(format!(
                "no adopted device has the name or address {mac_or_name}; `labgate device list` shows them"
            ));
        };
        let before = self.devices[place].clone();
        if let Some(mac) = mac {
            self.devices[place].macs.retain(|own| *own != mac);
        }
        if mac.is_none() || self.devices[place].macs.is_empty() {
            self.devices.remove(place);
        }
        Ok(before)
    }

    /// All devices: those of the configuration, then those from here as far as it leaves room for them;
    /// and a sentence about each of which it does not. One that was adopted without a group stays in that of the
    /// devices that nobody has named: a name is no way out of the policy.
    pub fn beside(&self, config: &Config) -> (Vec<DeviceConfig>, Vec<String>) {
        let mut devices = config.devices.clone();
        let mut warnings = Vec::new();
        let names: HashSet<&str> = config.devices.iter().map(|d| d.name.as_str()).collect();
        let macs: HashSet<Mac> = config.device_macs().into_iter().collect();
        for adopted in &self.devices {
            let name = &adopted.name;
            let (taken, free): (Vec<Mac>, Vec<Mac>) =
                adopted.macs.iter().partition(|mac| macs.contains(mac));
            for mac in taken {
                warnings.push(format!(
                    "{mac} was adopted as {name:?}, which has no effect: the configuration names it"
                ));
            }
            if free.is_empty() {
                continue;
            }
            if names.contains(name.as_str()) {
                warnings.push(format!(
                    "adopted device {name:?} has no effect: the configuration has another of that name"
                ));
                continue;
            }
            let group = adopted.group.clone().or_else(|| config.policy.unknown_devices.clone());
            if let Some(group) = group.as_ref().filter(|group| !config.policy.has_group(group)) {
                warnings.push(format!(
                    "adopted device {name:?} is in group {group:?}, which is gone from `policy.groups`: no country is \
                     allowed to it; add the group there, or `labgate device forget` and adopt it anew"
                ));
            }
            devices.push(DeviceConfig { name: name.clone(), macs: free, group });
        }
        (devices, warnings)
    }

    /// Devices whose groups one policy knows and another does not.
    ///
    /// # Errors
    ///
    /// Which, in one sentence.
    pub fn keep_their_groups(&self, old: &Policy, new: &Policy) -> Result<(), String> {
        let loses = |device: &&DeviceConfig| {
            device.group.as_ref().is_some_and(|group| old.has_group(group) && !new.has_group(group))
        };
        match self.devices.iter().find(loses) {
            None => Ok(()),
            Some(DeviceConfig { name, group, .. }) => Err(format!(
                "adopted device {name:?} is in group {:?}, which `policy.groups` no longer has; leave the group there, \
                 or `labgate device forget` the device first",
                group.as_deref().unwrap_or_default()
            )),
        }
    }
}

/// What is wrong with the document; it quotes keys and values as they are.
fn complaint(error: &serde_json::Error) -> String {
    error.to_string().replace(char::is_control, "?")
}
