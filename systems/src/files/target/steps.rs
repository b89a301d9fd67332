//! Carrying out one step.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use model::{
    AttributeTag, Attributes, ContentCheck, ContentReader, Context, Error, ErrorKind, Item,
    ItemKey, ItemKind, RestoreStep, Result, Version,
};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::DirectoryTarget;
use super::content;
use super::errors::{failed, refused};
use super::extended::{Handle, own_name};
use super::metadata::Metadata;
use super::names::is_temporary;
use super::observe::{TO_MARK, TO_READ, identity, kind_of, length_of, observe, stat_in, version};
use super::owners::Owners;
use super::pending::Waiting;
use super::root::{Place, lock};
use super::temporary::{Placed, Temporary};

/// Readable for nobody else until it has its own mode, unless that says the same to everybody.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;

impl DirectoryTarget {
    /// Carries out a step. Returns the version of a file that passed the check.
    pub(super) async fn carry_out(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        check: Option<&mut dyn ContentCheck>,
        context: &Context,
    ) -> Result<Option<Version>> {
        context.check("apply step")?;
        let (item, is_replace) = match step {
            RestoreStep::Create(item) => (item, false),
            RestoreStep::Replace(item) => (item, true),
            RestoreStep::Delete(key) => return self.delete(key).map(|()| None),
        };
        self.put(item, is_replace, content, check, context).await
    }

    /// Makes an item be there: over nothing, or with `is_replace` over whatever stands there.
    async fn put(
        &self,
        item: &Item,
        is_replace: bool,
        content: Option<&mut dyn ContentReader>,
        check: Option<&mut dyn ContentCheck>,
        context: &Context,
    ) -> Result<Option<Version>> {
        if item.key.name().is_some_and(is_temporary) {
            let why = "left out: only a file that a restore did not finish has this name";
            context.monitor.problem(&refused(ErrorKind::Invalid, "restore", &item.key, why));
            return Ok(None);
        }
        match item.kind {
            ItemKind::File => {
                return self.put_file(item, is_replace, content, check, context).await;
            }
            ItemKind::Directory => self.put_directory(item, is_replace, context),
            ItemKind::Fifo => self.put_fifo(item, is_replace, context),
            ItemKind::Symlink | ItemKind::Hardlink => self.put_link(item, is_replace, context),
            ItemKind::Node => {
                let why = "a directory holds nothing that has content and children";
                Err(refused(ErrorKind::Unsupported, "restore", &item.key, why))
            }
        }
        .map(|()| None)
    }

    /// A directory is made for us alone; it becomes what it is to be once everything in it is there.
    fn put_directory(&self, item: &Item, is_replace: bool, context: &Context) -> Result<()> {
        self.metadata(item)?;
        if item.key.is_root() {
            lock(&self.pending).put(item, Waiting::Directory);
            return Ok(());
        }
        let (place, is_made) =
            self.change("make directory", &item.key, |place| {
                match fs::mkdirat(&place.parent, place.name, PRIVATE_DIRECTORY) {
                    Ok(()) => Ok(true),
                    Err(Errno::EXIST) => Ok(false),
                    Err(errno) => Err(errno),
                }
            })?;
        if !is_made {
            self.take_over_directory(item, &place, is_replace, context)?;
        } else if place.parent.hands_down {
            self.make_accessible(&place, &item.key)?;
        }
        let waiting = if is_made { Waiting::NewDirectory } else { Waiting::Directory };
        lock(&self.pending).put(item, waiting);
        Ok(())
    }

    /// Something stands where a directory is to be.
    fn take_over_directory(
        &self,
        item: &Item,
        place: &Place<'_>,
        is_replace: bool,
        context: &Context,
    ) -> Result<()> {
        let key = &item.key;
        let found = stat_in(place.parent.as_fd(), place.name, key)?;
        let is_directory = found.is_some_and(|stat| kind_of(&stat) == Some(ItemKind::Directory));
        if is_directory && is_replace {
            return self.make_accessible(place, key);
        }
        if is_replace {
            fs::unlinkat(&place.parent, place.name, AtFlags::empty())
                .and_then(|()| fs::mkdirat(&place.parent, place.name, PRIVATE_DIRECTORY))
                .map_err(|errno| failed("replace by a directory", key, errno))?;
            return Ok(());
        }
        let waiting = lock(&self.pending).get(key);
        let is_waiting = matches!(waiting, Some(Waiting::Directory | Waiting::NewDirectory));
        let is_ours = is_directory && is_waiting;
        if is_ours || self.stands_already(item, place, context)? {
            return Ok(());
        }
        Err(occupied(key))
    }

