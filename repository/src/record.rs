//! Items as trees store them: from an item to its record and back, and a record's bytes.
//!
//! The bytes hold what a record *is* and nothing of where its content lies, so that equal states have
//! equal bytes. Chunks get their places from the node's hints when they are read.

use bytes::Bytes;
use model::{
    Attributes, ContentClass, Error, ErrorKind, Extent, ExtentBody, ExtentIdentity, Item, ItemKey,
    ItemKind, Result, StripeChecksums, Version,
};

use crate::tree::codec::{Input, put_bytes, put_number, put_optional};
use crate::types::{ChunkId, Record, StoredBody, StoredChunk, StoredExtent};

/// The most bytes of one record: a file of about a terabyte in chunks of 1 MiB.
pub const RECORD_BYTES_MAX: usize = 32 << 20;
/// The most extents of one item.
pub const EXTENTS_MAX: usize = 1 << 20;

const SHAPE_HOLE: u8 = 0;
const SHAPE_CLASS: u8 = 0x0f;
const SHAPE_IDENTITY: u8 = 0x10;
const SHAPE_CHECKSUMS: u8 = 0x20;

impl Record {
    /// Returns the record of an item whose content is stored as `extents`.
    pub fn of_item(item: &Item, extents: Vec<StoredExtent>) -> Self {
        Self {
            kind: item.kind,
            attributes: item.attributes.clone(),
            version: item.version.clone(),
            extents,
        }
    }

    /// Returns the item as its system listed it.
    pub fn to_item(&self, key: &ItemKey) -> Item {
        let extents = self.extents.iter().map(|extent| Extent {
            length_bytes: extent.length_bytes,
            body: match &extent.body {
                StoredBody::Hole => ExtentBody::Hole,
                StoredBody::Data { identity, checksums, .. } => {
                    ExtentBody::Data { identity: identity.clone(), checksums: checksums.clone() }
                }
            },
        });
        Item {
            key: key.clone(),
            kind: self.kind,
            attributes: self.attributes.clone(),
            version: self.version.clone(),
            extents: extents.collect(),
        }
    }

    /// Says whether both are the same state, wherever their content lies.
    pub fn is_same_state(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.attributes == other.attributes
            && self.version == other.version
            && self.extents.len() == other.extents.len()
            && self.extents.iter().zip(&other.extents).all(|(a, b)| is_same_extent(a, b))
    }
}

fn is_same_extent(a: &StoredExtent, b: &StoredExtent) -> bool {
    use StoredBody::{Data, Hole};
    a.length_bytes == b.length_bytes
        && match (&a.body, &b.body) {
            (Hole, Hole) => true,
            (
                Data { identity, checksums, class, chunks },
                Data {
                    identity: identity_b,
                    checksums: checksums_b,
                    class: class_b,
                    chunks: chunks_b,
                },
            ) => {
                let name = |chunk: &StoredChunk| (chunk.id, chunk.length);
                (identity, checksums, class) == (identity_b, checksums_b, class_b)
                    && chunks.iter().map(name).eq(chunks_b.iter().map(name))
            }
            (Hole, Data { .. }) | (Data { .. }, Hole) => false,
        }
}

/// Appends a record's bytes.
///
/// # Errors
/// `Internal` where the chunks of an extent do not add up to it; `Invalid` where the record is larger
/// than a node may be.
pub(crate) fn encode(record: &Record, output: &mut Vec<u8>) -> Result<()> {
    let start = output.len();
    output.push(record.kind as u8);
    put_optional(output, record.version.as_ref().map(|version| version.0.as_ref()));
    put_bytes(output, record.attributes.as_bytes());
    put_number(output, record.extents.len() as u64);
    for extent in &record.extents {
        encode_extent(extent, output).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "encode record", "")
                .detail("the chunks of an extent do not add up to its length")
        })?;
    }
    if output.len() - start > RECORD_BYTES_MAX || record.extents.len() > EXTENTS_MAX {
        return Err(Error::new(ErrorKind::Invalid, "encode record", "")
            .detail("more chunks or extents than one item may have"));
    }
    Ok(())
}

