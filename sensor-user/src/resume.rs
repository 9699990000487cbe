//! Going on where an earlier process stopped: what the ledger holds becomes inventory and state again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    clock::{self, Moment, TrustedClock},
    config::{Config, DeviceConfig},
    interfaces::Former,
    join::devices::Inventory,
    model::{DeviceId, DeviceInfo, DeviceKind, Mac},
    sinks::ledger::{KnownDevice, Ledger, LedgerError, Opened, Restored},
    state::{End, Limits, State},
};

/// An unknown device that was not seen for so long before the sensor stopped is not told apart again: phones change their addresses,
/// and those of before would leave no room for new ones.
const STRANGER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a span of before ended of which nothing else is known.
const LOST: &str = "lost";

/// What a sensor begins with.
pub struct Beginning {
    /// The devices.
    pub inventory: Inventory,
    /// The file, which knows what it calls them.
    pub ledger: Ledger,
    /// The interfaces, as they were known.
    pub former: Former,
    /// The time by which the ledger grows old.
    pub trusted: TrustedClock,
    /// Why spans of before that do not go on have ended.
    pub spans_end: &'static str,
}

/// Begins where a ledger ends, in the boot of this id at this moment; the state becomes what it was.
///
/// # Errors
///
/// When the ledger can't be read.
pub fn begin(
    (mut ledger, mut restored, aside): Opened,
    config: &Config,
    state: &mut State,
    boot: &str,
    now: Moment,
) -> Result<Beginning, LedgerError> {
    if let Some(aside) = aside {
        let (path, aside) = (ledger.path().display(), aside.display());
        tracing::error!(%path, %aside, "the ledger was damaged; it was set aside, and a new one begun");
    }
    let mut trusted = match restored.trusted() {
        Some(trusted) => TrustedClock::since(trusted, now),
        None => TrustedClock::default(),
    };
    // A clock that was wrong may have written later times.
    let limit = trusted.pass(now).max(now.wall);
    restored.distrust_after(limit);
    let inventory = resume(config, &mut ledger, &mut restored, state)?;
    state.distrust_after(limit);
    let links = restored.links.into_iter().filter(|(_, of)| of == boot).map(|(link, _)| link);
    // A span that began by a clock that was set since does not go on.
    let was_set = restored.clock.as_ref().is_some_and(|(of, offset)| {
        of == boot && (now.offset() - offset).unsigned_abs() > clock::STEP.into()
    });
    let spans = restored.spans.into_iter().filter(|(_, _, of)| of == boot && !was_set);
    let former = Former {
        counted: state.interfaces().to_vec(),
        links: links.collect(),
        spans: spans.map(|(interface, began, _)| (interface, began)).collect(),
    };
    let spans_end = if was_set { End::ClockStep.name() } else { LOST };
    Ok(Beginning { inventory, ledger, former, trusted, spans_end })
}

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
