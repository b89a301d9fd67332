//! What a session has and may use: its own packs, and the index without what is condemned; and the way
//! of packs into the store.
//!
//! Packs are uploaded while the work goes on, as many at a time as the memory setting allows. What they
//! hold is found in this session from the moment that they are handed over. The index is written only of
//! packs that are durable, and nodes are put only when the content that they name is durable and
//! indexed: whatever is cut off, a later session finds all that was finished.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use model::{Context, Counter, Error, ErrorKind, Result};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::own::OwnPacks;
use crate::Repository;
use crate::content::{PackMemory, Shelf};
use crate::crypto::DomainKeys;
use crate::gc::CondemnedSet;
use crate::index::segment::{Entry, RECORDS_TARGET};
use crate::index::{Found, LazyIndex, directory, write_segment};
use crate::pack::{EntryKind, PackEntry, SealedPack, pack_path};
use crate::types::{ChunkId, Location, NodeId, PackKind, PackName, Place, SessionId, StoredChunk};

/// What is in flight is counted in units of so many bytes.
const UNIT_BYTES: usize = 1 << 10;
/// Durable content is indexed while the work goes on when so many entries have gathered: it bounds what
/// a session remembers.
const GATHERED_ENTRIES_MAX: usize = if cfg!(test) { 1 << 10 } else { 64 << 10 };

/// The shared part of a session.
pub(super) struct Shared {
    pub(super) repository: Repository,
    pub(super) keys: DomainKeys,
    pub(super) context: Context,
    pub(super) id: SessionId,
    pub(super) condemned: CondemnedSet,
    pub(super) index: LazyIndex,
    /// Itself, for what is spawned.
    this: Weak<Self>,
    handle: Handle,
    own: Mutex<OwnPacks>,
    /// Packs that were looked at since the announcement, and whether they were there; its own are.
    looked_at: Mutex<HashMap<PackName, bool>>,
    uploads: Mutex<Uploads>,
    slots: Arc<Semaphore>,
    slot_count: u32,
    stored_bytes: AtomicU64,
    /// Held by whoever writes index segments; counts them.
    segments: tokio::sync::Mutex<u32>,
}

/// Packs on their way, and what of the durable ones no segment names yet.
#[derive(Default)]
struct Uploads {
    data: JoinSet<Result<Vec<Entry>>>,
    meta: JoinSet<Result<Vec<Entry>>>,
    durable_data: Vec<Entry>,
    durable_meta: Vec<Entry>,
    is_indexing: bool,
    failed: Option<(ErrorKind, String)>,
}

impl Shared {
    pub(super) fn new(
        repository: &Repository,
        keys: &DomainKeys,
        id: SessionId,
        condemned: CondemnedSet,
        context: &Context,
    ) -> Arc<Self> {
        let in_flight = repository.options().memory_bytes / 4 / UNIT_BYTES as u64;
        let slot_count = u32::try_from(in_flight).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        Arc::new_cyclic(|this| Self {
            repository: repository.clone(),
            keys: keys.clone(),
            context: context.clone(),
            id,
            condemned,
            index: LazyIndex::new(repository, keys),
            this: this.clone(),
            handle: Handle::current(),
            own: Mutex::default(),
            looked_at: Mutex::default(),
            uploads: Mutex::default(),
            slots: Arc::new(Semaphore::new(slot_count as usize)),
            slot_count,
            stored_bytes: AtomicU64::new(0),
            segments: tokio::sync::Mutex::new(0),
        })
    }

