//! The log of a scripted system, from its follower into a repository.

use bytes::Bytes;
use futures::TryStreamExt;
use model::{
    Batch, Change, Context, ExtentBody, Follower, Item, LogPayload, Next, Payload, Position,
    Result, System,
};
use repository::Repository;
use repository::log::{LogBatch, compact_log};
use repository::types::{SessionId, StreamName};
use testkit::ScriptedSystem;
use testkit::conformance::read_range;

/// Small, so that a few batches make a segment.
const SEGMENT_BYTES: u64 = 4 << 10;
/// How many batches are taken at most.
const BATCHES_MAX: usize = 1_000;

/// Appends what a system went through since a position to the run of batches over a snapshot; `note` is
/// told the number of each batch and the position that it leads to.
///
/// # Errors
/// Those of the repository.
pub async fn append(
    repository: &Repository,
    (base, from): (&SessionId, &Position),
    system: &ScriptedSystem,
    context: &Context,
    mut note: impl FnMut(u64, Position),
) -> Result<()> {
    let mut writer =
        repository.log_writer(&base.stream, LogPayload::Changes, base, context).await?;
    let mut follower = system.follow(from, context).await?;
    for _ in 0..BATCHES_MAX {
        let Next::Batch(batch) = follower.next(context).await? else { break };
        let contents = read_contents(follower.as_ref(), &batch).await?;
        let upto = batch.upto.clone();
        note(writer.append(batch, contents).await?, upto);
    }
    Ok(())
}

/// Reads the content of the items that a batch upserts, data extent by data extent.
async fn read_contents(follower: &dyn Follower, batch: &Batch) -> Result<Vec<Vec<Bytes>>> {
    let Payload::Changes(changes) = &batch.payload else { return Ok(Vec::new()) };
    let mut contents = Vec::new();
    for change in changes {
        let extents = match change {
            Change::Upsert(item) => read_extents(follower, item).await?,
            Change::Delete(_) | Change::Move { .. } => Vec::new(),
        };
        contents.push(extents);
    }
    Ok(contents)
}

async fn read_extents(follower: &dyn Follower, item: &Item) -> Result<Vec<Bytes>> {
    let mut extents = Vec::new();
    for (index, extent) in item.extents.iter().enumerate() {
        if extent.body != ExtentBody::Hole {
            extents.push(read_range(follower, item, index, 0..extent.length_bytes).await?);
        }
    }
    Ok(extents)
}

/// Puts the batches of a stream's log into segments.
///
/// # Errors
/// Those of the repository.
pub async fn compact(
    repository: &Repository,
    stream: &StreamName,
    context: &Context,
) -> Result<()> {
    compact_log(repository, stream, SEGMENT_BYTES, context).await.map(drop)
}

/// Deletes the batches that segments hold.
///
/// # Errors
/// Those of the repository.
pub async fn delete_compacted(
    repository: &Repository,
    stream: &StreamName,
    context: &Context,
) -> Result<()> {
    repository::log::delete_compacted(repository, stream, context).await.map(drop)
}

/// Reads the batches over a snapshot.
///
/// # Errors
/// Those of the repository.
pub async fn read(
    repository: &Repository,
    stream: &StreamName,
    base: &SessionId,
) -> Result<Vec<LogBatch>> {
    repository.log_batches(stream, base).try_collect().await
}
