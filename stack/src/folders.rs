//! Files and folders, with errors that say which.

use std::fs;
use std::io::{self, ErrorKind as Io};
use std::path::Path;

use model::{Error, ErrorKind, Result};

/// Turns an error of the file system into ours.
pub fn error(action: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::PermissionDenied => ErrorKind::Denied,
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::Exhausted,
        Io::AlreadyExists => ErrorKind::Conflict,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, action, path.display().to_string()).because(error)
}

/// Makes a folder and those above it.
pub fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| error("create directory", path, e))
}

/// Removes a folder and all in it; one that is not there is fine.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == Io::NotFound => Ok(()),
        // Caches make their folders read-only.
        Err(e) if e.kind() == Io::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path).map_err(|e| error("remove directory", path, e))
        }
        Err(e) => Err(error("remove directory", path, e)),
    }
}

/// Lets its owner write in a folder and all below; what cannot be changed shows when it is removed.
fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Writes a file so that either the old or the new content is there, whatever happens.
pub fn replace(path: &Path, content: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        use std::io::Write as _;
        let mut file = fs::File::create(&beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_data()?;
        fs::rename(&beside, path)
    };
    write().map_err(|e| error("write file", path, e))
}

/// Reads a file; none where it is not there.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == Io::NotFound => Ok(None),
        Err(e) => Err(error("read file", path, e)),
    }
}

/// Returns the last lines of a file that may be long.
pub fn tail(path: &Path, lines: usize) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const BYTES_MAX: u64 = 16 << 10;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
