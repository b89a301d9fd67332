//! Keys: what is derived from what, the one sealing construction, signatures and key slots.
//!
//! Everything secret in a repository hangs on one 32-byte root per key epoch. Every use of a key has
//! a derivation of its own, so that no two purposes, domains or epochs ever share key material, and
//! a narrower role can later be given some of the derived keys without the root. The argument for
//! the construction stands in `docs/security.md`.

mod domain;
mod key_file;
mod passphrase;
mod recipient;
mod ring;
mod seal;
mod secret;
mod shares;
mod sign;
mod slot;

pub use domain::{ChunkHasher, DEFAULT_DOMAIN, DomainKeys};
pub use key_file::KeyFile;
pub use passphrase::{Passphrase, PassphraseCost};
pub(crate) use recipient::Encapsulated;
pub use recipient::{Identity, Recipient};
pub use ring::{KeyRing, KeyRole};
pub use seal::{Sealer, Siv, TAG_BYTES};
pub use secret::Secret;
pub use shares::{Share, ShareSet};
pub use sign::{PublicKey, Signer};
pub use slot::Unlock;
pub(crate) use slot::{SlotBinding, SlotLock, Wrapped};

/// Keys for tests of the whole crate.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::atomic::{AtomicU64, Ordering};

    use model::Entropy;

    use super::KeyRing;
    use crate::types::{RepositoryId, WriterId};

    /// Random bytes that a seed repeats.
    #[derive(Debug)]
    pub(crate) struct Repeatable {
        seed: u64,
        count: AtomicU64,
    }

    impl Repeatable {
        pub(crate) fn new(seed: u64) -> Self {
            Self { seed, count: AtomicU64::new(0) }
        }
    }

    impl Entropy for Repeatable {
        fn fill(&self, buffer: &mut [u8]) {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.seed.to_le_bytes()).update(&count.to_le_bytes());
            hasher.finalize_xof().fill(buffer);
        }
    }

    /// Makes the key ring of the repository and writer number `n`.
    pub(crate) fn ring(n: u8) -> KeyRing {
        let (repository, writer) = (RepositoryId([n; 16]), WriterId([n; 16]));
        KeyRing::generate(repository, writer, &Repeatable::new(n.into())).expect("keys")
    }
}
