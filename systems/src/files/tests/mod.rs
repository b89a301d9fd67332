//! The kind on real directories.

mod conformance;
mod follow;
mod listing;
mod reading;
mod restoring;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use model::{AttributeTag, Context, Cut, CutItems, Item, ItemKey, ItemKind, System};
use tempfile::TempDir;

use super::{Files, FilesOptions, FollowOptions};

const HOST: &str = "h";

/// A scratch folder with a tree in it.
struct Tree {
    _folder: TempDir,
    /// The protected path, without links on the way.
    path: PathBuf,
}

impl Tree {
    /// Makes a tree by [`Tree::change`].
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().canonicalize().expect("path").join("t");
        std::fs::create_dir(&path).expect("directory");
        let tree = Self { _folder: folder, path };
        tree.change(script);
        tree
    }

    /// Changes the tree. Notation, one line each, `%xx` for a byte of a name: `d NAME`, `f NAME
    /// CONTENT`, `l NAME TARGET` (a symbolic link), `h NAME OTHER` (a further name of OTHER), `p NAME`
    /// (a pipe), `s NAME` (a socket), `mv NAME OTHER`, `rm NAME`.
    fn change(&self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (what, name, rest) = (word(), word(), word());
            let path = self.at(name);
            let done = match what {
                "d" => std::fs::create_dir(&path),
                "f" => std::fs::write(&path, rest),
                "l" => std::os::unix::fs::symlink(rest, &path),
                "h" => std::fs::hard_link(self.at(rest), &path),
                "p" => rustix::fs::mkfifoat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::Mode::from_raw_mode(0o600),
                )
                .map_err(Into::into),
                "s" => std::os::unix::net::UnixListener::bind(&path).map(drop),
                "mv" => std::fs::rename(&path, self.at(rest)),
                "rm" if path.is_dir() && !path.is_symlink() => std::fs::remove_dir_all(&path),
                "rm" => std::fs::remove_file(&path),
                _ => panic!("{line}"),
            };
            done.unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(unescaped(name)) }
    }

    fn options(&self) -> FilesOptions {
        options(vec![self.path.clone()])
    }

    fn files(&self) -> Files {
        Files::new(self.options()).expect("sound options")
    }

    fn key(&self, name: &str) -> ItemKey {
        let host = ItemKey::from_components([HOST]).expect("key");
        super::roots::key_of_path(&host, &self.at(name)).expect("key")
    }

    /// Shows the items in the tree in the notation of [`Tree::change`], names relative to it. Files
    /// with their lengths, holes in brackets; what leads to the tree is left out.
    fn show(&self, items: &[Item]) -> Vec<String> {
        let top = self.key("");
        let name_of = |key: &[u8]| {
            let rest = key.strip_prefix(top.as_bytes()).unwrap_or(key);
            let rest = rest.strip_prefix(b"\0").unwrap_or(rest);
            rest.escape_ascii().to_string().replace("\\x00", "/")
        };
        let inside = items.iter().filter(|item| item.key.is_within(&top) && item.key != top);
        let shown = inside.map(|item| {
            let name = name_of(item.key.as_bytes());
            let target = item.attributes.get(AttributeTag::LINK_TARGET).unwrap_or_default();
            match item.kind {
                ItemKind::Directory => format!("d {name}"),
                ItemKind::File => format!("f {name} {}", lengths(item)),
                ItemKind::Symlink => format!("l {name} {}", target.escape_ascii()),
                ItemKind::Hardlink => format!("h {name} {}", name_of(target)),
                ItemKind::Fifo => format!("p {name}"),
                ItemKind::Node => panic!("{item:?}"),
            }
        });
        shown.collect()
    }
}

fn lengths(item: &Item) -> String {
    let length = |extent: &model::Extent| match extent.body {
        model::ExtentBody::Hole => format!("[{}]", extent.length_bytes),
        model::ExtentBody::Data { .. } => extent.length_bytes.to_string(),
    };
    let lengths: Vec<_> = item.extents.iter().map(length).collect();
    if lengths.is_empty() { "0".into() } else { lengths.join("+") }
}

fn options(paths: Vec<PathBuf>) -> FilesOptions {
    FilesOptions {
        host: HOST.into(),
        paths,
        include: Vec::new(),
        exclude: Vec::new(),
        one_file_system: false,
        skip_caches: false,
        commands: Vec::new(),
        follow: FollowOptions::default(),
    }
}

fn unescaped(name: &str) -> &Path {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *byte == b'%');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    Path::new(OsStr::from_bytes(Vec::leak(bytes)))
}

/// Lists a cut.
async fn list(cut: &dyn Cut, context: &Context) -> Vec<Item> {
    let CutItems::Sorted(mut batches) = cut.items(context) else { panic!("not sorted") };
    let mut items = Vec::new();
    while let Some(batch) = batches.next().await {
        items.extend(batch.expect("batch"));
    }
    assert!(items.is_sorted_by(|a, b| a.key < b.key), "not in key order");
    items
}

/// Takes a cut and lists it.
async fn list_files(files: &Files, context: &Context) -> Vec<Item> {
    let cut = files.cut(None, context).await.expect("cut");
    list(cut.as_ref(), context).await
}
