//! An API key: `icred_`, the id, `_`, 43 random characters and a check sum of 6, by which scanners for leaked secrets
//! tell one from a text that only looks like one. The role of the key is `icred_` and the id.

use intcred::Secret;
use openssl::sha::sha256;
use zeroize::Zeroizing;

const PREFIX: &str = "icred_";
const ID_CHARS: usize = 10;
const RANDOM_CHARS: usize = 43;
const CHECK_CHARS: usize = 6;
/// The length of an API key.
pub const CHARS: usize = PREFIX.len() + ID_CHARS + 1 + RANDOM_CHARS + CHECK_CHARS;
const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// An API key with the right form and check sum.
#[derive(Debug)]
pub struct ApiKey(Secret);

impl ApiKey {
    /// A new key.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new(String::with_capacity(CHARS));
        key.push_str(PREFIX);
        // The id is part of the name of a role, so it has no upper case.
        push_random(&mut key, ID_CHARS, 36)?;
        key.push('_');
        push_random(&mut key, RANDOM_CHARS, ALPHABET.len())?;
        let check = check_sum(&key);
        key.push_str(&check);
        Ok(Self(Secret::from(key)))
    }

    /// `None` for a text that is no API key.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, check) = text.split_at_checked(CHARS - CHECK_CHARS)?;
        let (id, random) = body.strip_prefix(PREFIX)?.split_once('_')?;
        let is_of = |text: &str, alphabet: &[u8]| text.bytes().all(|byte| alphabet.contains(&byte));
        let is_key = id.len() == ID_CHARS
            && is_of(id, &ALPHABET[..36])
            && random.len() == RANDOM_CHARS
            && is_of(random, ALPHABET)
            && check == check_sum(body);
        is_key.then(|| Self(Secret::new(text.to_owned())))
    }

    /// The name of its role.
    pub fn role(&self) -> &str {
        &self.expose()[..PREFIX.len() + ID_CHARS]
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Whether a text has what could be an API key.
pub fn is_in(text: &str) -> bool {
    text.contains(PREFIX)
}

fn push_random(text: &mut String, count: usize, letters: usize) -> Result<(), getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 64]);
    let end = text.len() + count;
    while text.len() < end {
        getrandom::fill(&mut *bytes)?;
        // The bytes above the last whole multiple would make some letters likelier.
        let fair = bytes.iter().map(|&byte| usize::from(byte)).filter(|byte| byte / letters < 256 / letters);
        let letter = |byte: usize| char::from(ALPHABET[byte % letters]);
        text.extend(fair.map(letter).take(end - text.len()).collect::<Vec<_>>());
    }
    Ok(())
}

/// Four bytes of SHA-256, in base 62.
fn check_sum(body: &str) -> String {
    let digest = sha256(body.as_bytes());
    let mut rest = digest.iter().take(4).fold(0, |number, &byte| number << 8 | usize::from(byte));
    let digits = (0..CHECK_CHARS).map(|_| {
        let digit = char::from(ALPHABET[rest % ALPHABET.len()]);
        rest /= ALPHABET.len();
        digit
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_names_its_role() {
        for _ in 0..100 {
            let key = ApiKey::generate().unwrap();
            let read = ApiKey::parse(key.expose()).unwrap();
            assert_eq!(read.expose(), key.expose());
            assert_eq!(key.expose().len(), CHARS);
            assert_eq!(read.role(), &key.expose()[..16]);
        }
    }

    #[test]
    fn another_text_is_no_key() {
        let key = ApiKey::generate().unwrap();
        let key = key.expose();
        for at in 0..key.len() {
            let mut other = key.as_bytes().to_vec();
            other[at] = if other[at] == b'q' { b'r' } else { b'q' };
            assert!(ApiKey::parse(std::str::from_utf8(&other).unwrap()).is_none(), "{at}");
        }
        for text in
            ["", "icred_", &key[1..], &format!("{key}a"), &key[..key.len() - 1], &key.replace('_', "é")]
        {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        let key = ApiKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(<redacted>)");
    }
}
