//! Forgetting points and snapshots: what is no longer wanted is said so; the collector frees it.

use std::collections::{BTreeMap, BTreeSet};

use model::{Context, Error, ErrorKind, Result};
use policies::{Selector, When};
use repository::Repository;
use repository::hold::Holds;
use repository::mark::MarkKind;
use repository::point::{Freshness, Point, PointId};
use repository::snapshot::Snapshot;
use repository::types::{SessionId, StreamName};

use crate::select::{choose_point, choose_snapshot, no_such_point, resolve_site};

/// What was forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The point; none where a snapshot was asked for.
    pub point: Option<PointId>,
    /// Snapshots that nothing else needs, forgotten with it or by themselves.
    pub snapshots: Vec<SessionId>,
    /// Snapshots of the point that stay: another point names them, or they are their system's newest,
    /// which the next capture builds on, or a hold covers them.
    pub kept: Vec<SessionId>,
    /// How many points of the site remain.
    pub points_left: usize,
}

/// Says that a point, or a snapshot of one system, is no longer wanted. With a point go those of its
/// snapshots that nothing else needs.
///
/// # Errors
/// `NotFound` where there is none; `Denied` where the point is pinned or held; `Conflict` where points name the
/// snapshot; `Invalid` where one system's state is not named by its own snapshot; those of the store.
pub async fn forget(
    repository: &Repository,
    selector: &Selector,
    context: &Context,
) -> Result<Forgotten> {
    context.check("forget")?;
    if !selector.path.is_root() {
        return Err(Error::new(ErrorKind::Invalid, "forget", selector.path.display())
            .detail("a state is forgotten as a whole"));
    }
    let site = resolve_site(repository, selector.site.as_ref()).await?;
    if let Some(system) = &selector.system {
        let stream = StreamName { site, system: system.clone() };
        return forget_snapshot(repository, &stream, &selector.when, context).await;
    }
    match choose_point(repository, &site, &selector.when).await? {
        Some(chosen) => forget_point(repository, &chosen.point, context).await,
        None => Err(no_such_point(repository, &site, &selector.when).await),
    }
}

async fn forget_point(
    repository: &Repository,
    point: &Point,
    context: &Context,
) -> Result<Forgotten> {
    let marks = repository.marks(&point.id.site).await?;
    if let Some(pin) = marks.iter().find(|m| m.point == point.id && m.kind == MarkKind::Pin) {
        let note = if pin.note.is_empty() { String::new() } else { format!(": {}", pin.note) };
        return Err(Error::new(ErrorKind::Denied, "forget point", point.id.short())
            .detail(format!("it is pinned{note}")));
    }
    let holds = repository.holds(context.clock.now()).await?;
    if let Some(hold) = holds.on_point(&point.id) {
        return Err(hold.in_the_way(point.id.short()));
    }
    let mut others = repository.newest_points(&point.id.site, usize::MAX).await?;
    others.retain(|other| other.id != point.id);
    let mut newest = BTreeMap::new();
    for entry in &point.entries {
        let Some(id) = &entry.snapshot else { continue };
        if let Some(snapshot) = repository.newest_snapshots(&id.stream, 1).await?.pop() {
            newest.insert(id.stream.clone(), snapshot.id);
        }
    }
    let (snapshots, kept) = divide(point, &others, &newest, &holds);
    // The point first: it may not name what is gone.
    repository.forget_point(&point.id, context).await?;
    for id in &snapshots {
        match repository.forget_snapshot(id, context).await {
            // Somebody was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            forgotten => forgotten?,
        }
    }
    let points_left = others.len();
    Ok(Forgotten { point: Some(point.id.clone()), snapshots, kept, points_left })
}

/// Divides a point's snapshots into those that nothing else needs or holds and those that stay.
fn divide(
    point: &Point,
    others: &[Point],
    newest: &BTreeMap<StreamName, SessionId>,
    holds: &Holds,
) -> (Vec<SessionId>, Vec<SessionId>) {
    let needed: BTreeSet<&SessionId> =
        others.iter().flat_map(named).chain(newest.values()).collect();
    named(point).cloned().partition(|id| !needed.contains(id) && holds.on_snapshot(id).is_none())
}

