//! The one sealing construction: AES-256-GCM under a key that no other message ever has.
//!
//! `siv = BLAKE3_keyed(siv key, len(aad) ‖ aad ‖ len(salt) ‖ salt ‖ plaintext)` and
//! `message key = BLAKE3_keyed(seal key, siv)`, with the nonce zero. Two messages share a message key
//! only where they share the siv, which is a keyed hash of everything that goes in: then they are the
//! same message. There is no nonce to repeat and no counter to lose, whatever a cloned machine or a
//! restored process does.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use model::{Error, ErrorKind, Result};

use super::Secret;
use crate::types::hex;

/// How much longer a sealed text is than its plaintext, in bytes.
pub const TAG_BYTES: usize = 16;

/// Names the key of one sealed message; stored in the clear beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Siv(pub [u8; 32]);

impl fmt::Debug for Siv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Siv({})", hex(&self.0))
    }
}

/// The keys of one purpose in one epoch.
#[derive(Clone)]
struct EpochKeys {
    epoch: u16,
    siv: Secret,
    seal: Secret,
}

/// Seals and opens messages of one purpose in all key epochs. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    /// None where the key ring has no keys of the purpose.
    newest: Option<Arc<EpochKeys>>,
    older: Arc<[EpochKeys]>,
}

impl Sealer {
    /// Derives the keys of a purpose from the roots of all epochs; the last root is the newest.
    pub(super) fn derive(
        newest: (u16, &Secret),
        older: &[(u16, Secret)],
        context: &'static str,
        input: &[u8],
    ) -> Self {
        let keys = |epoch, root: &Secret| {
            let (siv, seal) = root.derive_pair(context, input);
            EpochKeys { epoch, siv, seal }
        };
        Self {
            newest: Some(Arc::new(keys(newest.0, newest.1))),
            older: older.iter().map(|(epoch, root)| keys(*epoch, root)).collect(),
        }
    }

    /// Takes over pairs of keys that somebody else derived, ascending by epoch. Without any it seals and
    /// opens nothing: the keys of a narrower role.
    pub(super) fn of_pairs(pairs: impl IntoIterator<Item = (u16, Secret, Secret)>) -> Self {
        let keys = pairs.into_iter().map(|(epoch, siv, seal)| EpochKeys { epoch, siv, seal });
        let mut keys: Vec<_> = keys.collect();
        let newest = keys.pop().map(Arc::new);
        Self { newest, older: keys.into() }
    }

    /// Returns the key epoch of new seals; 0 where there is none.
    pub fn epoch(&self) -> u16 {
        self.newest.as_ref().map_or(0, |keys| keys.epoch)
    }

    /// Encrypts `buffer[from..]` in place and appends the tag of [`TAG_BYTES`]. `aad` says what the
    /// message is; `salt` tells messages apart that are to look unrelated though they are equal.
    ///
    /// # Errors
    /// `Internal` where `from` lies behind the buffer's end; `WrongKey` where the key ring has no keys of
    /// this purpose.
    pub fn seal(&self, aad: &[u8], salt: &[u8], buffer: &mut Vec<u8>, from: usize) -> Result<Siv> {
        let keys = self.newest.as_deref().ok_or_else(no_keys)?;
        let plaintext = buffer.get_mut(from..).ok_or_else(|| fault("seal"))?;
        let siv = siv_of(keys, aad, salt, plaintext);
        let tag = message_key(keys, &siv)?
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), plaintext)
            .map_err(|_| fault("seal"))?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(siv)
    }

    /// Decrypts in place and returns the plaintext, which is `buffer` without its last [`TAG_BYTES`].
    ///
    /// # Errors
    /// `Corrupt` where the bytes are not what was sealed under this `aad`; `WrongKey` where this key
    /// ring has no keys of the epoch.
    pub fn open<'b>(
        &self,
        epoch: u16,
        aad: &[u8],
        siv: &Siv,
        buffer: &'b mut [u8],
    ) -> Result<&'b mut [u8]> {
        open_with(self.keys_of(epoch)?, aad, siv, buffer)
    }

    /// As [`Sealer::open`] for what was sealed without a salt and carries no other hash: also checks
    /// that the siv is that of what came out. GCM alone does not bind a text to its key, so who knows
    /// two keys could make one text that opens under both.
    ///
    /// # Errors
    /// As [`Sealer::open`].
    pub fn open_committed<'b>(
        &self,
        epoch: u16,
        aad: &[u8],
        siv: &Siv,
        buffer: &'b mut [u8],
    ) -> Result<&'b mut [u8]> {
        let keys = self.keys_of(epoch)?;
        let plaintext = open_with(keys, aad, siv, buffer)?;
        // Nothing secret depends on where the comparison ends: both are public.
        if siv_of(keys, aad, &[], plaintext) == *siv { Ok(plaintext) } else { Err(not_sealed()) }
    }

    fn keys_of(&self, epoch: u16) -> Result<&EpochKeys> {
        let newest = self.newest.as_deref().ok_or_else(no_keys)?;
        std::iter::once(newest)
            .chain(self.older.iter())
            .find(|keys| keys.epoch == epoch)
            .ok_or_else(|| {
                let what = format!("of key epoch {epoch}");
                Error::new(ErrorKind::WrongKey, "open sealed bytes", what)
                    .detail("the key ring does not hold this epoch")
            })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

fn no_keys() -> Error {
    Error::new(ErrorKind::WrongKey, "use keys for content", "")
        .detail("the key that opened the repository gives names and trees, not contents")
}

fn siv_of(keys: &EpochKeys, aad: &[u8], salt: &[u8], plaintext: &[u8]) -> Siv {
    let mut hasher = blake3::Hasher::new_keyed(keys.siv.expose());
    for part in [aad, salt] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Siv(*hasher.update(plaintext).finalize().as_bytes())
}

fn open_with<'b>(
    keys: &EpochKeys,
    aad: &[u8],
    siv: &Siv,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8]> {
    message_key(keys, siv)?
        .open_in_place(zero_nonce(), Aad::from(aad), buffer)
        .map_err(|_| not_sealed())
}

