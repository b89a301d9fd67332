//! Counts the problems of a capture, whoever reports them: a system tells of what it cannot list by
//! the monitor alone, and the snapshot has to say how many there were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Context, Counter, Error, Monitor, Phase};

/// A monitor that counts problems on their way to another.
#[derive(Debug)]
pub struct Problems {
    inner: Arc<dyn Monitor>,
    count: AtomicU64,
}

impl Problems {
    /// Returns the same context with a monitor that counts.
    pub fn counting(context: &Context) -> (Context, Arc<Self>) {
        let inner = Arc::clone(&context.monitor);
        let problems = Arc::new(Self { inner, count: AtomicU64::new(0) });
        (Context { monitor: problems.clone(), ..context.clone() }, problems)
    }

    /// Returns how many there were so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Monitor for Problems {
    fn count(&self, counter: Counter, increment: u64) {
        self.inner.count(counter, increment);
    }

    fn phase(&self, phase: Phase) {
        self.inner.phase(phase);
    }

    fn problem(&self, problem: &Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.problem(problem);
    }
}
