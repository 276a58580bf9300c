//! The form of a stored credential: XChaCha20-Poly1305 under the keyring's primary key, bound to its place.
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | length of the key id |
//! | n | key id |
//! | 24 | nonce, random for each write |
//! | rest | ciphertext and its tag of 16 bytes |
//!
//! The associated data is the version, then purpose, org, integration key and key id, each behind its length
//! in four bytes. So a ciphertext that was moved to another row, org or table does not authenticate. The
//! revision is not in the associated data, because only the upsert knows it. So a role that can write to the
//! table can restore an older ciphertext of the same row.

use crate::frame;
use crate::keyring::Keyring;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use zeroize::{Zeroize, Zeroizing};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// The table that a ciphertext belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `configured_integrations`
    Credential,
    /// `aggregator_credentials`
    Aggregator,
}

impl Purpose {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "configured_integrations",
            Self::Aggregator => "aggregator_credentials",
        }
    }
}

/// The place that a ciphertext is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its table.
    pub purpose: Purpose,
    /// Its org.
    pub org: &'a str,
    /// Its integration key.
    pub key: &'a str,
}

/// Why a value cannot be encrypted or decrypted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope, or an envelope of a later version.
    #[error("the stored ciphertext has a form that this release does not know")]
    Malformed,
    /// Encrypted with a key that the keyring does not have.
    #[error("the stored ciphertext needs key {0}, which the keyring does not have")]
    UnknownKey(String),
    /// Altered, moved from another place, or encrypted with another key of the same id.
    #[error("the stored ciphertext does not authenticate")]
    NotAuthentic,
    /// The operating system gave no random bytes, or the cipher refused.
    #[error("cannot encrypt the value")]
    Encrypt,
}

/// Encrypts `plaintext` for `place`.
pub fn encrypt(keyring: &Keyring, place: Place<'_>, plaintext: &str) -> Result<Vec<u8>, EnvelopeError> {
    let key = keyring.primary();
    let head = frame::head(VERSION, key.id()).ok_or(EnvelopeError::Encrypt)?;
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| EnvelopeError::Encrypt)?;

    // Full size at once, because growing would leave a copy of the plaintext behind.
    let mut envelope = Vec::with_capacity(head.len() + NONCE_BYTES + plaintext.len() + TAG_BYTES);
    envelope.extend(head);
    envelope.extend(nonce);
    let body_at = envelope.len();
    envelope.extend(plaintext.as_bytes());

    let cipher = XChaCha20Poly1305::new(key.secret().into());
    let associated = associated_data(place, key.id());
    let body = envelope[body_at..].as_mut();
    let Ok(tag) = cipher.encrypt_inout_detached(&XNonce::from(nonce), &associated, body.into()) else {
        envelope.zeroize();
        return Err(EnvelopeError::Encrypt);
    };
    envelope.extend_from_slice(&tag);
    Ok(envelope)
}

/// Decrypts an envelope that [`encrypt`] made for the same `place`.
pub fn decrypt(
    keyring: &Keyring,
    place: Place<'_>,
    envelope: &[u8],
) -> Result<Zeroizing<String>, EnvelopeError> {
    let Parts { id, nonce, body, tag } = Parts::of(envelope).ok_or(EnvelopeError::Malformed)?;
    let key = keyring.find(id).ok_or_else(|| EnvelopeError::UnknownKey(id.to_owned()))?;
    let cipher = XChaCha20Poly1305::new(key.secret().into());
    let mut plaintext = Zeroizing::new(body.to_vec());
    cipher
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            &associated_data(place, id),
            plaintext.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| EnvelopeError::NotAuthentic)?;
    // An authentic plaintext is the str that encrypt took. The check costs little and saves an unsafe block.
    String::from_utf8(std::mem::take(&mut *plaintext)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        EnvelopeError::NotAuthentic
    })
}

/// The length of the plaintext of an envelope, in bytes; `None` if it is none.
#[must_use]
pub fn length(envelope: &[u8]) -> Option<usize> {
    Parts::of(envelope).map(|parts| parts.body.len())
}

/// The id of the key that an envelope needs; `None` if it is none.
#[must_use]
pub fn key_id(envelope: &[u8]) -> Option<&str> {
    Parts::of(envelope).map(|parts| parts.id)
}

/// Encrypts anew what another key than the primary has encrypted; `None` for an envelope of the primary.
///
/// # Errors
/// Those of [`decrypt`] and [`encrypt`].
pub fn reencrypt(
    keyring: &Keyring,
    place: Place<'_>,
    envelope: &[u8],
) -> Result<Option<Vec<u8>>, EnvelopeError> {
    if key_id(envelope) == Some(keyring.primary_id()) {
        return Ok(None);
    }
    let plaintext = decrypt(keyring, place, envelope)?;
    encrypt(keyring, place, &plaintext).map(Some)
}

