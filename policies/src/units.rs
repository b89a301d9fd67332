//! Durations and sizes as people write them: a number and a unit, always both.

use std::time::Duration;

const MS_PER_UNIT: &[(&[&str], u64)] = &[
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "second", "seconds"], 1_000),
    (&["m", "min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

const BYTES_PER_UNIT: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a duration: `30s`, `5 minutes`, `1h 30m`. A day is 24 hours.
///
/// # Errors
/// Says what is missing or unknown.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    if rest.is_empty() {
        return Err("a duration is a number and a unit, as in \"30s\"".to_owned());
    }
    while !rest.is_empty() {
        let (number, unit, tail) = take_quantity(rest)?;
        let unit_ms = MS_PER_UNIT
            .iter()
            .find(|(names, _)| names.contains(&unit))
            .map(|(_, ms)| *ms)
            .ok_or_else(|| unknown_unit(unit, "ms, s, m, h, d or w"))?;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or("longer than any clock counts")?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a size in bytes: `512 KiB`, `4GB`. Units of 1000 and of 1024 are told apart.
///
/// # Errors
/// Says what is missing or unknown.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit, tail) = take_quantity(text.trim())?;
    let unit_bytes = BYTES_PER_UNIT
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, bytes)| *bytes)
        .ok_or_else(|| unknown_unit(unit, "B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"))?;
    if !tail.is_empty() {
        return Err(format!("{tail:?} after the unit"));
    }
    number.checked_mul(unit_bytes).ok_or_else(|| "more bytes than 64 bits count".to_owned())
}

fn unknown_unit(unit: &str, known: &str) -> String {
    if unit.is_empty() {
        format!("a number without a unit; use {known}")
    } else {
        format!("unknown unit {unit:?}; use {known}")
    }
}

/// Splits `<digits> <letters><rest>`.
fn take_quantity(text: &str) -> Result<(u64, &str, &str), String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err("expected a whole number and a unit".to_owned());
    }
    let number = digits.parse().map_err(|_| "a number past 64 bits".to_owned())?;
    let rest = rest.trim_start();
    let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    Ok((number, unit, tail))
}

/// Shows a size with a unit of 1024 and at most one digit behind the point: `1.5 GiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Shows a duration by its two greatest units: `3d 4h`, `2m 5s`, `350 ms`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_units() {
        for (text, seconds) in [
            ("30s", 30),
            ("5 minutes", 300),
            ("1h 30m", 5_400),
            ("1h30m", 5_400),
            ("2 weeks", 1_209_600),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "1.5h", "3 fortnights", "99999999999999999999s", "1h 30"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration("18446744073709551615w").is_err());
    }

    #[test]
    fn sizes_tell_thousands_from_kibi() {
        for (text, bytes) in
            [("1 B", 1), ("64MiB", 64 << 20), ("4 GB", 4_000_000_000), ("2kB", 2000)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "64", "64 M", "MiB", "1 MiB more", "-1 B", "99999999 TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_bytes("64").expect_err("unit"),
            "a number without a unit; use B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"
        );
    }

    #[test]
    fn shown_values_are_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(show_bytes(bytes), shown);
        }
        for (ms, shown) in
            [(350, "350 ms"), (1_500, "1.5 s"), (125_000, "2m 5s"), (273_600_000, "3d 4h")]
        {
            assert_eq!(show_duration(Duration::from_millis(ms)), shown);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_read_or_refused(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_bytes(&text);
        }

        #[test]
        fn units_add_up(hours in 0_u64..1000, minutes in 0_u64..1000) {
            let text = format!("{hours}h {minutes} min");
            prop_assert_eq!(parse_duration(&text), Ok(Duration::from_secs(hours * 3600 + minutes * 60)));
        }
    }
}
