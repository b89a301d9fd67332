//! Interruptions everywhere: real processes killed at every write, power cuts at every write, and
//! stores that fail by chance, each over the same scripted run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::kill::{Schedule, kill_at_each_write};
use chaos_tests::script::{self, Amount, Expected, Fact, Key};
use chaos_tests::stores::{Durability, Fault, Faults, Interposed, Power, Recorder, Verb};
use model::Counter;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use repository::store::Store;
use repository::{OpenOptions, Repository};

/// More than any run makes.
const WRITES_MAX: u64 = 10_000;
/// Seeds of those who come afterwards are far from those of the runs: process ids and small numbers.
const AFTERWARDS: u64 = 1 << 40;

/// Checks what is left, then lets the run come to its end and checks again.
async fn recover(
    store: Arc<dyn ObjectStore>,
    (amount, expected): (Amount, &mut Expected),
    acknowledged: &[Fact],
    seed: u64,
) {
    let (context, _) = testkit::context(AFTERWARDS + seed);
    let told = format!("seed {seed}, acknowledged {acknowledged:#?}");
    let is_deep = seed.is_multiple_of(16);
    let left = script::check(Arc::clone(&store), expected, acknowledged, is_deep, &context);
    Box::pin(left).await.unwrap_or_else(|error| panic!("{told}: {error:?}"));
    let mut all = acknowledged.to_vec();
    let resumed = script::run(Arc::clone(&store), amount, 1, &context, |fact| all.push(fact));
    Box::pin(resumed).await.unwrap_or_else(|error| panic!("run again, {told}: {error:?}"));
    let whole = script::check(store, expected, &all, is_deep, &context);
    Box::pin(whole).await.unwrap_or_else(|error| panic!("after running again, {told}: {error:?}"));
}

