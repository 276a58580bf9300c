//! The audit log's proof: the MAC of a row, and signed blocks of rows. `docs/audit.md` has the formats for
//! verifiers in other languages, and `vectors/audit.json` an example.
//!
//! | module | concept |
//! | --- | --- |
//! | this one | a row: its digest, MAC and leaf |
//! | [`merkle`] | the tree over the leaves of a block, and the proof of one leaf (RFC 9162) |
//! | [`block`] | a block's header, signature and chain |
//! | [`unsettled`] | the ids for which a row may still come |
//!
//! The digest of a row is SHA-256 over its ten fields in Postgres' binary format, each behind its length as
//! four bytes, big-endian. That format is the same in every major version, and in a dump, a restored database
//! and a subscriber. The MAC is HMAC-SHA256 over the digest. Its key is derived from the keyring's key of the
//! same id (HKDF-SHA256 with [`MAC_LABEL`]).
//!
//! The leaf of a row is SHA-256 over a zero byte, the digest and the column `mac`. Nobody can guess a MAC, so
//! the leaves beside a row, which are part of its proof, tell nothing about the rows of other orgs.

use crate::frame;
use crate::keyring::{Key, Keyring};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub mod block;
pub mod merkle;
pub mod unsettled;

/// A SHA-256 hash.
pub type Hash = [u8; 32];
/// The fields of a row that its digest covers: `id`, `org_slug`, `actor`, `session_role`, `acting_role`,
/// `action`, `target_type`, `target_id`, `metadata` and `created_at`.
pub const FIELDS: usize = 10;
/// The label that the key of MACs is derived with.
pub const MAC_LABEL: &[u8] = b"integration_credentials audit row v1";
const MAC_VERSION: u8 = 1;

/// The digest of a row, whose fields are in Postgres' binary format.
#[must_use]
pub fn digest(fields: [&[u8]; FIELDS]) -> Hash {
    let mut hash = Sha256::new();
    for field in fields {
        // A field of Postgres has less than a gigabyte.
        hash.update(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

/// A row, with the bytes of its texts, `metadata` as Postgres prints it, and `created_at` in microseconds since
/// 2000.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// `id`
    pub id: i64,
    /// From `org_slug` to `target_id`.
    pub texts: [&'a [u8]; FIELDS - 3],
    /// `metadata`
    pub metadata: &'a [u8],
    /// `created_at`
    pub created_at: i64,
}

impl Row<'_> {
    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Hash {
        // In Postgres' binary format, a byte for the version precedes the text of a jsonb.
        let (id, metadata) = (self.id.to_be_bytes(), [b"\x01", self.metadata].concat());
        let created_at = self.created_at.to_be_bytes();
        let [org, actor, session_role, acting_role, action, target_type, target_id] = self.texts;
        digest([
            &id,
            org,
            actor,
            session_role,
            acting_role,
            action,
            target_type,
            target_id,
            &metadata,
            &created_at,
        ])
    }
}

/// The column `mac` of a row: version, key id and MAC.
#[must_use]
pub fn mac(keyring: &Keyring, digest: &Hash) -> Option<Vec<u8>> {
    let key = keyring.primary();
    let mut column = frame::head(MAC_VERSION, key.id())?;
    column.extend_from_slice(&hmac(key, digest)?.finalize().into_bytes());
    Some(column)
}

/// The judgement of a row's MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// The row is as the extension has written it.
    Authentic,
    /// The row was altered, or another has written it.
    Forged,
    /// The keyring does not have the key.
    UnknownKey,
}

/// Judges the column `mac` of a row.
#[must_use]
pub fn judge(keyring: &Keyring, digest: &Hash, mac: &[u8]) -> Authenticity {
    let Some((id, mac)) = frame::split(MAC_VERSION, mac) else { return Authenticity::Forged };
    let Some(key) = keyring.find(id) else { return Authenticity::UnknownKey };
    match hmac(key, digest).map(|expected| expected.verify_slice(mac)) {
        Some(Ok(())) => Authenticity::Authentic,
        _ => Authenticity::Forged,
    }
}

fn hmac(key: &Key, digest: &Hash) -> Option<Hmac<Sha256>> {
    let key = key.mac_key(|derived| derive(key, MAC_LABEL, derived))?;
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    hmac.update(digest);
    Some(hmac)
}

/// Derives the key for one purpose.
fn derive(key: &Key, label: &[u8], derived: &mut Hash) {
    // HKDF fails only for more than 8160 bytes.
    let expanded = Hkdf::<Sha256>::new(None, key.secret()).expand(label, derived);
    debug_assert!(expanded.is_ok());
}

/// The leaf of a row with this digest and column `mac`, which is empty where it is NULL.
#[must_use]
pub fn leaf(digest: &Hash, mac: &[u8]) -> Hash {
    hash(&[&[0], digest, mac])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row<'_> = Row {
        id: 7,
        texts: [
            b"acme",
            "Zoë".as_bytes(),
            b"web",
            b"web",
            b"set_integration_credentials",
            b"integration",
            b"slack",
        ],
        metadata: br#"{"wasUpdate": true}"#,
        created_at: 849_312_000_123_456,
    };

    #[test]
    fn only_the_row_itself_is_authentic() {
        let keyring = Keyring::generate().unwrap();
        let mac = mac(&keyring, &ROW.digest()).unwrap();
        assert_eq!(judge(&keyring, &ROW.digest(), &mac), Authenticity::Authentic);
        let mut texts = ROW.texts;
        texts.swap(0, 1);
        for other in [
            Row { id: 8, ..ROW },
            Row { texts, ..ROW },
            Row { metadata: br#"{"wasUpdate": false}"#, ..ROW },
            Row { created_at: 849_312_000_123_457, ..ROW },
        ] {
            assert_eq!(judge(&keyring, &other.digest(), &mac), Authenticity::Forged, "{other:?}");
        }
        for end in 0..mac.len() {
            assert_eq!(judge(&keyring, &ROW.digest(), &mac[..end]), Authenticity::Forged);
        }
        let other = Keyring::generate().unwrap();
        assert_eq!(judge(&other, &ROW.digest(), &mac), Authenticity::UnknownKey);
    }

    #[test]
    fn a_row_outlives_the_rotation_of_the_key() {
        let mut keyring = Keyring::generate().unwrap();
        let mac = mac(&keyring, &ROW.digest()).unwrap();
        let new = keyring.add_key().unwrap().to_owned();
        keyring.use_key(&new).unwrap();
        assert_eq!(judge(&keyring, &ROW.digest(), &mac), Authenticity::Authentic);
    }

    #[test]
    fn text_moved_from_one_field_to_the_next_is_another_row() {
        let mut texts = ROW.texts;
        (texts[0], texts[1]) = (b"acmeZ", "oë".as_bytes());
        assert_ne!(Row { texts, ..ROW }.digest(), ROW.digest());
    }
}
