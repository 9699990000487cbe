//! The device inventory: which MAC address is whose.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    sync::Arc,
};

use super::{names::candidates, vendor::vendor};
use crate::{
    config::DeviceConfig,
    model::{DeviceId, DeviceInfo, DeviceKind, Direction, Mac},
};

/// Stands for all group addresses.
const BROADCAST: Mac = Mac([0xff; 6]);

/// Every device there is. Grows by unknown MAC addresses up to a bound, and never shrinks, so a
/// [`DeviceId`] stays what it is.
#[derive(Debug)]
pub struct Inventory {
    devices: Vec<DeviceInfo>,
    by_mac: HashMap<Mac, DeviceId>,
    /// All that are in use: no two devices share one.
    names: HashSet<Arc<str>>,
    /// Most unknown devices.
    limit: usize,
    /// How many there are.
    unknown: usize,
    /// Those about whom something else is known than when this was last asked.
    changed: BTreeSet<DeviceId>,
}

impl Inventory {
    /// What could not be told apart: unknown devices beyond the bound.
    pub const POOL: DeviceId = DeviceId(0);
    /// Frames to multicast and broadcast MAC addresses: sent to no single device.
    pub const GROUP: DeviceId = DeviceId(1);
    /// What [`Inventory::POOL`] is called; the parentheses set it apart from names that people give.
    pub const POOL_NAME: &str = "(other devices)";

    /// The configured devices, and room for `unknown_devices` others.
    pub fn new(configured: &[DeviceConfig], unknown_devices: u32) -> Self {
        let mut inventory = Self {
            devices: Vec::with_capacity(configured.len() + 2),
            by_mac: HashMap::new(),
            names: HashSet::new(),
            limit: unknown_devices as usize,
            unknown: 0,
            changed: BTreeSet::new(),
        };
        inventory.push(Self::POOL_NAME.into(), Vec::new(), "".into(), DeviceKind::Pool);
        inventory.push("(multicast)".into(), vec![BROADCAST], "".into(), DeviceKind::Group);
        // It receives; who sends with such an address is a device.
        inventory.by_mac.clear();
        for device in configured {
            let group = device.group.as_deref().unwrap_or_default().into();
            let name = device.name.as_str().into();
            inventory.push(name, device.macs.clone(), group, DeviceKind::Configured);
        }
        inventory
    }

    /// Enters a device of before the sensor started, as a part of the one that has its name if there is one. The
    /// [configuration](Self::configure) then says what has become of it.
    pub fn readmit(
        &mut self,
        name: &Arc<str>,
        macs: &[Mac],
        group: &Arc<str>,
        kind: DeviceKind,
    ) -> DeviceId {
        match kind {
            DeviceKind::Pool => return Self::POOL,
            DeviceKind::Group => return Self::GROUP,
            DeviceKind::Configured | DeviceKind::Unknown => {}
        }
        let namesake = self.devices.iter().find(|device| device.name == *name);
        let Some(namesake) = namesake.cloned() else {
            return self.push(Arc::clone(name), macs.to_vec(), Arc::clone(group), kind);
        };
        // Two strangers may have been called the same at different times.
        if kind == DeviceKind::Unknown
            && namesake.macs != macs
            && let Some(mac) = macs.first()
        {
            let name = name_for(*mac, &self.names);
            return self.push(name, macs.to_vec(), Arc::clone(group), kind);
        }
        let id = self.next_id();
        let part_of = Some(namesake.part_of.unwrap_or(namesake.id));
        self.devices.push(DeviceInfo { id, part_of, ..namesake });
        id
    }

