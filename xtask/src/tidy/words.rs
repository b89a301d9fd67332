//! Unfinished work does not land: it is either done or an issue.

/// Words that say "not finished", put together here so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
];

/// The lines of a file that say that something is not finished.
pub fn problems(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
            problems.push(format!("{name}:{number}: says {word}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_lines_are_found() {
        let text = format!("fn a() {{\n    {}\n}}\n// {}: later\n", UNFINISHED[2], UNFINISHED[0]);
        let problems = problems("a.rs", &text);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("a.rs:2: "), "{problems:?}");
        assert!(problems[1].starts_with("a.rs:4: "), "{problems:?}");
    }
}
