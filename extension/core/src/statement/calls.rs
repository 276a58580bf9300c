//! Finding the calls, and what of them is secret.

use super::lexer::{Kind, Token, tokens};
use super::{Parameters, Reading, Secrets, Span, looks_secret};
use crate::tool;
use aho_corasick::AhoCorasick;
use memchr::memchr2_iter;
use std::ops::Range;
use std::sync::LazyLock;

/// The functions of `sql/functions.sql` that take a secret, by name and parameters.
static FUNCTIONS: [(&str, &[&str]); 2] =
    [(tool::SET.key, tool::SET.parameters), ("sync_aggregator_credentials", &["org_slug", "key", "value"])];
/// What the secret is called among their parameters.
const SECRET: &str = "value";

/// Types that an argument is likely to be of.
static TYPES: [&[u8]; 14] = [
    b"text",
    b"unknown",
    b"character",
    b"varying",
    b"varchar",
    b"name",
    b"bytea",
    b"json",
    b"jsonb",
    b"integer",
    b"bigint",
    b"numeric",
    b"boolean",
    b"record",
];

static NAMES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder().ascii_case_insensitive(true).build(FUNCTIONS.iter().map(|(name, _)| *name)).ok()
});

/// Whether a statement is worth a closer look: it may name one of the functions, or spell a name in any way, or execute a
/// prepared statement. Every statement of the server is asked this, so it takes a few nanoseconds.
pub(super) fn may_hold_one(text: &[u8]) -> bool {
    mentions_one(text) || memchr2_iter(b'x', b'X', text).any(|at| is_around(text, at, b"e", b"xecute"))
}

/// The same for a message that quotes some statement: prepared ones are executed by the client's own.
pub(super) fn mentions_one(text: &[u8]) -> bool {
    memchr2_iter(b'_', b'&', text)
        .any(|at| is_around(text, at, b"", b"_credentials") || is_around(text, at, b"u", b"&\""))
}

fn is_around(text: &[u8], at: usize, before: &[u8], from: &[u8]) -> bool {
    let (left, right) = text.split_at(at);
    left.len() >= before.len()
        && left[left.len() - before.len()..].eq_ignore_ascii_case(before)
        && right.get(..from.len()).is_some_and(|right| right.eq_ignore_ascii_case(from))
}

fn names_one(text: &[u8]) -> bool {
    NAMES.as_ref().is_none_or(|names| names.is_match(text))
}

pub(super) fn find(text: &[u8], reading: Reading<'_>) -> Option<Secrets> {
    let mut search = Search { text, reading, found: Secrets::default(), holds_one: false };
    search.level(0..text.len());
    if !search.holds_one {
        return None;
    }
    let mut found = search.found;
    // The wider of two that begin together comes first, and what lies within another is covered by it.
    found.spans.sort_by_key(|span| (span.range.start, usize::MAX - span.range.end));
    let mut end = 0;
    found.spans.retain(|span| {
        let is_new = span.range.start >= end && !span.range.is_empty();
        end = end.max(span.range.end);
        is_new
    });
    Some(found)
}

struct Search<'a> {
    text: &'a [u8],
    reading: Reading<'a>,
    found: Secrets,
    holds_one: bool,
}

/// The tokens of an argument.
type Argument = Range<usize>;

