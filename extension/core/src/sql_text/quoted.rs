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
    while !rest.is_empty() {
        let header = header(rest);
        let next =
            (header.max(1)..rest.len()).find(|&at| self::header(&rest[at..]) > 0).unwrap_or(rest.len());
        let (quotation, after) = rest.split_at(next);
        let (header, statement) = quotation.split_at(header);
        let copy;
        let shown: &[u8] = if statement.len() >= limit {
            Dropped::TooLong.text().as_bytes()
        } else if names_one(statement) {
            copy = redacted(statement, backslashes)?;
            &copy
        } else {
            statement
        };
        kept.push(header)?;
        kept.push(shown)?;
        rest = after;
    }
    Ok(kept.into_bytes())
}

/// The length of `\nProcess 123: `, in whatever language; 0 if the text begins otherwise.
fn header(text: &[u8]) -> usize {
    const LONGEST: usize = 64;
    let Some(line) = text.strip_prefix(b"\n") else { return 0 };
    let line = &line[..line.len().min(LONGEST)];
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return 0 };
    let before = line[..colon].trim_ascii_end();
    let is_header = before.last().is_some_and(u8::is_ascii_digit)
        && !before.contains(&b'\n')
        && line.get(colon + 1) == Some(&b' ');
    if is_header { 1 + colon + 2 } else { 0 }
}
