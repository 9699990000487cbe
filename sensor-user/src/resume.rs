//! Going on where an earlier process stopped: what the ledger holds becomes inventory and state again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    config::{Config, DeviceConfig},
    join::devices::Inventory,
    model::{DeviceId, DeviceInfo, DeviceKind, Mac},
    sinks::ledger::{KnownDevice, Ledger, LedgerError, Restored},
    state::{Limits, State},
};

/// An unknown device that was not seen for so long before the sensor stopped is not told apart again: phones change their addresses,
/// and those of before would leave no room for new ones.
const STRANGER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Inventory and state as they were after the last epoch in the ledger, for this configuration.
///
/// # Errors
///
/// When the ledger can't be read.
pub fn resume(
    config: &Config,
    ledger: &mut Ledger,
    restored: &mut Restored,
    state: &mut State,
) -> Result<Inventory, LedgerError> {
    let mut inventory = Inventory::new(&[], config.limits.unknown_devices);
    let ids = readmit(&mut inventory, &config.devices, &restored.devices, restored.ended);
    inventory.configure(&config.devices);

    if let Some(saved) = restored.state.take() {
        state.restore(saved);
    }
    let limits = Limits::from(config.limits);
    let entry = |id: i64| ids.get(&id).copied().unwrap_or(Inventory::POOL);
    let whole = |id: DeviceId| inventory.devices()[id.0 as usize].part_of.unwrap_or(id);
    let now_is = |id: i64| whole(entry(id));
    for device in &mut restored.devices {
        let info = &inventory.devices()[now_is(device.id).0 as usize];
        if ids.contains_key(&device.id) {
            // By what the ledger says: what has changed since is yet to be written there.
            ledger.know(device.id, &DeviceInfo { id: entry(device.id), ..device.info() });
        }
        state.restore_device(info, device.saved.take(), ledger.rows_of(device.id)?.into_iter());
    }
    let epochs = restored.epochs(now_is)?;
    for (record, _) in &epochs {
        state.apply(record, inventory.devices());
    }
    ledger.replay(restored, &limits)?;
    state.restore_alerts(restored.alerts(now_is));
    Ok(inventory)
}

/// Enters those devices of the ledger that are to be told apart, and says which they are now.
fn readmit(
    inventory: &mut Inventory,
    configured: &[DeviceConfig],
    known: &[KnownDevice],
    last: u64,
) -> HashMap<i64, DeviceId> {
    let names: HashSet<&str> = configured.iter().map(|device| &*device.name).collect();
    let macs: HashSet<Mac> = configured.iter().flat_map(|device| device.macs.clone()).collect();
    let age = u64::try_from(STRANGER_AGE.as_nanos()).unwrap_or(u64::MAX);
    let recent = last.saturating_sub(age);
    let is_wanted = |device: &&KnownDevice| match device.kind {
        None => false,
        Some(DeviceKind::Pool | DeviceKind::Group) => true,
        Some(DeviceKind::Configured | DeviceKind::Unknown) => {
            device.last_seen >= recent
                || names.contains(&*device.name)
                || device.macs.iter().any(|mac| macs.contains(mac))
        }
    };
    let enter = |device: &KnownDevice| {
        let id = inventory.readmit(&device.name, &device.macs, &device.group, device.kind?);
        Some((device.id, id))
    };
    known.iter().filter(is_wanted).filter_map(enter).collect()
}
