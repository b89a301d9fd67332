//! Finding items by what they are called and what they are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use globset::{GlobBuilder, GlobMatcher};
use model::{AttributeTag, Error, ErrorKind, Item, ItemKey, ItemKind, Result, Timestamp};

use super::entries::{Entry, EntryBatches, entries, shown};
use crate::select::ResolvedSystem;

/// A pattern of names or paths: `*` and `?` stay within a name, `**` does not.
#[derive(Debug, Clone)]
pub struct Glob(GlobMatcher);

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// `Invalid` where it is none.
    pub fn new(pattern: &str) -> Result<Self> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
        glob.map(|glob| Self(glob.compile_matcher())).map_err(|error| {
            Error::new(ErrorKind::Invalid, "read pattern", format!("{pattern:?}")).because(error)
        })
    }

    fn is_match(&self, text: &str) -> bool {
        self.0.is_match(Path::new(text))
    }
}

/// What is looked for. Everything that is said has to hold.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Compared with the last component of the path.
    pub name: Option<Glob>,
    /// Compared with the whole path, which begins with `/`.
    pub path: Option<Glob>,
    /// Any of these; empty: all.
    pub kinds: Vec<ItemKind>,
    /// How long the content may be.
    pub size_bytes: RangeInclusive<u64>,
    /// When it may have been modified; what does not say counts as the beginning of time.
    pub modified: RangeInclusive<Timestamp>,
}

impl Default for Filter {
    fn default() -> Self {
        let at = |unix_ns| Timestamp { unix_ns };
        Self {
            name: None,
            path: None,
            kinds: Vec::new(),
            size_bytes: 0..=u64::MAX,
            modified: at(i64::MIN)..=at(i64::MAX),
        }
    }
}

impl Filter {
    /// Says whether an item is looked for.
    pub fn is_match(&self, item: &Item) -> bool {
        let unix_ns = item.attributes.signed(AttributeTag::MODIFIED_NS).unwrap_or(i64::MIN);
        let name = || String::from_utf8_lossy(item.key.name().unwrap_or_default()).into_owned();
        let path = || super::as_path(&item.key);
        (self.kinds.is_empty() || self.kinds.contains(&item.kind))
            && self.size_bytes.contains(&item.content_bytes())
            && self.modified.contains(&Timestamp { unix_ns })
            && self.name.as_ref().is_none_or(|glob| glob.is_match(&name()))
            && self.path.as_ref().is_none_or(|glob| glob.is_match(&path()))
    }
}

/// Lists what matches in the system's path and below it, in key order.
///
/// The stream fails as reading the state does.
///
/// # Errors
/// `Corrupt`, `Invalid` where the path cannot be a key.
pub fn find(system: &ResolvedSystem, filter: &Filter) -> Result<EntryBatches> {
    let key = system.stored(&system.path)?;
    let filter = filter.clone();
    let matching = shown(system, entries(&system.items, &key))?.try_filter_map(move |mut batch| {
        batch.retain(|entry| filter.is_match(&entry.item));
        std::future::ready(Ok((!batch.is_empty()).then_some(batch)))
    });
    Ok(matching.boxed())
}

/// A version of an item.
#[derive(Debug, Clone)]
pub struct Found {
    /// The place of its state among those that were given.
    pub state: usize,
    /// The item.
    pub entry: Entry,
}

/// Lists what matches in several states of one system, given newest first. An item that is the same as
/// in the next newer state that has it is not listed again. Remembers what it has found.
///
/// # Errors
/// As [`find`].
pub fn find_versions(
    states: &[ResolvedSystem],
    filter: &Filter,
) -> Result<BoxStream<'static, Result<Found>>> {
    let found: Vec<EntryBatches> =
        states.iter().map(|state| find(state, filter)).collect::<Result<_>>()?;
    let all = stream::iter(found.into_iter().enumerate())
        .map(|(state, batches)| batches.map_ok(move |batch| (state, batch)))
        .flatten();
    let mut seen: BTreeMap<ItemKey, Entry> = BTreeMap::new();
    let versions = all.map_ok(move |(state, batch)| {
        let mut new = Vec::new();
        for entry in batch {
            let known = seen.insert(entry.item.key.clone(), entry.clone());
            if known.is_none_or(|known| !is_same(&known, &entry)) {
                new.push(Ok(Found { state, entry }));
            }
        }
        stream::iter(new)
    });
    Ok(versions.try_flatten().boxed())
}

fn is_same(one: &Entry, two: &Entry) -> bool {
    one.item.kind == two.item.kind
        && one.item.attributes == two.item.attributes
        && one.has_same_content(two)
}
