//! Where the key of a repository comes from. Never from an argument.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::{Error, ErrorKind, Result};
use policies::KeySource;
use repository::crypto::{Identity, KeyFile, Passphrase, Share, ShareSet, Unlock};
use zeroize::Zeroizing;

use crate::environment::Environment;

/// The longest passphrase that is read, in bytes.
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// A key at hand.
#[derive(Debug)]
pub struct Key {
    /// What opens a key slot.
    pub unlock: Unlock,
    /// What its owner should know about the place that it came from.
    pub warning: Option<String>,
}

/// Fetches the key from its source.
///
/// # Errors
/// `NotFound`, `Denied`, `Invalid` with the place and never with what was found there.
pub fn fetch(source: &KeySource, environment: &Environment) -> Result<Key> {
    let (unlock, warning) = match source {
        KeySource::KeyFile(path) => {
            let unlock = Unlock::KeyFile(KeyFile::load(path)?);
            let is_exposed = KeyFile::is_exposed(path)?;
            let warning = format!("others can read the key file {}", path.display());
            (unlock, is_exposed.then_some(warning))
        }
        KeySource::PassphraseFile(path) => {
            let text = read_small_file("read passphrase file", path, PASSPHRASE_BYTES_MAX)?;
            (passphrase(&text, &path.display().to_string())?, None)
        }
        KeySource::PassphraseCommand(words) => (from_command(words)?, None),
        KeySource::PassphraseEnvironment(name) => {
            let text = environment.text(name)?.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "read environment variable", name.as_str())
                    .detail("it is not set, and the passphrase was to be in it")
            })?;
            (passphrase(text, name)?, None)
        }
        KeySource::IdentityFile(path) => {
            let unlock = Unlock::Identity(Identity::load(path)?);
            let is_exposed = Identity::is_exposed(path)?;
            let warning = format!("others can read the identity {}", path.display());
            (unlock, is_exposed.then_some(warning))
        }
        KeySource::ShareFiles(paths) => (shares(paths)?, None),
    };
    Ok(Key { unlock, warning })
}

/// Reads recovery shares and puts them together.
///
/// # Errors
/// `NotFound`, `Denied`; `Invalid` where one was mistyped or they do not go together.
pub fn shares(paths: &[PathBuf]) -> Result<Unlock> {
    let shares = paths.iter().map(|path| Share::load(path)).collect::<Result<Vec<_>>>()?;
    ShareSet::combine(&shares).map(Unlock::Shares)
}

/// Reads a file with the public key of a recipient.
///
/// # Errors
/// `NotFound`, `Denied`, `Invalid`.
pub fn read_recipient_file(path: &Path) -> Result<String> {
    read_small_file("read recipient file", path, PASSPHRASE_BYTES_MAX).map(|text| text.to_string())
}

/// Asks for a passphrase at the terminal; twice where a new one is chosen.
///
/// # Errors
/// `Invalid` where there is no terminal, nothing was typed, or the second one differs.
pub fn ask(question: &str, twice: bool) -> Result<Unlock> {
    let read = |question: &str| {
        let typed = rpassword::prompt_password(format!("{question}: ")).map_err(|error| {
            Error::new(ErrorKind::Invalid, "ask for passphrase", "")
                .detail("no key is given, and there is no terminal to ask at")
                .because(error)
        });
        typed.map(Zeroizing::new)
    };
    let typed = read(question)?;
    if twice && read("The same again")? != typed {
        return Err(Error::new(ErrorKind::Invalid, "ask for passphrase", "")
            .detail("the two differ; nothing was done"));
    }
    passphrase(&typed, "the terminal")
}

/// The first line of a text is the passphrase.
fn passphrase(text: &str, place: &str) -> Result<Unlock> {
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
    Passphrase::new(line).map(Unlock::Passphrase).map_err(|error| {
        Error::new(ErrorKind::Invalid, "take passphrase from", place).because(error)
    })
}

fn from_command(words: &[String]) -> Result<Unlock> {
    const ACTION: &str = "run passphrase command";
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Error::new(ErrorKind::Invalid, ACTION, "").detail("it names no program"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, ACTION, program.as_str()).because(error)
    })?;
    let text = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(Error::new(ErrorKind::Invalid, ACTION, program.as_str())
            .detail(format!("it failed ({})", output.status)));
    }
    let text = std::str::from_utf8(&text).map_err(|_| {
        Error::new(ErrorKind::Invalid, ACTION, program.as_str())
            .detail("what it printed is not UTF-8")
    })?;
    passphrase(text, program)
}