    /// Without privileges, a directory that forbids its owner to work in it is opened up until the end.
    fn make_accessible(&self, place: &Place<'_>, key: &ItemKey) -> Result<()> {
        if self.is_privileged {
            return Ok(());
        }
        let look = |errno| failed("look at", key, errno);
        let flags = TO_MARK | OFlags::DIRECTORY;
        let mark = fs::openat(&place.parent, place.name, flags, Mode::empty()).map_err(look)?;
        let mode = Mode::from_raw_mode(fs::fstat(&mark).map_err(look)?.st_mode & 0o7777);
        if mode.contains(Mode::RWXU) {
            return Ok(());
        }
        fs::chmod(own_name(mark.as_fd()), mode | Mode::RWXU)
            .map_err(|errno| failed("get access to", key, errno))
    }

    async fn put_file(
        &self,
        item: &Item,
        is_replace: bool,
        content: Option<&mut dyn ContentReader>,
        check: Option<&mut dyn ContentCheck>,
        context: &Context,
    ) -> Result<Option<Version>> {
        let length = content::file_length(item)?;
        let metadata = self.metadata(item)?;
        let parent = self.place(&item.key)?.parent;
        // In a directory that was made a moment ago nothing stands; putting it in its place tells.
        if !is_replace && !parent.is_new.load(Ordering::Relaxed) {
            self.refuse_if_other(item, length)?;
        }
        // An access list that is handed down may let in others than the mode speaks of.
        let hands_down = parent.hands_down;
        let mode = if hands_down { PRIVATE_FILE } else { metadata.mode_to_make(PRIVATE_FILE) };
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let (place, temporary, file) =
            self.make_temporary(&item.key, |parent, name| fs::openat(parent, name, flags, mode))?;
        let is_checked = check.is_some();
        content::write(file.as_fd(), item, content, check, context).await?;
        let handle = Handle::Open(file.as_fd());
        let placed = self.complete(item, is_replace, &place, temporary, handle, context)?;
        if !is_checked || placed == Placed::Occupied {
            return Ok(None);
        }
        // Its name was the last that changed.
        let stat = fs::fstat(&file).map_err(|errno| failed("look at", &item.key, errno))?;
        Ok(Some(version(&stat)))
    }

    /// Before bytes are written: something else that stands there will not be the wanted file.
    fn refuse_if_other(&self, item: &Item, length: u64) -> Result<()> {
        let place = self.place(&item.key)?;
        let Some(there) = stat_in(place.parent.as_fd(), place.name, &item.key)? else {
            return Ok(());
        };
        let is_alike = kind_of(&there) == Some(item.kind) && length_of(&there) == length;
        if is_alike { Ok(()) } else { Err(occupied(&item.key)) }
    }

    fn put_fifo(&self, item: &Item, is_replace: bool, context: &Context) -> Result<()> {
        let key = &item.key;
        self.metadata(item)?;
        let (place, temporary, ()) =
            self.make_temporary(key, |parent, name| fs::mkfifoat(parent, name, PRIVATE_FILE))?;
        let pipe = open_made(&temporary, ItemKind::Fifo, TO_READ, key)?;
        let handle = Handle::Open(pipe.as_fd());
        self.complete(item, is_replace, &place, temporary, handle, context).map(drop)
    }

    /// Links are made at the end: until then nothing that we made leads anywhere.
    fn put_link(&self, item: &Item, is_replace: bool, context: &Context) -> Result<()> {
        let key = &item.key;
        self.metadata(item)?;
        link_target(item)?;
        let place = self.place(key)?;
        let found = stat_in(place.parent.as_fd(), place.name, key)?;
        let is_ours = matches!(lock(&self.pending).get(key), Some(Waiting::Replace(_)));
        if !is_replace
            && !is_ours
            && found.is_some()
            && !self.stands_already(item, &place, context)?
        {
            return Err(occupied(key));
        }
        let waiting = if is_replace { Waiting::Replace } else { Waiting::Create };
        lock(&self.pending).put(item, waiting(item.kind));
        Ok(())
    }

