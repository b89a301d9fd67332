//! Damage to every object of a small repository, one at a time: what is found, and what it is said to
//! reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{
    Attributes, Batch, ContentClass, Epoch, ErrorKind, ItemKey, ItemKind, LogPayload, Payload,
    Position, Proof, Timestamp, Version,
};
use object_store::memory::InMemory;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use testkit::SeededEntropy;

use super::*;
use crate::crypto::{KeyFile, PassphraseCost, Unlock};
use crate::heartbeat::Idle;
use crate::mark::MarkKind;
use crate::point::{Freshness, PointDraft, PointEntry, PointSealer};
use crate::session::{Draft, Session, SessionOptions};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::tree::TreeBuilder;
use crate::types::{PackKind, Record, StoredBody, StoredChunk, StoredExtent, StreamName};
use crate::{CreateOptions, OpenOptions};

/// A repository with two snapshots that share most, one that is forgotten, and a point for each of the
/// two.
struct Fixture {
    objects: Arc<InMemory>,
    repository: Repository,
    context: Context,
    handles: testkit::Handles,
    sealer: PointSealer,
    points: Vec<PointId>,
    snapshots: Vec<Snapshot>,
}

/// One state: keys and contents.
type State = BTreeMap<&'static str, Vec<u8>>;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    model::Entropy::fill(&SeededEntropy::new(seed), &mut bytes);
    bytes
}

fn states() -> [State; 3] {
    let mut large = noise(1, 700_000);
    let first = State::from([
        ("a/one", b"one".to_vec()),
        ("a/two", noise(2, 3000)),
        ("b/large", large.clone()),
        ("b/log", b"a line of text\n".repeat(20_000)),
    ]);
    large[300_000..300_010].fill(7);
    let mut second = first.clone();
    second.insert("a/one", b"another".to_vec());
    second.insert("b/large", large);
    let gone = State::from([("gone", noise(3, 200_000))]);
    [first, second, gone]
}

fn stream() -> StreamName {
    "prod.etc".parse().expect("stream")
}

impl Fixture {
    async fn new() -> Self {
        Self::new_of(1).await
    }

