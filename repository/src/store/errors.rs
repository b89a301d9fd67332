//! The one place where a store's errors become ours.

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
        other => find_io_error(other).map_or(ErrorKind::Unavailable, io_kind),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
