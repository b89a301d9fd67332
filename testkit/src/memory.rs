//! States held in memory: what was observed of a cut, and a cut of what was observed.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use model::{
    Content, ContentReader, Context, Cut, CutItems, Error, ErrorKind, Item, ItemKey, Position,
    Proof, Recheck, Result,
};

/// An item with its whole content, holes as zero bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedItem {
    /// The item as it was listed.
    pub item: Item,
    /// Its content.
    pub content: Bytes,
}

/// A whole state.
pub type Observed = BTreeMap<ItemKey, ObservedItem>;

/// A sorted [`Cut`] of a state held in memory: a stored snapshot as a test would have it.
#[derive(Debug)]
pub struct MemoryCut {
    position: Position,
    state: Observed,
    proof: Proof,
}

impl MemoryCut {
    /// Creates a cut of a state.
    pub fn new(position: Position, state: Observed, proof: Proof) -> Self {
        Self { position, state, proof }
    }
}

#[async_trait]
impl Content for MemoryCut {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let held = self.state.get(&item.key).and_then(|held| slice(held, extent, &range));
        let held = held
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "open content", item.key.display()))?;
        Ok(Box::new(BytesReader::new(held)))
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        Ok(match self.state.get(&item.key) {
            None => Recheck::Gone,
            Some(held) if held.item == *item => Recheck::Same,
            Some(held) => Recheck::Changed(Box::new(held.item.clone())),
        })
    }
}

/// Returns a range of an extent of an item held in memory; none where there is no such range.
pub(crate) fn slice(held: &ObservedItem, extent: usize, range: &Range<u64>) -> Option<Bytes> {
    let before = held.item.extents.get(..extent)?;
    let start: u64 = before.iter().map(|extent| extent.length_bytes).sum();
    let is_inside =
        range.start <= range.end && range.end <= held.item.extents.get(extent)?.length_bytes;
    let bounds = (start + range.start) as usize..(start + range.end) as usize;
    (is_inside && bounds.end <= held.content.len()).then(|| held.content.slice(bounds))
}

#[async_trait]
impl Cut for MemoryCut {
    fn position(&self) -> &Position {
        &self.position
    }

    fn items(&self, _context: &Context) -> CutItems<'_> {
        let items: Vec<_> = self.state.values().map(|held| held.item.clone()).collect();
        let batches: Vec<_> = items.chunks(1_000).map(<[Item]>::to_vec).map(Ok).collect();
        CutItems::Sorted(stream::iter(batches).boxed())
    }

    async fn proof(&self) -> Result<Proof> {
        Ok(self.proof.clone())
    }

    async fn release(&self) -> Result<()> {
        Ok(())
    }
}

/// Reads bytes that are at hand, in two pieces where it can.
#[derive(Debug)]
pub struct BytesReader(Vec<Bytes>);

impl BytesReader {
    /// Creates a reader of these bytes.
    pub fn new(mut bytes: Bytes) -> Self {
        let first = bytes.split_to(bytes.len() / 2);
        Self([bytes, first].into_iter().filter(|piece| !piece.is_empty()).collect())
    }
}

#[async_trait]
impl ContentReader for BytesReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.pop())
    }
}
