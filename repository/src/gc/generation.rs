//! Generations as their objects' names tell of them, and what of them may be tidied away.
//!
//! They follow one another: nobody opens the next while one is open. So a `done` closes its own
//! generation and all before it, and that one object is all that has to stay of the past: a collector
//! that was stopped for years and goes on finds it, whatever it has created meanwhile.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

use super::outcome::Outcome;
use super::{Stage, from_gc_path, gc_path, open_set, seal_set};
use crate::Repository;
use crate::store::Store;
use crate::types::{Number, PackName};

/// The objects that are there, by generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Generations(BTreeMap<Number, Vec<Stage>>);

impl Generations {
    /// Reads a listing; other names are none of ours.
    pub(super) fn of_paths<'p>(paths: impl Iterator<Item = &'p str>) -> Self {
        let mut generations: BTreeMap<Number, Vec<Stage>> = BTreeMap::new();
        for (generation, stage) in paths.filter_map(from_gc_path) {
            generations.entry(generation).or_default().push(stage);
        }
        Self(generations)
    }

    /// Lists what is there.
    pub(super) async fn list(repository: &Repository) -> Result<Self> {
        let listed = repository.store().list("gc").await?;
        Ok(Self::of_paths(listed.iter().map(|listed| listed.path.as_str())))
    }

    /// Returns the newest generation that is over.
    pub(super) fn newest_done(&self) -> Option<Number> {
        let is_done = |(_, stages): &(&Number, &Vec<Stage>)| stages.contains(&Stage::Done);
        self.0.iter().rev().find(is_done).map(|(number, _)| *number)
    }

    /// Says whether a generation is over, by its own `done` or that of a later one.
    pub(super) fn is_over(&self, generation: Number) -> bool {
        self.newest_done().is_some_and(|done| done >= generation)
    }

    /// Returns the generations that are open, newest first.
    pub(super) fn open(&self) -> Vec<Number> {
        let open = self.0.iter().rev().filter(|(number, stages)| {
            stages.contains(&Stage::Condemned) && !self.is_over(**number)
        });
        open.map(|(number, _)| *number).collect()
    }

    /// Returns the number of the generation that may be opened once none is open.
    ///
    /// # Errors
    /// `Exhausted`.
    pub(super) fn next(&self) -> Result<Number> {
        let newest = self.0.keys().next_back().map_or(0, |number| number.get());
        Number::new(newest.saturating_add(1))
            .ok_or_else(|| Error::new(ErrorKind::Exhausted, "open generation", ""))
    }

    /// Lists what need not stay: all of the generations that are over but the newest `done`.
    fn superfluous(&self) -> Vec<String> {
        let Some(newest) = self.newest_done() else { return Vec::new() };
        let mut paths = Vec::new();
        for (number, stages) in self.0.range(..=newest) {
            let stages = stages.iter().filter(|s| *number != newest || **s != Stage::Done);
            paths.extend(stages.map(|stage| gc_path(*number, *stage)));
        }
        paths
    }
}

/// What collectors are about in a store, as far as names tell, for those who have no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    /// The newest generation of which it is decided what is deleted. Nothing else is.
    pub(crate) decided: Option<Number>,
    /// Whether a generation is open.
    pub(crate) is_open: bool,
}

/// Looks at what collectors are about.
///
/// # Errors
/// Those of the store.
pub(crate) async fn activity(store: &Store) -> Result<Activity> {
    let listed = store.list("gc").await?;
    let generations = Generations::of_paths(listed.iter().map(|listed| listed.path.as_str()));
    let is_decided =
        |stages: &Vec<Stage>| stages.contains(&Stage::Outcome) || stages.contains(&Stage::Done);
    let decided = generations.0.iter().rev().find(|(_, stages)| is_decided(stages));
    let decided = decided.map(|(number, _)| *number);
    Ok(Activity { decided, is_open: !generations.open().is_empty() })
}

