//! Removes a known secret from a text that other code wrote.
//!
//! Any eight consecutive bytes that the text shares with the secret are removed, in upper or lower (ASCII)
//! case, and in each form that a message is likely to have: plain, quoted for SQL, escaped for JSON, in hex
//! and in base64. A shorter secret is removed as a whole. In a JSON object only the values are secret and not
//! the names, so that a message may say `client_id is missing`. Each value is secret as it is spelled and as
//! it is decoded.
//!
//! This does not stop code that exfiltrates a secret on purpose: one letter at a time, reversed, or as a sum.

use crate::buffer::Buffer;
use crate::sql_text::Dropped;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use foldhash::quality::RandomState;
use serde::de::IgnoredAny;
#[cfg(feature = "rules")]
use serde_json::Value;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::ops::Range;
#[cfg(feature = "rules")]
use zeroize::Zeroize;

/// The replacement of a secret.
pub const REDACTED: &str = "<redacted>";

/// The longest reason that a validator or sync handler may give, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// The longest secret that is searched for, in bytes. The search takes a hundred times as much memory.
const MAX_SEARCHED_BYTES: usize = 64 << 10;
const WINDOW: usize = 8;
/// A text with a shorter secret is replaced as a whole, because the gaps alone would reveal the secret.
const SHORT: usize = 4;

/// `text` without `secret`, cut at [`MAX_REASON_CHARS`].
#[must_use]
pub fn reason(text: &str, secret: &str) -> String {
    if secret.len() > MAX_SEARCHED_BYTES {
        return format!(
            "{REDACTED} (reasons for a value of more than {MAX_SEARCHED_BYTES} bytes are not shown)"
        );
    }
    let mut redacted = redact(text, secret);
    if let Some((cut, _)) = redacted.char_indices().nth(MAX_REASON_CHARS) {
        redacted.truncate(cut);
    }
    redacted
}

/// `text` without `secret`.
#[must_use]
pub fn redact(text: &str, secret: &str) -> String {
    let mut needles = Needles::default();
    match needles.add(secret).and_then(|()| needles.hide(text.as_bytes())) {
        Ok(None) => text.to_owned(),
        // Pieces are cut between characters, so the rest is UTF-8.
        Ok(Some(redacted)) => String::from_utf8(redacted).unwrap_or_else(|_| REDACTED.to_owned()),
        Err(dropped) => dropped.text().to_owned(),
    }
}

/// The forms of secrets, for a search in linear time. Only hashes of their pieces are kept.
#[derive(Default)]
pub struct Needles {
    pieces: HashSet<u64, RandomState>,
    /// The lengths of the forms that are shorter than a window, a bit for each length.
    lengths: u8,
    has_short_secret: bool,
}

impl Needles {
    /// Adds a secret. Without memory it fails, and may have added a part of the secret.
    pub fn add(&mut self, secret: &str) -> Result<(), Dropped> {
        self.has_short_secret |= secret.len() < SHORT;
        let is_document = secret.trim_ascii_start().starts_with(['{', '[']);
        if is_document && serde_json::from_str::<IgnoredAny>(secret).is_ok() {
            for token in json_values(secret) {
                let string = token.strip_prefix('"').and_then(|token| token.strip_suffix('"'));
                let spelled = string.unwrap_or(token);
                if spelled.len() >= SHORT {
                    self.add_written(spelled.bytes())?;
                    self.add_encoded(&spelled.bytes())?;
                }
                let meant = Unescaped::of(spelled);
                if spelled.contains('\\') && meant.clone().count() >= SHORT {
                    self.add_written(meant.clone())?;
                    self.add_encoded(&meant)?;
                }
            }
        } else {
            self.add_written(secret.bytes())?;
        }
        self.add_encoded(&secret.bytes())
    }

    /// Adds the plain form, and the forms quoted for SQL and JSON.
    fn add_written(&mut self, text: impl Iterator<Item = u8> + Clone) -> Result<(), Dropped> {
        self.add_form(text.clone())?;
        let is_special = |byte| matches!(byte, b'\'' | b'\\' | b'"' | ..b' ');
        if text.clone().any(is_special) {
            let twice = |byte, doubles: bool| std::iter::repeat_n(byte, if doubles { 2 } else { 1 });
            let doubled = text.clone().flat_map(move |byte| twice(byte, byte == b'\''));
            self.add_form(doubled.clone())?;
            self.add_form(doubled.flat_map(move |byte| twice(byte, byte == b'\\')))?;
            self.add_form(text.flat_map(json_escaped))?;
        }
        Ok(())
    }

