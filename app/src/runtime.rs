//! Threads: one runtime per process, made when the first operation needs it.

use std::time::Duration;

use model::{Error, ErrorKind, Result};

/// How long work that blocks is waited for when everything else is done.
const PATIENCE: Duration = Duration::from_millis(100);

/// Runs a future to its end on a runtime of its own: one thread per core for what is asynchronous,
/// others as needed for what blocks.
///
/// # Errors
/// `Exhausted` where no threads can be had; what the future fails with.
pub fn run<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("lifeboat")
        .build()
        .map_err(|error| Error::new(ErrorKind::Exhausted, "start threads", "").because(error))?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_timeout(PATIENCE);
    outcome
}
