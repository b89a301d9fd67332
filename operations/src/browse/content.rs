//! Content of entries as bytes, and the check of bytes against what they should be.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use model::{ContentCheck, ContentReader, ExtentBody, Item, Result};
use repository::content::ChunkReader;
use repository::crypto::{ChunkHasher, DomainKeys};
use repository::types::{ChunkId, StoredBody, StoredExtent};

use super::entries::{Entry, EntryContent};

/// Zero bytes are handed out in pieces of this size.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Reads an entry's content from first to last byte, holes as zeros.
pub(crate) fn whole_reader(reader: &ChunkReader, entry: &Entry) -> Box<dyn ContentReader> {
    match &entry.content {
        EntryContent::Stored(extents) => reader.content(extents),
        EntryContent::Logged(_) => {
            Box::new(PartReader { parts: parts(&entry.item, &entry.content).into() })
        }
    }
}

/// Reads the bytes of an entry's data extents, one after another: what a target takes.
pub(crate) fn data_reader(bytes: impl IntoIterator<Item = Bytes>) -> Box<dyn ContentReader> {
    let parts = bytes.into_iter().map(Part::Bytes).collect();
    Box::new(PartReader { parts })
}

/// A part of an entry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// So many zero bytes.
    Zeros(u64),
    /// These bytes.
    Bytes(Bytes),
    /// A chunk of this name and length.
    Chunk(ChunkId, u32),
}

/// Takes an entry's content apart.
pub(crate) fn parts(item: &Item, content: &EntryContent) -> Vec<Part> {
    match content {
        EntryContent::Stored(extents) => extents.iter().flat_map(stored_parts).collect(),
        EntryContent::Logged(contents) => {
            let mut rest = Bytes::from(contents.concat());
            let mut parts = Vec::new();
            for extent in &item.extents {
                if extent.body == ExtentBody::Hole {
                    parts.push(Part::Zeros(extent.length_bytes));
                    continue;
                }
                let length = usize::try_from(extent.length_bytes).unwrap_or(usize::MAX);
                parts.push(Part::Bytes(rest.split_to(length.min(rest.len()))));
            }
            parts
        }
    }
}

fn stored_parts(extent: &StoredExtent) -> Vec<Part> {
    match &extent.body {
        StoredBody::Hole => vec![Part::Zeros(extent.length_bytes)],
        StoredBody::Data { chunks, .. } => {
            chunks.iter().map(|chunk| Part::Chunk(chunk.id, chunk.length)).collect()
        }
    }
}

/// Reads parts that are at hand.
struct PartReader {
    parts: VecDeque<Part>,
}

#[async_trait]
impl ContentReader for PartReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.parts.pop_front() {
                None | Some(Part::Chunk(..)) => return Ok(None),
                Some(Part::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Part::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Part::Zeros(0)) => {}
                Some(Part::Zeros(length)) => {
                    let count = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
                    if length > count as u64 {
                        self.parts.push_front(Part::Zeros(length - count as u64));
                    }
                    return Ok(Some(Bytes::from_static(ZEROS.get(..count).unwrap_or_default())));
                }
            }
        }
    }
}

/// Compares bytes that come piece by piece with what they should be.
#[derive(Debug)]
pub(crate) struct Checker {
    keys: DomainKeys,
    parts: VecDeque<Part>,
    /// The chunk whose beginning came.
    begun: Option<Begun>,
    is_wrong: bool,
}

#[derive(Debug)]
struct Begun {
    hasher: ChunkHasher,
    length_bytes: usize,
}

impl Checker {
    /// Begins a comparison with an entry's content.
    pub(crate) fn new(item: &Item, content: &EntryContent, keys: &DomainKeys) -> Self {
        let parts = parts(item, content).into();
        Self { keys: keys.clone(), parts, begun: None, is_wrong: false }
    }

    /// Compares bytes with the part at hand; returns those behind it.
    fn compare<'b>(&mut self, part: Part, bytes: &'b [u8]) -> &'b [u8] {
        let begun_bytes = self.begun.as_ref().map_or(0, |begun| begun.length_bytes);
        let left = match &part {
            Part::Zeros(length) => usize::try_from(*length).unwrap_or(usize::MAX),
            Part::Bytes(expected) => expected.len(),
            Part::Chunk(_, length) => (*length as usize).saturating_sub(begun_bytes),
        };
        let (now, later) = bytes.split_at(left.min(bytes.len()));
        match part {
            Part::Zeros(length) => {
                self.is_wrong |= now.iter().any(|byte| *byte != 0);
                self.keep(Part::Zeros(length - now.len() as u64), left > now.len());
            }
            Part::Bytes(mut expected) => {
                let begin = expected.split_to(now.len());
                self.is_wrong |= begin != now;
                self.keep(Part::Bytes(expected), left > now.len());
            }
            Part::Chunk(id, _) if left == now.len() && self.begun.is_none() => {
                self.is_wrong |= self.keys.chunk_id(now) != id;
            }
            Part::Chunk(id, length) => {
                let mut begun = self
                    .begun
                    .take()
                    .unwrap_or_else(|| Begun { hasher: self.keys.chunk_hasher(), length_bytes: 0 });
                begun.hasher.update(now);
                begun.length_bytes += now.len();
                if left > now.len() {
                    self.begun = Some(begun);
                    self.parts.push_front(Part::Chunk(id, length));
                } else {
                    self.is_wrong |= begun.hasher.finish() != id;
                }
            }
        }
        later
    }

    fn keep(&mut self, part: Part, is_unfinished: bool) {
        if is_unfinished {
            self.parts.push_front(part);
        }
    }
}

impl ContentCheck for Checker {
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.is_wrong {
            let Some(part) = self.parts.pop_front() else {
                self.is_wrong = true;
                break;
            };
            bytes = self.compare(part, bytes);
        }
        !self.is_wrong
    }

    fn take_zeros(&mut self, mut left: u64) -> bool {
        while left > 0 && !self.is_wrong {
            // Holes against holes need no bytes.
            if let Some(Part::Zeros(length)) = self.parts.front_mut() {
                let count = left.min(*length);
                *length -= count;
                left -= count;
                if *length == 0 {
                    self.parts.pop_front();
                }
                continue;
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.take(ZEROS.get(..count).unwrap_or_default());
            left -= count as u64;
        }
        !self.is_wrong
    }

    fn passes(&self) -> bool {
        let is_empty = |part: &Part| match part {
            Part::Zeros(length) => *length == 0,
            Part::Bytes(bytes) => bytes.is_empty(),
            Part::Chunk(_, length) => *length == 0,
        };
        !self.is_wrong && self.begun.is_none() && self.parts.iter().all(is_empty)
    }
}
