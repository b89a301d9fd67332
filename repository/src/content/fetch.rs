//! Getting blocks: neighbours in one request, decoded where it may block.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use model::{Error, ErrorKind, Result};
use tokio::sync::OwnedMutexGuard;

use super::buffers::Buffers;
use super::cache::{BlockKey, Cache, Cell};
use crate::pack::{BlockCipher, SEALED_BLOCK_BYTES_MAX, pack_path};
use crate::store::Store;
use crate::threads::Threads;
use crate::types::PackKind;

/// Blocks that lie this close together are got in one request.
const GAP_BYTES: u32 = 256 << 10;
/// No request asks for more than this, unless a single block does.
const RUN_BYTES: u32 = 8 << 20;
/// How many requests are under way for one read.
const REQUESTS_MAX: usize = 4;

/// Why a block cannot be had.
pub(super) type Failure = Arc<Error>;
/// Blocks as they were found.
pub(super) type Blocks = HashMap<BlockKey, Result<Bytes, Failure>>;

/// What blocks are got with.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) store: Store,
    pub(super) cipher: BlockCipher,
    pub(super) cache: Cache,
    pub(super) buffers: Buffers,
    /// Where blocks are decoded and chunks compared; none: on the runtime's threads that may block.
    pub(super) threads: Option<Arc<Threads>>,
}

struct Missing {
    key: BlockKey,
    cell: Cell,
    guard: OwnedMutexGuard<Option<Bytes>>,
}

impl Fetcher {
    /// Does what takes the processor for long.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        match &self.threads {
            Some(threads) => threads.result(work).await,
            None => tokio::task::spawn_blocking(work).await.map_err(|error| {
                Error::new(ErrorKind::Internal, "read content", "").because(error)
            }),
        }
    }

    /// Gets blocks. One that is damaged or gone is a value; an error is what would meet every block.
    pub(super) async fn blocks(self: &Arc<Self>, keys: BTreeSet<BlockKey>) -> Result<Blocks> {
        let mut blocks = Blocks::new();
        let mut missing = Vec::new();
        // In order, so that readers who wait for each other's blocks do so in one direction.
        for key in keys {
            let cell = self.cache.cell(key);
            let guard = Arc::clone(&cell).lock_owned().await;
            match &*guard {
                Some(block) => _ = blocks.insert(key, Ok(block.clone())),
                None => missing.push(Missing { key, cell, guard }),
            }
        }
        let mut fetched =
            stream::iter(runs(missing)).map(|run| self.fetch(run)).buffer_unordered(REQUESTS_MAX);
        let mut fatal = None;
        while let Some(found) = fetched.next().await {
            match found {
                Ok(found) => blocks.extend(found),
                Err(error) => fatal = fatal.or(Some(error)),
            }
        }
        fatal.map_or(Ok(blocks), Err)
    }

    async fn fetch(self: &Arc<Self>, run: Vec<Missing>) -> Result<Vec<(BlockKey, BlockResult)>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Vec::new()) };
        let path = pack_path(PackKind::Data, first.key.pack);
        let start = first.key.offset;
        let range = u64::from(start)..end(&last.key);
        match self.store.get_range(&path, range).await {
            Ok(bytes) => self.decode(start, bytes, run).await,
            Err(error) if is_of_the_block(&error) && run.len() > 1 => {
                // One hint that points behind the end must not spoil its neighbours.
                let mut found = Vec::new();
                for single in run {
                    found.extend(Box::pin(self.fetch(vec![single])).await?);
                }
                Ok(found)
            }
            Err(error) => {
                run.iter().for_each(|missing| self.cache.forget(missing.key));
                if !is_of_the_block(&error) {
                    return Err(error);
                }
                let failure = Arc::new(error);
                Ok(run.iter().map(|missing| (missing.key, Err(Arc::clone(&failure)))).collect())
            }
        }
    }

    /// Takes a run apart and decodes its blocks on a thread that may block.
    async fn decode(
        self: &Arc<Self>,
        start: u32,
        bytes: Bytes,
        run: Vec<Missing>,
    ) -> Result<Vec<(BlockKey, BlockResult)>> {
        let this = Arc::clone(self);
        let work = move || {
            let mut rest = bytes.try_into_mut().unwrap_or_else(|b| BytesMut::from(&b[..]));
            let is_shared = run.len() > 1;
            let mut at = start;
            let mut found = Vec::with_capacity(run.len());
            for Missing { key, cell, mut guard } in run {
                let gap = key.offset.saturating_sub(at) as usize;
                let _ = rest.split_to(gap.min(rest.len()));
                let block = rest.split_to((key.length as usize).min(rest.len()));
                at = key.offset.saturating_add(key.length);
                let decoded = this.decode_block(block, is_shared);
                match &decoded {
                    Ok(content) => {
                        *guard = Some(content.clone());
                        this.cache.keep(key, &cell, content.len());
                    }
                    Err(_) => this.cache.forget(key),
                }
                found.push((key, decoded.map_err(Arc::new)));
            }
            found
        };
        self.work(work).await
    }

    fn decode_block(&self, block: BytesMut, is_shared: bool) -> Result<Bytes> {
        let opened = self.cipher.open(block)?;
        if opened.is_stored() && !is_shared {
            return opened.decode();
        }
        // A part would keep the memory of its whole run alive.
        self.buffers.fill(opened.length(), |buffer| opened.decode_into(buffer))
    }
}

type BlockResult = Result<Bytes, Failure>;

/// Says whether an error speaks of the object that was asked for, and not of the store.
fn is_of_the_block(error: &Error) -> bool {
    use ErrorKind::{Corrupt, Exhausted, Invalid, NotFound, WrongKey};
    matches!(error.kind(), Corrupt | NotFound | WrongKey | Exhausted | Invalid)
}

/// Groups blocks, which come in order, by what is got at once.
fn runs(missing: Vec<Missing>) -> Vec<Vec<Missing>> {
    let mut runs: Vec<Vec<Missing>> = Vec::new();
    for block in missing {
        let key = block.key;
        let joins = runs
            .last()
            .and_then(|run| Some((run.first()?.key, run.last()?.key)))
            .is_some_and(|(first, last)| {
                let before = end(&last);
                first.pack == key.pack
                    && (before..=before + u64::from(GAP_BYTES)).contains(&u64::from(key.offset))
                    && end(&key) - u64::from(first.offset) <= u64::from(RUN_BYTES)
            });
        match runs.last_mut() {
            Some(run) if joins => run.push(block),
            _ => runs.push(vec![block]),
        }
    }
    runs
}

fn end(key: &BlockKey) -> u64 {
    u64::from(key.offset) + u64::from(key.length)
}

/// Says whether a hint can be one at all.
pub(super) fn is_sane(key: &BlockKey) -> bool {
    key.length > 0 && key.length as usize <= SEALED_BLOCK_BYTES_MAX
}
