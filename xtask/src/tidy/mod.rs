//! What a reviewer should not have to say twice: lengths, module docs, forgotten files, unfinished
//! work, dead links.

mod lengths;
mod links;
mod modules;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Everything in the checkout that is not tidy.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut measured = Vec::new();
    for member in workspace.members() {
        let sources = modules::reachable(member)?;
        problems.extend(modules::problems(workspace, member, &sources)?);
        for source in sources.iter().filter(|source| !source.is_test) {
            let name = workspace.relative(&source.path);
            measured.extend(lengths::measure(&name, &source.text, &source.syntax));
        }
    }
    let ratchet = fs::read_to_string(workspace.root.join("xtask/tidy-ratchet.txt"))
        .context("cannot read xtask/tidy-ratchet.txt")?;
    problems.extend(lengths::problems(&measured, &lengths::parse_ratchet(&ratchet)?));
    for path in text_files(&workspace.root)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = workspace.relative(&path);
        problems.extend(words::problems(&name, &text));
        if has_suffix(&path, &["md"]) {
            problems.extend(links::problems(&name, &path, &text, Path::exists));
        }
    }
    Ok(problems)
}

/// The files that people write, below the root: no build output, no hidden folders but `.ci` and
/// `.cargo`.
fn text_files(root: &Path) -> Result<Vec<PathBuf>> {
    const SUFFIXES: &[&str] = &["rs", "toml", "md", "proto", "sh"];
    let files = files_below(root)?;
    Ok(files.into_iter().filter(|path| has_suffix(path, SUFFIXES)).collect())
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    path.extension().is_some_and(|extension| suffixes.iter().any(|suffix| extension == *suffix))
}

/// All files below a folder in name order, without hidden folders and what cargo builds into: a
/// `target` beside a manifest. A module may have that name.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let is_built_into = folder.join("Cargo.toml").exists();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let hidden =
                name.to_string_lossy().starts_with('.') && name != ".ci" && name != ".cargo";
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            } else if entry.file_type()?.is_dir() && !hidden && !(is_built_into && name == "target")
            {
                folders.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_tidy() {
        let workspace = Workspace::load().unwrap();
        assert_eq!(check(&workspace).unwrap(), Vec::<String>::new());
    }
}
