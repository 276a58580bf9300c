//! Statements of other sessions that a message quotes. `pg_stat_activity` keeps a statement up to a limit, so
//! the name of a function may be behind the cut, and the secret before the cut.

use super::hide::{Dropped, redacted};
use super::names::names_one;
use crate::buffer::Buffer;

/// The detail of a deadlock: `known` comes first, then the statements, each behind the number of its process.
/// Statements that were cut at `limit` bytes are dropped.
pub fn without_cut_quotations(
    detail: &[u8],
    known: &[u8],
    limit: usize,
    backslashes: bool,
) -> Result<Vec<u8>, Dropped> {
    // A cut does not split a character, so it may lose three more bytes.
    let limit = limit.saturating_sub(4);
    let mut rest = detail.strip_prefix(known).unwrap_or(detail);
    let mut kept = Buffer::with_room(3 * detail.len() + 1024)?;
    kept.push(&detail[..detail.len() - rest.len()])?;
    // One header for each process, in the same order. Another line of that form is a part of a statement.
    let mut processes = known.split(|&byte| byte == b'\n').map(process);
    let mut header = next_header(rest, processes.next().flatten()).map_or(0, |(_, end)| end);
    while !rest.is_empty() {
        let next = next_header(&rest[header..], processes.next().flatten());
        let (start, end) =
            next.map_or((rest.len(), rest.len()), |(start, end)| (header + start, header + end));
        let statement = &rest[header..start];
        let copy;
        let shown: &[u8] = if statement.len() >= limit {
            Dropped::TooLong.text().as_bytes()
        } else if names_one(statement) {
            copy = redacted(statement, backslashes)?;
            &copy
        } else {
            statement
        };
        kept.push(&rest[..header])?;
        kept.push(shown)?;
        header = end - start;
        rest = &rest[start..];
    }
    Ok(kept.into_bytes())
}

/// The first number of a line: its process.
fn process(line: &[u8]) -> Option<&[u8]> {
    let start = line.iter().position(u8::is_ascii_digit)?;
    let length = line[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some(&line[start..start + length])
}

/// The first `\nProcess 123: `, in any language.
fn next_header(text: &[u8], process: Option<&[u8]>) -> Option<(usize, usize)> {
    const LONGEST: usize = 64;
    let process = process?;
    memchr::memchr_iter(b'\n', text).find_map(|at| {
        let line = &text[at + 1..text.len().min(at + 1 + LONGEST)];
        let colon = memchr::memchr2(b':', b'\n', line)?;
        let name = line[..colon].trim_ascii_end().strip_suffix(process)?;
        let is_header = line[colon..].starts_with(b": ") && !name.last().is_some_and(u8::is_ascii_digit);
        is_header.then_some((at, at + 1 + colon + 2))
    })
}
