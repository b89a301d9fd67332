//! Snapshots as persistent sorted maps from item key to record.
//!
//! A tree's nodes are split by content (a prolly tree): after an entry whose keyed hash says so. The
//! same map has the same root, whatever the order of edits, so equal subtrees are found by their ids,
//! are stored once and never read to be compared. `docs/repository-format.md` §5 has the bytes.

mod builder;
pub(crate) mod codec;
mod diff;
mod edit;
mod hints;
mod node;
mod overlay;
mod reader;
mod split;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use bytes::Bytes;
use model::Result;

pub use builder::TreeBuilder;
pub use diff::{Difference, diff};
pub use edit::{MayReuse, apply_changes};
pub(crate) use node::{Child, Node, decode as decode_node, split_parts};
pub use node::{HEIGHT_MAX, NODE_BYTES_MAX};
pub use overlay::Edits;
pub use reader::{RecordBatches, Tree};

use crate::types::{NodeId, Place};

/// Where finished nodes go.
#[async_trait]
pub trait StoreNodes: Send + Sync {
    /// Stores a node, unless one of this id resolves already: then its place is returned.
    ///
    /// # Errors
    /// Those of the store.
    fn store_node(&self, id: NodeId, plaintext: Vec<u8>) -> Result<Place>;

    /// Gives every pack that was begun its name, so that all places become known.
    ///
    /// # Errors
    /// Those of the store.
    async fn flush(&self) -> Result<()>;
}

/// Where nodes come from.
#[async_trait]
pub trait ReadNodes: Send + Sync {
    /// Reads a stored node: at its place, else wherever the index knows it.
    ///
    /// # Errors
    /// `Corrupt` where no intact copy is left; those of the store.
    async fn read_node(&self, id: NodeId, place: &Place) -> Result<Bytes>;
}
