//! The forms in which a log shows a statement's values beside its text.

use super::Parameters;
use crate::redact::REDACTED;
use std::ops::Range;

/// Replaces the values in `$1 = 'a', $2 = 'b'`, which is how Postgres lists parameters, of those that are secret.
#[must_use]
pub fn without_parameters(text: &[u8], secret: &Parameters) -> Vec<u8> {
    let mut redacted = Vec::with_capacity(text.len());
    let mut kept_to = 0;
    while let Some((number, value)) = next_parameter(text, kept_to) {
        if secret.contains(number) {
            redacted.extend_from_slice(&text[kept_to..value.start]);
            redacted.extend_from_slice(REDACTED.as_bytes());
        } else {
            redacted.extend_from_slice(&text[kept_to..value.end]);
        }
        kept_to = value.end;
    }
    redacted.extend_from_slice(&text[kept_to..]);
    redacted
}

/// The next `$n = '...'` and what is between its quotes.
fn next_parameter(text: &[u8], from: usize) -> Option<(usize, Range<usize>)> {
    let mut at = from;
    loop {
        at += text[at..].iter().position(|&byte| byte == b'$')? + 1;
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if let Some(value) = text[at + digits..].strip_prefix(b" = '") {
            // A number that is too large to be one is secret, whichever are.
            let number =
                std::str::from_utf8(&text[at..at + digits]).ok().and_then(|digits| digits.parse().ok());
            let start = text.len() - value.len();
            return Some((number.unwrap_or(usize::MAX), start..start + closing_quote(value, b'\'')));
        }
    }
}

/// How far it is to the closing quote, or to the end.
fn closing_quote(text: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < text.len() {
        if text[at] == quote {
            if text.get(at + 1) != Some(&quote) {
                return at;
            }
            at += 1;
        }
        at += 1;
    }
    text.len()
}

/// A message of pgaudit: `AUDIT: SESSION,1,1,READ,SELECT,,,"statement",parameters`, the statement and what follows it
/// each rewritten. `None` if it is none.
#[must_use]
pub fn audited(
    message: &[u8],
    statement: impl FnOnce(&[u8]) -> Vec<u8>,
    parameters: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Option<Vec<u8>> {
    const FIELDS_BEFORE_STATEMENT: usize = 7;
    let mut at = b"AUDIT: ".len();
    if !message.starts_with(b"AUDIT: ") {
        return None;
    }
    for _ in 0..FIELDS_BEFORE_STATEMENT {
        at = field_end(message, at) + 1;
    }
    let field = message.get(at..field_end(message, at))?;
    let tail = message.get(at + field.len()..)?;
    let mut rewritten = message[..at].to_vec();
    match field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\"")) {
        Some(quoted) => {
            rewritten.push(b'"');
            rewritten.extend(double_quotes(&statement(&single_quotes(quoted))));
            rewritten.push(b'"');
        }
        None => rewritten.extend(statement(field)),
    }
    rewritten.extend(parameters(tail));
    Some(rewritten)
}

fn field_end(message: &[u8], start: usize) -> usize {
    let field = message.get(start..).unwrap_or_default();
    let length = match field.strip_prefix(b"\"") {
        Some(quoted) => (closing_quote(quoted, b'"') + 2).min(field.len()),
        None => field.iter().position(|&byte| byte == b',').unwrap_or(field.len()),
    };
    start.min(message.len()) + length
}

fn single_quotes(field: &[u8]) -> Vec<u8> {
    let mut single = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        single.push(byte);
        if byte == b'"' {
            bytes.next();
        }
    }
    single
}

fn double_quotes(field: &[u8]) -> Vec<u8> {
    field.iter().flat_map(|&byte| std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 })).collect()
}

/// Whether a text is the dump of a node tree, in which constants are lists of bytes.
#[must_use]
pub fn is_node_tree(text: &[u8]) -> bool {
    let start = text.trim_ascii_start();
    let start = start.strip_prefix(b"(").unwrap_or(start).trim_ascii_start();
    start.strip_prefix(b"{").is_some_and(|name| name.first().is_some_and(u8::is_ascii_uppercase))
}

/// Replaces what an error message quotes, whichever quotes it uses.
#[must_use]
pub fn without_quotations(text: &[u8]) -> Vec<u8> {
    let mut redacted = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| b"\"'`".contains(byte)) {
        let quote = rest[at];
        let quoted = &rest[at + 1..];
        redacted.extend_from_slice(&rest[..=at]);
        redacted.extend_from_slice(REDACTED.as_bytes());
        redacted.push(quote);
        // Up to the last one: what is quoted may hold the quote itself.
        let end = quoted.iter().rposition(|&byte| byte == quote).map_or(quoted.len(), |end| end + 1);
        rest = &quoted[end..];
    }
    redacted.extend_from_slice(rest);
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_the_secret_parameters_are_taken_out() {
        let detail = b"parameters: $1 = 'slack', $2 = 'it''s, $3 = ''x''', $3 = NULL, $12 = 'me'";
        let only = |number| text(without_parameters(detail, &Parameters::Only(vec![number])));
        assert_eq!(only(2), "parameters: $1 = 'slack', $2 = '<redacted>', $3 = NULL, $12 = 'me'");
        assert!(only(12).ends_with("$12 = '<redacted>'"));
        assert_eq!(text(without_parameters(b"$2 = 'cut of...", &Parameters::All)), "$2 = '<redacted>");
        assert_eq!(text(without_parameters(b"costs $ 5, $2, $", &Parameters::All)), "costs $ 5, $2, $");
    }

    #[test]
    fn an_audit_line_keeps_its_fields() {
        let rewrite = |message: &str| {
            audited(
                message.as_bytes(),
                |statement| {
                    assert_eq!(statement, b"SELECT \"f\"('a', 'b')");
                    b"SELECT \"f\"(<redacted>)".to_vec()
                },
                |_| b",<redacted>".to_vec(),
            )
            .map(text)
        };
        assert_eq!(
            rewrite(r#"AUDIT: SESSION,1,1,READ,SELECT,,,"SELECT ""f""('a', 'b')","k,s3cret,me""#).unwrap(),
            r#"AUDIT: SESSION,1,1,READ,SELECT,,,"SELECT ""f""(<redacted>)",<redacted>"#
        );
        assert_eq!(rewrite("duration: 1 ms"), None);
        for cut in ["AUDIT: ", "AUDIT: SESSION,1,1,READ", "AUDIT: SESSION,1,1,READ,SELECT,,,"] {
            let _ = audited(cut.as_bytes(), <[u8]>::to_vec, <[u8]>::to_vec);
        }
    }

    #[test]
    fn a_node_tree_is_recognised() {
        for tree in ["{QUERY :commandType 1", "   {PLANNEDSTMT \n", "(\n   {QUERY "] {
            assert!(is_node_tree(tree.as_bytes()), "{tree}");
        }
        for other in ["parameters: $1 = 'x'", "{\"status\": 404}", "", "("] {
            assert!(!is_node_tree(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn quotations_are_taken_out_to_their_very_end() {
        let without = |message: &str| text(without_quotations(message.as_bytes()));
        assert_eq!(without(r#"column "s3cret" does not exist"#), r#"column "<redacted>" does not exist"#);
        assert_eq!(
            without(r#"syntax error at or near "a"b" here"#),
            r#"syntax error at or near "<redacted>" here"#
        );
        assert_eq!(without("unterminated \"abc"), "unterminated \"<redacted>\"");
        assert_eq!(without("division by zero"), "division by zero");
    }
}
