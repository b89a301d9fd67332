//! From an error number of the kernel to an error that says what the caller can do.

use model::{Error, ErrorKind, ItemKey};
use rustix::io::Errno;

/// Says what a caller can do about a failed call.
pub(super) fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            ErrorKind::Exhausted
        }
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::Denied,
        // EXDEV is what openat2 says of a path that leads out of its root.
        Errno::EXIST
        | Errno::NOTEMPTY
        | Errno::ISDIR
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::XDEV => ErrorKind::Conflict,
        Errno::NAMETOOLONG
        | Errno::INVAL
        | Errno::ILSEQ
        | Errno::NOSYS
        | Errno::OPNOTSUPP
        | Errno::FBIG
        | Errno::MLINK
        | Errno::OVERFLOW => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    }
}

/// Describes a failed call on an item.
pub(super) fn failed(action: &'static str, key: &ItemKey, errno: Errno) -> Error {
    let error = Error::new(kind_of(errno), action, shown(key)).because(os_error(errno));
    match errno {
        Errno::NAMETOOLONG => {
            let length = key.name().map_or(0, <[u8]>::len);
            error.detail(format!("the target holds no name of {length} bytes"))
        }
        Errno::LOOP => error.detail("a symbolic link stands in the way"),
        _ => error,
    }
}

/// Describes a refusal that is ours.
pub(super) fn refused(
    kind: ErrorKind,
    action: &'static str,
    key: &ItemKey,
    why: impl Into<String>,
) -> Error {
    Error::new(kind, action, shown(key)).detail(why)
}

/// Returns the cause as the operating system words it.
pub(super) fn os_error(errno: Errno) -> std::io::Error {
    errno.into()
}

fn shown(key: &ItemKey) -> String {
    if key.is_root() { ".".into() } else { key.display() }
}
