//! Repositories are created, opened by any of their keys, and refused to everybody else.

use std::sync::Arc;

use object_store::memory::InMemory;
use testkit::SeededEntropy;

use super::*;
use crate::CreateOptions;
use crate::crypto::{KeyFile, Passphrase};

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
