//! A sealed value: encrypted by whoever has it, to a public key of the server, so that no SQL ever holds the plaintext.
//!
//! HPKE (RFC 9180), base mode, one shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | length of the key id |
//! | n | key id |
//! | 32 | encapsulated key |
//! | rest | ciphertext and its tag of 16 bytes |
//!
//! `info` is [`INFO`]. The AAD is the text `configured_integrations`, the org and the integration key, each behind its
//! length as four bytes, big-endian: a value that was sealed for one key or org does not open for another.
//!
//! The private key is derived from the keyring's key of the same id (`DeriveKeyPair` of RFC 9180 over [`INFO`], a zero
//! byte, and the key), so it rotates with the keyring, and what was sealed to an old key still opens while that is kept.

use crate::envelope::{Purpose, bind};
use crate::keyring::{Key, Keyring};
use crate::limits::MAX_VALUE_CHARS;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use zeroize::{Zeroize, Zeroizing};

/// HPKE's `info`.
pub const INFO: &[u8] = b"integration_credentials sealed value v1";
/// The length of a public key, and of an encapsulated one.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// The longest sealed value: four bytes a character, and the frame around them.
pub const MAX_SEALED_BYTES: usize = 4 * MAX_VALUE_CHARS + 2 + u8::MAX as usize + PUBLIC_KEY_BYTES + 16;

const VERSION: u8 = 1;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Where to seal to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingKey {
    /// The id of the keyring's key that opens it.
    pub id: String,
    /// The public key.
    pub public: [u8; PUBLIC_KEY_BYTES],
}

/// Why a value cannot be sealed or opened. Says what is wrong with the frame, and nothing of what is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nothing there, or more than the longest value needs.
    #[error("the sealed value has {0} bytes, and 1 to {MAX_SEALED_BYTES} are possible")]
    Length(usize),
    /// Cut short, or of a later version.
    #[error("the sealed value is truncated, or of a form that this release does not know")]
    Malformed,
    /// Sealed to a key that the keyring does not have, or no longer has.
    #[error("the value is sealed to key {0}, which the keyring does not have")]
    UnknownKey(String),
    /// Altered, or sealed for another org or integration, or to another key of the same id.
    #[error("the sealed value does not open: it was altered, or sealed for another org or integration")]
    NotAuthentic,
    /// Opened, and not UTF-8.
    #[error("the sealed value is not UTF-8 text")]
    NotText,
    /// Not 32 bytes of a public key.
    #[error("the sealing key is not an X25519 public key")]
    PublicKey,
}

/// The key to seal to now.
#[must_use]
pub fn sealing_key(keyring: &Keyring) -> SealingKey {
    let (_, public) = key_pair(keyring.primary());
    SealingKey { id: keyring.primary_id().to_owned(), public: public.to_bytes().into() }
}

fn key_pair(key: &Key) -> (PrivateKey, PublicKey) {
    let material = Zeroizing::new([INFO, &[0], key.secret()].concat());
    X25519HkdfSha256::derive_keypair(&material)
}

/// Seals a value for an integration of an org.
pub fn seal(to: &SealingKey, org: &str, key: &str, value: &str) -> Result<Vec<u8>, SealError> {
    let public = PublicKey::from_bytes(&to.public).map_err(|_| SealError::PublicKey)?;
    let id_length = u8::try_from(to.id.len()).map_err(|_| SealError::PublicKey)?;
    let (encapped, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        INFO,
        value.as_bytes(),
        &associated_data(org, key),
    )
    .map_err(|_| SealError::PublicKey)?;
    Ok([&[VERSION, id_length], to.id.as_bytes(), &encapped.to_bytes(), &ciphertext].concat())
}

/// Opens a value that was sealed for an integration of an org.
pub fn open(keyring: &Keyring, org: &str, key: &str, sealed: &[u8]) -> Result<Zeroizing<String>, SealError> {
    if !(1..=MAX_SEALED_BYTES).contains(&sealed.len()) {
        return Err(SealError::Length(sealed.len()));
    }
    let (id, encapped, ciphertext) = split(sealed).ok_or(SealError::Malformed)?;
    let known = keyring.find(id).ok_or_else(|| SealError::UnknownKey(id.to_owned()))?;
    let (private, _) = key_pair(known);
    let encapped = EncappedKey::from_bytes(encapped).map_err(|_| SealError::Malformed)?;
    let plaintext = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapped,
        INFO,
        ciphertext,
        &associated_data(org, key),
    )
    .map_err(|_| SealError::NotAuthentic)?;
    String::from_utf8(plaintext).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        SealError::NotText
    })
}

