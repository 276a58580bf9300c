//! Whether the value of a call is a literal in the text of the statement, for the notice to the caller.

use super::known::{FUNCTIONS, SECRET};
use super::lexer::{Kind, Token, tokens};
use super::names::names_one;

/// Whether a statement calls a function with a literal value, or executes a prepared statement with a
/// literal.
#[must_use]
pub fn value_is_written(text: &[u8], backslashes: bool) -> bool {
    let is_word = |token: &Token, word: &[u8]| {
        token.kind == Kind::Word && text[token.content.clone()].eq_ignore_ascii_case(word)
    };
    let has_literal =
        || tokens(text, backslashes).any(|token| token.kind.is_text() || token.kind == Kind::Number);
    let first = tokens(text, backslashes).find(|token| token.kind != Kind::Comment);
    match first {
        Some(token) if is_word(&token, b"execute") => has_literal(),
        // Code in single quotes was masked as a whole, except for the name.
        Some(token) if is_word(&token, b"do") => {
            has_literal_value(text, backslashes)
                || tokens(text, backslashes)
                    .any(|token| token.kind == Kind::String && names_one(&text[token.content]))
        }
        _ => has_literal_value(text, backslashes),
    }
}

/// Goes through the arguments of each call, in one pass.
fn has_literal_value(text: &[u8], backslashes: bool) -> bool {
    let mut call: Option<Call> = None;
    let mut named = None;
    for token in tokens(text, backslashes).filter(|token| token.kind != Kind::Comment) {
        let content = &text[token.content.clone()];
        let is_name = matches!(token.kind, Kind::Word | Kind::QuotedName);
        if let Some(call) = &mut call {
            match (token.kind, content) {
                (Kind::Symbol, b"(" | b"[") => call.depth += 1,
                (Kind::Symbol, b")" | b"]") => call.depth = call.depth.saturating_sub(1),
                (Kind::Symbol, b",") if call.depth == 1 => {
                    call.argument += 1;
                    call.is_value = None;
                }
                (Kind::Symbol, b"=>" | b":=") if call.depth == 1 => {
                    call.is_value = Some(call.last_is_value);
                }
                (kind, _)
                    if (kind.is_text() || kind == Kind::Number)
                        && call.is_value.unwrap_or(call.argument == call.place) =>
                {
                    return true;
                }
                _ => {}
            }
            call.last_is_value = is_name && content.eq_ignore_ascii_case(SECRET);
        }
        if call.as_ref().is_none_or(|call| call.depth == 0) {
            call = named.filter(|_| token.kind == Kind::Symbol && content == b"(").map(|place| Call {
                place,
                depth: 1,
                argument: 0,
                is_value: None,
                last_is_value: false,
            });
        }
        named = FUNCTIONS
            .iter()
            .find(|(name, _)| is_name && content.eq_ignore_ascii_case(name))
            .map(|(_, place)| *place);
    }
    false
}

/// The position in the arguments of a call.
struct Call {
    /// The position of the value, unless the arguments are named.
    place: usize,
    depth: usize,
    argument: usize,
    /// Whether a named argument is the value.
    is_value: Option<bool>,
    last_is_value: bool,
}
