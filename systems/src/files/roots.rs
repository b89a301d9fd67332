//! The protected paths as a tree, keys of paths, and where a walk goes. Pure.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use model::{Error, ErrorKind, ItemKey, KEY_SEPARATOR, Result};

use super::selection::Selection;

/// The directory of the outputs of commands, below the host.
pub(super) const COMMANDS_NAME: &[u8] = b"@commands";

/// Protected paths, each from the root of the file system.
#[derive(Debug)]
pub(super) struct Roots {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Vec<u8>, NodeId>,
    is_named: bool,
}

/// A directory that is a protected path or leads to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(usize);

/// Why a directory is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// It leads to a protected path; nothing else in it is ours.
    Towards,
    /// It is a protected path.
    Named,
    /// It lies below one.
    Within,
}

/// A directory of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: ItemKey,
    pub(super) scope: Scope,
    /// Its place among the protected paths, where it has one.
    pub(super) node: Option<NodeId>,
    /// The file system of the protected path that it lies below.
    pub(super) device: u64,
}

/// What is done about a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not ours.
    Skip,
    /// It is an item; what is below it, if anything, is not ours.
    List,
    /// It is an item and is walked.
    Enter(Scope),
}

/// What a verdict goes by, besides the place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a [u8],
    /// The absolute path; may be empty where [`Selection::uses_paths`] is false.
    pub(super) path: &'a [u8],
    pub(super) is_directory: bool,
    pub(super) device: u64,
}

impl Roots {
    /// Reads protected paths. One may lie below another: it is then captured even where the other's
    /// rules would leave it out.
    ///
    /// # Errors
    /// `Invalid` for a path that is not absolute, goes up, or is where the outputs of commands are.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Self> {
        let mut roots = Self { nodes: vec![Node::default()] };
        for path in paths {
            let names = names_of(path)?;
            if names.first() == Some(&COMMANDS_NAME) {
                return Err(refuse(path, "this name is kept for the outputs of commands"));
            }
            let node = names.into_iter().fold(NodeId(0), |node, name| roots.add(node, name));
            if let Some(node) = roots.nodes.get_mut(node.0) {
                node.is_named = true;
            }
        }
        Ok(roots)
    }

    fn add(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        if let Some(child) = self.child(parent, name) {
            return child;
        }
        let child = NodeId(self.nodes.len());
        self.nodes.push(Node::default());
        if let Some(parent) = self.nodes.get_mut(parent.0) {
            parent.children.insert(name.to_vec(), child);
        }
        child
    }

    /// Returns the place of the root of the file system, for a host.
    pub(super) fn top(&self, host: ItemKey, device: u64) -> Place {
        let scope = if self.is_named(NodeId(0)) { Scope::Named } else { Scope::Towards };
        Place { key: host, scope, node: Some(NodeId(0)), device }
    }

    pub(super) fn child(&self, node: NodeId, name: &[u8]) -> Option<NodeId> {
        self.nodes.get(node.0)?.children.get(name).copied()
    }

    /// Lists the names that lead to protected paths.
    pub(super) fn names_below(&self, node: Option<NodeId>) -> impl Iterator<Item = &[u8]> {
        let node = node.and_then(|node| self.nodes.get(node.0));
        node.into_iter().flat_map(|node| node.children.keys().map(Vec::as_slice))
    }

    fn is_named(&self, node: NodeId) -> bool {
        self.nodes.get(node.0).is_some_and(|node| node.is_named)
    }

    /// Lists the protected paths, absolute, in the order of their keys.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        let mut stack = vec![(NodeId(0), Vec::new())];
        while let Some((id, path)) = stack.pop() {
            let Some(node) = self.nodes.get(id.0) else { continue };
            for (name, child) in node.children.iter().rev() {
                stack.push((*child, [&path[..], b"/", name].concat()));
            }
            if node.is_named {
                paths.push(if path.is_empty() { b"/".to_vec() } else { path });
            }
        }
        paths
    }

    /// Says whether a path, as names from the root, is a protected one, leads to one or lies below one.
    pub(super) fn concern<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> bool {
        self.relation(names).is_some()
    }

    /// Says whether a path, as names from the root, is a protected one or lies below one.
    pub(super) fn protect<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> bool {
        self.relation(names).is_some_and(|scope| scope != Scope::Towards)
    }

    /// Says why a walk would come to a path, but for its rules; none where it would not.
    fn relation<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> Option<Scope> {
        let mut node = NodeId(0);
        for name in names {
            if self.is_named(node) {
                return Some(Scope::Within);
            }
            node = self.child(node, name)?;
        }
        Some(if self.is_named(node) { Scope::Named } else { Scope::Towards })
    }

    /// Decides about a name in a directory.
    pub(super) fn judge(
        &self,
        place: &Place,
        candidate: &Candidate<'_>,
        rules: &Rules,
    ) -> (Verdict, Option<NodeId>) {
        let node = place.node.and_then(|node| self.child(node, candidate.name));
        if node.is_some_and(|node| self.is_named(node)) {
            let verdict =
                if candidate.is_directory { Verdict::Enter(Scope::Named) } else { Verdict::List };
            return (verdict, node);
        }
        // What leads to a protected path is walked, whatever the rules say of it.
        let leads = node.is_some() && candidate.is_directory;
        let is_towards = place.scope == Scope::Towards;
        let verdict = if is_towards || rules.selection.excludes(candidate.name, candidate.path) {
            if leads { Verdict::Enter(Scope::Towards) } else { Verdict::Skip }
        } else if !candidate.is_directory {
            let is_included = rules.selection.includes(candidate.name, candidate.path);
            if is_included { Verdict::List } else { Verdict::Skip }
        } else if rules.one_file_system && candidate.device != place.device {
            if leads { Verdict::Enter(Scope::Towards) } else { Verdict::List }
        } else {
            Verdict::Enter(Scope::Within)
        };
        (verdict, node)
    }
}

