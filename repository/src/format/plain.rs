//! Small objects that are read before any key is at hand: the descriptor and the key slots.
//!
//! `header | body | BLAKE3 of all before, 32 bytes`. The checksum finds damage; what finds tampering
//! is that key slots are bound to the descriptor and to themselves.

use model::{Error, ErrorKind, Result};
use prost::Message;

use super::{FeatureFlags, Header, ObjectType};

const CHECKSUM_BYTES: usize = 32;

/// Encodes an object.
pub(crate) fn encode(object_type: ObjectType, body: &impl Message) -> Vec<u8> {
    let mut object = Header::new(object_type).to_bytes().to_vec();
    object.extend_from_slice(&body.encode_to_vec());
    let checksum = blake3::hash(&object);
    object.extend_from_slice(checksum.as_bytes());
    object
}

/// Says whether the checksum of an object holds.
pub(crate) fn is_intact(object: &[u8]) -> bool {
    let parts = object.split_last_chunk::<CHECKSUM_BYTES>();
    parts.is_some_and(|(content, checksum)| blake3::hash(content) == *checksum)
}

/// Decodes an object that was found at a path.
///
/// # Errors
/// As [`Header::split_off`]; `Corrupt` where the checksum does not hold.
pub(crate) fn decode<M: Message + Default>(
    object_type: ObjectType,
    path: &str,
    object: &[u8],
) -> Result<(FeatureFlags, M)> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read object", path);
    let (header, _) = Header::split_off(object, object_type, path)?;
    let (content, checksum) =
        object.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| corrupt().detail("too short"))?;
    if blake3::hash(content) != *checksum {
        return Err(corrupt().detail("its checksum does not hold"));
    }
    let body = content.get(Header::LENGTH..).ok_or_else(|| corrupt().detail("too short"))?;
    let body = M::decode(body).map_err(|error| corrupt().because(error))?;
    Ok((header.flags, body))
}
