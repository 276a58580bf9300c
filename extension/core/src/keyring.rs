//! The keyring: a JSON document outside the database.
//!
//! ```json
//! {"version": 1, "primary": "k5c8e01d2", "keys": [{"id": "k5c8e01d2", "key": "<32 bytes in base64>"}]}
//! ```
//!
//! The primary key encrypts new values. The other keys only decrypt: older keys for what they encrypted, and a
//! newer key until every server has it and it becomes the primary. [`crate::archive`] has the keys that were
//! retired.

use crate::locked_page::{KEY_BYTES, LockedKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::OnceLock};
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
    /// The key of MACs, once it was needed; `None` in it, if there was no memory to keep it.
    mac: OnceLock<Option<LockedKey>>,
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

    /// A key that is derived from the secret by `derive`, which is kept. It is the same for each call.
    pub(crate) fn mac_key(&self, derive: impl FnOnce(&mut [u8; KEY_BYTES])) -> Option<&[u8; KEY_BYTES]> {
        self.mac.get_or_init(|| LockedKey::new(derive).ok()).as_ref().map(LockedKey::bytes)
    }

    pub(crate) fn decode(id: String, text: &str) -> Result<Self, KeyringError> {
        // The decoder needs room for one more group of three bytes.
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 3]);
        match STANDARD.decode_slice(text, bytes.as_mut_slice()) {
            Ok(KEY_BYTES) => {}
            _ => return Err(KeyringError::Material(id)),
        }
        let secret = LockedKey::new(|page| page.copy_from_slice(&bytes[..KEY_BYTES])).map_err(system)?;
        bytes.zeroize();
        Ok(Self { id, secret, mac: OnceLock::new() })
    }

    pub(crate) fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.secret()))
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
    /// No key has the id.
    #[error("the keyring has no key {0}")]
    Unknown(String),
    /// The primary cannot be taken out.
    #[error("key {0} encrypts new values")]
    InUse(String),
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
            keys.push(Key::decode(id, &key)?);
        }
        let primary = keys.iter().position(|key| key.id == document.primary).ok_or(KeyringError::Primary)?;
        Ok(Self { primary, keys })
    }

    /// The document, to be written to a file that only the server's user can read.
    pub fn to_document(&self) -> Result<Zeroizing<String>, KeyringError> {
        let keys = self.keys.iter().map(|key| DocumentKey { id: key.id.clone(), key: key.encode() });
        let document =
            Document { version: VERSION, primary: self.primary().id.clone(), keys: keys.collect() };
        to_text(&document, self.keys.len())
    }

    /// Adds a new random key, which only decrypts. Returns its id.
    pub fn add_key(&mut self) -> Result<&str, KeyringError> {
        let key = loop {
            let key = random_key()?;
            if self.find(&key.id).is_none() {
                break key;
            }
        };
        self.keys.push(key);
        Ok(self.keys[self.keys.len() - 1].id())
    }

    /// Puts an older key before the others. The key only decrypts.
    pub fn insert(&mut self, key: Key) -> Result<(), KeyringError> {
        if self.find(&key.id).is_some() {
            return Err(KeyringError::Duplicate(key.id));
        }
        self.keys.insert(0, key);
        self.primary += 1;
        Ok(())
    }

    /// Makes a key the primary.
    pub fn use_key(&mut self, id: &str) -> Result<(), KeyringError> {
        self.primary = self.position(id)?;
        Ok(())
    }

    /// Takes a key out, unless it is the primary.
    pub fn remove(&mut self, id: &str) -> Result<Key, KeyringError> {
        let position = self.position(id)?;
        if position == self.primary {
            return Err(KeyringError::InUse(id.to_owned()));
        }
        if position < self.primary {
            self.primary -= 1;
        }
        Ok(self.keys.remove(position))
    }

    fn position(&self, id: &str) -> Result<usize, KeyringError> {
        let position = self.keys.iter().position(|key| key.id == id);
        // The text may be anything, so an id of another form is not shown.
        let shown = if is_id(id) { id } else { "with this id" };
        position.ok_or_else(|| KeyringError::Unknown(shown.to_owned()))
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

    /// All keys, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// All ids, oldest first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys().map(Key::id)
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
    Ok(Key { id: format!("k{:08x}", u32::from_be_bytes(id)), secret, mac: OnceLock::new() })
}

/// A document as text, at its full size at once, because growing would leave an unwiped copy behind.
pub(crate) fn to_text(document: &impl Serialize, keys: usize) -> Result<Zeroizing<String>, KeyringError> {
    let mut text = Vec::with_capacity(128 + keys * 256);
    let written = serde_json::to_writer_pretty(&mut text, document);
    text.push(b'\n');
    match (written, String::from_utf8(text)) {
        (Ok(()), Ok(text)) => Ok(Zeroizing::new(text)),
        _ => Err(KeyringError::System("the document is not UTF-8 JSON".into())),
    }
}

/// Whether two keys have the same 32 bytes. In constant time, though both are ours.
pub(crate) fn is_same(one: &Key, other: &Key) -> bool {
    one.secret().iter().zip(other.secret()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
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
        assert_eq!(keyring.primary_id(), first, "a new key only decrypts");
        keyring.use_key(&second).unwrap();
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
    fn key_is_taken_out_unless_it_is_the_primary_or_unknown() {
        let mut keyring = Keyring::generate().unwrap();
        let first = keyring.primary_id().to_owned();
        let [second, third] = [(); 2].map(|()| keyring.add_key().unwrap().to_owned());
        assert!(matches!(keyring.remove(&first), Err(KeyringError::InUse(id)) if id == first));
        keyring.use_key(&third).unwrap();
        let removed = keyring.remove(&first).unwrap();
        assert_eq!((removed.id(), keyring.primary_id()), (first.as_str(), third.as_str()));
        assert_eq!(keyring.key_ids().collect::<Vec<_>>(), [&second, &third]);
        assert!(matches!(keyring.use_key(&first), Err(KeyringError::Unknown(id)) if id == first));
        let message = keyring.use_key("no id, perhaps a secret").unwrap_err().to_string();
        assert_eq!(message, "the keyring has no key with this id");
        keyring.insert(removed).unwrap();
        let again = Keyring::parse(keyring.to_document().unwrap().as_bytes()).unwrap();
        assert_eq!(again.key_ids().collect::<Vec<_>>(), [&first, &second, &third]);
        assert_eq!(again.primary_id(), third);
    }

    #[test]
    fn debug_shows_ids_only() {
        let keyring = Keyring::generate().unwrap();
        let shown = format!("{keyring:?}");
        assert!(shown.contains(keyring.primary_id()));
        assert!(!shown.contains(&STANDARD.encode(keyring.primary().secret())));
    }
}
