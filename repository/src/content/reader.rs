//! Reading chunks.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use model::{ContentReader, Error, ErrorKind, Result};

use super::buffers::Buffers;
use super::cache::{BlockKey, Cache};
use super::fetch::{Blocks, Fetcher, is_sane};
use super::locate::Locate;
use super::stream::Extents;
use crate::Repository;
use crate::crypto::DomainKeys;
use crate::pack::{BLOCK_BYTES_MAX, BlockCipher, compress};
use crate::threads::Threads;
use crate::types::{DELTA_BASES_MAX, Location, PackKind, StoredChunk, StoredExtent};

/// How often other places are asked for.
const LOOKS_ELSEWHERE: usize = 3;
/// How much is compared with ids and decoded from deltas in one task.
const TASK_BYTES: usize = 2 << 20;

/// Reads chunks: at their places, else wherever the index knows them. Blocks that several chunks lie in
/// are read and decoded once; memory is bounded. Cheap to clone.
#[derive(Clone)]
pub struct ChunkReader {
    fetcher: Arc<Fetcher>,
    keys: DomainKeys,
    fallback: Option<Arc<dyn Locate>>,
    is_checked: bool,
}

impl ChunkReader {
    /// Begins. `memory_bytes` bounds what is kept decoded, and what is kept to be decoded into.
    pub fn new(repository: &Repository, keys: &DomainKeys, memory_bytes: usize) -> Self {
        let fetcher = Fetcher {
            store: repository.store().clone(),
            cipher: BlockCipher::new(PackKind::Data, repository.id(), keys),
            cache: Cache::new(memory_bytes),
            buffers: Buffers::new(memory_bytes),
            threads: None,
        };
        Self { fetcher: Arc::new(fetcher), keys: keys.clone(), fallback: None, is_checked: true }
    }

    /// Says where chunks are looked for whose hint is of no use.
    #[must_use]
    pub fn with_fallback(self, fallback: Arc<dyn Locate>) -> Self {
        Self { fallback: Some(fallback), ..self }
    }

    /// Does not compare chunks with their ids, for callers that do so themselves. What is damaged is found
    /// all the same: blocks are sealed. What was stored under a wrong id is not.
    #[must_use]
    pub fn without_check(self) -> Self {
        Self { is_checked: false, ..self }
    }

    /// Says whose threads decode. The caller does not wait on them for what is read.
    ///
    /// # Errors
    /// `Internal` where the reader was cloned already.
    pub fn with_threads(mut self, threads: Arc<Threads>) -> Result<Self> {
        let fetcher = Arc::get_mut(&mut self.fetcher);
        let fetcher = fetcher.ok_or_else(|| Error::new(ErrorKind::Internal, "read chunks", ""))?;
        fetcher.threads = Some(threads);
        Ok(self)
    }

