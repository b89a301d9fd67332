//! Sessions against stores in memory: what is committed is read back, what is found is not stored
//! again, what is condemned or forgotten is not built on, and nothing is seen before its time.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{ContentClass, ErrorKind};

use super::testing::*;
use super::*;
use crate::content::Shelf as _;
use crate::gc::{Stage, gc_path, seal_set};
use crate::snapshot::{forget_path, session_path};
use crate::tree::TreeBuilder;
use crate::types::{Number, PackName, Record};
use crate::{OpenOptions, Repository};

const CONTENTS: [&[u8]; 3] = [b"one", b"two", b"three"];

async fn capture(fixture: &Fixture, contents: &[&[u8]]) -> Snapshot {
    let session = fixture.begin().await;
    let chunks = put_contents(&session, contents);
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit")
}

async fn items(repository: &Repository, snapshot: &Snapshot) -> Vec<(String, u64)> {
    let tree = repository.tree(snapshot).expect("tree");
    let batches: Vec<_> = tree.range(..).try_collect().await.expect("read");
    let items = batches.into_iter().flatten();
    items.map(|(key, record)| (key.display().to_string(), record.content_bytes())).collect()
}

async fn condemn(fixture: &Fixture, generation: u64, packs: &[PackName]) {
    let number = Number::new(generation).expect("number");
    let keys = fixture.repository.keys();
    let set = seal_set(keys, number, Stage::Condemned, packs).expect("seal");
    let path = gc_path(number, Stage::Condemned);
    fixture.repository.store().create(&path, set.into()).await.expect("create");
}

