//! Whether a text names a function that takes a secret.
//!
//! Every statement and every message of the server passes here, so the first check takes nanoseconds. A name
//! counts in any spelling that Postgres' scanner accepts. A text that may spell any name counts too.

use super::hide::MAX_BYTES;
use super::known::FUNCTIONS;
use super::lexer::{Kind, is_space, tokens};
use memchr::{memchr, memchr_iter, memchr2_iter, memchr3, memmem};

/// Whether a text names such a function, other than by its signature (`... ON FUNCTION name(text, text,
/// text)`).
#[must_use]
pub fn names_one(text: &[u8]) -> bool {
    // Most texts have none of the three characters with which an encoded name begins.
    plain_names(text).any(|(start, end)| !is_signature(text, start, end))
        || (text.len() <= MOST_DECODED
            && memchr3(b'\\', b'\'', b'&', text).is_some()
            && ((may_be_encoded(text) && spells_one(text))
                || (memchr_iter(b'&', text).any(|at| is_unicode(text, at)) && spells_one_in_unicode(text))))
}

/// Whether a message, which may quote anything, names such a function. In a message that is too long to be
/// copied, only the plain spelling counts: most such messages belong to other applications, with parameters
/// of megabytes.
#[must_use]
pub fn quotes_one(message: &[u8]) -> bool {
    if message.len() <= MAX_BYTES { names_one(message) } else { plain_names(message).next().is_some() }
}

/// In a longer text, in bytes, only the plain spelling of a name counts, because decoding cannot be
/// interrupted.
const MOST_DECODED: usize = 16 << 20;

/// Whether a statement may execute a prepared one, by whatever name.
#[must_use]
pub fn executes(text: &[u8]) -> bool {
    memchr2_iter(b'x', b'X', text).any(|at| is_around(text, at, b"e", b"xecute"))
}

/// The places of the names in their plain spelling, in upper or lower case.
pub(super) fn plain_names(text: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    const TAIL: &[u8] = b"_credentials";
    memchr_iter(b'_', text).filter(move |&at| is_around(text, at, b"", TAIL)).filter_map(move |at| {
        let end = at + TAIL.len();
        // A name that goes on is another name. A letter before the name may be of an escape: E'\nadmin_...'.
        let goes_on = text.get(end).is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name = FUNCTIONS.iter().find(|(name, _)| is_around(text, end, name, b""))?.0;
        (!goes_on).then_some((end - name.len(), end))
    })
}

fn is_around(text: &[u8], at: usize, before: &[u8], from: &[u8]) -> bool {
    let (left, right) = text.split_at(at);
    left.len() >= before.len()
        && left[left.len() - before.len()..].eq_ignore_ascii_case(before)
        && right.get(..from.len()).is_some_and(|right| right.eq_ignore_ascii_case(from))
}

/// Whether `U&"` or `U&'` is here, which spell a name with any escape character. Within a literal the quote
/// may be escaped.
fn is_unicode(text: &[u8], at: usize) -> bool {
    let quote = text[at + 1..].iter().find(|byte| **byte != b'\\');
    is_around(text, at, b"u", b"") && quote.is_some_and(|quote| b"'\"".contains(quote))
}

/// Whether a name is a signature: `FUNCTION name`, followed by nothing or by words in parentheses.
fn is_signature(text: &[u8], start: usize, end: usize) -> bool {
    const LOOK_AHEAD: usize = 256;
    const SCHEMA: &[u8] = b"integration_credentials.";
    let is_blank = |byte: &u8| b" \t".contains(byte);
    let mut before = &text[..start];
    if let Some((rest, schema)) = before.split_last_chunk::<{ SCHEMA.len() }>()
        && schema.eq_ignore_ascii_case(SCHEMA)
    {
        before = rest;
    }
    let blanks = before.iter().rev().take(LOOK_AHEAD).take_while(|byte| is_blank(byte)).count();
    let before = &before[..before.len() - blanks];
    let announced = blanks > 0
        && [&b"function"[..], b"procedure", b"routine"]
            .iter()
            .any(|word| is_around(before, before.len(), word, b""));
    let after = &text[end..text.len().min(end + LOOK_AHEAD)];
    let after = after.trim_ascii_start();
    let arguments = match after.strip_prefix(b"(") {
        None => true,
        Some(arguments) => memchr(b')', arguments).is_some_and(|length| {
            let is_word =
                |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_' || *byte == b',' || is_blank(byte);
            arguments[..length].iter().all(is_word)
        }),
    };
    announced && arguments
}

