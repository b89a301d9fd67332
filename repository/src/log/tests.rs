//! Logs: appended, compacted, trimmed and read back; damage found; contests lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{
    Attributes, Batch, Change, Context, Error, ErrorKind, Extent, ExtentBody, ExtentIdentity, Item,
    ItemKey, ItemKind, LogPayload, Payload, Position, Result, StripeChecksums, Timestamp, Version,
};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::prelude::*;
use testkit::{Handles, SeededEntropy};

use super::catalogue::Catalogue;
use super::record::{self, Header};
use super::*;
use crate::crypto::testing::ring;
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::store::Store;
use crate::types::{Number, StreamName, hex};
use crate::{CreateOptions, OpenOptions, Repository};

pub(super) async fn repository(objects: &InMemory, seed: u64) -> (Repository, Context, Handles) {
    let (context, handles) = testkit::context(seed);
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)));
    let store = Store::new(Arc::new(objects.clone()), "memory", &context);
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let repository =
        Repository::create(store, &unlock, options, &context).await.expect("create repository");
    (repository, context, handles)
}

fn stream() -> StreamName {
    "prod.etc".parse().expect("stream")
}

pub(super) fn base(n: u8) -> SessionId {
    SessionId { stream: stream(), number: Number::new(n.into()).expect("number"), random: [n; 8] }
}

fn position(n: u64) -> Position {
    Position(n.to_be_bytes().to_vec().into())
}

/// The batch from position `n` to the next.
fn raw(n: u64, body: impl Into<Bytes>) -> Batch {
    let at = Timestamp::from_unix_seconds(1_764_000_000 + i64::try_from(n).expect("small"));
    Batch {
        after: position(n),
        upto: position(n + 1),
        first_at: at,
        last_at: at.saturating_add(Duration::from_millis(900)),
        payload: Payload::Raw(body.into()),
    }
}

fn body(n: u64) -> Bytes {
    format!("transaction {n} sets /a/b to {}", n * n).into_bytes().into()
}

async fn append(
    repository: &Repository,
    context: &Context,
    base: &SessionId,
    numbers: std::ops::Range<u64>,
) {
    let mut writer =
        repository.log_writer(&stream(), LogPayload::Raw, base, context).await.expect("writer");
    for n in numbers {
        assert_eq!(writer.append(raw(n, body(n)), Vec::new()).await.expect("append"), n + 1);
    }
}

async fn read(repository: &Repository, base: &SessionId) -> Result<Vec<LogBatch>> {
    repository.log_batches(&stream(), base).try_collect().await
}

fn expected(base: &SessionId, numbers: std::ops::Range<u64>) -> Vec<LogBatch> {
    let batch = |n| {
        let Batch { after, upto, first_at, last_at, .. } = raw(n, body(n));
        let body = LogBody::Raw(body(n));
        LogBatch { number: n + 1, base: base.clone(), after, upto, first_at, last_at, body }
    };
    numbers.map(batch).collect()
}

async fn count(repository: &Repository) -> usize {
    let log = repository.store().list("log").await.expect("list").len();
    log + repository.store().list("logseg").await.expect("list").len()
}

