//! What only a local disk needs: durable directories, and sweeping what a crash left behind.
//!
//! A local create writes `name#1` beside the object, syncs it, links it to its name and unlinks it. A
//! crash in between leaves the staging file, which no listing shows. It is swept once it has been left
//! alone for longer than any write takes. A process that was stopped for all that time and then goes
//! on finds its staging file gone; its create fails, is looked into and done again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use model::{Error, ErrorKind, Result, Timestamp};

use super::Store;
use super::errors::io_kind;

/// How long a staging file has to have been left alone.
const LEFT_ALONE: Duration = Duration::from_secs(24 * 3600);

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Number of staging files.
    pub files: u64,
    /// Their length in bytes.
    pub size_bytes: u64,
}

impl Store {
    /// Removes staging files that crashed creates left on a local disk over a day ago, by the disk's
    /// own time. Other stores have none.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn sweep_staging(&self) -> Result<Swept> {
        let Some(root) = self.0.local_root.clone() else { return Ok(Swept::default()) };
        let now = self.now().await?;
        self.blocking("sweep staging files", move || sweep_directory(&root, now)).await
    }

    /// Makes the directory entries above an object durable that somebody else's create has made.
    pub(super) async fn sync_directories(&self, path: &str) -> Result<()> {
        let Some(root) = self.0.local_root.clone() else { return Ok(()) };
        let file = root.join(path);
        self.blocking("sync directories", move || {
            file.ancestors()
                .skip(1)
                .take_while(|directory| directory.starts_with(&root))
                .try_for_each(sync_directory)
        })
        .await
    }

    /// Tells the system that it need not keep an object that was just created in memory: nothing reads
    /// it soon. What others have there stays, and the memory serves the next object. Advice only.
    pub(crate) async fn forget_cached(&self, path: &str) {
        let Some(root) = self.0.local_root.clone() else { return };
        let file = root.join(path);
        let _ = self.blocking("forget cached object", move || forget_cached(&file)).await;
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done
            .map_err(|error| Error::new(ErrorKind::Internal, action, self.name()).because(error))?;
        done.map_err(|error| Error::new(io_kind(&error), action, self.name()).because(error))
    }
}

/// Makes a directory's entries durable.
#[cfg(unix)]
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// Directories cannot be synced here; the file system keeps their order itself.
#[cfg(not(unix))]
pub(super) fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn forget_cached(path: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// There is no such advice here.
#[cfg(not(target_os = "linux"))]
fn forget_cached(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn sweep_directory(root: &Path, now: Timestamp) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            // Of the entry itself: a link is neither followed nor removed.
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file()
                && entry.file_name().to_str().is_some_and(is_staging_name)
                && now.since(modified(&metadata)?) > LEFT_ALONE
            {
                std::fs::remove_file(entry.path())?;
                swept.files += 1;
                swept.size_bytes += metadata.len();
            }
        }
    }
    Ok(swept)
}

fn modified(metadata: &std::fs::Metadata) -> io::Result<Timestamp> {
    // A time before 1970 is no time that a create left: far in the future keeps the file.
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or(Duration::MAX);
    Ok(Timestamp { unix_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) })
}

fn is_staging_name(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}
