//! States as read-only file systems: look-ups, attributes, listings, and reads at any offset, over trees
//! that are read only as far as somebody asks. Nothing here knows of a kernel: who speaks to one hands in
//! numbers of items and gets values.
//!
//! Memory does not depend on the size of the state. Items that the other side holds are remembered by
//! their keys until it forgets them, and where they get many it is told which to forget; a listing holds a
//! page; an open file holds the names of its chunks; their bytes are in one cache of fixed size. Bytes
//! are handed out once their chunk was compared with its id, else the read fails as a whole: a part would
//! look like the end of the file.

mod attributes;
mod chunks;
mod file;
mod folder;
mod inodes;
mod recent;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::{AttributeTag, Context, Error, ErrorKind, ItemKey, ItemKind, Result};
use repository::Repository;
use tokio::sync::Semaphore;

pub use attributes::{Facts, Kind, Owner};
pub use file::OpenFile;
pub use folder::{Folder, Listed};
pub use inodes::{Inode, Surplus};

use crate::browse::{Entry, as_path, get};
use crate::select::ResolvedSystem;
use attributes::Defaults;
use chunks::Chunks;
use inodes::{Inodes, Place};
use recent::Recent;

const ACTION: &str = "mount state";
/// What the content of an item is called that may have children as well.
const CONTENT_NAME: &[u8] = b".content";
/// How many reads are answered at a time; each may hold some chunks.
const READS_MAX: usize = 16;
/// How many windows are read ahead at a time, of all files together.
const AHEAD_MAX: usize = 4;
/// What decoded chunks may take, as a part of the memory setting, and at least; blocks take as much.
const MEMORY_DIVISOR: u64 = 4;
const MEMORY_LEAST: usize = 8 << 20;
/// How many of the problems that were told are remembered, so that each is told once.
const TOLD_MAX: usize = 1024;

/// How states are shown.
#[derive(Debug, Clone, Copy)]
pub struct MountOptions {
    /// Who owns what the source names no owner of.
    pub owner: Owner,
    /// How many items, directories aside, may be remembered before the other side is asked to forget some.
    pub inodes_max: usize,
}

impl MountOptions {
    /// Returns the usual options.
    pub fn new(owner: Owner) -> Self {
        Self { owner, inodes_max: 1 << 17 }
    }
}

/// States that are shown as one file system. Cheap to clone.
#[derive(Clone)]
pub struct Mounted(Arc<Inner>);

struct Inner {
    shares: Vec<Share>,
    inodes: Mutex<Inodes>,
    recent: Mutex<Recent>,
    told: Mutex<HashSet<(String, ErrorKind)>>,
    reads: Semaphore,
    ahead: Arc<Semaphore>,
    context: Context,
}

/// One system's part.
struct Share {
    name: String,
    system: ResolvedSystem,
    /// The stored key of what is shown as its directory.
    root: ItemKey,
    chunks: Arc<Chunks>,
    defaults: Defaults,
}

/// An item that was found, by the name that it was asked for.
#[derive(Debug, Clone)]
struct Found {
    place: Place,
    facts: Facts,
}

impl Mounted {
    /// Shows a directory of one system, or a folder for each of several.
    ///
    /// # Errors
    /// `WrongKey` where the key gives no contents; `Invalid` where a system's path is no directory; those
    /// of the store.
    pub async fn open(
        repository: &Repository,
        systems: &[&ResolvedSystem],
        options: &MountOptions,
        context: &Context,
    ) -> Result<Self> {
        repository.keys().check_full(ACTION)?;
        let domains: HashSet<_> = systems.iter().map(|one| &one.snapshot.domain).collect();
        let memory =
            repository.options().memory_bytes / MEMORY_DIVISOR / domains.len().max(1) as u64;
        let memory = usize::try_from(memory).unwrap_or(usize::MAX).max(MEMORY_LEAST);
        let mut readers: BTreeMap<String, Arc<Chunks>> = BTreeMap::new();
        let mut shares = Vec::with_capacity(systems.len());
        for system in systems {
            let domain = &system.snapshot.domain;
            let chunks = match readers.get(domain) {
                Some(chunks) => Arc::clone(chunks),
                None => Arc::new(Chunks::new(repository, domain, memory, context)?),
            };
            readers.insert(domain.clone(), Arc::clone(&chunks));
            shares.push(Share::open(system, chunks, options.owner).await?);
        }
        let root = match shares.as_slice() {
            [] => return Err(Error::new(ErrorKind::Invalid, ACTION, "").detail("nothing to show")),
            [only] => Place::item(0, only.root.clone()),
            _ => Place::Top,
        };
        Ok(Self(Arc::new(Inner {
            shares,
            inodes: Mutex::new(Inodes::new(root, options.inodes_max)),
            recent: Mutex::default(),
            told: Mutex::default(),
            reads: Semaphore::new(READS_MAX),
            ahead: Arc::new(Semaphore::new(AHEAD_MAX)),
            context: context.clone(),
        })))
    }

