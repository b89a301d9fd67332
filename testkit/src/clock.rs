//! A clock that moves only when a test says so, so that days of waiting cost nothing and no test
//! depends on how busy its machine is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::{Clock, Timestamp};
use tokio::sync::{oneshot, watch};

/// A [`Clock`] under a test's control. Never looks at real time.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<State>,
    sleepers: watch::Sender<usize>,
    advances_itself: bool,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    elapsed: Duration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

impl ManualClock {
    /// Where every manual clock begins: 2026-01-01T00:00:00Z.
    pub const START: Timestamp = Timestamp::from_unix_seconds(1_767_225_600);

    /// Creates a clock that stands still until [`ManualClock::advance`].
    pub fn new() -> Self {
        Self::with(false)
    }

    /// Creates a clock on which every sleep is over at once and moves time by its duration: for code
    /// that waits and is tested for something else (a retry's pause).
    pub fn advancing_itself() -> Self {
        Self::with(true)
    }

    fn with(advances_itself: bool) -> Self {
        let state = State { now: Self::START, elapsed: Duration::ZERO, sleepers: Vec::new() };
        Self { state: Mutex::new(state), sleepers: watch::Sender::new(0), advances_itself }
    }

    /// Moves wall-clock and monotonic time and wakes the sleepers whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.now = state.now.saturating_add(duration);
        state.elapsed = state.elapsed.saturating_add(duration);
        let elapsed = state.elapsed;
        let (mut due, rest) = std::mem::take(&mut state.sleepers)
            .into_iter()
            .partition::<Vec<_>, _>(|s| s.0 <= elapsed);
        state.sleepers = rest;
        drop(state);
        self.count_sleepers();
        due.sort_by_key(|(wakes_at, _)| *wakes_at);
        for (_, waker) in due {
            // A sleep that was dropped has nobody to wake.
            let _ = waker.send(());
        }
    }

    /// Makes wall-clock time jump, also backwards. Monotonic time and sleepers do not notice.
    pub fn set(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// Waits until at least `count` sleeps are under way: the moment to advance.
    pub async fn wait_for_sleepers(&self, count: usize) {
        // The sender lives as long as `self`, so the wait can only end well.
        let _ = self.sleepers.subscribe().wait_for(|sleepers| *sleepers >= count).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_sleepers(&self) {
        let mut state = self.lock();
        state.sleepers.retain(|(_, waker)| !waker.is_closed());
        // Told under the lock, so that no older count comes after a newer one.
        self.sleepers.send_replace(state.sleepers.len());
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    async fn sleep(&self, duration: Duration) {
        if self.advances_itself {
            self.advance(duration);
        }
        if self.advances_itself || duration.is_zero() {
            // Others get their turn, as with a sleep that takes time.
            return tokio::task::yield_now().await;
        }
        let (waker, woken) = oneshot::channel();
        {
            let mut state = self.lock();
            let wakes_at = state.elapsed.saturating_add(duration);
            state.sleepers.push((wakes_at, waker));
        }
        self.count_sleepers();
        // The clock lives longer than `self`'s borrow, so the sender cannot be dropped unsent.
        let _ = woken.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_their_time_has_come_and_not_before() {
        let clock = Arc::new(ManualClock::new());
        let sleeper = |seconds| {
            let clock = Arc::clone(&clock);
            tokio::spawn(async move { clock.sleep(Duration::from_secs(seconds)).await })
        };
        let (short, long) = (sleeper(10), sleeper(20));
        clock.wait_for_sleepers(2).await;
        clock.advance(Duration::from_secs(10));
        short.await.expect("short sleep");
        clock.advance(Duration::from_millis(9_999));
        tokio::task::yield_now().await;
        assert!(!long.is_finished());
        clock.advance(Duration::from_millis(1));
        long.await.expect("long sleep");
        assert_eq!(clock.elapsed(), Duration::from_secs(20));
        assert_eq!(clock.now().since(ManualClock::START), Duration::from_secs(20));
    }

    #[tokio::test]
    async fn a_jump_moves_the_wall_clock_only() {
        let clock = ManualClock::new();
        clock.set(Timestamp::from_unix_seconds(5));
        assert_eq!(clock.now(), Timestamp::from_unix_seconds(5));
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_clock_that_advances_itself_never_waits() {
        let clock = ManualClock::advancing_itself();
        clock.sleep(Duration::from_secs(3_600)).await;
        assert_eq!(clock.elapsed(), Duration::from_secs(3_600));
    }
}
