//! Binaries: libraries and executables of the Rust toolchain in path order, then the same with
//! seeded edits page by page, until the share is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::seeded::Seeded;
use super::{files_below, write_up_to};
use crate::host;

const PAGE_BYTES: usize = 4096;
/// One page in so many is edited.
const EDITED_ONE_IN: u64 = 8;
const EDIT_BYTES: usize = 64;
/// How executables, shared libraries and static libraries begin.
const MAGICS: &[&[u8]] = &[b"\x7fELF", b"!<arch>\n", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"];

/// Fills a folder.
pub fn generate(folder: &Path, share_bytes: u64) -> Result<()> {
    let sysroot = host::output_of(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim_end());
    let mut left = share_bytes;
    for generation in 0_u64.. {
        let mut found = false;
        for path in files_below(&sysroot)? {
            let mut bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            if !MAGICS.iter().any(|magic| bytes.starts_with(magic)) {
                continue;
            }
            found = true;
            let name = path.strip_prefix(&sysroot).unwrap_or(&path);
            if generation > 0 {
                edit_pages(&mut bytes, &format!("binaries {generation} {}", name.display()));
            }
            left = write_up_to(&folder.join(generation.to_string()).join(name), &bytes, left)?;
            if left == 0 {
                return Ok(());
            }
        }
        ensure!(found, "no binaries in {}", sysroot.display());
    }
    Ok(())
}

fn edit_pages(bytes: &mut [u8], label: &str) {
    let mut seeded = Seeded::new(label);
    for page in bytes.chunks_exact_mut(PAGE_BYTES) {
        if seeded.below(EDITED_ONE_IN) == 0 {
            let slots = page.len() / EDIT_BYTES;
            let slot = seeded.below(slots as u64) as usize * EDIT_BYTES;
            seeded.fill(&mut page[slot..slot + EDIT_BYTES]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_pages_are_edited_a_little() {
        let mut bytes = vec![0; PAGE_BYTES * 800];
        edit_pages(&mut bytes, "a");
        let edited: Vec<usize> = bytes
            .chunks(PAGE_BYTES)
            .map(|page| page.iter().filter(|byte| **byte != 0).count())
            .filter(|changed| *changed > 0)
            .collect();
        assert!((60..140).contains(&edited.len()), "{} of 800 pages", edited.len());
        assert!(edited.iter().all(|changed| *changed <= EDIT_BYTES));
    }
}
