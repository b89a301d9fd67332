//! A stored repository of this format: it is read, every byte of it is compared with its description, and
//! making it again gives the same objects. Whoever changes the format changes these on purpose, with
//! `cargo run -p chaos-tests --bin write-golden`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chaos_tests::golden::{GOLDEN_BYTES_MAX, describe, folder, make, still_state};
use chaos_tests::observe::read_snapshot;
use model::Context;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutMode};
use repository::crypto::{KeyFile, Unlock};
use repository::store::Store;
use repository::types::StreamName;
use repository::verify::{Depth, VerifyOptions, verify};
use repository::{OpenOptions, Repository};

/// Reads the stored objects. They lie in one file each, under their own paths.
fn stored_objects() -> BTreeMap<String, Bytes> {
    let root = folder().join("objects");
    let mut objects = BTreeMap::new();
    let mut pending = vec![root.clone()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("the golden repository is there") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
                objects.insert(name, std::fs::read(&path).expect("read").into());
            }
        }
    }
    objects
}

async fn open_stored(context: &Context) -> Repository {
    let disk = InMemory::new();
    for (path, bytes) in stored_objects() {
        let put = disk.put_opts(&path.into(), bytes.into(), PutMode::Create.into()).await;
        put.expect("put");
    }
    let store = Store::new(Arc::new(disk), "golden", context);
    let unlock = Unlock::KeyFile(KeyFile::load(&folder().join("key")).expect("key file"));
    Repository::open(store, &unlock, OpenOptions::default(), context).await.expect("open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_golden_repository_is_read() {
    let (context, _) = testkit::context(5);
    let repository = open_stored(&context).await;
    let found = describe(&repository, &context).await.expect("read");
    let expected = std::fs::read_to_string(folder().join("description.txt")).expect("description");
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    // What it holds is known here too, not only from its description.
    let stream: StreamName = "site.still".parse().expect("stream");
    let snapshots = repository.newest_snapshots(&stream, 10).await.expect("list");
    assert_eq!(snapshots.len(), 2);
    for (snapshot, is_second) in snapshots.iter().zip([true, false]) {
        let state = read_snapshot(&repository, snapshot).await.expect("read");
        assert!(state == still_state(is_second), "{} is another state", snapshot.id);
    }
    let options = VerifyOptions { depth: Depth::Deep, named: 3 };
    let report = Box::pin(verify(&repository, &options, &context)).await.expect("verify");
    assert!(report.damage.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_the_golden_repository_again_gives_the_same_objects() {
    let (made, _) = Box::pin(make()).await.expect("make");
    let stored = stored_objects();
    let paths: BTreeSet<_> = made.keys().chain(stored.keys()).collect();
    let others: Vec<_> =
        paths.iter().filter(|path| made.get(**path) != stored.get(**path)).collect();
    assert!(others.is_empty(), "other objects: {others:#?}");
    let total: usize = stored.values().map(Bytes::len).sum();
    assert!(total <= GOLDEN_BYTES_MAX, "{total} bytes");
    for kind in ["pack", "meta", "index", "point", "mark", "log", "logseg", "heartbeat"] {
        assert!(stored.keys().any(|path| path.starts_with(kind)), "no {kind}");
    }
}
