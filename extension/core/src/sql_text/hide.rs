//! Hides everything in a text that may be a secret: in place, or in a copy.

use super::known::{FUNCTIONS, is_known, is_known_symbol};
use super::lexer::{Kind, Position, Token, tokens};
use super::names::plain_names;
use crate::buffer::Buffer;
use crate::redact::REDACTED;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;

/// The longest text that is copied, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// Why there is no copy of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is longer than [`MAX_BYTES`], or would be more than twice as long with its replacements.
    TooLong,
    /// There is no memory for it.
    NoMemory,
}

impl Dropped {
    /// The text that is shown instead.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::TooLong => "<redacted: a long text that may hold a secret>",
            Self::NoMemory => "<redacted: no memory to look for secrets>",
        }
    }
}

/// A copy of the text with `<redacted>` in place of each thing that may be a secret.
pub fn redacted(text: &[u8], backslashes: bool) -> Result<Vec<u8>, Dropped> {
    let mut copy = Copy::of(text)?;
    let mut kept_to = 0;
    for token in tokens(text, backslashes) {
        copy.keep(&text[kept_to..token.whole.start])?;
        kept_to = token.whole.end;
        if stays(text, &token) {
            copy.keep(&text[token.whole])?;
            continue;
        }
        match token.kind {
            Kind::Word | Kind::Number | Kind::Parameter | Kind::Symbol => copy.hide()?,
            // The tag may hold any text.
            Kind::Tag => copy.keep(b"$$")?,
            Kind::DollarQuoted => {
                copy.keep(b"$$")?;
                copy.hide_around_names(&text[token.content.clone()])?;
                copy.keep(if token.content.end < token.whole.end { b"$$" } else { b"" })?;
            }
            _ => {
                copy.keep(&text[token.whole.start..token.content.start])?;
                copy.hide_around_names(&text[token.content.clone()])?;
                copy.keep(&text[token.content.end..token.whole.end])?;
            }
        }
    }
    copy.keep(&text[kept_to..])?;
    Ok(copy.bytes.into_bytes())
}

/// A copy that never exceeds its first allocation.
struct Copy {
    bytes: Buffer,
    is_hidden: bool,
}

impl Copy {
    fn of(text: &[u8]) -> Result<Self, Dropped> {
        const AT_LEAST: usize = 1024;
        if text.len() > MAX_BYTES {
            return Err(Dropped::TooLong);
        }
        Ok(Self { bytes: Buffer::with_room(2 * text.len() + AT_LEAST)?, is_hidden: false })
    }

    fn keep(&mut self, text: &[u8]) -> Result<(), Dropped> {
        self.is_hidden &= text.trim_ascii().is_empty();
        self.bytes.push(text)
    }

    /// One replacement stands for adjacent hidden tokens.
    fn hide(&mut self) -> Result<(), Dropped> {
        if std::mem::replace(&mut self.is_hidden, true) {
            Ok(())
        } else {
            self.bytes.push(REDACTED.as_bytes())
        }
    }

    /// The names of our functions stay, so that the copy is still recognized as a call.
    fn hide_around_names(&mut self, content: &[u8]) -> Result<(), Dropped> {
        let mut start = 0;
        self.is_hidden = false;
        for (name, end) in plain_names(content) {
            if name > start {
                self.hide()?;
            }
            self.keep(&content[name..end])?;
            start = end;
        }
        if content.len() > start { self.hide() } else { Ok(()) }
    }
}

/// Overwrites each token that may be a secret in place. The text keeps its length and its tokens, so
/// positions in it stay right. Masking is idempotent.
pub fn mask(text: &mut [u8], backslashes: bool) {
    visit(&mut Overwriting(text), backslashes);
}

/// Whether masking would change nothing.
#[must_use]
pub fn is_masked(text: &[u8], backslashes: bool) -> bool {
    let mut comparing = Comparing { text, is_same: true };
    visit(&mut comparing, backslashes);
    comparing.is_same
}

/// A hash of the tokens that Postgres' scanner sees in a text, with their places. A masked text must have the
/// same hash, because `pg_stat_statements` scans it again at the places of its constants.
#[must_use]
pub fn tokens_of(text: &[u8], backslashes: bool) -> u64 {
    let mut position = Position::without_code(backslashes);
    let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
    while let Some(token) = position.next_token(text) {
        (token.kind as u8, token.whole.start, token.whole.end).hash(&mut hasher);
    }
    hasher.finish()
}

