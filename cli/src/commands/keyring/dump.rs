//! Reads the credentials of a dump, without a server: plain SQL by itself, the other formats through
//! `pg_restore`.

use crate::{cli_error::CliError, terminal::one_line};
use integration_credentials_core::envelope::Purpose;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// A line may hold three ciphertexts of the longest value, in hex.
const MAX_LINE_BYTES: usize = 64 << 20;
/// The head of a file: enough for the mark of a tar archive.
const HEAD_BYTES: usize = 262;
/// The most of `pg_restore`'s messages that is shown.
const MAX_MESSAGE_BYTES: u64 = 2000;

/// A ciphertext of the dump, with its place.
pub struct Stored {
    pub purpose: Purpose,
    pub org: String,
    pub key: String,
    pub which: &'static str,
    pub ciphertext: Vec<u8>,
}

/// A table with ciphertexts; its columns, and what they hold.
type Table = (&'static str, Purpose, &'static [(&'static str, &'static str)]);

const TABLES: [Table; 2] = [
    (
        "integration_credentials.configured_integrations",
        Purpose::Credential,
        &[("ciphertext", "current"), ("previous_ciphertext", "previous"), ("pending_ciphertext", "pending")],
    ),
    ("integration_credentials.aggregator_credentials", Purpose::Aggregator, &[("ciphertext", "aggregator")]),
];

/// Reads a dump, and hands each ciphertext to `found`.
pub fn read(path: &Path, found: impl FnMut(Stored)) -> Result<(), CliError> {
    let file = |source| CliError::File { path: path.to_owned(), source };
    let problem = |problem: String| CliError::Dump { path: path.to_owned(), problem };
    let mut source = File::open(path).map_err(file)?;
    let metadata = source.metadata().map_err(file)?;
    let mut head = Vec::new();
    if !metadata.is_dir() {
        source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(file)?;
    }
    if metadata.is_dir() || head.starts_with(b"PGDMP") || head.ends_with(b"ustar") {
        return restored(path, found);
    }
    if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"].iter().any(|mark| head.starts_with(mark))
    {
        return Err(problem(
            "the dump is compressed; decompress it first, or pipe it to /dev/stdin".to_owned(),
        ));
    }
    let lines = BufReader::new(io::Cursor::new(head).chain(source));
    Parser::new(found).parse(lines).map_err(|error| match error {
        Problem::Read(source) => file(source),
        Problem::Dump(text) => problem(text),
    })
}

/// Reads a dump through `pg_restore`, which writes plain SQL.
fn restored(path: &Path, found: impl FnMut(Stored)) -> Result<(), CliError> {
    let problem = |problem: String| CliError::Dump { path: path.to_owned(), problem };
    let mut command = Command::new("pg_restore");
    command.args(["--file=-", "--data-only", "--schema=integration_credentials"]);
    command.args(["--table=configured_integrations", "--table=aggregator_credentials", "--"]).arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = command.spawn();
    let mut child = spawned
        .map_err(|error| problem(format!("cannot run pg_restore, which reads this format: {error}")))?;
    let (Some(output), Some(messages)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(problem("pg_restore has no output".to_owned()));
    };
    // Both at once, so that pg_restore never waits for a full pipe.
    let (parsed, message) = thread::scope(|scope| {
        let message = scope.spawn(|| {
            let mut text = Vec::new();
            let mut messages = messages;
            let read = messages.by_ref().take(MAX_MESSAGE_BYTES).read_to_end(&mut text);
            let drained = io::copy(&mut messages, &mut io::sink());
            read.and(drained).map(|_| one_line(&String::from_utf8_lossy(&text)))
        });
        let parsed = Parser::new(found).parse(BufReader::new(output));
        (parsed, message.join().unwrap_or_else(|_| Ok(String::new())))
    });
    let status = child.wait().map_err(|error| problem(format!("cannot wait for pg_restore: {error}")))?;
    if !status.success() {
        return Err(problem(format!("pg_restore cannot read the dump: {}", message.unwrap_or_default())));
    }
    parsed.map_err(|error| match error {
        Problem::Read(source) => problem(format!("cannot read from pg_restore: {source}")),
        Problem::Dump(text) => problem(text),
    })
}

