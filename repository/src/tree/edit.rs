//! Applies changes to a tree at the cost of the change: what they leave alone is taken over by whole
//! subtrees, unread.
//!
//! A subtree is taken over where the builder would begin a node of its level anyway. Nodes are split
//! by what they hold alone, so a full build would have made the same node there; the result has the
//! same root as a full build of the same state.

use futures::stream::{BoxStream, StreamExt};
use model::{Error, ErrorKind, ItemKey, Result};

use super::node::{Child, Node};
use super::overlay::{Edits, Segment};
use super::reader::KeyRange;
use super::{Tree, TreeBuilder};
use crate::types::{Place, Record, Root};

/// Says whether a node that lies there may be taken over: whether it resolves in this session's view.
pub type MayReuse<'a> = &'a (dyn Fn(&Place) -> bool + Sync);

/// Builds the tree that a parent tree becomes by changes. `records` are those of
/// [`Edits::upserts`] in the same order; one that is left out stands for an item that is gone by now.
/// `builder` is new.
///
/// # Errors
/// Those of reading the parent and of the builder; `Internal` where a record belongs to no upsert.
pub async fn apply_changes<T: Sync>(
    parent: &Tree,
    edits: &Edits<T>,
    records: BoxStream<'_, Result<Vec<(ItemKey, Record)>>>,
    builder: TreeBuilder<'_>,
    may_reuse: MayReuse<'_>,
) -> Result<Root> {
    if edits.is_empty() && parent.root().node.as_ref().is_none_or(|(_, place)| may_reuse(place)) {
        return Ok(parent.root().clone());
    }
    let pieces = parent.root_child()?.map(|child| Piece::Unread(Box::new(child)));
    let mut editor = Editor { parent, pieces: pieces.into_iter().collect(), builder, may_reuse };
    let mut records = Records { batches: records, batch: Vec::new().into_iter(), peeked: None };
    for segment in edits.segments() {
        match segment {
            Segment::Set(key) => {
                if let Some(record) = records.take(key).await? {
                    editor.builder.push(key, record)?;
                }
            }
            Segment::Keep(range) => editor.keep(&range).await?,
            Segment::Moved { range, from, to } => editor.copy(range, &from, to).await?,
        }
        editor.builder.settle().await?;
    }
    records.finish().await?;
    editor.builder.finish().await
}

struct Editor<'a, 'b> {
    parent: &'a Tree,
    /// What of the parent is behind the last kept range; the first is last.
    pieces: Vec<Piece>,
    builder: TreeBuilder<'b>,
    may_reuse: MayReuse<'a>,
}

enum Piece {
    Unread(Box<Child>),
    /// The items of a leaf, in descending order.
    Items(Vec<(ItemKey, Record)>),
}

impl Editor<'_, '_> {
    /// Takes over a range of the parent as it is. Ranges ascend.
    async fn keep(&mut self, range: &KeyRange) -> Result<()> {
        while let Some(piece) = self.pieces.pop() {
            match piece {
                Piece::Unread(child) if range.is_behind(&child) => {}
                Piece::Unread(child) if !range.touches(&child) => {
                    self.pieces.push(Piece::Unread(child));
                    return Ok(());
                }
                Piece::Unread(child) if self.is_reusable(&child, range) => {
                    self.builder.push_subtree(&child)?;
                }
                Piece::Unread(child) => self.read(&child).await?,
                Piece::Items(items) => {
                    if let Some(rest) = self.keep_items(items, range)? {
                        self.pieces.push(Piece::Items(rest));
                        return Ok(());
                    }
                    self.builder.settle().await?;
                }
            }
        }
        Ok(())
    }

    fn is_reusable(&self, child: &Child, range: &KeyRange) -> bool {
        !child.is_rightmost
            && range.holds(child)
            && self.builder.is_clean(child.level)
            && (self.may_reuse)(&child.place)
    }

