//! Key slots as stored.

use model::{Error, ErrorKind, Result};

use super::{ObjectType, plain};
use crate::crypto::{Encapsulated, PassphraseCost, Siv, SlotBinding, SlotLock, Wrapped};
use crate::types::{RepositoryId, WriterId};

/// The most bytes that a key slot may have.
pub(crate) const KEY_SLOT_BYTES_MAX: u64 = 1 << 20;

/// Returns where a slot stands.
pub(crate) fn key_slot_path(slot: WriterId) -> String {
    format!("key/{slot}")
}

/// A slot: a wrapped key ring and what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySlot {
    pub(crate) binding: SlotBinding,
    pub(crate) wrapped: Wrapped,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(bytes = "vec", tag = "1")]
    descriptor_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    repository_id: Vec<u8>,
    #[prost(oneof = "Lock", tags = "3, 4, 7, 8")]
    lock: Option<Lock>,
    #[prost(bytes = "vec", tag = "5")]
    siv: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    wrapped_ring: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
enum Lock {
    #[prost(message, tag = "3")]
    Argon2id(Argon2id),
    #[prost(message, tag = "4")]
    KeyFile(KeyFile),
    #[prost(message, tag = "7")]
    Shares(Shares),
    #[prost(message, tag = "8")]
    Recipient(Recipient),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Argon2id {
    #[prost(uint32, tag = "1")]
    memory_kib: u32,
    #[prost(uint32, tag = "2")]
    passes: u32,
    #[prost(uint32, tag = "3")]
    lanes: u32,
    #[prost(bytes = "vec", tag = "4")]
    salt: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct KeyFile {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Shares {
    #[prost(uint32, tag = "1")]
    threshold: u32,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Recipient {
    #[prost(bytes = "vec", tag = "1")]
    ephemeral: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    ciphertext: Vec<u8>,
}

impl KeySlot {
    /// Encodes the slot.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let lock = match &self.binding.lock {
            SlotLock::Passphrase { cost, salt } => Lock::Argon2id(Argon2id {
                memory_kib: cost.memory_kib,
                passes: cost.passes,
                lanes: cost.lanes,
                salt: salt.to_vec(),
            }),
            SlotLock::KeyFile => Lock::KeyFile(KeyFile {}),
            SlotLock::Shares { threshold, count } => {
                Lock::Shares(Shares { threshold: u32::from(*threshold), count: u32::from(*count) })
            }
            SlotLock::Recipient(Encapsulated { ephemeral, ciphertext }) => {
                let (ephemeral, ciphertext) = (ephemeral.to_vec(), ciphertext.to_vec());
                Lock::Recipient(Recipient { ephemeral, ciphertext })
            }
        };
        let record = Record {
            descriptor_hash: self.binding.descriptor.to_vec(),
            repository_id: self.binding.repository.0.to_vec(),
            lock: Some(lock),
            siv: self.wrapped.siv.0.to_vec(),
            wrapped_ring: self.wrapped.text.clone(),
        };
        plain::encode(ObjectType::KeySlot, &record)
    }

    /// Decodes the slot that was found under an id.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported` where it is of a later version or of an unknown kind.
    pub(crate) fn decode(slot: WriterId, object: &[u8]) -> Result<Self> {
        let path = key_slot_path(slot);
        let (_, record) = plain::decode::<Record>(ObjectType::KeySlot, &path, object)?;
        let corrupt = || Error::new(ErrorKind::Corrupt, "read key slot", &path);
        let lock = match record.lock {
            Some(Lock::Argon2id(argon2id)) => read_argon2id(argon2id).ok_or_else(corrupt)?,
            Some(Lock::KeyFile(_)) => SlotLock::KeyFile,
            Some(Lock::Shares(shares)) => read_shares(&shares).ok_or_else(corrupt)?,
            Some(Lock::Recipient(recipient)) => read_recipient(recipient).ok_or_else(corrupt)?,
            None => {
                return Err(Error::new(ErrorKind::Unsupported, "read key slot", &path)
                    .detail("it is of a kind that is not known"));
            }
        };
        let repository = RepositoryId(record.repository_id.try_into().map_err(|_| corrupt())?);
        let descriptor = record.descriptor_hash.try_into().map_err(|_| corrupt())?;
        let siv = Siv(record.siv.try_into().map_err(|_| corrupt())?);
        Ok(Self {
            binding: SlotBinding { descriptor, repository, slot, lock },
            wrapped: Wrapped { siv, text: record.wrapped_ring },
        })
    }
}

fn read_argon2id(argon2id: Argon2id) -> Option<SlotLock> {
    let Argon2id { memory_kib, passes, lanes, salt } = argon2id;
    let cost = PassphraseCost { memory_kib, passes, lanes };
    let salt = salt.try_into().ok()?;
    cost.is_sane().then_some(SlotLock::Passphrase { cost, salt })
}

fn read_shares(shares: &Shares) -> Option<SlotLock> {
    let threshold = u8::try_from(shares.threshold).ok()?;
    let count = u8::try_from(shares.count).ok()?;
    (2 <= threshold && threshold <= count).then_some(SlotLock::Shares { threshold, count })
}

fn read_recipient(recipient: Recipient) -> Option<SlotLock> {
    let ephemeral = recipient.ephemeral.try_into().ok()?;
    let ciphertext = recipient.ciphertext.into_boxed_slice().try_into().ok()?;
    Some(SlotLock::Recipient(Encapsulated { ephemeral, ciphertext }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hex;
    use proptest::prelude::*;

    fn slot(lock: SlotLock) -> KeySlot {
        let (repository, slot) = (RepositoryId([1; 16]), WriterId([2; 16]));
        KeySlot {
            binding: SlotBinding { descriptor: [3; 32], repository, slot, lock },
            wrapped: Wrapped { siv: Siv([4; 32]), text: vec![5; 20] },
        }
    }

    fn passphrase(cost: PassphraseCost) -> KeySlot {
        slot(SlotLock::Passphrase { cost, salt: [6; 16] })
    }

    #[test]
    fn golden_bytes() {
        let slots = [passphrase(PassphraseCost::DEFAULT), slot(SlotLock::KeyFile)];
        assert_eq!(
            slots.clone().map(|slot| hex(&slot.encode())),
            [
                "4c494645424f41540000020000000000000a2003030303030303030303030303030303030303030303030303030303030303031210010101010101010101010101010101011a1a08808010100318012210060606060606060606060606060606062a20040404040404040404040404040404040404040404040404040404040404040432140505050505050505050505050505050505050505a6acfeef19b521d97d27bc9602295cbca3ad166041afa9e334911c98cd36a2c9",
                "4c494645424f41540000020000000000000a20030303030303030303030303030303030303030303030303030303030303030312100101010101010101010101010101010122002a20040404040404040404040404040404040404040404040404040404040404040432140505050505050505050505050505050505050505edab38e62da5089758f9bdc30414bf7a8647dbf1202f2e565114c4dd7dbe55d0"
            ]
        );
        for slot in slots {
            assert_eq!(KeySlot::decode(WriterId([2; 16]), &slot.encode()).expect("decode"), slot);
        }
    }

    #[test]
    fn later_kinds_have_golden_bytes_too() {
        let encapsulated = Encapsulated { ephemeral: [7; 32], ciphertext: Box::new([8; 1088]) };
        let slots = [
            slot(SlotLock::Shares { threshold: 3, count: 5 }),
            slot(SlotLock::Recipient(encapsulated)),
        ];
        assert_eq!(
            slots.clone().map(|slot| blake3::hash(&slot.encode()).to_hex()[..32].to_owned()),
            ["5ab67264330acbe4938eb803d8d43afb", "e3920acb290cea7a4f89ad3036e037ca"]
        );
        for slot in slots {
            assert_eq!(KeySlot::decode(WriterId([2; 16]), &slot.encode()).expect("decode"), slot);
        }
    }

    /// Frozen as a file: what was agreed upon with ML-KEM cannot be made twice. `testdata/recipient-0` has an
    /// identity and a slot that was made for it.
    #[test]
    fn a_slot_of_another_day_opens_by_its_identity() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recipient-0");
        let identity = crate::crypto::Identity::load(&folder.join("identity")).expect("identity");
        let id = "e61098e485de914015b5d044b30eefa5".parse().expect("id");
        let object = std::fs::read(folder.join("slot")).expect("slot");
        let slot = KeySlot::decode(id, &object).expect("decode");
        assert_eq!(slot.encode(), object);
        let unlock = crate::crypto::Unlock::Identity(identity);
        let keys = slot.binding.unwrap(&slot.wrapped, &unlock).expect("unwrap");
        assert_eq!(keys.repository().to_string(), "97cc9468affc4197a31890f5782d5e61");
        let authority = keys.authority().expect("full").public_key();
        assert_eq!(
            hex(&authority.0),
            "9847f83a66cfbac4f75eda714d6177ec64344c597e37dd3cccf77ff47388383b"
        );
    }

    #[test]
    fn locks_that_make_no_sense_are_refused() {
        for (threshold, count) in [(1, 5), (0, 0), (6, 5)] {
            let object = slot(SlotLock::Shares { threshold, count }).encode();
            let error = KeySlot::decode(WriterId([2; 16]), &object).expect_err("no sense");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        for (ephemeral, ciphertext) in [(31, 1088), (33, 1088), (32, 1087), (32, 1089), (0, 0)] {
            let lock = Lock::Recipient(Recipient {
                ephemeral: vec![7; ephemeral],
                ciphertext: vec![8; ciphertext],
            });
            let record = Record {
                descriptor_hash: vec![3; 32],
                repository_id: vec![1; 16],
                lock: Some(lock),
                siv: vec![4; 32],
                wrapped_ring: vec![5; 20],
            };
            let object = plain::encode(ObjectType::KeySlot, &record);
            let error = KeySlot::decode(WriterId([2; 16]), &object).expect_err("no sense");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_slot_that_would_cost_too_much_is_refused() {
        let cost = PassphraseCost { memory_kib: 2 << 20, ..PassphraseCost::DEFAULT };
        let error = KeySlot::decode(WriterId([2; 16]), &passphrase(cost).encode());
        assert_eq!(error.expect_err("too dear").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let object = passphrase(PassphraseCost::LEAST).encode();
        for bit in 0..8 * object.len() {
            let mut flipped = object.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = KeySlot::decode(WriterId([2; 16]), &flipped).expect_err("flipped");
            assert!([ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind()), "{bit}");
        }
        for length in 0..object.len() {
            assert!(KeySlot::decode(WriterId([2; 16]), &object[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn random_bodies_are_no_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut object = super::super::Header::new(ObjectType::KeySlot).to_bytes().to_vec();
            object.extend_from_slice(&body);
            let checksum = blake3::hash(&object);
            object.extend_from_slice(checksum.as_bytes());
            let _ = KeySlot::decode(WriterId([0; 16]), &object);
        }
    }
}
