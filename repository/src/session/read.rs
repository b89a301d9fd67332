//! Reads tree nodes where they are said to lie, and finds another copy where they are not.
//!
//! A node is small, a request to a remote store is slow, and who reads one node mostly reads its
//! neighbours next. So what lies before a node in its pack is fetched with it (children are stored
//! before their parents, and the packs of small trees are small: this is the whole pack), and whoever
//! comes back to a pack gets larger and larger pieces of it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use crate::Repository;
use crate::content::Locate as _;
use crate::crypto::DomainKeys;
use crate::index::LazyIndex;
use crate::pack::{BlockCipher, SEALED_NODE_BYTES_MAX, pack_path};
use crate::tree::ReadNodes;
use crate::types::{Location, NodeId, PackKind, PackName, Place};

/// How much is fetched with the first node of a pack, in bytes; it doubles each time.
const PIECE_BYTES: u64 = 1 << 20;
/// How much of what lies behind it is fetched with it: the next leaves.
const BEHIND_BYTES: u64 = 512 << 10;
/// The most that is fetched beyond what was asked for.
const PIECE_BYTES_MAX: u64 = 8 << 20;
/// What pieces and decoded nodes may take, as a part of the memory setting, and at least.
const MEMORY_DIVISOR: u64 = 8;
const MEMORY_LEAST: usize = 8 << 20;
/// How often the index is asked for a node that is not where it was said to be.
const LOOKS_ELSEWHERE: usize = 3;
/// The most packs whose lengths are remembered.
const PACKS_MAX: usize = 16 << 10;

/// Reads the nodes of one domain. Cheap to clone; clones share what is cached.
#[derive(Clone)]
pub(crate) struct NodeReader(Arc<Inner>);

struct Inner {
    repository: Repository,
    keys: DomainKeys,
    cipher: BlockCipher,
    index: LazyIndex,
    cache: Mutex<Cache>,
    packs: Mutex<HashMap<PackName, Arc<tokio::sync::Mutex<Pack>>>>,
}

/// What is known of a pack that was read from.
#[derive(Default)]
struct Pack {
    fetches: u32,
    /// Known from the first fetch on.
    length: u64,
}

struct Cache {
    nodes: Recent<NodeId, Bytes>,
    pieces: Recent<(PackName, u64), Bytes>,
}

impl NodeReader {
    pub(crate) fn new(repository: &Repository, keys: &DomainKeys) -> Self {
        Self::with_index(repository, keys, LazyIndex::new(repository, keys))
    }

    /// Falls back on an index that others use as well.
    pub(crate) fn with_index(repository: &Repository, keys: &DomainKeys, index: LazyIndex) -> Self {
        let share = repository.options().memory_bytes / MEMORY_DIVISOR;
        let bytes_max = usize::try_from(share).unwrap_or(usize::MAX).max(MEMORY_LEAST);
        let cache = Cache { nodes: Recent::new(bytes_max / 2), pieces: Recent::new(bytes_max) };
        Self(Arc::new(Inner {
            repository: repository.clone(),
            keys: keys.clone(),
            cipher: BlockCipher::new(PackKind::Meta, repository.id(), keys),
            index,
            cache: Mutex::new(cache),
            packs: Mutex::default(),
        }))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a node that was just written: whoever reads it finds it, durable or not.
    pub(crate) fn remember(&self, id: NodeId, plaintext: &Bytes) {
        self.cache().nodes.insert(id, plaintext.clone(), plaintext.len());
    }

    /// Reads a node from where it lies, without looking elsewhere.
    async fn read_at(&self, id: NodeId, location: &Location) -> Result<Bytes> {
        let block = self.block(location).await?;
        let corrupt = |what: &str| {
            Error::new(ErrorKind::Corrupt, "read tree node", id.to_string()).detail(what.to_owned())
        };
        let plaintext = self.0.cipher.decode(block)?;
        let node = location.slice(&plaintext).ok_or_else(|| corrupt("not in its block"))?;
        // Another node may stand here, where the hint is wrong.
        if logical_part(&node).map(|logical| self.0.keys.node_id(logical)) != Some(id) {
            return Err(corrupt("another node stands in its place"));
        }
        Ok(node)
    }

    /// Returns the bytes of a block.
    async fn block(&self, location: &Location) -> Result<Bytes> {
        let Location { pack, block_offset, block_length, .. } = *location;
        let path = pack_path(PackKind::Meta, pack);
        let start = u64::from(block_offset);
        let wanted = start..start + u64::from(block_length);
        if wanted.is_empty() || block_length as usize > SEALED_NODE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Corrupt, "read tree node in", path)
                .detail("no block is so long"));
        }
        let known = self.pack(pack);
        // Whoever wants a neighbour waits here for the piece that holds it.
        let mut known = known.lock().await;
        if let Some(block) = self.cache().piece(pack, &wanted) {
            return Ok(block);
        }
        let store = self.0.repository.store();
        let (piece, bytes) = if known.fetches == 0 {
            let start = wanted.end.saturating_sub(PIECE_BYTES).min(wanted.start);
            let end = wanted.end.saturating_add(BEHIND_BYTES);
            let (bytes, length) = store.get_upto(&path, start..end).await?;
            if length < wanted.end {
                return Err(Error::new(ErrorKind::Corrupt, "read tree node in", path)
                    .detail("the pack ends before its place"));
            }
            known.length = length;
            (start..end.min(length), bytes)
        } else {
            let piece = piece(&wanted, known.length, known.fetches).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "read tree node in", &path)
                    .detail("the pack ends before its place")
            })?;
            let bytes = store.get_range(&path, piece.clone()).await?;
            (piece, bytes)
        };
        known.fetches = known.fetches.saturating_add(1);
        let block = cut(&bytes, piece.start, &wanted);
        let length = bytes.len();
        self.cache().pieces.insert((pack, piece.start), bytes, length);
        block.ok_or_else(|| Error::new(ErrorKind::Internal, "read tree node in", path))
    }

    fn pack(&self, name: PackName) -> Arc<tokio::sync::Mutex<Pack>> {
        let mut packs = self.0.packs.lock().unwrap_or_else(PoisonError::into_inner);
        if packs.len() >= PACKS_MAX && !packs.contains_key(&name) {
            packs.clear();
        }
        packs.entry(name).or_default().clone()
    }

    /// Reads a node from another place than the one that failed.
    async fn read_elsewhere(&self, id: NodeId, tried: &Location, first: Error) -> Result<Bytes> {
        for _ in 0..LOOKS_ELSEWHERE {
            let found = self.0.index.find(PackKind::Meta, &id.0).await?;
            for found in found.iter().filter(|found| found.location != *tried) {
                match self.read_at(id, &found.location).await {
                    Err(error) if is_damage(&error) => {}
                    read => return read,
                }
            }
            // A collector may have moved it since the index was opened.
            if !self.0.index.refresh().await? {
                break;
            }
        }
        Err(Error::new(ErrorKind::Corrupt, "read tree node", id.to_string())
            .detail("no intact copy is left")
            .because(first))
    }
}

