//! Small source files: those of the locked dependencies, then the same with identifiers renamed,
//! until the share is full. A renamed tree has the shape of source code and no equal file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{files_below, write_up_to};
use crate::workspace::Workspace;

/// Larger ones are generated tables, not what a person calls a source file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const SUFFIXES: &[&str] = &["rs", "c", "h", "S", "go", "py", "toml", "md"];
/// One identifier in so many is renamed.
const RENAMED_ONE_IN: u64 = 3;
/// Shorter words are keywords and loop variables.
const IDENTIFIER_BYTES_MIN: usize = 4;

/// Fills a folder.
pub fn generate(workspace: &Workspace, folder: &Path, share_bytes: u64) -> Result<()> {
    let originals = originals(workspace)?;
    ensure!(!originals.is_empty(), "no sources of dependencies: run cargo fetch");
    let mut left = share_bytes;
    for generation in 0_u64.. {
        for (name, path) in &originals {
            let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
            let text = if generation == 0 { text } else { rename_identifiers(&text, generation) };
            left = write_up_to(&folder.join(generation.to_string()).join(name), &text, left)?;
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Sources by package, version and path, with the name that each gets.
fn originals(workspace: &Workspace) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut packages: Vec<_> = workspace.third_party().collect();
    packages.sort_by_key(|package| (&package.name, &package.version));
    let mut originals = Vec::new();
    for package in packages {
        let top = PathBuf::from(format!("{}-{}", package.name, package.version));
        for path in files_below(package.dir())? {
            let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
            let length = path.metadata().with_context(|| format!("stat {}", path.display()))?.len();
            if SUFFIXES.contains(&suffix) && (1..=FILE_BYTES_MAX).contains(&length) {
                let name = top.join(path.strip_prefix(package.dir()).unwrap_or(&path));
                originals.push((name, path));
            }
        }
    }
    Ok(originals)
}

/// Gives some identifiers other names of the same length: the same name for the same identifier
/// throughout a generation.
fn rename_identifiers(text: &[u8], generation: u64) -> Vec<u8> {
    let mut renamed = text.to_vec();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    for word in renamed.split_mut(|byte| !is_part(byte)) {
        if word.len() >= IDENTIFIER_BYTES_MIN && !word[0].is_ascii_digit() {
            rename(word, generation);
        }
    }
    renamed
}

fn rename(word: &mut [u8], generation: u64) {
    let mut state = word.iter().fold(0xcbf2_9ce4_8422_2325 ^ generation, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    if state % RENAMED_ONE_IN != 0 {
        return;
    }
    for byte in word.iter_mut().filter(|byte| byte.is_ascii_lowercase()) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = b"etaoinsrhldcumfpgwybvkxjqz"[(state >> 33) as usize % 26];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_renamed_alike_and_nothing_else_is() {
        let text =
            "fn compute_total(values: &[u64]) -> u64 { compute_total(values); 12345 }\n".repeat(3);
        let renamed: Vec<String> = (1..40)
            .map(|generation| {
                String::from_utf8(rename_identifiers(text.as_bytes(), generation)).unwrap()
            })
            .collect();
        for other in &renamed {
            assert_eq!(other.len(), text.len());
            assert!(other.starts_with("fn ") && other.contains("12345"), "{other}");
            let mut lines = other.lines();
            let first = lines.next();
            assert!(lines.all(|line| Some(line) == first), "{other}");
        }
        assert!(renamed.iter().any(|other| !other.contains("compute_total")));
        assert!(renamed.iter().any(|other| other.contains("compute_total")));
    }
}
