//! Opening and creating a repository.
//!
//! A repository exists once its descriptor does; that is the last object that its creation puts. Key
//! slots are bound to the descriptor's bytes, so that whoever opened a slot knows that the descriptor
//! is the one its creator wrote, and with it the authority that certifies every writer.

mod create;
mod key_test;
mod slots;
mod writers;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result};

use crate::crypto::{DomainKeys, KeyRing, KeyRole, PassphraseCost, SlotLock, Unlock};
use crate::format::descriptor::{DESCRIPTOR_BYTES_MAX, DESCRIPTOR_PATH, Descriptor};
use crate::format::key_slot::{KEY_SLOT_BYTES_MAX, KeySlot, key_slot_path};
use crate::store::Store;
use crate::types::{RepositoryId, WriterId};

pub(crate) use key_test::read_test_path;
pub use slots::{SlotInfo, SlotKind};

/// How many small objects are asked for at the same time.
const SMALL_REQUESTS_MAX: usize = 32;
/// How many key slots are looked at.
const SLOTS_MAX: usize = 1000;

/// An opened repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    keys: KeyRing,
    descriptor: Descriptor,
    descriptor_hash: [u8; 32],
    options: OpenOptions,
    writers: writers::Writers,
}

/// How a repository is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// About how much memory content in flight may take, in bytes.
    pub memory_bytes: u64,
    /// Where what can be rebuilt is kept between runs; none keeps nothing.
    pub cache_folder: Option<PathBuf>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, cache_folder: None }
    }
}

/// How a repository is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// What people call the first key slot.
    pub label: String,
    /// What a guess of its passphrase costs; of no effect for a key file.
    pub cost: PassphraseCost,
    /// How it is used afterwards.
    pub open: OpenOptions,
}

impl Repository {
    /// Makes sure that there is a repository, without a key.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Unsupported` where this version cannot read it; `Corrupt`,
    /// `Unavailable`, `Denied`.
    pub async fn find(store: &Store) -> Result<()> {
        get_descriptor(store).await.map(|_| ())
    }

    /// Opens a repository. Takes one round trip with a key file or with shares, and three with a passphrase
    /// or an identity, which are tried on every slot of their kind.
    ///
    /// # Errors
    /// `NotFound` where there is no repository; `WrongKey` where the key opens no slot; `Unsupported`
    /// where this version cannot read it; `Corrupt`, `Unavailable`, `Denied`.
    pub async fn open(
        store: Store,
        unlock: &Unlock,
        options: OpenOptions,
        context: &Context,
    ) -> Result<Self> {
        context.check("open repository")?;
        let (descriptor, slots) =
            futures::join!(get_descriptor(&store), candidate_slots(&store, unlock));
        // Without a descriptor there is no repository, whatever became of the slots.
        let (descriptor, descriptor_hash) = descriptor?;
        let keys = unlock_any(slots?, descriptor_hash, unlock).await?;
        // A narrower role cannot derive the authority; the slot that gave it is bound to the descriptor.
        if keys.authority().is_some_and(|keys| keys.public_key() != descriptor.authority) {
            return Err(Error::new(ErrorKind::Corrupt, "open repository", store.name())
                .detail("its keys are not those that its descriptor speaks of"));
        }
        Ok(Self::assemble(store, keys, (descriptor, descriptor_hash), options))
    }

    fn assemble(
        store: Store,
        keys: KeyRing,
        (descriptor, descriptor_hash): (Descriptor, [u8; 32]),
        options: OpenOptions,
    ) -> Self {
        let writers = writers::Writers::new(&keys);
        Self(Arc::new(Inner { store, keys, descriptor, descriptor_hash, options, writers }))
    }

    /// Returns where its objects are.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns its keys.
    pub fn keys(&self) -> &KeyRing {
        &self.0.keys
    }

    /// Derives the keys of a domain.
    ///
    /// # Errors
    /// `Invalid` where the name is too long.
    pub fn domain(&self, name: &str) -> Result<DomainKeys> {
        self.0.keys.domain(name)
    }

    /// Returns its name for programs.
    pub fn id(&self) -> RepositoryId {
        self.0.descriptor.id
    }

    /// Returns the id of the writer that it was opened as.
    pub fn writer(&self) -> WriterId {
        self.0.keys.signer().writer()
    }

    /// Returns what it is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    /// Returns how it is used.
    pub fn options(&self) -> &OpenOptions {
        &self.0.options
    }

    /// Says whether this version may write to the repository.
    ///
    /// # Errors
    /// `Unsupported` where it needs features that this version does not know.
    pub fn check_writable(&self) -> Result<()> {
        self.check_flags(self.0.descriptor.flags.unknown().write, "write to repository")
    }

    /// Says what the key that opened it lets its holder do.
    pub fn role(&self) -> KeyRole {
        self.0.keys.role()
    }

