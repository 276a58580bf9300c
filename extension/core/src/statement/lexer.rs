//! The lexical structure of SQL, as far as it tells a literal from what is none. Any bytes have one: a text that is cut off,
//! or no SQL at all, ends in a token that reaches to its end.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `'...'` in any of its forms.
    String,
    /// `B'...'` or `X'...'`.
    BitString,
    /// `$tag$...$tag$`
    DollarQuoted,
    Number,
    /// `$1`
    Parameter,
    Word,
    /// `"..."`
    QuotedName,
    /// `U&"..."`, which may spell any name.
    UnicodeName,
    Comment,
    /// An operator or punctuation: one byte, or one of `::`, `:=`, `=>`, `||`.
    Symbol,
}

impl Kind {
    /// Whether it is a literal that can hold any text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::String | Self::BitString | Self::DollarQuoted)
    }
}

/// A token: all of it, and what is between its quotes.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub whole: Range<usize>,
    pub content: Range<usize>,
}

/// The tokens of a text. `backslashes` says whether they escape in a plain string, as they do when
/// `standard_conforming_strings` is off.
pub(super) fn tokens(text: &[u8], backslashes: bool) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, backslashes };
    std::iter::from_fn(|| lexer.next_token()).collect()
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    backslashes: bool,
}