    /// Makes a symbolic link whose turn has come.
    pub(super) fn make_symlink(
        &self,
        item: &Item,
        is_replace: bool,
        context: &Context,
    ) -> Result<()> {
        let target = link_target(item)?;
        let (place, temporary, ()) =
            self.make_temporary(&item.key, |parent, name| fs::symlinkat(target, parent, name))?;
        let link = open_made(&temporary, ItemKind::Symlink, TO_MARK, &item.key)?;
        let handle = Handle::Mark(link.as_fd());
        self.complete(item, is_replace, &place, temporary, handle, context).map(drop)
    }

    /// Makes a hard link whose turn has come.
    pub(super) fn make_hardlink(&self, item: &Item, is_replace: bool) -> Result<()> {
        let key = &item.key;
        if self.is_linked(item)? {
            return Ok(());
        }
        let primary = ItemKey::from_bytes(link_target(item)?.to_vec())?;
        let from = self.place(&primary)?;
        let link = |to: BorrowedFd<'_>, name: &[u8]| {
            fs::linkat(&from.parent, from.name, to, name, AtFlags::empty())
        };
        if is_replace {
            let (place, temporary, ()) = self.make_temporary(key, link)?;
            return self.put_in_place(temporary, &place, key, true).map(drop);
        }
        match self.change("link", key, |place| match link(place.parent.as_fd(), place.name) {
            Err(Errno::EXIST) => Ok(false),
            linked => linked.map(|()| true),
        })? {
            (_, true) => Ok(()),
            (_, false) => Err(occupied(key)),
        }
    }

    /// Says whether a hard link stands. The item that it is a name of has to be there.
    fn is_linked(&self, item: &Item) -> Result<bool> {
        let primary = ItemKey::from_bytes(link_target(item)?.to_vec())?;
        let look = |key: &ItemKey| {
            let place = self.place(key)?;
            stat_in(place.parent.as_fd(), place.name, key)
        };
        let there = look(&item.key)?;
        let Some(found) = look(&primary)? else {
            let why = format!("there is no {}, of which it is a further name", primary.display());
            return Err(refused(ErrorKind::NotFound, "link", &item.key, why));
        };
        if kind_of(&found) == Some(ItemKind::Directory) {
            let why = format!("{} is a directory", primary.display());
            return Err(refused(ErrorKind::Conflict, "link", &item.key, why));
        }
        Ok(there.is_some_and(|there| identity(&there) == identity(&found)))
    }

    /// Gives a thing its metadata, then its name; or finds that the same stands there already.
    fn complete(
        &self,
        item: &Item,
        is_replace: bool,
        place: &Place<'_>,
        temporary: Temporary,
        handle: Handle<'_>,
        context: &Context,
    ) -> Result<Placed> {
        let key = &item.key;
        let is_plain = !place.parent.hands_down;
        self.metadata(item)?.set(handle, key, is_plain, &self.shortfalls, context)?;
        let (placed, temporary) = self.put_in_place(temporary, place, key, is_replace)?;
        if placed == Placed::Occupied && !self.is_same(&temporary, place, key, context)? {
            return Err(occupied(key));
        }
        // Whatever else was to become of this key is void.
        lock(&self.pending).cancel(key);
        Ok(placed)
    }

    /// Says whether what stands in a place is what was made beside it, to the last byte and attribute:
    /// then an earlier run has made it.
    fn is_same(
        &self,
        temporary: &Temporary,
        place: &Place<'_>,
        key: &ItemKey,
        context: &Context,
    ) -> Result<bool> {
        let report = |problem: &Error| context.monitor.problem(problem);
        let look = |name: &[u8]| observe(place.parent.as_fd(), name, key, &self.accounts, &report);
        let (Some(made), Some(there)) = (look(&temporary.name)?, look(place.name)?) else {
            return Ok(false);
        };
        if made.item.kind != there.item.kind || made.item.attributes != there.item.attributes {
            return Ok(false);
        }
        if made.item.kind != ItemKind::File {
            return Ok(true);
        }
        let open = |name: &[u8]| {
            fs::openat(&place.parent, name, TO_READ, Mode::empty())
                .map_err(|errno| failed("compare", key, errno))
        };
        content::is_same(open(&temporary.name)?.as_fd(), open(place.name)?.as_fd(), key)
    }

    /// Says whether a directory or a link that stands in a place is the wanted one.
    fn stands_already(&self, item: &Item, place: &Place<'_>, context: &Context) -> Result<bool> {
        if item.kind == ItemKind::Hardlink {
            return Ok(self.is_linked(item).unwrap_or(false));
        }
        let (parent, report) =
            (place.parent.as_fd(), |problem: &Error| context.monitor.problem(problem));
        let Some(there) = observe(parent, place.name, &item.key, &self.accounts, &report)? else {
            return Ok(false);
        };
        let there = there.item;
        let target =
            |item: &Item| item.attributes.get(AttributeTag::LINK_TARGET).map(<[u8]>::to_vec);
        let (wanted, held) = (self.metadata(item)?, self.metadata(&there)?);
        let is_owner_settable = self.is_privileged && self.options.owners != Owners::Keep;
        let is_as_wanted = |wanted: Option<u32>, held| wanted.is_none() || wanted == held;
        Ok(item.kind == there.kind
            && target(item) == target(&there)
            && (item.kind == ItemKind::Symlink || is_as_wanted(wanted.mode, held.mode))
            && (wanted.modified_ns.is_none() || wanted.modified_ns == held.modified_ns)
            && wanted.extended == held.extended
            && (!is_owner_settable
                || is_as_wanted(wanted.user, held.user) && is_as_wanted(wanted.group, held.group)))
    }

    /// Removes an item. Nothing there is fine.
    pub(super) fn delete(&self, key: &ItemKey) -> Result<()> {
        lock(&self.pending).cancel(key);
        let place = match self.place(key) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            place => place?,
        };
        match fs::unlinkat(&place.parent, place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.remove_directory(&place, key),
            Err(errno) => Err(failed("remove", key, errno)),
        }
    }

    /// Returns the directory to work in for a key. A directory that no step is about is to be as it was.
    pub(super) fn place<'a>(&self, key: &'a ItemKey) -> Result<Place<'a>> {
        let place = self.root.place(key)?;
        let parent = &place.parent;
        if parent.is_noted.swap(true, Ordering::Relaxed) {
            return Ok(place);
        }
        let mut attributes =
            Attributes::builder().signed(AttributeTag::MODIFIED_NS, parent.modified_ns);
        let mode = Mode::from_raw_mode(parent.mode);
        if !self.is_privileged && !mode.contains(Mode::RWXU) {
            attributes = attributes.unsigned(AttributeTag::MODE, u64::from(parent.mode));
            // Where it is not ours, the step itself will say that it may not work there.
            let _opened_up = fs::fchmod(&parent.fd, mode | Mode::RWXU);
        }
        let parent_key = key.parent().unwrap_or_default();
        let mut pending = lock(&self.pending);
        if pending.get(&parent_key) == Some(Waiting::NewDirectory) {
            parent.is_new.store(true, Ordering::Relaxed);
        }
        pending.put_bystander(&parent_key, &attributes.build());
        drop(pending);
        Ok(place)
    }

    /// Reads what an item's metadata is to be.
    pub(super) fn metadata<'a>(&self, item: &'a Item) -> Result<Metadata<'a>> {
        Metadata::of(&item.key, &item.attributes, self.options.owners, &self.accounts)
    }
}

