//! What single steps do.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use model::{
    Content, ContentReader, ErrorKind, Extent, ItemKey, ItemKind, Recheck, RestoreStep, Target,
};
use testkit::{BytesReader, ObservedItem};

use super::*;
use crate::files::target::names::temporary_name;

fn names_in(path: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("list");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn links_and_metadata_of_directories_wait_for_the_end() {
    let bench = Bench::new();
    for thing in [directory("d"), file("d/f", "x"), symlink("d/l", "f"), hardlink("h", "d/f")] {
        bench.create(&thing).await.expect("create");
    }
    let mode = || std::fs::metadata(bench.root().join("d")).expect("look").mode() & 0o7777;
    assert_eq!(
        (names_in(&bench.root()), names_in(&bench.root().join("d"))),
        (vec!["d".into()], vec!["f".into()])
    );
    assert_eq!(mode(), 0o700);
    bench.finish();
    assert_eq!(names_in(&bench.root().join("d")), ["f", "l"]);
    assert_eq!(mode(), 0o750);
    let links = std::fs::metadata(bench.root().join("h")).expect("look").nlink();
    assert_eq!(links, 2);
}

#[tokio::test]
async fn holes_take_no_room() {
    let bench = Bench::new();
    let large = 1 << 30;
    for (path, extents, length) in [
        ("first", vec![Extent::hole(large), Extent::data(5)], large + 5),
        ("last", vec![Extent::data(5), Extent::hole(large)], large + 5),
        ("only", vec![Extent::hole(large)], large),
    ] {
        let mut thing = file(path, "");
        let data = if path == "only" { "" } else { "bytes" };
        thing.item.extents = extents;
        let step = RestoreStep::Create(thing.item.clone());
        bench.apply(step, data.as_bytes()).await.expect("create");
        let found = std::fs::metadata(bench.root().join(path)).expect("look");
        assert_eq!(found.len(), length, "{path}");
        assert!(found.blocks() < 2_048, "{path} takes {} blocks", found.blocks());
    }
}

#[tokio::test]
async fn content_of_another_length_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    for content in ["", "shor", "longer"] {
        let step = RestoreStep::Create(file("f", "wanted").item);
        let step =
            if content == "longer" { RestoreStep::Create(file("f", "short").item) } else { step };
        let error = bench.apply(step, content.as_bytes()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{content}");
        assert!(names_in(&bench.root()).is_empty(), "{content}");
    }
    let step = RestoreStep::Create(file("f", "x").item);
    let error = bench.target.apply(&step, None, &bench.context).await.expect_err("no content");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn every_kind_replaces_every_kind() {
    let kinds = || {
        [
            directory("x"),
            file("x", "content"),
            symlink("x", "anywhere"),
            fifo("x"),
            hardlink("x", "primary"),
        ]
    };
    for before in kinds() {
        for after in kinds() {
            let bench = Bench::new();
            let what = format!("{:?} over {:?}", after.item.kind, before.item.kind);
            bench.create(&file("primary", "p")).await.expect("create primary");
            bench.create(&before).await.expect("create");
            bench.finish();
            for _ in 0..2 {
                bench.replace(&after).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
            bench.finish();
            let found = bench.survey().await;
            assert_eq!(found.len(), 2, "{what}");
            let found = &found[&key("x")];
            assert_eq!(found.item.kind, after.item.kind, "{what}");
            assert_eq!(found.content, after.content, "{what}");
            let attributes = found.item.attributes.without(NAMES);
            assert_eq!(attributes, after.item.attributes, "{what}");
            bench.apply(RestoreStep::Delete(key("x")), b"").await.expect("delete");
            bench.apply(RestoreStep::Delete(key("x")), b"").await.expect("delete twice");
            assert_eq!(bench.survey().await.len(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn further_names_follow_a_replaced_file_when_they_are_replaced() {
    let bench = Bench::new();
    for thing in [file("a", "old"), hardlink("b", "a"), hardlink("c", "a")] {
        bench.create(&thing).await.expect("create");
    }
    bench.finish();
    bench.replace(&file("a", "new content")).await.expect("replace");
    bench.replace(&hardlink("b", "a")).await.expect("replace");
    bench.finish();
    let read = |name: &str| std::fs::read_to_string(bench.root().join(name)).expect("read");
    assert_eq!(
        (read("a"), read("b"), read("c")),
        ("new content".into(), "new content".into(), "old".into())
    );
}

#[tokio::test]
async fn later_steps_of_a_key_void_what_waits() {
    let bench = Bench::new();
    bench.create(&symlink("a", "gone")).await.expect("create");
    bench.apply(RestoreStep::Delete(key("a")), b"").await.expect("delete");
    bench.create(&symlink("b", "gone")).await.expect("create");
    bench.replace(&file("b", "a file")).await.expect("replace");
    bench.create(&directory("c")).await.expect("create");
    bench.apply(RestoreStep::Delete(key("c")), b"").await.expect("delete");
    bench.finish();
    assert_eq!(names_in(&bench.root()), ["b"]);
    assert_eq!(std::fs::read(bench.root().join("b")).expect("read"), b"a file");
}

#[tokio::test]
async fn a_directory_that_no_step_is_about_keeps_its_time() {
    let bench = Bench::new();
    for thing in [directory("d"), file("d/old", "old"), file("d/other", "other")] {
        bench.create(&thing).await.expect("create");
    }
    bench.finish();
    let before = std::fs::metadata(bench.root().join("d")).expect("look").modified().expect("time");
    bench.replace(&file("d/old", "new")).await.expect("replace");
    bench.create(&symlink("d/link", "old")).await.expect("create");
    bench.apply(RestoreStep::Delete(key("d/other")), b"").await.expect("delete");
    bench.finish();
    let after = std::fs::metadata(bench.root().join("d")).expect("look").modified().expect("time");
    assert_eq!(names_in(&bench.root().join("d")), ["link", "old"]);
    assert_eq!(before, after);
}

#[tokio::test]
async fn names_may_have_any_byte() {
    let bench = Bench::new();
    let mut expected = Observed::new();
    let names = (1..=255_u8).filter(|b| !matches!(b, b'/' | b'.')).map(|byte| vec![byte]);
    for name in names.chain([vec![0xff; 255], b"...".to_vec(), b"\xc3".to_vec()]) {
        let mut thing = file("x", "content");
        thing.item.key = ItemKey::from_components([name]).expect("key");
        bench.create(&thing).await.expect("create");
        expected.insert(thing.item.key.clone(), thing);
    }
    bench.finish();
    let found = bench.survey().await;
    assert!(found.keys().eq(expected.keys()));
    assert!(found.values().all(|found| found.content == "content"));
}

#[tokio::test]
async fn names_that_cannot_be_held_are_named() {
    let bench = Bench::new();
    let long = "n".repeat(256);
    for thing in [file(&long, "x"), directory(&long), symlink(&long, "x"), fifo(&long)] {
        let error = bench.create(&thing).await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(&long) && error.to_string().contains("256"), "{error}");
    }
    for name in ["..", "."] {
        let error = bench.create(&file(name, "x")).await.expect_err("not a name");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let mut inside = file("x", "x");
        inside.item.key = ItemKey::from_components([name, "x"]).expect("key");
        let error = bench.create(&inside).await.expect_err("not a name");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let error = bench.apply(RestoreStep::Delete(inside.item.key), b"").await;
        assert_eq!(error.expect_err("not a name").kind(), ErrorKind::Invalid);
    }
    assert!(names_in(&bench.root()).is_empty());
}

#[tokio::test]
async fn paths_may_be_longer_than_the_kernel_takes_at_once() {
    let bench = Bench::new();
    let mut path = Vec::new();
    let mut things = Vec::new();
    for depth in 0..45 {
        path.push(format!("{depth:0>200}"));
        things.push(directory(&path.join("/")));
    }
    things.push(file(&format!("{}/f", path.join("/")), "deep"));
    for thing in &things {
        bench.create(thing).await.expect("create");
    }
    bench.finish();
    let found = bench.survey().await;
    assert_eq!(found.len(), 46);
    let last = found.last_key_value().expect("last").1;
    assert_eq!(last.content, "deep");
    assert_eq!(bench.target.recheck(&last.item).await.expect("look"), Recheck::Same);
    for thing in things.iter().rev() {
        bench.apply(RestoreStep::Delete(thing.item.key.clone()), b"").await.expect("delete");
    }
    assert!(bench.target.is_empty().expect("look"));
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let bench = Bench::new();
    bench.create(&file("f", "content")).await.expect("create");
    let item = bench.survey().await[&key("f")].item.clone();
    let look = || bench.target.recheck(&item);
    assert_eq!(look().await.expect("look"), Recheck::Same);
    std::fs::write(bench.root().join("f"), "another").expect("write");
    let changed = match look().await.expect("look") {
        Recheck::Changed(changed) => changed,
        other => panic!("{other:?}"),
    };
    assert_eq!(changed.key, item.key);
    std::fs::remove_file(bench.root().join("f")).expect("remove");
    assert_eq!(look().await.expect("look"), Recheck::Gone);
    let error = bench.target.open(&item, 0, 0..1).await.err().expect("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_directory_with_something_in_it_is_neither_removed_nor_replaced() {
    let bench = Bench::new();
    for thing in [directory("d"), file("d/f", "x")] {
        bench.create(&thing).await.expect("create");
    }
    let refused = [
        bench.apply(RestoreStep::Delete(key("d")), b"").await,
        bench.replace(&file("d", "x")).await,
    ];
    for refused in refused {
        let error = refused.expect_err("not empty");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("not empty"), "{error}");
    }
    assert_eq!(names_in(&bench.root().join("d")), ["f"]);
    // What a killed restore left is no content of a directory.
    std::fs::remove_file(bench.root().join("d/f")).expect("remove");
    let left = std::ffi::OsStr::from_bytes(&temporary_name(&key("d/f"))).to_owned();
    std::fs::write(bench.root().join("d").join(left), "half").expect("write");
    bench.apply(RestoreStep::Delete(key("d")), b"").await.expect("delete");
    assert!(names_in(&bench.root()).is_empty());
}

#[tokio::test]
async fn steps_without_their_parent_are_refused() {
    let bench = Bench::new();
    for thing in [file("no/f", "x"), directory("no/d"), symlink("no/l", "x"), fifo("no/p")] {
        let error = bench.create(&thing).await.expect_err("no parent");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    bench.apply(RestoreStep::Delete(key("no/f")), b"").await.expect("nothing to delete");
    let node =
        ObservedItem { item: Item { kind: ItemKind::Node, ..file("n", "").item }, ..file("n", "") };
    assert_eq!(bench.create(&node).await.expect_err("a node").kind(), ErrorKind::Unsupported);
    let root = bench.apply(RestoreStep::Delete(ItemKey::root()), b"").await;
    assert_eq!(root.expect_err("the root").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_directory_removed_behind_our_back_is_found_again() {
    let bench = Bench::new();
    bench.create(&directory("d")).await.expect("create");
    bench.create(&file("d/one", "1")).await.expect("create");
    std::fs::remove_dir_all(bench.root().join("d")).expect("remove");
    std::fs::create_dir(bench.root().join("d")).expect("make");
    bench.create(&file("d/two", "2")).await.expect("create");
    assert_eq!(names_in(&bench.root().join("d")), ["two"]);
}

#[tokio::test]
async fn stops_when_told() {
    let bench = Bench::new();
    bench.create(&symlink("l", "x")).await.expect("create");
    bench.handles.cancel.cancel();
    let error = bench.create(&file("f", "x")).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let error = bench.target.finish(&bench.context).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(names_in(&bench.root()).is_empty());
    let (again, _) = testkit::context(2);
    bench.target.finish(&again).await.expect("finish after all");
    assert_eq!(names_in(&bench.root()), ["l"]);
}

#[tokio::test]
async fn what_cannot_be_completed_does_not_keep_the_rest_from_it() {
    let bench = Bench::new();
    bench.create(&directory("d")).await.expect("create");
    bench.create(&hardlink("a", "missing")).await.expect("waits");
    bench.create(&symlink("z", "x")).await.expect("waits");
    let error = bench.target.finish(&bench.context).await.expect_err("one fails");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(names_in(&bench.root()), ["d", "z"]);
    bench.create(&file("missing", "here now")).await.expect("create");
    bench.finish();
    assert_eq!(names_in(&bench.root()), ["a", "d", "missing", "z"]);
}

#[test]
fn the_root_is_made_where_its_parent_exists() {
    let scratch = tempfile::tempdir().expect("scratch directory");
    let open = |path: &str, mode| {
        let options = TargetOptions { root_mode: mode, ..TargetOptions::default() };
        DirectoryTarget::open(&scratch.path().join(path), options)
    };
    assert_eq!(open("no/root", 0o700).expect_err("no parent").kind(), ErrorKind::NotFound);
    std::fs::write(scratch.path().join("file"), "x").expect("write");
    assert_eq!(open("file", 0o700).expect_err("no directory").kind(), ErrorKind::Conflict);
    let made = open("root", 0o700).expect("made");
    assert!(made.is_empty().expect("look"));
    let before = std::fs::metadata(scratch.path().join("root")).expect("look");
    assert_eq!(before.mode() & 0o7777, 0o700);
    std::fs::write(scratch.path().join("root/file"), "x").expect("write");
    assert!(!made.is_empty().expect("look"));
    let before = std::fs::metadata(scratch.path().join("root")).expect("look");
    let again = open("root", 0o711).expect("opened");
    let after = std::fs::metadata(scratch.path().join("root")).expect("look");
    assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
    assert_eq!(again.facts().write_concurrency, TargetOptions::default().write_concurrency);
    assert_eq!(names_in(&scratch.path().join("root")), ["file"]);
}

/// A source that fails in the middle of a file.
struct Torn(BytesReader, bool);

#[async_trait::async_trait]
impl ContentReader for Torn {
    async fn next(&mut self) -> model::Result<Option<bytes::Bytes>> {
        if std::mem::replace(&mut self.1, true) {
            return Err(model::Error::new(ErrorKind::Unavailable, "read", "the source"));
        }
        self.0.next().await
    }
}

#[tokio::test]
async fn a_source_that_fails_leaves_what_was_there() {
    let bench = Bench::new();
    bench.create(&file("f", "as it was")).await.expect("create");
    let mut torn = Torn(BytesReader::new("as it is to be".into()), false);
    let step = RestoreStep::Replace(file("f", "as it is to be").item);
    let error = bench.target.apply(&step, Some(&mut torn), &bench.context).await.expect_err("torn");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(names_in(&bench.root()), ["f"]);
    assert_eq!(std::fs::read(bench.root().join("f")).expect("read"), b"as it was");
}