/// Whether a text has backslashes, or a literal that may continue in a next line.
fn may_be_encoded(text: &[u8]) -> bool {
    memchr(b'\\', text).is_some() || memchr_iter(b'\'', text).any(|at| may_continue(&text[..at]))
}

/// Whether a quote after this text may continue a literal: it is the first of its line, and the text before that line
/// ends with a quote or with a comment.
fn may_continue(text: &[u8]) -> bool {
    let is_end = |byte: &u8| b"\r\n".contains(byte);
    let spaces = text.iter().rev().take_while(|byte| is_space(**byte)).count();
    let (text, spaces) = text.split_at(text.len() - spaces);
    spaces.iter().any(is_end)
        && (text.last() == Some(&b'\'')
            || text.rsplit(is_end).next().is_some_and(|line| memmem::find(line, b"--").is_some()))
}

/// Whether a text spells a name with escapes of E'...', or in literals that continue in the next line, with
/// comments between them. The text is read in three ways: without its comments, as if `--` meant nothing, and
/// only its literals.
fn spells_one(text: &[u8]) -> bool {
    let mut literals = Matcher::default();
    let is_spelled = tokens(text, true)
        .filter(|token| token.kind == Kind::String)
        .any(|token| decoded_bytes(&text[token.content]).any(|byte| literals.matches(byte)));
    is_spelled || literals.matches(b' ') || spells_one_anywhere(text)
}

fn decoded_bytes(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < text.len()).then(|| {
            let character = decoded(text, at);
            at = character.end;
            character.byte
        })
    })
}

fn spells_one_anywhere(text: &[u8]) -> bool {
    let mut whole = Matcher::default();
    let mut uncommented = Matcher::default();
    let mut is_comment = false;
    let mut last = [0; 2];
    let mut has_unicode = false;
    let mut at = 0;
    while at < text.len() {
        let Character { byte, is_escaped, end } = decoded(text, at);
        // An escape that yields a backslash may spell anything.
        if is_escaped && byte == b'\\' {
            return true;
        }
        has_unicode |= b"'\"".contains(&byte) && last == *b"u&";
        if byte != b'\\' {
            last = [last[1], byte];
        }
        if !is_escaped && text[at..].starts_with(b"--") {
            is_comment = true;
        } else if is_comment && b"\r\n".contains(&byte) {
            is_comment = false;
        }
        if whole.matches(byte) || (!is_comment && uncommented.matches(byte)) {
            return true;
        }
        at = end;
    }
    whole.matches(b' ') || uncommented.matches(b' ') || (has_unicode && spells_one_in_unicode(text))
}

/// Whether a text with `U&` and a quote spells a name, with any escape character.
fn spells_one_in_unicode(text: &[u8]) -> bool {
    let mut matcher = Matcher::default();
    let mut at = 0;
    while at < text.len() {
        let Character { byte, is_escaped, end } =
            decoded_by_any(text, at).unwrap_or_else(|| decoded(text, at));
        if (is_escaped && byte == b'\\') || matcher.matches(byte) {
            return true;
        }
        at = end;
    }
    matcher.matches(b' ')
}

/// A character of one byte, and the end of its spelling.
struct Character {
    byte: u8,
    is_escaped: bool,
    end: usize,
}

/// `!0061` or `!+000061`, with any byte in place of the `!`.
fn decoded_by_any(text: &[u8], at: usize) -> Option<Character> {
    let mut digits = at + 1;
    skip_joint(text, &mut digits);
    let count = if text.get(digits) == Some(&b'+') {
        digits += 1;
        6
    } else {
        4
    };
    let (code, length, end) = number(text, digits, 16, count);
    let is_of_code = |byte: &u8| byte.is_ascii_graphic() || is_space(*byte);
    let byte = u8::try_from(code).ok().filter(|byte| length == count && is_of_code(byte))?;
    Some(Character { byte: byte.to_ascii_lowercase(), is_escaped: true, end })
}

/// The next character, by the escapes of E'...'.
fn decoded(text: &[u8], at: usize) -> Character {
    let plain = Character { byte: text[at].to_ascii_lowercase(), is_escaped: false, end: at + 1 };
    if text[at] != b'\\' {
        return plain;
    }
    let mut digits = at + 1;
    skip_joint(text, &mut digits);
    let (digits, radix, most) = match text.get(digits) {
        Some(b'x') => (digits + 1, 16, 2),
        Some(b'u') => (digits + 1, 16, 4),
        Some(b'U') => (digits + 1, 16, 8),
        Some(b'0'..=b'7') => (digits, 8, 3),
        // A space or a line end of the code within the literal, where literals of that code continue in a next line.
        Some(&letter @ (b'n' | b'r' | b't' | b'f' | b'b')) => {
            let byte = match letter {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'f' => 0x0c,
                _ => 0x08,
            };
            return Character { byte, is_escaped: true, end: digits + 1 };
        }
        _ => return plain,
    };
    let (code, length, end) = number(text, digits, radix, most);
    if length == 0 {
        return plain;
    }
    // A code beyond a byte is no letter of a name.
    let byte = u8::try_from(code).unwrap_or(0xff).to_ascii_lowercase();
    Character { byte, is_escaped: true, end }
}

