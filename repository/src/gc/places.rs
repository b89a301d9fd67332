//! Which packs there are, and what the index says of where things lie in them.
//!
//! The index is listed first and the packs then: what a segment names was durable before the segment
//! was. A pack that no segment names is opened and its table of contents taken; one that cannot be
//! opened is unknown, and kept.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, Timestamp};

use super::{LostPack, list_lost};
use crate::Repository;
use crate::crypto::{DEFAULT_DOMAIN, DomainKeys};
use crate::index::segment::{Entry, Prefix, Segment, prefix};
use crate::index::{Index, directory};
use crate::pack::{EntryKind, PackEntry, pack_path, read_contents};
use crate::sort::FixedSorter;
use crate::types::{ChunkId, PackKind, PackName};

/// Buckets of packs that are listed at once.
const LISTS_MAX: usize = 16;
/// Tables of contents that are read at once.
const TABLES_MAX: usize = 16;
/// How often the index is listed anew because a segment was gone.
const TRIES_MAX: usize = 8;
/// A place: prefix of the id, kind of pack, whether it is a delta, number of the pack, length, and
/// where the bases of a delta stand.
const PLACE_BYTES: usize = 16 + 1 + 1 + 4 + 4 + 4;
/// What stands where something has no bases.
const NO_BASES: u32 = u32::MAX;

/// A pack as listed.
#[derive(Debug, Clone)]
pub(super) struct PackInfo {
    pub(super) kind: PackKind,
    pub(super) name: PackName,
    pub(super) size_bytes: u64,
    pub(super) created: Timestamp,
    /// Whether it is known what is in it.
    pub(super) is_known: bool,
    /// Whether a segment names it: else nobody finds what was moved there.
    pub(super) is_named: bool,
    /// Whether it is damaged beyond repair: nothing is kept there that is anywhere else.
    pub(super) is_lost: bool,
}

/// All packs.
#[derive(Default)]
pub(super) struct Packs {
    pub(super) all: Vec<PackInfo>,
    numbers: HashMap<PackName, u32>,
    /// Packs that are marked as lost, whether they are there or not.
    pub(super) lost: Vec<LostPack>,
    /// Objects below `pack/` and `meta/` that have no name of a pack.
    pub(super) unknown: u64,
}

impl Packs {
    async fn list(repository: &Repository, context: &Context) -> Result<Self> {
        let mut packs = Self::default();
        let store = repository.store();
        packs.lost = list_lost(repository).await?;
        let lost: HashSet<_> = packs.lost.iter().map(|lost| lost.name).collect();
        for (kind, top) in [(PackKind::Data, "pack"), (PackKind::Meta, "meta")] {
            let buckets = store.list_directories(top).await?;
            packs.unknown += buckets.objects.len() as u64;
            let lists = stream::iter(buckets.directories)
                .map(|bucket| async move { store.list(&bucket).await });
            let mut lists = lists.buffer_unordered(LISTS_MAX);
            while let Some(listed) = lists.try_next().await? {
                context.check("list packs")?;
                for object in listed {
                    let name = object.path.rsplit('/').next().and_then(|name| name.parse().ok());
                    let Some(name) = name.filter(|name| pack_path(kind, *name) == object.path)
                    else {
                        packs.unknown += 1;
                        continue;
                    };
                    packs.numbers.insert(name, packs.all.len() as u32);
                    packs.all.push(PackInfo {
                        kind,
                        name,
                        size_bytes: object.size_bytes,
                        created: object.modified,
                        is_known: false,
                        is_named: false,
                        is_lost: lost.contains(&name),
                    });
                }
            }
        }
        Ok(packs)
    }

    /// Returns the number of a pack that is there.
    pub(super) fn number(&self, name: &PackName) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Returns the pack of a number.
    pub(super) fn get(&self, number: u32) -> Option<&PackInfo> {
        self.all.get(number as usize)
    }
}

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceOf {
    pub(super) prefix: Prefix,
    pub(super) kind: PackKind,
    pub(super) pack: u32,
    /// Its length once decoded.
    pub(super) length: u32,
    /// Where the bases of a delta stand in [`Places::bases`].
    pub(super) bases: Option<u32>,
}

