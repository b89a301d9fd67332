//! Reading what was listed while it changes.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use model::{ErrorKind, Item, Recheck, System};
use testkit::conformance::{read_content, read_range};
use testkit::context;

use super::{Files, Tree, list};

async fn cut_of(files: &Files, tree: &Tree, name: &str) -> (Box<dyn model::Cut>, Item) {
    let (context, _) = context(1);
    let cut = files.cut(None, &context).await.expect("cut");
    let items = list(cut.as_ref(), &context).await;
    let item = items.into_iter().find(|item| item.key == tree.key(name)).expect("item");
    (cut, item)
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_as_what_it_is() {
    let tree = Tree::new("f a before");
    let (cut, item) = cut_of(&tree.files(), &tree, "a").await;
    assert_eq!(cut.recheck(&item).await.expect("recheck"), Recheck::Same);
    tree.change("f a and after that");
    // It is longer than listed; what was listed is all that is given.
    assert_eq!(read_content(cut.as_ref(), &item).await.expect("read"), &b"and af"[..]);
    let Recheck::Changed(now) = cut.recheck(&item).await.expect("recheck") else {
        panic!("not noticed")
    };
    assert_eq!(now.content_bytes(), 14);
    assert_eq!(read_content(cut.as_ref(), &now).await.expect("read"), &b"and after that"[..]);
    assert_eq!(cut.recheck(&now).await.expect("recheck"), Recheck::Same);
}

#[tokio::test]
async fn a_file_that_gets_shorter_ends_early() {
    let tree = Tree::new("f a long enough");
    let (cut, item) = cut_of(&tree.files(), &tree, "a").await;
    tree.change("f a short");
    let mut reader = cut.open(&item, 0, 0..11).await.expect("open");
    assert_eq!(reader.next().await.expect("read").as_deref(), Some(&b"short"[..]));
    assert_eq!(reader.next().await.expect("read"), None);
    assert!(matches!(cut.recheck(&item).await.expect("recheck"), Recheck::Changed(_)));
}

#[tokio::test]
async fn a_reader_vouches_for_the_file_that_was_listed_alone() {
    for (change, expected) in [
        ("", true),
        ("f b longer than it was", true),
        ("f a longer than it was", false),
        ("rm a", false),
        ("rm a\n f a x", false),
    ] {
        let tree = Tree::new("f a x\n f b other");
        let (cut, item) = cut_of(&tree.files(), &tree, "a").await;
        let mut reader = cut.open(&item, 0, 0..1).await.expect("open");
        assert_eq!(reader.next().await.expect("read").as_deref(), Some(&b"x"[..]));
        tree.change(change);
        assert_eq!(reader.vouches_for(&item), expected, "{change}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_or_is_something_else_is_told() {
    for (change, expected) in [
        ("rm a", None),
        ("rm a\n l a b", Some(model::ItemKind::Symlink)),
        ("rm a\n p a", Some(model::ItemKind::Fifo)),
        ("rm a\n d a", Some(model::ItemKind::Directory)),
        ("rm a\n s a", None),
    ] {
        let tree = Tree::new("f a x\n f b other");
        let (cut, item) = cut_of(&tree.files(), &tree, "a").await;
        tree.change(change);
        let error = cut.open(&item, 0, 0..1).await.err().expect("nothing to open");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{change}: {error:?}");
        let now = match cut.recheck(&item).await.expect("recheck") {
            Recheck::Gone => None,
            Recheck::Changed(now) => Some(now.kind),
            Recheck::Same => panic!("{change}: not noticed"),
        };
        assert_eq!(now, expected, "{change}");
    }
}

#[tokio::test]
async fn only_listed_ranges_of_protected_files_are_opened() {
    let tree = Tree::new("d a\n f a/in x\n f out x");
    let files = Files::new(super::options(vec![tree.at("a")])).expect("sound options");
    let (cut, item) = cut_of(&files, &tree, "a/in").await;
    let kind = async |item: &Item, extent, range| {
        cut.open(item, extent, range).await.err().map(|error| error.kind())
    };
    assert_eq!(kind(&item, 0, 0..1).await, None);
    assert_eq!(kind(&item, 0, 0..2).await, Some(ErrorKind::Invalid));
    assert_eq!(kind(&item, 1, 0..0).await, Some(ErrorKind::Invalid));
    let outside = Item { key: tree.key("out"), ..item.clone() };
    assert_eq!(kind(&outside, 0, 0..1).await, Some(ErrorKind::NotFound));
    let up = tree.key("a").child(b"..").and_then(|key| key.child(b"out")).expect("key");
    assert_eq!(kind(&Item { key: up, ..item }, 0, 0..1).await, Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn large_files_are_read_in_pieces_at_any_place() {
    let content = testkit::random_bytes(7, 3_000_001);
    let tree = Tree::new("");
    std::fs::write(tree.at("a"), &content).expect("file");
    let (cut, item) = cut_of(&tree.files(), &tree, "a").await;
    for range in [0..3_000_001, 0..1 << 20, 5..6, 1_048_575..2_097_153, 3_000_001..3_000_001] {
        let read = read_range(cut.as_ref(), &item, 0, range.clone()).await.expect("read");
        assert!(read[..] == content[range.start as usize..range.end as usize], "{range:?}");
    }
}

/// Ends what goes on beside a test, also when it fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A directory on the way is replaced by a link to outside and back while files are opened.
#[tokio::test]
async fn a_link_swapped_in_never_leads_outside() {
    let tree = Tree::new("d in\n d in/a\n f in/a/f inside\n d out\n f out/f outside");
    for reach in [
        super::super::reach::Reach::new().expect("root"),
        super::super::reach::Reach::without_openat2(),
    ] {
        let mut files = Files::new(super::options(vec![tree.at("in")])).expect("sound options");
        std::sync::Arc::get_mut(&mut files.source).expect("alone").reach = reach;
        let (cut, item) = cut_of(&files, &tree, "in/a/f").await;
        let is_done = AtomicBool::new(false);
        let (inside, moved, link) = (tree.at("in/a"), tree.at("in/b"), tree.at("in/l"));
        std::os::unix::fs::symlink(tree.at("out"), &link).expect("link");
        let swap = || {
            while !is_done.load(Ordering::Relaxed) {
                std::fs::rename(&inside, &moved).expect("away");
                std::fs::rename(&link, &inside).expect("link in");
                std::fs::rename(&inside, &link).expect("link out");
                std::fs::rename(&moved, &inside).expect("back");
            }
        };
        let (mut opened, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(swap);
            let _ending = Ending(&is_done);
            // However the threads take turns, both have to be met.
            while opened < 500 || refused < 500 {
                let opening = cut.open(&item, 0, 0..6).now_or_never().expect("in place");
                let Ok(mut reader) = opening else {
                    refused += 1;
                    continue;
                };
                let read = reader.next().now_or_never().expect("in place").expect("read");
                assert_eq!(read.as_deref(), Some(&b"inside"[..]));
                opened += 1;
            }
        });
        std::fs::remove_file(&link).expect("clean up");
    }
}
