//! Listing what is there: depth first, each directory sorted by name. Directories are opened on the way;
//! the files of a batch are looked at by several threads at a time.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use futures::{StreamExt, stream};
use model::{
    AttributeTag, Attributes, Context, Error, ErrorKind, Item, ItemBatches, ItemKey, ItemKind,
    Result,
};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::DirectoryTarget;
use super::errors::failed;
use super::names::is_temporary;
use super::observe::{Seen, observe, observe_listed};
use super::root::{Directory, lock};

const BATCH_ITEMS: usize = 512;

/// A batch ends before files of more directories than this wait to be looked at: each is kept open.
const BATCH_DIRECTORIES: usize = 64;

/// Fewer files are not worth a thread.
const LOOKS_MIN: usize = 64;
const LOOKERS_MAX: usize = 4;

/// How many directories on the way down stay open; those above are opened anew on the way back.
const OPEN_MAX: usize = 32;

impl DirectoryTarget {
    /// Lists what is there, the root first.
    pub(super) fn walk(&self, context: &Context) -> ItemBatches<'_> {
        let mut walk = Walk {
            target: self,
            context: context.clone(),
            frames: Vec::new(),
            links: HashMap::new(),
            is_started: false,
        };
        stream::iter(std::iter::from_fn(move || walk.next_batch().transpose())).boxed()
    }
}

/// A walk that has come so far.
struct Walk<'a> {
    target: &'a DirectoryTarget,
    context: Context,
    /// The directories from the root down to the one at hand.
    frames: Vec<Frame>,
    /// Things with several names, by identity: the first name, and how many are still to come.
    links: HashMap<(u64, u64), (ItemKey, u64)>,
    is_started: bool,
}

/// A name in a directory, and what the directory says that it is.
struct Listed {
    name: Box<[u8]>,
    kind: Option<ItemKind>,
}

/// What comes next in a batch.
enum Next {
    /// Was looked at.
    Seen(Box<Seen>),
    /// The directory says that it is a file: nothing on the way depends on it.
    File(Look),
}

/// Something to be looked at.
struct Look {
    directory: Arc<OwnedFd>,
    listed: Listed,
    key: ItemKey,
}

struct Frame {
    key: ItemKey,
    directory: Option<Arc<OwnedFd>>,
    /// Those still to come, the next one last.
    names: Vec<Listed>,
}

