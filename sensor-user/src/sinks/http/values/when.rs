//! Points in time as people write them.

use std::{borrow::Cow, str::FromStr, time::Duration};

use jiff::{
    SignedDuration, Timestamp, ToSpan as _, Zoned,
    civil::{Date, DateTime, Time},
    fmt::temporal::DateTimeParser,
    tz::TimeZone,
};
use utoipa::openapi::{
    Schema,
    schema::{AnyOfBuilder, KnownFormat, SchemaFormat},
};

use super::text;

/// A point in time that means something only beside a clock and, but for durations and times with an offset,
/// a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum When {
    /// As long before now.
    Ago(Duration),
    /// With its offset from UTC.
    At(Timestamp),
    /// By the clock on the wall.
    Civil(DateTime),
    /// So many days before today, at this time.
    Day(i8, Time),
    /// The last time that it was so late.
    Last(Time),
}

impl FromStr for When {
    type Err = Cow<'static, str>;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        read(typed).ok_or_else(|| {
            "write a duration like 15m, a day like yesterday or 2026-11-30, a time like 22:00, both like \
             `yesterday 22:00`, or RFC 3339 like 2026-01-01T05:30:00+05:30 (in a URL its + is %2B)"
                .into()
        })
    }
}

impl When {
    /// The moment that is meant at a moment, in a zone; Unix time in nanoseconds. What lies before 1970 is 0,
    /// and what lies after 2554 the largest number.
    pub(crate) fn at(&self, now: &Zoned) -> u64 {
        let zone = now.time_zone();
        let civil = |time: DateTime| zone.to_timestamp(time);
        let at = match self {
            Self::Ago(ago) => {
                SignedDuration::try_from(*ago).and_then(|ago| now.timestamp().checked_sub(ago))
            }
            Self::At(at) => Ok(*at),
            Self::Civil(time) => civil(*time),
            Self::Day(back, time) => {
                now.date().checked_sub(back.days()).and_then(|day| civil(day.to_datetime(*time)))
            }
            Self::Last(time) => match civil(now.date().to_datetime(*time)) {
                Ok(today) if today > now.timestamp() => {
                    now.date().yesterday().and_then(|day| civil(day.to_datetime(*time)))
                }
                today => today,
            },
        };
        // Only what lies before year one can't be had.
        let nanos = at.map_or(0, Timestamp::as_nanosecond);
        u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
    }
}

fn read(typed: &str) -> Option<When> {
    let word = typed.to_ascii_lowercase();
    if word == "now" {
        return Some(When::Ago(Duration::ZERO));
    }
    if let Ok(ago) = humantime::parse_duration(typed.strip_suffix(" ago").unwrap_or(typed)) {
        return Some(When::Ago(ago));
    }
    if let Ok(at) = typed.parse::<Timestamp>() {
        return Some(When::At(at));
    }
    if let Some(time) = time(typed) {
        return Some(When::Last(time));
    }
    let (day, time) = match word.split_once([' ', 't']) {
        // `today` and `yesterday` have a `t` themselves.
        Some((day, clock)) if time(clock).is_some() => (day.to_owned(), time(clock)?),
        _ => match word.rsplit_once([' ', 't']) {
            Some((day, clock)) if time(clock).is_some() => (day.to_owned(), time(clock)?),
            _ => (word, Time::midnight()),
        },
    };
    match &*day {
        "today" => Some(When::Day(0, time)),
        "yesterday" => Some(When::Day(1, time)),
        day => Some(When::Civil(date(day)?.to_datetime(time))),
    }
}

/// `2026-11-30`.
fn date(typed: &str) -> Option<Date> {
    let is_digit = |at: usize| !matches!(at, 4 | 7);
    let whole = typed.len() == 10
        && typed.bytes().enumerate().all(|(at, octet)| match is_digit(at) {
            true => octet.is_ascii_digit(),
            false => octet == b'-',
        });
    if whole { typed.parse().ok() } else { None }
}

/// `22:00` or `22:00:30`; before ten also `7:30`.
fn time(typed: &str) -> Option<Time> {
    let mut parts = typed.split(':').map(|part| {
        let digits =
            matches!(part.len(), 1 | 2) && part.bytes().all(|octet| octet.is_ascii_digit());
        if digits { Some((part.len(), part.parse::<i8>().ok()?)) } else { None }
    });
    let (_, hour) = parts.next()??;
    let (2, minute) = parts.next()?? else { return None };
    let second = match parts.next() {
        None => 0,
        Some(part) => match part? {
            (2, second @ 0..60) => second,
            _ => return None,
        },
    };
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// What [`When`] takes, but for RFC 3339, as a pattern.
fn pattern() -> String {
    let any_case = |word: &str| -> String {
        word.chars().map(|c| format!("[{}{c}]", c.to_ascii_uppercase())).collect()
    };
    let (now, today, yesterday) = (any_case("now"), any_case("today"), any_case("yesterday"));
    let date = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
    let day = format!("({today}|{yesterday}|{date})");
    let time = "([01]?[0-9]|2[0-3])(:[0-5][0-9]){1,2}";
    format!("^({now}|{day}|{time}|{day}( |T|t){time})$")
}

/// What humantime takes for a duration, without fractions.
fn duration_pattern() -> String {
    let units = "nanos|nsec|ns|usec|us|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|\
                 min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|\
                 yrs|yr|y";
    let part = format!("[0-9]{{1,6}} ?({units})");
    format!("^(0|{part}( ?{part})*)( ago)?$")
}

/// How it is described, with values that mean something at any time.
pub(super) fn schema(examples: impl IntoIterator<Item = &'static str>) -> Schema {
    AnyOfBuilder::new()
        .item(text().pattern(Some(duration_pattern())))
        .item(text().pattern(Some(pattern())))
        .item(text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
        .examples(examples)
        .build()
        .into()
}

/// A time zone: a name of the IANA database, or an offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone(pub(crate) TimeZone);

impl FromStr for Zone {
    type Err = &'static str;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        if typed.eq_ignore_ascii_case("local") {
            return Ok(Self::default());
        }
        DateTimeParser::new().parse_time_zone(typed).map(Self).map_err(
            |_unknown| "write a name like Europe/Berlin, UTC, local, or an offset like +05:30",
        )
    }
}

