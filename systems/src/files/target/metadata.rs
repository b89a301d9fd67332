//! What an item carries besides content: what is wanted, and setting it on a handle.
//!
//! Everything is set on an open handle of the thing itself. The order matters: a change of owner takes
//! set-user-id and capabilities away, an access list changes the mode, and everything may change times.

use std::collections::BTreeMap;
use std::sync::Mutex;

use model::{AttributeTag, Attributes, Context, Error, ErrorKind, ItemKey, Result};
use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Uid};
use rustix::io::Errno;

use super::errors::{failed, kind_of, os_error, refused};
use super::extended::{self, Handle};
use super::names::modified_only;
use super::owners::{Accounts, Owners};
use super::root::lock;

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// What is wanted. None leaves what is there.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Metadata<'a> {
    pub(super) mode: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) modified_ns: Option<i64>,
    pub(super) extended: Vec<(&'a [u8], &'a [u8])>,
    /// Whose the thing was at the source.
    source: (Option<u64>, Option<u64>),
}

impl<'a> Metadata<'a> {
    /// Reads what is wanted from an item's attributes.
    ///
    /// # Errors
    /// `Corrupt` where they make no sense.
    pub(super) fn of(
        key: &ItemKey,
        attributes: &'a Attributes,
        owners: Owners,
        accounts: &Accounts,
    ) -> Result<Self> {
        let broken = |why| refused(ErrorKind::Corrupt, "read attributes of", key, why);
        let extended = attributes.get(AttributeTag::EXTENDED).unwrap_or_default();
        let extended = extended::decode(extended).ok_or_else(|| broken("extended attributes"))?;
        let (user, group) = accounts.wanted(owners, attributes);
        // The greatest number means "leave it" to the kernel.
        let id = |wanted: Option<u64>| match wanted.map(u32::try_from) {
            None => Ok(None),
            Some(Ok(id)) if id != u32::MAX => Ok(Some(id)),
            Some(_) => Err(broken("no number of an owner")),
        };
        let mode = match attributes.unsigned(AttributeTag::MODE).map(u32::try_from) {
            None => None,
            Some(Ok(mode)) if mode <= 0o7777 => Some(mode),
            Some(_) => return Err(broken("no mode")),
        };
        Ok(Self {
            mode,
            user: id(user)?,
            group: id(group)?,
            modified_ns: attributes.signed(AttributeTag::MODIFIED_NS),
            extended,
            source: (
                attributes.unsigned(AttributeTag::USER_ID),
                attributes.unsigned(AttributeTag::GROUP_ID),
            ),
        })
    }

    /// Sets everything on a handle. `is_plain` says that no attributes can be there that are not wanted;
    /// otherwise those are removed.
    ///
    /// What this target cannot hold becomes a problem, reported once.
    pub(super) fn set(
        &self,
        handle: Handle<'_>,
        key: &ItemKey,
        is_plain: bool,
        shortfalls: &Shortfalls,
        context: &Context,
    ) -> Result<()> {
        let report = |what: &str, errno| shortfalls.report(what, key, errno, context);
        let there = match handle {
            Handle::Open(fd) => Some(fs::fstat(fd).map_err(|errno| failed("look at", key, errno))?),
            Handle::Mark(_) => None,
        };
        let has_owner = there.is_some_and(|stat| self.is_owned(&stat));
        if !has_owner && let Err(errno) = self.set_owner(handle) {
            report("owner", errno);
        }
        if !is_plain {
            self.remove_unwanted(handle).unwrap_or_else(|errno| report("access list", errno));
        }
        for (name, value) in &self.extended {
            if let Err(errno) = handle.set(name, value) {
                report(&String::from_utf8_lossy(name), errno);
            }
        }
        // Nothing that was done above has changed it.
        let is_untouched = has_owner && is_plain && self.extended.is_empty();
        let has_mode = |mode| is_untouched && there.is_some_and(|s| s.st_mode & 0o7777 == mode);
        if let (Some(mode), Handle::Open(fd)) = (self.mode.filter(|mode| !has_mode(*mode)), handle)
        {
            let lends_rights = mode & (SET_USER_ID | SET_GROUP_ID) != 0;
            let mode = if lends_rights {
                let stat = fs::fstat(fd).map_err(|errno| failed("look at", key, errno))?;
                self.mode_for(mode, &stat)
            } else {
                mode
            };
            match fs::fchmod(fd, Mode::from_raw_mode(mode)) {
                Err(errno @ Errno::PERM) => report("mode", errno),
                done => done.map_err(|errno| failed("set mode of", key, errno))?,
            }
        }
        match self.modified_ns.map_or(Ok(()), |time| set_modified(handle, time)) {
            Err(errno @ (Errno::PERM | Errno::ACCESS)) => report("time", errno),
            done => done.map_err(|errno| failed("set time of", key, errno))?,
        }
        Ok(())
    }

