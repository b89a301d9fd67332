//! The one place where a store's errors become ours.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;

use model::{Error, ErrorKind};

/// Says whether an error claims that the object was there already.
pub(super) fn is_already_there(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    // Some stores answer a failed "if none matches" as a failed precondition.
    matches!(error, E::AlreadyExists { .. } | E::Precondition { .. })
}

/// Converts an error; credentials that a request's address may have held are left out.
pub(super) fn convert(action: &'static str, subject: &str, error: object_store::Error) -> Error {
    let cause = without_credentials(&chain(&error));
    Error::new(kind(&error), action, subject).because(cause)
}

fn kind(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => {
            ErrorKind::Unavailable
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Denied,
        E::NotSupported { .. } | E::NotImplemented { .. } => ErrorKind::Unsupported,
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => ErrorKind::Invalid,
        E::JoinError { .. } => ErrorKind::Internal,
        E::Generic { .. } if is_refused_in_batch(error) => ErrorKind::Denied,
        other => match find_io_error(other) {
            Some(io) => io_kind(io),
            None => status_kind(&other.to_string()).unwrap_or(ErrorKind::Unavailable),
        },
    }
}

/// What an answer's status means that would be the same the next time. The status is known by its text alone.
fn status_kind(text: &str) -> Option<ErrorKind> {
    if text.contains("Received redirect without LOCATION") {
        // Another region's bucket.
        return Some(ErrorKind::Invalid);
    }
    let (_, status) = text.split_once("Server returned non-2xx status code: ")?;
    match status.get(..3)? {
        // S3's word for a body that came too slowly.
        "400" if status.contains("RequestTimeout") => None,
        "400" => Some(ErrorKind::Invalid),
        // Of listings it is not told apart otherwise.
        "401" | "403" => Some(ErrorKind::Denied),
        "404" => Some(ErrorKind::NotFound),
        "405" | "501" => Some(ErrorKind::Unsupported),
        _ => None,
    }
}

/// Azure deletes by requests for many objects only, whose answers say in their text what was refused.
fn is_refused_in_batch(error: &object_store::Error) -> bool {
    let text = error.to_string();
    text.ends_with("(code: 403)") || text.ends_with("(code: AccessDenied)")
}

/// What a local disk's error means.
pub(crate) fn io_kind(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound => ErrorKind::NotFound,
        K::PermissionDenied | K::ReadOnlyFilesystem => ErrorKind::Denied,
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => ErrorKind::Exhausted,
        K::NotADirectory | K::IsADirectory | K::InvalidFilename => ErrorKind::Invalid,
        K::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    }
}

fn find_io_error(error: &object_store::Error) -> Option<&io::Error> {
    // A network's failures are io errors too, but what they mean is not what they mean on a disk.
    let object_store::Error::Generic { store: "LocalFileSystem", .. } = error else { return None };
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// Renders an error with its causes; a cause that its parent has already spelled out is not repeated.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// Removes user names, passwords, queries and fragments of all URLs in a text.
pub(super) fn without_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + "://".len());
        clean.push_str(head);
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '(' | ')');
        let (url, tail) = tail.split_at(tail.find(ends).unwrap_or(tail.len()));
        let (url, _) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
        // A password may itself hold a slash that somebody forgot to escape.
        clean.push_str(url.rsplit_once('@').map_or(url, |(_, address)| address));
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

/// Names of settings whose values are nobody's business.
const SECRET_WORDS: [&str; 5] = ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD"];

/// Removes the values of all settings that may be secret from a text.
pub(super) fn without_values(text: &str, options: &BTreeMap<String, String>) -> String {
    let is_secret = |name: &str| {
        let name = name.to_ascii_uppercase();
        SECRET_WORDS.iter().any(|word| name.contains(word))
    };
    let secrets = options.iter().filter(|(name, value)| is_secret(name) && !value.is_empty());
    secrets.fold(text.to_owned(), |text, (_, value)| text.replace(value.as_str(), "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_settings_are_left_out() {
        let options = [("AWS_SECRET_ACCESS_KEY", "abc"), ("AWS_REGION", "r"), ("AWS_TOKEN", "")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = without_values("abc is no key in r", &options.into());
        assert_eq!(text, "… is no key in r");
    }

    #[test]
    fn what_would_be_refused_again_is_not_unavailable() {
        for (status, kind) in [
            ("400 Bad Request: <Code>ExpiredToken</Code>", ErrorKind::Invalid),
            ("400 Bad Request: <Code>RequestTimeout</Code>", ErrorKind::Unavailable),
            ("403 Forbidden: <Code>SignatureDoesNotMatch</Code>", ErrorKind::Denied),
            ("404 Not Found: <Code>NoSuchBucket</Code>", ErrorKind::NotFound),
            ("501 Not Implemented: ", ErrorKind::Unsupported),
            ("503 Service Unavailable: SlowDown", ErrorKind::Unavailable),
            ("416 Range Not Satisfiable: ", ErrorKind::Unavailable),
        ] {
            let text = format!(
                "Error performing PUT in 3ms - Server returned non-2xx status code: {status}"
            );
            let error = object_store::Error::Generic { store: "S3", source: text.into() };
            assert_eq!(convert("create object", "a", error).kind(), kind, "{status}");
        }
    }

    #[test]
    fn a_delete_that_is_refused_in_a_batch_is_denied() {
        for (text, kind) in [
            ("Bulk delete request failed for key a: no (code: 403)", ErrorKind::Denied),
            ("DeleteObjects request failed for key a: no (code: AccessDenied)", ErrorKind::Denied),
            ("Bulk delete request failed for key a: busy (code: 503)", ErrorKind::Unavailable),
        ] {
            let error = object_store::Error::Generic { store: "some", source: text.into() };
            assert_eq!(convert("delete object", "a", error).kind(), kind, "{text}");
        }
    }

    #[test]
    fn credentials_are_left_out_of_every_text() {
        for (text, clean) in [
            ("s3://key:secret@bucket/a", "s3://bucket/a"),
            ("GET https://x.example/c/a?sig=SECRET&se=1 in 3s", "GET https://x.example/c/a in 3s"),
            ("(https://u:p/w@h/a#token) and http://u@h", "(https://h/a) and http://h"),
            ("/plain/path?x", "/plain/path?x"),
            ("\"az://c/p?SECRET\": failed", "\"az://c/p\": failed"),
            ("://", "://"),
        ] {
            assert_eq!(without_credentials(text), clean);
        }
    }

    #[test]
    fn kinds_say_what_to_do() {
        let local = |kind: io::ErrorKind| object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(kind)),
        };
        let remote = object_store::Error::Generic {
            store: "S3",
            source: Box::new(io::Error::from(io::ErrorKind::NotFound)),
        };
        for (error, expected) in [
            (local(io::ErrorKind::StorageFull), ErrorKind::Exhausted),
            (local(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::Denied),
            (local(io::ErrorKind::Other), ErrorKind::Unavailable),
            (remote, ErrorKind::Unavailable),
        ] {
            assert_eq!(convert("get object", "x", error).kind(), expected);
        }
    }
}
