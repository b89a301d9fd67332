//! Key slots: add, list, test, remove.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, Timestamp};

use super::{Repository, SMALL_REQUESTS_MAX, all_slots, blocking, candidate_slots, unlock_any};
use crate::crypto::{
    DEFAULT_DOMAIN, KeyRing, KeyRole, PassphraseCost, Recipient, Secret, SlotBinding, SlotLock,
    Unlock,
};
use crate::format::certificate::{Certificate, certificate_path};
use crate::format::key_slot::{KeySlot, key_slot_path};
use crate::store::Store;
use crate::types::WriterId;

/// What a slot opens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A passphrase, at this cost.
    Passphrase(PassphraseCost),
    /// A key file.
    KeyFile,
    /// So many shares of so many.
    Shares {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// The identity of a recipient.
    Recipient,
}

/// A key slot of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its id, which is that of the writer who opens it.
    pub id: WriterId,
    /// What it opens with.
    pub kind: SlotKind,
    /// What people call it; none where its certificate is missing.
    pub label: Option<String>,
    /// When it was made, by its maker's clock; none where its certificate is missing.
    pub created: Option<Timestamp>,
    /// Which recipient it is for; none for slots of other kinds.
    pub recipient: Option<[u8; 16]>,
    /// What it lets its holder do.
    pub role: KeyRole,
    /// When it was last proven to open the repository, by the clock of who did; none where it never
    /// was, or was not asked for.
    pub tested: Option<Timestamp>,
}

/// A slot that is not yet in the store.
pub(super) struct NewSlot {
    id: WriterId,
    lock: SlotLock,
    key: NewSlotKey,
    label: String,
    recipient: Option<[u8; 16]>,
    role: KeyRole,
}

/// Where a new slot's key comes from.
enum NewSlotKey {
    /// What opens it.
    Unlock(Unlock),
    /// What was agreed upon with a recipient, whose identity is elsewhere.
    Agreed(Secret),
}

impl NewSlot {
    /// Chooses all but the keys.
    pub(super) fn prepare(
        unlock: &Unlock,
        cost: PassphraseCost,
        label: &str,
        context: &Context,
    ) -> Result<Self> {
        Certificate::check_label(label)?;
        if !cost.is_sane() {
            return Err(Error::new(ErrorKind::Invalid, "add key slot", label)
                .detail("no reader would pay this cost of a passphrase"));
        }
        let (id, lock) = match unlock {
            Unlock::KeyFile(file) => (file.slot(), SlotLock::KeyFile),
            Unlock::Passphrase(_) => {
                let (mut id, mut salt) = ([0; 16], [0; 16]);
                context.entropy.fill(&mut id);
                context.entropy.fill(&mut salt);
                (WriterId(id), SlotLock::Passphrase { cost, salt })
            }
            Unlock::Shares(set) => {
                let (threshold, count) = set.numbers();
                (set.slot(), SlotLock::Shares { threshold, count })
            }
            Unlock::Identity(identity) => {
                return Self::for_recipient(identity.recipient(), label, context);
            }
        };
        let key = NewSlotKey::Unlock(unlock.clone());
        Ok(Self { id, lock, key, label: label.to_owned(), recipient: None, role: KeyRole::Full })
    }

    /// The same for who is known by a public key.
    fn for_recipient(recipient: &Recipient, label: &str, context: &Context) -> Result<Self> {
        Certificate::check_label(label)?;
        let mut id = [0; 16];
        context.entropy.fill(&mut id);
        let (encapsulated, key) = recipient.encapsulate(context.entropy.as_ref())?;
        Ok(Self {
            id: WriterId(id),
            lock: SlotLock::Recipient(encapsulated),
            key: NewSlotKey::Agreed(key),
            label: label.to_owned(),
            recipient: Some(recipient.id()),
            role: KeyRole::Full,
        })
    }

    pub(super) fn id(&self) -> WriterId {
        self.id
    }

