//! What has to be true of what interrupted runs left.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Context, Error, ErrorKind, Result, SiteName, Timestamp};
use object_store::ObjectStore;
use repository::mark::MarkKind;
use repository::point::{Point, PointId};
use repository::store::Store;
use repository::types::{SessionId, StreamName};
use repository::verify::{Depth, VerifyOptions, verify};
use repository::{OpenOptions, Repository};

use super::SITE;
use super::fact::Fact;
use super::plan::{Expected, MAIN, SIDE};
use crate::logs;
use crate::observe::{
    describe_point, describe_snapshot, difference, digest, read_logged, read_snapshot, revision_of,
};

/// More than any run makes.
const ALL: usize = 10_000;

/// Checks what interrupted runs left, reading everything that is visible. `deep` has `verify` read every
/// byte too.
///
/// # Errors
/// Those of the store, which has to be sound by now, and `Corrupt` for each broken promise.
pub async fn check(
    objects: Arc<dyn ObjectStore>,
    expected: &mut Expected,
    acknowledged: &[Fact],
    deep: bool,
    context: &Context,
) -> Result<()> {
    let store = Store::new(objects, "scripted", context);
    let Some(repository) = open_with_all_keys(&store, acknowledged, context).await? else {
        return Ok(());
    };
    let mut checker = Checker { repository: &repository, expected, acknowledged, context };
    checker.check_snapshots().await?;
    checker.check_points().await?;
    checker.check_marks().await?;
    checker.check_log().await?;
    checker.verify(deep).await
}

/// Opens the repository with each key that was promised to open it.
async fn open_with_all_keys(
    store: &Store,
    acknowledged: &[Fact],
    context: &Context,
) -> Result<Option<Repository>> {
    let promised = acknowledged.iter().filter_map(|fact| match fact {
        Fact::Added(key) if !acknowledged.contains(&Fact::Removed(*key)) => Some(*key),
        _ => None,
    });
    let mut opened = None;
    for key in promised.collect::<BTreeSet<_>>() {
        let options = OpenOptions::default();
        let found = Repository::open(store.clone(), &key.unlock(), options, context).await;
        let repository =
            found.map_err(|error| broken(format!("{key:?} is lost")).because(error))?;
        repository.slots().await?;
        opened = opened.or(Some(repository));
    }
    Ok(opened)
}

struct Checker<'a> {
    repository: &'a Repository,
    expected: &'a mut Expected,
    acknowledged: &'a [Fact],
    context: &'a Context,
}

