//! What changes mean, said naively: the model that every clever implementation is compared with.

use std::collections::BTreeMap;

use model::{Change, Item, ItemKey};

/// Applies changes in order to a sorted map of items.
pub fn apply_changes(
    items: BTreeMap<ItemKey, Item>,
    changes: &[Change],
) -> BTreeMap<ItemKey, Item> {
    changes.iter().fold(items, |mut items, change| {
        apply_change(&mut items, change, Item::clone, |item, key| item.key = key.clone());
        items
    })
}

/// Applies one change to a map from keys to anything that belongs to an item. `make` gives the value
/// of an upserted item, `rename` tells a value its new key.
pub fn apply_change<T>(
    items: &mut BTreeMap<ItemKey, T>,
    change: &Change,
    make: impl FnOnce(&Item) -> T,
    rename: impl Fn(&mut T, &ItemKey),
) {
    match change {
        Change::Upsert(item) => {
            items.insert(item.key.clone(), make(item));
        }
        Change::Delete(key) => {
            items.retain(|present, _| !present.is_within(key));
        }
        Change::Move { from, to } => {
            let moved: Vec<_> = items.extract_if(.., |key, _| key.is_within(from)).collect();
            items.retain(|present, _| !present.is_within(to));
            for (key, mut value) in moved {
                if let Some(key) = key.rebase(from, to) {
                    rename(&mut value, &key);
                    items.insert(key, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{item_named, key};

    fn items(paths: &[&str]) -> BTreeMap<ItemKey, Item> {
        paths.iter().map(|path| (key(path), item_named(path))).collect()
    }

    fn move_of(from: &str, to: &str) -> Change {
        Change::Move { from: key(from), to: key(to) }
    }

    #[test]
    fn changes_mean_what_the_model_says() {
        let cases: [(&str, Change, &[&str]); 7] = [
            ("insert", Change::Upsert(item_named("b")), &["a", "a/x", "a.b", "b", "c"]),
            ("overwrite", Change::Upsert(item_named("a")), &["a", "a/x", "a.b", "c"]),
            ("delete takes what is below", Change::Delete(key("a")), &["a.b", "c"]),
            ("delete of nothing", Change::Delete(key("zz")), &["a", "a/x", "a.b", "c"]),
            ("move takes what is below", move_of("a", "d"), &["a.b", "c", "d", "d/x"]),
            ("move replaces a subtree", move_of("c", "a"), &["a", "a.b"]),
            ("move to its own parent", move_of("a/x", "a"), &["a", "a.b", "c"]),
        ];
        for (name, change, expected) in cases {
            let after = apply_changes(items(&["a", "a/x", "a.b", "c"]), &[change]);
            assert_eq!(after, items(expected), "{name}");
        }
    }

    #[test]
    fn order_counts() {
        let (upsert, delete) = (Change::Upsert(item_named("a/y")), Change::Delete(key("a")));
        let both = [upsert.clone(), delete.clone()];
        assert_eq!(apply_changes(items(&["a"]), &both), items(&[]));
        assert_eq!(apply_changes(items(&["a"]), &[delete, upsert]), items(&["a/y"]));
    }
}
