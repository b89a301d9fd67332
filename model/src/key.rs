//! Keys of items and their order.
//!
//! A key is the path's components joined by a zero byte and compared bytewise. A zero byte sorts
//! before every other byte, so a directory's descendants follow it immediately and a depth-first
//! walk whose siblings are sorted by name is in key order. `a`, `a\0b`, `a.txt`: the child of `a`
//! comes before `a`'s sibling `a.txt`, which a `/` separator would not give.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;

use crate::{Error, ErrorKind, Result};

/// The byte between two components of a key.
pub const KEY_SEPARATOR: u8 = 0;

/// The place of an item in its system. The empty key is the system's root.
///
/// # Invariant
/// Components are not empty and hold no zero byte; at most [`ItemKey::LENGTH_MAX`] bytes in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ItemKey(Bytes);

impl ItemKey {
    /// The most bytes that a key may have. Linux paths end at 4,096; object names at 1,024.
    pub const LENGTH_MAX: usize = 65_535;

    /// Returns the key of the root.
    pub const fn root() -> Self {
        Self(Bytes::new())
    }

    /// Checks bytes that claim to be a key.
    ///
    /// # Errors
    /// `Invalid` where a component is empty or the key is too long.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let refuse = |why: &str| {
            let shown = String::from_utf8_lossy(&bytes).replace('\0', "/");
            Error::new(ErrorKind::Invalid, "read key", shown).detail(why)
        };
        if bytes.len() > Self::LENGTH_MAX {
            return Err(refuse("longer than 65,535 bytes"));
        }
        let is_sound =
            bytes.is_empty() || bytes.split(|b| *b == KEY_SEPARATOR).all(|c| !c.is_empty());
        if !is_sound {
            return Err(refuse("empty component"));
        }
        Ok(Self(bytes))
    }

    /// Joins components to a key.
    ///
    /// # Errors
    /// `Invalid` where a component is empty, holds a zero byte, or the key is too long.
    pub fn from_components<C: AsRef<[u8]>>(
        components: impl IntoIterator<Item = C>,
    ) -> Result<Self> {
        components
            .into_iter()
            .try_fold(Self::root(), |key, component| key.child(component.as_ref()))
    }

    /// Returns the key of a child with this name.
    ///
    /// # Errors
    /// `Invalid` where the name is empty, holds a zero byte, or the key gets too long.
    pub fn child(&self, name: &[u8]) -> Result<Self> {
        if name.is_empty() || name.contains(&KEY_SEPARATOR) {
            return Err(Error::new(ErrorKind::Invalid, "name item", String::from_utf8_lossy(name))
                .detail("empty, or holds a zero byte"));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.0.is_empty() {
            bytes.extend_from_slice(&self.0);
            bytes.push(KEY_SEPARATOR);
        }
        bytes.extend_from_slice(name);
        if bytes.len() > Self::LENGTH_MAX {
            return Err(Error::new(ErrorKind::Invalid, "name item", String::from_utf8_lossy(name))
                .detail("key longer than 65,535 bytes"));
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the bytes, components joined by zero bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Says whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Lists the components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let is_root = self.is_root();
        self.0.split(|byte| *byte == KEY_SEPARATOR).filter(move |_| !is_root)
    }

    /// Counts the components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Returns the last component; none for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// Returns the key one component shorter; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == KEY_SEPARATOR).unwrap_or(0);
        Some(Self(self.0.slice(..end)))
    }

    /// Says whether this key is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        match self.0.strip_prefix(ancestor.0.as_ref()) {
            Some(rest) => {
                ancestor.is_root() || rest.is_empty() || rest.first() == Some(&KEY_SEPARATOR)
            }
            None => false,
        }
    }

    /// Returns the bounds of this key's subtree (itself and all below) in key order.
    pub fn subtree(&self) -> (Bound<Self>, Bound<Self>) {
        if self.is_root() {
            return (Bound::Unbounded, Bound::Unbounded);
        }
        // 0x01 is the smallest byte that may follow this key in a name that is not below it.
        let mut end = self.0.to_vec();
        end.push(KEY_SEPARATOR + 1);
        (Bound::Included(self.clone()), Bound::Excluded(Self(end.into())))
    }

    /// Returns the key with its leading `from` replaced by `to`; none where it is not within `from`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let rest = self.0.slice(from.0.len()..);
        let rest = if rest.first() == Some(&KEY_SEPARATOR) { rest.slice(1..) } else { rest };
        let mut bytes = to.0.to_vec();
        if !bytes.is_empty() && !rest.is_empty() {
            bytes.push(KEY_SEPARATOR);
        }
        bytes.extend_from_slice(&rest);
        Some(Self(bytes.into()))
    }

    /// Shows the key as a path with `/`. Bytes that are not UTF-8 are shown as `U+FFFD`.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.0).replace('\0', "/")
    }
}

