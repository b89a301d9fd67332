//! One writer's announced run: announce, then read what is condemned, then use; commit by one create.
//!
//! A session ends in exactly one object at its commit key: its snapshot, or a tombstone by itself or by
//! a collector. Until then nothing of it is seen by anybody, and everything that it has put can be found
//! again by the next one, which checks it as it would check anything else.

mod begin;
mod nodes;
mod own;
mod read;
mod shelf;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use model::{Context, Epoch, Error, ErrorKind, Position, Proof, Result, Timestamp};

use crate::Repository;
use crate::content::{ChunkReader, ContentWriter, WriterOptions};
use crate::crypto::DomainKeys;
use crate::format::ObjectType;
use crate::snapshot::codec::{self, Commit};
use crate::snapshot::{Snapshot, snapshot_path};
use crate::tree::{StoreNodes as _, Tree};
use crate::types::{Place, Root, SessionId, StoredBody, StoredChunk, StoredExtent, StreamName};

pub use nodes::Nodes;
pub(crate) use read::NodeReader;

use begin::Announced;
use shelf::Shared;

/// A long capture commits what it has after so long, or after so many stored bytes.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(15 * 60);
const CHECKPOINT_BYTES: u64 = 64 << 30;
/// Packs have about this size where the memory setting allows, and at least the smaller one. One is
/// filled while another is on its way, and the nodes of what is in both wait for their names.
const PACK_BYTES: u64 = 32 << 20;
const PACK_DIVISOR: u64 = 4;
const PACK_BYTES_LEAST: u64 = 4 << 20;
/// What reading back (delta bases, content of the parent) may keep, as a part of the memory setting.
const READER_DIVISOR: u64 = 4;

/// What a session is begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// The kind of the system: `files`.
    pub kind: String,
    /// The key domain.
    pub domain: String,
    /// The capturing host, for people.
    pub host: String,
    /// Takes nothing over from earlier snapshots: everything is read.
    pub ignore_parent: bool,
}

/// What is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where the system stood.
    pub position: Position,
    /// When the reading began, by the writer's clock.
    pub cut_from: Timestamp,
    /// When it ended.
    pub cut_to: Timestamp,
    /// The source's clock at the cut, where it told.
    pub source_time: Option<Timestamp>,
    /// The epoch of the extent identities.
    pub extent_epoch: Epoch,
    /// What a restore is compared with.
    pub proof: Proof,
    /// How many items could not be read.
    pub problems: u64,
}

/// One writer's announced run.
pub struct Session {
    shared: Arc<Shared>,
    writer: ContentWriter,
    reader: ChunkReader,
    nodes: Nodes,
    options: SessionOptions,
    parent: Option<Snapshot>,
    capture_number: u64,
    /// The store's time when it was announced, and the clock's then.
    store_time: Timestamp,
    began: Duration,
    /// What the commit makes superfluous.
    checkpoint: Option<SessionId>,
    /// What earlier sessions of the same capture have stored.
    stored_before: u64,
}

