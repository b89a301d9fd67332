//! What repair needs of a store and nothing else may do: to put an object where another one stands, to
//! keep what stood there, and to read what can be read of a file with bad sectors.
//!
//! Whoever replaces an object has shown that the new bytes are what belongs there. What stands there is
//! kept first, under `damaged/`; then the new bytes take its place in one step (a local store writes a
//! file beside it and renames it), so that at no moment there is none.

use std::io;
use std::path::Path as FilePath;

use bytes::Bytes;
use model::{Error, ErrorKind, Result};
use object_store::{ObjectStore as _, PutMode, PutPayload};

use super::Store;
use super::errors::convert;

/// Below which damaged objects are kept.
pub(crate) const DAMAGED: &str = "damaged";
/// How many damaged objects of one path are kept.
const KEPT_MAX: usize = 16;
/// What is read at once of a file with bad sectors: what a disk loses at once.
const SECTOR_BYTES: usize = 4096;

impl Store {
    /// Puts an object, whatever stands there. Durable when it returns.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`, `Exhausted`: then the old one or the new one stands there.
    pub(crate) async fn replace(&self, path: &str, bytes: Bytes) -> Result<()> {
        let location = self.location("replace object", path)?;
        let mut tries = self.tries();
        loop {
            let payload = PutPayload::from_bytes(bytes.clone());
            self.0.counters.put(bytes.len());
            let put = self.0.object_store.put_opts(&location, payload, PutMode::Overwrite.into());
            let Err(error) = put.await else { break };
            tries.pause(convert("replace object", &self.subject(path), error)).await?;
        }
        self.sync_directories(path).await
    }

    /// Keeps a damaged object below `damaged/`, where it stays; returns where. `found` are its bytes as
    /// far as they could be read.
    ///
    /// # Errors
    /// Those of [`Store::create`]; `Exhausted` where it can be kept in no way, or too many damaged objects
    /// of this path are kept.
    pub(crate) async fn keep_damaged(&self, path: &str, found: Option<&Bytes>) -> Result<String> {
        for number in 0..KEPT_MAX {
            let kept = match number {
                0 => format!("{DAMAGED}/{path}"),
                _ => format!("{DAMAGED}/{path}.{number}"),
            };
            match self.link(path, &kept).await {
                Ok(true) => return Ok(kept),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                Err(error) => return Err(error),
            }
            let found = found.ok_or_else(|| {
                Error::new(ErrorKind::Exhausted, "keep damaged object", self.subject(path))
                    .detail("it cannot be read, or is too long: move it away by hand")
            })?;
            match self.create(&kept, found.clone()).await {
                Ok(_) => return Ok(kept),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Exhausted, "keep damaged object", self.subject(path))
            .detail(format!("{KEPT_MAX} of them are kept already, below {DAMAGED}/")))
    }

    /// Gives a local file a second name, which keeps even what cannot be read of it; says whether that
    /// could be done.
    async fn link(&self, path: &str, kept: &str) -> Result<bool> {
        let Some(root) = self.0.local_root.clone() else { return Ok(false) };
        let (from, to) = (root.join(path), root.join(kept));
        let linked = self.blocking("keep damaged object", move || {
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match std::fs::hard_link(&from, &to) {
                Ok(()) => Ok(Some(true)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Kept before, by a repair that broke off.
                    Ok(is_same_file(&from, &to)?.then_some(true))
                }
                // Not every file system has links.
                Err(_) => Ok(Some(false)),
            }
        });
        let is_linked = linked.await?.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "keep damaged object", kept)
                .detail("another one is kept there")
        })?;
        if is_linked {
            self.sync_directories(kept).await?;
        }
        Ok(is_linked)
    }

    /// Reads what can be read of a damaged object: none where there is none, or nothing of it can be
    /// had. What a local disk refuses to read is zero bytes.
    ///
    /// # Errors
    /// `Cancelled`; those of a store that does not answer.
    pub(crate) async fn get_damaged(&self, path: &str, size_max: u64) -> Result<Option<Bytes>> {
        let error = match self.get_limited(path, size_max).await {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::Exhausted => return Ok(None),
            ErrorKind::Unavailable | ErrorKind::Denied => {}
            _ => return Err(error),
        }
        let Some((file, length)) = self.open_local(path).await? else { return Err(error) };
        let length = usize::try_from(length.min(size_max)).unwrap_or(usize::MAX);
        let read = self.blocking("read damaged object", move || {
            Ok(read_around(length, |at, buffer| read_exact_at(&file, at, buffer)))
        });
        Ok(Some(Bytes::from(read.await?)))
    }
}

