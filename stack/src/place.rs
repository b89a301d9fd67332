//! Where a stack lives on this machine: its cache, its records, and the variables that programs are given.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use model::{Error, ErrorKind, Result};

/// Where programs are looked for when nothing says where.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Folders and surroundings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Place {
    variables: BTreeMap<OsString, OsString>,
    cache: PathBuf,
    state: PathBuf,
    is_offline: bool,
}

impl Place {
    /// Takes the folders from variables: artefacts go to `$XDG_CACHE_HOME/lifeboat/stack`, records of what
    /// runs and working folders to `$XDG_STATE_HOME/lifeboat/stack`. The cache can be deleted at any time, the
    /// other only when nothing runs.
    ///
    /// # Errors
    /// `Invalid` where neither they nor `HOME` are set.
    pub fn of_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self> {
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        let get = |name: &str| {
            let path = variables.get(OsStr::new(name)).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let below_home = |rest: &str| Some(get("HOME")?.join(rest));
        let cache = get("LIFEBOAT_CACHE").or_else(|| {
            let caches = get("XDG_CACHE_HOME").or_else(|| below_home(".cache"));
            Some(caches?.join("lifeboat"))
        });
        let states = get("XDG_STATE_HOME").or_else(|| below_home(".local/state"));
        let (Some(cache), Some(states)) = (cache, states) else {
            return Err(Error::new(ErrorKind::Invalid, "find folders for stacks", "")
                .detail("none of HOME, XDG_CACHE_HOME and XDG_STATE_HOME is set"));
        };
        let (cache, state) = (cache.join("stack"), states.join("lifeboat/stack"));
        Ok(Self { variables, cache, state, is_offline: false })
    }

    /// Keeps records and working folders elsewhere.
    #[must_use]
    pub fn with_state(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.state);
        self
    }

    /// Caches elsewhere.
    #[must_use]
    pub fn with_cache(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.cache);
        self
    }

    /// Says that nothing may be fetched.
    #[must_use]
    pub fn offline(mut self, is_offline: bool) -> Self {
        self.is_offline = is_offline;
        self
    }

    /// Whether nothing may be fetched.
    pub fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// Where artefacts are kept.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where records of what runs are kept; each outlives the working folder of its stack.
    pub fn records(&self) -> PathBuf {
        self.state.join("records")
    }

    /// Where working folders are made when nobody names one.
    pub fn works(&self) -> PathBuf {
        self.state.join("work")
    }

    /// Returns all variables: what fetches artefacts gets them, with the settings of proxies and registries.
    pub(crate) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// Returns where programs are looked for, some folders first.
    pub(crate) fn search_path(&self, first: &[PathBuf]) -> OsString {
        let usual = self.variables.get(OsStr::new("PATH")).cloned();
        let usual = usual.filter(|path| !path.is_empty()).unwrap_or_else(|| USUAL_PATH.into());
        let all = first.iter().cloned().chain(std::env::split_paths(&usual));
        // A folder with a colon in its name cannot be said; then the usual ones have to do.
        std::env::join_paths(all).unwrap_or(usual)
    }

    /// Finds a program as a shell would.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.search_path(&[]);
        let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
        candidates.find(|candidate| is_program(candidate))
    }
}

/// Says whether a file can be run.
pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pairs: &[(&str, &str)]) -> Result<Place> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Place::of_variables(pairs)
    }

    #[test]
    fn folders_follow_conventions() {
        for (pairs, cache, state) in [
            (&[("HOME", "/h")][..], "/h/.cache/lifeboat/stack", "/h/.local/state/lifeboat/stack"),
            (
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "/s")],
                "/c/lifeboat/stack",
                "/s/lifeboat/stack",
            ),
            (
                &[("HOME", "/h"), ("LIFEBOAT_CACHE", "/l"), ("XDG_STATE_HOME", "relative")],
                "/l/stack",
                "/h/.local/state/lifeboat/stack",
            ),
        ] {
            let place = place(pairs).expect("folders");
            assert_eq!(
                (place.cache(), place.state.as_path()),
                (Path::new(cache), Path::new(state))
            );
        }
        assert_eq!(place(&[]).expect_err("no folder").kind(), ErrorKind::Invalid);
    }

    #[test]
    fn programs_are_found() {
        let place = place(&[("HOME", "/h")]).expect("place");
        assert!(place.find_program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(place.find_program("no-such-program"), None);
    }
}
