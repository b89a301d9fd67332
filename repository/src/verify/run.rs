//! What all parts of a check share: how objects are read, what counts as damage, what is counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::{Context, Counter, Error, ErrorKind, Result};

use super::findings::{DamageNumber, Findings};
use super::trees::Visited;
use super::{Report, VerifyOptions, Wanted};
use crate::Repository;
use crate::content::ChunkReader;
use crate::crypto::{DEFAULT_DOMAIN, DomainKeys};
use crate::format::descriptor::DESCRIPTOR_PATH;
use crate::index::LazyIndex;
use crate::session::NodeReader;

/// What readers of chunks keep decoded, as a part of the memory setting.
const READER_MEMORY_DIVISOR: u64 = 4;

/// One check of a repository.
pub(super) struct Run<'a> {
    pub(super) repository: &'a Repository,
    pub(super) options: &'a VerifyOptions,
    pub(super) context: &'a Context,
    findings: Mutex<Findings>,
    objects: AtomicU64,
    read_bytes: AtomicU64,
    snapshots: AtomicU64,
    items: AtomicU64,
    unknown: AtomicU64,
}

/// A key domain that is checked.
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) keys: DomainKeys,
    pub(super) index: LazyIndex,
    pub(super) nodes: NodeReader,
    pub(super) chunks: ChunkReader,
    pub(super) visited: Mutex<Visited>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        options: &'a VerifyOptions,
        context: &'a Context,
    ) -> Self {
        Self {
            repository,
            options,
            context,
            findings: Mutex::new(Findings::new(options.named)),
            objects: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            items: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    /// Makes the readers of all domains. The default one is always among them.
    pub(super) fn domains(&self, names: &[String]) -> Result<Vec<Domain>> {
        let mut names = names.to_vec();
        names.push(DEFAULT_DOMAIN.to_owned());
        names.sort_unstable();
        names.dedup();
        let share = self.repository.options().memory_bytes / READER_MEMORY_DIVISOR;
        let share = usize::try_from(share).unwrap_or(usize::MAX) / names.len().max(1);
        let domain = |name: String| {
            let keys = self.repository.domain(&name)?;
            let index = LazyIndex::new(self.repository, &keys);
            let nodes = NodeReader::with_index(self.repository, &keys, index.clone());
            let chunks = ChunkReader::new(self.repository, &keys, share);
            Ok(Domain { name, keys, index, nodes, chunks, visited: Mutex::default() })
        };
        names.into_iter().map(domain).collect()
    }

    pub(super) fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a whole object that was listed; none where it cannot be read, which is noted, or is gone by
    /// now: what needs it will miss it.
    pub(super) async fn read(&self, path: &str, size_max: u64) -> Result<Option<Bytes>> {
        self.context.check("verify repository")?;
        match self.repository.store().get_limited(path, size_max).await {
            Ok(object) => {
                self.count_bytes(object.len() as u64);
                Ok(Some(object))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => self.judge::<Bytes>(path, Err(error)).await,
        }
    }

    /// Takes a result concerning one object: damage is noted, and what concerns the whole store is
    /// returned.
    pub(super) async fn judge<T>(&self, object: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.note(object, error).await.map(|_| None),
        }
    }

    /// Notes what is wrong with an object.
    ///
    /// # Errors
    /// The error itself, where it says nothing about the object.
    pub(super) async fn note(&self, object: &str, error: Error) -> Result<DamageNumber> {
        match error.kind() {
            ErrorKind::Cancelled | ErrorKind::Internal => return Err(error),
            // A bad sector and a lost network look alike: does the store still answer?
            ErrorKind::Unavailable | ErrorKind::Denied => {
                self.context.check("verify repository")?;
                match self.repository.store().head(DESCRIPTOR_PATH).await {
                    Ok(_) => {}
                    Err(other) if other.kind() == ErrorKind::NotFound => {}
                    Err(_) => return Err(error),
                }
            }
            _ => {}
        }
        self.context.monitor.problem(&error);
        Ok(self.findings().add(object, error.chain()))
    }

    /// Counts an object that was looked at.
    pub(super) fn count_object(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.context.monitor.count(Counter::CheckedObjects, 1);
    }

    /// Counts bytes that were read.
    pub(super) fn count_bytes(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.context.monitor.count(Counter::VerifiedBytes, bytes);
    }

    /// Counts items of a leaf.
    pub(super) fn count_items(&self, items: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.context.monitor.count(Counter::VerifiedItems, items);
    }

    /// Counts a snapshot whose tree was walked.
    pub(super) fn count_snapshot(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts objects of no known name.
    pub(super) fn count_unknown(&self, objects: u64) {
        self.unknown.fetch_add(objects, Ordering::Relaxed);
    }

    /// Returns how many objects were looked at so far.
    pub(super) fn checked(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Says what was found.
    pub(super) fn report(self, wanted: &Wanted) -> Report {
        let findings = self.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        let points: &HashMap<_, _> = &wanted.points;
        let (damage, harmless) = findings.finish(points);
        Report {
            objects: self.objects.into_inner(),
            read_bytes: self.read_bytes.into_inner(),
            snapshots: self.snapshots.into_inner(),
            points: wanted.points_read,
            items: self.items.into_inner(),
            damage,
            unknown_objects: self.unknown.into_inner() + harmless,
            domains: wanted.domains.clone(),
        }
    }
}
