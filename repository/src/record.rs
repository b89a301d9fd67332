//! Items as stored.
