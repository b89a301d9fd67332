//! Marks against a naive model.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Context;
use object_store::memory::InMemory;
use proptest::prelude::*;
use testkit::SeededEntropy;

use super::*;
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::point::PointDraft;
use crate::store::Store;
use crate::{CreateOptions, OpenOptions};

async fn repository(seed: u64) -> (Repository, Context) {
    let (context, _) = testkit::context(seed);
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)));
    let store = Store::new(Arc::new(InMemory::new()), "memory", &context);
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let repository = Repository::create(store, &unlock, options, &context).await.expect("create");
    (repository, context)
}

fn any_kind() -> impl Strategy<Value = MarkKind> {
    prop_oneof![Just(MarkKind::Pin), Just(MarkKind::Verified), "[ab]".prop_map(MarkKind::Tag),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_word_counts(
        words in prop::collection::vec((0..2_usize, any_kind(), any::<bool>()), 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let (repository, context) = repository(1).await;
            let site = "prod".parse().expect("site");
            let sealer = repository.point_sealer(&site);
            let mut ids = Vec::new();
            for _ in 0..2 {
                ids.push(sealer.seal(PointDraft::default(), &context).await.expect("seal").id);
            }
            let mut expected = BTreeSet::new();
            for (point, kind, is_set) in words {
                if is_set {
                    repository.set_mark(&ids[point], kind.clone(), "why", &context).await.expect("set");
                    expected.insert((ids[point].clone(), kind));
                } else {
                    repository.remove_mark(&ids[point], &kind, &context).await.expect("remove");
                    expected.remove(&(ids[point].clone(), kind));
                }
            }
            let marks = repository.marks(&site).await.expect("marks");
            assert!(marks.iter().all(|mark| mark.note == "why"));
            let found: Vec<_> = marks.into_iter().map(|mark| (mark.point, mark.kind)).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn marks_are_of_points_and_tags_are_plain() {
    let (repository, context) = repository(2).await;
    let site = "prod".parse().expect("site");
    let point = repository.seal_point(&site, PointDraft::default(), &context).await.expect("seal");
    let nowhere = PointId { chain: [1; 16], ..point.id.clone() };
    let kind = MarkKind::Pin;
    let error = repository.set_mark(&nowhere, kind, "", &context).await.expect_err("no point");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for tag in ["", "a\nb", &"x".repeat(TAG_BYTES_MAX + 1)] {
        let kind = MarkKind::Tag(tag.to_owned());
        let error = repository.set_mark(&point.id, kind, "", &context).await.expect_err("no tag");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    // Twice is the same as once, down to the objects.
    for _ in 0..2 {
        repository.set_mark(&point.id, MarkKind::Verified, "drill", &context).await.expect("set");
    }
    let listed = repository.store().list("mark").await.expect("list");
    let path = format!("mark/{}/ffffffffff", point.id.path());
    assert_eq!(listed.into_iter().map(|object| object.path).collect::<Vec<_>>(), [path]);
}

#[test]
fn golden_bytes() {
    let at = Timestamp::from_unix_seconds(1_764_000_000);
    let record = Record::new(&MarkKind::Tag("before upgrade".to_owned()), Some("note"), at);
    assert_eq!(
        crate::types::hex(&record.encode_to_vec()),
        "0802120e6265666f726520757067726164651801208080d0fceca9fefa302a046e6f7465"
    );
}
