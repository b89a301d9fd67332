//! Progress on standard error: a bar where that is a terminal, else a plain line every few seconds.
//!
//! Operations count into atomics; a thread of its own draws, so that counting costs nothing. It draws
//! first after a moment: what is done at once shows no bar.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::{Clock, Counter, Error, Monitor, Phase};
use policies::{show_bytes, show_duration};

use crate::table::count;

/// How often a bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(125);
/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How many problems are printed; all are counted.
const PROBLEMS_PRINTED_MAX: usize = 50;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As a bar that is drawn over and over.
    Bar,
    /// As lines.
    Lines,
    /// Not at all.
    Hidden,
}

impl Style {
    /// Chooses by what standard error is.
    pub fn choose(is_wanted: bool) -> Self {
        match (is_wanted, io::stderr().is_terminal()) {
            (false, _) => Self::Hidden,
            (true, true) => Self::Bar,
            (true, false) => Self::Lines,
        }
    }
}

/// A monitor that people watch.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    style: Style,
    drawer: Mutex<Option<Drawer>>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    counters: [AtomicU64; COUNTERS],
    state: Mutex<State>,
    bar: ProgressBar,
    is_quiet: bool,
}

#[derive(Debug, Default)]
struct State {
    name: &'static str,
    subject: String,
    total: Option<(Counter, u64)>,
    started: Duration,
    at_start: [u64; COUNTERS],
    problems: Vec<String>,
    problem_count: u64,
}

#[derive(Debug)]
struct Drawer {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// What a line about a phase is made of: what was counted since it began.
struct Shown<'s> {
    name: &'s str,
    subject: &'s str,
    total: Option<(Counter, u64)>,
    counts: [u64; COUNTERS],
    elapsed: Duration,
}

const COUNTERS: usize = 17;

/// Counters that say how fast it goes, best first.
const SPEEDS: [Counter; 4] =
    [Counter::ReadBytes, Counter::RestoredBytes, Counter::VerifiedBytes, Counter::CopiedBytes];

/// What is named of each counter, in the order of a line.
const WORDS: [(Counter, &str); 10] = [
    (Counter::ListedItems, "listed"),
    (Counter::ReadItems, "read"),
    (Counter::RestoredItems, "restored"),
    (Counter::VerifiedItems, "compared"),
    (Counter::CheckedObjects, "checked"),
    (Counter::CopiedObjects, "copied"),
    (Counter::ReadBytes, "read"),
    (Counter::RestoredBytes, "restored"),
    (Counter::StoredBytes, "stored"),
    (Counter::CopiedBytes, "copied"),
];

fn index(counter: Counter) -> Option<usize> {
    use Counter as C;
    Some(match counter {
        C::ListedItems => 0,
        C::ReusedItems => 1,
        C::ReadItems => 2,
        C::DeletedItems => 3,
        C::ReusedBytes => 4,
        C::ReadBytes => 5,
        C::DeduplicatedBytes => 6,
        C::StoredBytes => 7,
        C::DeltaChunks => 8,
        C::RestoredItems => 9,
        C::SkippedItems => 10,
        C::RestoredBytes => 11,
        C::VerifiedItems => 12,
        C::VerifiedBytes => 13,
        C::CheckedObjects => 14,
        C::CopiedObjects => 15,
        C::CopiedBytes => 16,
        _ => return None,
    })
}

fn is_bytes(counter: Counter) -> bool {
    use Counter as C;
    matches!(
        counter,
        C::ReusedBytes
            | C::ReadBytes
            | C::DeduplicatedBytes
            | C::StoredBytes
            | C::RestoredBytes
            | C::VerifiedBytes
            | C::CopiedBytes
    )
}

fn shown(counter: Counter, value: u64) -> String {
    if is_bytes(counter) { show_bytes(value) } else { count(value) }
}

