//! Creating a repository.

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

use super::slots::NewSlot;
use super::{CreateOptions, Repository};
use crate::crypto::{KeyRing, Unlock};
use crate::format::FeatureFlags;
use crate::format::descriptor::{DESCRIPTOR_PATH, Descriptor};
use crate::store::Store;
use crate::types::RepositoryId;

impl Repository {
    /// Creates a repository whose first key slot opens with `unlock`, after the store has been probed.
    ///
    /// The descriptor comes last. A creation that broke off before leaves a slot and a certificate that
    /// belong to no repository, are never used and harm nobody; creating again is safe.
    ///
    /// # Errors
    /// `Conflict` where there is a repository; `Unsupported` where the store lacks what one needs;
    /// `Unavailable`, `Denied`, `Exhausted`.
    pub async fn create(
        store: Store,
        unlock: &Unlock,
        options: CreateOptions,
        context: &Context,
    ) -> Result<Self> {
        context.check("create repository")?;
        let exists = || {
            Error::new(ErrorKind::Conflict, "create repository", store.name())
                .detail("there is one already")
        };
        match store.head(DESCRIPTOR_PATH).await {
            Ok(_) => return Err(exists()),
            Err(error) if error.kind() == ErrorKind::NotFound => store.probe().await?,
            Err(error) => return Err(error),
        }
        let slot = NewSlot::prepare(unlock, options.cost, &options.label, context)?;
        let mut id = [0; 16];
        context.entropy.fill(&mut id);
        let keys = KeyRing::generate(RepositoryId(id), slot.id(), context.entropy.as_ref())?;
        let authority = keys
            .authority()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "create repository", store.name()))?;
        let descriptor = Descriptor {
            id: RepositoryId(id),
            authority: authority.public_key(),
            created: context.clock.now(),
            flags: FeatureFlags::default(),
        };
        let object = descriptor.encode();
        let descriptor_hash = *blake3::hash(&object).as_bytes();
        slot.put(&store, &keys, &keys, descriptor_hash, context).await?;
        store.create(DESCRIPTOR_PATH, Bytes::from(object)).await.map_err(|error| {
            match error.kind() {
                ErrorKind::Conflict => exists().because(error),
                _ => error,
            }
        })?;
        Ok(Self::assemble(store, keys, (descriptor, descriptor_hash), options.open))
    }
}
