//! Structure and byte checks.