    async fn read(&mut self, child: &Child) -> Result<()> {
        match self.parent.read(child).await? {
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

    /// Pushes the items of the range and returns those behind it, if there are any.
    fn keep_items(
        &mut self,
        mut items: Vec<(ItemKey, Record)>,
        range: &KeyRange,
    ) -> Result<Option<Vec<(ItemKey, Record)>>> {
        while let Some((key, record)) = items.pop() {
            if range.contains(&key) {
                self.builder.push(&key, record)?;
            } else if !range.is_behind_key(&key) {
                items.push((key, record));
                return Ok(Some(items));
            }
        }
        Ok(None)
    }

    /// Copies a range of the parent to another key.
    async fn copy(&mut self, range: KeyRange, from: &ItemKey, to: &ItemKey) -> Result<()> {
        let mut batches = self.parent.range((range.lower, range.upper));
        while let Some(batch) = batches.next().await {
            for (key, record) in batch? {
                let moved = key
                    .rebase(from, to)
                    .ok_or_else(|| Error::new(ErrorKind::Internal, "move item", key.display()))?;
                self.builder.push(&moved, record)?;
            }
            self.builder.settle().await?;
        }
        Ok(())
    }
}

/// The records of the upserts, in step with them.
struct Records<'a> {
    batches: BoxStream<'a, Result<Vec<(ItemKey, Record)>>>,
    batch: std::vec::IntoIter<(ItemKey, Record)>,
    peeked: Option<(ItemKey, Record)>,
}

impl Records<'_> {
    /// Returns the record of an upsert; none where it was left out.
    async fn take(&mut self, key: &ItemKey) -> Result<Option<Record>> {
        if self.peeked.is_none() {
            self.peeked = self.next().await?;
        }
        match &self.peeked {
            Some((next, _)) if next < key => Err(unexpected(next)),
            Some((next, _)) if next == key => Ok(self.peeked.take().map(|(_, record)| record)),
            _ => Ok(None),
        }
    }

    async fn finish(mut self) -> Result<()> {
        let rest = match self.peeked.take() {
            Some(peeked) => Some(peeked),
            None => self.next().await?,
        };
        rest.map_or(Ok(()), |(key, _)| Err(unexpected(&key)))
    }

