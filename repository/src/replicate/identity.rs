//! Two stores may be brought together only where they hold one repository.

use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use super::folders::is_empty;
use crate::format::Descriptor;
use crate::format::descriptor::{DESCRIPTOR_BYTES_MAX, DESCRIPTOR_PATH};
use crate::store::Store;

/// The most folders without an object that a new destination may have.
const EMPTY_FOLDERS_MAX: usize = 1000;
/// Where probes of stores are left by who may not delete.
const PROBES: &str = "probe";

/// Which repository it is, and what is to be done about the destination.
pub(super) struct Identity {
    pub(super) descriptor: Descriptor,
    object: Bytes,
    pub(super) is_new: bool,
}

impl Identity {
    /// Finds out which repository the source holds, and that the destination holds the same or nothing.
    ///
    /// # Errors
    /// `NotFound` where the source holds none; `Conflict` where the destination holds something else;
    /// `Invalid` where both are one place; `Unsupported` where this version may not write to it.
    pub(super) async fn find(source: &Store, destination: &Store) -> Result<Self> {
        if source.is_same_place(destination) {
            return Err(Error::new(ErrorKind::Invalid, "sync repository", source.name())
                .detail("source and destination are the same"));
        }
        let object = crate::repository::get_descriptor_object(source).await?;
        let descriptor = Descriptor::decode(&object)?;
        let unknown = descriptor.flags.unknown().write;
        if unknown != 0 {
            return Err(Error::new(ErrorKind::Unsupported, "sync repository", source.name())
                .detail(format!(
                    "it needs features that are not known ({unknown:#06x}); upgrade"
                )));
        }
        let is_new = match destination.get_limited(DESCRIPTOR_PATH, DESCRIPTOR_BYTES_MAX).await {
            Ok(there) if there == object => false,
            Ok(there) => return Err(other_repository(destination, &there)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                check_empty(destination).await?;
                true
            }
            Err(error) => return Err(error),
        };
        Ok(Self { descriptor, object, is_new })
    }

    /// Makes the destination a replica, unless it is one: from now on it belongs to this repository.
    ///
    /// # Errors
    /// `Unsupported` where the store cannot carry one; `Conflict` where somebody else was faster.
    pub(super) async fn settle(&self, destination: &Store) -> Result<()> {
        if !self.is_new {
            return Ok(());
        }
        destination.probe().await?;
        let created = destination.create(DESCRIPTOR_PATH, self.object.clone()).await;
        created.map(|_| ()).map_err(|error| match error.kind() {
            ErrorKind::Conflict => refused(destination, "it holds another repository by now"),
            _ => error,
        })
    }
}

fn other_repository(destination: &Store, object: &[u8]) -> Error {
    match Descriptor::decode(object) {
        Ok(other) => refused(destination, &format!("it holds another repository, {}", other.id)),
        Err(error) => {
            refused(destination, "its descriptor is not that of the source").because(error)
        }
    }
}

async fn check_empty(destination: &Store) -> Result<()> {
    let top = destination.list_directories("").await?;
    let mut is_free = top.objects.is_empty();
    for folder in top.directories.iter().filter(|folder| *folder != PROBES) {
        is_free = is_free && is_empty(destination, folder, EMPTY_FOLDERS_MAX).await?;
    }
    if is_free {
        return Ok(());
    }
    Err(refused(destination, "it is not empty and holds no repository; name an empty place"))
}

fn refused(destination: &Store, why: &str) -> Error {
    Error::new(ErrorKind::Conflict, "sync repository", destination.name()).detail(why)
}
