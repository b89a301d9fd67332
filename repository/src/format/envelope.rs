//! Small objects: sealed, bound to what they are, and where it matters signed.
//!
//! `header | key epoch u16 | siv 32 | ciphertext | tag 16`. What seals an object also names its
//! repository, its type, its path, its version and its flags, so that a store that hands out one
//! object for another is found out.

use model::{Error, ErrorKind, Result};
use prost::Message as _;

use super::{Header, ObjectType};
use crate::crypto::{KeyRing, PublicKey, Siv, TAG_BYTES};
use crate::types::{RepositoryId, WriterId};

/// How much longer a sealed object is than its plaintext, in bytes.
pub const OVERHEAD_BYTES: usize = Header::LENGTH + 2 + 32 + TAG_BYTES;

const SIGNATURE_CONTEXT: &[u8] = b"lifeboat 2026-11 signed object";

/// A body with the signature of its writer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    writer: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
}

/// Seals an object for the path that it will stand at.
///
/// # Errors
/// `Internal` where the cipher fails.
pub fn seal_object(
    keys: &KeyRing,
    object_type: ObjectType,
    path: &str,
    plaintext: &[u8],
) -> Result<Vec<u8>> {
    let header = Header::new(object_type);
    let epoch = keys.objects().epoch();
    let mut text = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    text.extend_from_slice(plaintext);
    let aad = additional_data(keys.repository(), header, epoch, path);
    let siv = keys.objects().seal(&aad, &[], &mut text, 0)?;
    let mut object = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
    object.extend_from_slice(&header.to_bytes());
    object.extend_from_slice(&epoch.to_le_bytes());
    object.extend_from_slice(&siv.0);
    object.append(&mut text);
    Ok(object)
}

/// Opens an object that was found at a path.
///
/// # Errors
/// `Corrupt` where it is not what was put there; `Unsupported` where it is of another version.
pub fn open_object(
    keys: &KeyRing,
    object_type: ObjectType,
    path: &str,
    object: &[u8],
) -> Result<Vec<u8>> {
    let (header, rest) = Header::split_off(object, object_type, path)?;
    let too_short = || Error::new(ErrorKind::Corrupt, "read object", path).detail("too short");
    let (epoch, rest) = rest.split_first_chunk().ok_or_else(too_short)?;
    let (siv, text) = rest.split_first_chunk().ok_or_else(too_short)?;
    let epoch = u16::from_le_bytes(*epoch);
    let aad = additional_data(keys.repository(), header, epoch, path);
    let mut plaintext = text.to_vec();
    let length = keys
        .objects()
        .open_committed(epoch, &aad, &Siv(*siv), &mut plaintext)
        .map_err(|error| Error::new(error.kind(), "open object", path).because(error))?
        .len();
    plaintext.truncate(length);
    Ok(plaintext)
}

/// Signs a body as this key ring's writer, then seals it.
///
/// # Errors
/// `Internal` where the cipher fails.
pub fn seal_signed(
    keys: &KeyRing,
    object_type: ObjectType,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>> {
    seal_signed_by(keys, keys.signer(), object_type, path, body)
}

pub(crate) fn seal_signed_by(
    keys: &KeyRing,
    signer: &crate::crypto::Signer,
    object_type: ObjectType,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>> {
    let message = signed_message(keys.repository(), object_type, path, &body);
    let signed = Signed {
        writer: signer.writer().0.to_vec(),
        signature: signer.sign(&message).to_vec(),
        body,
    };
    seal_object(keys, object_type, path, &signed.encode_to_vec())
}

/// Opens a signed object, without having checked the signature yet.
///
/// # Errors
/// As [`open_object`].
pub fn open_unverified(
    keys: &KeyRing,
    object_type: ObjectType,
    path: &str,
    object: &[u8],
) -> Result<Unverified> {
    let plaintext = open_object(keys, object_type, path, object)?;
    let corrupt = || Error::new(ErrorKind::Corrupt, "read signed object", path);
    let signed = Signed::decode(&plaintext[..]).map_err(|error| corrupt().because(error))?;
    let writer = WriterId(signed.writer[..].try_into().map_err(|_| corrupt())?);
    let Signed { signature, body, .. } = signed;
    let path = path.to_owned();
    Ok(Unverified { repository: keys.repository(), object_type, path, writer, signature, body })
}

/// A signed body whose signature has to be checked before it can be had.
#[derive(Debug)]
pub struct Unverified {
    repository: RepositoryId,
    object_type: ObjectType,
    path: String,
    writer: WriterId,
    signature: Vec<u8>,
    body: Vec<u8>,
}

impl Unverified {
    /// Says who claims to have signed it.
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// Checks the signature with the claimed writer's key and gives out the body.
    ///
    /// # Errors
    /// `Corrupt` where that writer did not sign it.
    pub fn verify(self, key: &PublicKey) -> Result<SignedBody> {
        let message = signed_message(self.repository, self.object_type, &self.path, &self.body);
        key.verify(&message, &self.signature).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "verify signature of", &self.path)
                .detail(format!("writer {} did not sign it", self.writer))
                .because(error)
        })?;
        Ok(SignedBody { writer: self.writer, body: self.body })
    }
}

/// A body whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBody {
    /// Who signed it.
    pub writer: WriterId,
    /// What was signed.
    pub body: Vec<u8>,
}

