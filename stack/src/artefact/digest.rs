//! The digest of a folder: names, what can be run, links and contents. Times and owners do not count.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use blake3::Hasher;

/// Folders that programs write into what they were loaded from; they do not count.
const SCRATCH: &str = "__pycache__";

/// Computes it.
pub fn of_tree(root: &Path) -> io::Result<String> {
    let mut hasher = Hasher::new_derive_key("lifeboat stack: digest of a folder");
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let path = root.join(&relative);
        let metadata = path.symlink_metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&path)? {
                let name = entry?.file_name();
                if name != SCRATCH {
                    entries.push(relative.join(name));
                }
            }
            // Taken from the end, so that they come in ascending order.
            entries.sort_by(|a, b| b.cmp(a));
            field(&mut hasher, b"d", relative.as_os_str().as_bytes());
            open.append(&mut entries);
        } else if kind.is_symlink() {
            field(&mut hasher, b"l", relative.as_os_str().as_bytes());
            field(&mut hasher, b"t", fs::read_link(&path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            let is_program = metadata.permissions().mode() & 0o100 != 0;
            let mark: &[u8] = if is_program { b"x" } else { b"f" };
            field(&mut hasher, mark, relative.as_os_str().as_bytes());
            let mut content = Hasher::new();
            content.update_reader(File::open(&path)?)?;
            field(&mut hasher, b"c", content.finalize().as_bytes());
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn field(hasher: &mut Hasher, mark: &[u8], bytes: &[u8]) {
    hasher.update(mark).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn whatever_counts_changes_it_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        let digest = || of_tree(folder.path()).expect("digest");
        fs::create_dir_all(path("sub/empty")).expect("folder");
        fs::write(path("sub/file"), "content").expect("write");
        symlink("file", path("sub/link")).expect("link");
        let first = digest();
        assert_eq!(first, digest());
        fs::create_dir(path("sub/__pycache__")).expect("folder");
        fs::write(path("sub/__pycache__/x.pyc"), "x").expect("write");
        assert_eq!(first, digest(), "scratch does not count");

        let mut seen = vec![first];
        let mut differs = |what: &str| {
            let digest = digest();
            assert!(!seen.contains(&digest), "{what}");
            seen.push(digest);
        };
        fs::write(path("sub/file"), "Content").expect("write");
        differs("content");
        fs::set_permissions(path("sub/file"), fs::Permissions::from_mode(0o755)).expect("mode");
        differs("mode");
        fs::remove_file(path("sub/link")).expect("remove");
        symlink("File", path("sub/link")).expect("link");
        differs("target");
        fs::remove_dir(path("sub/empty")).expect("remove");
        differs("an empty folder less");
        fs::rename(path("sub/file"), path("sub/gile")).expect("rename");
        differs("name");
    }
}
