//! Checking whole packs, and finding blocks in damaged ones.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use model::{Error, ErrorKind, Result};

use super::block::{BLOCK_HEADER_BYTES, BlockCipher, BlockHeader, Opened};
use super::contents::{Footer, Table, TableCipher};
use super::{BlockEntry, EntryKind, HEADER_BYTES, PACK_BYTES_MAX, PackEntry, pack_path};
use crate::crypto::DomainKeys;
use crate::format::Header;
use crate::types::{Location, PackKind, PackName, RepositoryId};

/// Checks a whole pack that was read: its name, every block's seal, its table of contents against the
/// blocks. See [`check_pack_deep`] for what it does not check.
///
/// # Errors
/// `Corrupt`.
pub fn check_pack(
    object: &Bytes,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    name: PackName,
) -> Result<Vec<PackEntry>> {
    check(object, repository, keys, kind, name, false)
}

/// As [`check_pack`]; decompresses every block too, and computes the id of every chunk that stands in
/// full anew. Deltas and nodes are left to who can read their bases and their insides.
///
/// # Errors
/// `Corrupt`.
pub fn check_pack_deep(
    object: &Bytes,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    name: PackName,
) -> Result<Vec<PackEntry>> {
    check(object, repository, keys, kind, name, true)
}

fn check(
    object: &Bytes,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    name: PackName,
    is_deep: bool,
) -> Result<Vec<PackEntry>> {
    let path = pack_path(kind, name);
    let corrupt =
        |detail: &'static str| Error::new(ErrorKind::Corrupt, "check pack", &path).detail(detail);
    if object.len() > PACK_BYTES_MAX {
        return Err(corrupt("it is larger than packs may be"));
    }
    if *blake3::hash(object).as_bytes() != name.0 {
        return Err(corrupt("its bytes are not those that it is named after"));
    }
    check_head(object, kind, &path)?;
    let footer = Footer::parse(object, object.len())
        .filter(|footer| footer.belongs_to(object))
        .ok_or_else(|| corrupt("it does not end as a pack does"))?;
    let table = (footer.offset as usize)..(footer.offset as usize + footer.length as usize);
    let sealed = object.get(table).ok_or_else(|| corrupt("it is too short"))?;
    let Table { blocks, entries } =
        TableCipher { kind, repository, keys }.open(&footer, sealed, name)?;
    let cipher = BlockCipher::new(kind, repository, keys);
    let mut rest = &entries[..];
    for (offset, length) in blocks {
        let range = offset as usize..offset as usize + length as usize;
        let block = object.get(range).ok_or_else(|| corrupt("a block lies outside"))?;
        let opened = cipher.open(BytesMut::from(block)).map_err(|error| {
            Error::new(error.kind(), "check pack", &path)
                .detail(format!("block at {offset}"))
                .because(error)
        })?;
        let count = rest.iter().take_while(|entry| entry.location.block_offset == offset).count();
        let (mine, others) = rest.split_at(count);
        rest = others;
        check_block(opened, mine, keys, is_deep).map_err(|error| {
            Error::new(error.kind(), "check pack", &path)
                .detail(format!("block at {offset}"))
                .because(error)
        })?;
    }
    if rest.is_empty() { Ok(entries) } else { Err(corrupt("entries lie in no block")) }
}

/// Checks what stands before the first block.
pub(super) fn check_head(object: &Bytes, kind: PackKind, path: &str) -> Result<()> {
    let (_, rest) = Header::split_off(object, kind.object_type(), path)?;
    let wrap = rest.get(2 + 32..).and_then(<[u8]>::first_chunk::<2>);
    if wrap == Some(&[0, 0]) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, "check pack", path)
        .detail("its key is sealed to a recipient"))
}

/// Says whether a block and the table of contents say the same of what is in the block.
pub(super) fn agree(stated: &[BlockEntry], entries: &[PackEntry]) -> bool {
    let is_same = |(stated, entry): (&BlockEntry, &PackEntry)| {
        stated.kind == entry.kind
            && stated.offset == entry.location.offset_in_block
            && stated.length == entry.location.length
            && stated.bases == entry.bases
            && (stated.kind == EntryKind::Full || stated.id == entry.id)
    };
    stated.len() == entries.len() && stated.iter().zip(entries).all(is_same)
}

fn check_block(
    opened: Opened,
    entries: &[PackEntry],
    keys: &DomainKeys,
    is_deep: bool,
) -> Result<()> {
    let corrupt =
        |detail: &'static str| Error::new(ErrorKind::Corrupt, "check block", "").detail(detail);
    if !agree(&opened.entries()?, entries) {
        return Err(corrupt("the table of contents says something else than the block"));
    }
    if !is_deep {
        return Ok(());
    }
    let content = opened.decode()?;
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Full) {
        let chunk = entry.location.slice(&content).ok_or_else(|| corrupt("too short"))?;
        if keys.chunk_id(&chunk).0 != entry.id {
            return Err(corrupt("a chunk is not what it is named after"));
        }
    }
    Ok(())
}

/// Finds the blocks in the bytes of a pack, whatever became of its table of contents and of other
/// blocks: where one is damaged, the next is found by its magic. Needs no key; the seal of what is
/// found is still to be checked.
pub fn scan_blocks(object: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = HEADER_BYTES;
    while let Some(rest) = object.get(at..).filter(|rest| rest.len() > BLOCK_HEADER_BYTES) {
        let length = BlockHeader::parse(rest)
            .map(|header| BLOCK_HEADER_BYTES + header.sealed_length)
            .filter(|length| *length <= rest.len());
        if let Some(length) = length {
            found.push(at..at + length);
        }
        at += length.unwrap_or(1);
    }
    found
}

/// Makes a table of contents from the blocks that are still intact. A delta or a node has its stated
/// id, a full chunk the one that is computed from its bytes.
///
/// # Errors
/// `WrongKey` where no block can be opened because of its key epoch.
pub fn salvage(
    object: &Bytes,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    name: PackName,
) -> Result<Vec<PackEntry>> {
    let cipher = BlockCipher::new(kind, repository, keys);
    let mut entries = Vec::new();
    for range in scan_blocks(object) {
        let (offset, length) = (range.start as u32, range.len() as u32);
        let opened = match cipher.open(BytesMut::from(&object.slice(range)[..])) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::WrongKey => return Err(error),
            Err(_) => continue,
        };
        let (Ok(stated), Ok(content)) = (opened.entries(), opened.decode()) else { continue };
        for entry in stated {
            let location = Location {
                pack: name,
                block_offset: offset,
                block_length: length,
                offset_in_block: entry.offset,
                length: entry.length,
            };
            let id = match (entry.kind, location.slice(&content)) {
                (EntryKind::Full, Some(chunk)) => keys.chunk_id(&chunk).0,
                _ => entry.id,
            };
            entries.push(PackEntry { id, kind: entry.kind, location, bases: entry.bases });
        }
    }
    Ok(entries)
}
