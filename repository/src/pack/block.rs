//! Blocks: what is compressed and sealed together.
//!
//! `"BLK1" | key epoch u16 | flags u16 | sealed length u32 | siv 32 | check 4 | ciphertext | tag 16`.
//! All that says something about the content stands under the seal:
//! `method u8 | length u32 | directory length u32 | directory | body`. The directory says where the
//! block's entries lie, so that a table of contents can be made again from blocks alone.

use bytes::{Bytes, BytesMut};
use model::{Error, ErrorKind, Result};

use super::compress::{self, Compressor, LEVEL_FAST};
use super::{BlockEntry, EntryKind, SealedBlock};
use crate::crypto::{DomainKeys, Sealer, Siv, TAG_BYTES};
use crate::tree::NODE_BYTES_MAX;
use crate::tree::codec::{Input, put_number};
use crate::types::{ChunkId, DELTA_BASES_MAX, PackKind, RepositoryId};

/// The most bytes that a block of content decodes to. One of nodes may be as long as a node.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;
/// The most entries that a block has.
pub const BLOCK_ENTRIES_MAX: usize = 16 << 10;
/// The most bytes that a block of content takes in its pack.
pub const SEALED_BLOCK_BYTES_MAX: usize = BLOCK_BYTES_MAX + AROUND_BYTES_MAX;
/// The most bytes that a block of nodes takes in its pack.
pub(crate) const SEALED_NODE_BYTES_MAX: usize = NODE_BYTES_MAX + AROUND_BYTES_MAX;
/// How long what stands before a block's ciphertext is.
pub const BLOCK_HEADER_BYTES: usize = BOUND_BYTES + 32 + CHECK_BYTES;

/// What header, directory and tag of a block take at the most.
const AROUND_BYTES_MAX: usize = 4 << 20;
const MAGIC: [u8; 4] = *b"BLK1";
/// The part of the header that the ciphertext is bound to.
const BOUND_BYTES: usize = 12;
const CHECK_BYTES: usize = 4;
/// What stands under the seal before the directory.
const INNER_BYTES: usize = 9;
const METHOD_STORED: u8 = 0;
const METHOD_ZSTD: u8 = 1;

/// Returns the most bytes that a block of such a pack decodes to.
pub(super) fn block_bytes_max(kind: PackKind) -> usize {
    match kind {
        PackKind::Data => BLOCK_BYTES_MAX,
        PackKind::Meta => NODE_BYTES_MAX,
    }
}

/// Returns the most bytes that a block takes in such a pack.
pub(super) fn sealed_bytes_max(kind: PackKind) -> usize {
    match kind {
        PackKind::Data => SEALED_BLOCK_BYTES_MAX,
        PackKind::Meta => SEALED_NODE_BYTES_MAX,
    }
}

/// Seals and opens the blocks of one kind of pack. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlockCipher {
    repository: RepositoryId,
    kind: PackKind,
    keys: DomainKeys,
}

/// The header of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockHeader {
    epoch: u16,
    siv: [u8; 32],
    /// Of ciphertext and tag.
    pub(super) sealed_length: usize,
}

impl BlockHeader {
    /// Reads a header; none where there is none, or a damaged one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (bound, rest) = bytes.split_first_chunk::<BOUND_BYTES>()?;
        let (siv, rest) = rest.split_first_chunk::<32>()?;
        let check = rest.first_chunk::<CHECK_BYTES>()?;
        let [m0, m1, m2, m3, e0, e1, f0, f1, l0, l1, l2, l3] = *bound;
        let sealed_length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let is_sound = [m0, m1, m2, m3] == MAGIC
            && [f0, f1] == [0, 0]
            && *check == header_check(bound, siv)
            && (INNER_BYTES + TAG_BYTES..=SEALED_NODE_BYTES_MAX - BLOCK_HEADER_BYTES)
                .contains(&sealed_length);
        is_sound.then_some(Self { epoch: u16::from_le_bytes([e0, e1]), siv: *siv, sealed_length })
    }

    fn bound(epoch: u16, sealed_length: u32) -> [u8; BOUND_BYTES] {
        let ([m0, m1, m2, m3], [e0, e1]) = (MAGIC, epoch.to_le_bytes());
        let [l0, l1, l2, l3] = sealed_length.to_le_bytes();
        [m0, m1, m2, m3, e0, e1, 0, 0, l0, l1, l2, l3]
    }
}

