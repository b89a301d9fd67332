//! Copies between stores in memory: complete, in an order that a reader can live with, never of two
//! repositories in one place, and honest about what was not copied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Batch, Clock as _, Counter, ErrorKind, LogPayload, Payload, Position, Timestamp};
use object_store::memory::InMemory;

use super::*;
use crate::Repository;
use crate::format::ObjectType;
use crate::gc::{Stage, gc_path, seal_set};
use crate::log::{compact_log, delete_trimmed, trim_log};
use crate::mark::MarkKind;
use crate::point::{PointDraft, PointId, PointSealer};
use crate::session::testing::{Fixture, Recorded, build, draft, put_contents};
use crate::snapshot::codec::encode_tombstone;
use crate::snapshot::{Snapshot, snapshot_path};
use crate::types::{Number, SessionId};
use crate::verify::{Depth, VerifyOptions, verify};

fn options() -> ReplicaOptions {
    ReplicaOptions {
        is_dry_run: false,
        jobs: 4,
        memory_bytes: 1 << 20,
        bytes_per_second: None,
        with_keys: true,
    }
}

/// A repository and the store of its copy.
struct Pair {
    fixture: Fixture,
    sealer: PointSealer,
    copy: Recorded,
    there: Store,
}

impl Pair {
    async fn new(seed: u64) -> Self {
        let fixture = Fixture::new(seed).await;
        let copy = Recorded::default();
        let there = Store::new(Arc::new(copy.clone()), "copy", &fixture.context);
        let sealer = fixture.repository.point_sealer(&"prod".parse().expect("site"));
        Self { fixture, sealer, copy, there }
    }

    fn here(&self) -> &Store {
        self.fixture.repository.store()
    }

    async fn capture(&self, names: &[&str]) -> Snapshot {
        let session = self.fixture.begin().await;
        let contents: Vec<_> = names.iter().map(|name| name.repeat(1000)).collect();
        let contents: Vec<_> = contents.iter().map(|text| text.as_bytes()).collect();
        let chunks = put_contents(&session, &contents);
        let root = build(&session, &chunks).await;
        session.commit(root, draft()).await.expect("commit")
    }

    async fn seal(&self) -> PointId {
        seal_with(&self.sealer, &self.fixture.context).await
    }

    async fn sync(&self) -> Report {
        self.sync_with(&options()).await.expect("sync")
    }

    async fn sync_with(&self, options: &ReplicaOptions) -> Result<Report> {
        replicate(self.here(), &self.there, options, &self.fixture.context).await
    }

    async fn sync_back(&self) -> Report {
        let options = ReplicaOptions { with_keys: false, ..options() };
        let report = replicate(&self.there, self.here(), &options, &self.fixture.context).await;
        report.expect("sync back")
    }

    async fn check_copy(&self) {
        let copy = self.fixture.open_copy(self.there.clone()).await.expect("open copy");
        let options = VerifyOptions { depth: Depth::Deep, named: 3 };
        let report = verify(&copy, &options, &self.fixture.context).await.expect("verify");
        assert_eq!(report.damage, []);
    }

    /// Replaces an object at the source.
    async fn replace(&self, path: &str, bytes: Bytes) {
        self.here().delete(path).await.expect("delete");
        self.here().create(path, bytes).await.expect("create");
    }
}

async fn seal_with(sealer: &PointSealer, context: &Context) -> PointId {
    let (lacks, checks, clocks) = (vec!["all".to_owned()], Vec::new(), Vec::new());
    let draft = PointDraft { entries: Vec::new(), lacks, checks, clocks };
    sealer.seal(draft, context).await.expect("seal").id
}

