//! One step of a walk: a directory's names, or a run of them with what they stand for.

use std::ffi::{CStr, CString};
use std::ops::Range;
use std::sync::Arc;

use model::{Error, ErrorKind, Item, ItemKey};
use rustix::io::Errno;

use super::inspect::{Directory, Inspector};
use super::reach;
use super::roots::{COMMANDS_NAME, Place, Scope, Verdict};
use super::source::Source;

/// How many names are looked at in one step. Longer directories are shared among threads.
pub(super) const RUN_NAMES: usize = 1_024;

const CACHE_TAG_NAME: &CStr = c"CACHEDIR.TAG";
const CACHE_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Something to do for a walk.
#[derive(Debug)]
pub(super) enum Task {
    /// List a directory and look at its first names.
    List(Place),
    /// Look at further names.
    Look(Run),
}

/// Consecutive names of an open directory.
#[derive(Debug, Clone)]
pub(super) struct Run {
    place: Arc<Place>,
    directory: Arc<Directory>,
    names: Arc<Vec<CString>>,
    range: Range<usize>,
}

impl Run {
    /// Returns where the run stands in the order of keys.
    pub(super) fn first_key(&self) -> ItemKey {
        let name = self.names.get(self.range.start).map(|name| name.to_bytes());
        // A name that makes no key is a problem later; the order only says what is done first.
        name.and_then(|name| self.place.key.child(name).ok())
            .unwrap_or_else(|| self.place.key.clone())
    }
}

/// What a step found.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// In key order.
    pub(super) entries: Vec<Entry>,
    /// What comes after them, in key order.
    pub(super) rest: Vec<Run>,
    /// What could not be captured.
    pub(super) problems: Vec<Error>,
}

/// A name of a directory.
#[derive(Debug)]
pub(super) struct Entry {
    /// What it stands for, as if it had no other name.
    pub(super) item: Item,
    /// What its other names have in common with it.
    pub(super) link: Option<LinkId>,
    /// Where the walk goes on below it.
    pub(super) below: Option<Place>,
}

/// Identifies a file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LinkId {
    device: u64,
    inode: u64,
    /// How many names there are.
    pub(super) names: u32,
}

/// Does a task. What is gone meanwhile is not an error.
pub(super) fn perform(source: &Source, task: Task, inspector: &mut Inspector<'_>) -> Step {
    let listed = match task {
        Task::Look(run) => Ok(vec![run]),
        Task::List(place) => list(source, place),
    };
    let mut step = Step::default();
    match listed {
        Ok(runs) => {
            let mut runs = runs.into_iter();
            if let Some(run) = runs.next() {
                step.entries = look(source, &run, inspector);
            }
            step.rest = runs.collect();
        }
        Err(problem) => step.problems.extend(problem),
    }
    step.problems.append(&mut inspector.problems);
    step
}

/// Returns a directory's names in runs; a problem, or nothing where it is gone.
fn list(source: &Source, place: Place) -> Result<Vec<Run>, Option<Error>> {
    let path = source.path_of(&place.key).map_err(Some)?;
    let fail = |errno: Errno| {
        (!reach::is_gone(errno)).then(|| reach::failed_below("list directory", &path, errno))
    };
    let directory = Directory::open_to_list(&source.reach, path.clone()).map_err(fail)?;
    let names = names_of(source, &place, &directory).map_err(fail)?;
    let (place, directory, names) = (Arc::new(place), Arc::new(directory), Arc::new(names));
    let starts = (0..names.len()).step_by(RUN_NAMES);
    let runs = starts.map(|start| Run {
        place: Arc::clone(&place),
        directory: Arc::clone(&directory),
        names: Arc::clone(&names),
        range: start..names.len().min(start + RUN_NAMES),
    });
    Ok(runs.collect())
}

fn names_of(source: &Source, place: &Place, directory: &Directory) -> Result<Vec<CString>, Errno> {
    let leading = || {
        let names = source.roots.names_below(place.node);
        names.filter_map(|name| CString::new(name).ok())
    };
    if place.scope == Scope::Towards {
        return Ok(leading().collect());
    }
    let mut names = directory.names()?;
    let may_be_cache = source.rules.skip_caches && place.scope == Scope::Within;
    if may_be_cache
        && names.binary_search_by(|name| name.as_c_str().cmp(CACHE_TAG_NAME)).is_ok()
        && is_cache_tag(directory)
    {
        names = leading().chain([CACHE_TAG_NAME.to_owned()]).collect();
        names.sort();
        names.dedup();
    }
    Ok(names)
}

fn is_cache_tag(directory: &Directory) -> bool {
    let mut beginning = [0; CACHE_TAG_SIGNATURE.len()];
    let is_file = directory
        .stat(CACHE_TAG_NAME)
        .is_ok_and(|stat| stat.kind == super::attributes::FileKind::Regular);
    is_file
        && reach::open_file_in(directory.fd(), CACHE_TAG_NAME)
            .and_then(|file| rustix::io::pread(&file, &mut beginning[..], 0))
            .is_ok_and(|length| beginning.get(..length) == Some(CACHE_TAG_SIGNATURE))
}

fn look(source: &Source, run: &Run, inspector: &mut Inspector<'_>) -> Vec<Entry> {
    let names = run.names.get(run.range.clone()).unwrap_or_default();
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match entry_of(source, &run.place, &run.directory, name, inspector) {
            Ok(entry) => entries.extend(entry),
            Err(problem) => inspector.problems.push(problem),
        }
    }
    entries
}

/// Makes an entry of a name; none where it is not ours, not captured, or gone.
///
/// # Errors
/// What kept it from being captured.
pub(super) fn entry_of(
    source: &Source,
    place: &Place,
    directory: &Directory,
    name: &CStr,
    inspector: &mut Inspector<'_>,
) -> model::Result<Option<Entry>> {
    let fail = |errno: Errno| {
        let path = directory.path_of(name.to_bytes());
        if reach::is_gone(errno) || errno == Errno::INVAL {
            return Ok(None);
        }
        Err(reach::failed("look at file", &path, errno))
    };
    let stat = match directory.stat(name) {
        Ok(stat) => stat,
        Err(errno) => return fail(errno),
    };
    if place.key == source.host && name.to_bytes() == COMMANDS_NAME {
        let path = directory.path_of(COMMANDS_NAME);
        let problem = Error::new(ErrorKind::Unsupported, "capture", String::from_utf8_lossy(&path));
        return Err(problem.detail("this name is kept for the outputs of commands"));
    }
    let (verdict, below) = source.judge(place, directory, name.to_bytes(), &stat)?;
    if verdict == Verdict::Skip {
        return Ok(None);
    }
    let key = place.key.child(name.to_bytes())?;
    let has_time = verdict != Verdict::Enter(Scope::Towards);
    let link = stat.is_linked().then_some(LinkId {
        device: stat.device,
        inode: stat.inode,
        names: stat.names,
    });
    match inspector.describe(directory, name, &stat, key, has_time) {
        Ok(item) => Ok(item.map(|item| Entry { item, link, below })),
        Err(errno) => fail(errno),
    }
}
