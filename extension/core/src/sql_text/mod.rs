//! The text of statements, and of the messages that quote them, without what may be a secret.
//!
//! A text that names a function that takes a secret loses whatever could be a value: every literal, number, comment,
//! dollar-quoted body, and every name that is no keyword and none of ours. Which argument is which is not asked, so a
//! text that is cut, mistyped, quoted in another one or no SQL at all loses no less.
//!
//! Postgres' hooks run all of this, on texts of strangers: each pass is linear in the text, its stack is constant, and
//! what allocates says when it cannot.
//!
//! | module | concept |
//! | --- | --- |
//! | `names` | whether a text names such a function, in any spelling |
//! | `lexer` | the lexical structure of SQL |
//! | `known` | the words that stay |
//! | `hide` | the text without the rest: in place, or as a copy |
//! | `quoted` | what a message quotes of other sessions' statements |
//! | `written` | whether the value of a call is written out |
//! | `format` | a message without its inserts |

mod format;
mod hide;
mod known;
mod lexer;
mod names;
mod quoted;
mod written;

pub use format::without_inserts;
pub use hide::{Dropped, MAX_BYTES, blank, is_masked, mask, redacted, tokens_of};
pub use names::{executes, names_one, quotes_one};
pub use quoted::without_cut_quotations;
pub use written::value_is_written;

/// Whether a text is the dump of a node tree, in which constants are lists of bytes.
#[must_use]
pub fn is_node_tree(text: &[u8]) -> bool {
    let start = text.trim_ascii_start();
    let start = start.strip_prefix(b"(").unwrap_or(start).trim_ascii_start();
    start.strip_prefix(b"{").is_some_and(|name| name.first().is_some_and(u8::is_ascii_uppercase))
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

#[cfg(test)]
mod tests;
