//! Copies of whole repositories: interrupted at any write, over stores that fail, while others write and
//! collectors delete at either end. Whatever is visible at the destination is whole, and the next copy
//! brings the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::engine::capture_system;
use chaos_tests::observe::state_of;
use chaos_tests::script::{self, Amount, Expected, Fact};
use chaos_tests::stores::{Durability, Fault, Faults, Interposed, Power};
use model::{Context, ErrorKind};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::gc::{GcOptions, collect};
use repository::replicate::{ReplicaOptions, Report, replicate};
use repository::store::Store;
use repository::types::SessionId;
use repository::verify::{Depth, VerifyOptions, verify};
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::{Observed, ScriptedSystem, SeededEntropy};

/// More than any copy makes.
const WRITES_MAX: u64 = 10_000;
/// Contexts of copies are far from those of runs.
const COPYING: u64 = 1 << 41;

fn options() -> ReplicaOptions {
    ReplicaOptions {
        is_dry_run: false,
        jobs: 3,
        memory_bytes: 1 << 20,
        bytes_per_second: None,
        with_keys: true,
    }
}

async fn copy(
    from: Arc<dyn ObjectStore>,
    to: Arc<dyn ObjectStore>,
    seed: u64,
) -> model::Result<Report> {
    let (context, _) = testkit::context(COPYING + seed);
    let (from, to) = (Store::new(from, "source", &context), Store::new(to, "copy", &context));
    replicate(&from, &to, &options(), &context).await
}

/// A repository with everything in it, and what was acknowledged of it.
async fn scripted(amount: Amount) -> (Arc<InMemory>, Vec<Fact>) {
    let disk = Arc::new(InMemory::new());
    let (context, _) = testkit::context(5);
    let mut facts = Vec::new();
    let run = script::run(disk.clone(), amount, 0, &context, |fact| facts.push(fact));
    Box::pin(run).await.expect("the store is sound");
    (disk, facts)
}

