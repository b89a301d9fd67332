//! Collectors that break off at every write, several at once beside writers, and stores that fail: what
//! is committed is never lost, what is dead is freed in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::engine::{DOMAIN, capture_system};
use chaos_tests::observe::{describe_snapshot, difference, item_of, read_content, state_of};
use chaos_tests::stores::{Durability, Fault, Faults, Interposed, Power};
use futures::TryStreamExt;
use model::{Context, ErrorKind};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use repository::content::ChunkReader;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::gc::{GcOptions, Report, collect};
use repository::index::LazyIndex;
use repository::session::{Session, SessionOptions};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::{SessionId, StreamName};
use repository::verify::{Depth, VerifyOptions, verify};
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::{Observed, ObservedItem, Random, ScriptedSystem, SeededEntropy};

/// More than any collection makes.
const WRITES_MAX: u64 = 1_000;
/// So many runs find all that is dead.
const RUNS_MAX: usize = 4;

fn unlock() -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(77)))
}

fn options(seed: u64) -> GcOptions {
    GcOptions {
        is_dry_run: false,
        patience: Duration::ZERO,
        grace: Duration::ZERO,
        rewrite_below_percent: if seed.is_multiple_of(4) { 0 } else { 60 },
        scratch_folder: std::env::temp_dir(),
    }
}

async fn open(disk: Arc<dyn ObjectStore>, context: &Context) -> model::Result<Repository> {
    let store = Store::new(disk, "collected", context);
    Repository::open(store, &unlock(), OpenOptions::default(), context).await
}

fn stream(name: &str) -> StreamName {
    name.parse().expect("stream")
}

/// What has to be there.
type Committed = BTreeMap<SessionId, (Snapshot, Observed)>;

pub(crate) async fn read(repository: &Repository, snapshot: &Snapshot) -> model::Result<Observed> {
    let keys = repository.domain(&snapshot.domain)?;
    let reader = ChunkReader::new(repository, &keys, 1 << 20)
        .with_fallback(Arc::new(LazyIndex::new(repository, &keys)));
    let mut state = Observed::new();
    let mut batches = repository.tree(snapshot)?.range(..);
    while let Some(batch) = batches.try_next().await? {
        for (key, record) in batch {
            let content = read_content(&reader, &record).await?;
            state.insert(key.clone(), ObservedItem { item: item_of(key, &record), content });
        }
    }
    Ok(state)
}

/// Everything committed is there, whole; nothing else is damaged.
async fn check(disk: &Arc<InMemory>, committed: &Committed, told: &str) {
    let (context, _) = testkit::context(90_001);
    let repository = open(disk.clone(), &context).await.expect("open");
    for (id, (snapshot, state)) in committed {
        let found = repository.snapshot(id).await.unwrap_or_else(|e| panic!("{told}: {e:?}"));
        assert_eq!(describe_snapshot(&found), describe_snapshot(snapshot), "{told}");
        let found = read(&repository, &found).await;
        let found = found.unwrap_or_else(|error| panic!("{told}: {id}: {error:?}"));
        if let Some(difference) = difference(&found, state) {
            panic!("{told}: {id}: {difference}");
        }
    }
    let options = VerifyOptions { depth: Depth::Deep, named: 3 };
    let report = verify(&repository, &options, &context).await.expect("verify");
    assert_eq!(report.damage, [], "{told}");
}

/// Edits of one round: small files together, a large one changed in place, others that go.
fn edit(system: &ScriptedSystem, round: u64, seed: u64) {
    let seed = 1_000 * seed + round;
    for line in [
        "dir data".to_owned(),
        format!("file data/large 1*200000+{seed}*64+2*200000 mtime:{round}"),
        format!("file data/new{round} {seed}~70000"),
        format!("file data/small{} {seed}~700", round % 3),
    ] {
        system.edit(&line);
    }
    if round >= 2 {
        system.edit(&format!("delete data/new{}", round - 2));
    }
}

async fn capture(
    repository: &Repository,
    name: &str,
    system: &ScriptedSystem,
    context: &Context,
) -> model::Result<(Snapshot, Observed)> {
    let captured = capture_system(repository, &stream(name), system, context).await?;
    Ok((captured.snapshot, state_of(system)))
}

/// A repository with garbage of every kind: forgotten snapshots, a session that nobody ends, packs of
/// which a part is needed.
async fn make(seed: u64) -> (Arc<InMemory>, Committed) {
    let disk = Arc::new(InMemory::new());
    let (context, _) = testkit::context(seed);
    let store = Store::new(disk.clone(), "collected", &context);
    let create = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let repository = Repository::create(store, &unlock(), create, &context).await.expect("create");
    let system = ScriptedSystem::new("");
    let mut committed = Committed::new();
    for round in 0..5 {
        edit(&system, round, seed);
        let made = capture(&repository, "prod.main", &system, &context).await.expect("capture");
        committed.insert(made.0.id.clone(), made);
    }
    for id in committed.keys().take(3).cloned().collect::<Vec<_>>() {
        repository.forget_snapshot(&id, &context).await.expect("forget");
        committed.remove(&id);
    }
    let options = SessionOptions {
        kind: "scripted".to_owned(),
        domain: DOMAIN.to_owned(),
        host: "host".to_owned(),
        ignore_parent: false,
    };
    let left = Session::begin(&repository, &stream("prod.left"), options, &context).await;
    drop(left.expect("begin"));
    (disk, committed)
}