impl Progress {
    /// Makes one that shows nothing before the first phase begins.
    pub fn new(style: Style, is_quiet: bool, clock: Arc<dyn Clock>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let shared = Shared {
            clock,
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            state: Mutex::default(),
            bar,
            is_quiet,
        };
        Self { shared: Arc::new(shared), style, drawer: Mutex::new(None) }
    }

    /// Returns the problems so far and how many there were.
    pub fn problems(&self) -> (Vec<String>, u64) {
        let state = self.shared.state();
        (state.problems.clone(), state.problem_count)
    }

    /// Prints a line on standard error, beside the bar, unless nothing but results is wanted.
    pub fn note(&self, line: &str) {
        if !self.shared.is_quiet {
            self.shared.line(line);
        }
    }

    /// Prints a line on standard error whatever is wanted.
    pub fn warn(&self, line: &str) {
        self.shared.line(&format!("warning: {line}"));
    }

    /// Ends drawing and takes the bar away.
    pub fn end(&self) {
        let drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Drawer { stop, thread }) = drawer {
            drop(stop);
            // A drawer that panicked has nothing more to draw.
            let _ = thread.join();
        }
        self.shared.bar.finish_and_clear();
    }

    fn start(&self) {
        let mut drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner);
        if drawer.is_some() || self.style == Style::Hidden {
            return;
        }
        let (stop, stopped) = channel();
        let (shared, style) = (Arc::clone(&self.shared), self.style);
        let thread = std::thread::Builder::new().name("progress".to_owned());
        // Without a thread there is no progress to see; the work goes on.
        let thread = thread.spawn(move || shared.draw(style, &stopped));
        *drawer = thread.ok().map(|thread| Drawer { stop, thread });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> [u64; COUNTERS] {
        std::array::from_fn(|at| self.counters.get(at).map_or(0, |counter| counter.load(Relaxed)))
    }

    fn line(&self, line: &str) {
        // Nobody can be told that nobody can be told.
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{}", crate::names::line(line))));
    }

    fn draw(&self, style: Style, stopped: &Receiver<()>) {
        let every = if style == Style::Bar { BAR_EVERY } else { LINE_EVERY };
        let mut is_begun = false;
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            if style == Style::Lines {
                self.line(&self.text());
                continue;
            }
            if !is_begun {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                is_begun = true;
            }
            self.draw_bar();
        }
    }

    fn draw_bar(&self) {
        let fraction = {
            let state = self.state();
            state.total.and_then(|(counter, total)| {
                let at = index(counter)?;
                let done = self.counts().get(at)?.saturating_sub(*state.at_start.get(at)?);
                Some((done.min(total), total))
            })
        };
        let template = match fraction {
            Some(_) => "{bar:24} {percent:>3} %  {wide_msg}",
            None => "{spinner} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        match fraction {
            Some((done, total)) => {
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            None => self.bar.unset_length(),
        }
        self.bar.set_message(self.text());
        self.bar.tick();
    }

    fn text(&self) -> String {
        let state = self.state();
        let mut counts = self.counts();
        counts
            .iter_mut()
            .zip(state.at_start)
            .for_each(|(count, start)| *count -= start.min(*count));
        let elapsed = self.clock.elapsed().saturating_sub(state.started);
        let (name, subject, total) = (state.name, state.subject.as_str(), state.total);
        text(&Shown { name, subject, total, counts, elapsed })
    }
}

/// Renders where a phase stands: what is done, how fast, how long it will take.
fn text(shown_phase: &Shown<'_>) -> String {
    let Shown { name, subject, total, counts, elapsed } = shown_phase;
    let value = |counter| index(counter).and_then(|at| counts.get(at)).copied().unwrap_or(0);
    let mut parts = Vec::new();
    if let Some((counter, total)) = total {
        parts.push(format!("{} of {}", shown(*counter, value(*counter)), shown(*counter, *total)));
    }
    for (counter, word) in WORDS {
        if value(counter) > 0 && total.is_none_or(|(whole, _)| whole != counter) {
            parts.push(format!("{} {word}", shown(counter, value(counter))));
        }
    }
    let seconds = elapsed.as_secs_f64();
    if let Some(counter) = SPEEDS.into_iter().find(|counter| value(*counter) > 0)
        && seconds > 0.0
    {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "for people"
        )]
        let rate = (value(counter) as f64 / seconds) as u64;
        parts.push(format!("{}/s", show_bytes(rate)));
    }
    if let Some((counter, total)) = total {
        parts.extend(remaining(value(*counter), *total, *elapsed));
    }
    format!(
        "{name} {subject}: {}",
        if parts.is_empty() { "…".to_owned() } else { parts.join(", ") }
    )
}