/// Reads a short file of text.
pub(crate) fn read_small_file(
    action: &'static str,
    path: &Path,
    bytes_max: u64,
) -> Result<Zeroizing<String>> {
    let failed = |kind| Error::new(kind, action, path.display().to_string());
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text));
    read.map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::IsADirectory => {
                ErrorKind::Invalid
            }
            _ => ErrorKind::Unavailable,
        };
        failed(kind).because(error)
    })?;
    if text.len() as u64 > bytes_max {
        return Err(failed(ErrorKind::Invalid).detail(format!("longer than {bytes_max} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(source: &KeySource) -> ErrorKind {
        let environment = Environment::of_pairs(Path::new("/"), &[("EMPTY", "\n")]);
        fetch(source, &environment).expect_err("no key").kind()
    }

    fn words(line: &str) -> KeySource {
        KeySource::PassphraseCommand(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn each_source_gives_a_key() {
        let folder = tempfile::tempdir().expect("folder");
        let key = folder.path().join("key");
        KeyFile::generate(&crate::ports::OsEntropy).save(&key).expect("save");
        let text = folder.path().join("passphrase");
        std::fs::write(&text, "open sesame\nsecond line\n").expect("write");
        let environment = Environment::of_pairs(folder.path(), &[("WORDS", "open sesame")]);
        let found = fetch(&KeySource::KeyFile(key), &environment).expect("key file");
        assert!(matches!(found.unlock, Unlock::KeyFile(_)) && found.warning.is_none());
        let identity = folder.path().join("identity");
        Identity::generate(&crate::ports::OsEntropy).and_then(|i| i.save(&identity)).expect("save");
        let found = fetch(&KeySource::IdentityFile(identity), &environment).expect("identity");
        assert!(matches!(found.unlock, Unlock::Identity(_)) && found.warning.is_none());
        let repository = repository::types::RepositoryId([1; 16]);
        let made = ShareSet::generate(repository, 2, 3, &crate::ports::OsEntropy).expect("shares");
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        for (share, path) in made.1.iter().zip(&paths) {
            share.save(path).expect("save");
        }
        let found = fetch(&KeySource::ShareFiles(paths[1..].to_vec()), &environment);
        assert!(matches!(found.expect("shares").unlock, Unlock::Shares(_)));
        assert_eq!(kind_of(&KeySource::ShareFiles(paths[..1].to_vec())), ErrorKind::Invalid);
        for source in [
            KeySource::PassphraseFile(text),
            KeySource::PassphraseEnvironment("WORDS".to_owned()),
            words("echo open sesame"),
        ] {
            let found = fetch(&source, &environment).expect("passphrase");
            assert!(matches!(found.unlock, Unlock::Passphrase(_)), "{source:?}");
            assert!(!format!("{found:?}").contains("sesame"), "a secret is shown");
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_exposed_key_file_is_warned_of() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let key = folder.path().join("key");
        KeyFile::generate(&crate::ports::OsEntropy).save(&key).expect("save");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("mode");
        let found = fetch(&KeySource::KeyFile(key), &Environment::default()).expect("key file");
        assert!(found.warning.is_some_and(|warning| warning.contains("others can read")));
    }

    #[test]
    fn a_source_that_gives_nothing_says_why() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty"), "\n").expect("write");
        std::fs::write(path("long"), "x".repeat(5000)).expect("write");
        std::fs::write(path("bytes"), [0xff, 0xfe]).expect("write");
        let (not_found, invalid) = (ErrorKind::NotFound, ErrorKind::Invalid);
        for (source, kind) in [
            (KeySource::KeyFile(path("missing")), not_found),
            (KeySource::KeyFile(path("empty")), invalid),
            (KeySource::PassphraseFile(path("missing")), not_found),
            (KeySource::PassphraseFile(path("empty")), invalid),
            (KeySource::PassphraseFile(path("long")), invalid),
            (KeySource::PassphraseFile(path("bytes")), invalid),
            (KeySource::PassphraseEnvironment("UNSET".to_owned()), not_found),
            (KeySource::PassphraseEnvironment("EMPTY".to_owned()), invalid),
            (KeySource::IdentityFile(path("missing")), not_found),
            (KeySource::IdentityFile(path("long")), invalid),
            (KeySource::ShareFiles(vec![path("missing")]), not_found),
            (KeySource::ShareFiles(vec![path("long")]), invalid),
            (KeySource::ShareFiles(Vec::new()), invalid),
            (words("no-such-program-anywhere"), not_found),
            (words("false"), invalid),
            (words("true"), invalid),
        ] {
            assert_eq!(kind_of(&source), kind, "{source:?}");
        }
    }
}
