//! Writes a JSON document in Postgres' own form, which is faster than a text that Postgres parses.
//!
//! The form is that of `utils/jsonb.h`, unchanged since Postgres 9.4, because it is on disk. An object is a
//! header with the number of fields, then an entry of four bytes for each name and for each value, then their
//! contents in the same order. An entry has the kind of its part and the length or, in every 32nd entry, the
//! end offset.

use serde_json::{Map, Value};

const OBJECT: u32 = 0x2000_0000;

const STRING: u32 = 0;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

const HAS_END: u32 = 0x8000_0000;
const END_EVERY: usize = 32;
/// The largest length in an entry, and the largest number of fields in a header.
const MOST: u32 = 0x0fff_ffff;

/// The bytes of an object, without the length in front. `None` for parts that Postgres must parse: numbers,
/// arrays, and the character that it refuses.
#[must_use]
pub fn object(fields: &Map<String, Value>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    append_object(&mut bytes, fields)?;
    Some(bytes)
}

fn append_object(bytes: &mut Vec<u8>, fields: &Map<String, Value>) -> Option<()> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend((OBJECT | number(fields.len())?).to_ne_bytes());
    let entries = bytes.len();
    let parts = entries + 2 * fields.len() * size_of::<u32>();
    bytes.resize(parts, 0);

    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|&(name, _)| (name.len(), name));
    let names = fields.iter().map(|&(name, _)| Part::Name(name));
    let values = fields.iter().map(|&(_, value)| Part::Value(value));
    for (index, part) in names.chain(values).enumerate() {
        let start = bytes.len();
        let kind = append(bytes, &part)?;
        let end = number(bytes.len() - parts)?;
        let place = if index % END_EVERY == 0 { HAS_END | end } else { number(bytes.len() - start)? };
        bytes[entries + index * size_of::<u32>()..][..size_of::<u32>()]
            .copy_from_slice(&(kind | place).to_ne_bytes());
    }
    Some(())
}

enum Part<'a> {
    Name(&'a str),
    Value(&'a Value),
}

/// Appends a part, and returns its kind.
fn append(bytes: &mut Vec<u8>, part: &Part<'_>) -> Option<u32> {
    match part {
        Part::Name(text) => append_text(bytes, text),
        Part::Value(Value::String(text)) => append_text(bytes, text),
        Part::Value(Value::Object(fields)) => append_object(bytes, fields).map(|()| CONTAINER),
        Part::Value(Value::Bool(false)) => Some(FALSE),
        Part::Value(Value::Bool(true)) => Some(TRUE),
        Part::Value(Value::Null) => Some(NULL),
        Part::Value(Value::Number(_) | Value::Array(_)) => None,
    }
}

fn append_text(bytes: &mut Vec<u8>, text: &str) -> Option<u32> {
    bytes.extend(text.as_bytes());
    memchr::memchr(0, text.as_bytes()).is_none().then_some(STRING)
}

fn number(length: usize) -> Option<u32> {
    u32::try_from(length).ok().filter(|&length| length <= MOST)
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use serde_json::{Map, Value, json};

    fn hex(value: &Value) -> Option<String> {
        let bytes = super::object(value.as_object()?)?;
        Some(format!("{bytes:02x?}").replace(['[', ',', ' ', ']'], ""))
    }

    /// What pageinspect shows of a `jsonb` that Postgres itself has made, without its first byte, the length.
    #[test]
    fn as_postgres_writes_it() {
        for (value, written) in [
            (json!({}), "00000020"),
            (json!({"a": {}}), "0100002001000080070000506100000000000020"),
            (
                json!({"key": "salesforce", "actor": "Zoë", "value": null, "ok": true, "no": false}),
                "05000020020000800200000003000000050000000500000000000020000000300a00000004000000000000406e6f6f6b6b65796163\
                 746f7276616c756573616c6573666f7263655a6fc3ab",
            ),
            (
                json!({"parameters": {"b": "x", "aa": {"k": "äö"}, "a": ""}}),
                "010000200a00008037000050706172616d65746572730000030000200100008001000000020000000000000001000000140000506162\
                 6161780000000100002001000080040000006bc3a4c3b6",
            ),
        ] {
            assert_eq!(hex(&value).unwrap(), written, "{value}");
        }
    }

    #[test]
    fn every_32nd_entry_says_where_its_part_ends() {
        let fields: Map<_, _> =
            (1..=40).map(|n: usize| (format!("field{n}"), "x".repeat(n % 7).into())).collect();
        let written = hex(&Value::Object(fields)).unwrap();
        assert_eq!(written.len() / 2, 0x0b3c / 4 - 4, "the length that Postgres writes before it");
        let entry = |index: usize| &written[8 * (index + 1)..][..8];
        assert_eq!(
            [0, 1, 32, 33, 64].map(entry),
            ["06000080", "06000000", "de000080", "07000000", "58010080"]
        );
    }

    #[test]
    fn the_rest_is_left_to_postgres() {
        for value in [json!({"a": 1}), json!({"a": []}), json!({"a": {"b": "\0"}}), json!({"\0": true})] {
            assert_eq!(hex(&value), None, "{value}");
        }
    }
}
