//! Thirty-two secret bytes that are wiped when dropped and never shown.

use std::fmt;

use model::Entropy;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A key. Wiped when dropped; `Debug` shows nothing of it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The length of every key in bytes.
    pub const LENGTH: usize = 32;

    /// Takes over bytes that are a key already.
    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// Makes a new key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = Self([0; Self::LENGTH]);
        entropy.fill(&mut secret.0);
        secret
    }

    /// Derives the key of one purpose. `context` is a constant of this program that names the purpose,
    /// `input` tells keys of the same purpose apart.
    pub(super) fn derive(&self, context: &'static str, input: &[u8]) -> Self {
        let mut derived = Self([0; Self::LENGTH]);
        self.derive_into(context, input, &mut derived.0);
        derived
    }

    /// Derives two independent keys of one purpose.
    pub(super) fn derive_pair(&self, context: &'static str, input: &[u8]) -> (Self, Self) {
        let mut bytes = zeroize::Zeroizing::new([0; 2 * Self::LENGTH]);
        self.derive_into(context, input, bytes.as_mut());
        let (mut first, mut second) = (Self([0; Self::LENGTH]), Self([0; Self::LENGTH]));
        let (left, right) = bytes.split_at(Self::LENGTH);
        first.0.copy_from_slice(left);
        second.0.copy_from_slice(right);
        (first, second)
    }

    fn derive_into(&self, context: &'static str, input: &[u8], output: &mut [u8]) {
        // The secret has a fixed length, so the border between it and the input is never in doubt.
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.0).update(input);
        hasher.finalize_xof().fill(output);
    }

    /// Lends the bytes.
    pub fn expose(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
