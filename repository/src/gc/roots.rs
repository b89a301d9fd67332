//! What is not garbage to begin with: committed snapshots and checkpoints, unless they are forgotten
//! and nothing that is kept builds on them.
//!
//! The order is part of the protocol: forgets are listed first, then what refers to snapshots, then the
//! commits. Whoever refers to a snapshot does so first and makes sure then that it is not forgotten;
//! so a reference that is not seen here belongs to somebody who will see the forget. Holds are read after
//! the forgets as well: who holds checks afterwards that nothing of it is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, Timestamp};

use super::report::Gone;
use crate::Repository;
use crate::hold::Holds;
use crate::mark::MarkKind;
use crate::point::{Freshness, PointId, is_damage};
use crate::snapshot::codec::Commit;
use crate::store::Listed;
use crate::types::{Root, SessionId, StreamName};

/// Small objects that are read at the same time.
const READS_MAX: usize = 64;
/// Commits that are read together.
const COMMITS_AT_ONCE: usize = 1024;
/// A checkpoint that nothing followed for so long, by the store's time, was abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// A tree that is needed.
#[derive(Debug, Clone)]
pub(super) struct LiveTree {
    pub(super) id: SessionId,
    pub(super) domain: String,
    pub(super) root: Root,
}

/// What a mark begins at, and what it leaves out.
#[derive(Default)]
pub(super) struct Roots {
    pub(super) trees: Vec<LiveTree>,
    /// Sessions whose commit key is taken, as far as was seen.
    pub(super) resolved: HashSet<SessionId>,
    /// Snapshots that are forgotten, whose grace is over, and that nothing refers to.
    pub(super) gone: Vec<SessionId>,
    /// Snapshots that are forgotten and kept for now, by reason.
    pub(super) held: BTreeMap<Gone, u64>,
    /// Holds that are in force by every clock that is known here.
    pub(super) holds: Holds,
    /// Points that are forgotten and whose bodies are still there.
    pub(super) gone_points: Vec<PointId>,
    /// Checkpoints that nobody will go on from.
    pub(super) abandoned: Vec<SessionId>,
    /// Sessions that were closed without a snapshot.
    closed: Vec<SessionId>,
    /// Key domains of all that was read.
    pub(super) domains: BTreeSet<String>,
}

/// Finds the roots as of now. `grace` is how long a forget is left alone, by the store's time.
pub(super) async fn find(
    repository: &Repository,
    now: Timestamp,
    grace: Duration,
    context: &Context,
) -> Result<Roots> {
    context.check("collect garbage")?;
    let store = repository.store();
    let (forgets, point_forgets) =
        futures::try_join!(store.list("forget"), store.list("forget-point"))?;
    let forgets = dated(&forgets, |path| SessionId::from_path(path.strip_prefix("forget/")?));
    let point_forgets =
        dated(&point_forgets, |path| PointId::from_path(path.strip_prefix("forget-point/")?));
    // One that cannot be read ends the collection: what it covers is not known.
    let holds = repository.holds(now.min(context.clock.now())).await?;
    let mut roots = Roots { holds, ..Roots::default() };
    let due = due_of(&forgets, now, grace);
    let mut due_points = due_of(&point_forgets, now, grace);
    due_points.retain(|id| roots.holds.on_point(id).is_none());
    let mut references = References::find(repository, &due, &due_points, context).await?;
    roots.gone_points = std::mem::take(&mut references.gone_points);
    let listed = store.list("snapshot").await?;
    let commits: Vec<_> = listed
        .iter()
        .filter_map(|l| {
            Some((SessionId::from_path(l.path.strip_prefix("snapshot/")?)?, l.modified))
        })
        .collect();
    let mut live = Vec::new();
    let mut candidates = Vec::new();
    let held = roots.held_among(repository, &due).await?;
    for (id, created) in commits {
        roots.resolved.insert(id.clone());
        let kept = match (forgets.contains_key(&id), due.contains(&id)) {
            (false, _) => None,
            (true, true) if held.contains(&id) => Some(Gone::Held),
            (true, false) => Some(Gone::InGrace),
            (true, true) => references.of(&id),
        };
        match kept {
            Some(reason) => {
                *roots.held.entry(reason).or_default() += 1;
                live.push((id, created));
            }
            None if due.contains(&id) => candidates.push((id, created)),
            None => live.push((id, created)),
        }
    }
    roots.check_signatures(repository, candidates, &mut live, context).await?;
    roots.read(repository, &live, now, context).await?;
    roots.find_domains(repository, context).await?;
    Ok(roots)
}