async fn paths(store: &Store, prefix: &str) -> Vec<String> {
    store.list(prefix).await.expect("list").into_iter().map(|object| object.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_opens_with_the_same_key_and_is_sound() {
    let pair = Pair::new(1).await;
    let first = pair.capture(&["a", "b"]).await;
    pair.capture(&["b", "c"]).await;
    pair.seal().await;
    pair.seal().await;
    pair.fixture
        .repository
        .forget_snapshot(&first.id, &pair.fixture.context)
        .await
        .expect("forget");
    let report = pair.sync().await;
    assert_eq!(report.problems.len(), 0, "{:?}", report.problems);
    assert_eq!((report.passes, report.is_settled), (1, true));
    assert_eq!(paths(&pair.there, "").await.len(), paths(pair.here(), "").await.len());
    for path in paths(pair.here(), "").await {
        let here = pair.here().get(&path).await.expect("here");
        assert_eq!(pair.there.get(&path).await.expect("there"), here, "{path}");
    }
    pair.check_copy().await;
    assert_eq!(report.repository, pair.fixture.repository.id());
    assert_eq!(report.kinds[&Kind::Point].copied.objects, 2);
    assert_eq!(report.lag[0].behind(), Some(Duration::ZERO));
    let counted = pair.fixture.handles.monitor.count_of(Counter::CopiedBytes);
    assert_eq!(counted, report.copied().bytes);

    pair.copy.log.lock().expect("lock").clear();
    let again = pair.sync().await;
    assert_eq!((again.copied(), again.missing()), (Amount::default(), Amount::default()));
    assert_eq!(again.there(), report.copied());
    assert!(pair.copy.log.lock().expect("lock").is_empty(), "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_is_created_after_what_it_refers_to() {
    let pair = Pair::new(2).await;
    pair.capture(&["a", "b"]).await;
    pair.seal().await;
    pair.seal().await;
    pair.sync().await;
    let log = pair.copy.log.lock().expect("lock").clone();
    let begun =
        |prefix: &str| log.iter().position(|(ended, path)| !ended && path.starts_with(prefix));
    let ended =
        |prefix: &str| log.iter().rposition(|(ended, path)| *ended && path.starts_with(prefix));
    let order = ["lifeboat", "key/", "pack/", "index/", "snapshot/", "session/", "point/"];
    for pair in order.windows(2) {
        let (before, after) = (ended(pair[0]), begun(pair[1]));
        assert!(before.is_some() && before < after, "{} before {}: {log:?}", pair[0], pair[1]);
    }
    assert!(ended("meta/") < begun("index/"), "{log:?}");
    let points: Vec<_> =
        log.iter().filter(|(ended, path)| !ended && path.starts_with("point/")).collect();
    assert!(points.windows(2).all(|pair| pair[0].1 > pair[1].1), "oldest first: {points:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_and_says_what_a_run_does() {
    let pair = Pair::new(3).await;
    pair.capture(&["a"]).await;
    pair.seal().await;
    let dry = ReplicaOptions { is_dry_run: true, ..options() };
    let would = pair.sync_with(&dry).await.expect("dry run");
    assert!(pair.copy.log.lock().expect("lock").is_empty());
    assert_eq!((would.passes, would.lag[0].behind(), would.lag[0].points_missing), (0, None, 1));
    let done = pair.sync().await;
    for (kind, report) in &done.kinds {
        // Announcements follow their commits, which are not there yet in a dry run.
        if *kind != Kind::Session {
            assert_eq!(report.copied, would.kinds[kind].missing, "{kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repositories_are_never_mixed() {
    let pair = Pair::new(4).await;
    let other = Fixture::new(5).await;
    let refused = async |there: &Store| {
        let ended = replicate(pair.here(), there, &options(), &pair.fixture.context).await;
        ended.expect_err("refused")
    };
    let elsewhere = Store::new(Arc::new(other.store.clone()), "other", &pair.fixture.context);
    let error = refused(&elsewhere).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.chain().contains(&other.repository.id().to_string()), "{}", error.chain());
    pair.there.create("a/b/note", Bytes::from_static(b"mine")).await.expect("create");
    let error = refused(&pair.there).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.chain().contains("not empty"), "{}", error.chain());
    assert_eq!(refused(pair.here()).await.kind(), ErrorKind::Invalid);

    let empty = Store::new(Arc::new(InMemory::new()), "empty", &pair.fixture.context);
    let error = replicate(&empty, &pair.there, &options(), &pair.fixture.context).await;
    let error = error.expect_err("no repository");
    assert_eq!((error.kind(), error.action()), (ErrorKind::NotFound, "open repository"));
    // What a probe left does not make a store another's.
    empty.create("probe/left", Bytes::from_static(b"probe 1")).await.expect("create");
    replicate(pair.here(), &empty, &options(), &pair.fixture.context).await.expect("sync");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_at_the_source_is_told_and_not_copied() {
    let pair = Pair::new(6).await;
    pair.capture(&["a"]).await;
    pair.capture(&["b"]).await;
    let packs = paths(pair.here(), "pack").await;
    let pack = &packs[0];
    let whole = pair.here().get(pack).await.expect("get");
    let mut flipped = whole.to_vec();
    flipped[100] ^= 1;
    pair.replace(pack, flipped.into()).await;
    let slot = paths(pair.here(), "key").await.remove(0);
    let key = pair.here().get(&slot).await.expect("get");
    pair.replace(&slot, key.slice(..key.len() - 1)).await;

    let report = pair.sync().await;
    let told: Vec<_> = report.problems.iter().map(|(path, p)| (path.as_str(), p.fault)).collect();
    let expected = [(slot.as_str(), Fault::DamagedHere), (pack.as_str(), Fault::DamagedHere)];
    assert_eq!(told, expected);
    assert_eq!(pair.fixture.handles.monitor.problems().len(), 2, "each once");
    assert!(!paths(&pair.there, "pack").await.contains(pack));
    assert_eq!(paths(&pair.there, "snapshot").await.len(), 2, "the rest goes on");

    // Healed at the source, it is copied the next time.
    pair.replace(pack, whole).await;
    pair.replace(&slot, key).await;
    let report = pair.sync().await;
    assert_eq!((report.problems.len(), report.copied().objects), (0, 2));
    pair.check_copy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_told_and_not_touched() {
    let pair = Pair::new(7).await;
    pair.capture(&["a"]).await;
    let point = pair.seal().await;
    pair.sync().await;
    // A mark at either end takes the same number; a pack there is cut off.
    let copy = pair.fixture.open_copy(pair.there.clone()).await.expect("open copy");
    let context = &pair.fixture.context;
    pair.fixture.repository.set_mark(&point, MarkKind::Pin, "here", context).await.expect("mark");
    copy.set_mark(&point, MarkKind::Pin, "away", context).await.expect("mark");
    let pack = paths(&pair.there, "pack").await.remove(0);
    let bytes = pair.there.get(&pack).await.expect("get");
    pair.there.delete(&pack).await.expect("delete");
    pair.there.create(&pack, bytes.slice(..100)).await.expect("create");
    let mark = paths(pair.here(), "mark").await.remove(0);
    let before = pair.there.get(&mark).await.expect("get");

    let report = pair.sync().await;
    let told: Vec<_> = report.problems.iter().map(|(path, p)| (path.as_str(), p.fault)).collect();
    let expected = [(mark.as_str(), Fault::Conflict), (pack.as_str(), Fault::DamagedThere)];
    assert_eq!(told, expected);
    assert_eq!(report.copied(), Amount::default());
    assert_eq!(pair.there.get(&mark).await.expect("get"), before);
    assert_eq!((report.count_of(Fault::Conflict), report.count_of(Fault::DamagedHere)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_not_ended_stays_at_home() {
    let pair = Pair::new(8).await;
    pair.capture(&["a"]).await;
    let open = pair.fixture.begin().await;
    pair.sync().await;
    let announcement = format!("session/{}", open.id().path());
    assert!(!paths(&pair.there, "session").await.contains(&announcement));
    // Once it is closed, so it is everywhere.
    let (path, tombstone) = (snapshot_path(open.id()), encode_tombstone("test"));
    let repository = &pair.fixture.repository;
    let closed = repository.create_signed(ObjectType::Snapshot, &path, tombstone);
    closed.await.expect("close");
    let report = pair.sync().await;
    assert_eq!(report.copied().objects, 2);
    assert!(paths(&pair.there, "session").await.contains(&announcement));
    let error = {
        let root = build(&open, &[]).await;
        open.commit(root, draft()).await.expect_err("closed")
    };
    assert_eq!(error.kind(), ErrorKind::Fenced);
    pair.check_copy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_that_were_written_to_apart_come_together() {
    let pair = Pair::new(9).await;
    pair.capture(&["a"]).await;
    pair.seal().await;
    pair.sync().await;
    let copy = pair.fixture.open_copy(pair.there.clone()).await.expect("open copy");
    let context = &pair.fixture.context;
    let sealer = copy.point_sealer(&"prod".parse().expect("site"));
    let made_there = seal_with(&sealer, context).await;
    let made_here = pair.seal().await;
    pair.capture(&["b"]).await;

    pair.sync().await;
    let back = pair.sync_back().await;
    assert_eq!(back.kinds[&Kind::Point].copied.objects, 1);
    assert_eq!(paths(pair.here(), "").await, paths(&pair.there, "").await);
    for repository in [&pair.fixture.repository, &copy] {
        for point in [&made_here, &made_there] {
            repository.point(point).await.expect("point");
        }
    }
    pair.check_copy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_does_not_come_back() {
    let pair = Pair::new(10).await;
    pair.sync().await;
    let slot = paths(pair.here(), "key").await.remove(0);
    pair.here().delete(&slot).await.expect("delete");
    let back = pair.sync_back().await;
    assert_eq!(back.copied(), Amount::default());
    assert!(paths(pair.here(), "key").await.is_empty());
    let report = pair.sync().await;
    assert_eq!(
        report.keys_only_there,
        [slot.trim_start_matches("key/")],
        "it still opens the copy"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_collection_at_the_destination_is_waited_for() {
    let pair = Pair::new(11).await;
    pair.capture(&["a"]).await;
    pair.sync().await;
    let keys = pair.fixture.repository.keys();
    let first = Number::new(1).expect("number");
    let put = async |stage| {
        let set = seal_set(keys, first, stage, &[]).expect("seal");
        pair.there.create(&gc_path(first, stage), set.into()).await.expect("create");
    };
    put(Stage::Condemned).await;
    // Nothing is to be copied: it is said, and not waited for.
    let report = pair.sync().await;
    assert_eq!((report.is_settled, report.passes), (false, 1));

    pair.capture(&["b"]).await;
    let error = pair.sync_with(&options()).await.expect_err("it does not end");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(paths(&pair.there, "snapshot").await.len(), 1, "nothing new is visible");
    assert_eq!(paths(&pair.there, "pack").await, paths(pair.here(), "pack").await);
    put(Stage::Done).await;
    let report = pair.sync().await;
    assert_eq!((report.is_settled, report.passes), (true, 1));
    pair.check_copy().await;
    assert_eq!(paths(pair.here(), "gc").await, [] as [&str; 0], "no affair of others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_and_cancelling_ends_it() {
    let pair = Pair::new(12).await;
    for name in ["a", "b", "c", "d"] {
        pair.capture(&[name]).await;
    }
    let begun = pair.fixture.handles.clock.elapsed();
    let slow = ReplicaOptions { bytes_per_second: Some(100), ..options() };
    let report = pair.sync_with(&slow).await.expect("sync");
    let took = pair.fixture.handles.clock.elapsed() - begun;
    // The last object need not be waited for.
    let least = report.copied().bytes.saturating_sub(2000) / 100;
    assert!(took >= Duration::from_secs(least), "{took:?} of {least} s");

    pair.capture(&["e"]).await;
    pair.fixture.handles.cancel.cancel();
    let error = pair.sync_with(&options()).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_known_are_told() {
    let pair = Pair::new(13).await;
    pair.here().create("novelty/x", Bytes::from_static(b"x")).await.expect("create");
    pair.here().create("pack/00/x", Bytes::from_static(b"x")).await.expect("create");
    let report = pair.sync().await;
    assert_eq!((report.unknown, report.problems.len()), (vec!["novelty".to_owned()], 0));
    assert!(paths(&pair.there, "pack").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_forgotten_is_never_visible() {
    let pair = Pair::new(14).await;
    let snapshot = pair.capture(&["a"]).await;
    pair.sync().await;
    let gone = pair.capture(&["b"]).await;
    let context = &pair.fixture.context;
    for id in [&snapshot.id, &gone.id] {
        pair.fixture.repository.forget_snapshot(id, context).await.expect("forget");
    }
    pair.capture(&["c"]).await;
    pair.copy.log.lock().expect("lock").clear();
    pair.sync().await;
    let log = pair.copy.log.lock().expect("lock").clone();
    let at = |path: &str| log.iter().position(|(_, put)| put == path).expect("put");
    let forget = |id: &crate::types::SessionId| format!("forget/{}", id.path());
    assert!(at(&forget(&gone.id)) < at(&snapshot_path(&gone.id)));
    let last = log.iter().rposition(|(_, put)| put.starts_with("snapshot/")).expect("put");
    assert!(at(&forget(&snapshot.id)) > last, "what was there is forgotten last");
}

/// Appends batches whose bodies are of one writer.
async fn follow(repository: &Repository, base: &SessionId, body: &str, count: u64) {
    let (context, _) = testkit::context(99);
    let stream = base.stream.clone();
    let mut writer =
        repository.log_writer(&stream, LogPayload::Raw, base, &context).await.expect("writer");
    for _ in 0..count {
        let after = writer.end().filter(|end| end.base == *base).map(|end| end.upto.clone());
        let after = after.unwrap_or_else(|| Position(Bytes::from_static(b"0")));
        let batch = Batch {
            upto: Position([&after.0[..], b"0"].concat().into()),
            after,
            first_at: Timestamp::from_unix_seconds(1),
            last_at: Timestamp::from_unix_seconds(2),
            payload: Payload::Raw(Bytes::from(body.to_owned())),
        };
        writer.append(batch, Vec::new()).await.expect("append");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_trimmed_meanwhile_leaves_no_gap() {
    let pair = Pair::new(15).await;
    let (repository, context) = (&pair.fixture.repository, &pair.fixture.context);
    let first = pair.capture(&["a"]).await;
    follow(repository, &first.id, "x", 4).await;
    pair.sync().await;
    follow(repository, &first.id, "y", 40).await;
    let second = pair.capture(&["b"]).await;
    follow(repository, &second.id, "z", 40).await;
    let stream = &second.id.stream;
    trim_log(repository, stream, 45, context).await.expect("trim");
    delete_trimmed(repository, stream, context).await.expect("delete");
    compact_log(repository, stream, 1 << 20, context).await.expect("compact");
    follow(repository, &second.id, "z", 2).await;
    pair.copy.log.lock().expect("lock").clear();
    pair.sync().await;
    pair.check_copy().await;
    let log = pair.copy.log.lock().expect("lock").clone();
    let created: Vec<_> = log.iter().filter(|(ended, _)| *ended).map(|(_, path)| path).collect();
    let at = |prefix: &str| created.iter().position(|path| path.starts_with(prefix)).expect(prefix);
    assert!(at("logtrim/") < at("logrun/") && at("logrun/") < at("logseg/"), "{created:?}");
    assert!(at("logseg/") < at("log/"), "{created:?}");
    let oldest_first: Vec<_> = created.iter().filter(|path| path.starts_with("log/")).collect();
    assert!(oldest_first.windows(2).all(|pair| pair[0] > pair[1]), "{created:?}");
    // Whatever was created by then, what can be seen is whole.
    let copy = pair.fixture.open_copy(pair.there.clone()).await.expect("open copy");
    assert_eq!(copy.log_end(stream).await.expect("end").map(|end| end.number), Some(86));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_on_otherwise_there_is_left_alone() {
    let pair = Pair::new(16).await;
    let base = pair.capture(&["a"]).await.id;
    let here = &pair.fixture.repository;
    follow(here, &base, "both", 3).await;
    pair.sync().await;
    let there = pair.fixture.open_copy(pair.there.clone()).await.expect("open copy");
    follow(&there, &base, "away", 1).await;
    follow(here, &base, "home", 3).await;
    let report = pair.sync().await;
    let told: Vec<_> = report.problems.values().map(|problem| problem.fault).collect();
    assert_eq!(told, [Fault::Conflict]);
    assert_eq!(report.copied(), Amount::default(), "what does not follow is not copied");
    pair.check_copy().await;
    assert_eq!(pair.sync_back().await.problems.len(), 1);
    let end = here.log_end(&base.stream).await.expect("end");
    assert_eq!(end.map(|end| end.number), Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_while_a_log_is_copied_leaves_no_gap() {
    let pair = Pair::new(17).await;
    let base = pair.capture(&["a"]).await.id;
    follow(&pair.fixture.repository, &base, "x", 3).await;
    let batches = paths(pair.here(), "log").await;
    let (listed, missing) = (batches.len(), &batches[1]);
    assert_eq!(listed, 3);
    let context = &pair.fixture.context;
    let options = options();
    let transfer = transfer::Transfer::new((pair.here(), &pair.there), &options, context);
    let mut objects = pair.here().list("log").await.expect("list");
    objects.reverse();
    pair.here().delete(missing).await.expect("delete");
    transfer.copy(Kind::LogBatch, objects).await.expect("copy");
    assert!(transfer.has_gone());
    assert_eq!(paths(&pair.there, "log").await, [batches[2].clone()], "the oldest alone");
}
