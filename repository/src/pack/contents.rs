//! The table of contents of a pack, and the footer that says where it is.
//!
//! Table: `blocks u32 | (offset u32, length u32)* | entries u32 |
//! (id 32, block u32, offset u32, length u32, kind u8, bases u8, base 32 *)*`, sealed. Footer, the
//! last 80 bytes: `table offset u32 | table length u32 | object length u32 | key epoch u16 | flags u16
//! | hash of the pack's header 16 | siv 32 | check 8 | "LBTABLE1"`. Of the flags one is known: parity
//! stands between blocks and table.

use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use super::block::{BLOCK_HEADER_BYTES, block_bytes_max, sealed_bytes_max};
use super::{EntryKind, HEADER_BYTES, PACK_BYTES_MAX, PackEntry, pack_path};
use crate::crypto::{DomainKeys, Sealer, Siv, TAG_BYTES};
use crate::format::Header;
use crate::store::Store;
use crate::tree::codec::Input;
use crate::types::{ChunkId, DELTA_BASES_MAX, Location, PackKind, PackName, RepositoryId};

/// The most entries that a pack has.
pub const PACK_ENTRIES_MAX: usize = 128 << 10;
/// The most blocks that a pack has.
pub const PACK_BLOCKS_MAX: usize = 64 << 10;
/// The length of the footer.
pub(super) const FOOTER_BYTES: usize = 80;

const MAGIC: [u8; 8] = *b"LBTABLE1";
const CHECK_BYTES: usize = 8;
/// The flag of a pack with parity.
const WITH_PARITY: u16 = 1;
const BLOCK_RECORD_BYTES: usize = 8;
const ENTRY_RECORD_BYTES: usize = 46;
/// The longest table that the caps allow.
const TABLE_BYTES_MAX: usize = 8
    + PACK_BLOCKS_MAX * BLOCK_RECORD_BYTES
    + PACK_ENTRIES_MAX * (ENTRY_RECORD_BYTES + 32 * DELTA_BASES_MAX);
/// How much of a pack's end is read at once, in the hope that the whole table is in it.
const TAIL_BYTES: u64 = 64 << 10;

/// Where the table lies and what it is sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) offset: u32,
    /// Of ciphertext and tag.
    pub(super) length: u32,
    object_length: u32,
    epoch: u16,
    /// Parity stands before the table.
    pub(super) has_parity: bool,
    /// Binds the table to what stands at the other end of the pack.
    header: [u8; 16],
    siv: [u8; 32],
}

impl Footer {
    fn bound(&self) -> Vec<u8> {
        let mut bound =
            [self.offset, self.length, self.object_length].map(u32::to_le_bytes).concat();
        bound.extend_from_slice(&self.epoch.to_le_bytes());
        let flags = if self.has_parity { WITH_PARITY } else { 0 };
        bound.extend_from_slice(&flags.to_le_bytes());
        bound.extend_from_slice(&self.header);
        bound
    }

    /// Says whether this is the footer of a pack that begins like this.
    pub(super) fn belongs_to(&self, object: &[u8]) -> bool {
        header_hash(object) == Some(self.header)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&self.bound()[..], &self.siv].concat();
        let check = blake3::hash(&bytes);
        bytes.extend(check.as_bytes().iter().take(CHECK_BYTES));
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    /// Reads the footer at the end of an object of this length.
    pub(super) fn parse(tail: &[u8], object_length: usize) -> Option<Self> {
        let footer = tail.last_chunk::<FOOTER_BYTES>()?;
        let word = |at: usize| {
            let bytes = footer.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let parsed = Self {
            offset: word(0)?,
            length: word(4)?,
            object_length: word(8)?,
            epoch: u16::from_le_bytes(*footer.get(12..)?.first_chunk()?),
            has_parity: u16::from_le_bytes(*footer.get(14..)?.first_chunk()?) == WITH_PARITY,
            header: *footer.get(16..)?.first_chunk()?,
            siv: *footer.get(32..)?.first_chunk()?,
        };
        let end = (parsed.offset as usize).checked_add(parsed.length as usize)?;
        let is_sound = parsed.encode() == footer
            && parsed.object_length as usize == object_length
            && parsed.offset as usize >= HEADER_BYTES
            && parsed.length as usize <= TABLE_BYTES_MAX + TAG_BYTES
            && end.checked_add(FOOTER_BYTES)? == object_length;
        is_sound.then_some(parsed)
    }
}

fn header_hash(object: &[u8]) -> Option<[u8; 16]> {
    blake3::hash(object.get(..HEADER_BYTES)?).as_bytes().first_chunk().copied()
}

/// What a table says.
#[derive(Debug)]
pub(super) struct Table {
    /// Where each block begins and how long it is, in order.
    pub(super) blocks: Vec<(u32, u32)>,
    pub(super) entries: Vec<PackEntry>,
}

/// What seals and opens tables of one kind of packs.
pub(super) struct TableCipher<'k> {
    pub(super) kind: PackKind,
    pub(super) repository: RepositoryId,
    pub(super) keys: &'k DomainKeys,
}

