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

    /// Ends watching, as where the kernel has no room for more.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        *self.watcher() = None;
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

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, MetadataKind, RenameMode};

    use super::super::reach::Reach;
    use super::super::roots::{Roots, Rules};
    use super::super::selection::Selection;
    use super::*;

    /// Shows what an event on paths says: directories in which something changed, names that appeared
    /// after `+`.
    fn check(kind: EventKind, paths: &str, expected: &str) {
        let selection = Selection::new(&[], &["*.log".into()]).expect("sound pattern");
        let source = Source {
            host: ItemKey::from_components(["h"]).expect("key"),
            roots: Roots::new(&["/a/b".into()]).expect("sound paths"),
            rules: Rules { selection, one_file_system: false, skip_caches: false },
            reach: Reach::new().expect("root"),
        };
        let event = Event { paths: paths.split(' ').map(Into::into).collect(), ..Event::new(kind) };
        let seen = read_event(&source, &event);
        let dirty = seen.dirty.iter().map(ItemKey::display);
        let appeared = seen.appeared.iter().map(|key| format!("+{}", key.display()));
        assert_eq!(
            dirty.chain(appeared).collect::<Vec<_>>().join(" "),
            expected,
            "{kind:?} {paths}"
        );
        assert!(!seen.is_torn);
    }

    #[test]
    fn events_name_the_directories_to_look_at() {
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let changed = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        check(data, "/a/b/c", "h/a/b");
        check(written, "/a/b/c/d", "h/a/b/c");
        check(read, "/a/b/c", "");
        check(opened, "/a/b/c", "");
        check(changed, "/a/b", "h/a");
        check(changed, "/a", "h");
        check(changed, "/", "");
        check(data, "/a/x", "");
        check(data, "relative", "");
        check(moved, "/a/b/c /a/b/d/e", "h/a/b h/a/b/d +h/a/b/c +h/a/b/d/e");
        check(EventKind::Create(CreateKind::Folder), "/a/b/c", "h/a/b +h/a/b/c");
        // Written all the time and excluded; that it came and went shows in its directory.
        check(data, "/a/b/c.log", "");
        check(EventKind::Create(CreateKind::File), "/a/b/c.log", "h/a/b");
    }

    #[test]
    fn what_was_missed_or_is_too_much_takes_a_walk() {
        let key = |number: usize| ItemKey::from_components([number.to_string()]).expect("key");
        let mut seen = Seen::default();
        assert!(seen.is_empty());
        seen.merge(Seen { dirty: (0..DIRTY_MAX).map(key).collect(), ..Seen::default() });
        assert!(!seen.is_torn && seen.dirty.len() == DIRTY_MAX);
        seen.merge(Seen { dirty: [key(DIRTY_MAX)].into(), ..Seen::default() });
        assert_eq!(seen, Seen { is_torn: true, ..Seen::default() });
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(overflow.need_rescan());
    }
}
