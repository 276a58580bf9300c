//! The archive of retired keys: a JSON document beside the keyring. No server reads it. Backups that are older
//! than the retirement still need its keys.
//!
//! ```json
//! {"version": 1, "retired": [{"id": "k5c8e01d2", "key": "<32 bytes in base64>", "retiredAt": "2026-11-30T02:00:00Z"}]}
//! ```

use crate::keyring::{self, Key, KeyringError, is_id};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The keys that were retired, oldest retirement first.
#[derive(Default)]
pub struct Archive(Vec<Retired>);

struct Retired {
    key: Key,
    at: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    retired: Vec<DocumentKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DocumentKey {
    id: String,
    key: Zeroizing<String>,
    retired_at: String,
}

const VERSION: u32 = 1;

impl Archive {
    /// Reads a document.
    pub fn parse(document: &[u8]) -> Result<Self, KeyringError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| KeyringError::Malformed { line: error.line(), column: error.column() })?;
        if document.version != VERSION {
            return Err(KeyringError::Version(document.version));
        }
        let mut archive = Self::default();
        for (index, DocumentKey { id, key, retired_at }) in document.retired.into_iter().enumerate() {
            if !is_id(&id) {
                return Err(KeyringError::Id(index + 1));
            }
            if archive.find(&id).is_some() {
                return Err(KeyringError::Duplicate(id));
            }
            archive.0.push(Retired { key: Key::decode(id, &key)?, at: retired_at });
        }
        Ok(archive)
    }

    /// The document.
    pub fn to_document(&self) -> Result<Zeroizing<String>, KeyringError> {
        let retired = self.0.iter().map(|Retired { key, at }| DocumentKey {
            id: key.id().to_owned(),
            key: key.encode(),
            retired_at: at.clone(),
        });
        keyring::to_text(&Document { version: VERSION, retired: retired.collect() }, self.0.len())
    }

    /// Adds a key. A retirement that was interrupted has added it before: then the archive stays as it is.
    pub fn add(&mut self, key: Key, at: String) -> Result<(), KeyringError> {
        match self.find(key.id()) {
            Some(known) if keyring::is_same(known, &key) => Ok(()),
            Some(_) => Err(KeyringError::Duplicate(key.id().to_owned())),
            None => {
                self.0.push(Retired { key, at });
                Ok(())
            }
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, id: &str) -> Option<Key> {
        let position = self.0.iter().position(|retired| retired.key.id() == id)?;
        Some(self.0.remove(position).key)
    }

    /// The key with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.keys().find(|key| key.id() == id)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|retired| &retired.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;

    #[test]
    fn retired_key_is_found_again_and_added_once() {
        let mut keyring = Keyring::generate().unwrap();
        let id = keyring.add_key().unwrap().to_owned();
        let document = keyring.to_document().unwrap();
        let again = || Keyring::parse(document.as_bytes()).unwrap().remove(&id).unwrap();
        let mut archive = Archive::default();
        archive.add(again(), "2026-11-30T02:00:00Z".to_owned()).unwrap();
        archive.add(again(), "2027-01-01T00:00:00Z".to_owned()).unwrap();
        let text = archive.to_document().unwrap();
        assert!(text.contains("2026-11-30") && !text.contains("2027"));
        let mut archive = Archive::parse(text.as_bytes()).unwrap();
        assert_eq!(archive.find(&id).unwrap().secret(), again().secret());
        assert_eq!(archive.remove(&id).unwrap().id(), id);
        assert!(archive.remove(&id).is_none() && archive.keys().next().is_none());
    }

    #[test]
    fn another_key_of_the_same_id_is_refused() {
        let document = |byte: &str| {
            let key = byte.repeat(43);
            let keys = format!(r#"{{"id":"a","key":"{key}="}},{{"id":"b","key":"{key}="}}"#);
            format!(r#"{{"version":1,"primary":"b","keys":[{keys}]}}"#)
        };
        let [one, other] = ["A", "E"].map(|byte| Keyring::parse(document(byte).as_bytes()).unwrap());
        let mut archive = Archive::default();
        for (mut keyring, is_first) in [(one, true), (other, false)] {
            let added = archive.add(keyring.remove("a").unwrap(), String::new());
            assert_eq!(added.is_ok(), is_first);
        }
    }

    #[test]
    fn keyring_is_no_archive() {
        let keyring = Keyring::generate().unwrap().to_document().unwrap();
        assert!(matches!(Archive::parse(keyring.as_bytes()), Err(KeyringError::Malformed { .. })));
    }
}