impl Session {
    /// Announces, reads what is condemned, then finds the parent and checks that it is not forgotten.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin(
        repository: &Repository,
        stream: &StreamName,
        options: SessionOptions,
        context: &Context,
    ) -> Result<Self> {
        context.check("begin session")?;
        repository.check_writable()?;
        codec::check_names(&options.kind, &options.domain, &options.host)?;
        let announced = begin::begin(repository, stream, &options, context).await?;
        let checkpoint = announced.parent.as_ref().filter(|parent| parent.is_checkpoint);
        let checkpoint = checkpoint.map(|parent| parent.id.clone());
        Self::new(repository, options, announced, checkpoint, context).await
    }

    async fn new(
        repository: &Repository,
        options: SessionOptions,
        announced: Announced,
        checkpoint: Option<SessionId>,
        context: &Context,
    ) -> Result<Self> {
        let Announced { id, store_time, condemned, parent, capture_number } = announced;
        let keys = repository.domain(&options.domain)?;
        let shared = Shared::new(repository, &keys, id, condemned, context);
        if !shared.condemned.is_empty() {
            // Every extent will be looked up.
            shared.index.get().await?;
        }
        let mut salt = [0; 32];
        context.entropy.fill(&mut salt);
        let memory = repository.options().memory_bytes;
        let pack_bytes = (memory / PACK_DIVISOR).clamp(PACK_BYTES_LEAST, PACK_BYTES);
        let writer_options = WriterOptions { pack_bytes: pack_bytes as usize, salt };
        let writer = ContentWriter::new(repository, &keys, shared.clone(), writer_options);
        let share = usize::try_from(memory / READER_DIVISOR).unwrap_or(usize::MAX);
        let reader = ChunkReader::new(repository, &keys, share)
            .with_fallback(Arc::new(shared.index.clone()));
        let nodes = Nodes::new(&shared, &writer, salt);
        let began = context.clock.elapsed();
        let stored_before = 0;
        Ok(Self {
            shared,
            writer,
            reader,
            nodes,
            options,
            parent,
            capture_number,
            store_time,
            began,
            checkpoint,
            stored_before,
        })
    }

    /// Returns what it is called.
    pub fn id(&self) -> &SessionId {
        &self.shared.id
    }

    /// Returns the keys of its domain.
    pub fn keys(&self) -> &DomainKeys {
        &self.shared.keys
    }

    /// Returns what it builds on: the newest snapshot of the stream or checkpoint that may be used.
    pub fn parent(&self) -> Option<&Snapshot> {
        self.parent.as_ref()
    }

    /// Returns the parent's tree.
    pub fn parent_tree(&self) -> Option<Tree> {
        let root = self.parent.as_ref()?.root.clone();
        Some(Tree::open(self.nodes.clone(), self.shared.keys.clone(), root))
    }

    /// Returns how many captures of the stream there were before this one.
    pub fn capture_number(&self) -> u64 {
        self.capture_number
    }

    /// Says whether a subtree that lies there may be taken over unread: false as soon as anything is
    /// condemned anywhere.
    pub fn may_reuse(&self, _place: &Place) -> bool {
        self.shared.condemned.is_empty()
    }

    /// Says whether every known extent has to pass [`Session::reuse`], because something is condemned.
    pub fn checks_reuse(&self) -> bool {
        !self.shared.condemned.is_empty()
    }

    /// Returns the extent with every chunk resolved in this session's view; none where one is not, so
    /// that the source has to be read.
    ///
    /// Where nothing is condemned, all that a parent holds resolves: it is not forgotten, so whatever
    /// was collected was not its.
    ///
    /// # Errors
    /// Those of the index.
    pub fn reuse(&self, extent: &StoredExtent) -> Result<Option<StoredExtent>> {
        let StoredBody::Data { identity, checksums, class, chunks } = &extent.body else {
            return Ok(Some(extent.clone()));
        };
        if !self.checks_reuse() {
            return Ok(Some(extent.clone()));
        }
        let mut resolved = Vec::with_capacity(chunks.len());
        for StoredChunk { id, length, place, .. } in chunks {
            let Some(chunk) = self.shared.resolve_chunk(id, *length, place.location())? else {
                return Ok(None);
            };
            resolved.push(chunk);
        }
        let body = StoredBody::Data {
            identity: identity.clone(),
            checksums: checksums.clone(),
            class: *class,
            chunks: resolved,
        };
        Ok(Some(StoredExtent { length_bytes: extent.length_bytes, body }))
    }

    /// Returns what content is written with.
    pub fn writer(&self) -> &ContentWriter {
        &self.writer
    }

    /// Returns what content is read with.
    pub fn reader(&self) -> &ChunkReader {
        &self.reader
    }

    /// Returns where nodes go (and come from).
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Says whether it is time for a checkpoint: 15 minutes or 64 GiB since the last.
    pub fn is_checkpoint_due(&self) -> bool {
        let since = self.shared.context.clock.elapsed().saturating_sub(self.began);
        since >= CHECKPOINT_AFTER || self.shared.stored_bytes() >= CHECKPOINT_BYTES
    }

    /// Commits a checkpoint and goes on as the next session, whose parent is the checkpoint.
    ///
    /// # Errors
    /// `Fenced` where this session was closed by a collector; those of the store.
    pub async fn checkpoint(self, root: Root, draft: Draft) -> Result<Self> {
        self.make_durable().await?;
        let (repository, context) = (&self.shared.repository, &self.shared.context);
        // The next session is announced first: from the checkpoint's commit on, a collector either
        // waits for it or has condemned before, which it has read.
        let (id, store_time, condemned) =
            begin::announce_next(repository, self.id(), &self.options, context).await?;
        let checkpoint = self.put_snapshot(root, draft, true).await?;
        let is_forgotten = repository.is_forgotten(&checkpoint.id).await?;
        let announced = Announced {
            id,
            store_time,
            condemned,
            parent: (!is_forgotten).then(|| checkpoint.clone()),
            capture_number: self.capture_number,
        };
        let options = self.options.clone();
        let checkpoint = Some(checkpoint.id);
        let mut next = Self::new(repository, options, announced, checkpoint, context).await?;
        next.stored_before = self.stored_before + self.shared.stored_bytes();
        Ok(next)
    }

    /// Makes everything durable and creates the snapshot.
    ///
    /// # Errors
    /// `Fenced` where the session was closed by a collector; those of the store.
    pub async fn commit(self, root: Root, draft: Draft) -> Result<Snapshot> {
        self.make_durable().await?;
        self.put_snapshot(root, draft, false).await
    }

    /// Gives up: takes its own commit key by a tombstone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn abandon(self) -> Result<()> {
        self.shared.stop();
        let body = codec::encode_tombstone("given up by its writer");
        let path = snapshot_path(self.id());
        let created = self.shared.repository.create_signed(ObjectType::Snapshot, &path, body).await;
        match created {
            Ok(_) => Ok(()),
            // Closed by a collector before.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts all that is open, and waits until all that was put is durable and indexed.
    async fn make_durable(&self) -> Result<()> {
        self.nodes.flush().await?;
        self.shared.settle().await
    }

    /// Creates the snapshot at the commit key, then the forget of the checkpoint that it replaces.
    async fn put_snapshot(
        &self,
        root: Root,
        draft: Draft,
        is_checkpoint: bool,
    ) -> Result<Snapshot> {
        let (repository, context) = (&self.shared.repository, &self.shared.context);
        context.check("commit session")?;
        let since = context.clock.elapsed().saturating_sub(self.began);
        let snapshot = Snapshot {
            id: self.id().clone(),
            writer: repository.writer(),
            kind: self.options.kind.clone(),
            domain: self.options.domain.clone(),
            host: self.options.host.clone(),
            parent: self.parent.as_ref().map(|parent| parent.id.clone()),
            capture_number: self.capture_number,
            is_checkpoint,
            root: with_known_place(root)?,
            position: draft.position,
            cut_from: draft.cut_from,
            cut_to: draft.cut_to,
            source_time: draft.source_time,
            // Measured from the announcement, which the store has dated.
            store_time: Some(self.store_time.saturating_add(since)),
            extent_epoch: draft.extent_epoch,
            proof: draft.proof,
            problems: draft.problems,
            stored_bytes: self.stored_before + self.shared.stored_bytes(),
        };
        let body = codec::encode_snapshot(&snapshot)?;
        let path = snapshot_path(self.id());
        match repository.create_signed(ObjectType::Snapshot, &path, body).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {
                return Err(self.closed(error).await);
            }
            Err(error) => return Err(error),
        }
        if let Some(checkpoint) = &self.checkpoint {
            let forgotten = repository.put_forget(checkpoint, "replaced", context).await;
            // The commit counts. What is left is found as abandoned after seven days.
            if let Err(error) = forgotten {
                context.monitor.problem(&error);
            }
        }
        Ok(snapshot)
    }

    /// Finds out who has taken the commit key.
    async fn closed(&self, conflict: Error) -> Error {
        match self.shared.repository.commit_of(self.id()).await {
            Ok(Commit::Tombstone(reason)) => {
                Error::new(ErrorKind::Fenced, "commit session", self.id().to_string()).detail(
                    format!("it was closed ({reason}); what was stored is reused by the next"),
                )
            }
            Ok(Commit::Snapshot(_)) | Err(_) => conflict,
        }
    }
}

/// Says where the root lies, now that all packs have their names.
fn with_known_place(root: Root) -> Result<Root> {
    let Root { node, height, totals } = root;
    let node = match node {
        None => None,
        Some((id, place)) => {
            let location = place.location().ok_or_else(|| {
                Error::new(ErrorKind::Internal, "commit session", id.to_string())
                    .detail("its root lies in no pack of this session or its parent")
            })?;
            Some((id, Place::Known(location)))
        }
    };
    Ok(Root { node, height, totals })
}
