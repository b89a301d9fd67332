//! Snapshots as persistent sorted maps.
