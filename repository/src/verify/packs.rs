//! Checking packs: all are listed, each table of contents is opened, and where that was asked for every
//! byte is read, every chunk decoded and named anew.
//!
//! A pack is read once. Its blocks are opened and decoded on threads that may block; how many packs are
//! in memory follows from the memory setting. What a delta is decoded against comes through a reader
//! that keeps decoded blocks, since deltas of one pack mostly resemble chunks of one other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use super::Depth;
use super::examine::{Delta, Examined, Examiner};
use super::findings::DamageNumber;
use super::objects::blocking;
use super::run::{Domain, Run};
use crate::gc::list_lost;
use crate::pack::compress::decode_delta;
use crate::pack::{EntryKind, PACK_BYTES_MAX, PackEntry, pack_path, read_contents};
use crate::types::{Location, PackKind, PackName, Place, StoredChunk};

/// Buckets of packs that are listed at once.
const LISTS_AT_ONCE: usize = 16;
/// Tables of contents that are read at once.
const TABLES_AT_ONCE: usize = 32;
/// Packs that are read whole at once, if memory allows.
const PACKS_AT_ONCE: usize = 8;
/// What a pack takes that is read piece by piece: what it has in memory, and the longest of its blocks
/// decoded, which is seldom as long as it may be.
const PIECES_BYTES: u64 = 24 << 20;
/// What memory for whole packs is counted in.
const PERMIT_BYTES: u64 = 1 << 20;
/// No pack is shorter: it has a header and a footer.
const PACK_BYTES_MIN: u64 = 100;

/// All packs as listed.
pub(super) struct Packs {
    states: HashMap<(PackKind, PackName), PackState>,
    /// Packs that are known to be lost: damage only where something still needs them.
    lost: HashSet<(PackKind, PackName)>,
}

/// What is known of a pack.
#[derive(Debug, Clone, Default)]
struct PackState {
    size_bytes: u64,
    damage: Option<Broken>,
}

/// A pack that is damaged, and what of it is not.
#[derive(Debug, Clone)]
struct Broken {
    number: DamageNumber,
    intact: Arc<HashSet<[u8; 32]>>,
}

impl Packs {
    /// Lists all packs, bucket by bucket.
    pub(super) async fn list(run: &Run<'_>) -> Result<Self> {
        let mut states = HashMap::new();
        let store = run.repository.store();
        for (kind, top) in [(PackKind::Data, "pack"), (PackKind::Meta, "meta")] {
            let buckets = store.list_directories(top).await?;
            run.count_unknown(buckets.objects.len() as u64);
            let lists = stream::iter(buckets.directories)
                .map(|bucket| async move { store.list(&bucket).await });
            let mut lists = lists.buffer_unordered(LISTS_AT_ONCE);
            while let Some(listed) = lists.try_next().await? {
                run.context.check("list packs")?;
                for object in listed {
                    let name = object.path.rsplit('/').next().and_then(|name| name.parse().ok());
                    let name = name.filter(|name| pack_path(kind, *name) == object.path);
                    let Some(name) = name else {
                        run.count_unknown(1);
                        continue;
                    };
                    let state = PackState { size_bytes: object.size_bytes, damage: None };
                    states.insert((kind, name), state);
                }
            }
        }
        let lost = list_lost(run.repository).await?;
        let lost = lost.into_iter().map(|lost| (lost.kind, lost.name)).collect();
        Ok(Self { states, lost })
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> u64 {
        self.states.len() as u64
    }

    /// Says whether a chunk that is to lie here is there, as far as is known.
    pub(super) fn holds(&self, place: &Location, id: &[u8; 32]) -> bool {
        let Some(state) = self.states.get(&(PackKind::Data, place.pack)) else { return false };
        let end = u64::from(place.block_offset) + u64::from(place.block_length);
        match &state.damage {
            None => end < state.size_bytes,
            Some(broken) => broken.intact.contains(id),
        }
    }

    /// Says whether there is a pack of content where this place is.
    pub(super) fn is_listed(&self, place: &Location) -> bool {
        self.states.contains_key(&(PackKind::Data, place.pack))
    }

    /// Returns the damage of the pack of content that this place is in.
    pub(super) fn damage(&self, place: &Location) -> Option<DamageNumber> {
        let state = self.states.get(&(PackKind::Data, place.pack))?;
        state.damage.as_ref().map(|broken| broken.number)
    }

    /// Checks all packs as deep as was asked for.
    pub(super) async fn check(&mut self, run: &Run<'_>, domains: &[Domain]) -> Result<()> {
        let mut names: Vec<_> =
            self.states.iter().map(|(name, state)| (*name, state.size_bytes)).collect();
        names.sort_unstable();
        let chosen = choose(run, names.len());
        let (whole, others): (Vec<_>, Vec<_>) =
            names.into_iter().zip(chosen).partition(|(_, is_chosen)| *is_chosen);
        let memory = run.repository.options().memory_bytes;
        let keys = domains.iter().map(|domain| domain.keys.clone()).collect();
        let examiner = Examiner::new(run.repository.id(), keys);
        let lost = self.lost.clone();
        let check = Check { run, domains, memory: Memory::new(memory), examiner, lost };
        for (packs, at_once, is_whole) in
            [(others, TABLES_AT_ONCE, false), (whole, PACKS_AT_ONCE, true)]
        {
            let mut checked = stream::iter(packs.into_iter().map(|((name, size), _)| {
                let check = &check;
                async move {
                    let broken = check.pack(name, size, is_whole).await?;
                    run.count_object();
                    Ok::<_, Error>((name, broken))
                }
            }))
            .buffer_unordered(at_once);
            while let Some((name, broken)) = checked.try_next().await? {
                if let Some(state) = self.states.get_mut(&name) {
                    state.damage = broken;
                }
            }
        }
        Ok(())
    }
}

/// Chooses which packs are read whole.
fn choose(run: &Run<'_>, count: usize) -> Vec<bool> {
    let share = match run.options.depth {
        Depth::Structure => 0.0,
        Depth::Sample(share) => share.clamp(0.0, 1.0),
        Depth::Deep => 1.0,
    };
    let wanted = (share * count as f64).ceil() as usize;
    let mut order: Vec<_> = (0..count)
        .map(|index| {
            let mut random = [0; 8];
            if share > 0.0 && share < 1.0 {
                run.context.entropy.fill(&mut random);
            }
            (random, index)
        })
        .collect();
    order.sort_unstable();
    let mut chosen = vec![false; count];
    for (_, index) in order.into_iter().take(wanted) {
        if let Some(is_chosen) = chosen.get_mut(index) {
            *is_chosen = true;
        }
    }
    chosen
}

/// Room for packs that are read whole.
struct Memory {
    permits: Semaphore,
    total: u32,
}

impl Memory {
    fn new(memory_bytes: u64) -> Self {
        // Readers of bases have the rest.
        let total = ((memory_bytes - memory_bytes / 4) / PERMIT_BYTES).clamp(1, 1 << 20) as u32;
        Self { permits: Semaphore::new(total as usize), total }
    }

