//! Packs and their blocks.
