//! Listing a kind of object folder by folder, so that no listing holds a whole repository.

use futures::future::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::Result;

use super::Kind;
use crate::store::{Listed, Store};

/// How many folders are listed at the same time, at each store.
pub(super) const LISTINGS_AT_ONCE: usize = 4;

/// Lists the folders of a kind. Those of numbers come oldest first, since numbers count down in names.
pub(super) async fn folders(store: &Store, kind: Kind) -> Result<Vec<String>> {
    let mut found = vec![kind.name().to_owned()];
    for _ in 0..kind.depth() {
        let below = stream::iter(found)
            .map(|folder| async move { store.list_directories(&folder).await }.boxed())
            .buffered(LISTINGS_AT_ONCE)
            .map_ok(|listing| listing.directories);
        found = below.try_concat().await?;
    }
    found.reverse();
    Ok(found)
}

/// Lists a folder in both stores.
pub(super) async fn list_both(
    source: &Store,
    destination: &Store,
    folder: &str,
) -> Result<(Vec<Listed>, Vec<Listed>)> {
    futures::try_join!(source.list(folder), destination.list(folder))
}

/// Returns the same folder or path of another kind: sessions, snapshots and forgets have the same
/// paths below their first part, and so have points and their forgets.
pub(super) fn of_kind(path: &str, kind: Kind) -> String {
    match path.split_once('/') {
        Some((_, rest)) => format!("{}/{rest}", kind.name()),
        None => kind.name().to_owned(),
    }
}

/// Says whether nothing stands below a prefix but folders without an object, of which a local disk may
/// have some. Gives up, saying no, where there are more than `folders_max`.
pub(super) async fn is_empty(store: &Store, prefix: &str, folders_max: usize) -> Result<bool> {
    let mut open = vec![prefix.to_owned()];
    for _ in 0..folders_max {
        let Some(folder) = open.pop() else { return Ok(true) };
        let listing = store.list_directories(&folder).await?;
        if !listing.objects.is_empty() {
            return Ok(false);
        }
        open.extend(listing.directories);
    }
    Ok(open.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_another_kind_differ_in_their_first_part() {
        assert_eq!(of_kind("forget/prod.etc", Kind::Snapshot), "snapshot/prod.etc");
        assert_eq!(of_kind("forget-point/prod/c/1", Kind::Point), "point/prod/c/1");
        assert_eq!(of_kind("forget", Kind::Snapshot), "snapshot");
    }
}
