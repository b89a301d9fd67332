//! A repository and what a naive one would hold, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::engine::{capture_system, resolved, restore_state, seal_point};
use chaos_tests::logs;
use chaos_tests::observe::{
    States, describe_point, describe_snapshot, difference, followed_system, read_logged,
    read_snapshot, state_of,
};
use futures::TryStreamExt;
use model::{Context, ErrorKind, Host, ItemKey, Position, SiteName, Target};
use object_store::memory::InMemory;
use operations::select::resolve;
use policies::{Selector, When};
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::log::LogBatch;
use repository::mark::MarkKind;
use repository::point::Point;
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::{SessionId, StreamName};
use repository::{CreateOptions, OpenOptions, Repository, tree};
use testkit::scripted::Shape;
use testkit::{Handles, MemoryTarget, Observed, ScriptedSystem, SeededEntropy};

use super::ops::{Op, SYSTEMS};

const NAMES: [&str; SYSTEMS] = ["sorted", "unsorted", "changes"];
/// The one that is followed.
const FOLLOWED: usize = 2;
/// More than any case makes.
const ALL: usize = 1_000;

type Checked = Result<(), String>;

struct NaiveSnapshot {
    system: usize,
    snapshot: Snapshot,
    state: Observed,
    is_forgotten: bool,
}

struct NaivePoint {
    point: Point,
    /// By system, which snapshot.
    snapshots: BTreeMap<usize, usize>,
    marks: BTreeSet<MarkKind>,
    is_forgotten: bool,
}

struct NaiveBatch {
    base: SessionId,
    number: u64,
    upto: Position,
}

pub struct World {
    disk: Arc<InMemory>,
    cache: tempfile::TempDir,
    context: Context,
    handles: Handles,
    repository: Repository,
    site: SiteName,
    systems: Vec<ScriptedSystem>,
    followed_lines: Vec<String>,
    /// Oldest first.
    snapshots: Vec<NaiveSnapshot>,
    points: Vec<NaivePoint>,
    batches: Vec<NaiveBatch>,
    /// What was captured since the last point.
    captured: BTreeMap<usize, usize>,
}

fn told(what: &str) -> impl Fn(model::Error) -> String {
    move |error| format!("{what}: {error:?}")
}

fn ensure(holds: bool, what: impl Fn() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

fn unlock() -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(9)))
}

impl World {
    pub async fn create() -> Self {
        let disk = Arc::new(InMemory::new());
        let (context, handles) = testkit::context(1);
        let store = Store::new(disk.clone(), "memory", &context);
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let created = Repository::create(store, &unlock(), options, &context).await;
        let plain = |shape| ScriptedSystem::new("").with_shape(shape);
        Self {
            disk,
            cache: tempfile::tempdir().expect("folder"),
            repository: created.expect("create"),
            context,
            handles,
            site: "site".parse().expect("site"),
            systems: vec![
                plain(Shape::Sorted),
                plain(Shape::Unsorted),
                followed_system(Shape::Changes),
            ],
            followed_lines: Vec::new(),
            snapshots: Vec::new(),
            points: Vec::new(),
            batches: Vec::new(),
            captured: BTreeMap::new(),
        }
    }

    pub async fn apply(&mut self, op: &Op) -> Checked {
        self.handles.clock.advance(Duration::from_secs(60));
        match op {
            Op::Edit(system, lines) => {
                lines.iter().for_each(|line| self.systems[*system].edit(line));
                if *system == FOLLOWED {
                    self.followed_lines.extend(lines.iter().cloned());
                }
                Ok(())
            }
            Op::Capture(system) => self.capture(*system).await,
            Op::Seal => self.seal().await,
            Op::Forget(choice) => self.forget(*choice).await,
            Op::ForgetPoint(choice) => self.forget_point(*choice).await,
            Op::Mark(choice, kind) => self.mark(*choice, kind, true).await,
            Op::Unmark(choice, kind) => self.mark(*choice, kind, false).await,
            Op::Follow => self.follow().await,
            Op::Compact => {
                let stream = self.stream(FOLLOWED);
                let done = logs::compact(&self.repository, &stream, &self.context).await;
                done.map_err(told("compact"))
            }
            Op::DeleteCompacted => {
                let stream = self.stream(FOLLOWED);
                let done = logs::delete_compacted(&self.repository, &stream, &self.context).await;
                done.map_err(told("delete what is compacted"))
            }
            Op::Reopen(has_cache) => self.reopen(*has_cache).await,
            Op::Restore(choice) => self.restore(*choice).await,
            Op::Diff(old, new) => self.diff(*old, *new).await,
            Op::Replay(choice) => self.replay(*choice).await,
        }
    }