impl fmt::Debug for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> ItemKey {
        ItemKey::from_components(path.split('/').filter(|c| !c.is_empty())).expect("sound path")
    }

    /// Frozen: stored trees depend on this order for ever.
    #[test]
    fn golden_order_is_depth_first() {
        let order = [
            "", "a", "a/b", "a/b/c", "a/b.d", "a/b0", "a-b", "a.txt", "a0", "b", "b/\u{1}",
            "b\u{1}",
        ];
        let keys: Vec<_> = order.iter().map(|path| key(path)).collect();
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(keys, sorted);
    }

    #[test]
    fn golden_bytes_join_components_by_zero() {
        assert_eq!(key("etc/ssh/sshd_config").as_bytes(), b"etc\0ssh\0sshd_config");
        assert_eq!(ItemKey::root().as_bytes(), b"");
    }

    #[test]
    fn names_may_hold_any_byte_but_zero() {
        let odd = ItemKey::from_components([&b"\xff/\n"[..], b".."]).expect("odd names are sound");
        assert_eq!(odd.components().collect::<Vec<_>>(), [&b"\xff/\n"[..], b".."]);
        assert!(ItemKey::root().child(b"").is_err());
        assert!(ItemKey::root().child(b"a\0b").is_err());
        assert!(ItemKey::from_bytes(&b"a\0\0b"[..]).is_err());
        assert!(ItemKey::from_bytes(&b"\0a"[..]).is_err());
        assert!(ItemKey::from_bytes(&b"a\0"[..]).is_err());
        assert!(ItemKey::from_bytes(vec![b'a'; ItemKey::LENGTH_MAX + 1]).is_err());
    }

    #[test]
    fn subtree_bounds_hold_descendants_and_nothing_else() {
        let subtree = key("a/b").subtree();
        let inside = |path: &str| {
            use std::ops::RangeBounds;
            (subtree.0.as_ref(), subtree.1.as_ref()).contains(&key(path))
        };
        assert!(inside("a/b") && inside("a/b/c") && inside("a/b/c/d"));
        assert!(!inside("a") && !inside("a/b.c") && !inside("a/b\u{1}") && !inside("a/a"));
        for path in ["a/b", "a/b/c", "a/b.c", "a", "a/b\u{1}"] {
            assert_eq!(inside(path), key(path).is_within(&key("a/b")), "{path}");
        }
    }

    #[test]
    fn rebase_moves_a_subtree() {
        assert_eq!(key("a/b/c").rebase(&key("a/b"), &key("x")), Some(key("x/c")));
        assert_eq!(key("a/b").rebase(&key("a/b"), &key("x/y")), Some(key("x/y")));
        assert_eq!(key("a/bc").rebase(&key("a/b"), &key("x")), None);
        assert_eq!(key("a").rebase(&ItemKey::root(), &key("x")), Some(key("x/a")));
    }

    #[test]
    fn parent_and_name_take_a_key_apart() {
        assert_eq!(key("a/b").parent(), Some(key("a")));
        assert_eq!(key("a").parent(), Some(ItemKey::root()));
        assert_eq!(ItemKey::root().parent(), None);
        assert_eq!(key("a/b").name(), Some(&b"b"[..]));
        assert_eq!((ItemKey::root().depth(), key("a/b").depth()), (0, 2));
    }
}
