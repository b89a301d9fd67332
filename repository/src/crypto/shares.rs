//! Recovery shares: a slot's secret in `count` parts of which any `threshold` give it back.
//!
//! Shamir's scheme over GF(2^8): each byte of the secret is the constant of a polynomial whose other
//! coefficients are random; a share holds the polynomials' values at its index. Fewer than `threshold`
//! values fit every secret equally well, so that they say nothing, however much somebody computes.
//! Multiplication has neither tables nor branches: nothing depends on secret bytes but the result.
//!
//! The text of a share is made to be printed and typed in again. Each row of digits has a check of its
//! own, so that a slip is reported where it is, and the whole has another.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use model::{Entropy, Error, ErrorKind, Result};
use zeroize::{Zeroize as _, Zeroizing};

use super::Secret;
use super::key_file::{load_text, save_text};
use crate::types::{RepositoryId, WriterId, from_hex, hex};

const TITLE: &str = "lifeboat key share 1";
const ROW_BYTES: usize = 8;
const ROWS: usize = Secret::LENGTH / ROW_BYTES;
const LENGTH_MAX: u64 = 4096;

/// One part of a slot's secret. Wiped when dropped; never shown.
#[derive(Clone)]
pub struct Share {
    repository: RepositoryId,
    slot: WriterId,
    threshold: u8,
    count: u8,
    index: u8,
    value: Secret,
}

/// The secret of a slot that shares open, put together.
#[derive(Clone)]
pub struct ShareSet {
    slot: WriterId,
    threshold: u8,
    count: u8,
    secret: Secret,
}

impl ShareSet {
    /// Makes a secret for a new slot, and its shares.
    ///
    /// # Errors
    /// `Invalid` where the numbers make no sense.
    pub fn generate(
        repository: RepositoryId,
        threshold: u8,
        count: u8,
        entropy: &dyn Entropy,
    ) -> Result<(Self, Vec<Share>)> {
        if threshold < 2 || threshold > count {
            return Err(Error::new(ErrorKind::Invalid, "make key shares", "").detail(format!(
                "{threshold} of {count} makes no sense: at least 2, at most as many as there are"
            )));
        }
        let mut slot = [0; 16];
        entropy.fill(&mut slot);
        let slot = WriterId(slot);
        let secret = Secret::generate(entropy);
        let mut coefficients = vec![secret.clone()];
        coefficients.extend((1..threshold).map(|_| Secret::generate(entropy)));
        let share = |index| {
            let value = evaluate(&coefficients, index);
            Share { repository, slot, threshold, count, index, value }
        };
        let shares = (1..=count).map(share).collect();
        Ok((Self { slot, threshold, count, secret }, shares))
    }

    /// Puts shares together. More than are needed have to fit as well.
    ///
    /// # Errors
    /// `Invalid` where they are too few, of different sets, or one is there twice or does not fit the
    /// others.
    pub fn combine(shares: &[Share]) -> Result<Self> {
        let bad = |detail: String| {
            Error::new(ErrorKind::Invalid, "combine key shares", "").detail(detail)
        };
        let Some(first) = shares.first() else {
            return Err(bad("none is given".to_owned()));
        };
        if let Some(other) = shares.iter().find(|share| share.set() != first.set()) {
            return Err(bad(format!(
                "share {} belongs to slot {}, share {} to slot {}: use shares of one set",
                first.index, first.slot, other.index, other.slot
            )));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = shares.iter().find(|share| !seen.insert(share.index)) {
            return Err(bad(format!("share {} is given twice", twice.index)));
        }
        let threshold = usize::from(first.threshold);
        let Some((used, more)) = shares.split_at_checked(threshold) else {
            let given = shares.len();
            return Err(bad(format!("{given} of the {threshold} that are needed are given")));
        };
        if let Some(odd) = more.iter().find(|share| {
            // Which bytes differ must not show in how long this takes.
            let expected = interpolate(used, share.index);
            let pairs = expected.expose().iter().zip(share.value.expose());
            pairs.fold(0, |all, (a, b)| all | (a ^ b)) != 0
        }) {
            return Err(bad(format!("share {} does not fit the others", odd.index)));
        }
        let (slot, count) = (first.slot, first.count);
        Ok(Self { slot, threshold: first.threshold, count, secret: interpolate(used, 0) })
    }

    /// Says which slot it opens.
    pub fn slot(&self) -> WriterId {
        self.slot
    }

    /// Says how many shares are needed, and how many there are.
    pub(crate) fn numbers(&self) -> (u8, u8) {
        (self.threshold, self.count)
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for ShareSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareSet({}, {} of {})", self.slot, self.threshold, self.count)
    }
}

impl Share {
    /// Says which of its set it is, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Says which slot it helps to open.
    pub fn slot(&self) -> WriterId {
        self.slot
    }

