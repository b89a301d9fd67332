//! What the tests of trees stand on: a store of nodes in memory, small alphabets of keys and records,
//! and the naive map that trees are compared with.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use model::{
    AttributeTag, Attributes, ContentClass, Error, ErrorKind, ItemKey, ItemKind, Result, Version,
};
use proptest::prelude::*;

use super::{ReadNodes, RecordBatches, StoreNodes, Tree, TreeBuilder};
use crate::crypto::{DEFAULT_DOMAIN, DomainKeys, testing};
use crate::types::{
    ChunkId, Location, NodeId, PackName, PendingPack, Place, Record, Root, StoredBody, StoredChunk,
    StoredExtent,
};

pub(crate) type Map = BTreeMap<ItemKey, Record>;

/// Keeps nodes in memory, in packs that get their names with each flush.
#[derive(Clone, Default)]
pub(crate) struct Nodes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: HashMap<NodeId, (Bytes, Place)>,
    open: Arc<PendingPack>,
    packs: u8,
    offset: u32,
    flushes: usize,
    /// Packs of content that are named with the next flush.
    content: Vec<Arc<PendingPack>>,
}

impl Nodes {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("lock").nodes.len()
    }

    pub(crate) fn flushes(&self) -> usize {
        self.0.lock().expect("lock").flushes
    }

    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.0.lock().expect("lock").nodes.values().map(|(bytes, _)| bytes.len()).collect()
    }

    pub(crate) fn bytes(&self, id: NodeId) -> Bytes {
        self.0.lock().expect("lock").nodes[&id].0.clone()
    }

    pub(crate) fn replace(&self, id: NodeId, bytes: Vec<u8>) {
        self.0.lock().expect("lock").nodes.get_mut(&id).expect("node").0 = bytes.into();
    }

    /// Returns a place in a pack that has no name until the next flush.
    pub(crate) fn pending(&self, offset: u32) -> Place {
        let pack = Arc::new(PendingPack::default());
        self.0.lock().expect("lock").content.push(pack.clone());
        Place::Pending { location: location(0, offset, 0, 0), pack }
    }
}

#[async_trait]
impl StoreNodes for Nodes {
    fn store_node(&self, id: NodeId, plaintext: Vec<u8>) -> Result<Place> {
        let mut state = self.0.lock().expect("lock");
        if let Some((_, place)) = state.nodes.get(&id) {
            return Ok(place.clone());
        }
        let length = u32::try_from(plaintext.len()).expect("small");
        let location =
            Location { block_length: length + 48, length, ..location(0, state.offset, 0, 0) };
        state.offset += location.block_length;
        let place = Place::Pending { location, pack: state.open.clone() };
        state.nodes.insert(id, (plaintext.into(), place.clone()));
        Ok(place)
    }

    async fn flush(&self) -> Result<()> {
        let mut state = self.0.lock().expect("lock");
        state.packs += 1;
        state.flushes += 1;
        let name = PackName([state.packs; 32]);
        for pack in state.content.drain(..) {
            pack.resolve(name);
        }
        std::mem::take(&mut state.open).resolve(name);
        state.offset = 0;
        Ok(())
    }
}

#[async_trait]
impl ReadNodes for Nodes {
    async fn read_node(&self, id: NodeId, place: &Place) -> Result<Bytes> {
        let state = self.0.lock().expect("lock");
        let missing = || Error::new(ErrorKind::Corrupt, "read tree node", id.to_string());
        let (bytes, stored) = state.nodes.get(&id).ok_or_else(missing)?;
        assert!(stored.location().is_none() || stored.location() == place.location(), "hint");
        Ok(bytes.clone())
    }
}

pub(crate) fn keys() -> DomainKeys {
    testing::ring(1).domain(DEFAULT_DOMAIN).expect("keys")
}

pub(crate) fn key(path: &str) -> ItemKey {
    ItemKey::from_components(path.split('/').filter(|name| !name.is_empty())).expect("key")
}

