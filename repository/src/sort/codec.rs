//! Items as bytes. They live as long as one sort: no other program ever reads them.
//!
//! `key | kind u8 | version | attributes | count of extents | extents`, the key in front so that runs
//! are merged without decoding anything else. Strings stand behind their lengths.

use bytes::Bytes;
use model::{
    Attributes, Extent, ExtentBody, ExtentIdentity, Item, ItemKey, ItemKind, StripeChecksums,
    Version,
};

use crate::tree::codec::{Input, put_bytes, put_number, put_optional};

const SHAPE_DATA: u8 = 1;
const SHAPE_IDENTITY: u8 = 2;
const SHAPE_CHECKSUMS: u8 = 4;

/// Appends an item.
pub(super) fn encode(item: &Item, output: &mut Vec<u8>) {
    let Item { key, kind, attributes, version, extents } = item;
    put_bytes(output, key.as_bytes());
    output.push(*kind as u8);
    put_optional(output, version.as_ref().map(|version| version.0.as_ref()));
    put_bytes(output, attributes.as_bytes());
    put_number(output, extents.len() as u64);
    for extent in extents {
        encode_extent(extent, output);
    }
}

fn encode_extent(extent: &Extent, output: &mut Vec<u8>) {
    let ExtentBody::Data { identity, checksums } = &extent.body else {
        output.push(0);
        put_number(output, extent.length_bytes);
        return;
    };
    let flag = |is_set, bit| if is_set { bit } else { 0 };
    output.push(
        SHAPE_DATA
            | flag(identity.is_some(), SHAPE_IDENTITY)
            | flag(checksums.is_some(), SHAPE_CHECKSUMS),
    );
    put_number(output, extent.length_bytes);
    if let Some(identity) = identity {
        put_bytes(output, &identity.0);
    }
    if let Some(checksums) = checksums {
        put_number(output, checksums.stripe_bytes.into());
        put_number(output, checksums.crc32c.len() as u64);
        output.extend(checksums.crc32c.iter().flat_map(|crc| crc.to_le_bytes()));
    }
}

/// Returns where a key of this length begins in its item's bytes.
pub(super) fn key_start(key_length: usize) -> usize {
    // Keys have at most 65,535 bytes, whose length is written in at most three.
    match key_length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

/// Returns the key of an encoded item.
pub(super) fn key_of(entry: &Bytes) -> Option<Bytes> {
    Input::new(entry).bytes()
}

/// Reads an item; none where the bytes are none.
pub(super) fn decode(entry: &Bytes) -> Option<Item> {
    let mut input = Input::new(entry);
    let input = &mut input;
    let key = ItemKey::from_bytes(input.bytes()?).ok()?;
    let kind = ItemKind::from_number(input.byte()?)?;
    let version = input.optional()?.map(Version);
    let attributes = Attributes::from_bytes(input.bytes()?).ok()?;
    let count = input.length().filter(|count| *count <= input.remaining())?;
    let extents = (0..count).map(|_| decode_extent(input)).collect::<Option<_>>()?;
    input.is_empty().then_some(Item { key, kind, attributes, version, extents })
}

fn decode_extent(input: &mut Input<'_>) -> Option<Extent> {
    let shape = input.byte()?;
    let length_bytes = input.number()?;
    if shape == 0 {
        return Some(Extent::hole(length_bytes));
    }
    let has = |bit| shape & bit != 0;
    let identity = if has(SHAPE_IDENTITY) { Some(ExtentIdentity(input.bytes()?)) } else { None };
    let checksums = if has(SHAPE_CHECKSUMS) { Some(decode_checksums(input)?) } else { None };
    Some(Extent { length_bytes, body: ExtentBody::Data { identity, checksums } })
}

fn decode_checksums(input: &mut Input<'_>) -> Option<StripeChecksums> {
    let stripe_bytes = input.number()?.try_into().ok()?;
    let count = input.length()?;
    let bytes = input.take(count.checked_mul(size_of::<u32>())?)?;
    let crc32c = bytes.as_chunks().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    Some(StripeChecksums { stripe_bytes, crc32c })
}
