//! Whole restores: what was captured into a repository comes back, whatever happens on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{AttributeTag, Counter, ErrorKind, Item, ItemKey, RestoreStep, Target};
use object_store::memory::InMemory;
use repository::Repository;
use testkit::scripted::{Call, key};
use testkit::{MemoryTarget, Observed, ScriptedSystem};

use super::super::{Existing, RestoreOptions, RestoreReport, RestoreRules, plan, restore, verify};
use crate::capture::{CaptureOptions, capture};
use crate::fixtures;
use crate::select::{Items, ResolvedSystem};

const SCRIPT: &str = r#"
    dir  data mode:750
    file data/empty mode:600
    file data/small mode:644 mtime:5 "hello"
    file data/text 1~30000
    file data/sparse 2*5000 hole*9000 3*1000 hole*5
    file data/large 4*6500000
    dir  data/sub mode:700
    file data/sub/a mtime:1 "a"
    file lake/block blk_1=5*700000 blk_2=6*650000
    symlink link data/small
    fifo pipe
"#;

struct Bench {
    repository: Repository,
    context: model::Context,
    handles: testkit::Handles,
    scratch: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let (context, handles) = testkit::context(1);
        let repository = fixtures::repository(&InMemory::new(), &context).await;
        Self { repository, context, handles, scratch: tempfile::tempdir().expect("scratch") }
    }

    async fn state(&self, system: &ScriptedSystem) -> ResolvedSystem {
        let options = CaptureOptions {
            host: "h1".to_owned(),
            domain: String::new(),
            recheck_every_captures: 0,
            read_everything: false,
            scratch_folder: self.scratch.path().to_owned(),
            workers: 2,
        };
        let stream = "prod.lake".parse().expect("stream");
        let captured = capture(&self.repository, &stream, system, &options, &self.context);
        let snapshot = Box::pin(captured).await.expect("capture").snapshot;
        ResolvedSystem {
            stream,
            stands_at: snapshot.cut_to,
            position: snapshot.position.clone(),
            host: None,
            path: ItemKey::root(),
            items: Items::Stored(self.repository.tree(&snapshot).expect("tree")),
            snapshot,
        }
    }

    async fn restore(
        &self,
        state: &ResolvedSystem,
        target: &MemoryTarget,
        rules: RestoreRules,
    ) -> model::Result<RestoreReport> {
        let target: Arc<dyn Target> = Arc::new(target.clone());
        let options = options(rules);
        Box::pin(restore(&self.repository, state, &target, &options, &self.context)).await
    }
}

fn options(rules: RestoreRules) -> RestoreOptions {
    RestoreOptions {
        rules,
        onto: ItemKey::root(),
        include: Vec::new(),
        ignored: Vec::new(),
        is_verified: true,
    }
}

const FRESH: RestoreRules = RestoreRules { existing: Existing::Refuse, delete_extra: false };
const RESUME: RestoreRules = RestoreRules { existing: Existing::Keep, delete_extra: false };
const OVERWRITE: RestoreRules = RestoreRules { existing: Existing::Overwrite, delete_extra: false };
const MIRROR: RestoreRules = RestoreRules { existing: Existing::Overwrite, delete_extra: true };

