//! The scalar values: what is legal, and what to write instead of what is not.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    diagnostic::quote,
    host::HostName,
    reader::{Field, Reader, Text},
};
use crate::model::Mac;

/// Most characters of a name. Names become metric labels; longer ones fit no dashboard.
pub const MAX_NAME: usize = 64;
/// `IFNAMSIZ` with its closing zero byte (linux/if.h).
/// Of an alternative name; the name itself has at most 15 (linux/if.h: `ALTIFNAMSIZ`, `IFNAMSIZ`).
const MAX_INTERFACE_NAME: usize = 127;
/// The grace period takes up to 130 ms under flood; an alert should not wait longer than 60 s.
const EPOCH: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Shorter, a label set comes and goes between two scrapes; longer, it might as well stay.
const EXPIRATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// Units of an epoch, in milliseconds.
const SHORT_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000)];
/// Units of an expiration, in milliseconds.
const LONG_UNITS: &[(&str, u64)] =
    &[("s", 1000), ("m", 60_000), ("h", 60 * 60_000), ("d", DAY * 1000)];

/// Units of an interval, in milliseconds.
const INTERVAL_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 60 * 60_000)];
/// Whether a device or group can be called so.
///
/// # Errors
///
/// What to write instead.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    Err(if name.trim().is_empty() {
        "write a name"
    } else if name.chars().count() > MAX_NAME {
        "write at most 64 characters"
    } else if name.chars().any(char::is_control) {
        "write it without line breaks and other control characters"
    } else if name.starts_with('(') || name.parse::<Mac>().is_ok() {
        "write another: MAC addresses and names in parentheses are LabGate's own"
    } else {
        return Ok(());
    })
}

/// Whether a device can have this address.
///
/// # Errors
///
/// What is wrong with it, and what to write instead.
pub fn check_mac(mac: Mac) -> Result<(), (&'static str, &'static str)> {
    if mac == Mac::ZERO {
        return Err(("is no device's MAC address", "write the address that the device shows"));
    }
    if mac.is_group() {
        return Err((
            "is a group address, which no device has",
            "write the device's own address (the second hex digit is even)",
        ));
    }
    Ok(())
}

/// The name of a device or group.
pub(super) fn name(reader: &mut Reader<'_>, typed: &Text<'_>) -> Option<String> {
    match check_name(typed.text) {
        Ok(()) => Some(typed.text.to_owned()),
        Err(label) => {
            reader.refuse(&typed.at, format!("{} is no usable name", quote(typed.text)), label);
            None
        }
    }
}

/// The name of a network interface, as the kernel's `dev_valid_name` has it.
pub(super) fn interface_name(reader: &mut Reader<'_>, typed: &Text<'_>) -> Option<String> {
    let text = typed.text;
    if let Some(name) = text.strip_prefix("name:") {
        let message = format!("{} is no interface name", quote(text));
        reader.refuse(&typed.at, message, format!("put a space there: `name: {name}`"));
        return None;
    }
    let label = if text.is_empty() || text == "." || text == ".." {
        "write the name that `ip link` shows, like lan0"
    } else if text.len() > MAX_INTERFACE_NAME {
        "interface names have at most 15 bytes, alternative ones 127; `ip link` shows them"
    } else if text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "interface names have no `/`, no `:` and no white space; `ip link` shows them"
    } else {
        return Some(text.to_owned());
    };
    reader.refuse(&typed.at, format!("{} is no interface name", quote(text)), label);
    None
}

/// The MAC address of one device.
pub(super) fn mac(reader: &mut Reader<'_>, typed: &Text<'_>) -> Option<Mac> {
    let (problem, label) = match typed.text.parse::<Mac>().map(|mac| (mac, check_mac(mac))) {
        Ok((mac, Ok(()))) => return Some(mac),
        Ok((_, Err((problem, label)))) => (problem, label.to_owned()),
        Err(_) => (
            "is no MAC address",
            respelled(typed.text).map_or_else(
                || "write six pairs of hex digits, like 02:1a:2b:3c:4d:5e".into(),
                |mac| format!("write `{mac}`"),
            ),
        ),
    };
    reader.refuse(&typed.at, format!("{} {problem}", quote(typed.text)), label);
    None
}

/// The forms without colons: `021a2b3c4d5e`, `021a.2b3c.4d5e`.
fn respelled(text: &str) -> Option<Mac> {
    let digits: Vec<u8> =
        text.bytes().filter(|b| !matches!(b, b'.' | b':' | b'-' | b' ')).collect();
    let pairs: Vec<&str> = digits.chunks(2).map(str::from_utf8).collect::<Result<_, _>>().ok()?;
    pairs.join(":").parse().ok()
}

