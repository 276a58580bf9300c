//! The head of an envelope and of a sealed value: a byte for the version, a byte for the length of the key
//! id, the id.

use crate::keyring::is_id;

/// The head of a frame.
pub fn head(version: u8, id: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(id.len()).ok()?;
    Some([&[version, length], id.as_bytes()].concat())
}

/// The key id of a frame of this version, and the rest. Errors show the id, so it must have the form of an
/// id.
pub fn split(version: u8, frame: &[u8]) -> Option<(&str, &[u8])> {
    let (&[found, length], rest) = frame.split_first_chunk()?;
    let (id, rest) = rest.split_at_checked(length.into())?;
    let id = std::str::from_utf8(id).ok().filter(|id| is_id(id))?;
    (found == version).then_some((id, rest))
}

/// Concatenates texts behind a head, each behind its length, so that different lists never give the same bytes.
pub fn bind(head: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut data = Vec::with_capacity(head.len() + parts.iter().map(|part| 4 + part.len()).sum::<usize>());
    data.extend(head);
    for part in parts {
        // Lengths are limited far below u32::MAX, so saturating never makes two places equal.
        data.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend(part.as_bytes());
    }
    data
}
