//! Content through the writer and back through the reader, on threads and over damage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use model::{ContentClass, Context, ErrorKind, Result};
use object_store::memory::InMemory;
use testkit::{Random, SeededEntropy, random_bytes, text_bytes};
use tokio::runtime::Handle;

use super::*;
use crate::crypto::{DomainKeys, KeyFile, PassphraseCost, Unlock};
use crate::pack::{self, pack_path};
use crate::store::Store;
use crate::types::{Location, PackKind, StoredBody, StoredExtent};
use crate::{CreateOptions, OpenOptions, Repository};

/// A shelf that puts packs into the store at once and knows all that is in them.
struct MemoryShelf {
    store: Store,
    runtime: Handle,
    known: Mutex<HashMap<ChunkId, StoredChunk>>,
    packs: Mutex<Vec<SealedPack>>,
    fails: Mutex<bool>,
}

impl Shelf for MemoryShelf {
    fn find_chunk(&self, id: &ChunkId, length: u32) -> Option<StoredChunk> {
        let known = slots::lock(&self.known);
        known.get(id).filter(|chunk| chunk.length == length).cloned()
    }

    fn take_over(&self, chunk: &StoredChunk) -> Option<StoredChunk> {
        slots::lock(&self.known).get(&chunk.id).cloned()
    }

    fn find_node(&self, _id: &NodeId) -> Option<Place> {
        None
    }

    fn put_pack(&self, pack: SealedPack, _memory: &PackMemory) -> Result<()> {
        if *slots::lock(&self.fails) {
            return Err(model::Error::new(ErrorKind::Exhausted, "put pack", ""));
        }
        let path = pack_path(pack.kind, pack.name);
        self.runtime.block_on(self.store.create(&path, pack.object.clone()))?;
        let mut known = slots::lock(&self.known);
        for entry in &pack.entries {
            let full = |id: &ChunkId| known.get(id).cloned().expect("bases are known");
            let chunk = StoredChunk {
                id: ChunkId(entry.id),
                length: entry.location.length,
                place: Place::Known(entry.location),
                bases: entry.bases.iter().map(full).collect(),
            };
            known.insert(chunk.id, chunk);
        }
        slots::lock(&self.packs).push(pack);
        Ok(())
    }
}

struct Fixture {
    repository: Repository,
    keys: DomainKeys,
    shelf: Arc<MemoryShelf>,
    writer: ContentWriter,
    #[expect(dead_code, reason = "keeps the clock alive")]
    context: Context,
}

