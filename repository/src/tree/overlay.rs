//! Changes of a tree, applied to nothing yet: what stands where once they are all done.
//!
//! Changes come in any order and build on each other (a directory is moved, then a file in it is
//! written, then its parent is deleted). Here they become one sorted list: these keys are set, these
//! ranges are as the parent tree has them, perhaps under another key. Memory is that of the changes.

use std::collections::BTreeMap;
use std::ops::Bound;

use model::{Change, Item, ItemKey};

use super::reader::KeyRange;

/// Collects changes; `T` stands for an upserted item (the item itself, or its record).
#[derive(Debug)]
pub struct Edits<T> {
    /// By key: what stands there, and where what stands below it, as far as nothing else is said, is
    /// found in the parent tree. The root always says something.
    overrides: BTreeMap<ItemKey, Override<T>>,
}

#[derive(Debug)]
struct Override<T> {
    /// What was set here. Without it: what the source has here.
    value: Option<T>,
    /// The key in the parent tree that this key's subtree comes from; none where it is gone.
    source: Option<ItemKey>,
}

/// A part of the resulting tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'e> {
    /// This key is set.
    Set(&'e ItemKey),
    /// This range is as in the parent tree.
    Keep(KeyRange),
    /// What the parent tree has in this range stands under another key.
    Moved { range: KeyRange, from: ItemKey, to: &'e ItemKey },
}

/// A place between keys.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edge<'e> {
    Before(&'e ItemKey),
    After(&'e ItemKey),
    /// Behind the key and all that is below it.
    AfterSubtree(&'e ItemKey),
}

impl<T> Default for Edits<T> {
    fn default() -> Self {
        let root = Override { value: None, source: Some(ItemKey::root()) };
        Self { overrides: BTreeMap::from([(ItemKey::root(), root)]) }
    }
}

impl Edits<Item> {
    /// Adds a change. Items keep the keys that they were upserted with, also where they are moved
    /// later: [`Edits::upserts`] says where they stand.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Upsert(item) => self.upsert(item.key.clone(), item),
            Change::Delete(key) => self.delete(&key),
            Change::Move { from, to } => self.move_subtree(&from, &to),
        }
    }
}

impl<T> Edits<T> {
    /// Sets an item. What is below it stays.
    pub fn upsert(&mut self, key: ItemKey, value: T) {
        let source = self.source_of(&key);
        self.overrides.entry(key).or_insert(Override { value: None, source }).value = Some(value);
    }

    /// Deletes an item with all that is below it.
    pub fn delete(&mut self, key: &ItemKey) {
        drop(self.take_subtree(key));
        self.overrides.insert(key.clone(), Override { value: None, source: None });
    }

    /// Moves an item with all that is below it, replacing what stands there.
    pub fn move_subtree(&mut self, from: &ItemKey, to: &ItemKey) {
        let source = self.source_of(from);
        let mut moved = self.take_subtree(from);
        moved.entry(from.clone()).or_insert(Override { value: None, source });
        self.overrides.insert(from.clone(), Override { value: None, source: None });
        drop(self.take_subtree(to));
        self.overrides.extend(moved.into_iter().filter_map(|(key, at)| {
            let key = key.rebase(from, to)?;
            Some((key, at))
        }));
    }

    /// Says where in the parent tree the item at `key` was before it was upserted, through all moves;
    /// none where it is new.
    pub fn source_of(&self, key: &ItemKey) -> Option<ItemKey> {
        let mut at = key.clone();
        loop {
            if let Some(over) = self.overrides.get(&at) {
                return key.rebase(&at, over.source.as_ref()?);
            }
            at = at.parent()?;
        }
    }

    /// Lists the upserted items that are still there, in key order, by the keys that they have now.
    pub fn upserts(&self) -> impl Iterator<Item = (&ItemKey, &T)> {
        self.overrides.iter().filter_map(|(key, at)| Some((key, at.value.as_ref()?)))
    }

    /// Says whether there are no changes.
    pub fn is_empty(&self) -> bool {
        let is_kept = |(key, at): (&ItemKey, &Override<T>)| {
            at.value.is_none() && at.source.as_ref() == Some(key)
        };
        self.overrides.iter().all(is_kept)
    }

    /// Returns the resulting tree's parts in key order.
    pub(super) fn segments(&self) -> Vec<Segment<'_>> {
        let mut parts = Parts::default();
        // The overrides that the present place is in, outermost first.
        let mut around: Vec<(&ItemKey, Option<&ItemKey>)> = Vec::new();
        for (key, at) in &self.overrides {
            while let Some((outer, source)) = around.last().filter(|(o, _)| !key.is_within(o)) {
                parts.copy_until(Edge::AfterSubtree(outer), outer, *source);
                around.pop();
            }
            if let Some((outer, source)) = around.last() {
                parts.copy_until(Edge::Before(key), outer, *source);
            }
            parts.begin = Edge::Before(key);
            if at.value.is_some() {
                parts.segments.push(Segment::Set(key));
                parts.begin = Edge::After(key);
            }
            around.push((key, at.source.as_ref()));
        }
        while let Some((outer, source)) = around.pop() {
            parts.copy_until(Edge::AfterSubtree(outer), outer, source);
        }
        parts.segments
    }

    fn take_subtree(&mut self, key: &ItemKey) -> BTreeMap<ItemKey, Override<T>> {
        let (_, end) = key.subtree();
        let mut taken = self.overrides.split_off(key);
        if let Bound::Excluded(end) = end {
            self.overrides.extend(taken.split_off(&end));
        }
        taken
    }
}

