//! Which names are captured: include and exclude patterns.
//!
//! A pattern without `/` is compared with the name, at any depth. A pattern with one is compared
//! with the absolute path, and begins with `/` or `**/`. `*` and `?` stay within a name, `**` does not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use model::{Error, ErrorKind, Result};

/// Compiled patterns.
#[derive(Debug)]
pub(super) struct Selection {
    include: Patterns,
    exclude: Patterns,
}

#[derive(Debug)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Selection {
    /// Compiles.
    ///
    /// # Errors
    /// `Invalid` for a pattern that is none, or that could never match.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        Ok(Self { include: Patterns::new(include)?, exclude: Patterns::new(exclude)? })
    }

    /// Says whether any pattern is compared with paths.
    pub(super) fn uses_paths(&self) -> bool {
        !self.include.paths.is_empty() || !self.exclude.paths.is_empty()
    }

    /// Says whether a name, and all below it, is left out. `path` is absolute.
    pub(super) fn excludes(&self, name: &[u8], path: &[u8]) -> bool {
        self.exclude.matches(name, path)
    }

    /// Says whether what is not a directory is captured, if it is not excluded.
    pub(super) fn includes(&self, name: &[u8], path: &[u8]) -> bool {
        self.include.is_empty() || self.include.matches(name, path)
    }
}

impl Patterns {
    fn new(patterns: &[String]) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let refuse = |why: &str| {
                Error::new(ErrorKind::Invalid, "read pattern", pattern.clone()).detail(why)
            };
            let trimmed = pattern.strip_suffix('/').unwrap_or(pattern);
            if trimmed.is_empty() {
                return Err(refuse("empty"));
            }
            let is_path = trimmed.contains('/');
            if is_path && !trimmed.starts_with('/') && !trimmed.starts_with("**/") {
                return Err(refuse("a path begins with / or **/"));
            }
            let glob = GlobBuilder::new(trimmed).literal_separator(true).build();
            let glob = glob.map_err(|error| refuse("not a pattern").because(error))?;
            if is_path {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let build = |builder: GlobSetBuilder| {
            let refuse = |error| Error::new(ErrorKind::Invalid, "read patterns", "").because(error);
            builder.build().map_err(refuse)
        };
        Ok(Self { names: build(names)?, paths: build(paths)? })
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    fn matches(&self, name: &[u8], path: &[u8]) -> bool {
        (!self.names.is_empty() && self.names.is_match(OsStr::from_bytes(name)))
            || (!self.paths.is_empty() && self.paths.is_match(OsStr::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(path: &str) -> &str {
        path.rsplit('/').next().unwrap_or(path)
    }

    fn excludes(pattern: &str, path: &str) -> bool {
        let selection = Selection::new(&[], &[pattern.to_owned()]).expect("sound pattern");
        selection.excludes(name_of(path).as_bytes(), path.as_bytes())
    }

    #[test]
    fn names_match_at_any_depth_and_paths_from_the_root() {
        let cases = [
            ("*.log", "/var/log/a.log", true),
            ("*.log", "/var/a.log/b", false),
            ("cache", "/a/b/cache", true),
            ("cache/", "/a/b/cache", true),
            ("cache", "/a/b/cached", false),
            ("c?che", "/a/cache", true),
            ("[ab].txt", "/x/b.txt", true),
            ("{a,b}", "/x/b", true),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/a/b", "/a/b", true),
            ("/a/b", "/x/a/b", false),
            ("**/a/b", "/x/a/b", true),
            ("\\*", "/a/*", true),
            ("\\*", "/a/b", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(excludes(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn nothing_given_includes_everything() {
        let check = |include: &[&str], path: &str| {
            let include: Vec<_> = include.iter().map(|&pattern| pattern.to_owned()).collect();
            let selection = Selection::new(&include, &[]).expect("sound patterns");
            selection.includes(name_of(path).as_bytes(), path.as_bytes())
        };
        assert!(check(&[], "/a/b"));
        assert!(check(&["*.conf", "/a/**"], "/a/b"));
        assert!(check(&["*.conf", "/a/**"], "/b/c.conf"));
        assert!(!check(&["*.conf", "/a/**"], "/b/c"));
    }

    #[test]
    fn names_need_not_be_text() {
        let selection = Selection::new(&[], &["a*".into()]).expect("sound pattern");
        assert!(selection.excludes(b"a\xff\n", b"/a\xff\n"));
    }

    #[test]
    fn a_pattern_that_never_matches_is_refused() {
        for pattern in ["", "/", "a/b", "[", "{a"] {
            let error = Selection::new(&[pattern.to_owned()], &[]).expect_err(pattern);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{pattern}");
        }
    }
}
