//! Sealing a point: one state of every system of a site, from what was captured just now and, where
//! that failed, from what was captured before.

use std::time::Duration;

use model::{Context, Error, ErrorKind, Result, SiteName, SystemName, Timestamp};
use repository::Repository;
use repository::point::{ClockReading, Freshness, Point, PointDraft, PointEntry};
use repository::snapshot::Snapshot;
use repository::types::StreamName;

/// A system that a point has to cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The system.
    pub system: SystemName,
    /// Its kind.
    pub kind: String,
}

/// Seals a point over the systems of a policy.
///
/// A system whose capture failed, or that was not captured, is carried: its newest earlier snapshot
/// stands in, with its age. The point is complete where every system is there and what is carried is
/// not older than `skew_max` (zero: nothing may be carried). Items that could not be read do not make a
/// point partial; they are noted among its checks.
///
/// # Errors
/// Those of the store; `Invalid` where a system was captured that is not expected.
pub async fn seal(
    repository: &Repository,
    site: &SiteName,
    expected: &[Expected],
    captured: Vec<(SystemName, Result<Snapshot>)>,
    skew_max: Duration,
    context: &Context,
) -> Result<Point> {
    let draft = draft(repository, site, expected, captured, skew_max, context).await?;
    let point = repository.seal_point(site, draft, context).await?;
    check_carried(repository, &point, context).await?;
    Ok(point)
}

/// Makes sure that nothing that a point carries was forgotten while it was sealed. A point refers to it
/// first, and it is looked at then: whoever forgets it from now on leaves it to the point.
async fn check_carried(repository: &Repository, point: &Point, context: &Context) -> Result<()> {
    let carried = point.entries.iter().filter(|entry| entry.freshness == Freshness::Carried);
    for snapshot in carried.filter_map(|entry| entry.snapshot.as_ref()) {
        if repository.is_forgotten(snapshot).await? {
            repository.forget_point(&point.id, context).await?;
            return Err(Error::new(ErrorKind::Conflict, "seal point", point.id.short())
                .detail(format!("{snapshot}, which it carries, was forgotten meanwhile")));
        }
    }
    Ok(())
}

async fn draft(
    repository: &Repository,
    site: &SiteName,
    expected: &[Expected],
    mut captured: Vec<(SystemName, Result<Snapshot>)>,
    skew_max: Duration,
    context: &Context,
) -> Result<PointDraft> {
    let mut draft = PointDraft {
        entries: Vec::new(),
        lacks: Vec::new(),
        checks: Vec::new(),
        clocks: Vec::new(),
    };
    let mut expected: Vec<_> = expected.iter().collect();
    expected.sort_by(|a, b| a.system.cmp(&b.system));
    expected.dedup_by(|a, b| a.system == b.system);
    for Expected { system, kind } in expected {
        let found = captured.iter().position(|(name, _)| name == system);
        let why = match found.map(|index| captured.swap_remove(index).1) {
            Some(Ok(snapshot)) => {
                draft.clocks.push(ClockReading {
                    writer: snapshot.cut_to,
                    source: snapshot.source_time,
                    store: snapshot.store_time,
                });
                draft.add(entry(system, Freshness::Fresh, &snapshot));
                continue;
            }
            Some(Err(error)) => error.chain(),
            None => "it was not captured".to_owned(),
        };
        let stream = StreamName { site: site.clone(), system: system.clone() };
        match newest(repository, &stream).await? {
            Some(snapshot) => {
                let age = context.clock.now().since(snapshot.cut_to);
                draft.carry(system, &snapshot, age, (age > skew_max).then_some(why));
            }
            None => draft.miss(system, kind, why),
        }
    }
    if let Some((system, _)) = captured.first() {
        return Err(Error::new(ErrorKind::Invalid, "seal point", system.to_string())
            .detail("the policy names no such system"));
    }
    Ok(draft)
}

async fn newest(repository: &Repository, stream: &StreamName) -> Result<Option<Snapshot>> {
    Ok(repository.newest_snapshots(stream, 1).await?.into_iter().next())
}

fn entry(system: &SystemName, freshness: Freshness, snapshot: &Snapshot) -> PointEntry {
    PointEntry {
        system: system.clone(),
        kind: snapshot.kind.clone(),
        freshness,
        snapshot: Some(snapshot.id.clone()),
        position: Some(snapshot.position.clone()),
        cut_from: snapshot.cut_from,
        cut_to: snapshot.cut_to,
        items: snapshot.root.totals.items,
        content_bytes: snapshot.root.totals.content_bytes,
        problems: snapshot.problems,
    }
}

