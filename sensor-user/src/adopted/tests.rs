use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    thread,
};

use super::*;
use crate::config;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const PHONE: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A device `phone`, and the groups `phones` and `toys`.
fn config() -> Config {
    let text = "interfaces: [lan0]\n\
                devices: [{name: phone, mac: 02:00:00:00:00:01, group: phones}]\n\
                policy: {groups: {phones: {allowed_countries: [IN]}, toys: {allowed_countries: []}}}";
    config::parse(text, "test.yaml").unwrap()
}

fn device(name: &str, macs: &[Mac], group: Option<&str>) -> DeviceConfig {
    DeviceConfig { name: name.to_owned(), macs: macs.to_vec(), group: group.map(str::to_owned) }
}

fn adopt(file: &StateFile, name: &str, mac: Mac) -> Result<(), String> {
    file.change(|adopted| adopted.adopt(device(name, &[mac], None), false, &config()))
        .map_err(|error| error.to_string())
}

#[test]
fn what_is_adopted_is_read_again_and_can_be_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    // The state directory is made where its parent is there.
    let file = StateFile::of(&directory.path().join("state"));
    assert_eq!(file.read().unwrap(), Adopted::default());
    let tv = device("tv \u{201c}living room\u{201d}", &[B], Some("toys"));
    file.change(|adopted| adopted.adopt(tv.clone(), false, &config())).unwrap();
    adopt(&file, "cam", A).unwrap();
    let cam = device("cam", &[A], None);
    assert_eq!(file.read().unwrap().devices(), [cam.clone(), tv.clone()]);

    let forget = |what: &str| file.change(|adopted| adopted.forget(what, &config()));
    assert_eq!(forget("02-00-00-00-00-0A").unwrap(), cam);
    assert!(forget("cam").unwrap_err().to_string().contains("no adopted device"));
    assert!(forget("phone").unwrap_err().to_string().contains("stands in the configuration"));
    assert_eq!(forget(&tv.name).unwrap(), tv);
    assert_eq!(file.read().unwrap(), Adopted::default());
    let left: Vec<_> = fs::read_dir(directory.path().join("state")).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
}

#[test]
fn further_addresses_are_added_when_that_is_meant() {
    let mut adopted = Adopted::default();
    adopted.adopt(device("tv", &[A], Some("toys")), false, &config()).unwrap();
    let before = adopted.clone();
    let refused = adopted.adopt(device("tv", &[B], None), false, &config()).unwrap_err();
    assert!(refused.contains("--add"), "{refused}");
    let refused = adopted.adopt(device("tv", &[B], Some("phones")), true, &config()).unwrap_err();
    assert!(refused.contains("leave out --group"), "{refused}");
    assert_eq!(adopted, before);
    adopted.adopt(device("tv", &[B], None), true, &config()).unwrap();
    assert_eq!(adopted.devices(), [device("tv", &[A, B], Some("toys"))]);
    adopted.forget(&A.to_string(), &config()).unwrap();
    assert_eq!(adopted.devices(), [device("tv", &[B], Some("toys"))]);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut adopted = Adopted::default();
    adopted.adopt(device("tv", &[A], None), false, &config()).unwrap();
    for (new, advice) in [
        (device("new", &[A], None), "first `labgate device forget 02:00:00:00:00:0a`"),
        (device("new", &[PHONE], None), "\"phone\" in the configuration"),
        (device("phone", &[B], None), "choose another name"),
        (device("new", &[B], Some("guests")), "there: phones, toys"),
        (device("(new)", &[B], None), "no usable name"),
        (device(" ", &[B], None), "no usable name"),
        (device("a\nb", &[B], None), "\"a\\nb\" is no usable name"),
        (device("02:00:00:00:00:07", &[B], None), "no usable name"),
        (device("new", &[Mac([1, 0, 0, 0, 0, 0])], None), "is a group address"),
        (device("new", &[Mac([0; 6])], None), "is no device's MAC address"),
        (device("new", &[B, B], None), "twice"),
        (device("new", &[], None), "no MAC address"),
    ] {
        let before = adopted.clone();
        let refused = adopted.adopt(new, false, &config()).unwrap_err();
        assert!(refused.contains(advice), "{refused}");
        assert_eq!(adopted, before);
    }
}

#[test]
fn the_configuration_wins() {
    let mut adopted = Adopted::default();
    for new in [
        device("both", &[A, PHONE], Some("guests")),
        device("phone", &[B], None),
        device("gone", &[PHONE], None),
    ] {
        // As they were before the configuration changed.
        let _taken = adopted.enter(new);
    }
    adopted.devices[0].group = Some("guests".to_owned());
    let (devices, warnings) = adopted.beside(&config());
    let phone = device("phone", &[PHONE], Some("phones"));
    assert_eq!(devices, [phone, device("both", &[A], Some("guests"))]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("02:00:00:00:00:01 was adopted as \"both\""), "{warnings:?}");
    assert!(warnings[1].contains("\"guests\""), "{warnings:?}");
    assert!(warnings[2].contains("another of that name"), "{warnings:?}");
}

