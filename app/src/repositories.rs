//! From settings to an opened repository.

use std::collections::BTreeMap;

use model::{Context, ErrorKind, Result};
use repository::crypto::Unlock;
use repository::store::{Attach, Store};
use repository::{OpenOptions, Repository};

use crate::settings::{Settings, absolute_url};

/// Attaches the store of a repository. Makes no request.
///
/// # Errors
/// `Invalid` where none is named or its URL makes no sense; `NotFound`, `Unsupported`.
pub fn attach(settings: &Settings, attach: Attach, context: &Context) -> Result<Store> {
    let url = settings.repository()?;
    Store::attach(url, &options_for(url, settings.environment.store_options()), attach, context)
}

/// Attaches what is to be copied: the repository, unless another is named. Makes no request.
///
/// # Errors
/// As [`attach`].
pub fn attach_source(settings: &Settings, url: Option<&str>, context: &Context) -> Result<Store> {
    let Some(url) = url else { return attach(settings, Attach::Existing, context) };
    let url = absolute_url(url, &settings.environment);
    let options = options_for(&url, settings.environment.store_options());
    Store::attach(&url, &options, Attach::Existing, context)
}

/// Attaches the place of a copy, with settings of its own where the environment has them (see
/// [`Environment::copy_options`](crate::environment::Environment::copy_options)). A folder that is not
/// there is made, but for a dry run, which sees an empty place. Makes no request.
///
/// # Errors
/// As [`attach`].
pub fn attach_copy(
    settings: &Settings,
    url: &str,
    is_dry_run: bool,
    context: &Context,
) -> Result<Store> {
    let url = absolute_url(url, &settings.environment);
    let options = options_for(&url, settings.environment.copy_options());
    if !is_dry_run {
        return Store::attach(&url, &options, Attach::Create, context);
    }
    match Store::attach(&url, &options, Attach::Existing, context) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Store::attach("memory://", &options, Attach::Existing, context)
        }
        attached => attached,
    }
}

/// A local folder has no settings.
fn options_for(url: &str, options: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_remote = url.contains("://") && !url.starts_with("file://");
    if is_remote { options } else { BTreeMap::new() }
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
