//! `lifeboat kit`: one folder and one printable page with all that a restore needs, but for the secrets.
//!
//! It is for whoever stands before a new machine with nothing: where the repository is, what opens it, what
//! to type, where the program comes from, how the bytes are laid out if no program is left. No secret
//! is in it: it may lie in every drawer.

mod page;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use app::settings::Settings;
use model::{Error, ErrorKind, Result};
use policies::{describe_time, show_time};
use repository::crypto::KeyRole;
use repository::types::{hex, sha256};
use repository::{Repository, SlotInfo, SlotKind};
use serde_json::json;

use self::page::{Block, Page, Section};
use super::key::kind;
use super::points::{short, survey};
use super::recover::quote;
use super::refuse;
use crate::exit::Exit;
use crate::names;
use crate::run::Run;
use crate::table::counted;

/// What a second reader could be written from.
const DOCUMENTS: [(&str, &str); 3] = [
    ("repository-format.md", include_str!("../../../docs/repository-format.md")),
    ("security.md", include_str!("../../../docs/security.md")),
    ("cli.md", include_str!("../../../docs/cli.md")),
];
/// How many points of a site stand on the page.
const SHOWN_POINTS: usize = 3;
const SUMS_NAME: &str = "SHA256SUMS";
const PROGRAM_NAME: &str = "lifeboat";

/// Arguments of `kit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that is not there yet, or is empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Put this program into it as well
    #[arg(long)]
    with_program: bool,
}

impl Args {
    /// Writes the kit.
    ///
    /// # Errors
    /// `Invalid` where the folder holds something; those of the repository and the disk.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let folder = run.environment.absolute(&self.to);
        make_empty(&folder)?;
        let repository = run.open(&settings).await?;
        let program = read_program()?;
        let facts = Facts::gather(&repository, &settings, &sha256(&program), run).await?;
        let page = facts.page(self.with_program, run);
        let mut files: Vec<(&str, Vec<u8>)> = vec![
            ("RESTORE.txt", page.text().into_bytes()),
            ("RESTORE.html", page.html().into_bytes()),
        ];
        files.extend(DOCUMENTS.map(|(name, text)| (name, text.as_bytes().to_vec())));
        if self.with_program {
            files.push((PROGRAM_NAME, program));
        }
        let sums: String = files
            .iter()
            .map(|(name, bytes)| format!("{}  {name}\n", hex(&sha256(bytes))))
            .collect();
        files.push((SUMS_NAME, sums.into_bytes()));
        for (name, bytes) in &files {
            write(&folder.join(name), bytes, if *name == PROGRAM_NAME { 0o755 } else { 0o644 })?;
        }
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        let text = || {
            format!(
                "wrote {}: {}\nprint RESTORE.html; keep the kit away from the keys, it holds none\n",
                folder.display(),
                names.join(", ")
            )
        };
        let value = || {
            json!({
                "repository": facts.url,
                "id": repository.id().to_string(),
                "folder": folder.display().to_string(),
                "files": names,
                "keys": facts.slots.iter().map(super::key::slot_value).collect::<Vec<_>>(),
            })
        };
        run.output.result(text, value)?;
        Ok(Exit::Done)
    }
}

/// What stands on the page.
struct Facts {
    url: String,
    others: Vec<String>,
    id: String,
    created: String,
    written: String,
    program: String,
    slots: Vec<SlotInfo>,
    points: Vec<Vec<String>>,
}

impl Facts {
    async fn gather(
        repository: &Repository,
        settings: &Settings,
        program: &[u8; 32],
        run: &Run,
    ) -> Result<Self> {
        // The name is the URL without what could be a secret in it.
        let url = repository.store().name().to_owned();
        let known = settings.policy.iter().flat_map(|file| &file.policy.repositories);
        let chosen = settings.repository()?;
        let others = known.map(|one| without_secrets(&one.url)).filter(|one| one != chosen);
        let mut points = vec![vec!["SITE".to_owned(), "POINT".to_owned(), "READ".to_owned()]];
        for site in repository.sites().await? {
            for point in survey(repository, &site, SHOWN_POINTS, run).await? {
                let time = show_time(point.cut_to, &jiff::tz::TimeZone::UTC);
                points.push(vec![site.to_string(), short(&point.id), format!("{time} UTC")]);
            }
        }
        Ok(Self {
            others: others.collect(),
            url,
            id: repository.id().to_string(),
            created: describe_time(repository.descriptor().created, &run.zone),
            written: describe_time(run.now(), &run.zone),
            program: hex(program),
            // Who can only collect restores nothing.
            slots: {
                let slots = repository.slots().await?.into_iter();
                slots.filter(|slot| slot.role == KeyRole::Full).collect()
            },
            points,
        })
    }

