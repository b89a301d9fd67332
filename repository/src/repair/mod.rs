//! Mending what `verify` finds damaged: from parity, from a second copy, from what the repository says
//! twice; and marking what is lost, so that the next backup stores it again.
//!
//! **Nothing is put that was not shown to be what belongs there.** A pack is what its name says, a
//! small object opens under the repository's keys as what stands at its path and is signed where a
//! writer vouches for it. So what was exchanged is put back, and no copy in another store is trusted.
//!
//! **Nothing is deleted.** Create-only does not fit objects that stand there and are wrong: they are the
//! one thing that is ever replaced. What stood there is kept first, below `damaged/`, where no reader looks
//! and no collector deletes (a local store gives the file a second name, so that even what cannot
//! be read of it is kept); then the whole object takes its place in one step. A local store
//! writes a file beside it, makes it durable and renames it; an object store replaces an object under its key
//! at once, and keeps the old version too where versions are kept. What is missing is created. So whatever ends
//! a repair, each object is as it was or mended, and the next repair goes on.
//!
//! **In which order.** Certificates first, without which no signature is proven; packs; index; what
//! refers to them. Marks of what is lost come last, when all else has been tried.
//!
//! **Collectors.** A pack that is condemned is left to them: mending it would bring back what they
//! delete. A repair ends where a collection begins meanwhile.
//!
//! Parity, and a second copy of packs, need no key: see [`repair_without_key`].

mod entrance;
mod keyless;
mod mender;
mod packs;
mod report;
mod segments;
mod small;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

pub use entrance::mend_entrance;
pub use keyless::repair_without_key;
pub use report::{Left, Means, Mended, Report};

use mender::Mender;

use crate::Repository;
use crate::crypto::DEFAULT_DOMAIN;
use crate::gc::{list_lost, mark_lost, open_condemned, unmark};
use crate::pack::pack_path;
use crate::replicate::{Kind, ReplicaOptions, pack_of, replicate};
use crate::repository::get_descriptor_object;
use crate::store::Store;
use crate::types::{PackKind, PackName};
use crate::verify::{Damage, Depth, VerifyOptions, verify};

/// How a repository is repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairOptions {
    /// Finds out what could be mended, and writes nothing.
    pub is_dry_run: bool,
    /// How many items are named per damaged object that is left.
    pub named: usize,
    /// How many objects are copied at the same time from a second repository.
    pub jobs: usize,
    /// About how much memory what is copied may take, in bytes.
    pub memory_bytes: u64,
}

impl RepairOptions {
    fn replica(&self) -> ReplicaOptions {
        ReplicaOptions {
            is_dry_run: self.is_dry_run,
            jobs: self.jobs,
            memory_bytes: self.memory_bytes,
            bytes_per_second: None,
            // Slots that were removed here would come back.
            with_keys: false,
        }
    }
}

/// Verifies all of a repository and mends what is damaged. `from` is a second copy of it, which is only
/// read.
///
/// # Errors
/// `Conflict` where the second copy is of another repository; `Invalid` where it is the same place;
/// `Unavailable` where a collection begins meanwhile, or a store does not answer; `Denied`, `Exhausted`,
/// `Cancelled`, `WrongKey`. What cannot be mended is no error.
pub async fn repair(
    repository: &Repository,
    from: Option<&Store>,
    options: &RepairOptions,
    context: &Context,
) -> Result<Report> {
    repository.keys().check_full("repair repository")?;
    repository.check_writable()?;
    if let Some(from) = from {
        check_same(repository.store(), from).await?;
    }
    let deep = VerifyOptions { depth: Depth::Deep, named: options.named };
    let found = Box::pin(verify(repository, &deep, context)).await?;
    let mut domains = found.domains.clone();
    domains.push(DEFAULT_DOMAIN.to_owned());
    domains.sort_unstable();
    domains.dedup();
    let keys = domains.iter().map(|name| repository.domain(name)).collect::<Result<Vec<_>>>()?;
    let is_dry_run = options.is_dry_run;
    let mut mender = Mender::new(repository.store(), from, is_dry_run, context).await?;
    mender.report.objects = found.objects;
    mender.report.read_bytes = found.read_bytes;
    let damaged = Damaged::sort(&found.damage);
    for path in &damaged.writers {
        mender.small(repository, path, &damaged.small).await?;
    }
    let lost = mender.all_packs(repository, &keys, &damaged).await?;
    let mut has_gap = damaged.has_gap;
    for path in &damaged.segments {
        has_gap |= !mender.small(repository, path, &damaged.segments).await?;
    }
    for path in &damaged.small {
        mender.small(repository, path, &damaged.small).await?;
    }
    if let Some(from) = from {
        let replica = options.replica();
        let copied = Box::pin(replicate(from, repository.store(), &replica, context)).await?;
        mender.report.copied = Some(copied.missing());
    }
    if has_gap {
        mender.index(repository, &domains, &damaged.segments).await?;
    }
    mark(repository, &mut mender, &lost, context).await?;
    let mut report = mender.report;
    report.is_dry_run = is_dry_run;
    left(repository, &found.damage, &mut report, options, context).await?;
    Ok(report)
}

/// What `verify` found, by what is done about it.
#[derive(Debug, Default)]
struct Damaged {
    writers: BTreeSet<String>,
    packs: BTreeSet<(PackKind, PackName)>,
    segments: BTreeSet<String>,
    small: BTreeSet<String>,
    /// The index does not know all that it should.
    has_gap: bool,
}

