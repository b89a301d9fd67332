//! Listing what is there: depth first, each directory sorted by name.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

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

struct Frame {
    key: ItemKey,
    directory: Option<OwnedFd>,
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
        while batch.len() < BATCH_ITEMS && !self.frames.is_empty() {
            match self.next_item() {
                Ok(item) => batch.extend(item),
                Err(error) => {
                    self.frames.clear();
                    return Err(error);
                }
            }
        }
        self.context.check("survey target")?;
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Looks at the root itself: a restore may give it the attributes of what it becomes.
    fn root(&self) -> Result<Option<Item>> {
        let key = ItemKey::root();
        let directory = self.target.root.open_directory(&key)?;
        let report = |problem: &Error| self.context.monitor.problem(problem);
        let seen = observe(directory.as_fd(), b".", &key, &self.target.accounts, &report)?;
        Ok(seen.map(|seen| seen.item))
    }

    /// Looks at the next name; none where nothing comes of it.
    fn next_item(&mut self) -> Result<Option<Item>> {
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        let Some(Listed { name, kind }) = frame.names.pop() else {
            self.frames.pop();
            return Ok(None);
        };
        let key = frame.key.child(&name)?;
        if is_temporary(&name) {
            lock(&self.target.leftovers).insert(key);
            return Ok(None);
        }
        let directory = match frame.directory.take() {
            Some(directory) => directory,
            None => self.target.root.open_directory(&frame.key)?,
        };
        let report = |problem: &Error| self.context.monitor.problem(problem);
        let accounts = &self.target.accounts;
        let found = observe_listed(directory.as_fd(), &name, kind, &key, accounts, &report);
        frame.directory = Some(directory);
        let Some(mut seen) = found? else { return Ok(None) };
        if seen.item.kind == ItemKind::Directory {
            self.enter(&key, seen.directory.take())?;
            return Ok(Some(seen.item));
        }
        Ok(Some(self.name_or_item(seen)))
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
        self.frames.push(Frame { key: key.clone(), directory: Some(directory), names });
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
