//! The bench: its interfaces and its devices.

use std::collections::HashMap;

use super::{
    AttachMode, DeviceConfig, InterfaceConfig, WhenMissing, WhenXdpIsTaken,
    diagnostic::quote,
    policy::Groups,
    reader::{Field, Fields, Reader, Text},
    values,
};
use crate::model::Mac;

const ATTACH: [(&str, AttachMode); 3] =
    [("auto", AttachMode::Auto), ("xdp", AttachMode::Xdp), ("tc", AttachMode::Tc)];
const WHEN_MISSING: [(&str, WhenMissing); 2] =
    [("fail", WhenMissing::Fail), ("wait", WhenMissing::Wait)];
const TRUTH: [(&str, bool); 2] = [("true", true), ("false", false)];
const WHEN_XDP_IS_TAKEN: [(&str, WhenXdpIsTaken); 2] =
    [("fail", WhenXdpIsTaken::Fail), ("tc", WhenXdpIsTaken::Tc)];

/// The LAN interfaces; a plain name stands for one with the defaults.
pub(super) fn interfaces<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Vec<InterfaceConfig> {
    let example = "name at least one: `interfaces: [lan0]`";
    let Some(field) = root.get("interfaces") else {
        reader.missing("no `interfaces` given", example);
        return Vec::new();
    };
    let before = reader.problems.len();
    let items = reader.items(field);
    if items.is_empty() && reader.problems.len() == before {
        reader.refuse(&field.at, "`interfaces` names no interface", example);
    }
    let mut names = HashMap::new();
    let mut interfaces = Vec::new();
    for item in &items {
        let Some((typed, interface)) = interface(reader, item) else { continue };
        let what = format!("interface `{}`", interface.name);
        if reader.unique(&mut names, interface.name.clone(), &typed.at, &what) {
            interfaces.push(interface);
        }
    }
    interfaces
}

fn interface<'a>(reader: &mut Reader<'a>, item: &Field<'a>) -> Option<(Text<'a>, InterfaceConfig)> {
    let example = "write the interface's name, like `name: lan0`";
    let mut interface = InterfaceConfig::default();
    let typed = if Reader::is_scalar(item) || Reader::is_null(item) {
        reader.text(item, example)
    } else {
        let keys = &["name", "attach", "when_xdp_is_taken", "when_missing", "jumbo_frames"];
        let fields = reader.fields(item, keys)?;
        if let Some(field) = fields.get("attach") {
            interface.attach = reader.choice(field, &ATTACH).unwrap_or_default();
        }
        if let Some(field) = fields.get("when_missing") {
            interface.when_missing = reader.choice(field, &WHEN_MISSING).unwrap_or_default();
        }
        if let Some(field) = fields.get("when_xdp_is_taken") {
            interface.when_xdp_is_taken =
                reader.choice(field, &WHEN_XDP_IS_TAKEN).unwrap_or_default();
        }
        if let Some(field) = fields.get("jumbo_frames") {
            interface.jumbo_frames = reader.choice(field, &TRUTH).unwrap_or_default();
        }
        if interface.attach == AttachMode::Tc {
            for key in ["when_xdp_is_taken", "jumbo_frames"] {
                if let Some(field) = fields.get(key) {
                    reader.warn(&field.at, &format!("`{key}` has no effect with `attach: tc`"));
                }
            }
        }
        reader.required(&fields, "name", "an interface", example)
    }?;
    interface.name = values::interface_name(reader, &typed)?;
    Some((typed, interface))
}

/// The devices, each in no group or in one that the policy knows.
pub(super) fn devices<'a>(
    reader: &mut Reader<'a>,
    root: &Fields<'a>,
    groups: &mut Groups<'_>,
) -> Vec<DeviceConfig> {
    let Some(field) = root.get("devices") else { return Vec::new() };
    let (mut names, mut macs) = (HashMap::new(), HashMap::new());
    let mut devices = Vec::new();
    for item in reader.items(field) {
        if Reader::is_scalar(&item) {
            let example = "write name and address: `{ name: phone-1, mac: 02:1a:2b:3c:4d:5e }`";
            reader.refuse(&item.at, "an entry of `devices` is a mere word", example);
            continue;
        }
        let Some(fields) = reader.fields(&item, &["name", "mac", "macs", "group"]) else {
            continue;
        };
        let example = "add the device's name: `name: phone-1`";
        let name = reader.required(&fields, "name", "a device", example).and_then(|typed| {
            let name = values::name(reader, &typed)?;
            let what = format!("device name {}", quote(&name));
            reader.unique(&mut names, name.clone(), &typed.at, &what).then_some(name)
        });
        let mut own: Vec<Mac> = Vec::new();
        for typed in typed_macs(reader, &fields) {
            let Some(mac) = values::mac(reader, &typed) else { continue };
            if reader.unique(&mut macs, mac, &typed.at, &format!("MAC address {mac}")) {
                own.push(mac);
            }
        }
        let group = fields.get("group").and_then(|field| {
            let typed = reader.text(field, "write the group's name, or remove the line")?;
            let group = values::name(reader, &typed)?;
            groups.require(reader, &typed.at, &group);
            Some(group)
        });
        devices.extend(name.map(|name| DeviceConfig { name, macs: own, group }));
    }
    devices
}

/// What stands under `mac` or `macs`.
fn typed_macs<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>) -> Vec<Text<'a>> {
    let one = "write one MAC address here; several go under `macs: [..., ...]`";
    match (fields.get("mac"), fields.get("macs")) {
        (None, None) => {
            reader.refuse(
                &fields.at,
                "a device has no `mac`",
                "add its MAC address: `mac: 02:1a:2b:3c:4d:5e`, or several: `macs: [..., ...]`",
            );
            Vec::new()
        }
        (Some(mac), None) => reader.text(mac, one).into_iter().collect(),
        (None, Some(macs)) => {
            let before = reader.problems.len();
            let items = reader.items(macs);
            if items.is_empty() && reader.problems.len() == before {
                reader.refuse(&macs.at, "`macs` holds no MAC address", "write at least one");
            }
            items.iter().filter_map(|item| reader.text(item, one)).collect()
        }
        (Some(mac), Some(_)) => {
            reader.refuse(&mac.at, "a device has both `mac` and `macs`", "move it to `macs`");
            Vec::new()
        }
    }
}
