//! The only part of the engine that talks to an object store.
//!
//! Whatever store is attached, the engine sees the same few calls with the same promises: an object is
//! created once and never rewritten; an ambiguous answer is looked into before anybody hears of it;
//! what is transient is tried again here and nowhere else; nothing is read without a limit; and no
//! error names a credential.

mod attach;
mod errors;
mod kind;
mod probe;
mod retry;
mod stats;
mod sweep;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, Timestamp};
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutPayload,
};

pub use attach::Attach;
pub use kind::StoreKind;
pub use stats::StoreStats;
pub use sweep::Swept;

pub(crate) use errors::io_kind;

use errors::convert;
use stats::Counters;

/// The most bytes that [`Store::get`] takes for one object.
pub const GET_BYTES_MAX: u64 = 80 << 20;
/// The most bytes that any object or range may have.
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;
/// The most objects that one listing may have.
const LISTED_MAX: usize = 32 << 20;

/// An object store with what is known about it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    object_store: Arc<dyn ObjectStore>,
    /// For people: the URL without credentials.
    name: String,
    kind: StoreKind,
    /// Where a local store keeps its files.
    local_root: Option<PathBuf>,
    /// What besides its name tells a remote store from others: addresses of services, accounts.
    service: Vec<String>,
    context: Context,
    counters: Counters,
}

/// Which way an object came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// This call put it there.
    New,
    /// The same bytes stood there: from an earlier call, or from this one, whose answer was lost.
    Same,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path from the repository's root.
    pub path: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When it was created, by the store's own time.
    pub modified: Timestamp,
}

/// One level of a store's tree, each part in order of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Whole paths of what lies further down, without a final slash; a local disk's may be empty.
    pub directories: Vec<String>,
    /// Objects of this level, with whole paths.
    pub objects: Vec<Listed>,
}

impl Store {
    /// Takes over a store. `name`, without credentials, is for errors; `context` ends its waits.
    pub fn new(object_store: Arc<dyn ObjectStore>, name: &str, context: &Context) -> Self {
        Self::of_kind(StoreKind::Given, object_store, name, (None, Vec::new()), context)
    }

    fn of_kind(
        kind: StoreKind,
        object_store: Arc<dyn ObjectStore>,
        name: &str,
        (local_root, service): (Option<PathBuf>, Vec<String>),
        context: &Context,
    ) -> Self {
        Self(Arc::new(Inner {
            object_store,
            name: errors::without_credentials(name),
            kind,
            local_root,
            service,
            context: context.clone(),
            counters: Counters::default(),
        }))
    }

    /// Returns what people call the store: its URL without credentials.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns how much has been asked of the store through this value and its clones.
    pub fn stats(&self) -> StoreStats {
        self.0.counters.read()
    }

