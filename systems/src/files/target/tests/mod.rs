//! Tests of the target on real directories.

mod attributes;
mod conflicts;
mod hostile;
mod resume;
mod steps;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use model::{
    AttributeTag, Attributes, ContentReader, Context, Extent, ExtentBody, Item, ItemKey, ItemKind,
    Position, Proof, RestoreStep, Result, Target,
};
use testkit::conformance::{Baseline, check_target, read_content};
use testkit::{BytesReader, Handles, Observed, ObservedItem, context};

use super::extended::{Extended, encode};
use super::{DirectoryTarget, TargetOptions};

/// What a test works with. The target is `target` in a directory of its own; beside it is `outside`.
pub(super) struct Bench {
    scratch: tempfile::TempDir,
    pub(super) target: DirectoryTarget,
    pub(super) context: Context,
    pub(super) handles: Handles,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(TargetOptions::default())
    }

    pub(super) fn with(options: TargetOptions) -> Self {
        Self::on(tempfile::tempdir().expect("scratch directory"), options)
    }

    /// Works in memory where the host has a folder there: a disk is shared with others, who may make
    /// it slow.
    pub(super) fn in_memory() -> Self {
        let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::on(scratch.expect("scratch directory"), TargetOptions::default())
    }

    fn on(scratch: tempfile::TempDir, options: TargetOptions) -> Self {
        std::fs::create_dir(scratch.path().join("outside")).expect("outside");
        std::fs::write(scratch.path().join("outside/canary"), "canary").expect("canary");
        let target = DirectoryTarget::open(&scratch.path().join("target"), options).expect("open");
        let (context, handles) = context(1);
        Self { scratch, target, context, handles }
    }

    /// Opens the same directory as another process would.
    pub(super) fn reopen(&mut self) {
        let options = TargetOptions::default();
        self.target = DirectoryTarget::open(&self.root(), options).expect("open again");
    }

    pub(super) fn root(&self) -> PathBuf {
        self.scratch.path().join("target")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.scratch.path().join("outside")
    }

    pub(super) async fn apply(&self, step: RestoreStep, content: &[u8]) -> Result<()> {
        let mut reader = BytesReader::new(Bytes::copy_from_slice(content));
        let has_content = matches!(&step, RestoreStep::Create(item) | RestoreStep::Replace(item)
            if item.kind.has_content());
        let reader = has_content.then_some(&mut reader as &mut dyn ContentReader);
        self.target.apply(&step, reader, &self.context).await
    }

    pub(super) async fn create(&self, thing: &ObservedItem) -> Result<()> {
        self.apply(RestoreStep::Create(thing.item.clone()), &data_of(thing)).await
    }

    pub(super) async fn replace(&self, thing: &ObservedItem) -> Result<()> {
        self.apply(RestoreStep::Replace(thing.item.clone()), &data_of(thing)).await
    }

    /// Ends a restore, but for making it durable: that waits for all that others write to the same disk.
    /// The conformance check does it whole.
    pub(super) fn finish(&self) {
        self.target.complete_waiting(&self.context).expect("finish");
    }

    /// Lists what is there below the root, with content.
    pub(super) async fn survey(&self) -> Observed {
        let mut found = Observed::new();
        let mut batches = self.target.survey(&self.context);
        while let Some(batch) = batches.next().await {
            for item in batch.expect("survey").into_iter().filter(|item| !item.key.is_root()) {
                let content = read_content(&self.target, &item).await.expect("read back");
                found.insert(item.key.clone(), ObservedItem { item, content });
            }
        }
        found
    }
}

/// Returns the bytes of the data extents.
pub(super) fn data_of(thing: &ObservedItem) -> Vec<u8> {
    let (mut data, mut offset) = (Vec::new(), 0);
    for extent in &thing.item.extents {
        let end = offset + extent.length_bytes as usize;
        if extent.body != ExtentBody::Hole {
            data.extend_from_slice(&thing.content[offset..end]);
        }
        offset = end;
    }
    data
}

pub(super) fn key(path: &str) -> ItemKey {
    ItemKey::from_components(path.split('/')).expect("key")
}

fn thing(path: &str, kind: ItemKind, attributes: Attributes, content: &[u8]) -> ObservedItem {
    let length_bytes = content.len() as u64;
    let extents = if content.is_empty() { vec![] } else { vec![Extent::data(length_bytes)] };
    let item = Item { key: key(path), kind, attributes, version: None, extents };
    ObservedItem { item, content: Bytes::copy_from_slice(content) }
}

/// Whoever restores as root may give things away; a test run by others keeps its own.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns attributes as a capture gives them.
pub(super) fn attributes(mode: u64, modified_ns: i64) -> model::AttributesBuilder {
    let (user, group) = if is_root() { (1_234, 2_345) } else { own_ids() };
    Attributes::builder()
        .unsigned(AttributeTag::MODE, mode)
        .unsigned(AttributeTag::USER_ID, user)
        .unsigned(AttributeTag::GROUP_ID, group)
        .signed(AttributeTag::MODIFIED_NS, modified_ns)
}

fn own_ids() -> (u64, u64) {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    (user.as_raw().into(), group.as_raw().into())
}

pub(super) fn directory(path: &str) -> ObservedItem {
    thing(path, ItemKind::Directory, attributes(0o750, 1_600_000_000_123_456_789).build(), b"")
}

