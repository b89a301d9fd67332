//! What was last told of each item, in short, and how a new look at it differs. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use model::{Change, ExtentBody, Item, ItemKey, ItemKind};

use super::links::Found;

/// The short form of what was told of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    item: Digest,
    /// That of the file, where the item is one name of several.
    file: Option<Digest>,
    is_directory: bool,
}

/// The beginning of a BLAKE3 hash: long enough that no two states of an item share it by chance.
type Digest = [u8; 16];

impl Mark {
    pub(super) fn of(found: &Found) -> Self {
        Self {
            item: digest(&found.item),
            file: found.file.as_ref().map(digest),
            is_directory: found.item.kind == ItemKind::Directory,
        }
    }
}

fn digest(item: &Item) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let version = item.version.as_ref().map(|version| version.0.as_ref()).unwrap_or_default();
    hasher.update(&[item.kind as u8, u8::from(item.version.is_some())]);
    for part in [version, item.attributes.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    for extent in &item.extents {
        hasher.update(&extent.length_bytes.to_le_bytes());
        hasher.update(&[u8::from(extent.body == ExtentBody::Hole)]);
    }
    let mut digest = Digest::default();
    hasher.finalize_xof().fill(&mut digest);
    digest
}

/// Everything that was told: about 300 bytes per item.
#[derive(Debug, Default)]
pub(super) struct Known {
    marks: BTreeMap<ItemKey, Mark>,
}

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In an order in which they can be applied.
    pub(super) list: Vec<Change>,
    /// Directories that were not there before.
    pub(super) appeared: Vec<ItemKey>,
}

impl Changes {
    fn upsert(&mut self, item: Item, before: Option<&Mark>) {
        let was_directory = before.is_some_and(|mark| mark.is_directory);
        let is_directory = item.kind == ItemKind::Directory;
        if was_directory && !is_directory {
            // Takes what was below with it.
            self.list.push(Change::Delete(item.key.clone()));
        }
        if is_directory && !was_directory {
            self.appeared.push(item.key.clone());
        }
        self.list.push(Change::Upsert(item));
    }
}

/// Names of one file are concerned whose other names may lie elsewhere: only a walk can tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NeedsWalk;

impl Known {
    /// Notes an item that comes after all others in key order.
    pub(super) fn note(&mut self, found: &Found) {
        self.marks.insert(found.item.key.clone(), Mark::of(found));
    }

    pub(super) fn is_directory(&self, key: &ItemKey) -> bool {
        self.marks.get(key).is_some_and(|mark| mark.is_directory)
    }

    /// Lists the directories at and below a key.
    pub(super) fn directories<'a>(&'a self, key: &ItemKey) -> impl Iterator<Item = &'a ItemKey> {
        let marks = self.marks.range(key.subtree());
        marks.filter(|(_, mark)| mark.is_directory).map(|(key, _)| key)
    }

    /// Begins to compare with a walk of everything. What is within `kept` is not walked and stays.
    pub(super) fn diff<'a>(&'a self, kept: &'a ItemKey) -> Diff<'a> {
        Diff {
            old: self.marks.iter().peekable(),
            kept,
            new: Self::default(),
            deleted: None,
            changes: Changes::default(),
        }
    }

    /// Takes over one item that was looked at again.
    pub(super) fn update(&mut self, found: Found, changes: &mut Changes) {
        let mark = Mark::of(&found);
        let before = self.marks.insert(found.item.key.clone(), mark);
        if before != Some(mark) {
            changes.upsert(found.item, before.as_ref());
        }
    }

    /// Compares what is known of a directory's children with all that it has now. A file that says it
    /// has other names is given as the file that it would be without them.
    ///
    /// # Errors
    /// Where only a walk can tell; nothing was taken over then.
    pub(super) fn compare(
        &mut self,
        directory: &ItemKey,
        kept: &ItemKey,
        now: Vec<Found>,
        changes: &mut Changes,
    ) -> Result<(), NeedsWalk> {
        let before = self.children(directory);
        let by_key: BTreeMap<&ItemKey, &Found> =
            now.iter().map(|found| (&found.item.key, found)).collect();
        let gone: Vec<_> = before
            .keys()
            .filter(|key| !by_key.contains_key(key) && !key.is_within(kept))
            .cloned()
            .collect();
        let is_linked = |key: &ItemKey| {
            let mut below = self.marks.range(key.subtree());
            below.any(|(_, mark)| mark.file.is_some())
        };
        let is_same = |found: &Found| {
            let mark = before.get(&found.item.key);
            match &found.file {
                Some(file) => mark.is_some_and(|mark| mark.file == Some(digest(file))),
                None => mark == Some(&Mark::of(found)),
            }
        };
        let changed: Vec<Found> = now.iter().filter(|found| !is_same(found)).cloned().collect();
        let concerns_links = gone.iter().any(is_linked)
            || changed.iter().any(|found| found.file.is_some() || is_linked_item(&before, found))
            || changed.iter().any(|found| {
                let was_directory = before.get(&found.item.key).is_some_and(|m| m.is_directory);
                was_directory
                    && found.item.kind != ItemKind::Directory
                    && is_linked(&found.item.key)
            });
        if concerns_links {
            return Err(NeedsWalk);
        }
        for key in gone {
            self.remove(&key);
            changes.list.push(Change::Delete(key));
        }
        for found in changed {
            let was_directory = before.get(&found.item.key).is_some_and(|mark| mark.is_directory);
            if was_directory && found.item.kind != ItemKind::Directory {
                self.remove(&found.item.key);
            }
            let mark = Mark::of(&found);
            self.marks.insert(found.item.key.clone(), mark);
            changes.upsert(found.item.clone(), before.get(&found.item.key));
        }
        Ok(())
    }

    fn children(&self, directory: &ItemKey) -> BTreeMap<ItemKey, Mark> {
        let mut children = BTreeMap::new();
        let mut from = Bound::Excluded(directory.clone());
        while let Some((key, mark)) = self.marks.range((from, Bound::Unbounded)).next()
            && key.is_within(directory)
        {
            children.insert(key.clone(), *mark);
            from = match key.subtree().1 {
                Bound::Excluded(end) => Bound::Included(end),
                _ => break,
            };
        }
        children
    }

    fn remove(&mut self, key: &ItemKey) {
        let below: Vec<_> = self.marks.range(key.subtree()).map(|(key, _)| key.clone()).collect();
        for key in below {
            self.marks.remove(&key);
        }
    }
}

