//! The stores do what they say, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use model::Clock;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use testkit::ManualClock;

use super::*;

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::advancing_itself())
}

async fn put(store: &dyn ObjectStore, path: &str) -> object_store::Result<()> {
    let payload = PutPayload::from_static(b"0123456789");
    store.put_opts(&Path::from(path), payload, PutMode::Create.into()).await.map(|_| ())
}

async fn get(store: &dyn ObjectStore, path: &str) -> object_store::Result<Vec<u8>> {
    Ok(store.get(&Path::from(path)).await?.bytes().await?.to_vec())
}

async fn names(store: &dyn ObjectStore) -> object_store::Result<Vec<String>> {
    store.list(None).map_ok(|entry| entry.location.to_string()).try_collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_the_repository_can_use_pass() {
    check_store(memory(), "check").await;
    let directory = tempfile::tempdir().expect("directory");
    let local = LocalFileSystem::new_with_prefix(directory.path()).expect("local store");
    check_store(Arc::new(local.with_fsync(true)), "check").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrappers_without_faults_are_stores_themselves() {
    let clock = clock();
    let faults = Interposed::new(memory(), &Arc::new(Faults::new(clock.clone())));
    let recorded = Interposed::new(Arc::new(faults), &Arc::new(Recorder::new()));
    let link = Arc::new(Link::new(clock, Duration::from_millis(50), 100_000_000));
    check_store(Arc::new(Interposed::new(Arc::new(recorded), &link)), "check").await;
    check_store(Arc::new(Power::new(1, Durability::Synced, None).store()), "check").await;
}

#[tokio::test]
async fn a_store_with_a_fault_does_not_pass() {
    for fault in [Fault::BitFlip, Fault::Truncated, Fault::Stale, Fault::FalseConflict] {
        let failed = tokio::spawn(async move {
            let faults = Arc::new(Faults::new(clock()));
            faults.by_chance(1, 100, &[fault]);
            check_store(Arc::new(Interposed::new(memory(), &faults)), "check").await;
        });
        assert!(failed.await.expect_err("a fault is found").is_panic(), "{fault:?}");
    }
}

fn rule(verb: Verb, prefix: &str, nth: u64, fault: Fault) -> Rule {
    Rule { verb: Some(verb), prefix: prefix.to_owned(), nth, times: 1, fault }
}

#[tokio::test]
async fn writes_fail_before_and_after_they_took_effect() {
    let (inner, faults) = (memory(), Arc::new(Faults::new(clock())));
    let store = Interposed::new(Arc::clone(&inner), &faults);
    faults.add(rule(Verb::Put, "a/", 1, Fault::ErrorBefore));
    faults.add(rule(Verb::Put, "a/", 2, Fault::LostResponse));
    faults.add(rule(Verb::Put, "a/", 3, Fault::FalseConflict));
    put(&store, "b/1").await.expect("another prefix");
    for path in ["a/1", "a/2"] {
        assert!(matches!(put(&store, path).await, Err(Error::Generic { .. })), "{path}");
    }
    assert!(matches!(put(&store, "a/3").await, Err(Error::AlreadyExists { .. })));
    assert_eq!(names(inner.as_ref()).await.expect("list"), ["a/2", "b/1"]);
    put(&store, "a/1").await.expect("each fault occurs once");
    assert_eq!(faults.occurred().len(), 3);
}

#[tokio::test]
async fn reads_and_listings_lie() {
    let faults = Arc::new(Faults::new(clock()));
    let old = memory();
    put(old.as_ref(), "old").await.expect("put");
    let store = Interposed::new(old, &faults);
    for path in ["new/1", "new/2", "new/3"] {
        put(&store, path).await.expect("put");
    }
    faults.add(rule(Verb::Get, "", 1, Fault::BitFlip));
    faults.add(rule(Verb::Get, "", 2, Fault::Truncated));
    assert_eq!(get(&store, "old").await.expect("get"), b"01234%6789");
    assert_eq!(get(&store, "old").await.expect("get"), b"01234");
    assert_eq!(get(&store, "old").await.expect("get"), b"0123456789");
    faults.add(rule(Verb::List, "", 1, Fault::MissingNewest(2)));
    faults.add(rule(Verb::List, "", 2, Fault::Stale));
    faults.add(rule(Verb::List, "", 3, Fault::TornAfter(3)));
    assert_eq!(names(&store).await.expect("list"), ["new/1", "old"]);
    assert_eq!(names(&store).await.expect("list"), ["old"]);
    assert!(names(&store).await.is_err());
    faults.by_chance(1, 100, &[Fault::ErrorBefore]);
    assert!(names(&store).await.is_err());
    faults.heal();
    assert_eq!(names(&store).await.expect("list").len(), 4);
}

#[tokio::test]
async fn round_trips_are_those_that_wait_for_one_another() {
    let recorder = Arc::new(Recorder::new());
    let link_clock = Arc::new(ManualClock::new());
    let link = Arc::new(Link::new(link_clock.clone(), Duration::from_millis(50), 1_000_000));
    let slow = Arc::new(Interposed::new(memory(), &link));
    let store = Arc::new(Interposed::new(slow, &recorder));
    let run = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            put(store.as_ref(), "a/1").await.expect("one");
            let both = ["a/2", "b/3"].map(|path| put(store.as_ref(), path));
            join_all(both).await.into_iter().for_each(|put| put.expect("together"));
            get(store.as_ref(), "a/2").await.expect("last")
        })
    };
    while !run.is_finished() {
        link_clock.advance(Duration::from_micros(10));
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.expect("run").len(), 10);
    assert_eq!(recorder.round_trips(), 3);
    assert_eq!(recorder.count_of(Verb::Put).requests, 3);
    assert_eq!(recorder.counts()[&(Verb::Put, "a".to_owned())].sent_bytes, 20);
    assert_eq!(recorder.count_of(Verb::Get).received_bytes, 10);
    assert_eq!(recorder.requests().len(), 4);
    assert!(link_clock.elapsed() >= Duration::from_millis(150));
    assert!(link_clock.elapsed() < Duration::from_millis(160), "{:?}", link_clock.elapsed());
}

