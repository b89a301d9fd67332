//! Where the things that a node names lie: the second part of a stored node.
//!
//! Hints are no part of a node's identity, so that one state has one root whatever was found to be
//! stored already. A node carries its own small table of packs: a restore reads no index. What is
//! named in a row mostly lies in a row, so each place is written as its difference from the one that
//! the place before lets expect.

use std::collections::HashMap;

use super::codec::{Input, put_number, put_signed};
use crate::types::{ChunkId, DELTA_BASES_MAX, Location, PackName, Place, StoredChunk};

/// Places as written so far. The pack table comes first in the encoding and is known last.
#[derive(Debug, Default)]
pub(super) struct HintWriter {
    packs: Vec<PackName>,
    numbers: HashMap<PackName, u64>,
    places: Vec<u8>,
    things: Expected,
    bases: Expected,
}

/// What the place before lets expect of the next one.
#[derive(Debug, Default)]
struct Expected(Option<Location>);

/// Bit of a place's first number: a delta, whose bases follow behind their number.
const HAS_BASES: u64 = 1;

impl HintWriter {
    /// Appends where a chunk lies; none where its pack or a base's pack has no name yet.
    pub(super) fn chunk(&mut self, chunk: &StoredChunk) -> Option<()> {
        let location = Location { length: chunk.length, ..chunk.place.location()? };
        let flags = if chunk.bases.is_empty() { 0 } else { HAS_BASES };
        self.place(&location, flags, false);
        if flags > 0 {
            put_number(&mut self.places, chunk.bases.len() as u64);
        }
        for base in &chunk.bases {
            let location = Location { length: base.length, ..base.place.location()? };
            self.places.extend_from_slice(&base.id.0);
            put_number(&mut self.places, base.length.into());
            self.place(&location, 0, true);
        }
        Some(())
    }

    /// Appends where a node lies.
    pub(super) fn node(&mut self, location: &Location) {
        self.place(location, 0, false);
        put_number(&mut self.places, location.length.into());
    }

    /// Returns the encoding.
    pub(super) fn finish(self, output: &mut Vec<u8>) {
        put_number(output, self.packs.len() as u64);
        for pack in &self.packs {
            output.extend_from_slice(&pack.0);
        }
        output.extend_from_slice(&self.places);
    }

    fn place(&mut self, location: &Location, flags: u64, is_base: bool) {
        let expected = if is_base { &mut self.bases } else { &mut self.things };
        let selector = if expected.is_same_block(location) {
            0
        } else {
            let next = self.packs.len() as u64 + 1;
            let number = *self.numbers.entry(location.pack).or_insert(next);
            if number == next {
                self.packs.push(location.pack);
            }
            number
        };
        put_number(&mut self.places, selector << 1 | flags);
        if selector > 0 {
            let expected_offset = expected.block_offset(&location.pack);
            put_signed(&mut self.places, i64::from(location.block_offset) - expected_offset);
            put_number(&mut self.places, location.block_length.into());
        }
        let expected_offset = if selector > 0 { 0 } else { expected.offset_in_block() };
        put_signed(&mut self.places, i64::from(location.offset_in_block) - expected_offset);
        expected.0 = Some(*location);
    }
}

impl Expected {
    fn is_same_block(&self, next: &Location) -> bool {
        let block = |l: &Location| (l.pack, l.block_offset, l.block_length);
        self.0.is_some_and(|before| block(&before) == block(next))
    }

    /// The next block of the same pack follows at once; in another pack nothing is expected.
    fn block_offset(&self, pack: &PackName) -> i64 {
        self.0
            .filter(|before| before.pack == *pack)
            .map_or(0, |before| i64::from(before.block_offset) + i64::from(before.block_length))
    }

    fn offset_in_block(&self) -> i64 {
        self.0.map_or(0, |before| i64::from(before.offset_in_block) + i64::from(before.length))
    }
}

/// Reads places in the order in which they were written.
#[derive(Debug)]
pub(super) struct HintReader<'b> {
    input: Input<'b>,
    packs: Vec<PackName>,
    things: Expected,
    bases: Expected,
}

impl<'b> HintReader<'b> {
    /// Reads the table of packs.
    pub(super) fn new(mut input: Input<'b>) -> Option<Self> {
        let count = input.length()?;
        let names = input.take(count.checked_mul(size_of::<PackName>())?)?;
        let packs = names.as_chunks().0.iter().map(|name| PackName(*name)).collect();
        Some(Self { input, packs, things: Expected::default(), bases: Expected::default() })
    }

    /// Reads where a chunk lies.
    pub(super) fn chunk(&mut self, id: ChunkId, length: u32) -> Option<StoredChunk> {
        let (location, flags) = self.place(length, false)?;
        let count = if flags & HAS_BASES == 0 { 0 } else { self.input.length()? };
        // A delta without bases would have two encodings.
        if flags & HAS_BASES != 0 && !(1..=DELTA_BASES_MAX).contains(&count) {
            return None;
        }
        let bases = (0..count).map(|_| self.base()).collect::<Option<_>>()?;
        Some(StoredChunk { id, length, place: Place::Known(location), bases })
    }

    /// Reads where a node lies.
    pub(super) fn node(&mut self) -> Option<Location> {
        let (location, flags) = self.place(0, false)?;
        let location = Location { length: self.input.number()?.try_into().ok()?, ..location };
        self.things.0 = Some(location);
        (flags == 0).then_some(location)
    }

    /// Checks that all was read.
    pub(super) fn finish(self) -> Option<()> {
        self.input.is_empty().then_some(())
    }

    fn base(&mut self) -> Option<StoredChunk> {
        let id = ChunkId(self.input.array()?);
        let length = self.input.number()?.try_into().ok()?;
        let (location, flags) = self.place(length, true)?;
        // Deltas have depth one: a base that claims a base of its own is refused.
        (flags == 0).then_some(StoredChunk {
            id,
            length,
            place: Place::Known(location),
            bases: Vec::new(),
        })
    }

    fn place(&mut self, length: u32, is_base: bool) -> Option<(Location, u64)> {
        let first = self.input.number()?;
        let (selector, flags) = (first >> 1, first & 1);
        let expected = if is_base { &mut self.bases } else { &mut self.things };
        let mut location = if selector == 0 {
            expected.0?
        } else {
            let pack = *self.packs.get(usize::try_from(selector - 1).ok()?)?;
            let offset = expected.block_offset(&pack).checked_add(self.input.signed()?)?;
            let block_length = self.input.number()?.try_into().ok()?;
            let block_offset = offset.try_into().ok()?;
            Location { pack, block_offset, block_length, offset_in_block: 0, length }
        };
        let expected_offset = if selector > 0 { 0 } else { expected.offset_in_block() };
        let offset = expected_offset.checked_add(self.input.signed()?)?;
        location.offset_in_block = offset.try_into().ok()?;
        location.length = length;
        expected.0 = Some(location);
        Some((location, flags))
    }
}
