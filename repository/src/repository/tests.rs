//! Repositories are created, opened by any of their keys, and refused to everybody else.

use std::sync::Arc;

use object_store::memory::InMemory;
use testkit::SeededEntropy;

use super::*;
use crate::CreateOptions;
use crate::crypto::{Identity, KeyFile, Passphrase, ShareSet};

fn key_file(seed: u64) -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)))
}

fn store(objects: &InMemory, context: &Context) -> Store {
    Store::new(Arc::new(objects.clone()), "memory", context)
}

async fn create(objects: &InMemory, unlock: &Unlock, context: &Context) -> Result<Repository> {
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    Repository::create(store(objects, context), unlock, options, context).await
}

async fn open(objects: &InMemory, unlock: &Unlock, context: &Context) -> Result<Repository> {
    Repository::open(store(objects, context), unlock, OpenOptions::default(), context).await
}

#[tokio::test]
async fn a_created_repository_is_opened_by_its_key_and_no_other() {
    let (context, _) = testkit::context(1);
    let objects = InMemory::new();
    let missing = open(&objects, &key_file(1), &context).await.expect_err("nothing there");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let created = create(&objects, &key_file(1), &context).await.expect("create");
    let opened = open(&objects, &key_file(1), &context).await.expect("open");
    assert_eq!((opened.id(), opened.writer()), (created.id(), created.writer()));
    let error = open(&objects, &key_file(2), &context).await.expect_err("another key");
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let error = create(&objects, &key_file(2), &context).await.expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn every_slot_opens_the_same_repository_until_it_is_removed() {
    let (context, _) = testkit::context(2);
    let objects = InMemory::new();
    let first = create(&objects, &key_file(1), &context).await.expect("create");
    let words = Unlock::Passphrase(Passphrase::new("correct horse".to_owned()).expect("sound"));
    let slot = first
        .add_slot(&words, PassphraseCost::LEAST, "words", &context)
        .await
        .expect("add a passphrase");
    let opened = open(&objects, &words, &context).await.expect("open by passphrase");
    assert_eq!((opened.id(), opened.writer()), (first.id(), slot.id));
    let labels: Vec<_> =
        first.slots().await.expect("slots").into_iter().filter_map(|slot| slot.label).collect();
    assert!(labels.contains(&"first".to_owned()) && labels.contains(&"words".to_owned()));
    first.remove_slot(slot.id, &context).await.expect("remove");
    let error = open(&objects, &words, &context).await.expect_err("removed");
    assert_eq!(error.kind(), ErrorKind::WrongKey);
}

#[tokio::test]
async fn shares_and_identities_open_the_repository() {
    let (context, _) = testkit::context(3);
    let objects = InMemory::new();
    let first = create(&objects, &key_file(1), &context).await.expect("create");
    let made = ShareSet::generate(first.id(), 2, 3, context.entropy.as_ref()).expect("shares");
    let (set, shares) = made;
    let unlock = Unlock::Shares(set);
    let slot = first.add_slot(&unlock, PassphraseCost::LEAST, "board", &context).await;
    let slot = slot.expect("add shares");
    assert_eq!(slot.kind, SlotKind::Shares { threshold: 2, count: 3 });
    let unlock = Unlock::Shares(ShareSet::combine(&shares[1..]).expect("combine"));
    let opened = open(&objects, &unlock, &context).await.expect("open by shares");
    assert_eq!((opened.id(), opened.writer()), (first.id(), slot.id));

    let identity = Identity::generate(context.entropy.as_ref()).expect("identity");
    let added = first
        .add_recipient(KeyRole::Full, identity.recipient(), "safe", &context)
        .await
        .expect("add");
    assert_eq!(added.kind, SlotKind::Recipient);
    let unlock = Unlock::Identity(identity.clone());
    let opened = open(&objects, &unlock, &context).await.expect("open by identity");
    assert_eq!((opened.id(), opened.writer()), (first.id(), added.id));
    let other = Identity::generate(context.entropy.as_ref()).expect("identity");
    let error = open(&objects, &Unlock::Identity(other), &context).await.expect_err("other");
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    // A second slot for the same secret would pass for an independent one.
    let error = first.add_recipient(KeyRole::Full, identity.recipient(), "again", &context).await;
    assert_eq!(error.expect_err("twice").kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn the_same_passphrase_is_no_second_key() {
    let (context, _) = testkit::context(4);
    let objects = InMemory::new();
    let words = || Unlock::Passphrase(Passphrase::new("correct horse".to_owned()).expect("sound"));
    let first = create(&objects, &words(), &context).await.expect("create");
    let error = first.add_slot(&words(), PassphraseCost::LEAST, "again", &context).await;
    assert_eq!(error.expect_err("twice").kind(), ErrorKind::Conflict);
    assert_eq!(first.slots().await.expect("slots").len(), 1);
}

#[tokio::test]
async fn tests_of_slots_are_on_record_and_signed_by_the_slot() {
    let (context, handles) = testkit::context(5);
    let objects = InMemory::new();
    let first = create(&objects, &key_file(1), &context).await.expect("create");
    let other = key_file(2);
    first.add_slot(&other, PassphraseCost::LEAST, "other", &context).await.expect("add");
    assert!(first.slots().await.expect("slots").iter().all(|slot| slot.tested.is_none()));
    let second = open(&objects, &other, &context).await.expect("open");
    second.test_slot(&other).await.expect("test");
    second.record_slot_test(&context).await.expect("record");
    handles.clock.advance(std::time::Duration::from_secs(60));
    let newest = second.record_slot_test(&context).await.expect("record");
    for slot in first.slots().await.expect("slots") {
        let expected = (slot.id == second.writer()).then_some(newest);
        assert_eq!(slot.tested, expected, "{slot:?}");
    }
    // Who holds another key cannot say it for this one.
    let path = format!("key-test/{}/fffffffffd", second.writer());
    first
        .create_signed(crate::format::ObjectType::KeyTest, &path, Vec::new())
        .await
        .expect("forge");
    assert_eq!(first.slot_tests().await.expect_err("forged").kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_collectors_slot_opens_the_repository_and_no_contents() {
    let (context, _) = testkit::context(6);
    let objects = InMemory::new();
    let first = create(&objects, &key_file(1), &context).await.expect("create");
    let narrow = key_file(2);
    let cost = PassphraseCost::LEAST;
    let role = KeyRole::Collector;
    first.add_slot_of_role(role, &narrow, cost, "collector", &context).await.expect("add");
    let opened = open(&objects, &narrow, &context).await.expect("open");
    assert_eq!((opened.id(), opened.role()), (first.id(), role));
    assert_eq!(opened.test_slot(&narrow).await.expect("test").role, role);
    opened.record_slot_test(&context).await.expect("record");
    let error = opened.add_slot(&key_file(3), cost, "more", &context).await.expect_err("narrow");
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    // It does not count as a key that is left.
    let error = first.remove_slot(first.writer(), &context).await.expect_err("last full one");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    first.remove_slot(opened.writer(), &context).await.expect("the narrow one may go");
}
