//! `labgate device`: names for devices that the configuration doesn't know.

use std::io::{self, Write};

use anyhow::{Context as _, Result};

use super::instance::Instance;
use crate::{
    adopted::StateFile,
    cli::{AdoptArgs, ConfigArg, DeviceCommand, ForgetArgs},
    config::{self, Config, DeviceConfig},
};

/// Adopts, forgets or lists devices.
///
/// # Errors
///
/// When the change makes no sense beside the configuration, or the state file can't be changed; it is as
/// before then.
pub fn device(command: &DeviceCommand) -> Result<()> {
    let (DeviceCommand::Adopt(AdoptArgs { config, .. })
    | DeviceCommand::Forget(ForgetArgs { config, .. })
    | DeviceCommand::List(config)) = command;
    let config = config::load(&config.config)?;
    let file = StateFile::of(&config.state_dir);
    let mut out = io::stdout().lock();
    let printed = match command {
        DeviceCommand::Adopt(args) => adopt(args, &config, &file, &mut out)?,
        DeviceCommand::Forget(ForgetArgs { device, .. }) => {
            let before = file.change(|adopted| adopted.forget(device, &config))?;
            let what = if *device == before.name {
                format!("{device:?} is forgotten")
            } else {
                format!("{device} is no longer {:?}", before.name)
            };
            done(&mut out, &what, &file)
        }
        DeviceCommand::List(ConfigArg { .. }) => list(&config, &file, &mut out)?,
    };
    printed.context("can't print")
}

fn adopt(
    args: &AdoptArgs,
    config: &Config,
    file: &StateFile,
    out: &mut impl Write,
) -> Result<io::Result<()>> {
    let AdoptArgs { mac, name, group, add, .. } = args;
    let new = DeviceConfig { name: name.clone(), macs: vec![*mac], group: group.clone() };
    file.change(|adopted| adopted.adopt(new, *add, config))?;
    let printed = done(out, &format!("{mac} is {name:?} from now on"), file);
    let has_group = group.is_some() || *add;
    Ok(printed.and_then(|()| if has_group { Ok(()) } else { writeln!(out, "{}", rules(config)) }))
}

/// What holds for a device that was adopted without a group.
fn rules(config: &Config) -> String {
    config.policy.unknown_devices.as_ref().map_or_else(
        || "no --group: it may talk to any country; to change that, forget it and adopt it with --group".to_owned(),
        |group| format!("no --group: it stays under the rules of {group:?}, as the devices that nobody has named"),
    )
}

/// What was done, and when it holds.
fn done(out: &mut impl Write, what: &str, file: &StateFile) -> io::Result<()> {
    writeln!(out, "{what} ({})", file.path().display())?;
    if Instance::is_held() {
        writeln!(
            out,
            "the running sensor takes it over within some three seconds; it says so in its log and in \
             labgate_reloads_total{{what=\"devices\"}}"
        )
    } else {
        writeln!(
            out,
            "no sensor runs in this network namespace; the next one reads it at its start"
        )
    }
}

fn list(config: &Config, file: &StateFile, out: &mut impl Write) -> Result<io::Result<()>> {
    let adopted = file.read()?;
    let (_, warnings) = adopted.beside(config);
    let mut print = || {
        for DeviceConfig { name, macs, group } in adopted.devices() {
            let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
            let group = group.as_deref().unwrap_or("-");
            writeln!(out, "{name}\t{group}\t{}", macs.join(","))?;
        }
        warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
    };
    Ok(print())
}
