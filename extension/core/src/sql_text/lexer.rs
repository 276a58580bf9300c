//! The lexical structure of SQL, as far as needed to find literals. Any bytes have tokens: a text that is cut
//! off, or no SQL at all, has a last token up to its end.
//!
//! A masked literal must be the same token to Postgres' own scanner, because `pg_stat_statements` scans the
//! text again.

use super::names::plain_names;
use memchr::memmem;
use std::ops::Range;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `'...'` in any of its forms.
    String,
    /// `B'...'` or `X'...'`.
    BitString,
    /// `$tag$...$tag$`
    DollarQuoted,
    /// `$tag$` at either end of code that names one of the functions: the tokens between them are those of
    /// the code.
    Tag,
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
    /// Whether the token is a literal that can hold any text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::String | Self::BitString | Self::DollarQuoted)
    }
}

/// A token: the whole range, and the range between its quotes.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub whole: Range<usize>,
    pub content: Range<usize>,
}

/// The tokens of a text, one after the other.
pub(super) fn tokens(text: &[u8], backslashes: bool) -> impl Iterator<Item = Token> {
    let mut position = Position::new(backslashes);
    std::iter::from_fn(move || position.next_token(text))
}

/// The position of the lexer. It does not borrow the text, so that read tokens may be overwritten.
pub(super) struct Position {
    at: usize,
    backslashes: bool,
    /// The literal that the next quote continues, if a line ends before that quote.
    continued: Option<Continued>,
    /// The tag that ends the current code.
    closing: Option<Range<usize>>,
    /// Whether a dollar-quoted body that names a function is read as code, or as a literal.
    reads_code: bool,
}

#[derive(Clone, Copy)]
struct Continued {
    kind: Kind,
    backslashes: bool,
    is_next_line: bool,
}

impl Position {
    /// The beginning. `backslashes` tells whether a backslash escapes in a plain string, as with
    /// `standard_conforming_strings` off.
    pub const fn new(backslashes: bool) -> Self {
        Self { at: 0, backslashes, continued: None, closing: None, reads_code: true }
    }

    /// The beginning, for the tokens of Postgres' own scanner.
    pub const fn without_code(backslashes: bool) -> Self {
        Self { reads_code: false, ..Self::new(backslashes) }
    }

