//! Segments against a map, hostile segments, caches that lose and damage their files, and segments
//! made anew from packs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::segment::Prefix;
use super::*;
use crate::OpenOptions;
use crate::crypto::testing::ring;
use crate::session::testing::{Fixture, build, draft, put_contents};
use crate::types::{DELTA_BASES_MAX, PackName};

fn id(seed: u64) -> [u8; 32] {
    *blake3::hash(&seed.to_le_bytes()).as_bytes()
}

/// Entry number `n`: few packs, several entries to a block, some deltas, some nodes.
fn entry(n: u64) -> Entry {
    let kind =
        [EntryKind::Full, EntryKind::Full, EntryKind::Delta, EntryKind::Node][n as usize % 4];
    let is_node = kind == EntryKind::Node;
    let bases = (0..if kind == EntryKind::Delta { 1 + n % DELTA_BASES_MAX as u64 } else { 0 })
        .map(|base| ChunkId(id(n * 100 + base)))
        .collect();
    Entry {
        prefix: segment::prefix(&id(n)),
        kind,
        pack_kind: if is_node { PackKind::Meta } else { PackKind::Data },
        location: Location {
            pack: PackName([(n % 3) as u8 + if is_node { 10 } else { 0 }; 32]),
            block_offset: (n / 5) as u32 * 100,
            block_length: 100,
            offset_in_block: (n % 5) as u32,
            length: n as u32,
        },
        bases,
    }
}

fn open(entries: &[Entry]) -> Segment {
    let plaintext = segment::encode(entries).expect("encode");
    Segment::open(Body::in_memory("index/x", plaintext.into())).expect("open")
}

fn find(segment: &Segment, kind: PackKind, prefix: &Prefix) -> Vec<Found> {
    let mut found = Vec::new();
    segment.find(kind, prefix, &mut found).expect("find");
    found
}

fn found(entry: &Entry) -> Found {
    Found { location: entry.location, kind: entry.kind, bases: entry.bases.clone() }
}

#[test]
fn golden_bytes() {
    let entries: Vec<_> = (0..40).map(entry).collect();
    let plaintext = segment::encode(&entries).expect("encode");
    let object = seal_object(&ring(1), ObjectType::IndexSegment, "index/x", &plaintext);
    let hashes = [blake3::hash(&plaintext), blake3::hash(&object.expect("seal"))];
    assert_eq!(hashes.map(|hash| hex(hash.as_bytes())), GOLDEN, "the bytes are part of the format");
    let keys = ring(1).domain("").expect("keys");
    let other = ring(1).domain("other").expect("keys");
    assert_eq!([directory(&keys), directory(&other)], DIRECTORIES);
}

const GOLDEN: [&str; 2] = [
    "af887215b0ff8e92f1b94db8efb3b3aafc34ad39055b52aeaccb0c3b8c4d0ae8",
    "360372c7004dadca34c024a6700b6454b93c254c7f284e1ba3e710bd93a8dfaf",
];
const DIRECTORIES: [&str; 2] = ["index/de01330b7d5ab29b", "index/44e51ae0aa766c3e"];

#[test]
fn every_entry_is_found_at_all_its_places_and_nothing_else_is() {
    let mut entries: Vec<_> = (0..1000).map(entry).collect();
    // The same chunk in another pack, and more copies of one than a group of records holds.
    for n in 0..300 {
        let mut copy = entry(8);
        copy.location.block_offset = 1_000_000 + n;
        entries.push(copy);
    }
    let segment = open(&entries);
    assert_eq!(segment.len(), 1300);
    for n in (0..1000).filter(|n| *n != 8) {
        let entry = entry(n);
        assert_eq!(find(&segment, entry.pack_kind, &entry.prefix), [found(&entry)], "{n}");
        let other = if entry.pack_kind == PackKind::Data { PackKind::Meta } else { PackKind::Data };
        assert_eq!(find(&segment, other, &entry.prefix), []);
    }
    assert_eq!(find(&segment, PackKind::Data, &entry(8).prefix).len(), 301);
    for n in 1000..3000 {
        assert_eq!(find(&segment, PackKind::Data, &segment::prefix(&id(n))), []);
    }
    let packs = segment.packs().expect("packs");
    assert_eq!(packs.len(), 6);
}

