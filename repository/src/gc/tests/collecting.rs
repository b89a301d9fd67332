//! Collections against a store in memory: what is dead is freed, what is needed stays, whoever else is
//! at work.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt as _;
use model::ErrorKind;

use super::super::generation::{self, Generations};
use super::super::roots::LiveTree;
use super::super::walk::Walk;
use super::super::{GcOptions, Outcome, Report, Stage, collect, gc_path, seal_set};
use crate::Repository;
use crate::content::ChunkReader;
use crate::format::ObjectType;
use crate::hold::{HoldRequest, HoldScope};
use crate::pack::pack_path;
use crate::session::Session;
use crate::session::testing::{
    Fixture, build, draft, options as session_options, put_contents, stream,
};
use crate::snapshot::{Snapshot, snapshot_path};
use crate::types::{Number, PackKind, PackName, StoredChunk};
use crate::verify::{Depth, VerifyOptions, verify};

fn options() -> GcOptions {
    GcOptions {
        is_dry_run: false,
        patience: Duration::ZERO,
        grace: Duration::ZERO,
        rewrite_below_percent: 50,
        scratch_folder: std::env::temp_dir(),
    }
}

async fn gc(fixture: &Fixture) -> Report {
    collect(&fixture.repository, &options(), &fixture.context).await.expect("collect")
}

fn contents(names: &[&str]) -> Vec<Vec<u8>> {
    // Long enough that packs differ in weight.
    names.iter().map(|name| name.repeat(1000).into_bytes()).collect()
}

/// Captures these contents; nothing is taken over but what the index knows.
async fn capture(fixture: &Fixture, names: &[&str]) -> Snapshot {
    commit(fixture.begin().await, names).await
}

async fn commit(session: Session, names: &[&str]) -> Snapshot {
    let contents = contents(names);
    let contents: Vec<_> = contents.iter().map(Vec::as_slice).collect();
    let chunks = put_contents(&session, &contents);
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit")
}

async fn forget(fixture: &Fixture, snapshot: &Snapshot) {
    fixture.repository.forget_snapshot(&snapshot.id, &fixture.context).await.expect("forget");
}

/// Reads a snapshot as another process does, and compares it with what was captured.
async fn check(fixture: &Fixture, snapshot: &Snapshot, names: &[&str]) {
    let repository = fixture.reopen(crate::OpenOptions::default()).await;
    let chunks = chunks(&repository, snapshot).await;
    let keys = repository.domain("").expect("domain");
    let fallback = crate::index::LazyIndex::new(&repository, &keys);
    let reader =
        ChunkReader::new(&repository, &keys, 1 << 20).with_fallback(std::sync::Arc::new(fallback));
    let read = reader.read_all(&chunks).await.expect("read");
    let read: Vec<_> = read.iter().map(|bytes| bytes.to_vec()).collect();
    assert_eq!(read, contents(names));
    sound(&repository, fixture).await;
}

async fn chunks(repository: &Repository, snapshot: &Snapshot) -> Vec<StoredChunk> {
    let tree = repository.tree(snapshot).expect("tree");
    let batches: Vec<_> = tree.range(..).try_collect().await.expect("walk");
    let items = batches.into_iter().flatten();
    items.flat_map(|(_, record)| record.chunks().cloned().collect::<Vec<_>>()).collect()
}

async fn sound(repository: &Repository, fixture: &Fixture) {
    let options = VerifyOptions { depth: Depth::Deep, named: 3 };
    let report = verify(repository, &options, &fixture.context).await.expect("verify");
    assert_eq!(report.damage, []);
}

