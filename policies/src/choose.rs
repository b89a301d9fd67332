//! Which of the states that there are a selector means.

use model::{Error, ErrorKind, Result, Timestamp};

use crate::When;

/// A point or a snapshot, as far as a choice depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id in lower-case hexadecimal digits.
    pub id: String,
    /// When its reading ended.
    pub cut_to: Timestamp,
    /// Whether everything that it should hold is there.
    pub is_complete: bool,
    /// Whether a restore of it was proven.
    pub is_verified: bool,
    /// Its tags.
    pub tags: Vec<String>,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The place among the candidates.
    pub index: usize,
    /// How many newer ones were passed over because they are not complete.
    pub skipped_partial: usize,
}

/// Chooses among candidates in any order; none where nothing matches.
///
/// Only an id or a tag leads to a state that is not complete. Of two that were read at the same time
/// the one that comes first is chosen.
///
/// # Errors
/// `Invalid` where a prefix of an id fits more than one.
pub fn choose(when: &When, candidates: &[Candidate]) -> Result<Option<Choice>> {
    let mut newest_first: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
    newest_first.sort_by_key(|(_, candidate)| std::cmp::Reverse(candidate.cut_to));
    let found = match when {
        When::Id(prefix) => one_with_prefix(prefix, &newest_first)?,
        When::Tag(tag) => newest_first.iter().position(|(_, c)| c.tags.contains(tag)),
        When::Verified => newest_first.iter().position(|(_, c)| c.is_verified && c.is_complete),
        When::Time(time) => {
            newest_first.iter().position(|(_, c)| c.is_complete && c.cut_to <= *time)
        }
        When::Latest { back } => {
            let mut complete = newest_first.iter().enumerate().filter(|(_, (_, c))| c.is_complete);
            usize::try_from(*back)
                .ok()
                .and_then(|back| complete.nth(back))
                .map(|(position, _)| position)
        }
    };
    let Some(position) = found else { return Ok(None) };
    let newer = newest_first.iter().take(position);
    let is_eligible = |c: &Candidate| match when {
        When::Time(time) => c.cut_to <= *time,
        When::Latest { .. } => true,
        When::Verified | When::Tag(_) | When::Id(_) => false,
    };
    let skipped_partial = newer.filter(|(_, c)| !c.is_complete && is_eligible(c)).count();
    Ok(newest_first.get(position).map(|(index, _)| Choice { index: *index, skipped_partial }))
}

fn one_with_prefix(prefix: &str, candidates: &[(usize, &Candidate)]) -> Result<Option<usize>> {
    let mut fitting = candidates.iter().enumerate().filter(|(_, (_, c))| c.id.starts_with(prefix));
    let first = fitting.next();
    if let (Some((_, (_, first))), Some((_, (_, second)))) = (first, fitting.next()) {
        return Err(Error::new(ErrorKind::Invalid, "choose by id", prefix)
            .detail(format!("fits {} and {}: type more digits", first.id, second.id)));
    }
    Ok(first.map(|(position, _)| position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Notation: words `id:second[!][+][=tag]`; `!` partial, `+` verified.
    fn candidates(text: &str) -> Vec<Candidate> {
        text.split_whitespace()
            .map(|word| {
                let (id, rest) = word.split_once(':').expect("id:second");
                let (rest, tag) = rest.split_once('=').unwrap_or((rest, ""));
                let seconds = rest.trim_end_matches(['!', '+']).parse().expect("second");
                Candidate {
                    id: id.to_owned(),
                    cut_to: Timestamp::from_unix_seconds(seconds),
                    is_complete: !rest.contains('!'),
                    is_verified: rest.contains('+'),
                    tags: (!tag.is_empty()).then(|| tag.to_owned()).into_iter().collect(),
                }
            })
            .collect()
    }

    fn check(when: When, expected: &str) {
        let all = candidates("aa11:10+ bb22:30!=x aa33:20=x cc44:40! dd55:25");
        let shown = match choose(&when, &all) {
            Err(_) => "error".to_owned(),
            Ok(None) => "none".to_owned(),
            Ok(Some(choice)) => format!("{} -{}", all[choice.index].id, choice.skipped_partial),
        };
        assert_eq!(shown, expected, "{when:?}");
    }

    #[test]
    fn each_when_has_its_choice() {
        let at = |seconds| When::Time(Timestamp::from_unix_seconds(seconds));
        check(When::Latest { back: 0 }, "dd55 -2");
        check(When::Latest { back: 1 }, "aa33 -2");
        check(When::Latest { back: 2 }, "aa11 -2");
        check(When::Latest { back: 3 }, "none");
        check(When::Latest { back: u64::MAX }, "none");
        check(When::Verified, "aa11 -0");
        check(When::Tag("x".to_owned()), "bb22 -0");
        check(When::Tag("y".to_owned()), "none");
        check(When::Id("bb".to_owned()), "bb22 -0");
        check(When::Id("aa".to_owned()), "error");
        check(When::Id("ee".to_owned()), "none");
        check(at(25), "dd55 -0");
        check(at(24), "aa33 -0");
        check(at(30), "dd55 -1");
        check(at(9), "none");
    }

    proptest! {
        #[test]
        fn a_time_gives_the_newest_complete_state_before_it(
            states in prop::collection::vec((0_i64..50, any::<bool>()), 0..20),
            time in 0_i64..50,
        ) {
            let all: Vec<_> = states.iter().enumerate().map(|(index, (seconds, is_complete))| Candidate {
                id: format!("{index:08x}"),
                cut_to: Timestamp::from_unix_seconds(*seconds),
                is_complete: *is_complete,
                is_verified: false,
                tags: Vec::new(),
            }).collect();
            let expected = states.iter().filter(|(s, complete)| *complete && *s <= time).map(|(s, _)| *s).max();
            let choice = choose(&When::Time(Timestamp::from_unix_seconds(time)), &all).expect("no prefix");
            let chosen = choice.map(|choice| all[choice.index].cut_to.unix_ns / 1_000_000_000);
            prop_assert_eq!(chosen, expected);
        }
    }
}
