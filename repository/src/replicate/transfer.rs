//! Copying objects: read and check at the source, create at the destination, count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::FutureExt as _;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use model::{Context, Counter, Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::report::{Fault, KindReport, Problem};
use super::throttle::Throttle;
use super::{Kind, ReplicaOptions};
use crate::format::descriptor::DESCRIPTOR_PATH;
use crate::store::{Listed, Store};

/// In what memory is counted out.
const MEMORY_UNIT_BYTES: u64 = 1 << 10;
/// What is checked on a thread of its own.
const CHECKED_ASIDE_BYTES: usize = 1 << 20;

/// From where to where, how, and what became of it.
pub(super) struct Transfer<'a> {
    pub(super) source: &'a Store,
    pub(super) destination: &'a Store,
    pub(super) context: &'a Context,
    jobs: usize,
    memory: Arc<Semaphore>,
    memory_units: u32,
    throttle: Throttle,
    tally: Mutex<Tally>,
    gone: AtomicU64,
}

/// What was counted and noted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) kinds: BTreeMap<Kind, KindReport>,
    pub(super) problems: BTreeMap<String, Problem>,
    /// Slots of keys that open the destination only.
    pub(super) keys_only_there: Vec<String>,
}

/// An object in memory, and the right to hold it there.
struct InMemory {
    object: Listed,
    bytes: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        (source, destination): (&'a Store, &'a Store),
        options: &ReplicaOptions,
        context: &'a Context,
    ) -> Self {
        let units = (options.memory_bytes / MEMORY_UNIT_BYTES).clamp(1, u64::from(u32::MAX >> 4));
        let memory_units = u32::try_from(units).unwrap_or(u32::MAX >> 4);
        Self {
            source,
            destination,
            context,
            jobs: options.jobs.max(1),
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            throttle: Throttle::new(options.bytes_per_second),
            tally: Mutex::default(),
            gone: AtomicU64::new(0),
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many objects were listed and gone when they were to be read, and begins at 0 again.
    pub(super) fn take_gone(&self) -> u64 {
        self.gone.swap(0, Ordering::Relaxed)
    }

    /// Says whether objects that were listed are gone: something else has taken their place.
    pub(super) fn has_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) > 0
    }

    /// Says whether the log that a folder is part of goes on otherwise at the destination: batches of
    /// the source do not follow those that are there.
    pub(super) fn has_fork(&self, folder: &str) -> bool {
        let Some(stream) = folder.split('/').nth(1) else { return false };
        let log = format!("{}/{stream}/", Kind::LogBatch.name());
        let tally = self.tally();
        let mut of_log =
            tally.problems.range(log.clone()..).take_while(|(p, _)| p.starts_with(&log));
        of_log.any(|(_, problem)| problem.fault == Fault::Conflict)
    }

    /// Notes that objects that were listed are gone.
    pub(super) fn note_gone(&self, objects: u64) {
        self.gone.fetch_add(objects, Ordering::Relaxed);
    }

    /// Copies objects that the destination lacks, in the order given where the kind is a chain. What is
    /// gone ends a chain, and so does a batch of a log in whose place there is another.
    pub(super) async fn copy(&self, kind: Kind, objects: Vec<Listed>) -> Result<()> {
        if !kind.is_chained() {
            let objects = objects.into_iter().map(|object| Ok((kind, object)));
            return self.copy_in_any_order(stream::iter(objects)).await;
        }
        // They ask for memory in order, and get it in order, so that whoever is to be created next is
        // never the one that waits for it.
        let read = stream::iter(objects).map(|object| {
            let read = async move {
                let memory = self.room_for(&object).await?;
                self.read(kind, object, memory).await
            };
            read.boxed()
        });
        let mut read = std::pin::pin!(read.buffered(self.jobs));
        while let Some(read) = read.try_next().await? {
            match read {
                Some(read) => {
                    let is_created = self.create(kind, read).await?;
                    if kind == Kind::LogBatch && !is_created {
                        return Ok(());
                    }
                }
                None if self.has_gone() => return Ok(()),
                // It is damaged, which is noted. What comes after it may still be of use.
                None => {}
            }
        }
        Ok(())
    }

    /// Copies objects that the destination lacks, several at a time.
    pub(super) async fn copy_in_any_order(
        &self,
        objects: impl Stream<Item = Result<(Kind, Listed)>> + Send,
    ) -> Result<()> {
        let copied = objects.try_for_each_concurrent(self.jobs, |(kind, object)| {
            let copied = async move {
                let memory = self.room_for(&object).await?;
                match self.read(kind, object, memory).await? {
                    Some(read) => self.create(kind, read).await.map(|_| ()),
                    None => Ok(()),
                }
            };
            copied.boxed()
        });
        copied.await
    }

    async fn room_for(&self, object: &Listed) -> Result<OwnedSemaphorePermit> {
        self.context.check("sync repository")?;
        let units = object.size_bytes.div_ceil(MEMORY_UNIT_BYTES).max(1);
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.memory_units);
        let memory = Arc::clone(&self.memory).acquire_many_owned(units).await;
        memory.map_err(|error| {
            Error::new(ErrorKind::Internal, "sync repository", &object.path).because(error)
        })
    }

    /// Reads an object and checks it; none where it is damaged or gone, which is noted.
    async fn read(
        &self,
        kind: Kind,
        object: Listed,
        memory: OwnedSemaphorePermit,
    ) -> Result<Option<InMemory>> {
        self.throttle.wait(object.size_bytes, self.context).await?;
        self.context.check("sync repository")?;
        match self.read_checked(kind, &object).await {
            Ok(bytes) => Ok(Some(InMemory { object, bytes, _memory: memory })),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.note_gone(1);
                Ok(None)
            }
            Err(error) => {
                self.note_unreadable(Fault::DamagedHere, &object.path, error).await?;
                Ok(None)
            }
        }
    }

    async fn read_checked(&self, kind: Kind, object: &Listed) -> Result<Bytes> {
        let corrupt = |why: String| {
            Error::new(ErrorKind::Corrupt, "read object", object.path.as_str()).detail(why)
        };
        if object.size_bytes > kind.size_max() {
            return Err(corrupt(format!("{} bytes are more than any has", object.size_bytes)));
        }
        let bytes = self.source.get_limited(&object.path, object.size_bytes.max(1)).await?;
        if bytes.len() as u64 != object.size_bytes {
            let (found, listed) = (bytes.len(), object.size_bytes);
            return Err(corrupt(format!("{found} bytes of the {listed} that were listed")));
        }
        if bytes.len() < CHECKED_ASIDE_BYTES {
            kind.check(&object.path, &bytes)?;
            return Ok(bytes);
        }
        let path = object.path.clone();
        let checked = tokio::task::spawn_blocking(move || {
            kind.check(&path, &bytes)?;
            Ok::<_, Error>(bytes)
        });
        checked.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "read object", &object.path).because(error))
        })
    }

    /// Notes that an object cannot be read at one end.
    ///
    /// # Errors
    /// The given one, where it says nothing about the object.
    async fn note_unreadable(&self, fault: Fault, path: &str, error: Error) -> Result<()> {
        let store = if fault == Fault::DamagedHere { self.source } else { self.destination };
        match error.kind() {
            ErrorKind::Cancelled | ErrorKind::Internal => return Err(error),
            // A bad sector and a lost network look alike: does the store still answer?
            ErrorKind::Unavailable | ErrorKind::Denied => {
                self.context.check("sync repository")?;
                if store.head(DESCRIPTOR_PATH).await.is_err() {
                    return Err(error);
                }
            }
            _ => {}
        }
        self.note(path, fault, &error);
        Ok(())
    }

    /// Notes what is wrong with an object, once.
    pub(super) fn note(&self, path: &str, fault: Fault, error: &Error) {
        let problem = Problem { fault, why: error.chain() };
        if self.tally().problems.insert(path.to_owned(), problem).is_none() {
            self.context.monitor.problem(error);
        }
    }

    /// Creates an object; false where another stands there, which is noted.
    async fn create(&self, kind: Kind, read: InMemory) -> Result<bool> {
        self.context.check("sync repository")?;
        let (path, size_bytes) = (&read.object.path, read.object.size_bytes);
        match self.destination.create(path, read.bytes).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let fault = if kind.is_pack() { Fault::DamagedThere } else { Fault::Conflict };
                self.note(path, fault, &error);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        if kind.is_pack() {
            self.destination.forget_cached(path).await;
        }
        let mut tally = self.tally();
        let report = tally.kinds.entry(kind).or_default();
        report.copied = report.copied.and(size_bytes);
        self.context.monitor.count(Counter::CopiedObjects, 1);
        self.context.monitor.count(Counter::CopiedBytes, size_bytes);
        Ok(true)
    }

    /// Looks at an object that has another length at the destination: nothing is overwritten.
    pub(super) async fn judge_differing(
        &self,
        kind: Kind,
        object: &Listed,
        there: u64,
    ) -> Result<()> {
        let differs = |kind, path: &str| {
            Error::new(kind, "sync object", path)
                .detail(format!("{} bytes here, {there} there", object.size_bytes))
        };
        let path = object.path.clone();
        if !kind.is_pack() {
            self.note(&path, Fault::Conflict, &differs(ErrorKind::Conflict, &path));
            return Ok(());
        }
        match self.read_checked(kind, object).await {
            // The name tells the content: what stands there is not it.
            Ok(_) => {
                self.note(&path, Fault::DamagedThere, &differs(ErrorKind::Corrupt, &path));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => self.note_unreadable(Fault::DamagedHere, &path, error).await,
        }
    }

    /// Compares the bytes of objects that both have, with the same length.
    pub(super) async fn compare(&self, kind: Kind, objects: Vec<Listed>) -> Result<()> {
        let objects = objects.into_iter().filter(|object| object.size_bytes <= kind.size_max());
        let compared = stream::iter(objects.map(Ok));
        compared
            .try_for_each_concurrent(self.jobs, |object| {
                let compared = async move {
                    let _memory = self.room_for(&object).await?;
                    self.compare_one(&object).await
                };
                compared.boxed()
            })
            .await
    }

    async fn compare_one(&self, object: &Listed) -> Result<()> {
        let (path, size_max) = (object.path.as_str(), object.size_bytes.max(1));
        let (here, there) = futures::join!(
            self.source.get_limited(path, size_max),
            self.destination.get_limited(path, size_max)
        );
        let mut found = Vec::new();
        for (got, fault) in [(here, Fault::DamagedHere), (there, Fault::DamagedThere)] {
            match got {
                Ok(bytes) => found.push(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => self.note_unreadable(fault, path, error).await?,
            }
        }
        if let [here, there] = found.as_slice()
            && here != there
        {
            let error = Error::new(ErrorKind::Conflict, "sync object", path);
            self.note(path, Fault::Conflict, &error.detail("other bytes stand there"));
        }
        Ok(())
    }
}