    /// Puts an object where none is. Durable when it returns.
    ///
    /// An error other than `Conflict` leaves open whether the object will be there: a request that
    /// nobody waits for any more may still be carried out.
    ///
    /// # Errors
    /// `Conflict` where other bytes stand there; `Unavailable`, `Denied`, `Exhausted`.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let location = self.location("create object", path)?;
        let mut tries = self.tries();
        loop {
            let payload = PutPayload::from_bytes(bytes.clone());
            self.0.counters.put(bytes.len());
            let put = self.0.object_store.put_opts(&location, payload, PutMode::Create.into());
            let Err(error) = put.await else { return Ok(Created::New) };
            let stands_there = errors::is_already_there(&error);
            let error = convert("create object", &self.subject(path), error);
            if !stands_there && error.kind() != ErrorKind::Unavailable {
                return Err(error);
            }
            // Lost answers, retried requests and some stores' conflicts look alike: only the object
            // itself tells.
            if self.compare(path, &bytes).await? {
                self.sync_directories(path).await?;
                return Ok(Created::Same);
            }
            tries.pause(error).await?;
        }
    }

    /// Says whether these bytes stand there; an error where others do.
    async fn compare(&self, path: &str, bytes: &Bytes) -> Result<bool> {
        match self.get_limited(path, (bytes.len() as u64).max(1)).await {
            Ok(found) if blake3::hash(&found) == blake3::hash(bytes) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() != ErrorKind::Exhausted => Err(error),
            Ok(_) | Err(_) => {
                Err(Error::new(ErrorKind::Conflict, "create object", self.subject(path))
                    .detail("another object stands there"))
            }
        }
    }

    /// Gets a whole object of at most [`GET_BYTES_MAX`].
    ///
    /// # Errors
    /// `NotFound`; `Exhausted` where it is larger; `Unavailable`, `Denied`.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.get_limited(path, GET_BYTES_MAX).await
    }

    /// Gets a whole object of at most `size_max` bytes.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_limited(&self, path: &str, size_max: u64) -> Result<Bytes> {
        let location = self.location("get object", path)?;
        let mut tries = self.tries();
        loop {
            self.0.counters.get();
            match self.0.object_store.get(&location).await {
                Ok(found) if found.meta.size > size_max => {
                    return Err(self.too_large(path, size_max));
                }
                Ok(found) => match self.collect(found, size_max).await {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => return Err(self.too_large(path, size_max)),
                    Err(error) => tries.pause(self.get_error(path, error)).await?,
                },
                Err(error) => tries.pause(self.get_error(path, error)).await?,
            }
        }
    }

    /// Opens an object of a local store to be read piece by piece, and says how long it is; none where
    /// the store is not local.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Denied`; nothing is tried again.
    pub(crate) async fn open_local(&self, path: &str) -> Result<Option<(std::fs::File, u64)>> {
        if self.0.local_root.is_none() {
            return Ok(None);
        }
        let location = self.location("get object", path)?;
        self.0.counters.get();
        let found = self.0.object_store.get(&location).await;
        let found = found.map_err(|error| self.get_error(path, error))?;
        let length = found.meta.size;
        let GetResultPayload::File(file, _) = found.payload else { return Ok(None) };
        self.0.counters.received(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(Some((file, length)))
    }

    /// Collects a body; none where it is longer than it may be, whatever its head said.
    async fn collect(
        &self,
        found: GetResult,
        size_max: u64,
    ) -> Result<Option<Bytes>, object_store::Error> {
        if let GetResultPayload::File(..) = found.payload {
            // A local file as a stream comes in pieces of a few kilobytes; whole, it is read at once, and
            // no more of it than its head said.
            let bytes = found.bytes().await?;
            self.0.counters.received(bytes.len());
            return Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= size_max));
        }
        let expected = found.range.end.saturating_sub(found.range.start);
        let mut body = found.into_stream();
        let mut collected = BytesMut::new();
        while let Some(piece) = body.try_next().await? {
            if (collected.len() + piece.len()) as u64 > size_max {
                return Ok(None);
            }
            if collected.is_empty() && piece.len() as u64 == expected {
                self.0.counters.received(piece.len());
                return Ok(Some(piece));
            }
            collected.extend_from_slice(&piece);
        }
        self.0.counters.received(collected.len());
        Ok(Some(collected.freeze()))
    }

    /// Gets a range of an object: exactly these bytes.
    ///
    /// # Errors
    /// `Corrupt` where the object ends before the range does; else as [`Store::get`].
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let mut found = self.get_ranges(path, std::slice::from_ref(&range)).await?;
        found.pop().ok_or_else(|| self.too_short(path))
    }

    /// Gets several ranges of an object. Ranges that lie close together become one request, others are
    /// requested at the same time.
    ///
    /// # Errors
    /// As [`Store::get_range`].
    pub async fn get_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let location = self.location("get range of object", path)?;
        let total: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        if total > OBJECT_BYTES_MAX {
            return Err(self.too_large(path, OBJECT_BYTES_MAX));
        }
        if ranges.iter().any(Range::is_empty) {
            return Err(Error::new(ErrorKind::Invalid, "get range of object", self.subject(path))
                .detail("the range is empty"));
        }
        let mut tries = self.tries();
        loop {
            self.0.counters.get();
            let error = match self.0.object_store.get_ranges(&location, ranges).await {
                Ok(found) => {
                    let whole = found.len() == ranges.len()
                        && found
                            .iter()
                            .zip(ranges)
                            .all(|(bytes, range)| bytes.len() as u64 == range.end - range.start);
                    self.0.counters.received(found.iter().map(Bytes::len).sum());
                    return if whole { Ok(found) } else { Err(self.too_short(path)) };
                }
                Err(error) => self.get_error(path, error),
            };
            if error.kind() == ErrorKind::Unavailable {
                // Some stores answer a range behind the end as if they had failed.
                let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
                if self.head(path).await?.size_bytes < end {
                    return Err(self.too_short(path));
                }
            }
            tries.pause(error).await?;
        }
    }

    /// Looks at an object without reading it.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Denied`.
    pub async fn head(&self, path: &str) -> Result<Listed> {
        let location = self.location("look at object", path)?;
        let mut tries = self.tries();
        loop {
            self.0.counters.get();
            match self.0.object_store.head(&location).await {
                Ok(meta) => return Ok(listed(meta)),
                Err(error) => {
                    tries.pause(convert("look at object", &self.subject(path), error)).await?;
                }
            }
        }
    }

    /// Lists every object below a prefix (a whole number of path components; empty for all), by name.
    /// Nothing there is an empty listing.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`; `Exhausted` where there are more than any repository has.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let location = self.prefix("list objects", prefix)?;
        let mut tries = self.tries();
        loop {
            self.0.counters.list();
            let objects = self.0.object_store.list(location.as_ref());
            let listing = objects.map_ok(listed).take(LISTED_MAX).try_collect::<Vec<_>>().await;
            match listing {
                Ok(found) if found.len() == LISTED_MAX => {
                    return Err(Error::new(ErrorKind::Exhausted, "list", self.subject(prefix))
                        .detail(format!("more than {LISTED_MAX} objects")));
                }
                Ok(mut found) => {
                    // A local disk lists in no order.
                    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                    return Ok(found);
                }
                Err(error) => {
                    tries.pause(convert("list objects", &self.subject(prefix), error)).await?;
                }
            }
        }
    }

    /// Lists one level of the tree below a prefix, by name.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_directories(&self, prefix: &str) -> Result<Listing> {
        let location = self.prefix("list directories", prefix)?;
        let mut tries = self.tries();
        loop {
            self.0.counters.list();
            match self.0.object_store.list_with_delimiter(location.as_ref()).await {
                Ok(found) => {
                    let mut directories: Vec<_> =
                        found.common_prefixes.into_iter().map(String::from).collect();
                    let mut objects: Vec<_> = found.objects.into_iter().map(listed).collect();
                    directories.sort_unstable();
                    objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                    return Ok(Listing { directories, objects });
                }
                Err(error) => {
                    tries.pause(convert("list directories", &self.subject(prefix), error)).await?;
                }
            }
        }
    }

    /// Deletes an object. One that is not there is fine. For the collector, for the removal of a key
    /// slot and for the store's own probes; nothing else deletes.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let location = self.location("delete object", path)?;
        let mut tries = self.tries();
        loop {
            self.0.counters.delete();
            match self.0.object_store.delete(&location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => {
                    tries.pause(convert("delete object", &self.subject(path), error)).await?;
                }
            }
        }
    }

    /// Returns the store's own time: when it says that an object created just now was created. Where an
    /// object has been created anyway, [`Store::head`] of it tells the same and costs less.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub async fn now(&self) -> Result<Timestamp> {
        let (now, probe) = self.read_clock().await?;
        self.forget_probe(&probe).await?;
        Ok(now)
    }

    /// Returns the store's own time, and the path of the probe that told it: to be removed by
    /// [`Store::forget_probe`], beside whatever comes next.
    pub(crate) async fn read_clock(&self) -> Result<(Timestamp, String)> {
        let path = format!("probe/{}", self.random_name());
        self.create(&path, Bytes::from_static(b"now")).await?;
        let now = self.head(&path).await?.modified;
        Ok((now, path))
    }

    /// Reads a range as far as the object reaches; returns its whole size as well.
    ///
    /// # Errors
    /// As [`Store::get_range`]; the range has to begin within the object.
    pub(crate) async fn get_upto(&self, path: &str, range: Range<u64>) -> Result<(Bytes, u64)> {
        let location = self.location("get range of object", path)?;
        let size_max = range.end.saturating_sub(range.start);
        let mut tries = self.tries();
        loop {
            self.0.counters.get();
            let options = GetOptions { range: Some(range.clone().into()), ..GetOptions::default() };
            let error = match self.0.object_store.get_opts(&location, options).await {
                Ok(found) => {
                    let size_bytes = found.meta.size;
                    match self.collect(found, size_max).await {
                        Ok(Some(bytes)) => return Ok((bytes, size_bytes)),
                        Ok(None) => return Err(self.too_large(path, size_max)),
                        Err(error) => self.get_error(path, error),
                    }
                }
                Err(error) => self.get_error(path, error),
            };
            if error.kind() == ErrorKind::Unavailable
                && self.head(path).await?.size_bytes <= range.start
            {
                return Err(self.too_short(path));
            }
            tries.pause(error).await?;
        }
    }

    /// Removes a probe; a writer that may not delete leaves it for the collector.
    pub(crate) async fn forget_probe(&self, path: &str) -> Result<()> {
        match self.delete(path).await {
            Err(error) if error.kind() != ErrorKind::Denied => Err(error),
            _ => Ok(()),
        }
    }

    fn random_name(&self) -> String {
        let mut random = [0; 16];
        self.0.context.entropy.fill(&mut random);
        crate::types::hex(&random)
    }

    fn tries(&self) -> retry::Tries<'_> {
        retry::Tries::new(&self.0.context)
    }

    fn subject(&self, path: &str) -> String {
        format!("{path} in {}", self.0.name)
    }

    fn location(&self, action: &'static str, path: &str) -> Result<Path> {
        match Path::parse(path) {
            Ok(location) if !path.is_empty() => Ok(location),
            Ok(_) => Err(Error::new(ErrorKind::Invalid, action, "").detail("no path")),
            Err(error) => Err(Error::new(ErrorKind::Invalid, action, path).because(error)),
        }
    }

    fn prefix(&self, action: &'static str, prefix: &str) -> Result<Option<Path>> {
        if prefix.is_empty() { Ok(None) } else { self.location(action, prefix).map(Some) }
    }

    fn get_error(&self, path: &str, error: object_store::Error) -> Error {
        convert("get object", &self.subject(path), error)
    }

    fn too_large(&self, path: &str, size_max: u64) -> Error {
        Error::new(ErrorKind::Exhausted, "get object", self.subject(path))
            .detail(format!("it is longer than the {size_max} bytes that it may have"))
    }

    fn too_short(&self, path: &str) -> Error {
        Error::new(ErrorKind::Corrupt, "get range of object", self.subject(path))
            .detail("it is shorter than it was")
    }
}

fn listed(meta: ObjectMeta) -> Listed {
    let unix_ns = meta.last_modified.timestamp_nanos_opt().unwrap_or(0);
    Listed { path: meta.location.into(), size_bytes: meta.size, modified: Timestamp { unix_ns } }
}