/// A network in CIDR form without host bits.
pub(super) fn prefix(reader: &mut Reader<'_>, typed: &Text<'_>) -> Option<IpNet> {
    let text = typed.text;
    let parsed = text.parse::<IpNet>();
    let (problem, label) = match parsed.as_ref().map(unmapped) {
        Ok(Some(v4)) => {
            ("is IPv4 written as IPv6, and is counted as IPv4", format!("write `{v4}`"))
        }
        Ok(None) => match parsed.map(|net| (net, net.trunc())) {
            Ok((net, network)) if net != network => {
                ("has bits set after its prefix length", format!("write `{network}`"))
            }
            other => return other.ok().map(|(net, _)| net),
        },
        Err(_) => (
            "is no network in CIDR form",
            text.parse::<IpAddr>().map_or_else(
                |_not_an_address| "write address/length, like 42.62.48.0/24".into(),
                |address| format!("write `{}`", IpNet::from(address)),
            ),
        ),
    };
    reader.refuse(&typed.at, format!("{} {problem}", quote(text)), label);
    None
}

/// The IPv4 network that an IPv4-mapped IPv6 one stands for (RFC 4291, 2.5.5.2).
fn unmapped(net: &IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(v6) = net else { return None };
    let length = v6.prefix_len().checked_sub(96)?;
    Ipv4Net::new(v6.addr().to_ipv4_mapped()?, length).ok().map(|v4| v4.trunc())
}

/// The length of an epoch.
pub(super) fn epoch<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Option<Duration> {
    let label = "write a time from 100ms to 60s";
    let typed = reader.text(field, "write a time from 100ms to 60s, like 1s")?;
    let units = (SHORT_UNITS, "a whole number and a unit, ms or s, like 500ms");
    duration(reader, field, &typed, units, &EPOCH, label)
}

/// How old a database may become.
pub(super) fn max_age<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Option<Duration> {
    let label = "write a number of days from 1d to 3650d, like 60d";
    let typed = reader.text(field, label)?;
    let days = typed.text.strip_suffix('d').and_then(|days| days.trim_end().parse().ok());
    let days = days.filter(|days| (1..=3650).contains(days));
    if days.is_none() {
        let message = format!("{} cannot be {}", quote(field.name), quote(typed.text));
        reader.refuse(&typed.at, message, label);
    }
    days.map(|days: u64| Duration::from_secs(days * 86_400))
}

/// A size of at least 64 MiB, in bytes.
pub(super) fn size<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Option<u64> {
    let label = "write a whole number and a unit from 64MiB on, like 512MiB or 2GiB";
    let typed = reader.text(field, label)?;
    let units = [("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1_u64 << 40)];
    let size = units.iter().find_map(|(unit, bytes)| {
        let number: u64 = typed.text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*bytes)
    });
    let size = size.filter(|size| (64 << 20..=64 << 40).contains(size));
    if size.is_none() {
        let message = format!("{} cannot be {}", quote(field.name), quote(typed.text));
        reader.refuse(&typed.at, message, label);
    }
    size
}

/// Time after which something idle is given up; `Some(None)` for never.
pub(super) fn expiration<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
) -> Option<Option<Duration>> {
    let label = "write a time from 1s to 30d, or `never`";
    let typed = reader.text(field, label)?;
    if matches!(typed.text, "never" | "0") {
        return Some(None);
    }
    let units = (LONG_UNITS, "a whole number and a unit, s, m, h or d, like 1h, or `never`");
    duration(reader, field, &typed, units, &EXPIRATION, label).map(Some)
}

/// A whole number with one of these units, in a range.
fn duration<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    typed: &Text<'a>,
    (units, form): (&[(&str, u64)], &str),
    range: &RangeInclusive<Duration>,
    range_label: &str,
) -> Option<Duration> {
    let text = typed.text;
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = unit.trim_start();
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let (problem, label) = match (number.parse::<u64>(), scale) {
        (Ok(number), Some(scale)) => {
            let time = Duration::from_millis(number.saturating_mul(scale));
            if range.contains(&time) {
                return Some(time);
            }
            ("is out of range", range_label.to_owned())
        }
        (Ok(number), None) if unit.is_empty() => {
            let [small, usual, ..] = units else { return None };
            (
                "is no duration",
                format!("add the unit: `{number}{}` or `{number}{}`", usual.0, small.0),
            )
        }
        _ => ("is no duration", format!("write {form}")),
    };
    let message = format!("{} {problem}: {}", quote(field.name), quote(text));
    reader.refuse(&typed.at, message, label);
    None
}

/// The time between two requests; 0 for no limit.
pub(super) fn interval<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Option<Duration> {
    let label = "write a time up to 1h, like 100ms, or 0 for no limit";
    let typed = reader.text(field, label)?;
    if typed.text == "0" {
        return Some(Duration::ZERO);
    }
    let units = (INTERVAL_UNITS, "a whole number and a unit, ms, s, m or h, like 100ms");
    let range = Duration::ZERO..=Duration::from_secs(60 * 60);
    duration(reader, field, &typed, units, &range, label)
}

