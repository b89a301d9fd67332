//! One error type, whose kind says what the caller can do.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything in this workspace that can fail at a port.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error. A kind is added only where a caller would act differently.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named thing does not exist: choose another, or create it.
    NotFound,
    /// Somebody else's thing stands where ours was to be: look at it, then decide.
    Conflict,
    /// The other side cannot be reached or is too busy: the same call may succeed later.
    Unavailable,
    /// The credentials at hand do not allow it: other credentials are needed.
    Denied,
    /// The key, passphrase or key file at hand opens nothing here: another one is needed.
    WrongKey,
    /// The request or the configuration makes no sense: change it.
    Invalid,
    /// The other side is of a version or lacks an ability that this needs: upgrade or replace it.
    Unsupported,
    /// Stored bytes are not what was written: repair from another copy.
    Corrupt,
    /// A collector has closed this session: open a new one; what was uploaded is reused.
    Fenced,
    /// There is no room left (disk, quota, memory setting): make room.
    Exhausted,
    /// The operation was told to stop.
    Cancelled,
    /// A fault of this program: report it.
    Internal,
}

/// What failed, on what, and why.
///
/// `Display` prints `action subject` and never the source: whoever prints walks the chain once, with
/// [`Error::chain`].
pub struct Error {
    kind: ErrorKind,
    action: &'static str,
    subject: String,
    detail: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error. `action` is a verb in the present tense with its object (`"read pack"`).
    pub fn new(kind: ErrorKind, action: &'static str, subject: impl Into<String>) -> Self {
        Self { kind, action, subject: subject.into(), detail: None, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds a fact that explains the failure where there is no causing error.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Says what was being done.
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// Says on what it was being done.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Renders the error and all its causes on one line, outermost first.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Returns the error that [`Context::cancel`](crate::Context) leads to.
    pub fn cancelled(action: &'static str) -> Self {
        Self::new(ErrorKind::Cancelled, action, "").detail("cancelled")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} error: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_omits_the_source_and_chain_prints_each_link_once() {
        let inner = Error::new(ErrorKind::Unavailable, "read object", "pack/ab");
        let outer = Error::new(ErrorKind::Corrupt, "restore", "etc/hosts").because(inner);
        assert_eq!(outer.to_string(), "restore etc/hosts");
        assert_eq!(outer.chain(), "restore etc/hosts: read object pack/ab");
        assert_eq!(outer.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn detail_follows_the_subject() {
        let error = Error::new(ErrorKind::Invalid, "parse size", "12q").detail("unknown unit");
        assert_eq!(error.to_string(), "parse size 12q: unknown unit");
    }
}
