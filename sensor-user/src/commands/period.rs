//! Periods on the command line, and what is said of those in an answer.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use jiff::{Timestamp, Zoned};
use sensor_common::report;

use super::{
    client::{Answer, Client, NoAnswer},
    terminal::{printable, tell},
};
use crate::{
    cli::{PeriodArgs, SensorArgs},
    config::{self, Config},
    join::devices::Inventory,
    sinks::{
        http::{
            parameters::NoPeriod,
            values::{When, Zone},
        },
        ledger::{self, Patience, Period},
    },
    state::{DeviceRef, Setup, State},
    whereabouts,
};

/// The zone that was asked for, else this machine's.
pub(super) fn zone(args: &PeriodArgs) -> Zone {
    args.tz.clone().unwrap_or_default()
}

fn now(args: &PeriodArgs) -> Zoned {
    Timestamp::now().to_zoned(zone(args).0)
}

/// The period in Unix time in nanoseconds, from a moment until right before another; without bounds everything.
///
/// # Errors
///
/// Where nothing lies in between.
pub(super) fn bounds(args: &PeriodArgs) -> Result<(u64, u64)> {
    let now = now(args);
    let since = args.since.as_ref().map_or(0, |since| since.at(&now));
    let until = args.until.as_ref().map_or(u64::MAX, |until| until.at(&now));
    ensure!(since < until, NoPeriod);
    Ok((since, until))
}

/// The parameters of a query for that. A duration is left as it is, so that it is one by the sensor's clock.
pub(super) fn parameters(args: &PeriodArgs) -> Result<Vec<(&'static str, String)>> {
    bounds(args)?;
    let now = now(args);
    let typed = [("since", &args.since), ("until", &args.until)];
    let given = typed.into_iter().filter_map(|(name, when)| Some((name, when.as_ref()?)));
    let text = |when: &When| match when {
        When::Ago(ago) => humantime::format_duration(*ago).to_string(),
        when => {
            let at = Timestamp::from_nanosecond(when.at(&now).into());
            at.unwrap_or(Timestamp::MAX).to_string()
        }
    };
    Ok(given.map(|(name, when)| (name, text(when))).collect())
}

/// Where an answer comes from.
pub(super) enum Source<T> {
    /// A running sensor.
    Sensor(Answer<T>),
    /// The file, and what is known of the configuration.
    Ledger(PathBuf, Box<Known>),
}

/// What the configuration says of the devices.
#[derive(Default)]
pub(super) struct Known(State);

/// Asks the sensor, unless a ledger is named. Where no sensor answers that the configuration says should be there, its
/// ledger is what there is, and standard error says so.
///
/// # Errors
///
/// When neither can be had.
pub(super) fn source<T: serde::de::DeserializeOwned>(
    ledger: Option<&Path>,
    sensor: &SensorArgs,
    path: &str,
    query: &[(&'static str, String)],
) -> Result<Source<T>> {
    let config = || config::load(&sensor.config.config);
    if let Some(ledger) = ledger {
        let known = config().map(|config| Known::of(&config)).unwrap_or_default();
        return Ok(Source::Ledger(ledger.to_owned(), Box::new(known)));
    }
    let error = match Client::new(sensor)?.get::<T>(path, query) {
        Ok(answer) => return Ok(Source::Sensor(answer)),
        Err(error) => error,
    };
    if error.downcast_ref::<NoAnswer>().is_none() || sensor.url.is_some() {
        return Err(error);
    }
    let Ok(config) = config() else { return Err(error) };
    let Some(file) = config.ledger.clone().filter(|file| file.exists()) else { return Err(error) };
    tell!("labgate: no sensor answers; this is what its ledger has, {}", file.display());
    Ok(Source::Ledger(file, Box::new(Known::of(&config))))
}

impl Known {
    fn of(config: &Config) -> Self {
        let setup = Setup { policy: config.policy.clone(), ..Setup::default() };
        let mut state = State::new(setup);
        let inventory = Inventory::new(&config.devices, config.limits.unknown_devices);
        for info in inventory.devices() {
            state.restore_device(info, None, std::iter::empty());
        }
        let located = whereabouts::by_leases(&state, config.leases.clone());
        state.locate(located);
        Self(state)
    }

    /// The device that is meant.
    pub(super) fn resolved(&self, device: Option<&DeviceRef>) -> Option<DeviceRef> {
        device.map(|device| self.0.resolved(device))
    }

    /// What a ledger has of a period.
    ///
    /// # Errors
    ///
    /// When it can't be read, or knows nothing of the device or the group.
    pub(super) fn period(
        &self,
        path: &Path,
        period: Option<(u64, u64)>,
        device: Option<&DeviceRef>,
        group: Option<&str>,
    ) -> Result<Period> {
        use anyhow::Context as _;

        let period = period.unwrap_or((0, u64::MAX));
        let period = ledger::period(path, period, device, Setup::default(), &Patience::default())
            .with_context(|| format!("can't read the ledger {}", path.display()))?
            .known_as_in(&self.0);
        if let Some(device) = device.filter(|device| !period.is_known() && !device.is_mac()) {
            bail!(
                "{} has no device of the name, address or host name `{}`; `labgate devices` lists them",
                path.display(),
                printable(device.typed())
            );
        }
        if let Some(group) =
            group.filter(|group| !period.has_group(group) && !self.0.has_group(group))
        {
            bail!("{} has no device in a group `{}`", path.display(), printable(group));
        }
        Ok(period)
    }
}

/// The period of an answer as a line below its table.
pub(super) fn line(period: &report::Period, zone: &Zone) -> String {
    let (from, until) = (zone.shown_in_full(&period.from), zone.shown_in_full(&period.until));
    format!("period  {from} to {until} ({})", zone.name())
}

/// What is not exact about it, for standard error. JSON has it inside.
pub(super) fn notes(period: &report::Period, zone: &Zone) {
    let shown = |time: &str| zone.shown_in_full(time);
    if !period.exact {
        let whole = format!(
            "--since '{}' --until '{}' --tz {} counts all of it",
            shown(&period.whole_from),
            shown(&period.whole_until),
            zone.name()
        );
        tell!(
            "labgate: the ledger has that time only as sums of minutes or hours, which it doesn't split: {whole}"
        );
    }
    if period.earlier_packets > 0 {
        let packets = period.earlier_packets;
        tell!("labgate: {packets} of the packets are of sums that began before the period");
    }
    if period.later_packets > 0 {
        let packets = period.later_packets;
        tell!(
            "labgate: {packets} more packets are of sums that began before its end and ended after it; they are not counted here"
        );
    }
    if !period.kept_from.is_empty() {
        tell!("labgate: the ledger has destinations only from {} on", shown(&period.kept_from));
    }
}