    /// Returns how many bytes this session has put into the store.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.context.monitor.count(Counter::StoredBytes, bytes);
    }

    fn own(&self) -> MutexGuard<'_, OwnPacks> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error of an upload that failed before.
    pub(super) fn check(&self) -> Result<()> {
        self.context.check("store pack")?;
        let mut uploads = self.uploads();
        uploads.reap();
        match &uploads.failed {
            None => Ok(()),
            Some((kind, text)) => {
                Err(Error::new(*kind, "store content", self.id.to_string()).because(text.clone()))
            }
        }
    }

    fn looked_at(&self) -> MutexGuard<'_, HashMap<PackName, bool>> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether a pack that the index names is there: once per pack, and after what is condemned
    /// was read. A segment alone proves nothing: a writer that was closed long ago may have woken up
    /// and named packs that a collector had deleted meanwhile.
    pub(super) async fn look_at_pack(&self, kind: PackKind, pack: PackName) -> Result<bool> {
        if let Some(is_there) = self.looked_at().get(&pack) {
            return Ok(*is_there);
        }
        let is_there = match self.repository.store().head(&pack_path(kind, pack)).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        self.looked_at().insert(pack, is_there);
        Ok(is_there)
    }

    /// Finds where a node lies in this session's view, for a node that the parent told of while
    /// something is condemned: the parent's hint may be stale.
    pub(super) async fn find_node_again(&self, id: &NodeId) -> Result<Option<Location>> {
        for Found { location, .. } in self.index.find(PackKind::Meta, &id.0).await? {
            let is_condemned = self.condemned.contains(&location.pack);
            if !is_condemned && self.look_at_pack(PackKind::Meta, location.pack).await? {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// Finds an id among the session's own packs and in the index, if that is open or may be opened
    /// here. What is condemned is not found, nor what lies in packs that are not there; where nobody
    /// may wait, packs that were not looked at count as not there.
    fn resolve(&self, kind: PackKind, id: &[u8; 32], may_open: bool) -> Result<Vec<Found>> {
        // The thread of a runtime that has only one must not wait: it is the one that would answer.
        let may_wait = may_open || self.handle.runtime_flavor() == RuntimeFlavor::MultiThread;
        if let Some(found) = self.own().find(kind, id) {
            return Ok(vec![found]);
        }
        let mut found = match self.index.opened().map(|index| index.find(kind, id)) {
            Some(Ok(found)) => found,
            Some(Err(_)) | None if may_open => self.wait(self.index.find(kind, id))?,
            Some(Err(error)) => return Err(error),
            None => Vec::new(),
        };
        found.retain(|found| !self.condemned.contains(&found.location.pack));
        if may_wait && !found.is_empty() {
            let mut there = Vec::with_capacity(found.len());
            for found in found {
                let known = self.looked_at().get(&found.location.pack).copied();
                let is_there = match known {
                    Some(is_there) => is_there,
                    None => self.wait(self.look_at_pack(kind, found.location.pack))?,
                };
                there.extend(is_there.then_some(found));
            }
            return Ok(there);
        }
        let looked_at = self.looked_at();
        found.retain(|found| looked_at.get(&found.location.pack) == Some(&true));
        drop(looked_at);
        Ok(found)
    }

    /// Resolves a chunk, and for a delta every base, in this session's view. `preferred` is where it was
    /// said to lie.
    pub(super) fn resolve_chunk(
        &self,
        id: &ChunkId,
        length: u32,
        preferred: Option<Location>,
    ) -> Result<Option<StoredChunk>> {
        let mut found = self.resolve(PackKind::Data, &id.0, true)?;
        found.retain(|found| found.location.length == length);
        let rank = |found: &Found| {
            let is_preferred = preferred == Some(found.location);
            (!is_preferred, found.kind != EntryKind::Full)
        };
        found.sort_by_key(rank);
        for Found { location, kind, bases } in found {
            let bases = match kind {
                EntryKind::Full => Some(Vec::new()),
                EntryKind::Delta => self.resolve_bases(&bases)?,
                EntryKind::Node => None,
            };
            if let Some(bases) = bases {
                return Ok(Some(StoredChunk {
                    id: *id,
                    length,
                    place: Place::Known(location),
                    bases,
                }));
            }
        }
        Ok(None)
    }

    fn resolve_bases(&self, bases: &[ChunkId]) -> Result<Option<Vec<StoredChunk>>> {
        let mut resolved = Vec::with_capacity(bases.len());
        for id in bases {
            let found = self.resolve(PackKind::Data, &id.0, true)?;
            let Some(full) = found.iter().find(|found| found.kind == EntryKind::Full) else {
                return Ok(None);
            };
            let Location { length, .. } = full.location;
            let place = Place::Known(full.location);
            resolved.push(StoredChunk { id: *id, length, place, bases: Vec::new() });
        }
        Ok(Some(resolved))
    }

    /// Resolves a node; the index is not opened for it, as this may be called where nobody may block.
    pub(super) fn resolve_node(&self, id: &NodeId) -> Option<Location> {
        let found = self.resolve(PackKind::Meta, &id.0, false).ok()?;
        found.first().map(|found| found.location)
    }

    /// Runs a future to its end where blocking is allowed.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| self.handle.block_on(future))
    }

    fn permit(&self, bytes: usize, may_block: bool) -> Result<Option<OwnedSemaphorePermit>> {
        let wanted =
            u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).clamp(1, self.slot_count);
        let slots = self.slots.clone();
        match slots.clone().try_acquire_many_owned(wanted) {
            Ok(permit) => Ok(Some(permit)),
            Err(_) if !may_block => Ok(None),
            Err(_) => {
                let cancelled = self.context.cancel.cancelled();
                let acquired = self.wait(async {
                    tokio::select! {
                        permit = slots.acquire_many_owned(wanted) => permit.ok(),
                        () = cancelled => None,
                    }
                });
                acquired.map(Some).ok_or_else(|| Error::cancelled("store pack"))
            }
        }
    }

    /// Remembers what is in a pack from now on.
    fn remember(&self, pack: &SealedPack) -> Vec<Entry> {
        let is_delta = |entry: &&PackEntry| entry.kind == EntryKind::Delta;
        let deltas = pack.entries.iter().filter(is_delta).count();
        self.context.monitor.count(Counter::DeltaChunks, deltas as u64);
        self.looked_at().insert(pack.name, true);
        self.own().add(pack);
        pack.entries.iter().map(Entry::new).collect()
    }

    /// Puts a pack of nodes once the content that was handed over before is durable and indexed.
    pub(super) fn put_nodes(&self, pack: SealedPack) -> Result<()> {
        self.check()?;
        // The thread of a runtime that has only one must not wait: it is the one that uploads.
        let may_block = self.handle.runtime_flavor() == RuntimeFlavor::MultiThread;
        let permit = self.permit(pack.object.len(), may_block)?;
        let entries = self.remember(&pack);
        self.count_stored(pack.object.len() as u64);
        let this = self.this.clone();
        let upload = async move {
            let _permit = permit;
            let shared = this.upgrade().ok_or_else(|| Error::cancelled("store pack"))?;
            shared.settle_data().await?;
            let path = pack_path(PackKind::Meta, pack.name);
            shared.repository.store().create(&path, pack.object).await?;
            Ok(entries)
        };
        self.uploads().meta.spawn_on(upload, &self.handle);
        Ok(())
    }

    /// Indexes what content is durable by now, where it is much.
    fn index_gathered(&self) {
        let this = self.this.clone();
        let index = async move {
            let Some(shared) = this.upgrade() else { return Ok(Vec::new()) };
            let mut count = shared.segments.lock().await;
            let entries = std::mem::take(&mut shared.uploads().durable_data);
            let written = shared.write_segments(&mut count, entries).await;
            shared.uploads().is_indexing = false;
            written.map(|()| Vec::new())
        };
        let mut uploads = self.uploads();
        if uploads.durable_data.len() >= GATHERED_ENTRIES_MAX && !uploads.is_indexing {
            uploads.is_indexing = true;
            uploads.meta.spawn_on(index, &self.handle);
        }
    }

    /// Waits until all content that was handed over is durable, and indexes it.
    pub(super) async fn settle_data(&self) -> Result<()> {
        let mut count = self.segments.lock().await;
        let uploads = std::mem::take(&mut self.uploads().data);
        let entries = join(uploads).await;
        let mut entries = self.finished(entries)?;
        entries.append(&mut self.uploads().durable_data);
        self.write_segments(&mut count, entries).await
    }

    /// Waits until all nodes are durable as well, and indexes them. The content comes first.
    pub(super) async fn settle(&self) -> Result<()> {
        self.settle_data().await?;
        let uploads = std::mem::take(&mut self.uploads().meta);
        let entries = join(uploads).await;
        let mut entries = self.finished(entries)?;
        let mut count = self.segments.lock().await;
        entries.append(&mut self.uploads().durable_meta);
        self.write_segments(&mut count, entries).await?;
        drop(count);
        self.check()
    }

    fn finished(&self, entries: Result<Vec<Entry>>) -> Result<Vec<Entry>> {
        if let Err(error) = &entries {
            self.uploads().fail(error);
        }
        entries
    }

    async fn write_segments(&self, count: &mut u32, mut entries: Vec<Entry>) -> Result<()> {
        // Packs become durable in any order; the bytes of a segment are not to depend on it.
        entries
            .sort_by_key(|entry| (entry.prefix, entry.location.pack, entry.location.block_offset));
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(RECORDS_TARGET));
            let is_open = self.index.opened().is_some();
            let keys: Vec<_> = entries
                .iter()
                .filter(|_| is_open)
                .map(|entry| (entry.pack_kind, entry.prefix))
                .collect();
            let path = format!("{}/{}-{count:04x}", directory(&self.keys), self.id.path());
            let (plaintext, bytes) =
                write_segment(&self.repository, &path, std::mem::replace(&mut entries, rest))
                    .await?;
            *count += 1;
            self.count_stored(bytes);
            self.index.add_written(path, plaintext).await?;
            let mut own = self.own();
            keys.iter().for_each(|key| own.forget(key));
        }
        Ok(())
    }

    /// Waits until nothing is on its way, without indexing it.
    #[cfg(test)]
    pub(super) async fn settle_uploads(&self) {
        loop {
            let is_busy = {
                let mut uploads = self.uploads();
                uploads.reap();
                !uploads.data.is_empty() || uploads.is_indexing
            };
            if !is_busy {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Stops all uploads.
    pub(super) fn stop(&self) {
        let mut uploads = self.uploads();
        uploads.data.abort_all();
        uploads.meta.abort_all();
    }
}

impl Uploads {
    /// Takes note of uploads that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.data.try_join_next() {
            match flatten(ended) {
                Ok(mut entries) => self.durable_data.append(&mut entries),
                Err(error) => self.fail(&error),
            }
        }
        while let Some(ended) = self.meta.try_join_next() {
            match flatten(ended) {
                Ok(mut entries) => self.durable_meta.append(&mut entries),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        self.failed.get_or_insert_with(|| (error.kind(), error.chain()));
    }
}

/// Waits for uploads; gives the first error once all have ended.
async fn join(mut uploads: JoinSet<Result<Vec<Entry>>>) -> Result<Vec<Entry>> {
    let mut durable = Ok(Vec::new());
    while let Some(ended) = uploads.join_next().await {
        match (flatten(ended), &mut durable) {
            (Ok(mut entries), Ok(durable)) => durable.append(&mut entries),
            (Err(error), Ok(_)) => durable = Err(error),
            (_, Err(_)) => {}
        }
    }
    durable
}

fn flatten(ended: Result<Result<Vec<Entry>>, tokio::task::JoinError>) -> Result<Vec<Entry>> {
    ended.unwrap_or_else(|error| {
        let kind = if error.is_cancelled() { ErrorKind::Cancelled } else { ErrorKind::Internal };
        Err(Error::new(kind, "put pack", "").because(error))
    })
}

#[async_trait]
impl Shelf for Shared {
    fn find_chunk(&self, id: &ChunkId, length: u32) -> Option<StoredChunk> {
        match self.resolve_chunk(id, length, None) {
            Ok(found) => found,
            Err(error) => {
                // The chunk is stored again; the next pack says why that ends the session.
                self.uploads().fail(&error);
                None
            }
        }
    }

    fn take_over(&self, chunk: &StoredChunk) -> Option<StoredChunk> {
        // All that a parent holds resolves then, as `Session::reuse` says; the index stays closed.
        self.condemned.is_empty().then(|| chunk.clone())
    }

    fn find_node(&self, id: &NodeId) -> Option<Place> {
        self.resolve_node(id).map(Place::Known)
    }

    fn put_pack(&self, mut pack: SealedPack, memory: &PackMemory) -> Result<()> {
        self.check()?;
        let permit = self.permit(pack.object.len(), true)?;
        let entries = self.remember(&pack);
        pack.entries = Vec::new();
        self.count_stored(pack.object.len() as u64);
        let (store, memory) = (self.repository.store().clone(), memory.clone());
        let upload = async move {
            let _permit = permit;
            let (path, object) = (pack_path(pack.kind, pack.name), pack.object.clone());
            store.create(&path, object).await?;
            store.forget_cached(&path).await;
            memory.give(pack);
            Ok(entries)
        };
        self.uploads().data.spawn_on(upload, &self.handle);
        self.index_gathered();
        Ok(())
    }
}
