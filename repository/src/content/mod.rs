//! Content on its way into packs and out of them.
//!
//! In: [`Unit`]s, one per worker thread, cut, name and compare; what is new is compressed and sealed by
//! the thread that met it, and only appended to the open pack under a lock. Out: a [`ChunkReader`]
//! fetches blocks by their hints, decodes each once, and checks every chunk against its id.

mod bases;
mod buffers;
mod cache;
mod fetch;
mod locate;
mod reader;
mod slots;
mod stream;
#[cfg(test)]
mod tests;
mod unit;
mod writer;

use model::Result;

pub use locate::Locate;
pub use reader::ChunkReader;
pub use unit::{Ticket, Unit};
pub use writer::{ContentWriter, PackMemory, WriterOptions};

use crate::pack::SealedPack;
use crate::types::{ChunkId, NodeId, Place, StoredChunk};

/// What a session knows and does for those who write content. Implemented by `session`.
pub trait Shelf: Send + Sync {
    /// Returns the chunk where it resolves in the session's view; counts as reuse. Knows all that
    /// [`Shelf::put_pack`] was given, from when that returned.
    fn find_chunk(&self, id: &ChunkId, length: u32) -> Option<StoredChunk>;
    /// Returns the chunk as the parent has it, where that may be taken over without being looked up;
    /// none where something is condemned.
    fn take_over(&self, chunk: &StoredChunk) -> Option<StoredChunk>;
    /// Returns the node's place where it resolves in the session's view.
    fn find_node(&self, id: &NodeId) -> Option<Place>;
    /// Takes a sealed pack to be put (and indexed). Waits while too much is in flight. Called where it
    /// may block. Once the pack is durable its memory may be given back.
    fn put_pack(&self, pack: SealedPack, memory: &PackMemory) -> Result<()>;
}
