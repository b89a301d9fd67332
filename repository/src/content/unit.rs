//! What one thread stores together.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::{ContentClass, Error, ErrorKind, Result};

use super::bases::Previous;
use super::slots::{Slot, Taken};
use super::writer::{ContentWriter, PlacedBlock};
use crate::chunking::Cutter;
use crate::pack::compress::{self, LEVEL_FAST, LEVEL_SOLID};
use crate::pack::{BlockEntry, EntryKind};
use crate::types::{ChunkId, Location, PackName, Place, StoredChunk};

/// The longest content that is stored whole, and the longest chunk.
const WHOLE_BYTES_MAX: usize = 4 << 20;
/// Solid blocks have about so many bytes before compression.
const SOLID_BYTES: usize = 2 << 20;
/// What is longer has a block of its own.
const SOLID_ENTRY_BYTES_MAX: usize = 512 << 10;
/// Solid blocks have no more entries than this.
const SOLID_ENTRIES_MAX: usize = 4096;
/// Shorter chunks are not stored as deltas: they cost a read each and save little in a solid block.
const DELTA_CONTENT_BYTES_MIN: usize = 32 << 10;
/// What each base costs in manifests and tables.
const DELTA_BASE_BYTES: usize = 128;
/// How much is copied at once where a chunk does not lie in one piece.
const CARRY_BYTES: usize = 256 << 10;

/// Contents that one thread stores together. Everything in it may block (it reads delta bases).
pub struct Unit {
    writer: ContentWriter,
    tickets: Vec<Vec<Stored>>,
    extent: Option<Extent>,
    /// The solid run that is being gathered.
    run: Vec<Entry>,
    run_bytes: usize,
}

/// An extent of a [`Unit`] whose chunks are known once the unit is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub usize);

/// A chunk that was stored, or is on its way.
enum Stored {
    Known(StoredChunk),
    OnItsWay(Arc<Slot>),
}

/// The extent that is being cut.
struct Extent {
    cutter: Cutter,
    previous: Previous,
    offset: u64,
    carry: BytesMut,
    chunks: Vec<Stored>,
}

/// A chunk that waits for its solid block.
struct Entry {
    slot: Arc<Slot>,
    id: ChunkId,
    kind: EntryKind,
    /// What goes into the block: the chunk, or its delta.
    bytes: Bytes,
    /// What it decodes to.
    length: u32,
    bases: Vec<StoredChunk>,
}

impl Unit {
    pub(super) fn new(writer: ContentWriter) -> Self {
        Self { writer, tickets: Vec::new(), extent: None, run: Vec::new(), run_bytes: 0 }
    }

