//! The keyring: a JSON document outside the database.
//!
//! ```json
//! {"version": 1, "primary": "k5c8e01d2", "keys": [{"id": "k5c8e01d2", "key": "<32 bytes in base64>"}]}
//! ```
//!
//! The primary key encrypts new values. The other keys stay to decrypt older values.

use crate::locked_page::{KEY_BYTES, LockedKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The longest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
const MAX_ID_BYTES: usize = 64;

/// The keys, one of them primary.
pub struct Keyring {
    primary: usize,
    keys: Vec<Key>,
}

/// A key with its id.
pub struct Key {
    id: String,
    secret: LockedKey,
}

impl Key {
    /// Its id, which each ciphertext names.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The 32 bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8; KEY_BYTES] {
        self.secret.bytes()
    }
}

/// The problem of a keyring: where it is, never the text there.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Not JSON, or not of this form.
    #[error("the keyring is not a JSON document of the expected form (line {line}, column {column})")]
    Malformed {
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
    },
    /// A version that this release does not know.
    #[error("the keyring has version {0}; this release reads version 1")]
    Version(u32),
    /// An id of another form.
    #[error("key number {0} of the keyring has an id that is not 1 to 64 letters, digits, '-' or '_'")]
    Id(usize),
    /// Two keys with one id.
    #[error("the keyring has two keys with the id {0}")]
    Duplicate(String),
    /// Key material of another length, or not base64.
    #[error("key {0} of the keyring is not {KEY_BYTES} bytes in base64")]
    Material(String),
    /// The primary is not among the keys.
    #[error("the keyring's primary key is not among its keys")]
    Primary,
    /// The operating system gave no memory or no random bytes.
    #[error("cannot create or copy a key: {0}")]
    System(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    primary: String,
    keys: Vec<DocumentKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentKey {
    id: String,
    key: Zeroizing<String>,
}

const VERSION: u32 = 1;

impl Keyring {
    /// A keyring with one new random key.
    pub fn generate() -> Result<Self, KeyringError> {
        Ok(Self { primary: 0, keys: vec![random_key()?] })
    }

    /// Reads a document.
    pub fn parse(document: &[u8]) -> Result<Self, KeyringError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| KeyringError::Malformed { line: error.line(), column: error.column() })?;
        if document.version != VERSION {
            return Err(KeyringError::Version(document.version));
        }
        let mut keys: Vec<Key> = Vec::with_capacity(document.keys.len());
        for (index, DocumentKey { id, key }) in document.keys.into_iter().enumerate() {
            if !is_id(&id) {
                return Err(KeyringError::Id(index + 1));
            }
            if keys.iter().any(|known| known.id == id) {
                return Err(KeyringError::Duplicate(id));
            }
            keys.push(decode_key(id, &key)?);
        }
        let primary = keys.iter().position(|key| key.id == document.primary).ok_or(KeyringError::Primary)?;
        Ok(Self { primary, keys })
    }

    /// The document, to be written to a file that only the server's user can read.
    pub fn to_document(&self) -> Result<Zeroizing<String>, KeyringError> {
        let keys = self.keys.iter().map(|key| DocumentKey {
            id: key.id.clone(),
            key: Zeroizing::new(STANDARD.encode(key.secret())),
        });
        let document =
            Document { version: VERSION, primary: self.primary().id.clone(), keys: keys.collect() };
        // Full size at once, because growing would leave an unwiped copy behind.
        let mut text = Vec::with_capacity(128 + self.keys.len() * 256);
        let written = serde_json::to_writer_pretty(&mut text, &document);
        text.push(b'\n');
        match (written, String::from_utf8(text)) {
            (Ok(()), Ok(text)) => Ok(Zeroizing::new(text)),
            _ => Err(KeyringError::System("the document is not UTF-8 JSON".into())),
        }
    }

    /// Adds a new random key and makes it the primary. Returns its id.
    pub fn add_key(&mut self) -> Result<&str, KeyringError> {
        let key = loop {
            let key = random_key()?;
            if self.find(&key.id).is_none() {
                break key;
            }
        };
        self.primary = self.keys.len();
        self.keys.push(key);
        Ok(self.primary_id())
    }

    /// The key that encrypts new values.
    #[must_use]
    pub fn primary(&self) -> &Key {
        &self.keys[self.primary]
    }

    /// The id of the primary key.
    #[must_use]
    pub fn primary_id(&self) -> &str {
        self.primary().id()
    }

    /// The key with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// All ids, oldest first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(Key::id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("primary", &self.primary_id())
            .field("keys", &self.key_ids().collect::<Vec<_>>())
            .finish()
    }
}