impl PlaceOf {
    pub(super) fn encode(&self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        let flags = [u8::from(self.kind == PackKind::Meta), u8::from(self.bases.is_some())];
        let numbers = [self.pack, self.length, self.bases.unwrap_or(NO_BASES)];
        let numbers = numbers.map(u32::to_be_bytes);
        let all = self.prefix.iter().chain(&flags).chain(numbers.as_flattened());
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; PLACE_BYTES]) -> Self {
        let mut prefix = Prefix::default();
        prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let [.., kind, _, a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        let kind = if kind == 0 { PackKind::Data } else { PackKind::Meta };
        let (pack, length) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let bases = u32::from_be_bytes([i, j, k, l]);
        Self { prefix, kind, pack, length, bases: (bases != NO_BASES).then_some(bases) }
    }
}

/// One domain's segments.
pub(super) struct DomainIndex {
    pub(super) keys: DomainKeys,
    pub(super) segments: Vec<Arc<Segment>>,
}

/// Places in order, each once.
pub(super) type SortedPlaces = FixedSorter<PLACE_BYTES>;

/// What places speak of by number.
#[derive(Default)]
pub(super) struct Known {
    pub(super) packs: Packs,
    /// What deltas are decoded against.
    bases: Vec<Vec<ChunkId>>,
}

/// All that is known of where things lie.
pub(super) struct Places {
    pub(super) known: Known,
    pub(super) sorted: SortedPlaces,
    pub(super) domains: Vec<DomainIndex>,
    /// Entries that name packs that are not there.
    pub(super) stale_entries: u64,
    /// Packs whose table of contents cannot be read.
    pub(super) unreadable: u64,
}

/// What places are gathered with.
pub(super) struct Gather<'g> {
    pub(super) repository: &'g Repository,
    pub(super) memory_bytes: usize,
    pub(super) folder: &'g Path,
    pub(super) context: &'g Context,
    /// Packs that were created since are left alone, whatever is in them.
    pub(super) young_since: Option<Timestamp>,
}

