//! What is wrong with a policy file, at the exact place, with one piece of advice.

use std::fmt;
use std::ops::Range;

use model::{Error, ErrorKind};

/// A fault in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
    /// What to write instead, where that can be known.
    pub advice: Option<String>,
}

impl PolicyError {
    /// Names the fault at a span of byte offsets in `text`.
    pub(crate) fn at(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let before = text.get(..span.start.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
            advice: None,
        }
    }

    /// Adds a piece of advice.
    #[must_use]
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Converts to the workspace's error, naming the file.
    pub fn in_file(self, file: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, "read policy", file).because(self)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        match &self.advice {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nö = é x\n";
        for (offset, line, column) in [(0, 1, 1), (4, 1, 5), (6, 2, 1), (8, 2, 2), (999, 3, 1)] {
            let error = PolicyError::at(text, offset..offset, "x");
            assert_eq!((error.line, error.column), (line, column), "{offset}");
        }
    }
}
