//! How much is asked of a store: what tests bound and what requests cost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests and bytes since a store was attached. Several tries of one call count each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Objects or sets of ranges asked for, looks without reading among them.
    pub gets: u64,
    /// Objects sent.
    pub puts: u64,
    /// Listings; each may take a request per thousand objects.
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes of content received.
    pub received_bytes: u64,
    /// Bytes of content sent.
    pub sent_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    gets: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn get(&self) {
        self.gets.fetch_add(1, Relaxed);
    }

    pub(super) fn received(&self, length: usize) {
        self.received_bytes.fetch_add(length as u64, Relaxed);
    }

    pub(super) fn put(&self, length: usize) {
        self.puts.fetch_add(1, Relaxed);
        self.sent_bytes.fetch_add(length as u64, Relaxed);
    }

    pub(super) fn list(&self) {
        self.lists.fetch_add(1, Relaxed);
    }

    pub(super) fn delete(&self) {
        self.deletes.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> StoreStats {
        StoreStats {
            gets: self.gets.load(Relaxed),
            puts: self.puts.load(Relaxed),
            lists: self.lists.load(Relaxed),
            deletes: self.deletes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
        }
    }
}