impl Damaged {
    fn sort(damage: &[Damage]) -> Self {
        let mut sorted = Self::default();
        for Damage { object, .. } in damage {
            let path = object.clone();
            let pack = pack_of(object).map(|name| match Kind::of(object) {
                Some(Kind::Meta) => (PackKind::Meta, name),
                _ => (PackKind::Data, name),
            });
            match (Kind::of(object), pack) {
                (Some(Kind::Data | Kind::Meta), Some(pack)) => _ = sorted.packs.insert(pack),
                (Some(Kind::Writer), _) => _ = sorted.writers.insert(path),
                // Whole folders: what is missing in them.
                (Some(Kind::Index), _) if object.matches('/').count() < 2 => sorted.has_gap = true,
                (Some(Kind::Index), _) => _ = sorted.segments.insert(path),
                // What is missing in a log comes with all else that the second copy has.
                (Some(Kind::LogBatch | Kind::LogRun | Kind::LogSegment), _)
                    if object.matches('/').count() < 2 => {}
                (Some(_), _) => _ = sorted.small.insert(path),
                // The descriptor was whole when the repository was opened; what collectors say is
                // in no other store.
                (None, _) => {}
            }
        }
        sorted
    }
}

impl Mender<'_> {
    /// Mends all packs that are damaged, missing or marked as lost; returns those that are lost.
    async fn all_packs(
        &mut self,
        repository: &Repository,
        keys: &[crate::crypto::DomainKeys],
        damaged: &Damaged,
    ) -> Result<Vec<(PackKind, PackName)>> {
        // A set that cannot be read stops collectors as well.
        let condemned = match open_condemned(repository).await {
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            condemned => condemned.unwrap_or_default(),
        };
        let marked: BTreeSet<_> =
            list_lost(repository).await?.into_iter().map(|lost| (lost.kind, lost.name)).collect();
        let all: BTreeSet<_> = damaged.packs.union(&marked).copied().collect();
        self.find_strays(&all).await?;
        let mut lost = Vec::new();
        for pack in all {
            let (kind, name) = pack;
            if condemned.is_condemned(&name) {
                let why = "a collection is about to delete it".to_owned();
                self.report.unmended.insert(pack_path(kind, name), why);
                continue;
            }
            let keys = (repository.id(), keys);
            if self.pack(pack, Some(keys)).await? {
                if marked.contains(&pack) && !self.is_dry_run {
                    unmark(repository, [pack], self.context).await?;
                }
            } else if damaged.packs.contains(&pack) {
                lost.push(pack);
            }
        }
        Ok(lost)
    }
}

/// Marks what is lost.
async fn mark(
    repository: &Repository,
    mender: &mut Mender<'_>,
    lost: &[(PackKind, PackName)],
    context: &Context,
) -> Result<()> {
    for (kind, name) in lost {
        let path = pack_path(*kind, *name);
        // The second repository may have had it under another name of the same content: not so packs.
        let is_copied =
            !mender.is_dry_run && mender.from.is_some() && mender.is_whole(&path, *name).await?;
        if is_copied {
            mender.report.unmended.remove(&path);
            continue;
        }
        mender.report.marked += 1;
        if !mender.is_dry_run {
            let why = mender.report.unmended.get(&path).cloned().unwrap_or_default();
            mark_lost(repository, (*kind, *name), &why, context).await?;
        }
    }
    Ok(())
}

/// Finds out what is still damaged.
async fn left(
    repository: &Repository,
    before: &[Damage],
    report: &mut Report,
    options: &RepairOptions,
    context: &Context,
) -> Result<()> {
    let mended: BTreeSet<_> = report.mended.iter().map(|mended| mended.object.clone()).collect();
    let mut left: BTreeMap<String, Damage> = BTreeMap::new();
    let is_pack = |damage: &Damage| pack_of(&damage.object).is_some();
    let structure = VerifyOptions { depth: Depth::Structure, named: options.named };
    if options.is_dry_run {
        left.extend(before.iter().map(|damage| (damage.object.clone(), damage.clone())));
        left.retain(|object, _| !mended.contains(object));
    } else {
        // What was read of contents need not be read again.
        let damaged = before.iter().filter(|damage| is_pack(damage));
        let damaged = damaged.filter(|damage| report.unmended.contains_key(&damage.object));
        left.extend(damaged.map(|damage| (damage.object.clone(), damage.clone())));
        let now = Box::pin(verify(repository, &structure, context)).await?;
        for damage in now.damage {
            left.entry(damage.object.clone()).or_insert(damage);
        }
        report.unmended.retain(|path, _| left.contains_key(path));
    }
    report.left = left
        .into_values()
        .map(|damage| {
            let why = report.unmended.get(&damage.object).cloned();
            Left { damage, why }
        })
        .collect();
    Ok(())
}

/// Makes sure that another store holds the same repository.
async fn check_same(store: &Store, from: &Store) -> Result<()> {
    if store.is_same_place(from) {
        return Err(Error::new(ErrorKind::Invalid, "repair repository", from.name())
            .detail("the second copy is the same place"));
    }
    let (here, there) = futures::try_join!(get_descriptor_object(store), descriptor_of(from))?;
    if here == there {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "repair repository", from.name())
        .detail("it holds another repository"))
}

async fn descriptor_of(from: &Store) -> Result<Bytes> {
    get_descriptor_object(from).await
}
