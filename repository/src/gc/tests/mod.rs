//! Sets of packs keep their bytes, bad ones are refused, and only open generations count.

mod collecting;

use proptest::prelude::*;

use super::*;
use crate::crypto::testing::ring;
use crate::session::testing::Fixture;
use crate::types::hex;

fn number(n: u64) -> Number {
    Number::new(n).expect("number")
}

fn names(seeds: &[u8]) -> Vec<PackName> {
    seeds.iter().map(|seed| PackName([*seed; 32])).collect()
}

#[test]
fn paths_are_read_back_and_others_refused() {
    for stage in [Stage::Condemned, Stage::Outcome, Stage::Done] {
        let path = gc_path(number(7), stage);
        assert_eq!(from_gc_path(&path), Some((number(7), stage)));
    }
    assert_eq!(gc_path(number(7), Stage::Done), "gc/fffffffff8/done");
    for bad in ["gc/fffffffff8", "gc/fffffffff8/x", "gc/7/done", "gc/fffffffff8/done/x", "done"] {
        assert_eq!(from_gc_path(bad), None, "{bad}");
    }
}

#[test]
fn golden_bytes() {
    let set = seal_set(&ring(1), number(7), Stage::Condemned, &names(&[2, 1, 2])).expect("seal");
    assert_eq!(hex(blake3::hash(&set).as_bytes()), GOLDEN, "the bytes are part of the format");
    let opened = open_set(&ring(1), number(7), Stage::Condemned, &set).expect("open");
    assert_eq!(opened, names(&[1, 2]));
    for (generation, stage) in [(8, Stage::Condemned), (7, Stage::Outcome)] {
        let error = open_set(&ring(1), number(generation), stage, &set).expect_err("elsewhere");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

const GOLDEN: &str = "fb42994226b44df3811f2bce26505c369d26da03d9ef83a706030823852b4fb9";

#[test]
fn only_sorted_sets_of_their_stated_length_are_taken() {
    let name = |seed: u8| [seed; 32];
    let set = |count: u32, names: &[[u8; 32]]| {
        [&[SET_FORMAT][..], &count.to_le_bytes(), names.as_flattened()].concat()
    };
    assert_eq!(decode_set(&set(0, &[])), Some(Vec::new()));
    assert_eq!(decode_set(&set(2, &[name(1), name(2)])), Some(names(&[1, 2])));
    let longer = [set(1, &[name(1)]), vec![0]].concat();
    let newer = [vec![SET_FORMAT + 1], set(0, &[])[1..].to_vec()].concat();
    let bad = [
        set(1, &[]),
        set(u32::MAX, &[name(1)]),
        set(2, &[name(2), name(1)]),
        set(2, &[name(1), name(1)]),
        longer,
        newer,
        Vec::new(),
    ];
    for bad in bad {
        assert_eq!(decode_set(&bad), None, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_generations_that_are_not_done_condemn() {
    let fixture = Fixture::new(21).await;
    let repository = &fixture.repository;
    let put = async |generation, stage, packs: &[PackName]| {
        let set = seal_set(repository.keys(), number(generation), stage, packs).expect("seal");
        let path = gc_path(number(generation), stage);
        repository.store().create(&path, set.into()).await.expect("create");
    };
    assert!(open_condemned(repository).await.expect("read").is_empty());
    put(1, Stage::Condemned, &names(&[1])).await;
    put(1, Stage::Outcome, &names(&[1])).await;
    put(1, Stage::Done, &[]).await;
    put(2, Stage::Condemned, &names(&[2, 3])).await;
    put(2, Stage::Outcome, &names(&[2])).await;
    put(3, Stage::Condemned, &names(&[3, 4])).await;
    let condemned = open_condemned(repository).await.expect("read");
    assert_eq!(condemned.generations(), [number(3), number(2)]);
    let found: Vec<_> = (0..6).filter(|n| condemned.contains(&PackName([*n; 32]))).collect();
    assert_eq!((found, condemned.len()), (vec![2, 3, 4], 3));
    // Nobody may write while it is not known what is condemned.
    let path = gc_path(number(4), Stage::Condemned);
    repository.store().create(&path, b"damage"[..].into()).await.expect("create");
    let error = open_condemned(repository).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

proptest! {
    #[test]
    fn random_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_set(&bytes);
        let _ = open_set(&ring(1), number(1), Stage::Condemned, &bytes);
    }
}
