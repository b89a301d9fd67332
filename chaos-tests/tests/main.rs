//! Interruptions everywhere: real processes killed at every write, power cuts at every write, and
//! stores that fail by chance, each over the same scripted run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::kill::{Schedule, kill_at_each_write};
use chaos_tests::script::{self, Amount, Fact};
use chaos_tests::stores::{Durability, Fault, Faults, Interposed, Power};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

/// Checks what is left, then lets the run come to its end and checks again.
async fn recover(store: Arc<dyn ObjectStore>, amount: Amount, acknowledged: &[Fact], seed: u64) {
    let (context, _) = testkit::context(seed);
    let told = format!("seed {seed}, acknowledged {acknowledged:?}");
    let left = script::check(Arc::clone(&store), amount, acknowledged, &context).await;
    left.unwrap_or_else(|error| panic!("{told}: {error:?}"));
    let mut all = acknowledged.to_vec();
    let resumed = script::run(Arc::clone(&store), amount, 1, &context, |fact| all.push(fact)).await;
    resumed.unwrap_or_else(|error| panic!("run again, {told}: {error:?}"));
    let whole = script::check(store, amount, &all, &context).await;
    whole.unwrap_or_else(|error| panic!("after running again, {told}: {error:?}"));
}

fn acknowledged_in(directory: &Path) -> Vec<Fact> {
    let lines = std::fs::read_to_string(directory.join("acknowledged")).unwrap_or_default();
    lines.lines().map(|line| Fact::from_line(line).expect("whole lines")).collect()
}

fn kill_everywhere(amount: Amount, name: &str, writes_max: u64) -> u64 {
    let command = |directory: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scripted-run"));
        command.arg(directory).arg(name);
        command
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let schedule = Schedule { stride: 1, writes_max };
    let killed = kill_at_each_write(schedule, command, |kill, directory| {
        let store = LocalFileSystem::new_with_prefix(directory.join("store")).expect("store");
        let acknowledged = acknowledged_in(directory);
        runtime.block_on(recover(Arc::new(store), amount, &acknowledged, kill.write));
    });
    killed.expect("the harness runs")
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_at_any_write() {
    let killed = kill_everywhere(Amount::SHORT, "short", 1_000);
    assert!(killed >= 2 * 12, "only {killed} kills");
}

/// At least 300 writes, each killed before and after.
#[test]
#[ignore = "the full tier runs it"]
fn nothing_acknowledged_is_lost_by_a_kill_at_any_write_of_a_long_run() {
    let killed = kill_everywhere(Amount::LONG, "long", 10_000);
    assert!(killed >= 2 * 300, "only {killed} kills");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_power_cut_at_any_write() {
    let amount = Amount::SHORT;
    for write in 1.. {
        let power = Power::new(write, Durability::Synced, Some(write));
        let (context, _) = testkit::context(write);
        let mut acknowledged = Vec::new();
        let run = script::run(Arc::new(power.store()), amount, 0, &context, |fact| {
            acknowledged.push(fact)
        });
        let ended = run.await;
        let disk = power.cut().await.expect("cut");
        recover(disk, amount, &acknowledged, 10_000 + write).await;
        if ended.is_ok() {
            assert!(write > 12, "only {write} writes");
            return;
        }
    }
}

/// The negative control: a store that does not sync loses what it acknowledged, and the check finds it.
#[tokio::test]
async fn a_store_that_does_not_sync_is_found_out() {
    let amount = Amount::SHORT;
    let power = Power::new(7, Durability::Unsynced(5), None);
    let (context, _) = testkit::context(7);
    let mut acknowledged = Vec::new();
    let run =
        script::run(Arc::new(power.store()), amount, 0, &context, |fact| acknowledged.push(fact));
    run.await.expect("the power is on");
    let disk: Arc<InMemory> = power.cut().await.expect("cut");
    let error = script::check(disk, amount, &acknowledged, &context).await.expect_err("lost");
    assert!(error.to_string().contains("is lost"), "{error:?}");
}

/// Errors, lost responses, false conflicts and delays at any request: a run either ends well or with an
/// error after which it can be run again.
#[tokio::test]
async fn a_store_that_fails_by_chance_costs_only_time() {
    let faults = [
        Fault::ErrorBefore,
        Fault::LostResponse,
        Fault::FalseConflict,
        Fault::Slow(Duration::from_secs(5)),
    ];
    for seed in 0..12 {
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
        let _ = run.await;
        assert!(!plan.occurred().is_empty());
        recover(disk, Amount::SHORT, &acknowledged, 100 + seed).await;
    }
}
