//! What every part of this kind needs to know: the host, what is protected, and the way there.

use std::ffi::CString;

use model::{Error, ErrorKind, ItemKey, Monitor, Result};
use rustix::fs::OFlags;

use super::attributes::{FileKind, FileStat};
use super::inspect::Directory;
use super::reach::{self, Reach};
use super::roots::{self, Candidate, Place, Roots, Rules, Scope, Verdict};

/// The protected part of one host's file system.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) host: ItemKey,
    pub(super) roots: Roots,
    pub(super) rules: Rules,
    pub(super) reach: Reach,
}

impl Source {
    /// Returns the path of a key relative to the root of the file system.
    ///
    /// # Errors
    /// `NotFound` where the key is none of this host's, or no path could have it.
    pub(super) fn path_of(&self, key: &ItemKey) -> Result<Vec<u8>> {
        roots::path_of_key(&self.host, key)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "find file", key.display()))
    }

    /// Checks that what is protected is there and that no link leads to it. Returns those protected
    /// paths that are links themselves.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, or `Invalid` where a directory on the way is a symbolic link.
    pub(super) fn check_paths(&self) -> Result<Vec<Vec<u8>>> {
        let mut links = Vec::new();
        for path in self.roots.paths() {
            let (parent, name) = split(&path);
            let Ok(name) = CString::new(name) else { continue };
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let stat = Directory::open(&self.reach, parent.to_vec(), flags)
                .and_then(|directory| directory.stat(&name))
                .map_err(|errno| explain(&path, errno))?;
            if stat.kind == FileKind::Symlink {
                links.push(path);
            }
        }
        Ok(links)
    }

    /// Says of protected paths that are links, and are captured as such, where that is not what was
    /// meant: what they lead to is not protected.
    pub(super) fn warn_of_links(&self, links: &[Vec<u8>], monitor: &dyn Monitor) {
        for path in links {
            let target = real_path(path).unwrap_or_default();
            let names = target.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            if target.is_empty() || !self.roots.protect(names) {
                let shown = String::from_utf8_lossy(path);
                let problem = Error::new(ErrorKind::Invalid, "capture path", shown)
                    .detail("a symbolic link; what it leads to is not protected");
                monitor.problem(&problem);
            }
        }
    }

    /// Returns where a walk begins.
    pub(super) fn top(&self) -> Result<Place> {
        let device = Directory::open(&self.reach, Vec::new(), OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|root| root.stat(c"."))
            .map_err(|errno| reach::failed("look at directory", b"/", errno))?
            .device;
        Ok(self.roots.top(self.host.clone(), device))
    }

    /// Decides about a name of a directory that was looked at.
    pub(super) fn judge(
        &self,
        place: &Place,
        directory: &Directory,
        name: &[u8],
        stat: &FileStat,
    ) -> Result<(Verdict, Option<Place>)> {
        let needs_path = self.rules.selection.uses_paths();
        let path = if needs_path { directory.path_of(name) } else { Vec::new() };
        let is_directory = stat.kind == FileKind::Directory;
        let candidate = Candidate { name, path: &path, is_directory, device: stat.device };
        let (verdict, node) = self.roots.judge(place, &candidate, &self.rules);
        let Verdict::Enter(scope) = verdict else { return Ok((verdict, None)) };
        let device = if scope == Scope::Within { place.device } else { stat.device };
        let key = place.key.child(name)?;
        Ok((verdict, Some(Place { key, scope, node, device })))
    }

    /// Returns a directory's place as a walk from the top would find it; none where a walk would not
    /// get there.
    pub(super) fn place_of(&self, key: &ItemKey) -> Result<Option<Place>> {
        let mut place = self.top()?;
        for name in key.components().skip(self.host.depth()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let path = self.path_of(&place.key)?;
            let Ok(directory) = Directory::open(&self.reach, path, flags) else { return Ok(None) };
            let Ok(c_name) = CString::new(name) else { return Ok(None) };
            let Ok(stat) = directory.stat(&c_name) else { return Ok(None) };
            let (_, Some(below)) = self.judge(&place, &directory, name, &stat)? else {
                return Ok(None);
            };
            place = below;
        }
        Ok(Some(place))
    }
}

/// Takes an absolute path apart: the directory relative to the root, and the name (`.` for the root).
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    match relative.iter().rposition(|byte| *byte == b'/') {
        Some(at) => {
            (relative.get(..at).unwrap_or_default(), relative.get(at + 1..).unwrap_or_default())
        }
        None if relative.is_empty() => (b"", b"."),
        None => (b"", relative),
    }
}

fn real_path(path: &[u8]) -> Option<Vec<u8>> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    Some(path.canonicalize().ok()?.into_os_string().into_vec())
}

fn explain(path: &[u8], errno: rustix::io::Errno) -> Error {
    let error = reach::failed("capture path", path, errno);
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    match real_path(path) {
        Some(real) if real != path => {
            Error::new(ErrorKind::Invalid, "capture path", String::from_utf8_lossy(path)).detail(
                format!(
                    "a symbolic link is on the way; protect {} instead",
                    String::from_utf8_lossy(&real)
                ),
            )
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_apart() {
        for (path, expected) in [("/", ("", ".")), ("/a", ("", "a")), ("/a/b/c", ("a/b", "c"))] {
            let (parent, name) = split(path.as_bytes());
            assert_eq!((parent, name), (expected.0.as_bytes(), expected.1.as_bytes()));
        }
    }
}
