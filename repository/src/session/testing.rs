//! What the tests of sessions stand on: a store that keeps its order of writes, repositories, content
//! that is put without being cut, and small trees.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use model::{
    AttributeTag, Attributes, ContentClass, Context, Epoch, ItemKey, ItemKind, Position, Proof,
    Timestamp,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use testkit::SeededEntropy;
use tokio::sync::watch;

use super::{Draft, Session, SessionOptions};
use crate::content::{PackMemory, Shelf as _};
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::pack::{BlockCipher, BlockEntry, EntryKind, PackBuilder, seal_block};
use crate::store::Store;
use crate::tree::TreeBuilder;
use crate::types::{
    Location, PackKind, Place, Record, Root, StoredBody, StoredChunk, StoredExtent, StreamName,
};
use crate::{CreateOptions, OpenOptions, Repository};

/// A store in memory that notes when each put begins and ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) objects: Arc<InMemory>,
    pub(crate) log: Arc<Mutex<Vec<(bool, String)>>>,
    /// Puts below this prefix are denied.
    pub(crate) denied: Arc<Mutex<Option<&'static str>>>,
    gate: Arc<Gate>,
}

/// Holds requests back until nobody does anything but wait for them: one round trip of all.
#[derive(Debug, Default)]
struct Gate {
    is_closed: AtomicBool,
    waiting: AtomicUsize,
    rounds: watch::Sender<u64>,
}

impl Gate {
    async fn pass(&self) {
        if !self.is_closed.load(SeqCst) {
            return;
        }
        let mut rounds = self.rounds.subscribe();
        self.waiting.fetch_add(1, SeqCst);
        rounds.changed().await.expect("the gate outlives its requests");
        self.waiting.fetch_sub(1, SeqCst);
    }
}

impl Recorded {
    /// Runs a future; returns how many round trips it took, one after another. For runtimes of one
    /// thread.
    pub(crate) async fn count_rounds<T>(&self, future: impl Future<Output = T>) -> (T, u64) {
        let mut future = std::pin::pin!(future);
        self.gate.is_closed.store(true, SeqCst);
        let mut rounds = 0;
        loop {
            for _ in 0..100 {
                if let Poll::Ready(result) = futures::poll!(future.as_mut()) {
                    self.gate.is_closed.store(false, SeqCst);
                    return (result, rounds);
                }
                tokio::task::yield_now().await;
            }
            if self.gate.waiting.load(SeqCst) > 0 {
                rounds += 1;
                self.gate.rounds.send_modify(|rounds| *rounds += 1);
            }
        }
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recorded")
    }
}

type Answer<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Recorded {
    async fn put_opts(&self, to: &Path, payload: PutPayload, o: PutOptions) -> Answer<PutResult> {
        self.gate.pass().await;
        let denied = *self.denied.lock().expect("lock");
        if denied.is_some_and(|prefix| to.as_ref().starts_with(prefix)) {
            let path = to.to_string();
            return Err(object_store::Error::PermissionDenied { path, source: "denied".into() });
        }
        self.log.lock().expect("lock").push((false, to.to_string()));
        // Others get their turn: what does not wait for this put overtakes it.
        tokio::task::yield_now().await;
        let put = self.objects.put_opts(to, payload, o).await;
        self.log.lock().expect("lock").push((true, to.to_string()));
        put
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        o: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(to, o).await
    }

    async fn get_opts(&self, from: &Path, o: GetOptions) -> Answer<GetResult> {
        self.gate.pass().await;
        self.objects.get_opts(from, o).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Answer<Path>>,
    ) -> BoxStream<'static, Answer<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        let (gate, listed) = (self.gate.clone(), self.objects.list(prefix));
        let listed = async move {
            gate.pass().await;
            listed
        };
        listed.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.gate.pass().await;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> Answer<()> {
        self.objects.copy_opts(from, to, o).await
    }
}

/// A repository in memory with what its tests turn.
pub(crate) struct Fixture {
    pub(crate) store: Recorded,
    pub(crate) repository: Repository,
    pub(crate) context: Context,
    pub(crate) handles: testkit::Handles,
    unlock: Unlock,
}

