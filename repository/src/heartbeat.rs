//! Proofs of nothing new.