    /// The bits that lend an owner's rights are only set where the owner is the one of the source.
    fn mode_for(&self, mode: u32, stat: &Stat) -> u32 {
        let is_other = |wanted: Option<u32>, source: Option<u64>, there: u32| {
            wanted.map_or(source.is_some_and(|id| id != u64::from(there)), |id| id != there)
        };
        let mut mode = mode;
        if is_other(self.user, self.source.0, stat.st_uid) {
            mode &= !SET_USER_ID;
        }
        if is_other(self.group, self.source.1, stat.st_gid) {
            mode &= !SET_GROUP_ID;
        }
        mode
    }

    fn is_owned(&self, stat: &Stat) -> bool {
        self.user.is_none_or(|user| user == stat.st_uid)
            && self.group.is_none_or(|group| group == stat.st_gid)
    }

    /// Returns the permissions with which a file may be made before anything else is set on it: its own,
    /// where they give nobody more than they will in the end, whosever the file is until then.
    pub(super) fn mode_to_make(&self, private: Mode) -> Mode {
        let Some(mode) = self.mode.filter(|mode| mode & !0o777 == 0) else { return private };
        let (owner, group, others) = (mode >> 6, mode >> 3 & 7, mode & 7);
        let is_the_same_to_all = group == others && owner & group == group;
        if is_the_same_to_all && self.extended.is_empty() {
            Mode::from_raw_mode(mode)
        } else {
            private
        }
    }

    fn set_owner(&self, handle: Handle<'_>) -> std::result::Result<(), Errno> {
        if self.user.is_none() && self.group.is_none() {
            return Ok(());
        }
        let (user, group) = (self.user.map(Uid::from_raw), self.group.map(Gid::from_raw));
        let set = |user, group| match handle {
            Handle::Open(fd) => fs::fchown(fd, user, group),
            Handle::Mark(fd) => fs::chownat(fd, "", user, group, AtFlags::EMPTY_PATH),
        };
        let done = set(user, group);
        // Who may not give things away may still give them to a group of their own.
        if done.is_err() && user.is_some() && group.is_some() {
            let _second_best = set(None, group);
        }
        done
    }

    /// Removes what nobody asked for. Labels of the system's own (`security.`) stay.
    fn remove_unwanted(&self, handle: Handle<'_>) -> std::result::Result<(), Errno> {
        for name in handle.names()? {
            let is_wanted = self.extended.iter().any(|(wanted, _)| **wanted == *name);
            if !is_wanted && !name.starts_with(b"security.") {
                match handle.remove(&name) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }
}

/// Sets the time of the last change alone.
pub(super) fn set_modified(handle: Handle<'_>, modified_ns: i64) -> std::result::Result<(), Errno> {
    let times = modified_only(modified_ns);
    match handle {
        Handle::Open(fd) => fs::futimens(fd, &times),
        Handle::Mark(fd) => fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH),
    }
}

/// What this target could not hold, counted by what it was.
#[derive(Debug, Default)]
pub(super) struct Shortfalls(Mutex<BTreeMap<String, u64>>);

impl Shortfalls {
    /// More different ones are counted together.
    const DIFFERENT_MAX: usize = 100;

    fn report(&self, what: &str, key: &ItemKey, errno: Errno, context: &Context) {
        let is_first = {
            let mut counts = lock(&self.0);
            let is_known = counts.contains_key(what) || counts.len() < Self::DIFFERENT_MAX;
            let count = counts.entry(if is_known { what } else { "other" }.into()).or_default();
            *count += 1;
            *count == 1
        };
        if is_first {
            let problem = failed("set", key, errno).detail(format!("its {what} stays as it is"));
            context.monitor.problem(&problem);
        }
    }

    /// Reports how many further items each problem had, and starts anew.
    pub(super) fn sum_up(&self, context: &Context) {
        for (what, count) in std::mem::take(&mut *lock(&self.0)) {
            if count > 1 {
                let problem = Error::new(ErrorKind::Unsupported, "set", format!("{what} of items"))
                    .detail(format!("{count} items keep another"));
                context.monitor.problem(&problem);
            }
        }
    }
}

/// Describes why attributes cannot be read.
pub(super) fn unreadable(key: &ItemKey, errno: Errno) -> Error {
    Error::new(kind_of(errno), "read extended attributes of", key.display())
        .because(os_error(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_with_its_mode_where_that_gives_nobody_more() {
        let private = Mode::from_raw_mode(0o600);
        for (mode, expected) in [
            (Some(0o644), 0o644),
            (Some(0o755), 0o755),
            (Some(0o444), 0o444),
            (Some(0o600), 0o600),
            (Some(0o640), 0o600),
            (Some(0o604), 0o600),
            (Some(0o044), 0o600),
            (Some(0o4755), 0o600),
            (None, 0o600),
        ] {
            let metadata = Metadata { mode, ..Metadata::default() };
            assert_eq!(metadata.mode_to_make(private).as_raw_mode(), expected, "{mode:?}");
        }
        let listed = Metadata {
            mode: Some(0o644),
            extended: vec![(b"system.posix_acl_access", b"")],
            ..Metadata::default()
        };
        assert_eq!(listed.mode_to_make(private), private);
    }
}
