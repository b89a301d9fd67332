//! Repair after every kind of damage to every object of a small repository: what parity or a second copy
//! has comes back, nothing that could be read before becomes unreadable, and a repair may be cut off at
//! any write. What is lost the next backup stores again.

use std::sync::Arc;
use std::time::Duration;

use chaos_tests::damage::{Cell, Damage, Sampling, damaged, sample};
use chaos_tests::engine::capture_system;
use chaos_tests::observe::state_of;
use chaos_tests::stores::{Durability, Power};
use futures::TryStreamExt;
use model::{Context, ErrorKind, Result};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use repository::gc::{GcOptions, collect};
use repository::repair::{Means, RepairOptions, Report, mend_entrance, repair, repair_without_key};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::SessionId;
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::ScriptedSystem;

use crate::collecting::read;
use crate::damage::{Answers, ask, fill, is_same, unlock, verify_deep};

/// More than any repair makes.
const WRITES_MAX: u64 = 1_000;

fn options() -> RepairOptions {
    RepairOptions { is_dry_run: false, named: 3, jobs: 2, memory_bytes: 1 << 20 }
}

fn store(disk: Arc<dyn ObjectStore>, context: &Context) -> Store {
    Store::new(disk, "repaired", context)
}

async fn open(disk: Arc<dyn ObjectStore>, context: &Context) -> Result<Repository> {
    let open = OpenOptions { parity: Some(true), ..OpenOptions::default() };
    Repository::open(store(disk, context), &unlock(), open, context).await
}

/// Repairs as the command does: what the repository is opened by first.
async fn mend(
    disk: Arc<dyn ObjectStore>,
    second: Option<&InMemory>,
    options: &RepairOptions,
    context: &Context,
) -> Result<Report> {
    let from = second.map(|second| Store::new(Arc::new(second.clone()), "second", context));
    let repository = match (open(disk.clone(), context).await, &from) {
        (Err(error), Some(from)) if error.kind() != ErrorKind::Unavailable => {
            let usual = OpenOptions::default();
            let second = Repository::open(from.clone(), &unlock(), usual, context).await?;
            let here = store(disk.clone(), context);
            mend_entrance(&here, &second, options.is_dry_run, context).await?;
            open(disk, context).await?
        }
        (opened, _) => opened?,
    };
    repair(&repository, from.as_ref(), options, context).await
}

async fn objects(disk: &InMemory) -> Vec<(String, Vec<u8>)> {
    let listed: Vec<_> = disk.list(None).try_collect().await.expect("list");
    let mut objects = Vec::new();
    for entry in listed {
        let got = disk.get(&entry.location).await.expect("get");
        objects.push((entry.location.to_string(), got.bytes().await.expect("read").to_vec()));
    }
    objects.sort();
    objects
}

fn is_pack(path: &Path) -> bool {
    path.as_ref().starts_with("pack/") || path.as_ref().starts_with("meta/")
}

/// Says which answers were right before and are not any more.
fn worse(before: &Answers, after: &Answers) -> Vec<String> {
    let right = before.iter().filter(|(_, answer)| answer.is_ok());
    let now = |question: &str| after.get(question).and_then(|answer| answer.as_ref().ok());
    right
        .filter(|(question, answer)| now(question) != answer.as_ref().ok())
        .map(|(question, _)| question.clone())
        .collect()
}

struct Sound {
    disk: InMemory,
    snapshots: Vec<SessionId>,
    expected: Answers,
}

impl Sound {
    async fn new(parity: bool) -> Self {
        let (context, _) = testkit::context(1);
        let (disk, snapshots) = fill(Some(parity), &context).await.expect("fill");
        let expected = ask(&disk, &snapshots, &context).await;
        Self { disk, snapshots, expected }
    }

    async fn ask(&self, disk: &InMemory) -> Answers {
        let (context, _) = testkit::context(3);
        ask(disk, &self.snapshots, &context).await
    }

