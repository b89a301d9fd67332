//! Listing, finding, reading and comparing states of the real engine; bytes against what they should be.

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{Attributes, ContentCheck as _, ErrorKind, Extent, Item, ItemKind};
use object_store::memory::InMemory;
use proptest::prelude::*;
use repository::types::{Location, PackName, Place, StoredBody, StoredChunk, StoredExtent};
use testkit::ScriptedSystem;
use testkit::scripted::key;

use super::*;
use crate::fixtures::{self, captured};
use crate::select::ResolvedSystem;

fn at(system: &ResolvedSystem, path: &str) -> ResolvedSystem {
    ResolvedSystem { path: key(path), ..system.clone() }
}

fn names(batches: Vec<Vec<Entry>>) -> String {
    let keys = batches.iter().flatten().map(|entry| entry.item.key.display());
    keys.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_directory_lists_its_children_and_a_file_itself() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let words = "h/ h/a/ h/a/b/ h/a/b/c*3 h/a/d@h/a/b/c h/e*5";
    let all = fixtures::state(&repository, words, Some("h"), ".").await;
    for (path, is_recursive, expected) in [
        (".", false, "a e"),
        (".", true, "a a/b a/b/c a/d e"),
        ("a", false, "a/b a/d"),
        ("a", true, "a/b a/b/c a/d"),
        ("e", false, ""),
    ] {
        let listing = list(&at(&all, path), is_recursive).await.expect(path);
        let item = listing.item.expect("an item").item.key;
        assert_eq!(item, key(path));
        let entries = listing.entries.try_collect().await.expect("list");
        assert_eq!(names(entries), expected, "{path}");
    }
    let error = list(&at(&all, "a/q"), false).await.err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::NotFound));
    let link = list(&at(&all, "a/d"), false).await.expect("list").item.expect("an item");
    assert_eq!(link.link_target(), Some(key("a/b/c")));
}

