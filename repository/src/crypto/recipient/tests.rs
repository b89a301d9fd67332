//! Identities read back, public keys are checked, and both halves of the construction count.

use super::*;
use crate::crypto::testing::Repeatable;

fn identity(seed: u64) -> Identity {
    Identity::generate(&Repeatable::new(seed)).expect("identity")
}

#[test]
fn an_identity_is_private_text_that_is_never_replaced() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("identity");
    let made = identity(1);
    made.save(&path).expect("save");
    assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
    assert!(!Identity::is_exposed(&path).expect("look"));
    assert_eq!(made.save(&path).expect_err("again").kind(), ErrorKind::Conflict);
    let read = Identity::load(&path).expect("load");
    assert_eq!(read.recipient(), made.recipient());
    assert_eq!((read.x25519.expose(), &read.kem), (made.x25519.expose(), &made.kem));
    let shown = format!("{made:?}");
    assert!(!shown.contains(&hex(made.x25519.expose())[..16]), "{shown}");

    let text = std::fs::read_to_string(&path).expect("read");
    for bad in [
        String::new(),
        text.replace("identity 1", "identity 2"),
        text.replacen("x25519 ", "x25519", 1),
        text.replacen("ml-kem-768 ", "ml-kem-768 0", 1),
        text.replacen("check ", "check 0", 1),
        format!("{text}more"),
    ] {
        assert!(Identity::from_text(&bad).is_none());
    }
    // No digit can be changed without the check failing: the library would take it.
    let digits: Vec<usize> =
        text.char_indices().skip(20).filter(|(_, c)| *c == '0').map(|(at, _)| at).collect();
    for at in digits.into_iter().step_by(7) {
        let mut slipped = text.clone();
        slipped.replace_range(at..=at, "1");
        assert!(Identity::from_text(&slipped).is_none(), "{at}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("mode");
    assert!(Identity::is_exposed(&path).expect("look"));
}

#[test]
fn public_keys_are_one_line_that_is_whole_or_refused() {
    let identity = identity(1);
    let text = identity.recipient().to_string();
    assert_eq!(text.parse::<Recipient>().expect("read"), *identity.recipient());
    assert_eq!(format!(" {text}\n").parse::<Recipient>().expect("read"), *identity.recipient());
    for bad in [
        "",
        "age1xyz",
        PREFIX,
        &text[..text.len() - 1],
        &format!("{text}0"),
        &text.replacen("1-", "2-", 1),
        &text.to_uppercase(),
    ] {
        let error = bad.parse::<Recipient>().expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.chain().len() < 200, "the text is not repeated");
    }
}

#[test]
fn each_encapsulation_makes_a_key_of_its_own() {
    let identity = identity(1);
    let locked = |seed| identity.recipient().encapsulate(&Repeatable::new(seed)).expect("lock");
    let ((first, a), (second, b)) = (locked(2), locked(3));
    assert_ne!(a.expose(), b.expose());
    assert_eq!(identity.decapsulate(&first).expect("key").expose(), a.expose());
    assert_eq!(identity.decapsulate(&second).expect("key").expose(), b.expose());
}

/// Each half alone decides: with one of the two taken from elsewhere the key is another.
#[test]
fn both_halves_count() {
    let (mine, other) = (identity(1), identity(2));
    let (encapsulated, key) = mine.recipient().encapsulate(&Repeatable::new(3)).expect("lock");
    for (x25519, kem) in [(&mine.x25519, &other.kem), (&other.x25519, &mine.kem)] {
        let mut mixed = Identity::new(x25519.clone(), kem.clone()).expect("identity");
        // What is public is known to everybody.
        mixed.recipient = mine.recipient.clone();
        let found = mixed.decapsulate(&encapsulated).expect("a key");
        assert_ne!(found.expose(), key.expose());
    }
}

#[test]
fn a_key_with_which_everybody_agrees_is_refused() {
    let mut recipient = identity(1).recipient().clone();
    recipient.x25519 = [0; 32];
    let error = recipient.encapsulate(&Repeatable::new(1)).expect_err("low order");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