fn packs(root: &Root, chunks: &[StoredChunk]) -> Vec<PackName> {
    let places = chunks.iter().map(|chunk| &chunk.place).chain(root.node.iter().map(|n| &n.1));
    places.filter_map(|place| Some(place.location()?.pack)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_read_back_by_another_process() {
    let fixture = Fixture::new(1).await;
    let session = fixture.begin().await;
    assert!(session.parent().is_none() && session.parent_tree().is_none());
    assert!(!session.checks_reuse());
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    assert!(
        fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list").is_empty()
    );
    let committed = session.commit(root, draft()).await.expect("commit");

    let repository = fixture.reopen(OpenOptions::default()).await;
    assert_eq!(repository.streams().await.expect("streams"), [stream("prod.etc")]);
    let newest = repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list");
    assert_eq!(newest.len(), 1);
    let snapshot = &newest[0];
    assert_eq!((&snapshot.id, snapshot.writer), (&committed.id, repository.writer()));
    assert_eq!((snapshot.kind.as_str(), snapshot.host.as_str()), ("files", "h"));
    assert_eq!((snapshot.capture_number, snapshot.is_checkpoint), (0, false));
    assert_eq!((snapshot.cut_to, &snapshot.position), (draft().cut_to, &draft().position));
    assert_eq!(snapshot.proof, draft().proof);
    let expected =
        [("d/f000000", 3), ("d/f000001", 3), ("d/f000002", 5)].map(|(k, n)| (k.to_owned(), n));
    assert_eq!(items(&repository, snapshot).await, expected);
    let found = repository.snapshot_by_prefix(&stream("prod.etc"), &snapshot.id.short()[..9]).await;
    assert_eq!(found.expect("found").id, snapshot.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_come_in_the_order_that_crashes_ask_for() {
    let fixture = Fixture::new(2).await;
    capture(&fixture, &CONTENTS).await;
    let log = fixture.store.log.lock().expect("lock").clone();
    let begun = |prefix: &str| {
        let at = log
            .iter()
            .enumerate()
            .filter(|(_, (is_end, path))| !is_end && path.starts_with(prefix));
        at.map(|(n, _)| n).collect::<Vec<_>>()
    };
    let ended = |prefix: &str| {
        let at = log
            .iter()
            .enumerate()
            .filter(|(_, (is_end, path))| *is_end && path.starts_with(prefix));
        at.map(|(n, _)| n).collect::<Vec<_>>()
    };
    assert_eq!((begun("session").len(), begun("pack").len(), begun("index").len()), (1, 1, 2));
    assert_eq!((begun("meta").len(), begun("snapshot").len(), begun("forget").len()), (1, 1, 0));
    assert_eq!(begun("session"), [0]);
    assert!(ended("session") < begun("pack"));
    assert!(ended("pack")[0] < begun("index")[0], "segments name durable packs");
    assert!(ended("index")[0] < begun("meta")[0], "nodes name what is durable and indexed");
    assert!(ended("meta")[0] < begun("index")[1], "segments name durable packs");
    assert!(ended("index")[1] < begun("snapshot")[0], "a snapshot names what is durable");
    assert_eq!(ended("snapshot"), [log.len() - 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_stores_only_what_is_new() {
    let fixture = Fixture::new(3).await;
    let first = capture(&fixture, &CONTENTS).await;
    fixture.store.log.lock().expect("lock").clear();
    let session = fixture.begin().await;
    assert_eq!(session.parent().map(|parent| &parent.id), Some(&first.id));
    assert_eq!((session.capture_number(), session.id().number.get()), (1, 1));
    let chunks = put_contents(&session, &[b"one", b"two", b"three"]);
    let root = build(&session, &chunks).await;
    assert_eq!(root.node.as_ref().map(|n| n.0), first.root.node.as_ref().map(|n| n.0));
    let second = session.commit(root, draft()).await.expect("commit");
    assert_eq!(second.parent, Some(first.id.clone()));
    assert_eq!((second.stored_bytes, second.capture_number), (0, 1));
    let put: Vec<_> = fixture.store.log.lock().expect("lock").iter().map(|l| l.1.clone()).collect();
    let kinds: HashSet<_> = put.iter().filter_map(|path| path.split('/').next()).collect();
    assert_eq!(kinds, HashSet::from(["session", "snapshot"]), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_parent_is_not_built_on() {
    let fixture = Fixture::new(4).await;
    let first = capture(&fixture, &CONTENTS).await;
    let second = capture(&fixture, &[b"four"]).await;
    fixture.repository.forget_snapshot(&second.id, &fixture.context).await.expect("forget");
    fixture.repository.forget_snapshot(&second.id, &fixture.context).await.expect("again");
    assert!(fixture.repository.is_forgotten(&second.id).await.expect("head"));
    let (writer, _, reason) = fixture.repository.snapshot_forget(&second.id).await.expect("read");
    assert_eq!((writer, reason.as_str()), (fixture.repository.writer(), "asked for"));
    let session = fixture.begin().await;
    assert_eq!(session.parent().map(|parent| &parent.id), Some(&first.id));
    assert_eq!(session.id().number.get(), 2);
    let newest = fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list");
    assert_eq!(newest.iter().map(|s| &s.id).collect::<Vec<_>>(), [&first.id]);
    let absent = SessionId { random: [9; 8], ..first.id };
    let error = fixture.repository.forget_snapshot(&absent, &fixture.context).await;
    assert_eq!(error.expect_err("absent").kind(), ErrorKind::NotFound);
}

/// The forget comes between the listing and the check: the listing is only a hint.
#[tokio::test(flavor = "multi_thread")]
async fn the_parent_is_checked_after_the_announcement() {
    let fixture = Fixture::new(5).await;
    let first = capture(&fixture, &CONTENTS).await;
    let second = capture(&fixture, &[b"four"]).await;
    let survey = fixture.repository.survey(&stream("prod.etc")).await.expect("survey");
    assert_eq!(survey.candidates, [second.id.clone(), first.id.clone()]);
    let log = fixture.store.log.clone();
    // A parent of another kind or domain, or that is not wanted, is none.
    for (kind, domain, ignore_parent) in
        [("zk", "", false), ("files", "x", false), ("files", "", true)]
    {
        let options = SessionOptions {
            kind: kind.to_owned(),
            domain: domain.to_owned(),
            ignore_parent,
            ..options()
        };
        let session =
            Session::begin(&fixture.repository, &stream("prod.etc"), options, &fixture.context)
                .await;
        let session = session.expect("begin");
        assert!(session.parent().is_none());
        assert_eq!(session.capture_number(), 2);
        session.abandon().await.expect("abandon");
    }
    let announced = log.lock().expect("lock").iter().filter(|l| l.1.starts_with("session")).count();
    assert_eq!(announced, 2 * 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_condemned_is_stored_again_and_never_referred_to() {
    let fixture = Fixture::new(6).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    let first = session.commit(root, draft()).await.expect("commit");
    let condemned = packs(&first.root, &chunks);
    assert_eq!(condemned.len(), 4, "three chunks and the root");
    condemn(&fixture, 1, &condemned).await;

    let session = fixture.begin().await;
    assert_eq!(session.parent().map(|parent| &parent.id), Some(&first.id));
    assert!(session.checks_reuse());
    assert!(chunks.iter().all(|chunk| session.shared.take_over(chunk).is_none()));
    let place = &first.root.node.as_ref().expect("root").1;
    assert!(!session.may_reuse(place));
    // The parent's tree can be read; what it names does not resolve.
    let tree = session.parent_tree().expect("parent");
    let batches: Vec<_> = tree.range(..).try_collect().await.expect("read");
    for (_, record) in batches.iter().flatten() {
        assert!(session.reuse(&record.extents[0]).expect("look up").is_none());
    }
    let again = put_contents(&session, &CONTENTS);
    let root = build(&session, &again).await;
    for (_, record) in batches.iter().flatten() {
        let extent = session.reuse(&record.extents[0]).expect("look up").expect("own pack");
        let StoredBody::Data { chunks, .. } = extent.body else { panic!("data") };
        assert!(!condemned.contains(&chunks[0].place.location().expect("place").pack));
    }
    let second = session.commit(root, draft()).await.expect("commit");
    for pack in packs(&second.root, &again) {
        assert!(!condemned.contains(&pack));
    }
    assert_eq!(
        second.root.node.as_ref().map(|n| n.0),
        first.root.node.as_ref().map(|n| n.0),
        "the same state has the same root"
    );
    // Once the generation is done, its packs and segments are gone, and nothing is condemned.
    let number = Number::new(1).expect("number");
    let done = seal_set(fixture.repository.keys(), number, Stage::Done, &[]).expect("seal");
    let path = gc_path(number, Stage::Done);
    fixture.repository.store().create(&path, done.into()).await.expect("create");
    assert!(!fixture.begin().await.checks_reuse());
}

/// What is read again and is as it was is stored nowhere and looked up nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_the_parent_has_it_opens_no_index() {
    let fixture = Fixture::new(41).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit");
    let session = fixture.begin().await;
    let mut unit = session.writer().unit();
    for (content, chunk) in CONTENTS.iter().zip(&chunks) {
        let content = bytes::Bytes::from_static(content);
        unit.whole(content, std::slice::from_ref(chunk)).expect("store");
    }
    let stored = unit.finish().expect("finish").concat();
    let places = |chunks: &[StoredChunk]| -> Vec<_> {
        chunks.iter().map(|chunk| (chunk.id, chunk.place.location())).collect()
    };
    assert_eq!(places(&stored), places(&chunks));
    assert!(session.shared.index.opened().is_none());
    session.abandon().await.expect("abandon");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_session_commits_nothing_and_its_content_is_found_by_the_next() {
    let fixture = Fixture::new(7).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    let body = codec::encode_tombstone("fenced");
    let path = snapshot_path(session.id());
    fixture.repository.create_signed(ObjectType::Snapshot, &path, body).await.expect("fence");
    let id = session.id().clone();
    let error = session.commit(root, draft()).await.expect_err("fenced");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    assert!(
        fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list").is_empty()
    );
    let error = fixture.repository.snapshot(&id).await.expect_err("tombstone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fixture.store.log.lock().expect("lock").clear();
    let session = fixture.begin().await;
    assert!(session.parent().is_none());
    let again = put_contents(&session, &CONTENTS);
    assert_eq!(again[0].place.location(), chunks[0].place.location());
    let root = build(&session, &again).await;
    session.commit(root, draft()).await.expect("commit");
    let log = fixture.store.log.lock().expect("lock").clone();
    assert!(log.iter().all(|(_, path)| !path.starts_with("pack") && !path.starts_with("meta")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_or_dropped_session_is_never_seen() {
    let fixture = Fixture::new(8).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    build(&session, &chunks).await;
    let first = session.id().clone();
    session.abandon().await.expect("abandon");
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    session.make_durable().await.expect("durable");
    drop((session, root));
    assert!(
        fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list").is_empty()
    );
    assert!(fixture.repository.all_snapshots(&stream("prod.etc")).await.expect("list").is_empty());
    let (announcement, _) = fixture.repository.announcement(&first).await.expect("announced");
    assert_eq!((announcement.kind.as_str(), announcement.host.as_str()), ("files", "h"));
    assert_eq!(capture(&fixture, &CONTENTS).await.id.number.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_carry_a_capture_on_and_are_never_listed() {
    let fixture = Fixture::new(9).await;
    let session = fixture.begin().await;
    assert!(!session.is_checkpoint_due());
    fixture.handles.clock.advance(Duration::from_secs(15 * 60));
    assert!(session.is_checkpoint_due());
    let chunks = put_contents(&session, &CONTENTS[..1]);
    let root = build(&session, &chunks).await;
    let first = session.id().clone();
    let session = session.checkpoint(root, draft()).await.expect("checkpoint");
    let second = session.id().clone();
    assert_eq!(
        session.parent().map(|parent| (&parent.id, parent.is_checkpoint)),
        Some((&first, true))
    );
    assert!(!session.is_checkpoint_due());
    // The next session was announced before the checkpoint was committed.
    let at = |path: String| {
        let log = fixture.store.log.lock().expect("lock");
        log.iter().position(|(is_end, put)| *is_end && *put == path)
    };
    assert!(at(session_path(&second)) < at(snapshot_path(&first)));
    let chunks = put_contents(&session, &CONTENTS[..2]);
    let root = build(&session, &chunks).await;
    let session = session.checkpoint(root, draft()).await.expect("checkpoint");
    assert!(fixture.repository.is_forgotten(&first).await.expect("head"));
    assert!(!fixture.repository.is_forgotten(&second).await.expect("head"));
    assert!(
        fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list").is_empty()
    );

    // The process dies here; the next capture takes the checkpoint over.
    drop(session);
    let session = fixture.begin().await;
    assert_eq!(session.parent().map(|parent| &parent.id), Some(&second));
    assert_eq!(session.capture_number(), 0);
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    let snapshot = session.commit(root, draft()).await.expect("commit");
    assert!(fixture.repository.is_forgotten(&second).await.expect("head"));
    let newest = fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list");
    assert_eq!(newest.iter().map(|s| &s.id).collect::<Vec<_>>(), [&snapshot.id]);
    assert_eq!(items(&fixture.repository, &snapshot).await.len(), 3);
    assert!(fixture.paths(&forget_path(&first)).await.len() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_nobody_took_over_are_found_after_seven_days() {
    let fixture = Fixture::new(10).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    let checkpoint = session.id().clone();
    drop(session.checkpoint(root, draft()).await.expect("checkpoint"));
    let path = snapshot_path(&checkpoint);
    let committed = fixture.repository.store().head(&path).await.expect("head").modified;
    let day = Duration::from_secs(24 * 3600);
    let abandoned = async |days| {
        let now = committed.saturating_add(day * days);
        fixture.repository.abandoned_checkpoints(&stream("prod.etc"), now).await.expect("list")
    };
    assert_eq!(abandoned(6).await, []);
    assert_eq!(abandoned(7).await, std::slice::from_ref(&checkpoint));
    fixture.repository.forget_snapshot(&checkpoint, &fixture.context).await.expect("forget");
    assert_eq!(abandoned(7).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_no_parent_and_hides_no_other() {
    let fixture = Fixture::new(11).await;
    let first = capture(&fixture, &CONTENTS).await;
    let second = capture(&fixture, &[b"four"]).await;
    let path = snapshot_path(&second.id);
    fixture.delete(&path).await;
    fixture.repository.store().create(&path, b"damage"[..].into()).await.expect("create");
    let session = fixture.begin().await;
    assert_eq!(session.parent().map(|parent| &parent.id), Some(&first.id));
    let all = fixture.repository.all_snapshots(&stream("prod.etc")).await.expect("list");
    let ids: Vec<_> = all.iter().map(|(id, read)| (id, read.is_ok())).collect();
    assert_eq!(ids, [(&second.id, false), (&first.id, true)]);
    let newest = fixture.repository.newest_snapshots(&stream("prod.etc"), 1).await;
    assert_eq!(newest.expect_err("damaged").kind(), ErrorKind::Corrupt);
}

/// Nodes are read from where they lie; where that is gone, from another copy that the index knows.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_found_elsewhere_when_their_pack_is_gone() {
    let fixture = Fixture::new(12).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    let first = session.commit(root, draft()).await.expect("commit");
    let lost = first.root.node.as_ref().and_then(|n| n.1.location()).expect("place").pack;
    condemn(&fixture, 1, &[lost]).await;
    let copy = capture(&fixture, &CONTENTS).await;
    assert_ne!(copy.root.node.as_ref().and_then(|n| n.1.location()).expect("place").pack, lost);
    fixture.delete(&crate::pack::pack_path(crate::types::PackKind::Meta, lost)).await;
    assert_eq!(items(&fixture.repository, &first).await.len(), 3);

    let other = copy.root.node.as_ref().and_then(|n| n.1.location()).expect("place").pack;
    fixture.delete(&crate::pack::pack_path(crate::types::PackKind::Meta, other)).await;
    let tree = fixture.repository.tree(&first).expect("tree");
    let error = tree.get(&key("d/f000000")).await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upload_ends_the_session() {
    let fixture = Fixture::new(13).await;
    let session = fixture.begin().await;
    let chunks = put_contents(&session, &CONTENTS);
    let root = build(&session, &chunks).await;
    fixture.handles.cancel.cancel();
    let error = session.commit(root, draft()).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(fixture.paths("snapshot").await, [""; 0]);
}

/// Writes contents with the real writer, on a thread that may block.
async fn write(
    session: &Session,
    contents: Vec<(Bytes, Vec<StoredChunk>)>,
) -> Vec<Vec<StoredChunk>> {
    let writer = session.writer().clone();
    tokio::task::spawn_blocking(move || {
        let mut unit = writer.unit();
        for (content, previous) in contents {
            unit.begin(ContentClass::General, &previous);
            unit.push(content).expect("push");
            unit.end().expect("end");
        }
        unit.finish().expect("finish")
    })
    .await
    .expect("thread")
}

/// A page of a file changes: a later session stores the difference, and both states are read back.
#[tokio::test(flavor = "multi_thread")]
async fn what_resembles_its_former_state_is_stored_as_a_difference() {
    let fixture = Fixture::new(14).await;
    let content = testkit::random_bytes(5, 200_000);
    let session = fixture.begin().await;
    let old = write(&session, vec![(content.clone(), Vec::new())]).await.remove(0);
    let root = build(&session, &old).await;
    let first = session.commit(root, draft()).await.expect("commit");
    let mut changed = content.to_vec();
    changed[100_000..100_100].fill(0);

    let session = fixture.begin().await;
    let tree = session.parent_tree().expect("parent");
    let batches: Vec<_> = tree.range(..).try_collect().await.expect("read");
    let records: Vec<_> = batches.into_iter().flatten().map(|(_, record)| record).collect();
    let previous: Vec<_> = records.iter().flat_map(Record::chunks).cloned().collect();
    let new = write(&session, vec![(changed.clone().into(), previous)]).await.remove(0);
    let root = build(&session, &new).await;
    let second = session.commit(root, draft()).await.expect("commit");
    assert!(second.stored_bytes < 20_000, "{}", second.stored_bytes);
    for (snapshot, expected) in [(&first, &content[..]), (&second, &changed[..])] {
        let repository = fixture.reopen(OpenOptions::default()).await;
        let keys = repository.domain("").expect("keys");
        let reader = ChunkReader::new(&repository, &keys, 1 << 20);
        let tree = repository.tree(snapshot).expect("tree");
        let batches: Vec<_> = tree.range(..).try_collect().await.expect("read");
        let records: Vec<_> = batches.into_iter().flatten().map(|(_, record)| record).collect();
        let chunks: Vec<_> = records.iter().flat_map(Record::chunks).cloned().collect();
        let read = reader.read_all(&chunks).await.expect("read");
        assert!(read.concat() == *expected);
    }
    // The index alone leads to the difference and its base.
    let repository = fixture.reopen(OpenOptions::default()).await;
    let index = crate::index::LazyIndex::new(&repository, &repository.domain("").expect("keys"));
    let delta = new.iter().find(|chunk| !chunk.bases.is_empty()).expect("a difference");
    let located = crate::content::Locate::locate(&index, &delta.id).await.expect("located");
    assert_eq!(located.len(), 1);
    let ids = |chunk: &StoredChunk| chunk.bases.iter().map(|base| base.id).collect::<Vec<_>>();
    assert_eq!(ids(&located[0]), ids(delta));
}

/// Nodes of several packs: written in the background, read back in large pieces.
#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_take_few_requests() {
    let fixture = Fixture::new(15).await;
    let session = fixture.begin().await;
    let chunk = put_contents(&session, &CONTENTS[..1]).remove(0);
    let mut builder = TreeBuilder::new(session.keys(), session.nodes());
    let count = 3_000;
    for n in 0..count {
        let mut record = record(chunk.clone());
        let version = testkit::random_bytes(n, 6_000);
        record.version = Some(model::Version(version));
        builder.push(&key(&format!("d/f{n:06}")), record).expect("push");
    }
    let root = builder.finish().await.expect("finish");
    assert!(root.height > 1);
    let snapshot = session.commit(root, draft()).await.expect("commit");
    let packs = fixture.paths("meta").await.len();
    assert!(packs >= 3, "{packs}");

    let repository = fixture.reopen(OpenOptions::default()).await;
    let tree = repository.tree(&snapshot).expect("tree");
    let before = repository.store().stats().gets;
    tree.get(&key("d/f001500")).await.expect("read").expect("there");
    assert!(repository.store().stats().gets - before <= u64::from(snapshot.root.height));
    assert_eq!(items(&repository, &snapshot).await.len() as u64, count);
    let gets = repository.store().stats().gets - before;
    assert!(gets <= 10 * packs as u64, "{gets} requests for {} nodes", tree.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_durable_is_indexed_while_the_work_goes_on() {
    let fixture = Fixture::new(16).await;
    let session = fixture.begin().await;
    let contents: Vec<Vec<u8>> = (0..4_000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    let mut chunks = Vec::new();
    for contents in contents.chunks(500) {
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        chunks.extend(put_contents(&session, &contents));
        // The uploads of a store in memory end when they get their turn.
        session.shared.settle_uploads().await;
    }
    let before = fixture.paths("index").await.len();
    assert!(before >= 2, "{before}");
    let again: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let again = put_contents(&session, &again);
    let places = |chunks: &[StoredChunk]| -> Vec<_> {
        chunks.iter().map(|chunk| chunk.place.location()).collect()
    };
    assert_eq!(places(&again), places(&chunks));
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit");
    assert_eq!(fixture.paths("pack").await.len(), 8);
}

/// Over a slow line it is round trips one after another that take the time.
#[tokio::test]
async fn an_unchanged_capture_takes_few_round_trips_however_many_came_before() {
    let fixture = Fixture::new(17).await;
    // Nothing is read of the content: where it would lie does not matter.
    let chunks: Vec<_> = (0..3_u8)
        .map(|n| StoredChunk {
            id: crate::types::ChunkId([n; 32]),
            length: 10,
            place: Place::Known(crate::types::Location {
                pack: PackName([1; 32]),
                block_offset: 67,
                block_length: 100,
                offset_in_block: u32::from(n) * 10,
                length: 10,
            }),
            bases: Vec::new(),
        })
        .collect();
    let session = fixture.begin().await;
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit");
    let unchanged = async || {
        let (session, begin) = fixture.store.count_rounds(fixture.begin()).await;
        let tree = session.parent_tree().expect("parent");
        let read = tree.range(..).try_collect::<Vec<_>>();
        let (read, reads) = fixture.store.count_rounds(read).await;
        assert_eq!(read.expect("read").iter().map(Vec::len).sum::<usize>(), 3);
        let (root, built) = fixture.store.count_rounds(build(&session, &chunks)).await;
        let commit = session.commit(root, draft());
        let (snapshot, commit) = fixture.store.count_rounds(commit).await;
        assert_eq!(snapshot.expect("commit").stored_bytes, 0);
        [begin, reads, built, commit]
    };
    assert_eq!(unchanged().await, [4, 1, 0, 1]);
    for _ in 0..20 {
        let session = fixture.begin().await;
        let root = build(&session, &chunks).await;
        session.commit(root, draft()).await.expect("commit");
    }
    assert_eq!(unchanged().await, [4, 1, 0, 1]);
    let prod = stream("prod.etc");
    let newest = fixture.repository.newest_snapshots(&prod, 10);
    let (newest, rounds) = fixture.store.count_rounds(newest).await;
    assert_eq!((newest.expect("list").len(), rounds), (10, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_ends_the_session_with_its_reason() {
    for (seed, prefix) in [(18, "pack"), (19, "index"), (20, "meta"), (21, "snapshot")] {
        let fixture = Fixture::new(seed).await;
        *fixture.store.denied.lock().expect("lock") = Some(prefix);
        let session = fixture.begin().await;
        let chunks = put_contents(&session, &CONTENTS);
        let mut builder = TreeBuilder::new(session.keys(), session.nodes());
        builder.push(&key("f"), record(chunks[0].clone())).expect("push");
        let error = match builder.finish().await {
            Ok(root) => session.commit(root, draft()).await.expect_err("denied"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Denied, "{prefix}: {error:?}");
        assert_eq!(fixture.paths("snapshot").await, [""; 0]);
        // Once it can be put, all is as if nothing had been.
        *fixture.store.denied.lock().expect("lock") = None;
        let snapshot = capture(&fixture, &CONTENTS).await;
        assert_eq!(items(&fixture.repository, &snapshot).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn little_memory_slows_a_session_down_and_does_not_stop_it() {
    let fixture = Fixture::new(22).await;
    let options = OpenOptions { memory_bytes: 64 << 10, ..OpenOptions::default() };
    let repository = fixture.reopen(options).await;
    let session = Session::begin(
        &repository,
        &stream("prod.etc"),
        super::testing::options(),
        &fixture.context,
    )
    .await;
    let session = session.expect("begin");
    let contents: Vec<_> = (0..20).map(|n| testkit::random_bytes(n, 50_000)).collect();
    let mut chunks = Vec::new();
    for content in &contents {
        chunks.append(&mut put_contents(&session, &[&content[..]]));
    }
    let root = build(&session, &chunks).await;
    let snapshot = session.commit(root, draft()).await.expect("commit");
    assert_eq!(items(&repository, &snapshot).await.len(), 20);
    assert_eq!(fixture.paths("pack").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_stream_do_not_stop_each_other() {
    let fixture = Fixture::new(23).await;
    let (one, two) = (fixture.begin().await, fixture.begin().await);
    assert_ne!(one.id(), two.id());
    let (chunks, same) = (put_contents(&one, &CONTENTS), put_contents(&two, &CONTENTS));
    let (root, other) = (build(&one, &chunks).await, build(&two, &same).await);
    assert_eq!(root.node.as_ref().map(|n| n.0), other.node.as_ref().map(|n| n.0));
    let (one, two) = futures::join!(one.commit(root, draft()), two.commit(other, draft()));
    let (one, two) = (one.expect("commit"), two.expect("commit"));
    let newest = fixture.repository.newest_snapshots(&stream("prod.etc"), 9).await.expect("list");
    let ids: HashSet<_> = newest.iter().map(|snapshot| snapshot.id.clone()).collect();
    assert_eq!(ids, HashSet::from([one.id, two.id]));
    for snapshot in &newest {
        assert_eq!(items(&fixture.repository, snapshot).await.len(), 3);
    }
    // Both copies are known; each is enough.
    let repository = fixture.reopen(OpenOptions::default()).await;
    let index = crate::index::Index::open(&repository, "", &fixture.context).await.expect("open");
    let found = index.find(crate::types::PackKind::Data, &chunks[0].id.0).expect("find");
    assert_eq!(found.len(), 2);
}
