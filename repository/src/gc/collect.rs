//! One collection from its beginning to its end. The steps have the names of `docs/repository-format.md`
//! §6; any number of collections may run at once, and each may break off or stand still between any two
//! steps.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Phase, Result, Timestamp};

use super::generation::{self, Generations};
use super::places::{Gather, PackInfo, Places};
use super::report::{Amount, Report};
use super::roots::{self, Roots};
use super::segments::{self, write_index};
use super::sessions::{self, StoreClock};
use super::walk::{Walk, lock};
use super::weigh::{self, Scales, Weighed};
use super::{Outcome, PACKS_MAX, leftovers, repack, unmark};
use crate::Repository;
use crate::index::rebuild::rebuild;
use crate::pack::pack_path;
use crate::types::{Number, PackKind, PackName, SessionId};

/// Packs that are deleted at the same time.
const DELETES_MAX: usize = 32;
/// How often another collector may be faster in one run.
const ROUNDS_MAX: usize = 8;
/// The most packs that are rewritten in one run.
const REWRITTEN_MAX: usize = 4096;
/// What references and places may take each, as a part of the memory setting.
const MEMORY_DIVISOR: u64 = 4;

/// How garbage is collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcOptions {
    /// Says what would be done, and writes nothing.
    pub is_dry_run: bool,
    /// How long a session that has not ended is waited for, from its announcement on. It is closed
    /// then: its writer begins again, and finds what it has stored.
    pub patience: Duration,
    /// How long what was forgotten is left alone.
    pub grace: Duration,
    /// Packs of which less is needed than this are rewritten, in percent; 0 rewrites none.
    pub rewrite_below_percent: u8,
    /// Where lists that are larger than memory are sorted.
    pub scratch_folder: PathBuf,
}

/// Collects garbage.
///
/// # Errors
/// `Corrupt` where something cannot be read that tells what is needed: nothing is deleted then;
/// `Denied` where this key or account may not delete; those of the store.
pub async fn collect(
    repository: &Repository,
    options: &GcOptions,
    context: &Context,
) -> Result<Report> {
    context.check("collect garbage")?;
    repository.check_collectable()?;
    let at = if options.is_dry_run {
        context.clock.now()
    } else {
        repository.check_writable()?;
        repository.store().now().await?
    };
    let clock = StoreClock { at, elapsed: context.clock.elapsed() };
    let memory = repository.options().memory_bytes / MEMORY_DIVISOR;
    let memory_bytes = usize::try_from(memory).unwrap_or(usize::MAX);
    let walk = Walk::new(repository, memory_bytes, &options.scratch_folder, context);
    let report = Report { is_dry_run: options.is_dry_run, ..Report::default() };
    // Generations first: all that is marked afterwards is at least as new.
    let generations = Generations::list(repository).await?;
    let mut run = Run {
        repository,
        options,
        context,
        clock,
        memory_bytes,
        roots: Roots::default(),
        walk,
        walked: 0,
        report,
    };
    run.phase("mark");
    run.roots = roots::find(repository, run.clock.at, options.grace, context).await?;
    run.walk_roots().await?;
    run.report.held = run.roots.held.clone();
    run.report.abandoned = run.roots.abandoned.len() as u64;
    run.generations(generations).await?;
    if options.is_dry_run {
        run.report.leftovers.snapshots = run.roots.gone.len() as u64;
        run.report.leftovers.points = run.roots.gone_points.len() as u64;
    } else {
        run.phase("clear");
        run.report.leftovers =
            leftovers::clear(repository, &run.roots, run.clock.at, context).await?;
        for id in &run.roots.abandoned {
            repository.put_forget(id, "abandoned", context).await?;
        }
    }
    run.report.snapshots = run.walk.trees();
    run.report.nodes_read = run.walk.nodes();
    Ok(run.report)
}

