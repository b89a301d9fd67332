//! Threads of an operation's own, for work that holds much memory while it is done.
//!
//! Allocators keep memory per thread, and what is done with content takes buffers of megabytes. On a
//! shared pool every thread would come to keep some.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use model::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads; they end once this is dropped and what was begun is done.
#[derive(Debug)]
pub struct Threads {
    name: &'static str,
    jobs: Sender<Job>,
}

impl Threads {
    /// Starts threads, one where `count` is 0.
    ///
    /// # Errors
    /// `Exhausted` where the system gives no more.
    pub fn start(name: &'static str, count: usize) -> Result<Self> {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..count.max(1) {
            let receiver = Arc::clone(&receiver);
            let work = move || {
                while let Some(job) = next(&receiver) {
                    // Whoever waits for the result learns of a panic by not getting it.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
                Error::new(ErrorKind::Exhausted, "start thread", name).because(error)
            })?;
        }
        Ok(Self { name, jobs: sender })
    }

    /// Runs a job on the next thread that is free.
    ///
    /// # Errors
    /// `Internal` where no thread is left.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        self.jobs.send(Box::new(job)).map_err(|_| self.lost())
    }

    /// Runs work on the next thread that is free, and returns what came of it.
    ///
    /// # Errors
    /// `Internal` where it panicked.
    pub async fn result<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.run(move || {
            let _nobody_waits = sender.send(work());
        })?;
        receiver.await.map_err(|_| self.lost())
    }

    fn lost(&self) -> Error {
        Error::new(ErrorKind::Internal, "run on thread", self.name)
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
        let threads = Threads::start("test", 1).expect("start");
        threads.run(|| panic!("on purpose")).expect("run");
        let (sender, receiver) = channel();
        threads.run(move || sender.send(thread::current().id()).expect("send")).expect("run");
        assert_ne!(receiver.recv().expect("done"), thread::current().id());
    }

    #[tokio::test]
    async fn results_come_back_and_a_panic_is_an_error() {
        let threads = Threads::start("test", 0).expect("start");
        assert_eq!(threads.result(|| 7).await.expect("a result"), 7);
        let error = threads.result(|| panic!("on purpose")).await;
        assert_eq!(error.expect_err("an error").kind(), ErrorKind::Internal);
        assert_eq!(threads.result(|| 8).await.expect("a result"), 8);
    }
}
