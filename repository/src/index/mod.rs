//! Where each chunk lies.