impl Fixture {
    async fn new(pack_bytes: usize) -> Self {
        let (context, _) = testkit::context(1);
        let store = Store::new(Arc::new(InMemory::new()), "memory", &context);
        let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(1)));
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let repository =
            Repository::create(store.clone(), &unlock, options, &context).await.expect("create");
        let keys = repository.domain("").expect("domain");
        let shelf = Arc::new(MemoryShelf {
            store,
            runtime: Handle::current(),
            known: Mutex::default(),
            packs: Mutex::default(),
            fails: Mutex::default(),
        });
        let options = WriterOptions { pack_bytes, salt: [7; 32] };
        let writer = ContentWriter::new(&repository, &keys, Arc::clone(&shelf) as _, options);
        Self { repository, keys, shelf, writer, context }
    }

    fn reader(&self) -> ChunkReader {
        ChunkReader::new(&self.repository, &self.keys, 16 << 20)
    }

    /// Stores extents, each against what it was before, and flushes.
    async fn store(&self, extents: Vec<(Bytes, Vec<StoredChunk>)>) -> Vec<Vec<StoredChunk>> {
        let writer = self.writer.clone();
        blocking(move || {
            let mut unit = writer.unit();
            for (bytes, previous) in extents {
                unit.begin(ContentClass::General, &previous);
                for piece in bytes.chunks(300_000) {
                    unit.push(bytes.slice_ref(piece)).expect("push");
                }
                unit.end().expect("end");
            }
            let chunks = unit.finish().expect("finish");
            writer.flush().expect("flush");
            chunks
        })
        .await
    }

    async fn store_whole(&self, contents: Vec<(Bytes, Vec<StoredChunk>)>) -> Vec<Vec<StoredChunk>> {
        let writer = self.writer.clone();
        blocking(move || {
            let mut unit = writer.unit();
            for (bytes, previous) in contents {
                unit.whole(bytes, &previous).expect("whole");
            }
            let chunks = unit.finish().expect("finish");
            writer.flush().expect("flush");
            chunks
        })
        .await
    }

    fn stored_bytes(&self) -> usize {
        slots::lock(&self.shelf.packs).iter().map(|pack| pack.object.len()).sum()
    }

    /// Ids of everything in all packs.
    fn stored_ids(&self) -> Vec<[u8; 32]> {
        let packs = slots::lock(&self.shelf.packs);
        packs.iter().flat_map(|pack| &pack.entries).map(|entry| entry.id).collect()
    }

    async fn read(&self, chunks: &[StoredChunk]) -> Bytes {
        self.reader().read_all(chunks).await.expect("read").concat().into()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn overwrite(content: &Bytes, at: usize, with: &[u8]) -> Bytes {
    let mut changed = content.to_vec();
    changed[at..at + with.len()].copy_from_slice(with);
    changed.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_read_back() {
    let fixture = Fixture::new(2 << 20).await;
    let contents = [
        Bytes::new(),
        Bytes::from_static(b"x"),
        text_bytes(1, 100_000),
        random_bytes(2, 3_000_000),
        text_bytes(3, 9_000_000),
        Bytes::from(vec![0; 5_000_000]),
    ];
    let stored = fixture.store(contents.iter().map(|c| (c.clone(), Vec::new())).collect()).await;
    for (content, chunks) in contents.iter().zip(&stored) {
        assert_eq!(fixture.read(chunks).await, content);
        assert!(chunks.iter().all(|chunk| chunk.place.location().is_some()));
    }
    assert!(slots::lock(&fixture.shelf.packs).len() > 1, "packs end at their size");
    for pack in slots::lock(&fixture.shelf.packs).iter() {
        let (id, keys) = (fixture.repository.id(), &fixture.keys);
        let entries = pack::check_pack_deep(&pack.object, id, keys, PackKind::Data, pack.name);
        assert_eq!(entries.expect("sound"), pack.entries);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_contents_share_blocks() {
    let fixture = Fixture::new(32 << 20).await;
    let contents: Vec<_> = (0..1000).map(|n| text_bytes(n, 3000)).collect();
    let stored =
        fixture.store_whole(contents.iter().map(|c| (c.clone(), Vec::new())).collect()).await;
    for (content, chunks) in contents.iter().zip(&stored) {
        assert_eq!(chunks.len(), 1);
        assert_eq!(fixture.read(chunks).await, content);
    }
    let blocks: std::collections::HashSet<_> = stored
        .iter()
        .flatten()
        .filter_map(|chunk| chunk.place.location())
        .map(|location| location.block_offset)
        .collect();
    assert_eq!(blocks.len(), 2, "3 MB in solid blocks of 2 MiB");
    // All of it in one request.
    let reader = fixture.reader();
    let before = fixture.shelf.store.stats().gets;
    let all: Vec<_> = stored.concat();
    assert_eq!(reader.read_all(&all).await.expect("read"), contents);
    assert_eq!(fixture.shelf.store.stats().gets - before, 1);
    let error = fixture.writer.unit().whole(vec![0; (4 << 20) + 1].into(), &[]).expect_err("long");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_chunk_is_stored_once_whoever_meets_it() {
    let fixture = Fixture::new(1 << 20).await;
    let contents: Vec<_> = (0..60)
        .map(|n| if n % 10 == 0 { random_bytes(n, 700_000) } else { random_bytes(n, 20_000) })
        .collect();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let (writer, mut contents) = (fixture.writer.clone(), contents.clone());
            std::thread::spawn(move || {
                contents.rotate_left(thread * 5);
                let mut chunks = Vec::new();
                for part in contents.chunks(13) {
                    let mut unit = writer.unit();
                    for content in part {
                        unit.whole(content.clone(), &[]).expect("whole");
                    }
                    chunks.extend(unit.finish().expect("finish"));
                }
                (contents, chunks)
            })
        })
        .collect();
    let joined = blocking(|| threads.into_iter().map(|t| t.join().expect("thread")).collect());
    let all: Vec<(Vec<Bytes>, Vec<Vec<StoredChunk>>)> = joined.await;
    let writer = fixture.writer.clone();
    blocking(move || writer.flush()).await.expect("flush");
    let mut ids = fixture.stored_ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((fixture.stored_ids().len(), ids.len()), (60, 60));
    for (contents, chunks) in all {
        for (content, chunks) in contents.iter().zip(chunks) {
            assert_eq!(fixture.read(&chunks).await, content);
        }
    }
}

/// Units of one thread that meet the same chunk do not wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn interleaved_and_dropped_units_hold_nobody_up() {
    let fixture = Fixture::new(1 << 20).await;
    let writer = fixture.writer.clone();
    let content = text_bytes(1, 5000);
    let expected = content.clone();
    let (one, two) = blocking(move || {
        let (mut dropped, mut first, mut second) = (writer.unit(), writer.unit(), writer.unit());
        dropped.whole(content.clone(), &[]).expect("whole");
        first.whole(content.clone(), &[]).expect("whole");
        second.whole(content.clone(), &[]).expect("whole");
        drop(dropped);
        let two = second.finish().expect("finish");
        let one = first.finish().expect("finish");
        writer.flush().expect("flush");
        (one, two)
    })
    .await;
    assert_eq!(fixture.stored_ids().len(), 1);
    assert_eq!(fixture.read(&one[0]).await, expected);
    assert_eq!(fixture.read(&two[0]).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_stored_again() {
    let fixture = Fixture::new(32 << 20).await;
    let content = random_bytes(1, 6_000_000);
    let first = fixture.store(vec![(content.clone(), Vec::new())]).await;
    let before = fixture.stored_bytes();
    let again = fixture.store(vec![(content.clone(), first[0].clone())]).await;
    assert_eq!(fixture.stored_bytes(), before);
    let ids = |chunks: &[StoredChunk]| chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>();
    assert_eq!(ids(&again[0]), ids(&first[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_extent_leaves_no_ticket() {
    let fixture = Fixture::new(32 << 20).await;
    let writer = fixture.writer.clone();
    let chunks = blocking(move || {
        let mut unit = writer.unit();
        unit.begin(ContentClass::Dump, &[]);
        unit.push(random_bytes(1, 500_000)).expect("push");
        unit.discard();
        assert_eq!(unit.push(Bytes::new()).expect_err("none").kind(), ErrorKind::Internal);
        assert_eq!(unit.end().expect_err("none").kind(), ErrorKind::Internal);
        assert_eq!(unit.whole(text_bytes(1, 10), &[]).expect("whole"), Ticket(0));
        let chunks = unit.finish().expect("finish");
        writer.flush().expect("flush");
        chunks
    })
    .await;
    assert_eq!(chunks.len(), 1);
    assert_eq!(fixture.read(&chunks[0]).await, text_bytes(1, 10));
}

/// What a change costs: about as much as was changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_stores_about_what_was_changed() {
    let fixture = Fixture::new(32 << 20).await;
    let (random, text) = (random_bytes(1, 16 << 20), text_bytes(2, 12 << 20));
    let lines: Vec<_> = (0..20).map(|n| text_bytes(100 + n, 60_000)).collect();
    let first = fixture.store(vec![(random.clone(), vec![]), (text.clone(), vec![])]).await;
    let small =
        fixture.store_whole(lines.iter().map(|content| (content.clone(), vec![])).collect()).await;

    let mut scattered = random.clone();
    for at in [1, 4_000_000, 7_777_777, 12_000_000, (16 << 20) - 65_536] {
        scattered = overwrite(&scattered, at, &random_bytes(at as u64, 65_536));
    }
    let mut inserted = BytesMut::from(&text[..3_000_000]);
    inserted.extend_from_slice(&random_bytes(5, 700));
    inserted.extend_from_slice(&text[3_000_000..]);
    let inserted = inserted.freeze();
    let appended: Bytes = [&random[..], &random_bytes(6, 640 << 10)].concat().into();

    let mut last = fixture.stored_bytes();
    for (case, content, previous, limit) in [
        ("5 overwrites of 64 KiB", &scattered, &first[0], 5 * 65_536 + 8_000),
        ("700 bytes inserted", &inserted, &first[1], 8_000),
        ("640 KiB appended", &appended, &first[0], (640 << 10) + 8_000),
    ] {
        let stored = fixture.store(vec![(content.clone(), previous.clone())]).await;
        let grown = fixture.stored_bytes() - last;
        last = fixture.stored_bytes();
        assert!(grown <= limit, "{case}: {grown} bytes");
        assert_eq!(fixture.read(&stored[0]).await, content, "{case}");
        assert!(stored[0].iter().any(|chunk| !chunk.bases.is_empty()), "{case}");
        assert!(stored[0].iter().flat_map(|c| &c.bases).all(|base| base.bases.is_empty()));
    }

    let longer = lines.iter().map(|content| [content, &b"one line more\n"[..]].concat().into());
    let longer: Vec<Bytes> = longer.collect();
    let stored = longer.iter().zip(&small).map(|(content, old)| (content.clone(), old.clone()));
    let stored = fixture.store_whole(stored.collect()).await;
    assert!(fixture.stored_bytes() - last <= 20 * 300, "{}", fixture.stored_bytes() - last);
    for (content, chunks) in longer.iter().zip(&stored) {
        assert_eq!(fixture.read(chunks).await, content);
    }
}

/// A delta is never a base: a second change is encoded against the first state.
#[tokio::test(flavor = "multi_thread")]
async fn deltas_have_depth_one() {
    let fixture = Fixture::new(32 << 20).await;
    let mut content = random_bytes(1, 3 << 20);
    let mut chunks = fixture.store(vec![(content.clone(), vec![])]).await.remove(0);
    let full: Vec<_> = chunks.iter().map(|chunk| chunk.id).collect();
    for round in 0..6 {
        content = overwrite(&content, 300_000 * round, &random_bytes(9 + round as u64, 1000));
        chunks = fixture.store(vec![(content.clone(), chunks)]).await.remove(0);
        assert_eq!(fixture.read(&chunks).await, content);
        let mut bases = chunks.iter().flat_map(|chunk| &chunk.bases);
        assert!(bases.all(|base| full.contains(&base.id)), "round {round}");
    }
    assert!(fixture.stored_bytes() < (3 << 20) + 6 * 8_000 * 6, "{}", fixture.stored_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn extents_are_streamed_with_their_holes() {
    let fixture = Fixture::new(32 << 20).await;
    let contents = [random_bytes(1, 11_000_000), text_bytes(2, 10)];
    let stored = fixture.store(contents.iter().map(|c| (c.clone(), vec![])).collect()).await;
    let data = |index: usize| StoredExtent {
        length_bytes: contents[index].len() as u64,
        body: StoredBody::Data {
            identity: None,
            checksums: None,
            class: ContentClass::General,
            chunks: stored[index].clone(),
        },
    };
    let hole = |length_bytes| StoredExtent { length_bytes, body: StoredBody::Hole };
    let extents = [hole(700_000), data(0), hole(0), data(1), hole(1)];
    let mut reader = fixture.reader().content(&extents);
    let mut read = Vec::new();
    while let Some(piece) = reader.next().await.expect("next") {
        assert!(!piece.is_empty());
        read.extend_from_slice(&piece);
    }
    let expected = [&vec![0; 700_000][..], &contents[0], &contents[1], &[0]].concat();
    assert!(read == expected);
}

#[derive(Default)]
struct Places(Vec<StoredChunk>);

#[async_trait]
impl Locate for Places {
    async fn refresh(&self) -> Result<bool> {
        Ok(false)
    }

    async fn locate(&self, id: &ChunkId) -> Result<Vec<StoredChunk>> {
        Ok(self.0.iter().filter(|chunk| chunk.id == *id).cloned().collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_is_of_no_use_is_looked_up() {
    let fixture = Fixture::new(32 << 20).await;
    let old = random_bytes(1, 900_000);
    let new = overwrite(&old, 5000, b"changed");
    let base = fixture.store(vec![(old.clone(), vec![])]).await.remove(0);
    let delta = fixture.store(vec![(new.clone(), base.clone())]).await.remove(0);
    assert!(!delta[0].bases.is_empty());
    let places = Places([base.clone(), delta.clone()].concat());
    let reader = fixture.reader().with_fallback(Arc::new(places));
    let location = base[0].place.location().expect("known");
    for (case, wrong) in [
        ("gone", Location { pack: crate::types::PackName([9; 32]), ..location }),
        ("another block", delta[0].place.location().expect("known")),
        ("behind the end", Location { block_offset: u32::MAX, ..location }),
        ("no block", Location { block_offset: location.block_offset + 1, ..location }),
        ("too long", Location { block_length: u32::MAX, ..location }),
        ("empty", Location { block_length: 0, ..location }),
        ("far inside", Location { offset_in_block: u32::MAX, ..location }),
    ] {
        let hint = StoredChunk { place: Place::Known(wrong), ..base[0].clone() };
        assert_eq!(reader.read(&hint).await.expect(case), old, "{case}");
        let mut of_delta = delta[0].clone();
        of_delta.bases[0].place = Place::Known(wrong);
        assert_eq!(reader.read(&of_delta).await.expect(case), new, "{case}: its base");
        let both = [base[0].clone(), hint.clone(), delta[0].clone()];
        let read = reader.read_all(&both).await.expect(case);
        assert_eq!(read, [old.clone(), old.clone(), new.clone()], "{case}: among others");
        let error = fixture.reader().read(&hint).await.expect_err(case);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_given_out() {
    let fixture = Fixture::new(32 << 20).await;
    let contents: Vec<_> = (0..3).map(|n| text_bytes(n, 4000)).collect();
    let stored =
        fixture.store_whole(contents.iter().map(|c| (c.clone(), vec![])).collect()).await.concat();
    let reader = fixture.reader();
    // The right block, the wrong chunk in it; a delta that is none; a base that is a delta.
    let swapped = StoredChunk { place: stored[1].place.clone(), ..stored[0].clone() };
    let no_delta = StoredChunk { bases: vec![stored[1].clone()], ..stored[0].clone() };
    let deep = StoredChunk { bases: vec![no_delta.clone()], ..stored[0].clone() };
    let longer = StoredChunk { length: 4001, ..stored[0].clone() };
    for wrong in [swapped, no_delta, deep, longer] {
        let error = reader.read(&wrong).await.expect_err("wrong");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert_eq!(reader.read(&stored[0]).await.expect("sound"), contents[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_fetched_once_for_all_who_want_it_at_once() {
    let fixture = Fixture::new(32 << 20).await;
    let contents: Vec<_> = (0..50).map(|n| text_bytes(n, 4000)).collect();
    let stored =
        fixture.store_whole(contents.iter().map(|c| (c.clone(), vec![])).collect()).await.concat();
    let reader = fixture.reader();
    let before = fixture.shelf.store.stats().gets;
    let reads = stored.iter().map(|chunk| reader.read(chunk));
    let read: Vec<_> = futures::future::join_all(reads).await;
    let read: Vec<_> = read.into_iter().map(|read| read.expect("read")).collect();
    assert_eq!(read, contents);
    assert_eq!(fixture.shelf.store.stats().gets - before, 1);
}

/// A small cache loses nothing but time.
#[tokio::test(flavor = "multi_thread")]
async fn random_reads_through_a_small_cache() {
    let fixture = Fixture::new(4 << 20).await;
    let content = random_bytes(1, 20 << 20);
    let stored = fixture.store(vec![(content.clone(), vec![])]).await.remove(0);
    let reader = ChunkReader::new(&fixture.repository, &fixture.keys, 3 << 20);
    let mut starts = vec![0];
    for chunk in &stored {
        starts.push(starts.last().expect("one") + chunk.length as usize);
    }
    let mut random = Random::new(1);
    for _ in 0..60 {
        let picked: Vec<_> = (0..3).map(|_| random.index(stored.len())).collect();
        let chunks: Vec<_> = picked.iter().map(|index| stored[*index].clone()).collect();
        let read = reader.read_all(&chunks).await.expect("read");
        for (index, read) in picked.into_iter().zip(read) {
            assert!(read == content.slice(starts[index]..starts[index + 1]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_cannot_be_put_fails_the_flush_too() {
    let fixture = Fixture::new(1 << 20).await;
    *slots::lock(&fixture.shelf.fails) = true;
    let writer = fixture.writer.clone();
    blocking(move || {
        let mut unit = writer.unit();
        let content = random_bytes(1, 1 << 20);
        assert_eq!(unit.whole(content, &[]).expect_err("full").kind(), ErrorKind::Exhausted);
        assert_eq!(writer.flush().expect_err("failed").kind(), ErrorKind::Exhausted);
        let error = writer.unit().whole(random_bytes(2, 1 << 20), &[]).expect_err("failed");
        assert_eq!(error.kind(), ErrorKind::Exhausted);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_store_is_an_error_with_the_rest_still_readable() {
    let fixture = Fixture::new(32 << 20).await;
    let contents = [random_bytes(1, 1 << 20), random_bytes(2, 1 << 20), text_bytes(3, 100)];
    let stored =
        fixture.store_whole(contents.iter().map(|c| (c.clone(), vec![])).collect()).await.concat();
    let location = stored[0].place.location().expect("known");
    let path = pack_path(PackKind::Data, location.pack);
    let mut damaged = fixture.shelf.store.get(&path).await.expect("get").to_vec();
    damaged[location.block_offset as usize + 5000] ^= 1;
    fixture.shelf.store.delete(&path).await.expect("delete");
    fixture.shelf.store.create(&path, damaged.into()).await.expect("create");
    let error = fixture.reader().read_all(&stored).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.chain().contains(&stored[0].id.to_string()), "{error:?}");
    assert_eq!(fixture.reader().read_all(&stored[1..]).await.expect("sound"), contents[1..]);
    assert_eq!(stored[2].place.location().map(|l| l.length), Some(100));
}