trait Fill {
    fn add(&mut self, entry: PointEntry);
    fn carry(
        &mut self,
        system: &SystemName,
        snapshot: &Snapshot,
        age: Duration,
        why: Option<String>,
    );
    fn miss(&mut self, system: &SystemName, kind: &str, why: String);
}

impl Fill for PointDraft {
    fn add(&mut self, entry: PointEntry) {
        if entry.problems > 0 {
            self.checks
                .push(format!("{}: {} problems while reading", entry.system, entry.problems));
        }
        self.entries.push(entry);
    }

    fn carry(
        &mut self,
        system: &SystemName,
        snapshot: &Snapshot,
        age: Duration,
        why: Option<String>,
    ) {
        let carried = format!("{system}: carried, {} old", shown(age));
        match why {
            Some(why) => self.lacks.push(format!("{carried}: {why}")),
            None => self.checks.push(carried),
        }
        self.add(entry(system, Freshness::Carried, snapshot));
    }

    fn miss(&mut self, system: &SystemName, kind: &str, why: String) {
        self.lacks.push(format!("{system}: missing: {why}"));
        self.entries.push(PointEntry {
            system: system.clone(),
            kind: kind.to_owned(),
            freshness: Freshness::Missing(why),
            snapshot: None,
            position: None,
            cut_from: Timestamp::default(),
            cut_to: Timestamp::default(),
            items: 0,
            content_bytes: 0,
            problems: 0,
        });
    }
}

/// Shows a duration by its two greatest units.
fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{CaptureOptions, capture};
    use crate::testing::repository;
    use testkit::ScriptedSystem;

    fn expected(names: &[&str]) -> Vec<Expected> {
        let system = |name: &&str| name.parse().expect("name");
        names
            .iter()
            .map(|name| Expected { system: system(name), kind: "scripted".to_owned() })
            .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_point_is_complete_where_every_system_is_fresh_or_carried_within_the_skew() {
        let (context, handles) = testkit::context(1);
        let repository = repository(&context).await;
        let site: SiteName = "prod".parse().expect("site");
        let scratch = tempfile::tempdir().expect("scratch");
        let options = CaptureOptions {
            host: "h1".to_owned(),
            domain: "default".to_owned(),
            recheck_every_captures: 0,
            read_everything: false,
            scratch_folder: scratch.path().to_owned(),
            workers: 1,
        };
        let take = async |name: &str| {
            let system: SystemName = name.parse().expect("name");
            let stream = StreamName { site: site.clone(), system: system.clone() };
            let scripted = ScriptedSystem::new("file a 1*10");
            let captured = capture(&repository, &stream, &scripted, &options, &context).await;
            (system, captured.map(|captured| captured.snapshot))
        };
        let failed = |name: &str| {
            let error = Error::new(ErrorKind::Unavailable, "cut system", name);
            (name.parse::<SystemName>().expect("name"), Err(error))
        };
        let both = expected(&["b", "a"]);
        let seal = async |captured, skew_s| {
            let skew = Duration::from_secs(skew_s);
            seal(&repository, &site, &both, captured, skew, &context).await
        };
        let point = seal(vec![take("a").await, failed("b")], 0).await.expect("seal");
        assert_eq!(point.lacks, ["b: missing: cut system b"]);
        let names: Vec<_> = point.entries.iter().map(|entry| entry.system.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(matches!(point.entries[1].freshness, Freshness::Missing(_)));

        let point = seal(vec![take("a").await, take("b").await], 0).await.expect("seal");
        assert!(point.is_complete(), "{:?}", point.lacks);
        assert_eq!((point.entries[1].items, point.entries[1].content_bytes), (1, 10));

        handles.clock.advance(Duration::from_secs(120));
        let point = seal(vec![take("a").await, failed("b")], 60).await.expect("seal");
        assert_eq!(point.lacks, ["b: carried, 2 min old: cut system b"]);
        assert_eq!(point.entries[1].freshness, Freshness::Carried);
        let point = seal(vec![take("a").await], 300).await.expect("seal");
        assert!(point.is_complete());
        assert_eq!(point.checks, ["b: carried, 2 min old"]);

        let error = seal(vec![failed("c")], 0).await.expect_err("not in the policy");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn ages_are_shown_by_what_matters() {
        for (seconds, expected) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(shown(Duration::from_secs(seconds)), expected);
        }
    }
}