/// Makes sure that a target holds what a system has.
fn assert_same(target: &MemoryTarget, system: &ScriptedSystem) {
    let held = target.state();
    let items = system.items();
    assert!(held.keys().eq(items.keys()), "{:?}\n{:?}", held.keys(), items.keys());
    for (key, item) in &items {
        let held = &held[key];
        assert_eq!((held.item.kind, &held.item.attributes), (item.kind, &item.attributes));
        assert!(held.content == system.content_of(key), "content of {key:?}");
    }
    assert!(target.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_captured_comes_back_and_is_proven() {
    let bench = Bench::new().await;
    let system = system();
    let (state, target) = (bench.state(&system).await, MemoryTarget::new());
    bench.handles.monitor.reset();
    let report = bench.restore(&state, &target, FRESH).await.expect("restore");
    assert_same(&target, &system);
    bench.handles.monitor.assert_no_problems();
    let items = system.items().len() as u64;
    assert!(report.is_proven());
    assert_eq!((report.created, report.verified_items, report.failed_items), (items, items, 0));
    let bytes = state.snapshot.root.totals.content_bytes;
    assert_eq!((report.restored_bytes, report.verified_bytes), (bytes, bytes));
    let monitor = &bench.handles.monitor;
    for (counter, count) in [
        (Counter::RestoredItems, items),
        (Counter::RestoredBytes, bytes),
        (Counter::VerifiedItems, items),
        (Counter::VerifiedBytes, bytes),
    ] {
        assert_eq!(monitor.count_of(counter), count, "{counter:?}");
    }
    let phases: Vec<_> = monitor.phases().iter().map(|phase| phase.name).collect();
    assert_eq!(phases, ["restore", "verify"]);
}

/// The scripted system with the directory that its script leaves out.
fn system() -> ScriptedSystem {
    let system = ScriptedSystem::new("dir lake");
    system.edit(SCRIPT);
    system
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_failed_anywhere_is_continued() {
    let bench = Bench::new().await;
    let system = system();
    let state = bench.state(&system).await;
    let steps = system.items().len() as u64;
    for (call, nth_max) in [(Call::Apply, steps), (Call::Finish, 1)] {
        for nth in 1..=nth_max {
            let target = MemoryTarget::new();
            target.fail_nth(call, nth, ErrorKind::Unavailable);
            let error = bench.restore(&state, &target, FRESH).await.expect_err("fails");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{call:?} {nth}");
            // This target may leave half a file under its own name: that is no longer the wanted one.
            match bench.restore(&state, &target, RESUME).await {
                Ok(report) => assert!(report.is_proven(), "{call:?} {nth}: {report:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{call:?} {nth}");
                    let report =
                        bench.restore(&state, &target, OVERWRITE).await.expect("overwrite");
                    assert!(report.is_proven(), "{call:?} {nth}: {report:?}");
                }
            }
            assert_same(&target, &system);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_restored_does_not_keep_others_from_it() {
    let bench = Bench::new().await;
    let system = system();
    let (state, target) = (bench.state(&system).await, MemoryTarget::new());
    target.fail_nth(Call::Apply, system.items().len() as u64, ErrorKind::Denied);
    let report = bench.restore(&state, &target, FRESH).await.expect("goes on");
    assert_eq!(report.failed_items, 1);
    assert!(!report.is_proven());
    assert!(!bench.handles.monitor.problems().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_something_is_in_the_way() {
    let bench = Bench::new().await;
    let state = bench.state(&system()).await;
    let other = ScriptedSystem::new("dir data mode:750\nfile data/small mode:600 \"mine\"");
    let held = held(&other);
    for rules in [FRESH, RESUME] {
        let target = MemoryTarget::holding(held.clone());
        let error = bench.restore(&state, &target, rules).await.expect_err("in the way");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(target.state(), held);
    }
    let target: Arc<dyn Target> = Arc::new(MemoryTarget::holding(held.clone()));
    let options = options(RESUME);
    let plan = plan(&bench.repository, &state, &target, &options, &bench.context).await;
    let plan = plan.expect("plan");
    assert_eq!((plan.conflict_items, plan.conflicts), (1, vec![key("data/small")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_and_mirroring_change_what_they_are_told_to() {
    let bench = Bench::new().await;
    let system = system();
    let state = bench.state(&system).await;
    let other = system_with_strangers();
    let target = MemoryTarget::holding(held(&other));
    let report = bench.restore(&state, &target, OVERWRITE).await.expect("overwrite");
    assert!(report.is_proven(), "{report:?}");
    assert_eq!((report.deleted, report.left), (0, 3));
    assert!(target.state().contains_key(&key("strange/deep/file")));
    let report = bench.restore(&state, &target, MIRROR).await.expect("mirror");
    assert_eq!((report.created, report.deleted, report.left), (0, 3, 0));
    assert_same(&target, &system);
}

fn system_with_strangers() -> ScriptedSystem {
    let other = system();
    other.edit("file data/small mode:600 \"mine\"\ndir strange\ndir strange/deep\nfile strange/deep/file \"x\"");
    other.edit("file link \"link\"\ndelete data/sub\nfile data/sub \"leaf\"");
    other
}

fn held(system: &ScriptedSystem) -> Observed {
    let item = |key: &ItemKey, item: Item| {
        let content = system.content_of(key);
        (key.clone(), testkit::ObservedItem { item, content })
    };
    let items: BTreeMap<ItemKey, Item> = system.items();
    items.into_iter().map(|(key, it)| item(&key, it)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_back_while_it_was_written_is_not_read_again() {
    let bench = Bench::new().await;
    let system = system();
    let (state, target) = (bench.state(&system).await, MemoryTarget::new().reading_back());
    target.fail_nth(Call::Open, 1, ErrorKind::Internal);
    let report = bench.restore(&state, &target, FRESH).await.expect("restore");
    assert!(report.is_proven());
    assert_same(&target, &system);
    // Another run knows nothing of that and has to read.
    bench.restore(&state, &target, RESUME).await.expect_err("reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_fails_the_check_is_fetched_again() {
    let bench = Bench::new().await;
    let system = system();
    let state = bench.state(&system).await;
    let mut healed = 0;
    for nth in 1..=system.items().len() as u64 {
        let target = MemoryTarget::new().reading_back();
        target.fail_nth(Call::Apply, nth, ErrorKind::Corrupt);
        let report = bench.restore(&state, &target, FRESH).await.expect("restore");
        let is_of_content = report.failed_items == 0;
        assert_eq!(report.is_proven(), is_of_content, "{nth}");
        if is_of_content {
            assert_same(&target, &system);
            healed += 1;
        }
    }
    let has_content = |item: &&Item| item.kind.has_content();
    assert_eq!(healed, system.items().values().filter(has_content).count());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_behind_its_back_is_told_and_repaired() {
    let bench = Bench::new().await;
    let system = system();
    let (state, target) = (bench.state(&system).await, MemoryTarget::new());
    bench.restore(&state, &target, FRESH).await.expect("restore");
    // The same length and attributes, other bytes: only reading tells.
    let mut item = target.state()[&key("data/text")].item.clone();
    item.version = None;
    let step = RestoreStep::Replace(item.clone());
    let mut reader = testkit::BytesReader::new(vec![7; 30000].into());
    target.apply(&step, Some(&mut reader), &bench.context).await.expect("damage");
    let shared: Arc<dyn Target> = Arc::new(target.clone());
    let options = options(RESUME);
    let report = verify(&bench.repository, &state, &shared, &options, &bench.context).await;
    let report = report.expect("verify");
    assert_eq!(report.mismatched_items, 1);
    assert_eq!(report.mismatches[0].key, key("data/text"));
    let report = bench.restore(&state, &target, RESUME).await.expect("repair");
    assert!(report.is_proven());
    assert_eq!((report.replaced, report.created), (1, 0));
    assert_same(&target, &system);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_stops() {
    let bench = Bench::new().await;
    let (state, target) = (bench.state(&system()).await, MemoryTarget::new());
    bench.handles.cancel.cancel();
    let error = bench.restore(&state, &target, FRESH).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(target.state().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_cannot_hold_is_not_compared() {
    let bench = Bench::new().await;
    let (state, target) = (bench.state(&system()).await, MemoryTarget::new());
    bench.restore(&state, &target, FRESH).await.expect("restore");
    let mut item = target.state()[&key("data/sub/a")].item.clone();
    let owned = model::Attributes::builder().unsigned(AttributeTag::USER_ID, 5);
    item.attributes = owned.signed(AttributeTag::MODIFIED_NS, 1).build();
    let mut reader = testkit::BytesReader::new("a".into());
    let step = RestoreStep::Replace(item);
    target.apply(&step, Some(&mut reader), &bench.context).await.expect("another owner");
    let shared: Arc<dyn Target> = Arc::new(target.clone());
    let mut options = options(RESUME);
    for (ignored, mismatches) in [(vec![], 1), (vec![AttributeTag::USER_ID], 0)] {
        options.ignored = ignored;
        let report = verify(&bench.repository, &state, &shared, &options, &bench.context).await;
        assert_eq!(report.expect("verify").mismatched_items, mismatches);
    }
}