/// Reads the names of a listing that are names of ours, with the store's time of each.
fn dated<T: Eq + Hash>(
    listed: &[Listed],
    read: impl Fn(&str) -> Option<T>,
) -> HashMap<T, Timestamp> {
    listed.iter().filter_map(|l| Some((read(&l.path)?, l.modified))).collect()
}

/// Returns those whose grace is over.
fn due_of<T: Eq + Hash + Clone>(
    forgets: &HashMap<T, Timestamp>,
    now: Timestamp,
    grace: Duration,
) -> HashSet<T> {
    let due = forgets.iter().filter(|(_, created)| now.since(**created) >= grace);
    due.map(|(id, _)| id.clone()).collect()
}

impl Roots {
    /// Reads commits that are needed. One that cannot be read ends the collection: what it refers to
    /// is not known.
    async fn read(
        &mut self,
        repository: &Repository,
        live: &[(SessionId, Timestamp)],
        now: Timestamp,
        context: &Context,
    ) -> Result<()> {
        let created: HashMap<_, _> = live.iter().map(|(id, at)| (id, *at)).collect();
        for ids in live.chunks(COMMITS_AT_ONCE) {
            context.check("collect garbage")?;
            let ids: Vec<_> = ids.iter().map(|(id, _)| id.clone()).collect();
            for (id, commit) in repository.read_commits(&ids).await? {
                let age = created.get(&id).map(|at| now.since(*at)).unwrap_or_default();
                if self.add(id.clone(), commit)? && age >= ABANDONED_AFTER {
                    self.abandoned.push(id);
                }
            }
        }
        Ok(())
    }

    /// Takes those of the candidates as gone whose forget is signed; the others live on.
    async fn check_signatures(
        &mut self,
        repository: &Repository,
        candidates: Vec<(SessionId, Timestamp)>,
        live: &mut Vec<(SessionId, Timestamp)>,
        context: &Context,
    ) -> Result<()> {
        // Whoever deletes checks the signature: one that does not hold forgets nothing.
        let signed: Vec<_> = stream::iter(candidates)
            .map(|(id, created)| async move {
                match repository.snapshot_forget(&id).await {
                    Ok(_) => Ok((id, created, None)),
                    Err(error) if is_damage(&error) => Ok((id, created, Some(error))),
                    Err(error) => Err(error),
                }
            })
            .buffered(READS_MAX)
            .try_collect()
            .await?;
        for (id, created, error) in signed {
            match error {
                None => self.gone.push(id),
                Some(error) => {
                    context.monitor.problem(&error);
                    *self.held.entry(Gone::Unsigned).or_default() += 1;
                    live.push((id, created));
                }
            }
        }
        Ok(())
    }

    /// Finds what a hold covers of snapshots that are forgotten. Checkpoints are no states that anybody
    /// was promised: none covers them.
    async fn held_among(
        &self,
        repository: &Repository,
        due: &HashSet<SessionId>,
    ) -> Result<HashSet<SessionId>> {
        let covered = due.iter().filter(|id| self.holds.on_snapshot(id).is_some());
        let covered: Vec<_> = covered.cloned().collect();
        let mut held = HashSet::new();
        for ids in covered.chunks(COMMITS_AT_ONCE) {
            let commits = repository.read_commits(ids).await?.into_iter();
            let are_kept = commits.filter(|(_, commit)| match commit {
                Ok(Commit::Snapshot(snapshot)) => !snapshot.is_checkpoint,
                Ok(_) => false,
                Err(_) => true,
            });
            held.extend(are_kept.map(|(id, _)| id));
        }
        Ok(held)
    }

    /// Finds the domains of what is forgotten or was closed as well: their packs are to be opened.
    async fn find_domains(&mut self, repository: &Repository, context: &Context) -> Result<()> {
        for ids in self.gone.chunks(COMMITS_AT_ONCE) {
            context.check("collect garbage")?;
            for (_, commit) in repository.read_commits(ids).await? {
                if let Ok(Commit::Snapshot(snapshot)) = commit {
                    self.domains.insert(snapshot.domain);
                }
            }
        }
        let closed = std::mem::take(&mut self.closed);
        self.find_domains_of(repository, &closed).await
    }

