//! Extended attributes: their stored form, and reading and writing them on a handle.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

/// The kernel's own limit to one value, and to a list of names.
const KERNEL_BYTES_MAX: usize = 64 << 10;

/// Names and values, by name.
pub(super) type Extended = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads the stored form: `name length u16le | name | value length u32le | value`, by name. None where
/// the bytes are not that.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut decoded: Vec<(&[u8], &[u8])> = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        let is_ascending = decoded.last().is_none_or(|(previous, _)| *previous < name);
        if name.is_empty() || name.contains(&0) || !is_ascending {
            return None;
        }
        decoded.push((name, value));
        bytes = rest;
    }
    Some(decoded)
}

/// Writes the stored form.
pub(super) fn encode(extended: &Extended) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in extended {
        // Both fit: the kernel's names have 255 bytes at most, its values 64 KiB.
        bytes.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

/// A handle on which attributes are set. The kernel takes them on an open file, but not on a handle
/// that only marks a place, which is all that a symbolic link gives: that one is reached by the
/// process's own name for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle<'a> {
    /// An open file, directory or pipe.
    Open(BorrowedFd<'a>),
    /// A mark of a symbolic link.
    Mark(BorrowedFd<'a>),
}

impl Handle<'_> {
    /// Lists names; none where the file system has no such attributes.
    pub(super) fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let list = |buffer: &mut [u8]| match self {
            Self::Open(fd) => fs::flistxattr(fd, buffer),
            Self::Mark(fd) => fs::listxattr(own_name(*fd), buffer),
        };
        let mut buffer = [0; 256];
        let grown;
        let names = match list(&mut buffer) {
            Ok(length) => buffer.get(..length),
            Err(Errno::OPNOTSUPP) => None,
            // Without /proc a link's attributes cannot be reached.
            Err(Errno::NOENT) if matches!(self, Self::Mark(_)) => None,
            Err(Errno::RANGE) => {
                let mut large = vec![0; KERNEL_BYTES_MAX];
                let length = list(&mut large)?;
                grown = large;
                grown.get(..length)
            }
            Err(errno) => return Err(errno),
        };
        let names = names.unwrap_or_default().split(|byte| *byte == 0);
        Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Reads everything. What goes while it is read is left out.
    pub(super) fn read(&self) -> Result<Extended, Errno> {
        let mut extended = Extended::new();
        for name in self.names()? {
            match self.get(&name) {
                Ok(value) => {
                    extended.insert(name, value);
                }
                Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(extended)
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let get = |buffer: &mut [u8]| match self {
            Self::Open(fd) => fs::fgetxattr(fd, name, buffer),
            Self::Mark(fd) => fs::getxattr(own_name(*fd), name, buffer),
        };
        let mut value = vec![0; 256];
        let length = match get(&mut value) {
            Err(Errno::RANGE) => {
                value.resize(KERNEL_BYTES_MAX, 0);
                get(&mut value)?
            }
            answered => answered?,
        };
        value.truncate(length);
        Ok(value)
    }

    /// Sets one attribute, whether or not it is there.
    pub(super) fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Mark(fd) => fs::setxattr(own_name(*fd), name, value, XattrFlags::empty()),
        }
    }

    /// Removes one attribute.
    pub(super) fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fremovexattr(fd, name),
            Self::Mark(fd) => fs::removexattr(own_name(*fd), name),
        }
    }
}

/// The kernel follows this name to what the handle marks and not further.
pub(super) fn own_name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_is_golden_and_survives() {
        let extended = Extended::from([
            (b"user.a".to_vec(), b"xy".to_vec()),
            (b"user.b".to_vec(), Vec::new()),
        ]);
        let bytes = encode(&extended);
        assert_eq!(bytes, b"\x06\0user.a\x02\0\0\0xy\x06\0user.b\0\0\0\0");
        let decoded = decode(&bytes).expect("stored form");
        assert_eq!(decoded, [(&b"user.a"[..], &b"xy"[..]), (b"user.b", b"")]);
        assert_eq!(decode(b""), Some(vec![]));
    }

    #[test]
    fn other_bytes_are_refused() {
        let refused: [&[u8]; 6] = [
            b"\x01",
            b"\x02\0a",
            b"\x01\0a\x05\0\0\0b",
            b"\0\0\0\0\0\0",
            b"\x01\0b\0\0\0\0\x01\0a\0\0\0\0",
            b"\x02\0a\0\0\0\0\0",
        ];
        for bytes in refused {
            assert_eq!(decode(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