pub(super) fn file(path: &str, content: &str) -> ObservedItem {
    let attributes = attributes(0o640, -1_000_000_001).build();
    thing(path, ItemKind::File, attributes, content.as_bytes())
}

pub(super) fn symlink(path: &str, target: &str) -> ObservedItem {
    let attributes = attributes(0o777, 1_500_000_000_000_000_001);
    let attributes = attributes.bytes(AttributeTag::LINK_TARGET, target.as_bytes()).build();
    thing(path, ItemKind::Symlink, attributes, b"")
}

pub(super) fn hardlink(path: &str, primary: &str) -> ObservedItem {
    let target = key(primary);
    let attributes = Attributes::builder().bytes(AttributeTag::LINK_TARGET, target.as_bytes());
    thing(path, ItemKind::Hardlink, attributes.build(), b"")
}

pub(super) fn fifo(path: &str) -> ObservedItem {
    thing(path, ItemKind::Fifo, attributes(0o604, 77).build(), b"")
}

/// A file of pieces of data and holes.
pub(super) fn sparse(path: &str, extents: Vec<Extent>) -> ObservedItem {
    let mut content = Vec::new();
    for extent in &extents {
        let byte = u8::from(extent.body != ExtentBody::Hole) * b'x';
        content.resize(content.len() + extent.length_bytes as usize, byte);
    }
    let mut sparse = thing(path, ItemKind::File, attributes(0o600, 5).build(), &content);
    sparse.item.extents = extents;
    sparse
}

/// Adds extended attributes.
pub(super) fn with_extended(mut thing: ObservedItem, pairs: &[(&str, &[u8])]) -> ObservedItem {
    let pairs = pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
    let bytes = encode(&pairs.collect::<Extended>());
    let mut builder = Attributes::builder();
    for (tag, value) in thing.item.attributes.iter() {
        builder = builder.bytes(tag, value);
    }
    thing.item.attributes = builder.bytes(AttributeTag::EXTENDED, &bytes).build();
    thing
}

/// Replaces the mode.
pub(super) fn with_mode(mut thing: ObservedItem, mode: u64) -> ObservedItem {
    let mut builder = Attributes::builder();
    for (tag, value) in thing.item.attributes.iter() {
        builder = builder.bytes(tag, value);
    }
    thing.item.attributes = builder.unsigned(AttributeTag::MODE, mode).build();
    thing
}

pub(super) fn state(things: impl IntoIterator<Item = ObservedItem>) -> Observed {
    things.into_iter().map(|thing| (thing.item.key.clone(), thing)).collect()
}

/// Every kind of item.
pub(super) fn everything() -> Observed {
    let holes = vec![Extent::hole(1 << 20), Extent::data(4_096), Extent::hole(1 << 20)];
    let mut odd = file("odd", "odd");
    odd.item.key = ItemKey::from_components([&b"d"[..], b"\xff\n\"\\ *"]).expect("key");
    let things = vec![
        directory("d"),
        directory("d/empty"),
        directory("d/deep"),
        directory("d/deep/deeper"),
        with_mode(directory("d/closed"), 0o500),
        file("d/closed/inside", "inside"),
        file("d/deep/deeper/file", "deep"),
        file("d/deep.txt", "sorts behind what is in deep"),
        file("d/empty.txt", ""),
        fifo("d/pipe"),
        symlink("d/link", "../../outside/canary"),
        symlink("d/dangling", "/nowhere/at all"),
        file("first", "one content under several names"),
        hardlink("second", "first"),
        hardlink("third", "first"),
        sparse("holes", holes),
        with_mode(file("program", "#!/bin/sh\n"), 0o4755),
        odd,
    ];
    state(things)
}

/// Attributes that do not tell what was restored: names follow from numbers.
pub(super) const NAMES: &[AttributeTag] = &[AttributeTag::USER_NAME, AttributeTag::GROUP_NAME];

/// Shows a tree so that two can be compared: one line per thing, everything that can be seen of it.
pub(super) fn fingerprint(root: &Path) -> String {
    let mut lines = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("list") {
            let path = entry.expect("entry").path();
            let data = std::fs::symlink_metadata(&path).expect("look");
            let content = match data.file_type() {
                kind if kind.is_file() => std::fs::read(&path).expect("read"),
                kind if kind.is_symlink() => {
                    std::fs::read_link(&path).expect("link").as_os_str().as_bytes().to_vec()
                }
                _ => Vec::new(),
            };
            let numbers = [data.mode().into(), data.uid().into(), data.gid().into(), data.nlink()];
            let times = (data.mtime(), data.mtime_nsec());
            let name = path.strip_prefix(root).expect("beneath").as_os_str().as_bytes();
            let (name, content) = (name.escape_ascii(), content.escape_ascii());
            lines.push(format!("{name} {numbers:?} {times:?} {content}"));
            if data.is_dir() {
                directories.push(path);
            }
        }
    }
    lines.sort();
    lines.join("\n")
}

#[tokio::test]
async fn passes_the_conformance_check_with_every_kind_of_item() {
    let bench = Bench::new();
    let source =
        Baseline { position: Position(Bytes::new()), state: everything(), proof: Proof::default() };
    let outside = || fingerprint(&bench.outside());
    check_target(&bench.target, &source, NAMES, &outside, &bench.context).await;
    bench.handles.monitor.assert_no_problems();
    let left = std::fs::read_dir(bench.root()).expect("list");
    let left: Vec<_> = left.map(|entry| entry.expect("entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.as_bytes().starts_with(b".lifeboat")), "{left:?}");
}