/// Overwrites a whole text, except that it still names a function, so that it is recognized as a call.
pub fn blank(text: &mut [u8]) {
    text.fill(b' ');
    let name = FUNCTIONS[0].0;
    if let Some(start) = text.get_mut(..name.len()) {
        start.copy_from_slice(name);
    }
}

/// A text, and the action for a range that a filler overwrites.
trait Sheet {
    fn text(&self) -> &[u8];
    fn fill(&mut self, range: Range<usize>, filler: u8);
    /// Whether there is more to do.
    fn goes_on(&self) -> bool {
        true
    }
}

struct Overwriting<'a>(&'a mut [u8]);

impl Sheet for Overwriting<'_> {
    fn text(&self) -> &[u8] {
        self.0
    }

    fn fill(&mut self, range: Range<usize>, filler: u8) {
        self.0[range].fill(filler);
    }
}

struct Comparing<'a> {
    text: &'a [u8],
    is_same: bool,
}

impl Sheet for Comparing<'_> {
    fn text(&self) -> &[u8] {
        self.text
    }

    fn fill(&mut self, range: Range<usize>, filler: u8) {
        self.is_same &= self.text[range].iter().all(|&byte| byte == filler);
    }

    fn goes_on(&self) -> bool {
        self.is_same
    }
}

fn visit(sheet: &mut impl Sheet, backslashes: bool) {
    let mut position = Position::new(backslashes);
    while sheet.goes_on()
        && let Some(token) = position.next_token(sheet.text())
    {
        if stays(sheet.text(), &token) {
            continue;
        }
        match token.kind {
            // Not letters: before a quote, a letter could become a prefix of the literal.
            Kind::Word => fill(sheet, token.whole, b'_'),
            // An operator that begins no comment, whatever follows.
            Kind::Symbol => fill(sheet, token.whole, b'+'),
            Kind::Number | Kind::Parameter | Kind::BitString => fill(sheet, token.content, b'0'),
            Kind::Tag => fill(sheet, token.content, b'_'),
            // Also the tag, at both ends: never one that ends the code around it.
            Kind::DollarQuoted => {
                let (start, end) = (token.whole.start, token.whole.end);
                fill(sheet, start + 1..token.content.start - 1, b'x');
                fill(sheet, token.content.clone(), b'*');
                fill(
                    sheet,
                    (token.content.end + 1).min(end)..end.saturating_sub(1).max(token.content.end),
                    b'x',
                );
            }
            // No letters either: an adjacent name must stay a name.
            _ => fill(sheet, token.content, b'*'),
        }
    }
}

/// Overwrites a range except the names of the functions, so that the text is still recognized as a call. In
/// quotes, and with enough room, the filler begins with `<redacted>`.
fn fill(sheet: &mut impl Sheet, range: Range<usize>, mut filler: u8) {
    let mut start = range.start;
    while start < range.end {
        let name = plain_names(&sheet.text()[start..range.end]).next();
        let (name_start, name_end) =
            name.map_or((range.end, range.end), |(from, to)| (start + from, start + to));
        if filler == b'*' && name_start - start >= REDACTED.len() {
            for letter in REDACTED.bytes() {
                sheet.fill(start..start + 1, letter);
                start += 1;
            }
        }
        sheet.fill(start..name_start, filler);
        // In a word, the filler would otherwise become a part of the name.
        start = name_end;
        if name_end < range.end && sheet.text()[name_end] == b'$' {
            start += 1;
            // And `$_` may begin the tag that ends the code around the word. No tag begins with a digit.
            if filler == b'_' {
                filler = b'0';
            }
        }
    }
}

/// Whether a token may be shown.
fn stays(text: &[u8], token: &Token) -> bool {
    match token.kind {
        Kind::Symbol => is_known_symbol(&text[token.content.clone()]),
        // The number of a parameter is short.
        Kind::Parameter => token.content.len() <= 3,
        Kind::Word | Kind::QuotedName => is_known(&text[token.content.clone()]),
        Kind::Comment | Kind::UnicodeName | Kind::Tag | Kind::String | Kind::BitString => {
            token.content.is_empty()
        }
        // An empty dollar-quoted literal still has its tag, which must not end the code around it.
        _ => false,
    }
}
