//! Random bytes that repeat, so that a failing run can be run again.

use std::sync::{Mutex, PoisonError};

use blake3::OutputReader;
use model::Entropy;

/// An [`Entropy`] whose bytes follow from a seed and from how many were taken before.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<OutputReader>);

impl SeededEntropy {
    /// Starts the stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(stream("entropy", seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}

/// Starts an endless stream of bytes that follows from a purpose and a seed.
pub(crate) fn stream(purpose: &str, seed: u64) -> OutputReader {
    blake3::Hasher::new_derive_key(&format!("lifeboat testkit {purpose}"))
        .update(&seed.to_le_bytes())
        .finalize_xof()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(entropy: &SeededEntropy) -> [u8; 16] {
        let mut buffer = [0; 16];
        entropy.fill(&mut buffer);
        buffer
    }

    #[test]
    fn a_seed_repeats_and_a_stream_does_not() {
        let (one, same, other) =
            (SeededEntropy::new(1), SeededEntropy::new(1), SeededEntropy::new(2));
        let first = take(&one);
        assert_eq!(first, take(&same));
        assert_ne!(first, take(&one));
        assert_ne!(first, take(&other));
    }
}