impl Lexer<'_> {
    fn next_token(&mut self) -> Option<Token> {
        self.at += self.rest().iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
        let start = self.at;
        let first = *self.rest().first()?;
        let (kind, content) = match first {
            b'\'' => (Kind::String, self.quoted(1, b'\'', self.backslashes)),
            b'"' => (Kind::QuotedName, self.quoted(1, b'"', false)),
            b'-' if self.looks_at(b"--") => (Kind::Comment, self.line_comment()),
            b'/' if self.looks_at(b"/*") => (Kind::Comment, self.block_comment()),
            b'$' => self.dollar(),
            b'0'..=b'9' => (Kind::Number, self.number()),
            _ if is_word_start(first) => self.word(),
            _ => {
                let two = [&b"::"[..], b":=", b"=>", b"||"].iter().any(|symbol| self.looks_at(symbol));
                self.at += if two { 2 } else { 1 };
                (Kind::Symbol, start..self.at)
            }
        };
        Some(Token { kind, whole: start..self.at, content })
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    fn looks_at(&self, prefix: &[u8]) -> bool {
        self.rest().starts_with(prefix)
    }

    fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.at;
        self.at += self.rest().iter().take_while(|byte| accepts(**byte)).count();
        start..self.at
    }

    /// With whatever is joined to it, so that no word begins where a number ends.
    fn number(&mut self) -> Range<usize> {
        self.take_while(|byte| is_word_start(byte) || byte.is_ascii_digit() || byte == b'.')
    }

    /// Up to the closing quote; a doubled one does not close.
    fn quoted(&mut self, opening: usize, quote: u8, backslashes: bool) -> Range<usize> {
        let start = self.at + opening;
        let mut at = start;
        while let Some(&byte) = self.text.get(at) {
            match byte {
                b'\\' if backslashes => at += 2,
                _ if byte == quote && self.text.get(at + 1) == Some(&quote) => at += 2,
                _ if byte == quote => {
                    self.at = at + 1;
                    return start..at;
                }
                _ => at += 1,
            }
        }
        self.up_to_the_end(start)
    }

    fn line_comment(&mut self) -> Range<usize> {
        let start = self.at + 2;
        let length = self.text[start..].iter().take_while(|byte| !b"\r\n".contains(byte)).count();
        self.at = start + length;
        start..self.at
    }

    fn block_comment(&mut self) -> Range<usize> {
        let start = self.at + 2;
        let (mut at, mut depth) = (start, 1);
        while at < self.text.len() {
            let pair = self.text.get(at..at + 2).unwrap_or_default();
            match pair {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                self.at = at;
                return start..at - 2;
            }
        }
        self.up_to_the_end(start)
    }

    /// A parameter, a dollar-quoted string, or a stray `$`.
    fn dollar(&mut self) -> (Kind, Range<usize>) {
        let start = self.at;
        let tag_end = self.text[start + 1..]
            .iter()
            .position(|&byte| !(is_word_start(byte) || byte.is_ascii_digit()))
            .map_or(self.text.len(), |length| start + 1 + length);
        let tag = &self.text[start + 1..tag_end];
        match tag.first() {
            Some(b'0'..=b'9') => {
                self.at += 1;
                let digits = self.take_while(|byte| byte.is_ascii_digit());
                (Kind::Parameter, digits)
            }
            _ if self.text.get(tag_end) == Some(&b'$') => {
                let delimiter = &self.text[start..=tag_end];
                let content = tag_end + 1;
                let length =
                    self.text[content..].windows(delimiter.len()).position(|window| window == delimiter);
                match length {
                    Some(length) => {
                        self.at = content + length + delimiter.len();
                        (Kind::DollarQuoted, content..content + length)
                    }
                    None => (Kind::DollarQuoted, self.up_to_the_end(content)),
                }
            }
            _ => {
                self.at += 1;
                (Kind::Symbol, start..self.at)
            }
        }
    }

    /// A word, or what a letter before a quote makes of it.
    fn word(&mut self) -> (Kind, Range<usize>) {
        match *self.rest() {
            [b'e' | b'E', b'\'', ..] => (Kind::String, self.quoted(2, b'\'', true)),
            [b'n' | b'N', b'\'', ..] => (Kind::String, self.quoted(2, b'\'', self.backslashes)),
            [b'b' | b'B' | b'x' | b'X', b'\'', ..] => (Kind::BitString, self.quoted(2, b'\'', false)),
            [b'u' | b'U', b'&', b'\'', ..] => (Kind::String, self.quoted(3, b'\'', false)),
            [b'u' | b'U', b'&', b'"', ..] => (Kind::UnicodeName, self.quoted(3, b'"', false)),
            _ => (
                Kind::Word,
                self.take_while(|byte| is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'),
            ),
        }
    }

    fn up_to_the_end(&mut self, from: usize) -> Range<usize> {
        self.at = self.text.len();
        from.min(self.at)..self.at
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let tokens = tokens(text.as_bytes(), false);
        tokens.into_iter().map(|token| (token.kind, &text[token.content])).collect()
    }

    #[test]
    fn literals_are_told_from_the_rest() {
        assert_eq!(
            kinds(r#"SELECT f('it''s', E'a\'b', U&'\0061', X'1f', $q$x$$y$q$, $1, 1.5e3, "a""b", U&"c")"#)
                .into_iter()
                .filter(|(kind, _)| *kind != Kind::Symbol)
                .collect::<Vec<_>>(),
            [
                (Kind::Word, "SELECT"),
                (Kind::Word, "f"),
                (Kind::String, "it''s"),
                (Kind::String, r"a\'b"),
                (Kind::String, r"\0061"),
                (Kind::BitString, "1f"),
                (Kind::DollarQuoted, "x$$y"),
                (Kind::Parameter, "1"),
                (Kind::Number, "1.5e3"),
                (Kind::QuotedName, r#"a""b"#),
                (Kind::UnicodeName, "c"),
            ]
        );
    }

    #[test]
    fn comments_nest_and_end() {
        assert_eq!(
            kinds("a /* b /* c */ d */ e -- f\ng"),
            [
                (Kind::Word, "a"),
                (Kind::Comment, " b /* c */ d "),
                (Kind::Word, "e"),
                (Kind::Comment, " f"),
                (Kind::Word, "g"),
            ]
        );
    }

    #[test]
    fn what_is_not_closed_reaches_up_to_the_end() {
        for text in ["'abc", "$$abc", "$tag$abc$ta", "\"abc", "/* abc", "E'abc\\", "'", "$$", "/*", "E'\\"] {
            let tokens = tokens(text.as_bytes(), false);
            assert_eq!(tokens.len(), 1, "{text}");
            assert_eq!((tokens[0].whole.end, tokens[0].content.end), (text.len(), text.len()), "{text}");
        }
    }

    #[test]
    fn a_backslash_escapes_only_where_it_does() {
        assert_eq!(kinds(r"'a\' b")[0], (Kind::String, r"a\"));
        let token = &tokens(br"'a\' b'", true)[0];
        assert_eq!(token.content, 1..6);
    }
}
