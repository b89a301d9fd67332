//! The surroundings of the process, read once: variables, the current folder, the host's name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use model::{Error, ErrorKind, Result};

/// Settings of object stores, by how their names begin. Others of the same meaning (`TOKEN`, `REGION`)
/// are too common to be meant.
const STORE_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];
/// What stands before the name of a setting that is meant for a copy alone.
const COPY_PREFIX: &str = "LIFEBOAT_COPY_";

/// What the process was given by those who started it.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    folder: PathBuf,
}

impl Environment {
    /// Reads that of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }

    /// Makes one up: for tests.
    pub fn of_pairs(folder: &Path, pairs: &[(&str, &str)]) -> Self {
        Self {
            variables: pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            folder: folder.to_owned(),
        }
    }

    /// Returns a variable; an empty one counts as missing.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// Returns a variable as text.
    ///
    /// # Errors
    /// `Invalid` where it is none. The value is not repeated: it may be a secret.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        let refuse = || {
            Error::new(ErrorKind::Invalid, "read environment variable", name)
                .detail("its value is not UTF-8")
        };
        self.get(name).map(|value| value.to_str().ok_or_else(refuse)).transpose()
    }

    /// Returns a variable as an absolute path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|value| self.absolute(Path::new(value)))
    }

    /// Returns all variables: what is started for the user gets them.
    pub fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone()))
    }

    /// Returns the folder in which the process was started.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a path absolute, seen from the current folder; `.` and doubled slashes are dropped.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.folder.join(path).components().collect()
    }

    /// Returns the folder for what can be rebuilt; none where nothing says which.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        self.path("LIFEBOAT_CACHE").or_else(|| {
            let caches = self.path("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(self.path("HOME")?.join(".cache")));
            caches.map(|folder| folder.join("lifeboat"))
        })
    }

    /// Lists where a policy is looked for, best first.
    pub fn policy_places(&self) -> Vec<PathBuf> {
        let config = self.path("XDG_CONFIG_HOME");
        let config = config.or_else(|| Some(self.path("HOME")?.join(".config")));
        [
            Some(self.folder.clone()),
            config.map(|f| f.join("lifeboat")),
            Some("/etc/lifeboat".into()),
        ]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("lifeboat.toml"))
        .collect()
    }

    /// Returns the variables that are settings of object stores; an empty one counts as missing.
    pub fn store_options(&self) -> BTreeMap<String, String> {
        self.variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
            .filter(|(_, value)| !value.is_empty())
            .filter(|(name, _)| is_store_option(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Returns the settings of the store that holds a copy: those of all stores, and instead of any of
    /// them what stands under its name behind `LIFEBOAT_COPY_`. An empty one takes away the other.
    pub fn copy_options(&self) -> BTreeMap<String, String> {
        let mut options = self.store_options();
        let own = self.variables.iter().filter_map(|(name, value)| {
            Some((name.to_str()?.strip_prefix(COPY_PREFIX)?, value.to_str()?))
        });
        for (name, value) in own.filter(|(name, _)| is_store_option(name)) {
            if value.is_empty() {
                options.remove(name);
            } else {
                options.insert(name.to_owned(), value.to_owned());
            }
        }
        options
    }

    /// Returns what this host is called: `LIFEBOAT_HOST`, or as the kernel says.
    ///
    /// # Errors
    /// `Invalid` where the variable is not UTF-8.
    pub fn host(&self) -> Result<String> {
        if let Some(host) = self.text("LIFEBOAT_HOST")? {
            return Ok(host.to_owned());
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(if host.is_empty() { "localhost".to_owned() } else { host })
    }
}

fn is_store_option(name: &str) -> bool {
    STORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_may_have_settings_of_its_own() {
        let pairs = [
            ("AWS_REGION", "here"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SESSION_TOKEN", "t"),
            ("LIFEBOAT_COPY_AWS_ACCESS_KEY_ID", "b"),
            ("LIFEBOAT_COPY_AWS_SESSION_TOKEN", ""),
            ("LIFEBOAT_COPY_REGION", "there"),
            ("LIFEBOAT_CACHE", "/c"),
        ];
        let environment = Environment::of_pairs(Path::new("/"), &pairs);
        let shown = |options: BTreeMap<String, String>| {
            let words: Vec<_> =
                options.iter().map(|(name, value)| format!("{name}={value}")).collect();
            words.join(" ")
        };
        assert_eq!(
            shown(environment.store_options()),
            "AWS_ACCESS_KEY_ID=a AWS_REGION=here AWS_SESSION_TOKEN=t"
        );
        assert_eq!(shown(environment.copy_options()), "AWS_ACCESS_KEY_ID=b AWS_REGION=here");
    }

    #[test]
    fn places_follow_conventions() {
        let folder = Path::new("/srv/site");
        let environment = Environment::of_pairs(folder, &[("HOME", "/home/a")]);
        assert_eq!(environment.cache_folder(), Some("/home/a/.cache/lifeboat".into()));
        let places = environment.policy_places();
        let expected = [
            "/srv/site/lifeboat.toml",
            "/home/a/.config/lifeboat/lifeboat.toml",
            "/etc/lifeboat/lifeboat.toml",
        ];
        assert_eq!(places, expected.map(PathBuf::from));
        let pairs = [("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_CONFIG_HOME", "/x")];
        let environment = Environment::of_pairs(folder, &pairs);
        assert_eq!(environment.cache_folder(), Some("/c/lifeboat".into()));
        assert_eq!(environment.policy_places()[1], Path::new("/x/lifeboat/lifeboat.toml"));
        let environment = Environment::of_pairs(folder, &[("LIFEBOAT_CACHE", "cache")]);
        assert_eq!(environment.cache_folder(), Some("/srv/site/cache".into()));
        assert_eq!(Environment::of_pairs(folder, &[]).cache_folder(), None);
    }

    #[test]
    fn an_empty_variable_is_a_missing_one() {
        let environment = Environment::of_pairs(Path::new("/"), &[("A", ""), ("B", "b")]);
        assert_eq!(environment.text("A").expect("text"), None);
        assert_eq!(environment.text("B").expect("text"), Some("b"));
    }

    #[test]
    fn only_settings_of_stores_reach_stores() {
        let pairs = [
            ("AWS_REGION", "x"),
            ("AWS_ENDPOINT", ""),
            ("TOKEN", "t"),
            ("AZURE_A", "y"),
            ("PATH", "/bin"),
        ];
        let options = Environment::of_pairs(Path::new("/"), &pairs).store_options();
        assert_eq!(options.into_keys().collect::<Vec<_>>(), ["AWS_REGION", "AZURE_A"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_text_is_refused_without_being_shown() {
        use std::os::unix::ffi::OsStringExt as _;
        let mut environment = Environment::default();
        environment.variables.insert("A".into(), OsString::from_vec(vec![b's', 0xff]));
        let error = environment.text("A").expect_err("not UTF-8");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.chain(), "read environment variable A: its value is not UTF-8");
    }
}
