//! Changes between cuts.
