//! States of a whole site: its points.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, ItemKey, Result, SiteName, SystemName, Timestamp};
use policies::{Candidate, Selector, When, choose};
use repository::Repository;
use repository::mark::{Mark, MarkKind};
use repository::point::{Point, PointId};
use repository::types::StreamName;

use super::candidates::{Newest, State, grow};
use super::{ACTION, HostOf, REQUESTS_MAX, Resolved, ResolvedSystem, of_snapshot};

/// A point that was chosen.
pub(crate) struct Chosen {
    pub(crate) point: Point,
    pub(crate) skipped_partial: usize,
}

impl State for Point {
    fn candidate(&self) -> Candidate {
        candidate(self, &[])
    }

    fn older_ended_by(&self) -> Timestamp {
        self.sealed
    }
}

fn candidate(point: &Point, marks: &[Mark]) -> Candidate {
    let own = || marks.iter().filter(|mark| mark.point == point.id);
    let tag = |mark: &Mark| match &mark.kind {
        MarkKind::Tag(tag) => Some(tag.clone()),
        MarkKind::Pin | MarkKind::Verified => None,
    };
    Candidate {
        id: point.id.short(),
        cut_to: point.cut_to,
        is_complete: point.is_complete(),
        is_verified: own().any(|mark| mark.kind == MarkKind::Verified),
        tags: own().filter_map(tag).collect(),
    }
}

/// Chooses a point of a site; none where nothing fits.
pub(crate) async fn choose_point(
    repository: &Repository,
    site: &SiteName,
    when: &When,
) -> Result<Option<Chosen>> {
    let (mut points, choice) = match when {
        When::Tag(_) | When::Verified => {
            let (points, marks) = marked_points(repository, site, when).await?;
            let candidates: Vec<_> = points.iter().map(|point| candidate(point, &marks)).collect();
            let choice = choose(when, &candidates)?;
            (points, choice)
        }
        When::Id(prefix) => {
            let mut points = repository.find_points(prefix).await?;
            points.retain(|point| point.id.site == *site);
            let candidates: Vec<_> = points.iter().map(State::candidate).collect();
            let choice = choose(when, &candidates)?;
            (points, choice)
        }
        When::Latest { .. } | When::Time(_) => {
            // One that is damaged does not hide the others.
            let newest = |count| async move {
                let found = repository.survey_points(site, count).await?;
                let is_all = found.points.len() + found.unreadable.len() < count;
                Ok(Newest { states: found.points, is_all })
            };
            grow(when, newest).await?
        }
    };
    let Some(choice) = choice.filter(|choice| choice.index < points.len()) else { return Ok(None) };
    let point = points.swap_remove(choice.index);
    Ok(Some(Chosen { point, skipped_partial: choice.skipped_partial }))
}

