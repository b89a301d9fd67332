//! Points against a naive model, chains against damage, and round trips counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{Context, ErrorKind, Position, Timestamp};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use proptest::prelude::*;
use testkit::{Handles, SeededEntropy};

use super::record::{self, Seal};
use super::*;
use crate::crypto::testing::ring;
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::hold::Holds;
use crate::mark::MarkKind;
use crate::store::Store;
use crate::{CreateOptions, OpenOptions, Repository};

fn site() -> SiteName {
    "prod".parse().expect("site")
}

fn entry(system: &str, freshness: Freshness, from: i64, to: i64) -> PointEntry {
    let is_missing = matches!(freshness, Freshness::Missing(_));
    let session = SessionId {
        stream: format!("prod.{system}").parse().expect("stream"),
        number: Number::new(7).expect("number"),
        random: [9; 8],
    };
    PointEntry {
        system: system.parse().expect("system"),
        kind: "files".to_owned(),
        freshness,
        snapshot: (!is_missing).then_some(session),
        position: (!is_missing).then(|| Position(Bytes::from_static(b"\x01\x02"))),
        cut_from: Timestamp::from_unix_seconds(from),
        cut_to: Timestamp::from_unix_seconds(to),
        items: 12,
        content_bytes: 34,
        problems: 1,
    }
}

fn draft() -> PointDraft {
    PointDraft {
        entries: vec![
            entry("etc", Freshness::Fresh, 100, 110),
            entry("zk", Freshness::Carried, 50, 200),
        ],
        lacks: Vec::new(),
        checks: vec!["edge held".to_owned()],
        clocks: Vec::new(),
    }
}

