//! Making a thing beside its place and putting it there whole.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use model::{ErrorKind, ItemKey, Result};
use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::DirectoryTarget;
use super::errors::{failed, refused};
use super::names::temporary_name;
use super::root::{Directory, Place};

/// A thing under its temporary name. It goes when dropped, unless it was put in its place.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) parent: Arc<Directory>,
    pub(super) name: Vec<u8>,
    is_placed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            let _left_for_the_next_run = fs::unlinkat(&self.parent, &self.name, AtFlags::empty());
        }
    }
}

/// What became of putting a thing in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It stands there.
    Done,
    /// Something else does.
    Occupied,
}

impl DirectoryTarget {
    /// Makes something under an item's temporary name; what an earlier run left there goes first.
    pub(super) fn make_temporary<'a, T>(
        &self,
        key: &'a ItemKey,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> std::result::Result<T, Errno>,
    ) -> Result<(Place<'a>, Temporary, T)> {
        let name = temporary_name(key);
        let (place, made) = self.change("make", key, |place| {
            let parent = place.parent.as_fd();
            match make(parent, &name) {
                Err(Errno::EXIST) => {
                    fs::unlinkat(parent, &name, AtFlags::empty())?;
                    make(parent, &name)
                }
                made => made,
            }
        })?;
        let temporary = Temporary { parent: place.parent.clone(), name, is_placed: false };
        Ok((place, temporary, made))
    }

    /// Makes a call in the directory of a key, and makes it again where that directory was removed while
    /// it was kept open.
    pub(super) fn change<'a, T>(
        &self,
        action: &'static str,
        key: &'a ItemKey,
        call: impl Fn(&Place<'_>) -> std::result::Result<T, Errno>,
    ) -> Result<(Place<'a>, T)> {
        let mut place = self.place(key)?;
        let mut done = call(&place);
        if matches!(done, Err(Errno::NOENT)) {
            self.root.forget(&key.parent().unwrap_or_default());
            place = self.place(key)?;
            done = call(&place);
        }
        done.map(|done| (place, done)).map_err(|errno| failed(action, key, errno))
    }

    /// Gives a thing its own name: over nothing, or with `is_replace` over whatever stands there.
    pub(super) fn put_in_place(
        &self,
        mut temporary: Temporary,
        place: &Place<'_>,
        key: &ItemKey,
        is_replace: bool,
    ) -> Result<(Placed, Temporary)> {
        let placed = if is_replace {
            self.rename_over(&temporary, place, key)?;
            Placed::Done
        } else {
            rename_if_free(&temporary, place, key)?
        };
        temporary.is_placed = placed == Placed::Done;
        Ok((placed, temporary))
    }

    fn rename_over(&self, temporary: &Temporary, place: &Place<'_>, key: &ItemKey) -> Result<()> {
        let rename = || fs::renameat(&temporary.parent, &temporary.name, &place.parent, place.name);
        match rename() {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                self.remove_directory(place, key)?;
                rename()
            }
            renamed => renamed,
        }
        .map_err(|errno| failed("replace", key, errno))
    }

    /// Removes a directory in which nothing is left but what earlier runs did not finish.
    pub(super) fn remove_directory(&self, place: &Place<'_>, key: &ItemKey) -> Result<()> {
        let remove = || fs::unlinkat(&place.parent, place.name, AtFlags::REMOVEDIR);
        let removed = match remove() {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                super::survey::sweep(&place.parent, place.name);
                remove()
            }
            removed => removed,
        };
        self.root.forget(key);
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno @ (Errno::NOTEMPTY | Errno::EXIST)) => {
                Err(failed("remove directory", key, errno).detail("it is not empty"))
            }
            Err(errno) => Err(failed("remove directory", key, errno)),
        }
    }
}

fn rename_if_free(temporary: &Temporary, place: &Place<'_>, key: &ItemKey) -> Result<Placed> {
    let (from, to) = (&temporary.parent, &place.parent);
    let renamed = fs::renameat_with(from, &temporary.name, to, place.name, RenameFlags::NOREPLACE);
    match renamed {
        Ok(()) => Ok(Placed::Done),
        Err(Errno::EXIST) => Ok(Placed::Occupied),
        // Few file systems cannot do that; a second name is as good, and fails where one stands.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match fs::linkat(from, &temporary.name, to, place.name, AtFlags::empty()) {
                Ok(()) => fs::unlinkat(from, &temporary.name, AtFlags::empty())
                    .map(|()| Placed::Done)
                    .map_err(|errno| failed("complete", key, errno)),
                Err(Errno::EXIST) => Ok(Placed::Occupied),
                Err(errno) => Err(failed("complete", key, errno)),
            }
        }
        Err(Errno::NOENT) => Err(refused(
            ErrorKind::Conflict,
            "complete",
            key,
            "somebody took it away while it was made",
        )),
        Err(errno) => Err(failed("complete", key, errno)),
    }
}
