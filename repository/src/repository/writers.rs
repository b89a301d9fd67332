//! Sealed and signed objects of an opened repository: certificates are fetched once, when first needed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result};

use super::{Repository, SMALL_REQUESTS_MAX};
use crate::crypto::{KeyRing, PublicKey};
use crate::format::ObjectType;
use crate::format::certificate::{CERTIFICATE_BYTES_MAX, Certificate, certificate_path};
use crate::format::envelope::{SignedBody, Unverified, open_unverified, seal_signed};
use crate::store::Created;
use crate::types::WriterId;

/// The public keys that are known to be certified.
#[derive(Debug)]
pub(super) struct Writers(RwLock<HashMap<WriterId, PublicKey>>);

impl Writers {
    pub(super) fn new(keys: &KeyRing) -> Self {
        let own = (keys.signer().writer(), keys.signer().public_key());
        Self(RwLock::new(HashMap::from([own])))
    }

    fn get(&self, writer: WriterId) -> Option<PublicKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&writer).copied()
    }

    fn insert(&self, writer: WriterId, key: PublicKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(writer, key);
    }
}

impl Repository {
    /// Signs and seals a body as this writer and creates the object.
    ///
    /// # Errors
    /// As [`Store::create`](crate::store::Store::create).
    pub async fn create_signed(
        &self,
        object_type: ObjectType,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Created> {
        let object = seal_signed(self.keys(), object_type, path, body)?;
        self.store().create(path, Bytes::from(object)).await
    }

    /// Opens a signed object that was found at a path and checks its signature.
    ///
    /// # Errors
    /// `Corrupt` where no certified writer signed it; `Unsupported`, `Unavailable`, `Denied`.
    pub async fn open_signed(
        &self,
        object_type: ObjectType,
        path: &str,
        object: &[u8],
    ) -> Result<SignedBody> {
        let unverified = open_unverified(self.keys(), object_type, path, object)?;
        self.verify_all(vec![unverified])
            .await?
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "verify signature of", path))
    }

    /// Checks many signatures, in the same order: the certificates of writers not met before are
    /// fetched together first.
    ///
    /// # Errors
    /// As [`Repository::open_signed`].
    pub async fn verify_all(&self, unverified: Vec<Unverified>) -> Result<Vec<SignedBody>> {
        let missing: BTreeSet<_> = unverified
            .iter()
            .map(Unverified::writer)
            .filter(|writer| self.0.writers.get(*writer).is_none())
            .collect();
        let () = stream::iter(missing.into_iter().map(|writer| {
            let this = self.clone();
            async move {
                let certificate =
                    this.certificate(writer).await.map_err(|error| uncertified(writer, error))?;
                this.0.writers.insert(writer, certificate.public_key);
                Ok::<_, Error>(())
            }
        }))
        .buffer_unordered(SMALL_REQUESTS_MAX)
        .try_collect()
        .await?;
        unverified
            .into_iter()
            .map(|unverified| match self.0.writers.get(unverified.writer()) {
                Some(key) => unverified.verify(&key),
                None => Err(Error::new(ErrorKind::Internal, "verify signatures", "")),
            })
            .collect()
    }

    /// Gets the certificate of a writer.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` where the repository's authority did not sign it; `Unavailable`, `Denied`.
    pub async fn certificate(&self, writer: WriterId) -> Result<Certificate> {
        let path = certificate_path(writer);
        let object = self.store().get_limited(&path, CERTIFICATE_BYTES_MAX).await?;
        Certificate::open(self.keys(), &self.0.descriptor.authority, writer, &object)
    }
}

/// A writer without a certificate wrote nothing that counts.
fn uncertified(writer: WriterId, error: Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::NotFound | ErrorKind::Exhausted => ErrorKind::Corrupt,
        kind => kind,
    };
    Error::new(kind, "find certificate of writer", writer.to_string()).because(error)
}