    /// Repairs a cell from a second copy; says what is wrong afterwards.
    async fn repair_from_copy(&self, cell: &Cell) -> Option<String> {
        let disk = damaged(&self.disk, cell).await;
        let (context, _) = testkit::context(2);
        let report = mend(Arc::new(disk.clone()), Some(&self.disk), &options(), &context).await;
        let report = match report {
            Ok(report) => report,
            // A slot that is gone may have been removed: a copy of all brings it back.
            Err(_) if cell.damage == Damage::Missing && cell.path.as_ref().starts_with("key/") => {
                return None;
            }
            Err(error) => return Some(format!("{cell}: {error:?}")),
        };
        let answers = self.ask(&disk).await;
        let damage = verify_deep(&disk, &context).await.expect("verify");
        let is_fine = report.is_whole() && damage == 0 && is_same(&answers, &self.expected);
        (!is_fine).then(|| format!("{cell}: {damage} damaged, {report:#?}"))
    }

    /// Repairs a cell from what is there; says what is wrong afterwards.
    async fn repair_alone(&self, cell: &Cell) -> Option<String> {
        let disk = damaged(&self.disk, cell).await;
        let before = self.ask(&disk).await;
        let (context, _) = testkit::context(2);
        let report = mend(Arc::new(disk.clone()), None, &options(), &context).await;
        let answers = self.ask(&disk).await;
        let worse = worse(&before, &answers);
        if !worse.is_empty() {
            return Some(format!("{cell}: became unreadable: {worse:?}"));
        }
        // All that parity is there for, and what is said twice.
        let is_healable = match &cell.damage {
            Damage::BitFlip(_) | Damage::Extended => true,
            Damage::Truncated(length) => *length > 0,
            Damage::Missing | Damage::SwappedWith(_) => false,
        };
        let is_index = cell.path.as_ref().starts_with("index/");
        if !(is_pack(&cell.path) && is_healable || is_index) {
            return None;
        }
        let report = match report {
            Ok(report) => report,
            Err(error) => return Some(format!("{cell}: {error:?}")),
        };
        let damage = verify_deep(&disk, &context).await.expect("verify");
        let is_fine = report.is_whole() && damage == 0 && is_same(&answers, &self.expected);
        (!is_fine).then(|| format!("{cell}: {damage} damaged, {report:#?}"))
    }
}

