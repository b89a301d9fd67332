//! A policy that makes sense: what is protected and where it is kept.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use model::{SiteName, SystemName};
use toml::Spanned;

use crate::error::PolicyError;
use crate::nearest::nearest;
use crate::schema::{RawCommand, RawFiles, RawPolicy, RawRepository};
use crate::units::{parse_bytes, parse_duration};

/// The least memory with which packs can be filled.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// One site's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The site's name.
    pub site: SiteName,
    /// How much memory one job may use, in bytes; none: the default.
    pub memory_bytes: Option<u64>,
    /// The protected directories, in the file's order.
    pub files: Vec<FilesPolicy>,
    /// Where captures are kept. Commands use the first unless told.
    pub repositories: Vec<RepositoryPolicy>,
}

/// Directories that are captured together under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesPolicy {
    /// The system's name, unique in the policy.
    pub name: SystemName,
    /// Absolute paths, none within another.
    pub paths: Vec<PathBuf>,
    /// Globs of what is captured; empty: everything.
    pub include: Vec<String>,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// Whether other file systems mounted below the paths are left out.
    pub one_file_system: bool,
    /// Whether directories that carry a `CACHEDIR.TAG` are left out.
    pub skip_caches: bool,
    /// Read-only commands whose output is captured.
    pub commands: Vec<CommandPolicy>,
}

/// A command whose output is captured as an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPolicy {
    /// The item's name, unique in its system.
    pub name: String,
    /// Program and arguments; no shell is involved.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPolicy {
    /// A URL of an object store, or an absolute path.
    pub url: String,
    /// Where the store of that URL is found.
    pub place: StorePlace,
    /// Where its key comes from; none: flags, the environment or a prompt.
    pub key: Option<KeySource>,
}

/// Where an object store is found, beyond its URL. No credential is among it: every backup stores the
/// policy too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorePlace {
    /// The address of the service, where it is not the usual one.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// The account of an Azure container.
    pub account: Option<String>,
}

/// Where a repository's key comes from. Names of places only: no secret stands in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A key file.
    KeyFile(PathBuf),
    /// A file whose first line is the passphrase.
    PassphraseFile(PathBuf),
    /// A program with arguments that prints the passphrase.
    PassphraseCommand(Vec<String>),
    /// An environment variable that holds the passphrase.
    PassphraseEnvironment(String),
    /// The identity of a recipient.
    IdentityFile(PathBuf),
    /// Files with recovery shares. Never in a policy: who keeps them together has not split anything.
    ShareFiles(Vec<PathBuf>),
}

impl Policy {
    /// Reads and checks a policy file's text.
    ///
    /// # Errors
    /// The first fault with its line, its column and, for a mistyped key, the nearest right one.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let raw: RawPolicy = toml::from_str(text).map_err(|error| explain(text, &error))?;
        Checker { text }.policy(raw)
    }
}

/// Turns the TOML reader's error into ours. Its message names the keys that it would have known.
fn explain(text: &str, error: &toml::de::Error) -> PolicyError {
    let message = error.message().trim_end().replace('\n', "; ").replace("field", "key");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let typed = quoted.next().unwrap_or_default();
    let advice = if message.starts_with("unknown key") {
        nearest(typed, quoted).map(|word| format!("did you mean `{word}`?"))
    } else {
        None
    };
    let found = PolicyError::at(text, error.span().unwrap_or(0..0), &message);
    match advice {
        Some(advice) => {
            PolicyError { message: format!("unknown key `{typed}`"), ..found }.advice(advice)
        }
        None => found,
    }
}

/// Judges the raw values; knows the text so that each fault gets its place.
struct Checker<'t> {
    text: &'t str,
}

