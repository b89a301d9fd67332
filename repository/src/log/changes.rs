//! The body of a batch of changes: items, with their contents inline.
//!
//! Per change `kind u8`, then for an upsert the item and the content of its data extents, for a delete
//! the key, for a move both keys. Numbers and strings are as in tree nodes.

use bytes::Bytes;
use model::{
    Attributes, Change, Extent, ExtentBody, ExtentIdentity, Item, ItemKey, ItemKind,
    StripeChecksums, Version,
};

use crate::record::EXTENTS_MAX;
use crate::tree::codec::{Input, put_bytes, put_number, put_optional};

const UPSERT: u8 = 1;
const DELETE: u8 = 2;
const MOVE: u8 = 3;

const HOLE: u8 = 0;
const DATA: u8 = 1;
const HAS_IDENTITY: u8 = 2;
const HAS_CHECKSUMS: u8 = 4;

/// Appends a change; none where the contents are not those of the item's data extents.
pub(super) fn encode(change: &Change, contents: &[Bytes], output: &mut Vec<u8>) -> Option<()> {
    match change {
        Change::Upsert(item) => {
            output.push(UPSERT);
            return encode_item(item, contents, output);
        }
        Change::Delete(key) => {
            output.push(DELETE);
            put_bytes(output, key.as_bytes());
        }
        Change::Move { from, to } => {
            output.push(MOVE);
            put_bytes(output, from.as_bytes());
            put_bytes(output, to.as_bytes());
        }
    }
    contents.is_empty().then_some(())
}

fn encode_item(item: &Item, contents: &[Bytes], output: &mut Vec<u8>) -> Option<()> {
    put_bytes(output, item.key.as_bytes());
    output.push(item.kind as u8);
    put_optional(output, item.version.as_ref().map(|version| &version.0[..]));
    put_bytes(output, item.attributes.as_bytes());
    put_number(output, item.extents.len() as u64);
    let mut contents = contents.iter();
    for extent in &item.extents {
        let ExtentBody::Data { identity, checksums } = &extent.body else {
            output.push(HOLE);
            put_number(output, extent.length_bytes);
            continue;
        };
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        output.push(
            DATA | flag(identity.is_some(), HAS_IDENTITY)
                | flag(checksums.is_some(), HAS_CHECKSUMS),
        );
        if let Some(identity) = identity {
            put_bytes(output, &identity.0);
        }
        if let Some(checksums) = checksums {
            put_number(output, checksums.stripe_bytes.into());
            put_number(output, checksums.crc32c.len() as u64);
            output.extend(checksums.crc32c.iter().flat_map(|sum| sum.to_le_bytes()));
        }
        let content = contents.next().filter(|c| c.len() as u64 == extent.length_bytes)?;
        put_bytes(output, content);
    }
    (contents.next().is_none() && item.extents.len() <= EXTENTS_MAX).then_some(())
}

/// Reads what [`encode`] wrote until nothing is left; contents share the memory of `bytes`.
pub(super) fn decode(bytes: &Bytes) -> Option<Vec<(Change, Vec<Bytes>)>> {
    let mut input = Input::new(bytes);
    let mut changes = Vec::new();
    while !input.is_empty() {
        changes.push(match input.byte()? {
            UPSERT => {
                let (item, contents) = decode_item(&mut input)?;
                (Change::Upsert(item), contents)
            }
            DELETE => (Change::Delete(decode_key(&mut input)?), Vec::new()),
            MOVE => {
                let (from, to) = (decode_key(&mut input)?, decode_key(&mut input)?);
                (Change::Move { from, to }, Vec::new())
            }
            _ => return None,
        });
    }
    Some(changes)
}

/// Copied: a key that is kept must not keep the contents of its whole batch.
fn decode_key(input: &mut Input<'_>) -> Option<ItemKey> {
    let length = input.length()?;
    ItemKey::from_bytes(input.take(length)?.to_vec()).ok()
}

fn decode_item(input: &mut Input<'_>) -> Option<(Item, Vec<Bytes>)> {
    let key = decode_key(input)?;
    let kind = ItemKind::from_number(input.byte()?)?;
    let version = input.optional()?.map(|bytes| Version(Bytes::copy_from_slice(&bytes)));
    let attributes = Attributes::from_bytes(Bytes::copy_from_slice(&input.bytes()?)).ok()?;
    let count = input.length().filter(|count| *count <= EXTENTS_MAX.min(input.remaining()))?;
    let mut extents = Vec::with_capacity(count);
    let mut contents = Vec::new();
    let mut total = 0_u64;
    for _ in 0..count {
        let shape = input.byte()?;
        let extent = if shape == HOLE {
            Extent::hole(input.number()?)
        } else {
            let (extent, content) = decode_data(input, shape)?;
            contents.push(content);
            extent
        };
        total = total.checked_add(extent.length_bytes)?;
        extents.push(extent);
    }
    Some((Item { key, kind, attributes, version, extents }, contents))
}

fn decode_data(input: &mut Input<'_>, shape: u8) -> Option<(Extent, Bytes)> {
    if shape & DATA == 0 || shape > (DATA | HAS_IDENTITY | HAS_CHECKSUMS) {
        return None;
    }
    let identity = if shape & HAS_IDENTITY == 0 {
        None
    } else {
        Some(ExtentIdentity(Bytes::copy_from_slice(&input.bytes()?)))
    };
    let checksums = if shape & HAS_CHECKSUMS == 0 {
        None
    } else {
        let stripe_bytes = u32::try_from(input.number()?).ok().filter(|length| *length > 0)?;
        let count = input.length()?;
        let sums = input.take(count.checked_mul(4)?)?.as_chunks::<4>().0;
        let crc32c = sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        Some(StripeChecksums { stripe_bytes, crc32c })
    };
    let content = input.bytes()?;
    let body = ExtentBody::Data { identity, checksums };
    Some((Extent { length_bytes: content.len() as u64, body }, content))
}
