//! Filling a pack.

use model::{Entropy, Error, ErrorKind, Result};

use super::contents::{TableCipher, table_bytes};
use super::parity::{parity_bytes, write_parity};
use super::{
    HEADER_BYTES, PACK_BLOCKS_MAX, PACK_BYTES_MAX, PACK_ENTRIES_MAX, PackEntry, SealedBlock,
    SealedPack,
};
use crate::crypto::DomainKeys;
use crate::format::Header;
use crate::types::{Location, PackKind, PackName, RepositoryId};

/// What is hashed at once of a pack that is being filled: whole subtrees of the hash.
const HASHED_BYTES: usize = 256 << 10;

/// Fills a pack.
pub struct PackBuilder {
    kind: PackKind,
    repository: RepositoryId,
    keys: DomainKeys,
    salt: [u8; 32],
    object: Vec<u8>,
    /// Of the object up to there: hashed while it is in the processor's caches, and no thread has to
    /// wait for a whole pack.
    hasher: blake3::Hasher,
    hashed: usize,
    blocks: Vec<(u32, u32)>,
    /// Under no name yet.
    entries: Vec<PackEntry>,
    bases: usize,
    has_parity: bool,
}

impl PackBuilder {
    /// Begins a pack.
    pub fn new(
        kind: PackKind,
        repository: RepositoryId,
        keys: &DomainKeys,
        entropy: &dyn Entropy,
    ) -> Self {
        Self::in_memory(Vec::with_capacity(HEADER_BYTES), kind, repository, keys, entropy)
    }

    /// Begins a pack in memory that another one had ([`SealedPack::into_memory`]): fresh memory of that
    /// size has to be cleared by the system page by page.
    pub fn in_memory(
        mut object: Vec<u8>,
        kind: PackKind,
        repository: RepositoryId,
        keys: &DomainKeys,
        entropy: &dyn Entropy,
    ) -> Self {
        object.clear();
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        let epoch = match kind {
            PackKind::Data => keys.data().epoch(),
            PackKind::Meta => keys.manifest().epoch(),
        };
        object.extend_from_slice(&Header::new(kind.object_type()).to_bytes());
        object.extend_from_slice(&epoch.to_le_bytes());
        object.extend_from_slice(&salt);
        // The length of a pack key that is sealed to a recipient: there is none yet.
        object.extend_from_slice(&0_u16.to_le_bytes());
        Self {
            kind,
            repository,
            keys: keys.clone(),
            salt,
            object,
            hasher: blake3::Hasher::new(),
            hashed: 0,
            blocks: Vec::new(),
            entries: Vec::new(),
            bases: 0,
            has_parity: false,
        }
    }

    /// Says whether the pack gets parity. One that would become longer than packs may be gets none.
    #[must_use]
    pub fn with_parity(self, has_parity: bool) -> Self {
        Self { has_parity, ..self }
    }

    /// Takes memory for this many bytes at once, and for their parity.
    pub fn reserve(&mut self, bytes: usize) {
        let parity = if self.has_parity { parity_bytes(bytes.min(PACK_BYTES_MAX)) } else { 0 };
        self.object.reserve((bytes + parity).min(PACK_BYTES_MAX));
    }

    /// Appends a block; returns where it lies (`block_offset`, `block_length`).
    ///
    /// # Errors
    /// `Internal` where the pack would become larger than packs may be.
    pub fn push(&mut self, block: SealedBlock) -> Result<(u32, u32)> {
        let bases: usize = block.entries.iter().map(|entry| entry.bases.len()).sum();
        let entries = self.entries.len() + block.entries.len();
        let table = table_bytes(self.blocks.len() + 1, entries, self.bases + bases);
        let is_too_large = self.object.len() + block.bytes.len() + table > PACK_BYTES_MAX
            || entries > PACK_ENTRIES_MAX
            || self.blocks.len() >= PACK_BLOCKS_MAX;
        if is_too_large {
            return Err(Error::new(ErrorKind::Internal, "fill pack", "")
                .detail("it would become larger than packs may be"));
        }
        let (block_offset, block_length) = (self.object.len() as u32, block.bytes.len() as u32);
        self.object.extend_from_slice(&block.bytes);
        self.hash_upto(self.object.len() / HASHED_BYTES * HASHED_BYTES);
        self.blocks.push((block_offset, block_length));
        self.bases += bases;
        self.entries.extend(block.entries.into_iter().map(|entry| PackEntry {
            id: entry.id,
            kind: entry.kind,
            location: Location {
                pack: PackName([0; 32]),
                block_offset,
                block_length,
                offset_in_block: entry.offset,
                length: entry.length,
            },
            bases: entry.bases,
        }));
        Ok((block_offset, block_length))
    }

    fn hash_upto(&mut self, end: usize) {
        if let Some(next) = self.object.get(self.hashed..end) {
            self.hasher.update(next);
            self.hashed = end;
        }
    }

    /// Returns how long the pack would be if it ended here, in bytes, without parity.
    pub fn len_bytes(&self) -> usize {
        self.object.len() + table_bytes(self.blocks.len(), self.entries.len(), self.bases)
    }

    /// Returns how many bytes of parity it would get if it ended here.
    fn parity_bytes(&self) -> usize {
        let bare_bytes = self.len_bytes();
        let parity_bytes = if self.has_parity { parity_bytes(bare_bytes) } else { 0 };
        if bare_bytes + parity_bytes <= PACK_BYTES_MAX { parity_bytes } else { 0 }
    }

    /// Says whether a pack that is to have about `pack_bytes` should end here.
    pub fn is_full(&self, pack_bytes: usize) -> bool {
        self.len_bytes() >= pack_bytes
            || self.entries.len() >= PACK_ENTRIES_MAX / 2
            || self.blocks.len() >= PACK_BLOCKS_MAX / 2
    }

    /// Says whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Seals the table of contents, computes parity and names the pack.
    ///
    /// # Errors
    /// `Internal`.
    pub fn finish(self) -> Result<SealedPack> {
        let parity_bytes = self.parity_bytes();
        let Self { kind, repository, keys, salt, mut object, mut hasher, hashed, .. } = self;
        let Self { blocks, mut entries, .. } = self;
        let cipher = TableCipher { kind, repository, keys: &keys };
        complete(&cipher, &mut object, &salt, (&blocks, &entries), parity_bytes)?;
        hasher.update(object.get(hashed..).unwrap_or_default());
        let name = PackName(*hasher.finalize().as_bytes());
        for entry in &mut entries {
            entry.location.pack = name;
        }
        Ok(SealedPack { name, kind, object: object.into(), entries })
    }
}

/// Appends parity, table of contents and footer to a pack that ends with its blocks.
pub(super) fn complete(
    cipher: &TableCipher<'_>,
    object: &mut Vec<u8>,
    salt: &[u8; 32],
    (blocks, entries): (&[(u32, u32)], &[PackEntry]),
    parity_bytes: usize,
) -> Result<()> {
    let room = object.len()..object.len() + parity_bytes;
    object.resize(room.end, 0);
    cipher.append(object, salt, (blocks, entries), !room.is_empty())?;
    if room.is_empty() || write_parity(object, room) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, "fill pack", "").detail("its parity does not fit"))
}
