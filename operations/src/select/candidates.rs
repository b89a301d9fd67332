//! Choosing the newest that fits without reading all that there is.

use model::{Result, Timestamp};
use policies::{Candidate, Choice, When, choose};

/// How many are read at first: enough for nearly every choice, and little.
const FIRST_COUNT: usize = 32;
const GROWTH: usize = 8;

/// A state that may be chosen.
pub(crate) trait State {
    /// Returns what the choice depends on.
    fn candidate(&self) -> Candidate;
    /// Returns a time that no older one's reading ended after.
    fn older_ended_by(&self) -> Timestamp;
}

/// States as asked for, newest first.
pub(crate) struct Newest<S> {
    pub(crate) states: Vec<S>,
    /// There are no older ones.
    pub(crate) is_all: bool,
}

/// Chooses among states that are given newest first, asking for more and more of them until those that
/// were not asked for can make no difference. Returns all that were read, and the choice.
pub(crate) async fn grow<S: State, F: Future<Output = Result<Newest<S>>>>(
    when: &When,
    newest: impl Fn(usize) -> F,
) -> Result<(Vec<S>, Option<Choice>)> {
    let mut count = FIRST_COUNT;
    if let When::Latest { back } = when {
        count = count.saturating_add(usize::try_from(*back).unwrap_or(usize::MAX));
    }
    loop {
        let Newest { states, is_all } = newest(count).await?;
        let candidates: Vec<_> = states.iter().map(State::candidate).collect();
        let choice = choose(when, &candidates)?;
        let is_settled =
            choice.is_some_and(|choice| is_settled(when, choice, &candidates, &states));
        if is_all || is_settled {
            return Ok((states, choice));
        }
        count = count.saturating_mul(GROWTH);
    }
}

/// Says whether no state that was not read could be chosen instead.
fn is_settled<S: State>(
    when: &When,
    choice: Choice,
    candidates: &[Candidate],
    states: &[S],
) -> bool {
    if matches!(when, When::Id(_)) {
        // Two ids with the same 32 bits do not come up.
        return true;
    }
    let (Some(chosen), Some(oldest)) = (candidates.get(choice.index), states.last()) else {
        return false;
    };
    oldest.older_ended_by() <= chosen.cut_to
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A state: when it was sealed, when its reading ended, whether it is complete.
    #[derive(Clone)]
    struct Sealed(i64, i64, bool);

    impl State for Sealed {
        fn candidate(&self) -> Candidate {
            Candidate {
                id: format!("{:08x}", self.0),
                cut_to: Timestamp::from_unix_seconds(self.1),
                is_complete: self.2,
                is_verified: false,
                tags: Vec::new(),
            }
        }

        fn older_ended_by(&self) -> Timestamp {
            Timestamp::from_unix_seconds(self.0)
        }
    }

    /// Says which state is chosen of those given newest first, and how many were read at most.
    async fn check(states: &[Sealed], when: When, expected: Option<i64>, read_max: usize) {
        let read = AtomicUsize::new(0);
        let newest = |count: usize| {
            let states: Vec<_> = states.iter().take(count).cloned().collect();
            read.fetch_max(states.len(), Ordering::Relaxed);
            std::future::ready(Ok(Newest { is_all: states.len() < count, states }))
        };
        let (read_states, choice) = grow(&when, newest).await.expect("choose");
        let chosen = choice.map(|choice| read_states[choice.index].0);
        assert_eq!(chosen, expected, "{when:?}");
        assert!(read.load(Ordering::Relaxed) <= read_max, "{when:?}: {read:?}");
    }

    #[tokio::test]
    async fn only_what_can_matter_is_read() {
        let all: Vec<_> = (1..=10_000).rev().map(|n| Sealed(n * 10, n * 10 - 5, true)).collect();
        let at = |seconds| When::Time(Timestamp::from_unix_seconds(seconds));
        check(&all, When::Latest { back: 0 }, Some(100_000), 32).await;
        check(&all, When::Latest { back: 100 }, Some(99_000), 132).await;
        check(&all, at(99_999), Some(100_000), 32).await;
        check(&all, at(90_000), Some(90_000), 2048).await;
        check(&all, When::Id(format!("{:08x}", 100_000)), Some(100_000), 32).await;
        check(&all, When::Latest { back: 20_000 }, None, 10_000).await;
        check(&all, at(4), None, 10_000).await;
    }

    #[tokio::test]
    async fn a_reading_that_took_long_does_not_hide_a_later_one() {
        // Sealed last, but read long before: the newest reading lies further back.
        let mut all: Vec<_> = (0..50).map(|n| Sealed(1000 - n, 10, true)).collect();
        all.push(Sealed(950, 900, true));
        check(&all, When::Latest { back: 0 }, Some(950), 51).await;
    }

    #[tokio::test]
    async fn partial_ones_are_passed_over_however_many() {
        let mut all: Vec<_> = (0..500).map(|n| Sealed(10_000 - n, 10_000 - n, false)).collect();
        all.push(Sealed(5, 5, true));
        check(&all, When::Latest { back: 0 }, Some(5), 501).await;
    }
}
