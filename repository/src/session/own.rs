//! What lies in a session's own packs. There may be many tens of thousands of entries, so that each is
//! kept short: packs are named once, and only deltas have bases.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::index::Found;
use crate::index::segment::{Prefix, prefix};
use crate::pack::{EntryKind, SealedPack};
use crate::types::{ChunkId, Location, PackKind, PackName};

type Key = (PackKind, Prefix);

/// Finds what a session has stored and no segment of an open index names yet.
#[derive(Default)]
pub(super) struct OwnPacks {
    packs: Vec<PackName>,
    places: HashMap<Key, Short>,
    bases: HashMap<Key, Vec<ChunkId>>,
}

/// A [`Location`] whose pack is a number.
struct Short {
    pack: u32,
    block_offset: u32,
    block_length: u32,
    offset_in_block: u32,
    length: u32,
    kind: EntryKind,
}

impl OwnPacks {
    /// Adds what is in a pack. What is known already keeps its place.
    pub(super) fn add(&mut self, pack: &SealedPack) {
        let number = self.packs.len() as u32;
        self.packs.push(pack.name);
        for entry in &pack.entries {
            let key = (pack.kind, prefix(&entry.id));
            let Location { block_offset, block_length, offset_in_block, length, .. } =
                entry.location;
            let Entry::Vacant(vacant) = self.places.entry(key) else { continue };
            vacant.insert(Short {
                pack: number,
                block_offset,
                block_length,
                offset_in_block,
                length,
                kind: entry.kind,
            });
            if !entry.bases.is_empty() {
                self.bases.insert(key, entry.bases.clone());
            }
        }
    }

    /// Finds an entry.
    pub(super) fn find(&self, kind: PackKind, id: &[u8; 32]) -> Option<Found> {
        let key = (kind, prefix(id));
        let short = self.places.get(&key)?;
        let location = Location {
            pack: *self.packs.get(short.pack as usize)?,
            block_offset: short.block_offset,
            block_length: short.block_length,
            offset_in_block: short.offset_in_block,
            length: short.length,
        };
        let bases = self.bases.get(&key).cloned().unwrap_or_default();
        Some(Found { location, kind: short.kind, bases })
    }

    /// Forgets an entry that is found elsewhere.
    pub(super) fn forget(&mut self, key: &Key) {
        self.places.remove(key);
        self.bases.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::PackEntry;
    use bytes::Bytes;

    fn pack(name: u8, entries: &[(u8, u32, &[ChunkId])]) -> SealedPack {
        let name = PackName([name; 32]);
        let entry = |(id, length, bases): &(u8, u32, &[ChunkId])| PackEntry {
            id: [*id; 32],
            kind: if bases.is_empty() { EntryKind::Full } else { EntryKind::Delta },
            location: Location {
                pack: name,
                block_offset: 7,
                block_length: 90,
                offset_in_block: 3,
                length: *length,
            },
            bases: bases.to_vec(),
        };
        let entries = entries.iter().map(entry).collect();
        SealedPack { name, kind: PackKind::Data, object: Bytes::new(), entries }
    }

    #[test]
    fn the_first_place_is_found_until_it_is_forgotten() {
        let base = [ChunkId([9; 32])];
        let first = pack(1, &[(5, 11, &[]), (6, 12, &base)]);
        let mut own = OwnPacks::default();
        own.add(&first);
        own.add(&pack(2, &[(5, 13, &base), (7, 14, &[])]));
        for entry in &first.entries {
            let found = own.find(PackKind::Data, &entry.id).expect("known");
            let expected = (entry.location, entry.kind, entry.bases.clone());
            assert_eq!((found.location, found.kind, found.bases), expected);
        }
        let seven = own.find(PackKind::Data, &[7; 32]).expect("known");
        assert_eq!((seven.location.pack, seven.location.length), (PackName([2; 32]), 14));
        assert_eq!(own.find(PackKind::Meta, &[5; 32]), None);
        own.forget(&(PackKind::Data, prefix(&[6; 32])));
        assert_eq!(own.find(PackKind::Data, &[6; 32]), None);
        assert!(own.bases.is_empty());
    }
}
