//! A sealed value: encrypted by the client to a public key of the server, so that no SQL ever holds the
//! plaintext.
//!
//! HPKE (RFC 9180), base mode, one shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 2 |
//! | 1 | length of the key id |
//! | n | key id |
//! | 8 | when the sealing key was issued: seconds since 1970, big-endian |
//! | 32 | encapsulated key |
//! | rest | ciphertext and its tag of 16 bytes |
//!
//! `info` is [`INFO`]. The AAD is the text `configured_integrations`, the org, the integration key and the
//! session role, each behind its length as four bytes, big-endian, and then the eight bytes of the time. So a
//! value that was sealed for one org, key or role does not open for another, and a recorded value opens for a
//! short time only.
//!
//! The private key is derived from the keyring's key of the same id (`DeriveKeyPair` of RFC 9180 over
//! [`INFO`], a zero byte, and the key). So it rotates with the keyring, and a value sealed to an old key
//! opens while the keyring has that key.

use crate::envelope::Purpose;
use crate::frame::{self, bind};
use crate::keyring::{Key, Keyring};
use crate::limits::MAX_VALUE_CHARS;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use zeroize::{Zeroize, Zeroizing};

/// HPKE's `info`.
pub const INFO: &[u8] = b"integration_credentials sealed value v2";
/// The length of a public key, and of an encapsulated one.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// The longest sealed value, in bytes: four for each character, and the frame.
pub const MAX_SEALED_BYTES: usize =
    4 * MAX_VALUE_CHARS + 2 + u8::MAX as usize + TIME_BYTES + PUBLIC_KEY_BYTES + 16;

/// How long a sealed value opens, in seconds.
pub const LIFETIME_SECONDS: u64 = 600;
/// How far the clock that issued the key may be ahead of the clock that opens, in seconds.
pub const CLOCK_SKEW_SECONDS: u64 = 60;

/// The form of the frame.
pub const VERSION: u8 = 2;
const TIME_BYTES: usize = 8;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// The key to seal to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingKey {
    /// The id of the keyring's key that opens it.
    pub id: String,
    /// The public key.
    pub public: [u8; PUBLIC_KEY_BYTES],
}

/// The terms that a value is sealed for. It opens for no others.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The org.
    pub org: &'a str,
    /// The integration.
    pub key: &'a str,
    /// The session role that sets it.
    pub role: &'a str,
}

/// Why a value cannot be sealed or opened: the problem of the frame, and nothing of its content.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Empty, or longer than the longest value needs.
    #[error("the sealed value has {0} bytes; 1 to {MAX_SEALED_BYTES} are allowed")]
    Length(usize),
    /// Of form 1, which had neither role nor time.
    #[error("the sealed value has form 1; this release opens form 2")]
    FormOne,
    /// Sealed too long ago.
    #[error("the sealed value is {0} seconds old; it expires after {LIFETIME_SECONDS}")]
    Expired(u64),
    /// Dated in the future.
    #[error(
        "the sealed value is {0} seconds ahead of this server's clock; at most {CLOCK_SKEW_SECONDS} are allowed"
    )]
    Early(u64),
    /// Truncated, or of a later version.
    #[error("the sealed value is truncated, or has a form that this release does not know")]
    Malformed,
    /// Sealed to a key that the keyring does not have.
    #[error("the value is sealed to key {0}, which the keyring does not have")]
    UnknownKey(String),
    /// Altered, or sealed for other terms, or to another key of the same id.
    #[error(
        "the sealed value does not open: it was altered, or sealed for another org, integration or session role"
    )]
    NotAuthentic,
    /// Opened, but not UTF-8.
    #[error("the sealed value is not UTF-8 text")]
    NotText,
    /// Not 32 bytes of a public key.
    #[error("the sealing key is not an X25519 public key")]
    PublicKey,
}

/// The current key to seal to.
#[must_use]
pub fn sealing_key(keyring: &Keyring) -> SealingKey {
    let (_, public) = key_pair(keyring.primary());
    SealingKey { id: keyring.primary_id().to_owned(), public: public.to_bytes().into() }
}