fn is_linked_item(before: &BTreeMap<ItemKey, Mark>, found: &Found) -> bool {
    before.get(&found.item.key).is_some_and(|mark| mark.file.is_some())
}

/// A comparison with a walk that is under way.
#[derive(Debug)]
pub(super) struct Diff<'a> {
    old: Peekable<btree_map::Iter<'a, ItemKey, Mark>>,
    kept: &'a ItemKey,
    new: Known,
    deleted: Option<ItemKey>,
    changes: Changes,
}

impl Diff<'_> {
    /// Takes the next item of the walk.
    pub(super) fn push(&mut self, found: Found) {
        let key = found.item.key.clone();
        self.pass_over(Some(&key));
        let before = self.old.next_if(|(old, _)| **old == key).map(|(_, mark)| *mark);
        let mark = Mark::of(&found);
        if before != Some(mark) {
            self.changes.upsert(found.item, before.as_ref());
            if before.is_some_and(|mark| mark.is_directory) && !mark.is_directory {
                self.deleted = Some(key.clone());
            }
        }
        self.new.marks.insert(key, mark);
    }

    /// Ends the comparison: what is known now, and what is to be told.
    pub(super) fn finish(mut self) -> (Known, Changes) {
        self.pass_over(None);
        (self.new, self.changes)
    }

    /// Passes over what was known before the next item of the walk: it is gone.
    fn pass_over(&mut self, next: Option<&ItemKey>) {
        while let Some((key, mark)) =
            self.old.next_if(|(old, _)| next.is_none_or(|next| *old < next))
        {
            if key.is_within(self.kept) {
                self.new.marks.insert(key.clone(), *mark);
            } else if !self.deleted.as_ref().is_some_and(|deleted| key.is_within(deleted)) {
                self.changes.list.push(Change::Delete(key.clone()));
                self.deleted = Some(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{AttributeTag, Attributes};
    use proptest::prelude::*;
    use testkit::apply_changes;

    use super::*;

    type Items = BTreeMap<ItemKey, Item>;

    fn key(path: &str) -> ItemKey {
        let names = path.split('/').filter(|name| !name.is_empty());
        ItemKey::from_components(["h"].into_iter().chain(names)).expect("sound path")
    }

    fn item(key: &ItemKey, kind: ItemKind, state: u64) -> Item {
        let attributes = Attributes::builder().unsigned(AttributeTag::MODE, state).build();
        Item { key: key.clone(), kind, attributes, version: None, extents: Vec::new() }
    }

    /// A tree from paths with a state each: odd states are directories. What lies below a file is left
    /// out, and directories above are filled in.
    fn tree(paths: &[(&str, u64)]) -> Items {
        let mut items = Items::from([(key(""), item(&key(""), ItemKind::Directory, 0))]);
        for (path, state) in paths {
            let leaf = key(path);
            let above: Vec<_> = std::iter::successors(leaf.parent(), ItemKey::parent)
                .filter(|key| !key.is_root())
                .collect();
            let is_below_file =
                above.iter().any(|key| items.get(key).is_some_and(|i| i.kind == ItemKind::File));
            if is_below_file {
                continue;
            }
            for key in above {
                items.entry(key.clone()).or_insert_with(|| item(&key, ItemKind::Directory, 1));
            }
            let kind = if state % 2 == 1 { ItemKind::Directory } else { ItemKind::File };
            if kind == ItemKind::File {
                items.retain(|key, _| !key.is_within(&leaf));
            }
            items.insert(leaf.clone(), item(&leaf, kind, *state));
        }
        items
    }

    fn known(items: &Items) -> Known {
        let mut known = Known::default();
        items.values().for_each(|item| known.note(&item.clone().into()));
        known
    }

    fn any_tree() -> impl Strategy<Value = Items> {
        let path = prop::sample::select(vec![
            "a", "a/b", "a/b/c", "a/b/d", "a/b.d", "a-b", "a\u{1}", "e", "e/f", "e/f/g/h",
        ]);
        prop::collection::vec((path, 0..6_u64), 0..8).prop_map(|paths| tree(&paths))
    }

    fn nothing_kept() -> ItemKey {
        key("@commands")
    }

    proptest! {
        /// A walk of everything.
        #[test]
        fn a_difference_leads_from_one_state_to_the_other(old in any_tree(), new in any_tree()) {
            let (before, kept) = (known(&old), nothing_kept());
            let mut diff = before.diff(&kept);
            new.values().for_each(|item| diff.push(item.clone().into()));
            let (after, changes) = diff.finish();
            prop_assert_eq!(&after.marks, &known(&new).marks);
            prop_assert_eq!(apply_changes(old, &changes.list), new);
        }

        /// Directory by directory, with those that appear, as a follower does it.
        #[test]
        fn looking_at_each_directory_leads_to_the_same(old in any_tree(), new in any_tree()) {
            let (mut state, kept) = (known(&old), nothing_kept());
            let mut changes = Changes::default();
            let mut dirty: std::collections::BTreeSet<_> =
                state.directories(&key("")).cloned().collect();
            while let Some(directory) = dirty.pop_first() {
                let is_there = new.get(&directory).is_some_and(|i| i.kind == ItemKind::Directory);
                if !state.is_directory(&directory) || !is_there {
                    continue;
                }
                state.update(new[&directory].clone().into(), &mut changes);
                let children = new.values().filter(|i| i.key.parent() == Some(directory.clone()));
                let children = children.cloned().map(Found::from).collect();
                prop_assert_eq!(state.compare(&directory, &kept, children, &mut changes), Ok(()));
                dirty.extend(std::mem::take(&mut changes.appeared));
            }
            prop_assert_eq!(&state.marks, &known(&new).marks);
            prop_assert_eq!(apply_changes(old, &changes.list), new);
        }
    }

    #[test]
    fn what_is_kept_is_neither_compared_nor_lost() {
        let old = tree(&[("@commands/a", 0), ("b", 0)]);
        let new = tree(&[("b", 2)]);
        let (before, kept) = (known(&old), nothing_kept());
        let mut diff = before.diff(&kept);
        new.values().for_each(|item| diff.push(item.clone().into()));
        let (after, changes) = diff.finish();
        assert_eq!(changes.list, [Change::Upsert(new[&key("b")].clone())]);
        assert_eq!(after.marks.len(), 4, "the host, its commands, one of them and b");
    }

    #[test]
    fn only_a_walk_can_tell_of_files_with_several_names() {
        let file = |path: &str, state| item(&key(path), ItemKind::File, state);
        let linked = |path: &str, state| {
            let file = file(path, state);
            Found { file: Some(file.clone()), item: file }
        };
        // `a/x` and `c` are names of one file; `b` is alone.
        let base = || {
            let mut known = known(&tree(&[("a", 1), ("b", 0)]));
            known.note(&linked("a/x", 0));
            let further = item(&key("c"), ItemKind::Hardlink, 0);
            known.note(&Found { item: further, file: Some(file("c", 0)) });
            known
        };
        let a = || Found::from(item(&key("a"), ItemKind::Directory, 1));
        let b = || Found::from(file("b", 0));
        let cases: [(&str, Vec<Found>, bool); 8] = [
            ("as before", vec![a(), b(), linked("c", 0)], false),
            ("another file is gone", vec![a(), linked("c", 0)], false),
            ("another file has changed", vec![a(), file("b", 2).into(), linked("c", 0)], false),
            ("it has changed", vec![a(), b(), linked("c", 2)], true),
            ("it has no other name any more", vec![a(), b(), file("c", 0).into()], true),
            ("a name is gone", vec![a(), b()], true),
            ("a directory with a name is gone", vec![b(), linked("c", 0)], true),
            ("a file has got another name", vec![a(), linked("b", 0), linked("c", 0)], true),
        ];
        for (what, now, needs_walk) in cases {
            let mut changes = Changes::default();
            let compared = base().compare(&key(""), &nothing_kept(), now, &mut changes);
            assert_eq!(compared.is_err(), needs_walk, "{what}");
            assert!(!needs_walk || changes.list.is_empty(), "{what}: nothing is taken over");
        }
    }
}
