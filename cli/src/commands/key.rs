//! `lifeboat key`: who can open the repository.

use std::path::PathBuf;

use app::keys;
use model::Result;
use policies::{KeySource, show_time};
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::{Repository, SlotInfo, SlotKind};
use serde_json::{Value, json};

use super::refuse;
use crate::exit::Exit;
use crate::names;
use crate::run::Run;
use crate::table::lay_out;

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let another key open the repository; without a flag a new passphrase is asked for
    Add {
        /// A key file, made where it is missing
        #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
        new_key_file: Option<PathBuf>,
        /// A file whose first line is the new passphrase
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        /// What people call it
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List the keys
    List,
    /// Let a key no longer open the repository
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Prove that a key opens the repository: the one given by --key-file and its like
    Test,
}

impl Args {
    /// Carries it out.
    ///
    /// # Errors
    /// `WrongKey`, `NotFound`, `Invalid`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let (action, slots) = match &self.action {
            Action::Add { new_key_file, new_passphrase_file, label } => {
                let repository = run.open(&settings).await?;
                let unlock = new_key(new_key_file.as_ref(), new_passphrase_file.as_ref(), run)?;
                let cost = PassphraseCost::DEFAULT;
                let slot = repository.add_slot(&unlock, cost, label, &run.context).await?;
                ("added", vec![slot])
            }
            Action::List => ("", run.open(&settings).await?.slots().await?),
            Action::Remove { id } => {
                let repository = run.open(&settings).await?;
                ("removed", vec![remove(&repository, id, run).await?])
            }
            Action::Test => {
                let unlock = run.key(&settings)?;
                let repository = app::repositories::open(&settings, &unlock, &run.context).await?;
                ("opens the repository:", vec![repository.test_slot(&unlock).await?])
            }
        };
        let text = || match slots.as_slice() {
            [slot] if !action.is_empty() => {
                format!("{action} {}\n", slot_cells(slot, run).join("  ").trim_end())
            }
            slots => {
                let header = ["ID", "KIND", "CREATED", "LABEL"].map(str::to_owned).to_vec();
                let rows = slots.iter().map(|slot| slot_cells(slot, run));
                lay_out(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), &[])
            }
        };
        run.output
            .result(text, || json!({ "keys": slots.iter().map(slot_value).collect::<Vec<_>>() }))?;
        Ok(Exit::Done)
    }
}

fn new_key(file: Option<&PathBuf>, passphrase: Option<&PathBuf>, run: &Run) -> Result<Unlock> {
    if let Some(path) = file {
        let path = run.environment.absolute(path);
        if path.exists() {
            return KeyFile::load(&path).map(Unlock::KeyFile);
        }
        let key = KeyFile::generate(run.context.entropy.as_ref());
        key.save(&path)?;
        return Ok(Unlock::KeyFile(key));
    }
    match passphrase {
        Some(path) => {
            let source = KeySource::PassphraseFile(run.environment.absolute(path));
            keys::fetch(&source, &run.environment).map(|key| key.unlock)
        }
        None => keys::ask("A new passphrase", true),
    }
}

async fn remove(repository: &Repository, id: &str, run: &Run) -> Result<SlotInfo> {
    let slots = repository.slots().await?;
    let fitting: Vec<_> = slots.iter().filter(|slot| slot.id.to_string().starts_with(id)).collect();
    let [slot] = fitting.as_slice() else {
        let why = if fitting.is_empty() {
            "no key has this id"
        } else {
            "several keys begin so: type more digits"
        };
        return Err(refuse("choose key", id, why));
    };
    repository.remove_slot(slot.id, &run.context).await?;
    if slot.id == repository.writer() {
        run.progress.warn("this was the key that opened the repository just now: name another one");
    }
    Ok((*slot).clone())
}

fn kind(slot: &SlotInfo) -> &'static str {
    match slot.kind {
        SlotKind::Passphrase(_) => "passphrase",
        SlotKind::KeyFile => "key-file",
    }
}

fn slot_cells(slot: &SlotInfo, run: &Run) -> Vec<String> {
    vec![
        slot.id.to_string(),
        kind(slot).to_owned(),
        slot.created.map_or_else(|| "-".to_owned(), |time| show_time(time, &run.zone)),
        names::escape(slot.label.as_deref().unwrap_or("-").as_bytes()),
    ]
}

fn slot_value(slot: &SlotInfo) -> Value {
    json!({
        "id": slot.id.to_string(),
        "kind": kind(slot),
        "label": slot.label,
        "created": slot.created.map(Run::utc),
    })
}
