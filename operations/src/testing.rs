//! What the tests of operations stand on: a repository in memory, and what a stored snapshot holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use model::{Context, ItemKey};
use object_store::memory::InMemory;
use repository::content::ChunkReader;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::{Record, StreamName};
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::SeededEntropy;

/// Makes a repository in memory.
pub(crate) async fn repository(context: &Context) -> Repository {
    let store = Store::new(Arc::new(InMemory::new()), "memory", context);
    let options = CreateOptions {
        label: "test".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(1)));
    Repository::create(store, &unlock, options, context).await.expect("create repository")
}

pub(crate) fn stream() -> StreamName {
    "prod.data".parse().expect("stream")
}

/// Reads all records of a snapshot.
pub(crate) async fn records(
    repository: &Repository,
    snapshot: &Snapshot,
) -> BTreeMap<ItemKey, Record> {
    let tree = repository.tree(snapshot).expect("tree");
    let batches: Vec<_> = tree.range(..).try_collect().await.expect("read tree");
    batches.into_iter().flatten().collect()
}

/// Reads the content of a record, holes as zeros.
pub(crate) async fn content(
    repository: &Repository,
    snapshot: &Snapshot,
    record: &Record,
) -> Bytes {
    let keys = repository.domain(&snapshot.domain).expect("keys");
    let mut reader = ChunkReader::new(repository, &keys, 8 << 20).content(&record.extents);
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.expect("read content") {
        bytes.extend_from_slice(&piece);
    }
    bytes.into()
}
