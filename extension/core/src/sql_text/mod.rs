//! Redacts statements, and the messages that quote them, where they may hold a secret.
//!
//! A text that names a function that takes a secret loses everything that could be a value: each literal,
//! number, comment, dollar-quoted body, and each name that is no keyword and none of ours. The position of an
//! argument does not count. So a text that is cut, mistyped, quoted in another text, or no SQL at all loses
//! as much.
//!
//! Postgres' hooks run this code on any text of the server. Each pass is linear in the text, with a constant
//! stack, and every allocation may fail.
//!
//! | module | concept |
//! | --- | --- |
//! | `names` | whether a text names such a function, in any spelling |
//! | `lexer` | the lexical structure of SQL |
//! | `known` | the words that stay |
//! | `hide` | hiding all other words: in place, or in a copy |
//! | `quoted` | statements of other sessions that a message quotes |
//! | `written` | whether the value of a call is a literal |
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

/// Whether a key or an actor looks like a misplaced secret: it has a long word, more than a quarter of which
/// is upper-case letters and digits.
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