/// The rules of a walk.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) selection: Selection,
    pub(super) one_file_system: bool,
    pub(super) skip_caches: bool,
}

fn refuse(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, "protect path", path.display().to_string()).detail(why)
}

/// Takes an absolute path apart.
fn names_of(path: &Path) -> Result<Vec<&[u8]>> {
    if !path.is_absolute() {
        return Err(refuse(path, "not absolute"));
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.as_bytes().contains(&KEY_SEPARATOR) => {
                return Err(refuse(path, "holds a zero byte"));
            }
            Component::Normal(name) => names.push(name.as_bytes()),
            Component::ParentDir => return Err(refuse(path, "goes up")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

/// Returns the key of a path; none where it has none.
pub(super) fn key_of_path(host: &ItemKey, path: &Path) -> Option<ItemKey> {
    let names = names_of(path).ok()?;
    names.into_iter().try_fold(host.clone(), |key, name| key.child(name)).ok()
}

/// Returns the path of a key from the root of the file system, without a leading `/`; empty for the
/// host itself. None where the key is of another host, or has a name that no path can have.
pub(super) fn path_of_key(host: &ItemKey, key: &ItemKey) -> Option<Vec<u8>> {
    let rest = key.as_bytes().strip_prefix(host.as_bytes())?;
    let Some((separator, rest)) = rest.split_first() else { return Some(Vec::new()) };
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
    let is_path = *separator == KEY_SEPARATOR && rest.split(|b| *b == KEY_SEPARATOR).all(is_name);
    let slash = |byte: &u8| if *byte == KEY_SEPARATOR { b'/' } else { *byte };
    is_path.then(|| rest.iter().map(slash).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(paths: &str) -> Roots {
        let paths: Vec<_> = paths.split_whitespace().map(PathBuf::from).collect();
        Roots::new(&paths).expect("sound paths")
    }

    fn host() -> ItemKey {
        ItemKey::from_components(["h"]).expect("key")
    }

    fn texts(names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
        let texts = names.into_iter().map(|name| String::from_utf8_lossy(name.as_ref()).into());
        texts.collect::<Vec<String>>().join(" ")
    }

    #[test]
    fn paths_that_make_no_sense_are_refused() {
        for path in ["", "etc", "./etc", "/etc/../root", "/@commands", "/@commands/x", "/a\0b"] {
            let error = Roots::new(&[PathBuf::from(path)]).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{path}");
        }
        assert_eq!(texts(roots("/b/ /a/./c //a /x/@commands").paths()), "/a /a/c /b /x/@commands");
        assert_eq!(texts(roots("/").paths()), "/");
    }

    #[test]
    fn keys_and_paths_are_the_same_thing() {
        let key = key_of_path(&host(), Path::new("/etc/ssh")).expect("key");
        assert_eq!(key.as_bytes(), b"h\0etc\0ssh");
        assert_eq!(path_of_key(&host(), &key), Some(b"etc/ssh".to_vec()));
        assert_eq!(path_of_key(&host(), &host()), Some(Vec::new()));
        for hostile in ["h2/etc", "g", "h/..", "h/a/../b", "h/."] {
            let key = ItemKey::from_components(hostile.split('/')).expect("key");
            assert_eq!(path_of_key(&host(), &key), None, "{hostile}");
        }
        let slash = host().child(b"a/b").expect("key");
        assert_eq!(path_of_key(&host(), &slash), None);
    }

    /// Walks to a path by verdicts. Notation: names from the root; `!` after a name begins another
    /// file system, `.` after it says that it is no directory.
    fn check(paths: &str, exclude: &str, path: &str, expected: &str) {
        let roots = roots(paths);
        let exclude: Vec<_> = exclude.split_whitespace().map(str::to_owned).collect();
        let selection = Selection::new(&[], &exclude).expect("sound patterns");
        let rules = Rules { selection, one_file_system: true, skip_caches: true };
        let mut place = roots.top(host(), 1);
        let mut shown = Vec::new();
        let (mut walked, mut device) = (String::new(), 1);
        for word in path.split('/') {
            let name = word.trim_end_matches(['!', '.']);
            let is_directory = !word.ends_with('.');
            device += u64::from(word.ends_with('!'));
            walked = format!("{walked}/{name}");
            let (name, path) = (name.as_bytes(), walked.as_bytes());
            let candidate = Candidate { name, path, is_directory, device };
            let (verdict, node) = roots.judge(&place, &candidate, &rules);
            shown.push(match verdict {
                Verdict::Skip => "skip",
                Verdict::List => "list",
                Verdict::Enter(Scope::Towards) => "towards",
                Verdict::Enter(Scope::Named) => "named",
                Verdict::Enter(Scope::Within) => "within",
            });
            let Verdict::Enter(scope) = verdict else { break };
            let key = place.key.child(name).expect("key");
            let device = if scope == Scope::Within { place.device } else { device };
            place = Place { key, scope, node, device };
        }
        assert_eq!(shown.join(" "), expected, "{paths} without {exclude:?}: {path}");
    }

    #[test]
    fn a_walk_goes_where_it_is_sent() {
        check("/a/b", "", "a/b/c/d.", "towards named within list");
        check("/a/b", "", "a/x", "towards skip");
        check("/a/b", "", "a./b", "skip");
        check("/a/b", "", "a/b.", "towards list");
        check("/", "", "a/b.", "within list");
        check("/a", "b", "a/b/c", "named skip");
        check("/a", "a", "a/b", "named within");
        check("/a /a/b/c", "b", "a/b/c/d", "named towards named within");
        check("/a /a/b/c", "b", "a/b/x", "named towards skip");
    }

    #[test]
    fn a_mount_point_is_listed_and_not_entered() {
        check("/a", "", "a/b!/c", "named list");
        check("/a", "", "a!/b/c!", "named within list");
        check("/a /a/b", "", "a/b!/c/d!", "named named within list");
        check("/a /a/b/c", "", "a/b!/x", "named towards skip");
        check("/a/b", "", "a!/b!/c", "towards named within");
    }

    #[test]
    fn what_leads_to_a_protected_path_is_of_concern() {
        let roots = roots("/a/b /c");
        for (path, expected) in [
            ("a", Some(Scope::Towards)),
            ("a/b", Some(Scope::Named)),
            ("a/b/x/y", Some(Scope::Within)),
            ("a/x", None),
            ("x", None),
        ] {
            let names = || path.split('/').map(str::as_bytes);
            assert_eq!(roots.relation(names()), expected, "{path}");
            assert_eq!(roots.concern(names()), expected.is_some(), "{path}");
            let is_protected = !matches!(expected, None | Some(Scope::Towards));
            assert_eq!(roots.protect(names()), is_protected, "{path}");
        }
    }
}