impl Search<'_> {
    /// Looks through a piece of the text that is SQL of its own. Returns whether the secret may stand outside of it.
    fn level(&mut self, piece: Range<usize>) -> bool {
        let (comments, tokens): (Vec<_>, Vec<_>) =
            self.tokens(piece.clone()).into_iter().partition(|token| token.kind == Kind::Comment);

        let mut elsewhere = false;
        let mut is_dynamic = false;
        let mut executed = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let text = &self.text[token.content.clone()];
            let is_called = self.is_symbol(tokens.get(at + 1), b"(");
            match token.kind {
                Kind::Word if text.eq_ignore_ascii_case(b"execute") => {
                    is_dynamic = true;
                    if let Some(name) = tokens.get(at + 1) {
                        let is_given = self.is_symbol(tokens.get(at + 2), b"(");
                        let arguments = if is_given { self.arguments(&tokens, at + 3) } else { Vec::new() };
                        executed.push((name, arguments));
                    }
                }
                Kind::Word | Kind::QuotedName if is_called => {
                    if let Some((_, parameters)) = function(text) {
                        elsewhere |= self.call(&tokens, &self.arguments(&tokens, at + 2), parameters);
                    } else if token.kind == Kind::QuotedName {
                        elsewhere |= self.quoted(token, &piece);
                    }
                }
                Kind::UnicodeName if is_called => {
                    self.holds_one = true;
                    for argument in self.arguments(&tokens, at + 2) {
                        elsewhere |= self.value(&tokens[argument]);
                    }
                }
                Kind::DollarQuoted if names_one(text) => {
                    elsewhere |= self.level(token.content.clone());
                    // What is a parameter in there is given by USING out here.
                    elsewhere |= self.found.parameters != Parameters::None;
                }
                Kind::String | Kind::QuotedName => elsewhere |= self.quoted(token, &piece),
                _ => {}
            }
        }

        let names_one_in_a_string = || {
            tokens
                .iter()
                .any(|token| token.kind == Kind::String && names_one(&self.text[token.content.clone()]))
        };
        // SQL that is put together from pieces.
        if is_dynamic && names_one_in_a_string() {
            self.holds_one = true;
            elsewhere = true;
        }
        for (name, arguments) in executed {
            self.execution(&tokens, name, &arguments);
        }
        if elsewhere {
            self.found.parameters = Parameters::All;
            self.found.is_elsewhere = true;
            self.hide_literals(&tokens);
        }
        if self.holds_one {
            for comment in &comments {
                let text = &self.text[comment.content.clone()];
                if elsewhere || names_one(text) || text.contains(&b'\'') || text.contains(&b'"') {
                    self.hide(comment.content.clone(), b'*');
                }
            }
        }
        elsewhere
    }

    /// The tokens of a piece, where they stand in the text.
    fn tokens(&self, piece: Range<usize>) -> Vec<Token> {
        let mut tokens = tokens(&self.text[piece.clone()], self.reading.backslashes);
        for token in &mut tokens {
            token.whole = token.whole.start + piece.start..token.whole.end + piece.start;
            token.content = token.content.start + piece.start..token.content.end + piece.start;
        }
        tokens
    }

    /// Hides the secret of a call. Returns whether it may stand elsewhere.
    fn call(&mut self, tokens: &[Token], arguments: &[Argument], parameters: &[&str]) -> bool {
        let secrets: Vec<&Argument> = if arguments.len() == parameters.len() {
            let named =
                arguments.iter().find(|argument| self.name_of(&tokens[(*argument).clone()]) == Some(SECRET));
            let by_place =
                parameters.iter().position(|name| *name == SECRET).and_then(|at| arguments.get(at));
            named.or(by_place).into_iter().collect()
        } else {
            arguments.iter().collect()
        };
        for argument in arguments {
            let literals: Vec<_> =
                tokens[argument.clone()].iter().filter(|token| token.kind.is_text()).collect();
            if looks_secret(
                &literals
                    .iter()
                    .flat_map(|token| &self.text[token.content.clone()])
                    .copied()
                    .collect::<Vec<_>>(),
            ) {
                for token in literals {
                    self.hide_literal(token);
                }
            }
        }
        let mut elsewhere = false;
        for argument in secrets {
            let mut value = &tokens[argument.clone()];
            if self.name_of(value).is_some() {
                value = value.get(2..).unwrap_or_default();
            }
            if self.is_signature(value) {
                continue;
            }
            self.holds_one = true;
            elsewhere |= self.value(value);
        }
        elsewhere
    }

    /// Hides an argument that is the secret. Returns whether there is more to it than literals and one parameter.
    fn value(&mut self, value: &[Token]) -> bool {
        let mut is_pure = true;
        let mut parameters = Vec::new();
        let mut tokens = value.iter().peekable();
        while let Some(token) = tokens.next() {
            match token.kind {
                Kind::Parameter => parameters.push(self.number(token)),
                Kind::Symbol if self.is_symbol(Some(token), b"::") => {
                    // The name of a type.
                    while tokens.next_if(|token| matches!(token.kind, Kind::Word)).is_some() {}
                }
                Kind::Symbol => {
                    is_pure &=
                        [&b"("[..], b")", b"||", b"-", b"+"].contains(&&self.text[token.whole.clone()]);
                }
                Kind::Word if self.is_word(token, "null") => {}
                // As we write it ourselves.
                Kind::Word if self.is_word(token, "redacted") => is_pure = false,
                Kind::Word => {
                    is_pure = false;
                    // Before a quote, a letter could be taken for a part of the literal.
                    self.hide(token.whole.clone(), b'_');
                }
                Kind::QuotedName | Kind::UnicodeName => {
                    is_pure = false;
                    self.hide(token.content.clone(), b'x');
                }
                _ => {
                    self.found.has_literal = true;
                    self.hide_literal(token);
                }
            }
        }
        if is_pure && parameters.len() <= 1 {
            for number in parameters {
                self.found.parameters.add(number);
            }
        } else {
            self.found.parameters = Parameters::All;
        }
        !is_pure
    }

    /// `EXECUTE name (arguments)`
    fn execution(&mut self, tokens: &[Token], name: &Token, arguments: &[Argument]) {
        let written = &self.text[name.content.clone()];
        let prepared = match name.kind {
            Kind::Word => (self.reading.prepared)(&written.to_ascii_lowercase()),
            _ => (self.reading.prepared)(written),
        };
        self.holds_one |= prepared.is_some();
        // Prepared in this very text, it may not be known yet.
        let parameters = prepared.unwrap_or(if self.holds_one { Parameters::All } else { Parameters::None });
        for (number, argument) in (1..).zip(arguments) {
            if parameters.contains(number) {
                self.value(&tokens[argument.clone()]);
            }
        }
    }

    /// A string, or what looks like a name, that holds a call: SQL in SQL, or a message that quotes some. Returns whether
    /// the secret may stand elsewhere.
    fn quoted(&mut self, token: &Token, piece: &Range<usize>) -> bool {
        let content = token.content.clone();
        let text = &self.text[content.clone()];
        if !names_one(text) {
            return false;
        }
        let mut within =
            Search { text: self.text, reading: self.reading, found: Secrets::default(), holds_one: false };
        let elsewhere = within.level(content.clone());
        if !within.holds_one {
            return false;
        }
        self.holds_one = true;
        self.found.has_literal |= within.found.has_literal;
        if token.kind == Kind::QuotedName && text.contains(&b'\\') {
            // As JSON has it; then there is no telling where the quotation ends.
            self.hide(content.start..piece.end, b'x');
            return true;
        }
        if token.kind == Kind::QuotedName && !elsewhere {
            self.found.spans.append(&mut within.found.spans);
            return false;
        }
        self.hide_around_names(content);
        true
    }

    /// The arguments from the token after the opening parenthesis on, up to the closing one or the end.
    fn arguments(&self, tokens: &[Token], from: usize) -> Vec<Argument> {
        let mut arguments = Vec::new();
        let (mut start, mut depth) = (from, 0_usize);
        for (at, token) in tokens.iter().enumerate().skip(from) {
            if token.kind != Kind::Symbol {
                continue;
            }
            match &self.text[token.whole.clone()] {
                b"(" | b"[" => depth += 1,
                b")" | b"]" if depth == 0 => {
                    arguments.push(start..at);
                    return arguments;
                }
                b")" | b"]" => depth -= 1,
                b"," if depth == 0 => {
                    arguments.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        arguments.push(start.min(tokens.len())..tokens.len());
        arguments
    }

    /// Hides whatever may be a value. What is called stays, so that the text is known again for what it is.
    fn hide_literals(&mut self, tokens: &[Token]) {
        for token in tokens {
            self.hide_literal(token);
        }
    }

    fn hide_literal(&mut self, token: &Token) {
        let content = token.content.clone();
        let text = &self.text[content.clone()];
        match token.kind {
            Kind::DollarQuoted if names_one(text) => self.hide_literals(&self.tokens(content)),
            Kind::String | Kind::DollarQuoted => self.hide_around_names(content),
            Kind::BitString | Kind::Number => self.hide(content, b'0'),
            Kind::QuotedName if !names_one(text) => self.hide(content, b'x'),
            _ => {}
        }
    }

    fn hide_around_names(&mut self, range: Range<usize>) {
        let text = self.text;
        let mut start = range.start;
        if let Some(names) = NAMES.as_ref() {
            for name in names.find_iter(&text[range.clone()]) {
                self.hide(start..range.start + name.start(), b'*');
                start = range.start + name.end();
                start += usize::from(start < range.end && text[start] == b'(');
            }
        }
        self.hide(start..range.end, b'*');
    }

    fn hide(&mut self, range: Range<usize>, filler: u8) {
        self.found.spans.push(Span { range, filler });
    }

    /// The name of an argument that is given by name.
    fn name_of(&self, argument: &[Token]) -> Option<&str> {
        let [name, arrow, ..] = argument else { return None };
        let is_named = matches!(name.kind, Kind::Word | Kind::QuotedName)
            && (self.is_symbol(Some(arrow), b"=>") || self.is_symbol(Some(arrow), b":="));
        let name = std::str::from_utf8(&self.text[name.content.clone()]).ok()?;
        is_named.then_some(if name.eq_ignore_ascii_case(SECRET) { SECRET } else { name })
    }

    /// A type, as in `GRANT EXECUTE ON FUNCTION name(text, text, text)`, or where no such function exists: not a call.
    fn is_signature(&self, argument: &[Token]) -> bool {
        !argument.is_empty()
            && argument.iter().all(|token| {
                token.kind == Kind::Word
                    && TYPES.iter().any(|name| self.text[token.content.clone()].eq_ignore_ascii_case(name))
            })
    }

    fn number(&self, parameter: &Token) -> Option<usize> {
        std::str::from_utf8(&self.text[parameter.content.clone()]).ok()?.parse().ok()
    }

    fn is_symbol(&self, token: Option<&Token>, symbol: &[u8]) -> bool {
        token.is_some_and(|token| token.kind == Kind::Symbol && &self.text[token.whole.clone()] == symbol)
    }

    fn is_word(&self, token: &Token, word: &str) -> bool {
        token.kind == Kind::Word && self.text[token.content.clone()].eq_ignore_ascii_case(word.as_bytes())
    }
}

fn function(name: &[u8]) -> Option<&'static (&'static str, &'static [&'static str])> {
    FUNCTIONS.iter().find(|(function, _)| function.as_bytes().eq_ignore_ascii_case(name))
}
