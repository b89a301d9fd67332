//! Content of entries as bytes, and the check of bytes against what they should be.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use model::{ContentReader, ExtentBody, Result};
use repository::content::ChunkReader;
use repository::crypto::DomainKeys;
use repository::types::{ChunkId, StoredBody, StoredExtent};

use super::entries::{Entry, EntryContent};

/// Zero bytes are handed out in pieces of this size.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Reads an entry's content from first to last byte, holes as zeros.
pub(crate) fn whole_reader(reader: &ChunkReader, entry: &Entry) -> Box<dyn ContentReader> {
    match &entry.content {
        EntryContent::Stored(extents) => reader.content(extents),
        EntryContent::Logged(_) => Box::new(PartReader { parts: parts(entry).into() }),
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
pub(crate) fn parts(entry: &Entry) -> Vec<Part> {
    match &entry.content {
        EntryContent::Stored(extents) => extents.iter().flat_map(stored_parts).collect(),
        EntryContent::Logged(contents) => {
            let mut rest = Bytes::from(contents.concat());
            let mut parts = Vec::new();
            for extent in &entry.item.extents {
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
    parts: VecDeque<Part>,
    /// The beginning of a chunk whose rest is still to come.
    held: Vec<u8>,
    is_wrong: bool,
}

impl Checker {
    /// Begins a comparison with an entry's content.
    pub(crate) fn new(entry: &Entry) -> Self {
        Self { parts: parts(entry).into(), held: Vec::new(), is_wrong: false }
    }

    /// Takes the next bytes; says whether all were right so far.
    pub(crate) fn push(&mut self, mut bytes: &[u8], keys: &DomainKeys) -> bool {
        while !bytes.is_empty() && !self.is_wrong {
            let Some(part) = self.parts.pop_front() else {
                self.is_wrong = true;
                break;
            };
            bytes = self.take(part, bytes, keys);
        }
        !self.is_wrong
    }

    /// Takes so many zero bytes; says whether all was right so far.
    pub(crate) fn push_zeros(&mut self, mut left: u64, keys: &DomainKeys) -> bool {
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
            self.push(ZEROS.get(..count).unwrap_or_default(), keys);
            left -= count as u64;
        }
        !self.is_wrong
    }

    /// Compares bytes with the part at hand; returns those behind it.
    fn take<'b>(&mut self, part: Part, bytes: &'b [u8], keys: &DomainKeys) -> &'b [u8] {
        let left = match &part {
            Part::Zeros(length) => usize::try_from(*length).unwrap_or(usize::MAX),
            Part::Bytes(expected) => expected.len(),
            Part::Chunk(_, length) => (*length as usize).saturating_sub(self.held.len()),
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
            Part::Chunk(id, length) if left > now.len() => {
                self.held.extend_from_slice(now);
                self.parts.push_front(Part::Chunk(id, length));
            }
            Part::Chunk(id, _) if self.held.is_empty() => {
                self.is_wrong |= keys.chunk_id(now) != id;
            }
            Part::Chunk(id, _) => {
                self.held.extend_from_slice(now);
                self.is_wrong |= keys.chunk_id(&self.held) != id;
                self.held.clear();
            }
        }
        later
    }

    fn keep(&mut self, part: Part, is_unfinished: bool) {
        if is_unfinished {
            self.parts.push_front(part);
        }
    }

    /// Says whether the bytes were right, and all that should come came.
    pub(crate) fn finish(self) -> bool {
        let is_empty = |part: &Part| match part {
            Part::Zeros(length) => *length == 0,
            Part::Bytes(bytes) => bytes.is_empty(),
            Part::Chunk(_, length) => *length == 0,
        };
        !self.is_wrong && self.held.is_empty() && self.parts.iter().all(is_empty)
    }
}
