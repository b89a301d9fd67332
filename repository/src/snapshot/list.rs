//! Listings of snapshots, newest first, in few round trips however many there are.
//!
//! Names count down and lie in buckets of a thousand: one listing tells the buckets, the newest of them
//! are listed at once, and what is wanted is read at once.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result, Timestamp};

use super::codec::{self, Commit, SNAPSHOT_BYTES_MAX};
use super::{Snapshot, snapshot_path};
use crate::Repository;
use crate::format::ObjectType;
use crate::format::envelope::open_unverified;
use crate::types::{SessionId, StreamName};

/// Small objects that are read at the same time.
const READS_MAX: usize = 128;
/// Buckets that are listed at the same time.
const LISTS_MAX: usize = 16;
/// The newest bucket may just have begun, so the one before is listed with it.
const NEWEST_BUCKETS: usize = 2;
/// How many more objects than wanted are read at once: some may be tombstones or checkpoints.
const SLACK: usize = 8;
/// A checkpoint that nothing followed for so long, by the store's time, was abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a listing tells about a stream before anything is read.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The greatest number that a session took.
    pub(crate) newest_number: Option<u64>,
    /// Commits of the newest buckets that are not forgotten, newest first.
    pub(crate) candidates: Vec<SessionId>,
}

/// The buckets of a stream below one directory, newest first.
struct Buckets(Vec<String>);

