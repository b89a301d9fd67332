//! Which parts of an extent are as stored, by the checksums that the system holds of it.

use std::ops::Range;

use model::StripeChecksums;

/// A part of an extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is in the extent.
    pub range: Range<u64>,
    /// Whether the bytes stored before are the same.
    pub is_stored: bool,
}

/// Splits an extent of `now_bytes` into parts that are as stored and parts that have to be read; none
/// where the checksums cannot be compared, or nothing is as stored.
pub fn parts(
    (now, now_bytes): (&StripeChecksums, u64),
    (stored, stored_bytes): (&StripeChecksums, u64),
) -> Option<Vec<Part>> {
    let stripe = u64::from(now.stripe_bytes);
    let fits = |sums: &StripeChecksums, bytes: u64| {
        stripe > 0 && bytes.div_ceil(stripe) == sums.crc32c.len() as u64
    };
    if now.stripe_bytes != stored.stripe_bytes
        || !fits(now, now_bytes)
        || !fits(stored, stored_bytes)
    {
        return None;
    }
    let mut parts: Vec<Part> = Vec::new();
    for (index, sum) in now.crc32c.iter().enumerate() {
        let start = index as u64 * stripe;
        let end = start.saturating_add(stripe).min(now_bytes);
        let stored_end = start.saturating_add(stripe).min(stored_bytes);
        let is_stored = stored.crc32c.get(index) == Some(sum) && stored_end == end;
        match parts.last_mut() {
            Some(last) if last.is_stored == is_stored => last.range.end = end,
            _ => parts.push(Part { range: start..end, is_stored }),
        }
    }
    parts.iter().any(|part| part.is_stored).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(stripe_bytes: u32, crc32c: &[u32]) -> StripeChecksums {
        StripeChecksums { stripe_bytes, crc32c: crc32c.to_vec() }
    }

    /// Notation: `start..end` of each part, `=` before those that are as stored.
    fn check(now: (&[u32], u64), stored: (&[u32], u64), expected: &str) {
        let found = parts((&sums(10, now.0), now.1), (&sums(10, stored.0), stored.1));
        let shown = found.map(|parts| {
            let shown = parts
                .iter()
                .map(|part| format!("{}{:?}", if part.is_stored { "=" } else { "" }, part.range));
            shown.collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.as_deref().unwrap_or("none"), expected);
    }

    #[test]
    fn equal_stripes_of_equal_length_are_as_stored() {
        check((&[1, 2, 3], 30), (&[1, 2, 3], 30), "=0..30");
        check((&[1, 9, 3], 30), (&[1, 2, 3], 30), "=0..10 10..20 =20..30");
        check((&[1, 2, 3], 25), (&[1, 2, 3], 25), "=0..25");
        check((&[1, 2, 3], 25), (&[1, 2, 3], 30), "=0..20 20..25");
        check((&[1, 2, 3, 4], 40), (&[1, 2], 20), "=0..20 20..40");
        check((&[1], 10), (&[1, 2], 20), "=0..10");
    }

    #[test]
    fn what_cannot_be_compared_is_read() {
        check((&[5, 6], 20), (&[1, 2], 20), "none");
        check((&[], 0), (&[], 0), "none");
        check((&[1, 2], 30), (&[1, 2], 20), "none");
        check((&[1, 2], 20), (&[1, 2], 30), "none");
        assert_eq!(parts((&sums(10, &[1]), 10), (&sums(5, &[1, 2]), 10)), None);
        assert_eq!(parts((&sums(0, &[]), 0), (&sums(0, &[]), 0)), None);
    }
}
