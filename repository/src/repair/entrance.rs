//! What a repository is opened by: its descriptor, and the key slot at hand. Without them nothing else can
//! be looked at, so they come before all else, from a second copy that the same key opens.

use std::collections::BTreeSet;

use model::{Context, Error, ErrorKind, Result};

use super::mender::Mender;
use super::report::{Means, Mended};
use crate::Repository;
use crate::format::certificate::{CERTIFICATE_BYTES_MAX, Certificate};
use crate::format::descriptor::{DESCRIPTOR_BYTES_MAX, DESCRIPTOR_PATH};
use crate::format::key_slot::{KEY_SLOT_BYTES_MAX, key_slot_path};
use crate::store::Store;

/// Mends descriptor and key slot of a repository that does not open, from a second copy that was opened
/// with the same key; returns what was mended. A slot that is not there stays so: it may have been
/// removed.
///
/// # Errors
/// `Conflict` where nothing shows that the store holds this repository; those of the stores.
pub async fn mend_entrance(
    store: &Store,
    second: &Repository,
    is_dry_run: bool,
    context: &Context,
) -> Result<Vec<Mended>> {
    if store.is_same_place(second.store()) {
        return Err(Error::new(ErrorKind::Invalid, "repair repository", store.name())
            .detail("the second copy is the same place"));
    }
    let mut mender = Mender::new(store, Some(second.store()), is_dry_run, context).await?;
    let copy = super::descriptor_of(second.store()).await?;
    let found = store.get_damaged(DESCRIPTOR_PATH, DESCRIPTOR_BYTES_MAX).await?;
    if found.as_ref() != Some(&copy) {
        check_ours(store, second).await?;
        mender.put(DESCRIPTOR_PATH, found.as_ref(), copy, Means::Copy).await?;
    }
    let slot = key_slot_path(second.writer());
    if store.get_damaged(&slot, KEY_SLOT_BYTES_MAX).await?.is_some() {
        mender.small(second, &slot, &BTreeSet::new()).await?;
    }
    Ok(mender.report.mended)
}

/// Makes sure that a store whose descriptor cannot be read holds the repository: that a certificate in it
/// was issued there.
async fn check_ours(store: &Store, second: &Repository) -> Result<()> {
    let authority = &second.descriptor().authority;
    for listed in store.list("writer").await? {
        let writer = listed.path.strip_prefix("writer/").and_then(|name| name.parse().ok());
        let Some(writer) = writer else { continue };
        let object = store.get_damaged(&listed.path, CERTIFICATE_BYTES_MAX).await?;
        let is_ours = |object: &bytes::Bytes| {
            Certificate::open(second.keys(), authority, writer, object).is_ok()
        };
        if object.as_ref().is_some_and(is_ours) {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Conflict, "repair repository", store.name())
        .detail("nothing in it shows that it is of the same repository as the second copy"))
}
