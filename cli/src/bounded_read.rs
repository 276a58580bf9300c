//! Reading what may be a secret, into memory that is wiped.

use std::io::{self, Read};
use zeroize::Zeroizing;

/// Reads to the end, or up to one byte more than `limit`: a longer result says that there is more.
pub fn read_bounded(source: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = limit + 1;
    // A buffer that grows leaves a copy of its content behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    source.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_source_is_read_up_to_the_limit_into_one_buffer() {
        for (length, expected) in [(0, 0), (4096, 4096), (4097, 4097), (u64::MAX, 4097)] {
            let bytes = read_bounded(io::repeat(b'a').take(length), 4096).unwrap();
            assert_eq!((bytes.len(), bytes.capacity()), (expected, 4097));
        }
    }
}