    /// Stores a small content whole, in a solid block. `previous` are chunks of the session's parent that
    /// it may equal or resemble.
    ///
    /// # Errors
    /// `Invalid` where it has more than 4 MiB; those of the store.
    pub fn whole(&mut self, bytes: Bytes, previous: &[StoredChunk]) -> Result<Ticket> {
        if bytes.len() > WHOLE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "store content whole", "")
                .detail(format!("it has {} bytes", bytes.len())));
        }
        let mut chunks = Vec::new();
        if !bytes.is_empty() {
            chunks.push(self.store(bytes, &Previous::new(previous), 0)?);
        }
        Ok(self.ticket(chunks))
    }

    /// Begins an extent that is cut; follow with [`Unit::push`] and [`Unit::end`]. `previous` are the
    /// chunks of the session's parent that lay there.
    pub fn begin(&mut self, class: ContentClass, previous: &[StoredChunk]) {
        self.extent = Some(Extent {
            cutter: Cutter::new(class, self.writer.keys()),
            previous: Previous::new(previous),
            offset: 0,
            carry: BytesMut::new(),
            chunks: Vec::new(),
        });
    }

    /// Gives the next bytes of the extent.
    ///
    /// # Errors
    /// Those of the store.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        let mut extent = self.take_extent("store content")?;
        while !bytes.is_empty() {
            if let Some(chunk) = extent.next_chunk(&mut bytes) {
                self.store_next(&mut extent, chunk)?;
            }
        }
        self.extent = Some(extent);
        Ok(())
    }

    /// Ends the extent.
    ///
    /// # Errors
    /// Those of the store.
    pub fn end(&mut self) -> Result<Ticket> {
        let mut extent = self.take_extent("end content")?;
        while let Some(length) = extent.cutter.cut(&extent.carry, true) {
            let chunk = extent.carry.split_to(length).freeze();
            self.store_next(&mut extent, chunk)?;
        }
        Ok(self.ticket(extent.chunks))
    }

    /// Takes back what was begun since the last ticket (a file that changed while it was read). Chunks
    /// that were cut already may stay in packs.
    pub fn discard(&mut self) {
        self.extent = None;
    }

    /// Closes the unit; returns the chunks per ticket.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(mut self) -> Result<Vec<Vec<StoredChunk>>> {
        self.seal_run()?;
        let failed = || {
            Error::new(ErrorKind::Unavailable, "store content", "")
                .detail("another thread could not store the same chunk")
        };
        let known = |stored| match stored {
            Stored::Known(chunk) => Ok(chunk),
            Stored::OnItsWay(slot) => slot.wait().ok_or_else(failed),
        };
        self.tickets.into_iter().map(|chunks| chunks.into_iter().map(known).collect()).collect()
    }

    fn ticket(&mut self, chunks: Vec<Stored>) -> Ticket {
        self.tickets.push(chunks);
        Ticket(self.tickets.len() - 1)
    }

    fn take_extent(&mut self, action: &'static str) -> Result<Extent> {
        self.extent.take().ok_or_else(|| {
            Error::new(ErrorKind::Internal, action, "").detail("no extent was begun")
        })
    }

    fn store_next(&mut self, extent: &mut Extent, chunk: Bytes) -> Result<()> {
        let length = chunk.len() as u64;
        let id = self.writer.keys().chunk_id(&chunk);
        extent.previous.observe(&id, extent.offset);
        let stored = self.store_named(id, chunk, &extent.previous, extent.offset)?;
        extent.chunks.push(stored);
        extent.offset += length;
        Ok(())
    }

    fn store(&mut self, bytes: Bytes, previous: &Previous, offset: u64) -> Result<Stored> {
        let id = self.writer.keys().chunk_id(&bytes);
        self.store_named(id, bytes, previous, offset)
    }

    /// Finds a chunk that is there already, or stores it.
    fn store_named(
        &mut self,
        id: ChunkId,
        bytes: Bytes,
        previous: &Previous,
        offset: u64,
    ) -> Result<Stored> {
        let slot = self.writer.slots().slot(&id);
        if let Some(chunk) = slot.placed() {
            return Ok(Stored::Known(chunk));
        }
        // Looked up after the slot was got, whoever made it: what was handed over before is found.
        if let Some(chunk) = self.find(&id, bytes.len() as u32, previous) {
            slot.place(chunk.clone());
            self.writer.slots().forget(&id);
            return Ok(Stored::Known(chunk));
        }
        let entry = self.encode(slot, id, bytes, previous, offset)?;
        if entry.bytes.len() > SOLID_ENTRY_BYTES_MAX {
            return self.store_alone(entry).map(Stored::Known);
        }
        if self.run_bytes + entry.bytes.len() > SOLID_BYTES || self.run.len() >= SOLID_ENTRIES_MAX {
            self.seal_run()?;
        }
        let slot = Arc::clone(&entry.slot);
        self.run_bytes += entry.bytes.len();
        self.run.push(entry);
        Ok(Stored::OnItsWay(slot))
    }

    /// Finds a chunk: where it lay before, which takes no index, or anywhere.
    fn find(&self, id: &ChunkId, length: u32, previous: &Previous) -> Option<StoredChunk> {
        let taken_over = previous.get(id, length).and_then(|chunk| self.writer.take_over(chunk));
        taken_over.or_else(|| self.writer.find(id, length))
    }

    /// Makes a delta of a chunk where that pays.
    fn encode(
        &self,
        slot: Arc<Slot>,
        id: ChunkId,
        bytes: Bytes,
        previous: &Previous,
        offset: u64,
    ) -> Result<Entry> {
        let length = bytes.len() as u32;
        let full = |bytes| Entry { slot, id, kind: EntryKind::Full, bytes, length, bases: vec![] };
        if previous.is_empty() || bytes.len() < DELTA_CONTENT_BYTES_MIN {
            return Ok(full(bytes));
        }
        // A base is used as this session knows it, or not at all.
        let bases: Vec<_> = previous
            .bases(offset, bytes.len())
            .iter()
            .filter_map(|base| self.writer.find(&base.id, base.length))
            .filter(|base| base.bases.is_empty() && base.place.location().is_some())
            .collect();
        let content = if bases.is_empty() { None } else { self.writer.read_bases(&bases)? };
        let Some(content) = content else { return Ok(full(bytes)) };
        let delta = compress::encode_delta(&content, &bytes)?;
        let plain_length = self.writer.with_compressor(|compressor| {
            let plain = compressor.compress(LEVEL_FAST, &bytes)?;
            Ok(plain.map_or(bytes.len(), <[u8]>::len))
        })?;
        // What is appended to a short last chunk is most of it, and still worth a delta.
        if delta.len() + DELTA_BASE_BYTES * bases.len() >= plain_length - plain_length / 4 {
            return Ok(full(bytes));
        }
        Ok(Entry { bytes: delta.into(), kind: EntryKind::Delta, bases, ..full(Bytes::new()) })
    }

    /// Stores a chunk in a block of its own.
    fn store_alone(&self, entry: Entry) -> Result<StoredChunk> {
        loop {
            if let Some(taken) = entry.slot.try_take() {
                let block_entry = entry.in_block(0);
                let level =
                    self.writer.with_compressor(|compressor| compressor.level_for(&entry.bytes))?;
                let block = self.writer.seal(level, &entry.bytes, vec![block_entry])?;
                let placed = self.writer.push(block)?;
                let chunk = entry.stored(&placed, 0);
                taken.place(chunk.clone());
                return Ok(chunk);
            }
            if let Some(chunk) = entry.slot.wait() {
                return Ok(chunk);
            }
        }
    }

    /// Seals what was gathered, but for what another thread has sealed or is sealing.
    fn seal_run(&mut self) -> Result<()> {
        self.run_bytes = 0;
        let run = std::mem::take(&mut self.run);
        let taken: Vec<(Taken, Entry)> =
            run.into_iter().filter_map(|entry| Some((entry.slot.try_take()?, entry))).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let total = taken.iter().map(|(_, entry)| entry.bytes.len()).sum();
        let mut plaintext = Vec::with_capacity(total);
        let mut entries = Vec::with_capacity(taken.len());
        for (_, entry) in &taken {
            entries.push(entry.in_block(plaintext.len() as u32));
            plaintext.extend_from_slice(&entry.bytes);
        }
        let offsets: Vec<_> = entries.iter().map(|entry| entry.offset).collect();
        let block = self.writer.seal(LEVEL_SOLID, &plaintext, entries)?;
        let placed = self.writer.push(block)?;
        for ((taken, entry), offset) in taken.into_iter().zip(offsets) {
            taken.place(entry.stored(&placed, offset));
        }
        Ok(())
    }
}