    /// Puts the certificate and then the slot: who can open the repository can also prove who writes.
    pub(super) async fn put(
        self,
        store: &Store,
        issuer: &KeyRing,
        keys: &KeyRing,
        descriptor: [u8; 32],
        context: &Context,
    ) -> Result<SlotInfo> {
        let Self { id, lock, key, label, recipient, role } = self;
        let binding = SlotBinding { descriptor, repository: keys.repository(), slot: id, lock };
        let (ring, bound) = (keys.clone(), binding.clone());
        let wrapped = blocking("add key slot", move || match key {
            NewSlotKey::Unlock(unlock) => bound.wrap(&ring, &bound.key(&unlock)?),
            NewSlotKey::Agreed(key) => bound.wrap(&ring, &key),
        });
        let wrapped = wrapped.await?;
        let created = context.clock.now();
        let public_key = keys.signer().public_key();
        let certificate = Certificate { writer: id, public_key, label, created, recipient, role };
        let sealed = certificate.seal(issuer)?;
        let created = store.create(&certificate_path(id), Bytes::from(sealed)).await;
        created.map_err(|error| match error.kind() {
            ErrorKind::Conflict => Error::new(ErrorKind::Conflict, "add key slot", id.to_string())
                .detail("this key opens the repository already, or did until it was removed"),
            _ => error,
        })?;
        let slot = KeySlot { binding, wrapped };
        store.create(&key_slot_path(id), Bytes::from(slot.encode())).await?;
        Ok(info(&slot, Some(&certificate)))
    }
}

impl Repository {
    /// Adds a slot that gives all keys of the repository to whoever holds `unlock`. What opens it already
    /// is refused: two slots with one secret would pass for two that are independent.
    ///
    /// # Errors
    /// `Conflict` where the key opens the repository already, or once did; `Invalid`, `Unsupported`,
    /// `Unavailable`, `Denied`, `Exhausted`.
    pub async fn add_slot(
        &self,
        unlock: &Unlock,
        cost: PassphraseCost,
        label: &str,
        context: &Context,
    ) -> Result<SlotInfo> {
        self.add_slot_of_role(KeyRole::Full, unlock, cost, label, context).await
    }

    /// Adds a slot that gives a part of the keys. A collector's slot shows the trees of the domains that
    /// there are now: who adds a domain adds a slot.
    ///
    /// # Errors
    /// As [`Repository::add_slot`].
    pub async fn add_slot_of_role(
        &self,
        role: KeyRole,
        unlock: &Unlock,
        cost: PassphraseCost,
        label: &str,
        context: &Context,
    ) -> Result<SlotInfo> {
        let slot = NewSlot { role, ..NewSlot::prepare(unlock, cost, label, context)? };
        self.put_slot(slot, Some(unlock), context).await
    }

    /// Adds a slot that gives the keys of the repository, all or those of a role, to a recipient. Its identity is not needed.
    ///
    /// # Errors
    /// As [`Repository::add_slot`].
    pub async fn add_recipient(
        &self,
        role: KeyRole,
        recipient: &Recipient,
        label: &str,
        context: &Context,
    ) -> Result<SlotInfo> {
        let slot = NewSlot { role, ..NewSlot::for_recipient(recipient, label, context)? };
        self.put_slot(slot, None, context).await
    }

