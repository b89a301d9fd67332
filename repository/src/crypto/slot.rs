//! Wrapping a key ring in a key slot.

use model::{Error, ErrorKind, Result};

use super::{
    Encapsulated, Identity, KeyFile, KeyRing, Passphrase, PassphraseCost, Sealer, Secret, ShareSet,
    Siv,
};
use crate::types::{RepositoryId, WriterId};

/// What a slot is opened with.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// A person's words.
    Passphrase(Passphrase),
    /// A file.
    KeyFile(KeyFile),
    /// Recovery shares, put together.
    Shares(ShareSet),
    /// The secret half of a recipient.
    Identity(Identity),
}

/// How a slot's wrapping key is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SlotLock {
    /// Argon2id of a passphrase.
    Passphrase {
        /// What it costs.
        cost: PassphraseCost,
        /// Makes equal passphrases different keys.
        salt: [u8; 16],
    },
    /// Derived from a key file's secret.
    KeyFile,
    /// Derived from a secret that is split into shares.
    Shares {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// Agreed upon with a recipient.
    Recipient(Encapsulated),
}

/// What a wrapped key ring is bound to: nothing of it can be changed, nor moved to another repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotBinding {
    /// BLAKE3 of the descriptor's bytes.
    pub(crate) descriptor: [u8; 32],
    /// The repository.
    pub(crate) repository: RepositoryId,
    /// The slot.
    pub(crate) slot: WriterId,
    /// How its key is made.
    pub(crate) lock: SlotLock,
}

/// A wrapped key ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrapped {
    pub(crate) siv: Siv,
    pub(crate) text: Vec<u8>,
}

impl SlotBinding {
    /// Wraps a key ring with the slot's key ([`SlotBinding::key`], or what came with a lock for a
    /// recipient).
    ///
    /// # Errors
    /// `Internal` where the cipher fails.
    pub(crate) fn wrap(&self, keys: &KeyRing, key: &Secret) -> Result<Wrapped> {
        let sealer = sealer(key);
        let encoded = keys.encode();
        // Sealed in place: room for the tag keeps the plaintext from being moved and left behind.
        let mut text = Vec::with_capacity(encoded.len() + super::TAG_BYTES);
        text.extend_from_slice(&encoded);
        let siv = sealer.seal(&self.additional_data(), &[], &mut text, 0)?;
        Ok(Wrapped { siv, text })
    }

    /// Unwraps a key ring. Blocks as long as the passphrase's cost says.
    ///
    /// # Errors
    /// `WrongKey` where this key does not open the slot or the slot is not what was put there.
    pub(crate) fn unwrap(&self, wrapped: &Wrapped, unlock: &Unlock) -> Result<KeyRing> {
        let sealer = sealer(&self.key(unlock)?);
        let mut text = zeroize::Zeroizing::new(wrapped.text.clone());
        let encoded = sealer
            .open_committed(WRAP_EPOCH, &self.additional_data(), &wrapped.siv, &mut text)
            .map_err(|_| self.wrong_key())?;
        KeyRing::decode(self.repository, self.slot, encoded)
    }

    /// Makes the slot's key. Blocks as long as the passphrase's cost says.
    ///
    /// # Errors
    /// `WrongKey` where this is of another kind than the slot, or of another slot; as
    /// [`Passphrase::stretch`].
    pub(crate) fn key(&self, unlock: &Unlock) -> Result<Secret> {
        match (&self.lock, unlock) {
            (SlotLock::Passphrase { cost, salt }, Unlock::Passphrase(words)) => {
                words.stretch(*cost, salt)
            }
            (SlotLock::KeyFile, Unlock::KeyFile(file)) if file.slot() == self.slot => {
                Ok(file.secret().clone())
            }
            (SlotLock::Shares { threshold, count }, Unlock::Shares(set))
                if set.slot() == self.slot && set.numbers() == (*threshold, *count) =>
            {
                Ok(set.secret().clone())
            }
            (SlotLock::Recipient(encapsulated), Unlock::Identity(identity)) => {
                identity.decapsulate(encapsulated).ok_or_else(|| self.wrong_key())
            }
            _ => Err(self.wrong_key()),
        }
    }