    /// Finds what has a name in a directory; none where nothing has. What is found is remembered until
    /// it is forgotten as often.
    ///
    /// # Errors
    /// `Invalid` where the directory is not known; `Corrupt`; those of the store.
    pub async fn look_up(&self, parent: Inode, name: &[u8]) -> Result<Option<Facts>> {
        let place = self.place(parent)?;
        let found = self.child(&place, name).await;
        let found = found.map_err(|error| self.tell(&place, Some(name), error))?;
        Ok(found.map(|found| self.remember(parent, name, found)))
    }

    /// Forgets an item that was found so often.
    pub fn forget(&self, inode: Inode, count: u64) {
        self.inodes().forget(inode, count);
    }

    /// Returns items that the other side should forget; none while few are remembered.
    pub fn surplus(&self) -> Vec<Surplus> {
        self.inodes().surplus()
    }

    /// Returns what is known of an item.
    ///
    /// # Errors
    /// As [`Mounted::look_up`].
    pub async fn facts(&self, inode: Inode) -> Result<Facts> {
        let place = self.place(inode)?;
        let facts = self.facts_of(&place).await;
        let facts = facts.map_err(|error| self.tell(&place, None, error))?;
        let names = if self.inodes().is_linked(inode) { 2 } else { facts.names };
        Ok(Facts { inode, names, ..facts })
    }

    /// Returns where a symbolic link points.
    ///
    /// # Errors
    /// As [`Mounted::look_up`]; `Invalid` where it is none.
    pub async fn link_target(&self, inode: Inode) -> Result<Bytes> {
        let place = self.place(inode)?;
        let entry = self.entry(&place).await.map_err(|error| self.tell(&place, None, error))?;
        let target = entry
            .as_ref()
            .filter(|entry| entry.item.kind == ItemKind::Symlink)
            .and_then(|entry| entry.item.attributes.get(AttributeTag::LINK_TARGET));
        target.map(Bytes::copy_from_slice).ok_or_else(|| unknown(inode))
    }

