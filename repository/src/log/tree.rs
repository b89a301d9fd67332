//! A state between two cuts, as a tree: the nodes that the changes make are kept in memory, all others
//! are the snapshot's.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use model::{Change, Context, Error, ErrorKind, Item, ItemKey, Position, Result, Timestamp};

use super::{LogBatch, LogBody};
use crate::Repository;
use crate::crypto::DomainKeys;
use crate::snapshot::Snapshot;
use crate::tree::{Edits, ReadNodes, StoreNodes, Tree, TreeBuilder, apply_changes};
use crate::types::{Location, NodeId, PackName, Place, Record, StoredBody, StoredExtent};

/// Items of a [`LoggedTree`] in key order, in batches that are never empty.
pub type LoggedBatches = BoxStream<'static, Result<Vec<(ItemKey, LoggedRecord)>>>;

/// A state between two cuts: a snapshot with the changes after it, up to a time. Cheap to clone. Holds
/// the contents of all items that the log changed, and that are still there, in memory.
#[derive(Clone)]
pub struct LoggedTree(Arc<Inner>);

struct Inner {
    base: Tree,
    tree: Tree,
    logged: BTreeMap<ItemKey, Logged>,
    at: Timestamp,
    position: Position,
}

/// An item as the log has it; its key is the one that it was written under.
#[derive(Debug, Clone)]
struct Logged {
    item: Item,
    contents: Vec<Bytes>,
}

/// An item of a [`LoggedTree`].
#[derive(Debug, Clone)]
pub enum LoggedRecord {
    /// From the snapshot.
    Stored(Record),
    /// From the log: the item and its content, extent by extent (holes have none).
    Logged(Box<Item>, Vec<Bytes>),
}

impl LoggedTree {
    /// Replays the `changes` batches over a snapshot up to and including those whose last change is at or
    /// before `upto`.
    ///
    /// # Errors
    /// `Invalid` where the log is raw; `NotFound` where it is trimmed; those of the store; `Corrupt`.
    pub async fn open(
        repository: &Repository,
        base: &Snapshot,
        upto: Timestamp,
        context: &Context,
    ) -> Result<Self> {
        let tree = repository.tree(base)?;
        let keys = repository.domain(&base.domain)?;
        let at = base.source_time.unwrap_or(base.cut_from);
        let batches = repository.log_batches(&base.id.stream, &base.id);
        Self::replay((tree, keys), (at, base.position.clone()), batches, upto, context).await
    }

    async fn replay(
        (base, keys): (Tree, DomainKeys),
        (mut at, mut position): (Timestamp, Position),
        mut batches: BoxStream<'_, Result<LogBatch>>,
        upto: Timestamp,
        context: &Context,
    ) -> Result<Self> {
        let mut edits = Edits::<Logged>::default();
        while let Some(batch) = batches.try_next().await? {
            context.check("replay log")?;
            if batch.last_at > upto {
                break;
            }
            let LogBody::Changes(changes) = batch.body else {
                return Err(Error::new(ErrorKind::Invalid, "replay log", batch.base.to_string())
                    .detail("it is the system's own, which only the system can replay"));
            };
            for (change, contents) in changes {
                apply(&mut edits, change, contents);
            }
            (at, position) = (batch.last_at, batch.upto);
        }
        let nodes = MemoryNodes { written: Arc::default(), base: base.clone() };
        let records = edits.upserts().map(|(key, logged)| Ok((key.clone(), logged.record())));
        let records = stream::iter(records.collect::<Vec<_>>()).try_chunks(1000);
        let records = records.map_err(|error| error.1).boxed();
        let builder = TreeBuilder::new(&keys, &nodes);
        let root = apply_changes(&base, &edits, records, builder, &|_| true).await?;
        let logged = edits.upserts().map(|(key, logged)| (key.clone(), logged.clone())).collect();
        let tree = Tree::open(nodes.clone(), keys, root);
        Ok(Self(Arc::new(Inner { base, tree, logged, at, position })))
    }

