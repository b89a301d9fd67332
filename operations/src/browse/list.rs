//! Listing a directory.

use std::pin::Pin;

use futures::stream::StreamExt as _;
use model::{Error, ErrorKind, ItemKey, ItemKind, Result};

use super::as_path;
use super::entries::{self, Entry, EntryBatches, shown};
use crate::select::ResolvedSystem;

/// What stands at a path.
pub struct Listing {
    /// The item itself; none where only things below it are stored.
    pub item: Option<Entry>,
    /// What is in it, in key order.
    pub entries: EntryBatches,
}

/// Lists what is in the system's path; with `is_recursive` all that is below it.
///
/// # Errors
/// `NotFound` where nothing stands there; those of the store; `Corrupt`.
pub async fn list(system: &ResolvedSystem, is_recursive: bool) -> Result<Listing> {
    let key = system.stored(&system.path)?;
    let below = if is_recursive {
        let this = key.clone();
        entries::entries(&system.items, &key)
            .map(move |batch| {
                let mut batch = batch?;
                batch.retain(|entry| entry.item.key != this);
                Ok(batch)
            })
            .filter(|batch| {
                let is_empty = batch.as_ref().is_ok_and(Vec::is_empty);
                std::future::ready(!is_empty)
            })
            .boxed()
    } else {
        entries::children(&system.items, &key)
    };
    // Both ways lead through the same levels of the tree: a remote store answers them together.
    let mut below = Box::pin(shown(system, below)?.peekable());
    let peek = async { Pin::as_mut(&mut below).peek().await.is_some() };
    let (item, has_children) = futures::join!(entries::get(&system.items, &key), peek);
    let root = system.root()?;
    let item = item?.and_then(|item| item.rebase(&root, &ItemKey::root()));
    if item.is_none() && !has_children && !system.path.is_root() {
        return Err(Error::new(ErrorKind::NotFound, "list", as_path(&system.path))
            .detail(format!("nothing stands there in {}", system.snapshot.id)));
    }
    let is_leaf = item
        .as_ref()
        .is_some_and(|entry| !matches!(entry.item.kind, ItemKind::Directory | ItemKind::Node));
    let entries = if is_leaf { futures::stream::empty().boxed() } else { below.boxed() };
    Ok(Listing { item, entries })
}