    fn stream(&self, system: usize) -> StreamName {
        let name = NAMES[system].parse().expect("name");
        StreamName { site: self.site.clone(), system: name }
    }

    async fn capture(&mut self, system: usize) -> Checked {
        let stream = self.stream(system);
        let captured =
            capture_system(&self.repository, &stream, &self.systems[system], &self.context).await;
        let snapshot = captured.map_err(told("capture"))?.snapshot;
        let state = state_of(&self.systems[system]);
        self.captured.insert(system, self.snapshots.len());
        self.snapshots.push(NaiveSnapshot { system, snapshot, state, is_forgotten: false });
        Ok(())
    }

    async fn seal(&mut self) -> Checked {
        let captured: Vec<_> = self
            .captured
            .values()
            .map(|index| &self.snapshots[*index])
            .filter(|made| !made.is_forgotten)
            .map(|made| made.snapshot.clone())
            .collect();
        let fresh: Vec<_> = captured.iter().map(|snapshot| snapshot.id.clone()).collect();
        let systems = ("scripted", &NAMES[..]);
        let point =
            seal_point(&self.repository, &self.site, systems, captured, &self.context).await;
        let point = point.map_err(told("seal"))?;
        let mut snapshots = BTreeMap::new();
        for (system, name) in NAMES.iter().enumerate() {
            let entry = point.entries.iter().find(|entry| entry.system.as_str() == *name);
            let entry = entry.ok_or_else(|| format!("{name} is not in the point"))?;
            let newest = self.newest(system);
            let expected = newest.map(|index| self.snapshots[index].snapshot.id.clone());
            ensure(entry.snapshot == expected, || {
                format!("{name} is {entry:?} instead of {expected:?}; fresh are {fresh:?}")
            })?;
            snapshots.extend(newest.map(|index| (system, index)));
        }
        self.captured.clear();
        let (marks, is_forgotten) = (BTreeSet::new(), false);
        self.points.push(NaivePoint { point, snapshots, marks, is_forgotten });
        Ok(())
    }

    fn newest(&self, system: usize) -> Option<usize> {
        self.snapshots.iter().rposition(|made| made.system == system && !made.is_forgotten)
    }

    async fn forget(&mut self, choice: usize) -> Checked {
        let Some(index) = choice.checked_rem(self.snapshots.len()) else { return Ok(()) };
        let id = self.snapshots[index].snapshot.id.clone();
        let is_named = self
            .points
            .iter()
            .any(|p| !p.is_forgotten && p.snapshots.values().any(|s| *s == index));
        let is_base = self.batches.iter().any(|batch| batch.base == id);
        if self.snapshots[index].is_forgotten || is_named || is_base {
            return Ok(());
        }
        self.snapshots[index].is_forgotten = true;
        let forgotten = self.repository.forget_snapshot(&id, &self.context).await;
        forgotten.map_err(told("forget"))?;
        let is_forgotten = self.repository.is_forgotten(&id).await.map_err(told("look"))?;
        ensure(is_forgotten, || format!("{id} was forgotten and is not"))
    }

    async fn forget_point(&mut self, choice: usize) -> Checked {
        let Some(index) = choice.checked_rem(self.points.len()) else { return Ok(()) };
        let made = &mut self.points[index];
        if made.is_forgotten {
            return Ok(());
        }
        let forgotten = self.repository.forget_point(&made.point.id, &self.context).await;
        if made.marks.contains(&MarkKind::Pin) {
            let kind = forgotten.expect_err("a pinned point is kept").kind();
            return ensure(kind == ErrorKind::Denied, || format!("pinned, and told {kind:?}"));
        }
        made.is_forgotten = true;
        forgotten.map_err(told("forget point"))
    }

    async fn mark(&mut self, choice: usize, kind: &MarkKind, sets: bool) -> Checked {
        let Some(index) = choice.checked_rem(self.points.len()) else { return Ok(()) };
        let made = &mut self.points[index];
        if made.is_forgotten {
            return Ok(());
        }
        let id = &made.point.id;
        if sets {
            made.marks.insert(kind.clone());
            let set = self.repository.set_mark(id, kind.clone(), "why", &self.context).await;
            set.map_err(told("mark"))
        } else {
            made.marks.remove(kind);
            let removed = self.repository.remove_mark(id, kind, &self.context).await;
            removed.map_err(told("take mark back"))
        }
    }