    fn wrong_key(&self) -> Error {
        Error::new(ErrorKind::WrongKey, "open key slot", self.slot.to_string())
            .detail("this key does not open it")
    }

    /// Says what the ring is bound to. The kind decides what follows it, and how long that is.
    fn additional_data(&self) -> Vec<u8> {
        let (kind, lock) = match &self.lock {
            SlotLock::Passphrase { cost, salt } => (1, passphrase_bytes(*cost, salt)),
            SlotLock::KeyFile => {
                let free = PassphraseCost { memory_kib: 0, passes: 0, lanes: 0 };
                (2, passphrase_bytes(free, &[0; 16]))
            }
            SlotLock::Shares { threshold, count } => (3, vec![*threshold, *count]),
            SlotLock::Recipient(Encapsulated { ephemeral, ciphertext }) => {
                (4, [&ephemeral[..], &ciphertext[..]].concat())
            }
        };
        [&self.descriptor[..], &self.repository.0, &self.slot.0, &[kind], &lock].concat()
    }
}

fn passphrase_bytes(cost: PassphraseCost, salt: &[u8; 16]) -> Vec<u8> {
    let cost = [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_le_bytes).concat();
    [&cost[..], salt].concat()
}

fn sealer(key: &Secret) -> Sealer {
    Sealer::derive((WRAP_EPOCH, key), &[], "lifeboat 2026-11 slot wrap", b"")
}