    /// Writes a new file that only its owner may read.
    ///
    /// # Errors
    /// `Conflict` where a file stands there; `Denied`, `Exhausted`, `NotFound`.
    pub fn save(&self, path: &Path) -> Result<()> {
        save_text("create key share file", path, &self.text())
    }

    /// Reads a share from a file.
    ///
    /// # Errors
    /// `NotFound`, `Denied`; `Invalid` with the row where something was mistyped.
    pub fn load(path: &Path) -> Result<Self> {
        const ACTION: &str = "read key share file";
        let text = load_text(ACTION, path, LENGTH_MAX)?;
        Self::from_text(&text).map_err(|why| {
            Error::new(ErrorKind::Invalid, ACTION, path.display().to_string()).detail(why)
        })
    }

    fn set(&self) -> (RepositoryId, WriterId, u8, u8) {
        (self.repository, self.slot, self.threshold, self.count)
    }

    fn text(&self) -> Zeroizing<String> {
        let Self { repository, slot, threshold, count, index, value } = self;
        // Reserved at once: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(TITLE);
        text.push_str(&format!("\n# Any {threshold} of the {count} shares open the repository, "));
        text.push_str("fewer say nothing.\n# Keep them in different places. ");
        text.push_str("To open: --share-file FILE, once for each share.\n");
        text.push_str(&format!("repository {repository}\nslot {slot}\n"));
        text.push_str(&format!("share {index} of {count}, any {threshold} open it\n"));
        for (row, bytes) in value.expose().chunks_exact(ROW_BYTES).enumerate() {
            let digits = Zeroizing::new(hex(bytes));
            let [a, b, c, d] = [0, 4, 8, 12].map(|at| digits.get(at..at + 4).unwrap_or_default());
            let check = hex(&row_check(row, bytes));
            for part in [&(row + 1).to_string(), "  ", a, " ", b, " ", c, " ", d, "  ", &check] {
                text.push_str(part);
            }
            text.push('\n');
        }
        text.push_str(&format!("check {}\n", hex(&self.check())));
        text
    }

    /// Reads a text as printed or as typed; says what is wrong without repeating any of it.
    fn from_text(text: &str) -> std::result::Result<Self, String> {
        let text = Zeroizing::new(text.to_ascii_lowercase());
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next() != Some(TITLE) {
            return Err("it is not a key share of lifeboat".to_owned());
        }
        let repository = read_id(lines.next(), "repository")?;
        let slot = read_id(lines.next(), "slot")?;
        let numbers = lines.next().and_then(read_numbers);
        let [index, count, threshold] = numbers.ok_or("its line `share` cannot be read")?;
        let mut value = Zeroizing::new([0; Secret::LENGTH]);
        for (row, bytes) in value.chunks_exact_mut(ROW_BYTES).enumerate() {
            read_row(row, lines.next().unwrap_or_default(), bytes)
                .ok_or_else(|| format!("row {} of {ROWS} was mistyped", row + 1))?;
        }
        let (repository, slot) = (RepositoryId(repository), WriterId(slot));
        let share = Self { repository, slot, threshold, count, index, value: Secret::new(*value) };
        let check = lines.next().and_then(|line| from_hex(line.strip_prefix("check ")?.trim()));
        if check != Some(share.check()) || lines.next().is_some() {
            return Err("its check does not hold: something was mistyped".to_owned());
        }
        if threshold < 2 || threshold > count || !(1..=count).contains(&index) {
            return Err("its numbers make no sense".to_owned());
        }
        Ok(share)
    }

