//! Grouping of decided items into units of work that are carried out in parallel and put together in
//! order.

use model::Item;

use super::decide::Decision;

/// Content up to this size is stored whole, in solid blocks.
pub const SMALL_CONTENT_BYTES_MAX: u64 = 512 << 10;
/// A unit of small contents is closed at this size: one solid block.
const UNIT_BYTES: u64 = 1 << 20;
/// A unit is closed at this many entries, so that a tree of empty files is also worked on in parallel.
const UNIT_ENTRIES: usize = 2048;

/// An item with what is to be done about it.
#[derive(Debug)]
pub struct Entry {
    /// The item as listed.
    pub item: Item,
    /// What is done about it.
    pub decision: Decision,
}

impl Entry {
    fn read_bytes(&self) -> u64 {
        if self.decision.reads() { self.item.content_bytes() } else { 0 }
    }

    /// Says whether the entry's content is read and stored whole, beside others.
    pub fn is_small(&self) -> bool {
        self.item.extents.len() == 1 && self.read_bytes() <= SMALL_CONTENT_BYTES_MAX
    }
}

/// Consecutive entries that one thread works on.
#[derive(Debug, Default)]
pub struct Unit {
    /// The entries, in key order.
    pub entries: Vec<Entry>,
    read_bytes: u64,
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
        let is_large = entry.decision.reads() && !entry.is_small();
        self.open.read_bytes += entry.read_bytes();
        self.open.entries.push(entry);
        let is_full = self.open.read_bytes >= UNIT_BYTES || self.open.entries.len() >= UNIT_ENTRIES;
        (is_large || is_full).then(|| std::mem::take(&mut self.open))
    }

    /// Returns what is left.
    pub fn finish(self) -> Option<Unit> {
        (!self.open.entries.is_empty()).then_some(self.open)
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
            units.extend(grouping.push(Entry { item, decision }));
        }
        units.extend(grouping.finish());
        let sizes: Vec<_> = units.iter().map(|unit| unit.entries.len().to_string()).collect();
        assert_eq!(sizes.join(" "), expected, "{entries}");
    }

    #[test]
    fn small_contents_share_a_unit_and_a_large_one_ends_it() {
        check("1 2 3", "3");
        check("500 500 500 1", "3 1");
        check("1 2 600 3 4", "3 2");
        check("= = 4096 = =", "3 2");
        check("600 600", "1 1");
    }
}
