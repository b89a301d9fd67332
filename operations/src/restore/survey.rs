//! What is there, as a stream that is read on a thread of its own: targets list where they are polled.

use std::sync::Arc;

use futures::TryStreamExt as _;
use model::{Context, Item, ItemKey, ItemKind, Result, Target};
use tokio::sync::mpsc;

use super::Job;

/// Batches that wait to be taken.
const BATCHES_AHEAD: usize = 4;

/// Starts a survey. It ends early when nobody takes its batches any more.
pub(super) fn spawn(
    target: &Arc<dyn Target>,
    context: &Context,
) -> mpsc::Receiver<Result<Vec<Item>>> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let (target, context) = (target.clone(), context.clone());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        runtime.block_on(async move {
            let mut batches = target.survey(&context);
            loop {
                let batch = batches.try_next().await.transpose();
                let Some(batch) = batch else { break };
                let is_last = batch.is_err();
                if sender.send(batch).await.is_err() || is_last {
                    break;
                }
            }
        });
    });
    receiver
}

/// Returns the first thing that stands where the restore will write: anything below the chosen place,
/// or something there that is no directory.
pub(super) async fn first_within(job: &Job) -> Result<Option<ItemKey>> {
    let place = &job.options.onto;
    let mut there = spawn(&job.target, &job.context);
    while let Some(batch) = there.recv().await {
        for item in batch? {
            let is_place = item.key == *place && item.kind == ItemKind::Directory;
            if item.key.is_within(place) && !is_place {
                return Ok(Some(item.key));
            }
        }
    }
    Ok(None)
}