impl Default for Zone {
    /// This machine's.
    fn default() -> Self {
        let zone = TimeZone::system();
        Self(if zone.is_unknown() { TimeZone::UTC } else { zone })
    }
}

impl Zone {
    /// What to call it.
    pub(crate) fn name(&self) -> String {
        match self.0.iana_name() {
            Some(name) => name.to_owned(),
            None => Timestamp::now().to_zoned(self.0.clone()).strftime("%:z").to_string(),
        }
    }

    /// What the clock on the wall shows at RFC 3339 time, as short as it can be told apart at a moment of the same
    /// day; the text itself where it is none.
    pub(crate) fn shown(&self, rfc3339: &str, now: Timestamp) -> String {
        let Ok(at) = rfc3339.parse::<Timestamp>() else { return rfc3339.to_owned() };
        let (at, now) = (at.to_zoned(self.0.clone()), now.to_zoned(self.0.clone()));
        let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
        at.strftime(format).to_string()
    }

    /// The same in full.
    pub(crate) fn shown_in_full(&self, rfc3339: &str) -> String {
        let Ok(at) = rfc3339.parse::<Timestamp>() else { return rfc3339.to_owned() };
        let at = at.to_zoned(self.0.clone());
        let format =
            if at.subsec_nanosecond() == 0 { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%.3f" };
        at.strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        name.parse::<Zone>().unwrap().0
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        // Half past one in the morning of the day after the end of daylight saving time.
        let now = "2026-10-26T01:30:00+01:00".parse::<Timestamp>().unwrap();
        let of = |typed: &str, name: &str| {
            let at = typed.parse::<When>().unwrap().at(&now.to_zoned(zone(name)));
            Timestamp::from_nanosecond(at.into()).unwrap().to_string()
        };
        for (typed, berlin, utc) in [
            ("now", "2026-10-26T00:30:00Z", "2026-10-26T00:30:00Z"),
            ("2h", "2026-10-25T22:30:00Z", "2026-10-25T22:30:00Z"),
            ("1h 30m ago", "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z"),
            ("today", "2026-10-25T23:00:00Z", "2026-10-26T00:00:00Z"),
            ("Yesterday", "2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z"),
            ("yesterday 22:00", "2026-10-25T21:00:00Z", "2026-10-25T22:00:00Z"),
            ("today 1:15", "2026-10-26T00:15:00Z", "2026-10-26T01:15:00Z"),
            ("2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z"),
            ("2026-10-25 12:00:30", "2026-10-25T11:00:30Z", "2026-10-25T12:00:30Z"),
            ("2026-10-25T12:00", "2026-10-25T11:00:00Z", "2026-10-25T12:00:00Z"),
            // The last one: today's, or yesterday's.
            ("01:00", "2026-10-26T00:00:00Z", "2026-10-25T01:00:00Z"),
            ("22:00", "2026-10-25T21:00:00Z", "2026-10-25T22:00:00Z"),
            ("2026-01-01T05:30:00+05:30", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("9999 years", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(of(typed, "Europe/Berlin"), berlin, "{typed}");
            assert_eq!(of(typed, "UTC"), utc, "{typed}");
        }
        assert_eq!("9000-01-01".parse::<When>().unwrap().at(&now.to_zoned(zone("UTC"))), u64::MAX);
    }

    #[test]
    fn what_is_no_time_is_refused_with_advice() {
        for bad in [
            "",
            "15",
            "-15m",
            "tomorrow",
            "24:00",
            "7",
            "7:5",
            "22:00:60",
            "2026-13-01",
            "2026-02-30",
            "20261130",
            "2026-11-30 ",
            "2026-11-30 25:00",
            "todayt",
            "yesterday22:00",
            "1:2:3:4",
        ] {
            let advice = bad.parse::<When>().unwrap_err();
            assert!(advice.contains("15m") && advice.contains("%2B"), "{bad}: {advice}");
        }
    }

    #[test]
    fn zones_have_names_and_offsets() {
        for (typed, name) in [
            ("europe/berlin", "Europe/Berlin"),
            ("UTC", "UTC"),
            ("+05:30", "+05:30"),
            ("Asia/Kolkata", "Asia/Kolkata"),
        ] {
            assert_eq!(typed.parse::<Zone>().unwrap().name(), name, "{typed}");
        }
        for bad in ["", "Europe/Nowhere", "25", "CEST+"] {
            assert!(bad.parse::<Zone>().is_err(), "{bad}");
        }
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let now = "2026-07-01T23:00:00Z".parse().unwrap();
        assert_eq!(berlin.shown("2026-07-01T22:30:00.123Z", now), "00:30:00");
        assert_eq!(berlin.shown("2026-07-01T21:30:00.123Z", now), "2026-07-01 23:30");
        assert_eq!(berlin.shown_in_full("2026-07-01T21:30:00.250Z"), "2026-07-01 23:30:00.250");
    }
}
