//! Checking sound packs in little memory: piece by piece, each block opened, decoded and named anew
//! while it is still in the processor's caches.
//!
//! This only says that all is well. Where anything is not, the pack is read whole, and
//! [`check_pack_deep`](super::check_pack_deep) says what is wrong with it and
//! [`salvage`](super::salvage) what can still be used.

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;

use super::block::BlockCipher;
use super::check::{agree, check_head};
use super::contents::{FOOTER_BYTES, Footer, Table, TableCipher};
use super::{EntryKind, HEADER_BYTES, PACK_BYTES_MAX, PackEntry, pack_path};
use crate::crypto::DomainKeys;
use crate::types::{PackKind, PackName, RepositoryId};

/// What is read and hashed at once. A power of two, so that the tree of hashes has no ragged edges.
const PIECE_BYTES: usize = 512 << 10;
/// How much is in memory of packs whose blocks are no longer than that.
const WINDOW_BYTES: usize = 2 << 20;

/// Memory that was used for one pack and can be used for the next.
pub(crate) struct Scratch {
    window: Vec<u8>,
    /// What was decoded last.
    decoded: Vec<u8>,
}

impl Scratch {
    /// Begins with none.
    pub(crate) fn new() -> Self {
        Self { window: Vec::new(), decoded: Vec::new() }
    }
}

/// A pack of content in which all is well.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// Whose keys opened it, as a number among those that were given.
    pub(crate) domain: usize,
    /// What is in it.
    pub(crate) entries: Vec<PackEntry>,
    /// The deltas, which need bytes of other packs to be decoded: their entries and their bytes.
    pub(crate) deltas: Vec<(PackEntry, Bytes)>,
}

/// Checks a whole pack of content as [`check_pack_deep`](super::check_pack_deep) does, under the keys
/// of each of some domains; none where it is not sound, where something else than content is in it, or
/// where it cannot be read. `length` is that of the whole source.
pub(crate) fn check_pack_streamed(
    source: &mut (impl Read + Seek),
    length: usize,
    repository: RepositoryId,
    domains: &[DomainKeys],
    name: PackName,
    scratch: &mut Scratch,
) -> Option<Streamed> {
    const KIND: PackKind = PackKind::Data;
    if !(HEADER_BYTES + FOOTER_BYTES..=PACK_BYTES_MAX).contains(&length) {
        return None;
    }
    let tail = read_tail(source, length)?;
    let footer = Footer::parse(&tail, length)?;
    let sealed = tail.get(..footer.length as usize)?;
    let (domain, Table { blocks, entries }) =
        domains.iter().enumerate().find_map(|(number, keys)| {
            let table = TableCipher { kind: KIND, repository, keys }.open(&footer, sealed, name);
            table.ok().map(|table| (number, table))
        })?;
    let keys = domains.get(domain)?;
    let cipher = BlockCipher::new(KIND, repository, keys);

    let mut window = Window::new(source, footer.offset as usize, &mut scratch.window)?;
    let head = Bytes::copy_from_slice(window.take(HEADER_BYTES)?);
    check_head(&head, KIND, &pack_path(KIND, name)).ok()?;
    if !footer.belongs_to(&head) {
        return None;
    }
    let mut deltas = Vec::new();
    let mut rest = &entries[..];
    for (offset, length) in blocks {
        let count = rest.iter().take_while(|entry| entry.location.block_offset == offset).count();
        let (mine, others) = rest.split_at(count);
        rest = others;
        let opened = cipher.open_in(window.take(length as usize)?).ok()?;
        if !agree(&opened.entries()?, mine) {
            return None;
        }
        let content = opened.decode(&mut scratch.decoded)?;
        check_content(content, mine, keys, &mut deltas)?;
    }
    let is_sound = rest.is_empty() && window.finish(&tail)? == name.0;
    is_sound.then_some(Streamed { domain, entries, deltas })
}

/// Names the chunks of a block anew and takes the deltas out.
fn check_content(
    content: &[u8],
    entries: &[PackEntry],
    keys: &DomainKeys,
    deltas: &mut Vec<(PackEntry, Bytes)>,
) -> Option<()> {
    // Entries cover their block: each ends where the next begins.
    let starts = entries.iter().skip(1).map(|entry| entry.location.offset_in_block as usize);
    for (entry, end) in entries.iter().zip(starts.chain([content.len()])) {
        let start = entry.location.offset_in_block as usize;
        let bytes = content.get(start..end)?;
        match entry.kind {
            EntryKind::Full => {
                let is_whole = bytes.len() == entry.location.length as usize;
                (is_whole && keys.chunk_id(bytes).0 == entry.id).then_some(())?;
            }
            EntryKind::Delta => deltas.push((entry.clone(), Bytes::copy_from_slice(bytes))),
            EntryKind::Node => return None,
        }
    }
    Some(())
}

/// Reads table of contents and footer.
fn read_tail(source: &mut (impl Read + Seek), length: usize) -> Option<Vec<u8>> {
    let mut footer = [0; FOOTER_BYTES];
    source.seek(SeekFrom::Start((length - FOOTER_BYTES) as u64)).ok()?;
    source.read_exact(&mut footer).ok()?;
    let starts_at = Footer::parse(&footer, length)?.offset;
    let mut tail = vec![0; length.checked_sub(starts_at as usize)?];
    source.seek(SeekFrom::Start(starts_at.into())).ok()?;
    source.read_exact(&mut tail).ok()?;
    Some(tail)
}

/// The part of a pack that is in memory. Whatever is read is hashed at once: it may be decrypted in
/// place afterwards.
struct Window<'w, S> {
    source: &'w mut S,
    hasher: blake3::Hasher,
    bytes: &'w mut Vec<u8>,
    /// What was read and not taken yet.
    start: usize,
    end: usize,
    /// What was not read yet.
    left: usize,
}

impl<'w, S: Read + Seek> Window<'w, S> {
    /// Begins at the beginning of the source, to end after so many bytes.
    fn new(source: &'w mut S, length: usize, bytes: &'w mut Vec<u8>) -> Option<Self> {
        source.seek(SeekFrom::Start(0)).ok()?;
        Some(Self { source, hasher: blake3::Hasher::new(), bytes, start: 0, end: 0, left: length })
    }

    /// Takes the next bytes.
    fn take(&mut self, length: usize) -> Option<&mut [u8]> {
        while self.end - self.start < length {
            self.read(length)?;
        }
        let taken = self.start..self.start + length;
        self.start = taken.end;
        self.bytes.get_mut(taken)
    }

    /// Reads one more piece of what is to be taken at once.
    fn read(&mut self, wanted: usize) -> Option<()> {
        let count = self.left.min(PIECE_BYTES);
        if count == 0 {
            return None;
        }
        if self.end + count > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            // The last piece of what is wanted may reach beyond it.
            let room = WINDOW_BYTES.max(wanted.checked_add(PIECE_BYTES)?);
            if self.bytes.len() < room {
                self.bytes.resize(room, 0);
            }
        }
        let piece = self.bytes.get_mut(self.end..self.end + count)?;
        self.source.read_exact(piece).ok()?;
        self.hasher.update(piece);
        self.end += count;
        self.left -= count;
        Some(())
    }

    /// Returns the hash of all and of what follows it, where all was taken.
    fn finish(mut self, tail: &[u8]) -> Option<[u8; 32]> {
        (self.left == 0 && self.start == self.end)
            .then(|| *self.hasher.update(tail).finalize().as_bytes())
    }
}