    async fn put_slot(
        &self,
        slot: NewSlot,
        unlock: Option<&Unlock>,
        context: &Context,
    ) -> Result<SlotInfo> {
        context.check("add key slot")?;
        self.check_writable()?;
        self.keys().check_full("add key slot")?;
        let opens_already = |id: WriterId| {
            Error::new(ErrorKind::Conflict, "add key slot", id.to_string())
                .detail("this key opens the repository already")
        };
        if let Some(id) = slot.recipient {
            let slots = self.slots().await?;
            if let Some(same) = slots.iter().find(|slot| slot.recipient == Some(id)) {
                return Err(opens_already(same.id));
            }
        }
        if let Some(unlock @ Unlock::Passphrase(_)) = unlock {
            let slots = candidate_slots(self.store(), unlock).await?;
            match unlock_any(slots, self.0.descriptor_hash, unlock).await {
                Ok(keys) => return Err(opens_already(keys.signer().writer())),
                Err(error) if error.kind() == ErrorKind::WrongKey => {}
                // A slot that cannot be read does not keep a sound one from being added.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        let entropy = context.entropy.as_ref();
        let keys = match slot.role {
            KeyRole::Full => self.keys().for_writer(slot.id(), entropy)?,
            KeyRole::Collector => {
                let domains = self.domains().await?;
                self.keys().for_collector(slot.id(), &domains, entropy)?
            }
        };
        slot.put(self.store(), self.keys(), &keys, self.0.descriptor_hash, context).await
    }

    /// Returns the domains that there are: the default one, and those of the newest snapshots.
    async fn domains(&self) -> Result<BTreeSet<String>> {
        let mut domains = BTreeSet::from([DEFAULT_DOMAIN.to_owned()]);
        for stream in self.streams().await? {
            let newest = self.newest_snapshots(&stream, 1).await?;
            domains.extend(newest.into_iter().map(|snapshot| snapshot.domain));
        }
        Ok(domains)
    }

    /// Lists the slots that open this repository, by id. What a broken-off creation left is not listed.
    ///
    /// # Errors
    /// `Corrupt` where a slot cannot be read; `Unavailable`, `Denied`.
    pub async fn slots(&self) -> Result<Vec<SlotInfo>> {
        let (slots, tests) = futures::try_join!(self.own_slots(), self.slot_tests())?;
        stream::iter(slots.into_iter().map(|slot| {
            let (this, tested) = (self.clone(), tests.get(&slot.binding.slot).copied());
            async move {
                match this.certificate(slot.binding.slot).await {
                    Ok(certificate) => Ok(SlotInfo { tested, ..info(&slot, Some(&certificate)) }),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        Ok(SlotInfo { tested, ..info(&slot, None) })
                    }
                    Err(error) => Err(error),
                }
            }
        }))
        .buffered(SMALL_REQUESTS_MAX)
        .try_collect()
        .await
    }

    async fn own_slots(&self) -> Result<Vec<KeySlot>> {
        let found = all_slots(self.store()).await?;
        let slots = found.iter().map(|(id, object)| KeySlot::decode(*id, object));
        slots
            .filter(|slot| {
                slot.as_ref().map_or(true, |slot| slot.binding.descriptor == self.0.descriptor_hash)
            })
            .collect()
    }

    /// Opens a slot with its key and compares what it gives with the keys at hand: proves that the key
    /// would open the repository, without restoring anything.
    ///
    /// # Errors
    /// `WrongKey` where the key opens no slot; `Corrupt` where what it opens is not this repository.
    pub async fn test_slot(&self, unlock: &Unlock) -> Result<SlotInfo> {
        let slots = candidate_slots(self.store(), unlock).await?;
        let keys = unlock_any(slots, self.0.descriptor_hash, unlock).await?;
        let id = keys.signer().writer();
        let certificate = self.certificate(id).await?;
        let is_ours = keys.repository() == self.id()
            && keys.authority().is_none_or(|it| it.public_key() == self.0.descriptor.authority)
            && keys.role() == certificate.role
            && keys.signer().public_key() == certificate.public_key;
        if !is_ours {
            return Err(Error::new(ErrorKind::Corrupt, "test key slot", id.to_string())
                .detail("its keys are not those of this repository and this writer"));
        }
        let slots = self.own_slots().await?;
        slots.iter().find(|slot| slot.binding.slot == id).map_or_else(
            || Err(Error::new(ErrorKind::NotFound, "test key slot", id.to_string())),
            |slot| Ok(info(slot, Some(&certificate))),
        )
    }

    /// Removes a slot; its certificate stays, so that what its writer signed can still be checked.
    ///
    /// Whoever has opened the slot before may have kept the keys: removing it only keeps out those who
    /// come by its passphrase or file later.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where it is the last one; `Unavailable`, `Denied`.
    pub async fn remove_slot(&self, id: WriterId, context: &Context) -> Result<()> {
        context.check("remove key slot")?;
        self.check_writable()?;
        let slots = self.own_slots().await?;
        let infos = self.slots().await?;
        let Some(slot) = slots.iter().find(|slot| slot.binding.slot == id) else {
            return Err(Error::new(ErrorKind::NotFound, "remove key slot", id.to_string()));
        };
        let last = || {
            Error::new(ErrorKind::Invalid, "remove key slot", id.to_string())
                .detail("it is the last one: nothing would give all keys any more")
        };
        let is_full = |slot: &&SlotInfo| slot.role == KeyRole::Full;
        if infos.iter().filter(is_full).all(|slot| slot.id == id) {
            return Err(last());
        }
        self.store().delete(&key_slot_path(id)).await?;
        // Two removals at once may each have seen the other's slot. Then both put theirs back.
        if !self.slots().await?.iter().any(|slot| slot.role == KeyRole::Full) {
            let object = Bytes::from(slot.encode());
            self.store().create(&key_slot_path(id), object).await?;
            return Err(last());
        }
        Ok(())
    }
}

fn info(slot: &KeySlot, certificate: Option<&Certificate>) -> SlotInfo {
    SlotInfo {
        id: slot.binding.slot,
        kind: match slot.binding.lock {
            SlotLock::Passphrase { cost, .. } => SlotKind::Passphrase(cost),
            SlotLock::KeyFile => SlotKind::KeyFile,
            SlotLock::Shares { threshold, count } => SlotKind::Shares { threshold, count },
            SlotLock::Recipient(_) => SlotKind::Recipient,
        },
        label: certificate.map(|certificate| certificate.label.clone()),
        created: certificate.map(|certificate| certificate.created),
        recipient: certificate.and_then(|certificate| certificate.recipient),
        role: certificate.map_or(KeyRole::Full, |certificate| certificate.role),
        tested: None,
    }
}
