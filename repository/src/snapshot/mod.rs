//! Snapshots: what stands at a commit key.
//!
//! A session's snapshot, checkpoint or tombstone is one object, created at a key that nobody else uses:
//! whoever creates it first has decided what became of the session. Forgetting is a create as well.

pub(crate) mod codec;
mod list;
#[cfg(test)]
mod tests;

use model::{Context, Epoch, Error, ErrorKind, Position, Proof, Result, Timestamp};

use crate::Repository;
use crate::format::ObjectType;
use crate::session::NodeReader;
use crate::tree::Tree;
use crate::types::{Root, SessionId, StreamName, WriterId};

pub use codec::Announcement;

use codec::{Commit, NOTICE_BYTES_MAX, SNAPSHOT_BYTES_MAX};

/// A committed cut of a system.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its session.
    pub id: SessionId,
    /// Who wrote it.
    pub writer: WriterId,
    /// The kind of the system.
    pub kind: String,
    /// The key domain.
    pub domain: String,
    /// The capturing host.
    pub host: String,
    /// What it was built on.
    pub parent: Option<SessionId>,
    /// The number of captures of this stream before it.
    pub capture_number: u64,
    /// Whether it is a checkpoint: never listed.
    pub is_checkpoint: bool,
    /// Its items.
    pub root: Root,
    /// Where the system stood.
    pub position: Position,
    /// When the reading began, by the writer's clock.
    pub cut_from: Timestamp,
    /// When the reading ended, by the writer's clock.
    pub cut_to: Timestamp,
    /// The source's clock at the cut.
    pub source_time: Option<Timestamp>,
    /// The store's clock when it was committed.
    pub store_time: Option<Timestamp>,
    /// The epoch of the extent identities.
    pub extent_epoch: Epoch,
    /// What a restore is compared with.
    pub proof: Proof,
    /// How many items could not be read.
    pub problems: u64,
    /// Bytes that its session put into the store.
    pub stored_bytes: u64,
}

/// Returns where a session's announcement stands.
pub(crate) fn session_path(id: &SessionId) -> String {
    format!("session/{}", id.path())
}

/// Returns where a session's commit stands.
pub(crate) fn snapshot_path(id: &SessionId) -> String {
    format!("snapshot/{}", id.path())
}

/// Returns where the forget of a session's snapshot stands.
pub(crate) fn forget_path(id: &SessionId) -> String {
    format!("forget/{}", id.path())
}

impl Repository {
    /// Reads one snapshot.
    ///
    /// # Errors
    /// `NotFound` where none was committed or it was fenced; `Corrupt`; those of the store.
    pub async fn snapshot(&self, id: &SessionId) -> Result<Snapshot> {
        match self.commit_of(id).await? {
            Commit::Snapshot(snapshot) => Ok(*snapshot),
            Commit::Tombstone(reason) => {
                Err(Error::new(ErrorKind::NotFound, "read snapshot", id.to_string())
                    .detail(format!("its session was closed: {reason}")))
            }
        }
    }

    /// Reads what stands at a session's commit key.
    pub(crate) async fn commit_of(&self, id: &SessionId) -> Result<Commit> {
        let path = snapshot_path(id);
        let object = self.store().get_limited(&path, SNAPSHOT_BYTES_MAX).await?;
        let signed = self.open_signed(ObjectType::Snapshot, &path, &object).await?;
        codec::decode_commit(id, signed.writer, &signed.body)
    }

    /// Reads the announcement of a session.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; those of the store.
    pub async fn announcement(&self, id: &SessionId) -> Result<(Announcement, WriterId)> {
        let path = session_path(id);
        let object = self.store().get_limited(&path, NOTICE_BYTES_MAX).await?;
        let signed = self.open_signed(ObjectType::Session, &path, &object).await?;
        Ok((codec::decode_announcement(id, &signed.body)?, signed.writer))
    }

    /// Opens a snapshot's tree.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn tree(&self, snapshot: &Snapshot) -> Result<Tree> {
        let keys = self.domain(&snapshot.domain)?;
        Ok(Tree::open(NodeReader::new(self, &keys), keys, snapshot.root.clone()))
    }

    /// Says that a snapshot is no longer wanted. What it takes is freed by the collector. Twice is the
    /// same as once.
    ///
    /// # Errors
    /// `Denied` where a hold covers it; `NotFound`; those of the store.
    pub async fn forget_snapshot(&self, id: &SessionId, context: &Context) -> Result<()> {
        context.check("forget snapshot")?;
        self.check_writable()?;
        if let Some(hold) = self.holds(context.clock.now()).await?.on_snapshot(id) {
            return Err(hold.in_the_way(id.to_string()));
        }
        match self.snapshot(id).await {
            // One that cannot be read may be forgotten too.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
        self.put_forget(id, "asked for", context).await
    }

    /// Creates the forget of a snapshot.
    pub(crate) async fn put_forget(
        &self,
        id: &SessionId,
        reason: &str,
        context: &Context,
    ) -> Result<()> {
        let body = codec::encode_forget(context.clock.now(), reason);
        match self.create_signed(ObjectType::Forget, &forget_path(id), body).await {
            Ok(_) => Ok(()),
            // Somebody has said so before.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says whether a snapshot is forgotten. That a forget is there is enough: what counts is not to
    /// build on what may go. Who deletes has to read it ([`Repository::snapshot_forget`]).
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_forgotten(&self, id: &SessionId) -> Result<bool> {
        match self.store().head(&forget_path(id)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the forget of a snapshot: who said so, when and why.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; those of the store.
    pub async fn snapshot_forget(&self, id: &SessionId) -> Result<(WriterId, Timestamp, String)> {
        let path = forget_path(id);
        let object = self.store().get_limited(&path, NOTICE_BYTES_MAX).await?;
        let signed = self.open_signed(ObjectType::Forget, &path, &object).await?;
        let (at, reason) = codec::decode_forget(id, &signed.body)?;
        Ok((signed.writer, at, reason))
    }

    /// Finds the snapshot of a stream whose short id ([`SessionId::short`]) begins so.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where several do; `Corrupt`; those of the store.
    pub async fn snapshot_by_prefix(&self, stream: &StreamName, prefix: &str) -> Result<Snapshot> {
        let ids = self.unforgotten(stream).await?;
        let mut matching = ids.into_iter().filter(|id| id.short().starts_with(prefix));
        let error = |kind, detail: &str| {
            Error::new(kind, "find snapshot", format!("{prefix:?} of {stream}"))
                .detail(detail.to_owned())
        };
        match (matching.next(), matching.next()) {
            (Some(id), None) => self.snapshot(&id).await,
            (Some(_), Some(_)) => Err(error(ErrorKind::Invalid, "several begin so")),
            (None, _) => Err(error(ErrorKind::NotFound, "none begins so")),
        }
    }
}
