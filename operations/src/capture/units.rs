//! Grouping of decided items into units of work that are carried out in parallel and put together in
//! order.

use model::{Item, ItemKey};
use repository::types::{Record, StoredChunk};

use super::decide::Decision;

/// Content up to this size is stored whole, in solid blocks.
pub const SMALL_CONTENT_BYTES_MAX: u64 = 512 << 10;
/// A unit of small contents is closed at this size: one solid block.
const UNIT_BYTES: u64 = 2 << 20;
/// A unit is closed at this many entries, so that a tree of empty files is also worked on in parallel.
const UNIT_ENTRIES: usize = 2048;

/// What is done about one key.
#[derive(Debug)]
pub enum Entry {
    /// The parent's record is taken over as it is.
    Kept(ItemKey, Record),
    /// A decision was made.
    Decided(Box<Decided>),
}

/// An item with what is to be done about it.
#[derive(Debug)]
pub struct Decided {
    /// The item as listed.
    pub item: Item,
    /// What is done about it.
    pub decision: Decision,
    /// What the parent has of it, if all of that may be used: it is kept where the item cannot be read.
    pub stored: Option<Record>,
}

/// Says whether an item's content is stored whole, beside others, rather than cut. Depends on the item
/// alone, so that the same content has the same chunks whichever way it came.
pub fn is_stored_whole(item: &Item) -> bool {
    item.extents.len() == 1 && item.content_bytes() <= SMALL_CONTENT_BYTES_MAX
}

impl Entry {
    /// Returns its key.
    pub fn key(&self) -> &ItemKey {
        match self {
            Self::Kept(key, _) => key,
            Self::Decided(decided) => &decided.item.key,
        }
    }

    /// Says whether anything is read of it.
    pub fn reads(&self) -> bool {
        matches!(self, Self::Decided(decided) if decided.decision.reads())
    }

    fn read_bytes(&self) -> u64 {
        match self {
            Self::Decided(decided) if decided.decision.reads() => decided.item.content_bytes(),
            _ => 0,
        }
    }

    fn is_large(&self) -> bool {
        matches!(self, Self::Decided(decided)
            if decided.decision.reads() && !is_stored_whole(&decided.item))
    }

    /// Returns about how much memory it takes while it waits.
    fn held_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 512;
        let record = match self {
            Self::Kept(_, record) => Some(record),
            Self::Decided(decided) => decided.stored.as_ref(),
        };
        let chunks = record.map_or(0, |record| record.chunks().count());
        ENTRY_BYTES + self.key().as_bytes().len() + chunks * size_of::<StoredChunk>()
    }
}

/// Consecutive entries that one thread works on.
#[derive(Debug, Default)]
pub struct Unit {
    /// The entries, in key order.
    pub entries: Vec<Entry>,
    read_bytes: u64,
}

impl Unit {
    /// Says whether anything is read.
    pub fn reads(&self) -> bool {
        self.entries.iter().any(Entry::reads)
    }

    /// Returns about how much memory it takes while it waits.
    pub fn held_bytes(&self) -> usize {
        self.entries.iter().map(Entry::held_bytes).sum()
    }
}

/// Groups entries into units: small contents together up to a solid block, a large content alone at
/// the end of its unit.
#[derive(Debug, Default)]
pub struct Grouping {
    open: Unit,
}

impl Grouping {
    /// Adds an entry; returns the unit that it completes.
    pub fn push(&mut self, entry: Entry) -> Option<Unit> {
        let is_large = entry.is_large();
        self.open.read_bytes += entry.read_bytes();
        self.open.entries.push(entry);
        let is_full = self.open.read_bytes >= UNIT_BYTES || self.open.entries.len() >= UNIT_ENTRIES;
        (is_large || is_full).then(|| std::mem::take(&mut self.open))
    }

    /// Returns what is left.
    pub fn take_rest(&mut self) -> Option<Unit> {
        (!self.open.entries.is_empty()).then(|| std::mem::take(&mut self.open))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide::ExtentSource;
    use super::*;
    use model::{Attributes, Extent, ItemKey, ItemKind};

    /// Notation: lengths in KiB of contents to be read; `=` for an unchanged item.
    fn check(entries: &str, expected: &str) {
        let mut grouping = Grouping::default();
        let mut units = Vec::new();
        for word in entries.split(' ') {
            let length = word.parse::<u64>().ok().map(|kib| kib << 10);
            let source = match length {
                Some(_) => ExtentSource::Read { previous: None },
                None => ExtentSource::Hole,
            };
            let item = Item {
                key: ItemKey::root(),
                kind: ItemKind::File,
                attributes: Attributes::default(),
                version: None,
                extents: vec![Extent::data(length.unwrap_or(9 << 30))],
            };
            let decision = Decision { extents: vec![source], is_unchanged: length.is_none() };
            let decided = Decided { item, decision, stored: None };
            units.extend(grouping.push(Entry::Decided(Box::new(decided))));
        }
        units.extend(grouping.take_rest());
        let sizes: Vec<_> = units.iter().map(|unit| unit.entries.len().to_string()).collect();
        assert_eq!(sizes.join(" "), expected, "{entries}");
    }

    #[test]
    fn small_contents_share_a_unit_and_a_large_one_ends_it() {
        check("1 2 3", "3");
        check("500 500 500 500 500 1", "5 1");
        check("1 2 600 3 4", "3 2");
        check("= = 4096 = =", "3 2");
        check("600 600", "1 1");
    }
}
