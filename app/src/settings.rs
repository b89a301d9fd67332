//! Settings: flags before the environment before the policy file.

use std::path::{Path, PathBuf};

use model::{Error, ErrorKind, Result, SiteName};
use policies::{KeySource, Policy, RepositoryPolicy, StorePlace};

use crate::environment::Environment;
use crate::words;

/// The longest policy file that is read.
const POLICY_BYTES_MAX: u64 = 1 << 20;

/// What the command line says, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The repository: a URL or a path.
    pub repository: Option<String>,
    /// A key file.
    pub key_file: Option<PathBuf>,
    /// The identity of a recipient.
    pub identity_file: Option<PathBuf>,
    /// Recovery shares.
    pub share_files: Vec<PathBuf>,
    /// A file whose first line is the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A command that prints the passphrase.
    pub passphrase_command: Option<String>,
    /// The policy file.
    pub policy: Option<PathBuf>,
}

/// Whether a policy file is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyUse {
    /// It is: by flag, by variable, or in the places where one is expected.
    Wanted,
    /// It is not: the command works without.
    Ignored,
}

/// A policy file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Its meaning.
    pub policy: Policy,
}

/// What a command works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The surroundings.
    pub environment: Environment,
    /// The policy; none where there is none or it is not used.
    pub policy: Option<PolicyFile>,
    /// The repository; none where nothing names one.
    pub repository: Option<String>,
    /// Where its store is found, as the policy has it.
    pub place: StorePlace,
    /// Where its key comes from; none: it is asked for.
    pub key: Option<KeySource>,
}

impl Settings {
    /// Reads settings.
    ///
    /// # Errors
    /// `Invalid` for a policy or a variable that makes no sense, or two key sources at once; `NotFound`
    /// where a policy that was named is not there; `Denied`.
    pub fn load(flags: &Flags, environment: Environment, policy: PolicyUse) -> Result<Self> {
        let policy = match policy {
            PolicyUse::Wanted => find_policy(flags, &environment)?,
            PolicyUse::Ignored => None,
        };
        let repositories = repositories(policy.as_ref());
        let named = match &flags.repository {
            Some(url) => Some(url.as_str()),
            None => environment.text("LIFEBOAT_REPO")?,
        };
        let named = named.map(|url| absolute_url(url, &environment));
        let chosen = match &named {
            Some(url) => repositories.iter().find(|known| is_same_place(&known.url, url)),
            None => repositories.first(),
        };
        let key = key_of_flags(flags, &environment)?.or(key_of_environment(&environment)?);
        let key = key.or_else(|| chosen.and_then(|known: &RepositoryPolicy| known.key.clone()));
        let place = chosen.map(|known| known.place.clone()).unwrap_or_default();
        let repository = named.or_else(|| chosen.map(|known| known.url.clone()));
        Ok(Self { environment, policy, repository, place, key })
    }

    /// Returns the repository.
    ///
    /// # Errors
    /// `Invalid` where nothing names one.
    pub fn repository(&self) -> Result<&str> {
        self.repository.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "choose repository", "").detail("no repository is named")
        })
    }

    /// Returns where the store of another repository is found, as the policy has it.
    pub fn place_of(&self, url: &str) -> StorePlace {
        let mut known = repositories(self.policy.as_ref()).iter();
        known
            .find(|known| is_same_place(&known.url, url))
            .map_or_else(StorePlace::default, |known| known.place.clone())
    }

    /// Returns the policy file.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub fn policy(&self) -> Result<&PolicyFile> {
        self.policy.as_ref().ok_or_else(|| {
            let places = self.environment.policy_places();
            let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            Error::new(ErrorKind::NotFound, "find policy", "")
                .detail(format!("none of {} is there", places.join(", ")))
        })
    }

    /// Returns the policy's site.
    pub fn site(&self) -> Option<&SiteName> {
        self.policy.as_ref().map(|file| &file.policy.site)
    }

    /// Returns how much memory a job may use, where the policy says it.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.policy.as_ref().and_then(|file| file.policy.memory_bytes)
    }
}

fn repositories(policy: Option<&PolicyFile>) -> &[RepositoryPolicy] {
    policy.map(|file| file.policy.repositories.as_slice()).unwrap_or_default()
}

