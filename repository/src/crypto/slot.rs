//! Wrapping a key ring in a key slot.

use model::{Error, ErrorKind, Result};

use super::{KeyFile, KeyRing, Passphrase, PassphraseCost, Sealer, Secret, Siv};
use crate::types::{RepositoryId, WriterId};

/// What a slot is opened with.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// A person's words.
    Passphrase(Passphrase),
    /// A file.
    KeyFile(KeyFile),
}

/// How a slot's wrapping key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// What a wrapped key ring is bound to: nothing of it can be changed, nor moved to another repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Wraps a key ring. Blocks as long as the passphrase's cost says.
    ///
    /// # Errors
    /// `Invalid` where the key is of another kind than the slot; as [`Passphrase::stretch`].
    pub(crate) fn wrap(&self, keys: &KeyRing, unlock: &Unlock) -> Result<Wrapped> {
        let sealer = self.sealer(unlock)?;
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
        let sealer = self.sealer(unlock)?;
        let mut text = zeroize::Zeroizing::new(wrapped.text.clone());
        let encoded = sealer
            .open_committed(WRAP_EPOCH, &self.additional_data(), &wrapped.siv, &mut text)
            .map_err(|_| self.wrong_key())?;
        KeyRing::decode(self.repository, self.slot, encoded)
    }

    fn sealer(&self, unlock: &Unlock) -> Result<Sealer> {
        let key = match (self.lock, unlock) {
            (SlotLock::Passphrase { cost, salt }, Unlock::Passphrase(words)) => {
                words.stretch(cost, &salt)?
            }
            (SlotLock::KeyFile, Unlock::KeyFile(file)) if file.slot() == self.slot => {
                Secret::new(*file.secret().expose())
            }
            _ => return Err(self.wrong_key()),
        };
        Ok(Sealer::derive((WRAP_EPOCH, &key), &[], "lifeboat 2026-11 slot wrap", b""))
    }

    fn wrong_key(&self) -> Error {
        Error::new(ErrorKind::WrongKey, "open key slot", self.slot.to_string())
            .detail("this key does not open it")
    }

    fn additional_data(&self) -> Vec<u8> {
        let (kind, cost, salt) = match self.lock {
            SlotLock::Passphrase { cost, salt } => (1, cost, salt),
            SlotLock::KeyFile => {
                (2, PassphraseCost { memory_kib: 0, passes: 0, lanes: 0 }, [0; 16])
            }
        };
        let cost = [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_le_bytes).concat();
        [&self.descriptor[..], &self.repository.0, &self.slot.0, &[kind], &cost, &salt].concat()
    }
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
        let wrapped = binding(passphrase_lock()).wrap(&ring(1), &words("a b")).expect("wrap");
        assert_eq!(
            crate::types::hex(&wrapped.siv.0),
            "392776986adf7472091632d9a99822e0ef3ede95d22ac3db8a982dbd3ebf80e6"
        );
    }

    #[test]
    fn only_the_right_words_open_a_passphrase_slot() {
        let binding = binding(passphrase_lock());
        let wrapped = binding.wrap(&ring(1), &words("a b")).expect("wrap");
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
        let wrapped = bound.wrap(&ring(1), &words("a b")).expect("wrap");
        let cost = PassphraseCost { passes: 2, ..PassphraseCost::LEAST };
        for other in [
            SlotBinding { descriptor: [8; 32], ..bound },
            SlotBinding { repository: RepositoryId([2; 16]), ..bound },
            SlotBinding { slot: WriterId([2; 16]), ..bound },
            SlotBinding { lock: SlotLock::Passphrase { cost, salt: [3; 16] }, ..bound },
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
        let wrapped = bound.wrap(&ring(1), &Unlock::KeyFile(file.clone())).expect("wrap");
        let opened = bound.unwrap(&wrapped, &Unlock::KeyFile(file)).expect("unwrap");
        assert_eq!(opened.signer().writer(), bound.slot);
        let error = bound.unwrap(&wrapped, &other).expect_err("other file");
        assert_eq!(error.kind(), ErrorKind::WrongKey);
    }
}
