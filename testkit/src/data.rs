//! Data that follows from a seed.

use blake3::OutputReader;
use bytes::Bytes;

use crate::entropy::stream;

/// Numbers that follow from a seed, for tests that choose.
#[derive(Debug, Clone)]
pub struct Random(OutputReader);

impl Random {
    /// Starts the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(stream("numbers", seed))
    }

    /// Returns any number.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns a number from 0 up to, not including, `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is below 2^-32 for every bound a test has.
        self.next_u64() % bound.max(1)
    }

    /// Returns an index of a slice of this length; 0 where it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Returns true in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns an element; none where there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.index(choices.len()))
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }
}

/// Returns bytes that do not compress.
pub fn random_bytes(seed: u64, length_bytes: usize) -> Bytes {
    let mut bytes = vec![0; length_bytes];
    stream("bytes", seed).fill(&mut bytes);
    bytes.into()
}

/// Returns bytes that compress as prose or logs do: lines of words from a small vocabulary.
pub fn text_bytes(seed: u64, length_bytes: usize) -> Bytes {
    const WORDS: [&str; 16] = [
        "block",
        "INFO",
        "replica",
        "namenode",
        "2026-11-24",
        "WARN",
        "segment",
        "received",
        "from",
        "datanode",
        "size",
        "lease",
        "commit",
        "checkpoint",
        "offset",
        "partition",
    ];
    let mut random = Random::new(seed);
    let mut text = Vec::with_capacity(length_bytes + 32);
    while text.len() < length_bytes {
        let word = random.pick(&WORDS).copied().unwrap_or_default();
        text.extend_from_slice(word.as_bytes());
        let is_number_next = random.chance(20);
        if is_number_next {
            text.extend_from_slice(format!(" {}", random.below(100_000)).as_bytes());
        }
        text.push(if random.chance(10) { b'\n' } else { b' ' });
    }
    text.truncate(length_bytes);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_follows_from_the_seed_and_has_the_asked_length() {
        for length in [0, 1, 31, 100_000] {
            assert_eq!(random_bytes(7, length), random_bytes(7, length));
            assert_eq!(text_bytes(7, length), text_bytes(7, length));
            assert_eq!(
                (random_bytes(7, length).len(), text_bytes(7, length).len()),
                (length, length)
            );
        }
        assert_ne!(random_bytes(7, 100), random_bytes(8, 100));
        assert_ne!(text_bytes(7, 100), text_bytes(8, 100));
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(3);
        assert!((0..1_000).all(|_| random.below(7) < 7));
        assert_eq!((random.below(0), random.index(0), random.pick::<u8>(&[])), (0, 0, None));
        let hits = (0..1_000).filter(|_| random.chance(20)).count();
        assert!((100..300).contains(&hits), "{hits}");
    }
}
