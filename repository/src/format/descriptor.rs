//! The descriptor: what a repository is. The first object that a reader gets and the last that the
//! creation of a repository puts.

use model::{Error, ErrorKind, Result, Timestamp};

use super::{FeatureFlags, ObjectType, plain};
use crate::crypto::PublicKey;
use crate::types::RepositoryId;

/// Where the descriptor stands.
pub const DESCRIPTOR_PATH: &str = "lifeboat";

/// The most bytes that a descriptor may have.
pub(crate) const DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;

/// BLAKE3, keyed where it names content.
const HASH_BLAKE3: u32 = 1;
/// AES-256-GCM with a key of its own for each message.
const CIPHER_AES_256_GCM_DERIVED: u32 = 1;

/// What a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name for programs.
    pub id: RepositoryId,
    /// What certifies its writers.
    pub authority: PublicKey,
    /// When it was created, by its creator's clock.
    pub created: Timestamp,
    /// What is needed to use it.
    pub flags: FeatureFlags,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(bytes = "vec", tag = "1")]
    repository_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    authority_key: Vec<u8>,
    #[prost(sint64, tag = "3")]
    created_unix_ns: i64,
    #[prost(uint32, tag = "4")]
    hash: u32,
    #[prost(uint32, tag = "5")]
    cipher: u32,
}

impl Descriptor {
    /// Encodes the descriptor of a new repository.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let record = Record {
            repository_id: self.id.0.to_vec(),
            authority_key: self.authority.0.to_vec(),
            created_unix_ns: self.created.unix_ns,
            hash: HASH_BLAKE3,
            cipher: CIPHER_AES_256_GCM_DERIVED,
        };
        plain::encode(ObjectType::Descriptor, &record)
    }

    /// Decodes a descriptor.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported` where this version cannot read the repository.
    pub(crate) fn decode(object: &[u8]) -> Result<Self> {
        let (flags, record) =
            plain::decode::<Record>(ObjectType::Descriptor, DESCRIPTOR_PATH, object)?;
        for (what, found, known) in [
            ("hash", record.hash, HASH_BLAKE3),
            ("cipher", record.cipher, CIPHER_AES_256_GCM_DERIVED),
        ] {
            if found != known {
                return Err(Error::new(ErrorKind::Unsupported, "read repository", "")
                    .detail(format!("its {what} is number {found}, which is not known")));
            }
        }
        let corrupt = || Error::new(ErrorKind::Corrupt, "read object", DESCRIPTOR_PATH);
        Ok(Self {
            id: RepositoryId(record.repository_id.try_into().map_err(|_| corrupt())?),
            authority: PublicKey(record.authority_key.try_into().map_err(|_| corrupt())?),
            created: Timestamp { unix_ns: record.created_unix_ns },
            flags,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hex;
    use proptest::prelude::*;

    fn descriptor() -> Descriptor {
        Descriptor {
            id: RepositoryId([1; 16]),
            authority: PublicKey([2; 32]),
            created: Timestamp::from_unix_seconds(1_764_000_000),
            flags: FeatureFlags::default(),
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            hex(&descriptor().encode()),
            "4c494645424f41540000010000000000000a100101010101010101010101010101010112200202020202020202020202020202020202020202020202020202020202020202188080d0fceca9fefa3020012801bd4ce391ccc4a69157cc9e758c172f9ccb1a1123d34655198eb9d72d7e604ed7"
        );
        assert_eq!(Descriptor::decode(&descriptor().encode()).expect("decode"), descriptor());
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let object = descriptor().encode();
        for bit in 0..8 * object.len() {
            let mut flipped = object.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let kind = Descriptor::decode(&flipped).expect_err("flipped").kind();
            assert!([ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&kind), "bit {bit}");
        }
        for length in 0..object.len() {
            assert!(Descriptor::decode(&object[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn unknown_algorithms_are_refused() {
        let record = Record { hash: 2, cipher: 1, ..Record::default() };
        let object = plain::encode(ObjectType::Descriptor, &record);
        let error = Descriptor::decode(&object).expect_err("unknown hash");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    proptest! {
        #[test]
        fn random_bodies_are_no_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut object = super::super::Header::new(ObjectType::Descriptor).to_bytes().to_vec();
            object.extend_from_slice(&body);
            let checksum = blake3::hash(&object);
            object.extend_from_slice(checksum.as_bytes());
            let _ = Descriptor::decode(&object);
        }
    }
}