    async fn follow(&mut self) -> Checked {
        let Some(index) = self.newest(FOLLOWED) else { return Ok(()) };
        let base = &self.snapshots[index].snapshot;
        let last = self.batches.iter().rfind(|batch| batch.base == base.id);
        let from = last.map_or(&base.position, |batch| &batch.upto).clone();
        let batches = &mut self.batches;
        let over = (&base.id, &from);
        logs::append(&self.repository, over, &self.systems[FOLLOWED], &self.context, {
            |number, upto| batches.push(NaiveBatch { base: base.id.clone(), number, upto })
        })
        .await
        .map_err(told("follow"))
    }

    async fn reopen(&mut self, has_cache: bool) -> Checked {
        let cache_folder = has_cache.then(|| self.cache.path().to_owned());
        let options = OpenOptions { cache_folder, ..OpenOptions::default() };
        let store = Store::new(self.disk.clone(), "memory", &self.context);
        let opened = Repository::open(store, &unlock(), options, &self.context).await;
        self.repository = opened.map_err(told("reopen"))?;
        self.check_lists().await
    }

    async fn restore(&self, choice: usize) -> Checked {
        let Some(index) = choice.checked_rem(self.snapshots.len()) else { return Ok(()) };
        let made = &self.snapshots[index];
        if made.is_forgotten {
            return Ok(());
        }
        let target = MemoryTarget::new();
        let system = resolved(&self.repository, &made.snapshot, None).map_err(told("open"))?;
        let into: Arc<dyn Target> = Arc::new(target.clone());
        let into = (&into, ItemKey::root());
        let restored = restore_state(&self.repository, &system, into, &self.context).await;
        // Nothing restored proves nothing, of a state without items.
        if !made.state.is_empty() {
            restored.map_err(told("restore"))?;
        }
        let found = target.state();
        let names: BTreeSet<_> = found.keys().filter(|key| !key.is_root()).collect();
        let expected: BTreeSet<_> = made.state.keys().collect();
        ensure(names == expected, || format!("restored {names:?} instead of {expected:?}"))?;
        for (key, expected) in &made.state {
            let found = &found[key];
            let is_same = found.item.kind == expected.item.kind
                && found.item.attributes == expected.item.attributes
                && found.content == expected.content;
            ensure(is_same, || format!("{key:?} was restored as something else"))?;
        }
        Ok(())
    }

    async fn diff(&self, old: usize, new: usize) -> Checked {
        let choose = |choice: usize| {
            choice.checked_rem(self.snapshots.len()).map(|index| &self.snapshots[index])
        };
        let (Some(old), Some(new)) = (choose(old), choose(new)) else { return Ok(()) };
        if old.is_forgotten || new.is_forgotten {
            return Ok(());
        }
        let open = |made: &NaiveSnapshot| self.repository.tree(&made.snapshot);
        let trees = (open(old).map_err(told("open"))?, open(new).map_err(told("open"))?);
        let found: Vec<_> =
            tree::diff(&trees.0, &trees.1).try_collect().await.map_err(told("diff"))?;
        let found: Vec<(ItemKey, bool, bool)> = found
            .into_iter()
            .map(|difference| (difference.key, difference.old.is_some(), difference.new.is_some()))
            .collect();
        let keys: BTreeSet<_> = old.state.keys().chain(new.state.keys()).collect();
        let expected: Vec<_> = keys
            .into_iter()
            .map(|key| (key, old.state.get(key), new.state.get(key)))
            .filter(|(_, old, new)| old != new)
            .map(|(key, old, new)| (key.clone(), old.is_some(), new.is_some()))
            .collect();
        ensure(found == expected, || format!("the diff is {found:?} instead of {expected:?}"))
    }

    async fn replay(&self, choice: usize) -> Checked {
        let Some(index) = choice.checked_rem(self.batches.len()) else { return Ok(()) };
        let chosen = &self.batches[index];
        let base = self.repository.snapshot(&chosen.base).await.map_err(told("base"))?;
        let batches = self.read_log(&chosen.base).await?;
        let batch = batches.iter().find(|batch| batch.number == chosen.number);
        let batch = batch.ok_or_else(|| format!("batch {} is lost", chosen.number))?;
        let (position, found) = read_logged(&self.repository, &base, batch.last_at, &self.context)
            .await
            .map_err(told("replay"))?;
        ensure(position == chosen.upto, || format!("{position:?} instead of {:?}", chosen.upto))?;
        let mut states = States::new(self.followed_lines.clone());
        let expected = states.at(&position).ok_or("the log leads nowhere")?;
        match difference(&found, expected) {
            None => Ok(()),
            Some(difference) => Err(format!("the log leads elsewhere: {difference}")),
        }
    }