    /// Returns the extended attributes, by name.
    ///
    /// # Errors
    /// As [`Mounted::look_up`].
    pub async fn extended(&self, inode: Inode) -> Result<Vec<(Bytes, Bytes)>> {
        let place = self.place(inode)?;
        let extended = async {
            let entry = self.entry(&place).await?;
            entry.map_or(Ok(Vec::new()), |entry| attributes::extended(&entry.item))
        };
        extended.await.map_err(|error| self.tell(&place, None, error))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`Mounted::look_up`]; `Invalid` where it has no content.
    pub async fn open_file(&self, inode: Inode) -> Result<Arc<OpenFile>> {
        let place = self.place(inode)?;
        let file = async {
            let (share, entry) = (self.share(&place), self.entry(&place).await?);
            let (Some(share), Some(entry)) = (share, entry) else { return Err(unknown(inode)) };
            if !entry.item.kind.has_content() {
                return Err(unknown(inode));
            }
            OpenFile::new(self.clone(), place.clone(), Arc::clone(&share.chunks), &entry)
        };
        file.await.map_err(|error| self.tell(&place, None, error))
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// As [`Mounted::look_up`].
    pub async fn open_folder(&self, inode: Inode) -> Result<Folder> {
        let place = self.place(inode)?;
        let has_content = self.has_content_beside_children(&place).await;
        let has_content = has_content.map_err(|error| self.tell(&place, None, error))?;
        Ok(Folder::new(self.clone(), inode, place, has_content))
    }

    /// Remembers an item of a listing as if it had been looked up; none where nothing of that name is
    /// there to be found.
    ///
    /// # Errors
    /// As [`Mounted::look_up`].
    pub async fn enter(&self, folder: &Folder, listed: &Listed) -> Result<Option<Facts>> {
        match &listed.found {
            Some(found) => Ok(Some(self.remember(folder.inode(), &listed.name, found.clone()))),
            None => self.look_up(folder.inode(), &listed.name).await,
        }
    }

    /// Remembers an item of a listing that [`Mounted::enter`] could not read: whoever asks for more than
    /// its name gets the error.
    pub fn enter_unread(&self, folder: &Folder, listed: &Listed) -> Option<Facts> {
        let Place::Item { share, key, .. } = folder.place() else { return None };
        let place = Place::item(*share, key.child(&listed.name).ok()?);
        let facts = Facts { kind: listed.kind, mode: 0, ..Defaults::default().folder() };
        Some(self.remember(folder.inode(), &listed.name, Found { place, facts }))
    }

    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.0.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, inode: Inode) -> Result<Place> {
        self.inodes().place(inode).ok_or_else(|| unknown(inode))
    }

    fn share(&self, place: &Place) -> Option<&Share> {
        self.0.shares.get(place.share()?)
    }

    fn remember(&self, parent: Inode, name: &[u8], found: Found) -> Facts {
        let is_leaf = found.facts.kind != Kind::Directory;
        let is_linked = found.facts.names > 1;
        let (inode, is_linked) =
            self.inodes().remember(&found.place, (parent, name), is_leaf, is_linked);
        let names = if is_linked { 2 } else { found.facts.names };
        Facts { inode, names, ..found.facts }
    }

    /// Returns the item at a place: none at the top, and where only things below it are stored.
    async fn entry(&self, place: &Place) -> Result<Option<Arc<Entry>>> {
        match place {
            Place::Item { share, key, .. } => self.get(*share, key).await,
            Place::Top => Ok(None),
        }
    }

