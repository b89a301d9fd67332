//! What differs between two trees, at the cost of the difference.
//!
//! Both trees are walked in key order at once. What is not yet read is a whole node; two nodes of the
//! same id are passed over unread, at whatever level they meet. A node is read only where keys of the
//! other tree fall into its range.

use std::cmp::Ordering;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use model::{ItemKey, Result};

use super::Tree;
use super::node::{Child, Node};
use crate::types::Record;

/// Differences are handed on in batches of this size, or whenever a node has to be read.
const BATCH_DIFFERENCES: usize = 256;

/// One key at which two trees differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Where.
    pub key: ItemKey,
    /// What the old tree has there.
    pub old: Option<Record>,
    /// What the new tree has there.
    pub new: Option<Record>,
}

/// Lists in key order what differs between two trees of one key domain. Items of the same state are
/// equal, wherever their content lies.
///
/// The stream fails with `Corrupt` where a node is damaged and no other copy is left, and with the
/// errors of the store.
pub fn diff(old: &Tree, new: &Tree) -> BoxStream<'static, Result<Difference>> {
    let walk = Walk::start(old, new);
    stream::once(std::future::ready(walk))
        .map_ok(|walk| {
            stream::try_unfold(walk, |mut walk| async move {
                let batch = walk.next_batch().await?;
                Ok(batch.map(|batch| (stream::iter(batch.into_iter().map(Ok)), walk)))
            })
            .try_flatten()
        })
        .try_flatten()
        .boxed()
}

struct Walk {
    old: Side,
    new: Side,
}

/// What is still to be walked of a tree; the head is last.
struct Side {
    tree: Tree,
    pieces: Vec<Piece>,
}

enum Piece {
    Unread(Box<Child>),
    /// The items of a leaf, in descending order.
    Items(Vec<(ItemKey, Record)>),
}

enum Head<'s> {
    End,
    Unread(&'s Child),
    Item(&'s ItemKey),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    End,
    Skip,
    ReadOld,
    ReadNew,
    ReadBoth,
    TakeOld,
    TakeNew,
    TakeBoth,
}

impl Walk {
    fn start(old: &Tree, new: &Tree) -> Result<Self> {
        Ok(Self { old: Side::start(old)?, new: Side::start(new)? })
    }

    /// Returns some differences; none at the end.
    async fn next_batch(&mut self) -> Result<Option<Vec<Difference>>> {
        let mut batch = Vec::new();
        loop {
            let step = decide(self.old.head(), self.new.head());
            let reads = matches!(step, Step::ReadOld | Step::ReadNew | Step::ReadBoth);
            if !batch.is_empty() && (reads || batch.len() >= BATCH_DIFFERENCES) {
                return Ok(Some(batch));
            }
            match step {
                Step::End => return Ok((!batch.is_empty()).then_some(batch)),
                Step::Skip => {
                    self.old.pieces.pop();
                    self.new.pieces.pop();
                }
                Step::ReadOld => self.old.read().await?,
                Step::ReadNew => self.new.read().await?,
                Step::ReadBoth => {
                    futures::try_join!(self.old.read(), self.new.read())?;
                }
                Step::TakeOld => batch.extend(difference(self.old.take(), None)),
                Step::TakeNew => batch.extend(difference(None, self.new.take())),
                Step::TakeBoth => batch.extend(difference(self.old.take(), self.new.take())),
            }
        }
    }
}

impl Side {
    fn start(tree: &Tree) -> Result<Self> {
        let root = tree.root_child()?.map(|child| Piece::Unread(Box::new(child)));
        Ok(Self { tree: tree.clone(), pieces: root.into_iter().collect() })
    }

    fn head(&self) -> Head<'_> {
        match self.pieces.last() {
            None => Head::End,
            Some(Piece::Unread(child)) => Head::Unread(child),
            Some(Piece::Items(items)) => items.last().map_or(Head::End, |(key, _)| Head::Item(key)),
        }
    }

    /// Replaces the node at the head by what is in it.
    async fn read(&mut self) -> Result<()> {
        let Some(Piece::Unread(child)) = self.pieces.pop() else { return Ok(()) };
        match self.tree.read(&child).await? {
            Node::Leaf(mut items) => {
                items.reverse();
                self.pieces.push(Piece::Items(items));
            }
            Node::Interior(children) => {
                let unread = children.into_iter().rev().map(|c| Piece::Unread(Box::new(c)));
                self.pieces.extend(unread);
            }
        }
        Ok(())
    }

    /// Takes the item at the head. A piece goes with its last item, so that the head is never empty.
    fn take(&mut self) -> Option<(ItemKey, Record)> {
        let Some(Piece::Items(items)) = self.pieces.last_mut() else { return None };
        let item = items.pop();
        if items.is_empty() {
            self.pieces.pop();
        }
        item
    }
}