/// A number of at most so many digits, its number of digits, and its end.
fn number(text: &[u8], mut at: usize, radix: u32, most: usize) -> (u32, usize, usize) {
    let (mut code, mut length, mut end) = (0_u32, 0, at);
    while length < most {
        skip_joint(text, &mut at);
        let Some(digit) = text.get(at).and_then(|&byte| char::from(byte).to_digit(radix)) else { break };
        code = code.wrapping_mul(radix).wrapping_add(digit);
        length += 1;
        at += 1;
        end = at;
    }
    (code, length, end)
}

/// Skips quotes between which a line ends, with or without comments: there a literal continues, and so does
/// an escape of code within the literal.
fn skip_joint(text: &[u8], at: &mut usize) {
    const LONGEST: usize = 256;
    let between = text.get(*at..text.len().min(*at + LONGEST)).unwrap_or_default();
    let count = |from: usize, is_part: fn(u8) -> bool| {
        between[from..].iter().position(|byte| !is_part(*byte)).unwrap_or(between.len() - from)
    };
    let quotes = count(0, |byte| byte == b'\'');
    let mut end = quotes;
    loop {
        end += count(end, is_space);
        if !between[end..].starts_with(b"--") {
            break;
        }
        end += count(end, |byte| !b"\r\n".contains(&byte));
    }
    let closing = count(end, |byte| byte == b'\'');
    if quotes > 0 && closing > 0 && between[..end].iter().any(|byte| b"\r\n".contains(byte)) {
        *at += end + closing;
    }
}

/// Finds the names in a stream of bytes (Knuth, Morris and Pratt), and skips ASCII other than letters, digits
/// and `_`.
#[derive(Default)]
struct Matcher {
    matched: [usize; FUNCTIONS.len()],
    is_complete: bool,
}

impl Matcher {
    /// Whether a name has ended with the byte before this one.
    fn matches(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.is_complete) && !(byte.is_ascii_alphanumeric() || byte == b'_') {
            return true;
        }
        if byte.is_ascii() && !byte.is_ascii_alphanumeric() && byte != b'_' {
            return false;
        }
        for ((name, failures), matched) in NAMES.iter().zip(&mut self.matched) {
            while *matched > 0 && name.get(*matched) != Some(&byte) {
                *matched = failures[*matched - 1];
            }
            *matched += usize::from(name.get(*matched) == Some(&byte));
            self.is_complete |= *matched == name.len();
        }
        false
    }
}

const LONGEST: usize = 33;

static NAMES: [(&[u8], [usize; LONGEST]); FUNCTIONS.len()] = [
    (FUNCTIONS[0].0, failures(FUNCTIONS[0].0)),
    (FUNCTIONS[1].0, failures(FUNCTIONS[1].0)),
    (FUNCTIONS[2].0, failures(FUNCTIONS[2].0)),
];

/// For each prefix the length of its longest border.
const fn failures(name: &[u8]) -> [usize; LONGEST] {
    let mut failures = [0; LONGEST];
    let (mut at, mut matched) = (1, 0);
    while at < name.len() {
        while matched > 0 && name[at] != name[matched] {
            matched = failures[matched - 1];
        }
        if name[at] == name[matched] {
            matched += 1;
        }
        failures[at] = matched;
        at += 1;
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::may_be_encoded;

    /// Decoding takes twenty times as long as the first check, and few statements hide a name.
    #[test]
    fn literals_of_a_statement_of_several_lines_are_not_decoded() {
        for text in ["f(\n    'a', 1)", "VALUES ('a',\n\n'b')", "-- 'a'\n--\nf('b')", "'a'\n--\nx 'b'"] {
            assert!(!may_be_encoded(text.as_bytes()), "{text}");
        }
        for text in ["'a'\n'b'", "'a' --\n\t\n 'b'", "'a'\r--\r'b'", "'a'\n\u{b}'b'", "\\"] {
            assert!(may_be_encoded(text.as_bytes()), "{text}");
        }
    }
}