#[tokio::test]
async fn a_day_of_one_second_batches_is_read_through_few_objects() {
    let (repository, context, handles) = repository(&InMemory::new(), 1).await;
    let mut writer =
        repository.log_writer(&stream(), LogPayload::Raw, &base(1), &context).await.expect("open");
    for n in 0..86_400 {
        handles.clock.advance(Duration::from_secs(1));
        writer.append(raw(n, body(n)), Vec::new()).await.expect("append");
    }
    let before = repository.store().stats();
    let compacted = compact_log(&repository, &stream(), 32 << 20, &context).await.expect("compact");
    let after = repository.store().stats();
    assert_eq!(after.puts - before.puts, compacted.segments);
    assert_eq!(
        (count(&repository).await as u64, after.deletes),
        (86_400 + compacted.segments, before.deletes)
    );

    let before = repository.store().stats();
    let mut batches = repository.log_batches(&stream(), &base(1));
    let mut n = 0;
    while let Some(batch) = batches.try_next().await.expect("read") {
        assert_eq!((batch.number, &batch.body), (n + 1, &LogBody::Raw(body(n))));
        n += 1;
    }
    assert_eq!(n, 86_400);
    let gets = repository.store().stats().gets - before.gets;
    assert!(gets <= 200, "read through {gets} objects");

    let again = compact_log(&repository, &stream(), 32 << 20, &context).await.expect("compact");
    assert_eq!(again, Compacted::default(), "nothing is rewritten for nothing");
    let deleted = delete_compacted(&repository, &stream(), &context).await.expect("delete");
    let left = count(&repository).await;
    assert!(deleted > 86_000 && left <= 200, "{deleted} deleted, {left} left");
    let read: Vec<_> =
        repository.log_batch_stream(&stream(), &base(1)).try_collect().await.expect("read");
    assert_eq!((read.len(), read.last()), (86_400, Some(&raw(86_399, body(86_399)))));
    assert_eq!(
        repository.log_end(&stream()).await.expect("end").map(|end| end.number),
        Some(86_400)
    );
}

#[tokio::test]
async fn runs_begin_at_their_bases_and_writers_go_on_where_the_log_ends() {
    let (repository, context, _) = repository(&InMemory::new(), 2).await;
    assert_eq!(repository.log_end(&stream()).await.expect("none"), None);
    assert_eq!(read(&repository, &base(1)).await.expect("none"), []);
    append(&repository, &context, &base(1), 0..5).await;
    append(&repository, &context, &base(1), 5..8).await;
    append(&repository, &context, &base(2), 8..9).await;
    append(&repository, &context, &base(2), 9..12).await;
    assert_eq!(read(&repository, &base(1)).await.expect("read"), expected(&base(1), 0..8));
    assert_eq!(read(&repository, &base(2)).await.expect("read"), expected(&base(2), 8..12));
    assert_eq!(read(&repository, &base(3)).await.expect("none"), []);
    let end = repository.log_end(&stream()).await.expect("end").expect("some");
    assert_eq!((end.number, end.base, end.upto), (12, base(2), position(12)));
    assert_eq!(repository.logged_streams().await.expect("streams"), [stream()]);
    let runs = repository.log_runs(&stream()).await.expect("runs");
    let run = |n, first, last| LogRun { base: base(n), first, last };
    assert_eq!(runs, [run(1, 1, Some(8)), run(2, 9, None)]);
}

#[tokio::test]
async fn contenders_find_each_other_out_and_a_repeated_append_is_one() {
    let (repository, context, _) = repository(&InMemory::new(), 3).await;
    let open = async || {
        repository.log_writer(&stream(), LogPayload::Raw, &base(1), &context).await.expect("open")
    };
    let (mut first, mut second) = (open().await, open().await);
    first.append(raw(0, "mine"), Vec::new()).await.expect("append");
    let error = second.append(raw(0, "yours"), Vec::new()).await.expect_err("contest");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // The same batch again: an answer that was lost.
    assert_eq!(second.append(raw(0, "mine"), Vec::new()).await.expect("again"), 1);
    let error = first.append(raw(7, "gap"), Vec::new()).await.expect_err("a gap");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let changes = Batch { payload: Payload::Changes(Vec::new()), ..raw(1, "") };
    let error = first.append(changes, Vec::new()).await.expect_err("another payload");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = first.append(raw(1, "x"), vec![Vec::new()]).await.expect_err("no contents");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // Another base at the same place: who loses the contest leaves no trace.
    let mut other =
        repository.log_writer(&stream(), LogPayload::Raw, &base(2), &context).await.expect("open");
    first.append(raw(1, "mine"), Vec::new()).await.expect("append");
    let error = other.append(raw(1, "yours"), Vec::new()).await.expect_err("contest");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(read(&repository, &base(2)).await.expect("read"), []);
    assert_eq!(read(&repository, &base(1)).await.expect("read").len(), 2);
    let run = LogRun { base: base(1), first: 1, last: None };
    assert_eq!(repository.log_runs(&stream()).await.expect("runs"), std::slice::from_ref(&run));
    // Who died with its first batch: the run is known by it, and noted by the next writer.
    let noted = repository.store().list("logrun").await.expect("list");
    repository.store().delete(&noted[0].path).await.expect("as if never written");
    assert_eq!(repository.log_runs(&stream()).await.expect("runs"), [run]);
    open().await;
    assert_eq!(repository.store().list("logrun").await.expect("list").len(), 1);
}