impl TableCipher<'_> {
    fn sealer(&self) -> &Sealer {
        match self.kind {
            PackKind::Data => self.keys.data(),
            PackKind::Meta => self.keys.manifest(),
        }
    }

    fn aad(&self, footer: &Footer) -> Vec<u8> {
        let header = Header::new(self.kind.object_type()).to_bytes();
        [&self.repository.0[..], &header, &footer.bound()].concat()
    }

    /// Appends the sealed table and the footer to a pack that ends with its blocks, or with parity if it
    /// has any. `salt` is the pack's random part.
    pub(super) fn append(
        &self,
        object: &mut Vec<u8>,
        salt: &[u8; 32],
        (blocks, entries): (&[(u32, u32)], &[PackEntry]),
        has_parity: bool,
    ) -> Result<()> {
        let fault = || Error::new(ErrorKind::Internal, "seal pack", "").detail("it is too large");
        let from = object.len();
        let length = |length: usize| u32::try_from(length).map_err(|_| fault());
        encode_table(object, blocks, entries).ok_or_else(fault)?;
        let table_length = object.len() - from + TAG_BYTES;
        let mut footer = Footer {
            has_parity,
            offset: length(from)?,
            length: length(table_length)?,
            object_length: length(from + table_length + FOOTER_BYTES)?,
            epoch: self.sealer().epoch(),
            header: header_hash(object).ok_or_else(fault)?,
            siv: [0; 32],
        };
        footer.siv = self.sealer().seal(&self.aad(&footer), salt, object, from)?.0;
        object.extend_from_slice(&footer.encode());
        Ok(())
    }

    /// Opens a table.
    pub(super) fn open(&self, footer: &Footer, sealed: &[u8], name: PackName) -> Result<Table> {
        let subject = || pack_path(self.kind, name);
        let mut text = sealed.to_vec();
        let length = self
            .sealer()
            .open(footer.epoch, &self.aad(footer), &Siv(footer.siv), &mut text)
            .map_err(|error| {
                Error::new(error.kind(), "read contents of pack", subject()).because(error)
            })?
            .len();
        text.truncate(length);
        decode_table(&text.into(), footer, self.kind, name).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read contents of pack", subject())
                .detail("its table of contents makes no sense")
        })
    }
}

/// Returns how long the table of so many blocks, entries and bases will be, with tag and footer.
pub(super) fn table_bytes(blocks: usize, entries: usize, bases: usize) -> usize {
    8 + blocks * BLOCK_RECORD_BYTES
        + entries * ENTRY_RECORD_BYTES
        + bases * 32
        + TAG_BYTES
        + FOOTER_BYTES
}

fn encode_table(output: &mut Vec<u8>, blocks: &[(u32, u32)], entries: &[PackEntry]) -> Option<()> {
    output.extend_from_slice(&u32::try_from(blocks.len()).ok()?.to_le_bytes());
    for (offset, length) in blocks {
        output.extend_from_slice(&offset.to_le_bytes());
        output.extend_from_slice(&length.to_le_bytes());
    }
    output.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_le_bytes());
    let mut block = 0;
    for entry in entries {
        let Location { block_offset, offset_in_block, length, .. } = entry.location;
        while blocks.get(block)?.0 != block_offset {
            block += 1;
        }
        output.extend_from_slice(&entry.id);
        for number in [u32::try_from(block).ok()?, offset_in_block, length] {
            output.extend_from_slice(&number.to_le_bytes());
        }
        output.extend_from_slice(&[entry.kind as u8, u8::try_from(entry.bases.len()).ok()?]);
        output.extend(entry.bases.iter().flat_map(|base| base.0));
    }
    Some(())
}

