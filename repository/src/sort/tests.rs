//! Sorting against a map, with so little memory that most runs are spilled.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{
    AttributeTag, Attributes, Error, ErrorKind, Extent, ExtentBody, ExtentIdentity, Item, ItemKey,
    ItemKind, StripeChecksums, Version,
};
use proptest::prelude::*;
use testkit::SeededEntropy;

use super::*;

fn file(name: &str) -> Item {
    Item {
        key: ItemKey::from_components(name.split('/').filter(|c| !c.is_empty())).expect("key"),
        kind: ItemKind::File,
        attributes: Attributes::default(),
        version: Some(Version(Bytes::from_static(b"v"))),
        extents: vec![Extent::data(name.len() as u64)],
    }
}

fn sort(memory_bytes: usize, items: impl IntoIterator<Item = Item>) -> Result<Vec<Vec<Item>>> {
    let folder = tempfile::tempdir().expect("folder");
    let (context, _) = testkit::context(1);
    let mut sorter = Sorter::new(memory_bytes, folder.path(), &context);
    items.into_iter().try_for_each(|item| sorter.push(item))?;
    let sorted = block_on(sorter.finish()?.try_collect());
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0, "nothing is left");
    sorted
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}

/// Many items in an order that is not theirs.
fn shuffled(count: u64) -> impl Iterator<Item = Item> {
    (0..count).map(|n| file(&format!("d{}/f{n}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 97)))
}

/// A sorter that has spilled and is not finished.
fn spilled(folder: &Path, memory_bytes: usize, count: u64) -> Sorter {
    let (context, _) = testkit::context(1);
    let mut sorter = Sorter::new(memory_bytes, folder, &context);
    shuffled(count).try_for_each(|item| sorter.push(item)).expect("push");
    sorter
}

#[test]
fn nothing_sorts_to_nothing_and_batches_are_never_empty() {
    assert!(sort(0, []).expect("sort").is_empty());
    let batches = sort(1 << 20, shuffled(3000)).expect("sort");
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1024, 1024, 952]);
}

#[test]
fn the_smallest_memory_and_an_empty_one_sort_as_a_large_one_does() {
    let expected = sort(64 << 20, shuffled(2000)).expect("sort").concat();
    assert!(expected.is_sorted_by(|a, b| a.key < b.key));
    for memory_bytes in [0, 1, 300, 4096, 100_000] {
        assert_eq!(sort(memory_bytes, shuffled(2000)).expect("sort").concat(), expected);
    }
}

#[test]
fn runs_fill_the_memory_and_are_merged_in_passes() {
    let folder = tempfile::tempdir().expect("folder");
    let sorter = spilled(folder.path(), 16 << 10, 20_000);
    let runs = &sorter.spilled.as_ref().expect("spilled").runs;
    // 32 fit at once, so that these take more than one pass.
    assert!((33..100).contains(&runs.len()), "{}", runs.len());
    let sorted: Vec<_> = block_on(sorter.finish().expect("finish").try_collect()).expect("sort");
    assert_eq!(sorted.concat().len(), 20_000);
}

#[test]
fn a_key_that_comes_twice_is_named() {
    for memory_bytes in [0, 1000, 1 << 20] {
        let items = ["b/c", "a", "d", "b/c", "e"].map(file);
        let error = sort(memory_bytes, items).expect_err("twice");
        assert_eq!((error.kind(), error.subject()), (ErrorKind::Invalid, "b/c"));
    }
    let roots = [ItemKey::root(), ItemKey::root()].map(|key| Item { key, ..file("") });
    assert_eq!(sort(1 << 20, roots).expect_err("twice").kind(), ErrorKind::Invalid);
}

#[cfg(unix)]
#[test]
fn the_file_has_no_name_and_is_private() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("folder");
    let mut sorter = spilled(folder.path(), 1000, 100);
    let file = sorter.spilled.as_mut().expect("spilled").file.file();
    let unlinked = SpillFile::unlinked(folder.path(), &SeededEntropy::new(1)).expect("create");
    for metadata in [file.metadata().expect("look"), unlinked.metadata().expect("look")] {
        assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (0, 0o600));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0);
}

#[test]
fn nothing_readable_is_in_the_file_and_two_sorts_have_other_keys() {
    let folder = tempfile::tempdir().expect("folder");
    let contents = [1, 2].map(|seed| {
        let (context, _) = testkit::context(seed);
        let mut sorter = Sorter::new(1000, folder.path(), &context);
        shuffled(200).try_for_each(|item| sorter.push(item)).expect("push");
        let file = sorter.spilled.as_mut().expect("spilled").file.file();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.read_to_end(&mut bytes).expect("read");
        bytes
    });
    assert_eq!(contents[0].len(), contents[1].len());
    assert_ne!(contents[0], contents[1]);
    assert!(!contents[0].windows(3).any(|bytes| bytes == b"\0f1"), "a key in the clear");
}

/// Does something to the spilled bytes, then merges.
fn merge_after(damage: impl FnOnce(&mut std::fs::File)) -> Result<usize> {
    let folder = tempfile::tempdir().expect("folder");
    let mut sorter = spilled(folder.path(), 1000, 100);
    damage(sorter.spilled.as_mut().expect("spilled").file.file());
    let sorted: Vec<_> = block_on(sorter.finish()?.try_collect())?;
    Ok(sorted.concat().len())
}