impl Checker<'_> {
    fn fault(&self, span: Range<usize>, message: impl Into<String>) -> PolicyError {
        PolicyError::at(self.text, span, message)
    }

    fn policy(&self, raw: RawPolicy) -> Result<Policy, PolicyError> {
        let site = self.name(&raw.site)?;
        let memory_bytes = raw.memory.as_ref().map(|memory| self.memory(memory)).transpose()?;
        let mut names = HashSet::new();
        let mut files = Vec::with_capacity(raw.files.len());
        for system in raw.files {
            if !names.insert(system.name.get_ref().clone()) {
                let message = format!("a second system named {:?}", system.name.get_ref());
                return Err(self.fault(system.name.span(), message));
            }
            files.push(self.files(system)?);
        }
        let mut urls = HashSet::new();
        let mut repositories = Vec::with_capacity(raw.repository.len());
        for repository in raw.repository {
            let url = &repository.get_ref().url;
            if !urls.insert(url.get_ref().trim_end_matches('/').to_owned()) {
                return Err(self.fault(url.span(), "a second repository with this url"));
            }
            repositories.push(self.repository(repository)?);
        }
        Ok(Policy { site, memory_bytes, files, repositories })
    }

    fn name<N: std::str::FromStr<Err = model::Error>>(
        &self,
        raw: &Spanned<String>,
    ) -> Result<N, PolicyError> {
        raw.get_ref().parse().map_err(|error: model::Error| self.fault(raw.span(), error.chain()))
    }

    fn memory(&self, raw: &Spanned<String>) -> Result<u64, PolicyError> {
        let bytes = parse_bytes(raw.get_ref()).map_err(|why| self.fault(raw.span(), why))?;
        if bytes < MEMORY_BYTES_MIN {
            return Err(self.fault(raw.span(), "less than 64 MiB, in which no pack can be filled"));
        }
        Ok(bytes)
    }

    fn files(&self, raw: RawFiles) -> Result<FilesPolicy, PolicyError> {
        if raw.paths.is_empty() && raw.commands.is_empty() {
            let message = format!("system {:?} has neither paths nor commands", raw.name.get_ref());
            return Err(self.fault(raw.name.span(), message));
        }
        let mut paths: Vec<PathBuf> = Vec::with_capacity(raw.paths.len());
        for path in &raw.paths {
            let checked = self.absolute_path(path)?;
            if let Some(other) =
                paths.iter().find(|other| checked.starts_with(other) || other.starts_with(&checked))
            {
                let message = format!("{checked:?} and {other:?} overlap");
                return Err(self
                    .fault(path.span(), message)
                    .advice("one of them is captured with the other"));
            }
            paths.push(checked);
        }
        let mut names = HashSet::new();
        for command in &raw.commands {
            if !names.insert(command.name.get_ref()) {
                let message = format!("a second command named {:?}", command.name.get_ref());
                return Err(self.fault(command.name.span(), message));
            }
        }
        Ok(FilesPolicy {
            name: self.name(&raw.name)?,
            paths,
            include: self.globs(&raw.include)?,
            exclude: self.globs(&raw.exclude)?,
            one_file_system: raw.one_file_system,
            skip_caches: raw.skip_caches,
            commands: raw.commands.iter().map(|raw| self.command(raw)).collect::<Result<_, _>>()?,
        })
    }

    fn absolute_path(&self, raw: &Spanned<String>) -> Result<PathBuf, PolicyError> {
        let path = Path::new(raw.get_ref());
        if !path.is_absolute() {
            return Err(self.fault(raw.span(), format!("{path:?} is not an absolute path")));
        }
        if path.components().any(|part| part == Component::ParentDir)
            || raw.get_ref().contains('\0')
        {
            return Err(self.fault(raw.span(), format!("{path:?} holds \"..\" or a zero byte")));
        }
        // Drops "." and doubled or trailing slashes, so that equal paths compare as equal.
        Ok(path.components().collect())
    }

    fn globs(&self, raw: &[Spanned<String>]) -> Result<Vec<String>, PolicyError> {
        raw.iter()
            .map(|glob| match globset::Glob::new(glob.get_ref()) {
                Ok(_) if !glob.get_ref().is_empty() => Ok(glob.get_ref().clone()),
                Ok(_) => Err(self.fault(glob.span(), "an empty pattern matches nothing")),
                Err(error) => Err(self.fault(glob.span(), error.kind().to_string())),
            })
            .collect()
    }

    fn command(&self, raw: &RawCommand) -> Result<CommandPolicy, PolicyError> {
        let name = raw.name.get_ref();
        let is_fit = name.parse::<SystemName>().is_ok();
        if !is_fit {
            let message = format!("{name:?} cannot name a command");
            return Err(self.fault(raw.name.span(), message).advice("use a-z 0-9 - _"));
        }
        let timeout = match &raw.timeout {
            None => COMMAND_TIMEOUT_DEFAULT,
            Some(text) => {
                let timeout =
                    parse_duration(text.get_ref()).map_err(|why| self.fault(text.span(), why))?;
                if timeout.is_zero() {
                    return Err(self.fault(text.span(), "no command ends within no time"));
                }
                timeout
            }
        };
        Ok(CommandPolicy { name: name.clone(), command: self.words(&raw.command)?, timeout })
    }

    fn words(&self, raw: &Spanned<Vec<String>>) -> Result<Vec<String>, PolicyError> {
        let words = raw.get_ref();
        if words.first().is_none_or(String::is_empty) || words.iter().any(|w| w.contains('\0')) {
            return Err(self.fault(raw.span(), "expected a program and its arguments"));
        }
        Ok(words.clone())
    }

    fn repository(&self, raw: Spanned<RawRepository>) -> Result<RepositoryPolicy, PolicyError> {
        let raw = raw.into_inner();
        let url = self.url(&raw.url)?;
        let mut sources = Vec::new();
        if let Some(path) = &raw.key_file {
            sources.push((path.span(), KeySource::KeyFile(self.absolute_path(path)?)));
        }
        if let Some(path) = &raw.identity_file {
            sources.push((path.span(), KeySource::IdentityFile(self.absolute_path(path)?)));
        }
        if let Some(path) = &raw.passphrase_file {
            sources.push((path.span(), KeySource::PassphraseFile(self.absolute_path(path)?)));
        }
        if let Some(words) = &raw.passphrase_command {
            sources.push((words.span(), KeySource::PassphraseCommand(self.words(words)?)));
        }
        if let Some(name) = &raw.passphrase_env {
            sources.push((name.span(), KeySource::PassphraseEnvironment(self.variable(name)?)));
        }
        sources.sort_by_key(|(span, _)| span.start);
        if let Some((span, _)) = sources.get(1) {
            let message = "a repository has one key source, this is a second one";
            return Err(self.fault(span.clone(), message).advice(
                "keep one of key_file, identity_file, passphrase_file, passphrase_command, passphrase_env",
            ));
        }
        let place = self.place(&url, &raw)?;
        Ok(RepositoryPolicy { url, place, key: sources.pop().map(|(_, source)| source) })
    }

    fn place(&self, url: &str, raw: &RawRepository) -> Result<StorePlace, PolicyError> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        for (key, value, schemes) in [
            ("endpoint", &raw.endpoint, &["s3", "az", "gs"][..]),
            ("region", &raw.region, &["s3"]),
            ("account", &raw.account, &["az"]),
        ] {
            let Some(value) = value else { continue };
            if !schemes.contains(&scheme) {
                let known: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
                let message = format!("{key} goes with a url of {}", known.join(", "));
                return Err(self.fault(value.span(), message));
            }
            if value.get_ref().is_empty() {
                return Err(self.fault(value.span(), format!("the {key} is empty")));
            }
        }
        let endpoint = raw.endpoint.as_ref().map(|endpoint| self.endpoint(endpoint)).transpose()?;
        let text = |value: &Option<Spanned<String>>| value.as_ref().map(|v| v.get_ref().clone());
        Ok(StorePlace { endpoint, region: text(&raw.region), account: text(&raw.account) })
    }

    fn endpoint(&self, raw: &Spanned<String>) -> Result<String, PolicyError> {
        let endpoint = raw.get_ref();
        let rest = ["https://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
        match rest {
            // The text itself is not repeated: errors end up in logs.
            Some(rest) if rest.contains(['@', '?', '#']) => Err(self
                .fault(raw.span(), "an endpoint holds no credentials")
                .advice("credentials come from the environment")),
            Some(rest) if !rest.is_empty() => Ok(endpoint.clone()),
            _ => {
                Err(self
                    .fault(raw.span(), "expected an endpoint, as in \"https://s3.example.org\""))
            }
        }
    }

    fn url(&self, raw: &Spanned<String>) -> Result<String, PolicyError> {
        let url = raw.get_ref();
        let Some((scheme, rest)) = url.split_once("://") else {
            self.absolute_path(raw)
                .map_err(|fault| fault.advice("or a URL, as in \"s3://bucket/folder\""))?;
            return Ok(url.clone());
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(self.fault(raw.span(), format!("{scheme:?} is no URL scheme")));
        }
        // The password itself is not repeated: errors end up in logs.
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(self
                .fault(raw.span(), "a url holds no password")
                .advice("credentials come from the environment"));
        }
        Ok(url.clone())
    }

    fn variable(&self, raw: &Spanned<String>) -> Result<String, PolicyError> {
        let name = raw.get_ref();
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() || !is_plain || name.starts_with(|c: char| c.is_ascii_digit()) {
            let message = "expected the name of an environment variable, not its value";
            return Err(self.fault(raw.span(), message));
        }
        Ok(name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
site = "prod"
memory = "256 MiB"

[[files]]
name = "etc"
paths = ["/etc/", "/opt/./app"]
include = ["**/*.conf"]
exclude = ["*.tmp"]
one_file_system = true
skip_caches = false
commands = [{ name = "packages", command = ["dpkg", "--list"], timeout = "90s" }]

[[files]]
name = "home"
paths = ["/home"]

[[repository]]
url = "s3://bucket/lifeboat"
key_file = "/etc/lifeboat/prod.key"

[[repository]]
url = "/var/backups/lifeboat"
passphrase_command = ["pass", "show", "lifeboat"]
"#;

    #[test]
    fn a_whole_policy_is_read() {
        let policy = Policy::parse(WHOLE).expect("sound policy");
        assert_eq!(policy.site.as_str(), "prod");
        assert_eq!(policy.memory_bytes, Some(256 << 20));
        let etc = &policy.files[0];
        assert_eq!(etc.paths, [Path::new("/etc"), Path::new("/opt/app")]);
        assert!(etc.one_file_system && !etc.skip_caches);
        assert_eq!(etc.commands[0].timeout, Duration::from_secs(90));
        let home = &policy.files[1];
        assert!(!home.one_file_system && home.skip_caches && home.commands.is_empty());
        assert_eq!(
            policy.repositories[0].key,
            Some(KeySource::KeyFile("/etc/lifeboat/prod.key".into()))
        );
        assert!(
            matches!(&policy.repositories[1].key, Some(KeySource::PassphraseCommand(words)) if words.len() == 3)
        );
    }

    #[test]
    fn the_smallest_policy_is_a_site() {
        let policy = Policy::parse("site = \"a\"").expect("sound policy");
        assert!(policy.files.is_empty() && policy.repositories.is_empty());
    }

    /// Replaces the first `from` of the whole policy by `to` and expects the fault there.
    fn check(from: &str, to: &str, expected: &str) {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from}");
        let fault = Policy::parse(&text).expect_err(to);
        assert_eq!(fault.to_string(), expected, "{to}");
    }

    #[test]
    fn mistyped_keys_are_reported_where_they_stand() {
        check("paths", "pahts", "line 7, column 1: unknown key `pahts` (did you mean `paths`?)");
        check(
            "memory",
            "memroy",
            "line 3, column 1: unknown key `memroy` (did you mean `memory`?)",
        );
        check(
            "[[files]]",
            "[[file]]",
            "line 5, column 3: unknown key `file` (did you mean `files`?)",
        );
        check(
            "timeout",
            "time_out",
            "line 12, column 64: unknown key `time_out` (did you mean `timeout`?)",
        );
        check(
            "key_file",
            "keyfile",
            "line 20, column 1: unknown key `keyfile` (did you mean `key_file`?)",
        );
    }

    #[test]
    fn where_a_store_is_found_fits_its_kind() {
        let url = "url = \"s3://bucket/lifeboat\"";
        let with = |line: &str| format!("{url}\n{line}");
        let text = WHOLE.replacen(url, &with("endpoint = \"https://e\"\nregion = \"r\""), 1);
        let place = &Policy::parse(&text).expect("sound policy").repositories[0].place;
        assert_eq!(
            (place.endpoint.as_deref(), place.region.as_deref()),
            (Some("https://e"), Some("r"))
        );
        for (line, expected) in [
            ("account = \"a\"", "line 20, column 11: account goes with a url of az://"),
            ("region = \"\"", "line 20, column 10: the region is empty"),
            (
                "endpoint = \"https://a:b@e\"",
                "line 20, column 12: an endpoint holds no credentials (credentials come from the environment)",
            ),
            (
                "endpoint = \"e\"",
                "line 20, column 12: expected an endpoint, as in \"https://s3.example.org\"",
            ),
        ] {
            check(url, &with(line), expected);
        }
        let local = "url = \"/var/backups/lifeboat\"";
        let message = "line 24, column 12: endpoint goes with a url of s3://, az://, gs://";
        check(local, &format!("{local}\nendpoint = \"https://e\""), message);
    }

    #[test]
    fn bad_values_are_reported_where_they_stand() {
        check(
            "256 MiB",
            "256",
            "line 3, column 10: a number without a unit; use B, KiB, MiB, GiB, TiB, kB, MB, GB or TB",
        );
        check(
            "256 MiB",
            "1 MiB",
            "line 3, column 10: less than 64 MiB, in which no pack can be filled",
        );
        check(
            "90s",
            "90 parsecs",
            "line 12, column 74: unknown unit \"parsecs\"; use ms, s, m, h, d or w",
        );
        check("90s", "0s", "line 12, column 74: no command ends within no time");
        check("\"/etc/\"", "\"etc\"", "line 7, column 10: \"etc\" is not an absolute path");
        check(
            "\"/etc/\"",
            "\"/etc/../x\"",
            "line 7, column 10: \"/etc/../x\" holds \"..\" or a zero byte",
        );
        check("\"*.tmp\"", "\"[\"", "line 9, column 12: unclosed character class; missing ']'");
        check(
            "\"prod\"",
            "\"Prod\"",
            "line 2, column 8: name site \"Prod\": use 1 to 64 of a-z 0-9 - _ and begin with a letter or digit",
        );
        check(
            "\"s3://bucket/lifeboat\"",
            "\"backups\"",
            "line 19, column 7: \"backups\" is not an absolute path (or a URL, as in \"s3://bucket/folder\")",
        );
    }

    #[test]
    fn duplicates_and_impossible_combinations_are_refused() {
        check("\"home\"", "\"etc\"", "line 15, column 8: a second system named \"etc\"");
        check(
            "\"/opt/./app\"",
            "\"/etc/ssh\"",
            "line 7, column 19: \"/etc/ssh\" and \"/etc\" overlap (one of them is captured with the other)",
        );
        check(
            "\"/var/backups/lifeboat\"",
            "\"s3://bucket/lifeboat/\"",
            "line 23, column 7: a second repository with this url",
        );
        check(
            "key_file = \"/etc/lifeboat/prod.key\"",
            "key_file = \"/k\"\npassphrase_env = \"PASS\"",
            "line 21, column 18: a repository has one key source, this is a second one (keep one of key_file, identity_file, passphrase_file, passphrase_command, passphrase_env)",
        );
        check(
            "paths = [\"/home\"]",
            "",
            "line 15, column 8: system \"home\" has neither paths nor commands",
        );
    }

    #[test]
    fn secrets_in_the_wrong_place_are_refused_and_not_repeated() {
        for (from, to) in [
            ("s3://bucket", "s3://user:canary@bucket"),
            ("key_file = \"/etc/lifeboat/prod.key\"", "passphrase_env = \"canary secret!\""),
        ] {
            let fault = Policy::parse(&WHOLE.replacen(from, to, 1)).expect_err(to);
            assert!(!fault.to_string().contains("canary"), "{fault}");
        }
    }
}
