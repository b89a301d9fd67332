//! Builds a tree from records in key order, in bounded memory.
//!
//! Where a node's chunks lie is known only once their packs have names. A finished node waits for
//! that; its id and its parent's entry do not, as hints are no part of a node's identity.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use model::{Error, ErrorKind, ItemKey, Result};

use super::StoreNodes;
use super::node::{self, Child, HEIGHT_MAX, Hints, NodeWriter, Slot};
use super::split::{CHILD_BYTES, Splitter};
use crate::crypto::DomainKeys;
use crate::record;
use crate::types::{NodeId, Record, Root, StoredBody, StoredChunk, Totals};

/// Nodes that wait for the names of packs are kept up to this size, then packs are closed early.
const WAITING_BYTES_MAX: usize = 24 << 20;

/// Builds a tree; keys ascend.
pub struct TreeBuilder<'a> {
    keys: DomainKeys,
    store: &'a dyn StoreNodes,
    levels: Vec<Level>,
    /// Finished nodes whose hints are not all known, by level.
    waiting: Vec<VecDeque<Waiting>>,
    waiting_bytes: usize,
    last: Option<ItemKey>,
    scratch: Vec<u8>,
}

/// A finished node, and where it will lie.
type Finished = (NodeId, Slot, Totals);

/// The open node of a level.
struct Level {
    splitter: Splitter,
    open: Option<Open>,
    /// Nodes of this level that are finished.
    finished: u64,
    /// The node that was finished last: the root, if no other follows.
    newest: Option<Finished>,
}

struct Open {
    writer: NodeWriter,
    hints: Hints,
    totals: Totals,
    last: ItemKey,
}

struct Waiting {
    id: NodeId,
    logical: Vec<u8>,
    hints: Hints,
    slot: Slot,
}

impl<'a> TreeBuilder<'a> {
    /// Starts an empty tree.
    pub fn new(keys: &DomainKeys, store: &'a dyn StoreNodes) -> Self {
        Self {
            keys: keys.clone(),
            store,
            levels: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            last: None,
            scratch: Vec::new(),
        }
    }

    /// Appends an item.
    ///
    /// # Errors
    /// `Invalid` where the key is not greater than the one before, or too much is in one record;
    /// those of storing nodes.
    pub fn push(&mut self, key: &ItemKey, record: Record) -> Result<()> {
        self.advance(key)?;
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        record::encode(&record, &mut encoded).map_err(|error| {
            Error::new(error.kind(), "add item to tree", key.display()).because(error)
        })?;
        let totals = Totals { items: 1, content_bytes: record.content_bytes() };
        let open = self.level(0)?.open(0, key);
        open.writer.record(key.as_bytes(), &encoded);
        open.add(totals, key)?;
        if let Hints::Chunks(chunks) = &mut open.hints {
            chunks.extend(into_chunks(record));
        }
        self.scratch = encoded;
        self.close_if_full(0, key, self.scratch.len() as u64)
    }

    /// Appends a whole subtree of another tree of the same key domain, unread.
    ///
    /// # Errors
    /// As [`TreeBuilder::push`]; `Internal` where [`TreeBuilder::is_clean`] does not hold.
    pub(super) fn push_subtree(&mut self, child: &Child) -> Result<()> {
        let misplaced = || Error::new(ErrorKind::Internal, "reuse tree node", child.id.to_string());
        let last = child.last.as_ref().ok_or_else(misplaced)?;
        if !self.is_clean(child.level) || child.is_rightmost {
            return Err(misplaced());
        }
        // The subtree holds keys between the fence and its last key, so both have to be in order.
        if self.last.as_ref() > child.after.as_ref() {
            return Err(out_of_order(last));
        }
        self.advance(last)?;
        for level in 0..child.level {
            // What matters of the levels below is whether there is one node or more.
            self.level(level)?.finished += 2;
        }
        let slot: Slot = Arc::new(OnceLock::from(child.place.clone()));
        self.finish_node(child.level, last, (child.id, slot, child.totals))
    }

    /// Says whether a node of this level would begin with the next entry.
    pub(super) fn is_clean(&self, level: u8) -> bool {
        self.levels.iter().take(usize::from(level) + 1).all(|level| level.open.is_none())
    }

    /// Closes packs where many nodes wait for their names. Call it now and then between items: it
    /// bounds memory.
    ///
    /// # Errors
    /// Those of storing nodes.
    pub async fn settle(&mut self) -> Result<()> {
        if self.waiting_bytes <= WAITING_BYTES_MAX {
            return Ok(());
        }
        self.store.flush().await?;
        self.store_waiting()
    }

