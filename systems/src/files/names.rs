//! Names of users and groups, from the machine's own two files. Numbers mean something else on
//! another machine; names are what a restore there goes by.

use std::collections::HashMap;

use bytes::Bytes;

/// Longest file that is read; past it the rest is unknown.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Who has which number.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<u32, Bytes>,
    groups: HashMap<u32, Bytes>,
}

impl Names {
    /// Reads `/etc/passwd` and `/etc/group`. A file that cannot be read knows nobody.
    pub(super) fn read() -> Self {
        Self::parse(&read_file("/etc/passwd"), &read_file("/etc/group"))
    }

    /// Reads the contents of the two files.
    pub(super) fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: parse_lines(passwd), groups: parse_lines(group) }
    }

    pub(super) fn user(&self, id: u32) -> Option<&[u8]> {
        self.users.get(&id).map(AsRef::as_ref)
    }

    pub(super) fn group(&self, id: u32) -> Option<&[u8]> {
        self.groups.get(&id).map(AsRef::as_ref)
    }
}

fn read_file(path: &str) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read before an error is still true.
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    bytes
}

/// Both files are lines of `name:password:number:…`. The first line with a number counts.
fn parse_lines(bytes: &[u8]) -> HashMap<u32, Bytes> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1));
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if let Some(number) = number.filter(|_| !name.is_empty()) {
            names.entry(number).or_insert_with(|| Bytes::copy_from_slice(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_a_number_counts() {
        let names = Names::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/\n\nbad line\n:x:3:\n+@nis::\nn\xff:x:4:4",
            b"wheel:x:10:\nusers:x:x:\nlast:*:11",
        );
        assert_eq!(names.user(0), Some(&b"root"[..]));
        assert_eq!(names.user(4), Some(&b"n\xff"[..]));
        assert_eq!(names.user(3), None);
        assert_eq!(names.group(10), Some(&b"wheel"[..]));
        assert_eq!(names.group(11), Some(&b"last"[..]));
        assert_eq!(names.group(0), None);
    }
}