fn encode_extent(extent: &StoredExtent, output: &mut Vec<u8>) -> Option<()> {
    let StoredBody::Data { identity, checksums, class, chunks } = &extent.body else {
        output.push(SHAPE_HOLE);
        put_number(output, extent.length_bytes);
        return Some(());
    };
    let flag = |is_set, bit| if is_set { bit } else { 0 };
    output.push(
        *class as u8
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
    put_number(output, chunks.len() as u64);
    let mut rest = extent.length_bytes;
    for (index, chunk) in chunks.iter().enumerate() {
        let length = u64::from(chunk.length);
        rest = rest.checked_sub(length).filter(|_| length > 0)?;
        // The last length is what remains: a record whose chunks do not add up cannot be written.
        if index + 1 < chunks.len() {
            put_number(output, length);
        }
        output.extend_from_slice(&chunk.id.0);
    }
    (rest == 0).then_some(())
}

/// Reads a record; `place` is asked for each chunk in order. None where the bytes are no record.
pub(crate) fn decode(
    bytes: &Bytes,
    place: &mut impl FnMut(ChunkId, u32) -> Option<StoredChunk>,
) -> Option<Record> {
    let mut input = Input::new(bytes);
    let input = &mut input;
    if input.remaining() > RECORD_BYTES_MAX {
        return None;
    }
    let kind = ItemKind::from_number(input.byte()?)?;
    let version = input.optional()?.map(Version);
    let attributes = Attributes::from_bytes(input.bytes()?).ok()?;
    let count = input.length().filter(|count| *count <= EXTENTS_MAX.min(input.remaining()))?;
    let mut extents = Vec::with_capacity(count);
    let mut total = 0_u64;
    for _ in 0..count {
        let extent = decode_extent(input, place)?;
        total = total.checked_add(extent.length_bytes)?;
        extents.push(extent);
    }
    input.is_empty().then_some(Record { kind, attributes, version, extents })
}

fn decode_extent(
    input: &mut Input<'_>,
    place: &mut impl FnMut(ChunkId, u32) -> Option<StoredChunk>,
) -> Option<StoredExtent> {
    let shape = input.byte()?;
    let length_bytes = input.number()?;
    if shape == SHAPE_HOLE {
        return Some(StoredExtent { length_bytes, body: StoredBody::Hole });
    }
    if shape & !(SHAPE_CLASS | SHAPE_IDENTITY | SHAPE_CHECKSUMS) != 0 {
        return None;
    }
    let class = content_class(shape & SHAPE_CLASS)?;
    let has_identity = shape & SHAPE_IDENTITY != 0;
    let identity = if has_identity { Some(ExtentIdentity(input.bytes()?)) } else { None };
    let has_checksums = shape & SHAPE_CHECKSUMS != 0;
    let checksums = if has_checksums { Some(decode_checksums(input)?) } else { None };
    let count = input.length()?;
    if count > input.remaining() / size_of::<ChunkId>() || (count == 0) != (length_bytes == 0) {
        return None;
    }
    let mut chunks = Vec::with_capacity(count);
    let mut rest = length_bytes;
    for index in 0..count {
        let length = if index + 1 < count { input.number()? } else { rest };
        rest = rest.checked_sub(length).filter(|_| length > 0)?;
        let id = ChunkId(input.array()?);
        chunks.push(place(id, length.try_into().ok()?)?);
    }
    let body = StoredBody::Data { identity, checksums, class, chunks };
    (rest == 0).then_some(StoredExtent { length_bytes, body })
}

fn decode_checksums(input: &mut Input<'_>) -> Option<StripeChecksums> {
    let stripe_bytes = input.number()?.try_into().ok().filter(|bytes| *bytes > 0)?;
    let count = input.length()?;
    let bytes = input.take(count.checked_mul(size_of::<u32>())?)?;
    let crc32c = bytes.as_chunks().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    Some(StripeChecksums { stripe_bytes, crc32c })
}

fn content_class(number: u8) -> Option<ContentClass> {
    use ContentClass::{Database, Dump, General, Lake};
    [General, Lake, Database, Dump].into_iter().find(|class| *class as u8 == number)
}
