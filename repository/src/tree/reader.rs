//! Reads trees: single items, ranges with read-ahead, the children of a directory, totals.
//!
//! A range is read level by level: the stream of a level's nodes is made from the stream of the level
//! above, each reading ahead, so that a remote store answers many requests at a time.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use model::{Error, ErrorKind, ItemKey, Result};

use super::ReadNodes;
use super::node::{self, Child, HEIGHT_MAX, Node};
use crate::crypto::DomainKeys;
use crate::types::{NodeId, Place, Record, Root, Totals};

/// Items in key order, in batches that are never empty.
pub type RecordBatches = BoxStream<'static, Result<Vec<(ItemKey, Record)>>>;

/// Leaves that are read at once.
const LEAVES_AHEAD: usize = 16;
/// Interior nodes of one level that are read at once; each leads to hundreds of nodes below.
const INTERIOR_AHEAD: usize = 4;

/// A snapshot's items. Cheap to clone.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

struct Inner {
    reader: Box<dyn ReadNodes>,
    keys: DomainKeys,
    root: Root,
    reads: AtomicU64,
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) lower: Bound<ItemKey>,
    pub(super) upper: Bound<ItemKey>,
}

impl Tree {
    /// Opens a tree. Nothing is read yet.
    pub fn open(reader: impl ReadNodes + 'static, keys: DomainKeys, root: Root) -> Self {
        Self(Arc::new(Inner { reader: Box::new(reader), keys, root, reads: AtomicU64::new(0) }))
    }

    /// Returns what the snapshot says of its tree.
    pub fn root(&self) -> &Root {
        &self.0.root
    }

    /// Returns how many nodes were read so far.
    pub fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// Returns one item.
    ///
    /// # Errors
    /// `Corrupt` where a node is damaged and no other copy is left; those of the store.
    pub async fn get(&self, key: &ItemKey) -> Result<Option<Record>> {
        let Some(mut child) = self.root_child()? else { return Ok(None) };
        loop {
            match self.read(&child).await? {
                Node::Leaf(mut items) => {
                    let found = items.binary_search_by(|(stored, _)| stored.cmp(key)).ok();
                    return Ok(found.map(|index| items.swap_remove(index).1));
                }
                Node::Interior(mut children) => {
                    let index = children.partition_point(|child| child.last.as_ref() < Some(key));
                    if index >= children.len() {
                        return Ok(None);
                    }
                    child = children.swap_remove(index);
                }
            }
        }
    }

    /// Lists the items of a range in key order. A directory with all below it is the range
    /// [`ItemKey::subtree`].
    ///
    /// The stream fails as [`Tree::get`] does.
    pub fn range(&self, bounds: impl RangeBounds<ItemKey>) -> RecordBatches {
        self.leaves(KeyRange::new(&bounds), |_| true)
    }

    /// Lists an item's direct children in key order, without reading what lies below them.
    ///
    /// The stream fails as [`Tree::get`] does.
    pub fn children(&self, key: &ItemKey) -> RecordBatches {
        let (_, upper) = key.subtree();
        let range = KeyRange { lower: Bound::Excluded(key.clone()), upper };
        let depth = key.depth() + 1;
        let parent = key.clone();
        let is_wanted = move |child: &Child| !is_below_one_child(child, &parent);
        self.leaves(range, is_wanted)
            .try_filter_map(move |mut batch| {
                batch.retain(|(key, _)| key.depth() == depth);
                std::future::ready(Ok((!batch.is_empty()).then_some(batch)))
            })
            .boxed()
    }

    /// Adds up what is in a range; only nodes on its two edges are read.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn totals(&self, bounds: impl RangeBounds<ItemKey>) -> Result<Totals> {
        let range = KeyRange::new(&bounds);
        let mut totals = Totals::default();
        let mut pending: Vec<_> = self.root_child()?.into_iter().collect();
        while let Some(child) = pending.pop() {
            if range.holds(&child) {
                totals.items += child.totals.items;
                totals.content_bytes += child.totals.content_bytes;
                continue;
            }
            match self.read(&child).await? {
                Node::Interior(children) => {
                    pending.extend(children.into_iter().filter(|child| range.touches(child)));
                }
                Node::Leaf(items) => {
                    for (_, record) in items.iter().filter(|(key, _)| range.contains(key)) {
                        totals.items += 1;
                        totals.content_bytes += record.content_bytes();
                    }
                }
            }
        }
        Ok(totals)
    }

    /// Returns the root as if a parent told of it; none for an empty tree.
    pub(super) fn root_child(&self) -> Result<Option<Child>> {
        let Root { node, height, totals } = &self.0.root;
        let Some((id, place)) = node else { return Ok(None) };
        let level = height.checked_sub(1).filter(|_| *height <= HEIGHT_MAX).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read tree", id.to_string())
                .detail("higher than a tree may be")
        })?;
        Ok(Some(Child {
            id: *id,
            place: place.clone(),
            level,
            after: None,
            last: None,
            totals: *totals,
            is_rightmost: true,
        }))
    }

    /// Reads and checks a node.
    pub(super) async fn read(&self, child: &Child) -> Result<Node> {
        let corrupt = |what| {
            Error::new(ErrorKind::Corrupt, "read tree node", child.id.to_string()).detail(what)
        };
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        let plaintext = self.0.reader.read_node(child.id, &child.place).await?;
        let (logical, hints) =
            node::split_parts(&plaintext).ok_or_else(|| corrupt("not two parts"))?;
        if self.0.keys.node_id(&logical) != child.id {
            return Err(corrupt("its content has another id"));
        }
        node::decode(&logical, &hints, child)
    }

    /// Streams the leaves of a range, cut to it, without nodes that are not wanted.
    fn leaves(
        &self,
        range: KeyRange,
        is_wanted: impl Fn(&Child) -> bool + Send + Sync + 'static,
    ) -> RecordBatches {
        let root = match self.root_child() {
            Ok(None) => return stream::empty().boxed(),
            Ok(Some(root)) => root,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let (range, is_wanted) = (Arc::new(range), Arc::new(is_wanted));
        let height = root.level;
        let mut nodes: BoxStream<'static, Result<Child>> =
            stream::once(std::future::ready(Ok(root))).boxed();
        for _ in 0..height {
            let (range, is_wanted) = (range.clone(), is_wanted.clone());
            nodes = self
                .read_ahead(nodes, INTERIOR_AHEAD)
                .map_ok(move |node| {
                    let mut children = interior(node);
                    children.retain(|child| range.touches(child) && is_wanted(child));
                    stream::iter(children.into_iter().map(Ok))
                })
                .try_flatten()
                .boxed();
        }
        self.read_ahead(nodes, LEAVES_AHEAD)
            .try_filter_map(move |node| {
                let items = range.cut(leaf(node));
                std::future::ready(Ok((!items.is_empty()).then_some(items)))
            })
            .boxed()
    }

    fn read_ahead(
        &self,
        nodes: BoxStream<'static, Result<Child>>,
        count: usize,
    ) -> BoxStream<'static, Result<Node>> {
        let tree = self.clone();
        nodes
            .map_ok(move |child| {
                let tree = tree.clone();
                async move { tree.read(&child).await }
            })
            .try_buffered(count)
            .boxed()
    }
}

