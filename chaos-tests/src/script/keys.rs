//! Key slots of a scripted run.

use model::{Context, ErrorKind, Result};
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::store::Store;
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::SeededEntropy;

use super::fact::Fact;

/// A key file: of which slot, made in which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The slot; 0 is the one that the repository is created with.
    pub slot: u64,
    /// The run; 0 is the first. A run that was interrupted is followed by one with keys of its own.
    pub run: u64,
}

impl Key {
    fn file(self) -> KeyFile {
        KeyFile::generate(&SeededEntropy::new(self.run << 32 | self.slot))
    }

    /// Returns what opens the repository.
    pub fn unlock(self) -> Unlock {
        Unlock::KeyFile(self.file())
    }
}

/// Opens the repository with a key of this slot; none where no run's key opens it.
async fn open(
    store: &Store,
    slot: u64,
    runs: u64,
    context: &Context,
) -> Result<Option<(Key, Repository)>> {
    for run in 0..=runs {
        let key = Key { slot, run };
        let opened =
            Repository::open(store.clone(), &key.unlock(), OpenOptions::default(), context).await;
        match opened {
            Ok(repository) => return Ok(Some((key, repository))),
            Err(error) if error.kind() == ErrorKind::WrongKey => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Opens the repository that an earlier run left, or creates it.
///
/// # Errors
/// Those of the repository.
pub(super) async fn open_or_create(
    store: &Store,
    run: u64,
    context: &Context,
) -> Result<(Key, Repository)> {
    match open(store, 0, run, context).await {
        Ok(Some(opened)) => return Ok(opened),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(None) | Err(_) => {}
    }
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions::default(),
    };
    let key = Key { slot: 0, run };
    Ok((key, Repository::create(store.clone(), &key.unlock(), options, context).await?))
}

/// Adds slots and removes every second of them.
///
/// # Errors
/// Those of the repository.
pub(super) async fn change_slots(
    (store, repository): (&Store, &Repository),
    slots: u64,
    run: u64,
    context: &Context,
    note: &mut dyn FnMut(Fact),
) -> Result<()> {
    for slot in 1..=slots {
        let key = match open(store, slot, run, context).await? {
            Some((key, _)) => key,
            None => {
                let key = Key { slot, run };
                let label = format!("slot {slot}");
                repository.add_slot(&key.unlock(), PassphraseCost::LEAST, &label, context).await?;
                key
            }
        };
        note(Fact::Added(key));
        if slot % 2 == 0 {
            // Noted before: from here on nobody may rely on it.
            note(Fact::Removed(key));
            repository.remove_slot(key.file().slot(), context).await?;
        }
    }
    Ok(())
}