    /// Ties all of a share together.
    fn check(&self) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat 2026-11 key share check");
        hasher.update(&self.repository.0).update(&self.slot.0);
        hasher.update(&[self.threshold, self.count, self.index]).update(self.value.expose());
        first_bytes(&hasher)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({}, {} of {})", self.slot, self.index, self.count)
    }
}

fn read_id(line: Option<&str>, name: &str) -> std::result::Result<[u8; 16], String> {
    line.and_then(|line| from_hex(line.strip_prefix(name)?.trim()))
        .ok_or_else(|| format!("its line `{name}` cannot be read"))
}

/// Reads `share INDEX of COUNT, any THRESHOLD open it`.
fn read_numbers(line: &str) -> Option<[u8; 3]> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        ["share", index, "of", count, "any", threshold, "open", "it"] => {
            let count = count.strip_suffix(',')?;
            Some([index.parse().ok()?, count.parse().ok()?, threshold.parse().ok()?])
        }
        _ => None,
    }
}

/// Reads a row: its number, the digits of eight bytes, the check; blanks do not count.
fn read_row(row: usize, line: &str, bytes: &mut [u8]) -> Option<()> {
    let digits: Zeroizing<String> =
        Zeroizing::new(line.chars().filter(|c| !c.is_whitespace()).collect());
    let digits = digits.strip_prefix(&(row + 1).to_string())?;
    let (value, check) = digits.split_at_checked(2 * ROW_BYTES)?;
    let mut value = from_hex::<ROW_BYTES>(value)?;
    let is_right = from_hex(check) == Some(row_check(row, &value));
    bytes.copy_from_slice(&value);
    value.zeroize();
    is_right.then_some(())
}

fn row_check(row: usize, bytes: &[u8]) -> [u8; 2] {
    let mut hasher = blake3::Hasher::new_derive_key("lifeboat 2026-11 key share row check");
    hasher.update(&[u8::try_from(row + 1).unwrap_or(u8::MAX)]).update(bytes);
    first_bytes(&hasher)
}

fn first_bytes<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    let mut bytes = [0; N];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Evaluates 32 polynomials at once; coefficients ascend.
fn evaluate(coefficients: &[Secret], at: u8) -> Secret {
    let mut value = Zeroizing::new([0; Secret::LENGTH]);
    for coefficient in coefficients.iter().rev() {
        for (byte, added) in value.iter_mut().zip(coefficient.expose()) {
            *byte = multiply(*byte, at) ^ added;
        }
    }
    Secret::new(*value)
}

/// Evaluates at `at` the polynomials of least degree that run through the shares (Lagrange).
fn interpolate(shares: &[Share], at: u8) -> Secret {
    let mut value = Zeroizing::new([0; Secret::LENGTH]);
    for share in shares {
        let others = shares.iter().map(|other| other.index).filter(|index| *index != share.index);
        let weight = others.fold(1, |weight, other| {
            multiply(weight, multiply(at ^ other, invert(share.index ^ other)))
        });
        for (byte, part) in value.iter_mut().zip(share.value.expose()) {
            *byte ^= multiply(weight, *part);
        }
    }
    Secret::new(*value)
}

/// Multiplies in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1: all eight steps, whatever the bytes are.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & 0_u8.wrapping_sub((b >> bit) & 1);
        a = (a << 1) ^ (0x1b & 0_u8.wrapping_sub(a >> 7));
    }
    product
}

/// Inverts by raising to the power of 254; of indexes, which are no secret.
fn invert(a: u8) -> u8 {
    let mut power = a;
    let mut inverse = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        inverse = multiply(inverse, power);
    }
    inverse
}

#[cfg(test)]
mod tests;
