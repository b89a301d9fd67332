//! The scripted run that is interrupted everywhere, and what has to be true of what it leaves.
//!
//! A run writes down, outside the store, what was acknowledged to it. Whatever ends it, afterwards
//! everything written down is there, whole, and everything else is there whole or not at all. Then the
//! same run, begun again over what is left, comes to its end.

use std::sync::Arc;

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};
use object_store::ObjectStore;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::store::Store;
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::{SeededEntropy, random_bytes};

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Key slots that are added, every second of which is removed again.
    pub slots: u64,
    /// Objects that are created.
    pub objects: u64,
}

impl Amount {
    /// For every run of the tests.
    pub const SHORT: Self = Self { slots: 2, objects: 6 };
    /// At least 300 writes.
    pub const LONG: Self = Self { slots: 8, objects: 280 };
}

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
}

/// What was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// This slot opens the repository.
    Added(Key),
    /// This slot may open nothing any more.
    Removed(Key),
    /// This object is there.
    Object(u64),
}

impl Fact {
    /// Writes the fact as a line.
    pub fn to_line(&self) -> String {
        match self {
            Self::Added(key) => format!("added {} {}", key.slot, key.run),
            Self::Removed(key) => format!("removed {} {}", key.slot, key.run),
            Self::Object(number) => format!("object {number}"),
        }
    }

    /// Reads a line; none where it is no fact.
    pub fn from_line(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let key =
            |slot: &str, run: &str| Some(Key { slot: slot.parse().ok()?, run: run.parse().ok()? });
        match words.as_slice() {
            ["added", slot, run] => key(slot, run).map(Self::Added),
            ["removed", slot, run] => key(slot, run).map(Self::Removed),
            ["object", number] => number.parse().ok().map(Self::Object),
            _ => None,
        }
    }
}

fn object_path(number: u64) -> String {
    format!("scripted/{number}")
}

fn object_bytes(number: u64) -> Bytes {
    random_bytes(number, 1_000 + 997 * (number as usize % 7))
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
        let unlock = Unlock::KeyFile(key.file());
        match Repository::open(store.clone(), &unlock, OpenOptions::default(), context).await {
            Ok(repository) => return Ok(Some((key, repository))),
            Err(error) if error.kind() == ErrorKind::WrongKey => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Runs the script to its end, over whatever the `run` earlier ones left.
///
/// # Errors
/// Those of the repository, whose store may fail at any moment.
pub async fn run(
    objects: Arc<dyn ObjectStore>,
    amount: Amount,
    run: u64,
    context: &Context,
    mut note: impl FnMut(Fact),
) -> Result<()> {
    let store = Store::new(objects, "scripted", context);
    let (first, repository) = open_or_create(&store, run, context).await?;
    note(Fact::Added(first));
    for slot in 1..=amount.slots {
        let key = match open(&store, slot, run, context).await? {
            Some((key, _)) => key,
            None => {
                let key = Key { slot, run };
                let (unlock, label) = (Unlock::KeyFile(key.file()), format!("slot {slot}"));
                repository.add_slot(&unlock, PassphraseCost::LEAST, &label, context).await?;
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
    for number in 0..amount.objects {
        store.create(&object_path(number), object_bytes(number)).await?;
        note(Fact::Object(number));
    }
    Ok(())
}

async fn open_or_create(store: &Store, run: u64, context: &Context) -> Result<(Key, Repository)> {
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
    let unlock = Unlock::KeyFile(key.file());
    Ok((key, Repository::create(store.clone(), &unlock, options, context).await?))
}

/// Checks what interrupted runs left.
///
/// # Errors
/// Those of the store, which has to be sound by now, and `Corrupt` for each broken promise.
pub async fn check(
    objects: Arc<dyn ObjectStore>,
    amount: Amount,
    acknowledged: &[Fact],
    context: &Context,
) -> Result<()> {
    let store = Store::new(objects, "scripted", context);
    let promised = acknowledged.iter().filter_map(|fact| match fact {
        Fact::Added(key) if !acknowledged.contains(&Fact::Removed(*key)) => Some(*key),
        _ => None,
    });
    for key in promised {
        let unlock = Unlock::KeyFile(key.file());
        let opened =
            Repository::open(store.clone(), &unlock, OpenOptions::default(), context).await;
        let repository =
            opened.map_err(|error| broken(format!("{key:?} is lost")).because(error))?;
        repository.slots().await?;
    }
    for number in 0..amount.objects {
        match store.get(&object_path(number)).await {
            Ok(bytes) if bytes == object_bytes(number) => {}
            Ok(_) => return Err(broken(format!("object {number} is there in part"))),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) if acknowledged.contains(&Fact::Object(number)) => {
                return Err(broken(format!("object {number} is lost")));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn broken(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, "check what is left", what)
}