/// Makes a path absolute and leaves a URL as it is.
pub fn absolute_url(url: &str, environment: &Environment) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    environment.absolute(Path::new(url)).to_string_lossy().into_owned()
}

/// Says whether two URLs or paths name the same place, as far as their text tells.
fn is_same_place(a: &str, b: &str) -> bool {
    let plain = |url: &str| {
        let url = url.strip_prefix("file://").unwrap_or(url);
        url.trim_end_matches('/').to_owned()
    };
    plain(a) == plain(b)
}

fn find_policy(flags: &Flags, environment: &Environment) -> Result<Option<PolicyFile>> {
    let named = flags.policy.as_ref().map(|path| environment.absolute(path));
    if let Some(path) = named.or_else(|| environment.path("LIFEBOAT_POLICY")) {
        return read_policy(&path).map(Some);
    }
    for path in environment.policy_places() {
        match read_policy(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Reads a policy file.
///
/// # Errors
/// `NotFound`, `Denied`; `Invalid` with the place of the fault.
pub fn read_policy(path: &Path) -> Result<PolicyFile> {
    let text = crate::keys::read_small_file("read policy", path, POLICY_BYTES_MAX)?;
    let policy = Policy::parse(&text).map_err(|fault| fault.in_file(path.display().to_string()))?;
    Ok(PolicyFile { path: path.to_owned(), text: text.to_string(), policy })
}

fn key_of_flags(flags: &Flags, environment: &Environment) -> Result<Option<KeySource>> {
    let file = flags.key_file.as_ref().map(|path| KeySource::KeyFile(environment.absolute(path)));
    let passphrase = flags.passphrase_file.as_ref();
    let passphrase = passphrase.map(|path| KeySource::PassphraseFile(environment.absolute(path)));
    let command = flags.passphrase_command.as_ref();
    let command = command.map(|line| words::split(line, "--passphrase-command")).transpose()?;
    let identity = flags.identity_file.as_ref();
    let identity = identity.map(|path| KeySource::IdentityFile(environment.absolute(path)));
    let shares: Vec<_> = flags.share_files.iter().map(|path| environment.absolute(path)).collect();
    let shares = (!shares.is_empty()).then_some(KeySource::ShareFiles(shares));
    let command = command.map(KeySource::PassphraseCommand);
    only_one([file, identity, shares, passphrase, command], "the flags")
}

fn key_of_environment(environment: &Environment) -> Result<Option<KeySource>> {
    const COMMAND: &str = "LIFEBOAT_PASSPHRASE_COMMAND";
    const WORDS: &str = "LIFEBOAT_PASSPHRASE";
    let command = environment.text(COMMAND)?.map(|line| words::split(line, COMMAND)).transpose()?;
    let words = environment.get(WORDS).map(|_| KeySource::PassphraseEnvironment(WORDS.to_owned()));
    let sources = [
        environment.path("LIFEBOAT_KEY_FILE").map(KeySource::KeyFile),
        environment.path("LIFEBOAT_IDENTITY").map(KeySource::IdentityFile),
        environment.path("LIFEBOAT_PASSPHRASE_FILE").map(KeySource::PassphraseFile),
        command.map(KeySource::PassphraseCommand),
        words,
    ];
    only_one(sources, "the environment")
}

/// Two sources at once are a mistake whose outcome nobody should have to guess.
fn only_one(sources: [Option<KeySource>; 5], whose: &str) -> Result<Option<KeySource>> {
    let mut given = sources.into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        return Err(Error::new(ErrorKind::Invalid, "choose key source", "")
            .detail(format!("more than one is given by {whose}")));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "site = \"prod\"\n\n[[files]]\nname = \"etc\"\npaths = [\"/etc\"]\n\n\
        [[repository]]\nurl = \"/first\"\nkey_file = \"/first.key\"\n\n\
        [[repository]]\nurl = \"file:///second/\"\npassphrase_env = \"SECOND\"\n";

    /// Loads settings in a folder with a policy; flags are `name=value` words, variables likewise in
    /// capitals. Shows `repository key`.
    fn load(given: &str) -> Result<String> {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("lifeboat.toml"), POLICY).expect("policy");
        let pairs: Vec<_> = given.split_whitespace().filter_map(|w| w.split_once('=')).collect();
        let flag = |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let flags = Flags {
            repository: flag("repo").map(str::to_owned),
            key_file: flag("key-file").map(PathBuf::from),
            identity_file: flag("identity").map(PathBuf::from),
            share_files: flag("share-file").into_iter().map(PathBuf::from).collect(),
            passphrase_file: flag("passphrase-file").map(PathBuf::from),
            passphrase_command: flag("passphrase-command").map(str::to_owned),
            policy: flag("policy").map(PathBuf::from),
        };
        let environment = Environment::of_pairs(folder.path(), &pairs);
        let settings = Settings::load(&flags, environment, PolicyUse::Wanted)?;
        let key = match settings.key {
            None => "none".to_owned(),
            Some(KeySource::KeyFile(path)) => format!("file {}", path.display()),
            Some(KeySource::PassphraseFile(path)) => format!("passphrase {}", path.display()),
            Some(KeySource::PassphraseCommand(words)) => format!("command {}", words.join("|")),
            Some(KeySource::PassphraseEnvironment(name)) => format!("variable {name}"),
            Some(KeySource::IdentityFile(path)) => format!("identity {}", path.display()),
            Some(KeySource::ShareFiles(paths)) => format!("shares {paths:?}"),
        };
        Ok(format!("{} {key}", settings.repository.unwrap_or_default()))
    }

    #[test]
    fn flags_go_before_the_environment_before_the_policy() {
        for (given, expected) in [
            ("", "/first file /first.key"),
            ("repo=/second", "/second variable SECOND"),
            ("repo=/third", "/third none"),
            ("LIFEBOAT_REPO=/second/", "/second variable SECOND"),
            ("repo=/first LIFEBOAT_REPO=/second", "/first file /first.key"),
            ("repo=s3://b/x", "s3://b/x none"),
            ("LIFEBOAT_KEY_FILE=/k", "/first file /k"),
            ("key-file=/f LIFEBOAT_KEY_FILE=/k", "/first file /f"),
            ("passphrase-file=/p LIFEBOAT_PASSPHRASE=x", "/first passphrase /p"),
            ("identity=/i LIFEBOAT_KEY_FILE=/k", "/first identity /i"),
            ("LIFEBOAT_IDENTITY=/i", "/first identity /i"),
            ("share-file=/s", "/first shares [\"/s\"]"),
            ("passphrase-command=pass", "/first command pass"),
            ("LIFEBOAT_PASSPHRASE=x", "/first variable LIFEBOAT_PASSPHRASE"),
            ("LIFEBOAT_PASSPHRASE_COMMAND=pass", "/first command pass"),
            ("LIFEBOAT_PASSPHRASE_FILE=/p", "/first passphrase /p"),
        ] {
            assert_eq!(load(given).expect(given), expected, "{given}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (given, kind) in [
            ("key-file=/f passphrase-file=/p", ErrorKind::Invalid),
            ("identity=/f share-file=/p", ErrorKind::Invalid),
            ("LIFEBOAT_KEY_FILE=/f LIFEBOAT_PASSPHRASE=x", ErrorKind::Invalid),
            ("passphrase-command='", ErrorKind::Invalid),
            ("policy=/nowhere/lifeboat.toml", ErrorKind::NotFound),
            ("LIFEBOAT_POLICY=/nowhere/lifeboat.toml", ErrorKind::NotFound),
        ] {
            assert_eq!(load(given).expect_err(given).kind(), kind, "{given}");
        }
    }

    #[test]
    fn without_a_policy_the_places_are_named() {
        let environment = Environment::of_pairs(Path::new("/nowhere"), &[]);
        let flags = Flags { repository: Some("/r".to_owned()), ..Flags::default() };
        let settings = Settings::load(&flags, environment, PolicyUse::Ignored).expect("settings");
        let error = settings.policy().expect_err("no policy");
        assert!(error.chain().contains("/nowhere/lifeboat.toml"), "{}", error.chain());
        assert_eq!(settings.repository().expect("repository"), "/r");
        let none = Settings { repository: None, ..settings };
        assert_eq!(none.repository().expect_err("none").kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_fault_in_a_policy_names_file_and_place() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lifeboat.toml");
        std::fs::write(&path, "site = \"prod\"\nsits = 1\n").expect("policy");
        let error = read_policy(&path).expect_err("fault").chain();
        assert!(error.contains("lifeboat.toml: line 2"), "{error}");
    }
}
