//! What all units of a session share: the open pack, the chunks on their way, contexts of zstd.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::BytesMut;
use model::{Entropy, Error, ErrorKind, Result};
use tokio::runtime::Handle;

use super::slots::{Slots, lock};
use super::{ChunkReader, Shelf, Unit};
use crate::Repository;
use crate::crypto::DomainKeys;
use crate::pack::compress::Compressor;
use crate::pack::{BlockCipher, BlockEntry, PackBuilder, SealedBlock, SealedPack};
use crate::types::{ChunkId, PackKind, PendingPack, RepositoryId, StoredChunk};

/// Packs are closed before they have more than this, whatever the options ask for.
const PACK_TARGET_BYTES_MAX: usize = 48 << 20;
/// What the reader of delta bases keeps decoded.
const BASES_BYTES: usize = 16 << 20;
/// How far a pack's last block, and its table, may reach beyond the size that it is closed at.
const LAST_BLOCK_BYTES: usize = 5 << 20;
/// Packs ask for at least so much address space. What is this long the C library maps apart, whatever
/// was freed before; shorter blocks that are freed make it keep as much in each thread's share of memory.
const MAPPED_BYTES: usize = 33 << 20;
/// How many packs' memory is kept for the next ones.
const PACKS_KEPT_MAX: usize = 1;
/// A pack is begun only while fewer than this many are named or wait for those that are on their way.
const HANDING_OVER_MAX: usize = 1;
/// One block of so many is decoded again and compared before it is stored.
const SAMPLE: u64 = 64;

/// Memory of packs that are durable, for the next ones. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PackMemory(Arc<Mutex<Vec<Vec<u8>>>>);

impl PackMemory {
    /// Takes over what a pack had, unless enough is kept already.
    pub fn give(&self, pack: SealedPack) {
        if let Some(memory) = pack.into_memory() {
            let mut kept = lock(&self.0);
            if kept.len() < PACKS_KEPT_MAX {
                kept.push(memory);
            }
        }
    }

    fn take(&self) -> Vec<u8> {
        lock(&self.0).pop().unwrap_or_default()
    }
}

/// How content is written.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Packs are closed at about this size, in bytes.
    pub pack_bytes: usize,
    /// Random bytes that tell equal blocks of different sessions apart.
    pub salt: [u8; 32],
}

/// Cuts, names, compares, compresses and seals content, on the threads that call it. Cheap to clone;
/// every worker uses its own [`Unit`].
#[derive(Clone)]
pub struct ContentWriter(Arc<Inner>);

struct Inner {
    repository: RepositoryId,
    has_parity: bool,
    keys: DomainKeys,
    cipher: BlockCipher,
    shelf: Arc<dyn Shelf>,
    pack_bytes: usize,
    salt: [u8; 32],
    slots: Slots,
    open: Mutex<Open>,
    /// Wakes who waits until no pack is being handed over.
    handed_over: Condvar,
    compressors: Mutex<Vec<Compressor>>,
    memory: PackMemory,
    blocks: AtomicU64,
    bases: ChunkReader,
    /// Where delta bases are read; none where there is no runtime, so that there are no deltas.
    runtime: Option<Handle>,
}

#[derive(Default)]
struct Open {
    pack: Option<OpenPack>,
    packs: u64,
    handing_over: usize,
    failed: Option<ErrorKind>,
}

struct OpenPack {
    builder: PackBuilder,
    name: Arc<PendingPack>,
}

/// A pack on its way to the session; dropped, it has arrived or failed.
struct HandingOver<'w> {
    inner: &'w Inner,
    failed: Option<ErrorKind>,
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        let mut open = lock(&self.inner.open);
        open.handing_over -= 1;
        open.failed = open.failed.or(self.failed);
        self.inner.handed_over.notify_all();
    }
}

/// Where a block is.
pub(super) struct PlacedBlock {
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) pack: Arc<PendingPack>,
}

/// The random parts of packs: they follow from the session's salt, which nobody can guess.
struct PackSalt<'s> {
    salt: &'s [u8; 32],
    number: u64,
}

impl std::fmt::Debug for PackSalt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackSalt({})", self.number)
    }
}

impl Entropy for PackSalt<'_> {
    fn fill(&self, buffer: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat 2026-11 random part of pack");
        hasher.update(self.salt).update(&self.number.to_le_bytes());
        hasher.finalize_xof().fill(buffer);
    }
}

impl ContentWriter {
    /// Begins. Call it inside of the runtime that the store needs: delta bases are read there.
    pub fn new(
        repository: &Repository,
        keys: &DomainKeys,
        shelf: Arc<dyn Shelf>,
        options: WriterOptions,
    ) -> Self {
        Self(Arc::new(Inner {
            repository: repository.id(),
            has_parity: repository.has_parity(),
            keys: keys.clone(),
            cipher: BlockCipher::new(PackKind::Data, repository.id(), keys),
            shelf,
            pack_bytes: options.pack_bytes.min(PACK_TARGET_BYTES_MAX),
            salt: options.salt,
            slots: Slots::new(),
            open: Mutex::default(),
            handed_over: Condvar::new(),
            compressors: Mutex::default(),
            memory: PackMemory::default(),
            blocks: AtomicU64::new(0),
            bases: ChunkReader::new(repository, keys, BASES_BYTES),
            runtime: Handle::try_current().ok(),
        }))
    }

    /// Begins a unit of work: contents that lie together. Blocks; call it on a thread that may.
    pub fn unit(&self) -> Unit {
        Unit::new(self.clone())
    }

