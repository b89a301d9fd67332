//! Kinds of stores, and which servers each was tried against.

use std::sync::Arc;

use object_store::ObjectStore;

use super::Store;

/// What kind of store a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A directory of this machine.
    Directory,
    /// The memory of this process.
    Memory,
    /// What speaks S3.
    S3,
    /// Azure's blobs.
    Azure,
    /// Google's cloud storage.
    Google,
    /// One that was handed over: its owner knows.
    Given,
}

impl StoreKind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::Memory => "memory",
            Self::S3 => "S3",
            Self::Azure => "Azure Blob Storage",
            Self::Google => "Google Cloud Storage",
            Self::Given => "a store of its own",
        }
    }

    /// Returns the server that the whole of a repository's life is tested against; none where there is
    /// no such server, so that nobody has shown that this kind works.
    pub fn tried_against(self) -> Option<&'static str> {
        match self {
            Self::Directory => Some("file systems of Linux"),
            Self::Memory | Self::Given => Some("itself"),
            Self::S3 => Some("versitygw 1.8.0"),
            Self::Azure => Some("Azurite 3.35.0"),
            Self::Google => None,
        }
    }

    /// Says whether requests go over a network.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::S3 | Self::Azure | Self::Google)
    }
}

impl Store {
    /// Returns what kind of store it is.
    pub fn kind(&self) -> StoreKind {
        self.0.kind
    }

    /// Says whether two stores are one folder of this host, or go by one name at one service.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        let place =
            |store: &Self| (store.0.name.trim_end_matches('/').to_owned(), store.0.service.clone());
        match (&self.0.local_root, &other.0.local_root) {
            (Some(root), Some(other)) => root == other,
            (None, None) => place(self) == place(other),
            _ => false,
        }
    }

    /// Returns the port beneath, for wrappers around it: faults, throttles and recordings.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.object_store
    }
}
