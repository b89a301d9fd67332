//! Expressions of time: what a person types, read in the terminal's zone.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan, ZonedDateTime};
use model::{Error, ErrorKind, Result, Timestamp};

const ACTION: &str = "read time";

/// Reads an expression of time. `now` and `zone` are the terminal's.
///
/// Understood are RFC 3339 (`2026-11-22T10:31:00Z`), local times (`2026-11-22 10:31`, `2026-11-22` for
/// its midnight, `10:31`, `yesterday`, `yesterday 14:00`) and ages (`2 hours ago`, `90m`, `1h30m ago`).
/// A local time that a zone has twice is its first; one that a zone skips is as much later.
///
/// # Errors
/// `Invalid` where it is no time, or lies in the future: a restore never leads there.
pub fn parse_time(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let local_now = to_jiff(now).to_zoned_datetime(zone.clone());
    let time = read(text.trim(), &local_now).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, ACTION, format!("{text:?}"))
            .detail("write it like 2026-11-22 10:31, 2026-11-22T10:31:00Z or \"2 hours ago\"")
    })?;
    if time.timestamp() > local_now.timestamp() {
        return Err(Error::new(ErrorKind::Invalid, ACTION, format!("{text:?}"))
            .detail(format!("{} is in the future", describe(&time))));
    }
    i64::try_from(time.timestamp().as_nanosecond()).map(|unix_ns| Timestamp { unix_ns }).map_err(
        |_| {
            Error::new(ErrorKind::Invalid, ACTION, format!("{text:?}"))
                .detail("before the year 1678")
        },
    )
}

/// Reads a time to come: as [`parse_time`] reads times, or how far ahead it is (`90 days`, `1y 6mo`).
///
/// # Errors
/// `Invalid` where it is no time, or lies in the past.
pub fn parse_time_ahead(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let refuse =
        |why: String| Error::new(ErrorKind::Invalid, ACTION, format!("{text:?}")).detail(why);
    let local_now = to_jiff(now).to_zoned_datetime(zone.clone());
    let trimmed = text.trim();
    let ahead = match read_age(trimmed).filter(|_| !trimmed.ends_with("ago")) {
        Some(span) => local_now.checked_add(span).ok(),
        None => read(trimmed, &local_now),
    };
    let time = ahead.ok_or_else(|| {
        refuse("write it like 2030-12-31, 2030-12-31T10:31:00Z or \"90 days\"".to_owned())
    })?;
    if time.timestamp() <= local_now.timestamp() {
        return Err(refuse(format!("{} is in the past", describe(&time))));
    }
    i64::try_from(time.timestamp().as_nanosecond())
        .map(|unix_ns| Timestamp { unix_ns })
        .map_err(|_| refuse("after the year 2261".to_owned()))
}

fn read(text: &str, now: &ZonedDateTime) -> Option<ZonedDateTime> {
    let zone = now.time_zone().clone();
    // Ages come first and hold no colon, so that 10:31:00 is a time of day and not an age.
    if let Some(age) = read_age(text) {
        return now.checked_sub(age).ok();
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.to_zoned_datetime(zone));
    }
    if let Ok(time) = text.parse::<ZonedDateTime>() {
        return Some(time.timestamp().to_zoned_datetime(zone));
    }
    let local = read_named_day(text, now).or_else(|| read_local(text))?;
    local.to_zoned_datetime(zone).ok()
}

/// Reads `2 hours ago`, and `2 hours` or `2h` for the same.
fn read_age(text: &str) -> Option<Span> {
    let age = text.strip_suffix("ago").map_or(text, str::trim_end);
    let is_plain = age.starts_with(|c: char| c.is_ascii_digit()) && !age.contains(':');
    age.parse::<Span>().ok().filter(|span| is_plain && !span.is_negative())
}

/// Reads a local date with or without a time of day. Offsets and zones were read before; without
/// them a date and a time are all there is.
fn read_local(text: &str) -> Option<DateTime> {
    let is_plain = text.chars().all(|c| c.is_ascii_digit() || "-:. T".contains(c));
    text.parse::<DateTime>().ok().filter(|_| is_plain && text.contains('-'))
}

