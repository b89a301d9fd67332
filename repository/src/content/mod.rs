//! Writing and reading chunks.
