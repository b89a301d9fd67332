//! What every long operation is given.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{Clock, Entropy, Error, Monitor, Result};

/// Time, randomness, progress and a way to be told to stop. Always the last argument.
#[derive(Debug, Clone)]
pub struct Context {
    /// Learns the time and waits.
    pub clock: Arc<dyn Clock>,
    /// Obtains random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Receives progress.
    pub monitor: Arc<dyn Monitor>,
    /// Is cancelled when the operation is to stop at its next safe place.
    pub cancel: CancellationToken,
}

impl Context {
    /// Returns an error where the operation was told to stop.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self, action: &'static str) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled(action)) } else { Ok(()) }
    }
}