/// Lists the snapshots that a point names.
fn named(point: &Point) -> impl Iterator<Item = &SessionId> {
    let is_there = |freshness: &Freshness| !matches!(freshness, Freshness::Missing(_));
    let there = point.entries.iter().filter(move |entry| is_there(&entry.freshness));
    there.filter_map(|entry| entry.snapshot.as_ref())
}

async fn forget_snapshot(
    repository: &Repository,
    stream: &StreamName,
    when: &When,
    context: &Context,
) -> Result<Forgotten> {
    let chosen = match when {
        When::Tag(_) | When::Verified => None,
        When::Latest { .. } | When::Id(_) | When::Time(_) => {
            choose_snapshot(repository, stream, when).await?
        }
    };
    let Some(Snapshot { id, .. }) = chosen else {
        return Err(Error::new(ErrorKind::NotFound, "forget snapshot", stream.to_string())
            .detail("no snapshot of its own fits"));
    };
    let points = repository.newest_points(&stream.site, usize::MAX).await?;
    let naming: Vec<_> = points
        .iter()
        .filter(|point| named(point).any(|named| *named == id))
        .map(|point| point.id.short())
        .collect();
    if let Some(first) = naming.first() {
        return Err(Error::new(ErrorKind::Conflict, "forget snapshot", id.to_string())
            .detail(format!("{} points name it, as {first}; forget those", naming.len())));
    }
    repository.forget_snapshot(&id, context).await?;
    Ok(Forgotten { point: None, snapshots: vec![id], kept: Vec::new(), points_left: points.len() })
}

#[cfg(test)]
mod tests {
    use model::{Position, Timestamp};
    use repository::hold::{Hold, HoldRequest, HoldScope};
    use repository::point::PointEntry;
    use repository::types::{HoldId, Number, WriterId};

    use super::*;

    fn session(text: &str) -> SessionId {
        let (system, number) = text.split_once('#').expect("system#number");
        SessionId {
            stream: format!("prod.{system}").parse().expect("stream"),
            number: Number::new(number.parse().expect("number")).expect("in range"),
            random: [7; 8],
        }
    }

    /// Notation: words `system#number`.
    fn point(number: u64, text: &str) -> Point {
        let entry = |word: &str| PointEntry {
            system: session(word).stream.system,
            kind: "scripted".to_owned(),
            freshness: Freshness::Fresh,
            snapshot: Some(session(word)),
            position: Some(Position(bytes::Bytes::new())),
            cut_from: Timestamp::default(),
            cut_to: Timestamp::default(),
            items: 0,
            content_bytes: 0,
            problems: 0,
        };
        Point {
            id: PointId {
                site: "prod".parse().expect("site"),
                chain: [1; 16],
                number: Number::new(number).expect("in range"),
            },
            writer: WriterId([0; 16]),
            cut_from: Timestamp::default(),
            cut_to: Timestamp::default(),
            sealed: Timestamp::default(),
            store_time: None,
            is_clock_suspect: false,
            entries: text.split_whitespace().map(entry).collect(),
            lacks: Vec::new(),
            checks: Vec::new(),
        }
    }

    #[test]
    fn snapshots_go_with_a_point_unless_something_needs_them() {
        let newest = ["a#9", "b#2"].map(session).map(|id| (id.stream.clone(), id)).into();
        let others = [point(2, "a#3 c#1"), point(3, "a#4")];
        let held = Hold {
            id: HoldId([1; 16]),
            request: HoldRequest {
                scope: HoldScope::Snapshot(session("d#1")),
                snapshots: Vec::new(),
                who: "somebody".to_owned(),
                why: "a reason".to_owned(),
                until: None,
            },
            writer: WriterId([0; 16]),
            at: Timestamp::default(),
            release: None,
        };
        let holds = Holds::in_force(vec![held], Timestamp::default());
        let (gone, kept) = divide(&point(1, "a#2 b#2 c#1 d#1 d#0"), &others, &newest, &holds);
        assert_eq!(gone, [session("a#2"), session("d#0")]);
        assert_eq!(kept, [session("b#2"), session("c#1"), session("d#1")]);
    }
}
