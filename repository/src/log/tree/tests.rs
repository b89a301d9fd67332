//! Logged trees against the naive application of changes.

use std::collections::BTreeMap;

use model::{Attributes, Extent, ItemKind, Version};
use proptest::prelude::*;

use super::*;
use crate::tree::testing::{Map, Nodes, any_key, key, keys, run, tree};
use crate::types::{Number, SessionId};

fn item(key: ItemKey, seed: u64, length_bytes: u64) -> Item {
    Item {
        key,
        kind: ItemKind::File,
        attributes: Attributes::default(),
        version: Some(Version(seed.to_le_bytes().to_vec().into())),
        extents: vec![Extent::data(length_bytes)],
    }
}

fn content(item: &Item) -> Bytes {
    vec![item.version.as_ref().expect("version").0[0]; item.content_bytes() as usize].into()
}

fn any_item() -> impl Strategy<Value = Item> {
    (any_key(), any::<u64>(), 0..20_u64).prop_map(|(key, seed, length)| item(key, seed, length))
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_item().prop_map(Change::Upsert),
        2 => any_key().prop_map(Change::Delete),
        2 => (any_key(), any_key()).prop_map(|(from, to)| Change::Move { from, to }),
    ]
}

fn batch(n: u64, changes: &[Change]) -> LogBatch {
    let at = |seconds: u64| Timestamp::from_unix_seconds(i64::try_from(seconds).expect("small"));
    let changes = changes.iter().map(|change| match change {
        Change::Upsert(item) => (change.clone(), vec![content(item)]),
        other => (other.clone(), Vec::new()),
    });
    LogBatch {
        number: n + 1,
        base: SessionId {
            stream: "prod.etc".parse().expect("stream"),
            number: Number::new(1).expect("number"),
            random: [1; 8],
        },
        after: Position(n.to_be_bytes().to_vec().into()),
        upto: Position((n + 1).to_be_bytes().to_vec().into()),
        first_at: at(n * 10),
        last_at: at(n * 10 + 9),
        body: LogBody::Changes(changes.collect()),
    }
}

async fn replay(base: &Tree, batches: Vec<LogBatch>, upto: i64) -> Result<LoggedTree> {
    let (context, _) = testkit::context(1);
    let start = (Timestamp::default(), Position(Bytes::new()));
    let batches = stream::iter(batches.into_iter().map(Ok)).boxed();
    let upto = Timestamp::from_unix_seconds(upto);
    LoggedTree::replay((base.clone(), keys()), start, batches, upto, &context).await
}

/// What stands where, and whether the log says so.
async fn found(logged: &LoggedTree) -> BTreeMap<ItemKey, (Item, bool)> {
    let mut found = BTreeMap::new();
    let mut batches = logged.records();
    while let Some(batch) = batches.try_next().await.expect("read") {
        for (key, record) in batch {
            let one = logged.get(&key).await.expect("get").expect("there");
            let entry = match (record, one) {
                (LoggedRecord::Stored(record), LoggedRecord::Stored(one)) => {
                    assert!(record.is_same_state(&one));
                    (record.to_item(&key), false)
                }
                (LoggedRecord::Logged(item, contents), LoggedRecord::Logged(one, again)) => {
                    assert_eq!((&item, &contents), (&one, &again));
                    assert_eq!(contents, [content(&item)]);
                    (*item, true)
                }
                other => panic!("{other:?}"),
            };
            assert!(found.insert(key, entry).is_none());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_logged_tree_is_the_state_at_its_time(
        items in prop::collection::vec(any_item(), 0..60),
        batches in prop::collection::vec(prop::collection::vec(any_change(), 1..5), 0..5),
        upto in 0..50_i64,
    ) {
        run(async {
            let items: BTreeMap<ItemKey, Item> =
                items.into_iter().map(|item| (item.key.clone(), item)).collect();
            let record = |item: &Item| {
                Logged { item: item.clone(), contents: Vec::new() }.record()
            };
            let map: Map = items.iter().map(|(key, item)| (key.clone(), record(item))).collect();
            let nodes = Nodes::default();
            let parent = tree(&nodes, &map).await;
            let count = nodes.count();
            let stored = batches.iter().enumerate().map(|(n, changes)| batch(n as u64, changes));
            let logged = replay(&parent, stored.collect(), upto).await.expect("replay");
            let applied = usize::try_from((upto + 1) / 10).expect("small").min(batches.len());
            let position = if applied == 0 {
                Position(Bytes::new())
            } else {
                Position((applied as u64).to_be_bytes().to_vec().into())
            };
            assert_eq!(logged.stands_at().1, &position);
            let changes: Vec<_> = batches.into_iter().take(applied).flatten().collect();
            let expected = testkit::apply_changes(items, &changes);
            let found = found(&logged).await;
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (key, (item, is_logged)) in found {
                let expected = &expected[&key];
                assert_eq!((&item.key, &item.version), (&key, &expected.version));
                assert_eq!(item.content_bytes(), expected.content_bytes());
                if is_logged {
                    assert_eq!(item.extents, expected.extents);
                }
            }
            assert_eq!(nodes.count(), count, "nothing was stored");
        });
    }
}

#[test]
fn raw_logs_are_the_systems_own() {
    run(async {
        let parent = tree(&Nodes::default(), &Map::new()).await;
        let raw = LogBatch { body: LogBody::Raw(Bytes::new()), ..batch(0, &[]) };
        let error = replay(&parent, vec![raw], 100).await.map(|_| ()).expect_err("raw");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}

#[test]
fn children_and_ranges_are_those_of_the_time() {
    run(async {
        let items = ["a", "a/x", "a/y", "b"].map(|path| item(key(path), 1, 2));
        let record = |item: &Item| Logged { item: item.clone(), contents: Vec::new() }.record();
        let map: Map = items.iter().map(|item| (item.key.clone(), record(item))).collect();
        let parent = tree(&Nodes::default(), &map).await;
        let changes =
            [Change::Upsert(item(key("a/z"), 2, 3)), Change::Move { from: key("a"), to: key("c") }];
        let logged = replay(&parent, vec![batch(0, &changes)], 100).await.expect("replay");
        let names = async |batches: LoggedBatches| {
            let batches: Vec<_> = batches.try_collect().await.expect("read");
            batches.into_iter().flatten().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(names(logged.children(&key("c"))).await, ["c/x", "c/y", "c/z"].map(key));
        assert_eq!(names(logged.range(key("c").subtree())).await.len(), 4);
        assert_eq!(names(logged.records()).await.len(), 5);
        assert_eq!(logged.tree().root().totals.content_bytes, 2 * 4 + 3);
        assert_eq!(logged.base().root().totals.items, 4);
    });
}