/// Says what may be relied on while a copy is under way: nothing but a key, and only if it is there.
async fn openable(disk: &Arc<InMemory>, facts: &[Fact]) -> Vec<Fact> {
    let (context, _) = testkit::context(COPYING - 1);
    let store = Store::new(disk.clone(), "copy", &context);
    for fact in facts {
        let Fact::Added(key) = fact else { continue };
        if facts.contains(&Fact::Removed(*key)) {
            continue;
        }
        let options = OpenOptions::default();
        match Repository::open(store.clone(), &key.unlock(), options, &context).await {
            Ok(_) => return vec![fact.clone()],
            Err(error) if [ErrorKind::NotFound, ErrorKind::WrongKey].contains(&error.kind()) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    Vec::new()
}

/// Everything that is visible at a copy is whole, then a copy that is not disturbed is complete.
async fn check_and_finish(
    (source, there): (&Arc<InMemory>, &Arc<InMemory>),
    expected: &mut Expected,
    facts: &[Fact],
    told: &str,
) {
    let (context, _) = testkit::context(COPYING - 2);
    let visible = openable(there, facts).await;
    let left = script::check(there.clone(), expected, &visible, false, &context);
    Box::pin(left).await.unwrap_or_else(|error| panic!("{told}: {error:?}"));
    let report = copy(source.clone(), there.clone(), 0).await;
    let report = report.unwrap_or_else(|error| panic!("{told}, resumed: {error:?}"));
    assert_eq!(report.problems, BTreeMap::new(), "{told}");
    let whole = script::check(there.clone(), expected, facts, false, &context);
    Box::pin(whole).await.unwrap_or_else(|error| panic!("{told}, resumed: {error:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_worth_as_much_as_its_source() {
    let (source, facts) = scripted(Amount::SHORT).await;
    let there = Arc::new(InMemory::new());
    let report = copy(source.clone(), there.clone(), 1).await.expect("copy");
    assert_eq!((report.problems.len(), report.unknown.len()), (0, 0));
    let (context, _) = testkit::context(COPYING);
    let mut expected = Expected::new(Amount::SHORT);
    let checked = script::check(there.clone(), &mut expected, &facts, true, &context);
    Box::pin(checked).await.expect("all that was acknowledged");
    let again = copy(source, there, 2).await.expect("copy again");
    assert_eq!(again.copied().objects, 0);
}

/// Cuts the power of the destination at every `stride`th write until a copy ends before its cut.
async fn cut_everywhere(stride: usize) -> usize {
    let (source, facts) = scripted(Amount::SHORT).await;
    let mut expected = Expected::new(Amount::SHORT);
    for (cuts, write) in (1..WRITES_MAX).step_by(stride).enumerate() {
        let power = Power::new(write, Durability::Synced, Some(write));
        let ended = copy(source.clone(), Arc::new(power.store()), write).await;
        let there = power.cut().await.expect("cut");
        let told = format!("cut at write {write}");
        check_and_finish((&source, &there), &mut expected, &facts, &told).await;
        if ended.is_ok() {
            return cuts;
        }
    }
    panic!("the copy never ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_may_break_off_at_some_writes() {
    let cuts = cut_everywhere(7).await;
    assert!(cuts >= 8, "only {cuts} cuts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn a_copy_may_break_off_at_every_write() {
    let cuts = cut_everywhere(1).await;
    assert!(cuts >= 60, "only {cuts} cuts");
}

/// Errors, lost answers and false conflicts at either end: a copy ends well or with an error after which
/// it goes on.
async fn fail_by_chance(seeds: std::ops::Range<u64>) {
    let (source, facts) = scripted(Amount::SHORT).await;
    let mut expected = Expected::new(Amount::SHORT);
    let faults = [
        Fault::ErrorBefore,
        Fault::LostResponse,
        Fault::FalseConflict,
        Fault::Slow(Duration::from_secs(5)),
    ];
    for seed in seeds {
        let (_, handles) = testkit::context(seed);
        let faulty = |disk: &Arc<InMemory>, seed| -> (Arc<dyn ObjectStore>, Arc<Faults>) {
            let plan = Arc::new(Faults::new(handles.clock.clone()));
            plan.by_chance(seed, 15, &faults);
            let disk: Arc<dyn ObjectStore> = disk.clone();
            (Arc::new(Interposed::new(disk, &plan)), plan)
        };
        let there = Arc::new(InMemory::new());
        let (from, plan) = faulty(&source, seed);
        let (to, other) = faulty(&there, seed + 1000);
        // Whether it failed is chance; what is left is not.
        let _ = copy(from, to, seed).await;
        assert!(!plan.occurred().is_empty() || !other.occurred().is_empty());
        let told = format!("seed {seed}");
        check_and_finish((&source, &there), &mut expected, &facts, &told).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_fail_by_chance_cost_a_copy_only_time() {
    fail_by_chance(0..4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn stores_that_fail_by_chance_cost_a_copy_only_time_for_many_seeds() {
    fail_by_chance(4..60).await;
}

fn unlock() -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(78)))
}

async fn open(disk: &Arc<InMemory>, context: &Context) -> model::Result<Repository> {
    let store = Store::new(disk.clone(), "copied", context);
    Repository::open(store, &unlock(), OpenOptions::default(), context).await
}

async fn create(disk: &Arc<InMemory>, context: &Context) -> Repository {
    let store = Store::new(disk.clone(), "copied", context);
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    Repository::create(store, &unlock(), options, context).await.expect("create")
}

/// Nothing that is visible is damaged.
async fn sound(disk: &Arc<InMemory>, depth: Depth, told: &str) {
    let (context, _) = testkit::context(COPYING - 3);
    let repository = open(disk, &context).await.unwrap_or_else(|e| panic!("{told}: {e:?}"));
    let options = VerifyOptions { depth, named: 3 };
    let report = verify(&repository, &options, &context).await.expect("verify");
    assert_eq!(report.damage, [], "{told}");
}

/// Edits of one round: a large file changed in place, others that come and go.
fn edit(system: &ScriptedSystem, round: u64, seed: u64) {
    let seed = 1_000 * seed + round;
    for line in [
        "dir data".to_owned(),
        format!("file data/large 1*200000+{seed}*64+2*200000 mtime:{round}"),
        format!("file data/new{round} {seed}~70000"),
    ] {
        system.edit(&line);
    }
    if round >= 2 {
        system.edit(&format!("delete data/new{}", round - 2));
    }
}

fn gc_options(seed: u64) -> GcOptions {
    GcOptions {
        is_dry_run: false,
        patience: Duration::from_secs(seed % 3 * 10),
        grace: Duration::ZERO,
        rewrite_below_percent: 60,
        scratch_folder: std::env::temp_dir(),
    }
}

async fn collect_once(disk: &Arc<InMemory>, seed: u64) {
    let (context, _) = testkit::context(seed);
    let Ok(repository) = open(disk, &context).await else { return };
    match collect(&repository, &gc_options(seed), &context).await {
        Ok(report) => assert_eq!(report.lost, 0, "seed {seed}: {report:?}"),
        // What was listed was deleted by another before it was read.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => panic!("seed {seed}: {error:?}"),
    }
}

/// Captures again and again, forgetting what it made before; returns what has to be there.
async fn write(disk: Arc<InMemory>, rounds: u64, seed: u64) -> BTreeMap<SessionId, Observed> {
    let (context, _) = testkit::context(seed);
    let repository = open(&disk, &context).await.expect("open");
    let (system, stream) = (ScriptedSystem::new(""), "prod.main".parse().expect("stream"));
    let mut committed = BTreeMap::new();
    for round in 0..rounds {
        edit(&system, round, seed);
        match capture_system(&repository, &stream, &system, &context).await {
            Ok(made) => _ = committed.insert(made.snapshot.id, state_of(&system)),
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
        if committed.len() > 2
            && let Some((oldest, _)) = committed.pop_first()
        {
            repository.forget_snapshot(&oldest, &context).await.expect("forget");
        }
    }
    committed
}

/// A writer and a collector at the source, a collector at the destination, and copies, all at once.
async fn crowd(seed: u64, rounds: u64, is_collected: bool) {
    let (source, there) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
    let (context, _) = testkit::context(seed);
    create(&source, &context).await;
    let writer = tokio::spawn(write(source.clone(), rounds, seed));
    let collectors = [source.clone(), there.clone()].map(|disk| {
        tokio::spawn(async move {
            for round in 0..rounds * u64::from(is_collected) {
                collect_once(&disk, 100 * seed + round).await;
                tokio::task::yield_now().await;
            }
        })
    });
    let mut copies = 0;
    while !writer.is_finished() || copies < 2 {
        copies += 1;
        match copy(source.clone(), there.clone(), 1000 * seed + copies).await {
            Ok(report) => assert_eq!(report.problems, BTreeMap::new(), "seed {seed}"),
            // Collectors were too busy.
            Err(error) if error.kind() == ErrorKind::Unavailable && is_collected => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
        if !is_collected {
            sound(&there, Depth::Structure, &format!("seed {seed}, copy {copies}")).await;
        }
    }
    let committed = writer.await.expect("writer");
    for collector in collectors {
        collector.await.expect("collector");
    }
    let told = format!("seed {seed}");
    // A collection that was cut short by another one at the same place is brought to its end.
    collect_once(&there, seed).await;
    let report = copy(source.clone(), there.clone(), seed).await.expect("last copy");
    assert!(report.is_settled, "{told}");
    sound(&there, Depth::Deep, &told).await;
    let copied = open(&there, &context).await.expect("open");
    for id in committed.keys() {
        copied.snapshot(id).await.unwrap_or_else(|error| panic!("{told}: {id}: {error:?}"));
    }
    collect_once(&there, seed + 1).await;
    sound(&there, Depth::Deep, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_valid_while_its_source_is_written_to() {
    for seed in 1..=3 {
        Box::pin(crowd(seed, 6, false)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_comes_to_its_end_among_collectors() {
    for seed in 11..=14 {
        Box::pin(crowd(seed, 6, true)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn a_copy_comes_to_its_end_among_collectors_for_long() {
    for seed in 100..140 {
        Box::pin(crowd(seed, 15, seed % 2 == 0)).await;
    }
}