    /// Finds the domains of sessions that were closed.
    pub(super) async fn find_domains_of(
        &mut self,
        repository: &Repository,
        closed: &[SessionId],
    ) -> Result<()> {
        let mut announced = stream::iter(closed.to_vec())
            .map(|id| async move { repository.announcement(&id).await })
            .buffer_unordered(READS_MAX);
        while let Some(announced) = announced.next().await {
            match announced {
                Ok((announcement, _)) => _ = self.domains.insert(announcement.domain),
                Err(error) if is_damage(&error) || error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a commit; says whether it is a checkpoint.
    pub(super) fn add(&mut self, id: SessionId, commit: Result<Commit>) -> Result<bool> {
        self.resolved.insert(id.clone());
        let commit = commit.map_err(|error| {
            Error::new(error.kind(), "collect garbage", id.to_string())
                .detail("what this snapshot needs cannot be told; repair it, or forget it")
                .because(error)
        })?;
        let Commit::Snapshot(snapshot) = commit else {
            self.closed.push(id);
            return Ok(false);
        };
        self.domains.insert(snapshot.domain.clone());
        self.trees.push(LiveTree { id, domain: snapshot.domain, root: snapshot.root });
        Ok(snapshot.is_checkpoint)
    }
}

/// What refers to snapshots that are forgotten.
#[derive(Default)]
struct References {
    named: HashSet<SessionId>,
    bases: HashSet<SessionId>,
    /// Streams of which something cannot be read.
    unknown: HashSet<StreamName>,
    /// Sites of which a point cannot be read.
    unknown_sites: HashSet<model::SiteName>,
    gone_points: Vec<PointId>,
}

impl References {
    /// Only what may keep one of the snapshots in `due` is read.
    async fn find(
        repository: &Repository,
        due: &HashSet<SessionId>,
        due_points: &HashSet<PointId>,
        context: &Context,
    ) -> Result<Self> {
        let mut found = Self::default();
        found.read_points(repository, due, due_points, context).await?;
        let streams: HashSet<_> = due.iter().map(|id| &id.stream).collect();
        for stream in repository.logged_streams().await? {
            if !streams.contains(&stream) {
                continue;
            }
            context.check("collect garbage")?;
            match repository.referenced_bases(&stream).await {
                Ok(bases) => found.bases.extend(bases),
                Err(error) if is_damage(&error) => {
                    context.monitor.problem(&error);
                    found.unknown.insert(stream);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn read_points(
        &mut self,
        repository: &Repository,
        due: &HashSet<SessionId>,
        due_points: &HashSet<PointId>,
        context: &Context,
    ) -> Result<()> {
        let listed = repository.store().list("point").await?;
        let ids = listed.iter().filter_map(|l| PointId::from_path(l.path.strip_prefix("point/")?));
        let sites: HashSet<_> = due.iter().map(|id| id.stream.site.clone()).collect();
        let mut live = Vec::new();
        for id in ids {
            if due_points.contains(&id) && is_gone(repository, &id, context).await? {
                self.gone_points.push(id);
            } else if sites.contains(&id.site) {
                live.push(id);
            }
        }
        let mut points = stream::iter(live)
            .map(|id| async move { (repository.point(&id).await, id) })
            .buffered(READS_MAX);
        while let Some((point, id)) = points.next().await {
            context.check("collect garbage")?;
            match point {
                Ok(point) => {
                    let there = point
                        .entries
                        .into_iter()
                        .filter(|e| !matches!(e.freshness, Freshness::Missing(_)));
                    self.named.extend(there.filter_map(|entry| entry.snapshot));
                }
                // Deleted since it was listed: it was forgotten.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_damage(&error) => {
                    context.monitor.problem(&error);
                    self.unknown_sites.insert(id.site);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says why a snapshot that is forgotten is kept.
    fn of(&self, id: &SessionId) -> Option<Gone> {
        if self.named.contains(id) {
            Some(Gone::NamedByPoint)
        } else if self.bases.contains(id) {
            Some(Gone::BaseOfLog)
        } else if self.unknown.contains(&id.stream) || self.unknown_sites.contains(&id.stream.site)
        {
            Some(Gone::Unknown)
        } else {
            None
        }
    }
}

/// Says whether the forget of a point holds: it is signed, and nobody has pinned the point.
async fn is_gone(repository: &Repository, id: &PointId, context: &Context) -> Result<bool> {
    let checked =
        futures::try_join!(repository.is_point_forgotten(id), repository.marks_of_point(id));
    match checked {
        Ok((is_forgotten, marks)) => {
            Ok(is_forgotten && !marks.iter().any(|mark| mark.kind == MarkKind::Pin))
        }
        Err(error) if is_damage(&error) => {
            context.monitor.problem(&error);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
