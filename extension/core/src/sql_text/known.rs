//! The words that may stay in a text that loses its literals.

/// The functions of `sql/functions.sql` that take a secret, and the position of that argument. That of the
/// third is sealed, and a caller may think that it is not.
pub(super) static FUNCTIONS: [(&[u8], usize); 3] = [
    (b"admin_set_integration_credentials", 1),
    (b"sync_aggregator_credentials", 2),
    (b"find_integration_credentials", 0),
];

/// The name of that parameter.
pub(super) const SECRET: &[u8] = b"value";

/// Sorted by bytes: the words of a call, the keywords around it, and the words that the server's log adds to
/// a statement. None is a likely part of a secret.
static WORDS: [&[u8]; 119] = [
    b"action",
    b"actor",
    b"admin_set_integration_credentials",
    b"all",
    b"alter",
    b"analyze",
    b"and",
    b"any",
    b"array",
    b"as",
    b"asc",
    b"at",
    b"audit",
    b"begin",
    b"bigint",
    b"bind",
    b"boolean",
    b"by",
    b"bytea",
    b"call",
    b"case",
    b"cast",
    b"column",
    b"commit",
    b"copy",
    b"create",
    b"cross",
    b"cursor",
    b"deallocate",
    b"declare",
    b"default",
    b"delete",
    b"desc",
    b"distinct",
    b"do",
    b"duration",
    b"else",
    b"end",
    b"exception",
    b"execute",
    b"exists",
    b"explain",
    b"false",
    b"fetch",
    b"find_integration_credentials",
    b"for",
    b"format",
    b"from",
    b"function",
    b"grant",
    b"group",
    b"if",
    b"in",
    b"inner",
    b"insert",
    b"integer",
    b"integration_credentials",
    b"into",
    b"is",
    b"join",
    b"json",
    b"jsonb",
    b"key",
    b"language",
    b"lateral",
    b"left",
    b"limit",
    b"line",
    b"misc",
    b"ms",
    b"not",
    b"null",
    b"of",
    b"on",
    b"or",
    b"order",
    b"parameters",
    b"parse",
    b"perform",
    b"plan",
    b"plpgsql",
    b"prepare",
    b"query",
    b"raise",
    b"read",
    b"redacted",
    b"release",
    b"result",
    b"return",
    b"returning",
    b"returns",
    b"revoke",
    b"rollback",
    b"savepoint",
    b"select",
    b"session",
    b"set",
    b"sql",
    b"statement",
    b"stdout",
    b"sync_aggregator_credentials",
    b"table",
    b"temp",
    b"text",
    b"then",
    b"to",
    b"true",
    b"union",
    b"unknown",
    b"unnamed",
    b"update",
    b"using",
    b"value",
    b"values",
    b"varchar",
    b"verbose",
    b"when",
    b"where",
    b"with",
];

/// Whether a word may stay.
pub(super) fn is_known(word: &[u8]) -> bool {
    const LONGEST: usize = 33;
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    WORDS.binary_search(&&*lower).is_ok()
}

/// Whether an operator or punctuation may stay. In a wrongly quoted text, other symbols may be parts of a
/// secret.
pub(super) fn is_known_symbol(symbol: &[u8]) -> bool {
    symbol.iter().all(|byte| b"(),;.:=>|[]*$<".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order_and_found_in_any_case() {
        assert!(WORDS.is_sorted());
        assert!(
            WORDS.iter().all(|word| word.len() > 1 && is_known(word) && is_known(&word.to_ascii_uppercase()))
        );
        assert!(FUNCTIONS.iter().all(|(name, _)| is_known(name)) && is_known(SECRET));
        for other in
            [&b""[..], b"s3cret", b"admin_set_integration_credentials_sealed", "ü".as_bytes(), &[b'a'; 100]]
        {
            assert!(!is_known(other));
        }
    }
}
