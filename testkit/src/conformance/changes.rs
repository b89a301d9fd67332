//! The check of cuts that list only changes.

use futures::StreamExt;
use model::{Change, Content, Context, Cut, CutItems, Result, System};

use super::content::read_content;
use super::{Baseline, Observed, ObservedItem, assert_same_state, must};
use crate::reference::apply_change;

/// Checks that what a system lists since a baseline, applied to it, gives the same state as a full
/// cut: items and content. Returns whether it listed changes, and how many.
///
/// # Panics
/// Where the two states differ, or a batch is empty.
pub async fn check_changes_cut(
    system: &dyn System,
    since: &Baseline,
    context: &Context,
) -> Option<usize> {
    let cut = must("cut", system.cut(Some(&since.position), context).await);
    let changes = must("list changes", list_changes(cut.as_ref(), context).await);
    let mut applied = None;
    if let Some(changes) = changes {
        let mut state = since.state.clone();
        must("apply changes", apply_all(&mut state, &changes, cut.as_ref()).await);
        applied = Some((state, changes.len()));
    }
    must("release", cut.release().await);
    let (state, count) = applied?;
    let full = must("cut", Baseline::take(system, context).await);
    assert_same_state("a changes cut applied to its base", &state, &full.state);
    Some(count)
}

async fn list_changes(cut: &dyn Cut, context: &Context) -> Result<Option<Vec<Change>>> {
    let CutItems::Changes(mut batches) = cut.items(context) else { return Ok(None) };
    let mut changes = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        assert!(!batch.is_empty(), "a batch of changes is empty");
        changes.extend(batch);
    }
    Ok(Some(changes))
}

/// Applies changes to a state, reading what they bring.
pub(super) async fn apply_all(
    state: &mut Observed,
    changes: &[Change],
    content: &dyn Content,
) -> Result<()> {
    for change in changes {
        let bytes = match change {
            Change::Upsert(item) => read_content(content, item).await?,
            Change::Delete(_) | Change::Move { .. } => bytes::Bytes::new(),
        };
        let make = |item: &model::Item| ObservedItem { item: item.clone(), content: bytes };
        apply_change(state, change, make, |observed, key| observed.item.key = key.clone());
    }
    Ok(())
}
