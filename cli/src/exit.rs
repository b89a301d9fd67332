//! Exit codes. A code that is not known is to be treated as a failure.

use app::mounts::MOUNT_ACTION;
use model::{Error, ErrorKind};
use repository::hold::HELD_ACTION;

use crate::output::WRITE_ACTION;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// It failed.
    Failed,
    /// The request or the policy makes no sense.
    Usage,
    /// It was done, but not for everything: what is missing was said.
    Partial,
    /// There is no repository.
    NoRepository,
    /// The key or the credentials do not open it.
    BadKey,
    /// Stored or restored bytes are not what was captured.
    Damaged,
    /// Something stands in the way of a restore or a mount.
    InTheWay,
    /// The selector matches nothing.
    NoMatch,
    /// The store cannot be reached.
    Unreachable,
    /// The same may succeed later.
    Later,
    /// It was interrupted.
    Interrupted,
    /// Nobody reads the output any more.
    PipeClosed,
    /// It was told to end.
    Terminated,
}

impl Exit {
    /// Returns the number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NoRepository => 10,
            Self::BadKey => 12,
            Self::Damaged => 13,
            Self::InTheWay => 16,
            Self::NoMatch => 17,
            Self::Unreachable => 18,
            Self::Later => 75,
            Self::Interrupted => 130,
            Self::PipeClosed => 141,
            Self::Terminated => 143,
        }
    }

    /// Returns the worse of two outcomes that both came to an end.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        if self == Self::Done || other == Self::Damaged { other } else { self }
    }

    /// Says how a command ends that failed so.
    pub fn of_error(error: &Error) -> Self {
        let action = error.action();
        match error.kind() {
            _ if action == WRITE_ACTION => Self::PipeClosed,
            ErrorKind::NotFound if is_about_repository(action) => Self::NoRepository,
            ErrorKind::NotFound if is_about_state(action) => Self::NoMatch,
            ErrorKind::Conflict if action.contains("restore") || action == MOUNT_ACTION => {
                Self::InTheWay
            }
            ErrorKind::Denied
                if is_about_this_host(action)
                    || action == PINNED_ACTION
                    || action == HELD_ACTION =>
            {
                Self::Failed
            }
            ErrorKind::Unavailable if action == STACK_ACTION => Self::Failed,
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Unsupported
            | ErrorKind::Exhausted
            | ErrorKind::Internal => Self::Failed,
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::Denied | ErrorKind::WrongKey => Self::BadKey,
            ErrorKind::Corrupt => Self::Damaged,
            ErrorKind::Unavailable => Self::Unreachable,
            ErrorKind::Fenced => Self::Later,
            ErrorKind::Cancelled => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

/// What is being done where a pin is in the way.
pub const PINNED_ACTION: &str = "forget point";

/// What is being done where servers of this host are started and stopped.
pub const STACK_ACTION: &str = "run stack";

/// Says whether something is about files of this host, and not about the repository.
pub fn is_about_this_host(action: &str) -> bool {
    const HERE: [&str; 7] = [
        "create directory",
        "target",
        "restore",
        "policy",
        "configuration",
        STACK_ACTION,
        MOUNT_ACTION,
    ];
    HERE.iter().any(|word| action.contains(word))
}

/// Says whether something is about the repository itself being there.
pub fn is_about_repository(action: &str) -> bool {
    matches!(action, "open repository" | "open repository directory")
}

/// Says whether something is about choosing a state or an item in it.
pub fn is_about_state(action: &str) -> bool {
    const STATES: [&str; 9] =
        ["state", "select", "point", "snapshot", "site", "choose", "item", "list", "forget"];
    STATES.iter().any(|word| action.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_codes() {
        for (kind, action, code) in [
            (ErrorKind::NotFound, "open repository", 10),
            (ErrorKind::NotFound, "open repository directory", 10),
            (ErrorKind::NotFound, "find state", 17),
            (ErrorKind::NotFound, "read item", 17),
            (ErrorKind::NotFound, "read key file", 1),
            (ErrorKind::Conflict, "create repository", 1),
            (ErrorKind::Conflict, "restore", 16),
            (ErrorKind::Invalid, "read selector", 2),
            (ErrorKind::WrongKey, "open repository", 12),
            (ErrorKind::Denied, "read object", 12),
            (ErrorKind::Denied, "open repository directory", 12),
            (ErrorKind::Denied, PINNED_ACTION, 1),
            (ErrorKind::Denied, HELD_ACTION, 1),
            (ErrorKind::Denied, "create directory", 1),
            (ErrorKind::Denied, "open target directory", 1),
            (ErrorKind::Corrupt, "read object", 13),
            (ErrorKind::Unavailable, "read object", 18),
            (ErrorKind::Unsupported, "use store", 1),
            (ErrorKind::Exhausted, "create object", 1),
            (ErrorKind::Fenced, "commit", 75),
            (ErrorKind::Cancelled, "capture", 130),
            (ErrorKind::Internal, "capture", 1),
            (ErrorKind::Unavailable, STACK_ACTION, 1),
            (ErrorKind::Denied, STACK_ACTION, 1),
            (ErrorKind::Invalid, STACK_ACTION, 2),
            (ErrorKind::Denied, MOUNT_ACTION, 1),
            (ErrorKind::NotFound, MOUNT_ACTION, 1),
            (ErrorKind::Unsupported, MOUNT_ACTION, 1),
            (ErrorKind::Conflict, MOUNT_ACTION, 16),
            (ErrorKind::Unavailable, WRITE_ACTION, 141),
        ] {
            let error = Error::new(kind, action, "x");
            assert_eq!(Exit::of_error(&error).code(), code, "{kind:?} {action}");
        }
    }

    #[test]
    fn damage_outweighs_what_is_missing() {
        assert_eq!(Exit::Done.or_worse(Exit::Partial), Exit::Partial);
        assert_eq!(Exit::Partial.or_worse(Exit::Done), Exit::Partial);
        assert_eq!(Exit::Partial.or_worse(Exit::Damaged), Exit::Damaged);
        assert_eq!(Exit::Damaged.or_worse(Exit::Partial), Exit::Damaged);
    }
}