    /// Seals and puts every open pack, so that all places become known; units that are not finished
    /// keep what they gathered. Call where it may block.
    ///
    /// # Errors
    /// Those of the store, also where an earlier pack could not be put.
    pub fn flush(&self) -> Result<()> {
        let pack = {
            let mut open = lock(&self.0.open);
            let pack = open.pack.take();
            open.handing_over += usize::from(pack.is_some());
            pack
        };
        if let Some(pack) = pack {
            self.hand_over(pack)?;
        }
        let open = lock(&self.0.open);
        let open = self.0.handed_over.wait_while(open, |open| open.handing_over > 0);
        match open.unwrap_or_else(PoisonError::into_inner).failed {
            Some(kind) => Err(Error::new(kind, "store content", "")
                .detail("a pack could not be stored; see the first error")),
            None => Ok(()),
        }
    }

    pub(super) fn keys(&self) -> &DomainKeys {
        &self.0.keys
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.0.slots
    }

    /// Returns a chunk that is stored already; forgets its slot, as the session knows it.
    pub(super) fn find(&self, id: &ChunkId, length: u32) -> Option<StoredChunk> {
        self.0.shelf.find_chunk(id, length)
    }

    /// Returns a chunk of the parent where it may be taken over without being looked up.
    pub(super) fn take_over(&self, chunk: &StoredChunk) -> Option<StoredChunk> {
        self.0.shelf.take_over(chunk)
    }

    /// Lends a compressor.
    pub(super) fn with_compressor<T>(&self, work: impl FnOnce(&mut Compressor) -> T) -> T {
        let lent = lock(&self.0.compressors).pop();
        let mut compressor = lent.unwrap_or_else(Compressor::new);
        let result = work(&mut compressor);
        lock(&self.0.compressors).push(compressor);
        result
    }

    /// Compresses, seals and checks a block.
    pub(super) fn seal(
        &self,
        level: i32,
        plaintext: &[u8],
        entries: Vec<BlockEntry>,
    ) -> Result<SealedBlock> {
        let Inner { cipher, salt, blocks, .. } = &*self.0;
        let block = self.with_compressor(|compressor| {
            cipher.seal(compressor, level, salt, plaintext, entries)
        })?;
        // Memory that fails is found before the bytes are the only ones.
        let is_sample = blocks.fetch_add(1, Relaxed).is_multiple_of(SAMPLE);
        let is_intact = cipher.open(BytesMut::from(&block.bytes[..])).is_ok_and(|opened| {
            !is_sample || opened.decode().is_ok_and(|decoded| decoded == plaintext)
        });
        if is_intact {
            return Ok(block);
        }
        Err(Error::new(ErrorKind::Internal, "seal block", "")
            .detail("it does not open again: check the memory of this machine"))
    }

    /// Appends a block to the open pack, and hands the pack over where that fills it.
    pub(super) fn push(&self, block: SealedBlock) -> Result<PlacedBlock> {
        let Inner { repository, has_parity, keys, pack_bytes, salt, memory, .. } = &*self.0;
        let (placed, full) = {
            let open = lock(&self.0.open);
            let is_crowded =
                |open: &mut Open| open.pack.is_none() && open.handing_over >= HANDING_OVER_MAX;
            let waited = self.0.handed_over.wait_while(open, is_crowded);
            let mut open = waited.unwrap_or_else(PoisonError::into_inner);
            if let Some(kind) = open.failed {
                return Err(Error::new(kind, "store content", "")
                    .detail("an earlier pack could not be stored"));
            }
            let pack = match open.pack.take() {
                Some(pack) => pack,
                None => {
                    open.packs += 1;
                    let entropy = PackSalt { salt, number: open.packs };
                    let object = memory.take();
                    let builder =
                        PackBuilder::in_memory(object, PackKind::Data, *repository, keys, &entropy);
                    let mut builder = builder.with_parity(*has_parity);
                    // The block that fills it may be as long as a chunk that does not shrink.
                    builder.reserve((pack_bytes + LAST_BLOCK_BYTES).max(MAPPED_BYTES));
                    OpenPack { builder, name: Arc::default() }
                }
            };
            let pack = open.pack.insert(pack);
            let (offset, length) = pack.builder.push(block)?;
            let placed = PlacedBlock { offset, length, pack: Arc::clone(&pack.name) };
            let is_full = pack.builder.is_full(*pack_bytes);
            let full = if is_full { open.pack.take() } else { None };
            open.handing_over += usize::from(full.is_some());
            (placed, full)
        };
        if let Some(pack) = full {
            self.hand_over(pack)?;
        }
        Ok(placed)
    }

    /// Names a pack and hands it to the session; the caller has counted it.
    fn hand_over(&self, pack: OpenPack) -> Result<()> {
        // A panic on the way counts as a failure, so that nobody waits for it.
        let mut over = HandingOver { inner: &self.0, failed: Some(ErrorKind::Internal) };
        let result = self.name_and_put(pack);
        over.failed = result.as_ref().err().map(Error::kind);
        result
    }

    fn name_and_put(&self, OpenPack { builder, name }: OpenPack) -> Result<()> {
        let pack = builder.finish()?;
        let ids: Vec<_> = pack.entries.iter().map(|entry| ChunkId(entry.id)).collect();
        name.resolve(pack.name);
        self.0.shelf.put_pack(pack, &self.0.memory)?;
        // From here on the session knows them.
        ids.iter().for_each(|id| self.0.slots.forget(id));
        Ok(())
    }

    /// Reads what a delta would be encoded against; none where it cannot be had, as a delta is only
    /// ever a saving.
    pub(super) fn read_bases(&self, bases: &[StoredChunk]) -> Result<Option<Vec<u8>>> {
        let Some(runtime) = &self.0.runtime else { return Ok(None) };
        match runtime.block_on(self.0.bases.read_all(bases)) {
            Ok(contents) => Ok(Some(contents.concat())),
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(_) => Ok(None),
        }
    }
}