    /// Adds the forms in hex, and in base64 at each of the three alignments.
    fn add_encoded(&mut self, text: &(impl Iterator<Item = u8> + Clone)) -> Result<(), Dropped> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.add_form(
            text.clone().flat_map(|byte| [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)])),
        )?;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            for skip in 0..3 {
                // The last character of an unpadded group depends on what follows.
                self.add_form(
                    Base64 { text: text.clone().skip(skip), engine: &engine, to_the_end: false }.flatten(),
                )?;
            }
            self.add_form(Base64 { text: text.clone(), engine: &engine, to_the_end: true }.flatten())?;
        }
        Ok(())
    }

    fn add_form(&mut self, form: impl Iterator<Item = u8>) -> Result<(), Dropped> {
        let (mut window, mut length) = (Window::default(), 0_usize);
        for byte in form {
            window.push(byte);
            length = length.saturating_add(1);
            if length >= WINDOW {
                self.add_piece(window.last(WINDOW))?;
            }
        }
        if (1..WINDOW).contains(&length) {
            self.lengths |= 1 << length;
            self.add_piece(window.last(length))?;
        }
        Ok(())
    }

    fn add_piece(&mut self, piece: (u64, usize)) -> Result<(), Dropped> {
        const FIRST: usize = 256;
        if self.pieces.len() == self.pieces.capacity() {
            self.pieces.try_reserve(self.pieces.len().max(FIRST)).map_err(|_| Dropped::NoMemory)?;
        }
        self.pieces.insert(self.pieces.hasher().hash_one(piece));
        Ok(())
    }

    fn has(&self, piece: (u64, usize)) -> bool {
        self.pieces.contains(&self.pieces.hasher().hash_one(piece))
    }

    /// The text without the secrets; `None` if it contains none.
    pub fn hide(&self, text: &[u8]) -> Result<Option<Vec<u8>>, Dropped> {
        let mut copy = Copy { text, bytes: None, kept_to: 0, found: 0..0 };
        let mut window = Window::default();
        for (at, &byte) in text.iter().enumerate() {
            window.push(byte);
            let end = at + 1;
            let is_found = |&length: &usize| {
                end >= length
                    && (length == WINDOW || self.lengths >> length & 1 == 1)
                    && self.has(window.last(length))
            };
            if let Some(length) = (1..=WINDOW).rev().find(is_found) {
                if self.has_short_secret {
                    copy.push(REDACTED.as_bytes())?;
                    return Ok(copy.bytes.map(Buffer::into_bytes));
                }
                copy.leave_out(end - length, end)?;
            }
        }
        if copy.found.is_empty() {
            return Ok(None);
        }
        copy.flush()?;
        copy.push(&text[copy.kept_to..])?;
        Ok(copy.bytes.map(Buffer::into_bytes))
    }
}

/// The last eight bytes, in lower case.
#[derive(Clone, Copy, Default)]
struct Window(u64);

impl Window {
    fn push(&mut self, byte: u8) {
        self.0 = self.0 << 8 | u64::from(byte.to_ascii_lowercase());
    }

    fn last(self, length: usize) -> (u64, usize) {
        (if length < WINDOW { self.0 & ((1 << (8 * length)) - 1) } else { self.0 }, length)
    }
}

/// A copy of a text without the found pieces.
struct Copy<'a> {
    text: &'a [u8],
    bytes: Option<Buffer>,
    kept_to: usize,
    /// The last found range, which may still grow.
    found: Range<usize>,
}

impl Copy<'_> {
    /// Leaves a piece out; pieces come in the order of their ends. A piece may begin or end within a
    /// character, so it is extended over all adjacent non-ASCII bytes. In every server encoding, those have
    /// the highest bit set.
    fn leave_out(&mut self, start: usize, end: usize) -> Result<(), Dropped> {
        if end <= self.found.end {
            return Ok(());
        }
        let is_part = |byte: &&u8| !byte.is_ascii();
        let end = end
            + if self.text[end - 1].is_ascii() {
                0
            } else {
                self.text[end..].iter().take_while(is_part).count()
            };
        if start > self.found.end || self.found.is_empty() {
            self.flush()?;
            let before = &self.text[self.kept_to.min(start)..start];
            let start = start
                - if self.text[start].is_ascii() {
                    0
                } else {
                    before.iter().rev().take_while(is_part).count()
                };
            self.found = start.max(self.kept_to)..end;
        } else {
            self.found = self.found.start.min(start).max(self.kept_to)..end;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Dropped> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.push(&self.text[self.kept_to..self.found.start])?;
        self.push(REDACTED.as_bytes())?;
        self.kept_to = self.found.end;
        Ok(())
    }

    fn push(&mut self, text: &[u8]) -> Result<(), Dropped> {
        let bytes = match &mut self.bytes {
            Some(bytes) => bytes,
            // A form of four bytes becomes one of ten.
            none => none.insert(Buffer::with_room(3 * self.text.len() + REDACTED.len())?),
        };
        bytes.push(text)
    }
}