#[test]
fn damage_of_the_file_is_found() {
    assert_eq!(merge_after(|_| ()).expect("sound"), 100);
    let flip = |at: u64| {
        move |file: &mut std::fs::File| {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).expect("seek");
            file.read_exact(&mut byte).expect("read");
            file.seek(SeekFrom::Start(at)).expect("seek");
            file.write_all(&[byte[0] ^ 1]).expect("write");
        }
    };
    let swap = |file: &mut std::fs::File| {
        let mut blocks = vec![0; 2 * (256 + 16)];
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.read_exact(&mut blocks).expect("read");
        blocks.rotate_left(256 + 16);
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.write_all(&blocks).expect("write");
    };
    for error in [
        merge_after(flip(0)),
        merge_after(flip(256 + 15)),
        merge_after(flip(600)),
        merge_after(swap),
        merge_after(|file| file.set_len(500).expect("cut")),
        merge_after(|file| file.set_len(0).expect("cut")),
    ] {
        assert_eq!(error.expect_err("damaged").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let (context, _) = testkit::context(1);
    let mut sorter = Sorter::new(0, Path::new("/nowhere/at/all"), &context);
    let error = shuffled(2).try_for_each(|item| sorter.push(item)).expect_err("no folder");
    assert_eq!((error.kind(), error.subject()), (ErrorKind::NotFound, "/nowhere/at/all"));
}

/// `/dev/full` answers every write as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_to_be_full() {
    let folder = tempfile::tempdir().expect("folder");
    let mut sorter = spilled(folder.path(), 1000, 100);
    *sorter.spilled.as_mut().expect("spilled").file.file() =
        std::fs::File::options().write(true).open("/dev/full").expect("open");
    let error = shuffled(200).try_for_each(|item| sorter.push(item)).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.subject(), folder.path().display().to_string());
    assert!(error.chain().contains("No space left"), "{}", error.chain());
}

#[test]
fn cancelling_stops_spilling_merging_and_returning() {
    let folder = tempfile::tempdir().expect("folder");
    for (memory_bytes, count) in [(1000, 100), (1 << 20, 3000)] {
        let (context, handles) = testkit::context(1);
        let mut sorter = Sorter::new(memory_bytes, folder.path(), &context);
        shuffled(count).try_for_each(|item| sorter.push(item)).expect("push");
        let mut stream = sorter.finish().expect("finish");
        handles.cancel.cancel();
        let error = block_on(stream.try_next()).expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    let (context, handles) = testkit::context(1);
    handles.cancel.cancel();
    let mut sorter = Sorter::new(1000, folder.path(), &context);
    let error = shuffled(100).try_for_each(|item| sorter.push(item)).expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

fn some_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn some_extent() -> impl Strategy<Value = Extent> {
    let checksums = (1..u32::MAX, prop::collection::vec(any::<u32>(), 0..5))
        .prop_map(|(stripe_bytes, crc32c)| StripeChecksums { stripe_bytes, crc32c });
    let identity = some_bytes(20).prop_map(ExtentIdentity);
    let data = (prop::option::of(identity), prop::option::of(checksums))
        .prop_map(|(identity, checksums)| ExtentBody::Data { identity, checksums });
    let body = prop_oneof![Just(ExtentBody::Hole), data];
    (any::<u64>(), body).prop_map(|(length_bytes, body)| Extent { length_bytes, body })
}

fn some_item() -> impl Strategy<Value = Item> {
    let key = prop::collection::vec("[ab\u{1}\u{ff}/]{1,3}|[a-c]{120,200}", 0..4)
        .prop_map(|components| ItemKey::from_components(components).expect("key"));
    let version = prop::option::of(some_bytes(30).prop_map(Version));
    let extents = prop::collection::vec(some_extent(), 0..4);
    (key, 1..=6_u8, any::<u64>(), version, extents).prop_map(
        |(key, kind, mode, version, extents)| {
            let attributes = Attributes::builder().unsigned(AttributeTag::MODE, mode).build();
            let kind = ItemKind::from_number(kind).expect("kind");
            Item { key, kind, attributes, version, extents }
        },
    )
}

proptest! {
    #[test]
    fn sorts_as_a_map_does(
        items in prop::collection::vec(some_item(), 0..60),
        memory_bytes in 0..8000_usize,
    ) {
        let map: BTreeMap<_, _> = items.iter().map(|item| (item.key.clone(), item.clone())).collect();
        let result = sort(memory_bytes, items.clone());
        if map.len() == items.len() {
            prop_assert_eq!(result.expect("sort").concat(), map.into_values().collect::<Vec<_>>());
        } else {
            prop_assert_eq!(result.map(|_| ()).map_err(|error: Error| error.kind()), Err(ErrorKind::Invalid));
        }
    }

    #[test]
    fn items_survive_their_bytes_and_other_bytes_are_no_panic(
        item in some_item(),
        other in some_bytes(100),
    ) {
        let mut bytes = Vec::new();
        codec::encode(&item, &mut bytes);
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(codec::key_of(&bytes).expect("key"), item.key.as_bytes());
        prop_assert_eq!(codec::decode(&bytes), Some(item));
        let _ = codec::decode(&other);
    }
}
