//! Building and reading, compared with a sorted map.

use std::ops::Bound;

use futures::StreamExt;
use model::ErrorKind;
use proptest::prelude::*;

use super::testing::{
    Map, Nodes, any_key, any_map, assert_same, build, collect, key, keys, map, record, run, tree,
};
use super::{Tree, TreeBuilder};
use crate::types::{NodeId, Root};

fn root_id(root: &Root) -> Option<NodeId> {
    root.node.as_ref().map(|(id, _)| *id)
}

fn any_bound() -> impl Strategy<Value = Bound<model::ItemKey>> {
    prop_oneof![
        Just(Bound::Unbounded),
        any_key().prop_map(Bound::Included),
        any_key().prop_map(Bound::Excluded)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_reads_like_a_map(
        map in any_map(),
        bounds in prop::collection::vec((any_bound(), any_bound()), 6),
        wanted in prop::collection::vec(any_key(), 6),
    ) {
        run(async {
            let tree = tree(&Nodes::default(), &map).await;
            assert_same(&collect(tree.range(..)).await, &map);
            for bounds in bounds {
                let inside: Vec<_> = map
                    .iter()
                    .filter(|(key, _)| std::ops::RangeBounds::contains(&bounds, *key))
                    .collect();
                assert_same(&collect(tree.range(bounds.clone())).await, inside.clone());
                let totals = tree.totals(bounds).await.expect("totals");
                assert_eq!(totals.items, inside.len() as u64);
                let bytes = inside.iter().map(|(_, record)| record.content_bytes()).sum::<u64>();
                assert_eq!(totals.content_bytes, bytes);
            }
            for key in wanted {
                let found = tree.get(&key).await.expect("get");
                match (found, map.get(&key)) {
                    (None, None) => {}
                    (Some(found), Some(record)) => assert!(found.is_same_state(record)),
                    (found, _) => panic!("{key:?}: {found:?}"),
                }
                let children = map.iter().filter(|(k, _)| k.parent().as_ref() == Some(&key));
                assert_same(&collect(tree.children(&key)).await, children);
            }
        });
    }
}

#[test]
fn an_empty_tree_has_no_node() {
    run(async {
        let nodes = Nodes::default();
        let tree = tree(&nodes, &Map::new()).await;
        assert!(tree.root().node.is_none() && nodes.count() == 0);
        assert!(tree.get(&key("a")).await.expect("get").is_none());
        assert!(tree.range(..).next().await.is_none());
        assert_eq!(tree.totals(..).await.expect("totals"), Default::default());
    });
}

#[test]
fn keys_must_ascend() {
    let (nodes, keys) = (Nodes::default(), keys());
    let mut builder = TreeBuilder::new(&keys, &nodes);
    builder.push(&key("b"), record(1)).expect("first");
    for late in ["b", "a", ""] {
        let error = builder.push(&key(late), record(1)).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_hundred_thousand_items_make_nodes_of_the_intended_size() {
    run(async {
        let (nodes, map) = (Nodes::default(), map(100_000));
        let tree = tree(&nodes, &map).await;
        assert_eq!(tree.root().height, 2);
        assert_eq!(tree.root().totals.items, 100_000);
        let size = |(key, record): (&model::ItemKey, &crate::types::Record)| {
            let mut encoded = Vec::new();
            crate::record::encode(record, &mut encoded).expect("encode");
            super::split::entry_bytes(key.as_bytes(), encoded.len() as u64)
        };
        let raw = map.iter().map(size).sum::<u64>() as usize;
        let mean = raw / nodes.count();
        assert!((52 << 10..64 << 10).contains(&mean), "{mean} bytes in {} nodes", nodes.count());
        assert!(nodes.lengths().into_iter().all(|length| length < 300 << 10));
        // Each level waits once for the one below to be named.
        assert!(nodes.flushes() <= 3, "{}", nodes.flushes());

        assert!(tree.get(&key("d1/e1/file-0000001")).await.expect("get").is_some());
        assert_eq!(tree.reads(), 2);
        let subtree = key("d3").subtree();
        let expected = map.keys().filter(|k| k.is_within(&key("d3"))).count();
        let before = tree.reads();
        assert_eq!(tree.totals(subtree.clone()).await.expect("totals").items, expected as u64);
        assert!(tree.reads() - before <= 3, "{}", tree.reads());
        assert_eq!(collect(tree.range(subtree)).await.len(), expected);
    });
}

#[test]
fn children_are_listed_without_reading_what_is_below_them() {
    run(async {
        let mut map = map(50_000);
        for directory in 0..7 {
            map.insert(key(&format!("d{directory}")), record(0));
        }
        let (nodes, root) = (Nodes::default(), key(""));
        let tree = tree(&nodes, &map).await;
        let children = collect(tree.children(&root)).await;
        assert_same(&children, map.iter().filter(|(key, _)| key.depth() == 1));
        assert!(tree.reads() <= 1 + 7 + 1, "{} of {}", tree.reads(), nodes.count());
    });
}

#[test]
fn the_root_does_not_depend_on_places_and_nothing_is_stored_twice() {
    run(async {
        let (nodes, elsewhere) = (Nodes::default(), Nodes::default());
        let map = map(5_000);
        let mut moved = map.clone();
        for (n, record) in moved.values_mut().enumerate() {
            for chunk in record.extents.iter_mut().flat_map(|e| match &mut e.body {
                crate::types::StoredBody::Data { chunks, .. } => chunks.iter_mut(),
                crate::types::StoredBody::Hole => [].iter_mut(),
            }) {
                chunk.place = elsewhere.pending(n as u32);
            }
        }
        let root = build(&nodes, &map).await;
        let other = build(&elsewhere, &moved).await;
        assert_eq!(root_id(&root), root_id(&other));
        let count = nodes.count();
        let again = build(&nodes, &map).await;
        assert_eq!((root_id(&again), nodes.count()), (root_id(&root), count));

        // What was pending has the name that its pack was given.
        let found = collect(Tree::open(elsewhere.clone(), keys(), other).range(..)).await;
        for (n, (_, record)) in found.iter().enumerate() {
            for location in record.chunks().map(|chunk| chunk.place.location().expect("known")) {
                assert_eq!((location.pack.0, location.block_offset), ([1; 32], n as u32));
            }
        }
    });
}

#[test]
fn long_keys_still_make_a_tree() {
    run(async {
        let long = |n: u32| {
            let name = format!("{n:06}").into_bytes().repeat(10_000);
            model::ItemKey::from_components([name]).expect("key")
        };
        let map: Map = (0..60).map(|n| (long(n), record(n.into()))).collect();
        let tree = tree(&Nodes::default(), &map).await;
        assert!(tree.root().height <= 4, "{}", tree.root().height);
        assert_same(&collect(tree.range(..)).await, &map);
    });
}

/// Hints are no part of a node's identity: a changed one may lead elsewhere, but never to other items.
#[test]
fn a_damaged_node_never_gives_other_items() {
    run(async {
        let (nodes, map) = (Nodes::default(), map(30));
        let root = build(&nodes, &map).await;
        let (id, _) = root.node.clone().expect("one node");
        let sound = nodes.bytes(id);
        let logical_bytes = 4 + u32::from_le_bytes(*sound.first_chunk().expect("head")) as usize;
        for bit in 0..8 * sound.len() {
            let mut damaged = sound.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            nodes.replace(id, damaged);
            let tree = Tree::open(nodes.clone(), keys(), root.clone());
            match tree.range(..).next().await.expect("a batch or an error") {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}"),
                Ok(items) => {
                    assert!(bit / 8 >= logical_bytes, "bit {bit} passed");
                    assert_same(&items, &map);
                }
            }
        }
        for length in 0..sound.len() {
            nodes.replace(id, sound[..length].to_vec());
            let tree = Tree::open(nodes.clone(), keys(), root.clone());
            assert!(tree.range(..).next().await.expect("an error").is_err(), "cut at {length}");
        }
    });
}