/// Reads sector by sector; what cannot be read stays zero.
fn read_around(
    length: usize,
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (number, sector) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
        if read_at((number * SECTOR_BYTES) as u64, sector).is_err() {
            sector.fill(0);
        }
    }
    bytes
}

#[cfg(unix)]
fn read_exact_at(file: &std::fs::File, at: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &std::fs::File, at: u64, buffer: &mut [u8]) -> io::Result<()> {
    use std::io::{Read as _, Seek as _};
    file.seek(io::SeekFrom::Start(at))?;
    file.read_exact(buffer)
}

#[cfg(unix)]
fn is_same_file(one: &FilePath, other: &FilePath) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (one, other) = (std::fs::metadata(one)?, std::fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Files cannot be told apart by more than their names here.
#[cfg(not(unix))]
fn is_same_file(_one: &FilePath, _other: &FilePath) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use model::Context;
    use object_store::memory::InMemory;

    use super::*;
    use crate::store::Attach;

    async fn check_mending(store: &Store) {
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
        store.create("pack/aa/x", old.clone()).await.expect("create");
        for expected in ["damaged/pack/aa/x", "damaged/pack/aa/x"] {
            // Twice, as by a repair that broke off.
            let kept = store.keep_damaged("pack/aa/x", Some(&old)).await.expect("keep");
            assert_eq!(kept, expected);
        }
        store.replace("pack/aa/x", new.clone()).await.expect("replace");
        assert_eq!(store.get("pack/aa/x").await.expect("get"), new);
        assert_eq!(store.get("damaged/pack/aa/x").await.expect("get"), old);
        let kept = store.keep_damaged("pack/aa/x", Some(&new)).await.expect("keep");
        assert_eq!(kept, "damaged/pack/aa/x.1");
        store.replace("pack/aa/y", new.clone()).await.expect("where nothing stands");
        assert_eq!(store.get("pack/aa/y").await.expect("get"), new);
        assert_eq!(store.get_damaged("pack/aa/z", 100).await.expect("get"), None);
        assert_eq!(store.get_damaged("pack/aa/y", 2).await.expect("get"), None);
        assert_eq!(store.get_damaged("pack/aa/y", 3).await.expect("get"), Some(new));
    }

    fn local(folder: &FilePath, context: &Context) -> Store {
        let name = folder.to_str().expect("name");
        Store::attach(name, &BTreeMap::new(), Attach::Existing, context).expect("attach")
    }

    #[tokio::test]
    async fn what_is_replaced_is_kept() {
        let (context, _) = testkit::context(1);
        check_mending(&Store::new(Arc::new(InMemory::new()), "memory", &context)).await;
        let folder = tempfile::tempdir().expect("folder");
        check_mending(&local(folder.path(), &context)).await;
    }

    #[test]
    fn bad_sectors_are_zero() {
        let file: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0] | 1).collect();
        let read = read_around(file.len(), |at, buffer| {
            let at = at as usize;
            buffer.copy_from_slice(&file[at..at + buffer.len()]);
            if at == SECTOR_BYTES { Err(io::Error::other("bad sector")) } else { Ok(()) }
        });
        let mut expected = file.clone();
        expected[SECTOR_BYTES..2 * SECTOR_BYTES].fill(0);
        assert_eq!(read, expected);
    }
}
