//! A system that does what its script says, so that every behaviour of the ports is exercised
//! without a server: all shapes of a cut, extents with identities and checksums, both kinds of log,
//! gaps, changes while reading, failures.
//!
//! Scripts have one change per line, so that a test shows its data at a glance:
//!
//! ```text
//! dir     PATH [ATTRIBUTE…]
//! file    PATH [ATTRIBUTE…] EXTENT…       node: the same
//! symlink PATH TARGET                     fifo PATH
//! delete  PATH                            move FROM TO
//! ```
//! `PATH` has `/` between components, `.` is the root, `%41` is the byte 0x41. An `ATTRIBUTE` is `mode:755`
//! or `mtime:NANOSECONDS`. An `EXTENT` is `hole*LENGTH` or `[IDENTITY=]PIECE[+PIECE…][/STRIPE_BYTES]` where a
//! `PIECE` is `"text"` (no spaces; `%` as above), `SEED*LENGTH` (random bytes) or `SEED~LENGTH` (text).
//! An identity given again with other bytes is an identity that lies.

mod cut;
mod follow;
mod notation;
mod replay;
mod state;
mod target;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    Attributes, ContentClass, Context, Cut, Epoch, Error, ErrorKind, Follower, Host, Item, ItemKey,
    ItemKind, LogPayload, Position, Replay, Result, System, SystemFacts,
};

use cut::ScriptedCut;
use follow::ScriptedFollower;
use replay::ScriptedReplay;
use state::{ScriptedExtent, State, position_of, revision_of};

#[cfg(test)]
mod tests;

pub use notation::key;
pub use target::MemoryTarget;
pub(crate) use target::data_of;

/// How the scripted system lists its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Ascending.
    Sorted,
    /// In the order of a hash.
    Unsorted,
    /// Only what changed, where a position is given that history reaches back to; else ascending.
    Changes,
}

/// A method that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`System::cut`].
    Cut,
    /// The next batch of a listing.
    List,
    /// [`model::Content::open`].
    Open,
    /// [`model::ContentReader::next`].
    Read,
    /// [`model::Content::recheck`].
    Recheck,
    /// [`Cut::proof`].
    Proof,
    /// [`Cut::release`].
    Release,
    /// [`System::follow`].
    Follow,
    /// [`Follower::next`].
    Next,
    /// [`Follower::acknowledge`].
    Acknowledge,
    /// [`model::Target::apply`], after half of the content was written.
    Apply,
    /// [`model::Target::finish`].
    Finish,
}

impl Call {
    fn action(self) -> &'static str {
        match self {
            Self::Cut => "cut system",
            Self::List => "list items",
            Self::Open => "open content",
            Self::Read => "read content",
            Self::Recheck => "look again at item",
            Self::Proof => "read proof",
            Self::Release => "release cut",
            Self::Follow => "follow system",
            Self::Next => "read log",
            Self::Acknowledge => "acknowledge log",
            Self::Apply => "apply step",
            Self::Finish => "finish restore",
        }
    }
}

/// A [`System`] whose state and behaviour are scripted. Clones are the same system.
///
/// The notation of its scripts is described at [the module](self).
///
/// ```
/// use testkit::scripted::{ScriptedSystem, Shape, key};
/// let system = ScriptedSystem::new(r#"
///     dir  data mode:755
///     file data/a "hello" hole*4096 blk_1=7*100000/4096
/// "#).with_shape(Shape::Changes);
/// system.edit("move data old");
/// assert!(system.content_of(&key("old/a")).starts_with(b"hello"));
/// ```
#[derive(Debug, Clone)]
pub struct ScriptedSystem {
    facts: SystemFacts,
    shape: Shape,
    needs_server: bool,
    state: Arc<Mutex<State>>,
}

impl ScriptedSystem {
    /// Creates a system whose state is that after the script; its history begins there.
    ///
    /// # Panics
    /// Where the script is not in the notation.
    pub fn new(script: &str) -> Self {
        let facts = SystemFacts {
            kind: "scripted",
            host: Host::Free,
            content_class: ContentClass::General,
            read_concurrency: 2,
            log: None,
            extent_epoch: Epoch(1),
        };
        let system =
            Self { facts, shape: Shape::Sorted, needs_server: false, state: Arc::default() };
        system.edit(script);
        system.forget_history();
        system
    }

    /// Chooses how items are listed.
    #[must_use]
    pub fn with_shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Gives the system a log.
    #[must_use]
    pub fn with_log(mut self, payload: LogPayload) -> Self {
        self.facts.log = Some(payload);
        self
    }

    /// Makes replay answer that it needs a server of the system's kind.
    #[must_use]
    pub fn with_replay_by_server(mut self) -> Self {
        self.needs_server = true;
        self
    }

    /// Chooses the class of content.
    #[must_use]
    pub fn with_content_class(mut self, class: ContentClass) -> Self {
        self.facts.content_class = class;
        self
    }