    /// The next token of the text. An unclosed token within code ends with the code.
    pub fn next_token(&mut self, text: &[u8]) -> Option<Token> {
        let end = self.closing.as_ref().map_or(text.len(), |tag| tag.start);
        let token = Lexer { text: &text[..end], position: self }.next_token();
        token.or_else(|| {
            let whole = self.closing.take()?;
            self.at = whole.end;
            self.continued = None;
            Some(Token { kind: Kind::Tag, content: whole.start + 1..whole.end - 1, whole })
        })
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    position: &'a mut Position,
}

impl Lexer<'_> {
    fn next_token(&mut self) -> Option<Token> {
        let spaces = self.take_while(is_space);
        if let Some(continued) = &mut self.position.continued {
            continued.is_next_line |= self.text[spaces].iter().any(|byte| b"\r\n".contains(byte));
        }
        let start = self.position.at;
        let first = *self.rest().first()?;
        let is_line_comment = self.looks_at(b"--");
        let continued = self.position.continued.take();
        let (kind, content) = match (first, continued) {
            (b'\'', Some(continued)) if continued.is_next_line => {
                self.string(continued.kind, 1, continued.backslashes)
            }
            (b'\'', _) => self.string(Kind::String, 1, self.position.backslashes),
            (b'"', _) => (Kind::QuotedName, self.quoted(1, b'"', false)),
            (b'-', _) if is_line_comment => {
                self.position.continued = continued;
                (Kind::Comment, self.line_comment())
            }
            (b'/', _) if self.looks_at(b"/*") => (Kind::Comment, self.block_comment()),
            (b'$', _) => self.dollar(),
            (b'0'..=b'9', _) => (Kind::Number, self.number()),
            _ if is_word_start(first) => self.word(),
            _ => {
                let two = [&b"::"[..], b":=", b"=>", b"||"].iter().any(|symbol| self.looks_at(symbol));
                self.position.at += if two { 2 } else { 1 };
                (Kind::Symbol, start..self.position.at)
            }
        };
        Some(Token { kind, whole: start..self.position.at, content })
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.position.at..]
    }

    fn looks_at(&self, prefix: &[u8]) -> bool {
        self.rest().starts_with(prefix)
    }

    fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.position.at;
        self.position.at += self.rest().iter().take_while(|byte| accepts(**byte)).count();
        start..self.position.at
    }

    /// With joined letters, so that no word begins where a number ends.
    fn number(&mut self) -> Range<usize> {
        self.take_while(|byte| is_word_start(byte) || byte.is_ascii_digit() || byte == b'.')
    }

    /// A literal in single quotes, which may continue in the next line.
    fn string(&mut self, kind: Kind, opening: usize, backslashes: bool) -> (Kind, Range<usize>) {
        let content = self.quoted(opening, b'\'', backslashes);
        self.position.continued = Some(Continued { kind, backslashes, is_next_line: false });
        (kind, content)
    }

    /// Up to the closing quote; a doubled quote does not close.
    fn quoted(&mut self, opening: usize, quote: u8, backslashes: bool) -> Range<usize> {
        let start = self.position.at + opening;
        let mut at = start;
        while let Some(&byte) = self.text.get(at) {
            match byte {
                b'\\' if backslashes => at += 2,
                _ if byte == quote && self.text.get(at + 1) == Some(&quote) => at += 2,
                _ if byte == quote => {
                    self.position.at = at + 1;
                    return start..at;
                }
                _ => at += 1,
            }
        }
        self.up_to_the_end(start)
    }

    fn line_comment(&mut self) -> Range<usize> {
        let start = self.position.at + 2;
        let length = self.text[start..].iter().take_while(|byte| !b"\r\n".contains(byte)).count();
        self.position.at = start + length;
        start..self.position.at
    }

    fn block_comment(&mut self) -> Range<usize> {
        let start = self.position.at + 2;
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
                self.position.at = at;
                return start..at - 2;
            }
        }
        self.up_to_the_end(start)
    }

    /// A parameter, a dollar-quoted string, or a stray `$`.
    fn dollar(&mut self) -> (Kind, Range<usize>) {
        let start = self.position.at;
        let tag_end = self.text[start + 1..]
            .iter()
            .position(|&byte| !(is_word_start(byte) || byte.is_ascii_digit()))
            .map_or(self.text.len(), |length| start + 1 + length);
        let tag = &self.text[start + 1..tag_end];
        match tag.first() {
            Some(b'0'..=b'9') => {
                self.position.at += 1;
                let digits = self.take_while(|byte| byte.is_ascii_digit());
                (Kind::Parameter, digits)
            }
            _ if self.text.get(tag_end) == Some(&b'$') => {
                let delimiter = &self.text[start..=tag_end];
                let content = tag_end + 1;
                let length = memmem::find(&self.text[content..], delimiter);
                let content = match length {
                    Some(length) => content..content + length,
                    None => content.min(self.text.len())..self.text.len(),
                };
                // Code in code is a literal.
                let is_code = self.position.reads_code
                    && self.position.closing.is_none()
                    && length.is_some()
                    && plain_names(&self.text[content.clone()]).next().is_some();
                if is_code {
                    self.position.at = content.start;
                    self.position.closing = Some(content.end..content.end + delimiter.len());
                    return (Kind::Tag, start + 1..tag_end);
                }
                self.position.at = length.map_or(self.text.len(), |_| content.end + delimiter.len());
                (Kind::DollarQuoted, content)
            }
            _ => {
                self.position.at += 1;
                (Kind::Symbol, start..self.position.at)
            }
        }
    }

    /// A word, or a literal or name with a letter before its quote.
    fn word(&mut self) -> (Kind, Range<usize>) {
        match *self.rest() {
            [b'e' | b'E', b'\'', ..] => self.string(Kind::String, 2, true),
            [b'n' | b'N', b'\'', ..] => self.string(Kind::String, 2, self.position.backslashes),
            [b'b' | b'B' | b'x' | b'X', b'\'', ..] => self.string(Kind::BitString, 2, false),
            [b'u' | b'U', b'&', b'\'', ..] => self.string(Kind::String, 3, false),
            [b'u' | b'U', b'&', b'"', ..] => (Kind::UnicodeName, self.quoted(3, b'"', false)),
            _ => (
                Kind::Word,
                self.take_while(|byte| is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'),
            ),
        }
    }

    fn up_to_the_end(&mut self, from: usize) -> Range<usize> {
        self.position.at = self.text.len();
        from.min(self.position.at)..self.position.at
    }
}

/// White space, to which Postgres 16 has added the vertical tab.
pub(super) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        tokens(text.as_bytes(), false).map(|token| (token.kind, &text[token.content])).collect()
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
    fn literals_go_on_in_the_next_line_as_they_began() {
        for between in ["\n", " \r ", " -- it's\n -- more\n\t"] {
            let text = format!("E'a'{between}'b\\'c' 'd'");
            let literals: Vec<_> =
                tokens(text.as_bytes(), false).filter(|token| token.kind.is_text()).collect();
            let literals: Vec<_> = literals.into_iter().map(|token| &text[token.content]).collect();
            assert_eq!(literals, ["a", r"b\'c", "d"], "{text}");
        }
        for between in [" ", "/*\n*/", "\n,\n"] {
            let text = format!("E'a'{between}'b\\' || c");
            assert_eq!(
                tokens(text.as_bytes(), false).filter(|token| token.kind == Kind::Word).count(),
                1,
                "{text}"
            );
        }
        assert_eq!(kinds("X'1f'\n'2e'")[1], (Kind::BitString, "2e"));
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
            let tokens: Vec<_> = tokens(text.as_bytes(), false).collect();
            assert_eq!(tokens.len(), 1, "{text}");
            assert_eq!((tokens[0].whole.end, tokens[0].content.end), (text.len(), text.len()), "{text}");
        }
    }

    #[test]
    fn a_backslash_escapes_only_where_it_does() {
        assert_eq!(kinds(r"'a\' b")[0], (Kind::String, r"a\"));
        assert_eq!(tokens(br"'a\' b'", true).next().unwrap().content, 1..6);
    }
}