async fn repository(objects: &InMemory, seed: u64) -> (Repository, Context, Handles) {
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

#[test]
fn golden_bytes() {
    let keys = ring(1);
    let number = Number::new(2).expect("number");
    let id = PointId { site: site(), chain: [3; 16], number };
    let seal = Seal {
        coordinator_epoch: 4,
        previous: Some([5; 32]),
        sealed: Timestamp::from_unix_seconds(1_764_000_000),
        store_time: Some(Timestamp::from_unix_seconds(1_764_000_001)),
    };
    let mut golden = draft();
    golden.entries.push(entry("zz", Freshness::Missing("down".to_owned()), 0, 0));
    golden.lacks.push("zz".to_owned());
    let (point, object, hash) = record::encode(&keys, id.clone(), golden, &seal).expect("encode");
    assert_eq!(id.path(), "prod/03030303030303030303030303030303/4189374b/fffffffffd");
    assert_eq!(id.short(), "88e882c9d1dbdacc76fb93ff40bb69f3");
    assert_eq!(
        [blake3::hash(&object).to_hex().as_str(), &hex(&hash)],
        [
            "5d1992246c755432eebd86e307561935d7c09d480b8bc4d38f3602a3abfffad2",
            "c6b47343e192fddd7b57193421e34ffb5823191cd1a59a8ddde8cc1fd12727fb"
        ]
    );
    let (opened, unverified) = record::open(&keys, &id, &object).expect("open");
    let signed = unverified.verify(&keys.signer().public_key()).expect("verify");
    let (header, read) = opened.read(&signed).expect("read");
    assert_eq!(read, point);
    assert_eq!((header.hash, header.previous), (hash, Some([5; 32])));
    assert_eq!((header.coordinator_epoch, header.systems, header.is_complete), (4, 3, false));
    // The readings that were made for the point decide, not the one that was carried over.
    assert_eq!(point.cut_from, Timestamp::from_unix_seconds(100));
    assert_eq!(point.cut_to, Timestamp::from_unix_seconds(110));
}

#[test]
fn ids_are_read_back_and_others_refused() {
    let id = PointId { site: site(), chain: [0xab; 16], number: Number::new(1).expect("number") };
    assert_eq!(PointId::from_path(&id.path()), Some(id.clone()));
    let other = PointId { number: Number::new(2).expect("number"), ..id.clone() };
    assert_ne!(id.short(), other.short());
    for bad in [
        "prod/ab/4189374b/fffffffffe",
        "prod/abababababababababababababababab/4189374a/fffffffffe",
        "PROD/abababababababababababababababab/4189374b/fffffffffe",
        "prod/abababababababababababababababab/4189374b/fffffffffe/x",
    ] {
        assert_eq!(PointId::from_path(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn points_come_back_newest_first_from_all_chains() {
    let (repository, context, handles) = repository(&InMemory::new(), 1).await;
    let sealers = [repository.point_sealer(&site()), repository.point_sealer(&site()).of_epoch(3)];
    let mut sealed = Vec::new();
    for n in 0..7 {
        handles.clock.advance(Duration::from_secs(5));
        let point = sealers[n % 2].seal(draft(), &context).await.expect("seal");
        assert_eq!(point.id.number.get(), n as u64 / 2 + 1);
        sealed.push(point);
    }
    handles.clock.advance(Duration::from_secs(5));
    sealed.push(repository.seal_point(&site(), draft(), &context).await.expect("seal"));
    sealed.reverse();
    assert_eq!(repository.newest_points(&site(), 3).await.expect("newest"), sealed[..3]);
    assert_eq!(repository.newest_points(&site(), 100).await.expect("newest"), sealed);
    let all: Vec<_> = repository.all_points(&site()).try_collect().await.expect("all");
    assert_eq!(all, sealed);
    let other = "stage".parse().expect("site");
    assert_eq!(repository.newest_points(&other, 3).await.expect("none"), []);
    assert_eq!(repository.sites().await.expect("sites"), [site()]);
    assert_eq!(repository.chains(&site()).await.expect("chains").len(), 3);
    for point in &sealed {
        assert_eq!(repository.point(&point.id).await.expect("point"), *point);
        let short = point.id.short();
        let found = repository.find_points(&short[..12]).await.expect("find");
        assert_eq!(found, std::slice::from_ref(point));
    }
    let error = repository.find_points("x'").await.expect_err("no digits");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn clocks_that_disagree_make_a_point_suspect() {
    let (repository, context, handles) = repository(&InMemory::new(), 2).await;
    let sealer = repository.point_sealer(&site());
    let point = sealer.seal(draft(), &context).await.expect("seal");
    assert!(point.is_clock_suspect, "the store's clock is real, the writer's is not");
    handles.clock.set(repository.store().now().await.expect("now"));
    let now = context.clock.now();
    let reading = |source: i64| ClockReading {
        writer: now,
        source: Some(now.saturating_add(Duration::from_secs(source.unsigned_abs()))),
        store: None,
    };
    for (clocks, expected) in
        [(vec![], false), (vec![reading(59)], false), (vec![reading(0), reading(62)], true)]
    {
        let point = sealer.seal(PointDraft { clocks, ..draft() }, &context).await.expect("seal");
        assert_eq!(point.is_clock_suspect, expected);
        assert_eq!(repository.point(&point.id).await.expect("point"), point);
    }
}

#[tokio::test]
async fn drafts_that_make_no_sense_are_refused() {
    let (repository, context, _) = repository(&InMemory::new(), 3).await;
    let missing = entry("zz", Freshness::Missing("down".to_owned()), 0, 0);
    let twice = vec![entry("a", Freshness::Fresh, 1, 2), entry("a", Freshness::Carried, 1, 2)];
    let stateless = PointEntry { snapshot: None, ..entry("a", Freshness::Fresh, 1, 2) };
    for entries in [twice, vec![missing], vec![stateless]] {
        let draft = PointDraft { entries, ..PointDraft::default() };
        let error = repository.seal_point(&site(), draft, &context).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn what_is_forgotten_leaves_its_header_and_what_is_pinned_stays() {
    let (repository, context, handles) = repository(&InMemory::new(), 4).await;
    let sealer = repository.point_sealer(&site());
    let mut points = Vec::new();
    for _ in 0..4 {
        handles.clock.advance(Duration::from_secs(5));
        points.push(sealer.seal(draft(), &context).await.expect("seal"));
    }
    let (pinned, gone) = (&points[1].id, &points[2].id);
    repository.set_mark(pinned, MarkKind::Pin, "audit", &context).await.expect("pin");
    let error = repository.forget_point(pinned, &context).await.expect_err("pinned");
    assert_eq!(error.kind(), ErrorKind::Denied);
    let error =
        repository.delete_point_body(gone, &Holds::default()).await.expect_err("not forgotten");
    assert_eq!(error.kind(), ErrorKind::Denied);

    repository.forget_point(gone, &context).await.expect("forget");
    handles.clock.advance(Duration::from_secs(5));
    repository.forget_point(gone, &context).await.expect("twice is once");
    assert!(repository.is_point_forgotten(gone).await.expect("forgotten"));
    let left: Vec<_> = [3, 1, 0].map(|n: usize| points[n].clone()).into();
    assert_eq!(repository.newest_points(&site(), 3).await.expect("newest"), left);
    let all: Vec<_> = repository.all_points(&site()).try_collect().await.expect("all");
    assert_eq!(all, left);
    assert_eq!(repository.find_points(&gone.short()).await.expect("find"), []);
    let error = repository.set_mark(gone, MarkKind::Pin, "", &context).await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let chain = gone.chain;
    let before = repository.point_header(gone).await.expect("header");
    for _ in 0..2 {
        repository.delete_point_body(gone, &Holds::default()).await.expect("delete body");
        let error = repository.point(gone).await.expect_err("deleted");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(repository.point_header(gone).await.expect("header"), before);
        let report = repository.check_chain(&site(), chain).await.expect("check");
        assert!(report.is_sound() && (report.points, report.headers) == (3, 1), "{report:?}");
    }
    let nobody = PointId { chain: [0; 16], ..gone.clone() };
    let error = repository.forget_point(&nobody, &context).await.expect_err("no such point");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn damage_of_a_chain_is_found() {
    let objects = InMemory::new();
    let (repository, context, _) = repository(&objects, 5).await;
    let sealer = repository.point_sealer(&site());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(sealer.seal(draft(), &context).await.expect("seal").id);
    }
    let chain = ids[0].chain;
    let place = |n: usize| Path::from(ids[n].object_path());
    let get =
        async |n: usize| objects.get(&place(n)).await.expect("get").bytes().await.expect("bytes");
    let (second, third) = (get(1).await, get(2).await);
    let check = async || repository.check_chain(&site(), chain).await.expect("check");
    assert!(check().await.is_sound());

    objects.delete(&place(2)).await.expect("remove");
    let report = check().await;
    assert_eq!((report.gaps, report.broken.len(), report.unreadable.len()), (vec![3..=3], 0, 0));

    objects.put(&place(2), second.clone().into()).await.expect("swap");
    objects.put(&place(1), third.clone().into()).await.expect("swap");
    let report = check().await;
    let named: Vec<_> = report.unreadable.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!((report.gaps.len(), named), (0, ids[1..3].to_vec()));
    let error = repository.newest_points(&site(), 5).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let surveyed = repository.survey_points(&site(), 5).await.expect("survey");
    assert_eq!((surveyed.points.len(), surveyed.unreadable.len()), (3, 2));

    // Whoever can seal but exchanges a point cannot make the next one fit.
    objects.put(&place(1), second.into()).await.expect("restore");
    let seal = Seal {
        coordinator_epoch: 0,
        previous: Some(repository.point_header(&ids[1]).await.expect("header").hash),
        sealed: context.clock.now(),
        store_time: None,
    };
    let (_, forged, _) =
        record::encode(repository.keys(), ids[2].clone(), draft(), &seal).expect("encode");
    objects.put(&place(2), forged.into()).await.expect("exchange");
    let report = check().await;
    assert_eq!(report.broken, [ids[3].clone()]);
    assert_eq!((report.points, report.unreadable.len()), (5, 0));
}

#[tokio::test]
async fn no_bit_of_a_point_can_be_flipped_unseen() {
    let objects = InMemory::new();
    let (repository, context, _) = repository(&objects, 6).await;
    let id = repository.seal_point(&site(), draft(), &context).await.expect("seal").id;
    let place = Path::from(id.object_path());
    let whole = objects.get(&place).await.expect("get").bytes().await.expect("bytes");
    for bit in (0..8 * whole.len()).step_by(7) {
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        objects.put(&place, flipped.into()).await.expect("put");
        let kind = repository.point(&id).await.expect_err("flipped").kind();
        let expected = [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::WrongKey];
        assert!(expected.contains(&kind), "bit {bit}: {kind:?}");
    }
}

/// Counts how deep the requests of one call depend on each other: a request that begins while others
/// are under way belongs to their wave.
#[derive(Debug, Default)]
struct Waves {
    under_way: AtomicUsize,
    waves: AtomicUsize,
}

impl Waves {
    async fn pass(&self) {
        if self.under_way.fetch_add(1, Ordering::SeqCst) == 0 {
            self.waves.fetch_add(1, Ordering::SeqCst);
        }
        // Others of the same wave begin before the first of them ends.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Remote {
    inner: InMemory,
    waves: Arc<Waves>,
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("remote")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Remote {
    async fn put_opts(
        &self,
        location: &Path,
        payload: object_store::PutPayload,
        options: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.waves.pass().await;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.waves.pass().await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        use futures::StreamExt as _;
        let (waves, listing) = (Arc::clone(&self.waves), self.inner.list(prefix));
        futures::stream::once(async move {
            waves.pass().await;
            listing
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.waves.pass().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Puts `points` points into each of `chains` chains without the cost of sealing them one by one.
async fn fill(repository: &Repository, objects: &InMemory, chains: u16, points: u64) {
    for chain in 0..chains {
        let mut id = [7; 16];
        id[..2].copy_from_slice(&chain.to_be_bytes());
        let mut previous = None;
        for number in 1..=points {
            let number = Number::new(number).expect("number");
            let id = PointId { site: site(), chain: id, number };
            let path = Path::from(id.object_path());
            // What is old is listed and never read.
            if number.get() + 200 < points {
                objects.put(&path, Bytes::new().into()).await.expect("put");
                continue;
            }
            let sealed = Timestamp::from_unix_seconds(
                1_000_000 * (i64::from(chain) + 1) + number.get() as i64,
            );
            let seal = Seal { coordinator_epoch: 0, previous, sealed, store_time: None };
            let encoded = record::encode(repository.keys(), id, draft(), &seal).expect("encode");
            previous = Some(encoded.2);
            objects.put(&path, encoded.1.into()).await.expect("put");
        }
    }
}

async fn round_trips(chains: u16, points: u64, forgets: bool) -> usize {
    let objects = InMemory::new();
    let (first, context, _) = repository(&objects, 7).await;
    fill(&first, &objects, chains, points).await;
    let newest = first.newest_points(&site(), 1).await.expect("newest");
    if forgets {
        first.forget_point(&newest[0].id, &context).await.expect("forget");
    }
    let waves = Arc::new(Waves::default());
    let remote = Remote { inner: objects, waves: Arc::clone(&waves) };
    let store = Store::new(Arc::new(remote), "remote", &context);
    let key = KeyFile::generate(&SeededEntropy::new(7));
    let other = KeyFile::generate(&SeededEntropy::new(77));
    // Another writer reads, so that a certificate has to be fetched.
    first
        .add_slot(&Unlock::KeyFile(other.clone()), PassphraseCost::LEAST, "other", &context)
        .await
        .expect("add slot");
    drop(key);
    let repository =
        Repository::open(store, &Unlock::KeyFile(other), OpenOptions::default(), &context)
            .await
            .expect("open");
    waves.waves.store(0, Ordering::SeqCst);
    let found = repository.newest_points(&site(), 100).await.expect("newest");
    let before = usize::from(!forgets);
    assert_eq!(found.first().map(|point| point.id.number.get() + 1 - before as u64), Some(points));
    assert_eq!(found.len(), 100);
    waves.waves.load(Ordering::SeqCst)
}

#[tokio::test]
async fn the_newest_points_are_five_round_trips_away() {
    for (chains, points) in [(1, 100), (1, 1001), (1000, 3)] {
        let trips = round_trips(chains, points, false).await;
        assert!(trips <= 5, "{chains} chains of {points} points: {trips} round trips");
    }
}

#[tokio::test]
#[ignore = "the full tier runs it"]
async fn a_hundred_thousand_points_are_five_round_trips_away() {
    let trips = round_trips(1, 100_000, true).await;
    assert!(trips <= 5, "{trips} round trips");
}

proptest! {
    #[test]
    fn hostile_bodies_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let keys = ring(1);
        let id = PointId { site: site(), chain: [3; 16], number: Number::new(1).expect("number") };
        let (kind, path) = (crate::format::ObjectType::Point, id.object_path());
        let object = crate::format::envelope::seal_object(&keys, kind, &path, &bytes).expect("seal");
        prop_assert!(record::open(&keys, &id, &object).is_err());
        let signed = crate::format::envelope::SignedBody { writer: crate::types::WriterId([1; 16]), body: bytes };
        let _ = record::read_header(&id, [0; 32], &signed);
    }
}