/// Eight bytes of the public key, in hex. Two keys of one id differ here, and the fingerprint reveals neither.
#[must_use]
pub fn fingerprint(key: &Key) -> String {
    let public: [u8; PUBLIC_KEY_BYTES] = key_pair(key).1.to_bytes().into();
    format!("{:016x}", u64::from_be_bytes(*public.first_chunk().unwrap_or(&[0; 8])))
}

fn key_pair(key: &Key) -> (PrivateKey, PublicKey) {
    let material = Zeroizing::new([INFO, &[0], key.secret()].concat());
    X25519HkdfSha256::derive_keypair(&material)
}

/// Seals a value for these terms. `issued_at` is the server's time, which comes with the key.
pub fn seal(to: &SealingKey, terms: Terms<'_>, issued_at: u64, value: &str) -> Result<Vec<u8>, SealError> {
    let public = PublicKey::from_bytes(&to.public).map_err(|_| SealError::PublicKey)?;
    let head = frame::head(VERSION, &to.id).ok_or(SealError::PublicKey)?;
    let time = issued_at.to_be_bytes();
    let (encapped, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        INFO,
        value.as_bytes(),
        &associated_data(terms, time),
    )
    .map_err(|_| SealError::PublicKey)?;
    Ok([head.as_slice(), &time, &encapped.to_bytes(), &ciphertext].concat())
}

/// Opens a value that was sealed for these terms, and not too long before `now`, in seconds since 1970.
pub fn open(
    keyring: &Keyring,
    terms: Terms<'_>,
    now: u64,
    sealed: &[u8],
) -> Result<Zeroizing<String>, SealError> {
    if !(1..=MAX_SEALED_BYTES).contains(&sealed.len()) {
        return Err(SealError::Length(sealed.len()));
    }
    if sealed[0] == 1 {
        return Err(SealError::FormOne);
    }
    let Frame { id, time, encapped, ciphertext } = split(sealed).ok_or(SealError::Malformed)?;
    check_time(u64::from_be_bytes(time), now)?;
    let known = keyring.find(id).ok_or_else(|| SealError::UnknownKey(id.to_owned()))?;
    let (private, _) = key_pair(known);
    let encapped = EncappedKey::from_bytes(encapped).map_err(|_| SealError::Malformed)?;
    let plaintext = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapped,
        INFO,
        ciphertext,
        &associated_data(terms, time),
    )
    .map_err(|_| SealError::NotAuthentic)?;
    String::from_utf8(plaintext).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        SealError::NotText
    })
}

fn check_time(issued_at: u64, now: u64) -> Result<(), SealError> {
    let (age, ahead) = (now.saturating_sub(issued_at), issued_at.saturating_sub(now));
    if age > LIFETIME_SECONDS {
        return Err(SealError::Expired(age));
    }
    if ahead > CLOCK_SKEW_SECONDS {
        return Err(SealError::Early(ahead));
    }
    Ok(())
}

fn associated_data(Terms { org, key, role }: Terms<'_>, time: [u8; TIME_BYTES]) -> Vec<u8> {
    let mut data = bind(&[], &[Purpose::Credential.as_str(), org, key, role]);
    data.extend(time);
    data
}

struct Frame<'a> {
    id: &'a str,
    time: [u8; TIME_BYTES],
    encapped: &'a [u8],
    ciphertext: &'a [u8],
}