async fn finish(disk: &Arc<InMemory>, committed: &Committed, told: &str) -> Report {
    let (context, _) = testkit::context(90_000);
    let repository = open(disk.clone(), &context).await.expect("open");
    let report = collect(&repository, &options(1), &context).await;
    let report = report.unwrap_or_else(|error| panic!("{told}: {error:?}"));
    check(disk, committed, told).await;
    // What was copied twice is found superfluous once the first copies are gone.
    for _ in 0..RUNS_MAX {
        let again = collect(&repository, &options(1), &context).await.expect("collect again");
        assert_eq!(again.lost, 0, "{told}");
        if again.generations.is_empty() {
            assert_eq!(again.freed.packs, 0, "{told}");
            check(disk, committed, told).await;
            return report;
        }
    }
    panic!("{told}: there is always something left to be freed");
}

async fn interrupt_at_each_write(step: u64) {
    let (base, committed) = make(1).await;
    let uncut = Arc::new(base.fork());
    let expected = finish(&uncut, &committed, "without a cut").await;
    assert!(expected.freed.packs > 2 && expected.rewritten.packs > 0, "{expected:?}");
    for cut_at in (1..WRITES_MAX).step_by(usize::try_from(step).expect("step")) {
        let disk = Arc::new(base.fork());
        let power = Power::over(disk.clone(), cut_at, Durability::Synced, Some(cut_at));
        let (context, _) = testkit::context(cut_at);
        let ended = match open(Arc::new(power.store()), &context).await {
            Ok(repository) => collect(&repository, &options(1), &context).await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(ended.is_ok(), !power.is_off(), "{cut_at}: {ended:?}");
        let told = format!("cut at write {cut_at}");
        check(&disk, &committed, &told).await;
        finish(&disk, &committed, &told).await;
        if ended.is_ok() {
            return;
        }
    }
    panic!("never came to its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_may_break_off_at_some_writes() {
    Box::pin(interrupt_at_each_write(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn a_collector_may_break_off_at_every_write() {
    Box::pin(interrupt_at_each_write(1)).await;
}

/// One writer of a crowd: captures, forgets what it made before, again and again.
async fn write(disk: Arc<dyn ObjectStore>, number: u64, rounds: u64, seed: u64) -> Committed {
    let (context, _) = testkit::context(seed * 100 + number);
    let system = ScriptedSystem::new("");
    let name = format!("prod.w{}", number / 2);
    let mut committed = Committed::new();
    let Ok(repository) = open(disk, &context).await else { return committed };
    for round in 0..rounds {
        // Both writers of a stream hold much that is equal.
        edit(&system, round, seed + number / 2);
        match capture(&repository, &name, &system, &context).await {
            Ok(made) => _ = committed.insert(made.0.id.clone(), made),
            // Begun again in the next round.
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => panic!("seed {seed}, writer {number}: {error:?}"),
        }
        if let Some(oldest) = committed.keys().next_back().cloned().filter(|_| round % 2 == 1) {
            // What is being forgotten may be there or not.
            committed.remove(&oldest);
            let _ = repository.forget_snapshot(&oldest, &context).await;
        }
    }
    committed
}

async fn crowd(seed: u64, percent: u64, rounds: u64) {
    let (disk, mut committed) = make(seed).await;
    let (clock, _) = testkit::context(seed);
    let faults = Arc::new(Faults::new(clock.clock.clone()));
    let kinds = [Fault::ErrorBefore, Fault::LostResponse, Fault::FalseConflict];
    faults.by_chance(seed, percent, &kinds);
    let faulty = || -> Arc<dyn ObjectStore> {
        let disk: Arc<dyn ObjectStore> = disk.clone();
        Arc::new(Interposed::new(disk, &faults))
    };
    let writers = (0..4).map(|number| tokio::spawn(write(faulty(), number, rounds, seed)));
    let writers: Vec<_> = writers.collect();
    let collectors = (0..3).map(|number| {
        let store = faulty();
        tokio::spawn(async move {
            let (context, _) = testkit::context(seed * 100 + 50 + number);
            let mut random = Random::new(seed * 10 + number);
            for _ in 0..rounds {
                let Ok(repository) = open(store.clone(), &context).await else { continue };
                let patience = Duration::from_secs(random.below(30));
                let options = GcOptions { patience, ..options(seed + number) };
                match collect(&repository, &options, &context).await {
                    Ok(report) => assert_eq!(report.lost, 0, "seed {seed}: {report:?}"),
                    Err(error) if error.kind() == ErrorKind::Unavailable => {}
                    // What was listed was deleted by another before it was read.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => panic!("seed {seed}, collector {number}: {error:?}"),
                }
            }
        })
    });
    let collectors: Vec<_> = collectors.collect();
    for writer in writers {
        committed.extend(writer.await.expect("writer"));
    }
    for collector in collectors {
        collector.await.expect("collector");
    }
    faults.heal();
    let told = format!("seed {seed}");
    check(&disk, &committed, &told).await;
    finish(&disk, &committed, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_collectors_are_at_work_at_once() {
    for seed in 1..=3 {
        Box::pin(crowd(seed, 0, 4)).await;
        Box::pin(crowd(seed + 10, 3, 4)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn writers_and_collectors_are_at_work_at_once_for_long() {
    for seed in 100..140 {
        Box::pin(crowd(seed, seed % 3 * 3, 12)).await;
    }
}
