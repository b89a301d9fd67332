//! What happens to the copied tree between two captures: one change of each kind that an
//! administrator makes, at files chosen by their order, so that it works on any machine.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::tree::Tree;

/// One kind of change: what it is called, and how it is made to a file of at least some length.
type Change = (&'static str, fn(&Path) -> Result<()>);

const CHANGES: &[Change] = &[
    ("edit in place", edit),
    ("append a line to", append),
    ("delete", |path| Ok(fs::remove_file(path)?)),
    ("rename", |path| Ok(fs::rename(path, path.with_extension("renamed"))?)),
    ("chmod 640", |path| Ok(fs::set_permissions(path, Permissions::from_mode(0o640))?)),
    ("replace by a symbolic link", relink),
    ("copy to a new folder", copy_to_folder),
];

/// Makes every change once, at files spread over the tree; returns what was done to what.
pub fn apply(root: &Path, tree: &Tree) -> Result<Vec<String>> {
    let fits = |(_, entry): &(&PathBuf, &crate::tree::Entry)| {
        entry.is_file() && (64..1_000_000).contains(&entry.size_bytes())
    };
    let files: Vec<&PathBuf> = tree.iter().filter(fits).map(|(path, _)| path).collect();
    ensure!(files.len() >= CHANGES.len(), "too few files to change in {}", root.display());
    let step = files.len() / CHANGES.len();
    let mut done = Vec::new();
    for ((what, change), path) in CHANGES.iter().zip(files.iter().step_by(step)) {
        let full = root.join(path);
        change(&full).with_context(|| format!("{what} {}", full.display()))?;
        done.push(format!("{what} {}", path.display()));
    }
    Ok(done)
}

fn edit(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(16))?;
    Ok(file.write_all(b"changed by the demo")?)
}

fn append(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    Ok(file.write_all(b"# appended by the demo\n")?)
}

fn relink(path: &Path) -> Result<()> {
    fs::remove_file(path)?;
    Ok(symlink("/nowhere/in/particular", path)?)
}

fn copy_to_folder(path: &Path) -> Result<()> {
    let folder = path.with_extension("folder");
    fs::create_dir(&folder)?;
    fs::copy(path, folder.join("copy"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn every_change_changes_something() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..20 {
            fs::write(root.path().join(format!("f{number:02}")), [b'x'; 100]).unwrap();
        }
        let before = tree::read(root.path()).unwrap();
        let done = apply(root.path(), &before).unwrap();
        assert_eq!(done.len(), CHANGES.len());
        let after = tree::read(root.path()).unwrap();
        let differences = tree::differences(&before, &after);
        for line in &done {
            let name = line.rsplit(' ').next().unwrap();
            assert!(
                differences.iter().any(|difference| difference.starts_with(name)),
                "{line}: {differences:?}"
            );
        }
    }

    #[test]
    fn a_tree_without_enough_files_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let tree = tree::read(root.path()).unwrap();
        assert!(apply(root.path(), &tree).is_err());
    }
}
