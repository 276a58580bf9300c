//! `host=db.example port=5433 password='two words'`: libpq's key=value form.

use super::{error::SettingsError, values::Values};
use std::{iter::Peekable, str::Chars};
use zeroize::Zeroizing;

pub(super) fn parse(text: &str) -> Result<Values, SettingsError> {
    let mut values = Values::default();
    let mut rest = text.chars().peekable();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(values);
        }
        let keyword = word(&mut rest, |next| next == '=' || next.is_ascii_whitespace());
        skip_space(&mut rest);
        if rest.next() != Some('=') {
            // Not shown, because the text may be a part of an unquoted password.
            return Err(SettingsError::Conninfo("a keyword without \"=\""));
        }
        skip_space(&mut rest);
        let value = if rest.next_if_eq(&'\'').is_some() {
            let value = word(&mut rest, |next| next == '\'');
            rest.next().ok_or(SettingsError::Conninfo("a quote that is not closed"))?;
            value
        } else {
            word(&mut rest, |next| next.is_ascii_whitespace())
        };
        values.set(&keyword, value)?;
    }
}

/// Reads up to the character that ends the word. A backslash makes the next character literal.
fn word(rest: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> Zeroizing<String> {
    // Capacity for the rest and the peeked character: a buffer that grows leaves a copy of its content
    // behind.
    let mut word = Zeroizing::new(String::with_capacity(rest.size_hint().1.unwrap_or(0) + 4));
    while let Some(next) = rest.next_if(|&next| !ends(next)) {
        word.extend(if next == '\\' { rest.next() } else { Some(next) });
    }
    word
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(char::is_ascii_whitespace).is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_backslashes_are_read_as_libpq_does() {
        let values =
            parse(r"host = db.example  port=5433 password='it\'s \\ 2 words' user=a\ b dbname=''").unwrap();
        assert_eq!(values.get("host"), Some("db.example"));
        assert_eq!(values.get("port"), Some("5433"));
        assert_eq!(values.get("password"), Some(r"it's \ 2 words"));
        assert_eq!(values.get("user"), Some("a b"));
        assert_eq!(values.get("dbname"), Some(""));
        assert_eq!(parse("  ").unwrap().get("host"), None);
    }

    #[test]
    fn an_error_never_shows_the_password() {
        for text in ["password=hunter2 hunter3", "password='hunter2", "password=hunter2 hunter3=hunter4 "] {
            let error = parse(text).err().unwrap().to_string();
            assert!(!error.contains("hunter2") && !error.contains("hunter4"), "{error}");
        }
        assert_eq!(
            parse("sslrot=x password=p").err().unwrap().to_string(),
            "the connection settings have an unknown keyword \"sslrot\""
        );
    }
}
