//! TOML as people write it: a fault is told with its line.

use model::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

/// Reads TOML; `action` is what is read (`"read recipe"`).
pub fn parse<T: DeserializeOwned>(text: &str, action: &'static str, subject: &str) -> Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let message = error.message().trim_end().replace('\n', "; ");
        let before = error.span().and_then(|span| text.get(..span.start));
        let place = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
        refuse(action, subject, format!("{}{message}", place.unwrap_or_default()))
    })
}

/// Says that what somebody wrote makes no sense.
pub fn refuse(action: &'static str, subject: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, action, subject).detail(why)
}

/// Checks a name that becomes a part of paths and of templates.
pub fn check_name(name: &str, action: &'static str) -> Result<()> {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 40 || !name.chars().all(is_fine) || name.starts_with('-') {
        let why = "a name is 1 to 40 small letters, digits, - and _";
        return Err(refuse(action, name, why));
    }
    Ok(())
}
