//! The data of `bench repository`: fixed shares of five classes, the same bytes from the same seed
//! on every machine with the same toolchain and the same `Cargo.lock`.

mod binaries;
pub mod change;
mod seeded;
mod sources;
mod synthetic;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Bytes of the whole set.
pub const FULL_BYTES: u64 = 3_100_000_000;

/// Percent of the bytes for each class.
const SOURCES_PERCENT: u64 = 30;
const BINARIES_PERCENT: u64 = 30;
const RANDOM_PERCENT: u64 = 17;
const LOGS_PERCENT: u64 = 16;
const CSV_PERCENT: u64 = 7;

/// Makes the data below a folder of the cache, unless it is there already.
pub fn provide(workspace: &Workspace, cache: &Path, total_bytes: u64) -> Result<PathBuf> {
    let root = cache.join(format!("data-{total_bytes}"));
    let complete = cache.join(format!("data-{total_bytes}.complete"));
    if complete.is_file() {
        return Ok(root);
    }
    if root.exists() {
        fs::remove_dir_all(&root).context("remove incomplete data")?;
    }
    let share = |percent: u64| total_bytes / 100 * percent;
    sources::generate(workspace, &root.join("sources"), share(SOURCES_PERCENT))?;
    binaries::generate(&root.join("binaries"), share(BINARIES_PERCENT))?;
    synthetic::random(&root.join("random"), share(RANDOM_PERCENT))?;
    synthetic::logs(&root.join("logs"), share(LOGS_PERCENT))?;
    synthetic::csv(&root.join("csv"), share(CSV_PERCENT))?;
    fs::write(&complete, "").context("mark the data as complete")?;
    Ok(root)
}

/// What the data is: file count, bytes and a hash over every path and content.
pub fn digest(root: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    let files = files_below(root)?;
    for path in &files {
        let mut content = blake3::Hasher::new();
        content.update_reader(open(path)?).with_context(|| format!("read {}", path.display()))?;
        bytes += content.count();
        let name = path.strip_prefix(root).unwrap_or(path);
        hasher.update(name.as_os_str().as_encoded_bytes()).update(&[0]);
        hasher.update(content.finalize().as_bytes());
    }
    let hash = hasher.finalize().to_hex();
    Ok(format!("{hash}, {bytes} bytes in {} files", files.len()))
}

/// Regular files below a folder, by path; links are left out.
pub fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

/// Creates a file with the folders above it.
fn create(path: &Path) -> Result<BufWriter<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

/// Writes the beginning of some bytes, at most `left` of them; returns what is left after it.
fn write_up_to(path: &Path, bytes: &[u8], left: u64) -> Result<u64> {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    let mut file = create(path)?;
    file.write_all(bytes.get(..length).unwrap_or(bytes))
        .and_then(|()| file.flush())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(left - length as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_the_whole() {
        let percents =
            [SOURCES_PERCENT, BINARIES_PERCENT, RANDOM_PERCENT, LOGS_PERCENT, CSV_PERCENT];
        assert_eq!(percents.iter().sum::<u64>(), 100);
    }

    #[test]
    fn the_same_seed_gives_the_same_data_in_the_same_shares() {
        let workspace = Workspace::load().unwrap();
        let total = 8_000_000;
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = folders.map(|folder| {
            let root = provide(&workspace, folder.path(), total).unwrap();
            for (class, percent) in [("sources", 30), ("binaries", 30), ("random", 17), ("csv", 7)]
            {
                let files = files_below(&root.join(class)).unwrap();
                let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
                assert_eq!(bytes, total / 100 * percent, "{class}");
            }
            digest(&root).unwrap()
        });
        assert_eq!(first, second);
    }
}