    fn page(&self, has_program: bool, run: &Run) -> Page {
        let title = format!("How to restore from {}", self.url);
        let sections = vec![
            self.about(),
            self.program(has_program),
            self.credentials(),
            self.keys(run),
            self.commands(),
            self.state(),
            without_the_program(),
        ];
        Page { title, sections }
    }

    fn about(&self) -> Section {
        let mut rows = [
            ["repository", &self.url],
            ["its id", &self.id],
            ["created", &self.created],
            ["this page", &self.written],
        ]
        .map(|row| row.map(str::to_owned).to_vec())
        .to_vec();
        rows.extend(self.others.iter().map(|url| vec!["also kept in".to_owned(), url.clone()]));
        let text = "This folder holds all that a restore needs, except the key and the credentials \
            of the store. Neither stands on this page, and neither may be written on it.";
        Section::new("What this is", vec![Block::Text(text.to_owned()), Block::Table(rows)])
    }

    fn program(&self, has_program: bool) -> Section {
        let version = env!("CARGO_PKG_VERSION");
        let mut blocks = vec![Block::Text(format!(
            "The repository was last read by lifeboat {version} for {} {}; the SHA-256 of that \
             program is:",
            std::env::consts::ARCH,
            std::env::consts::OS,
        ))];
        blocks.push(Block::Commands(vec![self.program.clone()]));
        if has_program {
            blocks.push(Block::Text(
                "It lies in this folder. Check it and all else here, then put it on the path:"
                    .to_owned(),
            ));
            blocks.push(Block::Commands(vec![
                format!("sha256sum --check {SUMS_NAME}"),
                format!("install -m 755 {PROGRAM_NAME} /usr/local/bin/"),
            ]));
        } else {
            blocks.push(Block::Text(
                "Take that version, or a newer one that still reads format version 0, from where your \
                 team keeps its programs, or build it from its source with Rust and a C compiler. To \
                 have it in the next kit: `lifeboat kit --with-program`."
                    .to_owned(),
            ));
            blocks.push(Block::Commands(vec!["cargo build --release -p cli".to_owned()]));
        }
        Section::new("1. The program", blocks)
    }

    fn credentials(&self) -> Section {
        let text = match self.url.split("://").next() {
            Some("s3" | "s3a") => {
                "Access to the bucket: set AWS_ACCESS_KEY_ID and \
                AWS_SECRET_ACCESS_KEY (and AWS_REGION, AWS_ENDPOINT where they are needed). Reading is \
                enough."
            }
            Some("az" | "azure" | "abfs" | "abfss") => {
                "Access to the container: set \
                AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or another of the AZURE_ \
                settings. Reading is enough."
            }
            Some("gs") => {
                "Access to the bucket: set GOOGLE_APPLICATION_CREDENTIALS to the file of a \
                service account. Reading is enough."
            }
            _ => {
                "The repository is a directory: mount the disk that it is on, and let the user who \
                restores read it. If it is at another place now, use that place below."
            }
        };
        Section::new("2. Access to the store", vec![Block::Text(text.to_owned())])
    }

