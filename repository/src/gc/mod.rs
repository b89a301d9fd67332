//! Collecting garbage, and what collectors announce, as writers read it.
//!
//! A generation of garbage collection is three objects: `gc/<generation>/condemned` names the packs that
//! may go, `outcome` those that went, `done` says that it is over. A writer that has announced itself
//! takes every pack of a generation that is condemned and not done for absent: it neither refers to it
//! nor decodes against it. See the protocol in `docs/repository-format.md` §6.

mod collect;
mod generation;
mod leftovers;
mod outcome;
mod places;
mod repack;
mod report;
mod roots;
mod segments;
mod sessions;
mod walk;
mod weigh;

use std::collections::HashSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result};

use crate::Repository;
use crate::crypto::KeyRing;
use crate::format::ObjectType;
use crate::format::envelope::{open_object, seal_object};
use crate::types::{Number, PackName};

pub use collect::{GcOptions, collect};
pub(crate) use outcome::Outcome;
pub use report::{Amount, Gone, Leftovers, Report};

pub(crate) use generation::{Activity, activity};

use generation::Generations;

/// The revision of the encoding of sets of packs.
const SET_FORMAT: u8 = 0;
/// The most packs that one generation names (64 MiB).
const PACKS_MAX: usize = 2 << 20;
/// Sets that are read at the same time.
const READS_MAX: usize = 8;

/// One of a generation's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// These packs may be deleted.
    Condemned,
    /// These packs are deleted.
    Outcome,
    /// They are gone.
    Done,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Condemned => "condemned",
            Self::Outcome => "outcome",
            Self::Done => "done",
        }
    }

    fn object_type(self) -> ObjectType {
        match self {
            Self::Condemned => ObjectType::GcCondemned,
            Self::Outcome => ObjectType::GcOutcome,
            Self::Done => ObjectType::GcDone,
        }
    }
}

/// Returns where an object of a generation stands.
pub fn gc_path(generation: Number, stage: Stage) -> String {
    format!("gc/{}/{}", generation.digits(), stage.name())
}

/// Reads [`gc_path`].
pub fn from_gc_path(path: &str) -> Option<(Number, Stage)> {
    let (digits, name) = path.strip_prefix("gc/")?.split_once('/')?;
    let stages = [Stage::Condemned, Stage::Outcome, Stage::Done];
    let stage = stages.into_iter().find(|stage| stage.name() == name)?;
    Some((Number::from_digits(digits)?, stage))
}

/// Seals a generation's object: the set of packs, empty for [`Stage::Done`]. (An outcome names
/// segments as well, see [`Outcome`].)
///
/// # Errors
/// `Exhausted` where it names more packs than a set holds; `Internal`.
pub fn seal_set(
    keys: &KeyRing,
    generation: Number,
    stage: Stage,
    packs: &[PackName],
) -> Result<Vec<u8>> {
    let path = gc_path(generation, stage);
    let mut packs = packs.to_vec();
    packs.sort_unstable();
    packs.dedup();
    if packs.len() > PACKS_MAX {
        return Err(Error::new(ErrorKind::Exhausted, "name packs in", path)
            .detail(format!("at most {PACKS_MAX} in one generation")));
    }
    let mut plaintext = Vec::with_capacity(5 + 32 * packs.len());
    plaintext.push(SET_FORMAT);
    plaintext.extend_from_slice(&(packs.len() as u32).to_le_bytes());
    packs.iter().for_each(|pack| plaintext.extend_from_slice(&pack.0));
    seal_object(keys, stage.object_type(), &path, &plaintext)
}

/// Opens what [`seal_set`] sealed.
///
/// # Errors
/// `Corrupt` where it is no such set; `Unsupported`.
pub fn open_set(
    keys: &KeyRing,
    generation: Number,
    stage: Stage,
    object: &[u8],
) -> Result<Vec<PackName>> {
    let path = gc_path(generation, stage);
    let plaintext = open_object(keys, stage.object_type(), &path, object)?;
    decode_set(&plaintext).ok_or_else(|| Error::new(ErrorKind::Corrupt, "read set of packs", path))
}

fn decode_set(plaintext: &[u8]) -> Option<Vec<PackName>> {
    let (&format, rest) = plaintext.split_first()?;
    let (count, names) = rest.split_first_chunk()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (names, []) = names.as_chunks::<32>() else { return None };
    let is_sound = format == SET_FORMAT && count == names.len() && count <= PACKS_MAX;
    (is_sound && names.is_sorted_by(|a, b| a < b))
        .then(|| names.iter().map(|name| PackName(*name)).collect())
}

/// The packs that are condemned at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CondemnedSet {
    packs: HashSet<PackName>,
    generations: Vec<Number>,
    /// The newest generation that is over.
    over: Option<Number>,
}

impl CondemnedSet {
    /// Says whether a pack is condemned: whoever writes takes it for absent.
    pub fn contains(&self, pack: &PackName) -> bool {
        self.packs.contains(pack)
    }

    /// Says whether nothing is condemned.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Returns how many packs are condemned.
    pub fn len(&self) -> usize {
        self.packs.len()
    }

    /// Returns the newest generation that is over: no other has ended between two readings that tell
    /// the same.
    pub(crate) fn newest_over(&self) -> Option<Number> {
        self.over
    }

    /// Returns the generations that are open, newest first.
    pub fn generations(&self) -> &[Number] {
        &self.generations
    }
}

/// Reads what every open generation condemns: one listing, then all sets at once. Call it after the
/// session is announced.
///
/// # Errors
/// Those of the store; `Corrupt` where a set cannot be read: then nobody may write.
pub async fn open_condemned(repository: &Repository) -> Result<CondemnedSet> {
    let listed = repository.store().list("gc").await?;
    let generations = Generations::of_paths(listed.iter().map(|listed| listed.path.as_str()));
    let open = generations.open();
    let sets: Vec<_> =
        stream::iter(open.into_iter().map(|generation| condemned(repository, generation)))
            .buffered(READS_MAX)
            .try_collect()
            .await?;
    let mut found = CondemnedSet { over: generations.newest_done(), ..CondemnedSet::default() };
    for (generation, packs) in sets.into_iter().flatten() {
        found.generations.push(generation);
        found.packs.extend(packs);
    }
    Ok(found)
}

/// Returns the newest generation that is over.
///
/// # Errors
/// Those of the store.
pub(crate) async fn newest_over(repository: &Repository) -> Result<Option<Number>> {
    Ok(Generations::list(repository).await?.newest_done())
}

async fn condemned(
    repository: &Repository,
    generation: Number,
) -> Result<Option<(Number, Vec<PackName>)>> {
    match repository.store().get(&gc_path(generation, Stage::Condemned)).await {
        Ok(object) => {
            let packs = open_set(repository.keys(), generation, Stage::Condemned, &object)?;
            Ok(Some((generation, packs)))
        }
        // Removed since the listing, hence done: its packs are in no segment that is listed from now on.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