/// Opens what was made a moment ago, and makes sure that it is that and not something exchanged for it.
fn open_made(
    temporary: &Temporary,
    kind: ItemKind,
    flags: OFlags,
    key: &ItemKey,
) -> Result<OwnedFd> {
    let look = |errno| failed("look at", key, errno);
    let made =
        fs::openat(&temporary.parent, &temporary.name, flags, Mode::empty()).map_err(look)?;
    let stat = fs::fstat(&made).map_err(look)?;
    if kind_of(&stat) == Some(kind) && stat.st_nlink == 1 {
        return Ok(made);
    }
    Err(refused(ErrorKind::Conflict, "make", key, "somebody exchanged it while it was made"))
}

/// Returns where a link leads.
fn link_target(item: &Item) -> Result<&[u8]> {
    let target = item.attributes.get(AttributeTag::LINK_TARGET).unwrap_or_default();
    let is_sound = match item.kind {
        ItemKind::Hardlink => target != item.key.as_bytes(),
        _ => !target.contains(&0),
    };
    if is_sound && !target.is_empty() {
        return Ok(target);
    }
    Err(refused(ErrorKind::Corrupt, "read link", &item.key, "it leads nowhere"))
}

fn occupied(key: &ItemKey) -> Error {
    refused(ErrorKind::Conflict, "create", key, "something else stands there")
}
