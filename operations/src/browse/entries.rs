//! The items of a state, whether a snapshot holds them or the log after it.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use model::{AttributeTag, Attributes, Item, ItemKey, ItemKind, Result};
use repository::log::LoggedRecord;
use repository::types::{Record, StoredBody, StoredExtent};

use crate::select::{Items, ResolvedSystem};

/// An item of a state.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The item.
    pub item: Item,
    /// Where its content is.
    pub content: EntryContent,
}

/// Where the content of an entry is.
#[derive(Debug, Clone)]
pub enum EntryContent {
    /// In the chunks of its extents.
    Stored(Vec<StoredExtent>),
    /// Here: the bytes of its data extents, one after another.
    Logged(Vec<Bytes>),
}

/// Entries in key order, in batches that are never empty.
pub type EntryBatches = BoxStream<'static, Result<Vec<Entry>>>;

impl Entry {
    pub(crate) fn of_record(key: &ItemKey, record: Record) -> Self {
        Self { item: record.to_item(key), content: EntryContent::Stored(record.extents) }
    }

    pub(crate) fn of_logged(key: &ItemKey, record: LoggedRecord) -> Self {
        match record {
            LoggedRecord::Stored(record) => Self::of_record(key, record),
            LoggedRecord::Logged(item, contents) => Self {
                item: Item { key: key.clone(), ..*item },
                content: EntryContent::Logged(contents),
            },
        }
    }

    /// Returns the entry under another key: what lies within `from` lies within `to`. A hard link goes
    /// on leading to what it led to, where that moves too.
    pub(crate) fn rebase(mut self, from: &ItemKey, to: &ItemKey) -> Option<Self> {
        self.item.key = self.item.key.rebase(from, to)?;
        if let Some(target) = self.link_target().and_then(|target| target.rebase(from, to)) {
            self.item.attributes = with_link_target(&self.item.attributes, &target);
        }
        Some(self)
    }

    /// Returns the key that a hard link is a further name of.
    pub(crate) fn link_target(&self) -> Option<ItemKey> {
        if self.item.kind != ItemKind::Hardlink {
            return None;
        }
        let target = self.item.attributes.get(AttributeTag::LINK_TARGET)?;
        ItemKey::from_bytes(target.to_vec()).ok()
    }

    /// Says whether both have the same content. Chunks of one key domain are compared by name; chunks
    /// and bytes by what the source says of its versions.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        use EntryContent::{Logged, Stored};
        match (&self.content, &other.content) {
            (Stored(one), Stored(two)) => pieces(one).eq(pieces(two)),
            (Logged(one), Logged(two)) => {
                self.item.extents == other.item.extents && one.concat() == two.concat()
            }
            (Stored(_), Logged(_)) | (Logged(_), Stored(_)) => {
                let is_known = self.item.version.is_some();
                let length = self.item.content_bytes();
                let is_same_version = is_known && self.item.version == other.item.version;
                length == other.item.content_bytes() && (length == 0 || is_same_version)
            }
        }
    }
}

/// Names the pieces of content, holes by their lengths alone.
fn pieces(extents: &[StoredExtent]) -> impl Iterator<Item = (Option<[u8; 32]>, u64)> {
    extents.iter().flat_map(|extent| {
        let (hole, chunks) = match &extent.body {
            StoredBody::Hole => (Some((None, extent.length_bytes)), [].as_slice()),
            StoredBody::Data { chunks, .. } => (None, chunks.as_slice()),
        };
        let chunks = chunks.iter().map(|chunk| (Some(chunk.id.0), u64::from(chunk.length)));
        hole.into_iter().chain(chunks)
    })
}

/// Returns attributes with another link target.
pub(crate) fn with_link_target(attributes: &Attributes, target: &ItemKey) -> Attributes {
    let others = attributes.iter().filter(|(tag, _)| *tag != AttributeTag::LINK_TARGET);
    let builder = others.fold(Attributes::builder(), |all, (tag, value)| all.bytes(tag, value));
    builder.bytes(AttributeTag::LINK_TARGET, target.as_bytes()).build()
}

/// Lists an item and all below it, by stored keys.
pub(crate) fn entries(items: &Items, key: &ItemKey) -> EntryBatches {
    let bounds = key.subtree();
    match items {
        Items::Stored(tree) => tree.range(bounds).map_ok(of_records).boxed(),
        Items::Logged(tree) => tree.range(bounds).map_ok(of_logged).boxed(),
    }
}

/// Lists an item's direct children, by stored keys.
pub(crate) fn children(items: &Items, key: &ItemKey) -> EntryBatches {
    match items {
        Items::Stored(tree) => tree.children(key).map_ok(of_records).boxed(),
        Items::Logged(tree) => tree.children(key).map_ok(of_logged).boxed(),
    }
}

/// Returns one item, by its stored key.
pub(crate) async fn get(items: &Items, key: &ItemKey) -> Result<Option<Entry>> {
    Ok(match items {
        Items::Stored(tree) => tree.get(key).await?.map(|record| Entry::of_record(key, record)),
        Items::Logged(tree) => tree.get(key).await?.map(|record| Entry::of_logged(key, record)),
    })
}

fn of_records(batch: Vec<(ItemKey, Record)>) -> Vec<Entry> {
    batch.into_iter().map(|(key, record)| Entry::of_record(&key, record)).collect()
}

fn of_logged(batch: Vec<(ItemKey, LoggedRecord)>) -> Vec<Entry> {
    batch.into_iter().map(|(key, record)| Entry::of_logged(&key, record)).collect()
}

/// Takes the host off the keys.
pub(crate) fn shown(system: &ResolvedSystem, entries: EntryBatches) -> Result<EntryBatches> {
    let root = system.root()?;
    let strip = move |batch: Vec<Entry>| -> Vec<Entry> {
        let strip = |entry: Entry| entry.rebase(&root, &ItemKey::root());
        batch.into_iter().filter_map(strip).collect()
    };
    Ok(entries.map_ok(strip).try_filter(|batch| std::future::ready(!batch.is_empty())).boxed())
}