/// The bytes that every envelope of the primary key begins with.
pub fn head(keyring: &Keyring) -> Result<Vec<u8>, EnvelopeError> {
    frame::head(VERSION, keyring.primary_id()).ok_or(EnvelopeError::Encrypt)
}

struct Parts<'a> {
    id: &'a str,
    nonce: &'a [u8; NONCE_BYTES],
    body: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Parts<'a> {
    fn of(envelope: &'a [u8]) -> Option<Self> {
        let (id, rest) = frame::split(VERSION, envelope)?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (body, tag) = rest.split_last_chunk()?;
        Some(Self { id, nonce, body, tag })
    }
}

fn associated_data(place: Place<'_>, key_id: &str) -> Vec<u8> {
    frame::bind(&[VERSION], &[place.purpose.as_str(), place.org, place.key, key_id])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: Place<'_> = Place { purpose: Purpose::Credential, org: "acme", key: "salesforce" };

    #[test]
    fn only_the_same_place_and_keyring_decrypt() {
        let mut keyring = Keyring::generate().unwrap();
        let envelope = encrypt(&keyring, HERE, "hunter2").unwrap();
        assert_eq!(*decrypt(&keyring, HERE, &envelope).unwrap(), "hunter2");
        for elsewhere in [
            Place { org: "acm", key: "esalesforce", ..HERE },
            Place { org: "evil", ..HERE },
            Place { key: "hubspot", ..HERE },
            Place { purpose: Purpose::Aggregator, ..HERE },
        ] {
            assert_eq!(decrypt(&keyring, elsewhere, &envelope), Err(EnvelopeError::NotAuthentic));
        }
        keyring.add_key().unwrap();
        assert_eq!(*decrypt(&keyring, HERE, &envelope).unwrap(), "hunter2", "old keys stay for reading");
        let other = Keyring::generate().unwrap();
        let id = keyring.key_ids().next().unwrap().to_owned();
        assert_eq!(decrypt(&other, HERE, &envelope), Err(EnvelopeError::UnknownKey(id)));
    }

    #[test]
    fn reencrypted_envelope_has_the_value_the_place_and_the_primary_key() {
        let mut keyring = Keyring::generate().unwrap();
        let old = encrypt(&keyring, HERE, "hunter2").unwrap();
        assert_eq!(reencrypt(&keyring, HERE, &old), Ok(None));
        let first = keyring.primary_id().to_owned();
        let second = keyring.add_key().unwrap().to_owned();
        assert_eq!(reencrypt(&keyring, HERE, &old), Ok(None), "the new key does not encrypt yet");
        keyring.use_key(&second).unwrap();
        let new = reencrypt(&keyring, HERE, &old).unwrap().unwrap();
        assert_eq!([&old, &new].map(|it| key_id(it).unwrap()), [&first, &second]);
        assert!(new.starts_with(&head(&keyring).unwrap()) && !old.starts_with(&head(&keyring).unwrap()));
        keyring.remove(&first).unwrap();
        assert_eq!(*decrypt(&keyring, HERE, &new).unwrap(), "hunter2");
        assert_eq!(reencrypt(&keyring, HERE, &old), Err(EnvelopeError::UnknownKey(first)));
        let moved = Place { org: "evil", ..HERE };
        assert_eq!(decrypt(&keyring, moved, &new), Err(EnvelopeError::NotAuthentic));
        assert_eq!(reencrypt(&keyring, HERE, b"noise"), Err(EnvelopeError::Malformed));
    }

    #[test]
    fn another_key_with_the_same_id_does_not_authenticate() {
        let document = |byte: &str| {
            let key = byte.repeat(43);
            format!(r#"{{"version":1,"primary":"a","keys":[{{"id":"a","key":"{key}="}}]}}"#)
        };
        let [one, two] = ["A", "E"].map(|byte| Keyring::parse(document(byte).as_bytes()).unwrap());
        let envelope = encrypt(&one, HERE, "hunter2").unwrap();
        assert_eq!(decrypt(&two, HERE, &envelope), Err(EnvelopeError::NotAuthentic));
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let keyring = Keyring::generate().unwrap();
        assert_ne!(encrypt(&keyring, HERE, "x").unwrap(), encrypt(&keyring, HERE, "x").unwrap());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,200}") {
            let keyring = Keyring::generate().unwrap();
            let envelope = encrypt(&keyring, HERE, &text).unwrap();
            prop_assert_eq!(&*decrypt(&keyring, HERE, &envelope).unwrap(), &text);
        }

        #[test]
        fn a_flipped_bit_or_a_cut_is_an_error(at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let keyring = Keyring::generate().unwrap();
            let envelope = encrypt(&keyring, HERE, "a value of some length").unwrap();
            let at = at.index(envelope.len());
            let mut flipped = envelope.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(decrypt(&keyring, HERE, &flipped).is_err());
            prop_assert!(decrypt(&keyring, HERE, &envelope[..at]).is_err());
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let keyring = Keyring::generate().unwrap();
            prop_assert!(decrypt(&keyring, HERE, &noise).is_err());
        }
    }
}
