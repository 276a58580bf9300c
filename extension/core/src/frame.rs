//! How an envelope and a sealed value begin: a byte for the version, one for the length of the key id, and the id.

use crate::keyring::is_id;

/// The head of a frame.
pub fn head(version: u8, id: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(id.len()).ok()?;
    Some([&[version, length], id.as_bytes()].concat())
}

/// The key id of a frame of this version, and what follows it. An id may be shown in an error, so it must look like one.
pub fn split(version: u8, frame: &[u8]) -> Option<(&str, &[u8])> {
    let (&[found, length], rest) = frame.split_first_chunk()?;
    let (id, rest) = rest.split_at_checked(length.into())?;
    let id = std::str::from_utf8(id).ok().filter(|id| is_id(id))?;
    (found == version).then_some((id, rest))
}

/// Texts one after the other, each behind its length, so that none can be taken for a part of its neighbour.
pub fn bind(parts: &[&str]) -> Vec<u8> {
    let mut data = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        // Lengths are limited far below u32::MAX, so saturating can never make two places look alike.
        data.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend(part.as_bytes());
    }
    data
}