    async fn new_of(seed: u64) -> Self {
        let (context, handles) = testkit::context(seed);
        let objects = Arc::new(InMemory::new());
        let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)));
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let store = Store::new(objects.clone(), "memory", &context);
        let repository = Repository::create(store, &unlock, options, &context).await;
        let repository = repository.expect("create");
        let sealer = repository.point_sealer(&stream().site);
        let mut fixture = Self {
            sealer,
            objects,
            repository,
            context,
            handles,
            points: Vec::new(),
            snapshots: Vec::new(),
        };
        let [first, second, gone] = states();
        for state in [first, second] {
            let snapshot = fixture.capture(&state).await;
            fixture.seal(&snapshot).await;
            fixture.snapshots.push(snapshot);
        }
        fixture.add_others(&gone).await;
        fixture
    }

    async fn begin(&self) -> Session {
        let options = SessionOptions {
            kind: "files".to_owned(),
            domain: String::new(),
            host: "h".to_owned(),
            ignore_parent: false,
        };
        let session = Session::begin(&self.repository, &stream(), options, &self.context).await;
        session.expect("begin")
    }

    async fn capture(&self, state: &State) -> Snapshot {
        let session = self.begin().await;
        let mut previous = BTreeMap::new();
        if let Some(tree) = session.parent_tree() {
            let items: Vec<_> = tree.range(..).try_collect().await.expect("parent");
            for (key, record) in items.concat_all() {
                previous.insert(key, record.chunks().cloned().collect::<Vec<_>>());
            }
        }
        let writer = session.writer().clone();
        let contents: Vec<_> =
            state.iter().map(|(k, c)| (key(k), Bytes::from(c.clone()))).collect();
        let stored = tokio::task::spawn_blocking(move || {
            let mut unit = writer.unit();
            let mut stored = Vec::new();
            for (key, content) in &contents {
                let before = previous.get(key).map_or(&[][..], Vec::as_slice);
                let ticket = if content.len() < 100_000 {
                    unit.whole(content.clone(), before)
                } else {
                    unit.begin(ContentClass::General, before);
                    unit.push(content.clone()).expect("push");
                    unit.end()
                };
                stored.push((key.clone(), content.len() as u64, ticket.expect("ticket")));
            }
            let chunks = unit.finish().expect("finish");
            stored
                .into_iter()
                .map(|(key, length, ticket)| (key, record(length, chunks[ticket.0].clone())))
                .collect::<Vec<_>>()
        });
        let mut builder = TreeBuilder::new(session.keys(), session.nodes());
        for (key, record) in stored.await.expect("stored") {
            builder.push(&key, record).expect("push");
        }
        let root = builder.finish().await.expect("finish");
        session.commit(root, draft()).await.expect("commit")
    }

    async fn seal(&mut self, snapshot: &Snapshot) {
        let entry = PointEntry {
            system: stream().system,
            kind: "files".to_owned(),
            freshness: Freshness::Fresh,
            snapshot: Some(snapshot.id.clone()),
            position: Some(draft().position),
            cut_from: draft().cut_from,
            cut_to: draft().cut_to,
            items: snapshot.root.totals.items,
            content_bytes: snapshot.root.totals.content_bytes,
            problems: 0,
        };
        let draft = PointDraft {
            entries: vec![entry],
            lacks: Vec::new(),
            checks: Vec::new(),
            clocks: Vec::new(),
        };
        let point = self.sealer.seal(draft, &self.context).await.expect("seal");
        self.points.push(point.id);
    }

    /// A forgotten snapshot, a forgotten point, a mark, a heartbeat, and something unknown.
    async fn add_others(&mut self, gone: &State) {
        let gone = self.capture(gone).await;
        self.seal(&gone).await;
        let point = self.points.pop().expect("point");
        self.repository.forget_point(&point, &self.context).await.expect("forget");
        self.repository.forget_snapshot(&gone.id, &self.context).await.expect("forget");
        for point in &self.points {
            let mark = self.repository.set_mark(point, MarkKind::Pin, "", &self.context).await;
            mark.expect("mark");
        }
        let idle = Idle {
            stream: stream(),
            position: draft().position,
            as_of: Timestamp::from_unix_seconds(3),
        };
        self.repository.beat(vec![idle], &self.context).await.expect("beat");
        self.log().await;
        self.put("notes/by/hand", Bytes::from_static(b"x")).await;
    }

    /// A log with a run over each snapshot: batches 1 and 2, and 3 to 5.
    async fn log(&self) {
        let mut position = 0_u64;
        for (snapshot, count) in self.snapshots.iter().zip([2, 3]) {
            let (repository, context) = (&self.repository, &self.context);
            let (stream, base) = (stream(), &snapshot.id);
            let writer = repository.log_writer(&stream, LogPayload::Raw, base, context).await;
            let mut writer = writer.expect("log");
            for _ in 0..count {
                let at = |n: u64| Position(n.to_be_bytes().to_vec().into());
                let batch = Batch {
                    after: at(position),
                    upto: at(position + 1),
                    first_at: Timestamp::from_unix_seconds(3),
                    last_at: Timestamp::from_unix_seconds(3),
                    payload: Payload::Raw(Bytes::from(noise(9, 500))),
                };
                writer.append(batch, Vec::new()).await.expect("append");
                position += 1;
            }
        }
    }

    async fn put(&self, path: &str, bytes: Bytes) {
        self.objects.put(&path.into(), bytes.into()).await.expect("put");
    }

    async fn get(&self, path: &str) -> Bytes {
        self.objects.get(&path.into()).await.expect("get").bytes().await.expect("bytes")
    }

    async fn paths(&self) -> Vec<String> {
        let listed: Vec<_> = self.objects.list(None).try_collect().await.expect("list");
        let mut paths: Vec<_> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
        paths.sort();
        paths
    }

    async fn verify(&self, depth: Depth) -> Report {
        let options = VerifyOptions { depth, named: 100 };
        verify(&self.repository, &options, &self.context).await.expect("verify")
    }

    /// Lists what items of the trees, which are single nodes, need: the kind of pack, the place.
    async fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        for (snapshot, point) in self.snapshots.iter().zip(&self.points) {
            let tree = self.repository.tree(snapshot).expect("tree");
            let batches: Vec<_> = tree.range(..).try_collect().await.expect("read");
            let root = snapshot.root.node.as_ref().and_then(|(_, place)| place.location());
            for (key, record) in batches.concat_all() {
                let chunks =
                    record.chunks().flat_map(|chunk| std::iter::once(chunk).chain(&chunk.bases));
                let places = chunks.filter_map(|chunk| chunk.place.location());
                let places = places.map(|place| (PackKind::Data, place));
                let root = root.map(|place| (PackKind::Meta, place));
                for (kind, place) in places.chain(root) {
                    let path = crate::pack::pack_path(kind, place.pack);
                    let start = place.block_offset as usize;
                    let block = start..start + place.block_length as usize;
                    let (key, point) = (key.display(), point.clone());
                    needs.push(Need { path, block, key, point });
                }
            }
        }
        needs
    }
}

