//! Encoded items in memory, and the table by which they are sorted.
//!
//! One allocation per item would cost more than most items have bytes. Entries lie one after another
//! in pieces of a fixed size, so that growing never holds the old and the new copy at once.

use std::fmt;

use super::codec;

/// Pieces are at most so long; an entry that is longer has a piece of its own.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Encoded items in the order in which they came, or sorted.
#[derive(Default)]
pub(super) struct Arena {
    piece_bytes: usize,
    pieces: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    filled_bytes: usize,
}

/// Where an encoded item lies.
#[derive(Debug, Clone, Copy)]
struct Entry {
    piece: u32,
    start: u32,
    length: u32,
    /// Where its key begins in it; the key's length stands there.
    key_length: u32,
}

impl Arena {
    /// Begins, for items of about so many bytes in all.
    pub(super) fn new(memory_bytes: usize) -> Self {
        let piece_bytes = (memory_bytes / 16).clamp(64, PIECE_BYTES_MAX);
        Self { piece_bytes, ..Self::default() }
    }

    /// Appends an encoded item; none where it is too long.
    pub(super) fn push(&mut self, key: &[u8], encoded: &[u8]) -> Option<()> {
        let length = u32::try_from(encoded.len()).ok()?;
        let has_room = |piece: &Vec<u8>| piece.capacity() - piece.len() >= encoded.len();
        if !self.pieces.last().is_some_and(has_room) {
            self.pieces.push(Vec::with_capacity(self.piece_bytes.max(encoded.len())));
        }
        let number = u32::try_from(self.pieces.len() - 1).ok()?;
        let piece = self.pieces.last_mut()?;
        let start = u32::try_from(piece.len()).ok()?;
        piece.extend_from_slice(encoded);
        self.filled_bytes += encoded.len();
        let key_length = u32::try_from(key.len()).ok()?;
        self.entries.push(Entry { piece: number, start, length, key_length });
        Some(())
    }

    /// Returns how much memory is used. A table that grows is held twice for a moment.
    pub(super) fn used_bytes(&self) -> usize {
        self.filled_bytes + 2 * self.entries.len() * size_of::<Entry>()
    }

    /// Returns how much memory would be used with one more item of this length.
    pub(super) fn used_bytes_with(&self, length: usize) -> usize {
        self.used_bytes() + length + 2 * size_of::<Entry>()
    }

    /// Sorts by key.
    pub(super) fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| self.key(a).cmp(self.key(b)));
        self.entries = entries;
    }

    /// Returns the encoded item number `index`.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.entries.get(index).map(|entry| self.encoded(entry))
    }

    /// Lists the encoded items.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| self.encoded(entry))
    }

    /// Forgets all items; the memory of the table is kept.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.entries.clear();
        self.filled_bytes = 0;
    }

    fn encoded(&self, entry: &Entry) -> &[u8] {
        let (start, length) = (entry.start as usize, entry.length as usize);
        let piece = self.pieces.get(entry.piece as usize);
        piece.and_then(|piece| piece.get(start..start + length)).unwrap_or_default()
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        let key_length = entry.key_length as usize;
        let start = codec::key_start(key_length);
        self.encoded(entry).get(start..start + key_length).unwrap_or_default()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}
