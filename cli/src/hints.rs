//! One hint per error: what to do next. By kind and by what was being done, never by text.

use app::mounts::MOUNT_ACTION;
use model::{Error, ErrorKind};
use repository::hold::HELD_ACTION;

use crate::exit::{
    PINNED_ACTION, STACK_ACTION, is_about_repository, is_about_state, is_about_this_host,
};

/// Returns what a person should do about an error; none where that is plain or not known.
pub fn hint(error: &Error) -> Option<&'static str> {
    let action = error.action();
    Some(match error.kind() {
        ErrorKind::NotFound => return on_not_found(action),
        ErrorKind::Conflict => return on_conflict(action),
        ErrorKind::Denied => return Some(on_denied(action)),
        ErrorKind::Invalid => return on_invalid(action),
        ErrorKind::Unsupported if action == MOUNT_ACTION => {
            "load it (`modprobe fuse`), or give the container the device /dev/fuse; `lifeboat restore` needs neither"
        }
        ErrorKind::Unavailable if action == STACK_ACTION => return None,
        ErrorKind::Unavailable => "nothing is lost: run the same command again when it is back",
        ErrorKind::WrongKey => {
            "give another key with --key-file, --identity, --share-file, --passphrase-file or --passphrase-command"
        }
        ErrorKind::Corrupt => {
            "`lifeboat verify --deep` shows what is affected, `lifeboat repo repair` mends it, with --from a copy"
        }
        ErrorKind::Fenced => "run it again: what was stored already is used",
        ErrorKind::Exhausted => "make room there and run it again: what was stored already is used",
        ErrorKind::Internal => "this is a fault of lifeboat: please report it with this message",
        _ => return None,
    })
}

/// What was asked for is not there.
fn on_not_found(action: &str) -> Option<&'static str> {
    Some(match action {
        _ if is_about_repository(action) => {
            "create one with `lifeboat init --repo URL`, or name another with --repo"
        }
        MOUNT_ACTION => "make it first: it is what the state appears on",
        "find policy" => "write one with `lifeboat init`, or name it with --policy",
        _ if action.contains("key file") => {
            "name the right one with --key-file, or use --passphrase-file"
        }
        _ if is_about_state(action) => {
            "`lifeboat points` lists what there is, `lifeboat ls SELECTOR` what is in it"
        }
        _ if action.starts_with("read key share") || action == "read identity file" => {
            "check the name after --share-file or --identity"
        }
        _ => return None,
    })
}

/// Something else is there already.
fn on_conflict(action: &str) -> Option<&'static str> {
    Some(match action {
        "create repository" => {
            "use it as it is (`lifeboat points`), or choose another place with --repo"
        }
        "sync repository" => "name an empty place, or a copy of this very repository, with --to",
        "repair repository" => "name a copy of this very repository with --from",
        "create key file" => "an existing key file is never replaced: choose another name",
        "create key share file" | "create identity file" => {
            "an existing file is never replaced: choose another place"
        }
        _ if action.contains("restore") => {
            "restore elsewhere, or say --existing overwrite; --dry-run shows what stands in the way"
        }
        MOUNT_ACTION => {
            "name an empty directory, or say --non-empty; what has no process any more goes away by `umount DIR`"
        }
        STACK_ACTION => "`lifeboat stack status` shows what runs, `lifeboat stack down` stops it",
        "add key slot" => {
            "make a new key (as --new-key-file with a file that is not there yet): a second slot for the same one adds no safety"
        }
        _ => return None,
    })
}

/// Somebody or something forbids it.
fn on_denied(action: &str) -> &'static str {
    match action {
        PINNED_ACTION => "take the pin off first: `lifeboat points unpin SELECTOR`",
        HELD_ACTION => {
            "`lifeboat hold list` shows what is held; who may, ends it: `lifeboat hold release ID`"
        }
        MOUNT_ACTION => {
            "root may mount (in a container with CAP_SYS_ADMIN and /dev/fuse), others with `fusermount3` (Debian: package fuse3), and --allow-other with `user_allow_other` in /etc/fuse.conf"
        }
        _ if is_about_this_host(action) => "check who may write there",
        _ => "check who may read and write there; `lifeboat doctor` looks closer",
    }
}

/// What was said makes no sense.
fn on_invalid(action: &str) -> Option<&'static str> {
    Some(match action {
        "combine key shares" => {
            "give --share-file once for each share, all of one set; `# any …` in a share says how many"
        }
        "choose repository" => {
            "name it with --repo, LIFEBOAT_REPO, or [[repository]] in lifeboat.toml"
        }
        "ask for passphrase" => {
            "give a key with --key-file, --passphrase-file or --passphrase-command"
        }
        "choose key source" => "keep one of them",
        _ if action.contains("selector") => {
            "write SITE[/SYSTEM]@WHEN[:PATH], as in prod/etc@latest:/etc/hosts"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_meet_first_has_a_hint() {
        for (kind, action, word) in [
            (ErrorKind::NotFound, "open repository", "init"),
            (ErrorKind::NotFound, "find policy", "--policy"),
            (ErrorKind::NotFound, "read key file", "--key-file"),
            (ErrorKind::NotFound, "find state", "points"),
            (ErrorKind::WrongKey, "open repository", "--passphrase-file"),
            (ErrorKind::Conflict, "create repository", "--repo"),
            (ErrorKind::Conflict, "restore", "--existing"),
            (ErrorKind::Invalid, "read selector", "SITE"),
            (ErrorKind::Corrupt, "read object", "verify"),
            (ErrorKind::Unsupported, MOUNT_ACTION, "modprobe"),
            (ErrorKind::Denied, MOUNT_ACTION, "fusermount3"),
            (ErrorKind::Conflict, MOUNT_ACTION, "--non-empty"),
        ] {
            let hint = hint(&Error::new(kind, action, "x")).unwrap_or_default();
            assert!(hint.contains(word), "{kind:?} {action}: {hint}");
            assert!(!hint.contains('\n'), "one line");
        }
        assert_eq!(hint(&Error::cancelled("capture")), None);
    }
}
