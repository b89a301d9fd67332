//! Cuts: goldens, bounds, and that streaming changes nothing.

use model::ContentClass;
use proptest::prelude::*;
use testkit::{random_bytes, text_bytes};

use super::*;
use crate::crypto::testing::ring;

const SMALL: Profile = Profile { min: 128, average: 512, max: 2048 };

fn keys() -> DomainKeys {
    ring(1).domain("").expect("domain")
}

fn all_cuts(cutter: &mut Cutter, mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(length) = cutter.cut(bytes, true) {
        lengths.push(length);
        bytes = &bytes[length..];
    }
    lengths
}

fn cuts_in_pieces(cutter: &mut Cutter, bytes: &[u8], piece: usize) -> Vec<usize> {
    let (mut lengths, mut start, mut end) = (Vec::new(), 0, 0);
    while end < bytes.len() {
        end = (end + piece).min(bytes.len());
        while let Some(length) = cutter.cut(&bytes[start..end], end == bytes.len()) {
            lengths.push(length);
            start += length;
        }
    }
    lengths
}

/// What is found again in every repository hangs on these numbers.
#[test]
fn golden_cuts() {
    let keys = keys();
    let cuts = |class, bytes: &[u8]| {
        let lengths = all_cuts(&mut Cutter::new(class, &keys), bytes);
        let mut hasher = blake3::Hasher::new();
        lengths.iter().for_each(|length| {
            hasher.update(&(*length as u64).to_le_bytes());
        });
        (lengths.len(), lengths[0], hasher.finalize().to_hex()[..16].to_owned())
    };
    let (random, text) = (random_bytes(1, 12 << 20), text_bytes(1, 2 << 20));
    assert_eq!(
        [
            cuts(ContentClass::General, &random),
            cuts(ContentClass::Lake, &random),
            cuts(ContentClass::Dump, &random),
            cuts(ContentClass::Dump, &text),
            cuts(ContentClass::Database, &random),
        ],
        GOLDEN.map(|(count, first, hash)| (count, first, hash.to_owned()))
    );
}

const GOLDEN: [(usize, usize, &str); 5] = [
    (11, 353_232, "5a3db8b5b6518538"),
    (11, 353_232, "5a3db8b5b6518538"),
    (158, 19_423, "8b278725da158683"),
    (25, 25_579, "d3eac4e2e9ed6b74"),
    (192, 65_536, "779e367941bc6e34"),
];

#[test]
fn mean_lengths_are_near_the_average() {
    let lengths =
        all_cuts(&mut Cutter::new(ContentClass::Dump, &keys()), &random_bytes(2, 16 << 20));
    let mean = (16 << 20) / lengths.len();
    assert!((60 << 10..100 << 10).contains(&mean), "{mean}");
}

#[test]
fn an_edit_moves_the_cuts_around_it_only() {
    let before = random_bytes(3, 8 << 20).to_vec();
    let mut after = before.clone();
    after.splice(1_000_000..1_000_000, *b"inserted");
    let cut = |bytes: &[u8]| {
        let mut cutter = Cutter::new(ContentClass::Dump, &keys());
        let mut at = 0;
        all_cuts(&mut cutter, bytes)
            .into_iter()
            .map(|length| {
                at += length;
                bytes[at - length..at].to_vec()
            })
            .collect::<std::collections::HashSet<_>>()
    };
    let (before, after) = (cut(&before), cut(&after));
    assert!(before.difference(&after).count() <= 3, "{}", before.difference(&after).count());
}

#[test]
fn constant_bytes_and_short_ones_are_cut_too() {
    let keys = keys();
    for class in [ContentClass::General, ContentClass::Dump, ContentClass::Database] {
        let Profile { min, max, .. } = profile(class);
        let lengths = all_cuts(&mut Cutter::new(class, &keys), &vec![0; 9 << 20]);
        let (last, rest) = lengths.split_last().expect("chunks");
        assert!(rest.iter().all(|length| (min as usize..=max as usize).contains(length)));
        assert!(*last <= max as usize);
        assert_eq!(all_cuts(&mut Cutter::new(class, &keys), b""), Vec::<usize>::new());
        assert_eq!(all_cuts(&mut Cutter::new(class, &keys), b"x"), vec![1]);
        assert_eq!(Cutter::new(class, &keys).cut(b"x", false), None);
    }
}

proptest! {
    #[test]
    fn chunks_add_up_within_their_bounds_and_do_not_depend_on_the_pieces(
        seed in any::<u64>(), length in 0_usize..40_000, piece in 1_usize..5_000,
    ) {
        let bytes = random_bytes(seed, length);
        let table = keys();
        let cutter = || Cutter::with_profile(SMALL, table.gear_table());
        let lengths = all_cuts(&mut cutter(), &bytes);
        prop_assert_eq!(lengths.iter().sum::<usize>(), length);
        if let Some((last, rest)) = lengths.split_last() {
            prop_assert!((1..=2048).contains(last));
            prop_assert!(rest.iter().all(|length| (128..=2048).contains(length)));
        }
        prop_assert_eq!(&cuts_in_pieces(&mut cutter(), &bytes, piece), &lengths);
        // A cut depends on nothing before the chunk.
        if let Some(first) = lengths.first() {
            prop_assert_eq!(&all_cuts(&mut cutter(), &bytes[*first..]), &lengths[1..]);
        }
    }
}