    /// Goes on with these configured devices. A device is the one of its name; else it is an unknown one
    /// with one of its addresses, or a configured one whose name is gone; else it is new. One that is
    /// no longer configured goes on as an unknown one. All keep what was counted for them, and a name
    /// that is now a configured device's is that one's. One that is left without an address, because one configured
    /// device has them all, is a part of that one from here on.
    pub fn configure(&mut self, configured: &[DeviceConfig]) {
        let before = self.devices.clone();
        let mut ids = Vec::with_capacity(configured.len());
        for device in configured {
            let known = self.identify(device, configured).filter(|id| !ids.contains(id));
            ids.push(known.unwrap_or_else(|| {
                let name = device.name.as_str().into();
                self.push(name, Vec::new(), "".into(), DeviceKind::Configured)
            }));
        }
        self.by_mac.clear();
        self.names.clear();
        self.names.extend(configured.iter().map(|device| Arc::from(device.name.as_str())));
        for (device, id) in configured.iter().zip(&ids) {
            self.by_mac.extend(device.macs.iter().map(|mac| (*mac, *id)));
            self.devices[id.0 as usize] = DeviceInfo {
                id: *id,
                name: device.name.as_str().into(),
                macs: device.macs.clone(),
                vendor: vendor_of(&device.macs),
                group: device.group.as_deref().unwrap_or_default().into(),
                kind: DeviceKind::Configured,
                part_of: None,
            };
        }
        self.unknown = 0;
        let mut wholes = BTreeMap::new();
        for device in self.devices.iter_mut().filter(|device| device.part_of.is_none()) {
            let is_device = !matches!(device.kind, DeviceKind::Pool | DeviceKind::Group);
            if is_device && !ids.contains(&device.id) {
                if let Some(whole) = heir(device, &self.by_mac) {
                    wholes.insert(device.id, whole);
                    continue;
                }
                make_unknown(device, &mut self.by_mac, &self.names);
                self.unknown += 1;
            }
            self.names.insert(Arc::clone(&device.name));
        }
        self.join(&wholes);
        let changed = self.devices.iter().zip(&before).filter(|(now, before)| now != before);
        self.changed.extend(changed.map(|(now, _)| now.id));
    }

    /// Has parts say what is known of their wholes; `wholes` says which devices have become parts.
    fn join(&mut self, wholes: &BTreeMap<DeviceId, DeviceId>) {
        for place in 0..self.devices.len() {
            let DeviceInfo { id, part_of, .. } = self.devices[place];
            let Some(mut whole) = part_of.or_else(|| wholes.get(&id).copied()) else { continue };
            // What was a whole may be a part now; an heir is configured, and so none.
            while let Some(next) = wholes.get(&whole) {
                whole = *next;
            }
            let info = self.devices[whole.0 as usize].clone();
            self.devices[place] = DeviceInfo { id, part_of: Some(whole), ..info };
        }
    }

    /// The devices about whom something else is known than when this was last asked.
    pub fn take_changed(&mut self) -> Vec<DeviceInfo> {
        let changed = mem::take(&mut self.changed);
        changed.iter().map(|id| self.devices[id.0 as usize].clone()).collect()
    }

    /// Whether there are such.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Which of the devices that there are this one is.
    fn identify(&self, device: &DeviceConfig, configured: &[DeviceConfig]) -> Option<DeviceId> {
        let is_named = |known: &&DeviceInfo, name: &str| {
            known.kind == DeviceKind::Configured && *known.name == *name
        };
        if let Some(known) = self.devices.iter().find(|known| is_named(known, &device.name)) {
            return Some(known.id);
        }
        let ids = device.macs.iter().filter_map(|mac| self.by_mac.get(mac));
        let mut seen = ids.map(|id| &self.devices[id.0 as usize]);
        seen.find(|known| !configured.iter().any(|other| is_named(known, &other.name)))
            .map(|known| known.id)
    }

    /// Every device; a device's place is its [`DeviceId`].
    pub fn devices(&self) -> &[DeviceInfo] {
        &self.devices
    }

    /// Whose traffic a MAC address carries, as sender or receiver. An unknown one is entered while
    /// there is room. A group address is a group's as receiver; a sender that uses one is a device.
    pub fn resolve(&mut self, mac: Mac, direction: Direction) -> DeviceId {
        if mac.is_group() && direction == Direction::Rx {
            return Self::GROUP;
        }
        if let Some(id) = self.by_mac.get(&mac) {
            return *id;
        }
        if self.unknown >= self.limit {
            return Self::POOL;
        }
        self.unknown += 1;
        self.push(name_for(mac, &self.names), vec![mac], "".into(), DeviceKind::Unknown)
    }

    fn push(
        &mut self,
        name: Arc<str>,
        macs: Vec<Mac>,
        group: Arc<str>,
        kind: DeviceKind,
    ) -> DeviceId {
        let id = self.next_id();
        self.by_mac.extend(macs.iter().map(|mac| (*mac, id)));
        let vendor = vendor_of(&macs);
        self.names.insert(Arc::clone(&name));
        self.devices.push(DeviceInfo { id, name, macs, vendor, group, kind, part_of: None });
        id
    }

