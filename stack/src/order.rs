//! In which order servers start: those that others need come first, those of one wave at once.

use std::collections::{BTreeMap, BTreeSet};

use model::Result;

use crate::syntax::refuse;

/// Sorts servers into waves. `needs` says for each which others must be ready before it.
pub fn waves(needs: &BTreeMap<String, BTreeSet<String>>) -> Result<Vec<Vec<String>>> {
    const ACTION: &str = "order servers";
    for (name, needed) in needs {
        if let Some(unknown) = needed.iter().find(|one| !needs.contains_key(*one)) {
            return Err(refuse(
                ACTION,
                name,
                format!("it comes after {unknown}, which is no server"),
            ));
        }
    }
    let mut waves = Vec::new();
    let mut done = BTreeSet::new();
    while done.len() < needs.len() {
        let ready = needs.iter().filter(|(name, needed)| {
            !done.contains(*name) && needed.iter().all(|one| done.contains(one))
        });
        let wave: Vec<String> = ready.map(|(name, _)| name.clone()).collect();
        if wave.is_empty() {
            let stuck: Vec<_> =
                needs.keys().filter(|name| !done.contains(*name)).cloned().collect();
            return Err(refuse(ACTION, &stuck.join(", "), "each waits for another of them"));
        }
        done.extend(wave.iter().cloned());
        waves.push(wave);
    }
    Ok(waves)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `b<a` says that b needs a.
    fn order(notation: &str) -> Result<String> {
        let mut needs = BTreeMap::<String, BTreeSet<String>>::new();
        for word in notation.split_whitespace() {
            let mut names = word.split('<').map(str::to_owned);
            let first = names.next().unwrap_or_default();
            needs.entry(first).or_default().extend(names);
        }
        waves(&needs)
            .map(|waves| waves.iter().map(|wave| wave.join(",")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_is_needed_comes_first() {
        for (notation, expected) in [
            ("", ""),
            ("b a", "a,b"),
            ("b<a a", "a b"),
            ("d<b<c c<a b<a a", "a b,c d"),
            ("web<app app<db<cache db cache log", "cache,db,log app web"),
        ] {
            assert_eq!(order(notation).expect(notation), expected, "{notation}");
        }
        for (notation, word) in
            [("a<a", "each waits"), ("a<b b<c c<a", "each waits"), ("a<b", "which is no server")]
        {
            assert!(order(notation).expect_err(notation).chain().contains(word), "{notation}");
        }
    }
}