/// Tells a header from bytes that happen to begin like one, without a key.
fn header_check(bound: &[u8; BOUND_BYTES], siv: &[u8; 32]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bound).update(siv);
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

/// A block that was opened and not yet decompressed.
#[derive(Debug)]
pub(crate) struct Opened {
    method: u8,
    length: usize,
    directory: Bytes,
    body: Bytes,
}

impl Opened {
    /// Says whether what it decodes to is a part of the memory that it was opened in.
    pub(crate) fn is_stored(&self) -> bool {
        self.method == METHOD_STORED
    }

    /// Returns how long what is in the block is to be; no longer than blocks may be.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Decompresses what is in the block into an empty buffer with room for its length.
    pub(crate) fn decode_into(&self, buffer: &mut Vec<u8>) -> Result<()> {
        let is_decoded = match self.method {
            METHOD_STORED => {
                buffer.extend_from_slice(&self.body);
                true
            }
            METHOD_ZSTD => compress::decompress_into(buffer, &self.body),
            _ => false,
        };
        let is_decoded = is_decoded && buffer.len() == self.length;
        is_decoded.then_some(()).ok_or_else(undecodable)
    }

    /// Decompresses what is in the block.
    pub(crate) fn decode(self) -> Result<Bytes> {
        let decoded = match self.method {
            METHOD_STORED if self.body.len() == self.length => Some(self.body),
            METHOD_ZSTD => compress::decompress(&self.body, self.length).map(Bytes::from),
            _ => None,
        };
        decoded.ok_or_else(undecodable)
    }

    /// Returns what is where in the block; ids of full chunks are not stated but follow from them.
    pub(super) fn entries(&self) -> Result<Vec<BlockEntry>> {
        decode_directory(&self.directory, self.length)
            .ok_or_else(|| corrupt("its directory makes no sense"))
    }
}

/// As [`Opened`], in memory that is somebody else's.
#[derive(Debug)]
pub(super) struct OpenedIn<'b> {
    method: u8,
    length: usize,
    directory: &'b [u8],
    body: &'b [u8],
}

impl<'b> OpenedIn<'b> {
    /// As [`Opened::decode`]; what has to be decompressed takes the memory of `output`.
    pub(super) fn decode<'o: 'b>(&self, output: &'o mut Vec<u8>) -> Option<&'b [u8]> {
        let content = match self.method {
            METHOD_STORED => self.body,
            METHOD_ZSTD => {
                output.clear();
                output.reserve(self.length);
                compress::decompress_into(output, self.body).then_some(&output[..])?
            }
            _ => return None,
        };
        (content.len() == self.length).then_some(content)
    }

    /// As [`Opened::entries`].
    pub(super) fn entries(&self) -> Option<Vec<BlockEntry>> {
        decode_directory(&Bytes::copy_from_slice(self.directory), self.length)
    }
}

impl BlockCipher {
    /// Makes the cipher of a kind of packs of one domain.
    pub fn new(kind: PackKind, repository: RepositoryId, keys: &DomainKeys) -> Self {
        Self { repository, kind, keys: keys.clone() }
    }

    fn sealer(&self) -> &Sealer {
        match self.kind {
            PackKind::Data => self.keys.data(),
            PackKind::Meta => self.keys.manifest(),
        }
    }

    /// Compresses and seals. Entries lie one after another and cover `plaintext`.
    pub(crate) fn seal(
        &self,
        compressor: &mut Compressor,
        level: i32,
        salt: &[u8; 32],
        plaintext: &[u8],
        entries: Vec<BlockEntry>,
    ) -> Result<SealedBlock> {
        let fault = |detail| Error::new(ErrorKind::Internal, "seal block", "").detail(detail);
        if plaintext.len() > block_bytes_max(self.kind) || entries.len() > BLOCK_ENTRIES_MAX {
            return Err(fault("it is larger than blocks may be"));
        }
        let directory = encode_directory(&entries, plaintext.len());
        let directory = directory.ok_or_else(|| fault("its entries do not cover it"))?;
        let (method, body) = match compressor.compress(level, plaintext)? {
            Some(shorter) => (METHOD_ZSTD, shorter),
            None => (METHOD_STORED, plaintext),
        };
        let bytes = self.seal_inner(salt, method, plaintext.len() as u32, &directory, body)?;
        Ok(SealedBlock { bytes, entries })
    }

