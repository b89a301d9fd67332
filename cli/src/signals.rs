//! Signals: the first asks the operation to stop at its next safe place, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::progress::Progress;

/// Which signal asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicU8>);

impl Asked {
    /// Returns how a command ends that was cancelled.
    pub fn exit(&self) -> Exit {
        if self.0.load(Ordering::Relaxed) == Exit::Terminated.code() {
            Exit::Terminated
        } else {
            Exit::Interrupted
        }
    }
}

/// Begins to listen. Called once keys are at hand: until then a signal ends the process, also at a prompt.
pub fn listen(cancel: CancellationToken, progress: Arc<Progress>, asked: Asked) {
    let signals = signal(SignalKind::interrupt()).and_then(|interrupt| {
        signal(SignalKind::terminate()).map(|terminate| (interrupt, terminate))
    });
    // Without a handler a signal ends the process, which the repository survives as well.
    let Ok((mut interrupt, mut terminate)) = signals else { return };
    tokio::spawn(async move {
        loop {
            let exit = tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
            };
            if cancel.is_cancelled() {
                end_now(exit);
            }
            asked.0.store(exit.code(), Ordering::Relaxed);
            cancel.cancel();
            progress.note("stopping at the next safe place; once more ends at once");
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "who asks twice does not want to wait for anything")]
fn end_now(exit: Exit) {
    std::process::exit(i32::from(exit.code()));
}
