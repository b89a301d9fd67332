//! What stands at a commit key keeps its bytes; listings give the newest first in few requests.

use bytes::Bytes;
use model::Claim;
use proptest::prelude::*;

use super::codec::{decode_announcement, decode_commit, decode_forget};
use super::*;
use crate::crypto::testing::ring;
use crate::format::envelope::seal_signed;
use crate::session::testing::{Fixture, stream};
use crate::types::{Location, NodeId, Number, PackName, Place, Totals, hex};

fn id(number: u64) -> SessionId {
    SessionId {
        stream: stream("prod.etc"),
        number: Number::new(number).expect("number"),
        random: number.to_be_bytes(),
    }
}

fn sample() -> Snapshot {
    let location = Location {
        pack: PackName([3; 32]),
        block_offset: 67,
        block_length: 1000,
        offset_in_block: 0,
        length: 3000,
    };
    let seconds = Timestamp::from_unix_seconds;
    Snapshot {
        id: id(5),
        writer: WriterId([1; 16]),
        kind: "files".to_owned(),
        domain: "d".to_owned(),
        host: "h".to_owned(),
        parent: Some(id(4)),
        capture_number: 4,
        is_checkpoint: true,
        root: Root {
            node: Some((NodeId([2; 32]), Place::Known(location))),
            height: 2,
            totals: Totals { items: 7, content_bytes: 1 << 40 },
        },
        position: Position(Bytes::from_static(b"position")),
        cut_from: seconds(-1),
        cut_to: seconds(2),
        source_time: Some(seconds(3)),
        store_time: Some(seconds(4)),
        extent_epoch: Epoch(6),
        proof: Proof {
            method: "walk".to_owned(),
            claims: vec![Claim { name: "digest".to_owned(), value: Bytes::from_static(b"\x00x") }],
        },
        problems: 8,
        stored_bytes: 9,
    }
}

#[test]
fn golden_bytes() {
    let keys = ring(1);
    let announcement = Announcement {
        host: "h".to_owned(),
        kind: "files".to_owned(),
        domain: "d".to_owned(),
        started: Timestamp::from_unix_seconds(1),
    };
    let snapshot = codec::encode_snapshot(&sample()).expect("encode");
    let forget = codec::encode_forget(Timestamp::from_unix_seconds(1), "asked for");
    let seal = |object_type, path: &str, body| {
        let object = seal_signed(&keys, object_type, path, body).expect("seal");
        hex(blake3::hash(&object).as_bytes())
    };
    let id = id(5);
    let announcement = codec::encode_announcement(&announcement);
    let tombstone = codec::encode_tombstone("fenced");
    assert_eq!(
        [
            seal(ObjectType::Session, &session_path(&id), announcement),
            seal(ObjectType::Snapshot, &snapshot_path(&id), snapshot),
            seal(ObjectType::Snapshot, &snapshot_path(&id), tombstone),
            seal(ObjectType::Forget, &forget_path(&id), forget),
        ],
        GOLDEN,
        "the bytes are part of the format"
    );
}

const GOLDEN: [&str; 4] = [
    "ce0e903cb27e8256b58a593779ff73c827bced56108103956d5cef3784dc0cd4",
    "7576d2408f77f748bf79d96cee3e7c06218fc2fd6d7f9e782d60ecbd6ee629a2",
    "5a00bcfa239bf522eafbddc7e9c43bfcac326160ae7db7a0603d66047db52ebe",
    "a5bdce7f61662d5ea0770c9f8a1e33a112b1cc88c503eaf65f722f3ae08179e1",
];