/// The groups of four characters that encode each three bytes.
struct Base64<'a, T, E> {
    text: T,
    engine: &'a E,
    to_the_end: bool,
}

impl<T: Iterator<Item = u8>, E: Engine> Iterator for Base64<'_, T, E> {
    type Item = std::iter::Take<std::array::IntoIter<u8, 4>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut group = [0; 3];
        let mut length = 0;
        for (place, byte) in group.iter_mut().zip(&mut self.text) {
            *place = byte;
            length += 1;
        }
        if length == 0 || (length < group.len() && !self.to_the_end) {
            return None;
        }
        let mut encoded = [0; 4];
        let written = self.engine.encode_slice(&group[..length], &mut encoded).unwrap_or_default();
        Some(encoded.into_iter().take(written))
    }
}

/// The JSON escape of a byte within a string.
fn json_escaped(byte: u8) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (mut spelled, length) = ([byte, 0, 0, 0, 0, 0], 1);
    let letter = match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 => Some(b'b'),
        0x0c => Some(b'f'),
        _ => None,
    };
    let length = match letter {
        Some(letter) => {
            spelled[..2].copy_from_slice(&[b'\\', letter]);
            2
        }
        None if byte < b' ' => {
            spelled =
                [b'\\', b'u', b'0', b'0', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
            6
        }
        None => length,
    };
    spelled.into_iter().take(length)
}

/// The decoded bytes of a JSON string.
#[derive(Clone)]
struct Unescaped<'a> {
    spelled: std::str::Chars<'a>,
    pending: std::iter::Take<std::array::IntoIter<u8, 4>>,
}

impl<'a> Unescaped<'a> {
    fn of(spelled: &'a str) -> Self {
        Self { spelled: spelled.chars(), pending: [0; 4].into_iter().take(0) }
    }

    fn unit(&mut self) -> u32 {
        let (digits, rest) = self.spelled.as_str().split_at_checked(4).unwrap_or(("", ""));
        self.spelled = rest.chars();
        u32::from_str_radix(digits, 16).unwrap_or_default()
    }

    fn escaped(&mut self) -> char {
        match self.spelled.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let first = self.unit();
                let is_pair = (0xd800..0xdc00).contains(&first) && self.spelled.as_str().starts_with("\\u");
                if is_pair {
                    self.spelled.by_ref().take(2).for_each(drop);
                    let second = self.unit();
                    let code = 0x1_0000 + ((first & 0x3ff) << 10 | (second & 0x3ff));
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                } else {
                    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            }
            Some(other) => other,
            None => '\\',
        }
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.pending.next().or_else(|| {
            let next = match self.spelled.next()? {
                '\\' => self.escaped(),
                other => other,
            };
            let mut bytes = [0; 4];
            let length = next.encode_utf8(&mut bytes).len();
            self.pending = bytes.into_iter().take(length);
            self.pending.next()
        })
    }
}

/// The strings and numbers of a valid JSON text, except the names of members. A parsed document does not
/// suffice: it has lost the spelling, and of two members with one name all but the last.
fn json_values(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(|next: char| next == '"' || next == '-' || next.is_ascii_digit())?;
            rest = &rest[start..];
            let token = &rest[..token_length(rest)];
            rest = &rest[token.len()..];
            if !rest.trim_start().starts_with(':') {
                return Some(token);
            }
        }
    })
}