pub(crate) fn location(pack: u8, offset: u32, in_block: u32, length: u32) -> Location {
    Location {
        pack: PackName([pack; 32]),
        block_offset: offset,
        block_length: length + 48,
        offset_in_block: in_block,
        length,
    }
}

pub(crate) fn chunk(seed: u64, length: u32) -> StoredChunk {
    let id = ChunkId(*blake3::hash(&seed.to_le_bytes()).as_bytes());
    let place = Place::Known(location((seed % 3) as u8, (seed % 1000) as u32 * 64, 0, length));
    StoredChunk { id, length, place, bases: Vec::new() }
}

/// A small file whose state is given by `seed`.
pub(crate) fn record(seed: u64) -> Record {
    let length = (seed % 5) as u32 * 100;
    let chunks = if length == 0 { Vec::new() } else { vec![chunk(seed, length)] };
    Record {
        kind: ItemKind::File,
        attributes: Attributes::builder()
            .unsigned(AttributeTag::MODE, 0o644)
            .signed(AttributeTag::MODIFIED_NS, seed as i64 * 1_000_003)
            .build(),
        version: Some(Version(Bytes::copy_from_slice(&seed.to_le_bytes()))),
        extents: vec![StoredExtent {
            length_bytes: length.into(),
            body: StoredBody::Data {
                identity: None,
                checksums: None,
                class: ContentClass::General,
                chunks,
            },
        }],
    }
}

/// `count` files in nested directories, the seed being the record's.
pub(crate) fn map(count: u64) -> Map {
    (0..count).map(|n| (key(&format!("d{}/e{}/file-{n:07}", n % 7, n % 97)), record(n))).collect()
}

pub(crate) async fn build(nodes: &Nodes, map: &Map) -> Root {
    let keys = keys();
    let mut builder = TreeBuilder::new(&keys, nodes);
    for (key, record) in map {
        builder.push(key, record.clone()).expect("push");
    }
    let root = builder.finish().await.expect("finish");
    nodes.flush().await.expect("flush");
    root
}

pub(crate) async fn tree(nodes: &Nodes, map: &Map) -> Tree {
    Tree::open(nodes.clone(), keys(), build(nodes, map).await)
}

pub(crate) async fn collect(batches: RecordBatches) -> Vec<(ItemKey, Record)> {
    let batches: Vec<_> = batches.try_collect().await.expect("read");
    assert!(batches.iter().all(|batch: &Vec<_>| !batch.is_empty()));
    batches.into_iter().flatten().collect()
}

pub(crate) fn assert_same<'m>(
    found: &[(ItemKey, Record)],
    expected: impl IntoIterator<Item = (&'m ItemKey, &'m Record)>,
) {
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(
        found.iter().map(|(key, _)| key).collect::<Vec<_>>(),
        expected.iter().map(|(key, _)| *key).collect::<Vec<_>>()
    );
    for ((key, found), (_, expected)) in found.iter().zip(expected) {
        assert!(found.is_same_state(expected), "{key:?}");
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}

/// Short names of few letters in few levels: prefixes, subtrees and gaps of every kind. A few are so
/// long that few keys make a tree of many levels.
pub(crate) fn any_key() -> impl Strategy<Value = ItemKey> {
    let name = prop_oneof![
        12 => "[ab.]{1,2}",
        1 => "[ab]".prop_map(|end| "l".repeat(9_000) + &end),
    ];
    prop::collection::vec(name, 0..4)
        .prop_map(|names| ItemKey::from_components(names).expect("key"))
}

/// Records big enough for several nodes and levels with a few hundred keys.
pub(crate) fn any_map() -> impl Strategy<Value = Map> {
    let padded = (any_key(), 0..900_u64, 0..3000_usize).prop_map(|(key, seed, padding)| {
        let mut record = record(seed);
        record.version = Some(Version(vec![seed as u8; padding].into()));
        (key, record)
    });
    prop::collection::btree_map(any_key(), padded.prop_map(|(_, record)| record), 0..250)
}