    /// Opens the same system in another epoch of its extent identities.
    #[must_use]
    pub fn with_extent_epoch(mut self, epoch: Epoch) -> Self {
        self.facts.extent_epoch = epoch;
        self
    }

    /// Lets each line of a script take effect, one revision and one second of its time each.
    ///
    /// # Panics
    /// Where the script is not in the notation.
    pub fn edit(&self, script: &str) {
        let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut state = self.lock();
        lines.for_each(|line| state.run(line));
    }

    /// Forgets the history up to now: who follows from an earlier position meets a gap.
    pub fn forget_history(&self) {
        let mut state = self.lock();
        state.history.clear();
        state.history_from = state.revision;
    }

    /// Changes bytes without a trace: same version, same identities, same lengths.
    pub fn rot(&self, key: &ItemKey) {
        if let Some(item) = self.lock().items.get_mut(key) {
            item.disturb();
        }
    }

    /// Makes an item change while it is read, the next `times` times, also under cuts that exist. What
    /// was read until the item is looked at again is a mixture. These changes are in no log.
    pub fn change_while_read(&self, key: &ItemKey, times: u32) {
        self.lock().unsteady.insert(key.clone(), times);
    }

    /// Makes an item vanish between its listing and its reading, also under cuts that exist.
    pub fn vanish(&self, key: &ItemKey) {
        let mut state = self.lock();
        state.vanished.insert(key.clone());
        state.items.remove(key);
    }

    /// Makes the `nth` call from now (the first is 1) fail, once.
    pub fn fail_nth(&self, call: Call, nth: u64, kind: ErrorKind) {
        self.lock().fail_nth(call, nth, kind);
    }

    /// Returns where the system stands.
    pub fn position(&self) -> Position {
        position_of(self.lock().revision)
    }

    /// Returns the items that the system has.
    pub fn items(&self) -> BTreeMap<ItemKey, Item> {
        self.lock().items.iter().map(|(key, item)| (key.clone(), item.to_item(key))).collect()
    }

    /// Returns an item's whole content, holes as zero bytes; empty where there is no such item.
    pub fn content_of(&self, key: &ItemKey) -> Bytes {
        self.lock().items.get(key).map(state::ScriptedItem::content).unwrap_or_default()
    }

    /// Returns how many bytes of an item's content were asked for.
    pub fn opened_bytes(&self, key: &ItemKey) -> u64 {
        self.lock().opened_bytes.get(key).copied().unwrap_or(0)
    }

    /// Returns how many bytes of content were asked for, and begins to count anew.
    pub fn take_opened_bytes(&self) -> u64 {
        std::mem::take(&mut self.lock().opened_bytes).values().sum()
    }

    /// Returns how many cuts have not been released.
    pub fn cuts_held(&self) -> usize {
        self.lock().cuts_held
    }

    /// Returns the position up to which followers acknowledged.
    pub fn acknowledged(&self) -> Position {
        position_of(self.lock().acknowledged)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns an empty file with this path: for tests about keys.
pub fn item_named(path: &str) -> Item {
    let (kind, attributes) = (ItemKind::File, Attributes::default());
    Item { key: key(path), kind, attributes, version: None, extents: Vec::new() }
}

#[async_trait]
impl System for ScriptedSystem {
    fn facts(&self) -> SystemFacts {
        self.facts
    }

    async fn cut(&self, since: Option<&Position>, _context: &Context) -> Result<Box<dyn Cut>> {
        self.lock().enter(Call::Cut, self.facts.kind)?;
        let since = since.map(revision_of).transpose()?;
        Ok(Box::new(ScriptedCut::freeze(Arc::clone(&self.state), self.shape, since)))
    }

    async fn follow(&self, from: &Position, _context: &Context) -> Result<Box<dyn Follower>> {
        self.lock().enter(Call::Follow, self.facts.kind)?;
        let Some(payload) = self.facts.log else {
            return Err(Error::new(ErrorKind::Unsupported, "follow system", self.facts.kind));
        };
        let state = Arc::clone(&self.state);
        Ok(Box::new(ScriptedFollower::new(state, payload, revision_of(from)?)))
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        let is_raw = self.facts.log == Some(LogPayload::Raw);
        let replay = ScriptedReplay { needs_server: self.needs_server };
        is_raw.then(|| Box::new(replay) as Box<dyn Replay>)
    }
}

/// Returns the bytes of a range of a data extent; none where the item has no such range.
fn slice_of(
    item: &state::ScriptedItem,
    extent: usize,
    range: std::ops::Range<u64>,
) -> Option<Bytes> {
    let ScriptedExtent::Data { bytes, .. } = item.extents.get(extent)? else { return None };
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    bytes.get(start..end)?;
    Some(bytes.slice(start..end))
}

fn no_such_content(item: &Item, extent: usize) -> Error {
    Error::new(ErrorKind::NotFound, "open content", item.key.display())
        .detail(format!("extent {extent}"))
}
