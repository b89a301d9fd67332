//! Cuts as stored.
