//! The format of a message in the source of the code that raised it. Only its inserts may be a secret.

use super::hide::Dropped;
use crate::buffer::Buffer;
use crate::redact::REDACTED;

/// The format of a message, in the manner of `printf`, with `<redacted>` for each insert.
pub fn without_inserts(format: &[u8]) -> Result<Vec<u8>, Dropped> {
    // The longest message of the server has a tenth of that.
    const MOST: usize = 8 * 1024;
    let mut message = Buffer::with_room(MOST)?;
    let mut rest = format;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let conversion = rest[at + 1..].iter().take_while(|byte| !is_conversion(**byte)).count();
        let is_percent = rest.get(at + 1) == Some(&b'%');
        let insert = if is_percent { b"%" } else { REDACTED.as_bytes() };
        message.push(&rest[..at])?;
        message.push(insert)?;
        rest = rest.get(at + 2 + conversion..).unwrap_or_default();
    }
    message.push(rest)?;
    Ok(message.into_bytes())
}

/// The letter that ends `%-10.3ld`, or the second `%`.
fn is_conversion(byte: u8) -> bool {
    byte == b'%' || (byte.is_ascii_alphabetic() && !b"hlqjzt".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_are_left_out_and_the_rest_stays() {
        for (format, expected) in [
            ("division by zero", "division by zero"),
            (
                "invalid input syntax for type %s: \"%s\"",
                "invalid input syntax for type <redacted>: \"<redacted>\"",
            ),
            ("%d of %-10.3ld%% at %zu, %X", "<redacted> of <redacted>% at <redacted>, <redacted>"),
            ("%2$s before %1$s", "<redacted> before <redacted>"),
            ("cut %", "cut <redacted>"),
            ("cut %l", "cut <redacted>"),
            ("", ""),
        ] {
            assert_eq!(without_inserts(format.as_bytes()).unwrap(), expected.as_bytes(), "{format}");
        }
        assert_eq!(without_inserts("%s".repeat(1000).as_bytes()), Err(Dropped::TooLong));
        assert_eq!(without_inserts(&[b'x'; 9000]), Err(Dropped::TooLong));
    }
}