async fn find_wrong(sampling: Sampling) -> Vec<String> {
    let sound = Sound::new(true).await;
    let cells = sample(&sound.disk, sampling).await;
    assert!(cells.len() > 100, "only {} cells", cells.len());
    let mut found = Vec::new();
    for cell in cells {
        found.extend(sound.repair_from_copy(&cell).await);
        found.extend(sound.repair_alone(&cell).await);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_heals() {
    let sampling = Sampling { flips_per_object: 1, swaps_per_object: 1 };
    let found = Box::pin(find_wrong(sampling)).await;
    assert!(found.is_empty(), "{} cells: {found:#?}", found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn damage_in_many_places_heals() {
    let sampling = Sampling { flips_per_object: 40, swaps_per_object: 4 };
    let found = Box::pin(find_wrong(sampling)).await;
    assert!(found.is_empty(), "{} cells: {found:#?}", found.len());
}

/// Damages several objects at once: one pack in the reach of parity, one that is gone, a segment, a
/// snapshot, and two packs that changed places.
async fn much_damaged(sound: &InMemory) -> InMemory {
    let disk = sound.fork();
    let all = objects(sound).await;
    let of = |prefix: &str| -> Vec<_> {
        all.iter().filter(|(path, _)| path.starts_with(prefix)).cloned().collect()
    };
    let put = async |path: &str, bytes: Vec<u8>| {
        disk.put(&Path::from(path), bytes.into()).await.expect("put");
    };
    let packs = of("pack/");
    let mut bytes = packs[0].1.clone();
    bytes[300] ^= 1;
    put(&packs[0].0, bytes).await;
    disk.delete(&Path::from(packs[1].0.as_str())).await.expect("delete");
    let meta = of("meta/");
    put(&meta[0].0, meta[1].1.clone()).await;
    put(&meta[1].0, meta[0].1.clone()).await;
    let segment = of("index/").swap_remove(0);
    put(&segment.0, segment.1[..10].to_vec()).await;
    let snapshot = of("snapshot/").swap_remove(0);
    put(&snapshot.0, vec![0; snapshot.1.len()]).await;
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_may_be_cut_off_at_any_write() {
    let sound = Sound::new(true).await;
    let damaged = much_damaged(&sound.disk).await;
    let before = objects(&damaged).await;
    let right = objects(&sound.disk).await;
    for write in 1..WRITES_MAX {
        let disk = Arc::new(damaged.fork());
        let power = Power::over(disk, write, Durability::Synced, Some(write));
        let (context, _) = testkit::context(write);
        let second = Some(&sound.disk);
        let ended = mend(Arc::new(power.store()), second, &options(), &context).await;
        let disk = power.cut().await.expect("cut");
        let found = objects(&disk).await;
        for (path, bytes) in &found {
            let was = |all: &[(String, Vec<u8>)]| all.iter().any(|o| (&o.0, &o.1) == (path, bytes));
            // What is new is a damaged object that was kept, or a part of the index.
            let is_new = path.starts_with("damaged/") || path.starts_with("index/");
            assert!(was(&before) || was(&right) || is_new, "cut at write {write}: {path}");
        }
        let is_there = |path: &str| found.iter().any(|(there, _)| there == path);
        assert!(before.iter().all(|(path, _)| is_there(path)), "cut at write {write}");
        let (context, _) = testkit::context(write + WRITES_MAX);
        let again = mend(disk.clone(), second, &options(), &context).await.expect("again");
        assert!(again.is_whole(), "cut at write {write}: {again:#?}");
        assert_eq!(verify_deep(&disk, &context).await.expect("verify"), 0);
        assert!(is_same(&sound.ask(&disk).await, &sound.expected), "cut at write {write}");
        if ended.is_ok() {
            assert!(write > 8, "{write} writes");
            return;
        }
    }
    panic!("it makes more than {WRITES_MAX} writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_be_mended_and_writes_nothing() {
    let sound = Sound::new(true).await;
    let damaged = much_damaged(&sound.disk).await;
    let before = objects(&damaged).await;
    let (context, _) = testkit::context(7);
    let dry = RepairOptions { is_dry_run: true, ..options() };
    let told = mend(Arc::new(damaged.clone()), Some(&sound.disk), &dry, &context).await;
    let told = told.expect("dry run");
    assert!(told.is_dry_run && objects(&damaged).await == before);
    let done = mend(Arc::new(damaged.clone()), Some(&sound.disk), &options(), &context).await;
    let done = done.expect("repair");
    let names = |report: &Report| -> Vec<_> {
        report.mended.iter().map(|mended| (mended.object.clone(), mended.by)).collect()
    };
    assert_eq!(names(&told), names(&done));
    for means in [Means::Parity, Means::Copy] {
        assert!(done.mended.iter().any(|mended| mended.by == means), "{means:?} {done:#?}");
    }
    // What stood there is kept, byte for byte.
    for mended in done.mended.iter().filter(|mended| mended.kept.is_some()) {
        let kept = mended.kept.as_deref().map(Path::from).expect("kept");
        let kept = damaged.get(&kept).await.expect("kept").bytes().await.expect("read");
        let was = before.iter().find(|(path, _)| *path == mended.object).expect("stood there");
        assert!(kept == was.1, "{}", mended.object);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_places_is_put_back_without_a_copy() {
    let sound = Sound::new(false).await;
    let all = objects(&sound.disk).await;
    let disk = sound.disk.fork();
    let mut count = 0;
    for prefix in ["pack/", "meta/", "snapshot/", "point/", "mark/"] {
        let found: Vec<_> = all.iter().filter(|(path, _)| path.starts_with(prefix)).collect();
        let [one, other, ..] = found.as_slice() else { continue };
        for (path, bytes) in [(&one.0, &other.1), (&other.0, &one.1)] {
            disk.put(&Path::from(path.as_str()), bytes.clone().into()).await.expect("put");
        }
        count += 2;
    }
    assert!(count >= 8, "{count}");
    let (context, _) = testkit::context(7);
    let report = mend(Arc::new(disk.clone()), None, &options(), &context).await.expect("repair");
    assert!(report.is_whole(), "{report:#?}");
    let misplaced = report.mended.iter().filter(|mended| mended.by == Means::Misplaced);
    assert_eq!(misplaced.count(), count);
    assert!(is_same(&sound.ask(&disk).await, &sound.expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_end_of_a_pack_is_made_again_from_its_blocks() {
    let sound = Sound::new(false).await;
    for (path, bytes) in objects(&sound.disk).await {
        if !is_pack(&Path::from(path.as_str())) {
            continue;
        }
        let disk = sound.disk.fork();
        let end = bytes.len() - 100;
        disk.put(&Path::from(path.as_str()), bytes[..end].to_vec().into()).await.expect("put");
        let (context, _) = testkit::context(7);
        let report = mend(Arc::new(disk.clone()), None, &options(), &context).await;
        let report = report.expect("repair");
        let by: Vec<_> = report.mended.iter().map(|mended| mended.by).collect();
        assert!(report.is_whole() && by == [Means::Blocks], "{path}: {report:#?}");
        assert!(objects(&disk).await.contains(&(path, bytes)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_heal_without_a_key() {
    let sound = Sound::new(true).await;
    let disk = much_damaged(&sound.disk).await;
    let (context, _) = testkit::context(7);
    let here = store(Arc::new(disk.clone()), &context);
    let alone = repair_without_key(&here, None, &options(), &context).await.expect("repair");
    let by: Vec<_> = alone.mended.iter().map(|mended| mended.by).collect();
    assert_eq!(by.len(), 3, "{alone:#?}");
    let second = Store::new(Arc::new(sound.disk.clone()), "second", &context);
    let from = Some(&second);
    let report = repair_without_key(&here, from, &options(), &context).await.expect("repair");
    assert!(report.is_whole(), "{report:#?}");
    assert_eq!(verify_deep(&disk, &context).await.expect("verify"), 0);
    assert!(is_same(&sound.ask(&disk).await, &sound.expected));
    // Of another repository, or the same place: nothing is touched.
    let (other, _) = {
        let (context, _) = testkit::context(99);
        fill(Some(false), &context).await.expect("fill")
    };
    let other = Store::new(Arc::new(other), "second", &context);
    for (from, kind) in [(&other, ErrorKind::Conflict), (&here, ErrorKind::Invalid)] {
        let error = repair_without_key(&here, Some(from), &options(), &context).await;
        assert_eq!(error.expect_err("refused").kind(), kind);
    }
}

/// A repository with two captures of a system that is still as it was at the second.
struct Captured {
    disk: InMemory,
    system: ScriptedSystem,
    snapshots: Vec<Snapshot>,
    context: Context,
    handles: testkit::Handles,
}

impl Captured {
    async fn new() -> Self {
        let (context, handles) = testkit::context(11);
        let disk = InMemory::new();
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: repository::crypto::PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let here = store(Arc::new(disk.clone()), &context);
        Repository::create(here, &unlock(), options, &context).await.expect("create");
        let system = ScriptedSystem::new("");
        system.edit("dir d\nfile d/a 1*300000\nfile d/b 2*200000\nfile d/c \"gamma\"");
        let mut captured = Self { disk, system, snapshots: Vec::new(), context, handles };
        captured.capture().await;
        captured.system.edit("file d/c \"delta\"");
        captured.capture().await;
        captured
    }

    async fn repository(&self) -> Repository {
        let (here, usual) =
            (store(Arc::new(self.disk.clone()), &self.context), OpenOptions::default());
        Repository::open(here, &unlock(), usual, &self.context).await.expect("open")
    }

    async fn capture(&mut self) {
        self.handles.clock.advance(Duration::from_secs(60));
        let repository = self.repository().await;
        let stream = "site.main".parse().expect("stream");
        let captured = capture_system(&repository, &stream, &self.system, &self.context).await;
        self.snapshots.push(captured.expect("capture").snapshot);
    }

    async fn paths(&self, prefix: &str) -> Vec<String> {
        let all = objects(&self.disk).await;
        all.into_iter().map(|(path, _)| path).filter(|path| path.starts_with(prefix)).collect()
    }

    async fn lose(&self, prefix: &str, is_whole: bool) {
        for path in self.paths(prefix).await {
            let path = Path::from(path);
            if is_whole {
                self.disk.delete(&path).await.expect("delete");
            } else {
                let mut bytes =
                    self.disk.get(&path).await.expect("get").bytes().await.expect("read").to_vec();
                let middle = bytes.len() / 2;
                bytes[middle..middle + 40].fill(0);
                self.disk.put(&path, bytes.into()).await.expect("put");
            }
        }
    }

    async fn damage(&self) -> usize {
        verify_deep(&self.disk, &self.context).await.expect("verify")
    }
}

/// What neither parity nor a copy has comes back from the source, for older snapshots as well, as far as
/// it is still there.
async fn check_live_source(prefix: &str, is_whole: bool) {
    let mut captured = Captured::new().await;
    captured.lose(prefix, is_whole).await;
    let told = format!("{prefix} {is_whole}");
    assert!(captured.damage().await > 0, "{told}");
    let disk: Arc<dyn ObjectStore> = Arc::new(captured.disk.clone());
    let report = mend(disk.clone(), None, &options(), &captured.context).await.expect("repair");
    assert!(report.marked > 0 && !report.is_whole(), "{told}: {report:#?}");
    assert_eq!(captured.paths("gc/lost/").await.len() as u64, report.marked, "{told}");
    captured.capture().await;
    let repository = captured.repository().await;
    let newest = captured.snapshots.last().expect("captured");
    let found = read(&repository, newest).await.expect("whole");
    assert_eq!(found, state_of(&captured.system), "{told}");
    // The second snapshot is of the state that is still there; of the first `d/c` has gone.
    read(&repository, &captured.snapshots[1]).await.expect("whole again");
    let first = captured.snapshots[0].id.clone();
    repository.forget_snapshot(&first, &captured.context).await.expect("forget");
    assert_eq!(captured.damage().await, 0, "{told}");
    let gc = GcOptions {
        is_dry_run: false,
        patience: Duration::ZERO,
        grace: Duration::ZERO,
        rewrite_below_percent: 0,
        scratch_folder: std::env::temp_dir(),
    };
    for _ in 0..3 {
        collect(&repository, &gc, &captured.context).await.expect("collect");
    }
    assert_eq!(captured.paths("gc/lost/").await, Vec::<String>::new(), "{told}");
    assert_eq!(captured.damage().await, 0, "{told}");
    captured.capture().await;
    let found = read(&repository, captured.snapshots.last().expect("captured")).await;
    assert_eq!(found.expect("whole"), state_of(&captured.system), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_comes_back_from_the_source() {
    for prefix in ["pack/", "meta/"] {
        for is_whole in [true, false] {
            Box::pin(check_live_source(prefix, is_whole)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_goes_when_the_pack_is_mended() {
    let captured = Captured::new().await;
    let sound = captured.disk.fork();
    captured.lose("pack/", false).await;
    let disk: Arc<dyn ObjectStore> = Arc::new(captured.disk.clone());
    let alone = mend(disk.clone(), None, &options(), &captured.context).await.expect("repair");
    assert!(alone.marked > 0 && !captured.paths("gc/lost/").await.is_empty());
    let report = mend(disk, Some(&sound), &options(), &captured.context).await.expect("repair");
    assert!(report.is_whole(), "{report:#?}");
    assert_eq!(captured.paths("gc/lost/").await, Vec::<String>::new());
    assert_eq!(captured.damage().await, 0);
}
