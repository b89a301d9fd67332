//! States for tests: trees without content in memory, and a repository with captured ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    AttributeTag, Attributes, Context, Epoch, Error, ErrorKind, ItemKey, ItemKind, Position, Proof,
    Result, Timestamp,
};
use object_store::memory::InMemory;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::tree::{ReadNodes, StoreNodes, Tree, TreeBuilder};
use repository::types::{
    Location, NodeId, Number, PackName, Place, Record, Root, SessionId, StoredExtent, WriterId,
};
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::scripted::key;
use testkit::{ScriptedSystem, SeededEntropy};

use crate::capture::{CaptureOptions, capture};
use crate::select::{Items, ResolvedSystem};

/// Creates a repository in memory.
pub(crate) async fn repository(objects: &InMemory, context: &Context) -> Repository {
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let store = Store::new(Arc::new(objects.clone()), "memory", context);
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(1)));
    Repository::create(store, &unlock, options, context).await.expect("create repository")
}

/// Nodes in memory.
#[derive(Debug, Clone, Default)]
struct Nodes(Arc<Mutex<HashMap<NodeId, Bytes>>>);

#[async_trait]
impl StoreNodes for Nodes {
    fn store_node(&self, id: NodeId, plaintext: Vec<u8>) -> Result<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, plaintext.into());
        Ok(Place::Known(Location {
            pack: PackName([0; 32]),
            block_offset: 0,
            block_length: 0,
            offset_in_block: 0,
            length: 0,
        }))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ReadNodes for Nodes {
    async fn read_node(&self, id: NodeId, _place: &Place) -> Result<Bytes> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "read node", id.to_string()))
    }
}

/// Makes the record of a word: `path/` a directory, `path@primary` a hard link, `path*N` a file that is
/// a hole of N bytes, `path` an empty file.
fn record(word: &str) -> (ItemKey, Record) {
    let make = |path: &str, kind, attributes: Attributes, extents: Vec<StoredExtent>| {
        (key(path), Record { kind, attributes, version: None, extents })
    };
    let plain = || Attributes::builder().unsigned(AttributeTag::MODE, 0o644).build();
    if let Some((path, primary)) = word.split_once('@') {
        let target =
            Attributes::builder().bytes(AttributeTag::LINK_TARGET, key(primary).as_bytes());
        return make(path, ItemKind::Hardlink, target.build(), Vec::new());
    }
    if let Some((path, length)) = word.split_once('*') {
        let length_bytes = length.parse().expect("length");
        let hole = StoredExtent { length_bytes, body: repository::types::StoredBody::Hole };
        return make(path, ItemKind::File, plain(), vec![hole]);
    }
    let kind = if word.ends_with('/') { ItemKind::Directory } else { ItemKind::File };
    make(word, kind, plain(), Vec::new())
}

/// Stores a tree in memory.
pub(crate) async fn tree(repository: &Repository, words: &str) -> Tree {
    let keys = repository.domain("").expect("keys");
    let nodes = Nodes::default();
    let mut builder = TreeBuilder::new(&keys, &nodes);
    for word in words.split_whitespace() {
        let (key, record) = record(word);
        builder.push(&key, record).expect("ascending");
    }
    let root = builder.finish().await.expect("finish");
    Tree::open(nodes, keys, root)
}

/// Returns a state that has a tree; with a host all its keys begin with it.
pub(crate) async fn state(
    repository: &Repository,
    words: &str,
    host: Option<&str>,
    path: &str,
) -> ResolvedSystem {
    let tree = tree(repository, words).await;
    let snapshot = snapshot(tree.root().clone());
    ResolvedSystem {
        stream: snapshot.id.stream.clone(),
        stands_at: snapshot.cut_to,
        position: snapshot.position.clone(),
        host: host.map(str::to_owned),
        path: key(path),
        items: Items::Stored(tree),
        snapshot,
    }
}

/// Captures a system and returns its state.
pub(crate) async fn captured(
    repository: &Repository,
    system: &ScriptedSystem,
    context: &Context,
) -> ResolvedSystem {
    let scratch = tempfile::tempdir().expect("scratch");
    let options = CaptureOptions {
        host: "h1".to_owned(),
        domain: String::new(),
        recheck_every_captures: 0,
        read_everything: false,
        scratch_folder: scratch.path().to_owned(),
        workers: 1,
    };
    let stream = "prod.lake".parse().expect("stream");
    let captured = capture(repository, &stream, system, &options, context);
    let snapshot = Box::pin(captured).await.expect("capture").snapshot;
    ResolvedSystem {
        stream,
        stands_at: snapshot.cut_to,
        position: snapshot.position.clone(),
        host: None,
        path: ItemKey::root(),
        items: Items::Stored(repository.tree(&snapshot).expect("tree")),
        snapshot,
    }
}

fn snapshot(root: Root) -> Snapshot {
    Snapshot {
        id: SessionId {
            stream: "prod.lake".parse().expect("stream"),
            number: Number::new(1).expect("in range"),
            random: [1; 8],
        },
        writer: WriterId([0; 16]),
        kind: "scripted".to_owned(),
        domain: String::new(),
        host: "h".to_owned(),
        parent: None,
        capture_number: 0,
        is_checkpoint: false,
        root,
        position: Position(Bytes::new()),
        cut_from: Timestamp::default(),
        cut_to: Timestamp::default(),
        source_time: None,
        store_time: None,
        extent_epoch: Epoch(1),
        proof: Proof::default(),
        problems: 0,
        stored_bytes: 0,
    }
}