fn associated_data(org: &str, key: &str) -> Vec<u8> {
    bind(&[Purpose::Credential.as_str(), org, key])
}

/// Key id, encapsulated key, and ciphertext.
fn split(sealed: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (&[version, id_length], rest) = sealed.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    let (id, rest) = rest.split_at_checked(id_length.into())?;
    // It may be shown in an error, so it must look like an id.
    let id = std::str::from_utf8(id).ok().filter(|id| crate::keyring::is_id(id))?;
    let (encapped, ciphertext) = rest.split_at_checked(PUBLIC_KEY_BYTES)?;
    Some((id, encapped, ciphertext))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(keyring: &Keyring, value: &str) -> Vec<u8> {
        seal(&sealing_key(keyring), "acme", "slack", value).unwrap()
    }

    #[test]
    fn only_the_same_org_integration_and_keyring_open() {
        let mut keyring = Keyring::generate().unwrap();
        let value = sealed(&keyring, "hunter2");
        assert_eq!(*open(&keyring, "acme", "slack", &value).unwrap(), "hunter2");
        for (org, key) in [("acm", "eslack"), ("evil", "slack"), ("acme", "hubspot")] {
            assert_eq!(open(&keyring, org, key, &value), Err(SealError::NotAuthentic));
        }
        keyring.add_key().unwrap();
        assert_eq!(*open(&keyring, "acme", "slack", &value).unwrap(), "hunter2", "old keys still open");
        assert_ne!(sealing_key(&keyring).public, sealing_key(&Keyring::generate().unwrap()).public);
        let id = keyring.key_ids().next().unwrap().to_owned();
        let other = Keyring::generate().unwrap();
        assert_eq!(open(&other, "acme", "slack", &value), Err(SealError::UnknownKey(id)));
    }

    #[test]
    fn the_published_vector_opens() {
        let document = include_str!("../vectors/sealed-value.json");
        let vector: serde_json::Value = serde_json::from_str(document).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let bytes = |name: &str| {
            let digits = text(name).as_bytes().chunks(2);
            digits
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect::<Vec<_>>()
        };
        let keyring = Keyring::parse(vector["keyring"].to_string().as_bytes()).unwrap();
        let key = sealing_key(&keyring);
        assert_eq!((key.id.as_str(), key.public.to_vec()), (text("key_id"), bytes("public_key")));
        assert_eq!(INFO, text("info").as_bytes());
        assert_eq!(associated_data(text("org"), text("key")), bytes("aad"));
        let opened = open(&keyring, text("org"), text("key"), &bytes("sealed")).unwrap();
        assert_eq!(*opened, text("value"));
    }

    #[test]
    fn what_is_no_sealed_value_is_refused_with_its_reason() {
        let keyring = Keyring::generate().unwrap();
        assert_eq!(open(&keyring, "acme", "slack", b""), Err(SealError::Length(0)));
        let long = vec![1; MAX_SEALED_BYTES + 1];
        assert_eq!(open(&keyring, "acme", "slack", &long), Err(SealError::Length(long.len())));
        let mut later = sealed(&keyring, "value");
        later[0] = 2;
        assert_eq!(open(&keyring, "acme", "slack", &later), Err(SealError::Malformed));
        let longest = "😀".repeat(MAX_VALUE_CHARS);
        assert_eq!(*open(&keyring, "acme", "slack", &sealed(&keyring, &longest)).unwrap(), longest);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_never_opens(at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let keyring = Keyring::generate().unwrap();
            let value = sealed(&keyring, "a value of some length");
            let at = at.index(value.len());
            let mut flipped = value.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(open(&keyring, "acme", "slack", &flipped).is_err());
            prop_assert!(open(&keyring, "acme", "slack", &value[..at]).is_err());
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let keyring = Keyring::generate().unwrap();
            prop_assert!(open(&keyring, "acme", "slack", &noise).is_err());
        }
    }
}
