//! Any `threshold` shares give the secret back, fewer and other ones do not, and slips are found.

use proptest::prelude::*;

use super::*;
use crate::crypto::testing::Repeatable;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

fn set(threshold: u8, count: u8, seed: u64) -> (ShareSet, Vec<Share>) {
    ShareSet::generate(REPOSITORY, threshold, count, &Repeatable::new(seed)).expect("shares")
}

/// The field by its definition: multiply polynomials, then divide.
fn multiply_slowly(a: u8, b: u8) -> u8 {
    let mut product = (0..8)
        .filter(|bit| b >> bit & 1 == 1)
        .fold(0_u16, |product, bit| product ^ (u16::from(a) << bit));
    for bit in (8..16).rev() {
        if product >> bit & 1 == 1 {
            product ^= 0x11b << (bit - 8);
        }
    }
    product as u8
}

#[test]
fn the_field_is_the_one_that_is_meant() {
    for a in 0..=255 {
        for b in 0..=255 {
            assert_eq!(multiply(a, b), multiply_slowly(a, b), "{a} {b}");
        }
        assert_eq!(multiply(a, invert(a)), u8::from(a != 0), "{a}");
    }
    // FIPS 197 §4.2.
    assert_eq!(multiply(0x57, 0x83), 0xc1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_k_of_n_recover_and_one_less_does_not(
        (threshold, count) in (2..9_u8).prop_flat_map(|k| (Just(k), k..12)),
        seed: u64,
        order in any::<prop::sample::Index>(),
    ) {
        let (set, mut shares) = set(threshold, count, seed);
        shares.rotate_left(order.index(usize::from(count)));
        let enough = &shares[..usize::from(threshold)];
        let found = ShareSet::combine(enough).expect("combine");
        prop_assert_eq!(found.secret.expose(), set.secret.expose());
        prop_assert_eq!((found.slot, found.numbers()), (set.slot, (threshold, count)));
        let all = ShareSet::combine(&shares).expect("all");
        prop_assert_eq!(all.secret.expose(), set.secret.expose());
        let few = &shares[..usize::from(threshold) - 1];
        prop_assert_eq!(ShareSet::combine(few).expect_err("too few").kind(), ErrorKind::Invalid);
        // Nor does it help to say that fewer were needed.
        let lied: Vec<_> = few
            .iter()
            .map(|share| Share { threshold: threshold - 1, ..share.clone() })
            .collect();
        if let Ok(found) = ShareSet::combine(&lied) {
            prop_assert_ne!(found.secret.expose(), set.secret.expose());
        }
    }

    #[test]
    fn every_text_reads_back_and_no_slip_passes(
        seed: u64,
        place in any::<prop::sample::Index>(),
        typed in "[0-9a-f]",
    ) {
        let share = &set(3, 5, seed).1[1];
        let text = share.text();
        let read = Share::from_text(&text).expect("read");
        prop_assert_eq!((read.set(), read.index), (share.set(), share.index));
        prop_assert_eq!(read.value.expose(), share.value.expose());
        let digits: Vec<usize> = text
            .char_indices()
            .skip(text.find("repository ").expect("line"))
            .filter(|(_, c)| c.is_ascii_hexdigit())
            .map(|(at, _)| at)
            .collect();
        let at = digits[place.index(digits.len())];
        let mut slipped = text.to_string();
        slipped.replace_range(at..=at, &typed);
        if slipped != *text {
            prop_assert!(Share::from_text(&slipped).is_err(), "{}", slipped);
        }
    }

    #[test]
    fn random_text_is_no_panic(text in "\\PC{0,80}", tail in "[ -~\n]{0,400}") {
        let _ = Share::from_text(&text);
        let _ = Share::from_text(&format!("{TITLE}\n{tail}"));
    }
}

/// With one share of two, every value of a secret's byte is as likely as any other: for each there is
/// exactly one polynomial through the share.
#[test]
fn one_share_too_few_fits_every_secret() {
    let share = 0x5a_u8;
    let mut seen = BTreeSet::new();
    for secret in 0..=255_u8 {
        let slope = multiply(share ^ secret, invert(3));
        assert_eq!(multiply(slope, 3) ^ secret, share);
        seen.insert(slope);
    }
    assert_eq!(seen.len(), 256);
}

#[test]
fn golden_text() {
    let text = set(3, 5, 1).1[1].text();
    assert_eq!(
        text.as_str(),
        "lifeboat key share 1\n\
         # Any 3 of the 5 shares open the repository, fewer say nothing.\n\
         # Keep them in different places. To open: --share-file FILE, once for each share.\n\
         repository 07070707070707070707070707070707\n\
         slot 74500697761748e7dc0302d36778f89c\n\
         share 2 of 5, any 3 open it\n\
         1  6e90 ed56 a5ba 3737  5608\n\
         2  0725 defd 590e 0b24  962d\n\
         3  f239 c2d7 e335 17dd  e165\n\
         4  efda 49e3 acf7 09b2  f060\n\
         check 5c6b395407a0686d\n"
    );
}

#[test]
fn it_may_be_typed_by_hand() {
    let share = &set(2, 3, 4).1[2];
    let text = share.text();
    let typed: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_uppercase).collect();
    let typed = format!("\r\n  {}\r\n\r\n", typed.join("  \r\n\r\n "));
    let read = Share::from_text(&typed).expect("read");
    assert_eq!(read.value.expose(), share.value.expose());
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_shown() {
    let (_, a) = set(2, 3, 1);
    let (_, b) = set(2, 3, 2);
    let mut bent = a[2].clone();
    bent.value = Secret::new([1; 32]);
    for (shares, word) in [
        (vec![], "none is given"),
        (vec![&a[0]], "1 of the 2 that are needed"),
        (vec![&a[0], &a[0]], "share 1 is given twice"),
        (vec![&a[0], &b[1]], "use shares of one set"),
        (vec![&a[0], &a[1], &bent], "share 3 does not fit"),
    ] {
        let shares: Vec<_> = shares.into_iter().cloned().collect();
        let error = ShareSet::combine(&shares).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.chain().contains(word), "{}", error.chain());
    }
    let text = a[0].text();
    let row = text.lines().find(|line| line.starts_with("3  ")).expect("row");
    for (bad, word) in [
        (text.replace("share 1\n", "share 2\n"), "not a key share"),
        (text.replace("slot ", "slit "), "`slot`"),
        (text.replace(", any", " any"), "`share`"),
        (text.replace(row, &format!("{row}0")), "row 3 of 4"),
        (text.replace(row, ""), "row 3 of 4"),
        (text.replace("share 1 of", "share 2 of"), "check"),
        (format!("{}more", text.as_str()), "check"),
    ] {
        let why = Share::from_text(&bad).expect_err(word);
        assert!(why.contains(word), "{why}");
    }
    for (threshold, count) in [(0, 3), (1, 3), (4, 3)] {
        let made = ShareSet::generate(REPOSITORY, threshold, count, &Repeatable::new(1));
        assert_eq!(made.expect_err("no sense").kind(), ErrorKind::Invalid);
    }
    let shown = format!("{:?} {:?}", a[0], ShareSet::combine(&a).expect("combine"));
    let combined = ShareSet::combine(&a).expect("combine");
    for secret in [a[0].value.expose(), combined.secret.expose()] {
        assert!(!shown.contains(&hex(&secret[..8])), "{shown}");
    }
}

#[test]
fn a_share_file_is_private_and_never_replaced() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("share");
    let share = &set(2, 2, 9).1[0];
    share.save(&path).expect("save");
    assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
    assert_eq!(share.save(&path).expect_err("again").kind(), ErrorKind::Conflict);
    assert_eq!(Share::load(&path).expect("load").value.expose(), share.value.expose());
    let missing = Share::load(&folder.path().join("none")).expect_err("missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}