#[tokio::test]
async fn a_page_of_a_listing_is_a_request() {
    let (inner, recorder) = (memory(), Arc::new(Recorder::new()));
    for number in 0..=2 * LIST_PAGE_ENTRIES {
        put(inner.as_ref(), &format!("a/{number}")).await.expect("put");
    }
    let store = Interposed::new(inner, &recorder);
    names(&store).await.expect("list");
    assert_eq!((recorder.count_of(Verb::List).requests, recorder.round_trips()), (3, 3));
    recorder.reset();
    store.list_with_delimiter(Some(&Path::from("a"))).await.expect("list");
    assert_eq!((recorder.count_of(Verb::List).requests, recorder.round_trips()), (3, 3));
}

#[tokio::test]
async fn content_shares_one_bandwidth() {
    let clock = clock();
    let link = Arc::new(Link::new(clock.clone(), Duration::from_millis(50), 1_000));
    let store = Interposed::new(memory(), &link);
    put(&store, "a").await.expect("put");
    assert_eq!(clock.elapsed(), Duration::from_millis(60));
    get(&store, "a").await.expect("get");
    assert_eq!(clock.elapsed(), Duration::from_millis(120));
}

/// What was acknowledged is there after a cut; without syncing, the same test would find it lost.
#[tokio::test]
async fn a_power_cut_keeps_what_was_acknowledged_unless_nothing_is_synced() {
    let mut kept_unacknowledged = 0;
    let mut lost_acknowledged = 0;
    for (seed, durability) in (0..20)
        .map(|seed| (seed, Durability::Synced))
        .chain((0..20).map(|seed| (seed, Durability::Unsynced(4))))
    {
        let power = Power::new(seed, durability, Some(1 + seed));
        let store = power.store();
        let paths: Vec<_> = (0..30).map(|number| format!("a/{number}")).collect();
        let puts = join_all(paths.iter().map(|path| put(&store, path))).await;
        assert!(power.is_off() && puts.iter().any(Result::is_err));
        assert!(get(&store, "a/0").await.is_err(), "the power is off");
        let disk = power.cut().await.expect("cut");
        for (path, put) in paths.iter().zip(puts) {
            let is_there = get(disk.as_ref(), path).await.is_ok();
            kept_unacknowledged += u32::from(put.is_err() && is_there);
            let is_lost = put.is_ok() && !is_there;
            assert!(!is_lost || durability != Durability::Synced, "{path} of seed {seed} is lost");
            lost_acknowledged += u32::from(is_lost);
        }
    }
    assert!(kept_unacknowledged > 0, "a write under way can reach the disk");
    assert!(lost_acknowledged > 0, "the negative control loses something");
}
