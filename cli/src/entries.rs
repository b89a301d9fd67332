//! Items as lines and as JSON.

use jiff::tz::TimeZone;
use model::{AttributeTag, Item, ItemKey, ItemKind, Timestamp};
use operations::browse::Entry;
use policies::show_time;
use serde_json::{Map, Value, json};

use crate::names;
use crate::run::Run;

/// Names a kind of item.
pub fn kind_name(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Directory => "directory",
        ItemKind::File => "file",
        ItemKind::Symlink => "symlink",
        ItemKind::Hardlink => "hardlink",
        ItemKind::Fifo => "fifo",
        ItemKind::Node => "node",
    }
}

/// Writes a mode as `ls` does: `drwxr-xr-t`.
pub fn mode(kind: ItemKind, mode: Option<u64>) -> String {
    let first = match kind {
        ItemKind::Directory => 'd',
        ItemKind::Symlink => 'l',
        ItemKind::Fifo => 'p',
        ItemKind::Node => 'n',
        ItemKind::Hardlink => 'h',
        ItemKind::File => '-',
    };
    let Some(mode) = mode else { return format!("{first}?????????") };
    let mut text = String::from(first);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Returns when an item was modified.
pub fn modified(item: &Item) -> Option<Timestamp> {
    item.attributes.signed(AttributeTag::MODIFIED_NS).map(|unix_ns| Timestamp { unix_ns })
}

/// Returns where a link leads: as it stands for symbolic ones, a path for hard ones.
fn target(item: &Item) -> Option<String> {
    let target = item.attributes.get(AttributeTag::LINK_TARGET)?;
    if item.kind != ItemKind::Hardlink {
        return Some(names::escape(target));
    }
    ItemKey::from_bytes(target.to_vec()).ok().map(|key| names::path(&key))
}

fn owner(item: &Item, name: AttributeTag, number: AttributeTag) -> String {
    match item.attributes.get(name) {
        Some(name) => names::escape(name),
        None => item.attributes.unsigned(number).map_or("-".to_owned(), |id| id.to_string()),
    }
}

/// Writes an item as one line: its path, or with all that is known.
pub fn line(path: &str, entry: &Entry, is_long: bool, zone: &TimeZone) -> String {
    let item = &entry.item;
    let slash = if item.kind == ItemKind::Directory && !path.ends_with('/') { "/" } else { "" };
    if !is_long {
        return format!("{path}{slash}");
    }
    let arrow = target(item).map(|target| format!(" -> {target}")).unwrap_or_default();
    format!(
        "{} {:<8} {:<8} {:>12} {} {path}{slash}{arrow}",
        mode(item.kind, item.attributes.unsigned(AttributeTag::MODE)),
        owner(item, AttributeTag::USER_NAME, AttributeTag::USER_ID),
        owner(item, AttributeTag::GROUP_NAME, AttributeTag::GROUP_ID),
        item.content_bytes(),
        modified(item).map_or_else(|| " ".repeat(19), |time| show_time(time, zone)),
    )
}

/// Writes an item as JSON.
pub fn value(system: &str, entry: &Entry) -> Value {
    let item = &entry.item;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("system", system.into());
    put("path", names::path(&item.key).into());
    if std::str::from_utf8(item.key.as_bytes()).is_err() {
        // The bytes themselves, components joined by a zero byte.
        put("key_hex", repository::types::hex(item.key.as_bytes()).into());
    }
    put("kind", kind_name(item.kind).into());
    put("size_bytes", item.content_bytes().into());
    for (name, tag) in [("uid", AttributeTag::USER_ID), ("gid", AttributeTag::GROUP_ID)] {
        if let Some(number) = item.attributes.unsigned(tag) {
            put(name, number.into());
        }
    }
    for (name, tag) in [("user", AttributeTag::USER_NAME), ("group", AttributeTag::GROUP_NAME)] {
        if let Some(text) = item.attributes.get(tag) {
            put(name, names::escape(text).into());
        }
    }
    if let Some(mode) = item.attributes.unsigned(AttributeTag::MODE) {
        put("mode", format!("{mode:04o}").into());
    }
    if let Some(time) = modified(item) {
        put("modified", Run::utc(time).into());
    }
    if let Some(target) = target(item) {
        put("target", target.into());
    }
    if item.attributes.get(AttributeTag::INCONSISTENT).is_some() {
        put("is_inconsistent", json!(true));
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Attributes, Extent};
    use operations::browse::EntryContent;

    #[test]
    fn modes_look_as_everywhere() {
        for (kind, bits, expected) in [
            (ItemKind::Directory, 0o755, "drwxr-xr-x"),
            (ItemKind::Directory, 0o1777, "drwxrwxrwt"),
            (ItemKind::File, 0o4755, "-rwsr-xr-x"),
            (ItemKind::File, 0o6644, "-rwSr-Sr--"),
            (ItemKind::Symlink, 0o777, "lrwxrwxrwx"),
            (ItemKind::Fifo, 0, "p---------"),
        ] {
            assert_eq!(mode(kind, Some(bits)), expected);
        }
        assert_eq!(mode(ItemKind::Node, None), "n?????????");
    }

    #[test]
    fn an_item_is_a_line_and_an_object() {
        let attributes = Attributes::builder()
            .unsigned(AttributeTag::MODE, 0o640)
            .unsigned(AttributeTag::USER_ID, 7)
            .bytes(AttributeTag::GROUP_NAME, b"adm")
            .signed(AttributeTag::MODIFIED_NS, 1_795_531_530_000_000_000)
            .build();
        let item = Item {
            key: ItemKey::from_components([b"etc".as_slice(), b"\xff\n"]).expect("key"),
            kind: ItemKind::File,
            attributes,
            version: None,
            extents: vec![Extent::data(12)],
        };
        let entry = Entry { item, content: EntryContent::Logged(Vec::new()) };
        assert_eq!(
            line("/etc/x", &entry, true, &TimeZone::UTC),
            "-rw-r----- 7        adm                12 2026-11-24 14:45:30 /etc/x"
        );
        assert_eq!(line("/etc/x", &entry, false, &TimeZone::UTC), "/etc/x");
        let expected = json!({
            "system": "etc", "path": "/etc/\\xff\\n", "key_hex": "65746300ff0a", "kind": "file",
            "size_bytes": 12, "uid": 7, "group": "adm", "mode": "0640",
            "modified": "2026-11-24T14:45:30Z",
        });
        assert_eq!(value("etc", &entry), expected);
    }
}
