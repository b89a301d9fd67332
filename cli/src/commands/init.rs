//! `lifeboat init`: a repository, its key, and a policy file to go on from.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use app::keys;
use app::settings::{self, PolicyUse, Settings};
use model::{Error, ErrorKind, Result, SiteName, SystemName};
use policies::{FilesPolicy, KeySource, Policy, RepositoryPolicy, render};
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::store::Attach;
use repository::{CreateOptions, Repository};
use serde_json::json;

use super::refuse;
use crate::exit::Exit;
use crate::run::Run;

/// What is protected unless something is named.
const USUAL_PATH: &str = "/etc";
const POLICY_NAME: &str = "lifeboat.toml";
const KEY_NAME: &str = "lifeboat.key";

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is to be protected, written into the policy file [default: /etc]
    paths: Vec<PathBuf>,
    /// The site's name [default: the host's]
    #[arg(long)]
    site: Option<SiteName>,
    /// Open the repository by a passphrase that is asked for, not by a key file
    #[arg(long, conflicts_with_all = ["key_file", "passphrase_file", "passphrase_command"])]
    ask_passphrase: bool,
    /// What the first key is called
    #[arg(long, default_value = "first")]
    label: String,
}

/// The key of the new repository.
struct NewKey {
    unlock: Unlock,
    source: Option<KeySource>,
    /// The key file that was made for it.
    made: Option<PathBuf>,
}

impl Args {
    /// Creates everything.
    ///
    /// # Errors
    /// `Invalid` where no repository is named; `Conflict` where there is one; those of store and disk.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let flags = run.globals.flags();
        let settings = Settings::load(&flags, run.environment.clone(), PolicyUse::Ignored)?;
        let url = settings.repository()?.to_owned();
        let policy_path = flags.policy.unwrap_or_else(|| POLICY_NAME.into());
        let policy_path = run.environment.absolute(&policy_path);
        let policy = self.policy(&url, run)?;
        let store = app::repositories::attach(&settings, Attach::Create, &run.context)?;
        let key = self.new_key(&settings, &policy_path, run)?;
        run.listen();
        let options = CreateOptions {
            label: self.label.clone(),
            cost: PassphraseCost::DEFAULT,
            open: app::repositories::open_options(&settings),
        };
        let created = Repository::create(store, &key.unlock, options, &run.context).await;
        if let (Err(_), Some(path)) = (&created, &key.made) {
            // Nothing was stored that it could open.
            let _ = std::fs::remove_file(path);
        }
        let repository = created?;
        let mut policy = policy;
        policy.repositories = vec![RepositoryPolicy {
            url: url.clone(),
            place: app::repositories::place(&settings),
            key: key.source.clone(),
        }];
        let is_new = write_new(&policy_path, &render(&policy))?;
        let shown =
            Shown { url: &url, policy_path: &policy_path, is_new, key: &key, policy: &policy };
        run.output.result(
            || shown.text(),
            || {
                json!({
                    "repository": url,
                    "id": repository.id().to_string(),
                    "key_file": shown.key_file(),
                    "policy": policy_path.display().to_string(),
                    "is_policy_new": is_new,
                    "site": policy.site.as_str(),
                })
            },
        )?;
        Ok(Exit::Done)
    }

    fn policy(&self, url: &str, run: &Run) -> Result<Policy> {
        let site = match &self.site {
            Some(site) => site.clone(),
            None => plain_name(&run.environment.host()?, "site").parse()?,
        };
        let usual = [PathBuf::from(USUAL_PATH)];
        let paths = if self.paths.is_empty() { &usual[..] } else { &self.paths };
        let paths: Vec<_> = paths.iter().map(|path| run.environment.absolute(path)).collect();
        if let Some(missing) = paths.iter().find(|path| !path.exists()) {
            return Err(refuse("protect", &missing.display().to_string(), "it is not there"));
        }
        if let Some(holds) = paths.iter().find(|path| Path::new(url).starts_with(path)) {
            return Err(refuse("protect", &holds.display().to_string(), "it holds the repository"));
        }
        let name: SystemName = match paths.as_slice() {
            [only] => {
                let last = only.file_name().unwrap_or_default().to_string_lossy().into_owned();
                plain_name(&last, "root").parse()?
            }
            _ => "files".parse()?,
        };
        let files = FilesPolicy {
            name,
            paths,
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            skip_caches: true,
            commands: Vec::new(),
        };
        let policy =
            Policy { site, memory_bytes: None, files: vec![files], repositories: Vec::new() };
        // What the reader of policies refuses is refused before anything is created.
        Policy::parse(&render(&policy)).map_err(|fault| fault.in_file(POLICY_NAME))?;
        Ok(policy)
    }

    fn new_key(&self, settings: &Settings, policy_path: &Path, run: &Run) -> Result<NewKey> {
        if self.ask_passphrase {
            let unlock = keys::ask("A passphrase for the new repository", true)?;
            return Ok(NewKey { unlock, source: None, made: None });
        }
        let beside = policy_path.with_file_name(KEY_NAME);
        let source = settings.key.clone().unwrap_or(KeySource::KeyFile(beside));
        if let KeySource::KeyFile(path) = &source
            && !path.exists()
        {
            let key = KeyFile::generate(run.context.entropy.as_ref());
            key.save(path)?;
            let made = Some(path.clone());
            return Ok(NewKey { unlock: Unlock::KeyFile(key), source: Some(source), made });
        }
        if matches!(source, KeySource::ShareFiles(_)) {
            let why = "shares are added to a repository that is there: `lifeboat key add --shares`";
            return Err(refuse("choose key source", "", why));
        }
        let key = keys::fetch(&source, &run.environment)?;
        key.warning.iter().for_each(|warning| run.progress.warn(warning));
        Ok(NewKey { unlock: key.unlock, source: Some(source), made: None })
    }
}