enum Problem {
    Read(io::Error),
    Dump(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl Problem {
    fn at(line: u64, text: &str) -> Self {
        Self::Dump(format!("line {line}: {text}"))
    }
}

/// The rows that follow a `COPY`.
enum Rows {
    /// Of another table.
    Others,
    Ours {
        purpose: Purpose,
        columns: usize,
        org: usize,
        key: usize,
        /// The places of the ciphertexts, and what they are.
        ciphertexts: Vec<(usize, &'static str)>,
    },
}

struct Parser<F> {
    found: F,
    rows: Option<Rows>,
    line: u64,
    /// Whether a table with ciphertexts was seen.
    has_tables: bool,
    is_complete: bool,
}

impl<F: FnMut(Stored)> Parser<F> {
    fn new(found: F) -> Self {
        Self { found, rows: None, line: 0, has_tables: false, is_complete: false }
    }

    fn parse(mut self, mut lines: impl BufRead) -> Result<(), Problem> {
        let mut line = Vec::new();
        loop {
            line.clear();
            // The longest line of ours fits; the rest of a longer one is read as further lines.
            let read = lines.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            self.line += 1;
            self.take(line.strip_suffix(b"\n").unwrap_or(&line))?;
        }
        if self.rows.is_some() || !self.is_complete {
            return Err(Problem::Dump("the dump is truncated, or is no dump of pg_dump".to_owned()));
        }
        if !self.has_tables {
            let text = "the dump has no rows of integration_credentials: it is of a database without the \
                        extension, or of a part of one; `pg_dump -e integration_credentials` dumps its rows";
            return Err(Problem::Dump(text.to_owned()));
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Problem> {
        match &self.rows {
            Some(_) if line == b"\\." => self.rows = None,
            Some(Rows::Others) => {}
            Some(Rows::Ours { purpose, columns, org, key, ciphertexts }) => {
                let malformed = || Problem::at(self.line, "a row that COPY would not read");
                let fields: Vec<_> = line.split(|&byte| byte == b'\t').collect();
                if fields.len() != *columns {
                    return Err(malformed());
                }
                let text = |index: usize| {
                    unescape(fields[index]).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                };
                for &(index, which) in ciphertexts.iter().filter(|(index, _)| fields[*index] != NULL) {
                    let stored = unescape(fields[index]);
                    let ciphertext = stored.and_then(|text| bytea(&text)).ok_or_else(malformed)?;
                    let org = text(*org).ok_or_else(malformed)?;
                    let key = text(*key).ok_or_else(malformed)?;
                    (self.found)(Stored { purpose: *purpose, org, key, which, ciphertext });
                }
            }
            None => self.statement(line)?,
        }
        Ok(())
    }

    fn statement(&mut self, line: &[u8]) -> Result<(), Problem> {
        // A part of a line of another table need not be UTF-8.
        let line = String::from_utf8_lossy(line);
        if matches!(
            &*line,
            "-- PostgreSQL database dump complete" | "-- PostgreSQL database cluster dump complete"
        ) {
            self.is_complete = true;
        }
        if let Some(copy) = line.strip_prefix("COPY ").and_then(|rest| rest.strip_suffix(" FROM stdin;")) {
            self.rows = Some(Rows::Others);
            for (table, purpose, columns) in TABLES {
                if let Some(list) = copy.strip_prefix(table).and_then(|rest| rest.strip_prefix(" (")) {
                    let list: Vec<_> = list.trim_end_matches(')').split(", ").collect();
                    let place = |name: &str| list.iter().position(|column| *column == name);
                    let (Some(org), Some(key)) = (place("org_slug"), place("integration_key")) else {
                        return Err(Problem::at(
                            self.line,
                            "the table has other columns than the extension's",
                        ));
                    };
                    let ciphertexts = columns.iter().filter_map(|&(name, which)| Some((place(name)?, which)));
                    let ciphertexts = ciphertexts.collect();
                    self.rows = Some(Rows::Ours { purpose, columns: list.len(), org, key, ciphertexts });
                    self.has_tables = true;
                }
            }
        } else if TABLES.iter().any(|(table, ..)| line.starts_with(&format!("INSERT INTO {table} "))) {
            return Err(Problem::at(self.line, "the dump has INSERT statements; dump without --inserts"));
        }
        Ok(())
    }
}

/// NULL in COPY's text format.
const NULL: &[u8] = b"\\N";

/// A field of COPY's text format, which is not NULL.
fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'v') => 11,
                Some(b'f') => 12,
                Some(b'r') => b'\r',
                Some(other) => other,
                None => return None,
            },
            other => other,
        });
    }
    Some(text)
}

