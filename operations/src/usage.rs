//! What a repository takes: its objects by kind, from one listing.

use std::collections::{BTreeMap, HashSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::Result;
use repository::Repository;

/// How many streams are looked at at the same time.
const REQUESTS_MAX: usize = 16;

/// Objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KindUsage {
    /// The first part of their paths: `pack`, `snapshot`.
    pub name: String,
    /// How many there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a repository takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// By kind, the largest first.
    pub kinds: Vec<KindUsage>,
    /// How many points there are that are not forgotten.
    pub points: u64,
    /// How many sessions have ended and are not forgotten.
    pub snapshots: u64,
    /// The bytes of all objects.
    pub stored_bytes: u64,
    /// The bytes of content in the newest snapshot of each system.
    pub content_bytes: u64,
    /// The items in the newest snapshot of each system.
    pub items: u64,
}

/// Adds up what a repository takes.
///
/// # Errors
/// Those of the store; `Corrupt`.
pub async fn usage(repository: &Repository) -> Result<Usage> {
    let (objects, streams) = futures::try_join!(repository.store().list(""), repository.streams())?;
    let mut usage = summed(objects.iter().map(|object| (object.path.as_str(), object.size_bytes)));
    let newest: Vec<_> = stream::iter(streams)
        .map(|stream| async move { repository.newest_snapshots(&stream, 1).await })
        .buffered(REQUESTS_MAX)
        .try_collect()
        .await?;
    for snapshot in newest.iter().flatten() {
        usage.content_bytes += snapshot.root.totals.content_bytes;
        usage.items += snapshot.root.totals.items;
    }
    Ok(usage)
}

fn summed<'p>(objects: impl Iterator<Item = (&'p str, u64)>) -> Usage {
    let mut kinds: BTreeMap<&str, KindUsage> = BTreeMap::new();
    // The forget of a snapshot stays when the collector has deleted the snapshot.
    let (mut committed, mut forgotten) = (HashSet::new(), HashSet::new());
    for (path, size_bytes) in objects {
        committed.extend(path.strip_prefix("snapshot/"));
        forgotten.extend(path.strip_prefix("forget/"));
        let name = path.split('/').next().unwrap_or_default();
        let kind = kinds.entry(name).or_default();
        kind.objects += 1;
        kind.bytes = kind.bytes.saturating_add(size_bytes);
    }
    let count = |name: &str| kinds.get(name).map_or(0, |kind| kind.objects);
    // The collector leaves the header of a forgotten point in place of its body.
    let forgotten_points = count("forget-point").saturating_sub(count("point-header"));
    let points = count("point").saturating_sub(forgotten_points);
    let snapshots = committed.difference(&forgotten).count() as u64;
    let stored_bytes = kinds.values().map(|kind| kind.bytes).sum();
    let named = kinds.into_iter().map(|(name, kind)| KindUsage { name: name.to_owned(), ..kind });
    let mut kinds: Vec<_> = named.collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    Usage { kinds, points, snapshots, stored_bytes, ..Usage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_by_the_first_part_of_their_path() {
        let objects = [
            ("descriptor", 7),
            ("pack/00/a", 100),
            ("pack/01/b", 50),
            ("point/prod/c/1/1", 5),
            ("point/prod/c/1/2", 5),
            ("forget-point/prod/c/1/2", 1),
            ("snapshot/prod.etc/1/1-0", 3),
            ("snapshot/prod.etc/1/2-0", 3),
            ("forget/prod.etc/1/2-0", 1),
            ("forget/prod.etc/1/3-0", 1),
        ];
        let usage = summed(objects.into_iter());
        let shown: Vec<_> = usage
            .kinds
            .iter()
            .map(|kind| format!("{} {} {}", kind.name, kind.objects, kind.bytes))
            .collect();
        assert_eq!(
            shown,
            [
                "pack 2 150",
                "point 2 10",
                "descriptor 1 7",
                "snapshot 2 6",
                "forget 2 2",
                "forget-point 1 1"
            ]
        );
        assert_eq!((usage.points, usage.snapshots, usage.stored_bytes), (1, 1, 176));
    }
}
