//! A monitor that remembers what it was told.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Counter, Error, Monitor, Phase};

/// A [`Monitor`] that a test asks afterwards.
#[derive(Debug, Default)]
pub struct RecordingMonitor(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    counts: BTreeMap<Counter, u64>,
    phases: Vec<Phase>,
    problems: Vec<String>,
}

impl RecordingMonitor {
    /// Creates a monitor that has been told nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the sum of what was added to a counter.
    pub fn count_of(&self, counter: Counter) -> u64 {
        self.lock().counts.get(&counter).copied().unwrap_or(0)
    }

    /// Returns every counter that was added to.
    pub fn counts(&self) -> BTreeMap<Counter, u64> {
        self.lock().counts.clone()
    }

    /// Returns the phases in the order in which they began.
    pub fn phases(&self) -> Vec<Phase> {
        self.lock().phases.clone()
    }

    /// Returns the problems as lines, in the order in which they came.
    pub fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }

    /// Forgets everything: for a test with several runs.
    pub fn reset(&self) {
        *self.lock() = Record::default();
    }

    /// Panics where an operation went on after a failure.
    pub fn assert_no_problems(&self) {
        let problems = self.problems();
        assert!(problems.is_empty(), "problems were reported: {problems:#?}");
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for RecordingMonitor {
    fn count(&self, counter: Counter, increment: u64) {
        let mut record = self.lock();
        let count = record.counts.entry(counter).or_default();
        *count = count.saturating_add(increment);
    }

    fn phase(&self, phase: Phase) {
        self.lock().phases.push(phase);
    }

    fn problem(&self, problem: &Error) {
        let line = problem.chain();
        self.lock().problems.push(line);
    }
}

#[cfg(test)]
mod tests {
    use model::ErrorKind;

    use super::*;

    #[test]
    fn what_was_told_can_be_asked() {
        let monitor = RecordingMonitor::new();
        monitor.assert_no_problems();
        monitor.count(Counter::ReadBytes, 3);
        monitor.count(Counter::ReadBytes, 4);
        monitor.phase(Phase { name: "capture", subject: "etc".into(), total: None });
        assert_eq!(monitor.count_of(Counter::ReadBytes), 7);
        assert_eq!(monitor.count_of(Counter::ReadItems), 0);
        assert_eq!(monitor.phases().len(), 1);
        monitor.problem(&Error::new(ErrorKind::Denied, "read file", "shadow"));
        assert_eq!(monitor.problems(), ["read file shadow"]);
        monitor.reset();
        monitor.assert_no_problems();
        assert!(monitor.counts().is_empty());
    }

    #[test]
    #[should_panic(expected = "read file shadow")]
    fn problems_fail_a_test() {
        let monitor = RecordingMonitor::new();
        monitor.problem(&Error::new(ErrorKind::Denied, "read file", "shadow"));
        monitor.assert_no_problems();
    }
}