    /// Waits for room; a pack that is larger than all room has it alone.
    async fn take(&self, bytes: u64) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let wanted = bytes.div_ceil(PERMIT_BYTES).clamp(1, u64::from(self.total)) as u32;
        self.permits
            .acquire_many(wanted)
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, "check pack", "").because(error))
    }
}

/// Checks packs one by one.
struct Check<'c> {
    run: &'c Run<'c>,
    domains: &'c [Domain],
    memory: Memory,
    examiner: Examiner,
    lost: HashSet<(PackKind, PackName)>,
}

impl Check<'_> {
    async fn pack(
        &self,
        (kind, name): (PackKind, PackName),
        size_bytes: u64,
        is_whole: bool,
    ) -> Result<Option<Broken>> {
        self.run.context.check("check pack")?;
        let path = pack_path(kind, name);
        if !(PACK_BYTES_MIN..=PACK_BYTES_MAX as u64).contains(&size_bytes) {
            let error = Error::new(ErrorKind::Corrupt, "check pack", &path)
                .detail(format!("no pack has {size_bytes} bytes"));
            return self.broken((kind, name), error, HashSet::new()).await.map(Some);
        }
        // Whatever cannot say what is in it is read whole, to learn what can still be used of it.
        if !is_whole && self.has_contents(kind, name).await? {
            return Ok(None);
        }
        let examined = match self.examine_file(kind, name, &path).await? {
            Some(examined) => examined,
            None => {
                let _room = self.memory.take(size_bytes).await?;
                let Some(object) = self.read(&path).await? else {
                    // Noted where it cannot be read; a collector may have deleted it since it was
                    // listed.
                    let what = "it was listed, and is not there any more".to_owned();
                    let number = self.run.findings().add_provisional(&path, what);
                    return Ok(Some(Broken { number, intact: Arc::default() }));
                };
                let examiner = self.examiner.clone();
                blocking(move || Ok(examiner.bytes(&object, kind, name))).await?
            }
        };
        match examined {
            Examined::Sound { domain, entries, deltas } => {
                let Some(domain) = self.domains.get(domain) else { return Ok(None) };
                self.sound(domain, (kind, name), entries, deltas).await
            }
            Examined::Damaged { error, intact } => {
                self.broken((kind, name), error, intact).await.map(Some)
            }
            Examined::Foreign(error) => {
                let number = self.run.findings().add_provisional(&path, error.chain());
                Ok(Some(Broken { number, intact: Arc::default() }))
            }
        }
    }

    /// Examines a sound pack of content in a local store without holding all of it; none for all
    /// others.
    async fn examine_file(
        &self,
        kind: PackKind,
        name: PackName,
        path: &str,
    ) -> Result<Option<Examined>> {
        if kind != PackKind::Data {
            return Ok(None);
        }
        let _room = self.memory.take(PIECES_BYTES).await?;
        // What cannot be opened is reported by whoever reads it whole.
        let Ok(Some((mut file, length))) = self.run.repository.store().open_local(path).await
        else {
            return Ok(None);
        };
        let examiner = self.examiner.clone();
        let examined = blocking(move || Ok(examiner.file(&mut file, length, name))).await?;
        if examined.is_some() {
            self.run.count_bytes(length);
        }
        Ok(examined)
    }

    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.run.read(path, PACK_BYTES_MAX as u64).await
    }

    async fn broken(
        &self,
        pack: (PackKind, PackName),
        error: Error,
        intact: HashSet<[u8; 32]>,
    ) -> Result<Broken> {
        let path = pack_path(pack.0, pack.1);
        let number = if self.lost.contains(&pack) {
            self.run.findings().add_provisional(&path, error.chain())
        } else {
            self.run.note(&path, error).await?
        };
        Ok(Broken { number, intact: Arc::new(intact) })
    }

    /// Says whether the table of contents opens under the keys of some domain.
    async fn has_contents(&self, kind: PackKind, name: PackName) -> Result<bool> {
        let repository = self.run.repository;
        for domain in self.domains {
            match read_contents(repository.store(), repository.id(), &domain.keys, kind, name).await
            {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Compares an intact pack with the index and decodes its deltas.
    async fn sound(
        &self,
        domain: &Domain,
        (kind, name): (PackKind, PackName),
        entries: Vec<PackEntry>,
        deltas: Vec<Delta>,
    ) -> Result<Option<Broken>> {
        let path = pack_path(kind, name);
        self.compare_with_index(domain, kind, &path, &entries).await?;
        let mut failed = HashSet::new();
        for delta in deltas {
            self.run.context.check("check pack")?;
            let id = delta.id;
            if !self.decodes(domain, delta).await? {
                failed.insert(id);
            }
        }
        if failed.is_empty() {
            return Ok(None);
        }
        let error = Error::new(ErrorKind::Corrupt, "check pack", &path)
            .detail("a delta does not decode to what it is named after");
        let ids = entries.iter().map(|entry| entry.id);
        let intact = ids.filter(|id| !failed.contains(id)).collect();
        self.broken((kind, name), error, intact).await.map(Some)
    }

    async fn compare_with_index(
        &self,
        domain: &Domain,
        kind: PackKind,
        path: &str,
        entries: &[PackEntry],
    ) -> Result<()> {
        for entry in entries {
            // An index that cannot be opened is reported by its segments.
            let Ok(found) = domain.index.find(kind, &entry.id).await else { return Ok(()) };
            // What the index does not know at all may be of a session that never ended.
            let is_wrong =
                |place: &Location| place.pack == entry.location.pack && *place != entry.location;
            if found.iter().any(|found| is_wrong(&found.location)) {
                let object = crate::index::directory(&domain.keys);
                let what = format!("it says of {path} what its table of contents does not");
                self.run.findings().add(&object, what);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says whether a delta decodes; what its bases lack is said of their packs.
    async fn decodes(&self, domain: &Domain, delta: Delta) -> Result<bool> {
        let mut bases = Vec::with_capacity(delta.bases.len());
        for id in &delta.bases {
            let Ok(found) = domain.index.find(PackKind::Data, &id.0).await else {
                return Ok(true);
            };
            let Some(found) = found.into_iter().find(|found| found.kind == EntryKind::Full) else {
                return Ok(true);
            };
            let length = found.location.length;
            let place = Place::Known(found.location);
            bases.push(StoredChunk { id: *id, length, place, bases: Vec::new() });
        }
        let contents = match domain.chunks.read_all(&bases).await {
            Ok(contents) => contents,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let keys = domain.keys.clone();
        blocking(move || {
            let base = contents.concat();
            let decoded = decode_delta(&base, &delta.bytes, delta.length as usize);
            Ok(decoded.is_some_and(|content| keys.chunk_id(&content).0 == delta.id))
        })
        .await
    }
}
