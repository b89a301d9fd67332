//! Decoded chunks, the least recently used of which are dropped. A chunk is fetched by one reader while
//! others wait for it, so that many small reads of one chunk cost one fetch.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::{Clock, Context, Error, ErrorKind, Result};
use repository::Repository;
use repository::content::ChunkReader;
use repository::index::LazyIndex;
use repository::types::{ChunkId, StoredChunk};
use tokio::sync::OnceCell;

/// How long a damaged chunk is not asked for again: a kernel asks for each of its pages.
const DAMAGED_FOR: Duration = Duration::from_secs(30);
/// How many damaged chunks are remembered.
const DAMAGED_MAX: usize = 4096;

/// The chunks of one key domain.
pub(super) struct Chunks {
    reader: ChunkReader,
    memory_bytes: u64,
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

type Cell = Arc<OnceCell<Bytes>>;

#[derive(Default)]
struct State {
    chunks: HashMap<ChunkId, Kept>,
    /// By when they were last used.
    order: BTreeMap<u64, ChunkId>,
    uses: u64,
    bytes: u64,
    damaged: HashMap<ChunkId, Duration>,
}

struct Kept {
    cell: Cell,
    used: u64,
    length: u32,
}

impl Chunks {
    pub(super) fn new(
        repository: &Repository,
        domain: &str,
        memory_bytes: usize,
        context: &Context,
    ) -> Result<Self> {
        let keys = repository.domain(domain)?;
        let reader = ChunkReader::new(repository, &keys, memory_bytes)
            .with_fallback(Arc::new(LazyIndex::new(repository, &keys)));
        Ok(Self {
            reader,
            memory_bytes: memory_bytes as u64,
            state: Mutex::default(),
            clock: Arc::clone(&context.clock),
        })
    }

    /// Returns a chunk's content, compared with its id.
    pub(super) async fn get(&self, chunk: &StoredChunk) -> Result<Bytes> {
        let corrupt =
            |what| Error::new(ErrorKind::Corrupt, "read chunk", chunk.id.to_string()).detail(what);
        if self.is_damaged(&chunk.id) {
            return Err(corrupt("it was damaged when it was last read"));
        }
        let cell = self.cell(chunk);
        let content = match cell.get_or_try_init(|| self.reader.read(chunk)).await {
            Ok(content) => content.clone(),
            Err(error) => {
                if error.kind() == ErrorKind::Corrupt {
                    self.mark_damaged(chunk.id);
                }
                return Err(error);
            }
        };
        if content.len() != chunk.length as usize {
            return Err(corrupt("it has another length"));
        }
        Ok(content)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_damaged(&self, id: &ChunkId) -> bool {
        let mut state = self.state();
        let Some(at) = state.damaged.get(id) else { return false };
        let is_recent = self.clock.elapsed().saturating_sub(*at) < DAMAGED_FOR;
        if !is_recent {
            state.damaged.remove(id);
        }
        is_recent
    }

    fn mark_damaged(&self, id: ChunkId) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if state.damaged.len() >= DAMAGED_MAX {
            state.damaged.clear();
        }
        state.damaged.insert(id, now);
    }

    /// Returns a chunk's cell and makes room for it. What is dropped stays with who reads it.
    fn cell(&self, chunk: &StoredChunk) -> Cell {
        let mut state = self.state();
        let State { chunks, order, uses, bytes, .. } = &mut *state;
        *uses += 1;
        let used = *uses;
        if let Some(kept) = chunks.get_mut(&chunk.id) {
            order.remove(&kept.used);
            order.insert(used, chunk.id);
            kept.used = used;
            return Arc::clone(&kept.cell);
        }
        let cell = Cell::default();
        let length = chunk.length;
        chunks.insert(chunk.id, Kept { cell: Arc::clone(&cell), used, length });
        order.insert(used, chunk.id);
        *bytes += u64::from(length);
        while *bytes > self.memory_bytes
            && order.len() > 1
            && let Some((_, oldest)) = order.pop_first()
        {
            let dropped = chunks.remove(&oldest);
            *bytes -= dropped.map_or(0, |kept| u64::from(kept.length));
        }
        cell
    }
}
