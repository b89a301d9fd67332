//! States of one system: its snapshots, and what its log tells of the time after them.

use model::{Context, Error, ErrorKind, Result, Timestamp};
use policies::{Candidate, Selector, When};
use repository::Repository;
use repository::log::{LogEnd, LoggedTree};
use repository::snapshot::Snapshot;
use repository::types::StreamName;

use super::candidates::{Newest, State, grow};
use super::points::{choose_point, of_point_entry};
use super::{ACTION, HostOf, Items, Resolved, of_snapshot};

impl State for Snapshot {
    fn candidate(&self) -> Candidate {
        Candidate {
            id: self.id.short(),
            cut_to: self.cut_to,
            is_complete: true,
            is_verified: false,
            tags: Vec::new(),
        }
    }

    fn older_ended_by(&self) -> Timestamp {
        // Sessions of a stream follow one another.
        self.cut_to
    }
}

/// Chooses a snapshot of a stream; none where nothing fits.
pub(crate) async fn choose_snapshot(
    repository: &Repository,
    stream: &StreamName,
    when: &When,
) -> Result<Option<Snapshot>> {
    let newest = |count| async move {
        let snapshots = repository.newest_snapshots(stream, count).await?;
        Ok(Newest { is_all: snapshots.len() < count, states: snapshots })
    };
    let (mut snapshots, choice) = grow(when, newest).await?;
    let index = choice.map(|choice| choice.index).filter(|index| *index < snapshots.len());
    Ok(index.map(|index| snapshots.swap_remove(index)))
}

/// Finds the state of a system that a selector means.
pub(super) async fn resolve(
    repository: &Repository,
    stream: StreamName,
    selector: &Selector,
    host_of: HostOf<'_>,
    context: &Context,
) -> Result<Resolved> {
    let when = &selector.when;
    let upto = match when {
        When::Time(time) => Some(Some(*time)),
        When::Latest { back: 0 } => Some(None),
        When::Latest { .. } | When::Id(_) | When::Tag(_) | When::Verified => None,
    };
    if matches!(when, When::Tag(_) | When::Verified) {
        return of_point(repository, &stream, selector, host_of).await;
    }
    let chosen = choose_snapshot(repository, &stream, when);
    let log_end =
        async { if upto.is_some() { repository.log_end(&stream).await } else { Ok(None) } };
    let (chosen, log_end) = futures::try_join!(chosen, log_end)?;
    let Some(chosen) = chosen else {
        return match when {
            When::Id(_) => of_point(repository, &stream, selector, host_of).await,
            _ => Err(no_such_snapshot(&stream, when)),
        };
    };
    let later = match (log_end, upto) {
        (Some(end), Some(upto)) => later_state(repository, &chosen, &end, upto, context).await?,
        _ => None,
    };
    let Some((base, tree)) = later else {
        let system = of_snapshot(repository, chosen, &selector.path, host_of)?;
        return Ok(Resolved::of_system(system));
    };
    let (stands_at, position) = tree.stands_at();
    let position = position.clone();
    let mut system = of_snapshot(repository, base, &selector.path, host_of)?;
    system.stands_at = stands_at;
    system.position = position;
    system.items = Items::Logged(tree);
    Ok(Resolved::of_system(system))
}

/// Takes a system's state from the point that a selector means.
async fn of_point(
    repository: &Repository,
    stream: &StreamName,
    selector: &Selector,
    host_of: HostOf<'_>,
) -> Result<Resolved> {
    let chosen = choose_point(repository, &stream.site, &selector.when).await?;
    let chosen = chosen.ok_or_else(|| no_such_snapshot(stream, &selector.when))?;
    of_point_entry(repository, chosen, &stream.system, &selector.path, host_of).await
}

/// Looks for a state that is later than a snapshot and not after `upto`.
async fn later_state(
    repository: &Repository,
    chosen: &Snapshot,
    end: &LogEnd,
    upto: Option<Timestamp>,
    context: &Context,
) -> Result<Option<(Snapshot, LoggedTree)>> {
    let upto_or_end = upto.unwrap_or(end.last_at);
    if end.last_at <= chosen.cut_to {
        return Ok(None);
    }
    let base = if end.base == chosen.id {
        chosen.clone()
    } else {
        match repository.snapshot(&end.base).await {
            Ok(base) if base.cut_to <= chosen.cut_to => base,
            // The newest run began later: an earlier one may have begun at the chosen snapshot.
            Ok(_) => chosen.clone(),
            Err(error) if error.kind() == ErrorKind::NotFound => chosen.clone(),
            Err(error) => return Err(error),
        }
    };
    let tree = match LoggedTree::open(repository, &base, upto_or_end, context).await {
        Ok(tree) => tree,
        // A log that only its own system can replay.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_later = tree.stands_at().0 > chosen.cut_to;
    Ok(is_later.then_some((base, tree)))
}

fn no_such_snapshot(stream: &StreamName, when: &When) -> Error {
    let what = match when {
        When::Latest { .. } => "there is no snapshot, or not so many".to_owned(),
        When::Verified => "no recovery point was proven by a restore".to_owned(),
        When::Tag(tag) => format!("no recovery point carries the tag {tag:?}"),
        When::Id(id) => format!("no snapshot and no recovery point has the id {id}"),
        When::Time(_) => "there is no snapshot so early".to_owned(),
    };
    let subject = format!("{}/{}", stream.site, stream.system);
    Error::new(ErrorKind::NotFound, ACTION, subject).detail(what)
}
