//! A target held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use model::{
    Content, ContentCheck, ContentReader, Context, Error, ErrorKind, Extent, ExtentBody, Item,
    ItemBatches, ItemKey, Recheck, RestoreStep, Result, Target, TargetFacts, Version,
};

use super::Call;
use super::state::State;
use crate::memory::{BytesReader, Observed, ObservedItem, slice};

/// A [`Target`] that holds its items in memory and fails where its script says so. Clones are the
/// same target.
#[derive(Debug, Clone)]
pub struct MemoryTarget {
    facts: TargetFacts,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    items: Observed,
    /// What this target's steps made.
    made: BTreeSet<ItemKey>,
    writes: u64,
    is_finished: bool,
    script: State,
}

impl MemoryTarget {
    /// Creates an empty target.
    pub fn new() -> Self {
        let facts = TargetFacts {
            write_concurrency: 2,
            folds_case: false,
            folds_unicode: false,
            reads_back: false,
        };
        Self { facts, held: Arc::default() }
    }

    /// Creates a target in which somebody else's items stand.
    pub fn holding(state: Observed) -> Self {
        let target = Self::new();
        target.lock().items = state;
        target
    }

    /// Says which names are one there.
    #[must_use]
    pub fn with_folding(mut self, folds_case: bool, folds_unicode: bool) -> Self {
        self.facts = TargetFacts { folds_case, folds_unicode, ..self.facts };
        self
    }

    /// Reads content back while it is applied.
    #[must_use]
    pub fn reading_back(mut self) -> Self {
        self.facts.reads_back = true;
        self
    }

    /// Makes the `nth` call from now (the first is 1) fail, once: [`Call::Apply`], [`Call::Finish`],
    /// [`Call::List`] or [`Call::Open`].
    pub fn fail_nth(&self, call: Call, nth: u64, kind: ErrorKind) {
        self.lock().script.fail_nth(call, nth, kind);
    }

    /// Returns what the target holds.
    pub fn state(&self) -> Observed {
        self.lock().items.clone()
    }

    /// Returns the content of each item.
    pub fn contents(&self) -> BTreeMap<ItemKey, Bytes> {
        self.lock().items.iter().map(|(key, held)| (key.clone(), held.content.clone())).collect()
    }

    /// Says whether the last step was followed by [`Target::finish`].
    pub fn is_finished(&self) -> bool {
        self.lock().is_finished
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryTarget {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    fn check(&self, step: &RestoreStep) -> Result<()> {
        let key = step.key();
        let refuse =
            |kind, why: &str| Err(Error::new(kind, "apply step", key.display()).detail(why));
        let has_children = self.items.keys().any(|other| other != key && other.is_within(key));
        let lacks_parent = key
            .parent()
            .is_some_and(|parent| !parent.is_root() && !self.items.contains_key(&parent));
        match step {
            RestoreStep::Delete(_) if has_children => refuse(ErrorKind::Conflict, "not empty"),
            RestoreStep::Delete(_) => Ok(()),
            _ if lacks_parent => refuse(ErrorKind::Invalid, "its parent was not applied before it"),
            RestoreStep::Create(_) if self.items.contains_key(key) && !self.made.contains(key) => {
                refuse(ErrorKind::Conflict, "somebody else's item stands there")
            }
            _ => Ok(()),
        }
    }

    /// Stores an item under a version of this target's own; identities stay with their source.
    fn put(&mut self, item: &Item, content: Bytes) {
        self.writes += 1;
        let version = Some(Version(Bytes::copy_from_slice(&self.writes.to_be_bytes())));
        let plain = |extent: &Extent| match extent.body {
            ExtentBody::Hole => Extent::hole(extent.length_bytes),
            ExtentBody::Data { .. } => Extent::data(extent.length_bytes),
        };
        let extents = item.extents.iter().map(plain).collect();
        let item = Item { version, extents, ..item.clone() };
        self.made.insert(item.key.clone());
        self.items.insert(item.key.clone(), ObservedItem { item, content });
    }
}

/// Reads the bytes of the data extents and puts zero bytes into holes.
async fn read_content(item: &Item, content: Option<&mut dyn ContentReader>) -> Result<Bytes> {
    let mut data = Vec::new();
    if let Some(reader) = content {
        while let Some(piece) = reader.next().await? {
            data.extend_from_slice(&piece);
        }
    }
    let mut rest = data.as_slice();
    let mut whole = Vec::new();
    for extent in &item.extents {
        let length = usize::try_from(extent.length_bytes).unwrap_or(usize::MAX);
        if extent.body == ExtentBody::Hole {
            whole.resize(whole.len() + length, 0);
        } else {
            let Some((bytes, tail)) = rest.split_at_checked(length) else {
                return Err(wrong_length(item));
            };
            whole.extend_from_slice(bytes);
            rest = tail;
        }
    }
    if rest.is_empty() { Ok(whole.into()) } else { Err(wrong_length(item)) }
}

/// Returns the bytes of the data extents, one after another.
pub(crate) fn data_of(item: &Item, content: &Bytes) -> Bytes {
    let mut rest = content.clone();
    let mut data = Vec::new();
    for extent in &item.extents {
        let bytes = rest.split_to((extent.length_bytes as usize).min(rest.len()));
        if extent.body != ExtentBody::Hole {
            data.extend_from_slice(&bytes);
        }
    }
    data.into()
}

fn wrong_length(item: &Item) -> Error {
    Error::new(ErrorKind::Corrupt, "apply step", item.key.display())
        .detail("the content is not as long as the item's extents")
}

#[async_trait]
impl Content for MemoryTarget {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let mut held = self.lock();
        held.script.enter(Call::Open, &item.key.display())?;
        let bytes = held.items.get(&item.key).and_then(|held| slice(held, extent, &range));
        let bytes = bytes.ok_or_else(|| super::no_such_content(item, extent))?;
        Ok(Box::new(BytesReader::new(bytes)))
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        Ok(match self.lock().items.get(&item.key) {
            None => Recheck::Gone,
            Some(held) if held.item.version == item.version => Recheck::Same,
            Some(held) => Recheck::Changed(Box::new(held.item.clone())),
        })
    }
}

#[async_trait]
impl Target for MemoryTarget {
    fn facts(&self) -> TargetFacts {
        self.facts
    }