    fn next_id(&self) -> DeviceId {
        DeviceId(u32::try_from(self.devices.len()).unwrap_or(u32::MAX))
    }
}

/// The one configured device that has all addresses of a device; `by_mac` has those of configured ones, and of unknown
/// ones that are themselves.
fn heir(device: &DeviceInfo, by_mac: &HashMap<Mac, DeviceId>) -> Option<DeviceId> {
    let mut owners = device.macs.iter().map(|mac| by_mac.get(mac).copied());
    let first = owners.next()??;
    owners.all(|owner| owner == Some(first)).then_some(first)
}

/// Leaves a device the addresses that no configured one has. Its name stays if it was unknown before and
/// the name is still free; else it gets another by the first of its addresses.
fn make_unknown(
    device: &mut DeviceInfo,
    by_mac: &mut HashMap<Mac, DeviceId>,
    names: &HashSet<Arc<str>>,
) {
    device.macs.retain(|mac| !by_mac.contains_key(mac));
    by_mac.extend(device.macs.iter().map(|mac| (*mac, device.id)));
    if device.kind != DeviceKind::Unknown || names.contains(&device.name) {
        device.name = device.macs.first().map_or_else(
            || format!("(former device {})", device.id.0).into(),
            |mac| name_for(*mac, names),
        );
    }
    device.group = "".into();
    device.kind = DeviceKind::Unknown;
}

/// A name for an unknown device that no other has: not even one that is configured may have the last
/// candidate, and no unknown one has another's address.
fn name_for(mac: Mac, names: &HashSet<Arc<str>>) -> Arc<str> {
    let [best, whole, address] = candidates(mac);
    let free = [best, whole].into_iter().find(|name| !names.contains(name.as_str()));
    free.unwrap_or(address).into()
}

