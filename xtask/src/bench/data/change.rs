//! The change between two backups of the bench: blocks overwritten, logs grown, a row inserted,
//! configuration lines added. 19.7 MB of 3.1 GB, in the places where it hurts.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::seeded::Seeded;
use super::{files_below, open, synthetic};

const OVERWRITES_PER_CLASS: u64 = 110;
const OVERWRITE_BYTES: usize = 64 * 1024;
/// Binaries that are large enough to have a middle.
const BIG_BINARY_BYTES_MIN: u64 = 4 * 1024 * 1024;
const LOG_APPEND_BYTES: usize = 640 * 1024;
const CSV_INSERT_BYTES: usize = 700;
const SMALL_FILES: usize = 640;

/// Changes the data in place; every round changes other places. Returns how many bytes it wrote.
pub fn apply(root: &Path, round: u32) -> Result<u64> {
    let mut bytes = 0;
    for class in ["random", "binaries"] {
        let mut seeded = Seeded::new(&format!("change {round} {class}"));
        bytes += overwrite(&files_below(&root.join(class))?, &mut seeded)?;
    }
    for path in files_below(&root.join("logs"))? {
        let name = path.file_name().unwrap_or_default().display();
        let text = synthetic::more_log(&format!("change {round} {name}"), LOG_APPEND_BYTES);
        bytes += append(&path, &text)?;
    }
    for path in files_below(&root.join("csv"))? {
        bytes += insert(&path, &"9".repeat(CSV_INSERT_BYTES).into_bytes())?;
    }
    let sources = files_below(&root.join("sources"))?;
    let step = (sources.len() / SMALL_FILES).max(1);
    for path in sources.iter().skip(round as usize % step).step_by(step).take(SMALL_FILES) {
        bytes += append(path, format!("// round {round}\n").as_bytes())?;
    }
    Ok(bytes)
}

fn overwrite(files: &[PathBuf], seeded: &mut Seeded) -> Result<u64> {
    let sized = files.iter().map(|path| Ok((path, path.metadata()?.len())));
    let sized: Vec<(&PathBuf, u64)> = sized.collect::<Result<_>>().context("stat the data")?;
    let big: Vec<_> =
        sized.into_iter().filter(|(_, length)| *length >= BIG_BINARY_BYTES_MIN).collect();
    let mut bytes = vec![0; OVERWRITE_BYTES];
    if big.is_empty() {
        return Ok(0);
    }
    for _ in 0..OVERWRITES_PER_CLASS {
        let (path, length) = big[seeded.below(big.len() as u64) as usize];
        let offset = seeded.below(length - OVERWRITE_BYTES as u64);
        seeded.fill(&mut bytes);
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&bytes).with_context(|| format!("overwrite {}", path.display()))?;
    }
    Ok(OVERWRITES_PER_CLASS * OVERWRITE_BYTES as u64)
}

fn append(path: &Path, bytes: &[u8]) -> Result<u64> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(bytes).with_context(|| format!("append to {}", path.display()))?;
    Ok(bytes.len() as u64)
}

/// Inserts in the middle, by writing the file anew as editors do.
fn insert(path: &Path, bytes: &[u8]) -> Result<u64> {
    let mut content = Vec::new();
    open(path)?.read_to_end(&mut content)?;
    let middle = content.len() / 2;
    content.splice(middle..middle, bytes.iter().copied());
    fs::write(path, &content).with_context(|| format!("rewrite {}", path.display()))?;
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_changes_in_its_own_way() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["random", "binaries", "logs", "csv", "sources"] {
            fs::create_dir(path(folder)).unwrap();
        }
        let big = usize::try_from(BIG_BINARY_BYTES_MIN).unwrap();
        fs::write(path("random/a"), vec![0; big]).unwrap();
        fs::write(path("binaries/small"), vec![0; big - 1]).unwrap();
        fs::write(path("logs/a"), "line\n").unwrap();
        fs::write(path("csv/a"), "1,2\n3,4\n").unwrap();
        fs::write(path("sources/a"), "fn a() {}\n").unwrap();
        let bytes = apply(root.path(), 1).unwrap();
        assert_eq!(bytes, 110 * 65_536 + 655_360 + 700 + 11);
        assert_eq!(fs::metadata(path("random/a")).unwrap().len(), BIG_BINARY_BYTES_MIN);
        assert!(fs::read(path("random/a")).unwrap().iter().any(|byte| *byte != 0));
        assert!(fs::read(path("binaries/small")).unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(fs::metadata(path("csv/a")).unwrap().len(), 708);
        assert_eq!(fs::read_to_string(path("sources/a")).unwrap(), "fn a() {}\n// round 1\n");
    }
}
