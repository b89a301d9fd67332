//! Recipients: a slot that whoever knows a public key can make, and only the identity opens.
//!
//! The slot's key comes from two agreements at once, X25519 with a key made for this slot alone and
//! ML-KEM-768 (FIPS 203), and is safe as long as either is: what is stored today stays closed to
//! who has a quantum computer later, and to who finds a fault in the younger scheme. The argument is in
//! `docs/security.md` §2.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use model::{Entropy, Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::Secret;
use super::key_file::{is_open_to_others_at, load_text, save_text};
use crate::types::{from_hex, hex};

const TITLE: &str = "lifeboat identity 1";
const PREFIX: &str = "lifeboat-recipient-1-";
const LENGTH_MAX: u64 = 16 << 10;
const KEM_SECRET_BYTES: usize = 2400;
const KEM_PUBLIC_BYTES: usize = 1184;
/// Where FIPS 203 puts the public key in the secret one.
const KEM_PUBLIC_OFFSET: usize = 1152;
/// How long the encapsulated secret of ML-KEM-768 is.
const KEM_CIPHERTEXT_BYTES: usize = 1088;
const CHECK_BYTES: usize = 4;

/// A public key: it locks and opens nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    x25519: [u8; 32],
    kem: Box<[u8; KEM_PUBLIC_BYTES]>,
}

/// What opens the slots of its recipient. Wiped when dropped; never shown.
#[derive(Clone)]
pub struct Identity {
    x25519: Secret,
    kem: Zeroizing<Vec<u8>>,
    recipient: Recipient,
}

/// What a slot holds so that the identity finds its key again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encapsulated {
    /// The public half of an X25519 key of which the other half is gone.
    pub(crate) ephemeral: [u8; 32],
    /// The ciphertext of ML-KEM-768.
    pub(crate) ciphertext: Box<[u8; KEM_CIPHERTEXT_BYTES]>,
}

impl Recipient {
    /// Makes a slot's key that only the identity can make again.
    ///
    /// # Errors
    /// `Invalid` where the public key is no sound one; `Internal`.
    pub(crate) fn encapsulate(&self, entropy: &dyn Entropy) -> Result<(Encapsulated, Secret)> {
        let unsound = || {
            Error::new(ErrorKind::Invalid, "lock for recipient", self.fingerprint())
                .detail("its public key is not sound")
        };
        let fault = || Error::new(ErrorKind::Internal, "lock for recipient", self.fingerprint());
        let (private, ephemeral) = x25519_pair(&Secret::generate(entropy)).ok_or_else(fault)?;
        let key = EncapsulationKey::new(&ML_KEM_768, &self.kem[..]).map_err(|_| unsound())?;
        let (ciphertext, kem_secret) = key.encapsulate().map_err(|_| unsound())?;
        let ciphertext: [u8; KEM_CIPHERTEXT_BYTES] =
            ciphertext.as_ref().try_into().map_err(|_| fault())?;
        let encapsulated = Encapsulated { ephemeral, ciphertext: Box::new(ciphertext) };
        let shared = agree(&private, &self.x25519).ok_or_else(unsound)?;
        let key = self.combine(kem_secret.as_ref(), &shared, &encapsulated);
        Ok((encapsulated, key))
    }

    /// Makes one key of the two secrets and all that they came from.
    fn combine(&self, kem_secret: &[u8], shared: &Secret, from: &Encapsulated) -> Secret {
        // Every part has a fixed length, so the borders between them are never in doubt.
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat 2026-11 recipient slot key");
        hasher.update(kem_secret).update(shared.expose());
        hasher.update(&from.ephemeral).update(&self.x25519);
        hasher.update(&from.ciphertext[..]).update(&self.kem[..]);
        let mut key = Zeroizing::new([0; Secret::LENGTH]);
        hasher.finalize_xof().fill(key.as_mut());
        Secret::new(*key)
    }

    /// Names the recipient in a few digits; says nothing about the identity.
    pub fn fingerprint(&self) -> String {
        hex(&self.id())
    }

    /// Returns the bytes behind [`Recipient::fingerprint`].
    pub(crate) fn id(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat 2026-11 recipient fingerprint");
        hasher.update(&self.x25519).update(&self.kem[..]);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        id
    }

    fn check(&self) -> [u8; CHECK_BYTES] {
        self.id().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = [hex(&self.x25519), hex(&self.kem[..]), hex(&self.check())].concat();
        write!(f, "{PREFIX}{digits}")
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.fingerprint())
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // The text may be an identity that was put here by mistake: it is not repeated.
            Error::new(ErrorKind::Invalid, "read recipient", "").detail(why)
        };
        let digits = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or_else(|| bad("it is no public key: `lifeboat key new-recipient` prints one"))?;
        let cut = || bad("it is not whole: copy all of its one line");
        let (x25519, rest) = digits.split_at_checked(64).ok_or_else(cut)?;
        let (kem, check) = rest.split_at_checked(2 * KEM_PUBLIC_BYTES).ok_or_else(cut)?;
        let x25519 = from_hex(x25519).ok_or_else(cut)?;
        let kem = Box::new(from_hex(kem).ok_or_else(cut)?);
        let recipient = Self { x25519, kem };
        if from_hex(check) != Some(recipient.check()) {
            return Err(cut());
        }
        Ok(recipient)
    }
}

