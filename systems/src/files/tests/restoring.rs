//! What is captured of a real tree comes back, seen by another capture.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use model::{
    AttributeTag, Attributes, ContentReader, Context, Extent, ExtentBody, RestoreStep, Target,
};
use testkit::conformance::{Baseline, Observed, ObservedItem, read_content};
use testkit::{BytesReader, still_context};

use super::super::CommandItem;
use super::super::target::{DirectoryTarget, TargetOptions};
use super::conformance::{EDITS, SCRIPT, make_holes};
use super::*;

/// Everything that is to come back of an item.
type Shown = (ItemKind, Attributes, Vec<Extent>, Bytes);

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives names their own metadata, and other owners where that is allowed.
fn decorate(tree: &Tree) {
    for (name, mode, seconds) in [
        ("a/b", 0o4755, 1_000_000_000),
        ("x1", 0o600, 5),
        ("pipe", 0o604, 1_234_567_890),
        ("a", 0o2750, 1_100_000_000),
        ("", 0o711, 1_200_000_000),
    ] {
        let path = tree.at(name);
        if is_root() {
            std::os::unix::fs::lchown(&path, Some(1_234), Some(2_345)).expect("owner");
        }
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("mode");
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 987_654_321 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).expect("time");
    }
    // Where the file system has no extended attributes there are none to capture.
    let flags = rustix::fs::XattrFlags::empty();
    for name in ["a/b", "a/empty", "x1"] {
        let _ = rustix::fs::setxattr(tree.at(name), "user.lifeboat", b"\0value", flags);
    }
}

/// Captures a tree and the output of a command.
async fn capture(tree: &Tree, context: &Context) -> Observed {
    let mut options = tree.options();
    options.commands = vec![CommandItem {
        name: "words".into(),
        command: vec!["echo".into(), "two words".into()],
        timeout: std::time::Duration::from_secs(60),
    }];
    let files = Files::new(options).expect("sound options");
    Baseline::take(&files, context).await.expect("capture").state
}

async fn apply(target: &DirectoryTarget, step: RestoreStep, content: &Bytes, context: &Context) {
    let mut reader = match &step {
        RestoreStep::Create(item) | RestoreStep::Replace(item) if item.kind.has_content() => {
            Some(BytesReader::new(data_of(item, content)))
        }
        _ => None,
    };
    let reader = reader.as_mut().map(|reader| reader as &mut dyn ContentReader);
    let done = target.apply(&step, reader, context).await;
    done.unwrap_or_else(|error| panic!("{step:?}: {error:?}"));
}

/// Returns the bytes of the data extents.
fn data_of(item: &Item, content: &Bytes) -> Bytes {
    let (mut rest, mut data) = (content.clone(), Vec::new());
    for extent in &item.extents {
        let bytes = rest.split_to(usize::try_from(extent.length_bytes).expect("length"));
        if extent.body != ExtentBody::Hole {
            data.extend_from_slice(&bytes);
        }
    }
    data.into()
}

/// Brings a target from one captured state to another.
async fn restore(target: &DirectoryTarget, from: &Observed, to: &Observed, context: &Context) {
    let is_gone = |key: &&ItemKey| !to.contains_key(*key);
    for key in from.keys().rev().filter(is_gone) {
        apply(target, RestoreStep::Delete(key.clone()), &Bytes::new(), context).await;
    }
    for (key, ObservedItem { item, content }) in to {
        let item = item.clone();
        let step = match from.get(key) {
            None => RestoreStep::Create(item),
            Some(_) => RestoreStep::Replace(item),
        };
        apply(target, step, content, context).await;
    }
    target.finish(context).await.expect("finish");
}

/// Shows the items below `above`, which is taken off their keys; those that lead to the tree too where
/// they can be given away to whom they belong.
fn shown(state: &Observed, above: &ItemKey, tree: &ItemKey) -> BTreeMap<Vec<u8>, Shown> {
    let rest_of = |bytes: &[u8]| {
        bytes.strip_prefix(above.as_bytes())?.strip_prefix(b"\0").map(<[u8]>::to_vec)
    };
    let mut shown = BTreeMap::new();
    for (key, ObservedItem { item, content }) in state {
        let Some(rest) = rest_of(key.as_bytes()) else { continue };
        if rest.starts_with(b"@commands") || !(is_root() || key.is_within(tree)) {
            continue;
        }
        let mut attributes = item.attributes.clone();
        if item.kind == ItemKind::Hardlink {
            let first = attributes.get(AttributeTag::LINK_TARGET).and_then(rest_of);
            let first = first.expect("a name beside it");
            attributes = Attributes::builder().bytes(AttributeTag::LINK_TARGET, &first).build();
        }
        shown.insert(rest, (item.kind, attributes, item.extents.clone(), content.clone()));
    }
    shown
}

