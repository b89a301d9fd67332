//! Randomness as a port.

use std::fmt::Debug;

/// The only way this workspace obtains random bytes.
pub trait Entropy: Debug + Send + Sync {
    /// Fills a buffer with bytes that nobody can guess (in tests: that a seed repeats).
    fn fill(&self, buffer: &mut [u8]);
}