#[async_trait]
impl ReadNodes for NodeReader {
    async fn read_node(&self, id: NodeId, place: &Place) -> Result<Bytes> {
        if let Some(node) = self.cache().nodes.get(&id) {
            return Ok(node);
        }
        let location = place.location().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "read tree node", id.to_string())
                .detail("its pack is not closed yet")
        })?;
        let node = match self.read_at(id, &location).await {
            Err(error) if is_damage(&error) => self.read_elsewhere(id, &location, error).await?,
            read => read?,
        };
        let length = node.len();
        self.cache().nodes.insert(id, node.clone(), length);
        Ok(node)
    }
}

/// Says whether another copy may help.
fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::WrongKey | ErrorKind::Unsupported
    )
}

/// Chooses what to fetch of a pack of this length; none where it does not reach so far.
fn piece(wanted: &Range<u64>, length: u64, fetches: u32) -> Option<Range<u64>> {
    let size = (PIECE_BYTES << fetches.min(10)).min(PIECE_BYTES_MAX);
    let start = wanted.start / size * size;
    let end = (start + size).max(wanted.end).min(length);
    (wanted.end <= length).then_some(start..end)
}

fn cut(bytes: &Bytes, starts_at: u64, wanted: &Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(wanted.start.checked_sub(starts_at)?).ok()?;
    let end = usize::try_from(wanted.end.checked_sub(starts_at)?).ok()?;
    bytes.get(start..end).map(|_| bytes.slice(start..end))
}

/// Returns what a node's id is the hash of.
fn logical_part(node: &[u8]) -> Option<&[u8]> {
    let (length, rest) = node.split_first_chunk()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

impl Cache {
    /// Finds the bytes of a block in a piece that was fetched.
    fn piece(&mut self, pack: PackName, wanted: &Range<u64>) -> Option<Bytes> {
        let before = (pack, 0)..=(pack, wanted.start);
        let holding = self
            .pieces
            .entries
            .range(before)
            .rev()
            .find_map(|(key, entry)| cut(&entry.value, key.1, wanted).map(|_| *key))?;
        cut(&self.pieces.get(&holding)?, holding.1, wanted)
    }
}

/// Keeps what was used last, up to a number of bytes.
struct Recent<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Ord + Hash + Copy, V: Clone> Recent<K, V> {
    fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0, bytes_max }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.order.insert(self.clock, *key);
        Some(entry.value.clone())
    }

    /// Keeps a value, unless it takes more than a quarter of the room by itself.
    fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.bytes_max / 4 * 3 {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
        self.clock += 1;
        self.bytes += bytes;
        self.order.insert(self.clock, key);
        self.entries.insert(key, Entry { value, bytes, used: self.clock });
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        let mut recent = Recent::new(100);
        for key in 0..10_u32 {
            recent.insert(key, key, 10);
        }
        assert_eq!(recent.get(&0), Some(0));
        recent.insert(10, 10, 20);
        let kept: Vec<_> = recent.entries.keys().copied().collect();
        assert_eq!((kept, recent.bytes), (vec![0, 3, 4, 5, 6, 7, 8, 9, 10], 100));
        recent.insert(0, 7, 40);
        assert_eq!((recent.get(&0), recent.bytes), (Some(7), 100));
        recent.insert(11, 11, 76);
        assert_eq!(recent.get(&11), None, "too large to be kept");
    }

    #[test]
    fn pieces_grow_and_hold_what_is_wanted() {
        const MIB: u64 = 1 << 20;
        assert_eq!(piece(&(5 * MIB..5 * MIB + 10), 6 * MIB, 1), Some(4 * MIB..6 * MIB));
        assert_eq!(piece(&(10..20), 100 * MIB, 2), Some(0..4 * MIB));
        assert_eq!(piece(&(10..20), 100 * MIB, 40), Some(0..8 * MIB));
        assert_eq!(piece(&(7 * MIB..20 * MIB), 100 * MIB, 3), Some(0..20 * MIB));
        assert_eq!(piece(&(10..20), 19, 1), None);
    }
}
