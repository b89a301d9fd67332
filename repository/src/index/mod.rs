//! Where chunks and nodes lie: sorted immutable segments with filters, and a local cache of them.
//!
//! The index is needed to write, and to find a second copy of what is not where it was said to be. It
//! compares the first 16 bytes of ids ([`docs/security.md`] §6 says why that is enough). It is opened
//! when something is looked up and not before ([`LazyIndex`]): a backup of what did not change needs
//! none, nor does a restore.
//!
//! [`docs/security.md`]: ../../../docs/security.md

mod cache;
mod pages;
pub mod rebuild;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result};
use tokio::sync::OnceCell;

use crate::Repository;
use crate::content::Locate;
use crate::crypto::DomainKeys;
use crate::format::ObjectType;
use crate::format::envelope::{OVERHEAD_BYTES, open_object, seal_object};
use crate::pack::EntryKind;
use crate::store::Listed;
use crate::types::{ChunkId, Location, PackKind, Place, StoredChunk, hex};

pub(crate) use cache::Body;

use cache::Folder;
use segment::{Entry, SEGMENT_BYTES_MAX, Segment};

/// Segments that are fetched at the same time: many small ones, or few large ones.
const SMALL_FETCHES_MAX: usize = 64;
const LARGE_FETCHES_MAX: usize = 4;
/// A segment up to this size is small, in bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// What the segments of an index may take in memory where there is no cache folder, in bytes; or as
/// much as the memory setting says, if that is more.
const MEMORY_LEAST: u64 = 128 << 20;

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub location: Location,
    /// What it is.
    pub kind: EntryKind,
    /// What a delta is decoded against.
    pub bases: Vec<ChunkId>,
}

/// All index segments of a domain as listed at one moment, and those that this process has written
/// since. Cheap to clone.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    repository: Repository,
    folder: Option<Folder>,
    segments: RwLock<Vec<Arc<Segment>>>,
}

/// Returns the path below which the segments of a domain are: the name of the domain cannot be told
/// from it.
pub(crate) fn directory(keys: &DomainKeys) -> String {
    format!("index/{}", tag(keys))
}

fn tag(keys: &DomainKeys) -> String {
    // A node's logical part begins with a zero byte: no node has this id.
    let id = keys.node_id(b"lifeboat 2026-11 index tag");
    let (tag, _) = id.0.split_at(8);
    hex(tag)
}

impl Index {
    /// Lists the segments and brings the local cache up to date.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`; `Exhausted` where there is neither a cache folder nor memory.
    pub async fn open(repository: &Repository, domain: &str, context: &Context) -> Result<Self> {
        context.check("open index")?;
        Self::load(repository, &repository.domain(domain)?).await
    }

    pub(crate) async fn load(repository: &Repository, keys: &DomainKeys) -> Result<Self> {
        Self::load_without(repository, keys, &BTreeSet::new()).await
    }

    /// As [`Index::load`], without some segments: they are damaged.
    pub(crate) async fn load_without(
        repository: &Repository,
        keys: &DomainKeys,
        damaged: &BTreeSet<String>,
    ) -> Result<Self> {
        let index = Self::empty(repository, keys);
        let mut listed = repository.store().list(&directory(keys)).await?;
        listed.retain(|listed| !damaged.contains(&listed.path));
        let (small, large): (Vec<_>, Vec<_>) =
            listed.iter().partition(|listed| listed.size_bytes <= SMALL_BYTES_MAX);
        let names = |of: Vec<&Listed>| of.into_iter().map(|listed| listed.path.clone()).collect();
        let (small, large): (Vec<_>, Vec<_>) = (names(small), names(large));
        if let Some(folder) = index.0.folder.clone() {
            blocking(move || {
                folder.keep_only(listed.iter().map(|listed| listed.path.as_str()));
                Ok(())
            })
            .await?;
        }
        index.add(large, LARGE_FETCHES_MAX).await?;
        index.add(small, SMALL_FETCHES_MAX).await?;
        Ok(index)
    }

    fn empty(repository: &Repository, keys: &DomainKeys) -> Self {
        let cache = repository.options().cache_folder.as_deref();
        let id = repository.id().to_string();
        let folder = cache.map(|cache| Folder::new(cache, &id, &tag(keys)));
        let segments = RwLock::default();
        Self(Arc::new(Inner { repository: repository.clone(), folder, segments }))
    }

