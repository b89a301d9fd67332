//! Step `repack`: what is needed of packs that are mostly garbage is copied into new ones.
//!
//! A session of the collector's own does it, announced like any other. It commits nothing: what it
//! stores are further copies of what is there, under the same ids, and the next look at everything finds
//! the old packs superfluous. Blocks are opened and checked; one that is needed as a whole is copied as
//! it stands, of others what is needed is sealed anew.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

use super::places::{DomainIndex, PackInfo, Places};
use super::report::Amount;
use super::roots::LiveTree;
use crate::Repository;
use crate::crypto::DomainKeys;
use crate::index::segment::{Entry, Prefix, RECORDS_TARGET, prefix};
use crate::index::{directory, write_segment};
use crate::pack::{
    BlockCipher, BlockEntry, EntryKind, PackBuilder, PackEntry, SealedBlock, pack_path,
    read_contents, seal_block,
};
use crate::session::{Session, SessionOptions};
use crate::tree::split_parts;
use crate::types::{PackKind, PackName};

/// New packs have about this size.
const PACK_BYTES: usize = 32 << 20;
/// What a collector's session calls itself.
const WHO: &str = "collector";

/// What is needed of a pack, by number of the pack.
pub(super) type Stranded = HashMap<u32, HashSet<Prefix>>;

/// Copies; returns what was rewritten, and into how much.
pub(super) async fn repack(
    repository: &Repository,
    places: &Places,
    stranded: &Stranded,
    trees: &[LiveTree],
    context: &Context,
) -> Result<(Amount, Amount)> {
    let (mut from, mut into) = (Amount::default(), Amount::default());
    for domain in &places.domains {
        let named = named(domain)?;
        let packs: Vec<_> = places.known.packs.all.iter().zip(0_u32..).collect();
        let mut victims: Vec<(&PackInfo, &HashSet<Prefix>)> = packs
            .into_iter()
            .filter(|(pack, _)| named.contains(&pack.name))
            .filter_map(|(pack, number)| Some((pack, stranded.get(&number)?)))
            .collect();
        victims.sort_by_key(|(pack, _)| (pack.kind, pack.created, pack.name));
        let is_ours = |tree: &&LiveTree| {
            repository
                .domain(&tree.domain)
                .is_ok_and(|keys| directory(&keys) == directory(&domain.keys))
        };
        let Some(tree) = trees.iter().rev().find(is_ours).filter(|_| !victims.is_empty()) else {
            continue;
        };
        let options = SessionOptions {
            kind: WHO.to_owned(),
            domain: tree.domain.clone(),
            host: WHO.to_owned(),
            ignore_parent: true,
        };
        let session = Session::begin(repository, &tree.id.stream, options, context).await?;
        let copied = Copier::new(repository, &domain.keys, &session, context).run(&victims).await;
        // Closed in any case: it has nothing to commit.
        let stem = session.abandon().await;
        let (rewritten, written) = copied?;
        stem?;
        from.packs += rewritten.packs;
        from.bytes += rewritten.bytes;
        into.packs += written.packs;
        into.bytes += written.bytes;
    }
    Ok((from, into))
}

fn named(domain: &DomainIndex) -> Result<HashSet<PackName>> {
    let mut named = HashSet::new();
    for segment in &domain.segments {
        named.extend(segment.packs()?.into_iter().map(|(_, pack)| pack));
    }
    Ok(named)
}

struct Copier<'c> {
    repository: &'c Repository,
    keys: &'c DomainKeys,
    context: &'c Context,
    salt: [u8; 32],
    stem: String,
    open: Option<(PackKind, PackBuilder)>,
    entries: Vec<Entry>,
    segments: u32,
    written: Amount,
}

impl<'c> Copier<'c> {
    fn new(
        repository: &'c Repository,
        keys: &'c DomainKeys,
        session: &Session,
        context: &'c Context,
    ) -> Self {
        let mut salt = [0; 32];
        context.entropy.fill(&mut salt);
        Self {
            repository,
            keys,
            context,
            salt,
            stem: format!("{}/{}", directory(keys), session.id().path()),
            open: None,
            entries: Vec::new(),
            segments: 0,
            written: Amount::default(),
        }
    }

