//! Owners: by number, by name, or our own.

use std::collections::HashMap;
use std::io::Read;

use model::{AttributeTag, Attributes};

/// Whose what is restored will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// The numbers of the source.
    #[default]
    Numeric,
    /// Whoever has the source's names here; the source's numbers where nobody has.
    ByName,
    /// Whoever runs the restore.
    Keep,
}

/// The accounts of this host, as its files list them.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) users: Names,
    pub(super) groups: Names,
}

/// Names and numbers of one kind of account.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Vec<u8>, u32>,
    names: HashMap<u32, Vec<u8>>,
}

impl Accounts {
    /// Reads `/etc/passwd` and `/etc/group`. What cannot be read names nobody.
    pub(super) fn of_this_host() -> Self {
        let read = |path| Names::parse(&read_small(path).unwrap_or_default());
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    /// Returns the user and the group that an item is to have; none leaves who it has.
    pub(super) fn wanted(
        &self,
        owners: Owners,
        attributes: &Attributes,
    ) -> (Option<u64>, Option<u64>) {
        let number = |tag| attributes.unsigned(tag);
        let named = |names: &Names, tag| {
            let name = attributes.get(tag)?;
            names.number_of(name).map(u64::from)
        };
        let (user, group) = (AttributeTag::USER_ID, AttributeTag::GROUP_ID);
        match owners {
            Owners::Keep => (None, None),
            Owners::Numeric => (number(user), number(group)),
            Owners::ByName => (
                named(&self.users, AttributeTag::USER_NAME).or_else(|| number(user)),
                named(&self.groups, AttributeTag::GROUP_NAME).or_else(|| number(group)),
            ),
        }
    }
}

impl Names {
    /// Reads lines of `name:password:number:…`. The first line with a name, or a number, counts.
    fn parse(text: &[u8]) -> Self {
        let mut parsed = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':');
            let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else { continue };
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
            let Some(number) = number.filter(|_| !name.is_empty()) else { continue };
            parsed.numbers.entry(name.to_vec()).or_insert(number);
            parsed.names.entry(number).or_insert_with(|| name.to_vec());
        }
        parsed
    }

    fn number_of(&self, name: &[u8]) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Returns who has a number.
    pub(super) fn name_of(&self, number: u32) -> Option<&[u8]> {
        self.names.get(&number).map(Vec::as_slice)
    }
}

fn read_small(path: &str) -> std::io::Result<Vec<u8>> {
    const BYTES_MAX: u64 = 16 << 20;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            users: Names::parse(
                b"root:x:0:0::/:/bin/sh\n# no line\nkafka:x:990:991::/:\nkafka:x:5:\n",
            ),
            groups: Names::parse(b"root:x:0:\nkafka:x:991:\nbad:x:-1:\n:x:7:\n"),
        }
    }

    #[test]
    fn owners_are_found_by_the_chosen_way() {
        let attributes = Attributes::builder()
            .unsigned(AttributeTag::USER_ID, 120)
            .unsigned(AttributeTag::GROUP_ID, 130)
            .bytes(AttributeTag::USER_NAME, b"kafka")
            .bytes(AttributeTag::GROUP_NAME, b"stranger")
            .build();
        let accounts = accounts();
        let wanted = |owners| accounts.wanted(owners, &attributes);
        assert_eq!(wanted(Owners::Numeric), (Some(120), Some(130)));
        assert_eq!(wanted(Owners::ByName), (Some(990), Some(130)));
        assert_eq!(wanted(Owners::Keep), (None, None));
        let nothing = accounts.wanted(Owners::ByName, &Attributes::default());
        assert_eq!(nothing, (None, None));
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        let accounts = accounts();
        assert_eq!(accounts.users.name_of(990), Some(&b"kafka"[..]));
        assert_eq!(accounts.groups.name_of(7), None);
        assert_eq!(accounts.groups.number_of(b"bad"), None);
    }
}
