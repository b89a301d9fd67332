//! Splits a line into the words of a command. No shell is involved: quotes group, nothing is expanded.

use model::{Error, ErrorKind, Result};

/// Splits at white space; `'…'` and `"…"` keep it, `\` outside of single quotes takes the next
/// character as it is.
pub(crate) fn split(line: &str, what: &str) -> Result<Vec<String>> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::Invalid, "read command line", what).detail(why.to_owned())
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or_else(|| refuse("it ends in a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(refuse("a quote is not closed"));
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) {
        return Err(refuse("it names no program"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_person_expects() {
        for (line, expected) in [
            ("pass show lifeboat", &["pass", "show", "lifeboat"][..]),
            ("  cat  '/a b/c' ", &["cat", "/a b/c"]),
            (r#"sh -c "echo \"x y\"" '' "#, &["sh", "-c", r#"echo "x y""#, ""]),
            (r"a\ b '\'", &["a b", r"\"]),
        ] {
            assert_eq!(split(line, "x").expect(line), expected, "{line}");
        }
        for bad in ["", "  ", "'a", "\"a", "a\\", "''"] {
            assert_eq!(split(bad, "x").expect_err(bad).kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
