//! Attributes of an item: a small sorted map from tags to bytes in one canonical buffer.
//!
//! A tree of a billion items is compared and stored by these bytes, so they are encoded once, at
//! the source, and never parsed where equality is enough. Encoding: for each attribute in ascending
//! tag order `tag: LEB128 | length: LEB128 | value`.

use std::fmt;

use bytes::Bytes;

use crate::{Error, ErrorKind, Result};

/// What an attribute means. Tags below 64 are common to all kinds and are listed here; a kind of
/// system numbers its own from 64. A tag is never given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeTag(pub u32);

impl AttributeTag {
    /// Permission bits with set-uid, set-gid and sticky (an unsigned number, 12 bits).
    pub const MODE: Self = Self(1);
    /// Numeric owner (an unsigned number).
    pub const USER_ID: Self = Self(2);
    /// Numeric group (an unsigned number).
    pub const GROUP_ID: Self = Self(3);
    /// Owner's name at the source, as bytes.
    pub const USER_NAME: Self = Self(4);
    /// Group's name at the source, as bytes.
    pub const GROUP_NAME: Self = Self(5);
    /// Time of the last change of content: nanoseconds since 1970 (a signed number).
    pub const MODIFIED_NS: Self = Self(6);
    /// Where a symbolic link points, as bytes; for a hard link the key of the item it is a name of.
    pub const LINK_TARGET: Self = Self(7);
    /// Extended attributes, POSIX ACLs among them: `name length u16le | name | value length u32le | value`, by name.
    pub const EXTENDED: Self = Self(8);
    /// The item changed each time it was read; its content is the last reading (the number 1).
    pub const INCONSISTENT: Self = Self(9);
    /// The first tag that a kind of system may define for itself.
    pub const FIRST_OWN: Self = Self(64);
}

/// Attributes in their canonical encoding. Equal maps have equal bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Attributes(Bytes);

impl Attributes {
    /// The most bytes that the attributes of one item may have.
    pub const LENGTH_MAX: usize = 1 << 20;

    /// Starts an empty map.
    pub fn builder() -> AttributesBuilder {
        AttributesBuilder::default()
    }

    /// Checks bytes that claim to be attributes.
    ///
    /// # Errors
    /// `Corrupt` where they are not in the canonical encoding.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        let attributes = Self(bytes.into());
        let mut rest: &[u8] = &attributes.0;
        let mut previous = None;
        let is_short = rest.len() <= Self::LENGTH_MAX;
        while is_short && !rest.is_empty() {
            match split_attribute(rest) {
                Some((tag, _, tail)) if previous.is_none_or(|p| p < tag) => {
                    (previous, rest) = (Some(tag), tail)
                }
                _ => break,
            }
        }
        if !is_short || !rest.is_empty() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "read attributes",
                format!("{attributes:?}"),
            ));
        }
        Ok(attributes)
    }

    /// Returns the canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lists the attributes in tag order.
    pub fn iter(&self) -> impl Iterator<Item = (AttributeTag, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (tag, value, tail) = split_attribute(rest)?;
            rest = tail;
            Some((tag, value))
        })
    }

    /// Returns one attribute's bytes.
    pub fn get(&self, tag: AttributeTag) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Returns one attribute as an unsigned number; none where it is absent or no number.
    pub fn unsigned(&self, tag: AttributeTag) -> Option<u64> {
        let value = self.get(tag)?;
        let mut bytes = [0; 8];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(u64::from_le_bytes(bytes))
    }

    /// Returns one attribute as a signed number; none where it is absent or no number.
    pub fn signed(&self, tag: AttributeTag) -> Option<i64> {
        // Zigzag, as in Protocol Buffers, keeps small magnitudes short.
        self.unsigned(tag).map(|n| (n >> 1).cast_signed() ^ -((n & 1).cast_signed()))
    }

    /// Returns the same map without some tags.
    #[must_use]
    pub fn without(&self, tags: &[AttributeTag]) -> Self {
        let mut builder = Self::builder();
        for (tag, value) in self.iter().filter(|(tag, _)| !tags.contains(tag)) {
            builder = builder.bytes(tag, value);
        }
        builder.build()
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(tag, value)| (tag.0, value.escape_ascii().to_string())))
            .finish()
    }
}

/// Collects attributes in any order; a tag set twice keeps the last value.
#[derive(Debug, Default)]
pub struct AttributesBuilder(Vec<(AttributeTag, Vec<u8>)>);

