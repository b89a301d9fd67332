//! From settings to an opened repository.

use std::collections::BTreeMap;

use model::{Context, Result};
use repository::crypto::Unlock;
use repository::store::{Attach, Store};
use repository::{OpenOptions, Repository};

use crate::settings::Settings;

/// Attaches the store of a repository. Makes no request.
///
/// # Errors
/// `Invalid` where none is named or its URL makes no sense; `NotFound`, `Unsupported`.
pub fn attach(settings: &Settings, attach: Attach, context: &Context) -> Result<Store> {
    let url = settings.repository()?;
    let is_remote = url.contains("://") && !url.starts_with("file://");
    let options = if is_remote { settings.environment.store_options() } else { BTreeMap::new() };
    Store::attach(url, &options, attach, context)
}

/// Says how a repository is used: the policy's memory, a cache below the user's own.
pub fn open_options(settings: &Settings) -> OpenOptions {
    let usual = OpenOptions::default();
    OpenOptions {
        memory_bytes: settings.memory_bytes().unwrap_or(usual.memory_bytes),
        cache_folder: settings.environment.cache_folder(),
    }
}

/// Makes sure that there is a repository, without a key.
///
/// # Errors
/// As [`attach`] and [`Repository::find`].
pub async fn find(settings: &Settings, context: &Context) -> Result<()> {
    Repository::find(&attach(settings, Attach::Existing, context)?).await
}

/// Opens the repository with a key.
///
/// # Errors
/// As [`attach`] and [`Repository::open`].
pub async fn open(settings: &Settings, unlock: &Unlock, context: &Context) -> Result<Repository> {
    let store = attach(settings, Attach::Existing, context)?;
    Repository::open(store, unlock, open_options(settings), context).await
}