/// Collects segments while walking the overrides.
struct Parts<'e> {
    segments: Vec<Segment<'e>>,
    /// What comes before is done.
    begin: Edge<'e>,
    /// Where the last segment ends, if it is a kept range: the next one may continue it.
    kept_until: Option<Edge<'e>>,
}

/// The root's key, for what is before the first key.
static ROOT: ItemKey = ItemKey::root();

impl Default for Parts<'_> {
    fn default() -> Self {
        Self { segments: Vec::new(), begin: Edge::Before(&ROOT), kept_until: None }
    }
}

impl<'e> Parts<'e> {
    /// Adds what the override at `outer` says of everything up to `end`.
    fn copy_until(&mut self, end: Edge<'e>, outer: &'e ItemKey, source: Option<&'e ItemKey>) {
        let begin = std::mem::replace(&mut self.begin, end.clone());
        let Some(source) = source.filter(|_| begin != end) else { return };
        if source == outer {
            self.keep(&begin, end);
            return;
        }
        let edges = (begin.lower(outer, source), end.upper(outer, source));
        if let (Some(lower), Some(upper)) = edges {
            let range = KeyRange { lower, upper };
            self.segments.push(Segment::Moved { range, from: source.clone(), to: outer });
        }
    }

    fn keep(&mut self, begin: &Edge<'e>, end: Edge<'e>) {
        let (lower, upper) = (begin.lower(&ROOT, &ROOT), end.upper(&ROOT, &ROOT));
        let (Some(lower), Some(upper)) = (lower, upper) else { return };
        match self.segments.last_mut() {
            Some(Segment::Keep(range)) if self.kept_until.as_ref() == Some(begin) => {
                range.upper = upper;
            }
            _ => self.segments.push(Segment::Keep(KeyRange { lower, upper })),
        }
        self.kept_until = Some(end);
    }
}

