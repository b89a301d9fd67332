//! Every dependency's licence must be one that `deny.toml` allows. `cargo deny` judges the same
//! list; this check needs neither it nor the network.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// The dependencies whose licence expression the allowed list does not satisfy.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(workspace.root.join("deny.toml")).context("cannot read deny.toml")?;
    let allowed = allowed_in(&text)?;
    let mut problems = Vec::new();
    for package in workspace.third_party() {
        let expression = package.license.as_deref().unwrap_or("(none)");
        if !is_satisfied(expression, &allowed) {
            problems.push(format!("{} {}: licence {expression}", package.name, package.version));
        }
    }
    Ok(problems)
}

fn allowed_in(deny_toml: &str) -> Result<Vec<String>> {
    let document: toml::Table = toml::from_str(deny_toml).context("cannot parse deny.toml")?;
    let allow = document.get("licenses").and_then(|table| table.get("allow"));
    let allow = allow.and_then(toml::Value::as_array).context("deny.toml: no licenses.allow")?;
    Ok(allow.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect())
}

/// Evaluates an SPDX expression, or the older notation with a slash for OR. What does not parse is
/// not satisfied: a person has to look.
fn is_satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    parser.any() == Some(true) && parser.words.is_empty()
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    /// `all (OR all)*`
    fn any(&mut self) -> Option<bool> {
        let mut holds = self.all()?;
        while self.take("OR") {
            holds |= self.all()?;
        }
        Some(holds)
    }

    /// `one (AND one)*`
    fn all(&mut self) -> Option<bool> {
        let mut holds = self.one()?;
        while self.take("AND") {
            holds &= self.one()?;
        }
        Some(holds)
    }

    /// `( any )`, or a licence with an optional exception.
    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let holds = self.any()?;
            return self.take(")").then_some(holds);
        }
        let mut licence = self.next()?.to_owned();
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.next()?);
        }
        Some(self.allowed.contains(&licence))
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.next();
        }
        is_next
    }

    fn next(&mut self) -> Option<&str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_licence_is_allowed() {
        let workspace = Workspace::load().unwrap();
        assert_eq!(check(&workspace).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn expressions_are_evaluated() {
        let allowed =
            ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        let table = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 AND MIT OR ISC", true),
            ("GPL-3.0 AND (MIT OR ISC)", false),
            ("(GPL-3.0 OR ISC) AND MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT AND", false),
            ("(MIT", false),
            ("MIT ISC", false),
            ("(none)", false),
            ("", false),
        ];
        for (expression, expected) in table {
            assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
        }
    }
}