/// A bytea in either form of output: hex, or escape.
fn bytea(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?));
        return pairs.collect();
    }
    let mut value = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            value.push(byte);
        } else if let Some(after) = rest.strip_prefix(b"\\") {
            value.push(b'\\');
            rest = after;
        } else {
            let (digits, after) = rest.split_at_checked(3)?;
            value.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?);
            rest = after;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "\\.\n\n-- PostgreSQL database dump complete\n";

    type Found = (String, String, &'static str, Vec<u8>);

    fn parse(dump: &str) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        let add = |stored: Stored| found.push((stored.org, stored.key, stored.which, stored.ciphertext));
        match Parser::new(add).parse(dump.as_bytes()) {
            Ok(()) => Ok(found),
            Err(Problem::Dump(text)) => Err(text),
            Err(Problem::Read(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn ciphertexts_of_each_column_are_found_by_name_and_in_both_forms() {
        let dump = format!(
            "COPY public.other (a) FROM stdin;\nCOPY integration_credentials.aggregator_credentials (x) FROM stdin;\n\\.\n\
             COPY integration_credentials.configured_integrations (revision, org_slug, integration_key, \
             ciphertext, previous_ciphertext, pending_ciphertext) FROM stdin;\n\
             1\ta\\tb\tslack\t\\\\x01ff\t\\N\ta\\\\\\\\\\\\377\n2\tc\tgit\\\\hub\t\\N\t\\N\t\\N\n{END}"
        );
        let expected = vec![
            ("a\tb".to_owned(), "slack".to_owned(), "current", vec![1, 255]),
            ("a\tb".to_owned(), "slack".to_owned(), "pending", b"a\\\xff".to_vec()),
        ];
        assert_eq!(parse(&dump), Ok(expected));
    }

    #[test]
    fn problem_of_a_dump_is_named() {
        let copy = "COPY integration_credentials.aggregator_credentials (org_slug, integration_key, ciphertext) FROM stdin;\n";
        for (dump, expected) in [
            (String::new(), "truncated"),
            (format!("{copy}a\tb\t\\\\x01\n"), "truncated"),
            (format!("{copy}a\tb\t\\\\x01\n\\.\n"), "truncated"),
            (format!("{copy}a\tb\n{END}"), "line 2: a row that COPY"),
            (format!("{copy}a\tb\t\\\\x0\n{END}"), "line 2: a row that COPY"),
            (format!("{copy}a\tb\t\\\\8\n{END}"), "line 2: a row that COPY"),
            (format!("{}{END}", copy.replace("org_slug", "org")), "line 1: the table has other columns"),
            (
                "INSERT INTO integration_credentials.configured_integrations VALUES (1);\n".to_owned(),
                "INSERT",
            ),
            (format!("COPY public.other (a) FROM stdin;\n{END}"), "has no rows of integration_credentials"),
        ] {
            let problem = parse(&dump).unwrap_err();
            assert!(problem.contains(expected), "{dump}: {problem}");
        }
        assert_eq!(parse(&format!("{copy}{END}")), Ok(vec![]), "an empty table needs no key");
    }
}
