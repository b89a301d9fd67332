//! What the bytes of one pack are. Computes and reads local files; called where that may be.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use crate::crypto::DomainKeys;
use crate::pack::{
    BlockCipher, EntryKind, PackEntry, Scratch, Streamed, check_pack_deep, check_pack_streamed,
    salvage,
};
use crate::tree::split_parts;
use crate::types::{ChunkId, Location, PackKind, PackName, RepositoryId};

/// What the bytes of a pack turned out to be.
pub(super) enum Examined {
    /// All is well; these deltas are still to be decoded.
    Sound { domain: usize, entries: Vec<PackEntry>, deltas: Vec<Delta> },
    /// It is damaged, and these ids are still there.
    Damaged { error: Error, intact: HashSet<[u8; 32]> },
    /// Its bytes are what they are named after, but no domain at hand opens it.
    Foreign(Error),
}

/// A chunk that is stored as a delta.
pub(super) struct Delta {
    pub(super) id: [u8; 32],
    pub(super) length: u32,
    pub(super) bases: Vec<ChunkId>,
    pub(super) bytes: Bytes,
}

/// Examines packs under the keys of all domains. Cheap to clone.
#[derive(Clone)]
pub(super) struct Examiner(Arc<Inner>);

struct Inner {
    repository: RepositoryId,
    domains: Vec<DomainKeys>,
    /// As many as packs were examined at the same time.
    scratch: Mutex<Vec<Scratch>>,
}

impl Examiner {
    pub(super) fn new(repository: RepositoryId, domains: Vec<DomainKeys>) -> Self {
        Self(Arc::new(Inner { repository, domains, scratch: Mutex::default() }))
    }

    /// Examines a pack of content in a local file, without holding all of it; none where it is not
    /// sound or cannot be read.
    pub(super) fn file(&self, file: &mut File, length: u64, name: PackName) -> Option<Examined> {
        self.streamed(file, usize::try_from(length).ok()?, name)
    }

    /// Examines a pack that was read.
    pub(super) fn bytes(&self, object: &Bytes, kind: PackKind, name: PackName) -> Examined {
        let streamed = (kind == PackKind::Data)
            .then(|| self.streamed(&mut Cursor::new(object), object.len(), name));
        streamed.flatten().unwrap_or_else(|| {
            let Inner { repository, domains, .. } = &*self.0;
            examine(object, *repository, domains, kind, name)
        })
    }

    fn streamed(
        &self,
        source: &mut (impl Read + Seek),
        length: usize,
        name: PackName,
    ) -> Option<Examined> {
        let Inner { repository, domains, scratch } = &*self.0;
        let kept = scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut used = kept.unwrap_or_else(Scratch::new);
        let streamed = check_pack_streamed(source, length, *repository, domains, name, &mut used);
        scratch.lock().unwrap_or_else(PoisonError::into_inner).push(used);
        let Streamed { domain, entries, deltas } = streamed?;
        let deltas = deltas.into_iter().map(|(entry, bytes)| Delta {
            id: entry.id,
            length: entry.location.length,
            bases: entry.bases,
            bytes,
        });
        Some(Examined::Sound { domain, entries, deltas: deltas.collect() })
    }
}

/// Checks the bytes of a pack under the keys of all domains, and says what is wrong with them.
fn examine(
    object: &Bytes,
    repository: RepositoryId,
    domains: &[DomainKeys],
    kind: PackKind,
    name: PackName,
) -> Examined {
    let mut first_error = None;
    for (number, keys) in domains.iter().enumerate() {
        let checked = check_pack_deep(object, repository, keys, kind, name).and_then(|entries| {
            let deltas = look_inside(object, repository, keys, kind, &entries)?;
            Ok((entries, deltas))
        });
        match checked {
            Ok((entries, deltas)) => {
                return Examined::Sound { domain: number, entries, deltas };
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let error = first_error
        .unwrap_or_else(|| Error::new(ErrorKind::Internal, "check pack", name.to_string()));
    let mut intact = HashSet::new();
    for keys in domains {
        let found = salvage(object, repository, keys, kind, name).unwrap_or_default();
        intact.extend(found.into_iter().map(|entry| entry.id));
    }
    let is_as_named = *blake3::hash(object).as_bytes() == name.0;
    if is_as_named && intact.is_empty() {
        return Examined::Foreign(error);
    }
    Examined::Damaged { error, intact }
}

/// Checks the ids of nodes, and takes out the deltas, which need bytes of other packs.
fn look_inside(
    object: &Bytes,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    entries: &[PackEntry],
) -> Result<Vec<Delta>> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "check block", "");
    let cipher = BlockCipher::new(kind, repository, keys);
    let mut block = (u32::MAX, Bytes::new());
    let mut deltas = Vec::new();
    let ends = entries.iter().skip(1).map(Some).chain([None]);
    for (entry, next) in entries.iter().zip(ends) {
        if entry.kind == EntryKind::Full {
            continue;
        }
        let Location { block_offset, block_length, offset_in_block, .. } = entry.location;
        if block.0 != block_offset {
            let (start, length) = (block_offset as usize, block_length as usize);
            let bytes = object.get(start..start + length).map(Bytes::copy_from_slice);
            block = (block_offset, cipher.decode(bytes.ok_or_else(corrupt)?)?);
        }
        // Entries cover their block: each ends where the next begins.
        let start = offset_in_block as usize;
        let end = next
            .filter(|next| next.location.block_offset == block_offset)
            .map_or(block.1.len(), |next| next.location.offset_in_block as usize);
        let bytes = block.1.get(start..end).map(|_| block.1.slice(start..end));
        let bytes = bytes.ok_or_else(|| corrupt().detail("an entry lies outside its block"))?;
        if entry.kind == EntryKind::Delta {
            let Location { length, .. } = entry.location;
            deltas.push(Delta { id: entry.id, length, bases: entry.bases.clone(), bytes });
        } else if split_parts(&bytes).map(|(logical, _)| keys.node_id(&logical).0) != Some(entry.id)
        {
            return Err(corrupt().detail("a tree node is not what it is named after"));
        }
    }
    Ok(deltas)
}