    async fn next(&mut self) -> Result<Option<(ItemKey, Record)>> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Ok(Some(entry));
            }
            match self.batches.next().await {
                Some(batch) => self.batch = batch?.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

fn unexpected(key: &ItemKey) -> Error {
    Error::new(ErrorKind::Internal, "apply change", key.display())
        .detail("no item was upserted there")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::stream;
    use model::{Attributes, Change, Item, ItemKind, Version};
    use proptest::prelude::*;

    use super::super::testing::{Map, Nodes, any_key, key, keys, map, record, run, tree};
    use super::*;

    type Items = BTreeMap<ItemKey, Item>;

    fn item(key: ItemKey, seed: u64, padding: usize) -> Item {
        let mut version = seed.to_le_bytes().to_vec();
        version.resize(8 + padding, seed as u8);
        Item {
            key,
            kind: ItemKind::Node,
            attributes: Attributes::default(),
            version: Some(Version(version.into())),
            extents: Vec::new(),
        }
    }

    fn records(items: &Items) -> Map {
        items.iter().map(|(key, item)| (key.clone(), Record::of_item(item, Vec::new()))).collect()
    }

    fn any_item() -> impl Strategy<Value = Item> {
        (any_key(), any::<u64>(), 0..3000_usize).prop_map(|(key, seed, size)| item(key, seed, size))
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => any_item().prop_map(Change::Upsert),
            2 => any_key().prop_map(Change::Delete),
            2 => (any_key(), any_key()).prop_map(|(from, to)| Change::Move { from, to }),
        ]
    }

    async fn apply<T: Sync>(
        parent: &Tree,
        nodes: &Nodes,
        edits: &Edits<T>,
        record: impl Fn(&T) -> Record,
        may_reuse: MayReuse<'_>,
    ) -> Root {
        let upserts = edits.upserts().map(|(key, value)| (key.clone(), record(value)));
        let batches: Vec<_> =
            upserts.collect::<Vec<_>>().chunks(3).map(|batch| Ok(batch.to_vec())).collect();
        let builder = TreeBuilder::new(&keys(), nodes);
        apply_changes(parent, edits, stream::iter(batches).boxed(), builder, may_reuse)
            .await
            .expect("apply")
    }

    fn id(root: &Root) -> Option<crate::types::NodeId> {
        root.node.as_ref().map(|(id, _)| *id)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changes_give_the_root_of_a_full_build(
            items in prop::collection::vec(any_item(), 0..250),
            changes in prop::collection::vec(any_change(), 0..12),
            reuses in any::<bool>(),
        ) {
            let items: Items = items.into_iter().map(|item| (item.key.clone(), item)).collect();
            let mut edits = Edits::default();
            for change in &changes {
                edits.apply(change.clone());
            }
            run(async {
                let nodes = Nodes::default();
                let parent = tree(&nodes, &records(&items)).await;
                let record = |item: &Item| Record::of_item(item, Vec::new());
                let root = apply(&parent, &nodes, &edits, record, &|_| reuses).await;
                let expected = records(&testkit::apply_changes(items, &changes));
                let full = tree(&Nodes::default(), &expected).await;
                assert_eq!((id(&root), root.height), (id(full.root()), full.root().height));
                assert_eq!(root.totals, full.root().totals);
            });
        }
    }

    #[test]
    fn what_is_unchanged_is_not_read() {
        let old = map(200_000);
        let mut new = old.clone();
        let mut edits = Edits::default();
        for (n, key) in old.keys().step_by(20_000).enumerate() {
            let changed = record(9_000_000 + n as u64);
            new.insert(key.clone(), changed.clone());
            edits.upsert(key.clone(), changed);
        }
        edits.delete(&key("d3"));
        new.retain(|k, _| !k.is_within(&key("d3")));
        run(async {
            let nodes = Nodes::default();
            let parent = tree(&nodes, &old).await;
            let count = nodes.count();
            let root = apply(&parent, &nodes, &edits, Record::clone, &|_| true).await;
            assert_eq!(id(&root), id(tree(&Nodes::default(), &new).await.root()));
            assert!(parent.reads() <= 45, "{} of {count} read", parent.reads());
            assert!(nodes.count() - count <= 35, "{} of {count} new", nodes.count() - count);
        });
    }

    #[test]
    fn without_changes_nothing_is_read() {
        run(async {
            let nodes = Nodes::default();
            let parent = tree(&nodes, &map(3_000)).await;
            let edits = Edits::<Record>::default();
            let root = apply(&parent, &nodes, &edits, Record::clone, &|_| true).await;
            assert_eq!((id(&root), parent.reads()), (id(parent.root()), 0));
            let rebuilt = apply(&parent, &nodes, &edits, Record::clone, &|_| false).await;
            assert_eq!(id(&rebuilt), id(parent.root()));
            assert_eq!(parent.reads(), nodes.count() as u64);
        });
    }

    #[test]
    fn records_belong_to_upserts() {
        run(async {
            let nodes = Nodes::default();
            let parent = tree(&nodes, &map(10)).await;
            let mut edits = Edits::default();
            edits.upsert(key("b"), ());
            edits.upsert(key("c"), ());
            for (given, is_sound) in
                [("b", true), ("c", true), ("", true), ("a", false), ("d", false)]
            {
                let batch =
                    if given.is_empty() { Vec::new() } else { vec![(key(given), record(1))] };
                let builder = TreeBuilder::new(&keys(), &nodes);
                let records = stream::iter([Ok(batch)]).boxed();
                let root = apply_changes(&parent, &edits, records, builder, &|_| true).await;
                assert_eq!(root.is_ok(), is_sound, "{given}");
            }
        });
    }
}