impl Checker<'_> {
    fn says(&self, fact: &Fact) -> bool {
        self.acknowledged.contains(fact)
    }

    /// Every listed snapshot is a state that the system went through, whole; every acknowledged one is
    /// listed, unless it was to be forgotten; none that is forgotten is listed.
    async fn check_snapshots(&mut self) -> Result<()> {
        let mut listed = BTreeSet::new();
        for stream in self.repository.streams().await? {
            for snapshot in self.repository.newest_snapshots(&stream, ALL).await? {
                let id = &snapshot.id;
                let lost = |error| broken(format!("{id} is listed and not whole")).because(error);
                let found = read_snapshot(self.repository, &snapshot).await.map_err(lost)?;
                let states = match stream.system.as_str() {
                    MAIN => &mut self.expected.main,
                    SIDE => &mut self.expected.side,
                    _ => return Err(broken(format!("{stream} was never captured"))),
                };
                let expected = states.at(&snapshot.position);
                let expected = expected.ok_or_else(|| broken(format!("{id} stands nowhere")))?;
                if let Some(difference) = difference(&found, expected) {
                    return Err(broken(format!("{id} is another state: {difference}")));
                }
                if snapshot.is_checkpoint {
                    return Err(broken(format!("{id} is a checkpoint and listed")));
                }
                listed.insert(id.clone());
                let described = digest(&describe_snapshot(&snapshot));
                self.check_description(
                    |fact| match fact {
                        Fact::Snapshot(promised, digest) if promised == id => Some(digest),
                        _ => None,
                    },
                    &described,
                    &id.to_string(),
                )?;
            }
        }
        for fact in self.acknowledged {
            match fact {
                Fact::Snapshot(id, _)
                    if !self.says(&Fact::Forgetting(id.clone())) && !listed.contains(id) =>
                {
                    return Err(broken(format!("{id} is lost")));
                }
                Fact::Forgotten(id) if listed.contains(id) => {
                    return Err(broken(format!("{id} is forgotten and listed")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_description<'f>(
        &'f self,
        promise: impl Fn(&'f Fact) -> Option<&'f String>,
        found: &str,
        what: &str,
    ) -> Result<()> {
        match self.acknowledged.iter().find_map(promise) {
            Some(promised) if promised != found => {
                Err(broken(format!("{what} is described otherwise than promised")))
            }
            _ => Ok(()),
        }
    }

    async fn check_points(&mut self) -> Result<()> {
        let site: SiteName = SITE.parse()?;
        let listed = self.repository.newest_points(&site, ALL).await?;
        for point in &listed {
            let described = digest(&describe_point(point));
            self.check_description(
                |fact| match fact {
                    Fact::Point(promised, digest) if *promised == point.id => Some(digest),
                    _ => None,
                },
                &described,
                &format!("{:?}", point.id),
            )?;
            self.check_entries(point).await?;
        }
        let is_listed = |id: &PointId| listed.iter().any(|point| point.id == *id);
        for fact in self.acknowledged {
            match fact {
                Fact::Point(id, _) if !self.says(&Fact::ForgettingPoint(id.clone())) => {
                    if !is_listed(id) {
                        return Err(broken(format!("{id:?} is lost")));
                    }
                    let read = self.repository.point(id).await?;
                    if !listed.contains(&read) {
                        return Err(broken(format!("{id:?} is listed otherwise than read")));
                    }
                }
                Fact::ForgottenPoint(id) if is_listed(id) => {
                    return Err(broken(format!("{id:?} is forgotten and listed")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A listed point names snapshots that are there.
    async fn check_entries(&self, point: &Point) -> Result<()> {
        let is_going = self.says(&Fact::ForgettingPoint(point.id.clone()));
        for id in point.entries.iter().filter_map(|entry| entry.snapshot.as_ref()) {
            let found = self.repository.snapshot(id).await;
            found.map_err(|error| {
                broken(format!("{:?} names {id}, which is gone", point.id)).because(error)
            })?;
            if !is_going && self.repository.is_forgotten(id).await? {
                return Err(broken(format!("{:?} names {id}, which is forgotten", point.id)));
            }
        }
        Ok(())
    }

    async fn check_marks(&self) -> Result<()> {
        let marks = self.repository.marks(&SITE.parse()?).await?;
        let is_set = |point: &PointId, kind: &MarkKind| {
            marks.iter().any(|mark| mark.point == *point && mark.kind == *kind)
        };
        for fact in self.acknowledged {
            match fact {
                Fact::Marked(point, kind)
                    if !self.says(&Fact::Unmarking(point.clone(), kind.clone()))
                        && !self.says(&Fact::ForgettingPoint(point.clone()))
                        && !is_set(point, kind) =>
                {
                    return Err(broken(format!("{kind:?} of {point:?} is lost")));
                }
                Fact::Unmarked(point, kind) if is_set(point, kind) => {
                    return Err(broken(format!("{kind:?} of {point:?} is taken back and there")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every run of batches has no gap, holds what was promised, and leads to states that the system
    /// went through.
    async fn check_log(&mut self) -> Result<()> {
        let main: StreamName = format!("{SITE}.{MAIN}").parse()?;
        let bases: BTreeSet<SessionId> = self
            .acknowledged
            .iter()
            .filter_map(|fact| match fact {
                Fact::Batch(base, ..) => Some(base.clone()),
                _ => None,
            })
            .collect();
        for base in bases {
            let batches = logs::read(self.repository, &main, &base).await?;
            let numbers: Vec<_> = batches.iter().map(|batch| batch.number).collect();
            if !numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
                return Err(broken(format!("the log over {base} has gaps: {numbers:?}")));
            }
            for fact in self.acknowledged {
                if let Fact::Batch(of, number, revision) = fact
                    && *of == base
                {
                    let batch = batches.iter().find(|batch| batch.number == *number);
                    let upto = batch.and_then(|batch| revision_of(&batch.upto));
                    if upto != Some(*revision) {
                        return Err(broken(format!("batch {number} over {base} is lost")));
                    }
                }
            }
            let times: Vec<_> = batches.iter().map(|batch| batch.last_at).collect();
            self.check_replay(&base, &times).await?;
        }
        Ok(())
    }

    async fn check_replay(&mut self, base: &SessionId, times: &[Timestamp]) -> Result<()> {
        let snapshot = self.repository.snapshot(base).await?;
        // The first and the last: what is between differs from them by no mechanism.
        for upto in times.first().into_iter().chain(times.last()) {
            let (position, found) =
                read_logged(self.repository, &snapshot, *upto, self.context).await?;
            let expected = self.expected.main.at(&position);
            let expected =
                expected.ok_or_else(|| broken(format!("the log over {base} leads nowhere")))?;
            if let Some(difference) = difference(&found, expected) {
                return Err(broken(format!("the log over {base} leads elsewhere: {difference}")));
            }
        }
        Ok(())
    }

    async fn verify(&self, deep: bool) -> Result<()> {
        let depth = if deep { Depth::Deep } else { Depth::Structure };
        let options = VerifyOptions { depth, named: 3 };
        let report = verify(self.repository, &options, self.context).await?;
        match report.damage.first() {
            Some(damage) => Err(broken(format!("verify finds damage: {damage:?}"))),
            None => Ok(()),
        }
    }
}

fn broken(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, "check what is left", what)
}