fn token_length(text: &str) -> usize {
    let Some(string) = text.strip_prefix('"') else {
        let is_number = |next: char| next.is_ascii_digit() || matches!(next, '+' | '-' | '.' | 'e' | 'E');
        return text.find(|next| !is_number(next)).unwrap_or(text.len());
    };
    let mut escaped = false;
    let end = string.find(|next| {
        let ends = next == '"' && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Wipes the texts of a JSON document that held a secret.
#[cfg(feature = "rules")]
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => {
            for (mut name, mut member) in std::mem::take(members) {
                name.zeroize();
                wipe(&mut member);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "it's a \"long\" \\secret\n";

    #[test]
    fn every_form_is_taken_out_and_the_rest_stays() {
        let hex = SECRET.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}"));
        for form in [
            SECRET.to_owned(),
            SECRET.to_uppercase(),
            SECRET.replace('\'', "''"),
            SECRET.replace('\\', "\\\\").replace('\'', "''"),
            serde_json::to_string(SECRET).unwrap(),
            hex,
            STANDARD_NO_PAD.encode(SECRET),
            URL_SAFE_NO_PAD.encode(SECRET),
            STANDARD_NO_PAD.encode(format!("{{\"v\":\"{SECRET}")),
        ] {
            let redacted = redact(&format!("before ({form}) after"), SECRET);
            assert!(redacted.starts_with("before (") && redacted.ends_with(") after"), "{redacted}");
            assert!(redacted.contains(REDACTED) && !redacted.to_lowercase().contains("secret"), "{redacted}");
        }
    }

    #[test]
    fn a_piece_is_taken_out_too() {
        assert_eq!(redact("near 'b2c3d4e5f6'", "a1b2c3d4e5f6g7h8"), "near '<redacted>'");
        assert_eq!(redact("an unrelated message", "a1b2c3d4e5f6g7h8"), "an unrelated message");
    }

    #[test]
    fn names_in_a_json_credential_are_not_secret() {
        let secret =
            r#"{"client_id": "9f8e7d6c", "nested": {"client_secret": "tops3cret-tops3cret"}, "pin": 12345}"#;
        assert_eq!(redact("client_secret is too short", secret), "client_secret is too short");
        assert_eq!(redact("bad tops3cret-tops3cret, bad 12345", secret), "bad <redacted>, bad <redacted>");
        assert_eq!(redact(secret, secret).matches(REDACTED).count(), 3);
    }

    #[test]
    fn values_in_a_json_credential_are_secret_however_they_are_spelled() {
        for secret in [
            r#"{"password": "gehe\u00edm-\u00fcbel\u00f6s"}"#,
            r#"{"p": "\u0068\u0075\u006e\u0074\u0065\u0072\u0032"}"#,
            r#"{"password": "first-password-here", "password": "second-password"}"#,
            r#"{"url": "https:\/\/user:pass\/word", "quoted": "say \"friend\" and enter\\"}"#,
            r#"{"pin": 1234567890123456789012345, "price": 1.2500, "negative": -1.5e+10}"#,
            r#"["first-password-here", ["deep-password"], {"a" : "spaced-password"}]"#,
        ] {
            let redacted = redact(&format!("rejected: {secret}"), secret);
            let values = json_values(secret).filter(|value| value.trim_matches('"').len() >= SHORT);
            for value in values {
                assert!(!redacted.contains(value.trim_matches('"')), "{redacted}");
            }
            assert!(redacted.starts_with("rejected: ") && redacted.contains(REDACTED), "{redacted}");
        }
        assert_eq!(
            redact("gehe\u{ed}m-\u{fc}bel\u{f6}s", r#"{"p": "gehe\u00edm-\u00fcbel\u00f6s"}"#),
            REDACTED
        );
    }

    #[test]
    fn of_a_short_secret_not_even_the_gaps_are_shown() {
        assert_eq!(redact("abracadabra", "a"), REDACTED);
        assert_eq!(redact("pin 4711 is taken", "4711"), "pin <redacted> is taken");
    }

    #[test]
    fn a_reason_is_cut() {
        assert_eq!(reason(&"ü".repeat(600), "irrelevant").chars().count(), MAX_REASON_CHARS);
    }

    proptest! {
        #[test]
        fn no_eight_bytes_of_the_secret_survive(
            secret in "[a-zA-Z0-9ü😀]{8,60}", before in "\\PC{0,40}", after in "\\PC{0,40}",
        ) {
            // The replacement itself can complete a match only where the secret looks like it.
            prop_assume!(!secret.contains("redacted"));
            let redacted = redact(&format!("{before}{secret}{after}"), &secret);
            for window in secret.as_bytes().windows(WINDOW) {
                prop_assert!(!redacted.as_bytes().windows(WINDOW).any(|seen| seen == window));
            }
        }

        #[test]
        fn noise_never_panics(text in "\\PC*", secret in "\\PC*") {
            let _ = reason(&text, &secret);
        }
    }
}
