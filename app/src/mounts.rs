//! Mounting: states of [`operations::mount`] become a file system of this host, until somebody unmounts
//! it or the operation is cancelled.
//!
//! What speaks to the kernel stands in [`kernel`] and nowhere else. The crate `fuser` was chosen for it: it
//! needs no library of C, answers may be given from any task, and it asks `fusermount3` where the
//! process itself may not mount.

mod kernel;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use model::{Context, Error, ErrorKind, Result};
use operations::mount::{Mounted, Owner};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use tokio::task::JoinHandle;

use kernel::Kernel;

/// What is being done where something is mounted on this host.
pub const MOUNT_ACTION: &str = "mount file system";

/// Where the kernel is spoken to.
const DEVICE: &str = "/dev/fuse";
/// How long the end of the session is waited for. Files that are open keep it up; the end of the process
/// does away with that.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a file system is mounted.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountRules {
    /// Others than who mounts may look into it, each as far as modes and access lists let him.
    pub is_for_all: bool,
    /// What lies in the directory may be hidden.
    pub may_hide: bool,
}

/// A file system that is mounted.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
    unmounter: SessionUnmounter,
    session: JoinHandle<io::Result<()>>,
}

/// Says who owns what the source names no owner of: who runs this process.
pub fn owner() -> Owner {
    Owner {
        user_id: rustix::process::getuid().as_raw(),
        group_id: rustix::process::getgid().as_raw(),
    }
}

/// Looks whether something can be mounted on a directory, before anything else is done.
///
/// # Errors
/// `NotFound`, `Invalid` and `Conflict` are about the directory; `Unsupported` where the kernel has no FUSE,
/// `Denied` where it may not be used.
pub fn check(directory: &Path, rules: MountRules) -> Result<()> {
    check_directory(directory, rules)?;
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map(drop).map_err(|error| {
        let (kind, detail) = match error.kind() {
            io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "it may not be opened"),
            _ => (ErrorKind::Unsupported, "there is no FUSE on this host"),
        };
        Error::new(kind, MOUNT_ACTION, DEVICE).detail(detail).because(error)
    })
}

fn check_directory(directory: &Path, rules: MountRules) -> Result<()> {
    let failed = |kind, detail: &str| {
        Error::new(kind, MOUNT_ACTION, directory.display().to_string()).detail(detail)
    };
    let first = std::fs::read_dir(directory).map(|mut entries| entries.next().transpose());
    match first.and_then(|first| first) {
        Ok(None) => Ok(()),
        Ok(Some(_)) if rules.may_hide => Ok(()),
        Ok(Some(_)) => Err(failed(ErrorKind::Conflict, "it is not empty")),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => failed(ErrorKind::NotFound, "there is no such directory"),
            io::ErrorKind::NotADirectory => failed(ErrorKind::Invalid, "it is no directory"),
            io::ErrorKind::NotConnected => {
                failed(ErrorKind::Conflict, "what was mounted there has no process any more")
            }
            _ => failed(ErrorKind::Denied, "it cannot be read"),
        }
        .because(error)),
    }
}

/// Mounts states on a directory.
///
/// # Errors
/// As [`check`]; `Denied` where the process may not mount and `fusermount3` does not do it either.
pub async fn mount(mounted: Mounted, directory: &Path, rules: MountRules) -> Result<Mount> {
    check(directory, rules)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
        MountOption::FSName("lifeboat".to_owned()),
        MountOption::Subtype("lifeboat".to_owned()),
    ];
    if rules.is_for_all {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    let kernel = Kernel::new(mounted, rules.is_for_all);
    let notifier = kernel.notifier();
    let place = directory.to_owned();
    let begun = tokio::task::spawn_blocking(move || Session::new(kernel, &place, &config)).await;
    let mut session = begun
        .map_err(|error| Error::new(ErrorKind::Internal, MOUNT_ACTION, "").because(error))?
        .map_err(|error| not_mounted(directory, error))?;
    // Nobody asks before the session runs.
    let _ = notifier.set(session.notifier());
    let unmounter = session.unmount_callable();
    let session = tokio::task::spawn_blocking(move || session.run());
    Ok(Mount { directory: directory.to_owned(), unmounter, session })
}

fn not_mounted(directory: &Path, error: io::Error) -> Error {
    // The only program that is started is `fusermount3`, and only where the process may not mount.
    let detail = match error.kind() {
        io::ErrorKind::NotFound => "this process may not mount, and there is no `fusermount3`",
        _ => "the kernel or `fusermount3` refused",
    };
    Error::new(ErrorKind::Denied, MOUNT_ACTION, directory.display().to_string())
        .detail(detail)
        .because(error)
}

impl Mount {
    /// Serves until somebody unmounts it, or until the context is cancelled, which unmounts it. Who still
    /// has files open then gets errors from them.
    ///
    /// # Errors
    /// `Internal` where the kernel's words make no sense; `Denied` where it cannot be unmounted.
    pub async fn serve(self, context: &Context) -> Result<()> {
        let Self { directory, unmounter, mut session } = self;
        tokio::select! {
            ended = &mut session => return ended_as(&directory, ended),
            () = context.cancel.cancelled() => {}
        }
        let place = directory.clone();
        let left = tokio::task::spawn_blocking(move || leave(&place, unmounter)).await;
        left.map_err(|error| Error::new(ErrorKind::Internal, MOUNT_ACTION, "").because(error))??;
        tokio::select! {
            ended = &mut session => ended_as(&directory, ended),
            () = context.clock.sleep(PATIENCE) => Ok(()),
        }
    }
}

fn ended_as(
    directory: &Path,
    ended: std::result::Result<io::Result<()>, tokio::task::JoinError>,
) -> Result<()> {
    let failed = || Error::new(ErrorKind::Internal, MOUNT_ACTION, directory.display().to_string());
    ended
        .map_err(|error| failed().because(error))?
        .map_err(|error| failed().detail("the session ended").because(error))
}

/// Unmounts; where it is in use, takes it out of the tree all the same.
fn leave(directory: &Path, mut unmounter: SessionUnmounter) -> Result<()> {
    // In this order: once it has tried, the unmounter never tries again on its own, when something else
    // may be mounted there.
    if unmounter.unmount().is_ok() {
        return Ok(());
    }
    match unmount(directory, UnmountFlags::DETACH) {
        // Somebody else was quicker.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => {
            Err(Error::new(ErrorKind::Denied, MOUNT_ACTION, directory.display().to_string())
                .detail("it could not be unmounted")
                .because(io::Error::from(errno)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_with_nothing_in_it_is_mounted_on() {
        let folder = tempfile::tempdir().expect("folder");
        let check = |path: &Path, may_hide| {
            let rules = MountRules { may_hide, is_for_all: false };
            check_directory(path, rules).err().map(|error| error.kind())
        };
        let path = folder.path();
        assert_eq!(check(path, false), None);
        assert_eq!(check(&path.join("missing"), true), Some(ErrorKind::NotFound));
        std::fs::write(path.join("file"), "x").expect("write");
        assert_eq!(check(path, false), Some(ErrorKind::Conflict));
        assert_eq!(check(path, true), None);
        assert_eq!(check(&path.join("file"), true), Some(ErrorKind::Invalid));
    }

    #[test]
    fn who_may_not_mount_is_told_what_is_missing() {
        let error = not_mounted(Path::new("/x"), io::ErrorKind::NotFound.into());
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("fusermount3"), "{error}");
    }
}
