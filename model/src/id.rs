//! Names that people give.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

const NAME_LENGTH_MAX: usize = 64;

fn check_name(what: &'static str, text: &str) -> Result<String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_plain =
        text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if !starts_well || !is_plain || text.len() > NAME_LENGTH_MAX {
        return Err(Error::new(ErrorKind::Invalid, what, format!("{text:?}"))
            .detail("use 1 to 64 of a-z 0-9 - _ and begin with a letter or digit"));
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                check_name($what, text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name! {
    /// One estate under one policy file. 1 to 64 of `a-z 0-9 - _`, beginning with a letter or digit,
    /// so that it can stand in an object's name on every store.
    SiteName, "name site"
}
name! {
    /// One protected thing of a site. The same characters as a [`SiteName`].
    SystemName, "name system"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_object_stores() {
        for good in ["prod", "etc", "7of9", "a-b_c"] {
            assert_eq!(good.parse::<SiteName>().expect(good).as_str(), good);
        }
        for bad in ["", "-a", "A", "a/b", "a.b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<SystemName>().expect_err(bad).kind(), ErrorKind::Invalid);
        }
    }
}
