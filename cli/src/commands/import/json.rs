//! The JSON form: an object of keys and values, or an array of objects that have both.

use super::file::{Entry, Place};
use intcred::Secret;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::fmt;
use zeroize::Zeroizing;

pub struct Document(pub Vec<Entry>);

/// A text that is wiped.
#[derive(Deserialize)]
struct Text(Zeroizing<String>);

/// An element of the array, such as a row of `intcred list --json`. Other members are ignored.
#[derive(Deserialize)]
struct Item {
    key: String,
    value: Option<Text>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, Text(value))) = map.next_entry()? {
            entries.push(Entry { place: Place::Entry(entries.len() + 1), name, value: Secret::from(value) });
        }
        Ok(Document(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
        let mut entries = Vec::new();
        let mut number = 0;
        while let Some(Item { key, value }) = items.next_element()? {
            number += 1;
            // As in the list: an integration without a credential.
            if let Some(Text(value)) = value {
                entries.push(Entry { place: Place::Entry(number), name: key, value: Secret::from(value) });
            }
        }
        Ok(Document(entries))
    }
}
