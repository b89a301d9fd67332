//! `lifeboat key`: who can open the repository.

mod add;

use std::path::PathBuf;

use model::Result;
use policies::{KeySource, show_time};
use repository::crypto::{Identity, KeyRole, Recipient};
use repository::types::hex;
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
    Add(add::Args),
    /// List the keys
    List,
    /// Let a key no longer open the repository
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Prove that a key opens the repository, and put that on record: the one given by --key-file,
    /// --identity, --share-file and their like
    Test,
    /// Make an identity and print its public key, for `key add --recipient`; needs no repository
    NewRecipient {
        /// Where the identity is kept: a new file that only its owner may read
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the public key of the identity given by --identity
    Recipient,
}

impl Args {
    /// Carries it out.
    ///
    /// # Errors
    /// `WrongKey`, `NotFound`, `Invalid`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        match &self.action {
            Action::Add(args) => args.run(run).await,
            Action::List => {
                let slots = run.open(&run.settings()?).await?.slots().await?;
                show(&slots, run)
            }
            Action::Remove { id } => {
                let repository = run.open(&run.settings()?).await?;
                let slot = remove(&repository, id, run).await?;
                show_one("removed", &slot, run)
            }
            Action::Test => test(run).await,
            Action::NewRecipient { out } => {
                let path = run.environment.absolute(out);
                let identity = Identity::generate(run.context.entropy.as_ref())?;
                identity.save(&path)?;
                let place = path.display();
                run.progress.note(&format!(
                    "the identity {} is in {place}; its public key, for `key add --recipient`, is:",
                    identity.recipient().fingerprint()
                ));
                show_recipient(identity.recipient(), run)
            }
            Action::Recipient => {
                let settings = run.settings()?;
                let Some(KeySource::IdentityFile(path)) = &settings.key else {
                    return Err(refuse("print recipient", "", "name an identity with --identity"));
                };
                show_recipient(Identity::load(path)?.recipient(), run)
            }
        }
    }
}

async fn test(run: &Run) -> Result<Exit> {
    let settings = run.settings()?;
    let unlock = run.key(&settings)?;
    let repository = app::repositories::open(&settings, &unlock, &run.context).await?;
    let slot = repository.test_slot(&unlock).await?;
    let tested = match repository.record_slot_test(&run.context).await {
        Ok(at) => Some(at),
        // It is proven all the same: a key may be tried where nothing may be written.
        Err(error) => {
            let chain = error.chain();
            run.progress.warn(&format!("the test could not be put on record: {chain}"));
            None
        }
    };
    show_one("opens the repository:", &SlotInfo { tested, ..slot }, run)
}

fn show_recipient(recipient: &Recipient, run: &Run) -> Result<Exit> {
    let value =
        || json!({ "recipient": recipient.to_string(), "fingerprint": recipient.fingerprint() });
    run.output.result(|| format!("{recipient}\n"), value)?;
    Ok(Exit::Done)
}

fn show(slots: &[SlotInfo], run: &Run) -> Result<Exit> {
    let text = || {
        let header = ["ID", "KIND", "CREATED", "TESTED", "LABEL"].map(str::to_owned).to_vec();
        let rows = slots.iter().map(|slot| cells(slot, run));
        lay_out(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), &[])
    };
    let value = || json!({ "keys": slots.iter().map(slot_value).collect::<Vec<_>>() });
    run.output.result(text, value)?;
    Ok(Exit::Done)
}

fn show_one(action: &str, slot: &SlotInfo, run: &Run) -> Result<Exit> {
    let label = slot.label.as_deref().filter(|label| !label.is_empty());
    let label = label.map(|label| format!("  {}", names::escape(label.as_bytes())));
    let text = || format!("{action} {}  {}{}\n", slot.id, kind(slot), label.unwrap_or_default());
    run.output.result(text, || json!({ "keys": [slot_value(slot)] }))?;
    Ok(Exit::Done)
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

/// Says what a slot opens with, as people read it.
pub(super) fn kind(slot: &SlotInfo) -> String {
    let kind = match slot.kind {
        SlotKind::Shares { threshold, count } => format!("shares {threshold}/{count}"),
        _ => kind_name(slot).to_owned(),
    };
    match slot.role {
        KeyRole::Full => kind,
        KeyRole::Collector => format!("{kind} (collector)"),
    }
}

fn kind_name(slot: &SlotInfo) -> &'static str {
    match slot.kind {
        SlotKind::Passphrase(_) => "passphrase",
        SlotKind::KeyFile => "key-file",
        SlotKind::Shares { .. } => "shares",
        SlotKind::Recipient => "recipient",
    }
}

fn cells(slot: &SlotInfo, run: &Run) -> Vec<String> {
    vec![
        slot.id.to_string(),
        kind(slot),
        slot.created.map_or_else(|| "-".to_owned(), |time| show_time(time, &run.zone)),
        slot.tested.map_or_else(|| "never".to_owned(), |time| show_time(time, &run.zone)),
        names::escape(slot.label.as_deref().unwrap_or("-").as_bytes()),
    ]
}

/// Describes a slot for programs.
pub(super) fn slot_value(slot: &SlotInfo) -> Value {
    let mut value = json!({
        "id": slot.id.to_string(),
        "kind": kind_name(slot),
        "label": slot.label,
        "created": slot.created.map(Run::utc),
        "tested": slot.tested.map(Run::utc),
        "recipient": slot.recipient.map(|id| hex(&id)),
        "role": match slot.role {
            KeyRole::Full => "full",
            KeyRole::Collector => "collector",
        },
    });
    if let SlotKind::Shares { threshold, count } = slot.kind {
        value["threshold"] = threshold.into();
        value["count"] = count.into();
    }
    value
}
