//! One node's bytes: `length of the logical part u32 | logical part | hints`.
//!
//! The logical part is `format u8 | level u8 | entries`; the node's id is its keyed hash. Everything
//! that is read is checked against what the parent says about it (order, fences, totals), and against
//! the limits that the split rule sets for writers: a hostile node costs an error.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::{Error, ErrorKind, ItemKey, Result};

use super::codec::{Input, put_number};
use super::hints::{HintReader, HintWriter};
use super::split::{self, CHILD_BYTES, CHILDREN_MIN, SIZE_MAX_BYTES};
use crate::record;
use crate::types::{NodeId, Place, Record, StoredChunk, Totals};

/// The revision of the encoding of nodes.
const NODE_FORMAT: u8 = 0;
/// The most bytes of a stored node: one largest record and its hints, which fit in one block of a pack.
pub const NODE_BYTES_MAX: usize = 72 << 20;
/// The most levels of a tree.
pub const HEIGHT_MAX: u8 = 16;

/// What a parent says about a child.
#[derive(Debug, Clone)]
pub(crate) struct Child {
    /// Names it.
    pub(crate) id: NodeId,
    /// Where it lies.
    pub(crate) place: Place,
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// All its keys are greater; none for the first of a tree.
    pub(crate) after: Option<ItemKey>,
    /// Its greatest key; none for the root, which nobody tells it of.
    pub(crate) last: Option<ItemKey>,
    /// What is below it.
    pub(crate) totals: Totals,
    /// Nothing of the tree comes behind it: it ended with its level, not by the split rule.
    pub(crate) is_rightmost: bool,
}

/// A node as read.
#[derive(Debug)]
pub(crate) enum Node {
    Leaf(Vec<(ItemKey, Record)>),
    Interior(Vec<Child>),
}

/// A child's place that becomes known when the child is stored.
pub(super) type Slot = Arc<OnceLock<Place>>;

/// What a finished node's hints are made of, once all of it has its place.
#[derive(Debug)]
pub(super) enum Hints {
    Chunks(Vec<StoredChunk>),
    Children(Vec<Slot>),
}

impl Hints {
    /// Says whether all places are known. The newest are the last ones to become so.
    pub(super) fn are_known(&self) -> bool {
        let is_known = |place: &Place| place.location().is_some();
        match self {
            Self::Chunks(chunks) => chunks.iter().rev().all(|chunk| {
                is_known(&chunk.place) && chunk.bases.iter().all(|base| is_known(&base.place))
            }),
            Self::Children(slots) => slots.iter().rev().all(|s| s.get().is_some_and(is_known)),
        }
    }
}

/// Writes the logical part of a node, entry by entry.
#[derive(Debug)]
pub(super) struct NodeWriter {
    logical: Vec<u8>,
    previous: Vec<u8>,
}

impl NodeWriter {
    pub(super) fn new(level: u8) -> Self {
        Self { logical: vec![NODE_FORMAT, level], previous: Vec::new() }
    }

    /// Appends an item.
    pub(super) fn record(&mut self, key: &[u8], encoded: &[u8]) {
        self.key(key);
        put_number(&mut self.logical, encoded.len() as u64);
        self.logical.extend_from_slice(encoded);
    }

    /// Appends a child.
    pub(super) fn child(&mut self, last: &[u8], id: &NodeId, totals: &Totals) {
        self.key(last);
        self.logical.extend_from_slice(&id.0);
        put_number(&mut self.logical, totals.items);
        put_number(&mut self.logical, totals.content_bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.logical
    }

    fn key(&mut self, key: &[u8]) {
        let shared = self.previous.iter().zip(key).take_while(|(a, b)| a == b).count();
        let suffix = key.get(shared..).unwrap_or_default();
        put_number(&mut self.logical, shared as u64);
        put_number(&mut self.logical, suffix.len() as u64);
        self.logical.extend_from_slice(suffix);
        self.previous.truncate(shared);
        self.previous.extend_from_slice(suffix);
    }
}

/// Joins both parts of a node; none where something that it names has no place yet.
pub(super) fn join(logical: &[u8], hints: &Hints) -> Option<Vec<u8>> {
    let mut writer = HintWriter::default();
    match hints {
        Hints::Chunks(chunks) => chunks.iter().try_for_each(|chunk| writer.chunk(chunk))?,
        Hints::Children(slots) => slots
            .iter()
            .try_for_each(|slot| slot.get()?.location().map(|location| writer.node(&location)))?,
    }
    let mut plaintext = Vec::with_capacity(logical.len() + logical.len() / 8 + 64);
    plaintext.extend_from_slice(&u32::try_from(logical.len()).ok()?.to_le_bytes());
    plaintext.extend_from_slice(logical);
    writer.finish(&mut plaintext);
    Some(plaintext)
}

/// Splits a stored node into its logical part and its hints.
pub(crate) fn split_parts(plaintext: &Bytes) -> Option<(Bytes, Bytes)> {
    if plaintext.len() > NODE_BYTES_MAX {
        return None;
    }
    let mut input = Input::new(plaintext);
    let length = u32::from_le_bytes(input.array()?);
    let logical = input.shared(length.try_into().ok()?)?;
    let hints = input.shared(input.remaining())?;
    Some((logical, hints))
}

/// Reads a node that its parent described so. The id was checked by the caller.
///
/// # Errors
/// `Corrupt` where the bytes are no such node.
pub(crate) fn decode(logical: &Bytes, hints: &Bytes, expected: &Child) -> Result<Node> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read tree node", expected.id.to_string());
    let mut input = Input::new(logical);
    let head = (input.byte(), input.byte());
    if head != (Some(NODE_FORMAT), Some(expected.level)) {
        return Err(corrupt().detail("another format or level than its parent says"));
    }
    let hints = HintReader::new(Input::new(hints)).ok_or_else(|| corrupt().detail("bad hints"))?;
    let decoded = if expected.level == 0 {
        decode_leaf(input, hints, expected)
    } else {
        decode_interior(input, hints, expected)
    };
    decoded.ok_or_else(|| corrupt().detail("its bytes are no node that its parent describes"))
}

