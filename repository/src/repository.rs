//! Opening a repository.