fn not_sealed() -> Error {
    Error::new(ErrorKind::Corrupt, "open sealed bytes", "")
        .detail("they are not what was sealed, or not in this place")
}

fn message_key(keys: &EpochKeys, siv: &Siv) -> Result<LessSafeKey> {
    let key = Secret::new(*blake3::keyed_hash(keys.seal.expose(), &siv.0).as_bytes());
    UnboundKey::new(&AES_256_GCM, key.expose()).map(LessSafeKey::new).map_err(|_| fault("seal"))
}

/// Sound because a message key seals one message only.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn fault(action: &'static str) -> Error {
    Error::new(ErrorKind::Internal, action, "message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        let roots = [(1, Secret::new([1; 32])), (2, Secret::new([2; 32]))];
        Sealer::derive((3, &Secret::new([3; 32])), &roots, "test seal", b"")
    }

    fn sealed(aad: &[u8], salt: &[u8], plaintext: &[u8]) -> (Siv, Vec<u8>) {
        let mut buffer = plaintext.to_vec();
        let siv = sealer().seal(aad, salt, &mut buffer, 0).expect("seal");
        (siv, buffer)
    }

    #[test]
    fn golden_bytes() {
        let (siv, text) = sealed(b"aad", b"salt", b"plaintext");
        assert_eq!(
            format!("{} {}", hex(&siv.0), hex(&text)),
            "d8dc61ff322b72b1964821302cba06ba472fd365a7ad6813ebd552e112b3f7c9 fe99c004e9d924d991f502e015d9b3b41896f4e63237852170",
            "the construction is part of the format"
        );
    }

    #[test]
    fn what_was_sealed_is_opened_and_the_head_of_the_buffer_is_left_alone() {
        let mut buffer = b"headbody".to_vec();
        let siv = sealer().seal(b"a", b"", &mut buffer, 4).expect("seal");
        assert_eq!((&buffer[..4], buffer.len()), (&b"head"[..], 8 + TAG_BYTES));
        let opened = sealer().open(3, b"a", &siv, &mut buffer[4..]).expect("open").to_vec();
        assert_eq!(opened, b"body");
    }

    #[test]
    fn any_flipped_bit_is_corrupt() {
        let (siv, text) = sealed(b"aad", b"", b"some plaintext");
        for bit in 0..8 * (32 + text.len()) {
            let (mut siv, mut text) = (siv, text.clone());
            match siv.0.get_mut(bit / 8) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => text[bit / 8 - 32] ^= 1 << (bit % 8),
            }
            let error = sealer().open(3, b"aad", &siv, &mut text).expect_err("flipped");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for length in 0..text.len() {
            assert!(sealer().open(3, b"aad", &siv, &mut text.clone()[..length]).is_err());
        }
    }

    #[test]
    fn another_place_or_epoch_does_not_open() {
        let (siv, text) = sealed(b"aad", b"", b"some plaintext");
        let open = |epoch, aad: &[u8]| {
            sealer().open(epoch, aad, &siv, &mut text.clone()).map(|_| ()).map_err(|e| e.kind())
        };
        assert_eq!(open(3, b"aad"), Ok(()));
        assert_eq!(open(3, b"aae"), Err(ErrorKind::Corrupt));
        assert_eq!(open(2, b"aad"), Err(ErrorKind::Corrupt));
        assert_eq!(open(4, b"aad"), Err(ErrorKind::WrongKey));
    }

    /// The borders between aad, salt and plaintext are part of what is hashed: else two messages could
    /// share a message key.
    #[test]
    fn sivs_differ_wherever_the_parts_do() {
        let parts: [(&[u8], &[u8], &[u8]); 6] = [
            (b"ab", b"c", b"d"),
            (b"a", b"bc", b"d"),
            (b"a", b"b", b"cd"),
            (b"abc", b"", b"d"),
            (b"", b"", b"abcd"),
            (b"", b"abcd", b""),
        ];
        let mut sivs: Vec<_> = parts.iter().map(|(a, s, p)| sealed(a, s, p).0.0).collect();
        sivs.sort_unstable();
        sivs.dedup();
        assert_eq!(sivs.len(), parts.len());
    }

    /// A text that opens under a key though its siv is not the hash of what comes out: what a forger who
    /// knows the keys can make.
    #[test]
    fn a_text_under_a_foreign_siv_is_not_committed() {
        let sealer = sealer();
        let foreign = Siv([7; 32]);
        let mut text = b"forged".to_vec();
        let tag = message_key(sealer.newest.as_deref().expect("keys"), &foreign)
            .expect("key")
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(b"aad"), &mut text)
            .expect("seal");
        text.extend_from_slice(tag.as_ref());
        assert_eq!(sealer.open(3, b"aad", &foreign, &mut text.clone()).expect("open"), b"forged");
        let error = sealer.open_committed(3, b"aad", &foreign, &mut text).expect_err("forged");
        assert_eq!(error.kind(), ErrorKind::Corrupt);

        let (siv, mut text) = sealed(b"aad", b"", b"true");
        assert_eq!(sealer.open_committed(3, b"aad", &siv, &mut text).expect("open"), b"true");
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(format!("{:?}", sealer()), "Sealer { epoch: 3, .. }");
        assert_eq!(format!("{:?}", Secret::new([7; 32])), "Secret(…)");
    }
}