/// Step `condemn`: announces which packs may go, unless somebody has done so before; returns what
/// counts, and whether it was somebody else's.
pub(super) async fn condemn(
    repository: &Repository,
    generation: Number,
    packs: &[PackName],
) -> Result<(Vec<PackName>, bool)> {
    let stage = Stage::Condemned;
    let object = seal_set(repository.keys(), generation, stage, packs)?;
    let path = gc_path(generation, stage);
    let mut packs = packs.to_vec();
    packs.sort_unstable();
    packs.dedup();
    match repository.store().create(&path, Bytes::from(object)).await {
        Ok(_) => Ok((packs, false)),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            Ok((read_condemned(repository, generation).await?, true))
        }
        Err(error) => Err(error),
    }
}

/// Reads what a generation condemns.
pub(super) async fn read_condemned(
    repository: &Repository,
    generation: Number,
) -> Result<Vec<PackName>> {
    let stage = Stage::Condemned;
    let object = repository.store().get(&gc_path(generation, stage)).await?;
    open_set(repository.keys(), generation, stage, &object)
}

/// Step `decide`: says what is deleted, unless somebody has done so before; returns what counts, and
/// whether it was somebody else's.
pub(super) async fn decide(
    repository: &Repository,
    generation: Number,
    outcome: Outcome,
) -> Result<(Outcome, bool)> {
    let path = gc_path(generation, Stage::Outcome);
    let object = outcome.seal(repository.keys(), generation)?;
    match repository.store().create(&path, Bytes::from(object)).await {
        Ok(_) => Ok((outcome, false)),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let object = repository.store().get(&path).await?;
            Ok((Outcome::open(repository.keys(), generation, &object)?, true))
        }
        Err(error) => Err(error),
    }
}

/// Step `finish`: says that what was decided is done.
pub(super) async fn finish(repository: &Repository, generation: Number) -> Result<()> {
    let path = gc_path(generation, Stage::Done);
    let object = seal_set(repository.keys(), generation, Stage::Done, &[])?;
    match repository.store().create(&path, Bytes::from(object)).await {
        // Other bytes of the same meaning: by another version.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        created => created.map(|_| ()),
    }
}

/// Step `tidy`: deletes what of earlier generations need not stay; returns how many objects.
pub(super) async fn tidy(repository: &Repository, context: &Context) -> Result<u64> {
    let paths = Generations::list(repository).await?.superfluous();
    for path in &paths {
        context.check("delete announcements of collectors")?;
        repository.store().delete(path).await?;
    }
    Ok(paths.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u64) -> Number {
        Number::new(n).expect("number")
    }

    /// Notation: words of a number and the first letters of its stages.
    fn generations(text: &str) -> Generations {
        let mut paths = Vec::new();
        for word in text.split_whitespace() {
            let digits = word.trim_end_matches(char::is_alphabetic);
            let generation = number(digits.parse().expect("number"));
            paths.extend(word.chars().filter_map(|letter| match letter {
                'c' => Some(gc_path(generation, Stage::Condemned)),
                'o' => Some(gc_path(generation, Stage::Outcome)),
                'd' => Some(gc_path(generation, Stage::Done)),
                _ => None,
            }));
        }
        Generations::of_paths(paths.iter().map(String::as_str))
    }

    #[test]
    fn a_done_closes_all_before_it_and_alone_stays() {
        for (text, open, next, superfluous) in [
            ("", &[][..], 1, 0),
            ("1c", &[1], 2, 0),
            ("1co", &[1], 2, 0),
            ("1cod", &[], 2, 2),
            ("1d 2c", &[2], 3, 0),
            ("1cod 2cod", &[], 3, 5),
            ("1co 2d", &[], 3, 2),
            ("1co 2d 3c", &[3], 4, 2),
            ("2d 5c 4c", &[5, 4], 6, 0),
        ] {
            let found = generations(text);
            let open: Vec<_> = open.iter().map(|n| number(*n)).collect();
            assert_eq!(found.open(), open, "{text}");
            assert_eq!(found.next().expect("next"), number(next), "{text}");
            assert_eq!(found.superfluous().len(), superfluous, "{text}");
        }
        let late = generations("1co 2d");
        assert!(late.is_over(number(1)) && late.is_over(number(2)) && !late.is_over(number(3)));
        assert!(!generations("1cod").superfluous().contains(&gc_path(number(1), Stage::Done)));
    }
}
