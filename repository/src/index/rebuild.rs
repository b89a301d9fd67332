//! Makes index segments anew from the tables of contents of packs.
//!
//! A session that died between its packs and its segment leaves packs that no segment names; a lost
//! segment does the same. What such packs hold can be read as before (manifests say where things lie),
//! it only is not found again by writers, nor as a second copy. Here it is.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, ErrorKind, Result};

use super::segment::{Entry, RECORDS_TARGET, prefix};
use super::{Index, directory, write_segment};
use crate::Repository;
use crate::pack::{EntryKind, PackEntry, read_contents};
use crate::types::{PackKind, PackName, from_hex, hex};

/// Tables of contents that are read at the same time.
const READS_MAX: usize = 16;

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Packs that no segment named.
    pub packs: u64,
    /// Entries that are found again.
    pub entries: u64,
    /// Packs whose table of contents cannot be read with the keys of this domain: of another domain, or
    /// damaged.
    pub unreadable: u64,
}

impl Entry {
    /// Takes over what a pack's table of contents says.
    pub(crate) fn new(entry: &PackEntry) -> Self {
        let pack_kind = match entry.kind {
            EntryKind::Node => PackKind::Meta,
            EntryKind::Full | EntryKind::Delta => PackKind::Data,
        };
        let bases = entry.bases.clone();
        let (kind, location) = (entry.kind, entry.location);
        Self { prefix: prefix(&entry.id), kind, pack_kind, location, bases }
    }
}

/// Reads the tables of contents of all packs of a domain that no segment names, and creates segments of
/// them. Safe at any time: an entry of a pack that a collector condemns is not used.
///
/// # Errors
/// Those of the store.
pub async fn rebuild(repository: &Repository, domain: &str, context: &Context) -> Result<Rebuilt> {
    let index = Index::open(repository, domain, context);
    Ok(rebuild_of(repository, domain, index, false, context).await?.0)
}

/// As [`rebuild`], of packs too of which segments name a part: where one of several segments that named a
/// pack was lost. Reads the tables of contents of all packs; passes damaged segments over. Returns any
/// entry as well.
///
/// # Errors
/// Those of the store.
pub(crate) async fn rebuild_thoroughly(
    repository: &Repository,
    domain: &str,
    damaged: &BTreeSet<String>,
    context: &Context,
) -> Result<(Rebuilt, Option<Entry>)> {
    let keys = repository.domain(domain)?;
    let index = Index::load_without(repository, &keys, damaged);
    rebuild_of(repository, domain, index, true, context).await
}

async fn rebuild_of(
    repository: &Repository,
    domain: &str,
    index: impl Future<Output = Result<Index>>,
    is_thorough: bool,
    context: &Context,
) -> Result<(Rebuilt, Option<Entry>)> {
    repository.check_writable()?;
    // Packs are listed first: what is put afterwards has a session that writes its segment.
    let packs = list_packs(repository).await?;
    let index = index.await?;
    let known = index.packs()?;
    let keys = repository.domain(domain)?;
    let is_wanted = |pack: &(PackKind, PackName)| is_thorough || !known.contains(pack);
    let unknown: Vec<_> = packs.into_iter().filter(is_wanted).collect();
    let mut rebuilt = Rebuilt::default();
    let mut any = None;
    let mut random = [0; 16];
    context.entropy.fill(&mut random);
    let mut segments = 0;
    let mut entries = Vec::new();
    let mut contents = stream::iter(unknown.into_iter().map(|(kind, name)| {
        let (repository, keys) = (repository.clone(), keys.clone());
        async move {
            let read = read_contents(repository.store(), repository.id(), &keys, kind, name).await;
            read.map(Some).or_else(|error| match error.kind() {
                ErrorKind::Corrupt | ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            })
        }
    }))
    .buffered(READS_MAX);
    loop {
        let next = contents.try_next().await?;
        context.check("rebuild index")?;
        let is_end = next.is_none();
        match next {
            Some(Some(found)) => {
                any = any.or_else(|| found.first().map(Entry::new));
                let new = if is_thorough { unindexed(&index, &found)? } else { found };
                rebuilt.packs += u64::from(!new.is_empty());
                rebuilt.entries += new.len() as u64;
                entries.extend(new.iter().map(Entry::new));
            }
            Some(None) => rebuilt.unreadable += 1,
            None => {}
        }
        if entries.len() >= RECORDS_TARGET || is_end && !entries.is_empty() {
            let path = format!("{}/rebuilt/{}-{segments:04x}", directory(&keys), hex(&random));
            write_segment(repository, &path, std::mem::take(&mut entries)).await?;
            segments += 1;
        }
        if is_end {
            return Ok((rebuilt, any));
        }
    }
}

/// Leaves out what the index knows at this place.
fn unindexed(index: &Index, found: &[PackEntry]) -> Result<Vec<PackEntry>> {
    let mut new = Vec::new();
    for entry in found {
        let kind = Entry::new(entry).pack_kind;
        let known = index.find(kind, &entry.id)?;
        if known.iter().all(|known| known.location != entry.location) {
            new.push(entry.clone());
        }
    }
    Ok(new)
}

async fn list_packs(repository: &Repository) -> Result<Vec<(PackKind, PackName)>> {
    let store = repository.store();
    let (data, meta) = futures::try_join!(store.list("pack"), store.list("meta"))?;
    let name = |path: &str| path.rsplit('/').next().and_then(from_hex).map(PackName);
    let data = data.iter().filter_map(|listed| Some((PackKind::Data, name(&listed.path)?)));
    let meta = meta.iter().filter_map(|listed| Some((PackKind::Meta, name(&listed.path)?)));
    Ok(data.chain(meta).collect())
}