/// Captures what was restored below a folder and compares it with what was captured first.
async fn assert_restored(tree: &Tree, wanted: &Observed, root: &Path, context: &Context) {
    let host = ItemKey::from_components([HOST]).expect("key");
    let restored_host = root.join(HOST);
    let restored = restored_host.join(tree.path.strip_prefix("/").expect("absolute"));
    let files = Files::new(options(vec![restored.clone()])).expect("sound options");
    let found = Baseline::take(&files, context).await.expect("capture again").state;
    let key = |path: &Path| super::super::roots::key_of_path(&host, path).expect("key");
    let expected = shown(wanted, &host, &tree.key(""));
    let found = shown(&found, &key(&restored_host), &key(&restored));
    let names = |items: &BTreeMap<Vec<u8>, Shown>| -> Vec<String> {
        items.keys().map(|name| name.escape_ascii().to_string()).collect()
    };
    assert_eq!(names(&expected), names(&found));
    for (name, item) in &expected {
        assert_eq!(Some(item), found.get(name), "{}", name.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_captured_comes_back_and_follows_what_is_captured_later() {
    // Time stands still, so that no command takes too long.
    let (context, handles) = still_context(1);
    let tree = Tree::new(SCRIPT);
    make_holes(&tree);
    decorate(&tree);
    let first = capture(&tree, &context).await;
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().canonicalize().expect("path").join("restored");
    let target = DirectoryTarget::open(&root, TargetOptions::default()).expect("open");

    restore(&target, &Observed::new(), &first, &context).await;
    assert_restored(&tree, &first, &root, &context).await;
    let output = std::fs::read(root.join(HOST).join("@commands/words")).expect("read");
    assert_eq!(output, b"two words\n");

    tree.change(EDITS);
    let second = capture(&tree, &context).await;
    restore(&target, &first, &second, &context).await;
    assert_restored(&tree, &second, &root, &context).await;
    if is_root() {
        handles.monitor.assert_no_problems();
    }
}

/// The target's own survey says of a restored tree what a capture of it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survey_agrees_with_a_capture() {
    let (context, _) = still_context(1);
    let tree = Tree::new(SCRIPT);
    make_holes(&tree);
    decorate(&tree);
    let captured = Baseline::take(&tree.files(), &context).await.expect("capture").state;
    let target = DirectoryTarget::open(&tree.path, TargetOptions::default()).expect("open");
    let mut surveyed = Observed::new();
    let mut batches = target.survey(&context);
    while let Some(batch) = batches.next().await {
        for item in batch.expect("survey") {
            let content = read_content(&target, &item).await.expect("read");
            surveyed.insert(item.key.clone(), ObservedItem { item, content });
        }
    }
    let top = tree.key("");
    let root = surveyed.remove(&ItemKey::root()).expect("the root is listed").item;
    let of_root = |tag| (root.attributes.get(tag), captured[&top].item.attributes.get(tag));
    for tag in [AttributeTag::MODE, AttributeTag::USER_ID, AttributeTag::MODIFIED_NS] {
        let (found, expected) = of_root(tag);
        assert_eq!(found.is_some().then_some(found), Some(expected), "{tag:?}");
    }
    let expected = shown(&captured, &top, &top);
    let as_captured: BTreeMap<Vec<u8>, Shown> = surveyed
        .into_values()
        .map(|ObservedItem { item, content }| {
            (item.key.as_bytes().to_vec(), (item.kind, item.attributes, item.extents, content))
        })
        .collect();
    for (name, item) in &expected {
        assert_eq!(Some(item), as_captured.get(name), "{}", name.escape_ascii());
    }
    assert_eq!(expected.len(), as_captured.len());
}