#[tokio::test]
async fn a_log_that_ends_before_its_trim_goes_on_behind_it() {
    let (repository, context, _) = repository(&InMemory::new(), 14).await;
    append(&repository, &context, &base(1), 0..20).await;
    trim_log(&repository, &stream(), 15, &context).await.expect("trim");
    // As in a copy that broke off.
    for object in repository.store().list("log").await.expect("list").into_iter().take(17) {
        repository.store().delete(&object.path).await.expect("delete");
    }
    let writer = async |base: &SessionId| {
        let writer = repository.log_writer(&stream(), LogPayload::Raw, base, &context).await;
        writer.expect("writer")
    };
    let mut same = writer(&base(1)).await;
    assert_eq!(same.end().map(|end| end.number), Some(3));
    let error = same.append(raw(3, "lost"), Vec::new()).await.expect_err("a gap in a run");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let mut other = writer(&base(2)).await;
    for n in 14..16 {
        assert_eq!(other.append(raw(n, body(n)), Vec::new()).await.expect("append"), n + 1);
    }
    assert_eq!(read(&repository, &base(2)).await.expect("read"), expected(&base(2), 14..16));
    delete_trimmed(&repository, &stream(), &context).await.expect("delete");
    assert_eq!(read(&repository, &base(2)).await.expect("read"), expected(&base(2), 14..16));
}