impl Edge<'_> {
    /// Returns the lower bound of what follows, as the parent tree has it.
    fn lower(&self, outer: &ItemKey, source: &ItemKey) -> Option<Bound<ItemKey>> {
        Some(match self {
            Edge::Before(key) => match key.rebase(outer, source)? {
                first if first.is_root() => Bound::Unbounded,
                key => Bound::Included(key),
            },
            Edge::After(key) => Bound::Excluded(key.rebase(outer, source)?),
            Edge::AfterSubtree(key) => match key.rebase(outer, source)?.subtree().1 {
                Bound::Excluded(end) => Bound::Included(end),
                Bound::Included(_) | Bound::Unbounded => return None,
            },
        })
    }

    /// Returns the upper bound of what comes before, as the parent tree has it.
    fn upper(&self, outer: &ItemKey, source: &ItemKey) -> Option<Bound<ItemKey>> {
        Some(match self {
            Edge::Before(key) => Bound::Excluded(key.rebase(outer, source)?),
            Edge::After(key) => Bound::Included(key.rebase(outer, source)?),
            Edge::AfterSubtree(key) => key.rebase(outer, source)?.subtree().1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::key;
    use super::*;

    /// Applies `+k` (upsert), `-k` (delete) and `k>l` (move), and shows what comes of it.
    fn check(changes: &str, expected: &str) {
        let mut edits = Edits::<()>::default();
        for change in changes.split_whitespace() {
            match (change.split_once('>'), change.split_at(1)) {
                (Some((from, to)), _) => edits.move_subtree(&key(from), &key(to)),
                (None, ("+", path)) => edits.upsert(key(path), ()),
                (None, (_, path)) => edits.delete(&key(path)),
            }
        }
        let shown: Vec<_> = edits.segments().iter().map(show).collect();
        assert_eq!(shown.join(" "), expected, "{changes}");
    }

    fn show(segment: &Segment<'_>) -> String {
        let path = |key: &ItemKey| key.display().replace('\u{1}', "~");
        let bounds = |range: &KeyRange| {
            let lower = match &range.lower {
                Bound::Unbounded => "[".to_owned(),
                Bound::Included(key) => format!("[{}", path(key)),
                Bound::Excluded(key) => format!("({}", path(key)),
            };
            match &range.upper {
                Bound::Unbounded => format!("{lower},]"),
                Bound::Included(key) => format!("{lower},{}]", path(key)),
                Bound::Excluded(key) => format!("{lower},{})", path(key)),
            }
        };
        match segment {
            Segment::Set(key) => format!("+{}", path(key)),
            Segment::Keep(range) => bounds(range),
            Segment::Moved { range, from, to } => {
                format!("{}:{}>{}", bounds(range), path(from), path(to))
            }
        }
    }

    #[test]
    fn changes_become_one_sorted_list() {
        check("", "[,]");
        check("+a/b", "[,a/b) +a/b (a/b,]");
        check("-a/b", "[,a/b) [a/b~,]");
        check("+a/b +a", "[,a) +a (a,a/b) +a/b (a/b,]");
        check("+a/b -a", "[,a) [a~,]");
        check("-a +a/b", "[,a) +a/b [a~,]");
        check("a>c", "[,a) [a~,c) [a,a~):a>c [c~,]");
        check("c>a", "[,a) [c,c~):c>a [a~,c) [c~,]");
        check("a>c +c/x", "[,a) [a~,c) [a,a/x):a>c +c/x (a/x,a/x~):a/x>c/x [a/x~,a~):a>c [c~,]");
        check("a>c c>a", "[,c) [c~,]");
        check("+a/x a>c", "[,a) [a~,c) [a,a/x):a>c +c/x (a/x,a/x~):a/x>c/x [a/x~,a~):a>c [c~,]");
        check("-", "");
        check("- +a", "+a");
        check(">a", "[,]:>a");
        check("a>", "[a,a~):a>");
        check("a/b>a", "[,a) [a/b,a/b~):a/b>a [a~,]");
        check("a>a", "[,]");
    }

    #[test]
    fn items_are_found_where_they_were() {
        let mut edits = Edits::<()>::default();
        edits.move_subtree(&key("a"), &key("c"));
        edits.upsert(key("c/x"), ());
        edits.delete(&key("d"));
        let cases = [("c/x", Some("a/x")), ("c/y", Some("a/y")), ("a/x", None), ("d/e", None)];
        for (now, before) in cases {
            assert_eq!(edits.source_of(&key(now)), before.map(key), "{now}");
        }
        assert_eq!(edits.source_of(&key("z")), Some(key("z")));
        assert!(!edits.is_empty() && Edits::<()>::default().is_empty());
    }
}
