//! Captures of the scripted system.

use model::{AttributeTag, ContentClass, Context, Counter, Epoch, ErrorKind};
use repository::Repository;
use repository::types::NodeId;
use testkit::scripted::{Call, Shape, key};
use testkit::{Handles, ScriptedSystem};

use super::*;
use crate::testing::{content, records, repository, stream};

const SHAPES: [Shape; 3] = [Shape::Sorted, Shape::Unsorted, Shape::Changes];

struct Bench {
    repository: Repository,
    context: Context,
    handles: Handles,
    scratch: tempfile::TempDir,
}

impl Bench {
    async fn new(seed: u64) -> Self {
        let (context, handles) = testkit::context(seed);
        let repository = repository(&context).await;
        let scratch = tempfile::tempdir().expect("scratch");
        Self { repository, context, handles, scratch }
    }

    fn options(&self) -> CaptureOptions {
        CaptureOptions {
            host: "h1".to_owned(),
            domain: "default".to_owned(),
            recheck_every_captures: 0,
            read_everything: false,
            scratch_folder: self.scratch.path().to_owned(),
            workers: 2,
        }
    }

    async fn capture(&self, system: &ScriptedSystem) -> Captured {
        self.try_capture(system, &self.options()).await.expect("capture")
    }

    async fn try_capture(
        &self,
        system: &ScriptedSystem,
        options: &CaptureOptions,
    ) -> Result<Captured> {
        let captured = capture(&self.repository, &stream(), system, options, &self.context).await;
        assert_eq!(system.cuts_held(), 0, "every cut is released");
        captured
    }

    /// Compares a snapshot with the system as it is now, but for some keys.
    async fn check(&self, captured: &Captured, system: &ScriptedSystem, but: &[&str]) {
        let mut stored = records(&self.repository, &captured.snapshot).await;
        let mut items = system.items();
        for path in but {
            stored.remove(&key(path));
            items.remove(&key(path));
        }
        assert!(stored.keys().eq(items.keys()), "{:?}\n{:?}", stored.keys(), items.keys());
        for (key, item) in items {
            let record = &stored[&key];
            assert_eq!(record.to_item(&key), item);
            let found = content(&self.repository, &captured.snapshot, record).await;
            assert!(found == system.content_of(&key), "content of {key:?}");
        }
    }
}

fn root(captured: &Captured) -> Option<NodeId> {
    captured.snapshot.root.node.as_ref().map(|(id, _)| *id)
}