/// A tree's nodes as another tree that shares them reads them.
#[async_trait]
impl ReadNodes for Tree {
    async fn read_node(&self, id: NodeId, place: &Place) -> Result<Bytes> {
        self.0.reader.read_node(id, place).await
    }
}

/// Says whether all of a node lies below one direct child of `parent` that an earlier node holds.
fn is_below_one_child(child: &Child, parent: &ItemKey) -> bool {
    let name = |key: &ItemKey| {
        let is_below = key.is_within(parent);
        is_below.then(|| key.components().nth(parent.depth()).map(<[u8]>::to_vec)).flatten()
    };
    let (Some(after), Some(last)) = (&child.after, &child.last) else { return false };
    name(after).is_some_and(|after| name(last) == Some(after))
}

/// Decoding has checked levels: what is not a leaf at level 0 is an interior node.
fn interior(node: Node) -> Vec<Child> {
    match node {
        Node::Interior(children) => children,
        Node::Leaf(_) => Vec::new(),
    }
}

fn leaf(node: Node) -> Vec<(ItemKey, Record)> {
    match node {
        Node::Leaf(items) => items,
        Node::Interior(_) => Vec::new(),
    }
}

impl KeyRange {
    pub(super) fn new(bounds: &impl RangeBounds<ItemKey>) -> Self {
        Self { lower: bounds.start_bound().cloned(), upper: bounds.end_bound().cloned() }
    }

    pub(super) fn contains(&self, key: &ItemKey) -> bool {
        (self.lower.as_ref(), self.upper.as_ref()).contains(key)
    }

    /// Says whether a node can hold keys of the range.
    pub(super) fn touches(&self, child: &Child) -> bool {
        let is_before_upper = match (&child.after, &self.upper) {
            (None, _) | (_, Bound::Unbounded) => true,
            (Some(after), Bound::Included(upper) | Bound::Excluded(upper)) => after < upper,
        };
        is_before_upper && !self.is_behind(child)
    }

    /// Says whether the range begins only after all keys of a node.
    pub(super) fn is_behind(&self, child: &Child) -> bool {
        child.last.as_ref().is_some_and(|last| self.is_behind_key(last))
    }

    /// Says whether the range begins only after a key.
    pub(super) fn is_behind_key(&self, key: &ItemKey) -> bool {
        match &self.lower {
            Bound::Unbounded => false,
            Bound::Included(lower) => key < lower,
            Bound::Excluded(lower) => key <= lower,
        }
    }

    /// Says whether all keys of a node are in the range.
    pub(super) fn holds(&self, child: &Child) -> bool {
        let is_after_lower = match (&child.after, &self.lower) {
            (_, Bound::Unbounded) => true,
            (None, _) => false,
            (Some(after), Bound::Included(lower) | Bound::Excluded(lower)) => after >= lower,
        };
        let is_before_upper = match (&child.last, &self.upper) {
            (_, Bound::Unbounded) => true,
            (None, _) => false,
            (Some(last), upper) => (Bound::Unbounded, upper.as_ref()).contains(last),
        };
        is_after_lower && is_before_upper
    }

    /// Keeps the items of the range.
    pub(super) fn cut(&self, mut items: Vec<(ItemKey, Record)>) -> Vec<(ItemKey, Record)> {
        let is_inside =
            |item: Option<&(ItemKey, Record)>| item.is_none_or(|(key, _)| self.contains(key));
        if !is_inside(items.first()) || !is_inside(items.last()) {
            items.retain(|(key, _)| self.contains(key));
        }
        items
    }
}
