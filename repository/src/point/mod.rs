//! Site-wide recovery points.