    /// Returns an item of a system, by its stored key.
    async fn get(&self, index: usize, key: &ItemKey) -> Result<Option<Arc<Entry>>> {
        let at = (index, key.clone());
        if let Some(entry) = self.recent().get(&at) {
            return Ok(Some(entry));
        }
        let Some(share) = self.0.shares.get(index) else { return Ok(None) };
        let entry = get(&share.system.items, key).await?.map(Arc::new);
        if let Some(entry) = &entry {
            self.recent().put(at, entry);
        }
        Ok(entry)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn facts_of(&self, place: &Place) -> Result<Facts> {
        let defaults = self.share(place).or(self.0.shares.first()).map(|share| share.defaults);
        let defaults = defaults.unwrap_or_default();
        Ok(match (self.entry(place).await?, place, self.share(place)) {
            (Some(entry), Place::Item { share: index, .. }, Some(share))
                if entry.item.kind == ItemKind::Hardlink =>
            {
                self.found(*index, share, &entry).await?.facts
            }
            (Some(entry), ..) => defaults.facts(&entry.item, place.is_content()),
            (None, ..) => defaults.folder(),
        })
    }

    async fn child(&self, place: &Place, name: &[u8]) -> Result<Option<Found>> {
        let Place::Item { share: index, key, is_content: false } = place else {
            return self.top(place, name).await;
        };
        let (Some(share), Ok(child)) = (self.share(place), key.child(name)) else {
            return Ok(None);
        };
        if let Some(entry) = self.get(*index, &child).await? {
            return self.found(*index, share, &entry).await.map(Some);
        }
        if name != CONTENT_NAME || !self.has_content_beside_children(place).await? {
            return Ok(None);
        }
        let place = Place::Item { share: *index, key: key.clone(), is_content: true };
        let facts = self.facts_of(&place).await?;
        Ok(Some(Found { place, facts }))
    }

    /// Finds a system's folder.
    async fn top(&self, place: &Place, name: &[u8]) -> Result<Option<Found>> {
        let shares = self.0.shares.iter();
        let index = shares.map(|share| share.name.as_bytes()).position(|known| known == name);
        let Some(index) = index.filter(|_| *place == Place::Top) else { return Ok(None) };
        let root = self.0.shares.get(index).map(|share| share.root.clone()).unwrap_or_default();
        let place = Place::item(index, root);
        let facts = self.facts_of(&place).await?;
        Ok(Some(Found { place, facts }))
    }

    /// Follows a hard link to the item that it is a further name of.
    async fn found(&self, index: usize, share: &Share, entry: &Entry) -> Result<Found> {
        if entry.item.kind != ItemKind::Hardlink {
            let facts = share.defaults.facts(&entry.item, false);
            return Ok(Found { place: Place::item(index, entry.item.key.clone()), facts });
        }
        let corrupt = |what| {
            Error::new(ErrorKind::Corrupt, "follow hard link", as_path(&entry.item.key))
                .detail(what)
        };
        let key = entry.link_target().ok_or_else(|| corrupt("it says not whose name it is"))?;
        let first = self.get(index, &key).await?;
        let first = first.ok_or_else(|| corrupt("what it is a name of is not there"))?;
        if first.item.kind == ItemKind::Hardlink {
            return Err(corrupt("what it is a name of is a hard link itself"));
        }
        let facts = Facts { names: 2, ..share.defaults.facts(&first.item, false) };
        Ok(Found { place: Place::item(index, key), facts })
    }

    /// Says whether a directory has content of its own, which is shown as a file in it; a child of that
    /// name goes first.
    async fn has_content_beside_children(&self, place: &Place) -> Result<bool> {
        let Place::Item { share, key, is_content: false } = place else { return Ok(false) };
        let entry = self.get(*share, key).await?;
        if entry.is_none_or(|entry| entry.item.kind != ItemKind::Node) {
            return Ok(false);
        }
        Ok(self.get(*share, &key.child(CONTENT_NAME)?).await?.is_none())
    }

    /// Says what is wrong with an item: to the monitor once, and to who asked.
    fn tell(&self, place: &Place, name: Option<&[u8]>, error: Error) -> Error {
        if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Cancelled) {
            return error;
        }
        let kind = error.kind();
        let path = self.path(place, name);
        let wrapped = Error::new(kind, "read item", &path).because(error);
        let is_new = {
            let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= TOLD_MAX {
                told.clear();
            }
            told.insert((path, kind))
        };
        if is_new {
            self.0.context.monitor.problem(&wrapped);
        }
        wrapped
    }

    /// Returns a path as people know it, with the system's name where there are several.
    fn path(&self, place: &Place, name: Option<&[u8]>) -> String {
        let mut path = String::new();
        if let (Place::Item { key, .. }, Some(share)) = (place, self.share(place)) {
            if self.0.shares.len() > 1 {
                path = share.name.clone();
            }
            let shown = share.system.shown(key);
            path += &as_path(&shown);
            if name.is_some() && !shown.is_root() {
                path.push('/');
            }
        }
        path + &String::from_utf8_lossy(name.unwrap_or_default())
    }
}

impl Share {
    async fn open(system: &ResolvedSystem, chunks: Arc<Chunks>, owner: Owner) -> Result<Self> {
        let root = system.stored(&system.path)?;
        let item = get(&system.items, &root).await?;
        let is_folder =
            |entry: &Entry| matches!(entry.item.kind, ItemKind::Directory | ItemKind::Node);
        if item.as_ref().is_some_and(|entry| !is_folder(entry)) {
            return Err(Error::new(ErrorKind::Invalid, ACTION, as_path(&system.path))
                .detail("it is no directory: name the one that it is in"));
        }
        Ok(Self {
            name: system.stream.system.to_string(),
            system: system.clone(),
            root,
            chunks,
            defaults: Defaults { owner, modified: system.stands_at },
        })
    }
}

fn unknown(inode: Inode) -> Error {
    Error::new(ErrorKind::Invalid, "read item", inode.0.to_string())
        .detail("nothing of this number, or of this kind, is known")
}