#[test]
fn one_without_an_address_of_its_own_is_no_device() {
    let mut adopted = Adopted::default();
    adopted.enter(device("gone", &[PHONE], None)).unwrap();
    let (devices, warnings) = adopted.beside(&config());
    assert_eq!(devices, config().devices);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// A name must not be a way out of the policy.
#[test]
fn one_without_a_group_stays_under_the_rules_of_unknown_devices() {
    let mut adopted = Adopted::default();
    adopted.enter(device("cam", &[A], None)).unwrap();
    adopted.enter(device("tv", &[B], Some("toys"))).unwrap();
    let groups = |config: &Config| {
        let (devices, warnings) = adopted.beside(config);
        assert_eq!(warnings.len(), 0, "{warnings:?}");
        devices[1..]
            .iter()
            .map(|device| device.group.clone().unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert_eq!(groups(&config()), ["", "toys"]);
    let mut strict = config();
    strict.policy.unknown_devices = Some("phones".to_owned());
    assert_eq!(groups(&strict), ["phones", "toys"]);
}

#[test]
fn a_group_with_adopted_devices_can_not_go_unnoticed() {
    let mut adopted = Adopted::default();
    adopted.enter(device("tv", &[A], Some("toys"))).unwrap();
    let (old, mut new) = (config().policy, config().policy);
    new.groups.remove("toys");
    let refused = adopted.keep_their_groups(&old, &new).unwrap_err();
    assert!(
        refused.contains("\"tv\" is in group \"toys\", which `policy.groups` no longer has"),
        "{refused}"
    );
    assert_eq!(adopted.keep_their_groups(&new, &new), Ok(()), "it was so before");
    new.groups_without_rules.insert("toys".to_owned());
    assert_eq!(adopted.keep_their_groups(&old, &new), Ok(()));
}

#[test]
fn a_damaged_file_is_named_and_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = StateFile::of(directory.path());
    adopt(&file, "tv", A).unwrap();
    let good = fs::read_to_string(file.path()).unwrap();
    let too_large = " ".repeat(4 << 20) + &good;
    for (bad, reason) in [
        (good.replace('}', ""), "expected `,` or `}`"),
        (good.replace("\"version\": 1", "\"version\": 2"), "it has version 2"),
        (good.replace("\"name\"", "\"nmae\""), "unknown field `nmae`"),
        (good.replace("00:0a", "00:0g"), "is no MAC address"),
        (good.replace("02:00", "03:00"), "is a group address"),
        (good.replace("\"tv\"", "\"(multicast)\""), "no usable name"),
        (good.clone() + "{}", "trailing characters"),
        (String::new(), "EOF"),
        (too_large, "larger than"),
    ] {
        fs::write(file.path(), &bad).unwrap();
        for error in [file.read().unwrap_err().to_string(), adopt(&file, "new", B).unwrap_err()] {
            let path = file.path().display().to_string();
            assert!(error.contains(&path) && error.contains(reason), "{reason}: {error}");
        }
        assert_eq!(fs::read_to_string(file.path()).unwrap(), bad);
    }
    fs::write(file.path(), good).unwrap();
    assert_eq!(file.read().unwrap().devices().len(), 1);
}

#[test]
fn every_damage_of_a_byte_is_found_or_harmless() {
    let mut adopted = Adopted::default();
    adopted.adopt(device("tv", &[A, B], Some("toys")), false, &config()).unwrap();
    let good = adopted.to_json().unwrap();
    for place in 0..good.len() {
        for byte in [0, b'"', b'{', b'9', 0xff] {
            let mut bad = good.clone();
            bad[place] = byte;
            if let Ok(read) = Adopted::parse(&bad) {
                assert_eq!(read.to_json().map(|json| Adopted::parse(&json)).unwrap(), Ok(read));
            }
        }
        assert!(Adopted::parse(&good[..place]).is_err() || place + 1 == good.len());
    }
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let file = StateFile::of(directory.path());
    adopt(&file, "tv", A).unwrap();
    let before = fs::metadata(file.path()).unwrap();
    assert_eq!(before.mode() & 0o777, 0o644, "another user can read it");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    adopt(&file, "cam", B).unwrap();
    let after = fs::metadata(file.path()).unwrap();
    assert_eq!(after.mode() & 0o777, 0o640);
    assert_ne!(after.ino(), before.ino(), "it is another file in the old one's place");

    let elsewhere = directory.path().join("elsewhere");
    fs::rename(file.path(), &elsewhere).unwrap();
    symlink(&elsewhere, file.path()).unwrap();
    assert!(adopt(&file, "new", PHONE.with_last(9)).unwrap_err().contains("can't read"));
}

#[test]
fn several_commands_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = StateFile::of(directory.path());
    thread::scope(|scope| {
        for worker in 0..4 {
            let file = &file;
            scope.spawn(move || {
                for number in 0..8 {
                    let last = 100 + 8 * worker + number;
                    adopt(file, &format!("device {last}"), A.with_last(last)).unwrap();
                }
            });
        }
    });
    assert_eq!(file.read().unwrap().devices().len(), 32);
}

#[test]
fn where_nothing_can_be_written_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = StateFile::of(&directory.path().join("no/such"));
    let error = adopt(&file, "tv", A).unwrap_err();
    assert!(error.contains("can't write") && error.contains("`state_dir`"), "{error}");
    fs::write(directory.path().join("no"), "").unwrap();
    assert!(adopt(&file, "tv", A).unwrap_err().contains("Not a directory"));
}

impl Mac {
    fn with_last(self, last: u8) -> Self {
        let [a, b, c, d, e, _] = self.0;
        Self([a, b, c, d, e, last])
    }
}