#[tokio::test]
async fn what_is_trimmed_is_gone_and_the_rest_goes_on() {
    let (repository, context, _) = repository(&InMemory::new(), 4).await;
    append(&repository, &context, &base(1), 0..50).await;
    append(&repository, &context, &base(2), 50..100).await;
    let bases = async || {
        let bases = repository.referenced_bases(&stream()).await.expect("bases");
        bases.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(bases().await, [base(1), base(2)]);
    let error = trim_log(&repository, &stream(), 102, &context).await.expect_err("behind the end");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    compact_log(&repository, &stream(), 1 << 20, &context).await.expect("compact");
    for oldest in [40, 40, 20] {
        trim_log(&repository, &stream(), oldest, &context).await.expect("trim");
        assert_eq!(repository.log_begin(&stream()).await.expect("begin"), Some(40));
    }
    assert_eq!(bases().await.len(), 2);
    let error = read(&repository, &base(1)).await.expect_err("trimmed");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    trim_log(&repository, &stream(), 51, &context).await.expect("trim");
    assert_eq!(bases().await, [base(2)]);
    delete_trimmed(&repository, &stream(), &context).await.expect("delete");
    let catalogue = Catalogue::list(&repository, &stream(), 0).await.expect("list");
    assert_eq!(catalogue.batches.keys().next(), Some(&51));
    assert_eq!(read(&repository, &base(2)).await.expect("read"), expected(&base(2), 50..100));
    assert_eq!(repository.log_runs(&stream()).await.expect("runs").len(), 1);
    // All of it: the end stays known.
    trim_log(&repository, &stream(), 101, &context).await.expect("trim");
    delete_trimmed(&repository, &stream(), &context).await.expect("delete");
    append(&repository, &context, &base(2), 100..101).await;
}

#[tokio::test]
async fn damage_is_found_and_a_damaged_segment_is_passed_by() {
    let objects = InMemory::new();
    let (repository, context, _) = repository(&objects, 5).await;
    append(&repository, &context, &base(1), 0..40).await;
    let place = |n| Path::from(record::batch_path(&stream(), n).expect("path"));
    let get =
        async |place: &Path| objects.get(place).await.expect("get").bytes().await.expect("bytes");
    let kind = async || read(&repository, &base(1)).await.map_err(|error: Error| error.kind());
    let (seventh, eighth) = (get(&place(7)).await, get(&place(8)).await);
    objects.delete(&place(7)).await.expect("remove");
    assert_eq!(kind().await, Err(ErrorKind::Corrupt));
    objects.put(&place(7), eighth.into()).await.expect("swap");
    assert_eq!(kind().await, Err(ErrorKind::Corrupt));
    // Sealed by somebody who holds the key, but not what the next one is linked to.
    let header = Header {
        number: 7,
        previous: Some(*blake3::hash(&get(&place(6)).await).as_bytes()),
        base: base(1),
        run_first: 1,
        after: position(6),
        upto: position(7),
        first_at: Timestamp::default(),
        last_at: Timestamp::default(),
        payload: LogPayload::Raw,
        parts: Vec::new(),
    };
    let path = record::batch_path(&stream(), 7).expect("path");
    let forged = record::seal_batch(repository.keys(), &path, &header, b"forged").expect("seal");
    objects.put(&place(7), forged.into()).await.expect("exchange");
    assert_eq!(kind().await, Err(ErrorKind::Corrupt));
    objects.put(&place(7), seventh.into()).await.expect("heal");
    assert_eq!(kind().await, Ok(expected(&base(1), 0..40)));

    compact_log(&repository, &stream(), 1 << 20, &context).await.expect("compact");
    let listed = repository.store().list("logseg").await.expect("list");
    let [segment] = &listed[..] else { panic!("{listed:?}") };
    let place = Path::from(&segment.path[..]);
    let mut damaged = get(&place).await.to_vec();
    damaged[60] ^= 1;
    objects.put(&place, damaged.into()).await.expect("damage");
    assert_eq!(kind().await, Ok(expected(&base(1), 0..40)));
    assert_eq!(delete_compacted(&repository, &stream(), &context).await.expect("delete"), 0);
    for n in 1..=32 {
        objects
            .delete(&Path::from(record::batch_path(&stream(), n).expect("path")))
            .await
            .expect("remove");
    }
    assert_eq!(kind().await, Err(ErrorKind::Corrupt));
}

#[tokio::test]
async fn a_reader_goes_on_where_batches_were_compacted_meanwhile() {
    let (repository, context, _) = repository(&InMemory::new(), 6).await;
    append(&repository, &context, &base(1), 0..200).await;
    let mut batches = repository.log_batches(&stream(), &base(1));
    for n in 0..3 {
        assert_eq!(batches.try_next().await.expect("read").map(|b| b.number), Some(n + 1));
    }
    compact_log(&repository, &stream(), 1 << 20, &context).await.expect("compact");
    assert_eq!(delete_compacted(&repository, &stream(), &context).await.expect("delete"), 192);
    let rest: Vec<_> = batches.try_collect().await.expect("read");
    assert_eq!(rest, expected(&base(1), 3..200));
}

#[tokio::test]
async fn a_large_batch_has_parts_and_is_left_alone() {
    let (repository, context, _) = repository(&InMemory::new(), 7).await;
    let mut writer =
        repository.log_writer(&stream(), LogPayload::Raw, &base(1), &context).await.expect("open");
    let large = vec![7_u8; 2 * LOG_PART_BYTES_MAX + 5];
    writer.append(raw(0, body(0)), Vec::new()).await.expect("append");
    writer.append(raw(1, large.clone()), Vec::new()).await.expect("append");
    writer.append(raw(2, body(2)), Vec::new()).await.expect("append");
    assert_eq!(
        repository.store().list("log").await.expect("list").len(),
        3 + 1,
        "equal parts are one"
    );
    let read = read(&repository, &base(1)).await.expect("read");
    assert_eq!(read[1].body, LogBody::Raw(large.into()));
    assert_eq!(read.len(), 3);
    let compacted = compact_log(&repository, &stream(), 1 << 20, &context).await.expect("compact");
    assert_eq!(compacted, Compacted::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the objects, the batches are those that were appended.
    #[test]
    fn no_order_of_appends_compactions_and_deletions_loses_a_batch(
        steps in prop::collection::vec((0..4_u8, 1..80_u64), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let (repository, context, _) = repository(&InMemory::new(), 8).await;
            let (mut next, mut run) = (0, 1);
            let mut runs = std::collections::BTreeMap::new();
            for (step, n) in steps {
                match step {
                    0 => {
                        append(&repository, &context, &base(run), next..next + n).await;
                        runs.entry(run).or_insert(next..next).end = next + n;
                        next += n;
                    }
                    1 => {
                        compact_log(&repository, &stream(), n << 10, &context).await.expect("compact");
                    }
                    2 => {
                        delete_compacted(&repository, &stream(), &context).await.expect("delete");
                    }
                    _ if runs.contains_key(&run) => run += 1,
                    _ => {}
                }
            }
            for (run, numbers) in runs {
                let found = read(&repository, &base(run)).await.expect("read");
                assert_eq!(found, expected(&base(run), numbers));
            }
            let end = repository.log_end(&stream()).await.expect("end");
            assert_eq!(end.map_or(0, |end| end.number), next);
        });
    }

    #[test]
    fn hostile_bodies_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = changes::decode(&Bytes::from(bytes.clone()));
        let keys = ring(1);
        let seal = |kind, path: &str| {
            crate::format::envelope::seal_object(&keys, kind, path, &bytes).expect("seal")
        };
        use crate::format::ObjectType::{LogBatch, LogSegment};
        let _ = record::open_batch(&keys, "log/x", &seal(LogBatch, "log/x"));
        let _ = record::open_part(&keys, "log/y", &[0; 32], &seal(LogBatch, "log/y"));
        let _ = record::open_segment(&keys, "logseg/x", (1, 2), &seal(LogSegment, "logseg/x"));
    }

    #[test]
    fn changes_survive_and_cut_bytes_do_not(seed in any::<u64>(), cut in any::<prop::sample::Index>()) {
        let changes = all_shapes(seed);
        let mut encoded = Vec::new();
        for (change, contents) in &changes {
            changes::encode(change, contents, &mut encoded).expect("encode");
        }
        prop_assert_eq!(changes::decode(&Bytes::from(encoded.clone())), Some(changes.clone()));
        encoded.truncate(cut.index(encoded.len()));
        prop_assert!(changes::decode(&Bytes::from(encoded)) != Some(changes));
    }
}