/// Says how much longer it takes at the speed so far.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn remaining(done: u64, total: u64, elapsed: Duration) -> Option<String> {
    if done == 0 || done >= total {
        return None;
    }
    let left = (total - done) as f64 / done as f64;
    let left = Duration::try_from_secs_f64(elapsed.as_secs_f64() * left).ok()?;
    Some(format!("{} left", show_duration(left)))
}

impl Monitor for Progress {
    fn count(&self, counter: Counter, increment: u64) {
        if let Some(counter) = index(counter).and_then(|at| self.shared.counters.get(at)) {
            counter.fetch_add(increment, Relaxed);
        }
    }

    fn phase(&self, phase: Phase) {
        {
            let mut state = self.shared.state();
            state.at_start = self.shared.counts();
            state.started = self.shared.clock.elapsed();
            (state.name, state.subject, state.total) = (phase.name, phase.subject, phase.total);
        }
        self.start();
    }

    fn problem(&self, problem: &Error) {
        let line = problem.chain();
        let is_printed = {
            let mut state = self.shared.state();
            state.problem_count += 1;
            let is_printed = state.problems.len() < PROBLEMS_PRINTED_MAX;
            if is_printed {
                state.problems.push(line.clone());
            }
            is_printed
        };
        if is_printed {
            self.shared.line(&format!("warning: {line}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ErrorKind;

    fn counts(pairs: &[(Counter, u64)]) -> [u64; COUNTERS] {
        let mut counts = [0; COUNTERS];
        for (counter, value) in pairs {
            counts[index(*counter).expect("known")] = *value;
        }
        counts
    }

    #[test]
    fn a_line_says_what_is_done_how_fast_and_how_long_it_takes() {
        let mut shown = Shown {
            name: "capture",
            subject: "prod.etc",
            total: None,
            counts: counts(&[(Counter::ListedItems, 1200), (Counter::ReadBytes, 10 << 20)]),
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(text(&shown), "capture prod.etc: 1,200 listed, 10.0 MiB read, 5.0 MiB/s");
        shown.total = Some((Counter::ReadBytes, 40 << 20));
        assert_eq!(
            text(&shown),
            "capture prod.etc: 10.0 MiB of 40.0 MiB, 1,200 listed, 5.0 MiB/s, 6.0 s left"
        );
        shown.counts = counts(&[]);
        shown.total = None;
        assert_eq!(text(&shown), "capture prod.etc: …");
    }

    #[test]
    fn a_phase_counts_from_its_beginning() {
        let clock = Arc::new(app::ports::SystemClock::new());
        let progress = Progress::new(Style::Hidden, true, clock);
        progress.count(Counter::ListedItems, 5);
        progress.phase(Phase { name: "commit", subject: "x".into(), total: None });
        progress.count(Counter::ListedItems, 2);
        assert!(progress.shared.text().starts_with("commit x: 2 listed"));
        progress.problem(&Error::new(ErrorKind::Denied, "read file", "shadow"));
        assert_eq!(progress.problems(), (vec!["read file shadow".to_owned()], 1));
    }

    #[test]
    fn nothing_left_is_not_estimated() {
        assert_eq!(remaining(0, 10, Duration::from_secs(1)), None);
        assert_eq!(remaining(10, 10, Duration::from_secs(1)), None);
        assert_eq!(remaining(1, 3, Duration::from_secs(30)), Some("1m 0s left".to_owned()));
    }
}