impl Identity {
    /// Makes an identity. The half for ML-KEM is drawn from the random generator of the library that
    /// implements it, which takes no other.
    ///
    /// # Errors
    /// `Internal` where a key cannot be made.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self> {
        let fault = || Error::new(ErrorKind::Internal, "make identity", "");
        let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| fault())?;
        let bytes = key.key_bytes().map_err(|_| fault())?;
        let kem = Zeroizing::new(bytes.as_ref().to_vec());
        Self::new(Secret::generate(entropy), kem).ok_or_else(fault)
    }

    fn new(x25519: Secret, kem: Zeroizing<Vec<u8>>) -> Option<Self> {
        let (_, public) = x25519_pair(&x25519)?;
        let range = KEM_PUBLIC_OFFSET..KEM_PUBLIC_OFFSET + KEM_PUBLIC_BYTES;
        let kem_public = Box::new(kem.get(range)?.try_into().ok()?);
        let recipient = Recipient { x25519: public, kem: kem_public };
        (kem.len() == KEM_SECRET_BYTES).then_some(Self { x25519, kem, recipient })
    }

    /// Returns its public key.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Makes a slot's key again. Where the slot is another's, a key comes out that opens nothing.
    pub(super) fn decapsulate(&self, from: &Encapsulated) -> Option<Secret> {
        let key = DecapsulationKey::new(&ML_KEM_768, &self.kem).ok()?;
        let kem_secret = key.decapsulate(Ciphertext::from(&from.ciphertext[..])).ok()?;
        let (private, _) = x25519_pair(&self.x25519)?;
        let shared = agree(&private, &from.ephemeral)?;
        Some(self.recipient.combine(kem_secret.as_ref(), &shared, from))
    }

    /// Writes a new file that only its owner may read.
    ///
    /// # Errors
    /// `Conflict` where a file stands there; `Denied`, `Exhausted`, `NotFound`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let x25519 = Zeroizing::new(hex(self.x25519.expose()));
        let kem = Zeroizing::new(hex(&self.kem));
        let mut text = Zeroizing::new(String::with_capacity(8192));
        let check = hex(&self.check());
        let print = self.recipient.fingerprint();
        text.push_str(&format!("{TITLE}\nfingerprint {print}"));
        for part in ["\nx25519 ", &x25519, "\nml-kem-768 ", &kem, "\ncheck ", &check, "\n"] {
            text.push_str(part);
        }
        save_text("create identity file", path, &text)
    }

    /// Reads an identity file.
    ///
    /// # Errors
    /// `NotFound`, `Denied`; `Invalid` where it is none, or was changed.
    pub fn load(path: &Path) -> Result<Self> {
        const ACTION: &str = "read identity file";
        let text = load_text(ACTION, path, LENGTH_MAX)?;
        Self::from_text(&text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, ACTION, path.display().to_string())
                .detail("it is not an identity of lifeboat, or not whole")
        })
    }

    /// Says whether others than its owner can read the file, for a warning.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub fn is_exposed(path: &Path) -> Result<bool> {
        is_open_to_others_at("look at identity file", path)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next()? != TITLE {
            return None;
        }
        let print = lines.next()?.strip_prefix("fingerprint ")?;
        let x25519 = Zeroizing::new(from_hex(lines.next()?.strip_prefix("x25519 ")?)?);
        let kem: Zeroizing<[u8; KEM_SECRET_BYTES]> =
            Zeroizing::new(from_hex(lines.next()?.strip_prefix("ml-kem-768 ")?)?);
        let identity = Self::new(Secret::new(*x25519), Zeroizing::new(kem.to_vec()))?;
        let check = from_hex(lines.next()?.strip_prefix("check ")?)?;
        let is_whole = check == identity.check() && print == identity.recipient.fingerprint();
        (is_whole && lines.next().is_none()).then_some(identity)
    }

    /// Finds damage: the library takes a secret key as it comes.
    fn check(&self) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat 2026-11 identity check");
        hasher.update(self.x25519.expose()).update(&self.kem);
        let mut check = [0; 8];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient.fingerprint())
    }
}

fn x25519_pair(secret: &Secret) -> Option<(agreement::PrivateKey, [u8; 32])> {
    let private = agreement::PrivateKey::from_private_key(&X25519, secret.expose()).ok()?;
    let public = private.compute_public_key().ok()?.as_ref().try_into().ok()?;
    Some((private, public))
}

/// Agrees on a secret; none where the other's key is one with which everybody agrees on the same.
fn agree(private: &agreement::PrivateKey, public: &[u8; 32]) -> Option<Secret> {
    agreement::agree(private, UnparsedPublicKey::new(&X25519, public), (), |shared| {
        shared.try_into().map(Secret::new).map_err(|_| ())
    })
    .ok()
}

#[cfg(test)]
mod tests;
