//! Reading one item's content.

use std::sync::Arc;

use model::{ContentReader, Error, ErrorKind, ItemKey, ItemKind, Result};
use repository::Repository;
use repository::content::ChunkReader;
use repository::index::LazyIndex;

use super::as_path;
use super::content::whole_reader;
use super::entries::{Entry, get};
use crate::select::ResolvedSystem;

/// How much may be kept decoded for one stream of content.
const MEMORY_BYTES: usize = 32 << 20;

/// An item with its content.
pub struct Cat {
    /// The item; of a hard link the one that it is a further name of.
    pub entry: Entry,
    /// Its content from first to last byte, holes as zeros.
    pub content: Box<dyn ContentReader>,
}

/// Opens the content of the item at the system's path.
///
/// # Errors
/// `WrongKey` where the key gives no contents; `NotFound` where nothing stands there; `Invalid` where it has no content; those of the store.
pub async fn cat(repository: &Repository, system: &ResolvedSystem) -> Result<Cat> {
    repository.keys().check_full("read content")?;
    let key = system.stored(&system.path)?;
    let missing = |key: &ItemKey| {
        Error::new(ErrorKind::NotFound, "read item", as_path(&system.shown(key)))
            .detail(format!("nothing stands there in {}", system.snapshot.id))
    };
    let mut entry = get(&system.items, &key).await?.ok_or_else(|| missing(&key))?;
    // A hard link leads to an item that is none.
    if let Some(first) = entry.link_target() {
        entry = get(&system.items, &first).await?.ok_or_else(|| missing(&first))?;
    }
    if !entry.item.kind.has_content() {
        let what = match entry.item.kind {
            ItemKind::Directory => "it is a directory",
            ItemKind::Symlink => "it is a symbolic link",
            _ => "it has no content",
        };
        return Err(Error::new(ErrorKind::Invalid, "read item", as_path(&system.path)).detail(what));
    }
    let keys = repository.domain(&system.snapshot.domain)?;
    let reader = ChunkReader::new(repository, &keys, MEMORY_BYTES)
        .with_fallback(Arc::new(LazyIndex::new(repository, &keys)));
    let content = whole_reader(&reader, &entry);
    let root = system.root()?;
    let shown = entry.clone().rebase(&root, &ItemKey::root());
    Ok(Cat { entry: shown.unwrap_or(entry), content })
}