pub(crate) fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn random_key() -> Result<Key, KeyringError> {
    let mut id = [0; 4];
    getrandom::fill(&mut id).map_err(system)?;
    let mut filled = Ok(());
    let secret = LockedKey::new(|bytes| filled = getrandom::fill(bytes)).map_err(system)?;
    filled.map_err(system)?;
    Ok(Key { id: format!("k{:08x}", u32::from_be_bytes(id)), secret })
}

fn decode_key(id: String, text: &str) -> Result<Key, KeyringError> {
    // The decoder needs room for one more group of three bytes.
    let mut bytes = Zeroizing::new([0; KEY_BYTES + 3]);
    match STANDARD.decode_slice(text, bytes.as_mut_slice()) {
        Ok(KEY_BYTES) => {}
        _ => return Err(KeyringError::Material(id)),
    }
    let secret = LockedKey::new(|page| page.copy_from_slice(&bytes[..KEY_BYTES])).map_err(system)?;
    bytes.zeroize();
    Ok(Key { id, secret })
}

fn system(error: impl fmt::Display) -> KeyringError {
    KeyringError::System(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_back() {
        let mut keyring = Keyring::generate().unwrap();
        let first = keyring.primary_id().to_owned();
        let second = keyring.add_key().unwrap().to_owned();
        let again = Keyring::parse(keyring.to_document().unwrap().as_bytes()).unwrap();
        assert_eq!(again.primary_id(), second);
        assert_eq!(again.key_ids().collect::<Vec<_>>(), [&first, &second]);
        assert_eq!(again.find(&first).unwrap().secret(), keyring.find(&first).unwrap().secret());
        assert_ne!(again.find(&first).unwrap().secret(), again.find(&second).unwrap().secret());
    }

    #[test]
    fn an_error_says_where_and_never_what() {
        let key = STANDARD.encode([9; KEY_BYTES]);
        let short = STANDARD.encode([9; KEY_BYTES - 1]);
        let long = STANDARD.encode([9; KEY_BYTES + 1]);
        for (document, expected) in [
            (format!(r#"{{"version":1,"primary":"a","keys":[{{"id":"a","key":"{short}"}}]}}"#), "key a "),
            (format!(r#"{{"version":1,"primary":"a","keys":[{{"id":"a","key":"{long}"}}]}}"#), "key a "),
            (format!(r#"{{"version":1,"primary":"a","keys":[{{"id":"a b","key":"{key}"}}]}}"#), "number 1"),
            (format!(r#"{{"version":1,"primary":"b","keys":[{{"id":"a","key":"{key}"}}]}}"#), "primary"),
            (format!(r#"{{"version":7,"primary":"a","keys":[{{"id":"a","key":"{key}"}}]}}"#), "version 7"),
            (format!(r#"{{"version":1,"primary":"a","keys":[{{"id":"a","key":{key}}}]}}"#), "line 1"),
            (
                format!(
                    r#"{{"version":1,"primary":"a","keys":[{{"id":"a","key":"{key}"}},{{"id":"a","key":"{key}"}}]}}"#
                ),
                "two keys",
            ),
            (format!(r#"{{"version":1,"primary":"a","keys":[],"{key}":1}}"#), "line 1"),
        ] {
            let message = Keyring::parse(document.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            for material in [&key, &short, &long] {
                assert!(!message.contains(material.trim_end_matches('=')), "{message}");
            }
        }
    }

    #[test]
    fn debug_shows_ids_only() {
        let keyring = Keyring::generate().unwrap();
        let shown = format!("{keyring:?}");
        assert!(shown.contains(keyring.primary_id()));
        assert!(!shown.contains(&STANDARD.encode(keyring.primary().secret())));
    }
}
