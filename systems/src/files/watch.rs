//! Notification by the kernel of what changes in directories.
//!
//! Directories are watched one by one, as the walk finds them, so that what is excluded costs
//! nothing and a new directory is watched before it is listed. What the kernel does not tell (writes
//! through a mapping or another name, other hosts of a network file system) is found by the full walk.

use std::collections::BTreeSet;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Error, ErrorKind, ItemKey, Monitor};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::roots::key_of_path;
use super::source::Source;

/// More directories than this are not listed one by one.
const DIRTY_MAX: usize = 10_000;

/// What was seen since it was last asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Directories in which something changed.
    pub(super) dirty: BTreeSet<ItemKey>,
    /// Names under which something appeared: a directory there is another one than before.
    pub(super) appeared: BTreeSet<ItemKey>,
    /// Something was missed: only a full walk can tell what.
    pub(super) is_torn: bool,
}

impl Seen {
    pub(super) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.appeared.is_empty() && !self.is_torn
    }

    fn tear(&mut self) {
        *self = Self { is_torn: true, ..Self::default() };
    }

    /// Adds what was seen at another time.
    pub(super) fn merge(&mut self, other: Self) {
        self.dirty.extend(other.dirty);
        self.appeared.extend(other.appeared);
        if self.is_torn || other.is_torn || self.dirty.len() + self.appeared.len() > DIRTY_MAX {
            self.tear();
        }
    }
}

/// Watches directories.
#[derive(Debug)]
pub(super) struct Watch {
    source: Arc<Source>,
    watcher: Mutex<Option<RecommendedWatcher>>,
    board: Arc<Board>,
}

/// Where the watcher's thread writes what it sees.
#[derive(Debug, Default)]
struct Board {
    seen: Mutex<Seen>,
    arrived: Notify,
}

impl Board {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Begins to watch nothing. Without notification by the kernel, which is a problem, it never sees
    /// anything.
    pub(super) fn new(source: Arc<Source>, monitor: &dyn Monitor) -> Self {
        let board = Arc::new(Board::default());
        let (its_source, its_board) = (Arc::clone(&source), Arc::clone(&board));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let seen = event.map_or_else(
                |_| Seen { is_torn: true, ..Seen::default() },
                |event| read_event(&its_source, &event),
            );
            if !seen.is_empty() {
                its_board.seen().merge(seen);
                its_board.arrived.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| monitor.problem(&unwatched(error)));
        Self { source, watcher: Mutex::new(watcher.ok()), board }
    }

    /// Says whether everything that was to be watched is.
    pub(super) fn is_complete(&self) -> bool {
        self.watcher().is_some()
    }

    /// Watches directories. One that is gone is fine; where the kernel refuses to watch more, watching
    /// ends, which is a problem: part of the truth would look like all of it.
    pub(super) fn add<'a>(
        &self,
        directories: impl Iterator<Item = &'a ItemKey>,
        monitor: &dyn Monitor,
    ) {
        let mut watcher = self.watcher();
        for key in directories {
            let Some(watching) = watcher.as_mut() else { return };
            let Ok(path) = self.source.path_of(key) else { continue };
            let path = std::ffi::OsString::from_vec([b"/", &path[..]].concat());
            match watching.watch(Path::new(&path), RecursiveMode::NonRecursive) {
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    monitor.problem(&unwatched(&error));
                    *watcher = None;
                }
                // Gone, or not ours to watch: the walk says which.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Completes when something was seen. Cancel-safe.
    pub(super) async fn arrived(&self) {
        while self.board.seen().is_empty() {
            self.board.arrived.notified().await;
        }
    }

    pub(super) fn has_seen(&self) -> bool {
        !self.board.seen().is_empty()
    }

    /// Returns what was seen and forgets it.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut self.board.seen())
    }

    /// Takes back what could not be looked at.
    pub(super) fn put_back(&self, seen: Seen) {
        self.board.seen().merge(seen);
    }

    fn watcher(&self) -> MutexGuard<'_, Option<RecommendedWatcher>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwatched(error: &notify::Error) -> Error {
    Error::new(ErrorKind::Exhausted, "watch directories", "")
        .detail(format!("{error}; changes are found by the full walk alone"))
}

/// Reads what an event says about what is protected.
fn read_event(source: &Source, event: &Event) -> Seen {
    let mut seen = Seen { is_torn: event.need_rescan(), ..Seen::default() };
    let is_content = matches!(
        event.kind,
        EventKind::Modify(ModifyKind::Data(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write))
    );
    // Reading leaves traces too, also our own.
    if matches!(event.kind, EventKind::Access(_)) && !is_content {
        return seen;
    }
    let has_appeared = matches!(
        event.kind,
        EventKind::Create(CreateKind::Folder | CreateKind::Any)
            | EventKind::Modify(ModifyKind::Name(_))
    );
    for path in &event.paths {
        let Some(key) = key_of_path(&source.host, path) else { continue };
        let names = key.components().skip(source.host.depth());
        let Some(parent) = key.parent().filter(|_| source.roots.concern(names)) else { continue };
        let name = key.name().unwrap_or_default();
        // A log that is written all the time and excluded is not worth a look.
        if is_content && source.rules.selection.excludes(name, path.as_os_str().as_bytes()) {
            continue;
        }
        if has_appeared {
            seen.appeared.insert(key.clone());
        }
        if key.is_within(&source.host) && parent.is_within(&source.host) {
            seen.dirty.insert(parent);
        }
    }
    seen
}