impl Repository {
    /// Lists the streams that have sessions.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn streams(&self) -> Result<Vec<StreamName>> {
        let listing = self.store().list_directories("session").await?;
        let name = |path: &String| path.strip_prefix("session/")?.parse().ok();
        Ok(listing.directories.iter().filter_map(name).collect())
    }

    /// Returns the newest snapshots of a stream, newest first, without checkpoints, tombstones and what
    /// is forgotten. Takes four sequential round trips however many there are.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn newest_snapshots(
        &self,
        stream: &StreamName,
        count: usize,
    ) -> Result<Vec<Snapshot>> {
        let (buckets, forgets) =
            futures::try_join!(self.buckets("snapshot", stream), self.buckets("forget", stream))?;
        let mut snapshots = Vec::new();
        let mut buckets = &buckets.0[..];
        let mut at_once = NEWEST_BUCKETS;
        while !buckets.is_empty() && snapshots.len() < count {
            let (next, rest) = buckets.split_at(at_once.min(buckets.len()));
            (buckets, at_once) = (rest, LISTS_MAX);
            let ids = self.commits(stream, next, &forgets).await?;
            let mut ids = &ids[..];
            while !ids.is_empty() && snapshots.len() < count {
                let wanted = count.saturating_sub(snapshots.len()).saturating_add(SLACK);
                let (next, rest) = ids.split_at(wanted.min(ids.len()));
                ids = rest;
                for (_, commit) in self.read_commits(next).await? {
                    match commit? {
                        Commit::Snapshot(snapshot) if !snapshot.is_checkpoint => {
                            snapshots.push(*snapshot);
                        }
                        _ => {}
                    }
                }
            }
        }
        snapshots.truncate(count);
        Ok(snapshots)
    }

    /// Reads every snapshot and checkpoint of a stream that is not forgotten, newest first; one that
    /// is damaged does not hide the others.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all_snapshots(
        &self,
        stream: &StreamName,
    ) -> Result<Vec<(SessionId, Result<Snapshot>)>> {
        let ids = self.unforgotten(stream).await?;
        let mut snapshots = Vec::new();
        for ids in ids.chunks(8 * READS_MAX) {
            for (id, commit) in self.read_commits(ids).await? {
                match commit {
                    Ok(Commit::Snapshot(snapshot)) => snapshots.push((id, Ok(*snapshot))),
                    Ok(Commit::Tombstone(_)) => {}
                    Err(error) => snapshots.push((id, Err(error))),
                }
            }
        }
        Ok(snapshots)
    }

    /// Lists the checkpoints of a stream whose capture was abandoned: seven days old by the store's
    /// time (`store_now`) and neither taken over nor forgotten. Who prunes forgets them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn abandoned_checkpoints(
        &self,
        stream: &StreamName,
        store_now: Timestamp,
    ) -> Result<Vec<SessionId>> {
        let is_old = |listed: Timestamp| store_now.since(listed) >= ABANDONED_AFTER;
        let (listed, forgotten) = futures::try_join!(
            self.store_list("snapshot", stream),
            self.store_list("forget", stream)
        )?;
        let forgotten: HashSet<_> = forgotten.into_iter().map(|(id, _)| id).collect();
        let old: Vec<_> = listed
            .into_iter()
            .filter(|(id, modified)| is_old(*modified) && !forgotten.contains(id))
            .map(|(id, _)| id)
            .collect();
        let mut abandoned = Vec::new();
        for ids in old.chunks(8 * READS_MAX) {
            for (id, commit) in self.read_commits(ids).await? {
                if matches!(commit, Ok(Commit::Snapshot(snapshot)) if snapshot.is_checkpoint) {
                    abandoned.push(id);
                }
            }
        }
        Ok(abandoned)
    }

    async fn store_list(
        &self,
        kind: &str,
        stream: &StreamName,
    ) -> Result<Vec<(SessionId, Timestamp)>> {
        let listed = self.store().list(&format!("{kind}/{stream}")).await?;
        Ok(listed.iter().filter_map(|l| Some((id(kind, &l.path)?, l.modified))).collect())
    }

    /// Lists every commit of a stream that is not forgotten, newest first.
    pub(crate) async fn unforgotten(&self, stream: &StreamName) -> Result<Vec<SessionId>> {
        let (committed, forgotten) = futures::try_join!(
            self.store_list("snapshot", stream),
            self.store_list("forget", stream)
        )?;
        let forgotten: HashSet<_> = forgotten.into_iter().map(|(id, _)| id).collect();
        let committed = committed.into_iter().map(|(id, _)| id);
        Ok(committed.filter(|id| !forgotten.contains(id)).collect())
    }

    /// Looks at the newest sessions and commits of a stream, in two round trips.
    pub(crate) async fn survey(&self, stream: &StreamName) -> Result<Survey> {
        let (sessions, commits, forgets) = futures::try_join!(
            self.buckets("session", stream),
            self.buckets("snapshot", stream),
            self.buckets("forget", stream)
        )?;
        let newest = commits.0.get(..commits.0.len().min(NEWEST_BUCKETS)).unwrap_or_default();
        let (newest_session, candidates) = futures::try_join!(
            self.newest_session(sessions.0.first()),
            self.commits(stream, newest, &forgets)
        )?;
        let newest_number = newest_session.max(candidates.first().map(|id| id.number.get()));
        Ok(Survey { newest_number, candidates })
    }

    async fn newest_session(&self, bucket: Option<&String>) -> Result<Option<u64>> {
        let Some(bucket) = bucket else { return Ok(None) };
        let listed = self.store().list(bucket).await?;
        let ids = listed.iter().filter_map(|listed| id("session", &listed.path));
        Ok(ids.map(|id| id.number.get()).max())
    }

    async fn buckets(&self, kind: &str, stream: &StreamName) -> Result<Buckets> {
        let listing = self.store().list_directories(&format!("{kind}/{stream}")).await?;
        Ok(Buckets(listing.directories))
    }

    /// Lists the commits of some buckets that are not forgotten, newest first.
    async fn commits(
        &self,
        stream: &StreamName,
        buckets: &[String],
        forgets: &Buckets,
    ) -> Result<Vec<SessionId>> {
        let prefix = format!("snapshot/{stream}/");
        let forget = |bucket: &String| {
            let path = format!("forget/{stream}/{}", bucket.strip_prefix(&prefix)?);
            forgets.0.contains(&path).then_some(path)
        };
        let forgets: Vec<_> = buckets.iter().filter_map(forget).collect();
        let (committed, forgotten) =
            futures::try_join!(self.list_all(buckets), self.list_all(&forgets))?;
        let forgotten: HashSet<_> =
            forgotten.iter().filter_map(|path| id("forget", path)).collect();
        let committed = committed.iter().filter_map(|path| id("snapshot", path));
        Ok(committed.filter(|id| !forgotten.contains(id)).collect())
    }

    async fn list_all(&self, directories: &[String]) -> Result<Vec<String>> {
        let listings = stream::iter(directories.to_vec()).map(|path| {
            let store = self.store().clone();
            async move { store.list(&path).await }
        });
        let listings: Vec<_> = listings.buffered(LISTS_MAX).try_collect().await?;
        Ok(listings.into_iter().flatten().map(|listed| listed.path).collect())
    }

    /// Reads what stands at many commit keys, and checks all signatures together. One that has gone
    /// since it was listed is left out.
    pub(crate) async fn read_commits(
        &self,
        ids: &[SessionId],
    ) -> Result<Vec<(SessionId, Result<Commit>)>> {
        let objects = stream::iter(ids.to_vec()).map(|id| {
            let store = self.store().clone();
            async move {
                let path = snapshot_path(&id);
                match store.get_limited(&path, SNAPSHOT_BYTES_MAX).await {
                    Ok(object) => Ok(Some((id, path, object))),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) if error.kind() == ErrorKind::Exhausted => {
                        Ok(Some((id, path, Bytes::new())))
                    }
                    Err(error) => Err(error),
                }
            }
        });
        let objects: Vec<_> = objects.buffered(READS_MAX).try_collect().await?;
        let objects: Vec<_> = objects.into_iter().flatten().collect();
        let mut errors = Vec::with_capacity(objects.len());
        let mut unverified = Vec::with_capacity(objects.len());
        for (_, path, object) in &objects {
            match open_unverified(self.keys(), ObjectType::Snapshot, path, object) {
                Ok(signed) => {
                    unverified.push(signed);
                    errors.push(None);
                }
                Err(error) => errors.push(Some(error)),
            }
        }
        let mut verified = match self.verify_all(unverified).await {
            Ok(verified) => verified.into_iter(),
            Err(error) if is_about_one(&error) => return self.read_one_by_one(objects).await,
            Err(error) => return Err(error),
        };
        let commits = objects.into_iter().zip(errors).map(|((id, _, _), error)| {
            let commit = match (error, &mut verified) {
                (Some(error), _) => Err(error),
                (None, verified) => verified
                    .next()
                    .ok_or_else(|| Error::new(ErrorKind::Internal, "verify signatures", ""))
                    .and_then(|signed| codec::decode_commit(&id, signed.writer, &signed.body)),
            };
            (id, commit)
        });
        Ok(commits.collect())
    }

    /// Some signature does not hold: finds out whose.
    async fn read_one_by_one(
        &self,
        objects: Vec<(SessionId, String, Bytes)>,
    ) -> Result<Vec<(SessionId, Result<Commit>)>> {
        let mut commits = Vec::with_capacity(objects.len());
        for (id, path, object) in objects {
            let commit = match self.open_signed(ObjectType::Snapshot, &path, &object).await {
                Ok(signed) => codec::decode_commit(&id, signed.writer, &signed.body),
                Err(error) if is_about_one(&error) => Err(error),
                Err(error) => return Err(error),
            };
            commits.push((id, commit));
        }
        Ok(commits)
    }
}

/// Says whether an error is about one object and not about the store.
fn is_about_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::WrongKey)
}

fn id(kind: &str, path: &str) -> Option<SessionId> {
    SessionId::from_path(path.strip_prefix(kind)?.strip_prefix('/')?)
}
