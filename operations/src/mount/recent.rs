//! Items that were met lately. A kernel asks for one item several times in a row: its name, its attributes,
//! its content; and after a listing for all that was listed. Reading a tree's leaf for each would cost more
//! than all else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::ItemKey;
use repository::types::{StoredBody, StoredExtent};

use crate::browse::{Entry, EntryContent};

/// What is kept, counted in items and the pieces of their content.
const WEIGHT_MAX: usize = 1 << 14;
/// What weighs more than this would drive too much else out.
const WEIGHT_MAX_OF_ONE: usize = 1 << 8;

/// An item's system and stored key.
type Key = (usize, ItemKey);

/// Recently met items; the least recently used are dropped.
#[derive(Default)]
pub(super) struct Recent {
    entries: HashMap<Key, Kept>,
    order: BTreeMap<u64, Key>,
    uses: u64,
    weight: usize,
}

struct Kept {
    entry: Arc<Entry>,
    used: u64,
    weight: usize,
}

impl Recent {
    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let kept = self.entries.get_mut(key)?;
        self.uses += 1;
        self.order.remove(&kept.used);
        self.order.insert(self.uses, key.clone());
        kept.used = self.uses;
        Some(Arc::clone(&kept.entry))
    }

    pub(super) fn put(&mut self, key: Key, entry: &Arc<Entry>) {
        let weight = weight(entry);
        if weight > WEIGHT_MAX_OF_ONE || self.entries.contains_key(&key) {
            return;
        }
        self.uses += 1;
        self.weight += weight;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, Kept { entry: Arc::clone(entry), used: self.uses, weight });
        while self.weight > WEIGHT_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.weight -= self.entries.remove(&oldest).map_or(0, |kept| kept.weight);
        }
    }
}

fn weight(entry: &Entry) -> usize {
    let content = match &entry.content {
        EntryContent::Stored(extents) => extents.iter().map(pieces).sum(),
        // The bytes are held by the state itself.
        EntryContent::Logged(contents) => contents.len(),
    };
    1 + content + entry.item.extents.len() + entry.item.attributes.as_bytes().len() / 256
}

fn pieces(extent: &StoredExtent) -> usize {
    match &extent.body {
        StoredBody::Hole => 1,
        StoredBody::Data { chunks, .. } => chunks.iter().map(|chunk| 1 + chunk.bases.len()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Attributes, Item, ItemKind};

    fn key(n: usize) -> Key {
        (0, ItemKey::from_components([n.to_string()]).expect("key"))
    }

    fn entry(n: usize) -> Arc<Entry> {
        let item = Item {
            key: key(n).1,
            kind: ItemKind::File,
            attributes: Attributes::default(),
            version: None,
            extents: Vec::new(),
        };
        Arc::new(Entry { item, content: EntryContent::Stored(Vec::new()) })
    }

    #[test]
    fn the_least_recently_used_are_dropped() {
        let mut recent = Recent::default();
        for n in 0..WEIGHT_MAX {
            recent.put(key(n), &entry(n));
        }
        assert!(recent.get(&key(0)).is_some());
        for n in WEIGHT_MAX..WEIGHT_MAX + 10 {
            recent.put(key(n), &entry(n));
        }
        assert!(recent.get(&key(0)).is_some(), "it was used");
        assert!((1..=10).all(|n| recent.get(&key(n)).is_none()));
        assert_eq!(recent.get(&key(11)).expect("kept").item.key, key(11).1);
        assert_eq!(
            (recent.weight, recent.entries.len(), recent.order.len()),
            (WEIGHT_MAX, WEIGHT_MAX, WEIGHT_MAX)
        );
    }
}