fn decode_table(
    table: &Bytes,
    footer: &Footer,
    pack_kind: PackKind,
    name: PackName,
) -> Option<Table> {
    let end = footer.offset;
    let mut input = Input::new(table);
    let count = |input: &mut Input<'_>, record: usize, max: usize| {
        let count = u32::from_le_bytes(input.array()?) as usize;
        (count <= max && count <= input.remaining() / record).then_some(count)
    };
    let mut blocks = Vec::new();
    let mut at = HEADER_BYTES as u32;
    for _ in 0..count(&mut input, BLOCK_RECORD_BYTES, PACK_BLOCKS_MAX)? {
        let offset = u32::from_le_bytes(input.array()?);
        let length = u32::from_le_bytes(input.array()?);
        let is_sound =
            (BLOCK_HEADER_BYTES..=sealed_bytes_max(pack_kind)).contains(&(length as usize));
        // Blocks follow one another; what lies between them would be nobody's.
        at = offset.checked_add(length).filter(|next| is_sound && offset == at && *next <= end)?;
        blocks.push((offset, length));
    }
    let entry_count = count(&mut input, ENTRY_RECORD_BYTES, PACK_ENTRIES_MAX)?;
    let mut entries = Vec::with_capacity(entry_count);
    let mut before = 0;
    for _ in 0..entry_count {
        let id = input.array()?;
        let [block, offset_in_block, length]: [u32; 3] = {
            let mut number = || Some(u32::from_le_bytes(input.array()?));
            [number()?, number()?, number()?]
        };
        let kind = EntryKind::from_number(input.byte()?)?;
        let base_count = usize::from(input.byte()?);
        let bases = (0..base_count.min(DELTA_BASES_MAX))
            .map(|_| input.array().map(ChunkId))
            .collect::<Option<Vec<_>>>()?;
        let (block_offset, block_length) = *blocks.get(block as usize)?;
        let is_delta = kind == EntryKind::Delta;
        let is_sound = block >= before
            && is_delta != bases.is_empty()
            && bases.len() == base_count
            && offset_in_block as usize <= block_bytes_max(pack_kind)
            && length as usize <= block_bytes_max(pack_kind);
        if !is_sound {
            return None;
        }
        before = block;
        let location = Location { pack: name, block_offset, block_length, offset_in_block, length };
        entries.push(PackEntry { id, kind, location, bases });
    }
    let is_end = if footer.has_parity { at < end } else { at == end };
    (input.is_empty() && is_end).then_some(Table { blocks, entries })
}

/// Reads a pack's table of contents (two small requests, a third for a long table).
///
/// # Errors
/// `Corrupt`, `NotFound`; those of the store.
pub async fn read_contents(
    store: &Store,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    name: PackName,
) -> Result<Vec<PackEntry>> {
    let path = pack_path(kind, name);
    let corrupt = || {
        Error::new(ErrorKind::Corrupt, "read contents of pack", &path)
            .detail("it does not end as a pack does")
    };
    let size = store.head(&path).await?.size_bytes;
    if size < (HEADER_BYTES + FOOTER_BYTES) as u64 || size > PACK_BYTES_MAX as u64 {
        return Err(corrupt());
    }
    let tail_from = size.saturating_sub(TAIL_BYTES);
    let tail = store.get_range(&path, tail_from..size).await?;
    let footer = Footer::parse(&tail, size as usize).ok_or_else(corrupt)?;
    let table = u64::from(footer.offset)..u64::from(footer.offset) + u64::from(footer.length);
    let sealed = match table.start.checked_sub(tail_from) {
        Some(start) => {
            let start = start as usize;
            let end = start.checked_add(footer.length as usize).ok_or_else(corrupt)?;
            tail.get(start..end).map(|_| tail.slice(start..end)).ok_or_else(corrupt)?
        }
        None => store.get_range(&path, table).await?,
    };
    let table = TableCipher { kind, repository, keys }.open(&footer, &sealed, name)?;
    Ok(table.entries)
}