    /// Seals what a block states about itself, and its body.
    pub(super) fn seal_inner(
        &self,
        salt: &[u8; 32],
        method: u8,
        length: u32,
        directory: &[u8],
        body: &[u8],
    ) -> Result<Vec<u8>> {
        let fault = || {
            Error::new(ErrorKind::Internal, "seal block", "")
                .detail("it is larger than blocks may be")
        };
        let sealed_length = INNER_BYTES + directory.len() + body.len() + TAG_BYTES;
        if BLOCK_HEADER_BYTES + sealed_length > sealed_bytes_max(self.kind) {
            return Err(fault());
        }
        let bound = BlockHeader::bound(self.sealer().epoch(), sealed_length as u32);
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES + sealed_length);
        bytes.extend_from_slice(&bound);
        bytes.resize(BLOCK_HEADER_BYTES, 0);
        bytes.push(method);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(directory);
        bytes.extend_from_slice(body);
        let siv = self.sealer().seal(&self.aad(&bound), salt, &mut bytes, BLOCK_HEADER_BYTES)?;
        let tail = [&siv.0[..], &header_check(&bound, &siv.0)].concat();
        bytes.get_mut(BOUND_BYTES..BLOCK_HEADER_BYTES).ok_or_else(fault)?.copy_from_slice(&tail);
        Ok(bytes)
    }

    /// Opens a block, which has to end where `block` does, in its own memory.
    ///
    /// # Errors
    /// `Corrupt`; `WrongKey` where it is of a key epoch that is not at hand.
    pub(crate) fn open(&self, mut block: BytesMut) -> Result<Opened> {
        let length = self.unseal(&mut block)?.len();
        let mut text = block.split_off(BLOCK_HEADER_BYTES);
        text.truncate(length);
        split_inner(text.freeze(), block_bytes_max(self.kind))
            .ok_or_else(|| corrupt("its inner lengths make no sense"))
    }

    /// As [`BlockCipher::open`], for a block that is a part of something larger.
    pub(super) fn open_in<'b>(&self, block: &'b mut [u8]) -> Result<OpenedIn<'b>> {
        let text: &[u8] = self.unseal(block)?;
        let inner = parse_inner(text, block_bytes_max(self.kind));
        let opened = inner.and_then(|(method, length, body_at)| {
            let (head, body) = text.split_at_checked(body_at)?;
            Some(OpenedIn { method, length, directory: head.get(INNER_BYTES..)?, body })
        });
        opened.ok_or_else(|| corrupt("its inner lengths make no sense"))
    }

    /// Decrypts a block in place; returns what stood under the seal.
    fn unseal<'b>(&self, block: &'b mut [u8]) -> Result<&'b mut [u8]> {
        let header =
            BlockHeader::parse(block).ok_or_else(|| corrupt("there is no block in this place"))?;
        let sealed = block
            .get_mut(BLOCK_HEADER_BYTES..)
            .filter(|sealed| sealed.len() == header.sealed_length)
            .ok_or_else(|| corrupt("it has another length than its place says"))?;
        let bound = BlockHeader::bound(header.epoch, header.sealed_length as u32);
        self.sealer()
            .open(header.epoch, &self.aad(&bound), &Siv(header.siv), sealed)
            .map_err(|error| Error::new(error.kind(), "open block", "").because(error))
    }

    /// Opens and decompresses a block. Uses its memory where nobody else does.
    ///
    /// # Errors
    /// `Corrupt`; `WrongKey` where it is of a key epoch that is not at hand.
    pub fn decode(&self, block: Bytes) -> Result<Bytes> {
        let block = block.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        self.open(block)?.decode()
    }

    fn aad(&self, bound: &[u8; BOUND_BYTES]) -> [u8; 16 + BOUND_BYTES] {
        let mut aad = [0; 16 + BOUND_BYTES];
        let (repository, header) = aad.split_at_mut(16);
        repository.copy_from_slice(&self.repository.0);
        header.copy_from_slice(bound);
        aad
    }
}