fn all_shapes(seed: u64) -> Vec<(Change, Vec<Bytes>)> {
    let key = |text: &str| ItemKey::from_components(text.split('/')).expect("key");
    let body = ExtentBody::Data {
        identity: Some(ExtentIdentity(Bytes::from_static(b"blk"))),
        checksums: Some(StripeChecksums { stripe_bytes: 512, crc32c: vec![1, 2] }),
    };
    let item = Item {
        key: key("a/b"),
        kind: ItemKind::File,
        attributes: Attributes::builder().unsigned(model::AttributeTag::MODE, 0o644).build(),
        version: Some(Version(seed.to_le_bytes().to_vec().into())),
        extents: vec![Extent::data(3), Extent::hole(9), Extent { length_bytes: 2, body }],
    };
    let contents = vec![Bytes::from_static(b"xyz"), Bytes::from_static(b"uv")];
    vec![
        (Change::Upsert(item), contents),
        (Change::Delete(key("c")), Vec::new()),
        (Change::Move { from: key("d"), to: key("e/f") }, Vec::new()),
    ]
}

#[test]
fn golden_bytes() {
    let keys = ring(1);
    let mut body = Vec::new();
    for (change, contents) in all_shapes(1) {
        changes::encode(&change, &contents, &mut body).expect("encode");
    }
    let header = Header {
        number: 2,
        previous: Some([3; 32]),
        base: base(1),
        run_first: 1,
        after: position(1),
        upto: position(2),
        first_at: Timestamp::from_unix_seconds(1_764_000_000),
        last_at: Timestamp::from_unix_seconds(1_764_000_001),
        payload: LogPayload::Changes,
        parts: Vec::new(),
    };
    let path = record::batch_path(&stream(), 2).expect("path");
    let object = record::seal_batch(&keys, &path, &header, &body).expect("seal");
    let (read, last) = record::open_batch(&keys, &path, &object).expect("open");
    assert_eq!((read, &last[..]), (header.clone(), &body[..]));
    let stored = record::Stored { header, hash: [4; 32], body: body.clone().into() };
    let segment = record::encode_segment(vec![stored]);
    let name = super::catalogue::Segment::new(&stream(), 2, 2, segment.len()).expect("name");
    let sealed = record::seal_segment(&keys, &name.path, &segment).expect("seal");
    let opened = record::open_segment(&keys, &name.path, (2, 2), &sealed).expect("open");
    assert_eq!(opened.len(), 1);
    assert_eq!(
        [
            hex(&body).as_str(),
            blake3::hash(&object).to_hex().as_str(),
            &name.path,
            blake3::hash(&sealed).to_hex().as_str(),
        ],
        [
            "010361006202090100000000000000040102a40103010378797a00090703626c6b800402010000000200000002757602016303016403650066",
            "010c365682ad9fcb03e4d7b015d7aa7cda5b1fcade8926830ee095919c819c45",
            "logseg/prod.etc/4189374b/fffffffffd-fffffffffd-08",
            "b0104e32efe77253f1cac70e03ee2cb576b271d8a0c44483c0a1108502f3b090"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_its_log_are_a_state_at_any_time() {
    let (repository, context, _) = repository(&InMemory::new(), 9).await;
    let options = crate::session::SessionOptions {
        kind: "files".to_owned(),
        domain: String::new(),
        host: "host".to_owned(),
        ignore_parent: false,
    };
    let session = crate::session::Session::begin(&repository, &stream(), options, &context)
        .await
        .expect("begin");
    let start = Timestamp::from_unix_seconds(1_764_000_000);
    let draft = crate::session::Draft {
        position: position(0),
        cut_from: start,
        cut_to: start,
        source_time: Some(start),
        extent_epoch: model::Epoch(0),
        proof: model::Proof::default(),
        problems: 0,
    };
    let empty =
        crate::types::Root { node: None, height: 0, totals: crate::types::Totals::default() };
    let snapshot = session.commit(empty, draft).await.expect("commit");
    let covered = async || repository.covered_upto(&stream()).await.expect("covered");
    assert_eq!(covered().await, Some(start));
    let mut writer = repository
        .log_writer(&stream(), LogPayload::Changes, &snapshot.id, &context)
        .await
        .expect("writer");
    let (changes, contents): (Vec<_>, Vec<_>) = all_shapes(1).into_iter().unzip();
    let batch = Batch { payload: Payload::Changes(changes), ..raw(0, "") };
    writer.append(batch.clone(), contents).await.expect("append");
    assert_eq!(covered().await, Some(batch.last_at));
    let idle = crate::heartbeat::Idle {
        stream: stream(),
        position: batch.upto.clone(),
        as_of: batch.last_at.saturating_add(Duration::from_secs(30)),
    };
    repository.beat(vec![idle.clone()], &context).await.expect("beat");
    assert_eq!(covered().await, Some(idle.as_of));

    let open =
        async |upto| LoggedTree::open(&repository, &snapshot, upto, &context).await.expect("open");
    let before = open(start).await;
    assert_eq!((before.stands_at(), before.tree().root().totals.items), ((start, &position(0)), 0));
    let after = open(batch.last_at).await;
    assert_eq!(after.stands_at(), (batch.last_at, &position(1)));
    let key = ItemKey::from_components(["a", "b"]).expect("key");
    let Some(LoggedRecord::Logged(item, contents)) = after.get(&key).await.expect("get") else {
        panic!("not logged");
    };
    assert_eq!((item.content_bytes(), contents.len()), (14, 2));
    let bases = repository.referenced_bases(&stream()).await.expect("bases");
    assert!(bases.contains(&snapshot.id));
}
