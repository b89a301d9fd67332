//! `lifeboat recover`: for three in the morning. A repository and a key are enough to find out what there
//! is, how good it is, how it was protected, and what to type next.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use app::policy_system;
use app::settings::{Flags, PolicyUse, Settings, absolute_url};
use model::{Context, Error, ErrorKind, Result, SiteName};
use operations::browse;
use operations::select;
use policies::{KeySource, Selector, When};
use repository::Repository;
use repository::mark::Mark;
use repository::point::Point;
use serde_json::{Value, json};

use super::points::{age_of_newest, marked_value, points_table, short, survey};
use crate::exit::Exit;
use crate::names;
use crate::run::Run;

/// How many points of a site are shown.
const SHOWN_POINTS: usize = 5;
/// The longest configuration that is fetched.
const POLICY_BYTES_MAX: usize = 1 << 20;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository: a URL or a path
    #[arg(value_name = "URL")]
    url: String,
    /// Only this site
    #[arg(long)]
    site: Option<SiteName>,
    /// Where the configuration of each site is put, as SITE.lifeboat.toml
    #[arg(long, value_name = "DIR", default_value = ".")]
    config_to: PathBuf,
    /// Do not put the configuration anywhere
    #[arg(long)]
    no_config: bool,
}

/// What was found of one site.
struct Found {
    site: SiteName,
    points: Vec<Point>,
    marks: Vec<Mark>,
    /// The newest configuration.
    policy: Option<String>,
    /// Where it was put.
    saved: Option<PathBuf>,
}

impl Args {
    /// Looks, and says what to do.
    ///
    /// # Errors
    /// `WrongKey`, `NotFound`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let url = absolute_url(&self.url, &run.environment);
        let flags = Flags { repository: Some(url.clone()), ..run.globals.flags() };
        let settings = Settings::load(&flags, run.environment.clone(), PolicyUse::Ignored)?;
        let repository = run.open(&settings).await?;
        let sites = match &self.site {
            Some(site) => vec![site.clone()],
            None => repository.sites().await?,
        };
        let mut found = Vec::with_capacity(sites.len());
        for site in sites {
            found.push(self.look(&repository, site, run).await?);
        }
        run.progress.end();
        let flags = open_flags(&url, settings.key.as_ref());
        let text = || found.iter().map(|one| one.text(&flags, run)).collect::<String>();
        let value = || {
            let sites = found.iter().map(|one| one.value(&flags, run));
            json!({ "repository": url, "id": repository.id().to_string(), "sites": sites.collect::<Vec<_>>() })
        };
        let is_empty = found.iter().all(|one| one.points.is_empty());
        let empty = || format!("{url} opens, but holds no points\n");
        run.output.result(|| if is_empty { empty() } else { text() }, value)?;
        Ok(if is_empty { Exit::NoMatch } else { Exit::Done })
    }

    async fn look(&self, repository: &Repository, site: SiteName, run: &Run) -> Result<Found> {
        let (points, marks) = futures::try_join!(
            survey(repository, &site, SHOWN_POINTS, run),
            repository.marks(&site)
        )?;
        let mut found = Found { site, points, marks, policy: None, saved: None };
        match fetch_policy(repository, &found.site, &run.context).await {
            Ok(policy) => found.policy = Some(policy),
            Err(error) => run.progress.warn(&format!("no configuration: {}", error.chain())),
        }
        if let Some(policy) = found.policy.as_ref().filter(|_| !self.no_config) {
            let folder = run.environment.absolute(&self.config_to);
            let path = folder.join(format!("{}.{}", found.site, policy_system::FILE_NAME));
            // Where it cannot be made the file says why.
            let _ = std::fs::create_dir_all(&folder);
            match save(&path, policy) {
                Ok(()) => found.saved = Some(path),
                Err(error) => run.progress.warn(&error.chain()),
            }
        }
        Ok(found)
    }
}

/// Fetches the newest configuration of a site.
async fn fetch_policy(
    repository: &Repository,
    site: &SiteName,
    context: &Context,
) -> Result<String> {
    let selector = Selector {
        site: Some(site.clone()),
        system: Some(policy_system::name()),
        when: When::Latest { back: 0 },
        path: policy_system::key()?,
    };
    let host_of = &app::systems::host_of;
    let resolved = select::resolve(repository, &selector, host_of, context).await?;
    let systems = resolved.with_path().await?;
    let system = systems
        .first()
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "find configuration", site.as_str()))?;
    let mut content = browse::cat(repository, system).await?.content;
    let mut text = Vec::new();
    while let Some(piece) = content.next().await? {
        text.extend_from_slice(&piece);
        if text.len() > POLICY_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "read configuration", site.as_str())
                .detail("it is longer than any configuration"));
        }
    }
    String::from_utf8(text).map_err(|_| {
        Error::new(ErrorKind::Invalid, "read configuration", site.as_str()).detail("it is no text")
    })
}

