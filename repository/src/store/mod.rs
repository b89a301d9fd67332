//! The only part that talks to an object store.
