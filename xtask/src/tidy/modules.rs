//! Follows `mod` declarations from every crate root, so that a file that nothing declares, and that
//! is therefore neither compiled nor tested, is found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{files_below, has_suffix, lengths};
use crate::workspace::{Package, Workspace};

/// One file that is compiled.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    pub syntax: syn::File,
    /// True if it is compiled for tests alone.
    pub is_test: bool,
    is_root: bool,
}

/// Every file that the package's targets reach.
pub fn reachable(package: &Package) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut open = Vec::new();
    for target in &package.targets {
        open.push(Pending {
            path: target.src_path.clone(),
            is_test: target.is_test(),
            is_root: true,
        });
    }
    while let Some(next) = open.pop() {
        let source = parse(next)?;
        // A root's modules are beside it; another file's are in the folder of its name.
        let path = &source.path;
        let owns_folder = source.is_root || path.ends_with("mod.rs");
        let folder = if owns_folder { path.with_file_name("") } else { path.with_extension("") };
        follow(&source.syntax.items, &folder, source.is_test, &mut open);
        sources.push(source);
    }
    Ok(sources)
}

/// Files without docs, files that nothing declares, and a second integration-test binary.
pub fn problems(
    workspace: &Workspace,
    package: &Package,
    sources: &[Source],
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| !has_docs(source)) {
        let name = workspace.relative(&source.path);
        problems.push(format!("{name}: does not begin with //! and why it exists"));
    }
    let compiled: BTreeSet<&Path> = sources.iter().map(|source| source.path.as_path()).collect();
    for folder in ["src", "tests", "benches", "examples"].map(|name| package.dir().join(name)) {
        let files = if folder.is_dir() { files_below(&folder)? } else { Vec::new() };
        let forgotten = files
            .iter()
            .filter(|path| has_suffix(path, &["rs"]) && !compiled.contains(path.as_path()));
        problems.extend(forgotten.map(|path| {
            format!("{}: no module declares it, it is never compiled", workspace.relative(path))
        }));
    }
    let binaries = package.targets.iter().filter(|target| target.is_test()).count();
    if binaries > 1 {
        let name = &package.name;
        problems.push(format!("{name}: {binaries} integration-test binaries, at most one"));
    }
    Ok(problems)
}

struct Pending {
    path: PathBuf,
    is_test: bool,
    is_root: bool,
}

fn parse(Pending { path, is_test, is_root }: Pending) -> Result<Source> {
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let syntax =
        syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    Ok(Source { path, text, syntax, is_test, is_root })
}

fn follow(items: &[syn::Item], folder: &Path, is_test: bool, open: &mut Vec<Pending>) {
    for item in items {
        let syn::Item::Mod(module) = item else { continue };
        let is_test = is_test || lengths::is_for_tests(&module.attrs);
        let name = module.ident.to_string();
        if let Some((_, inner)) = &module.content {
            follow(inner, &folder.join(name), is_test, open);
        } else {
            let beside = folder.join(format!("{name}.rs"));
            let path = if beside.is_file() { beside } else { folder.join(name).join("mod.rs") };
            open.push(Pending { path, is_test, is_root: false });
        }
    }
}

/// A crate root may begin with attributes; everything else begins with its docs.
fn has_docs(source: &Source) -> bool {
    if source.is_root {
        source.syntax.attrs.iter().any(|attribute| attribute.path().is_ident("doc"))
    } else {
        source.text.starts_with("//!")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(open: &[Pending]) -> Vec<(String, bool)> {
        open.iter().map(|one| (one.path.display().to_string(), one.is_test)).collect()
    }

    #[test]
    fn declarations_are_followed_with_what_they_are_compiled_for() {
        let text = "mod a; #[cfg(test)] mod t; mod inline { mod deep; } fn f() {}";
        let mut open = Vec::new();
        follow(&syn::parse_file(text).unwrap().items, Path::new("/none"), false, &mut open);
        let expected = [
            ("/none/a/mod.rs", false),
            ("/none/t/mod.rs", true),
            ("/none/inline/deep/mod.rs", false),
        ];
        assert_eq!(names(&open), expected.map(|(path, is_test)| (path.to_owned(), is_test)));
    }

    #[test]
    fn docs_come_first() {
        let source = |text: &str, is_root| Source {
            path: PathBuf::new(),
            text: text.to_owned(),
            syntax: syn::parse_file(text).unwrap(),
            is_test: false,
            is_root,
        };
        assert!(has_docs(&source("//! Why.\n", false)));
        assert!(!has_docs(&source("use a::b;\n", false)));
        assert!(has_docs(&source("#![allow(dead_code)]\n//! Why.\n", true)));
        assert!(!has_docs(&source("fn main() {}\n", true)));
    }
}
