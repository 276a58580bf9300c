//! What a message quotes of other sessions' statements, which `pg_stat_activity` keeps up to a limit: the name of a function
//! may be behind the cut, and the secret before it.

use super::hide::{Dropped, redacted};
use super::names::names_one;
use crate::buffer::Buffer;

/// The detail of a deadlock: `known` comes first, and then the statements, each behind the number of its process. Those
/// that were cut at `limit` bytes are dropped.
pub fn without_cut_quotations(
    detail: &[u8],
    known: &[u8],
    limit: usize,
    backslashes: bool,
) -> Result<Vec<u8>, Dropped> {
    // A cut does not part a character, and loses up to its last three bytes.
    let limit = limit.saturating_sub(4);
    let mut rest = detail.strip_prefix(known).unwrap_or(detail);
    let mut kept = Buffer::with_room(3 * detail.len() + 1024)?;
    kept.push(&detail[..detail.len() - rest.len()])?;
    // As many as there are processes, in the same order; what merely looks like one is a part of a statement.
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

/// The number of the process that a line begins with.
fn process(line: &[u8]) -> Option<&[u8]> {
    let start = line.iter().position(u8::is_ascii_digit)?;
    let length = line[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some(&line[start..start + length])
}

/// Where `\nProcess 123: ` stands for the first time, in whatever language.
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
