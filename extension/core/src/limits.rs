//! The lengths of arguments, in characters (Unicode scalar values), not bytes.

use crate::error::{ErrorCode, Refusal};

/// The longest integration key.
pub const MAX_KEY_CHARS: usize = 255;
/// The longest value that the setting `integration_credentials.max_value_length` can allow.
pub const MAX_VALUE_CHARS: usize = 1 << 20;
/// The default of that setting.
pub const DEFAULT_VALUE_CHARS: usize = 8192;
/// The longest actor.
pub const MAX_ACTOR_CHARS: usize = 255;
/// The longest org slug.
pub const MAX_ORG_CHARS: usize = 255;

/// An integration key of 1 to 255 characters.
pub fn key(argument: Option<&str>) -> Result<&str, Refusal> {
    check("key", argument, MAX_KEY_CHARS)
}

/// A value of 1 to `max` characters, none of them NUL: a text of Postgres has none, and a sealed value may.
pub fn value(argument: Option<&str>, max: usize) -> Result<&str, Refusal> {
    if argument.is_some_and(|value| memchr::memchr(0, value.as_bytes()).is_some()) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "value has a NUL character",
            "Encode a binary secret as text, for example in base64.",
        ));
    }
    check("value", argument, max).map_err(|refusal| Refusal {
        hint: format!(
            "{} A superuser can raise integration_credentials.max_value_length, to at most {MAX_VALUE_CHARS}.",
            refusal.hint
        ),
        ..refusal
    })
}

/// An actor of 1 to 255 characters.
pub fn actor(argument: Option<&str>) -> Result<&str, Refusal> {
    check("actor", argument, MAX_ACTOR_CHARS)
}

/// Checks that an argument is not NULL, not empty, and has at most `max` characters.
pub fn check<'a>(name: &str, argument: Option<&'a str>, max: usize) -> Result<&'a str, Refusal> {
    let problem = match argument {
        None => "is NULL".to_owned(),
        Some("") => "is empty".to_owned(),
        // A character takes at least one byte, so the characters of a short text need not be counted.
        Some(text) if text.len() <= max => return Ok(text),
        Some(text) => match text.chars().count() {
            count if count <= max => return Ok(text),
            count => format!("has {count} characters; at most {max} are allowed"),
        },
    };
    Err(Refusal::new(
        ErrorCode::InvalidRequest,
        format!("{name} {problem}"),
        format!("Give {name} as text of 1 to {max} characters."),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_bytes() {
        for unit in ["a", "é", "😀"] {
            for max in [DEFAULT_VALUE_CHARS, MAX_VALUE_CHARS] {
                assert!(value(Some(&unit.repeat(max)), max).is_ok());
                let refusal = value(Some(&unit.repeat(max + 1)), max).unwrap_err();
                assert_eq!(refusal.code, ErrorCode::InvalidRequest);
                let expected = format!("value has {} characters; at most {max} are allowed", max + 1);
                assert_eq!(refusal.message, expected);
                assert!(refusal.hint.contains("integration_credentials.max_value_length"));
            }
            assert!(key(Some(&unit.repeat(MAX_KEY_CHARS))).is_ok());
            assert!(key(Some(&unit.repeat(MAX_KEY_CHARS + 1))).is_err());
        }
    }

    #[test]
    fn null_and_empty_are_refused_and_one_character_is_enough() {
        assert_eq!(key(None).unwrap_err().message, "key is NULL");
        assert_eq!(actor(Some("")).unwrap_err().message, "actor is empty");
        assert_eq!(value(Some(" "), 1), Ok(" "));
    }
}