impl Extent {
    /// Takes the next chunk off what was carried over and what comes; none where all of that is less
    /// than a chunk, and was carried over. A chunk that lies in one piece is not copied.
    fn next_chunk(&mut self, bytes: &mut Bytes) -> Option<Bytes> {
        if self.carry.is_empty() {
            if let Some(length) = self.cutter.cut(bytes, false) {
                return Some(bytes.split_to(length));
            }
            // The memory of the chunk before, once that is stored.
            self.carry.reserve(WHOLE_BYTES_MAX + CARRY_BYTES);
            self.carry.extend_from_slice(bytes);
            bytes.clear();
            return None;
        }
        let carried = self.carry.len();
        let mut copied = 0;
        while copied < bytes.len() {
            let end = bytes.len().min(copied + CARRY_BYTES);
            self.carry.extend_from_slice(bytes.get(copied..end).unwrap_or_default());
            copied = end;
            if let Some(length) = self.cutter.cut(&self.carry, false) {
                let chunk = self.carry.split_to(length).freeze();
                self.carry.clear();
                // What was copied behind the chunk is taken from where it came.
                let _ = bytes.split_to(length.saturating_sub(carried).min(bytes.len()));
                return Some(chunk);
            }
        }
        bytes.clear();
        None
    }
}

impl Entry {
    fn in_block(&self, offset: u32) -> BlockEntry {
        BlockEntry {
            id: self.id.0,
            kind: self.kind,
            offset,
            length: self.length,
            bases: self.bases.iter().map(|base| base.id).collect(),
        }
    }

    fn stored(self, block: &PlacedBlock, offset_in_block: u32) -> StoredChunk {
        let location = Location {
            pack: PackName([0; 32]),
            block_offset: block.offset,
            block_length: block.length,
            offset_in_block,
            length: self.length,
        };
        let place = Place::Pending { location, pack: Arc::clone(&block.pack) };
        StoredChunk { id: self.id, length: self.length, place, bases: self.bases }
    }
}
