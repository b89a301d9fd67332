//! Packs: blocks of chunks or nodes under a name that is the hash of their bytes.
//!
//! `header 17 | key epoch u16 | random 32 | wrap length u16 | wrap | block* | parity | table of contents |
//! footer 80`. Whoever has a pack can check it by its name, without a key; whoever has the key can read
//! each block by itself. `docs/repository-format.md` §3 has the bytes.

mod block;
mod builder;
mod check;
pub(crate) mod compress;
mod contents;
mod parity;
mod remake;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(crate) use block::SEALED_NODE_BYTES_MAX;
pub use block::{
    BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, BLOCK_HEADER_BYTES, BlockCipher, SEALED_BLOCK_BYTES_MAX,
    seal_block,
};
pub use builder::PackBuilder;
pub use check::{check_pack, check_pack_deep, salvage, scan_blocks};
pub use contents::{PACK_BLOCKS_MAX, PACK_ENTRIES_MAX, read_contents};
pub(crate) use parity::heal;
pub(crate) use remake::remake_end;
pub(crate) use stream::{Scratch, Streamed, check_pack_streamed};

use crate::format::{Header, ObjectType};
use crate::types::{ChunkId, Location, PackKind, PackName};

/// The most bytes that a pack has.
pub const PACK_BYTES_MAX: usize = 80 << 20;
/// What stands before the first block: header, epoch, random part, the length of an empty wrap.
const HEADER_BYTES: usize = Header::LENGTH + 2 + 32 + 2;

/// What an entry of a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A chunk, in full.
    Full = 0,
    /// A chunk, as a delta.
    Delta = 1,
    /// A tree node.
    Node = 2,
}

impl EntryKind {
    /// Reads the stored number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Full, Self::Delta, Self::Node].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One chunk or node of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// Its id ([`ChunkId`] or `NodeId`).
    pub id: [u8; 32],
    /// What it is.
    pub kind: EntryKind,
    /// Where it lies; `pack` is the pack's own name.
    pub location: Location,
    /// What a delta is decoded against.
    pub bases: Vec<ChunkId>,
}

/// A pack that is complete: to be put at [`pack_path`].
#[derive(Debug, Clone)]
pub struct SealedPack {
    /// Its name.
    pub name: PackName,
    /// What is in it.
    pub kind: PackKind,
    /// Its bytes.
    pub object: Bytes,
    /// What is where.
    pub entries: Vec<PackEntry>,
}

impl SealedPack {
    /// Gives its memory back, where nobody else holds the object any more.
    pub fn into_memory(self) -> Option<Vec<u8>> {
        self.object.try_into_mut().ok().map(Vec::from)
    }
}

/// A block, compressed and sealed, with what is in it (offsets within the block's plaintext).
#[derive(Debug, Clone)]
pub struct SealedBlock {
    /// Header, ciphertext, tag.
    pub bytes: Vec<u8>,
    /// Id, kind, offset in the plaintext, length, bases; in order.
    pub entries: Vec<BlockEntry>,
}

/// One chunk or node of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    /// Its id.
    pub id: [u8; 32],
    /// What it is.
    pub kind: EntryKind,
    /// Where it begins in the block's plaintext.
    pub offset: u32,
    /// Its length; of a delta what it decodes to.
    pub length: u32,
    /// What a delta is decoded against.
    pub bases: Vec<ChunkId>,
}

impl PackKind {
    fn object_type(self) -> ObjectType {
        match self {
            Self::Data => ObjectType::DataPack,
            Self::Meta => ObjectType::MetaPack,
        }
    }
}

impl Location {
    /// Takes what stands here in full out of its decoded block.
    pub fn slice(&self, block: &Bytes) -> Option<Bytes> {
        let start = self.offset_in_block as usize;
        let end = start.checked_add(self.length as usize)?;
        block.get(start..end).map(|_| block.slice(start..end))
    }
}

/// Returns where a pack stands: `pack/<2 hex>/<name>` or `meta/<2 hex>/<name>`.
pub fn pack_path(kind: PackKind, name: PackName) -> String {
    let folder = match kind {
        PackKind::Data => "pack",
        PackKind::Meta => "meta",
    };
    let name = name.to_string();
    let bucket = name.get(..2).unwrap_or_default();
    format!("{folder}/{bucket}/{name}")
}
