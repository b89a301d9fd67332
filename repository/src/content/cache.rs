//! Decoded blocks, the least recently used of which are dropped; each is fetched by one reader only
//! while others wait for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

use super::slots::lock;
use crate::types::{Location, PackName};

/// Names a block. The length is a part of it: a wrong hint must not hide the block from a right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockKey {
    pub(super) pack: PackName,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl From<&Location> for BlockKey {
    fn from(location: &Location) -> Self {
        Self { pack: location.pack, offset: location.block_offset, length: location.block_length }
    }
}

/// A block that is decoded, or is being so by who holds the lock.
pub(super) type Cell = Arc<AsyncMutex<Option<Bytes>>>;

#[derive(Debug)]
pub(super) struct Cache {
    memory_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<BlockKey, Block>,
    /// Decoded blocks by when they were last used.
    order: BTreeMap<u64, BlockKey>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Block {
    cell: Cell,
    /// None while it is not decoded.
    kept: Option<Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    used: u64,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { memory_bytes, state: Mutex::default() }
    }

    /// Returns a block's cell. Lock cells in the order of their keys only.
    pub(super) fn cell(&self, key: BlockKey) -> Cell {
        let mut state = lock(&self.state);
        let State { blocks, order, uses, .. } = &mut *state;
        let block = blocks.entry(key).or_default();
        if let Some(kept) = &mut block.kept {
            *uses += 1;
            order.remove(&kept.used);
            order.insert(*uses, key);
            kept.used = *uses;
        }
        Arc::clone(&block.cell)
    }

    /// Counts a block that was decoded, and makes room.
    pub(super) fn keep(&self, key: BlockKey, cell: &Cell, bytes: usize) {
        let mut state = lock(&self.state);
        let State { blocks, order, uses, bytes: total } = &mut *state;
        *uses += 1;
        let kept = Kept { used: *uses, bytes };
        let block = Block { cell: Arc::clone(cell), kept: Some(kept) };
        if let Some(Kept { used, bytes }) = blocks.insert(key, block).and_then(|old| old.kept) {
            order.remove(&used);
            *total -= bytes;
        }
        order.insert(*uses, key);
        *total += bytes;
        while *total > self.memory_bytes
            && let Some((_, oldest)) = order.pop_first()
        {
            let dropped = blocks.remove(&oldest).and_then(|block| block.kept);
            *total -= dropped.map_or(0, |kept| kept.bytes);
        }
    }

    /// Drops a block that could not be decoded.
    pub(super) fn forget(&self, key: BlockKey) {
        let mut state = lock(&self.state);
        if state.blocks.get(&key).is_some_and(|block| block.kept.is_none()) {
            state.blocks.remove(&key);
        }
    }
}