#[tokio::test]
async fn what_matches_is_found() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let all = fixtures::state(&repository, "a/ a/b.conf*3 a/c/ a/c/d.conf*9 e*5", None, ".").await;
    let glob = |text| Some(Glob::new(text).expect("pattern"));
    let name = |text| Filter { name: glob(text), ..Filter::default() };
    let path = |text| Filter { path: glob(text), ..Filter::default() };
    let directories = Filter { kinds: vec![ItemKind::Directory], ..Filter::default() };
    let long = Filter { size_bytes: 5..=8, ..Filter::default() };
    for (filter, expected) in [
        (Filter::default(), "a a/b.conf a/c a/c/d.conf e"),
        (name("*.conf"), "a/b.conf a/c/d.conf"),
        (path("/a/*"), "a/b.conf a/c"),
        (path("/a/**"), "a/b.conf a/c a/c/d.conf"),
        (directories, "a a/c"),
        (long, "e"),
    ] {
        let found = find(&all, &filter).expect("find").try_collect().await.expect("find");
        assert_eq!(names(found), expected, "{filter:?}");
    }
    assert_eq!(Glob::new("[").err().map(|error| error.kind()), Some(ErrorKind::Invalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_read_and_compared() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let system = ScriptedSystem::new(
        "dir d mode:755\nfile d/same \"s\"\nfile d/text mode:644 \"one\"\nfile d/gone \"g\"\n\
         file d/mode mode:644 \"m\" hole*70000\nsymlink link d",
    );
    let old = captured(&repository, &system, &context).await;
    system.edit("file d/text mode:644 \"two\"\ndelete d/gone\nfile d/new \"n\"");
    system.edit("file d/mode mode:600 \"m\" hole*70000");
    let new = captured(&repository, &system, &context).await;

    let read = async |state: &ResolvedSystem, path| {
        let mut cat = cat(&repository, &at(state, path)).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = cat.content.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok::<_, model::Error>(bytes)
    };
    assert_eq!(read(&old, "d/text").await.expect("cat"), b"one");
    assert_eq!(read(&new, "d/text").await.expect("cat"), b"two");
    assert_eq!(read(&new, "d/mode").await.expect("cat").len(), 70001);
    for (path, kind) in
        [("d", ErrorKind::Invalid), ("link", ErrorKind::Invalid), ("q", ErrorKind::NotFound)]
    {
        assert_eq!(read(&new, path).await.expect_err(path).kind(), kind, "{path}");
    }

    let changed: Vec<Changed> =
        diff(&repository, &old, &new).expect("diff").try_collect().await.expect("diff");
    let shown: Vec<_> = changed
        .iter()
        .map(|changed| format!("{} {:?}", changed.key.display(), changed.change))
        .collect();
    assert_eq!(
        shown,
        [
            "d/gone Removed",
            "d/mode Changed { kind: false, content: false, attributes: true }",
            "d/new Added",
            "d/text Changed { kind: false, content: true, attributes: false }",
        ]
    );
    let states = [new, old];
    let filter = Filter { kinds: vec![ItemKind::File], ..Filter::default() };
    let versions: Vec<Found> =
        find_versions(&states, &filter).expect("find").try_collect().await.expect("find");
    let shown: Vec<_> = versions
        .iter()
        .map(|found| format!("{}:{}", found.state, found.entry.item.key.display()))
        .collect();
    assert_eq!(shown.join(" "), "0:d/mode 0:d/new 0:d/same 0:d/text 1:d/gone 1:d/mode 1:d/text");
}

/// An entry of chunks and holes (negative lengths), with its content.
fn entry(pieces: &[i32], keys: &repository::crypto::DomainKeys) -> (Entry, Vec<u8>) {
    let mut content = Vec::new();
    let mut extents = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let length = piece.unsigned_abs();
        let bytes = vec![if *piece < 0 { 0 } else { index as u8 + 1 }; length as usize];
        let place = Place::Known(Location {
            pack: PackName([0; 32]),
            block_offset: 0,
            block_length: 0,
            offset_in_block: 0,
            length,
        });
        let chunk = StoredChunk { id: keys.chunk_id(&bytes), length, place, bases: Vec::new() };
        content.extend_from_slice(&bytes);
        let body = if *piece < 0 {
            StoredBody::Hole
        } else {
            StoredBody::Data {
                identity: None,
                checksums: None,
                class: model::ContentClass::General,
                chunks: if length > 0 { vec![chunk] } else { Vec::new() },
            }
        };
        extents.push(StoredExtent { length_bytes: u64::from(length), body });
    }
    let item = Item {
        key: key("a"),
        kind: ItemKind::File,
        attributes: Attributes::default(),
        version: None,
        extents: vec![Extent::data(content.len() as u64)],
    };
    (Entry { item, content: EntryContent::Stored(extents) }, content)
}

fn domain() -> repository::crypto::DomainKeys {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let (context, _) = testkit::context(1);
        let repository = fixtures::repository(&InMemory::new(), &context).await;
        repository.domain("").expect("keys")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_right_bytes_pass_however_they_come_and_wrong_ones_do_not(
        pieces in prop::collection::vec(-40_i32..40, 0..6),
        step in 1_usize..50,
        at in any::<prop::sample::Index>(),
    ) {
        let keys = domain();
        let (entry, content) = entry(&pieces, &keys);
        let passes = |content: &[u8]| {
            let mut checker = Checker::new(&entry.item, &entry.content, &keys);
            content.chunks(step).all(|piece| checker.take(piece)) && checker.passes()
        };
        prop_assert!(passes(&content));
        prop_assert!(!passes(&[&content[..], b"x"].concat()));
        if !content.is_empty() {
            prop_assert!(!passes(&content[1..]));
            let mut wrong = content.clone();
            wrong[at.index(content.len())] ^= 1;
            prop_assert!(!passes(&wrong));
        }
        // As bytes at hand they are the same, and zeros may come as a count.
        let logged = Entry {
            content: EntryContent::Logged(vec![Bytes::from(content.clone())]),
            ..entry.clone()
        };
        let mut checker = Checker::new(&logged.item, &logged.content, &keys);
        for piece in content.chunks(step) {
            let is_zero = piece.iter().all(|byte| *byte == 0);
            let is_right = if is_zero {
                checker.take_zeros(piece.len() as u64)
            } else {
                checker.take(piece)
            };
            prop_assert!(is_right);
        }
        prop_assert!(checker.passes());
    }
}