    /// Opens segments by their names, from the cache where they are in it.
    async fn add(&self, names: Vec<String>, at_once: usize) -> Result<()> {
        let mut opened =
            stream::iter(names.into_iter().map(|name| self.segment(name))).buffered(at_once);
        while let Some(segment) = opened.try_next().await? {
            // One that is gone was merged into another by a collector, which lists it.
            let Some(segment) = segment else { continue };
            self.push(segment)?;
        }
        Ok(())
    }

    fn push(&self, segment: Segment) -> Result<()> {
        let mut segments = self.0.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(Arc::new(segment));
        let taken: u64 = segments.iter().map(|segment| segment.memory_bytes() as u64).sum();
        let allowed = self.0.repository.options().memory_bytes.max(MEMORY_LEAST);
        if self.0.folder.is_none() && taken > allowed {
            return Err(Error::new(ErrorKind::Exhausted, "open index", "")
                .detail("it is larger than the memory setting, and there is no cache folder"));
        }
        Ok(())
    }

    async fn segment(&self, name: String) -> Result<Option<Segment>> {
        if let Some(folder) = self.0.folder.clone() {
            let wanted = name.clone();
            if let Some(segment) = blocking(move || Ok(folder.open(&wanted))).await? {
                return Ok(Some(segment));
            }
        }
        let size_max = (SEGMENT_BYTES_MAX + OVERHEAD_BYTES) as u64;
        let object = match self.0.repository.store().get_limited(&name, size_max).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            object => object?,
        };
        let index = self.clone();
        blocking(move || {
            let keys = index.0.repository.keys();
            let plaintext = open_object(keys, ObjectType::IndexSegment, &name, &object)?;
            index.keep(&name, &plaintext.into()).map(Some)
        })
        .await
    }

    fn keep(&self, name: &str, plaintext: &Bytes) -> Result<Segment> {
        match &self.0.folder {
            Some(folder) => folder.store(name, plaintext),
            None => Segment::open(Body::in_memory(name, plaintext.clone())),
        }
    }

    /// Returns every place that the id is known at.
    ///
    /// # Errors
    /// `Corrupt` where a cache file is damaged; it is fetched again by [`LazyIndex::find`].
    pub fn find(&self, kind: PackKind, id: &[u8; 32]) -> Result<Vec<Found>> {
        let prefix = segment::prefix(id);
        let mut found = Vec::new();
        for segment in self.0.segments.read().unwrap_or_else(PoisonError::into_inner).iter() {
            segment.find(kind, &prefix, &mut found)?;
        }
        Ok(found)
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> u64 {
        let segments = self.0.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().map(|segment| segment.len() as u64).sum()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lists the packs that its segments name.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub fn packs(&self) -> Result<HashSet<(PackKind, crate::types::PackName)>> {
        let segments = self.0.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut packs = HashSet::new();
        for segment in segments {
            packs.extend(segment.packs()?);
        }
        Ok(packs)
    }

    /// Returns the segments themselves.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.0.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the segments that were listed since; says whether there are any.
    async fn refresh(&self, keys: &DomainKeys) -> Result<bool> {
        let listed = self.0.repository.store().list(&directory(keys)).await?;
        let known: HashSet<_> =
            self.segments().iter().map(|segment| segment.name().to_owned()).collect();
        let new = listed.into_iter().map(|listed| listed.path);
        let new: Vec<_> = new.filter(|path| !known.contains(path)).collect();
        let found_any = !new.is_empty();
        self.add(new, LARGE_FETCHES_MAX).await?;
        Ok(found_any)
    }

    /// Fetches again what was found to be damaged in the cache; says whether anything was.
    pub(crate) async fn heal(&self) -> Result<bool> {
        let mut damaged = Vec::new();
        {
            let mut segments = self.0.segments.write().unwrap_or_else(PoisonError::into_inner);
            segments.retain(|segment| {
                let is_damaged = segment.is_damaged();
                if is_damaged {
                    segment.discard();
                    damaged.push(segment.name().to_owned());
                }
                !is_damaged
            });
        }
        let found_any = !damaged.is_empty();
        self.add(damaged, LARGE_FETCHES_MAX).await?;
        Ok(found_any)
    }
}

/// Creates a segment. Returns its plaintext and how many bytes were stored.
///
/// # Errors
/// Those of the store; `Internal`.
pub(crate) async fn write_segment(
    repository: &Repository,
    path: &str,
    entries: Vec<Entry>,
) -> Result<(Bytes, u64)> {
    let (keys, name) = (repository.keys().clone(), path.to_owned());
    let (plaintext, object) = blocking(move || {
        let plaintext = segment::encode(&entries)?;
        let object = seal_object(&keys, ObjectType::IndexSegment, &name, &plaintext)?;
        Ok((Bytes::from(plaintext), Bytes::from(object)))
    })
    .await?;
    let stored_bytes = object.len() as u64;
    repository.store().create(path, object).await?;
    Ok((plaintext, stored_bytes))
}

/// An index that is opened when it is first needed. Cheap to clone.
#[derive(Clone)]
pub struct LazyIndex(Arc<Lazy>);

struct Lazy {
    repository: Repository,
    keys: DomainKeys,
    opened: OnceCell<Index>,
}

impl LazyIndex {
    /// Remembers what to open.
    pub fn new(repository: &Repository, keys: &DomainKeys) -> Self {
        let (repository, keys) = (repository.clone(), keys.clone());
        Self(Arc::new(Lazy { repository, keys, opened: OnceCell::new() }))
    }

    /// Opens the index where it is not open yet.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub async fn get(&self) -> Result<&Index> {
        self.0.opened.get_or_try_init(|| Index::load(&self.0.repository, &self.0.keys)).await
    }

    /// Returns the index where it is open.
    pub fn opened(&self) -> Option<&Index> {
        self.0.opened.get()
    }

    /// Returns every place that the id is known at. What is damaged in the cache is fetched again.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub async fn find(&self, kind: PackKind, id: &[u8; 32]) -> Result<Vec<Found>> {
        let index = self.get().await?;
        match index.find(kind, id) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if index.heal().await? {
                    index.find(kind, id)
                } else {
                    Err(error)
                }
            }
            found => found,
        }
    }

    /// Adds a segment that this process has written, so that it need not be fetched. Without effect
    /// where the index is not open: then it will be listed, and is in the cache.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub(crate) async fn add_written(&self, name: String, plaintext: Bytes) -> Result<()> {
        let index = match self.opened() {
            Some(index) => index.clone(),
            None => Index::empty(&self.0.repository, &self.0.keys),
        };
        blocking(move || {
            let segment = index.keep(&name, &plaintext)?;
            let is_new = |known: &Arc<Segment>| known.name() != segment.name();
            let segments = index.0.segments.read().unwrap_or_else(PoisonError::into_inner);
            let is_new = segments.iter().all(is_new);
            drop(segments);
            if is_new { index.push(segment) } else { Ok(()) }
        })
        .await
    }
}

#[async_trait]
impl Locate for LazyIndex {
    async fn refresh(&self) -> Result<bool> {
        match self.opened() {
            Some(index) => index.refresh(&self.0.keys).await,
            None => self.get().await.map(|_| true),
        }
    }

    async fn locate(&self, id: &ChunkId) -> Result<Vec<StoredChunk>> {
        let mut located = Vec::new();
        for Found { location, bases, .. } in self.find(PackKind::Data, &id.0).await? {
            let mut resolved = Vec::with_capacity(bases.len());
            for id in &bases {
                let found = self.find(PackKind::Data, &id.0).await?;
                let full = found.into_iter().find(|found| found.kind == EntryKind::Full);
                resolved.extend(full.map(|full| stored(*id, full.location, Vec::new())));
            }
            // Where a base is nowhere to be found, the delta is of no use.
            if resolved.len() == bases.len() {
                located.push(stored(*id, location, resolved));
            }
        }
        Ok(located)
    }
}

fn stored(id: ChunkId, location: Location, bases: Vec<StoredChunk>) -> StoredChunk {
    StoredChunk { id, length: location.length, place: Place::Known(location), bases }
}

/// Runs what reads or writes local files where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, "use index", "").because(error))
    })
}
