//! Templates: `${name}` is replaced by its value, `$${` stands for `${`, all else is as it is.

use std::collections::BTreeMap;

use model::Result;

use crate::syntax::refuse;

/// What names mean.
pub type Values = BTreeMap<String, String>;

const ACTION: &str = "fill in template";

/// Replaces every name. One without a value is refused, with those that there are.
pub fn render(template: &str, values: &Values) -> Result<String> {
    let mut text = String::with_capacity(template.len());
    for piece in pieces(template)? {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Name(name) => match values.get(name) {
                Some(value) => text.push_str(value),
                None => {
                    let known: Vec<_> = values.keys().map(String::as_str).collect();
                    let why = format!("no such name; there are {}", known.join(", "));
                    return Err(refuse(ACTION, &format!("${{{name}}}"), why));
                }
            },
        }
    }
    Ok(text)
}

/// Lists the names in a template.
pub fn names(template: &str) -> Result<Vec<&str>> {
    let pieces = pieces(template)?;
    Ok(pieces
        .into_iter()
        .filter_map(|piece| if let Piece::Name(name) = piece { Some(name) } else { None })
        .collect())
}

enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Text(before), Piece::Text("${")]);
            rest = after;
            continue;
        }
        let Some((name, after)) = after.split_once('}') else {
            return Err(refuse(ACTION, template, "${ without }"));
        };
        pieces.extend([Piece::Text(before), Piece::Name(name)]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_nothing_else() {
        let values: Values = [("port.s3", "9000"), ("host", "127.0.0.1"), ("empty", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (template, expected) in [
            ("", Some("")),
            ("plain $HOME {x} $", Some("plain $HOME {x} $")),
            ("http://${host}:${port.s3}/", Some("http://127.0.0.1:9000/")),
            ("${empty}${empty}", Some("")),
            ("$${host} ${host}", Some("${host} 127.0.0.1")),
            ("${port.http}", None),
            ("${host", None),
            ("${}", None),
        ] {
            assert_eq!(render(template, &values).ok().as_deref(), expected, "{template}");
        }
        let error = render("${prot.s3}", &values).expect_err("unknown");
        assert!(error.chain().contains("empty, host, port.s3"), "{error}");
        assert_eq!(names("a${b}c$${d}${e}").expect("names"), ["b", "e"]);
    }
}
