//! Repairs of a small repository: on a local disk, beside collectors, of what a repository is opened by.
//! Whole matrices of damage are in `chaos-tests`.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::gc::{Stage, gc_path, seal_set};
use crate::session::Session;
use crate::session::testing::{Fixture, build, draft, put_contents};
use crate::store::{Attach, StoreKind};
use crate::types::Number;
use crate::{CreateOptions, OpenOptions};
use testkit::SeededEntropy;

fn options() -> RepairOptions {
    RepairOptions { is_dry_run: false, named: 3, jobs: 2, memory_bytes: 1 << 20 }
}

async fn capture(fixture: &Fixture, contents: &[&[u8]]) {
    let session = fixture.begin().await;
    let chunks = put_contents(&session, contents);
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit");
}

async fn mend(fixture: &Fixture, from: Option<&Store>) -> Result<Report> {
    repair(&fixture.repository, from, &options(), &fixture.context).await
}

/// Puts other bytes where an object stands.
async fn overwrite(store: &Store, path: &str, bytes: Vec<u8>) {
    store.delete(path).await.expect("delete");
    store.create(path, bytes.into()).await.expect("create");
}

async fn copy_of(fixture: &Fixture) -> Store {
    let copy = Store::new(Arc::new(InMemory::new()), "copy", &fixture.context);
    for listed in fixture.repository.store().list("").await.expect("list") {
        let bytes = fixture.repository.store().get(&listed.path).await.expect("get");
        copy.create(&listed.path, bytes).await.expect("create");
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_on_a_local_disk_have_parity_and_heal_by_it() {
    let (context, _) = testkit::context(3);
    let folder = tempfile::tempdir().expect("folder");
    let url = folder.path().to_str().expect("name");
    let attach =
        || Store::attach(url, &BTreeMap::new(), Attach::Existing, &context).expect("attach");
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(3)));
    for (parity, expected) in [(None, true), (Some(false), false), (Some(true), true)] {
        let open = OpenOptions { parity, ..OpenOptions::default() };
        let repository = if attach().list("").await.expect("list").is_empty() {
            let (label, cost) = ("first".to_owned(), PassphraseCost::LEAST);
            let created = CreateOptions { label, cost, open };
            Repository::create(attach(), &unlock, created, &context).await.expect("create")
        } else {
            Repository::open(attach(), &unlock, open, &context).await.expect("open")
        };
        assert_eq!(
            (repository.store().kind(), repository.has_parity()),
            (StoreKind::Directory, expected)
        );
        if parity.is_some() {
            continue;
        }
        let stream = "prod.etc".parse().expect("stream");
        let session = crate::session::testing::options();
        let session = Session::begin(&repository, &stream, session, &context).await.expect("begin");
        let writer = session.writer().clone();
        let stored = tokio::task::spawn_blocking(move || {
            let mut unit = writer.unit();
            unit.whole(testkit::random_bytes(1, 100_000), &[]).expect("whole");
            unit.finish().expect("finish");
            writer.flush().expect("flush");
        });
        stored.await.expect("write");
        let root = build(&session, &[]).await;
        session.commit(root, draft()).await.expect("commit");
        let packs = attach().list("pack").await.expect("list");
        let [pack] = packs.as_slice() else { panic!("{packs:?}") };
        let sound = std::fs::read(folder.path().join(&pack.path)).expect("read");
        let mut damaged = sound.clone();
        damaged[2000..6000].fill(0xff);
        std::fs::write(folder.path().join(&pack.path), &damaged).expect("write");
        let report = repair(&repository, None, &options(), &context).await.expect("repair");
        assert!(report.is_whole(), "{report:#?}");
        let [mended] = report.mended.as_slice() else { panic!("{report:#?}") };
        assert_eq!((&mended.object, mended.by), (&pack.path, Means::Parity));
        assert_eq!(std::fs::read(folder.path().join(&pack.path)).expect("read"), sound);
        let kept = mended.kept.as_deref().expect("kept");
        assert_eq!(std::fs::read(folder.path().join(kept)).expect("read"), damaged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_condemned_is_left_to_its_collector() {
    let fixture = Fixture::new(1).await;
    capture(&fixture, &[b"one", b"two"]).await;
    let store = fixture.repository.store();
    let copy = copy_of(&fixture).await;
    let path = fixture.paths("pack").await.remove(0);
    let name = pack_of(&path).expect("pack");
    let generation = Number::new(1).expect("number");
    let stage = Stage::Condemned;
    let set = seal_set(fixture.repository.keys(), generation, stage, &[name]).expect("seal");
    store.create(&gc_path(generation, stage), set.into()).await.expect("condemn");
    overwrite(store, &path, b"damaged".to_vec()).await;
    let report = mend(&fixture, Some(&copy)).await.expect("repair");
    assert!(
        report.mended.is_empty() && report.unmended[&path].contains("collection"),
        "{report:#?}"
    );
    let error = repair_without_key(store, Some(&copy), &options(), &fixture.context).await;
    assert_eq!(error.expect_err("collecting").kind(), ErrorKind::Unavailable);
    assert_eq!(store.get(&path).await.expect("get"), "damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_begins_ends_a_repair() {
    let fixture = Fixture::new(1).await;
    capture(&fixture, &[b"one", b"two"]).await;
    let store = fixture.repository.store();
    let copy = copy_of(&fixture).await;
    let path = fixture.paths("pack").await.remove(0);
    overwrite(store, &path, b"damaged".to_vec()).await;
    let mut mender = Mender::new(store, Some(&copy), false, &fixture.context).await.expect("begin");
    let generation = Number::new(1).expect("number");
    let set = seal_set(fixture.repository.keys(), generation, Stage::Condemned, &[]).expect("seal");
    store.create(&gc_path(generation, Stage::Condemned), set.into()).await.expect("condemn");
    let pack = (PackKind::Data, pack_of(&path).expect("pack"));
    let error = mender.pack(pack, None).await.expect_err("a collector");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(store.get(&path).await.expect("get"), "damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repository_is_opened_by_comes_from_a_copy_that_the_key_opens() {
    let fixture = Fixture::new(1).await;
    capture(&fixture, &[b"one"]).await;
    let (store, context) = (fixture.repository.store(), &fixture.context);
    let second = fixture.open_copy(copy_of(&fixture).await).await.expect("second");
    assert_eq!(mend_entrance(store, &second, false, context).await.expect("sound"), []);
    let slot = fixture.paths("key").await.remove(0);
    overwrite(store, "lifeboat", b"damaged".to_vec()).await;
    overwrite(store, &slot, b"damaged".to_vec()).await;
    fixture.open_copy(store.clone()).await.expect_err("does not open");
    let mended = mend_entrance(store, &second, false, context).await.expect("mend");
    let objects: Vec<_> = mended.iter().map(|mended| mended.object.as_str()).collect();
    assert_eq!(objects, ["lifeboat", slot.as_str()]);
    fixture.open_copy(store.clone()).await.expect("opens again");
    store.delete("lifeboat").await.expect("delete");
    mend_entrance(store, &second, false, context).await.expect("mend");
    fixture.open_copy(store.clone()).await.expect("opens again");
    // Nothing shows that an empty place, or another repository, is this one.
    let other = Fixture::new(2).await;
    let empty = Store::new(Arc::new(InMemory::new()), "empty", context);
    for place in [other.repository.store(), &empty] {
        let error = mend_entrance(place, &second, false, context).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let same = mend_entrance(second.store(), &second, false, context).await;
    assert_eq!(same.expect_err("same").kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_damaged_too_is_not_believed() {
    let fixture = Fixture::new(1).await;
    capture(&fixture, &[b"one", b"two"]).await;
    let store = fixture.repository.store();
    let copy = copy_of(&fixture).await;
    let pack = fixture.paths("pack").await.remove(0);
    let snapshot = fixture.paths("snapshot").await.remove(0);
    for path in [&pack, &snapshot] {
        overwrite(store, path, b"damaged".to_vec()).await;
        let mut bytes = copy.get(path).await.expect("get").to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        overwrite(&copy, path, bytes).await;
    }
    let report = mend(&fixture, Some(&copy)).await.expect("repair");
    assert!(report.mended.is_empty() && !report.is_whole(), "{report:#?}");
    for path in [&pack, &snapshot] {
        assert_eq!(store.get(path).await.expect("get"), "damaged");
    }
    let why = report.unmended.get(&snapshot).expect("given up");
    assert!(why.contains("second copy is damaged too"), "{why}");
}