    /// Finishes the tree. Its root's place may still be pending.
    ///
    /// # Errors
    /// Those of storing nodes.
    pub async fn finish(mut self) -> Result<Root> {
        let top = self.close_levels()?;
        while self.waiting.iter().any(|level| !level.is_empty()) {
            let count = self.waiting.iter().map(VecDeque::len).sum::<usize>();
            self.store.flush().await?;
            self.store_waiting()?;
            if self.waiting.iter().map(VecDeque::len).sum::<usize>() == count {
                return Err(Error::new(ErrorKind::Internal, "finish tree", "")
                    .detail("a pack has no name though all were closed"));
            }
        }
        let Some((height, (id, slot, totals))) = top else {
            return Ok(Root { node: None, height: 0, totals: Totals::default() });
        };
        let place = slot.get().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "finish tree", id.to_string()).detail("root not stored")
        })?;
        Ok(Root { node: Some((id, place)), height, totals })
    }

    /// Closes what is open from the leaves up, until a level has a single node.
    fn close_levels(&mut self) -> Result<Option<(u8, Finished)>> {
        if self.last.is_none() {
            return Ok(None);
        }
        for level in 0..HEIGHT_MAX {
            self.close(level)?;
            let closed = self.level(level)?;
            if closed.finished == 1
                && let Some(newest) = closed.newest.take()
            {
                return Ok(Some((level + 1, newest)));
            }
        }
        Err(too_high())
    }

    fn advance(&mut self, key: &ItemKey) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| last >= key) {
            return Err(out_of_order(key));
        }
        if key.as_bytes().len() > ItemKey::LENGTH_MAX {
            return Err(Error::new(ErrorKind::Invalid, "add item to tree", key.display())
                .detail("its key is too long where it was moved to"));
        }
        self.last = Some(key.clone());
        Ok(())
    }

    fn level(&mut self, level: u8) -> Result<&mut Level> {
        if level >= HEIGHT_MAX {
            return Err(too_high());
        }
        let index = usize::from(level);
        while self.levels.len() <= index {
            let splitter = Splitter::new(self.levels.len() as u8);
            self.levels.push(Level { splitter, open: None, finished: 0, newest: None });
        }
        self.levels.get_mut(index).ok_or_else(too_high)
    }

    fn close_if_full(&mut self, level: u8, key: &ItemKey, value_bytes: u64) -> Result<()> {
        let keys = self.keys.clone();
        let is_end = self.level(level)?.splitter.ends_after(&keys, key.as_bytes(), value_bytes);
        if is_end { self.close(level) } else { Ok(()) }
    }

    /// Finishes the open node of a level, if there is one.
    fn close(&mut self, level: u8) -> Result<()> {
        let Some(open) = self.level(level)?.open.take() else { return Ok(()) };
        let Open { writer, hints, totals, last } = open;
        let logical = writer.finish();
        let id = self.keys.node_id(&logical);
        let slot = Slot::default();
        self.store_waiting()?;
        let waiting = Waiting { id, logical, hints, slot: slot.clone() };
        if !waiting.store(self.store)? {
            self.wait(level, waiting);
        }
        self.finish_node(level, &last, (id, slot, totals))
    }

    /// Tells the level above of a finished node.
    fn finish_node(&mut self, level: u8, last: &ItemKey, node: Finished) -> Result<()> {
        let below = self.level(level)?;
        below.finished += 1;
        below.newest = Some(node.clone());
        let (id, slot, totals) = node;
        let open = self.level(level + 1)?.open(level + 1, last);
        open.writer.child(last.as_bytes(), &id, &totals);
        open.add(totals, last)?;
        if let Hints::Children(slots) = &mut open.hints {
            slots.push(slot);
        }
        self.close_if_full(level + 1, last, CHILD_BYTES)
    }

    fn wait(&mut self, level: u8, waiting: Waiting) {
        let index = usize::from(level);
        if self.waiting.len() <= index {
            self.waiting.resize_with(index + 1, VecDeque::new);
        }
        self.waiting_bytes += waiting.bytes();
        if let Some(queue) = self.waiting.get_mut(index) {
            queue.push_back(waiting);
        }
    }

    /// Stores what can be stored by now, children before parents.
    fn store_waiting(&mut self) -> Result<()> {
        for queue in &mut self.waiting {
            for _ in 0..queue.len() {
                let Some(waiting) = queue.pop_front() else { break };
                if waiting.store(self.store)? {
                    self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.bytes());
                } else {
                    queue.push_back(waiting);
                }
            }
        }
        Ok(())
    }
}

impl Level {
    fn open(&mut self, level: u8, first: &ItemKey) -> &mut Open {
        self.open.get_or_insert_with(|| Open {
            writer: NodeWriter::new(level),
            hints: if level == 0 { Hints::Chunks(Vec::new()) } else { Hints::Children(Vec::new()) },
            totals: Totals::default(),
            last: first.clone(),
        })
    }
}

impl Open {
    fn add(&mut self, totals: Totals, last: &ItemKey) -> Result<()> {
        let too_much = || {
            Error::new(ErrorKind::Invalid, "add item to tree", last.display())
                .detail("more than 2^64 bytes of content")
        };
        self.totals.items += totals.items;
        let sum = self.totals.content_bytes.checked_add(totals.content_bytes);
        self.totals.content_bytes = sum.ok_or_else(too_much)?;
        self.last = last.clone();
        Ok(())
    }
}

impl Waiting {
    /// Stores the node if everything that it names has its place; says whether it did.
    fn store(&self, store: &dyn StoreNodes) -> Result<bool> {
        if !self.hints.are_known() {
            return Ok(false);
        }
        let Some(plaintext) = node::join(&self.logical, &self.hints) else { return Ok(false) };
        let place = store.store_node(self.id, plaintext)?;
        Ok(self.slot.set(place).is_ok())
    }

    fn bytes(&self) -> usize {
        self.logical.len()
            + match &self.hints {
                Hints::Chunks(chunks) => chunks.len() * size_of::<StoredChunk>(),
                Hints::Children(slots) => slots.len() * size_of::<Slot>(),
            }
    }
}

fn into_chunks(record: Record) -> impl Iterator<Item = StoredChunk> {
    record.extents.into_iter().flat_map(|extent| match extent.body {
        StoredBody::Hole => Vec::new(),
        StoredBody::Data { chunks, .. } => chunks,
    })
}

fn out_of_order(key: &ItemKey) -> Error {
    Error::new(ErrorKind::Invalid, "add item to tree", key.display())
        .detail("listed twice or out of order")
}

fn too_high() -> Error {
    Error::new(ErrorKind::Invalid, "build tree", "").detail("more levels than a tree may have")
}