fn decide(old: Head<'_>, new: Head<'_>) -> Step {
    match (old, new) {
        (Head::End, Head::End) => Step::End,
        (Head::Item(_), Head::End) => Step::TakeOld,
        (Head::End, Head::Item(_)) => Step::TakeNew,
        (Head::Unread(_), Head::End) => Step::ReadOld,
        (Head::End, Head::Unread(_)) => Step::ReadNew,
        (Head::Item(old), Head::Item(new)) => match old.cmp(new) {
            Ordering::Less => Step::TakeOld,
            Ordering::Equal => Step::TakeBoth,
            Ordering::Greater => Step::TakeNew,
        },
        (Head::Item(key), Head::Unread(node)) if is_before(key, node) => Step::TakeOld,
        (Head::Unread(node), Head::Item(key)) if is_before(key, node) => Step::TakeNew,
        (Head::Item(_), Head::Unread(_)) => Step::ReadNew,
        (Head::Unread(_), Head::Item(_)) => Step::ReadOld,
        (Head::Unread(old), Head::Unread(new)) => decide_nodes(old, new),
    }
}

/// Equal nodes are skipped, a node wholly before the other is read alone, and of two that overlap the
/// higher one comes first, so that its children can meet their equals.
fn decide_nodes(old: &Child, new: &Child) -> Step {
    let ends_before = |a: &Child, b: &Child| a.last.as_ref().is_some_and(|last| is_before(last, b));
    if old.id == new.id {
        Step::Skip
    } else if ends_before(old, new) {
        Step::ReadOld
    } else if ends_before(new, old) {
        Step::ReadNew
    } else {
        match old.level.cmp(&new.level) {
            Ordering::Less => Step::ReadNew,
            Ordering::Equal => Step::ReadBoth,
            Ordering::Greater => Step::ReadOld,
        }
    }
}

/// Says whether a key is smaller than every key of a node.
fn is_before(key: &ItemKey, node: &Child) -> bool {
    node.after.as_ref().is_some_and(|after| key <= after)
}

fn difference(
    old: Option<(ItemKey, Record)>,
    new: Option<(ItemKey, Record)>,
) -> Option<Difference> {
    match (old, new) {
        (Some((key, old)), Some((_, new))) => {
            let is_same = old.is_same_state(&new);
            (!is_same).then_some(Difference { key, old: Some(old), new: Some(new) })
        }
        (Some((key, old)), None) => Some(Difference { key, old: Some(old), new: None }),
        (None, Some((key, new))) => Some(Difference { key, old: None, new: Some(new) }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Map, Nodes, any_key, any_map, key, map, record, run, tree};
    use super::*;

    async fn check(old: &Map, new: &Map) -> (u64, u64) {
        let nodes = Nodes::default();
        let (old_tree, new_tree) = (tree(&nodes, old).await, tree(&nodes, new).await);
        let found: Vec<_> = diff(&old_tree, &new_tree).try_collect().await.expect("diff");
        let mut expected: Vec<_> = old.keys().chain(new.keys()).collect();
        expected.sort();
        expected.dedup();
        expected.retain(|key| match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => !old.is_same_state(new),
            _ => true,
        });
        assert_eq!(found.iter().map(|found| &found.key).collect::<Vec<_>>(), expected);
        for Difference { key, old: found_old, new: found_new } in found {
            for (found, map) in [(found_old, old), (found_new, new)] {
                match (found, map.get(&key)) {
                    (None, None) => {}
                    (Some(found), Some(record)) => assert!(found.is_same_state(record)),
                    (found, _) => panic!("{key:?}: {found:?}"),
                }
            }
        }
        (old_tree.reads(), new_tree.reads())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_diff_is_that_of_maps(
            old in any_map(),
            sets in prop::collection::vec((any_key(), 0..2000_u64), 0..12),
            deletes in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut new = old.clone();
            new.extend(sets.into_iter().map(|(key, seed)| (key, record(seed))));
            for index in deletes {
                if let Some(key) = new.keys().nth(index.index(new.len().max(1))).cloned() {
                    new.remove(&key);
                }
            }
            run(async { check(&old, &new).await; check(&new, &old).await; check(&old, &old).await; });
        }

        #[test]
        fn unrelated_maps_differ_in_full(old in any_map(), new in any_map()) {
            run(async { check(&old, &new).await });
        }
    }

    #[test]
    fn ten_changes_cost_few_reads() {
        let old = map(100_000);
        let mut new = old.clone();
        let changed: Vec<_> = old.keys().step_by(9_999).take(10).cloned().collect();
        for (n, key) in changed.iter().enumerate() {
            match n % 3 {
                0 => drop(new.insert(key.clone(), record(7_000_000))),
                1 => drop(new.remove(key)),
                _ => drop(new.insert(key.child(b"below").expect("key"), record(1))),
            }
        }
        let (old_reads, new_reads) = run(check(&old, &new));
        assert!(old_reads + new_reads <= 100, "{old_reads} + {new_reads}");
    }

    #[test]
    fn equal_trees_are_not_read() {
        assert_eq!(run(check(&map(5_000), &map(5_000))), (0, 0));
    }

    #[test]
    fn subtrees_are_shared_across_heights() {
        // The new tree begins with the whole old one, and is one level higher.
        let (old, mut new) = (map(400), map(400));
        new.extend((0..100_000).map(|n| (key(&format!("e/{n:06}")), record(n))));
        let (old_reads, _) = run(check(&old, &new));
        assert!(old_reads <= 2, "{old_reads}");
    }
}
