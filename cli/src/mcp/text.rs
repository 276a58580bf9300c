//! Text of other people, such as the names in a catalog: without control characters, and not too long.

use serde_json::Value;

/// The most characters of a text.
const MAX_CHARS: usize = 500;

/// A text without control characters, cut at 500.
pub fn clean(text: &str) -> String {
    let is_harmless = |next: &char| !next.is_control() && !is_invisible(*next);
    text.chars().filter(is_harmless).take(MAX_CHARS).collect()
}

/// A JSON value whose texts are clean.
pub fn clean_json(value: Value) -> Value {
    match value {
        Value::String(text) => clean(&text).into(),
        Value::Array(items) => items.into_iter().map(clean_json).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (clean(&name), clean_json(value))).collect()
        }
        other => other,
    }
}

/// Characters that change the direction of text or are not shown, by which a name can hide what it says.
const fn is_invisible(next: char) -> bool {
    matches!(next, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn control_and_invisible_characters_are_dropped_and_long_texts_cut() {
        assert_eq!(clean("a\u{1b}[31m\nb\u{202e}c\u{e0041}é"), "a[31mbcé");
        assert_eq!(clean(&"é".repeat(501)).chars().count(), 500);
        assert_eq!(clean_json(json!({"a\0": ["b\u{7f}", 1, null]})), json!({"a": ["b", 1, null]}));
    }
}
