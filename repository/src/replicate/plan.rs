//! What is to be done about one folder: a function of what two stores list of it.

use std::cmp::Ordering;
use std::iter::Peekable;

use super::report::Amount;
use crate::store::Listed;

/// What two listings of one folder, each in order of names, say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// What the source has and the destination has not.
    pub(super) missing: Vec<Listed>,
    /// What both have with the same length, as the source lists it.
    pub(super) common: Vec<Listed>,
    /// What both have with other lengths; with that at the destination.
    pub(super) differing: Vec<(Listed, u64)>,
    /// What only the destination has.
    pub(super) only_there: Vec<Listed>,
}

impl Plan {
    /// Compares two listings.
    pub(super) fn new(source: Vec<Listed>, destination: Vec<Listed>) -> Self {
        let mut plan = Self::default();
        let mut here = source.into_iter().peekable();
        let mut there = destination.into_iter().peekable();
        while let Some(order) = compare(&mut here, &mut there) {
            match order {
                Ordering::Less => plan.missing.extend(here.next()),
                Ordering::Greater => plan.only_there.extend(there.next()),
                Ordering::Equal => {
                    let (Some(object), Some(other)) = (here.next(), there.next()) else { break };
                    if object.size_bytes == other.size_bytes {
                        plan.common.push(object);
                    } else {
                        plan.differing.push((object, other.size_bytes));
                    }
                }
            }
        }
        plan
    }

    /// Lists the paths of all that the source has.
    pub(super) fn here(&self) -> impl Iterator<Item = &str> {
        let differing = self.differing.iter().map(|(object, _)| object);
        let all = self.missing.iter().chain(&self.common).chain(differing);
        all.map(|object| object.path.as_str())
    }
}

/// Says whose next object comes first; none where both have ended.
fn compare(
    here: &mut Peekable<impl Iterator<Item = Listed>>,
    there: &mut Peekable<impl Iterator<Item = Listed>>,
) -> Option<Ordering> {
    Some(match (here.peek(), there.peek()) {
        (Some(object), Some(other)) => object.path.cmp(&other.path),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => return None,
    })
}

/// Adds up objects.
pub(super) fn amount<'l>(objects: impl IntoIterator<Item = &'l Listed>) -> Amount {
    objects.into_iter().fold(Amount::default(), |sum, object| sum.and(object.size_bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// Reads `a:1 b:2`.
    fn listing(text: &str) -> Vec<Listed> {
        let objects = text.split_whitespace().filter_map(|word| word.split_once(':'));
        objects
            .map(|(path, size)| Listed {
                path: path.to_owned(),
                size_bytes: size.parse().expect("size"),
                modified: Timestamp::default(),
            })
            .collect()
    }

    fn shown(objects: &[Listed]) -> String {
        let words: Vec<_> =
            objects.iter().map(|o| format!("{}:{}", o.path, o.size_bytes)).collect();
        words.join(" ")
    }

    #[test]
    fn listings_are_compared_by_name_and_length() {
        for (source, destination, missing, common, differing, only_there) in [
            ("", "", "", "", "", ""),
            ("a:1 b:2", "", "a:1 b:2", "", "", ""),
            ("", "a:1", "", "", "", "a:1"),
            ("a:1 b:2 c:3", "a:1 c:4 d:5", "b:2", "a:1", "c:3/4", "d:5"),
            ("b:1", "a:1 c:1", "b:1", "", "", "a:1 c:1"),
        ] {
            let plan = Plan::new(listing(source), listing(destination));
            let differs: Vec<_> = plan
                .differing
                .iter()
                .map(|(object, size)| format!("{}:{}/{size}", object.path, object.size_bytes))
                .collect();
            assert_eq!(
                (shown(&plan.missing), shown(&plan.common), differs.join(" ")),
                (missing.to_owned(), common.to_owned(), differing.to_owned()),
                "{source} to {destination}"
            );
            assert_eq!(shown(&plan.only_there), only_there, "{source} to {destination}");
        }
        let all = amount(&listing("a:1 b:2"));
        assert_eq!(all, Amount { objects: 2, bytes: 3 });
    }

    proptest! {
        #[test]
        fn after_what_is_missing_was_copied_nothing_is(
            here in proptest::collection::btree_map("[a-e]{1,3}", 1_u64..3, 0..20),
            there in proptest::collection::btree_map("[a-e]{1,3}", 1_u64..3, 0..20),
        ) {
            let listed = |objects: &BTreeMap<String, u64>| -> Vec<Listed> {
                let object = |(path, size): (&String, &u64)| Listed {
                    path: path.clone(),
                    size_bytes: *size,
                    modified: Timestamp::default(),
                };
                objects.iter().map(object).collect()
            };
            let plan = Plan::new(listed(&here), listed(&there));
            prop_assert_eq!(plan.here().count(), here.len());
            let mut after = there.clone();
            for object in &plan.missing {
                prop_assert!(after.insert(object.path.clone(), object.size_bytes).is_none());
            }
            let again = Plan::new(listed(&here), listed(&after));
            prop_assert!(again.missing.is_empty());
            prop_assert_eq!(again.only_there, plan.only_there);
            prop_assert_eq!(again.differing, plan.differing);
        }
    }
}
