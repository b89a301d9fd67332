//! Heartbeats: found again, carried over, thinned out, and what they prove.

use std::sync::Arc;

use bytes::Bytes;
use model::{Epoch, Proof};
use object_store::memory::InMemory;
use testkit::{Handles, SeededEntropy};

use super::*;
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::store::Store;
use crate::types::{Root, SessionId, Totals};
use crate::{CreateOptions, OpenOptions};

async fn repository(seed: u64) -> (Repository, Context, Handles) {
    let (context, handles) = testkit::context(seed);
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)));
    let store = Store::new(Arc::new(InMemory::new()), "memory", &context);
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let repository = Repository::create(store, &unlock, options, &context).await.expect("create");
    (repository, context, handles)
}

fn idle(stream: &str, position: &'static [u8], as_of: i64) -> Idle {
    Idle {
        stream: stream.parse().expect("stream"),
        position: Position(Bytes::from_static(position)),
        as_of: Timestamp::from_unix_seconds(as_of),
    }
}

#[tokio::test]
async fn the_newest_says_all_and_the_others_are_deleted() {
    let (repository, context, handles) = repository(1).await;
    assert_eq!(repository.latest_heartbeats().await.expect("none"), []);
    let start = context.clock.now().unix_ns / 1_000_000_000;
    let (etc, zk) = (idle("prod.etc", b"1", start), idle("prod.zk", b"2", start));
    let mut writer = repository.heartbeat_writer().await.expect("writer");
    let first = writer.beat(vec![etc.clone()], &context).await.expect("beat");
    assert_eq!((first.number, &first.idle), (1, &vec![etc.clone()]));
    // Another process with the same key: neither hides what the other said.
    repository.beat(vec![zk.clone()], &context).await.expect("beat");
    let later = idle("prod.etc", b"1", start + 30);
    let third = writer.beat(vec![later.clone()], &context).await.expect("beat");
    assert_eq!((third.number, &third.idle), (3, &vec![later, zk]));
    assert_eq!(repository.latest_heartbeats().await.expect("latest"), std::slice::from_ref(&third));
    assert_eq!(repository.delete_old_heartbeats(&context).await.expect("delete"), 2);
    assert_eq!(repository.latest_heartbeats().await.expect("latest"), [third]);
    handles.clock.advance(CARRIED_FOR + Duration::from_secs(31));
    let fourth = repository.beat(Vec::new(), &context).await.expect("beat");
    assert_eq!((fourth.number, fourth.idle), (4, Vec::new()));
}

#[tokio::test]
async fn beats_across_buckets_count_on() {
    let (repository, context, _) = repository(2).await;
    let mut writer = repository.heartbeat_writer().await.expect("writer");
    for _ in 0..1001 {
        writer.beat(Vec::new(), &context).await.expect("beat");
    }
    let latest = repository.latest_heartbeats().await.expect("latest");
    assert_eq!(latest.iter().map(|beat| beat.number).collect::<Vec<_>>(), [1001]);
}

#[test]
fn golden_bytes() {
    let beat = Heartbeat {
        writer: WriterId([1; 16]),
        number: 5,
        at: Timestamp::from_unix_seconds(1_764_000_000),
        idle: vec![idle("prod.etc", b"\x07", 1_764_000_000)],
    };
    let bytes = Record::new(&beat).encode_to_vec();
    assert_eq!(
        crate::types::hex(&bytes),
        "088080d0fceca9fefa3012170a0870726f642e657463120107188080d0fceca9fefa30"
    );
    let read = Record::decode(&bytes[..]).expect("decode").read(beat.writer, beat.number);
    assert_eq!(read, Some(beat));
}

fn session() -> SessionId {
    SessionId {
        stream: "prod.etc".parse().expect("stream"),
        number: Number::new(1).expect("number"),
        random: [1; 8],
    }
}

fn snapshot(position: &'static [u8], source_time: Option<i64>) -> Snapshot {
    Snapshot {
        id: session(),
        writer: WriterId([1; 16]),
        kind: String::new(),
        domain: String::new(),
        host: String::new(),
        parent: None,
        capture_number: 0,
        is_checkpoint: false,
        root: Root { node: None, height: 0, totals: Totals::default() },
        position: Position(Bytes::from_static(position)),
        cut_from: Timestamp::from_unix_seconds(90),
        cut_to: Timestamp::from_unix_seconds(110),
        source_time: source_time.map(Timestamp::from_unix_seconds),
        store_time: None,
        extent_epoch: Epoch(0),
        proof: Proof::default(),
        problems: 0,
        stored_bytes: 0,
    }
}

#[test]
fn what_is_covered_is_proven_by_what_is_durable() {
    let stream = "prod.etc".parse().expect("stream");
    let seconds = |covered: Option<Timestamp>| covered.map(|time| time.unix_ns / 1_000_000_000);
    let end = LogEnd {
        number: 3,
        base: session(),
        upto: Position(Bytes::from_static(b"log")),
        last_at: Timestamp::from_unix_seconds(200),
    };
    let beats = |idle: Vec<Idle>| {
        [Heartbeat { writer: WriterId([1; 16]), number: 1, at: Timestamp::default(), idle }]
    };
    let cases = [
        (None, None, beats(vec![idle("prod.etc", b"cut", 900)]), None),
        (None, Some(snapshot(b"cut", None)), beats(vec![]), Some(90)),
        (None, Some(snapshot(b"cut", Some(100))), beats(vec![]), Some(100)),
        (Some(&end), Some(snapshot(b"cut", Some(100))), beats(vec![]), Some(200)),
        (Some(&end), None, beats(vec![idle("prod.etc", b"log", 300)]), Some(300)),
        (Some(&end), None, beats(vec![idle("prod.etc", b"further", 300)]), Some(200)),
        (Some(&end), None, beats(vec![idle("prod.zk", b"log", 300)]), Some(200)),
        (
            Some(&end),
            Some(snapshot(b"cut", None)),
            beats(vec![idle("prod.etc", b"cut", 400)]),
            Some(400),
        ),
    ];
    for (n, (end, snapshot, beats, expected)) in cases.into_iter().enumerate() {
        let found = covered(&stream, end, snapshot.as_ref(), &beats);
        assert_eq!(seconds(found), expected, "case {n}");
    }
}