    fn survey(&self, _context: &Context) -> ItemBatches<'_> {
        let mut held = self.lock();
        let items: Vec<_> = held.items.values().map(|held| held.item.clone()).collect();
        let batches: Vec<_> = items
            .chunks(3)
            .map(|batch| held.script.enter(Call::List, "items").map(|()| batch.to_vec()))
            .collect();
        stream::iter(batches).boxed()
    }

    async fn apply(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        _context: &Context,
    ) -> Result<()> {
        self.lock().check(step)?;
        let (RestoreStep::Create(item) | RestoreStep::Replace(item)) = step else {
            let mut held = self.lock();
            held.script.enter(Call::Apply, &step.key().display())?;
            held.items.remove(step.key());
            return Ok(());
        };
        let content = read_content(item, content).await?;
        let mut held = self.lock();
        held.is_finished = false;
        if let Err(error) = held.script.enter(Call::Apply, &item.key.display()) {
            // As a process that dies in the middle of a file leaves it.
            let torn = content.slice(..content.len() / 2);
            let extents = Some(Extent::data(torn.len() as u64)).filter(|e| e.length_bytes > 0);
            held.put(&Item { extents: extents.into_iter().collect(), ..item.clone() }, torn);
            return Err(error);
        }
        held.put(item, content);
        Ok(())
    }

    async fn apply_checked(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        check: &mut dyn ContentCheck,
        context: &Context,
    ) -> Result<Option<Version>> {
        let (RestoreStep::Create(item) | RestoreStep::Replace(item)) = step else {
            return self.apply(step, content, context).await.map(|()| None);
        };
        let whole = read_content(item, content).await?;
        if !check.take(&whole) || !check.passes() {
            return Err(Error::new(ErrorKind::Corrupt, "apply step", item.key.display()));
        }
        let data = data_of(item, &whole);
        self.apply(step, Some(&mut BytesReader::new(data)), context).await?;
        Ok(self.lock().items.get(&item.key).and_then(|held| held.item.version.clone()))
    }

    async fn finish(&self, _context: &Context) -> Result<()> {
        let mut held = self.lock();
        held.script.enter(Call::Finish, "target")?;
        held.is_finished = true;
        Ok(())
    }

    async fn persist(&self, _context: &Context) -> Result<()> {
        Ok(())
    }
}
