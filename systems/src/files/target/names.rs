//! Names of unfinished files, and which names are one to a file system.

use std::os::fd::BorrowedFd;

use model::ItemKey;
use rustix::fs::{self, AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

const PREFIX: &[u8] = b".lifeboat-";
const SUFFIX: &[u8] = b".part";
const HASH_BYTES: usize = 16;

/// Returns the name under which an item is made, beside where it is to stand. Every run finds the same
/// one, so that what a killed run left is overwritten by the next.
pub(super) fn temporary_name(key: &ItemKey) -> Vec<u8> {
    let hash = blake3::hash(key.as_bytes());
    let digits = hash.to_hex();
    let digits = digits.as_bytes().get(..2 * HASH_BYTES).unwrap_or_default();
    [PREFIX, digits, SUFFIX].concat()
}

/// Says whether a name is one that only unfinished files have.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    digits.is_some_and(|digits| digits.len() == 2 * HASH_BYTES && digits.iter().all(is_digit))
}

/// Which names are one to a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Folding {
    pub(super) case: bool,
    pub(super) unicode: bool,
}

/// Tries names in a directory, and leaves it as it was. Where nothing can be made, names are taken as
/// they are: nothing will be made later either.
pub(super) fn probe_folding(root: BorrowedFd<'_>) -> Folding {
    // A composed letter, the same one decomposed, and the same one as a capital.
    let composed = ".lifeboat-probe-\u{e9}";
    let (decomposed, capital) = (".lifeboat-probe-e\u{301}", ".LIFEBOAT-PROBE-\u{e9}");
    let Ok(before) = fs::fstat(root) else { return Folding::default() };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = || fs::openat(root, composed, flags, Mode::RUSR | Mode::WUSR);
    let made = match make() {
        Err(Errno::EXIST) => {
            let _gone = fs::unlinkat(root, composed, AtFlags::empty());
            make()
        }
        made => made,
    };
    let Ok(probe) = made else { return Folding::default() };
    let identity = fs::fstat(&probe).map(|stat| (stat.st_dev, stat.st_ino));
    let is_same = |name: &str| {
        let there = fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW);
        there.map(|stat| (stat.st_dev, stat.st_ino)) == identity
    };
    let folding = Folding { case: is_same(capital), unicode: is_same(decomposed) };
    let _gone = fs::unlinkat(root, composed, AtFlags::empty());
    let time = super::observe::modified_ns(&before);
    let _kept = fs::futimens(root, &modified_only(time));
    folding
}

/// Returns times that set the time of the last change and leave that of the last access.
pub(super) fn modified_only(modified_ns: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: modified_ns.div_euclid(1_000_000_000),
            tv_nsec: modified_ns.rem_euclid(1_000_000_000),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_follow_from_the_key_and_are_recognised() {
        let key = |name: &[u8]| ItemKey::from_components([name]).expect("key");
        let name = temporary_name(&key(b"hosts"));
        assert_eq!(name, temporary_name(&key(b"hosts")));
        assert_ne!(name, temporary_name(&key(b"hostt")));
        assert!(is_temporary(&name), "{}", name.escape_ascii());
        assert_eq!(name.len(), 47);
    }

    #[test]
    fn names_of_users_are_not_taken_for_ours() {
        let digits = "0123456789abcdef0123456789abcdef";
        for name in [
            String::new(),
            ".lifeboat-".into(),
            ".lifeboat-.part".into(),
            format!(".lifeboat-{digits}"),
            format!(".lifeboat-{digits}0.part"),
            format!(".lifeboat-{}.part", digits.to_uppercase()),
            format!("lifeboat-{digits}.part"),
        ] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