impl Fixture {
    pub(crate) async fn new(seed: u64) -> Self {
        let (context, handles) = testkit::context(seed);
        let store = Recorded::default();
        let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)));
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let attached = Store::new(Arc::new(store.clone()), "memory", &context);
        let repository = Repository::create(attached, &unlock, options, &context).await;
        let repository = repository.expect("create");
        store.log.lock().expect("lock").clear();
        Self { store, repository, context, handles, unlock }
    }

    /// Opens the same repository as another process would.
    pub(crate) async fn reopen(&self, options: OpenOptions) -> Repository {
        let attached = Store::new(Arc::new(self.store.clone()), "memory", &self.context);
        Repository::open(attached, &self.unlock, options, &self.context).await.expect("open")
    }

    /// Opens a copy of the repository in another store.
    pub(crate) async fn open_copy(&self, store: Store) -> model::Result<Repository> {
        Repository::open(store, &self.unlock, OpenOptions::default(), &self.context).await
    }

    pub(crate) async fn begin(&self) -> Session {
        Session::begin(&self.repository, &stream("prod.etc"), options(), &self.context)
            .await
            .expect("begin")
    }

    /// Returns the paths of all objects below a prefix.
    pub(crate) async fn paths(&self, prefix: &str) -> Vec<String> {
        let listed = self.repository.store().list(prefix).await.expect("list");
        listed.into_iter().map(|listed| listed.path).collect()
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.repository.store().delete(path).await.expect("delete");
    }
}

pub(crate) fn stream(name: &str) -> StreamName {
    name.parse().expect("stream")
}

pub(crate) fn options() -> SessionOptions {
    SessionOptions {
        kind: "files".to_owned(),
        domain: String::new(),
        host: "h".to_owned(),
        ignore_parent: false,
    }
}

pub(crate) fn draft() -> Draft {
    Draft {
        position: Position(Bytes::from_static(b"here")),
        cut_from: Timestamp::from_unix_seconds(1),
        cut_to: Timestamp::from_unix_seconds(2),
        source_time: None,
        extent_epoch: Epoch(0),
        proof: Proof { method: "walk".to_owned(), claims: Vec::new() },
        problems: 0,
    }
}

/// Stores contents in one pack as a writer of content does: what is found is taken over.
pub(crate) fn put_contents(session: &Session, contents: &[&[u8]]) -> Vec<StoredChunk> {
    let shared = &session.shared;
    let (repository, keys) = (shared.repository.id(), &shared.keys);
    let cipher = BlockCipher::new(PackKind::Data, repository, keys);
    let entropy = shared.context.entropy.as_ref();
    let mut builder = PackBuilder::new(PackKind::Data, repository, keys, entropy);
    let mut chunks = Vec::new();
    for content in contents {
        let (id, length) = (keys.chunk_id(content), content.len() as u32);
        let found = shared.find_chunk(&id, length);
        chunks.push(found.unwrap_or_else(|| {
            let (kind, bases) = (EntryKind::Full, Vec::new());
            let entries = vec![BlockEntry { id: id.0, kind, offset: 0, length, bases }];
            let block = seal_block(&cipher, &[7; 32], content, entries).expect("seal");
            let (block_offset, block_length) = builder.push(block).expect("push");
            let pack = crate::types::PackName([0; 32]);
            let location =
                Location { pack, block_offset, block_length, offset_in_block: 0, length };
            StoredChunk { id, length, place: Place::Known(location), bases: Vec::new() }
        }));
    }
    if !builder.is_empty() {
        let pack = builder.finish().expect("finish");
        for chunk in &mut chunks {
            let stored = pack.entries.iter().find(|entry| entry.id == chunk.id.0);
            if let Some(entry) = stored {
                chunk.place = Place::Known(entry.location);
            }
        }
        shared.put_pack(pack, &PackMemory::default()).expect("put");
    }
    chunks
}

pub(crate) fn key(path: &str) -> ItemKey {
    ItemKey::from_components(path.split('/')).expect("key")
}

pub(crate) fn record(chunk: StoredChunk) -> Record {
    Record {
        kind: ItemKind::File,
        attributes: Attributes::builder().unsigned(AttributeTag::MODE, 0o644).build(),
        version: None,
        extents: vec![extent(chunk)],
    }
}

pub(crate) fn extent(chunk: StoredChunk) -> StoredExtent {
    StoredExtent {
        length_bytes: chunk.length.into(),
        body: StoredBody::Data {
            identity: None,
            checksums: None,
            class: ContentClass::General,
            chunks: vec![chunk],
        },
    }
}

/// Builds a tree of files `f000000`, … with these chunks.
pub(crate) async fn build(session: &Session, chunks: &[StoredChunk]) -> Root {
    let mut builder = TreeBuilder::new(session.keys(), session.nodes());
    for (n, chunk) in chunks.iter().enumerate() {
        builder.push(&key(&format!("d/f{n:06}")), record(chunk.clone())).expect("push");
    }
    builder.finish().await.expect("finish")
}