/// Interruptions prove as much as what is interrupted: the script does all that it is said to do.
async fn check_script(amount: Amount, writes_min: u64) {
    let (context, handles) = testkit::context(3);
    let recorder = Arc::new(Recorder::new());
    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store: Arc<dyn ObjectStore> = Arc::new(Interposed::new(Arc::clone(&disk), &recorder));
    let mut facts = Vec::new();
    let run = script::run(store, amount, 0, &context, |fact| facts.push(fact));
    Box::pin(run).await.expect("the store is sound");
    let writes: u64 =
        [Verb::Put, Verb::Delete].iter().map(|verb| recorder.count_of(*verb).requests).sum();
    assert!(writes >= writes_min, "only {writes} writes");
    assert!(handles.monitor.count_of(Counter::DeltaChunks) > 0, "no delta");
    let counts = recorder.counts();
    for kind in ["pack", "meta", "index", "snapshot", "point", "mark", "log", "logseg", "forget"] {
        assert!(counts.contains_key(&(Verb::Put, kind.to_owned())), "no {kind} was put");
    }
    assert!(counts.contains_key(&(Verb::Delete, "log".to_owned())), "no batch was deleted");

    let store = Store::new(disk, "scripted", &context);
    let unlock = Key { slot: 0, run: 0 }.unlock();
    let opened = Repository::open(store, &unlock, OpenOptions::default(), &context).await;
    let repository = opened.expect("open");
    let mut resumed = 0;
    let main = "site.main".parse().expect("stream");
    for snapshot in repository.newest_snapshots(&main, 1_000).await.expect("list") {
        let Some(parent) = &snapshot.parent else { continue };
        let is_checkpoint = repository.snapshot(parent).await.expect("parent").is_checkpoint;
        // Its follower has forgotten it.
        let is_forgotten = repository.is_forgotten(parent).await.expect("look");
        assert!(is_forgotten || !is_checkpoint, "{parent} is a checkpoint and kept");
        resumed += usize::from(is_checkpoint);
    }
    assert!(resumed > 0, "no capture went on behind a checkpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_does_all_that_writes() {
    check_script(Amount::SHORT, 60).await;
    check_script(Amount::LONG, 300).await;
}

fn acknowledged_in(directory: &Path) -> Vec<Fact> {
    let lines = std::fs::read_to_string(directory.join("acknowledged")).unwrap_or_default();
    lines.lines().map(|line| Fact::from_line(line).expect("whole lines")).collect()
}

/// Kills at every `stride`th write, before and after it, in two threads; returns how many were killed.
fn kill_everywhere(amount: Amount, name: &str, stride: u64) -> u64 {
    let half = |first| Schedule { first, stride: 2 * stride, writes_max: WRITES_MAX };
    std::thread::scope(|scope| {
        let halves = [half(1), half(1 + stride)]
            .map(|schedule| scope.spawn(move || kill_on_schedule(amount, name, schedule)));
        halves.into_iter().map(|half| half.join().expect("nothing was lost")).sum()
    })
}

fn kill_on_schedule(amount: Amount, name: &str, schedule: Schedule) -> u64 {
    let command = |directory: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scripted-run"));
        command.arg(directory).arg(name);
        command
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let mut expected = Expected::new(amount);
    let killed = kill_at_each_write(schedule, command, |kill, directory| {
        let store = LocalFileSystem::new_with_prefix(directory.join("store")).expect("store");
        let acknowledged = acknowledged_in(directory);
        let recovered =
            recover(Arc::new(store), (amount, &mut expected), &acknowledged, kill.write);
        runtime.block_on(recovered);
    });
    killed.expect("the harness runs")
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let killed = kill_everywhere(Amount::SHORT, "short", 4);
    assert!(killed >= 2 * 12, "only {killed} kills");
}

#[test]
#[ignore = "the full tier runs it"]
fn nothing_acknowledged_is_lost_by_a_kill_at_any_write() {
    let killed = kill_everywhere(Amount::SHORT, "short", 1);
    assert!(killed >= 2 * 60, "only {killed} kills");
}

/// At least 300 writes, each killed before and after.
#[test]
#[ignore = "the full tier runs it"]
fn nothing_acknowledged_is_lost_by_a_kill_at_any_write_of_a_long_run() {
    let killed = kill_everywhere(Amount::LONG, "long", 1);
    assert!(killed >= 2 * 300, "only {killed} kills");
}

/// Cuts the power at every `stride`th write until a run ends before its cut; returns the number of cuts.
async fn cut_everywhere(stride: usize) -> usize {
    let amount = Amount::SHORT;
    let mut expected = Expected::new(amount);
    for (cuts, write) in (1..10_000).step_by(stride).enumerate() {
        let power = Power::new(write, Durability::Synced, Some(write));
        let (context, _) = testkit::context(write);
        let mut acknowledged = Vec::new();
        let run = script::run(Arc::new(power.store()), amount, 0, &context, |fact| {
            acknowledged.push(fact)
        });
        let ended = Box::pin(run).await;
        let disk = power.cut().await.expect("cut");
        recover(disk, (amount, &mut expected), &acknowledged, 10_000 + write).await;
        if ended.is_ok() {
            return cuts;
        }
    }
    panic!("the run never ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let cuts = cut_everywhere(2).await;
    assert!(cuts >= 20, "only {cuts} cuts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn nothing_acknowledged_is_lost_by_a_power_cut_at_any_write() {
    let cuts = cut_everywhere(1).await;
    assert!(cuts >= 60, "only {cuts} cuts");
}

/// The negative control: a store that does not sync loses what it acknowledged, and the check finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_sync_is_found_out() {
    let amount = Amount::SHORT;
    let power = Power::new(7, Durability::Unsynced(12), None);
    let (context, _) = testkit::context(7);
    let mut acknowledged = Vec::new();
    let run =
        script::run(Arc::new(power.store()), amount, 0, &context, |fact| acknowledged.push(fact));
    Box::pin(run).await.expect("the power is on");
    let disk: Arc<InMemory> = power.cut().await.expect("cut");
    let mut expected = Expected::new(amount);
    let left = script::check(disk, &mut expected, &acknowledged, true, &context);
    Box::pin(left).await.expect_err("something is lost");
}

/// Errors, lost responses, false conflicts and delays at any request: a run either ends well or with an
/// error after which it can be run again.
async fn fail_by_chance(seeds: std::ops::Range<u64>) {
    let faults = [
        Fault::ErrorBefore,
        Fault::LostResponse,
        Fault::FalseConflict,
        Fault::Slow(Duration::from_secs(5)),
    ];
    let mut expected = Expected::new(Amount::SHORT);
    for seed in seeds {
        let (context, handles) = testkit::context(seed);
        let plan = Arc::new(Faults::new(handles.clock.clone()));
        let disk = Arc::new(InMemory::new());
        let store = Interposed::new(Arc::clone(&disk) as Arc<dyn ObjectStore>, &plan);
        plan.by_chance(seed, 15, &faults);
        let mut acknowledged = Vec::new();
        let run = script::run(Arc::new(store), Amount::SHORT, 0, &context, |fact| {
            acknowledged.push(fact);
        });
        // Whether it failed is chance; what is left is not.
        let _ = Box::pin(run).await;
        assert!(!plan.occurred().is_empty());
        recover(disk, (Amount::SHORT, &mut expected), &acknowledged, 100 + seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_by_chance_costs_only_time() {
    fail_by_chance(0..6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn a_store_that_fails_by_chance_costs_only_time_for_many_seeds() {
    fail_by_chance(6..120).await;
}