const SCRIPT: &str = r#"
    dir  . mode:755
    dir  data mode:750
    file data/empty ""
    file data/small "hello" mtime:5
    file data/text 1~30000
    file data/sparse 2*5000 hole*9000 3*1000
    file data/large 4*1500000
    file lake/block blk_1=5*700000 blk_2=6*650000
    node zk/a "value"
    node zk/a/b "child"
    symlink link data/small
    fifo pipe
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_captured_is_what_the_system_has() {
    for shape in SHAPES {
        let bench = Bench::new(1).await;
        let system = ScriptedSystem::new(SCRIPT).with_shape(shape);
        let captured = bench.capture(&system).await;
        bench.check(&captured, &system, &[]).await;
        assert_eq!((captured.listed_items, captured.read_items), (12, 8));
        assert_eq!(captured.read_bytes, system.take_opened_bytes());
        assert_eq!(captured.problems, 0);
        assert_eq!(captured.snapshot.position, system.position());
        assert_eq!(captured.snapshot.proof.claims.len(), 1);
        bench.handles.monitor.assert_no_problems();
        assert_eq!(bench.handles.monitor.count_of(Counter::ReadBytes), captured.read_bytes);
        let phases: Vec<_> = bench.handles.monitor.phases().iter().map(|p| p.name).collect();
        assert_eq!(phases, ["begin", "capture", "commit"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_a_cut_gives_the_same_root_and_reads_what_changed() {
    let edits = "
        file data/text 7~31000
        file data/new 8*900
        delete lake
        move data moved
        dir  data mode:700
        file data/late 9*40
    ";
    let mut roots = Vec::new();
    for shape in SHAPES {
        // One domain of keys for all: ids can be compared.
        let bench = Bench::new(2).await;
        let system = ScriptedSystem::new(SCRIPT).with_shape(shape);
        let first = bench.capture(&system).await;
        let again = bench.capture(&system).await;
        assert_eq!(root(&again), root(&first));
        assert_eq!((again.read_items, again.read_bytes, again.deleted_items), (0, 0, 0));
        assert_eq!(again.snapshot.parent, Some(first.snapshot.id.clone()));
        system.take_opened_bytes();
        system.edit(edits);
        let changed = bench.capture(&system).await;
        bench.check(&changed, &system, &[]).await;
        let opened = system.take_opened_bytes();
        assert_eq!(opened, changed.read_bytes);
        if shape == Shape::Changes {
            // Without changes there is nothing to list; moved content is not read.
            assert_eq!(again.listed_items, 0);
            assert_eq!(opened, 31_000 + 900 + 40);
        } else {
            assert_eq!(again.listed_items, 12);
            assert_eq!(again.reused_items, 12);
        }
        roots.push((root(&first), root(&changed)));
    }
    assert!(roots.iter().all(|pair| *pair == roots[0]), "{roots:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn known_extents_are_not_opened_and_differing_stripes_are() {
    let bench = Bench::new(3).await;
    let system =
        ScriptedSystem::new("file f blk_1=1*600000/65536 blk_2=2*655360+3*65536+4*655360/65536")
            .with_content_class(ContentClass::Lake);
    bench.capture(&system).await;
    system.take_opened_bytes();
    // One stripe in the middle differs, and there is a third block.
    system.edit(
        "file f blk_1=1*600000/65536 blk_9=2*655360+5*65536+4*655360/65536 blk_3=6*700000/65536",
    );
    let captured = bench.capture(&system).await;
    assert_eq!(system.take_opened_bytes(), 65_536 + 700_000);
    assert_eq!(captured.read_bytes, 65_536 + 700_000);
    bench.check(&captured, &system, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_lies_is_believed_for_its_epoch_and_no_longer() {
    let bench = Bench::new(4).await;
    for shape in [Shape::Sorted, Shape::Changes] {
        let system = ScriptedSystem::new("file f blk_1=1*600000").with_shape(shape);
        bench.capture(&system).await;
        system.rot(&key("f"));
        system.take_opened_bytes();
        let believed = bench.capture(&system).await;
        assert_eq!(system.take_opened_bytes(), 0);
        let distrusted = system.clone().with_extent_epoch(Epoch(2));
        let captured = bench.capture(&distrusted).await;
        assert_eq!(system.take_opened_bytes(), 600_000);
        assert_ne!(root(&captured), root(&believed));
        bench.check(&captured, &system, &[]).await;
        assert_eq!(captured.snapshot.extent_epoch, Epoch(2));
        assert_eq!(bench.capture(&distrusted).await.read_bytes, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_a_trace_is_found_by_its_turn() {
    let bench = Bench::new(5).await;
    let system = ScriptedSystem::new("file a 1*1000\n file b 2*1000");
    let options = CaptureOptions { recheck_every_captures: 3, ..bench.options() };
    bench.try_capture(&system, &options).await.expect("first");
    system.rot(&key("a"));
    system.take_opened_bytes();
    let mut last = None;
    for _ in 0..3 {
        last = Some(bench.try_capture(&system, &options).await.expect("capture"));
    }
    assert_eq!((system.opened_bytes(&key("a")), system.opened_bytes(&key("b"))), (1000, 1000));
    bench.check(&last.expect("captured"), &system, &[]).await;
    let everything = CaptureOptions { read_everything: true, ..bench.options() };
    let captured = bench.try_capture(&system, &everything).await.expect("capture");
    assert_eq!(captured.read_bytes, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_changes_while_it_is_read_is_read_again_then_marked() {
    let bench = Bench::new(6).await;
    let system = ScriptedSystem::new("file a 1*1000\n file b 2*700000\n file c 3*1000 4*900000");
    let (a, b, c) = (key("a"), key("b"), key("c"));
    for key in [&a, &b, &c] {
        system.change_while_read(key, 2);
    }
    let captured = bench.capture(&system).await;
    assert_eq!(captured.problems, 0);
    bench.check(&captured, &system, &[]).await;
    for key in [&a, &b, &c] {
        system.change_while_read(key, 9);
    }
    system.edit("file a 5*1000\n file b 6*700000\n file c 7*1000 8*900000");
    let captured = bench.capture(&system).await;
    assert_eq!((captured.problems, captured.snapshot.problems), (3, 3));
    let stored = records(&bench.repository, &captured.snapshot).await;
    for (key, record) in &stored {
        assert_eq!(record.attributes.unsigned(AttributeTag::INCONSISTENT), Some(1), "{key:?}");
        assert_eq!(record.version, None);
        let found = content(&bench.repository, &captured.snapshot, record).await;
        assert_eq!(found.len() as u64, record.content_bytes());
    }
    for key in [&a, &b, &c] {
        system.change_while_read(key, 0);
    }
    // What may be a mixture is believed by nobody.
    let steady = bench.capture(&system).await;
    assert_eq!(steady.read_items, 3);
    bench.check(&steady, &system, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_disappears_is_left_out_and_what_cannot_be_read_stays_as_it_was() {
    let bench = Bench::new(7).await;
    let system = ScriptedSystem::new("file a 1*1000\n file b 2*1000\n file c 3*700000");
    let first = bench.capture(&system).await;
    let before = records(&bench.repository, &first.snapshot).await;
    system.edit("file a 4*1000\n file c 5*700000\n file d 6*10\n file e 7*700000");
    for (call, kind) in [(Call::Open, ErrorKind::Denied), (Call::Recheck, ErrorKind::Unavailable)] {
        for nth in 1..=4 {
            system.fail_nth(call, nth, kind);
        }
        let captured = bench.capture(&system).await;
        assert_eq!(captured.problems, 4, "{call:?}");
        assert_eq!(bench.handles.monitor.problems().len(), 4);
        bench.handles.monitor.reset();
        let stored = records(&bench.repository, &captured.snapshot).await;
        // New items that cannot be read are left out; of others there is the last state.
        assert!(stored.keys().eq(before.keys()), "{:?}", stored.keys());
        for (key, record) in &stored {
            assert!(record.is_same_state(&before[key]), "{key:?}");
        }
    }
    bench.check(&bench.capture(&system).await, &system, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_vanish_are_no_problem() {
    let bench = Bench::new(8).await;
    let system = ScriptedSystem::new("file a 1*1000");
    bench.capture(&system).await;
    system.edit("file b 2*900\n file c 3*700000");
    let cut_sees_them = VanishAfterCut(system.clone());
    let captured =
        capture(&bench.repository, &stream(), &cut_sees_them, &bench.options(), &bench.context)
            .await
            .expect("capture");
    assert_eq!(captured.problems, 0);
    let stored = records(&bench.repository, &captured.snapshot).await;
    assert!(stored.keys().eq([&key("a")]));
}

/// Lets two files vanish as soon as they are listed.
#[derive(Debug)]
struct VanishAfterCut(ScriptedSystem);

#[async_trait::async_trait]
impl System for VanishAfterCut {
    fn facts(&self) -> model::SystemFacts {
        self.0.facts()
    }

    async fn cut(
        &self,
        since: Option<&Position>,
        context: &Context,
    ) -> Result<Box<dyn model::Cut>> {
        let cut = self.0.cut(since, context).await?;
        self.0.vanish(&key("b"));
        self.0.vanish(&key("c"));
        Ok(cut)
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn model::Follower>> {
        self.0.follow(from, context).await
    }

    fn replay(&self) -> Option<Box<dyn model::Replay>> {
        self.0.replay()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_fails_lets_go_and_leaves_nothing_visible() {
    let bench = Bench::new(9).await;
    for (call, kind) in [
        (Call::Cut, ErrorKind::Unavailable),
        (Call::List, ErrorKind::Unavailable),
        (Call::Proof, ErrorKind::Unavailable),
    ] {
        let system = ScriptedSystem::new(SCRIPT);
        system.fail_nth(call, 1, kind);
        let error = bench.try_capture(&system, &bench.options()).await.expect_err("fails");
        assert_eq!(error.kind(), kind, "{call:?}");
        let snapshots = bench.repository.newest_snapshots(&stream(), 5).await.expect("list");
        assert!(snapshots.is_empty());
    }
    // What cannot be released is a problem, and the capture is good.
    let system = ScriptedSystem::new("file a 1*9");
    system.fail_nth(Call::Release, 1, ErrorKind::Unavailable);
    let options = bench.options();
    let captured = capture(&bench.repository, &stream(), &system, &options, &bench.context).await;
    assert_eq!(captured.expect("capture").read_items, 1);
    assert_eq!(bench.handles.monitor.problems().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_ends_the_capture() {
    let bench = Bench::new(10).await;
    let script: String = (0..150).map(|n| format!("file f{n:03} {n}*10\n")).collect();
    let system = ScriptedSystem::new(&script);
    for nth in 1..=150 {
        system.fail_nth(Call::Open, nth, ErrorKind::Unavailable);
    }
    let error = bench.try_capture(&system, &bench.options()).await.expect_err("away");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(bench.handles.monitor.problems().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_capture_stops_releases_and_can_be_repeated() {
    let bench = Bench::new(11).await;
    let system = ScriptedSystem::new(SCRIPT);
    bench.handles.cancel.cancel();
    let error = bench.try_capture(&system, &bench.options()).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);

    // Cancelled in the middle: by the system itself when its content is opened.
    let (context, handles) = testkit::context(12);
    let stopping = StopsWhenCut { inner: system.clone(), cancel: handles.cancel.clone() };
    let options = bench.options();
    let error = capture(&bench.repository, &stream(), &stopping, &options, &context)
        .await
        .expect_err("cancelled");
    assert_eq!((error.kind(), system.cuts_held()), (ErrorKind::Cancelled, 0));
    let (context, _) = testkit::context(13);
    let captured = capture(&bench.repository, &stream(), &system, &options, &context).await;
    bench.check(&captured.expect("capture"), &system, &[]).await;
}

/// Is told to stop as soon as it was cut.
#[derive(Debug)]
struct StopsWhenCut {
    inner: ScriptedSystem,
    cancel: tokio_util::sync::CancellationToken,
}

#[async_trait::async_trait]
impl System for StopsWhenCut {
    fn facts(&self) -> model::SystemFacts {
        self.inner.facts()
    }

    async fn cut(
        &self,
        since: Option<&Position>,
        context: &Context,
    ) -> Result<Box<dyn model::Cut>> {
        let cut = self.inner.cut(since, context).await?;
        self.cancel.cancel();
        Ok(cut)
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn model::Follower>> {
        self.inner.follow(from, context).await
    }

    fn replay(&self) -> Option<Box<dyn model::Replay>> {
        self.inner.replay()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_counts_what_a_capture_does_and_writes_nothing() {
    for shape in SHAPES {
        let bench = Bench::new(14).await;
        let system = ScriptedSystem::new(SCRIPT).with_shape(shape);
        let options = bench.options();
        for edit in ["", "file data/new 9*5000\n delete pipe\n file data/text 3~100"] {
            system.edit(edit);
            let planned =
                plan(&bench.repository, &stream(), &system, &options, &bench.context).await;
            let planned = planned.expect("plan");
            assert_eq!((system.take_opened_bytes(), system.cuts_held()), (0, 0));
            let captured = bench.capture(&system).await;
            system.take_opened_bytes();
            assert_eq!(planned.listed_items, captured.listed_items);
            assert_eq!(planned.read_items, captured.read_items);
            assert_eq!(planned.read_bytes, captured.read_bytes);
            assert_eq!(planned.position.as_ref(), Some(&captured.snapshot.position));
            if shape != Shape::Changes {
                assert_eq!(planned.reused_items, captured.reused_items);
                assert_eq!(planned.deleted_items, captured.deleted_items);
            }
        }
        let snapshots = bench.repository.newest_snapshots(&stream(), 9).await.expect("list");
        assert_eq!(snapshots.len(), 2, "captures alone write");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_items_keep_their_order_and_small_ones_share_units() {
    let bench = Bench::new(15).await;
    let mut script = String::new();
    for n in 0..3_000 {
        match n % 500 {
            7 => script.push_str(&format!("file d{:02}/f{n:05} {n}*600000\n", n % 37)),
            _ => script.push_str(&format!("file d{:02}/f{n:05} {n}~{}\n", n % 37, n % 1000)),
        }
    }
    let system = ScriptedSystem::new(&script);
    let captured = bench.capture(&system).await;
    assert_eq!(captured.snapshot.root.totals.items, 3_000);
    bench.check(&captured, &system, &[]).await;
    let again = bench.capture(&system).await;
    assert_eq!((again.reused_items, root(&again)), (3_000, root(&captured)));
}

/// Each content takes sixteen minutes to be opened, and a collector may come by.
#[derive(Debug)]
struct Slow {
    inner: ScriptedSystem,
    clock: std::sync::Arc<testkit::ManualClock>,
    /// After this many contents reading fails for good.
    breaks_after: u64,
}

struct SlowCut {
    inner: Box<dyn model::Cut>,
    clock: std::sync::Arc<testkit::ManualClock>,
    left: std::sync::atomic::AtomicU64,
}

#[async_trait::async_trait]
impl System for Slow {
    fn facts(&self) -> model::SystemFacts {
        model::SystemFacts { read_concurrency: 1, ..self.inner.facts() }
    }

    async fn cut(
        &self,
        since: Option<&Position>,
        context: &Context,
    ) -> Result<Box<dyn model::Cut>> {
        let inner = self.inner.cut(since, context).await?;
        let left = std::sync::atomic::AtomicU64::new(self.breaks_after);
        Ok(Box::new(SlowCut { inner, clock: self.clock.clone(), left }))
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn model::Follower>> {
        self.inner.follow(from, context).await
    }

    fn replay(&self) -> Option<Box<dyn model::Replay>> {
        self.inner.replay()
    }
}

#[async_trait::async_trait]
impl model::Content for SlowCut {
    async fn open(
        &self,
        item: &model::Item,
        extent: usize,
        range: std::ops::Range<u64>,
    ) -> Result<Box<dyn model::ContentReader>> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(model::Error::cancelled("read content"));
        }
        self.clock.advance(std::time::Duration::from_secs(16 * 60));
        self.inner.open(item, extent, range).await
    }

    async fn recheck(&self, item: &model::Item) -> Result<model::Recheck> {
        self.inner.recheck(item).await
    }
}

#[async_trait::async_trait]
impl model::Cut for SlowCut {
    fn position(&self) -> &Position {
        self.inner.position()
    }

    fn items(&self, context: &Context) -> model::CutItems<'_> {
        self.inner.items(context)
    }

    async fn proof(&self) -> Result<model::Proof> {
        self.inner.proof().await
    }

    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_capture_leaves_checkpoints_that_the_next_one_builds_on() {
    let bench = Bench::new(16).await;
    let script: String = (0..6).map(|n| format!("file f{n} {n}*600000\n")).collect();
    let system = ScriptedSystem::new(&script);
    let clock = bench.handles.clock.clone();
    let options = bench.options();
    // It breaks off after four contents.
    let slow = Slow { inner: system.clone(), clock: clock.clone(), breaks_after: 4 };
    let failed = capture(&bench.repository, &stream(), &slow, &options, &bench.context).await;
    assert_eq!(failed.expect_err("breaks off").kind(), ErrorKind::Cancelled);
    assert!(
        bench.repository.newest_snapshots(&stream(), 9).await.expect("list").is_empty(),
        "a checkpoint is no snapshot"
    );
    system.take_opened_bytes();
    let slow = Slow { inner: system.clone(), clock, breaks_after: u64::MAX };
    let captured = capture(&bench.repository, &stream(), &slow, &options, &bench.context).await;
    let captured = captured.expect("capture");
    // Only what came after the last checkpoint is read again.
    let again = captured.read_bytes / 600_000;
    assert!((2..=4).contains(&again), "{again} contents were read");
    bench.check(&captured, &system, &[]).await;
    let fresh = Bench::new(16).await;
    assert_eq!(root(&fresh.capture(&system).await), root(&captured));
    assert_eq!(bench.repository.newest_snapshots(&stream(), 9).await.expect("list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_holds_what_the_parent_has_behind_it() {
    let bench = Bench::new(17).await;
    let script: String = (0..9).map(|n| format!("file f{n} {n}*600000\n")).collect();
    let system = ScriptedSystem::new(&script).with_shape(Shape::Changes);
    bench.capture(&system).await;
    system.forget_history();
    let edit: String = (0..6).map(|n| format!("file f{n} {}*600000\n", 50 + n)).collect();
    system.edit(&edit);
    system.edit("delete f8");
    system.forget_history();
    let slow = Slow { inner: system.clone(), clock: bench.handles.clock.clone(), breaks_after: 4 };
    let options = bench.options();
    let failed = capture(&bench.repository, &stream(), &slow, &options, &bench.context).await;
    assert!(failed.is_err());
    system.take_opened_bytes();
    // The checkpoint is no state of the system: changes since it are not asked for.
    let captured = bench.capture(&system).await;
    let again = captured.read_bytes / 600_000;
    assert!((2..=4).contains(&again), "{again} of 6 contents were read");
    assert_eq!((captured.deleted_items, captured.reused_items), (1, 8 - again));
    bench.check(&captured, &system, &[]).await;
}

/// Takes the commit key of the session that captures, as a collector does, the first few times.
#[derive(Debug)]
struct Fencing {
    inner: ScriptedSystem,
    repository: Repository,
    left: std::sync::atomic::AtomicU64,
}

#[async_trait::async_trait]
impl System for Fencing {
    fn facts(&self) -> model::SystemFacts {
        self.inner.facts()
    }

    async fn cut(
        &self,
        since: Option<&Position>,
        context: &Context,
    ) -> Result<Box<dyn model::Cut>> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            let store = self.repository.store();
            let announced = store.list("session/prod.data").await?;
            let mut paths: Vec<_> = announced.into_iter().map(|object| object.path).collect();
            paths.sort();
            // The newest comes first.
            let key = paths[0].replacen("session/", "snapshot/", 1);
            store.create(&key, bytes::Bytes::from_static(b"taken")).await?;
        }
        self.inner.cut(since, context).await
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn model::Follower>> {
        self.inner.follow(from, context).await
    }

    fn replay(&self) -> Option<Box<dyn model::Replay>> {
        self.inner.replay()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_capture_begins_again_a_few_times() {
    for (fenced, is_good) in [(1, true), (3, true), (4, false)] {
        let bench = Bench::new(18).await;
        let system = ScriptedSystem::new("file a 1*1000\n file b 2*700000");
        let fencing = Fencing {
            inner: system.clone(),
            repository: bench.repository.clone(),
            left: fenced.into(),
        };
        let options = bench.options();
        let captured =
            capture(&bench.repository, &stream(), &fencing, &options, &bench.context).await;
        assert_eq!(system.cuts_held(), 0);
        match captured {
            Ok(captured) if is_good => bench.check(&captured, &system, &[]).await,
            Err(error) if !is_good => {
                assert!(matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Conflict));
            }
            other => panic!("fenced {fenced} times: {other:?}"),
        }
    }
}