    async fn read_log(&self, base: &SessionId) -> Result<Vec<LogBatch>, String> {
        let stream = self.stream(FOLLOWED);
        logs::read(&self.repository, &stream, base).await.map_err(told("read log"))
    }

    /// Everything that is listed is what the naive repository lists, in the same order.
    async fn check_lists(&self) -> Checked {
        for system in 0..SYSTEMS {
            let stream = self.stream(system);
            let mut expected: Vec<_> = self
                .snapshots
                .iter()
                .filter(|made| made.system == system && !made.is_forgotten)
                .map(|made| describe_snapshot(&made.snapshot))
                .collect();
            expected.reverse();
            for count in [ALL, 1, 2] {
                let found = self.repository.newest_snapshots(&stream, count).await;
                let found = found.map_err(told("list snapshots"))?;
                let found: Vec<_> = found.iter().map(describe_snapshot).collect();
                expected.truncate(count.max(2));
                let expected = &expected[..expected.len().min(count)];
                ensure(found == expected, || format!("{count}: {found:#?} not {expected:#?}"))?;
            }
        }
        let expected: Vec<_> = self
            .points
            .iter()
            .rev()
            .filter(|made| !made.is_forgotten)
            .map(|made| describe_point(&made.point))
            .collect();
        for count in [1, 3, ALL] {
            let found = self.repository.newest_points(&self.site, count).await;
            let found = found.map_err(told("list points"))?;
            let found: Vec<_> = found.iter().map(describe_point).collect();
            let expected = &expected[..expected.len().min(count)];
            ensure(found == expected, || format!("{count}: {found:#?} not {expected:#?}"))?;
        }
        self.check_marks().await
    }

    async fn check_marks(&self) -> Checked {
        let marks = self.repository.marks(&self.site).await.map_err(told("list marks"))?;
        for made in self.points.iter().filter(|made| !made.is_forgotten) {
            let of_it = marks.iter().filter(|mark| mark.point == made.point.id);
            let found: BTreeSet<_> = of_it.map(|mark| mark.kind.clone()).collect();
            ensure(found == made.marks, || format!("{found:?} instead of {:?}", made.marks))?;
        }
        Ok(())
    }

    /// The newest complete points, and the newest one that was there at a time, are found.
    async fn check_selection(&self) -> Checked {
        let mut complete: Vec<_> = self
            .points
            .iter()
            .filter(|made| !made.is_forgotten && made.point.is_complete())
            .map(|made| made.point.cut_to)
            .collect();
        complete.sort();
        complete.reverse();
        let mut cases: Vec<_> =
            (0..4).map(|back| (When::Latest { back }, complete.get(back as usize))).collect();
        for made in &self.snapshots {
            let time = made.snapshot.cut_to;
            let expected = complete.iter().find(|cut_to| **cut_to <= time);
            cases.push((When::Time(time), expected));
        }
        for (when, expected) in cases {
            let selector = Selector {
                site: Some(self.site.clone()),
                system: None,
                when: when.clone(),
                path: ItemKey::root(),
            };
            let host_of = |_: &str| Host::Free;
            let found = resolve(&self.repository, &selector, &host_of, &self.context).await;
            let found = match found {
                Ok(resolved) => Some(resolved.chosen_at),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(told("select")(error)),
            };
            ensure(found.as_ref() == expected, || {
                format!("{when:?} is {found:?} instead of {expected:?}")
            })?;
        }
        Ok(())
    }

    /// Everything is what the naive repository says, with all content.
    pub async fn check(&self) -> Checked {
        self.check_lists().await?;
        self.check_selection().await?;
        for made in self.snapshots.iter().filter(|made| !made.is_forgotten) {
            let snapshot = self.repository.snapshot(&made.snapshot.id).await;
            let snapshot = snapshot.map_err(told("read snapshot"))?;
            let found = read_snapshot(&self.repository, &snapshot).await.map_err(told("read"))?;
            if let Some(difference) = difference(&found, &made.state) {
                return Err(format!("{}: {difference}", snapshot.id));
            }
        }
        let bases: BTreeSet<_> = self.batches.iter().map(|batch| &batch.base).collect();
        for base in bases {
            let found: Vec<_> = self.read_log(base).await?;
            let found: Vec<_> = found.into_iter().map(|batch| (batch.number, batch.upto)).collect();
            let expected: Vec<_> = self
                .batches
                .iter()
                .filter(|batch| batch.base == *base)
                .map(|batch| (batch.number, batch.upto.clone()))
                .collect();
            ensure(found == expected, || format!("the log is {found:?}, not {expected:?}"))?;
        }
        Ok(())
    }
}
