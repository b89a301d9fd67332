//! A page that is named must be there.

use std::path::Path;

/// The relative links of a Markdown page that lead nowhere. `exists` says whether a path is there.
pub fn problems(
    name: &str,
    page: &Path,
    text: &str,
    exists: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let folder = page.parent().unwrap_or(page);
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for target in targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !target.contains("://") && !exists(&folder.join(path)) {
                problems.push(format!("{name}:{number}: {target} is not there"));
            }
        }
    }
    problems
}

/// What stands in the parentheses of `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let text = "[a](there.md) and [b](gone.md)\n[c](https://example.org/x) [d](#below)\n\
            [e](there.md#part) f(g) [h](sub/gone.md#part)\n";
        let exists = |path: &Path| path == Path::new("docs/there.md");
        let problems = problems("docs/p.md", Path::new("docs/p.md"), text, exists);
        let expected =
            ["docs/p.md:1: gone.md is not there", "docs/p.md:3: sub/gone.md#part is not there"];
        assert_eq!(problems, expected);
    }
}
