//! The nearest right word for a mistyped one.

/// Returns the word of `known` that `typed` most likely means; none where nothing is near.
pub(crate) fn nearest<'k>(
    typed: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let distance_max = (typed.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (distance(typed, word), word))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Counts insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, from) in a.chars().enumerate() {
        let mut next = vec![row + 1];
        for (column, to) in b.iter().enumerate() {
            let replaced = last[column] + usize::from(from != *to);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            if column > 0 && previous == Some(*to) && from == b[column - 1] {
                best = best.min(before_last[column - 1] + 1);
            }
            next.push(best);
        }
        previous = Some(from);
        before_last = std::mem::replace(&mut last, next);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_word_and_strangers_find_none() {
        let known = ["paths", "include", "exclude", "name"];
        for (typed, expected) in [
            ("path", Some("paths")),
            ("pahts", Some("paths")),
            ("exlcude", Some("exclude")),
            ("includes", Some("include")),
            ("nmae", Some("name")),
            ("schedule", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), expected, "{typed}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 1)]
        {
            assert_eq!(distance(a, b), expected);
            assert_eq!(distance(b, a), expected);
        }
    }
}