    /// Says whether this version may collect garbage in the repository.
    ///
    /// # Errors
    /// `Unsupported` where it needs features that this version does not know.
    pub fn check_collectable(&self) -> Result<()> {
        self.check_flags(self.0.descriptor.flags.unknown().collect, "collect garbage in repository")
    }

    fn check_flags(&self, unknown: u16, action: &'static str) -> Result<()> {
        if unknown == 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, action, self.0.store.name())
            .detail(format!("it needs features that are not known ({unknown:#06x}); upgrade")))
    }
}

/// Gets the descriptor and the hash that key slots are bound to.
async fn get_descriptor(store: &Store) -> Result<(Descriptor, [u8; 32])> {
    let object = get_descriptor_object(store).await?;
    Ok((Descriptor::decode(&object)?, *blake3::hash(&object).as_bytes()))
}

/// Gets the descriptor's bytes.
///
/// # Errors
/// `NotFound` where there is no repository; `Corrupt`, `Unavailable`, `Denied`.
pub(crate) async fn get_descriptor_object(store: &Store) -> Result<Bytes> {
    let object = store.get_limited(DESCRIPTOR_PATH, DESCRIPTOR_BYTES_MAX).await;
    object.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "open repository", store.name())
            .detail("there is no repository")
            .because(error),
        ErrorKind::Exhausted => {
            Error::new(ErrorKind::Corrupt, "open repository", store.name()).because(error)
        }
        _ => error,
    })
}

/// A key slot as found: its id and its bytes.
type FoundSlot = (WriterId, Bytes);

/// Gets the slots that a key may open.
async fn candidate_slots(store: &Store, unlock: &Unlock) -> Result<Vec<FoundSlot>> {
    let id = match unlock {
        Unlock::KeyFile(file) => file.slot(),
        Unlock::Shares(set) => set.slot(),
        Unlock::Passphrase(_) | Unlock::Identity(_) => return all_slots(store).await,
    };
    match get_slot(store, id).await {
        Ok(slot) => Ok(vec![slot]),
        // Removed, or of another repository.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn all_slots(store: &Store) -> Result<Vec<FoundSlot>> {
    let listed = store.list("key").await?;
    let ids = listed.iter().filter_map(|listed| listed.path.strip_prefix("key/")?.parse().ok());
    let ids: Vec<WriterId> = ids.take(SLOTS_MAX).collect();
    stream::iter(ids.into_iter().map(|id| {
        let store = store.clone();
        async move {
            match get_slot(&store, id).await {
                Ok(slot) => Ok(Some(slot)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        }
    }))
    .buffered(SMALL_REQUESTS_MAX)
    .try_filter_map(|slot| std::future::ready(Ok(slot)))
    .try_collect()
    .await
}

async fn get_slot(store: &Store, id: WriterId) -> Result<FoundSlot> {
    let object = store.get_limited(&key_slot_path(id), KEY_SLOT_BYTES_MAX).await?;
    Ok((id, object))
}

/// Opens the first slot that the key fits. A slot that cannot be read does not hide the next one.
async fn unlock_any(
    slots: Vec<FoundSlot>,
    descriptor: [u8; 32],
    unlock: &Unlock,
) -> Result<KeyRing> {
    let no_slot = || {
        Error::new(ErrorKind::WrongKey, "open repository", "")
            .detail("the key opens none of its key slots")
    };
    let mut first_error = None;
    for (id, object) in slots {
        let opened = match KeySlot::decode(id, &object) {
            Ok(slot) if !fits(&slot, unlock) => continue,
            Ok(slot) if slot.binding.descriptor != descriptor => {
                Err(Error::new(ErrorKind::Corrupt, "open key slot", id.to_string())
                    .detail("it belongs to another repository, or the descriptor was changed"))
            }
            Ok(slot) => unwrap(slot, unlock.clone()).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(keys) => return Ok(keys),
            Err(error) if error.kind() == ErrorKind::WrongKey => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(no_slot))
}

fn fits(slot: &KeySlot, unlock: &Unlock) -> bool {
    matches!(
        (&slot.binding.lock, unlock),
        (SlotLock::Passphrase { .. }, Unlock::Passphrase(_))
            | (SlotLock::KeyFile, Unlock::KeyFile(_))
            | (SlotLock::Shares { .. }, Unlock::Shares(_))
            | (SlotLock::Recipient(_), Unlock::Identity(_))
    )
}

async fn unwrap(slot: KeySlot, unlock: Unlock) -> Result<KeyRing> {
    blocking("open key slot", move || slot.binding.unwrap(&slot.wrapped, &unlock)).await
}

/// Runs what stretches passphrases where it may block.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, action, "").because(error)))
}

#[cfg(test)]
mod tests;