fn decode_leaf(mut input: Input<'_>, mut hints: HintReader<'_>, expected: &Child) -> Option<Node> {
    let mut keys = KeyReader::new(expected);
    let mut items = Vec::new();
    let mut totals = Totals::default();
    while !input.is_empty() {
        let key = keys.next(&mut input)?;
        let encoded = input.bytes()?;
        keys.count(&key, encoded.len() as u64, 1)?;
        let record = record::decode(&encoded, &mut |id, length| hints.chunk(id, length))?;
        totals.items += 1;
        totals.content_bytes = totals.content_bytes.checked_add(record.content_bytes())?;
        items.push((key, record));
    }
    hints.finish()?;
    (keys.is_end(expected) && totals == expected.totals).then_some(Node::Leaf(items))
}

fn decode_interior(
    mut input: Input<'_>,
    mut hints: HintReader<'_>,
    expected: &Child,
) -> Option<Node> {
    let mut keys = KeyReader::new(expected);
    let mut children: Vec<Child> = Vec::new();
    let mut sum = Totals::default();
    while !input.is_empty() {
        let after = keys.previous.clone();
        let last = keys.next(&mut input)?;
        keys.count(&last, CHILD_BYTES, CHILDREN_MIN)?;
        let id = NodeId(input.array()?);
        let totals = Totals { items: input.number()?, content_bytes: input.number()? };
        sum.items = sum.items.checked_add(totals.items)?;
        sum.content_bytes = sum.content_bytes.checked_add(totals.content_bytes)?;
        let place = Place::Known(hints.node()?);
        let level = expected.level.checked_sub(1)?;
        children.push(Child {
            id,
            place,
            level,
            after,
            last: Some(last),
            totals,
            is_rightmost: false,
        });
    }
    hints.finish()?;
    children.last_mut()?.is_rightmost = expected.is_rightmost;
    (keys.is_end(expected) && sum == expected.totals).then_some(Node::Interior(children))
}

/// Reads keys that ascend from the fence before the node on.
struct KeyReader {
    previous: Option<ItemKey>,
    /// The key before in this node, for what it shares with the next.
    bytes: Vec<u8>,
    size_bytes: u64,
    entries: u64,
}

impl KeyReader {
    fn new(expected: &Child) -> Self {
        Self { previous: expected.after.clone(), bytes: Vec::new(), size_bytes: 0, entries: 0 }
    }

    fn next(&mut self, input: &mut Input<'_>) -> Option<ItemKey> {
        let shared = input.length()?;
        let suffix_length = input.length()?;
        let suffix = input.take(suffix_length)?;
        let is_shortest = self.bytes.get(shared).is_none_or(|byte| suffix.first() != Some(byte));
        if shared > self.bytes.len() || !is_shortest {
            return None;
        }
        self.bytes.truncate(shared);
        self.bytes.extend_from_slice(suffix);
        let key = ItemKey::from_bytes(Bytes::copy_from_slice(&self.bytes)).ok()?;
        let ascends = self.previous.as_ref().is_none_or(|previous| *previous < key);
        self.previous = Some(key.clone());
        ascends.then_some(key)
    }

    /// Refuses more entries than the split rule lets one node have. It bounds what shared prefixes
    /// can expand to.
    fn count(&mut self, key: &ItemKey, value_bytes: u64, entries_min: u64) -> Option<()> {
        let is_open = self.entries < entries_min || self.size_bytes < SIZE_MAX_BYTES;
        self.entries += 1;
        self.size_bytes += split::entry_bytes(key.as_bytes(), value_bytes);
        is_open.then_some(())
    }

    /// Says whether the node has entries and ends where its parent says.
    fn is_end(&self, expected: &Child) -> bool {
        self.entries > 0 && expected.last.as_ref().is_none_or(|l| self.previous.as_ref() == Some(l))
    }
}
