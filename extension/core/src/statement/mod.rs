//! Where a secret stands in the text of a statement, or in a message that quotes one.
//!
//! Postgres shows the text of a statement in many places: logs, views, error contexts. This finds the calls of the functions
//! that take a secret, without a parser and without a catalog, in any text: what follows the name of such a function is
//! read as its arguments, and the argument that is the secret is taken out. Where the secret may stand elsewhere (in a
//! variable, a common table expression, a string that is executed later), every literal of the text is.
//!
//! | module | concept |
//! | --- | --- |
//! | `lexer` | the tokens of a text |
//! | `calls` | the calls in it, and which tokens may hold the secret |
//! | `render` | the text without them: shorter to be read, or of the same length to stay in place |
//! | [`log`] | the other forms in which a log shows a statement's values |

mod calls;
mod lexer;
pub mod log;
mod render;

use lexer::Kind;
use std::ops::Range;

/// What tells how a text is to be read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Whether `standard_conforming_strings` is off.
    pub backslashes: bool,
    /// Which parameters of the prepared statement with this name are secrets; `None` if it is not known to take any.
    pub prepared: &'a dyn Fn(&[u8]) -> Option<Parameters>,
}

/// Which of a statement's parameters `$1`, `$2`, ... are secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// None of them.
    #[default]
    None,
    /// These.
    Only(Vec<usize>),
    /// They may all be.
    All,
}

/// What in a text is secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    spans: Vec<Span>,
    /// Which parameters are.
    pub parameters: Parameters,
    /// Whether a secret may stand anywhere in the text, or in what is evaluated for it.
    pub is_elsewhere: bool,
    /// Whether the value of a call is written out in the text.
    pub has_literal: bool,
}

/// A piece of a text that may be a secret, and what may stand there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    range: Range<usize>,
    filler: u8,
}

/// Whether a text that stands in the place of a key or an actor looks like a secret in the wrong place: it has a long word,
/// more than a quarter of which is capital letters and digits.
#[must_use]
pub fn looks_secret(text: &[u8]) -> bool {
    const LONG: usize = 8;
    text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| word.len() >= LONG).any(|word| {
        let dense = word.iter().filter(|byte| !byte.is_ascii_lowercase()).count();
        dense > word.len() / 4 + 1
    })
}

/// `text` without any of its literals and quoted names, whatever it is.
#[must_use]
pub fn without_literals(text: &[u8]) -> Vec<u8> {
    let is_literal = |kind| !matches!(kind, Kind::Word | Kind::Symbol | Kind::Number | Kind::Parameter);
    let spans = lexer::tokens(text, false)
        .into_iter()
        .filter(|token| is_literal(token.kind) && !token.content.is_empty())
        .map(|token| Span { range: token.content, filler: b'*' })
        .collect();
    Secrets { spans, ..Secrets::default() }.redacted(text)
}

/// What is secret in `text`; `None` if it has no call of a function that takes a secret.
#[must_use]
pub fn find(text: &[u8], reading: Reading<'_>) -> Option<Secrets> {
    if calls::may_hold_one(text) { calls::find(text, reading) } else { None }
}

/// The same for a message that quotes statements, of which the client's own has been looked at already.
#[must_use]
pub fn find_in_message(message: &[u8], reading: Reading<'_>) -> Option<Secrets> {
    if calls::mentions_one(message) { calls::find(message, reading) } else { None }
}

impl Parameters {
    /// Whether the parameter with this number is.
    #[must_use]
    pub fn contains(&self, number: usize) -> bool {
        match self {
            Self::None => false,
            Self::Only(numbers) => numbers.contains(&number),
            Self::All => true,
        }
    }

    fn add(&mut self, number: Option<usize>) {
        match (number, &mut *self) {
            (_, Self::All) => {}
            (None, _) => *self = Self::All,
            (Some(number), Self::None) => *self = Self::Only(vec![number]),
            (Some(number), Self::Only(numbers)) => numbers.push(number),
        }
    }
}

#[cfg(test)]
mod tests;
