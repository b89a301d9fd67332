//! Names of items for terminals and for JSON: they may hold any byte, a terminal takes some as orders.

use std::fmt::Write as _;

use model::ItemKey;

/// Shows bytes: text as it is, control characters and what is not UTF-8 as `\xNN`, a backslash doubled.
pub fn escape(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                '\r' => shown.push_str("\\r"),
                // Marks that turn the direction of text hide what a name ends in.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    shown.extend(c.escape_unicode());
                }
                c if c.is_control() => {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        let _ = write!(shown, "\\x{byte:02x}");
                    }
                }
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Shows a key as an absolute path.
pub fn path(key: &ItemKey) -> String {
    if key.is_root() {
        return "/".to_owned();
    }
    key.components().fold(String::new(), |path, name| path + "/" + &escape(name))
}

/// Makes one line of text safe to print: errors may quote names.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_as_an_order() {
        for (bytes, expected) in [
            (&b"plain \xc3\xa4"[..], "plain ä"),
            (b"a\nb\tc\rd", r"a\nb\tc\rd"),
            (b"\x1b[31mred", r"\x1b[31mred"),
            (b"back\\slash", r"back\\slash"),
            (b"\xff\xfe.txt", r"\xff\xfe.txt"),
            ("c1\u{9b}31m".as_bytes(), r"c1\xc2\x9b31m"),
            ("txt.\u{202e}exe".as_bytes(), r"txt.\u{202e}exe"),
        ] {
            assert_eq!(escape(bytes), expected);
        }
        assert_eq!(line("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\n");
    }

    #[test]
    fn keys_are_shown_as_paths() {
        let key = ItemKey::from_components(["etc", "a/b\n"]).expect("key");
        assert_eq!(path(&key), "/etc/a/b\\n");
        assert_eq!(path(&ItemKey::root()), "/");
    }
}
