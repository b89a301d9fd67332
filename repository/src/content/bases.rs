//! Which chunks a new chunk may equal or resemble: those that lay where it lies now.
//!
//! An insertion shifts all that follows. So positions are compared after the shift that the last chunk
//! found again has shown.

use std::collections::HashMap;

use crate::types::{ChunkId, DELTA_BASES_MAX, StoredChunk};

/// How far around a chunk's place its predecessors are looked for, as a part of its length.
const MARGIN_DIVISOR: i64 = 8;

/// The chunks of an extent as it was, and how the extent has shifted since.
#[derive(Debug, Default)]
pub(super) struct Previous {
    chunks: Vec<Old>,
    offsets: HashMap<ChunkId, i64>,
    shift: i64,
}

#[derive(Debug)]
struct Old {
    start: i64,
    end: i64,
    chunk: StoredChunk,
}

impl Previous {
    pub(super) fn new(chunks: &[StoredChunk]) -> Self {
        let mut previous = Self::default();
        let mut end = 0;
        for chunk in chunks {
            let start = end;
            end += i64::from(chunk.length);
            previous.offsets.entry(chunk.id).or_insert(start);
            previous.chunks.push(Old { start, end, chunk: chunk.clone() });
        }
        previous
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns a chunk of the extent as it was, where it has a place.
    pub(super) fn get(&self, id: &ChunkId, length: u32) -> Option<&StoredChunk> {
        let start = self.offsets.get(id)?;
        let index = self.chunks.partition_point(|old| old.start < *start);
        let chunk = self.chunks.get(index).map(|old| &old.chunk)?;
        let is_meant = chunk.id == *id && chunk.length == length;
        (is_meant && chunk.place.location().is_some()).then_some(chunk)
    }

    /// Takes note of a chunk that lies at `offset` now: if it was there before, it tells the shift.
    pub(super) fn observe(&mut self, id: &ChunkId, offset: u64) {
        if let (Some(before), Ok(offset)) = (self.offsets.get(id), i64::try_from(offset)) {
            self.shift = offset - before;
        }
    }

    /// Returns what a chunk at `offset` may resemble, in the order in which it lay: full chunks only,
    /// those with the largest overlap, at most [`DELTA_BASES_MAX`].
    pub(super) fn bases(&self, offset: u64, length: usize) -> Vec<StoredChunk> {
        let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
            return Vec::new();
        };
        let margin = length / MARGIN_DIVISOR;
        let start = offset.saturating_sub(self.shift).saturating_sub(margin);
        let end = start.saturating_add(length).saturating_add(2 * margin);
        let first = self.chunks.partition_point(|old| old.end <= start);
        let near = self.chunks.iter().skip(first).take_while(|old| old.start < end);
        let mut near: Vec<_> =
            near.map(|old| (old.end.min(end) - old.start.max(start), old)).collect();
        near.sort_by_key(|(overlap, _)| std::cmp::Reverse(*overlap));
        let mut chosen: Vec<(i64, &StoredChunk)> = Vec::new();
        for (_, old) in near {
            // A delta's own bases are full, and most of it is in them.
            let full = if old.chunk.bases.is_empty() {
                std::slice::from_ref(&old.chunk)
            } else {
                &old.chunk.bases[..]
            };
            let is_known =
                |chunk: &StoredChunk| chosen.iter().any(|(_, known)| known.id == chunk.id);
            let new: Vec<_> = full.iter().filter(|chunk| !is_known(chunk)).collect();
            if chosen.len() + new.len() <= DELTA_BASES_MAX {
                chosen.extend(new.into_iter().map(|chunk| (old.start, chunk)));
            }
        }
        chosen.sort_by_key(|(start, _)| *start);
        chosen.into_iter().map(|(_, chunk)| chunk.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Location, PackName, Place};

    fn chunk(name: u8, length: u32, bases: &[u8]) -> StoredChunk {
        let location = Location {
            pack: PackName([0; 32]),
            block_offset: 0,
            block_length: 0,
            offset_in_block: 0,
            length,
        };
        StoredChunk {
            id: ChunkId([name; 32]),
            length,
            place: Place::Known(location),
            bases: bases.iter().map(|base| chunk(*base, length, &[])).collect(),
        }
    }

    /// Notation: `name:length` of the old chunks in order, `name:length<bases` for deltas; which chunks
    /// were found again at which offset; offset and length of the new chunk; names of its bases.
    fn check(old: &str, found: &[(u8, u64)], offset: u64, length: usize, expected: &str) {
        let chunks: Vec<_> = old
            .split(' ')
            .map(|word| {
                let (name, length) = word.split_once(':').expect("name:length");
                let (length, bases) = length.split_once('<').unwrap_or((length, ""));
                chunk(name.as_bytes()[0], length.parse().expect("length"), bases.as_bytes())
            })
            .collect();
        let mut previous = Previous::new(&chunks);
        for (name, offset) in found {
            previous.observe(&ChunkId([*name; 32]), *offset);
        }
        let bases = previous.bases(offset, length);
        let bases: String = bases.iter().map(|base| char::from(base.id.0[0])).collect();
        assert_eq!(bases, expected, "{old} {found:?} {offset} {length}");
    }

    #[test]
    fn bases_are_what_lay_there_before() {
        check("a:100 b:100 c:100", &[], 100, 100, "abc");
        check("a:100 b:100 c:100", &[], 115, 70, "b");
        check("a:100 b:100 c:100", &[], 150, 100, "bc");
        check("a:100", &[], 500, 100, "");
        check("a:100", &[], u64::MAX, 100, "");
        // The largest overlaps, in their order.
        check("a:10 b:90 c:90 d:90 e:90 f:10", &[], 0, 380, "bcde");
    }

    #[test]
    fn what_was_there_before_is_found() {
        let previous =
            Previous::new(&[chunk(b'a', 9, &[]), chunk(b'b', 5, b"a"), chunk(b'a', 9, &[])]);
        let get = |name: u8, length| previous.get(&ChunkId([name; 32]), length);
        assert_eq!(get(b'a', 9).map(|found| found.length), Some(9));
        assert_eq!(get(b'b', 5).map(|found| found.bases.len()), Some(1));
        assert!(get(b'b', 9).is_none() && get(b'c', 5).is_none());
    }

    #[test]
    fn a_shift_is_followed() {
        // 1000 bytes were inserted before `a`; the next chunk is compared with `b`.
        check("a:100 b:100 c:100", &[(b'a', 1000)], 1115, 70, "b");
        check("a:100 b:100 c:100 d:100", &[(b'a', 0), (b'c', 50)], 165, 70, "d");
        check("a:100 b:100", &[(b'x', 777)], 115, 70, "b");
    }

    #[test]
    fn a_delta_stands_for_its_own_bases() {
        check("a:100<xy b:100", &[], 15, 70, "xy");
        check("a:100<x b:100<x", &[], 0, 200, "x");
        check("a:100<vwxy b:100", &[], 60, 100, "b");
        check("a:100<vwxy b:100", &[], 0, 100, "vwxy");
    }
}