    fn keys(&self, run: &Run) -> Section {
        let mut blocks = vec![Block::Text(format!(
            "{} for it. Any one is enough; each stands with what it needs and what to type.",
            counted(self.slots.len() as u64, "key"),
        ))];
        for slot in &self.slots {
            let label = names::escape(slot.label.as_deref().unwrap_or("").as_bytes());
            let time = |time| show_time(time, &run.zone);
            let created = slot.created.map_or_else(|| "unknown".to_owned(), time);
            let tested = slot.tested.map_or_else(|| "never".to_owned(), time);
            let (needs, flags) = opening(slot);
            blocks.push(Block::Table(vec![
                vec!["key".to_owned(), slot.id.to_string()],
                vec!["kind".to_owned(), kind(slot)],
                vec!["called".to_owned(), label],
                vec!["made".to_owned(), created],
                vec!["last tested".to_owned(), tested],
                vec!["needs".to_owned(), needs],
                vec!["kept at".to_owned(), "_".repeat(40)],
            ]));
            blocks.push(Block::Commands(vec![format!(
                "lifeboat key test --repo {}{flags}",
                self.at()
            )]));
        }
        Section::new("3. A key", blocks)
    }

    /// The repository as one types it.
    fn at(&self) -> String {
        quote(&self.url)
    }

    fn commands(&self) -> Section {
        let at = self.at();
        let text = "With KEY standing for what was typed behind the repository in step 3. The first \
            command shows sites and points, puts the configuration into the present folder and prints \
            the commands for each site; the others are those for all of the newest complete state, the \
            plan first. What was restored is read back and compared.";
        let commands = vec![
            format!("lifeboat recover {at} KEY"),
            format!("lifeboat restore SITE@latest --to DIR --repo {at} KEY --dry-run"),
            format!("lifeboat restore SITE@latest --to DIR --repo {at} KEY"),
            format!("lifeboat verify --repo {at} KEY"),
        ];
        Section::new("4. Restore", vec![Block::Text(text.to_owned()), Block::Commands(commands)])
    }

    fn state(&self) -> Section {
        let text = if self.points.len() > 1 {
            "The newest points when this page was written. If `lifeboat points` shows none of them and \
             nothing newer, the store shows an older state than it once held: ask who can write to it."
        } else {
            "There were no points yet when this page was written: make a new kit after the first backup."
        };
        let mut blocks = vec![Block::Text(text.to_owned())];
        if self.points.len() > 1 {
            blocks.push(Block::Table(self.points.clone()));
        }
        Section::new("What was there", blocks)
    }
}

/// Says what a slot needs, and the flags that bring it.
fn opening(slot: &SlotInfo) -> (String, String) {
    match slot.kind {
        SlotKind::Passphrase(_) => ("a passphrase, which is asked for".to_owned(), String::new()),
        SlotKind::KeyFile => {
            let needs = format!("the key file whose second line is `slot {}`", slot.id);
            (needs, " --key-file FILE".to_owned())
        }
        SlotKind::Shares { threshold, count } => {
            let needs =
                format!("any {threshold} of the {count} shares with the line `slot {}`", slot.id);
            let flags = (1..=threshold).map(|n| format!(" --share-file FILE{n}"));
            (needs, flags.collect())
        }
        SlotKind::Recipient => {
            let print = slot.recipient.map_or_else(|| "unknown".to_owned(), |id| hex(&id));
            (format!("the identity with the fingerprint {print}"), " --identity FILE".to_owned())
        }
    }
}

fn without_the_program() -> Section {
    let text = "repository-format.md says what every byte of the repository means and security.md how it \
        is encrypted: enough to write another reader. cli.md describes all commands.";
    Section::new("If no program can be had", vec![Block::Text(text.to_owned())])
}

/// Leaves out what could be a secret: a user, a password, a query.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn make_empty(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
                ErrorKind::Invalid
            }
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "create directory", folder.display().to_string()).because(error)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    if std::fs::read_dir(folder).map_err(failed)?.next().is_some() {
        return Err(refuse("write kit", &folder.display().to_string(), "the folder is not empty"));
    }
    Ok(())
}

fn read_program() -> Result<Vec<u8>> {
    std::env::current_exe().and_then(std::fs::read).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "read program", PROGRAM_NAME).because(error)
    })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "write kit", path.display().to_string()).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_could_be_a_secret() {
        for (url, expected) in [
            ("/srv/x", "/srv/x"),
            ("s3://bucket/x", "s3://bucket/x"),
            ("s3://user:word@bucket/x?token=1", "s3://bucket/x"),
            ("az://account@container", "az://container"),
        ] {
            assert_eq!(without_secrets(url), expected);
        }
    }
}
