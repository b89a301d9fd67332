//! Selectors: what a person types to name a state.
//!
//! `[SITE[/SYSTEM]]@WHEN[:PATH]`. Times hold colons, so WHEN is the longest text before a colon that
//! makes sense as one. The meanings of WHEN cannot be confused: an id has eight or more hexadecimal
//! digits and nothing else, an age or a date begins with a digit, a tag begins with a letter.

use jiff::tz::TimeZone;
use model::{Error, ErrorKind, ItemKey, Result, SiteName, SystemName, Timestamp};

use crate::time::parse_time;

/// How many digits of an id have to be typed.
pub const ID_PREFIX_LENGTH_MIN: usize = 8;
const TAG_LENGTH_MAX: usize = 64;
const RESERVED: [&str; 4] = ["latest", "verified", "today", "yesterday"];
const ACTION: &str = "read selector";

/// A state of a site, of one of its systems, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The site; none: the only one that there is.
    pub site: Option<SiteName>,
    /// The system; none: all of them, at one recovery point.
    pub system: Option<SystemName>,
    /// Which state.
    pub when: When,
    /// The item that is meant with all below it; the root: everything.
    pub path: ItemKey,
}

/// Which state is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The newest complete one, or the one that many before it.
    Latest {
        /// How many complete ones are newer.
        back: u64,
    },
    /// The newest that was proven by a restore.
    Verified,
    /// The newest that carries a tag.
    Tag(String),
    /// The one whose id begins so.
    Id(String),
    /// The newest complete one whose cut ended at or before a time.
    Time(Timestamp),
}

impl Selector {
    /// Reads a selector. `now` and `zone` are the terminal's.
    ///
    /// # Errors
    /// `Invalid` where it is none, or names a time in the future.
    pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let refuse = |why: &str| {
            Error::new(ErrorKind::Invalid, ACTION, format!("{text:?}")).detail(why.to_owned())
        };
        let (scope, rest) = text
            .split_once('@')
            .ok_or_else(|| refuse("expected SITE[/SYSTEM]@WHEN[:PATH], as in prod/etc@latest"))?;
        let (site, system) = match scope.split_once('/') {
            Some((site, system)) => (site, Some(system.parse()?)),
            None => (scope, None),
        };
        let site = (!site.is_empty()).then(|| site.parse()).transpose()?;
        if site.is_none() && system.is_some() {
            return Err(refuse("a system needs its site, as in prod/etc@latest"));
        }
        let (when, path) = split_path(rest, now, zone)?;
        Ok(Self { site, system, when, path: read_path(path)? })
    }
}

/// Splits `WHEN[:PATH]` at the last colon before which stands a sound WHEN.
fn split_path<'t>(text: &'t str, now: Timestamp, zone: &TimeZone) -> Result<(When, &'t str)> {
    let whole = read_when(text, now, zone);
    if let Ok(when) = whole {
        return Ok((when, ""));
    }
    let colons = text.char_indices().rev().filter(|(_, c)| *c == ':');
    let mut refusal = None;
    for (index, _) in colons {
        let (when, path) = (&text[..index], &text[index + 1..]);
        if is_within_time(when, path) {
            continue;
        }
        match read_when(when, now, zone) {
            Ok(when) => return Ok((when, path)),
            Err(error) => refusal = Some(error),
        }
    }
    // What stands before the first colon is the best guess at what was meant.
    match refusal {
        Some(error) => Err(error),
        None => whole.map(|when| (when, "")),
    }
}

/// Says whether a colon stands between the hours and the minutes of a time: a time that makes no sense
/// as a whole is no earlier one with a path.
fn is_within_time(before: &str, after: &str) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    is_digit(before.chars().next())
        && is_digit(before.chars().last())
        && is_digit(after.chars().next())
        && !is_id_prefix(before)
}

fn read_when(text: &str, now: Timestamp, zone: &TimeZone) -> Result<When> {
    if let Some(back) = text.strip_prefix("latest") {
        let back = match back.strip_prefix('~') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            None if back.is_empty() => Some(0),
            _ => None,
        };
        if let Some(back) = back {
            return Ok(When::Latest { back });
        }
    }
    if text == "verified" {
        return Ok(When::Verified);
    }
    if is_id_prefix(text) {
        return Ok(When::Id(text.to_owned()));
    }
    match parse_time(text, now, zone) {
        Ok(time) => Ok(When::Time(time)),
        Err(_) if check_tag(text).is_ok() => Ok(When::Tag(text.to_owned())),
        Err(error) => Err(Error::new(ErrorKind::Invalid, ACTION, format!("@{text}"))
            .detail(
                "WHEN is latest, latest~N, verified, a tag, 8 or more digits of an id, or a time",
            )
            .because(error)),
    }
}

fn is_id_prefix(text: &str) -> bool {
    text.len() >= ID_PREFIX_LENGTH_MIN
        && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// Checks that a tag can be told from all else that may stand in a selector.
///
/// # Errors
/// `Invalid`.
pub fn check_tag(tag: &str) -> Result<()> {
    let is_plain = tag.starts_with(|c: char| c.is_ascii_alphabetic())
        && tag.len() <= TAG_LENGTH_MAX
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_plain && !RESERVED.contains(&tag) && !is_id_prefix(tag) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "name tag", format!("{tag:?}")).detail(
        "use 1 to 64 letters, digits, - _ . and begin with a letter; \
         latest, verified, today, yesterday and what looks like an id are taken",
    ))
}

