//! What is printed: results on standard output, as text or as one JSON object; all else on standard error.

use std::io::{self, BufWriter, Stdout, Write};

use model::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// The schema that every JSON object names.
pub const SCHEMA: &str = "lifeboat/v1";
/// What is being done when output cannot be written; nobody is told of it.
pub const WRITE_ACTION: &str = "write output";

/// Standard output in one of its two forms.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The command that speaks.
    pub command: &'static str,
    /// Whether JSON is printed.
    pub is_json: bool,
}

impl Output {
    /// Prints a result: the text, or the object.
    ///
    /// # Errors
    /// Where nobody reads it.
    pub fn result(
        &self,
        text: impl FnOnce() -> String,
        value: impl FnOnce() -> Value,
    ) -> Result<()> {
        let mut out = io::stdout().lock();
        if self.is_json {
            let object = self.object(value());
            writeln!(out, "{object}").map_err(broken)?;
        } else {
            out.write_all(text().as_bytes()).map_err(broken)?;
        }
        out.flush().map_err(broken)
    }

    /// Adds what every object has.
    fn object(&self, value: Value) -> Value {
        let mut object = Map::new();
        object.insert("schema".to_owned(), SCHEMA.into());
        object.insert("command".to_owned(), self.command.into());
        match value {
            Value::Object(fields) => object.extend(fields),
            other => drop(object.insert("value".to_owned(), other)),
        }
        Value::Object(object)
    }

    /// Begins a result that may be too long to hold: in JSON one object whose field `name` is an array.
    ///
    /// # Errors
    /// Where nobody reads it.
    pub fn list(&self, name: &str, head: Value) -> Result<List> {
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout());
        if self.is_json {
            let text = self.object(head).to_string();
            let open = text.strip_suffix('}').unwrap_or(&text);
            write!(out, "{open},{}:[", json!(name)).map_err(broken)?;
        }
        Ok(List { out, is_json: self.is_json, is_first: true })
    }
}

/// A result that is printed as it comes.
pub struct List {
    out: BufWriter<Stdout>,
    is_json: bool,
    is_first: bool,
}

impl List {
    /// Prints one entry: a line (its end is added), or a value.
    ///
    /// # Errors
    /// Where nobody reads it.
    pub fn entry(
        &mut self,
        line: impl FnOnce() -> String,
        value: impl FnOnce() -> Value,
    ) -> Result<()> {
        if self.is_json {
            let comma = if self.is_first { "" } else { "," };
            self.is_first = false;
            return write!(self.out, "{comma}\n{}", value()).map_err(broken);
        }
        writeln!(self.out, "{}", line()).map_err(broken)
    }

    /// Prints a line in text only.
    ///
    /// # Errors
    /// Where nobody reads it.
    pub fn heading(&mut self, line: &str) -> Result<()> {
        if self.is_json { Ok(()) } else { writeln!(self.out, "{line}").map_err(broken) }
    }

    /// Ends it with further fields of the object.
    ///
    /// # Errors
    /// Where nobody reads it.
    pub fn end(mut self, tail: &Value) -> Result<()> {
        if self.is_json {
            let tail = tail.to_string();
            let fields = tail.strip_prefix('{').and_then(|tail| tail.strip_suffix('}'));
            let fields = fields.unwrap_or_default();
            let comma = if fields.is_empty() { "" } else { "," };
            writeln!(self.out, "]{comma}{fields}}}").map_err(broken)?;
        }
        self.out.flush().map_err(broken)
    }
}

/// Writes raw bytes: content.
///
/// # Errors
/// Where nobody reads it.
pub fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(broken)
}

/// Says that output could not be written.
pub fn broken(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, WRITE_ACTION, "").because(error)
}

/// Names a kind of error for programs.
pub fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Denied => "denied",
        ErrorKind::WrongKey => "wrong_key",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Fenced => "fenced",
        ErrorKind::Exhausted => "exhausted",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Internal => "internal",
        _ => "unknown",
    }
}

/// Lists the causes of an error, outermost first.
pub fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

/// Renders an error for people: what failed on what, why, and a hint.
pub fn error_text(error: &Error, hint: Option<&str>) -> String {
    let mut text = format!("error: {}\n", crate::names::line(&error.to_string()));
    for cause in causes(error) {
        text.push_str(&format!("  because: {}\n", crate::names::line(&cause)));
    }
    if let Some(hint) = hint {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text
}

/// Renders an error for programs.
pub fn error_value(error: &Error, code: u8, hint: Option<&str>) -> Value {
    json!({ "error": {
        "code": code,
        "kind": kind_name(error.kind()),
        "action": error.action(),
        "subject": error.subject(),
        "message": error.to_string(),
        "causes": causes(error),
        "hint": hint,
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        let cause = Error::new(ErrorKind::NotFound, "get object", "descriptor");
        Error::new(ErrorKind::NotFound, "open repository", "/r\x1b[2J")
            .detail("there is no repository")
            .because(cause)
    }

    #[test]
    fn an_error_says_what_on_what_why_and_what_to_do() {
        assert_eq!(
            error_text(&error(), Some("create one")),
            "error: open repository /r\u{fffd}[2J: there is no repository\n  \
             because: get object descriptor\n  hint: create one\n"
        );
    }

    #[test]
    fn programs_get_the_same() {
        let output = Output { command: "points", is_json: true };
        let object = output.object(error_value(&error(), 10, None));
        assert_eq!(object["schema"], SCHEMA);
        assert_eq!(object["command"], "points");
        assert_eq!(object["error"]["code"], 10);
        assert_eq!(object["error"]["kind"], "not_found");
        assert_eq!(object["error"]["causes"], json!(["get object descriptor"]));
        assert_eq!(object["error"]["hint"], Value::Null);
    }
}