/// An item of a point needs a block of a pack.
struct Need {
    path: String,
    block: std::ops::Range<usize>,
    key: String,
    point: PointId,
}

/// What a harm to an object reaches, if it is a pack.
fn reached(
    needs: &[Need],
    path: &str,
    length: usize,
    harm: Harm,
) -> (BTreeSet<String>, BTreeSet<PointId>) {
    let is_lost = |need: &&Need| {
        need.path == path
            && match harm {
                Harm::Remove | Harm::Swap => true,
                Harm::Truncate => need.block.end > length / 2,
                Harm::Flip => need.block.contains(&(length / 2)),
            }
    };
    let lost: Vec<_> = needs.iter().filter(is_lost).collect();
    let keys = lost.iter().map(|need| need.key.clone()).collect();
    (keys, lost.iter().map(|need| need.point.clone()).collect())
}

trait ConcatAll {
    fn concat_all(self) -> Vec<(ItemKey, Record)>;
}

impl ConcatAll for Vec<Vec<(ItemKey, Record)>> {
    fn concat_all(self) -> Vec<(ItemKey, Record)> {
        self.into_iter().flatten().collect()
    }
}

fn key(path: &str) -> ItemKey {
    ItemKey::from_components(path.split('/')).expect("key")
}

fn record(length_bytes: u64, chunks: Vec<StoredChunk>) -> Record {
    let body =
        StoredBody::Data { identity: None, checksums: None, class: ContentClass::General, chunks };
    Record {
        kind: ItemKind::File,
        attributes: Attributes::default(),
        version: None,
        extents: vec![StoredExtent { length_bytes, body }],
    }
}

fn draft() -> Draft {
    Draft {
        position: Position(Bytes::from_static(b"here")),
        cut_from: Timestamp::from_unix_seconds(1),
        cut_to: Timestamp::from_unix_seconds(2),
        source_time: None,
        extent_epoch: Epoch(0),
        proof: Proof { method: "walk".to_owned(), claims: Vec::new() },
        problems: 0,
    }
}

