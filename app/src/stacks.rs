//! Stacks of local servers: where they live on this host, and their descriptions.

use std::path::{Path, PathBuf};

use model::{Error, ErrorKind, Result};
use stack::{Description, Place};

use crate::environment::Environment;

pub use stack::{Fetched, MemoryLimit, Options, Provided, Record, Running, ServerRecord, Stack};
pub use stack::{fetch, find, list};

/// Returns where stacks live.
///
/// # Errors
/// As [`Place::of_variables`].
pub fn place(environment: &Environment, is_offline: bool) -> Result<Place> {
    Ok(Place::of_variables(environment.variables())?.offline(is_offline))
}

/// Reads a description from a file. Returns its absolute path too: stacks are found by it.
///
/// # Errors
/// `NotFound`; `Invalid`: what makes no sense, and where.
pub fn read(environment: &Environment, path: &Path) -> Result<(Description, PathBuf)> {
    let path = origin(environment, path);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Invalid,
        };
        Error::new(kind, "read description", path.display().to_string()).because(error)
    })?;
    // The name of the file, as far as a name may have its letters.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let name: String = stem.chars().map(|c| if fits(c) { c } else { '-' }).take(40).collect();
    let name = name.trim_start_matches('-');
    let name = if name.is_empty() { "stack" } else { name };
    Ok((Description::parse(&text, name)?, path))
}

/// Returns the path by which a stack is found, whatever led to its file.
pub fn origin(environment: &Environment, path: &Path) -> PathBuf {
    let path = environment.absolute(path);
    path.canonicalize().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_named_after_its_file() {
        let folder = tempfile::tempdir().expect("folder");
        let environment = Environment::of_pairs(folder.path(), &[]);
        let text = "server = [{ name = \"s3\", recipe = \"versitygw\" }]";
        for (file, name) in [
            ("objects.toml", "objects"),
            ("My Site.toml", "my-site"),
            ("-x.toml", "x"),
            ("é", "stack"),
        ] {
            std::fs::write(folder.path().join(file), text).expect("write");
            let (description, path) = read(&environment, Path::new(file)).expect(file);
            assert_eq!(description.name, name);
            assert!(path.is_absolute() && path.ends_with(file));
        }
        let missing = read(&environment, Path::new("none.toml")).expect_err("missing");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        std::fs::write(folder.path().join("bad.toml"), "a = 1").expect("write");
        let bad = read(&environment, Path::new("bad.toml")).expect_err("bad");
        assert_eq!(bad.kind(), ErrorKind::Invalid);
    }
}