struct Run<'r> {
    repository: &'r Repository,
    options: &'r GcOptions,
    context: &'r Context,
    clock: StoreClock,
    memory_bytes: usize,
    roots: Roots,
    walk: Walk,
    /// How many of the roots were walked.
    walked: usize,
    report: Report,
}

impl Run<'_> {
    fn phase(&self, name: &'static str) {
        let subject = self.repository.store().name().to_owned();
        self.context.monitor.phase(Phase { name, subject, total: None });
    }

    /// Walks the roots that were found since the last time.
    async fn walk_roots(&mut self) -> Result<()> {
        while let Some(tree) = self.roots.trees.get(self.walked) {
            match self.walk.add(tree).await {
                Ok(()) => {}
                // Forgotten since it was found, and deleted by another collector: nobody needs it.
                Err(error) if crate::point::is_damage(&error) => {
                    if !self.repository.is_forgotten(&tree.id).await? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            self.walked += 1;
        }
        Ok(())
    }

    /// Says whether a root was forgotten since it was found.
    async fn is_any_forgotten(&self) -> Result<bool> {
        let roots: HashSet<_> = self.roots.trees.iter().map(|tree| &tree.id).collect();
        let listed = self.repository.store().list("forget").await?;
        let id = |path: &str| SessionId::from_path(path.strip_prefix("forget/")?);
        Ok(listed.iter().filter_map(|l| id(&l.path)).any(|id| roots.contains(&id)))
    }

    /// Step `survey`: what others have begun is brought to its end, then a generation is opened where
    /// there is anything to be freed.
    async fn generations(&mut self, mut generations: Generations) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let open = generations.open().last().copied();
            match open {
                // What others have condemned is looked at as well, in a dry run without an end.
                Some(generation) if !self.options.is_dry_run => {
                    let condemned = generation::read_condemned(self.repository, generation).await;
                    match condemned {
                        Ok(condemned) => _ = self.bring_to_end(generation, condemned).await?,
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                _ => {
                    let next = generations.next()?;
                    if self.open(next).await? {
                        return Ok(());
                    }
                }
            }
            generations = Generations::list(self.repository).await?;
        }
        Err(Error::new(ErrorKind::Unavailable, "collect garbage", self.repository.store().name())
            .detail("other collectors were faster again and again"))
    }

    /// Opens a generation where there is anything to be freed; says whether this ends the run.
    async fn open(&mut self, generation: Number) -> Result<bool> {
        let young_since = self.young_since().await?;
        let (mut places, mut weighed) = self.look(young_since, HashSet::new()).await?;
        if self.options.rewrite_below_percent > 0 {
            let stranded;
            (places, stranded) = self.stranded(places, &weighed, young_since).await?;
            if self.options.is_dry_run {
                for number in stranded.keys() {
                    let size = places.known.packs.get(*number).map_or(0, |pack| pack.size_bytes);
                    self.report.rewritten.add(size);
                }
            } else if !stranded.is_empty() {
                self.phase("repack");
                let trees = &self.roots.trees;
                let copied =
                    repack::repack(self.repository, &places, &stranded, trees, self.context);
                let (from, into) = copied.await?;
                self.report.rewritten = from;
                self.report.rewritten_into = into;
                (places, weighed) = self.look(young_since, HashSet::new()).await?;
            }
        }
        let is_complete = weighed.lost == 0;
        if weighed.lost > 0 {
            let now = Generations::list(self.repository).await?;
            if now.is_over(generation) || !now.open().is_empty() {
                // Another collector has moved or deleted something between the looks at index and packs.
                return Ok(false);
            }
            if self.is_any_forgotten().await? {
                // It has deleted what only that needed.
                weighed.lost = 0;
            }
        }
        let mut needed = places.known.packs.all.iter().zip(&weighed.needed);
        if !self.options.is_dry_run && needed.any(|(pack, needed)| *needed && !pack.is_named) {
            // A segment was lost: from now on what is there is found again.
            for domain in self.roots.domains.clone() {
                rebuild(self.repository, &domain, self.context).await?;
            }
        }
        let dead = self.judge(&places, &weighed, young_since);
        if is_complete && !self.options.is_dry_run {
            self.unmark_lost(&places).await?;
        }
        if self.options.is_dry_run || dead.is_empty() {
            return Ok(true);
        }
        self.phase("condemn");
        let (condemned, _) = generation::condemn(self.repository, generation, &dead).await?;
        if Generations::list(self.repository).await?.is_over(generation) {
            return Ok(false);
        }
        self.bring_to_end(generation, condemned).await
    }

    /// Takes away the marks of lost packs that are gone, once nothing is missing any more: until then
    /// they have the source read again.
    async fn unmark_lost(&self, places: &Places) -> Result<()> {
        let packs = &places.known.packs;
        let gone = packs.lost.iter().filter(|lost| packs.number(&lost.name).is_none());
        let gone: Vec<_> = gone.map(|lost| (lost.kind, lost.name)).collect();
        unmark(self.repository, gone, self.context).await.map(|_| ())
    }

    /// Packs that are younger than a session that may still end are left alone: that spares work.
    async fn young_since(&self) -> Result<Option<Timestamp>> {
        let announced = sessions::list(self.repository).await?;
        let may_end = announced.into_iter().filter(|(id, created)| {
            !self.roots.resolved.contains(id)
                && self.clock.age(*created, self.context) < self.options.patience
        });
        Ok(may_end.map(|(_, created)| created).min())
    }

    /// Lists the index and the packs anew, and weighs them.
    async fn look(
        &self,
        young_since: Option<Timestamp>,
        condemned: HashSet<PackName>,
    ) -> Result<(Places, Weighed)> {
        let gather = Gather {
            repository: self.repository,
            memory_bytes: self.memory_bytes,
            folder: &self.options.scratch_folder,
            context: self.context,
            young_since,
        };
        let places = gather.places(self.roots.domains.iter()).await?;
        let condemned = std::sync::Arc::new(condemned);
        self.weighing(places, move |scales, noted, places| {
            let scales = Scales { condemned: &condemned, ..scales };
            scales.weigh(noted, places)
        })
        .await
    }

    async fn stranded(
        &self,
        places: Places,
        weighed: &Weighed,
        young_since: Option<Timestamp>,
    ) -> Result<(Places, repack::Stranded)> {
        let below = u64::from(self.options.rewrite_below_percent) * 10;
        let packs = places.known.packs.all.iter().zip(&weighed.weights).zip(&weighed.needed);
        let mut victims: Vec<_> = packs
            .zip(0_u32..)
            .filter(|(((pack, weight), needed), _)| {
                **needed && pack.is_known && !is_young(pack, young_since) && weight.share() < below
            })
            .map(|(((_, weight), _), number)| (weight.share(), number))
            .collect();
        victims.sort_unstable();
        victims.truncate(REWRITTEN_MAX);
        let victims: HashSet<u32> = victims.into_iter().map(|(_, number)| number).collect();
        if victims.is_empty() {
            return Ok((places, repack::Stranded::default()));
        }
        self.weighing(places, move |scales, noted, places| {
            weigh::stranded(&scales, noted, places, &victims)
        })
        .await
    }

    /// Runs what sorts and merges where it may block.
    async fn weighing<T: Send + 'static>(
        &self,
        mut places: Places,
        work: impl FnOnce(Scales<'_>, &mut super::walk::Noted, &mut Places) -> Result<T>
        + Send
        + 'static,
    ) -> Result<(Places, T)> {
        let noted = self.walk.noted();
        let (memory_bytes, context) = (self.memory_bytes, self.context.clone());
        let folder = self.options.scratch_folder.clone();
        tokio::task::spawn_blocking(move || {
            let none = HashSet::new();
            let scales =
                Scales { condemned: &none, memory_bytes, folder: &folder, context: &context };
            let done = work(scales, &mut lock(&noted), &mut places)?;
            Ok((places, done))
        })
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "collect garbage", "").because(error))
        })
    }

    /// Says of each pack what becomes of it and why; returns those that may go.
    fn judge(
        &mut self,
        places: &Places,
        weighed: &Weighed,
        young_since: Option<Timestamp>,
    ) -> Vec<PackName> {
        let report = &mut self.report;
        report.unknown_objects = places.known.packs.unknown;
        report.lost = weighed.lost;
        report.total = Amount::default();
        let mut dead = Vec::new();
        let packs = places.known.packs.all.iter().zip(&weighed.needed).zip(&weighed.weights);
        for ((pack, is_needed), weight) in packs {
            let size = pack.size_bytes;
            report.total.add(size);
            if *is_needed {
                report.needed.add(size);
                report.unneeded_bytes += size / 1000 * (1000 - weight.share().min(1000));
            } else if is_young(pack, young_since) {
                report.young.add(size);
            } else if !pack.is_known {
                report.unknown.add(size);
            } else {
                dead.push(pack.name);
                if report.is_dry_run {
                    report.freed.add(size);
                }
            }
        }
        dead.sort_unstable();
        dead.truncate(PACKS_MAX);
        dead
    }

    /// Everything from `list_sessions` to `finish`; says whether this collector decided.
    async fn bring_to_end(&mut self, generation: Number, condemned: Vec<PackName>) -> Result<bool> {
        self.phase("wait");
        let patience = (&self.clock, self.options.patience);
        let fenced =
            sessions::resolve(self.repository, &mut self.roots, patience, self.context).await?;
        self.report.fenced.extend(fenced);
        self.phase("remark");
        self.walk_roots().await?;
        let condemned: HashSet<_> = condemned.into_iter().collect();
        let (places, weighed) = self.look(None, condemned.clone()).await?;
        let packs = places.known.packs.all.iter().zip(&weighed.needed);
        let sweep: HashSet<_> = packs
            .filter(|(pack, needed)| pack.is_known && !**needed && condemned.contains(&pack.name))
            .map(|(pack, _)| pack.name)
            .collect();
        self.phase("sweep");
        let written =
            write_index(self.repository, generation, &places, &sweep, self.context).await?;
        let outcome = Outcome::new(sweep.into_iter().collect(), written.old);
        let (outcome, is_others) = generation::decide(self.repository, generation, outcome).await?;
        let is_over = Generations::list(self.repository).await?.is_over(generation);
        if is_others || is_over {
            segments::remove(self.repository, &written.new, self.context).await?;
        }
        if is_over {
            return Ok(false);
        }
        segments::remove(self.repository, &outcome.segments, self.context).await?;
        self.sweep(&outcome.packs, &places).await?;
        generation::finish(self.repository, generation).await?;
        self.report.generations.push(generation.get());
        self.report.segments_replaced += outcome.segments.len() as u64;
        generation::tidy(self.repository, self.context).await?;
        Ok(!is_others)
    }

    /// Step `sweep`: deletes the packs of the outcome that counts, and no others.
    async fn sweep(&mut self, packs: &[PackName], places: &Places) -> Result<()> {
        let mut paths = Vec::with_capacity(packs.len());
        for name in packs {
            match places.known.packs.number(name).and_then(|n| places.known.packs.get(n)) {
                Some(pack) => {
                    self.report.freed.add(pack.size_bytes);
                    paths.push(pack_path(pack.kind, *name));
                }
                // Listed by whoever decided; which kind it is of its name does not tell.
                None => {
                    paths.extend([PackKind::Data, PackKind::Meta].map(|k| pack_path(k, *name)));
                }
            }
        }
        let store = self.repository.store();
        let context = self.context;
        stream::iter(paths)
            .map(|path| async move {
                context.check("delete packs")?;
                store.delete(&path).await
            })
            .buffer_unordered(DELETES_MAX)
            .try_collect::<()>()
            .await
    }
}

fn is_young(pack: &PackInfo, young_since: Option<Timestamp>) -> bool {
    young_since.is_some_and(|since| pack.created >= since)
}
