//! Passphrases and what it costs to guess one.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use model::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::Secret;

/// Words that a person keeps. Wiped when dropped; never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes over a passphrase. Line ends at its end are not part of it, so that one read from a file
    /// is the same as one typed.
    ///
    /// # Errors
    /// `Invalid` where nothing is left.
    pub fn new(text: impl Into<Zeroizing<String>>) -> Result<Self> {
        let text: Zeroizing<String> = text.into();
        let words = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if words.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "read passphrase", "").detail("it is empty"));
        }
        Ok(Self(words))
    }

    /// Stretches the passphrase to a key. Takes long on purpose: call it where blocking is allowed.
    ///
    /// # Errors
    /// `Exhausted` where the memory that the cost asks for cannot be had.
    pub(crate) fn stretch(&self, cost: PassphraseCost, salt: &[u8; 16]) -> Result<Secret> {
        let failed = |error: argon2::Error| {
            let kind = match error {
                argon2::Error::OutOfMemory => ErrorKind::Exhausted,
                _ => ErrorKind::Internal,
            };
            Error::new(kind, "stretch passphrase", "").detail(error.to_string())
        };
        let PassphraseCost { memory_kib, passes, lanes } = cost;
        let params =
            Params::new(memory_kib, passes, lanes, Some(Secret::LENGTH)).map_err(failed)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; Secret::LENGTH]);
        argon2.hash_password_into(self.0.as_bytes(), salt, key.as_mut()).map_err(failed)?;
        Ok(Secret::new(*key))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// What one guess of a passphrase costs: the parameters of Argon2id, kept in the key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes that could run in parallel.
    pub lanes: u32,
}

impl PassphraseCost {
    /// 256 MiB, three passes: about a third of a second.
    pub const DEFAULT: Self = Self { memory_kib: 256 << 10, passes: 3, lanes: 1 };
    /// The least that Argon2 takes. For tests: it protects nothing.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
    /// The most that is taken from a key slot, so that a hostile one cannot stop a reader.
    pub const MAX: Self = Self { memory_kib: 1 << 20, passes: 16, lanes: 8 };

    /// Says whether a reader takes it.
    pub fn is_sane(self) -> bool {
        (1..=Self::MAX.lanes).contains(&self.lanes)
            && (1..=Self::MAX.passes).contains(&self.passes)
            && (8 * self.lanes..=Self::MAX.memory_kib).contains(&self.memory_kib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_stretch() {
        let key = Passphrase::new("words words".to_owned()).expect("passphrase");
        let key = key.stretch(PassphraseCost::LEAST, &[7; 16]).expect("stretch");
        assert_eq!(
            crate::types::hex(key.expose()),
            "6f5547edfb0967fb587f1847dc35bd22f9810a3da67a9aaf0c957f122a67b6a9"
        );
    }

    #[test]
    fn line_ends_do_not_count_and_nothing_is_no_passphrase() {
        let stretch = |text: &str| {
            let passphrase = Passphrase::new(text.to_owned()).expect("passphrase");
            *passphrase.stretch(PassphraseCost::LEAST, &[0; 16]).expect("stretch").expose()
        };
        assert_eq!(stretch("a b\r\n"), stretch("a b"));
        assert_ne!(stretch("a b "), stretch("a b"));
        assert_eq!(Passphrase::new("\n".to_owned()).expect_err("empty").kind(), ErrorKind::Invalid);
        assert_eq!(format!("{:?}", Passphrase::new("x".to_owned())), "Ok(Passphrase(…))");
    }

    #[test]
    fn a_hostile_cost_is_not_paid() {
        assert!(PassphraseCost::DEFAULT.is_sane() && PassphraseCost::MAX.is_sane());
        let sane = PassphraseCost::DEFAULT;
        for cost in [
            PassphraseCost { memory_kib: u32::MAX, ..sane },
            PassphraseCost { memory_kib: 0, ..sane },
            PassphraseCost { passes: 17, ..sane },
            PassphraseCost { passes: 0, ..sane },
            PassphraseCost { lanes: 9, ..sane },
            PassphraseCost { lanes: 0, ..sane },
        ] {
            assert!(!cost.is_sane(), "{cost:?}");
        }
    }
}
