//! `lifeboat key add`: another key opens the repository as well.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use app::keys;
use model::{Error, ErrorKind, Result};
use policies::KeySource;
use repository::crypto::{KeyFile, KeyRole, PassphraseCost, Recipient, Share, ShareSet, Unlock};
use repository::{Repository, SlotInfo};

use super::show_one;
use crate::exit::Exit;
use crate::run::Run;

/// Arguments of `key add`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A key file, made where it is missing
    #[arg(long, value_name = "FILE", group = "new")]
    new_key_file: Option<PathBuf>,
    /// A file whose first line is the new passphrase
    #[arg(long, value_name = "FILE", group = "new")]
    new_passphrase_file: Option<PathBuf>,
    /// Recovery shares: K of N that are made open the repository together
    #[arg(long, value_name = "K/N", group = "new", requires = "out")]
    shares: Option<Numbers>,
    /// Where the shares are put, a file each; give every one to somebody else
    #[arg(long, value_name = "DIR", requires = "shares")]
    out: Option<PathBuf>,
    /// The public key of whoever is to open it, as `key new-recipient` prints it
    #[arg(long, value_name = "PUBKEY", group = "new")]
    recipient: Option<String>,
    /// A file with that public key
    #[arg(long, value_name = "FILE", group = "new")]
    recipient_file: Option<PathBuf>,
    /// What its holder may do: everything, or see names and trees but no contents
    #[arg(long, value_enum, default_value = "full")]
    role: Role,
    /// What people call it
    #[arg(long, default_value = "")]
    label: String,
}

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    /// Everything
    Full,
    /// Enough to collect garbage: names and trees, no contents, no captures, no further keys
    Collector,
}

impl From<Role> for KeyRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Full => Self::Full,
            Role::Collector => Self::Collector,
        }
    }
}

/// How many shares are needed, and how many there are.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    threshold: u8,
    count: u8,
}

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(threshold, count)| {
            Some(Self { threshold: threshold.parse().ok()?, count: count.parse().ok()? })
        });
        numbers
            .filter(|numbers| 2 <= numbers.threshold && numbers.threshold <= numbers.count)
            .ok_or_else(|| {
                "write K/N, as in 3/5: at least 2, and not more than there are".to_owned()
            })
    }
}

impl Args {
    /// Adds the key.
    ///
    /// # Errors
    /// `Conflict` where the key opens the repository already or a file stands in the way; `Invalid`; those
    /// of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let recipient = self.read_recipient(run)?;
        let repository = run.open(&settings).await?;
        let slot = match (&recipient, self.shares, &self.out) {
            (Some(recipient), _, _) => {
                repository
                    .add_recipient(self.role.into(), recipient, &self.label, &run.context)
                    .await?
            }
            (None, Some(numbers), Some(folder)) => {
                self.add_shares(&repository, numbers, &run.environment.absolute(folder), run)
                    .await?
            }
            _ => {
                let unlock = self.new_key(run)?;
                let cost = PassphraseCost::DEFAULT;
                let role = self.role.into();
                repository.add_slot_of_role(role, &unlock, cost, &self.label, &run.context).await?
            }
        };
        show_one("added", &slot, run)
    }

    fn read_recipient(&self, run: &Run) -> Result<Option<Recipient>> {
        let text = match &self.recipient_file {
            Some(path) => {
                let path = run.environment.absolute(path);
                Some(keys::read_recipient_file(&path)?)
            }
            None => self.recipient.clone(),
        };
        text.map(|text| text.parse()).transpose()
    }

    fn new_key(&self, run: &Run) -> Result<Unlock> {
        if let Some(path) = &self.new_key_file {
            let path = run.environment.absolute(path);
            if path.exists() {
                return KeyFile::load(&path).map(Unlock::KeyFile);
            }
            let key = KeyFile::generate(run.context.entropy.as_ref());
            key.save(&path)?;
            return Ok(Unlock::KeyFile(key));
        }
        match &self.new_passphrase_file {
            Some(path) => {
                let source = KeySource::PassphraseFile(run.environment.absolute(path));
                keys::fetch(&source, &run.environment).map(|key| key.unlock)
            }
            None => keys::ask("A new passphrase", true),
        }
    }

    /// Writes the shares, adds their slot, and opens it with what was written.
    async fn add_shares(
        &self,
        repository: &Repository,
        Numbers { threshold, count }: Numbers,
        folder: &Path,
        run: &Run,
    ) -> Result<SlotInfo> {
        let entropy = run.context.entropy.as_ref();
        let (set, shares) = ShareSet::generate(repository.id(), threshold, count, entropy)?;
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::new(ErrorKind::Denied, "create directory", folder.display().to_string())
                .because(error)
        })?;
        let mut written = Vec::with_capacity(shares.len());
        let added = async {
            for share in &shares {
                let path = folder.join(share_name(share, count));
                share.save(&path)?;
                written.push(path);
            }
            let unlock = Unlock::Shares(set);
            let cost = PassphraseCost::DEFAULT;
            let role = self.role.into();
            repository.add_slot_of_role(role, &unlock, cost, &self.label, &run.context).await
        };
        let slot = match added.await {
            Ok(slot) => slot,
            Err(error) => {
                // Nothing is there that they could open.
                written.iter().for_each(|path| drop(std::fs::remove_file(path)));
                return Err(error);
            }
        };
        // The last ones that suffice, as they came to the disk.
        let last = written.len().saturating_sub(usize::from(threshold));
        let read = keys::shares(written.get(last..).unwrap_or_default())?;
        repository.test_slot(&read).await?;
        run.progress.note(&format!(
            "{count} shares are in {}: give each to somebody else, then delete them here; any \
             {threshold} open the repository (--share-file, once for each)",
            folder.display()
        ));
        Ok(slot)
    }
}

fn share_name(share: &Share, count: u8) -> String {
    let slot: String = share.slot().to_string().chars().take(8).collect();
    format!("share-{slot}-{}-of-{count}.txt", share.index())
}