/// Compresses and seals one block (tree nodes; content goes through a `ContentWriter`). Entries lie
/// one after another and cover `plaintext`.
///
/// # Errors
/// `Internal` where it is larger than blocks may be.
pub fn seal_block(
    cipher: &BlockCipher,
    salt: &[u8; 32],
    plaintext: &[u8],
    entries: Vec<BlockEntry>,
) -> Result<SealedBlock> {
    cipher.seal(&mut Compressor::new(), LEVEL_FAST, salt, plaintext, entries)
}

fn split_inner(mut text: Bytes, bytes_max: usize) -> Option<Opened> {
    let (method, length, body_at) = parse_inner(&text, bytes_max)?;
    let body = text.split_off(body_at);
    Some(Opened { method, length, directory: text.slice(INNER_BYTES..), body })
}

/// Reads what stands before the directory: the method, the decoded length, where the body begins.
fn parse_inner(text: &[u8], bytes_max: usize) -> Option<(u8, usize, usize)> {
    let &[method, a, b, c, d, e, f, g, h] = text.first_chunk::<INNER_BYTES>()?;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let directory_length = u32::from_le_bytes([e, f, g, h]) as usize;
    let body_at = INNER_BYTES.checked_add(directory_length)?;
    (length <= bytes_max && body_at <= text.len()).then_some((method, length, body_at))
}

/// `count`, then per entry `kind u8 | stored length` and for what is not a full chunk `id 32`, for a
/// delta also `decoded length | number of bases | their ids`.
fn encode_directory(entries: &[BlockEntry], length: usize) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(8 + 4 * entries.len());
    put_number(&mut output, entries.len() as u64);
    let ends = entries.iter().skip(1).map(|entry| entry.offset as usize).chain([length]);
    let mut at = 0;
    for (entry, end) in entries.iter().zip(ends) {
        let stored = end.checked_sub(at).filter(|_| entry.offset as usize == at)?;
        output.push(entry.kind as u8);
        put_number(&mut output, stored as u64);
        if entry.kind != EntryKind::Delta && entry.length as usize != stored {
            return None;
        }
        if entry.kind != EntryKind::Full {
            output.extend_from_slice(&entry.id);
        }
        if entry.kind == EntryKind::Delta {
            put_number(&mut output, entry.length.into());
            put_number(&mut output, entry.bases.len() as u64);
            output.extend(entry.bases.iter().flat_map(|base| base.0));
        }
        at = end;
    }
    (at == length).then_some(output)
}

fn decode_directory(directory: &Bytes, length: usize) -> Option<Vec<BlockEntry>> {
    let mut input = Input::new(directory);
    let count = input.length().filter(|count| *count <= BLOCK_ENTRIES_MAX)?;
    let mut entries = Vec::with_capacity(count.min(directory.len()));
    let mut at = 0_usize;
    for _ in 0..count {
        let kind = EntryKind::from_number(input.byte()?)?;
        let stored = input.length()?;
        let mut entry =
            BlockEntry { id: [0; 32], kind, offset: at as u32, length: 0, bases: Vec::new() };
        entry.length = stored.try_into().ok()?;
        if kind != EntryKind::Full {
            entry.id = input.array()?;
        }
        if kind == EntryKind::Delta {
            entry.length = input.number()?.try_into().ok()?;
            let bases = input.length().filter(|bases| (1..=DELTA_BASES_MAX).contains(bases))?;
            entry.bases = (0..bases).map(|_| input.array().map(ChunkId)).collect::<Option<_>>()?;
        }
        at = at.checked_add(stored).filter(|at| *at <= length)?;
        entries.push(entry);
    }
    (input.is_empty() && at == length).then_some(entries)
}

fn undecodable() -> Error {
    corrupt("it does not decompress to its stated length")
}

fn corrupt(detail: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "open block", "").detail(detail)
}