fn read_path(path: &str) -> Result<ItemKey> {
    let components = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    if components.clone().any(|part| part == "..") {
        return Err(Error::new(ErrorKind::Invalid, ACTION, format!("{path:?}"))
            .detail("\"..\" leads nowhere in a stored tree"));
    }
    ItemKey::from_components(components)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-24T14:45:30Z.
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_531_530);

    fn parse(text: &str) -> Result<Selector> {
        Selector::parse(text, NOW, &TimeZone::UTC)
    }

    /// Shows a selector as `site|system|when|path`, what is missing as nothing.
    fn check(text: &str, expected: &str) {
        let selector = parse(text).map_err(|error| error.chain()).expect(text);
        let when = match selector.when {
            When::Latest { back } => format!("latest-{back}"),
            When::Verified => "verified".to_owned(),
            When::Tag(tag) => format!("tag {tag}"),
            When::Id(id) => format!("id {id}"),
            When::Time(time) => crate::show_time(time, &TimeZone::UTC),
        };
        let site = selector.site.map(|site| site.to_string()).unwrap_or_default();
        let system = selector.system.map(|system| system.to_string()).unwrap_or_default();
        assert_eq!(
            format!("{site}|{system}|{when}|{}", selector.path.display()),
            expected,
            "{text}"
        );
    }

    #[test]
    fn every_form_is_read() {
        check("prod@latest", "prod||latest-0|");
        check("prod/etc@latest~3", "prod|etc|latest-3|");
        check("@latest", "||latest-0|");
        check("prod@verified", "prod||verified|");
        check("prod@before-upgrade", "prod||tag before-upgrade|");
        check("prod@v1.2", "prod||tag v1.2|");
        check("prod@deadbeef", "prod||id deadbeef|");
        check("prod@0123456789abcdef", "prod||id 0123456789abcdef|");
        check("prod@20261122", "prod||id 20261122|");
        check("prod@deadbee", "prod||tag deadbee|");
        check("prod@2026-11-22 10:31", "prod||2026-11-22 10:31:00|");
        check("prod@2 hours ago", "prod||2026-11-24 12:45:30|");
        check("prod@2026-11-22T10:31:00+01:00", "prod||2026-11-22 09:31:00|");
        check("prod@30m", "prod||2026-11-24 14:15:30|");
    }

    #[test]
    fn paths_follow_the_longest_sound_when() {
        check("prod/etc@latest:/etc/hosts", "prod|etc|latest-0|etc/hosts");
        check("prod/etc@latest:etc//./hosts/", "prod|etc|latest-0|etc/hosts");
        check("prod/etc@2026-11-22 10:31:/etc", "prod|etc|2026-11-22 10:31:00|etc");
        check("prod/etc@2026-11-22 10:31:05:/etc", "prod|etc|2026-11-22 10:31:05|etc");
        check("prod/etc@2026-11-22T10:31:00Z:/a:b/c@d", "prod|etc|2026-11-22 10:31:00|a:b/c@d");
        check("prod/etc@latest:/a:b", "prod|etc|latest-0|a:b");
        check("prod/etc@10:31:/a", "prod|etc|2026-11-24 10:31:00|a");
        check("prod/etc@2 hours ago:/a b", "prod|etc|2026-11-24 12:45:30|a b");
        check("prod@latest:", "prod||latest-0|");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "latest",
            "prod",
            "prod@",
            "Prod@latest",
            "/etc@latest",
            "prod/@latest",
            "prod@latest~",
            "prod@latest~x",
            "prod@latest~+1",
            "prod@2027-01-01",
            "prod@latest:/a/../b",
            "prod@-1h",
            "prod@99999999999999999999999999 hours ago",
        ] {
            assert_eq!(parse(bad).expect_err(bad).kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn the_future_is_named_as_the_reason() {
        let error = parse("prod@2027-01-01:/etc").expect_err("future");
        assert!(error.chain().contains("is in the future"), "{}", error.chain());
        // The hour alone would have been: but minutes are no path.
        for text in ["prod@2026-11-24 14:50", "prod@2026-11-24 14:50:/etc", "prod@14:50"] {
            let shown = parse(text).expect_err("future").chain();
            assert!(shown.contains("14:50:00") && shown.contains("future"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_read_or_refused(text in "[a-z/@:~0-9 .-]{0,30}|\\PC{0,30}") {
            let _ = parse(&text);
        }

        #[test]
        fn tags_are_read_as_tags(tag in "[a-zA-Z][a-zA-Z0-9._-]{0,20}", path in "[a-z:@]{1,9}") {
            prop_assume!(check_tag(&tag).is_ok());
            let selector = parse(&format!("prod@{tag}:/{path}")).expect("sound");
            prop_assert_eq!(selector.when, When::Tag(tag));
            prop_assert_eq!(selector.path.display(), path);
        }

        #[test]
        fn paths_may_hold_what_they_like(path in "[^/\0]{1,20}") {
            prop_assume!(path != "." && path != "..");
            let selector = parse(&format!("prod/etc@verified:/{path}")).expect("sound");
            prop_assert_eq!(selector.path.display(), path);
        }
    }
}
