//! Where else a chunk may lie, when its hint was of no use.

use async_trait::async_trait;
use model::Result;

use crate::types::{ChunkId, StoredChunk};

/// Knows where chunks lie. [`LazyIndex`](crate::index::LazyIndex) does.
#[async_trait]
pub trait Locate: Send + Sync {
    /// Returns every place that the chunk is known at; bases come with theirs.
    ///
    /// # Errors
    /// Those of the store.
    async fn locate(&self, id: &ChunkId) -> Result<Vec<StoredChunk>>;

    /// Looks whether more is known by now: a collector may have moved things since. Says whether there
    /// is anything new.
    ///
    /// # Errors
    /// Those of the store.
    async fn refresh(&self) -> Result<bool>;
}