    async fn run(mut self, victims: &[(&PackInfo, &HashSet<Prefix>)]) -> Result<(Amount, Amount)> {
        let mut rewritten = Amount::default();
        for (pack, needed) in victims {
            self.context.check("rewrite packs")?;
            match self.pack(pack, needed).await {
                Ok(()) => rewritten.add(pack.size_bytes),
                // Left as it is, for whoever repairs it.
                Err(error) if crate::point::is_damage(&error) => {
                    self.context.monitor.problem(&error);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.close().await?;
        self.index(true).await?;
        Ok((rewritten, self.written))
    }

    async fn pack(&mut self, pack: &PackInfo, needed: &HashSet<Prefix>) -> Result<()> {
        let store = self.repository.store();
        let id = self.repository.id();
        let entries = read_contents(store, id, self.keys, pack.kind, pack.name).await?;
        let path = pack_path(pack.kind, pack.name);
        let blocks: Vec<Vec<PackEntry>> = entries
            .chunk_by(|a, b| a.location.block_offset == b.location.block_offset)
            .map(<[PackEntry]>::to_vec)
            .filter(|block| block.iter().any(|entry| needed.contains(&prefix(&entry.id))))
            .collect();
        for block in blocks {
            self.context.check("rewrite packs")?;
            let Some(first) = block.first() else { continue };
            let start = u64::from(first.location.block_offset);
            let range = start..start + u64::from(first.location.block_length);
            let bytes = store.get_range(&path, range).await?;
            let (keys, needed) = (self.keys.clone(), needed.clone());
            let cipher = BlockCipher::new(pack.kind, id, &keys);
            let salt = self.salt;
            let sealed = tokio::task::spawn_blocking(move || {
                copy(&cipher, &keys, &salt, bytes, &block, &needed)
            });
            let sealed = sealed.await.map_err(|error| {
                Error::new(ErrorKind::Internal, "rewrite packs", "").because(error)
            })??;
            self.push(pack.kind, sealed).await?;
        }
        Ok(())
    }

    async fn push(&mut self, kind: PackKind, block: SealedBlock) -> Result<()> {
        let is_other = |(open, builder): &(PackKind, PackBuilder)| {
            *open != kind || builder.len_bytes() + block.bytes.len() > PACK_BYTES
        };
        if self.open.as_ref().is_some_and(is_other) {
            self.close().await?;
        }
        let (repository, entropy) = (self.repository, &*self.context.entropy);
        let begin = || {
            let builder = PackBuilder::new(kind, repository.id(), self.keys, entropy);
            (kind, builder.with_parity(repository.has_parity()))
        };
        let (_, builder) = self.open.get_or_insert_with(begin);
        builder.push(block)?;
        if builder.is_full(PACK_BYTES) { self.close().await } else { Ok(()) }
    }

    /// Stores the pack that is open.
    async fn close(&mut self) -> Result<()> {
        let Some((kind, builder)) = self.open.take() else { return Ok(()) };
        let pack =
            tokio::task::spawn_blocking(move || builder.finish()).await.map_err(|error| {
                Error::new(ErrorKind::Internal, "rewrite packs", "").because(error)
            })??;
        self.written.add(pack.object.len() as u64);
        self.repository.store().create(&pack_path(kind, pack.name), pack.object).await?;
        self.entries.extend(pack.entries.iter().map(Entry::new));
        self.index(false).await
    }

    /// Names in the index what is stored.
    async fn index(&mut self, is_end: bool) -> Result<()> {
        while self.entries.len() >= RECORDS_TARGET || is_end && !self.entries.is_empty() {
            let count = self.entries.len().min(RECORDS_TARGET);
            let rest = self.entries.split_off(count);
            let entries = std::mem::replace(&mut self.entries, rest);
            let path = format!("{}-{:04x}", self.stem, self.segments);
            write_segment(self.repository, &path, entries).await?;
            self.segments += 1;
        }
        Ok(())
    }
}

/// Opens and checks a block; gives it back as it is, or with what is needed only.
fn copy(
    cipher: &BlockCipher,
    keys: &DomainKeys,
    salt: &[u8; 32],
    bytes: Bytes,
    entries: &[PackEntry],
    needed: &HashSet<Prefix>,
) -> Result<SealedBlock> {
    let corrupt = || {
        Error::new(ErrorKind::Corrupt, "rewrite block", "")
            .detail("it does not hold what its pack's table of contents says")
    };
    let content = cipher.decode(Bytes::copy_from_slice(&bytes))?;
    let starts = entries.iter().map(|entry| entry.location.offset_in_block as usize);
    let ends = starts.clone().skip(1).chain([content.len()]);
    let (mut plaintext, mut kept) = (Vec::new(), Vec::new());
    let mut all = Vec::with_capacity(entries.len());
    for (entry, (start, end)) in entries.iter().zip(starts.zip(ends)) {
        let part = content.get(start..end).map(|_| content.slice(start..end));
        let part = part.ok_or_else(corrupt)?;
        let is_sound = match entry.kind {
            EntryKind::Full => keys.chunk_id(&part).0 == entry.id,
            EntryKind::Delta => true,
            EntryKind::Node => {
                split_parts(&part).map(|(logical, _)| keys.node_id(&logical).0) == Some(entry.id)
            }
        };
        let block_entry = |offset| BlockEntry {
            id: entry.id,
            kind: entry.kind,
            offset,
            length: entry.location.length,
            bases: entry.bases.clone(),
        };
        all.push(block_entry(entry.location.offset_in_block));
        if needed.contains(&prefix(&entry.id)) {
            if !is_sound {
                return Err(corrupt());
            }
            kept.push(block_entry(plaintext.len() as u32));
            plaintext.extend_from_slice(&part);
        }
    }
    if kept.len() == all.len() {
        return Ok(SealedBlock { bytes: bytes.to_vec(), entries: all });
    }
    seal_block(cipher, salt, &plaintext, kept)
}