/// Reads the points that carry the marks that are asked for, and no others.
async fn marked_points(
    repository: &Repository,
    site: &SiteName,
    when: &When,
) -> Result<(Vec<Point>, Vec<Mark>)> {
    let marks = repository.marks(site).await?;
    let is_asked_for = |mark: &&Mark| match (&mark.kind, when) {
        (MarkKind::Tag(tag), When::Tag(wanted)) => tag == wanted,
        (MarkKind::Verified, When::Verified) => true,
        _ => false,
    };
    let ids: BTreeSet<PointId> =
        marks.iter().filter(is_asked_for).map(|mark| mark.point.clone()).collect();
    let points = stream::iter(ids)
        .map(|id| {
            let repository = repository.clone();
            async move {
                match repository.point(&id).await {
                    Ok(point) => Ok(Some(point)),
                    // It was forgotten; what was said of it stays.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
        })
        .buffered(REQUESTS_MAX)
        .try_filter_map(|point| std::future::ready(Ok(point)))
        .try_collect()
        .await?;
    Ok((points, marks))
}

/// Finds the state of a site that a selector means.
pub(super) async fn resolve(
    repository: &Repository,
    site: SiteName,
    selector: &Selector,
    host_of: HostOf<'_>,
) -> Result<Resolved> {
    let Some(chosen) = choose_point(repository, &site, &selector.when).await? else {
        return Err(no_such_point(repository, &site, &selector.when).await);
    };
    let skipped_partial = chosen.skipped_partial;
    let resolved = of_point(repository, chosen.point, &selector.path, host_of).await?;
    Ok(Resolved { skipped_partial, ..resolved })
}

/// Reads the snapshots that a point names.
async fn of_point(
    repository: &Repository,
    point: Point,
    path: &ItemKey,
    host_of: HostOf<'_>,
) -> Result<Resolved> {
    let ids: Vec<_> = point.entries.iter().filter_map(|entry| entry.snapshot.clone()).collect();
    let snapshots = stream::iter(ids)
        .map(|id| {
            let repository = repository.clone();
            async move { repository.snapshot(&id).await }
        })
        .buffered(REQUESTS_MAX)
        .try_collect::<Vec<_>>()
        .await?;
    let systems = snapshots
        .into_iter()
        .map(|snapshot| of_snapshot(repository, snapshot, path, host_of))
        .collect::<Result<Vec<_>>>()?;
    Ok(Resolved {
        site: point.id.site.clone(),
        id: point.id.short(),
        chosen_at: point.cut_to,
        skipped_partial: 0,
        systems,
        point: Some(point),
    })
}

/// Reads one system's state of a point.
pub(super) async fn of_point_entry(
    repository: &Repository,
    chosen: Chosen,
    system: &SystemName,
    path: &ItemKey,
    host_of: HostOf<'_>,
) -> Result<Resolved> {
    let Chosen { mut point, skipped_partial } = chosen;
    let all = std::mem::take(&mut point.entries);
    let (mut named, _): (Vec<_>, Vec<_>) =
        all.iter().cloned().partition(|entry| entry.system == *system);
    named.retain(|entry| entry.snapshot.is_some());
    if named.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, ACTION, point.id.short())
            .detail(format!("the point holds no state of {system}")));
    }
    let part = Point { entries: named, ..point.clone() };
    let resolved = of_point(repository, part, path, host_of).await?;
    let stands_at = resolved.systems.first().map(|system| system.stands_at);
    Ok(Resolved {
        chosen_at: stands_at.unwrap_or(resolved.chosen_at),
        skipped_partial,
        point: Some(Point { entries: all, ..point }),
        ..resolved
    })
}

/// Says that no point fits, and what there is instead.
pub(crate) async fn no_such_point(repository: &Repository, site: &SiteName, when: &When) -> Error {
    let streams = match repository.streams().await {
        Ok(streams) => streams,
        Err(error) => return error,
    };
    let systems: Vec<_> = streams
        .into_iter()
        .filter(|stream| stream.site == *site)
        .map(|stream| stream.system.to_string())
        .collect();
    let what = match when {
        When::Latest { .. } => "there is no complete recovery point, or not so many".to_owned(),
        When::Verified => "no recovery point was proven by a restore".to_owned(),
        When::Tag(tag) => format!("no recovery point carries the tag {tag:?}"),
        When::Id(id) => format!("no recovery point has the id {id}"),
        When::Time(_) => "there is no complete recovery point so early".to_owned(),
    };
    let detail = match systems.as_slice() {
        [] => format!("{what}; nothing of the site was captured"),
        systems => format!("{what}; systems with snapshots: {}", systems.join(", ")),
    };
    Error::new(ErrorKind::NotFound, ACTION, site.to_string()).detail(detail)
}

/// Returns the newest states, newest first: the points of a site, or the snapshots of one system.
///
/// # Errors
/// As [`super::resolve`].
pub async fn resolve_newest(
    repository: &Repository,
    (site, system): (Option<&SiteName>, Option<&SystemName>),
    count: usize,
    path: &ItemKey,
    host_of: HostOf<'_>,
    context: &Context,
) -> Result<Vec<Resolved>> {
    context.check(ACTION)?;
    let site = super::resolve_site(repository, site).await?;
    if let Some(system) = system {
        let stream = StreamName { site, system: system.clone() };
        let snapshots = repository.newest_snapshots(&stream, count).await?;
        let resolved = snapshots.into_iter().map(|snapshot| {
            let system = of_snapshot(repository, snapshot, path, host_of)?;
            Ok(Resolved::of_system(system))
        });
        return resolved.collect();
    }
    let points = repository.newest_points(&site, count).await?;
    stream::iter(points)
        .map(|point| of_point(repository, point, path, host_of))
        .buffered(REQUESTS_MAX)
        .try_collect()
        .await
}

impl Resolved {
    /// Returns the state of one system alone.
    pub(super) fn of_system(system: ResolvedSystem) -> Self {
        Self {
            site: system.stream.site.clone(),
            point: None,
            id: system.snapshot.id.short(),
            chosen_at: system.stands_at,
            skipped_partial: 0,
            systems: vec![system],
        }
    }
}