    /// Reads one chunk and checks it against its id.
    ///
    /// # Errors
    /// `Corrupt` where no intact copy is left; those of the store.
    pub async fn read(&self, chunk: &StoredChunk) -> Result<Bytes> {
        let mut read = self.read_all(std::slice::from_ref(chunk)).await?;
        read.pop()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "read chunk", chunk.id.to_string()))
    }

    /// Reads many chunks, in order; each block is fetched and decoded once, neighbours in one request.
    /// All of them are held in memory at once.
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    pub async fn read_all(&self, chunks: &[StoredChunk]) -> Result<Vec<Bytes>> {
        let read = self.read_hinted(chunks).await?;
        let mut contents = Vec::with_capacity(chunks.len());
        for (chunk, content) in chunks.iter().zip(read) {
            contents.push(match content {
                Ok(content) => content,
                Err(error) => Box::pin(self.read_elsewhere(chunk, error)).await?,
            });
        }
        Ok(contents)
    }

    /// Reads extents one after another, holes as zeros, a few chunks ahead.
    pub fn content(&self, extents: &[StoredExtent]) -> Box<dyn ContentReader> {
        Box::new(Extents::new(self.clone(), extents))
    }

    /// Reads chunks where their hints say. What is wrong with one chunk is its own result.
    async fn read_hinted(&self, chunks: &[StoredChunk]) -> Result<Vec<Result<Bytes>>> {
        let all = chunks.iter().flat_map(|chunk| std::iter::once(chunk).chain(&chunk.bases));
        let keys: BTreeSet<_> = all
            .filter_map(|chunk| chunk.place.location())
            .map(|location| BlockKey::from(&location))
            .filter(is_sane)
            .collect();
        let blocks = Arc::new(self.fetcher.blocks(keys).await?);
        let works = batches(chunks).into_iter().map(|batch| {
            let (blocks, batch) = (Arc::clone(&blocks), batch.to_vec());
            let keys = self.is_checked.then(|| self.keys.clone());
            self.fetcher.work(move || {
                let decode = |chunk| decode_chunk(keys.as_ref(), &blocks, chunk);
                batch.iter().map(decode).collect::<Vec<_>>()
            })
        });
        let read = futures::future::try_join_all(works).await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Looks for an intact copy of a chunk whose hint was of no use.
    async fn read_elsewhere(&self, chunk: &StoredChunk, error: Error) -> Result<Bytes> {
        for _ in 0..LOOKS_ELSEWHERE {
            if let Some(content) = self.look_elsewhere(chunk).await? {
                return Ok(content);
            }
            // A collector may have moved it since the index was opened.
            let is_new = match &self.fallback {
                Some(fallback) => fallback.refresh().await?,
                None => false,
            };
            if !is_new {
                break;
            }
        }
        Err(Error::new(ErrorKind::Corrupt, "read chunk", chunk.id.to_string())
            .detail("no intact copy is left")
            .because(error))
    }

    async fn look_elsewhere(&self, chunk: &StoredChunk) -> Result<Option<Bytes>> {
        let mut candidates = if chunk.bases.is_empty() { Vec::new() } else { vec![chunk.clone()] };
        if let Some(fallback) = &self.fallback {
            candidates.extend(fallback.locate(&chunk.id).await?);
        }
        let mut seen = HashSet::new();
        for mut candidate in candidates {
            let is_new = candidate.place.location().is_none_or(|place| seen.insert(place));
            if !is_new || candidate.id != chunk.id || candidate.length != chunk.length {
                continue;
            }
            // The fault may be that of a base, which may lie elsewhere as well.
            let mut bases = Vec::with_capacity(candidate.bases.len());
            for base in candidate.bases {
                bases.push(self.intact_base(base).await?);
            }
            candidate.bases = bases;
            let mut read = self.read_hinted(std::slice::from_ref(&candidate)).await?;
            if let Some(Ok(content)) = read.pop() {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// Returns a full chunk with a place at which it is intact, where there is one.
    async fn intact_base(&self, base: StoredChunk) -> Result<StoredChunk> {
        let Some(fallback) = &self.fallback else { return Ok(base) };
        if matches!(self.read_hinted(std::slice::from_ref(&base)).await?.pop(), Some(Ok(_))) {
            return Ok(base);
        }
        for place in fallback.locate(&base.id).await? {
            let is_full = place.bases.is_empty() && place.id == base.id;
            let mut read = self.read_hinted(std::slice::from_ref(&place)).await?;
            if is_full && matches!(read.pop(), Some(Ok(_))) {
                return Ok(place);
            }
        }
        Ok(base)
    }
}

/// Splits chunks into pieces of work of about equal length.
fn batches(mut chunks: &[StoredChunk]) -> Vec<&[StoredChunk]> {
    let mut batches = Vec::new();
    while !chunks.is_empty() {
        let mut total = 0_usize;
        let is_within = |chunk: &&StoredChunk| {
            let fits = total < TASK_BYTES;
            total = total.saturating_add(chunk.length as usize);
            fits
        };
        let count = chunks.iter().take_while(is_within).count().max(1);
        let (batch, rest) = chunks.split_at(count);
        batches.push(batch);
        chunks = rest;
    }
    batches
}

/// Takes a chunk out of its block, decodes it where it is a delta, and with keys compares it with its id.
fn decode_chunk(keys: Option<&DomainKeys>, blocks: &Blocks, chunk: &StoredChunk) -> Result<Bytes> {
    let (location, block) = find_block(blocks, chunk)?;
    let content = if chunk.bases.is_empty() {
        location.slice(block)
    } else {
        let mut base = Vec::new();
        for full in chunk.bases.iter().take(DELTA_BASES_MAX) {
            if !full.bases.is_empty() {
                return Err(corrupt(chunk, "its base is a delta itself"));
            }
            base.extend_from_slice(&decode_chunk(keys, blocks, full)?);
        }
        let delta = block.get(location.offset_in_block as usize..).unwrap_or_default();
        let length = chunk.length as usize;
        let is_sane = length <= BLOCK_BYTES_MAX && chunk.bases.len() <= DELTA_BASES_MAX;
        is_sane.then(|| compress::decode_delta(&base, delta, length)).flatten().map(Bytes::from)
    };
    content
        .filter(|content| keys.is_none_or(|keys| keys.chunk_id(content) == chunk.id))
        .ok_or_else(|| corrupt(chunk, "what lies in its place is something else"))
}

fn find_block<'b>(blocks: &'b Blocks, chunk: &StoredChunk) -> Result<(Location, &'b Bytes)> {
    let location = chunk.place.location();
    let location = location.ok_or_else(|| corrupt(chunk, "its pack is not written yet"))?;
    let location = Location { length: chunk.length, ..location };
    match blocks.get(&BlockKey::from(&location)) {
        Some(Ok(block)) => Ok((location, block)),
        Some(Err(error)) => {
            Err(Error::new(error.kind(), "read chunk", chunk.id.to_string())
                .because(Arc::clone(error)))
        }
        None => Err(corrupt(chunk, "its place makes no sense")),
    }
}

fn corrupt(chunk: &StoredChunk, detail: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "read chunk", chunk.id.to_string()).detail(detail)
}