/// Words for off, as people write them; some are YAML's, by its version.
const OFF: [&str; 7] = ["off", "no", "n", "false", "none", "never", "disabled"];
/// And for on.
const ON: [&str; 5] = ["on", "yes", "y", "true", "enabled"];

fn is_one_of(words: &[&str], text: &str) -> bool {
    words.iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// The path of a file that may be switched off; `Some(None)` where it is.
pub(super) fn path_or_off<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    example: &str,
    directory: &Path,
) -> Option<Option<PathBuf>> {
    if is_one_of(&OFF, reader.text(field, example)?.text) {
        return Some(None);
    }
    path(reader, field, example, directory).map(Some)
}

/// The path of a file; a relative one starts at `directory`. A word for on or off is none: nobody means a
/// file of that name.
pub(super) fn path<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    example: &str,
    directory: &Path,
) -> Option<PathBuf> {
    let typed = reader.text(field, example)?;
    if typed.text.is_empty() || typed.text.contains('\0') {
        reader.refuse(&typed.at, format!("{} is no path", quote(field.name)), example);
        return None;
    }
    if typed.text == "~" || typed.text.starts_with("~/") {
        let message = format!("{} begins with `~`, which only shells know", quote(field.name));
        reader.refuse(&typed.at, message, "write the whole path, like /var/lib/labgate");
        return None;
    }
    if is_one_of(&OFF, typed.text) || is_one_of(&ON, typed.text) {
        let message = format!("{} takes a path, not {}", quote(field.name), quote(typed.text));
        let label = format!("{example}; for a file of that name `./{}`", typed.text.trim());
        reader.refuse(&typed.at, message, label);
        return None;
    }
    Some(directory.join(typed.text))
}

/// Address and port to listen at.
pub(super) fn listen<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Option<SocketAddr> {
    let example = "write address:port, like 127.0.0.1:9469";
    let typed = reader.text(field, example)?;
    let text = typed.text;
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            let meant = SocketAddr::from((address.ip(), super::DEFAULT_PORT));
            let message = format!("`listen` has no port that could be asked: {}", quote(text));
            reader.refuse(&typed.at, message, format!("write `{meant}`"));
            return None;
        }
        if !address.ip().to_canonical().is_loopback() {
            reader.warn(
                &typed.at,
                &format!(
                    "`listen` {address} is not a loopback address: metrics and API can be reached \
                     from the network, by the observed devices too unless a firewall keeps them out"
                ),
            );
        }
        return Some(address);
    }
    let port = text.strip_prefix(':').or_else(|| text.strip_prefix("localhost:")).unwrap_or(text);
    let meant = match (port.parse(), text.trim_matches(['[', ']']).parse::<IpAddr>()) {
        (Ok(port), _) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        (_, Ok(address)) => Some(SocketAddr::from((address, super::DEFAULT_PORT))),
        _ => None,
    };
    let label = meant.map_or_else(|| example.into(), |address| format!("write `{address}`"));
    reader.refuse(&typed.at, format!("`listen` is no address and port: {}", quote(text)), label);
    None
}

/// A name or address by which the listener is asked for.
pub(super) fn host<'a>(reader: &mut Reader<'a>, item: &Field<'a>) -> Option<HostName> {
    let example = "write a name or an address without a port, like gateway.lan";
    let typed = reader.text(item, example)?;
    let host = HostName::parse(typed.text);
    if host.is_none() {
        let label = match HostName::of_authority(typed.text) {
            Some(host) => format!("write it without its port: `{host}`"),
            None if typed.text.contains('*') => "write each name in full".to_owned(),
            None => example.to_owned(),
        };
        let message = format!("`allowed_hosts` has no name or address: {}", quote(typed.text));
        reader.refuse(&typed.at, message, label);
    }
    host
}

/// A whole number in a range.
pub(super) fn number<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    range: &RangeInclusive<u32>,
) -> Option<u32> {
    let label = format!("write a whole number from {} to {}", range.start(), range.end());
    let typed = reader.text(field, &label)?;
    let parsed = typed.text.parse().ok().filter(|number| range.contains(number));
    if parsed.is_none() {
        let message = format!("{} cannot be {}", quote(field.name), quote(typed.text));
        reader.refuse(&typed.at, message, label);
    }
    parsed
}

/// A power of two in a range.
pub(super) fn power_of_two<'a>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    range: &RangeInclusive<u32>,
) -> Option<u32> {
    let number = number(reader, field, range)?;
    if !number.is_power_of_two() {
        let above = number.next_power_of_two();
        let message = format!("{} is not a power of two: {number}", quote(field.name));
        reader.refuse(&field.at, message, format!("write {} or {above}", above / 2));
        return None;
    }
    Some(number)
}
