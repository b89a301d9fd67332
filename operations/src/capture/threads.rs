//! The threads that content is read and stored on.
//!
//! They are the capture's own, and few: allocators keep memory per thread, and content needs buffers of
//! megabytes. On a shared pool every thread would come to keep some.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use model::{Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads; they end once this is dropped and what was begun is done.
pub(super) struct Threads(Sender<Job>);

impl Threads {
    /// Starts threads.
    ///
    /// # Errors
    /// `Exhausted` where the system gives no more.
    pub(super) fn start(count: usize) -> Result<Self> {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..count {
            let receiver = Arc::clone(&receiver);
            let work = move || {
                while let Some(job) = next(&receiver) {
                    // Whoever waits for the result learns of a panic by not getting it.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            thread::Builder::new().name("capture".to_owned()).spawn(work).map_err(|error| {
                Error::new(ErrorKind::Exhausted, "start thread", "capture").because(error)
            })?;
        }
        Ok(Self(sender))
    }

    /// Runs a job on the next thread that is free.
    ///
    /// # Errors
    /// `Internal` where no thread is left.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        self.0
            .send(Box::new(job))
            .map_err(|_| Error::new(ErrorKind::Internal, "run on thread", "capture"))
    }
}

fn next(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_also_after_one_that_panicked() {
        let threads = Threads::start(1).expect("start");
        threads.run(|| panic!("on purpose")).expect("run");
        let (sender, receiver) = channel();
        threads.run(move || sender.send(thread::current().id()).expect("send")).expect("run");
        assert_ne!(receiver.recv().expect("done"), thread::current().id());
    }
}