async fn packs(fixture: &Fixture) -> BTreeSet<String> {
    let (mut packs, meta) = (fixture.paths("pack").await, fixture.paths("meta").await);
    packs.extend(meta);
    packs.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_forgotten_snapshot_needs_is_freed() {
    let fixture = Fixture::new(41).await;
    let first = capture(&fixture, &["a", "b"]).await;
    let before = packs(&fixture).await;
    let second = capture(&fixture, &["c", "d"]).await;
    let all = packs(&fixture).await;
    let nothing = gc(&fixture).await;
    assert_eq!((nothing.freed.packs, nothing.generations.len()), (0, 0));
    assert_eq!(fixture.paths("gc").await, [] as [&str; 0], "nothing to say, nothing said");

    forget(&fixture, &first).await;
    let mut dry = options();
    dry.is_dry_run = true;
    fixture.store.log.lock().expect("lock").clear();
    let would = collect(&fixture.repository, &dry, &fixture.context).await.expect("dry run");
    assert!(fixture.store.log.lock().expect("lock").is_empty(), "a dry run writes nothing");
    assert_eq!((would.freed.packs, packs(&fixture).await), (2, all.clone()));

    let report = gc(&fixture).await;
    assert_eq!((report.freed, report.generations.as_slice()), (would.freed, &[1][..]));
    assert_eq!(report.leftovers.snapshots, 1);
    assert_eq!(packs(&fixture).await, all.difference(&before).cloned().collect());
    check(&fixture, &second, &["c", "d"]).await;
    let error = fixture.repository.snapshot(&first.id).await.expect_err("deleted");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(fixture.repository.is_forgotten(&first.id).await.expect("look"), "a forget stays");
    assert_eq!(fixture.paths("gc").await, [gc_path(number(1), Stage::Done)]);
    let again = gc(&fixture).await;
    assert_eq!((again.freed.packs, again.generations.len()), (0, 0));

    let third = capture(&fixture, &["a", "e"]).await;
    check(&fixture, &third, &["a", "e"]).await;
    forget(&fixture, &second).await;
    assert_eq!(gc(&fixture).await.generations, [2]);
    assert_eq!(fixture.paths("gc").await, [gc_path(number(2), Stage::Done)]);
    check(&fixture, &third, &["a", "e"]).await;
}

fn number(n: u64) -> Number {
    Number::new(n).expect("number")
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_which_little_is_needed_are_rewritten_and_old_hints_still_lead_there() {
    let fixture = Fixture::new(42).await;
    let first = capture(&fixture, &["a", "b", "c", "d"]).await;
    // Takes one of four, by its place in the first pack.
    let second = capture(&fixture, &["d", "e"]).await;
    let old = chunks(&fixture.repository, &second).await;
    let old_pack = old[0].place.location().expect("place").pack;
    forget(&fixture, &first).await;
    let report = gc(&fixture).await;
    assert_eq!((report.rewritten.packs, report.lost), (1, 0), "{report:?}");
    assert!(!packs(&fixture).await.contains(&pack_path(PackKind::Data, old_pack)));
    let stale = chunks(&fixture.repository, &second).await;
    assert_eq!(stale[0].place.location().expect("place").pack, old_pack, "a manifest stays");
    check(&fixture, &second, &["d", "e"]).await;
    let again = gc(&fixture).await;
    assert_eq!((again.rewritten.packs, again.freed.packs), (0, 0), "{again:?}");
    // Taken over with its stale place, and found in the index.
    let third = capture(&fixture, &["d", "f"]).await;
    forget(&fixture, &second).await;
    gc(&fixture).await;
    check(&fixture, &third, &["d", "f"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_stands_still_is_closed_and_begins_again() {
    let fixture = Fixture::new(43).await;
    let first = capture(&fixture, &["a", "b"]).await;
    let session = fixture.begin().await;
    let slow = contents(&["a", "b", "x"]);
    let slow: Vec<_> = slow.iter().map(Vec::as_slice).collect();
    let taken = put_contents(&session, &slow);
    let root = build(&session, &taken).await;
    forget(&fixture, &first).await;
    let report = gc(&fixture).await;
    assert_eq!(report.fenced, [session.id().clone()]);
    let error = session.commit(root, draft()).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    // Its segment came late, and names packs that may be gone: they are looked at.
    let again = capture(&fixture, &["a", "b", "x"]).await;
    check(&fixture, &again, &["a", "b", "x"]).await;
    gc(&fixture).await;
    check(&fixture, &again, &["a", "b", "x"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_commits_in_time_keeps_what_it_took() {
    let fixture = Fixture::new(44).await;
    let first = capture(&fixture, &["a", "b"]).await;
    let session = fixture.begin().await;
    let slow = contents(&["a", "b"]);
    let slow: Vec<_> = slow.iter().map(Vec::as_slice).collect();
    let taken = put_contents(&session, &slow);
    let root = build(&session, &taken).await;
    forget(&fixture, &first).await;
    // A collector condemns, and stands still before it looks at sessions.
    let condemned: Vec<PackName> = packs(&fixture)
        .await
        .iter()
        .filter_map(|path| path.rsplit('/').next()?.parse().ok())
        .collect();
    generation::condemn(&fixture.repository, number(1), &condemned).await.expect("condemn");
    let second = session.commit(root, draft()).await.expect("commit");
    // One that is announced now sees it, and stores everything again.
    let third = capture(&fixture, &["a", "b"]).await;
    forget(&fixture, &second).await;
    let report = gc(&fixture).await;
    assert_eq!(report.generations[0], 1, "what others began is brought to its end");
    check(&fixture, &third, &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_condemned_or_decided_counts() {
    let fixture = Fixture::new(45).await;
    let first = capture(&fixture, &["a", "b"]).await;
    let dead = packs(&fixture).await;
    let name = |path: &String| path.rsplit('/').next().and_then(|n| n.parse::<PackName>().ok());
    let names: Vec<_> = dead.iter().filter_map(name).collect();
    let second = capture(&fixture, &["c"]).await;
    forget(&fixture, &first).await;
    let repository = &fixture.repository;
    generation::condemn(repository, number(1), &names).await.expect("condemn");
    let decided = Outcome::new(vec![names[0]], Vec::new());
    generation::decide(repository, number(1), decided).await.expect("decide");
    let report = gc(&fixture).await;
    assert_eq!(report.generations, [1, 2], "the rest goes with the next");
    assert!(packs(&fixture).await.is_disjoint(&dead));
    check(&fixture, &second, &["c"]).await;
    // Somebody who slept through all of it finds that it is over.
    let (late, is_others) = generation::condemn(repository, number(1), &names).await.expect("late");
    assert_eq!((late.len(), is_others), (names.len(), false), "nothing else stands there");
    let generations = Generations::list(repository).await.expect("list");
    assert!(generations.is_over(number(1)) && generations.open().is_empty());
    assert!(super::open_condemned(repository).await.expect("read").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_kept() {
    let fixture = Fixture::new(46).await;
    let first = capture(&fixture, &["a"]).await;
    forget(&fixture, &first).await;
    let store = fixture.repository.store();
    let foreign = pack_path(PackKind::Data, PackName([7; 32]));
    let unknown = [
        foreign.as_str(),
        "pack/07/readme",
        "pack/notes",
        "meta/zz/0707",
        "snapshot/prod.etc/x",
        "session/what",
        "forget/x",
        "gc/x/condemned",
        "gc/0000000001/other",
        "stuff/a",
        "probe/not-ours",
    ];
    for path in unknown {
        store.create(path, b"unknown"[..].into()).await.expect("create");
    }
    let second = capture(&fixture, &["b"]).await;
    let report = gc(&fixture).await;
    assert_eq!((report.freed.packs, report.unknown.packs), (2, 1), "{report:?}");
    assert_eq!(report.unknown_objects, 3);
    for path in unknown {
        store.head(path).await.expect(path);
        // Others take these for damage.
        fixture.delete(path).await;
    }
    check(&fixture, &second, &["b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_without_a_segment_are_looked_into() {
    let fixture = Fixture::new(47).await;
    let first = capture(&fixture, &["a"]).await;
    let second = capture(&fixture, &["b"]).await;
    for path in fixture.paths("index").await {
        fixture.delete(&path).await;
    }
    forget(&fixture, &first).await;
    let report = gc(&fixture).await;
    assert_eq!((report.freed.packs, report.lost, report.unknown.packs), (2, 0, 0), "{report:?}");
    let repository = fixture.reopen(crate::OpenOptions::default()).await;
    assert_eq!(chunks(&repository, &second).await.len(), 1);
}

/// A tree that was forgotten meanwhile may fail; one that shares nodes with it and is needed may not pass.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_tree_failed_to_read_another_has_to_read() {
    let fixture = Fixture::new(31).await;
    let (one, other) = (capture(&fixture, &["a", "b"]).await, capture(&fixture, &["a", "b"]).await);
    let node = |snapshot: &Snapshot| snapshot.root.node.as_ref().map(|(id, _)| *id);
    assert_eq!(node(&one), node(&other), "they share their nodes");
    let lost = fixture.paths("meta").await;
    for path in &lost {
        fixture.repository.store().delete(path).await.expect("delete");
    }
    let repository = fixture.reopen(crate::OpenOptions::default()).await;
    let mut walk = Walk::new(&repository, 1 << 20, &std::env::temp_dir(), &fixture.context);
    for snapshot in [one, other] {
        let (id, domain, root) = (snapshot.id, snapshot.domain, snapshot.root);
        walk.add(&LiveTree { id, domain, root }).await.expect_err("its nodes are gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_where_it_is_not_known_what_is_needed() {
    let fixture = Fixture::new(48).await;
    let first = capture(&fixture, &["a"]).await;
    let second = capture(&fixture, &["b"]).await;
    forget(&fixture, &first).await;
    let before = packs(&fixture).await;
    let root = second.root.node.as_ref().and_then(|(_, place)| place.location()).expect("root");
    let meta = pack_path(PackKind::Meta, root.pack);
    let object = fixture.repository.store().get(&meta).await.expect("get");
    fixture.delete(&meta).await;
    let error =
        collect(&fixture.repository, &options(), &fixture.context).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    fixture.repository.store().create(&meta, object).await.expect("heal");
    assert_eq!(packs(&fixture).await, before);
    assert_eq!(gc(&fixture).await.freed.packs, 2);
    check(&fixture, &second, &["b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_came_late_leads_nobody_astray() {
    let fixture = Fixture::new(49).await;
    let first = capture(&fixture, &["a"]).await;
    let late = fixture.paths("index").await;
    let store = fixture.repository.store();
    let mut objects = Vec::new();
    for path in &late {
        objects.push((path.clone(), store.get(path).await.expect("get")));
    }
    let second = capture(&fixture, &["b"]).await;
    forget(&fixture, &first).await;
    gc(&fixture).await;
    for (path, object) in objects {
        store.create(&path, object).await.expect("create");
    }
    let repository = fixture.reopen(crate::OpenOptions::default()).await;
    let other = stream("prod.other");
    let begun = Session::begin(&repository, &other, session_options(), &fixture.context).await;
    let third = commit(begun.expect("begin"), &["a", "b"]).await;
    check(&fixture, &third, &["a", "b"]).await;
    forget(&fixture, &second).await;
    forget(&fixture, &third).await;
    let report = gc(&fixture).await;
    assert!(report.freed.packs >= 2 && report.segments_replaced >= 2, "{report:?}");
    let fourth = capture(&fixture, &["z"]).await;
    check(&fixture, &fourth, &["z"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgets_wait_for_their_grace_and_for_what_needs_the_snapshot() {
    let fixture = Fixture::new(50).await;
    let first = capture(&fixture, &["a"]).await;
    capture(&fixture, &["b"]).await;
    forget(&fixture, &first).await;
    let patient = GcOptions { grace: Duration::from_secs(3600), ..options() };
    let report = collect(&fixture.repository, &patient, &fixture.context).await.expect("collect");
    assert_eq!((report.freed.packs, report.held[&super::super::Gone::InGrace]), (0, 1));
    // A forget that nobody has signed is none.
    let path = format!("forget/{}", first.id.path());
    fixture.delete(&path).await;
    fixture.repository.store().create(&path, b"x"[..].into()).await.expect("create");
    let report = gc(&fixture).await;
    assert_eq!((report.freed.packs, report.held[&super::super::Gone::Unsigned]), (0, 1));
    fixture.delete(&path).await;
    check(&fixture, &first, &["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hold_covers_is_kept_though_it_is_forgotten() {
    let fixture = Fixture::new(56).await;
    let first = capture(&fixture, &["a"]).await;
    capture(&fixture, &["b"]).await;
    forget(&fixture, &first).await;
    let request = HoldRequest {
        scope: HoldScope::Site(first.id.stream.site.clone()),
        snapshots: Vec::new(),
        who: "counsel".to_owned(),
        why: "case 17".to_owned(),
        until: None,
    };
    let hold = fixture.repository.add_hold(request, &fixture.context).await.expect("hold");
    let report = gc(&fixture).await;
    assert_eq!((report.freed.packs, report.held[&super::super::Gone::Held]), (0, 1));
    check(&fixture, &first, &["a"]).await;
    let released = fixture.repository.release_hold(hold.id, "counsel", "over", &fixture.context);
    released.await.expect("release");
    let report = gc(&fixture).await;
    assert!(report.freed.packs > 0 && report.held.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_without_a_commit_is_closed_for_good() {
    let fixture = Fixture::new(51).await;
    let session = fixture.begin().await;
    let id = session.id().clone();
    drop(session);
    let first = capture(&fixture, &["a"]).await;
    let second = capture(&fixture, &["b"]).await;
    forget(&fixture, &first).await;
    assert_eq!(gc(&fixture).await.fenced, std::slice::from_ref(&id));
    let object = fixture.repository.store().get(&snapshot_path(&id)).await.expect("tombstone");
    fixture
        .repository
        .open_signed(ObjectType::Snapshot, &snapshot_path(&id), &object)
        .await
        .expect("signed");
    forget(&fixture, &second).await;
    gc(&fixture).await;
    fixture.repository.store().head(&snapshot_path(&id)).await.expect("tombstones stay");
    let set = seal_set(fixture.repository.keys(), number(9), Stage::Done, &[]).expect("seal");
    assert!(!set.is_empty());
}
