//! The entries of a .env or JSON file. An error names a line by its number, never by its text.

use super::json::Document;
use crate::{cli_error::CliError, input::read_file};
use intcred::Secret;
use serde_json::error::Category;
use std::{fmt, path::Path};
use zeroize::Zeroizing;

/// The largest file, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// A value of the file.
pub struct Entry {
    pub place: Place,
    /// The variable, or the key.
    pub name: String,
    pub value: Secret,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of a .env file.
    Line(u32),
    /// Of a JSON document, the first of which is 1.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(number) => write!(f, "entry {number}"),
        }
    }
}

pub fn read(path: &Path) -> Result<Vec<Entry>, CliError> {
    parse(&read_file(path, MAX_BYTES)?)
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, CliError> {
    if bytes.len() > MAX_BYTES {
        return Err(CliError::usage(format!("the file has more than {MAX_BYTES} bytes"), "divide it"));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        broken(format!("line {line}"), "it is not UTF-8", "encode a binary credential, for example as base64")
    })?;
    // An editor may have added a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) { json(text) } else { env(text) }
}

fn broken(place: String, what: impl Into<String>, remedy: &'static str) -> CliError {
    CliError::Import { place, what: what.into(), remedy }
}

/// Of an error of the parser only the line: its text may quote a value.
fn json(text: &str) -> Result<Vec<Entry>, CliError> {
    let Document(entries) = serde_json::from_str(text).map_err(|error| {
        let what = match error.classify() {
            Category::Data => {
                "it is no object of keys and texts, and no array of objects with \"key\" and \"value\""
            }
            Category::Eof => "the document ends early",
            Category::Syntax | Category::Io => "it is not JSON",
        };
        broken(format!("line {}", error.line()), what, "see `intcred import --help`")
    })?;
    Ok(entries)
}

fn env(text: &str) -> Result<Vec<Entry>, CliError> {
    // Here, because the parser's own copy would not be wiped.
    let text = Zeroizing::new(if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text.to_owned()
    });
    let parsed = dotenvor::parse_str(&text).map_err(|error| match error {
        dotenvor::Error::Parse(error) => broken(
            format!("line {}", error.line),
            error.kind.to_string(),
            "a line is NAME=value; quote a value that has blanks, quotes, # or several lines",
        ),
        // Of readers, and there is none.
        _ => broken("the file".to_owned(), "it cannot be parsed", "see `intcred import --help`"),
    })?;
    let entries = parsed.into_iter().map(|entry| {
        let line = entry.line.saturating_sub(1);
        let line = usize::try_from(line).ok().and_then(|line| text.split('\n').nth(line)).unwrap_or_default();
        let value = Secret::new(entry.value);
        if cuts_the_value(line) {
            return Err(broken(
                format!("line {}", entry.line),
                "# would begin a comment in the middle of the value",
                "quote the value, or put a blank before the comment",
            ));
        }
        Ok(Entry { place: Place::Line(entry.line), name: entry.key, value })
    });
    entries.collect()
}

/// Whether a value without quotes has a `#` that stands behind no blank. The parsers of this world disagree
/// about whether a comment begins there.
fn cuts_the_value(line: &str) -> bool {
    let Some((_, value)) = line.split_once('=') else { return false };
    let value = value.trim_start();
    !value.starts_with(['"', '\'', '`'])
        && value
            .split_once('#')
            .is_some_and(|(before, _)| !before.is_empty() && !before.ends_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String, String)> {
        let entries = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let shown =
            |Entry { place, name, value }: Entry| (place.to_string(), name, value.expose().to_owned());
        entries.into_iter().map(shown).collect()
    }

    fn entry(place: &str, name: &str, value: &str) -> (String, String, String) {
        (place.to_owned(), name.to_owned(), value.to_owned())
    }

    #[test]
    fn env_has_exports_comments_quotes_and_several_lines() {
        let text = "# a comment\nexport A=one # another\r\nB = 'two # $HOME'\nC=\"line 1\nline 2\"\nD=\"a\\nb\"\nE=`x\"y'z`\nF=$HOME ${A}\n";
        let expected = [
            entry("line 2", "A", "one"),
            entry("line 3", "B", "two # $HOME"),
            entry("line 4", "C", "line 1\nline 2"),
            entry("line 6", "D", "a\nb"),
            entry("line 7", "E", "x\"y'z"),
            entry("line 8", "F", "$HOME ${A}"),
        ];
        assert_eq!(entries(text), expected);
        assert_eq!(entries(&format!("\u{feff}{}", "A=1")), [entry("line 1", "A", "1")]);
        assert_eq!(entries("A=1\nA=2"), [entry("line 2", "A", "2")]);
    }

    #[test]
    fn json_is_an_object_or_rows_of_the_list() {
        assert_eq!(
            entries(r#" {"a": "1", "b": "\u0032"}"#),
            [entry("entry 1", "a", "1"), entry("entry 2", "b", "2")]
        );
        let rows = r#"[{"key":"a","revision":1},{"key":"b","hasCredentials":true,"value":"2"},{"key":"c","value":null}]"#;
        assert_eq!(entries(rows), [entry("entry 2", "b", "2")]);
    }

    #[test]
    fn what_is_broken_is_named_by_its_line_and_not_shown() {
        for (text, expected) in [
            ("A=1\nhunter2\n", "line 2: invalid syntax"),
            ("A=1\nB=\"hunter2\n\n", "line 2: unterminated quote"),
            ("A=1\n=hunter2", "line 2: missing key"),
            ("A=1\nhun!ter2=x", "line 2: invalid key"),
            ("A='1' hunter2", "line 1: invalid syntax"),
            ("A=1\n\nB=hunter2#hunter2", "line 3: # would begin a comment"),
            ("{\n\"a\": hunter2}", "line 2: it is not JSON"),
            ("{\"a\": \"hunter2\"", "line 1: the document ends early"),
            ("{\n\"a\": {\"hunter2\": 1}}", "line 2: it is no object"),
            ("[\"hunter2\"]", "line 1: it is no object"),
            ("[{\"value\": \"hunter2\"}]", "line 1: it is no object"),
        ] {
            let message = parse(text.as_bytes()).err().expect(text).to_string();
            assert!(message.starts_with(expected) && !message.contains("hunter2"), "{text}: {message}");
        }
        let message = parse(b"A=1\nB=\xff").err().unwrap().to_string();
        assert!(message.starts_with("line 2: it is not UTF-8"), "{message}");
    }
}