/// Reads `today`, `yesterday`, each with or without a time of day, and a time of day alone.
fn read_named_day(text: &str, now: &ZonedDateTime) -> Option<DateTime> {
    let (day, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (date, time): (Date, &str) = match day {
        "today" => (now.date(), rest),
        "yesterday" => (now.date().checked_sub(1.day()).ok()?, rest),
        _ => (now.date(), text),
    };
    if time.is_empty() && !day.is_empty() {
        return Some(date.to_datetime(Time::midnight()));
    }
    let is_plain =
        time.contains(':') && time.chars().all(|c| c.is_ascii_digit() || ":.".contains(c));
    is_plain.then(|| time.parse::<Time>().ok()).flatten().map(|time| date.to_datetime(time))
}

/// Converts to the calendar library's type.
pub fn to_jiff(time: Timestamp) -> jiff::Timestamp {
    // 64 bits of nanoseconds end in 2262, the calendar in 9999: this cannot fail.
    jiff::Timestamp::from_nanosecond(i128::from(time.unix_ns)).unwrap_or_default()
}

/// Shows a time in a zone, to the second: `2026-11-22 10:31:05`.
pub fn show_time(time: Timestamp, zone: &TimeZone) -> String {
    to_jiff(time).to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Shows a time in a zone and in UTC: `2026-11-22 10:31:05 +01:00 (2026-11-22T09:31:05Z)`.
pub fn describe_time(time: Timestamp, zone: &TimeZone) -> String {
    describe(&to_jiff(time).to_zoned_datetime(zone.clone()))
}

fn describe(time: &ZonedDateTime) -> String {
    let local = time.strftime("%Y-%m-%d %H:%M:%S %:z");
    format!("{local} ({})", time.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-24T14:45:30Z.
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_531_530);

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("zone")
    }

    fn check(text: &str, expected: &str) {
        let read = parse_time(text, NOW, &berlin()).map(|time| to_jiff(time).to_string());
        assert_eq!(read.expect(text), expected, "{text}");
    }

    #[test]
    fn times_are_read_in_the_zone() {
        check("2026-11-22 10:31", "2026-11-22T09:31:00Z");
        check("2026-11-22T10:31:05", "2026-11-22T09:31:05Z");
        check("2026-11-22 10:31:05.5", "2026-11-22T09:31:05.5Z");
        check("2026-11-22", "2026-11-21T23:00:00Z");
        check("2026-07-01 12:00", "2026-07-01T10:00:00Z");
        check("2026-11-22T10:31:00Z", "2026-11-22T10:31:00Z");
        check("2026-11-22T10:31:00-05:00", "2026-11-22T15:31:00Z");
        check("10:31", "2026-11-24T09:31:00Z");
        check("10:31:07", "2026-11-24T09:31:07Z");
        check("today 01:00", "2026-11-24T00:00:00Z");
        check("yesterday", "2026-11-22T23:00:00Z");
        check("yesterday 14:00", "2026-11-23T13:00:00Z");
    }

    #[test]
    fn ages_count_back_from_now() {
        check("2 hours ago", "2026-11-24T12:45:30Z");
        check("2h", "2026-11-24T12:45:30Z");
        check("90m ago", "2026-11-24T13:15:30Z");
        check("1h30m ago", "2026-11-24T13:15:30Z");
        check("3 days ago", "2026-11-21T14:45:30Z");
        check("1 day 2 hours ago", "2026-11-23T12:45:30Z");
        check("1 week ago", "2026-11-17T14:45:30Z");
        check("0s", "2026-11-24T14:45:30Z");
        // A month is a step of the calendar; the clock was set back in between.
        check("1 month ago", "2026-10-24T13:45:30Z");
    }

    #[test]
    fn local_times_that_are_twice_or_never_have_one_meaning() {
        check("2026-10-25 02:30", "2026-10-25T00:30:00Z");
        check("2026-03-29 02:30", "2026-03-29T01:30:00Z");
    }

    #[test]
    fn the_future_and_nonsense_are_refused() {
        for bad in [
            "2026-11-24T14:45:31Z",
            "2027-01-01",
            "23:00",
            "tomorrow",
            "in 2 hours",
            "-2h",
            "",
            "now",
            "soon",
            "2026-13-01",
            "2026-11-31",
            "25:00",
            "12",
            "20261122",
            "2 fortnights ago",
            "ago",
        ] {
            let error = parse_time(bad, NOW, &berlin()).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
        let error = parse_time("2027-01-01", NOW, &berlin()).expect_err("future");
        assert!(error.chain().contains("is in the future"), "{error}");
    }

    #[test]
    fn shown_times_say_their_zone() {
        assert_eq!(show_time(NOW, &berlin()), "2026-11-24 15:45:30");
        assert_eq!(
            describe_time(NOW, &berlin()),
            "2026-11-24 15:45:30 +01:00 (2026-11-24T14:45:30Z)"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_read_or_refused(text in "\\PC{0,30}") {
            if let Ok(time) = parse_time(&text, NOW, &berlin()) {
                prop_assert!(time <= NOW);
            }
        }

        #[test]
        fn what_is_shown_is_read_back(seconds in 0_i64..1_795_531_530) {
            // All but the hour that autumn has twice, whose first meaning is taken.
            let time = Timestamp::from_unix_seconds(seconds);
            let read = parse_time(&show_time(time, &TimeZone::UTC), NOW, &TimeZone::UTC);
            prop_assert_eq!(read.ok(), Some(time));
        }
    }

    #[test]
    fn times_to_come_are_read_and_others_refused() {
        let zone = TimeZone::UTC;
        let now = parse_time("2026-11-22T10:31:00Z", Timestamp { unix_ns: i64::MAX }, &zone);
        let now = now.expect("a time");
        for (text, expected) in [
            ("90 days", "2027-02-20 10:31:00"),
            ("1y", "2027-11-22 10:31:00"),
            ("2030-12-31", "2030-12-31 00:00:00"),
            ("2030-12-31T01:02:03Z", "2030-12-31 01:02:03"),
        ] {
            let time = parse_time_ahead(text, now, &zone).expect(text);
            assert_eq!(show_time(time, &zone), expected, "{text}");
        }
        for text in ["", "never", "yesterday", "90 days ago", "2026-11-22", "9999-01-01", "0s"] {
            let error = parse_time_ahead(text, now, &zone).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
