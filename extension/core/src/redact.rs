//! A text that other code wrote, without the secret that it may have put there.
//!
//! Any eight bytes in a row that the text shares with the secret are taken out, in capital or small (ASCII) letters, and
//! in each of the forms that a message is likely to hold it in: plain, quoted for SQL, escaped for JSON, in hex and in
//! base64. So is a shorter secret, as a whole. Of a secret that is a JSON object only the values are secret and not the
//! names, so that `client_id is missing` can still be said; each value is secret as it is spelled there, and as it is
//! meant.
//!
//! Code that means to smuggle a secret out (one letter at a time, reversed, summed up) is not stopped by this.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use std::fmt::Write;
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

/// What stands where a secret was.
pub const REDACTED: &str = "<redacted>";

/// The longest reason that a validator or sync handler may give, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// Searching for a secret takes a hundred times its length in memory.
const MAX_SEARCHED_BYTES: usize = 64 << 10;
const WINDOW: usize = 8;
/// Where the secret is shorter, the gaps alone would tell what it was.
const SHORT: usize = 4;

/// `text` without `secret`, cut at [`MAX_REASON_CHARS`].
#[must_use]
pub fn reason(text: &str, secret: &str) -> String {
    if secret.len() > MAX_SEARCHED_BYTES {
        return format!(
            "{REDACTED} (no reason is shown that was given for a value of more than {MAX_SEARCHED_BYTES} bytes)"
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
    let needles = Needles::of(secret);
    let found = needles.find_in(text.as_bytes());
    if found.is_empty() {
        return text.to_owned();
    }
    if secret.len() < SHORT {
        return REDACTED.to_owned();
    }
    let mut redacted = String::with_capacity(text.len());
    let mut kept_to = 0;
    for Range { start, end } in found {
        // A match may begin or end within a character.
        let start = text.floor_char_boundary(start).max(kept_to);
        let end = text.ceil_char_boundary(end);
        redacted.push_str(&text[kept_to..start]);
        redacted.push_str(REDACTED);
        kept_to = end;
    }
    redacted.push_str(&text[kept_to..]);
    redacted
}

/// What is searched for, all in lower case.
struct Needles {
    windows: Zeroizing<Vec<u64>>,
    short: Vec<Zeroizing<Vec<u8>>>,
}

impl Needles {
    fn of(secret: &str) -> Self {
        let mut needles = Self { windows: Zeroizing::new(Vec::new()), short: Vec::new() };
        match serde_json::from_str::<Value>(secret) {
            Ok(mut document @ (Value::Object(_) | Value::Array(_))) => {
                wipe(&mut document);
                json_values(secret).for_each(|token| needles.add_json_value(token));
            }
            _ => needles.add_written(secret),
        }
        needles.add_encoded(secret);
        needles.windows.sort_unstable();
        needles.windows.dedup();
        needles
    }

    /// A string or number of a JSON text.
    fn add_json_value(&mut self, token: &str) {
        let spelled = token.trim_matches('"');
        if spelled.len() >= SHORT {
            self.add_written(spelled);
            self.add_encoded(spelled);
        }
        let meant = serde_json::from_str::<String>(token).map(Zeroizing::new);
        if let Some(meant) = meant.ok().filter(|meant| meant.len() >= SHORT && meant.as_str() != spelled) {
            self.add_written(&meant);
            self.add_encoded(&meant);
        }
    }

    /// As it is, and as SQL and JSON would quote it.
    fn add_written(&mut self, text: &str) {
        self.add(text.as_bytes());
        if text.contains(['\'', '\\']) {
            let mut quoted = Zeroizing::new(text.replace('\'', "''"));
            self.add(quoted.as_bytes());
            let doubled = quoted.replace('\\', "\\\\");
            quoted.zeroize();
            self.add(Zeroizing::new(doubled).as_bytes());
        }
        if let Ok(escaped) = serde_json::to_string(text).map(Zeroizing::new)
            && escaped.len() > text.len() + 2
        {
            self.add(&escaped.as_bytes()[1..escaped.len() - 1]);
        }
    }

    /// In hex and in base64, wherever in a group of three bytes it begins.
    fn add_encoded(&mut self, text: &str) {
        let mut hex = Zeroizing::new(String::with_capacity(2 * text.len()));
        for byte in text.bytes() {
            // Writing into a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        self.add(hex.as_bytes());
        for skip in 0..3 {
            let bytes = text.as_bytes().get(skip..).unwrap_or_default();
            // The last character of an unpadded group depends on what follows.
            let whole = bytes.len() / 3 * 3;
            self.add(Zeroizing::new(STANDARD_NO_PAD.encode(&bytes[..whole])).as_bytes());
            self.add(Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..whole])).as_bytes());
        }
        self.add(Zeroizing::new(STANDARD_NO_PAD.encode(text)).as_bytes());
    }

    fn add(&mut self, form: &[u8]) {
        let form = Zeroizing::new(form.to_ascii_lowercase());
        if form.len() >= WINDOW {
            self.windows.extend(windows(&form));
        } else if !form.is_empty() {
            self.short.push(form);
        }
    }

    /// The places where the secret stands in `text`, in order and apart.
    fn find_in(&self, text: &[u8]) -> Vec<Range<usize>> {
        let text = Zeroizing::new(text.to_ascii_lowercase());
        let long = windows(&text)
            .enumerate()
            .filter(|(_, window)| self.windows.binary_search(window).is_ok())
            .map(|(at, _)| at..at + WINDOW);
        let short = self.short.iter().flat_map(|needle| {
            text.windows(needle.len())
                .enumerate()
                .filter(|(_, candidate)| *candidate == needle.as_slice())
                .map(|(at, _)| at..at + needle.len())
        });
        let mut found: Vec<Range<usize>> = long.chain(short).collect();
        found.sort_unstable_by_key(|range| range.start);
        found.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        found
    }
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.array_windows().map(|window: &[u8; WINDOW]| u64::from_ne_bytes(*window))
}

/// The strings and numbers of a valid JSON text, but for the names of members. A parsed document would not do: it has
/// lost how they were spelled, and of two members with one name all but the last.
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