impl Walk<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<Item>>> {
        let mut batch = Vec::new();
        if !self.is_started {
            self.is_started = true;
            self.enter(&ItemKey::root(), None)?;
            batch.extend(self.root()?);
        }
        loop {
            let found = self.or_end(Self::next_names)?;
            let seen = self.or_end(|walk| walk.look_at_all(found))?;
            batch.extend(seen.into_iter().map(|seen| self.name_or_item(seen)));
            self.context.check("survey target")?;
            if !batch.is_empty() || self.frames.is_empty() {
                return Ok((!batch.is_empty()).then_some(batch));
            }
        }
    }

    /// Takes the names of a batch.
    fn next_names(&mut self) -> Result<Vec<Next>> {
        let mut found = Vec::new();
        let (mut last_directory, mut directories) = (None, 0);
        while found.len() < BATCH_ITEMS && directories < BATCH_DIRECTORIES {
            if self.frames.is_empty() {
                break;
            }
            let Some(next) = self.next()? else { continue };
            if let Next::File(look) = &next {
                let directory = Arc::as_ptr(&look.directory);
                directories += usize::from(last_directory.replace(directory) != Some(directory));
            }
            found.push(next);
        }
        Ok(found)
    }

    /// After an error nothing follows.
    fn or_end<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let done = work(self);
        if done.is_err() {
            self.frames.clear();
        }
        done
    }

    /// Looks at the files among what was found, by several threads where there are many; what went
    /// meanwhile is left out. A file in whose place a directory stands by now counts as an empty one.
    fn look_at_all(&self, found: Vec<Next>) -> Result<Vec<Seen>> {
        let lookers = thread::available_parallelism().map_or(1, usize::from).min(LOOKERS_MAX);
        let share = found.len().div_ceil(lookers).max(LOOKS_MIN);
        let mut shares = Vec::new();
        let mut found = found.into_iter();
        while found.len() > 0 {
            shares.push(found.by_ref().take(share).collect::<Vec<_>>());
        }
        let look = |share: Vec<Next>| -> Result<Vec<Seen>> {
            share.into_iter().filter_map(|next| self.look_at(next).transpose()).collect()
        };
        let own = shares.pop();
        let seen = thread::scope(|scope| {
            let look = &look;
            let others: Vec<_> =
                shares.into_iter().map(|share| scope.spawn(move || look(share))).collect();
            let own = own.map(look);
            let others = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            others.chain(own).collect::<Result<Vec<_>>>()
        })?;
        Ok(seen.into_iter().flatten().collect())
    }

    fn look_at(&self, next: Next) -> Result<Option<Seen>> {
        let Look { directory, listed, key } = match next {
            Next::Seen(seen) => return Ok(Some(*seen)),
            Next::File(look) => look,
        };
        let report = |problem: &Error| self.context.monitor.problem(problem);
        let accounts = &self.target.accounts;
        let Listed { name, kind } = &listed;
        observe_listed(directory.as_fd(), name, *kind, &key, accounts, &report)
    }

    /// Looks at the root itself: a restore may give it the attributes of what it becomes.
    fn root(&self) -> Result<Option<Item>> {
        let key = ItemKey::root();
        let directory = self.target.root.open_directory(&key)?;
        let report = |problem: &Error| self.context.monitor.problem(problem);
        let seen = observe(directory.as_fd(), b".", &key, &self.target.accounts, &report)?;
        Ok(seen.map(|seen| seen.item))
    }

    /// Takes the next name, and enters it where it is a directory; none where nothing comes of it.
    fn next(&mut self) -> Result<Option<Next>> {
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        let Some(listed) = frame.names.pop() else {
            self.frames.pop();
            return Ok(None);
        };
        let key = frame.key.child(&listed.name)?;
        if is_temporary(&listed.name) {
            lock(&self.target.leftovers).insert(key);
            return Ok(None);
        }
        let directory = match &frame.directory {
            Some(directory) => directory.clone(),
            None => Arc::new(self.target.root.open_directory(&frame.key)?),
        };
        frame.directory = Some(directory.clone());
        let look = Look { directory, listed, key: key.clone() };
        if look.listed.kind == Some(ItemKind::File) {
            return Ok(Some(Next::File(look)));
        }
        let Some(mut seen) = self.look_at(Next::File(look))? else { return Ok(None) };
        if seen.item.kind == ItemKind::Directory {
            self.enter(&key, seen.directory.take())?;
        }
        Ok(Some(Next::Seen(Box::new(seen))))
    }

    /// A further name of something listed before is a hard link to its first name.
    fn name_or_item(&mut self, seen: Seen) -> Item {
        if seen.names < 2 || seen.item.kind != ItemKind::File {
            return seen.item;
        }
        let Some((first, left)) = self.links.get_mut(&seen.identity) else {
            self.links.insert(seen.identity, (seen.item.key.clone(), seen.names - 1));
            return seen.item;
        };
        let target = Attributes::builder().bytes(AttributeTag::LINK_TARGET, first.as_bytes());
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.links.remove(&seen.identity);
        }
        Item {
            kind: ItemKind::Hardlink,
            attributes: target.build(),
            extents: Vec::new(),
            ..seen.item
        }
    }

    /// Begins with what is in a directory, which may be open already.
    fn enter(&mut self, key: &ItemKey, directory: Option<OwnedFd>) -> Result<()> {
        let opened = directory.map_or_else(|| self.target.root.open_directory(key), Ok);
        let directory = match opened {
            // It went meanwhile, or may not be read: its own item says that it is there.
            Err(error) if error.kind() == ErrorKind::NotFound && !key.is_root() => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Denied && !key.is_root() => {
                self.context.monitor.problem(&error);
                return Ok(());
            }
            opened => opened?,
        };
        let mut names = list(&directory).map_err(|errno| failed("list", key, errno))?;
        names.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        let above = self.frames.len().checked_sub(OPEN_MAX);
        if let Some(frame) = above.and_then(|index| self.frames.get_mut(index)) {
            frame.directory = None;
        }
        self.frames.push(Frame { key: key.clone(), directory: Some(Arc::new(directory)), names });
        Ok(())
    }
}

/// Returns the names in a directory, in any order.
pub(super) fn names_in(directory: &OwnedFd) -> std::result::Result<Vec<Box<[u8]>>, Errno> {
    Ok(list(directory)?.into_iter().map(|listed| listed.name).collect())
}

fn list(directory: &OwnedFd) -> std::result::Result<Vec<Listed>, Errno> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let kind = match entry.file_type() {
                FileType::RegularFile => Some(ItemKind::File),
                FileType::Directory => Some(ItemKind::Directory),
                _ => None,
            };
            names.push(Listed { name: name.into(), kind });
        }
    }
    Ok(names)
}

/// Removes what earlier runs did not finish from one directory.
pub(super) fn sweep(parent: &Directory, name: &[u8]) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = fs::openat(parent, name, flags, Mode::empty()) else { return };
    for name in names_in(&directory).unwrap_or_default() {
        if is_temporary(&name) {
            let _gone = fs::unlinkat(&directory, &*name, AtFlags::empty());
        }
    }
}