/// Writes a new file that only its owner may read; the same text that is there already is fine.
fn save(path: &Path, text: &str) -> Result<()> {
    let failed = |kind| Error::new(kind, "save configuration", path.display().to_string());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            match std::fs::read_to_string(path) {
                Ok(there) if there == text => Ok(()),
                _ => Err(failed(ErrorKind::Conflict)
                    .detail("another file is there; --config-to chooses a folder")),
            }
        }
        Err(error) => Err(failed(ErrorKind::Unavailable).because(error)),
    }
}

/// Writes the flags that open the repository again, as one types them.
fn open_flags(url: &str, key: Option<&KeySource>) -> String {
    let key = match key {
        Some(KeySource::KeyFile(path)) => format!(" --key-file {}", quote(&path.to_string_lossy())),
        Some(KeySource::PassphraseFile(path)) => {
            format!(" --passphrase-file {}", quote(&path.to_string_lossy()))
        }
        Some(KeySource::PassphraseCommand(words)) => {
            let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
            format!(" --passphrase-command {}", quote(&words.join(" ")))
        }
        Some(KeySource::IdentityFile(path)) => {
            format!(" --identity {}", quote(&path.to_string_lossy()))
        }
        Some(KeySource::ShareFiles(paths)) => {
            let flag = |path: &PathBuf| format!(" --share-file {}", quote(&path.to_string_lossy()));
            paths.iter().map(flag).collect()
        }
        // The variable is set already; a passphrase is asked for again.
        Some(KeySource::PassphraseEnvironment(_)) | None => String::new(),
    };
    format!("--repo {}{key}", quote(url))
}

/// Quotes a word for a shell where it has to be.
pub(super) fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-=+@%,~".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Found {
    /// Returns the point that is best restored: the newest proven one, else the newest complete one, else
    /// the newest.
    fn best(&self) -> Option<&Point> {
        let is_verified = |point: &&Point| {
            let verified = repository::mark::MarkKind::Verified;
            self.marks.iter().any(|mark| mark.point == point.id && mark.kind == verified)
        };
        let complete = || self.points.iter().filter(|point| point.is_complete());
        let newest = complete().max_by_key(|point| point.cut_to);
        complete()
            .find(is_verified)
            .filter(|point| Some(*point) == newest)
            .or(newest)
            .or(self.points.first())
    }

    /// Writes the next commands.
    fn commands(&self, flags: &str) -> Vec<String> {
        let Some(best) = self.best() else { return Vec::new() };
        let state = format!("{}@{}", self.site, short(&best.id));
        vec![
            format!("lifeboat ls {state} {flags}"),
            format!("lifeboat restore {state} --to ./{}-restored --dry-run {flags}", self.site),
            format!("lifeboat restore {state} --to ./{}-restored {flags}", self.site),
        ]
    }

    fn text(&self, flags: &str, run: &Run) -> String {
        let now = run.now();
        let age = age_of_newest(&self.points, now).map(policies::show_duration);
        let mut text =
            format!("site {}: newest point {} old\n", self.site, age.unwrap_or_default());
        text.push_str(&points_table(&self.points, &self.marks, now, &run.zone));
        match (&self.policy, &self.saved) {
            (Some(_), Some(path)) => {
                text.push_str(&format!("its configuration was put to {}\n", path.display()));
            }
            (Some(policy), None) => {
                text.push_str("its configuration:\n");
                let lines = policy.lines().map(|line| format!("  | {}\n", names::line(line)));
                text.extend(lines);
            }
            (None, _) => text.push_str("its configuration was not captured\n"),
        }
        text.push_str("next, look, plan, then restore and prove:\n");
        self.commands(flags).iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        text
    }

    fn value(&self, flags: &str, run: &Run) -> Value {
        let age = age_of_newest(&self.points, run.now());
        let points = self.points.iter().map(|point| marked_value(point, &self.marks));
        json!({
            "site": self.site.as_str(),
            "newest_age_seconds": age.map(|age| age.as_secs()),
            "points": points.collect::<Vec<_>>(),
            "policy": self.policy,
            "policy_saved_to": self.saved.as_ref().map(|path| path.display().to_string()),
            "next_commands": self.commands(flags),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed_as_they_are_printed() {
        for (word, expected) in [
            ("/srv/x", "/srv/x"),
            ("s3://b/x", "s3://b/x"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(quote(word), expected);
        }
        let file = KeySource::KeyFile("/k y".into());
        assert_eq!(open_flags("/r", Some(&file)), "--repo /r --key-file '/k y'");
        assert_eq!(open_flags("/r", None), "--repo /r");
        let command = KeySource::PassphraseCommand(vec!["pass".into(), "a b".into()]);
        assert_eq!(
            open_flags("/r", Some(&command)),
            r"--repo /r --passphrase-command 'pass '\''a b'\'''"
        );
    }

    #[test]
    fn a_saved_configuration_is_private_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.toml");
        save(&path, "x").expect("saved");
        save(&path, "x").expect("the same again");
        assert_eq!(save(&path, "y").expect_err("another").kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "x");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
}