/// The vendor of the first address that has one.
pub(crate) fn vendor_of(macs: &[Mac]) -> Arc<str> {
    macs.iter().find_map(|mac| vendor(*mac)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: Mac = Mac([0x64, 0x09, 0x80, 1, 2, 3]);
    const RANDOM: Mac = Mac([0x02, 0x09, 0x80, 1, 2, 3]);

    fn inventory(unknown: u32) -> Inventory {
        let phone = DeviceConfig {
            name: "phone".to_owned(),
            macs: vec![PHONE, RANDOM],
            group: Some("phones".to_owned()),
        };
        Inventory::new(&[phone], unknown)
    }

    #[test]
    fn several_addresses_are_one_device() {
        let mut inventory = inventory(0);
        let id = inventory.resolve(PHONE, Direction::Rx);
        assert_eq!(inventory.resolve(RANDOM, Direction::Rx), id);
        let device = &inventory.devices()[id.0 as usize];
        assert_eq!((&*device.name, &*device.group), ("phone", "phones"));
        assert!(device.random_mac());
        assert!(!device.vendor.is_empty(), "the vendor of its universal address");
    }

    #[test]
    fn unknown_devices_are_entered_up_to_the_bound() {
        let mut inventory = inventory(2);
        let stranger = |last| Mac([0x64, 0x09, 0x80, 9, 9, last]);
        let first = inventory.resolve(stranger(1), Direction::Rx);
        let second = inventory.resolve(stranger(2), Direction::Rx);
        assert_ne!(first, second);
        assert_eq!(inventory.resolve(stranger(3), Direction::Rx), Inventory::POOL);
        assert_eq!(inventory.resolve(stranger(1), Direction::Rx), first, "those entered stay");
        assert_eq!(&*inventory.devices()[first.0 as usize].name, "xiaomi-09:09:01");
    }

    #[test]
    fn group_addresses_take_no_place() {
        let mut inventory = inventory(1);
        assert_eq!(inventory.resolve(Mac([0xff; 6]), Direction::Rx), Inventory::GROUP);
        assert_eq!(
            inventory.resolve(Mac([0x33, 0x33, 0, 0, 0, 1]), Direction::Rx),
            Inventory::GROUP
        );
        let hostile = inventory.resolve(Mac([0xff; 6]), Direction::Tx);
        assert_eq!(inventory.devices()[hostile.0 as usize].kind, DeviceKind::Unknown);
        assert_eq!(inventory.resolve(Mac([0xff; 6]), Direction::Rx), Inventory::GROUP);
    }

    fn config(name: &str, macs: &[Mac]) -> DeviceConfig {
        DeviceConfig { name: name.to_owned(), macs: macs.to_vec(), group: None }
    }

    fn names(inventory: &Inventory) -> Vec<(&str, DeviceKind)> {
        inventory.devices()[2..].iter().map(|device| (&*device.name, device.kind)).collect()
    }

    #[test]
    fn a_device_stays_itself_through_another_configuration() {
        let stranger = Mac([0x64, 0x09, 0x80, 9, 9, 1]);
        let mut inventory = inventory(5);
        let phone = inventory.resolve(PHONE, Direction::Tx);
        let unknown = inventory.resolve(stranger, Direction::Tx);

        // Renamed, and an unknown one gets a name.
        inventory.configure(&[config("handset", &[PHONE]), config("tv", &[stranger])]);
        assert_eq!(inventory.resolve(PHONE, Direction::Tx), phone);
        assert_eq!(inventory.resolve(stranger, Direction::Tx), unknown);
        let both = [("handset", DeviceKind::Configured), ("tv", DeviceKind::Configured)];
        assert_eq!(names(&inventory), both);

        // Two swap their addresses: a device is its name.
        inventory.configure(&[config("tv", &[PHONE]), config("handset", &[stranger])]);
        assert_eq!(inventory.resolve(PHONE, Direction::Tx), unknown);
        assert_eq!(inventory.resolve(stranger, Direction::Tx), phone);
        assert_eq!(names(&inventory), both);

        // One goes, one comes.
        inventory.configure(&[config("handset", &[stranger]), config("watch", &[RANDOM])]);
        assert_eq!(inventory.resolve(PHONE, Direction::Tx), unknown);
        assert_eq!(inventory.devices()[unknown.0 as usize].kind, DeviceKind::Unknown);
        assert_eq!(&*inventory.devices()[unknown.0 as usize].name, "xiaomi-01:02:03");
        let watch = inventory.resolve(RANDOM, Direction::Tx);
        assert_eq!(&*inventory.devices()[watch.0 as usize].name, "watch");
        assert!(inventory.devices().iter().enumerate().all(|(at, info)| info.id.0 as usize == at));
    }

    #[test]
    fn no_two_devices_share_a_name() {
        let [first, second, third] = [[0x64, 0x09, 0x80], [0x28, 0x6c, 0x07], [0x64, 0xb4, 0x73]]
            .map(|[a, b, c]| {
                // Three blocks of one vendor.
                Mac([a, b, c, 1, 2, 3])
            });
        let mut inventory =
            Inventory::new(&[config("xiaomi-28:6c:07:01:02:03", &[Mac([2; 6])])], 9);
        for mac in [first, second, third] {
            inventory.resolve(mac, Direction::Tx);
        }
        let called = |inventory: &Inventory| {
            inventory.devices()[3..].iter().map(|d| d.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            called(&inventory),
            ["xiaomi-01:02:03", "28:6c:07:01:02:03", "xiaomi-64:b4:73:01:02:03"]
        );

        // A configured device may be called so; the name is its from then on.
        inventory.configure(&[config("xiaomi-01:02:03", &[Mac([4; 6])])]);
        let first = inventory.resolve(first, Direction::Tx);
        assert_eq!(&*inventory.devices()[first.0 as usize].name, "xiaomi-64:09:80:01:02:03");
        // The one that owns the name by its address may have it, too, and the others keep theirs.
        inventory.configure(&[config("xiaomi-01:02:03", &[third])]);
        assert_eq!(
            called(&inventory)[..2],
            ["xiaomi-64:09:80:01:02:03", "28:6c:07:01:02:03"].map(String::from)
        );
        // One that has lost name and addresses, to two others.
        let [fourth, fifth] = [Mac([6; 6]), Mac([8; 6])];
        inventory.configure(&[config("a", &[fourth, fifth]), config("b", &[third])]);
        inventory.configure(&[config("b", &[third, fourth]), config("c", &[fifth])]);
        inventory.configure(&[config("b", &[third, fourth, fifth])]);
        let devices = || inventory.devices().iter().filter(|device| device.part_of.is_none());
        let names: HashSet<_> = devices().map(|device| &device.name).collect();
        assert_eq!(names.len(), devices().count(), "{names:?}");
    }

    /// What it sent before must not stay in a row without an address.
    #[test]
    fn a_device_is_a_part_of_the_one_that_gets_its_address() {
        let [second, third] = [1, 2].map(|last| Mac([0x64, 0x09, 0x80, 9, 9, last]));
        let mut inventory = inventory(5);
        let phone = inventory.resolve(PHONE, Direction::Tx);
        let stranger = inventory.resolve(second, Direction::Tx);
        assert!(!inventory.has_changed(), "nothing is known otherwise than before");

        let group = Some("phones".to_owned());
        let with =
            |name: &str, macs: &[Mac]| DeviceConfig { group: group.clone(), ..config(name, macs) };
        inventory.configure(&[with("phone", &[PHONE, RANDOM, second])]);
        assert_eq!(inventory.resolve(second, Direction::Tx), phone);
        let part = &inventory.devices()[stranger.0 as usize];
        assert_eq!((part.part_of, &*part.name, part.macs.len()), (Some(phone), "phone", 3));
        let changed: Vec<_> = inventory.take_changed().into_iter().map(|info| info.id).collect();
        assert_eq!(changed, [phone, stranger]);
        assert!(!inventory.has_changed());

        // It is called what the whole is called, and stays a part without that address.
        inventory.configure(&[with("handset", &[PHONE, RANDOM])]);
        let part = &inventory.devices()[stranger.0 as usize];
        assert_eq!((part.part_of, &*part.name), (Some(phone), "handset"));
        let again = inventory.resolve(second, Direction::Tx);
        assert_ne!(again, stranger, "what comes from that address is a device of its own");
        // Two named devices become one, with the parts of each.
        let tv = inventory.resolve(third, Direction::Tx);
        inventory.configure(&[with("tv", &[third]), with("handset", &[PHONE, RANDOM])]);
        inventory.configure(&[with("tv", &[third, PHONE, RANDOM])]);
        let parts = [phone, stranger].map(|id| inventory.devices()[id.0 as usize].part_of);
        assert_eq!(parts, [Some(tv), Some(tv)]);
        assert_eq!(inventory.devices()[again.0 as usize].part_of, None);
    }

    /// Else a forged address whose end is a stranger's of before would be counted as that one.
    #[test]
    fn only_a_namesake_with_the_same_addresses_is_readmitted_as_a_part() {
        let mut inventory = Inventory::new(&[], 9);
        let [one, other] = [Mac([2, 1, 1, 7, 7, 7]), Mac([2, 2, 2, 7, 7, 7])];
        let mut readmit =
            |mac, kind| inventory.readmit(&"random-07:07:07".into(), &[mac], &"".into(), kind);
        let first = readmit(one, DeviceKind::Unknown);
        let second = readmit(other, DeviceKind::Unknown);
        let third = readmit(one, DeviceKind::Configured);
        assert_eq!(inventory.resolve(other, Direction::Tx), second);
        let devices = inventory.devices();
        assert_eq!(&*devices[second.0 as usize].name, "random-02:02:02:07:07:07");
        assert_eq!(devices[third.0 as usize].part_of, Some(first));
    }

    #[test]
    fn a_device_that_gets_a_name_makes_room_for_another() {
        let mut inventory = Inventory::new(&[], 1);
        let [first, second, third] = [1, 2, 3].map(|last| Mac([0x64, 0x09, 0x80, 9, 9, last]));
        let id = inventory.resolve(first, Direction::Tx);
        assert_eq!(inventory.resolve(second, Direction::Tx), Inventory::POOL);
        // One of the pool is told apart from then on.
        inventory.configure(&[config("tv", &[second])]);
        let tv = inventory.resolve(second, Direction::Tx);
        assert!(tv != Inventory::POOL && tv != id);
        assert_eq!(inventory.resolve(third, Direction::Tx), Inventory::POOL);

        inventory.configure(&[config("tv", &[second]), config("watch", &[first])]);
        assert_eq!(inventory.resolve(first, Direction::Tx), id);
        assert_ne!(inventory.resolve(third, Direction::Tx), Inventory::POOL);
        // What is no longer configured takes a place, even beyond the bound.
        inventory.configure(&[]);
        assert_eq!(inventory.resolve(first, Direction::Tx), id);
        assert_eq!(inventory.resolve(Mac([2; 6]), Direction::Tx), Inventory::POOL);
    }
}
