//! What a source lists, brought into an order that can be worked on.

use futures::StreamExt;
use model::{ChangeBatches, Context, Error, ErrorKind, Item, ItemBatches, Result};
use repository::sort::Sorter;
use repository::tree::Edits;

use super::CaptureOptions;
use super::pipeline::cancellable;

/// Sorts a listing, in bounded memory.
pub(super) async fn sorted(
    mut items: ItemBatches<'_>,
    memory_bytes: usize,
    options: &CaptureOptions,
    context: &Context,
) -> Result<ItemBatches<'static>> {
    let failed = |error: tokio::task::JoinError| {
        Error::new(ErrorKind::Internal, "sort items", "").because(error)
    };
    let mut sorter = Sorter::new(memory_bytes, &options.scratch_folder, context);
    while let Some(batch) =
        cancellable(context, "list items", async { items.next().await.transpose() }).await?
    {
        let pushed = tokio::task::spawn_blocking(move || {
            batch.into_iter().try_for_each(|item| sorter.push(item)).map(|()| sorter)
        });
        sorter = pushed.await.map_err(failed)??;
    }
    tokio::task::spawn_blocking(move || sorter.finish()).await.map_err(failed)?
}

/// Collects changes.
pub(super) async fn edits_of(
    mut changes: ChangeBatches<'_>,
    context: &Context,
) -> Result<Edits<Item>> {
    let mut edits = Edits::default();
    while let Some(batch) =
        cancellable(context, "list changes", async { changes.next().await.transpose() }).await?
    {
        batch.into_iter().for_each(|change| edits.apply(change));
    }
    Ok(edits)
}