fn additional_data(repository: RepositoryId, header: Header, epoch: u16, path: &str) -> Vec<u8> {
    // Only the path varies in length, and it comes last.
    [&repository.0[..], &header.to_bytes(), &epoch.to_le_bytes(), path.as_bytes()].concat()
}

fn signed_message(
    repository: RepositoryId,
    object_type: ObjectType,
    path: &str,
    body: &[u8],
) -> Vec<u8> {
    let path_length = (path.len() as u64).to_le_bytes();
    let object_type = [object_type as u8];
    [SIGNATURE_CONTEXT, &repository.0, &object_type, &path_length, path.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::ring;
    use crate::types::hex;
    use proptest::prelude::*;

    const PATH: &str = "mark/pin/x";
    const GOLDEN: [&str; 2] = [
        "4c494645424f415400000a0000000000000100b834b6968e644ba005359401773ce93d460d34e7c4972aab6df05cded0c578ae3833ad2018ff7a942329f34d0ed36019991f040c",
        "4c494645424f415400000a00000000000001000ba6e3aec7b1caffc0a46085997ebf4ebfa911cfab4566e79efed5fafa667a813c4ee04159af80b1bf3cba66c696d2fb8283869f77190ade1296ead7d05b5c0a8dfed45c21f74ed2bab3718c3f8aa94e0838bcef85b1b0b18ad3820c78d8d11f05233b12b62e40295ffb0a7320f59151e24cccb31b0e221c51fd5c6b8f8963da3768f823a8a55751f87c",
    ];

    #[test]
    fn golden_bytes() {
        let sealed = seal_object(&ring(1), ObjectType::Mark, PATH, b"body").expect("seal");
        let signed = seal_signed(&ring(1), ObjectType::Mark, PATH, b"body".to_vec()).expect("seal");
        assert_eq!([hex(&sealed), hex(&signed)], GOLDEN);
    }

    #[test]
    fn an_object_opens_only_as_what_it_is() {
        let keys = ring(1);
        let object = seal_object(&keys, ObjectType::Mark, PATH, b"body").expect("seal");
        assert_eq!(object.len(), OVERHEAD_BYTES + 4);
        let open = |keys: &KeyRing, object_type, path: &str| {
            open_object(keys, object_type, path, &object).map_err(|error| error.kind())
        };
        assert_eq!(open(&keys, ObjectType::Mark, PATH), Ok(b"body".to_vec()));
        assert_eq!(open(&keys, ObjectType::Point, PATH), Err(ErrorKind::Corrupt));
        assert_eq!(open(&keys, ObjectType::Mark, "mark/pin/y"), Err(ErrorKind::Corrupt));
        assert_eq!(open(&ring(2), ObjectType::Mark, PATH), Err(ErrorKind::Corrupt));
    }

    #[test]
    fn another_version_or_a_needed_feature_is_refused_by_name() {
        let keys = ring(1);
        let object = seal_object(&keys, ObjectType::Mark, PATH, b"body").expect("seal");
        for offset in [8, 11] {
            let mut newer = object.clone();
            newer[offset] += 1;
            let error = open_object(&keys, ObjectType::Mark, PATH, &newer).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let keys = ring(1);
        let object = seal_signed(&keys, ObjectType::Mark, PATH, b"body".to_vec()).expect("seal");
        for bit in 0..8 * object.len() {
            let mut flipped = object.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = open_unverified(&keys, ObjectType::Mark, PATH, &flipped).expect_err("flip");
            // A flipped bit may look like another version or key epoch.
            let kinds = [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::WrongKey];
            assert!(kinds.contains(&error.kind()), "bit {bit}: {error:?}");
        }
        for length in 0..object.len() {
            assert!(open_unverified(&keys, ObjectType::Mark, PATH, &object[..length]).is_err());
        }
    }

    #[test]
    fn only_the_writers_own_signature_counts() {
        let (keys, other) = (ring(1), ring(2));
        let open =
            |object: &[u8]| open_unverified(&keys, ObjectType::Mark, PATH, object).expect("open");
        let object = seal_signed(&keys, ObjectType::Mark, PATH, b"body".to_vec()).expect("seal");
        let signed = open(&object).verify(&keys.signer().public_key()).expect("verify");
        assert_eq!((signed.writer, &signed.body[..]), (keys.signer().writer(), &b"body"[..]));
        let error = open(&object).verify(&other.signer().public_key()).expect_err("other key");
        assert_eq!(error.kind(), ErrorKind::Corrupt);

        // Whoever holds the object key can seal, but not sign for another writer or another place.
        let message = signed_message(keys.repository(), ObjectType::Mark, "mark/pin/y", b"body");
        let forged = Signed {
            writer: keys.signer().writer().0.to_vec(),
            signature: keys.signer().sign(&message).to_vec(),
            body: b"body".to_vec(),
        };
        let object = seal_object(&keys, ObjectType::Mark, PATH, &forged.encode_to_vec());
        let error = open(&object.expect("seal")).verify(&keys.signer().public_key());
        assert_eq!(error.expect_err("other place").kind(), ErrorKind::Corrupt);
    }

    proptest! {
        #[test]
        fn random_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open_object(&ring(1), ObjectType::Mark, PATH, &bytes).is_err());
            let sealed = seal_object(&ring(1), ObjectType::Mark, PATH, &bytes).expect("seal");
            let _ = open_unverified(&ring(1), ObjectType::Mark, PATH, &sealed);
            prop_assert_eq!(
                open_object(&ring(1), ObjectType::Mark, PATH, &sealed).expect("open"), bytes
            );
        }
    }
}