fn split(sealed: &[u8]) -> Option<Frame<'_>> {
    let (id, rest) = frame::split(VERSION, sealed)?;
    let (&time, rest) = rest.split_first_chunk()?;
    let (encapped, ciphertext) = rest.split_at_checked(PUBLIC_KEY_BYTES)?;
    Some(Frame { id, time, encapped, ciphertext })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_764_000_000;
    const TERMS: Terms<'static> = Terms { org: "acme", key: "slack", role: "alice" };

    fn sealed(keyring: &Keyring, value: &str) -> Vec<u8> {
        seal(&sealing_key(keyring), TERMS, NOW, value).unwrap()
    }

    #[test]
    fn only_the_same_org_integration_role_and_keyring_open() {
        let mut keyring = Keyring::generate().unwrap();
        let value = sealed(&keyring, "hunter2");
        assert_eq!(*open(&keyring, TERMS, NOW, &value).unwrap(), "hunter2");
        for (org, key, role) in [
            ("acm", "eslack", "alice"),
            ("acme", "slac", "kalice"),
            ("evil", "slack", "alice"),
            ("acme", "hubspot", "alice"),
            ("acme", "slack", "mallory"),
            ("acme", "slack", ""),
        ] {
            let terms = Terms { org, key, role };
            assert_eq!(open(&keyring, terms, NOW, &value), Err(SealError::NotAuthentic));
        }
        let newer = keyring.add_key().unwrap().to_owned();
        keyring.use_key(&newer).unwrap();
        assert_eq!(*open(&keyring, TERMS, NOW, &value).unwrap(), "hunter2", "old keys still open");
        let prints: Vec<_> = keyring.keys().map(fingerprint).collect();
        assert!(prints[0] != prints[1] && prints.iter().all(|print| print.len() == 16), "{prints:?}");
        assert_ne!(sealing_key(&keyring).public, sealing_key(&Keyring::generate().unwrap()).public);
        let id = keyring.key_ids().next().unwrap().to_owned();
        let other = Keyring::generate().unwrap();
        assert_eq!(open(&other, TERMS, NOW, &value), Err(SealError::UnknownKey(id)));
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
        let terms = Terms { org: text("org"), key: text("key"), role: text("role") };
        let issued_at = vector["issued_at"].as_u64().unwrap();
        assert_eq!(associated_data(terms, issued_at.to_be_bytes()), bytes("aad"));
        let opened = open(&keyring, terms, issued_at, &bytes("sealed")).unwrap();
        assert_eq!(*opened, text("value"));
    }

    #[test]
    fn what_is_no_sealed_value_is_refused_with_its_reason() {
        let keyring = Keyring::generate().unwrap();
        assert_eq!(open(&keyring, TERMS, NOW, b""), Err(SealError::Length(0)));
        let long = vec![1; MAX_SEALED_BYTES + 1];
        assert_eq!(open(&keyring, TERMS, NOW, &long), Err(SealError::Length(long.len())));
        let mut later = sealed(&keyring, "value");
        later[0] = 3;
        assert_eq!(open(&keyring, TERMS, NOW, &later), Err(SealError::Malformed));
        let longest = "😀".repeat(MAX_VALUE_CHARS);
        assert_eq!(*open(&keyring, TERMS, NOW, &sealed(&keyring, &longest)).unwrap(), longest);
    }

    #[test]
    fn a_value_opens_for_ten_minutes_and_a_minute_before_by_another_clock() {
        let keyring = Keyring::generate().unwrap();
        let value = sealed(&keyring, "hunter2");
        let at = |now| open(&keyring, TERMS, now, &value).map(|value| value.to_string());
        for now in [NOW - 60, NOW, NOW + 600] {
            assert_eq!(at(now).unwrap(), "hunter2");
        }
        assert_eq!(at(NOW + 601), Err(SealError::Expired(601)));
        assert_eq!(at(NOW - 61), Err(SealError::Early(61)));
        assert_eq!(at(0), Err(SealError::Early(NOW)));
        assert_eq!(at(u64::MAX), Err(SealError::Expired(u64::MAX - NOW)));
        // The time that stands in the frame is the one that was sealed.
        let mut renewed = value.clone();
        let time = 2 + sealing_key(&keyring).id.len();
        renewed[time..time + 8].copy_from_slice(&(NOW + 300).to_be_bytes());
        assert_eq!(open(&keyring, TERMS, NOW + 600, &renewed), Err(SealError::NotAuthentic));
    }

    #[test]
    fn a_value_of_form_one_is_refused_by_its_name() {
        let keyring = Keyring::generate().unwrap();
        let mut older = sealed(&keyring, "value");
        older[0] = 1;
        assert_eq!(open(&keyring, TERMS, NOW, &older), Err(SealError::FormOne));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_never_opens(at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let keyring = Keyring::generate().unwrap();
            let value = sealed(&keyring, "a value of some length");
            let at = at.index(value.len());
            let mut flipped = value.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(open(&keyring, TERMS, NOW, &flipped).is_err());
            prop_assert!(open(&keyring, TERMS, NOW, &value[..at]).is_err());
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let keyring = Keyring::generate().unwrap();
            prop_assert!(open(&keyring, TERMS, NOW, &noise).is_err());
        }
    }
}
