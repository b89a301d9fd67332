//! Reads scripts. The notation is described at the module above.

use bytes::Bytes;
use model::{AttributeTag, Attributes, ExtentIdentity, ItemKey, ItemKind};

use super::state::{ScriptedExtent, ScriptedItem};
use crate::{random_bytes, text_bytes};

/// One line of a script.
#[derive(Debug, Clone)]
pub(super) enum Line {
    Put(ItemKey, ScriptedItem),
    Delete(ItemKey),
    Move(ItemKey, ItemKey),
}

/// Returns the key of a path in the notation of scripts.
///
/// # Panics
/// Where the path makes no key.
pub fn key(path: &str) -> ItemKey {
    if path == "." {
        return ItemKey::root();
    }
    let components = path.split('/').filter(|component| !component.is_empty()).map(unescape);
    ItemKey::from_components(components).unwrap_or_else(|error| panic!("{path}: {error:?}"))
}

/// Reads one line. Panics where it is none: scripts are part of a test's source.
pub(super) fn parse_line(line: &str) -> Line {
    let words: Vec<_> = line.split_whitespace().collect();
    let put = |kind, path: &str, rest: &[&str]| Line::Put(key(path), parse_item(kind, rest));
    match words.as_slice() {
        ["dir", path, rest @ ..] => put(ItemKind::Directory, path, rest),
        ["file", path, rest @ ..] => put(ItemKind::File, path, rest),
        ["node", path, rest @ ..] => put(ItemKind::Node, path, rest),
        ["fifo", path, rest @ ..] => put(ItemKind::Fifo, path, rest),
        ["symlink", path, target] => {
            let attributes =
                Attributes::builder().bytes(AttributeTag::LINK_TARGET, &unescape(target));
            Line::Put(key(path), ScriptedItem::new(ItemKind::Symlink, attributes.build(), vec![]))
        }
        ["delete", path] => Line::Delete(key(path)),
        ["move", from, to] => Line::Move(key(from), key(to)),
        _ => panic!("no line of a script: {line:?}"),
    }
}

fn parse_item(kind: ItemKind, words: &[&str]) -> ScriptedItem {
    let mut attributes = Attributes::builder();
    let mut extents = Vec::new();
    for word in words {
        if let Some(mode) = word.strip_prefix("mode:") {
            let mode = u64::from_str_radix(mode, 8).unwrap_or_else(|_| panic!("no mode: {word}"));
            attributes = attributes.unsigned(AttributeTag::MODE, mode);
        } else if let Some(time) = word.strip_prefix("mtime:") {
            let time = time.parse().unwrap_or_else(|_| panic!("no time: {word}"));
            attributes = attributes.signed(AttributeTag::MODIFIED_NS, time);
        } else {
            extents.push(parse_extent(word));
        }
    }
    assert!(extents.is_empty() || kind.has_content(), "{kind:?} has no content: {words:?}");
    ScriptedItem::new(kind, attributes.build(), extents)
}

fn parse_extent(word: &str) -> ScriptedExtent {
    if let Some(length) = word.strip_prefix("hole*") {
        return ScriptedExtent::Hole(number(length));
    }
    let is_named = |(name, _): &(&str, &str)| !name.contains(['"', '*', '~']);
    let (identity, rest) = match word.split_once('=').filter(is_named) {
        Some((name, rest)) => (Some(ExtentIdentity(Bytes::copy_from_slice(name.as_bytes()))), rest),
        None => (None, word),
    };
    let is_stripe = |(_, stripe): &(&str, &str)| stripe.bytes().all(|b| b.is_ascii_digit());
    let (pieces, stripe_bytes) = match rest.rsplit_once('/').filter(is_stripe) {
        Some((pieces, stripe)) => (pieces, Some(number(stripe) as u32)),
        None => (rest, None),
    };
    let bytes: Vec<u8> = pieces.split('+').flat_map(parse_piece).collect();
    ScriptedExtent::Data { bytes: bytes.into(), identity, stripe_bytes }
}

fn parse_piece(piece: &str) -> Bytes {
    if let Some(text) = piece.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return unescape(text).into();
    }
    if let Some((seed, length)) = piece.split_once('*') {
        return random_bytes(number(seed), number(length) as usize);
    }
    if let Some((seed, length)) = piece.split_once('~') {
        return text_bytes(number(seed), number(length) as usize);
    }
    panic!("no piece of content: {piece:?}")
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let (digits, tail) =
            after.split_at_checked(2).unwrap_or_else(|| panic!("no escape: {text:?}"));
        bytes.extend_from_slice(before.as_bytes());
        bytes
            .push(u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no escape: {text:?}")));
        rest = tail;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_all_about_an_item() {
        let Line::Put(key, item) =
            parse_line(r#"file a/b%2fc mode:644 mtime:-5 "x=y" hole*3 blk=1*8+2~4+"/7"/4"#)
        else {
            panic!("a put")
        };
        assert_eq!(key.as_bytes(), b"a\0b/c");
        let item = item.to_item(&key);
        assert_eq!(item.attributes.unsigned(AttributeTag::MODE), Some(0o644));
        assert_eq!(item.attributes.signed(AttributeTag::MODIFIED_NS), Some(-5));
        let lengths: Vec<_> = item.extents.iter().map(|extent| extent.length_bytes).collect();
        assert_eq!(lengths, [3, 3, 14]);
    }

    #[test]
    #[should_panic(expected = "no line of a script")]
    fn a_bad_line_is_refused() {
        parse_line("rm a");
    }
}