struct Shown<'s> {
    url: &'s str,
    policy_path: &'s Path,
    is_new: bool,
    key: &'s NewKey,
    policy: &'s Policy,
}

impl Shown<'_> {
    fn key_file(&self) -> Option<String> {
        match &self.key.source {
            Some(KeySource::KeyFile(path)) => Some(path.display().to_string()),
            _ => None,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("created repository {}\n", self.url);
        if let Some(path) = &self.key.made {
            text.push_str(&format!(
                "created key file   {}\n  keep a copy elsewhere: without a key nothing can be restored\n",
                path.display()
            ));
        }
        let policy = self.policy_path.display();
        if self.is_new {
            let paths = self.policy.files.iter().flat_map(|files| &files.paths);
            let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
            text.push_str(&format!(
                "created policy     {policy}, protecting {}\n",
                paths.join(", ")
            ));
        } else {
            text.push_str(&format!("kept policy        {policy}, which was there already\n"));
        }
        let site = &self.policy.site;
        let named = if self.is_new { site.to_string() } else { String::new() };
        text.push_str(&format!(
            "next:\n  lifeboat backup\n  lifeboat points\n  lifeboat restore {named}@latest --to DIR\n"
        ));
        text
    }
}

/// Makes a name of what may be none.
fn plain_name(text: &str, otherwise: &str) -> String {
    let first = text.split('.').find(|part| !part.is_empty()).unwrap_or_default().to_lowercase();
    let plain: String =
        first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let plain: String = plain.trim_matches('-').chars().take(64).collect();
    if plain.is_empty() { otherwise.to_owned() } else { plain }
}

/// Writes a file where none is; says whether it did.
fn write_new(path: &Path, text: &str) -> Result<bool> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            settings::read_policy(path)?;
            return Ok(false);
        }
        Err(error) => Err(error),
        Ok(mut file) => file.write_all(text.as_bytes()).and_then(|()| file.sync_all()),
    };
    written.map(|()| true).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "write policy", path.display().to_string())
            .because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_whatever_there_is() {
        for (text, name) in [
            ("db1.example.org", "db1"),
            ("My Laptop", "my-laptop"),
            ("etc", "etc"),
            (".config", "config"),
            ("", "site"),
            ("ümlaut", "mlaut"),
            ("___", "site"),
        ] {
            assert_eq!(plain_name(text, "site"), name, "{text}");
            assert!(plain_name(text, "site").parse::<SiteName>().is_ok());
        }
    }
}