#[test]
fn an_entry_that_comes_twice_is_written_once_and_an_empty_segment_never() {
    assert_eq!(open(&[entry(1), entry(1)]).len(), 1);
    assert_eq!(segment::encode(&[]).expect_err("empty").kind(), ErrorKind::Internal);
    let bases = vec![ChunkId([0; 32]); DELTA_BASES_MAX + 1];
    let error = segment::encode(&[Entry { bases, ..entry(2) }]).expect_err("too many bases");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

/// Whoever holds the keys may write any segment: each changed byte is another entry or an error.
#[test]
fn changed_segments_are_an_error_or_other_entries_and_never_a_panic() {
    let entries: Vec<_> = (0..12).map(entry).collect();
    let plaintext = segment::encode(&entries).expect("encode");
    for at in 0..plaintext.len() {
        for value in [0, 1, 0xff] {
            let mut changed = plaintext.clone();
            changed[at] = value;
            let Ok(segment) = Segment::open(Body::in_memory("x", changed.into())) else { continue };
            let _ = segment.packs();
            for entry in &entries {
                let _ = segment.find(entry.pack_kind, &entry.prefix, &mut Vec::new());
            }
        }
    }
    for length in 0..plaintext.len() {
        let cut = Bytes::copy_from_slice(&plaintext[..length]);
        assert!(Segment::open(Body::in_memory("x", cut)).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn several_segments_are_a_map(
        seeds in prop::collection::vec((0..4_usize, 0..500_u64), 1..400),
        wanted in prop::collection::vec(0..700_u64, 1..100),
    ) {
        let mut map: BTreeMap<(usize, Prefix), Found> = BTreeMap::new();
        let mut parts = vec![Vec::new(); 4];
        for (part, n) in seeds {
            let entry = entry(n);
            map.insert((part, entry.prefix), found(&entry));
            parts[part].push(entry);
        }
        let segments: Vec<_> =
            parts.iter().map(|part| (!part.is_empty()).then(|| open(part))).collect();
        for n in wanted {
            let entry = entry(n);
            for (part, segment) in segments.iter().enumerate() {
                let expected: Vec<_> = map.get(&(part, entry.prefix)).cloned().into_iter().collect();
                let found = segment.as_ref().map(|s| find(s, entry.pack_kind, &entry.prefix));
                prop_assert_eq!(found.unwrap_or_default(), expected);
            }
        }
    }
}

/// A repository with two segments: one of chunks, one of nodes.
async fn filled(seed: u64) -> Fixture {
    let fixture = Fixture::new(seed).await;
    let session = fixture.begin().await;
    let contents: Vec<_> = (0..500_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let chunks = put_contents(&session, &contents);
    let root = build(&session, &chunks).await;
    session.commit(root, draft()).await.expect("commit");
    fixture
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_fetched_once_and_what_the_cache_lost_again() {
    let fixture = filled(41).await;
    let folder = tempfile::tempdir().expect("folder");
    let options =
        OpenOptions { cache_folder: Some(folder.path().to_owned()), ..OpenOptions::default() };
    let repository = fixture.reopen(options).await;
    let keys = repository.domain("").expect("keys");
    let wanted = keys.chunk_id(&7_u32.to_le_bytes());
    let gets = || repository.store().stats().gets;
    let open = async || Index::open(&repository, "", &fixture.context).await.expect("open");
    let before = gets();
    let index = open().await;
    let expected = index.find(PackKind::Data, &wanted.0).expect("find");
    assert_eq!((index.len(), expected.len(), gets() - before), (501, 1, 2));
    let cached = files(folder.path());
    assert_eq!(cached.len(), 2);

    // Whole files are not fetched again; a cut one, and one that is not there, are.
    let before = gets();
    assert_eq!(open().await.find(PackKind::Data, &wanted.0).expect("find"), expected);
    assert_eq!(gets(), before);
    fs::remove_file(&cached[0]).expect("remove");
    fs::write(&cached[1], b"short").expect("write");
    assert_eq!(open().await.find(PackKind::Data, &wanted.0).expect("find"), expected);
    assert_eq!((gets() - before, files(folder.path())), (2, cached.clone()));

    // A file of an object that is no longer listed goes.
    fs::write(cached[0].with_file_name("stray.segment"), b"x").expect("write");
    open().await;
    assert_eq!(files(folder.path()), cached);

    // A folder that cannot be written costs time only.
    let blocked = folder.path().join("file");
    fs::write(&blocked, b"").expect("write");
    let options = OpenOptions { cache_folder: Some(blocked), ..OpenOptions::default() };
    let repository = fixture.reopen(options).await;
    let index = Index::open(&repository, "", &fixture.context).await.expect("open");
    assert_eq!(index.find(PackKind::Data, &wanted.0).expect("find"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_cached_bytes_is_found_at_the_look_up_and_healed() {
    let fixture = filled(42).await;
    let folder = tempfile::tempdir().expect("folder");
    let options =
        OpenOptions { cache_folder: Some(folder.path().to_owned()), ..OpenOptions::default() };
    let repository = fixture.reopen(options).await;
    let keys = repository.domain("").expect("keys");
    let lazy = LazyIndex::new(&repository, &keys);
    let before = repository.store().stats().gets;
    assert!(lazy.opened().is_none());
    lazy.get().await.expect("open");
    assert_eq!(repository.store().stats().gets - before, 2);
    // Records of the larger file are damaged while it is open and before any of them is looked at.
    let cached = files(folder.path());
    let larger = cached.iter().max_by_key(|path| fs::metadata(path).expect("file").len());
    let larger = larger.expect("two files");
    let mut bytes = fs::read(larger).expect("read");
    let length = bytes.len();
    bytes[length / 4..length / 2].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(larger, bytes).expect("write");
    for n in 0..500_u32 {
        let id = keys.chunk_id(&n.to_le_bytes());
        assert_eq!(lazy.find(PackKind::Data, &id.0).await.expect("healed").len(), 1, "{n}");
    }
    assert_eq!(repository.store().stats().gets - before, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_segments_are_made_anew_from_packs() {
    let fixture = filled(43).await;
    let repository = &fixture.repository;
    let keys = repository.domain("").expect("keys");
    let paths = fixture.paths("index").await;
    assert_eq!(paths.len(), 2);
    assert!(paths.iter().all(|path| path.starts_with(&directory(&keys))));
    let open = async || Index::open(repository, "", &fixture.context).await.expect("open");
    let id = keys.chunk_id(&7_u32.to_le_bytes());
    let expected = open().await.find(PackKind::Data, &id.0).expect("find");
    let rebuilt = rebuild::rebuild(repository, "", &fixture.context).await.expect("rebuild");
    assert_eq!(rebuilt, rebuild::Rebuilt::default());
    for path in &paths {
        fixture.delete(path).await;
    }
    assert!(open().await.is_empty());
    let rebuilt = rebuild::rebuild(repository, "", &fixture.context).await.expect("rebuild");
    assert_eq!((rebuilt.packs, rebuilt.entries, rebuilt.unreadable), (2, 501, 0));
    let index = open().await;
    assert_eq!((index.len(), index.find(PackKind::Data, &id.0).expect("find")), (501, expected));
    // Packs of another domain are not this one's.
    let rebuilt = rebuild::rebuild(repository, "x", &fixture.context).await.expect("rebuild");
    assert_eq!((rebuilt.packs, rebuilt.unreadable), (0, 2));
}