    /// Returns the time and the position that it stands for.
    pub fn stands_at(&self) -> (Timestamp, &Position) {
        (self.0.at, &self.0.position)
    }

    /// Returns the snapshot's own tree.
    pub fn base(&self) -> &Tree {
        &self.0.base
    }

    /// Returns the whole state as a tree, to be listed and compared. The content of items that the log
    /// changed is not in its records (they have holes of the same length): [`LoggedTree::get`] and
    /// [`LoggedTree::range`] give it.
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// Reads the items in key order; the contents of what the log changed come along, those of others
    /// stand in the records' chunks.
    pub fn records(&self) -> LoggedBatches {
        self.range(..)
    }

    /// Reads the items of a range as [`LoggedTree::records`] does.
    pub fn range(&self, bounds: impl RangeBounds<ItemKey>) -> LoggedBatches {
        self.resolve(self.0.tree.range(bounds))
    }

    /// Reads an item's direct children as [`LoggedTree::records`] does.
    pub fn children(&self, key: &ItemKey) -> LoggedBatches {
        self.resolve(self.0.tree.children(key))
    }

    /// Returns one item.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get(&self, key: &ItemKey) -> Result<Option<LoggedRecord>> {
        if let Some(logged) = self.logged(key) {
            return Ok(Some(logged));
        }
        Ok(self.0.tree.get(key).await?.map(LoggedRecord::Stored))
    }

    fn resolve(&self, batches: crate::tree::RecordBatches) -> LoggedBatches {
        let this = self.clone();
        let resolve = move |batch: Vec<(ItemKey, Record)>| {
            let items = batch.into_iter().map(|(key, record)| {
                let logged = this.logged(&key);
                (key, logged.unwrap_or(LoggedRecord::Stored(record)))
            });
            items.collect()
        };
        batches.map_ok(resolve).boxed()
    }

    fn logged(&self, key: &ItemKey) -> Option<LoggedRecord> {
        let Logged { item, contents } = self.0.logged.get(key)?;
        let item = Item { key: key.clone(), ..item.clone() };
        Some(LoggedRecord::Logged(Box::new(item), contents.clone()))
    }
}

fn apply(edits: &mut Edits<Logged>, change: Change, contents: Vec<Bytes>) {
    match change {
        Change::Upsert(item) => edits.upsert(item.key.clone(), Logged { item, contents }),
        Change::Delete(key) => edits.delete(&key),
        Change::Move { from, to } => edits.move_subtree(&from, &to),
    }
}

impl Logged {
    /// Returns a record of the same item. Its content is in no chunk.
    fn record(&self) -> Record {
        let hole = |length_bytes| StoredExtent { length_bytes, body: StoredBody::Hole };
        let extents = self.item.extents.iter().map(|extent| hole(extent.length_bytes));
        Record::of_item(&self.item, extents.collect())
    }
}

/// Nodes that are never stored, above those of a snapshot.
#[derive(Clone)]
struct MemoryNodes {
    written: Arc<Mutex<HashMap<NodeId, Bytes>>>,
    base: Tree,
}

#[async_trait]
impl StoreNodes for MemoryNodes {
    fn store_node(&self, id: NodeId, plaintext: Vec<u8>) -> Result<Place> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(id, plaintext.into());
        // Nobody looks there: nodes are found by their ids.
        let pack = PackName([0; 32]);
        let nowhere =
            Location { pack, block_offset: 0, block_length: 0, offset_in_block: 0, length: 0 };
        Ok(Place::Known(nowhere))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ReadNodes for MemoryNodes {
    async fn read_node(&self, id: NodeId, place: &Place) -> Result<Bytes> {
        let written = {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.get(&id).cloned()
        };
        match written {
            Some(node) => Ok(node),
            None => self.base.read_node(id, place).await,
        }
    }
}

#[cfg(test)]
mod tests;
