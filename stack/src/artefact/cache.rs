//! The cache of artefacts: one folder each, complete or not there.
//!
//! `artefacts/KEY/` holds `tree/` and `record.toml`; it appears by a rename when both are complete. Who
//! fetches holds the lock of the key, so that processes that start at once fetch once.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Context, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::digest;
use crate::folders;
use crate::place::Place;
use crate::syntax;

/// How often a lock that another process holds is asked for.
const LOCK_EVERY: Duration = Duration::from_millis(100);

/// What is known of a folder in the cache.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Where it came from.
    pub source: String,
    /// The digest of its tree.
    pub digest: String,
}

/// One place in the cache, locked.
#[derive(Debug)]
pub struct Slot {
    artefacts: PathBuf,
    key: String,
    // Holds the lock by being open.
    _lock: File,
}

impl Slot {
    /// Locks a place; waits while another process fetches the same.
    pub async fn lock(place: &Place, key: String, context: &Context) -> Result<Self> {
        const ACTION: &str = "lock cache of artefacts";
        let artefacts = place.cache().join("artefacts");
        folders::make(&artefacts)?;
        folders::make(&place.cache().join("logs"))?;
        let path = artefacts.join(format!("{key}.lock"));
        let lock = File::create(&path).map_err(|e| folders::error(ACTION, &path, e))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { artefacts, key, _lock: lock }),
                Err(TryLockError::WouldBlock) => context.check(ACTION)?,
                Err(TryLockError::Error(e)) => return Err(folders::error(ACTION, &path, e)),
            }
            context.clock.sleep(LOCK_EVERY).await;
        }
    }

    /// Where it is when it is complete.
    pub fn tree(&self) -> PathBuf {
        self.folder().join("tree")
    }

    fn folder(&self) -> PathBuf {
        self.artefacts.join(&self.key)
    }

    /// Returns what is there and is as it was fetched. What has changed since is told of and removed.
    pub async fn find(&self, context: &Context) -> Result<Option<Record>> {
        let path = self.folder().join("record.toml");
        let Some(text) = folders::read(&path)? else { return Ok(None) };
        let sound = match syntax::parse::<Record>(&text, "read record of artefact", &self.key) {
            Ok(record) => {
                let found = digest_of(&self.tree()).await?;
                (found == record.digest).then_some(record)
            }
            Err(_) => None,
        };
        if sound.is_none() {
            let error = Error::new(ErrorKind::Corrupt, "use artefact", self.key.as_str());
            context
                .monitor
                .problem(&error.detail("it is not as it was fetched; it is fetched again"));
            folders::remove(&self.folder())?;
        }
        Ok(sound)
    }

    /// Makes an empty folder to fetch into; what a crash left in it goes.
    pub fn staging(&self) -> Result<PathBuf> {
        let staging = self.artefacts.join(format!(".fetch-{}", self.key));
        folders::remove(&staging)?;
        folders::make(&staging.join("tree"))?;
        folders::make(&staging.join("work"))?;
        Ok(staging)
    }

    /// Makes what was fetched complete.
    pub async fn keep(&self, staging: &Path, source: &str) -> Result<Record> {
        const ACTION: &str = "keep artefact";
        folders::remove(&staging.join("work"))?;
        let digest = digest_of(&staging.join("tree")).await?;
        let record = Record { source: source.to_owned(), digest };
        let text = toml::to_string(&record)
            .map_err(|error| Error::new(ErrorKind::Internal, ACTION, &self.key).because(error))?;
        folders::replace(&staging.join("record.toml"), &text)?;
        let folder = self.folder();
        folders::remove(&folder)?;
        fs::rename(staging, &folder).map_err(|e| folders::error(ACTION, &folder, e))?;
        Ok(record)
    }
}

/// Digests on a thread of its own: it may read hundreds of megabytes.
async fn digest_of(tree: &Path) -> Result<String> {
    const ACTION: &str = "compute digest of";
    let path = tree.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest::of_tree(&path)).await;
    let shown = tree.display().to_string();
    digest
        .map_err(|error| Error::new(ErrorKind::Internal, ACTION, shown).because(error))?
        .map_err(|e| folders::error(ACTION, tree, e))
}