impl Gather<'_> {
    /// Lists everything anew. `domains` are the names of the domains that anything was written in.
    pub(super) async fn places<'d>(
        &self,
        domains: impl Iterator<Item = &'d String>,
    ) -> Result<Places> {
        let mut names: Vec<&str> = domains.map(String::as_str).collect();
        names.push(DEFAULT_DOMAIN);
        names.sort_unstable();
        names.dedup();
        let mut indices = Vec::new();
        for name in names {
            let keys = self.repository.domain(name)?;
            let segments = self.segments(&keys).await?;
            indices.push(DomainIndex { keys, segments });
        }
        let packs = Packs::list(self.repository, self.context).await?;
        let sorted = FixedSorter::new(self.memory_bytes, self.folder, self.context);
        let known = Known { packs, bases: Vec::new() };
        let mut places =
            Places { known, sorted, domains: indices, stale_entries: 0, unreadable: 0 };
        places = tokio::task::spawn_blocking(move || {
            places.take_index()?;
            Ok::<_, Error>(places)
        })
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "read index", "").because(error))??;
        self.open_unnamed(&mut places).await?;
        Ok(places)
    }

    /// Opens all segments of a domain as they are listed at one time. Between two generations none goes
    /// away; where one does, another collector has decided, and they are listed again.
    async fn segments(&self, keys: &DomainKeys) -> Result<Vec<Arc<Segment>>> {
        for _ in 0..TRIES_MAX {
            self.context.check("open index")?;
            let listed = self.repository.store().list(&directory(keys)).await?;
            let index = Index::load(self.repository, keys).await?;
            let mut segments = index.segments();
            let is_damaged = segments.iter().any(|segment| segment.check().is_err());
            if is_damaged && index.heal().await? {
                segments = index.segments();
            }
            let opened: HashSet<_> = segments.iter().map(|segment| segment.name()).collect();
            if listed.iter().all(|listed| opened.contains(listed.path.as_str())) {
                return Ok(segments);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "open index", self.repository.store().name())
            .detail("its segments keep changing: another collector is at work"))
    }

    /// Takes the tables of contents of packs that no segment names.
    async fn open_unnamed(&self, places: &mut Places) -> Result<()> {
        let is_young =
            |pack: &PackInfo| self.young_since.is_some_and(|since| pack.created >= since);
        let unnamed = places.known.packs.all.iter().zip(0_u32..);
        let unnamed = unnamed.filter(|(pack, _)| !pack.is_known && !is_young(pack));
        let unnamed: Vec<_> = unnamed.map(|(pack, n)| (n, pack.kind, pack.name)).collect();
        let keys: Vec<_> = places.domains.iter().map(|domain| domain.keys.clone()).collect();
        let keys = &keys;
        let mut tables = stream::iter(unnamed)
            .map(|(number, kind, name)| async move {
                self.table(keys, kind, name).await.map(|table| (number, table))
            })
            .buffered(TABLES_MAX);
        while let Some((number, table)) = tables.try_next().await? {
            self.context.check("read contents of packs")?;
            let Some(entries) = table else {
                places.unreadable += 1;
                continue;
            };
            for entry in &entries {
                places.take_entry(&Entry::new(entry), number)?;
            }
            if let Some(pack) = places.known.packs.all.get_mut(number as usize) {
                pack.is_known = true;
            }
        }
        Ok(())
    }

    async fn table(
        &self,
        domains: &[DomainKeys],
        kind: PackKind,
        name: PackName,
    ) -> Result<Option<Vec<PackEntry>>> {
        let (store, id) = (self.repository.store(), self.repository.id());
        for keys in domains {
            match read_contents(store, id, keys, kind, name).await {
                Ok(entries) => return Ok(Some(entries)),
                Err(error) if crate::point::is_damage(&error) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Vec::new())),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Places {
    /// Takes over what all segments say.
    fn take_index(&mut self) -> Result<()> {
        let segments: Vec<_> =
            self.domains.iter().flat_map(|domain| domain.segments.iter().cloned()).collect();
        for segment in segments {
            for entry in segment.entries()? {
                match self.known.packs.number(&entry.location.pack) {
                    Some(number) => {
                        self.take_entry(&entry, number)?;
                        if let Some(pack) = self.known.packs.all.get_mut(number as usize) {
                            (pack.is_known, pack.is_named) = (true, true);
                        }
                    }
                    None => self.stale_entries += 1,
                }
            }
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: &Entry, pack: u32) -> Result<()> {
        let bases = match entry.kind {
            EntryKind::Full | EntryKind::Node => None,
            EntryKind::Delta => {
                self.known.bases.push(entry.bases.clone());
                Some((self.known.bases.len() - 1) as u32)
            }
        };
        let place = PlaceOf {
            prefix: entry.prefix,
            kind: entry.pack_kind,
            pack,
            length: entry.location.length,
            bases,
        };
        self.sorted.push(place.encode())
    }
}

impl Known {
    /// Lists what any delta is decoded against.
    pub(super) fn all_bases(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.bases.iter().flatten().map(|id| prefix(&id.0))
    }

    /// Returns the prefixes of what a delta is decoded against.
    pub(super) fn bases_of(&self, bases: u32) -> impl Iterator<Item = Prefix> + '_ {
        self.bases.get(bases as usize).into_iter().flatten().map(|id| prefix(&id.0))
    }
}

#[cfg(test)]
impl Packs {
    /// Adds a pack as if it had been listed.
    pub(super) fn with(mut self, pack: PackInfo) -> Self {
        self.numbers.insert(pack.name, self.all.len() as u32);
        self.all.push(pack);
        self
    }
}

#[cfg(test)]
impl Known {
    /// Adds what a delta is decoded against.
    pub(super) fn push_bases(&mut self, bases: Vec<ChunkId>) -> u32 {
        self.bases.push(bases);
        (self.bases.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back() {
        for kind in [PackKind::Data, PackKind::Meta] {
            for bases in [None, Some(0), Some(70_000)] {
                let place = PlaceOf { prefix: [9; 16], kind, pack: 3, length: 77, bases };
                assert_eq!(PlaceOf::decode(&place.encode()), place);
            }
        }
    }
}
