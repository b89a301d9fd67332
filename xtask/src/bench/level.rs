//! Level ground before a measured command: nothing of the command before is still waiting to be
//! written, and everything that the command is about to read is in the page cache.
//!
//! Without it each tool is measured by its neighbour: borg drops from the page cache what it has
//! read, so that whoever comes next reads the data from the disk; and what one tool has left unwritten is
//! written while the next one runs.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::data;

/// Writes out what is dirty, and reads every file below these folders that exists.
pub fn prepare(folders: &[&Path]) -> Result<()> {
    rustix::fs::sync();
    for folder in folders.iter().filter(|folder| folder.exists()) {
        for path in data::files_below(folder)? {
            let read = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
            read.with_context(|| format!("read {}", path.display()))?;
        }
    }
    Ok(())
}
