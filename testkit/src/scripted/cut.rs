//! Cuts of the scripted system.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use model::{
    Change, Content, ContentReader, Context, Cut, CutItems, Error, ErrorKind, Item, ItemKey,
    Position, Proof, Recheck, Result, Version,
};

use super::state::{
    Event, Items, ScriptedItem, State, change_of, disturbed, position_of, proof_of,
};
use super::{Call, Shape, lock, no_such_content, slice_of};

/// Small, so that every listing has several batches.
const BATCH_ITEMS: usize = 3;
/// Small and odd, so that every content has several pieces.
const PIECE_BYTES: usize = 4_099;

/// Content by what vouches for it: an item's version.
#[derive(Debug)]
pub(super) struct Contents {
    state: Arc<Mutex<State>>,
    by_version: Mutex<HashMap<Version, ScriptedItem>>,
}

impl Contents {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        Self { state, by_version: Mutex::default() }
    }

    pub(super) fn add_all(&self, items: &Items) {
        items.iter().for_each(|(key, item)| self.add(key, item.clone()));
    }

    pub(super) fn add_event(&self, event: &Event) {
        if let (Change::Upsert(upserted), Some(item)) = change_of(event) {
            self.add(&upserted.key, item);
        }
    }

    fn add(&self, key: &ItemKey, item: ScriptedItem) {
        if let Some(version) = item.to_item(key).version {
            let mut items =
                self.by_version.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            items.insert(version, item);
        }
    }

    fn get(&self, item: &Item) -> Option<ScriptedItem> {
        let items = self.by_version.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        items.get(item.version.as_ref()?).cloned()
    }
}

#[async_trait]
impl Content for Contents {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let mut state = lock(&self.state);
        state.enter(Call::Open, &item.key.display())?;
        let held = self.get(item).filter(|_| !state.vanished.contains(&item.key));
        let length = range.end.saturating_sub(range.start);
        let bytes = held.and_then(|held| slice_of(&held, extent, range));
        let bytes = bytes.ok_or_else(|| no_such_content(item, extent))?;
        *state.opened_bytes.entry(item.key.clone()).or_default() += length;
        let is_unsteady = state.unsteady.get(&item.key).is_some_and(|times| *times > 0);
        // A mixture: part of it is already what the item changes to.
        let rest = if is_unsteady { disturbed(&bytes, bytes.len() / 4 * 3) } else { bytes };
        Ok(Box::new(ScriptedReader {
            state: Arc::clone(&self.state),
            subject: item.key.display(),
            rest,
        }))
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        let mut state = lock(&self.state);
        state.enter(Call::Recheck, &item.key.display())?;
        if state.vanished.contains(&item.key) {
            return Ok(Recheck::Gone);
        }
        let Some(times) = state.unsteady.get_mut(&item.key).filter(|times| **times > 0) else {
            return Ok(Recheck::Same);
        };
        *times -= 1;
        let mut changed = self.get(item).ok_or_else(|| no_such_content(item, 0))?;
        changed.disturb();
        state.revision += 1;
        changed.version = state.revision;
        state.items.insert(item.key.clone(), changed.clone());
        let listed = changed.to_item(&item.key);
        self.add(&item.key, changed);
        Ok(Recheck::Changed(Box::new(listed)))
    }
}

struct ScriptedReader {
    state: Arc<Mutex<State>>,
    subject: String,
    rest: Bytes,
}

#[async_trait]
impl ContentReader for ScriptedReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        lock(&self.state).enter(Call::Read, &self.subject)?;
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// One frozen reading.
#[derive(Debug)]
pub(super) struct ScriptedCut {
    state: Arc<Mutex<State>>,
    position: Position,
    items: Items,
    shape: Shape,
    changes: Option<Vec<Change>>,
    contents: Contents,
    is_released: AtomicBool,
}

impl ScriptedCut {
    pub(super) fn freeze(shared: Arc<Mutex<State>>, shape: Shape, since: Option<u64>) -> Self {
        let contents = Contents::new(Arc::clone(&shared));
        let mut state = lock(&shared);
        state.cuts_held += 1;
        contents.add_all(&state.items);
        let events = since
            .filter(|_| shape == Shape::Changes)
            .and_then(|revision| state.changes_since(revision));
        let changes = events.map(|events| {
            let note = |(event, change)| {
                contents.add_event(&event);
                change
            };
            events.into_iter().map(note).collect()
        });
        let (position, items) = (position_of(state.revision), state.items.clone());
        // Bytes that rotted since the event are what the cut reads.
        contents.add_all(&items);
        drop(state);
        let is_released = AtomicBool::new(false);
        Self { state: shared, position, items, shape, changes, contents, is_released }
    }

    fn list(&self) -> Vec<Item> {
        self.items.iter().map(|(key, item)| item.to_item(key)).collect()
    }

    fn batches<T: Clone + Send + 'static>(&self, all: &[T]) -> BoxStream<'_, Result<Vec<T>>> {
        let batches: Vec<_> = all.chunks(BATCH_ITEMS).map(<[T]>::to_vec).collect();
        stream::iter(batches)
            .map(|batch| lock(&self.state).enter(Call::List, "items").map(|()| batch))
            .boxed()
    }

    fn check_held(&self) -> Result<()> {
        if self.is_released.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Invalid, "read cut", "").detail("it was released"));
        }
        Ok(())
    }
}

#[async_trait]
impl Content for ScriptedCut {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        self.check_held()?;
        self.contents.open(item, extent, range).await
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.check_held()?;
        self.contents.recheck(item).await
    }
}

#[async_trait]
impl Cut for ScriptedCut {
    fn position(&self) -> &Position {
        &self.position
    }

    fn items(&self, _context: &Context) -> CutItems<'_> {
        if let Some(changes) = &self.changes {
            return CutItems::Changes(self.batches(changes));
        }
        let mut items = self.list();
        if self.shape == Shape::Unsorted {
            items.sort_by_key(|item| *blake3::hash(item.key.as_bytes()).as_bytes());
            return CutItems::Unsorted(self.batches(&items));
        }
        CutItems::Sorted(self.batches(&items))
    }

    async fn proof(&self) -> Result<Proof> {
        lock(&self.state).enter(Call::Proof, "digest")?;
        let facts = self.items.iter().map(|(key, item)| (key, item.kind, &item.attributes));
        Ok(proof_of("walk", facts))
    }

    async fn release(&self) -> Result<()> {
        let mut state = lock(&self.state);
        state.enter(Call::Release, "cut")?;
        if !self.is_released.swap(true, Ordering::SeqCst) {
            state.cuts_held -= 1;
        }
        Ok(())
    }
}
