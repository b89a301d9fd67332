//! What differs between two states of one system.

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use model::{ContentCheck as _, Error, ErrorKind, ItemKey, Result};
use repository::Repository;
use repository::crypto::DomainKeys;
use repository::tree;

use super::content::{Checker, Part, parts};
use super::entries::{Entry, EntryBatches, EntryContent, entries};
use crate::select::{Items, ResolvedSystem};

/// How an item differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the new state has it.
    Added,
    /// Only the old state has it.
    Removed,
    /// Both have it, and what is said here differs.
    Changed {
        /// What kind of thing it is.
        kind: bool,
        /// The content.
        content: bool,
        /// Anything else.
        attributes: bool,
    },
}

/// An item that differs.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Where.
    pub key: ItemKey,
    /// What the old state has there.
    pub old: Option<Entry>,
    /// What the new state has there.
    pub new: Option<Entry>,
    /// How they differ.
    pub change: ChangeKind,
}

/// Lists in key order what differs below the path of two states of a system. Between two snapshots it
/// costs the size of the change; a state from a log is read whole. What was only touched is no change.
///
/// The stream fails as reading the states does.
///
/// # Errors
/// `Invalid` where the states were stored in different key domains.
pub fn diff(
    repository: &Repository,
    old: &ResolvedSystem,
    new: &ResolvedSystem,
) -> Result<BoxStream<'static, Result<Changed>>> {
    if old.snapshot.domain != new.snapshot.domain {
        return Err(Error::new(ErrorKind::Invalid, "compare", new.stream.to_string())
            .detail("the states lie in different key domains and have nothing in common"));
    }
    let keys = repository.domain(&new.snapshot.domain)?;
    let is_same_host = old.host == new.host;
    let pairs = match (&old.items, &new.items) {
        (Items::Stored(one), Items::Stored(two)) if is_same_host => stored_pairs(one, two),
        _ => merged_pairs(old, new)?,
    };
    let (path, roots) = (new.path.clone(), (old.root()?, new.root()?));
    let changed = pairs.try_filter_map(move |(old, new)| {
        let strip = |entry: Option<Entry>, root: &ItemKey| {
            entry.and_then(|entry| entry.rebase(root, &ItemKey::root()))
        };
        let pair = (strip(old, &roots.0), strip(new, &roots.1));
        let changed = changed(pair, &keys).filter(|changed| changed.key.is_within(&path));
        std::future::ready(Ok(changed))
    });
    Ok(changed.boxed())
}

type Pair = (Option<Entry>, Option<Entry>);

fn stored_pairs(old: &tree::Tree, new: &tree::Tree) -> BoxStream<'static, Result<Pair>> {
    tree::diff(old, new)
        .map_ok(|difference| {
            let entry = |record| Entry::of_record(&difference.key, record);
            (difference.old.map(entry), difference.new.map(entry))
        })
        .boxed()
}

/// Joins the entries of both by the keys that people see.
fn merged_pairs(
    old: &ResolvedSystem,
    new: &ResolvedSystem,
) -> Result<BoxStream<'static, Result<Pair>>> {
    let side = |system: &ResolvedSystem| -> Result<Side> {
        let key = system.stored(&system.path)?;
        Ok(Side {
            batches: entries(&system.items, &key),
            root: system.root()?,
            head: Vec::new().into_iter(),
        })
    };
    let sides = (side(old)?, side(new)?, (None, None));
    let pairs = stream::try_unfold(sides, |(mut old, mut new, mut heads)| async move {
        if heads.0.is_none() {
            heads.0 = old.next().await?;
        }
        if heads.1.is_none() {
            heads.1 = new.next().await?;
        }
        let key = |head: &Option<(ItemKey, Entry)>| head.as_ref().map(|(key, _)| key.clone());
        let Some(smallest) = key(&heads.0).into_iter().chain(key(&heads.1)).min() else {
            return Ok(None);
        };
        let take = |head: &mut Option<(ItemKey, Entry)>| {
            head.take_if(|(key, _)| *key == smallest).map(|(_, entry)| entry)
        };
        let pair = (take(&mut heads.0), take(&mut heads.1));
        Ok(Some((pair, (old, new, heads))))
    });
    Ok(pairs.boxed())
}

struct Side {
    batches: EntryBatches,
    root: ItemKey,
    head: std::vec::IntoIter<Entry>,
}

impl Side {
    async fn next(&mut self) -> Result<Option<(ItemKey, Entry)>> {
        loop {
            if let Some(entry) = self.head.next() {
                let key = entry.item.key.rebase(&self.root, &ItemKey::root());
                return Ok(Some((key.unwrap_or_else(|| entry.item.key.clone()), entry)));
            }
            match self.batches.try_next().await? {
                Some(batch) => self.head = batch.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Says how two entries differ; none where they do not.
fn changed((old, new): Pair, keys: &DomainKeys) -> Option<Changed> {
    let key = new.as_ref().or(old.as_ref())?.item.key.clone();
    let change = match (&old, &new) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(old), Some(new)) => {
            let kind = old.item.kind != new.item.kind;
            let attributes = old.item.attributes != new.item.attributes;
            let content = !is_same_content(old, new, keys);
            if !kind && !attributes && !content {
                return None;
            }
            ChangeKind::Changed { kind, content, attributes }
        }
    };
    Some(Changed { key, old, new, change })
}

/// Compares contents; bytes from a log with chunks by cutting them alike and naming the pieces.
fn is_same_content(old: &Entry, new: &Entry, keys: &DomainKeys) -> bool {
    let (stored, logged) = match (&old.content, &new.content) {
        (EntryContent::Stored(_), EntryContent::Logged(_)) => (old, new),
        (EntryContent::Logged(_), EntryContent::Stored(_)) => (new, old),
        _ => return old.has_same_content(new),
    };
    if stored.item.content_bytes() != logged.item.content_bytes() {
        return false;
    }
    let mut checker = Checker::new(&stored.item, &stored.content, keys);
    for part in parts(&logged.item, &logged.content) {
        let is_right = match part {
            Part::Bytes(bytes) => checker.take(&bytes),
            Part::Zeros(length) => checker.take_zeros(length),
            Part::Chunk(..) => false,
        };
        if !is_right {
            return false;
        }
    }
    checker.passes()
}