fn objects(report: &Report) -> Vec<&str> {
    report.damage.iter().map(|damage| damage.object.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_repository_has_no_damage() {
    let fixture = Fixture::new().await;
    let count = fixture.paths().await.len() as u64;
    for depth in [Depth::Structure, Depth::Sample(0.5), Depth::Deep] {
        let report = fixture.verify(depth).await;
        assert_eq!(report.damage, []);
        assert_eq!((report.snapshots, report.points, report.unknown_objects), (2, 2, 1));
        assert_eq!(report.objects, count - 1, "{depth:?}");
        // Two snapshots of four items whose only leaf differs.
        assert_eq!(report.items, 8);
    }
    let deep = fixture.verify(Depth::Deep).await;
    assert!(deep.read_bytes > 800_000, "{}", deep.read_bytes);
    assert!(fixture.verify(Depth::Structure).await.read_bytes < deep.read_bytes / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_deltas_to_be_checked() {
    let fixture = Fixture::new().await;
    let tree = fixture.repository.tree(&fixture.snapshots[1]).expect("tree");
    let large = tree.get(&key("b/large")).await.expect("read").expect("item");
    assert!(large.chunks().any(|chunk| !chunk.bases.is_empty()));
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Remove,
    Truncate,
    Flip,
    Swap,
}

/// Says with what the name of a damaged object is to begin; none where nothing can tell.
fn expected(path: &str, harm: Harm, is_needed: bool, fixture: &Fixture) -> Option<String> {
    let top = path.split('/').next().unwrap_or_default();
    let is_gone = harm == Harm::Remove;
    match top {
        "notes" => None,
        // What was said and is not heard is as if it had not been said.
        "key" | "session" | "mark" | "heartbeat" | "forget" | "forget-point" if is_gone => None,
        // Nor does the last batch of a log.
        "log" if is_gone => (!path.ends_with("fffffffffa")).then(|| "log/prod.etc".to_owned()),
        // The newest run is known from its last batch.
        "logrun" if is_gone => path.ends_with("/fffffffffe").then(|| "logrun/prod.etc".to_owned()),
        // The wrapped key is opened with its key alone.
        "key" if harm == Harm::Swap => None,
        "index" if is_gone => {
            let is_needed = fixture.snapshots.iter().any(|s| path.contains(&s.id.path()));
            is_needed.then(|| path.split('/').take(2).collect::<Vec<_>>().join("/"))
        }
        // What only a forgotten snapshot needs may be gone.
        "pack" | "meta" if is_gone => is_needed.then(|| path.to_owned()),
        // Nobody names the forgotten one.
        "snapshot" if is_gone => {
            let is_named = fixture.snapshots.iter().any(|s| path.ends_with(&s.id.path()));
            is_named.then(|| path.to_owned())
        }
        // The last of a chain leaves no trace.
        "point" if is_gone => {
            let is_followed = fixture.points.iter().any(|p| path.ends_with(&p.path()));
            is_followed.then(|| path.to_owned())
        }
        _ => Some(path.to_owned()),
    }
}

impl Fixture {
    /// Harms an object; returns what has to be put back.
    async fn harm(&self, path: &str, harm: Harm, paths: &[String]) -> Option<Vec<(String, Bytes)>> {
        let bytes = self.get(path).await;
        let mut before = vec![(path.to_owned(), bytes.clone())];
        match harm {
            Harm::Remove => self.objects.delete(&path.into()).await.expect("delete"),
            Harm::Truncate => self.put(path, bytes.slice(..bytes.len() / 2)).await,
            Harm::Flip => {
                let mut flipped = bytes.to_vec();
                flipped[bytes.len() / 2] ^= 1;
                self.put(path, flipped.into()).await;
            }
            Harm::Swap => {
                let top = path.split('/').next();
                let is_like = |other: &&String| *other != path && other.split('/').next() == top;
                let other = paths.iter().find(is_like)?;
                let swapped = self.get(other).await;
                self.put(path, swapped.clone()).await;
                self.put(other, bytes).await;
                before.push((other.clone(), swapped));
            }
        }
        Some(before)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_any_object_is_found_and_what_it_reaches_is_named() {
    let fixture = Fixture::new().await;
    let paths = fixture.paths().await;
    let mut seen = BTreeSet::new();
    let all_needs = fixture.needs().await;
    for path in &paths {
        let length = fixture.get(path).await.len();
        for harm in [Harm::Remove, Harm::Truncate, Harm::Flip, Harm::Swap] {
            let Some(before) = fixture.harm(path, harm, &paths).await else { continue };
            seen.insert((path.split('/').next().unwrap_or_default(), format!("{harm:?}")));
            let deep = fixture.verify(Depth::Deep).await;
            let needs = reached(&all_needs, path, length, harm);
            let expected = expected(path, harm, !needs.0.is_empty(), &fixture);
            check(&deep, path, harm, expected.as_deref(), &needs, &fixture);
            if matches!(harm, Harm::Remove | Harm::Truncate) {
                let structure = fixture.verify(Depth::Structure).await;
                let found = objects(&structure);
                match expected.as_deref() {
                    Some(object) => assert!(
                        found.iter().any(|found| found.starts_with(object)),
                        "{path} {harm:?} {found:?}"
                    ),
                    None => assert_eq!(structure.damage, [], "{path} {harm:?}"),
                }
            }
            for (path, bytes) in before {
                fixture.put(&path, bytes).await;
            }
        }
    }
    assert!(seen.len() > 40, "{seen:?}");
    assert_eq!(fixture.verify(Depth::Deep).await.damage, [], "all is put back");
}

fn check(
    report: &Report,
    path: &str,
    harm: Harm,
    expected: Option<&str>,
    (items, points): &(BTreeSet<String>, BTreeSet<PointId>),
    fixture: &Fixture,
) {
    let Some(object) = expected else {
        assert_eq!(report.damage, [], "{path} {harm:?}");
        return;
    };
    let found = report.damage.iter().find(|damage| damage.object.starts_with(object));
    let Some(found) = found else {
        panic!("{path} {harm:?}: expected {object}, found {:?}", report.damage);
    };
    let named: BTreeSet<_> = found.items.iter().map(|(_, key)| key.clone()).collect();
    let reached: BTreeSet<_> = found.points.iter().cloned().collect();
    match path.split('/').next().unwrap_or_default() {
        "pack" => assert_eq!((&named, &reached), (items, points), "{path} {harm:?}"),
        "meta" => {
            assert_eq!(found.item_count, items.len() as u64, "{path} {harm:?}");
            assert_eq!(&reached, points, "{path} {harm:?}");
        }
        "snapshot" => {
            let named = fixture.snapshots.iter().zip(&fixture.points);
            let mut own = named.filter(|(snapshot, _)| path.ends_with(&snapshot.id.path()));
            assert!(own.all(|(_, point)| reached.contains(point)), "{path} {harm:?} {reached:?}");
        }
        "log" if harm == Harm::Remove => {
            let run = &fixture.points[usize::from(path < "log/prod.etc/4189374b/fffffffffd")..];
            assert_eq!(reached.iter().next(), run.first(), "{path} {harm:?}");
        }
        "point" => {
            let own = fixture.points.iter().find(|point| path.ends_with(&point.path()));
            assert!(own.is_none_or(|own| reached.contains(own)), "{path} {harm:?} {reached:?}");
        }
        _ => {}
    }
}

/// Two creations at once, or one after another that broke off, leave keys of a repository that never was.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_creation_that_broke_off_left_is_no_damage() {
    let (fixture, other) = (Fixture::new().await, Fixture::new_of(2).await);
    for path in other.paths().await {
        if path.starts_with("key/") || path.starts_with("writer/") {
            fixture.put(&path, other.get(&path).await).await;
        }
    }
    let report = fixture.verify(Depth::Deep).await;
    assert_eq!((report.damage, report.unknown_objects), (Vec::new(), 3));
}

/// A pack of a domain that no snapshot or session names any more is nobody's, and left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_under_other_keys_is_unknown_until_it_is_needed() {
    let (fixture, other) = (Fixture::new().await, Fixture::new_of(2).await);
    let paths = other.paths().await;
    let packs: Vec<_> = paths.iter().filter(|path| path.starts_with("pack/")).collect();
    for path in &packs {
        fixture.put(path, other.get(path).await).await;
    }
    let report = fixture.verify(Depth::Deep).await;
    assert_eq!((report.damage, report.unknown_objects), (Vec::new(), 1 + packs.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_reads_its_share_of_the_packs() {
    let fixture = Fixture::new().await;
    let [none, half, all] = [0.0, 0.5, 1.0].map(Depth::Sample);
    let structure = fixture.verify(Depth::Structure).await.read_bytes;
    let deep = fixture.verify(Depth::Deep).await.read_bytes;
    assert_eq!(fixture.verify(none).await.read_bytes, structure);
    assert_eq!(fixture.verify(all).await.read_bytes, deep);
    let half = fixture.verify(half).await.read_bytes;
    assert!(structure < half && half < deep, "{structure} {half} {deep}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_root_names_all_items_and_its_point() {
    let fixture = Fixture::new().await;
    let snapshot = &fixture.snapshots[0];
    let place = snapshot.root.node.clone().expect("root").1.location().expect("place");
    let path = crate::pack::pack_path(PackKind::Meta, place.pack);
    fixture.objects.delete(&path.as_str().into()).await.expect("delete");
    let report = fixture.verify(Depth::Structure).await;
    let damage = &report.damage[0];
    assert_eq!((damage.object.as_str(), damage.item_count), (path.as_str(), 4));
    assert_eq!(damage.items, [(snapshot.id.clone(), "all items".to_owned())]);
    assert_eq!(damage.points, [fixture.points[0].clone()]);
}

/// Commits a tree of many nodes as the state of two points.
async fn commit_many(fixture: &mut Fixture) {
    let session = fixture.begin().await;
    let mut builder = TreeBuilder::new(session.keys(), session.nodes());
    for number in 0..20_000 {
        let mut record = record(0, Vec::new());
        // Random, so that leaves are most of what is stored.
        record.version = Some(Version(noise(number, 24).into()));
        builder.push(&key(&format!("d{}/f{number:05}", number / 1000 + 10)), record).expect("push");
    }
    let root = builder.finish().await.expect("finish");
    assert!(root.height > 1);
    let first = session.commit(root, draft()).await.expect("commit");
    let session = fixture.begin().await;
    let second = session.commit(first.root.clone(), draft()).await.expect("commit");
    for snapshot in [first, second] {
        fixture.seal(&snapshot).await;
        fixture.snapshots.push(snapshot);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leaf_of_two_snapshots_is_a_range_of_both_points() {
    let mut fixture = Fixture::new().await;
    let before = fixture.paths().await;
    commit_many(&mut fixture).await;
    let meta = fixture.paths().await.into_iter().filter(|path| path.starts_with("meta/"));
    let sound = fixture.verify(Depth::Structure).await;
    assert_eq!((sound.damage, sound.snapshots), (Vec::new(), 4));
    assert_eq!(sound.items, 20_008, "what is shared is walked once");

    // The root has a pack of its own: leaves are in the largest.
    let mut largest = (Vec::new(), String::new());
    for path in meta.filter(|path| !before.contains(path)) {
        let bytes = fixture.get(&path).await.to_vec();
        if bytes.len() > largest.0.len() {
            largest = (bytes, path);
        }
    }
    let (mut bytes, pack) = largest;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fixture.put(&pack, bytes.into()).await;
    for depth in [Depth::Structure, Depth::Deep] {
        let report = fixture.verify(depth).await;
        assert_eq!(objects(&report), [pack.as_str()]);
        let damage = &report.damage[0];
        assert!((1..10_000).contains(&damage.item_count), "{}", damage.item_count);
        let (snapshot, range) = &damage.items[0];
        assert!(range.starts_with("after d") && range.contains(" up to d"), "{range}");
        assert!([&fixture.snapshots[2].id, &fixture.snapshots[3].id].contains(&snapshot));
        assert_eq!((damage.items.len(), &damage.points[..]), (1, &fixture.points[2..]));
        assert_eq!(report.items + damage.item_count, sound.items);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_capped_and_items_are_not() {
    let fixture = Fixture::new().await;
    for path in fixture.paths().await.iter().filter(|path| path.starts_with("pack/")) {
        fixture.objects.delete(&path.as_str().into()).await.expect("delete");
    }
    let options = VerifyOptions { depth: Depth::Structure, named: 1 };
    let report = verify(&fixture.repository, &options, &fixture.context).await.expect("verify");
    assert!(report.damage.iter().all(|damage| damage.items.len() <= 1));
    assert!(report.damage.iter().map(|damage| damage.item_count).sum::<u64>() >= 6);
    let again = verify(&fixture.repository, &options, &fixture.context).await.expect("verify");
    assert_eq!(again.damage, report.damage, "the order is stable");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_it() {
    let fixture = Fixture::new().await;
    fixture.handles.cancel.cancel();
    let options = VerifyOptions { depth: Depth::Deep, named: 1 };
    let error = verify(&fixture.repository, &options, &fixture.context).await;
    assert_eq!(error.expect_err("cancelled").kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_reported() {
    let fixture = Fixture::new().await;
    let report = fixture.verify(Depth::Deep).await;
    let monitor = &fixture.handles.monitor;
    assert_eq!(monitor.count_of(Counter::CheckedObjects), report.objects);
    assert_eq!(monitor.count_of(Counter::VerifiedBytes), report.read_bytes);
}