impl AttributesBuilder {
    /// Sets an attribute to bytes.
    #[must_use]
    pub fn bytes(mut self, tag: AttributeTag, value: &[u8]) -> Self {
        self.0.retain(|(present, _)| *present != tag);
        self.0.push((tag, value.to_vec()));
        self
    }

    /// Sets an attribute to an unsigned number (little-endian without trailing zero bytes).
    #[must_use]
    pub fn unsigned(self, tag: AttributeTag, value: u64) -> Self {
        let bytes = value.to_le_bytes();
        let length = 8 - value.leading_zeros() as usize / 8;
        self.bytes(tag, bytes.get(..length).unwrap_or_default())
    }

    /// Sets an attribute to a signed number.
    #[must_use]
    pub fn signed(self, tag: AttributeTag, value: i64) -> Self {
        self.unsigned(tag, ((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// Encodes the map.
    pub fn build(mut self) -> Attributes {
        self.0.sort_by_key(|(tag, _)| *tag);
        let mut bytes = Vec::with_capacity(self.0.iter().map(|(_, value)| value.len() + 4).sum());
        for (tag, value) in &self.0 {
            push_leb128(&mut bytes, tag.0);
            push_leb128(&mut bytes, u32::try_from(value.len()).unwrap_or(u32::MAX));
            bytes.extend_from_slice(value);
        }
        Attributes(bytes.into())
    }
}

fn push_leb128(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads the shortest form only, so that equal maps have equal bytes.
fn take_leb128(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0_u32;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        let bits = u32::from(byte & 0x7f);
        number |= bits.checked_shl(7 * index as u32).filter(|n| n >> (7 * index) == bits)?;
        if byte & 0x80 == 0 {
            return if *byte == 0 && index > 0 {
                None
            } else {
                Some((number, bytes.get(index + 1..)?))
            };
        }
    }
    None
}

fn split_attribute(bytes: &[u8]) -> Option<(AttributeTag, &[u8], &[u8])> {
    let (tag, rest) = take_leb128(bytes)?;
    let (length, rest) = take_leb128(rest)?;
    let (value, rest) = rest.split_at_checked(length as usize)?;
    Some((AttributeTag(tag), value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let attributes = Attributes::builder()
            .signed(AttributeTag::MODIFIED_NS, -2)
            .unsigned(AttributeTag::MODE, 0o644)
            .unsigned(AttributeTag::USER_ID, 0)
            .bytes(AttributeTag(300), b"xy")
            .build();
        assert_eq!(attributes.as_bytes(), b"\x01\x02\xa4\x01\x02\x00\x06\x01\x03\xac\x02\x02xy");
        assert_eq!(attributes.unsigned(AttributeTag::MODE), Some(0o644));
        assert_eq!(attributes.unsigned(AttributeTag::USER_ID), Some(0));
        assert_eq!(attributes.signed(AttributeTag::MODIFIED_NS), Some(-2));
        assert_eq!(attributes.get(AttributeTag(300)), Some(&b"xy"[..]));
        assert_eq!(attributes.get(AttributeTag::GROUP_ID), None);
    }

    #[test]
    fn numbers_survive() {
        for number in [0, 1, -1, 255, 256, i64::MAX, i64::MIN, 1_763_600_000_123_456_789] {
            let attributes =
                Attributes::builder().signed(AttributeTag::MODIFIED_NS, number).build();
            assert_eq!(attributes.signed(AttributeTag::MODIFIED_NS), Some(number));
        }
        let attributes = Attributes::builder().unsigned(AttributeTag::MODE, u64::MAX).build();
        assert_eq!(attributes.unsigned(AttributeTag::MODE), Some(u64::MAX));
    }

    #[test]
    fn only_the_canonical_encoding_is_read() {
        let refused: [&[u8]; 6] = [
            b"\x01",
            b"\x01\x05ab",
            b"\x02\x00\x01\x00",
            b"\x01\x00\x01\x00",
            b"\x81\x00\x00",
            b"\xff\xff\xff\xff\xff\x00",
        ];
        for bytes in refused {
            assert!(Attributes::from_bytes(bytes).is_err(), "{bytes:?}");
        }
        assert!(Attributes::from_bytes(&b"\x01\x00\x02\x01z"[..]).is_ok());
    }
}
