//! What a test run says at its end: time per step, time per area against its share, and the count.

use std::time::Duration;

use super::areas::AREAS;
use super::steps::Outcome;

/// How many passed and failed, and how many could not be run for want of a server.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub not_run: u64,
}

impl Counts {
    /// One thing that passed.
    pub const PASSED: Self = Self { passed: 1, failed: 0, not_run: 0 };
    /// One thing that failed.
    pub const FAILED: Self = Self { passed: 0, failed: 1, not_run: 0 };

    /// Adds the numbers of a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; …`, and counts
    /// lines such as `not run: a test: why`.
    pub fn add_line(&mut self, line: &str) {
        // What the test framework was about to print stands before it.
        self.not_run += u64::from(line.contains("not run: "));
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let (_, numbers) = result.split_once(". ").unwrap_or(("", result));
        for part in numbers.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// The lines of the summary; the last one counts.
pub fn lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{:<34} {:>9}  result", "step", "time")];
    lines.extend(outcomes.iter().map(step_line));
    lines.push(String::new());
    lines.push(format!("{:<34} {:>9}  share", "area", "minutes"));
    lines.extend(AREAS.iter().map(|area| {
        let spent: Duration =
            outcomes.iter().filter(|one| one.area == area.title).map(|one| one.elapsed).sum();
        let minutes = spent.as_secs_f64() / 60.0;
        let verdict = match (minutes > f64::from(area.minutes), area.is_kind) {
            (false, _) => "",
            (true, false) => "  over its share",
            (true, true) => "  over its share: move cases to --full",
        };
        format!("{:<34} {minutes:>9.1}  {:>5}{verdict}", area.title, area.minutes)
    }));
    let passed: u64 = outcomes.iter().map(|one| one.counts.passed).sum();
    let failed: u64 = outcomes.iter().map(|one| one.counts.failed).sum();
    lines.push(String::new());
    lines.push(format!("{passed} passed, {failed} failed"));
    lines
}

/// A duration for people.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

fn step_line(outcome: &Outcome) -> String {
    let Counts { passed, failed, not_run } = outcome.counts;
    let mut result = match outcome.skipped {
        Some(why) => format!("skipped: {why}"),
        None if failed == 0 => format!("{passed} passed"),
        None => format!("{passed} passed, {failed} FAILED"),
    };
    if not_run > 0 {
        result.push_str(&format!(", of which {not_run} not run: why is said above"));
    }
    format!("{:<34} {:>9}  {result}", outcome.name, seconds(outcome.elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut counts = Counts::default();
        counts.add_line("running 3 tests");
        counts.add_line("test a ... ok");
        counts.add_line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        );
        counts.add_line("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        counts.add_line("test a::b ... not run: a::b: moto has no users");
        assert_eq!(counts, Counts { passed: 15, failed: 2, not_run: 1 });
    }

    #[test]
    fn the_last_line_counts_everything() {
        let outcome = |name: &str, area, passed, failed, skipped| Outcome {
            name: name.to_owned(),
            area,
            elapsed: Duration::from_secs(780),
            counts: Counts { passed, failed, not_run: passed / 7 },
            skipped,
        };
        let outcomes = [
            outcome("clippy", "build", 1, 0, None),
            outcome("advisories", "build", 0, 0, Some("not installed")),
            outcome("systems: unit tests", "files", 7, 2, None),
        ];
        let lines = lines(&outcomes);
        assert_eq!(lines.last().unwrap(), "8 passed, 2 failed");
        let shown = lines.join("\n");
        assert!(shown.contains("skipped: not installed"), "{shown}");
        assert!(shown.contains("7 passed, 2 FAILED, of which 1 not run"), "{shown}");
        assert!(shown.contains("26.0     12  over its share"), "{shown}");
    }
}