#[test]
fn what_is_encoded_is_decoded() {
    let snapshot = sample();
    let body = codec::encode_snapshot(&snapshot).expect("encode");
    let decoded = decode_commit(&snapshot.id, snapshot.writer, &body).expect("decode");
    let Commit::Snapshot(decoded) = decoded else { panic!("a snapshot") };
    assert_eq!(format!("{decoded:?}"), format!("{snapshot:?}"));
    let empty = Snapshot {
        root: Root { node: None, height: 0, totals: Totals::default() },
        parent: None,
        source_time: None,
        store_time: None,
        ..snapshot
    };
    let body = codec::encode_snapshot(&empty).expect("encode");
    let decoded = decode_commit(&empty.id, empty.writer, &body).expect("decode");
    let Commit::Snapshot(decoded) = decoded else { panic!("a snapshot") };
    assert_eq!(format!("{decoded:?}"), format!("{empty:?}"));
    let body = codec::encode_tombstone("why");
    let decoded = decode_commit(&empty.id, empty.writer, &body).expect("decode");
    assert!(matches!(decoded, Commit::Tombstone(why) if why == "why"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let both = [codec::encode_snapshot(&sample()).expect("encode"), codec::encode_tombstone("x")];
    for body in [both.concat(), Vec::new(), b"\xff\xff".to_vec()] {
        let error = decode_commit(&id(5), WriterId([1; 16]), &body).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    let refused = |snapshot: Snapshot| {
        let body = codec::encode_snapshot(&snapshot).expect("encode");
        decode_commit(&id(5), WriterId([1; 16]), &body).expect_err("refused").kind()
    };
    let too_high = Root { height: 17, ..sample().root };
    assert_eq!(refused(Snapshot { root: too_high, ..sample() }), ErrorKind::Corrupt);
    let too_long = "h".repeat(256);
    assert_eq!(refused(Snapshot { host: too_long, ..sample() }), ErrorKind::Corrupt);
    let position = Position(vec![0; 1 << 19].into());
    let error = codec::encode_snapshot(&Snapshot { position, ..sample() }).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
}

/// Puts commits of an empty tree, as many sessions would.
async fn put(fixture: &Fixture, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let snapshot = Snapshot {
            id: id(number),
            parent: None,
            is_checkpoint: number % 10 == 9,
            capture_number: number,
            ..sample()
        };
        let body = match number % 10 {
            8 => codec::encode_tombstone("fenced"),
            _ => codec::encode_snapshot(&snapshot).expect("encode"),
        };
        let path = snapshot_path(&snapshot.id);
        let created = fixture.repository.create_signed(ObjectType::Snapshot, &path, body).await;
        created.expect("create");
    }
}

#[tokio::test]
async fn the_newest_come_first_across_buckets_without_what_does_not_count() {
    let fixture = Fixture::new(31).await;
    let prod = stream("prod.etc");
    put(&fixture, 990..1012).await;
    fixture.repository.forget_snapshot(&id(1001), &fixture.context).await.expect("forget");
    let newest = fixture.repository.newest_snapshots(&prod, 10).await.expect("list");
    let numbers: Vec<_> = newest.iter().map(|snapshot| snapshot.id.number.get()).collect();
    assert_eq!(numbers, [1011, 1010, 1007, 1006, 1005, 1004, 1003, 1002, 1000, 997]);
    let before = fixture.repository.store().stats();
    fixture.repository.newest_snapshots(&prod, 1).await.expect("list");
    let after = fixture.repository.store().stats();
    // The directories of both kinds, two buckets of snapshots and one of forgets.
    assert_eq!(after.lists - before.lists, 5);
    let all = fixture.repository.all_snapshots(&prod).await.expect("list");
    assert_eq!(all.len(), 22 - 1 - 2);
    assert!(all.iter().all(|(_, read)| read.is_ok()));
    assert!(all.is_sorted_by(|(a, _), (b, _)| a.number > b.number));
    let survey = fixture.repository.survey(&prod).await.expect("survey");
    assert_eq!((survey.newest_number, survey.candidates.len()), (Some(1011), 21));
    let other = fixture.repository.newest_snapshots(&stream("prod.zk"), 3).await.expect("list");
    assert!(other.is_empty());
}

#[tokio::test]
async fn short_ids_find_one_snapshot_or_say_why_not() {
    let fixture = Fixture::new(32).await;
    let prod = stream("prod.etc");
    put(&fixture, [1, 2, 0x0100_0000_0000_0000 >> 20].into_iter()).await;
    let find = async |prefix: &str| {
        let found = fixture.repository.snapshot_by_prefix(&prod, prefix).await;
        found.map(|snapshot| snapshot.id).map_err(|error| error.kind())
    };
    assert_eq!(find(&id(2).short()).await, Ok(id(2)));
    assert_eq!(find("000").await, Err(ErrorKind::Invalid));
    assert_eq!(find("1").await, Err(ErrorKind::NotFound));
}

proptest! {
    #[test]
    fn random_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_commit(&id(1), WriterId([1; 16]), &bytes);
        let _ = decode_announcement(&id(1), &bytes);
        let _ = decode_forget(&id(1), &bytes);
    }
}