/// Wrapping keys have no epochs.
const WRAP_EPOCH: u16 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::{Repeatable, ring};

    fn words(text: &str) -> Unlock {
        Unlock::Passphrase(Passphrase::new(text.to_owned()).expect("passphrase"))
    }

    fn binding(lock: SlotLock) -> SlotBinding {
        let (repository, slot) = (RepositoryId([1; 16]), WriterId([1; 16]));
        SlotBinding { descriptor: [9; 32], repository, slot, lock }
    }

    fn passphrase_lock() -> SlotLock {
        SlotLock::Passphrase { cost: PassphraseCost::LEAST, salt: [3; 16] }
    }

    #[test]
    fn golden_wrap() {
        let key = binding(passphrase_lock()).key(&words("a b")).expect("key");
        let wrapped = binding(passphrase_lock()).wrap(&ring(1), &key).expect("wrap");
        assert_eq!(
            crate::types::hex(&wrapped.siv.0),
            "392776986adf7472091632d9a99822e0ef3ede95d22ac3db8a982dbd3ebf80e6"
        );
    }

    #[test]
    fn only_the_right_words_open_a_passphrase_slot() {
        let binding = binding(passphrase_lock());
        let key = binding.key(&words("a b")).expect("key");
        let wrapped = binding.wrap(&ring(1), &key).expect("wrap");
        let opened = binding.unwrap(&wrapped, &words("a b")).expect("unwrap");
        assert_eq!(opened.encode(), ring(1).encode());
        let file = Unlock::KeyFile(KeyFile::generate(&Repeatable::new(1)));
        for wrong in [words("a c"), file] {
            let error = binding.unwrap(&wrapped, &wrong).expect_err("wrong");
            assert_eq!(error.kind(), ErrorKind::WrongKey);
        }
    }

    #[test]
    fn a_slot_is_bound_to_its_repository_its_descriptor_its_id_and_its_lock() {
        let bound = binding(passphrase_lock());
        let key = bound.key(&words("a b")).expect("key");
        let wrapped = bound.wrap(&ring(1), &key).expect("wrap");
        let cost = PassphraseCost { passes: 2, ..PassphraseCost::LEAST };
        for other in [
            SlotBinding { descriptor: [8; 32], ..bound.clone() },
            SlotBinding { repository: RepositoryId([2; 16]), ..bound.clone() },
            SlotBinding { slot: WriterId([2; 16]), ..bound.clone() },
            SlotBinding { lock: SlotLock::Passphrase { cost, salt: [3; 16] }, ..bound.clone() },
            binding(SlotLock::Passphrase { cost: PassphraseCost::LEAST, salt: [4; 16] }),
            binding(SlotLock::KeyFile),
        ] {
            let error = other.unwrap(&wrapped, &words("a b")).expect_err("other binding");
            assert_eq!(error.kind(), ErrorKind::WrongKey, "{other:?}");
        }
    }

    #[test]
    fn a_key_file_opens_its_slot_and_no_other() {
        let file = KeyFile::generate(&Repeatable::new(1));
        let other = Unlock::KeyFile(KeyFile::generate(&Repeatable::new(2)));
        let bound = SlotBinding { slot: file.slot(), ..binding(SlotLock::KeyFile) };
        let key = bound.key(&Unlock::KeyFile(file.clone())).expect("key");
        let wrapped = bound.wrap(&ring(1), &key).expect("wrap");
        let opened = bound.unwrap(&wrapped, &Unlock::KeyFile(file)).expect("unwrap");
        assert_eq!(opened.signer().writer(), bound.slot);
        let error = bound.unwrap(&wrapped, &other).expect_err("other file");
        assert_eq!(error.kind(), ErrorKind::WrongKey);
    }

    #[test]
    fn shares_open_their_slot_and_no_other() {
        let made = |seed| {
            let made = ShareSet::generate(RepositoryId([1; 16]), 2, 3, &Repeatable::new(seed));
            made.expect("shares")
        };
        let (set, shares) = made(1);
        let lock = SlotLock::Shares { threshold: 2, count: 3 };
        let bound = SlotBinding { slot: set.slot(), ..binding(lock) };
        let key = bound.key(&Unlock::Shares(set)).expect("key");
        let wrapped = bound.wrap(&ring(1), &key).expect("wrap");
        let unlock = Unlock::Shares(ShareSet::combine(&shares[1..]).expect("combine"));
        let opened = bound.unwrap(&wrapped, &unlock).expect("unwrap");
        assert_eq!(opened.signer().writer(), bound.slot);
        assert_eq!(wrapped.siv.0[..4], [169, 113, 180, 72], "frozen");
        let lied =
            SlotBinding { lock: SlotLock::Shares { threshold: 3, count: 3 }, ..bound.clone() };
        for (binding, unlock) in [(&bound, Unlock::Shares(made(2).0)), (&lied, unlock)] {
            let error = binding.unwrap(&wrapped, &unlock).expect_err("other");
            assert_eq!(error.kind(), ErrorKind::WrongKey);
        }
    }

    #[test]
    fn an_identity_opens_the_slots_of_its_recipient_and_no_other() {
        let identity = |seed| Identity::generate(&Repeatable::new(seed)).expect("identity");
        let mine = identity(1);
        let locked = mine.recipient().encapsulate(&Repeatable::new(2)).expect("encapsulate");
        let (encapsulated, key) = locked;
        let bound = binding(SlotLock::Recipient(encapsulated.clone()));
        let wrapped = bound.wrap(&ring(1), &key).expect("wrap");
        let opened = bound.unwrap(&wrapped, &Unlock::Identity(mine.clone())).expect("unwrap");
        assert_eq!(opened.encode(), ring(1).encode());
        let bent = |bend: &dyn Fn(&mut Encapsulated)| {
            let mut bent = encapsulated.clone();
            bend(&mut bent);
            binding(SlotLock::Recipient(bent))
        };
        for (binding, unlock) in [
            (&bound, Unlock::Identity(identity(3))),
            (&bound, words("a b")),
            (&bent(&|to| to.ephemeral[5] ^= 1), Unlock::Identity(mine.clone())),
            (&bent(&|to| to.ephemeral = [0; 32]), Unlock::Identity(mine.clone())),
            (&bent(&|to| to.ciphertext[5] ^= 1), Unlock::Identity(mine.clone())),
        ] {
            let error = binding.unwrap(&wrapped, &unlock).expect_err("other");
            assert_eq!(error.kind(), ErrorKind::WrongKey);
        }
    }
}
