//! Key files: a slot's secret on a disk, on a stick or on paper.
//!
//! Three short lines of text, so that it can be printed and typed in again:
//! `lifeboat key file 1`, `slot <32 hexadecimal digits>`, `key <64 hexadecimal digits>`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use model::{Entropy, Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::Secret;
use crate::types::{WriterId, from_hex, hex};

const TITLE: &str = "lifeboat key file 1";
const LENGTH_MAX: u64 = 4096;

/// The secret of one key slot, with the slot's id. Wiped when dropped; never shown.
#[derive(Clone)]
pub struct KeyFile {
    slot: WriterId,
    secret: Secret,
}

impl KeyFile {
    /// Makes a secret for a new slot.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut slot = [0; 16];
        entropy.fill(&mut slot);
        Self { slot: WriterId(slot), secret: Secret::generate(entropy) }
    }

    /// Says which slot it opens.
    pub fn slot(&self) -> WriterId {
        self.slot
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Writes a new file that only its owner may read. Save it before the slot is added: a slot whose
    /// key was lost opens nothing.
    ///
    /// # Errors
    /// `Conflict` where a file stands there; `Denied`, `Exhausted`, `NotFound`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let key = Zeroizing::new(hex(self.secret.expose()));
        let text = Zeroizing::new(format!("{TITLE}\nslot {}\nkey {}\n", self.slot, key.as_str()));
        save_text("create key file", path, &text)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// `NotFound`, `Denied`; `Invalid` where it is no key file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = load_text("read key file", path, LENGTH_MAX)?;
        Self::from_text(&text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "read key file", path.display().to_string())
                .detail("it is not a key file of lifeboat")
        })
    }

    /// Says whether others than its owner can read the file, for a warning: what mounts secrets often
    /// cannot do better.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub fn is_exposed(path: &Path) -> Result<bool> {
        is_open_to_others_at("look at key file", path)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next()? != TITLE {
            return None;
        }
        let slot = from_hex(lines.next()?.strip_prefix("slot ")?)?;
        let key = Zeroizing::new(from_hex(lines.next()?.strip_prefix("key ")?)?);
        lines.next().is_none().then(|| Self { slot: WriterId(slot), secret: Secret::new(*key) })
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({})", self.slot)
    }
}

/// Writes a secret text into a new file that only its owner may read.
///
/// # Errors
/// `Conflict` where a file stands there; `Denied`, `Exhausted`, `NotFound`.
pub(super) fn save_text(action: &'static str, path: &Path, text: &str) -> Result<()> {
    let written = create_private(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| file_error(action, path, error))
}

/// Reads a secret text; what is longer than it may be is cut off and then makes no sense.
///
/// # Errors
/// `NotFound`, `Denied`, `Invalid`.
pub(super) fn load_text(
    action: &'static str,
    path: &Path,
    bytes_max: u64,
) -> Result<Zeroizing<String>> {
    // Reserved at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(bytes_max).unwrap_or(0)));
    File::open(path)
        .and_then(|file| file.take(bytes_max).read_to_string(&mut text))
        .map_err(|error| file_error(action, path, error))?;
    Ok(text)
}

/// Says whether others than its owner can read a file.
///
/// # Errors
/// `NotFound`, `Denied`.
pub(super) fn is_open_to_others_at(action: &'static str, path: &Path) -> Result<bool> {
    let metadata = std::fs::metadata(path).map_err(|error| file_error(action, path, error))?;
    Ok(is_open_to_others(&metadata))
}

fn file_error(action: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        io::ErrorKind::InvalidData => ErrorKind::Invalid,
        _ => crate::store::io_kind(&error),
    };
    Error::new(kind, action, path.display().to_string()).because(error)
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn is_open_to_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

/// Other systems guard files by lists that these bits do not show.
#[cfg(not(unix))]
fn is_open_to_others(_metadata: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::Repeatable;

    #[test]
    fn a_key_file_is_private_text_that_is_never_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key");
        let key = KeyFile::generate(&Repeatable::new(1));
        key.save(&path).expect("save");
        assert_eq!(
            std::fs::read_to_string(&path).expect("read"),
            format!("{TITLE}\nslot {}\nkey {}\n", key.slot, hex(key.secret.expose())),
        );
        assert!(!KeyFile::is_exposed(&path).expect("look"));
        assert_eq!(key.save(&path).expect_err("again").kind(), ErrorKind::Conflict);

        let read = KeyFile::load(&path).expect("load");
        assert_eq!((read.slot, read.secret.expose()), (key.slot, key.secret.expose()));
        assert!(!format!("{key:?}").contains(&hex(key.secret.expose())));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_found_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key");
        KeyFile::generate(&Repeatable::new(1)).save(&path).expect("save");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("mode");
        assert!(KeyFile::is_exposed(&path).expect("look"));
    }

    #[test]
    fn other_texts_are_no_key_files() {
        let good = format!("{TITLE}\nslot {}\n\n key {}\r\n", "ab".repeat(16), "cd".repeat(32));
        assert!(KeyFile::from_text(&good).is_some(), "typed by hand");
        for bad in [
            String::new(),
            good.replace("file 1", "file 2"),
            good.replace("slot ", ""),
            good.replace("ab", "AB"),
            good.replace("cd", ""),
            format!("{good}more"),
        ] {
            assert!(KeyFile::from_text(&bad).is_none(), "{bad}");
        }
        let missing = KeyFile::load(Path::new("/nowhere/at/all")).expect_err("missing");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
